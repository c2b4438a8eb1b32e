//! Moving requests between the places where they can be: queue, aside, held for their file, with a mover.

use lustreapi_sys::Fid;

use super::Coordinator;
use super::action::ActionItem;
use super::effect::{Effects, StoreOp};
use super::index::NIL;
use super::requests::{ASSIGNED, Handle, KINDS, Kind, RELEASED, STORED, State};

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

    /// Puts a loose request into its queue, about where its age belongs.
    pub(super) fn enqueue_by_age(&mut self, handle: Handle) {
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
