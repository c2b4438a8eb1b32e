//! Moving requests between the places where they can be: queue, aside, held for their file, with a mover.

use std::collections::BTreeSet;

use lustreapi_sys::Fid;

use super::Coordinator;
use super::action::ActionItem;
use super::effect::{Effects, StoreOp};
use super::feed::RequestChange;
use super::index::NIL;
use super::priorities::Rank;
use super::queues::{ClassKey, Shelf, Standing, restand};
use super::requests::{
    ASSIGNED, BOOKMARKED, CLAIMED, FORGOTTEN, Handle, KINDS, Kind, MOVED, REJOINED, RELEASED, REPORTED,
    STORED, State,
};
use super::tapes::{PENDING, TapeState};

/// What a mover's buffer must hold for one item besides its data (C 0.4: `struct hsm_action_item` twice).
pub(super) const ITEM_BYTES: u64 = 144;

impl Coordinator {
    /// By what time requests of one lane are ordered.
    pub(super) fn due(&self, handle: Handle) -> u64 {
        self.requests.at(handle).queued.0
    }

    /// Bytes that the request needs in a mover's buffer.
    pub(super) fn cost(&self, handle: Handle) -> u64 {
        ITEM_BYTES + self.data.sent(self.requests.at(handle).data).len() as u64
    }

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
    fn update_shelves(&mut self, key: &ClassKey, mut change: impl FnMut(&mut Shelf)) {
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

    /// Puts a loose request into its queue, about where its age belongs.
    fn enqueue_by_age(&mut self, handle: Handle) {
        let list = self.classes.at(self.requests.at(handle).class).list;
        let older = |other: Handle| other != NIL && self.due(handle) < self.due(other);
        self.enqueue(handle, older(list.head));
    }

    /// Puts a loose request into its queue.
    pub(super) fn enqueue(&mut self, handle: Handle, front: bool) {
        let class = self.requests.at(handle).class;
        let before = if front { self.classes.at(class).list.head } else { NIL };
        self.enqueue_before(handle, before);
    }

    /// Puts a loose request back near the head of its queue, behind at most `steps` that came before it.
    pub(super) fn enqueue_in_order(&mut self, handle: Handle, steps: u32) {
        let request = self.requests.at(handle);
        let timestamp = request.timestamp;
        let mut at = self.classes.at(request.class).list.head;
        for _ in 0..steps {
            if at == NIL || self.requests.at(at).timestamp > timestamp {
                break;
            }
            at = self.requests.at(at).next;
        }
        self.enqueue_before(handle, at);
    }

    fn enqueue_before(&mut self, handle: Handle, before: Handle) {
        let linked = self.next_sequence();
        let request = self.requests.at_mut(handle);
        assert_eq!(request.state, State::Loose, "only a loose request can be queued");
        request.state = State::Queued;
        request.linked = linked;
        let class = request.class;
        let mut list = self.classes.at(class).list;
        self.requests.slab.insert_before(&mut list, before, handle);
        self.classes.at_mut(class).list = list;
        self.count_in_share(class, 1);
        self.refresh_class(class);
        self.count_queued(class, 1);
        let key = self.classes.at(class).key;
        self.tape_queued(&key, handle);
        self.fresh_classes.insert(class);
    }

    fn count_queued(&mut self, class: u32, change: i64) {
        let key = self.classes.at(class).key;
        self.count_at_place(key.place, change);
        if key.tag != NIL {
            self.count_in_tag(key.tag, change);
        }
    }

    /// Takes a request out of wherever it waits. It is loose then. Its class may be on its shelves under a time that has
    /// passed: [`Self::refresh_class`] follows.
    pub(super) fn unqueue(&mut self, handle: Handle) {
        let (state, class, fid) = {
            let request = self.requests.at(handle);
            (request.state, request.class, request.fid)
        };
        match state {
            State::Queued => {
                self.move_bookmarks(handle);
                let mut list = self.classes.at(class).list;
                self.requests.slab.unlink(&mut list, handle);
                self.classes.at_mut(class).list = list;
                self.count_in_share(class, -1);
                self.count_queued(class, -1);
                let key = self.classes.at(class).key;
                self.tape_unqueued(&key, handle);
            }
            State::Parked => {
                let key = self.classes.at(class).key;
                let (due, cost) = (self.due(handle), self.cost(handle));
                let linked = self.requests.at(handle).linked;
                self.update_shelves(&key, |shelf| {
                    let parked = &mut shelf.parked[key.kind.at()];
                    parked.by_cost.remove(&(cost, linked, handle));
                    parked.by_time.remove(&(due, linked, handle));
                });
                self.count_in_share(class, -1);
                self.count_queued(class, -1);
            }
            State::Held => {
                let timestamp = self.requests.at(handle).timestamp;
                self.held.remove(&(fid, class, timestamp, handle));
            }
            State::Settling => {
                self.move_bookmarks(handle);
                let mut list = self.settling;
                self.requests.slab.unlink(&mut list, handle);
                self.settling = list;
            }
            State::Vetting => {
                self.vetting.aside.remove(&handle);
            }
            State::Doubtful => self.doubts.remove(handle),
            State::Bound => self.bound.remove(handle),
            State::Limited => self.leave_limited(handle),
            State::Loose | State::Running | State::Free => {
                unreachable!("a request that does not wait is not taken out of a queue")
            }
        }
        self.requests.at_mut(handle).state = State::Loose;
    }

    /// The request was let go for its file and leaves the queue: whatever comes of it, it no longer keeps the next one.
    /// Returns whether it did.
    pub(super) fn clear_released(&mut self, handle: Handle) -> bool {
        let request = self.requests.at_mut(handle);
        if !request.has(RELEASED) {
            return false;
        }
        request.set(RELEASED, false);
        let (fid, class) = (request.fid, request.class);
        self.released.remove(&(fid, class));
        true
    }

    /// Whether something that runs for the file keeps a request of this kind waiting. A restore never waits for an
    /// archive: that may be blocked itself, reading the released file.
    pub(super) fn is_kept_by_file(&self, fid: Fid, kind: Kind) -> bool {
        let Some(running) = self.busy.get(&fid) else {
            return false;
        };
        running.iter().any(|&other| !(kind == Kind::Restore && self.requests.at(other).kind == Kind::Archive))
    }

    /// A loose request waits for its file.
    pub(super) fn hold(&mut self, handle: Handle) {
        let linked = self.next_sequence();
        let request = self.requests.at_mut(handle);
        request.state = State::Held;
        request.linked = linked;
        self.held.insert((request.fid, request.class, request.timestamp, handle));
        self.counts.held += 1;
        // What it waits for may change what was said of its file.
        self.vetting.forget(handle);
    }

    /// Lets go what waits for a file, one request of each class.
    pub(super) fn release_held(&mut self, fid: Fid) {
        let mut class = 0;
        loop {
            let range = (fid, class, i64::MIN, 0)..=(fid, u32::MAX, i64::MAX, u32::MAX);
            let Some(&(_, at, _, handle)) = self.held.range(range).next() else {
                return;
            };
            let kind = self.requests.at(handle).kind;
            if !self.released.contains_key(&(fid, at)) && !self.is_kept_by_file(fid, kind) {
                self.unqueue(handle);
                self.released.insert((fid, at), handle);
                self.requests.at_mut(handle).set(RELEASED, true);
                self.enqueue(handle, true);
            }
            match at.checked_add(1) {
                Some(next) => class = next,
                None => return,
            }
        }
    }

    /// A loose request is too large for the buffer of a mover that met it: it waits for another.
    pub(super) fn park(&mut self, handle: Handle) {
        let linked = self.next_sequence();
        let (due, cost) = (self.due(handle), self.cost(handle));
        let request = self.requests.at_mut(handle);
        request.state = State::Parked;
        request.linked = linked;
        let class = request.class;
        let key = self.classes.at(class).key;
        self.update_shelves(&key, |shelf| {
            let parked = &mut shelf.parked[key.kind.at()];
            parked.by_cost.insert((cost, linked, handle));
            parked.by_time.insert((due, linked, handle));
        });
        self.count_in_share(class, 1);
        self.count_queued(class, 1);
        self.counts.oversized += 1;
        self.wake_for_parked(&key, cost);
        let key = self.requests.at(handle).key();
        tracing::warn!(%key, bytes = cost, "request is larger than a mover's buffer and waits for another mover");
    }

    /// A loose request starts on a mover.
    pub(super) fn start(&mut self, handle: Handle, mover: u32, effects: &mut Effects) {
        self.clear_released(handle);
        self.vetting.forget(handle);
        let linked = self.next_sequence();
        self.requests.start(handle, mover);
        let now = self.now.mono;
        let request = self.requests.at_mut(handle);
        let waited = now.0.saturating_sub(request.queued.0) / 1_000_000;
        request.waited_ms = u32::try_from(waited).unwrap_or(u32::MAX);
        request.linked = linked;
        let (fid, kind, class, stored, key) =
            (request.fid, request.kind, request.class, request.has(STORED), request.key());
        let mut active = self.movers.at(mover).active;
        self.requests.slab.push_back(&mut active, handle);
        let tag = self.classes.at(class).key.tag;
        let entry = self.movers.at_mut(mover);
        entry.active = active;
        entry.running[kind.at()] += 1;
        let durable = entry.host != NIL && stored;
        if tag != NIL {
            *entry.tag_running.entry(tag).or_insert(0) += 1;
            self.tags.at_mut(tag).running += 1;
        }
        self.classes.at_mut(class).running += 1;
        let class = self.classes.at(class).key;
        self.count_on_tape(&class, 1);
        self.note_start(handle);
        if kind == Kind::Archive {
            self.forget_removed(fid, effects);
        }
        self.begin_use(handle, mover);
        self.busy.entry(fid).or_default().push(handle);
        self.counts.pending[kind.at()] -= 1;
        self.counts.running[kind.at()] += 1;
        if durable {
            self.requests.at_mut(handle).set(ASSIGNED, true);
            let mover = String::from(&*self.movers.at(mover).id);
            effects.store.push(StoreOp::Assign { key, mover });
        }
        self.refresh_mover(mover);
    }

    /// A running request stops; it is loose then, and counted as waiting. Whoever calls this lets go what waits for the
    /// file ([`Self::release_held`]).
    pub(super) fn stop(&mut self, handle: Handle) {
        let request = self.requests.at(handle);
        let (owner, fid, kind, class) = (request.owner, request.fid, request.kind, request.class);
        self.classes.at_mut(class).running -= 1;
        let key = self.classes.at(class).key;
        self.count_on_tape(&key, -1);
        self.note_stop(handle);
        self.move_bookmarks(handle);
        let mut active = self.movers.at(owner).active;
        self.requests.slab.unlink(&mut active, handle);
        let tag = self.classes.at(class).key.tag;
        let entry = self.movers.at_mut(owner);
        entry.active = active;
        entry.running[kind.at()] -= 1;
        if tag != NIL {
            if let Some(count) = entry.tag_running.get_mut(&tag) {
                *count -= 1;
                if *count == 0 {
                    entry.tag_running.remove(&tag);
                }
            }
            self.tags.at_mut(tag).running -= 1;
        }
        if let Some(running) = self.busy.get_mut(&fid) {
            running.retain(|other| *other != handle);
            if running.is_empty() {
                self.busy.remove(&fid);
            }
        }
        self.requests.stop(handle);
        if kind == Kind::Archive {
            self.late_archives.note(fid, self.now.mono);
        }
        self.end_use(handle, owner);
        let request = self.requests.at_mut(handle);
        request.set(CLAIMED | REJOINED, false);
        request.set(FORGOTTEN, false);
        self.counts.running[kind.at()] -= 1;
        self.counts.pending[kind.at()] += 1;
        if tag != NIL {
            self.review_tag(tag);
        }
        if self.movers.at(owner).waiting.is_some() {
            self.fresh_movers.insert(owner);
        }
        self.refresh_mover(owner);
    }

    /// A running request goes back to the end of its queue.
    pub(super) fn requeue(&mut self, handle: Handle, effects: &mut Effects) {
        let request = self.requests.at_mut(handle);
        request.set(MOVED, true);
        let (fid, forgotten, mover) = (request.fid, request.has(FORGOTTEN), request.owner);
        let mover = self.movers.at(mover).id.clone();
        self.stop(handle);
        self.renew_class(handle);
        self.counts.requeued += 1;
        self.unassign(handle, effects);
        self.tell_request(handle, Some(&mover), RequestChange::Requeued);
        if self.must_settle(handle) {
            self.let_settle(handle);
        } else if !forgotten || !self.doubt_first(handle) {
            self.enqueue(handle, false);
        }
        self.report_assign(handle, effects);
        self.release_held(fid);
    }

    /// A loose request goes into the class where it belongs by the present configuration.
    pub(super) fn renew_class(&mut self, handle: Handle) {
        let request = self.requests.at(handle);
        let (kind, data, old) = (request.kind, request.data, request.class);
        self.plan(data);
        self.forget_location(handle);
        let key = self.classes.at(old).key;
        let rank = self.rank_again(&key, handle, data);
        let new = self.class_for(kind, key.archive_id, key.flags, data, rank);
        self.requests.at_mut(handle).class = new;
        self.release_class(old);
    }

    /// The store forgets the request's mover.
    pub(super) fn unassign(&mut self, handle: Handle, effects: &mut Effects) {
        let request = self.requests.at_mut(handle);
        if request.has(ASSIGNED) {
            request.set(ASSIGNED, false);
            effects.store.push(StoreOp::Unassign { key: request.key() });
        }
    }

    /// Forgets a loose request: it has ended.
    pub(super) fn forget(&mut self, handle: Handle, effects: &mut Effects) {
        let let_go = self.clear_released(handle);
        self.vetting.forget(handle);
        self.note_ended(handle);
        let request = self.requests.at(handle);
        let (key, kind, class, data) = (request.key(), request.kind, request.class, request.data);
        let (stored, reported) = (request.has(STORED), request.has(REPORTED));
        if stored {
            effects.store.push(StoreOp::Remove { key });
        } else {
            self.unpersisted.remove(&handle);
        }
        if reported {
            self.report_ended(data);
        }
        self.requests.remove(handle);
        self.forget_file(handle);
        self.forget_location(handle);
        self.release_class(class);
        self.data.release(data);
        self.tombstones.add(key, ());
        self.disarm_keepalive();
        self.disarm_strandings();
        self.counts.pending[kind.at()] -= 1;
        self.counts.ended += 1;
        if let_go {
            self.release_held(key.fid);
        }
    }

    /// The request as a mover or the store is to see it.
    pub(super) fn item(&self, handle: Handle, original: bool) -> ActionItem {
        let request = self.requests.at(handle);
        let class = self.classes.at(request.class).key;
        let rare = self.requests.rare(handle);
        let data = if original { &*self.data.at(request.data).bytes } else { self.data.sent(request.data) };
        ActionItem {
            action: request.kind.action(),
            fid: request.fid,
            dfid: rare.map_or(request.fid, |rare| rare.dfid),
            extent_offset: rare.map_or(0, |rare| rare.extent_offset),
            extent_length: rare.map_or(u64::MAX, |rare| rare.extent_length),
            cookie: request.cookie,
            gid: rare.map_or(0, |rare| rare.gid),
            archive_id: class.archive_id,
            flags: class.flags,
            data: data.into(),
            timestamp: request.timestamp,
            extra: rare.map_or_else(Box::default, |rare| rare.extra.clone()),
        }
    }

    /// A cursor that stands on this request goes on to the next of its list.
    pub(super) fn move_bookmarks(&mut self, handle: Handle) {
        if !self.requests.at(handle).has(BOOKMARKED) {
            return;
        }
        let next = self.requests.at(handle).next;
        self.requests.at_mut(handle).set(BOOKMARKED, false);
        if self.status.move_bookmarks(handle, next) && next != NIL {
            self.requests.at_mut(next).set(BOOKMARKED, true);
        }
        if self.reports.move_bookmark(handle, next) && next != NIL {
            self.requests.at_mut(next).set(BOOKMARKED, true);
        }
    }

    /// After a new configuration: puts requests that wait into the queues where they belong now.
    pub(super) fn replace_slice(&mut self, left: &mut usize, effects: &mut Effects) {
        let Some(mut at) = self.replacing else {
            return;
        };
        let end = self.requests.slab.capacity();
        while *left > 0 && at < end {
            let state = self.requests.at(at).state;
            if state != State::Free {
                *left -= 1;
                self.replace(at, effects);
            }
            at += 1;
        }
        self.replacing = (at < end).then_some(at);
    }

    fn replace(&mut self, handle: Handle, effects: &mut Effects) {
        let request = self.requests.at(handle);
        let (data, class) = (request.data, request.class);
        self.plan(data);
        let key = self.classes.at(class).key;
        let rank = self.rank_again(&key, handle, data);
        self.rehome(handle, rank, effects);
    }

    /// Moves a request into the class where it belongs with this rank.
    pub(super) fn rehome(&mut self, handle: Handle, rank: Rank, effects: &mut Effects) {
        let request = self.requests.at(handle);
        let (state, kind, data, class, fid) =
            (request.state, request.kind, request.data, request.class, request.fid);
        let key = self.classes.at(class).key;
        let new = self.class_for(kind, key.archive_id, key.flags, data, rank);
        if new == class {
            self.release_class(new);
            return;
        }
        if state == State::Running {
            // It counts in its tag where it runs, so it keeps its class until it stops.
            self.release_class(new);
            return;
        }
        if matches!(state, State::Doubtful | State::Bound) {
            self.requests.at_mut(handle).class = new;
            self.release_class(class);
            return;
        }
        let moves = self.classes.at(new).key.place != key.place;
        self.unqueue(handle);
        let let_go = self.clear_released(handle);
        self.refresh_class(class);
        self.requests.at_mut(handle).class = new;
        self.release_class(class);
        match state {
            State::Held => {
                self.hold(handle);
                // What kept it may have been the one before it in its old class.
                self.release_held(fid);
            }
            State::Settling => self.let_settle(handle),
            State::Vetting => self.vet(handle, effects),
            State::Limited if self.set_aside_if_limited(handle) => {}
            _ => {
                self.enqueue_by_age(handle);
                if moves {
                    self.report_assign(handle, effects);
                }
            }
        }
        if let_go {
            self.release_held(fid);
        }
    }

    /// Gives the store what it could not take when it was full.
    pub(super) fn persist_slice(&mut self, left: &mut usize, effects: &mut Effects) {
        while !self.store_full && *left > 0 {
            let Some(handle) = self.unpersisted.pop_first() else {
                return;
            };
            *left -= 1;
            effects.store.push(StoreOp::Put(self.item(handle, true)));
            let request = self.requests.at_mut(handle);
            request.set(STORED, true);
            let (key, owner, state) = (request.key(), request.owner, request.state);
            if state == State::Running && self.movers.at(owner).host != NIL {
                self.requests.at_mut(handle).set(ASSIGNED, true);
                let mover = self.movers.at(owner).id.to_string();
                effects.store.push(StoreOp::Assign { key, mover });
            }
        }
    }

    /// How many requests wait, of all kinds.
    pub(super) fn waiting_requests(&self) -> u64 {
        KINDS.iter().map(|kind| self.counts.pending[kind.at()]).sum()
    }
}
