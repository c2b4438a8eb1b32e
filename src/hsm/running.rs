//! Requests that start on a mover, stop, go back, and are forgotten.

use super::Coordinator;
use super::effect::{Effects, StoreOp};
use super::feed::RequestChange;
use super::index::NIL;
use super::requests::{ASSIGNED, CLAIMED, FORGOTTEN, Handle, Kind, MOVED, REJOINED, REPORTED, STORED};

impl Coordinator {
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
}
