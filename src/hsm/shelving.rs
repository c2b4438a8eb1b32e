//! Classes of requests, and the shelves on which movers find them.

use std::collections::BTreeSet;

use super::Coordinator;
use super::index::NIL;
use super::priorities::Rank;
use super::queues::{ClassKey, Shelf, Standing, restand};
use super::requests::Kind;
use super::tapes::{PENDING, TapeState};

impl Coordinator {
    /// The class of a request with this (planned) data.
    pub(super) fn class_for(
        &mut self,
        kind: Kind,
        archive_id: u32,
        flags: u64,
        data: u32,
        rank: Rank,
    ) -> u32 {
        let place = rank.place.unwrap_or_else(|| self.place_of(kind, data));
        let tag = self.tag_for(kind, archive_id, place, data);
        let Rank { lane, share, tape, .. } = rank;
        let key = ClassKey { kind, archive_id, flags, place, tag, lane, share, tape };
        let new = self.classes.find(&key).is_none();
        if tag != NIL && new {
            self.tags.at_mut(tag).refs += 1;
        }
        if new {
            self.tapes.hold(tape);
        }
        self.join_share(&key, new);
        self.classes.intern(key)
    }

    pub(super) fn release_class(&mut self, class: u32) {
        let key = self.classes.at(class).key;
        let last = self.classes.release(class).is_some();
        self.leave_share(&key, last);
        if !last {
            return;
        }
        self.tapes.release(key.tape);
        if key.tag != NIL {
            self.tags.at_mut(key.tag).refs -= 1;
            self.forget_tag_if_unused(key.tag);
        }
    }

    /// Does something to every shelf on which work of this class lies.
    pub(super) fn update_shelves(&mut self, key: &ClassKey, mut change: impl FnMut(&mut Shelf)) {
        if key.tag == NIL {
            self.pool_mut(key.place).update(key.archive_id, change);
        } else {
            change(&mut self.tags.at_mut(key.tag).shelf);
        }
    }

    /// Puts a class on its shelves as its first request and its share stand now.
    pub(super) fn refresh_class(&mut self, id: u32) {
        let class = self.classes.at(id);
        let (key, old, head) = (class.key, class.standing, class.list.head);
        let new = if head == NIL { None } else { self.standing(&key, head) };
        if old != new {
            self.classes.at_mut(id).standing = new;
            self.restand_class(&key, id, old, new);
        }
        self.list_class(&key, id, head != NIL);
    }

    /// Takes a class off its shelves; [`Self::refresh_class`] puts it on others.
    pub(super) fn unshelve(&mut self, id: u32) {
        let old = self.classes.at_mut(id).standing.take();
        let key = self.classes.at(id).key;
        self.restand_class(&key, id, old, None);
    }

    fn restand_class(&mut self, key: &ClassKey, id: u32, old: Option<Standing>, new: Option<Standing>) {
        if old == new {
            return;
        }
        let lane = key.lane;
        if key.tape == NIL {
            self.update_shelves(key, |shelf| restand(&mut shelf.lanes, lane, id, old, new));
            self.update_group(key, |group| restand(&mut group.lanes, lane, id, old, new));
        } else if self.tapes.at(key.tape).state == TapeState::Ready {
            self.update_shelves(key, |shelf| restand(&mut shelf.tapes, lane, id, old, new));
            self.update_group(key, |group| restand(&mut group.tapes, lane, id, old, new));
        } else {
            restand(&mut self.tapes.at_mut(key.tape).lanes, lane, id, old, new);
        }
    }

    /// Notes whether the class has requests.
    fn list_class(&mut self, key: &ClassKey, id: u32, listed: bool) {
        if self.classes.at(id).listed == listed {
            return;
        }
        self.classes.at_mut(id).listed = listed;
        let change = |classes: &mut BTreeSet<u32>| {
            if listed {
                classes.insert(id)
            } else {
                classes.remove(&id)
            };
        };
        if key.tag != NIL {
            change(&mut self.tags.at_mut(key.tag).classes);
            return;
        }
        if key.tape != NIL && key.tape != PENDING {
            change(&mut self.tapes.at_mut(key.tape).classes);
        }
        let entry = (key.place, key.kind as u8, id);
        if listed {
            self.shown.insert(entry)
        } else {
            self.shown.remove(&entry)
        };
    }
}
