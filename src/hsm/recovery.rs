//! Requests of an earlier run.

use super::Coordinator;
use super::action::ActionItem;
use super::effect::{Effects, StoreOp};
use super::requests::{ASSIGNED, CLAIMED, Handle, Kind, RECOVERED, STORED, State};
use super::timers::Timer;

/// Name of the note that is in a store while what it held is suspect: a daemon that stops before movers could claim what
/// they have leaves it, and the next one must not take that stop for a clean one.
pub const SETTLING: &str = "settling";

impl Coordinator {
    /// What a store held. Assigned requests belong to their mover, which has its full grace to come back; the others are
    /// queued in the order in which they came.
    pub(super) fn recovered(
        &mut self,
        requests: Vec<(ActionItem, Option<String>)>,
        suspect: bool,
        effects: &mut Effects,
    ) {
        // While nobody was here, nobody kept them alive.
        self.keep_alive_soon();
        let suspect = suspect && !self.config.settle.is_zero();
        if suspect && !requests.is_empty() && !self.timers.is_set(Timer::Settle) {
            self.timers.set(Timer::Settle, self.now.mono + self.config.settle);
            effects.store.push(StoreOp::Note { name: SETTLING.to_owned(), value: Some("1".to_owned()) });
        }
        for (mut item, mover) in requests {
            let key = item.key();
            let Some(kind) = Kind::of(item.action) else {
                tracing::error!(%key, "the store held a cancel: dropped");
                effects.store.push(StoreOp::Remove { key });
                continue;
            };
            if self.requests.find(key).is_some() {
                tracing::warn!(%key, "recovered twice");
                self.counts.duplicates += 1;
                continue;
            }
            if item.timestamp <= 0 {
                item.timestamp = self.next_timestamp();
            }
            self.note_timestamp(item.timestamp);
            let handle = self.insert(&item, kind);
            let request = self.requests.at_mut(handle);
            request.set(STORED, true);
            request.set(RECOVERED, true);
            match mover.filter(|mover| !mover.is_empty()) {
                Some(mover) => self.recovered_running(handle, &mover),
                None if suspect => self.let_settle(handle),
                None => self.queue_again(handle, false, effects),
            }
        }
    }

    fn recovered_running(&mut self, handle: Handle, name: &str) {
        let host = self.hosts.intern(name);
        let mover = match self.hosts.at(host).mover {
            super::index::NIL => self.add_absent(host),
            mover => mover,
        };
        // The store knows already.
        let mut known = Effects::default();
        self.start(handle, mover, &mut known);
        let request = self.requests.at_mut(handle);
        request.set(ASSIGNED, true);
        // Whatever let it run then.
        request.set(CLAIMED, true);
    }

    pub(super) fn queue_again(&mut self, handle: Handle, front: bool, effects: &mut Effects) {
        self.report_assign(handle, effects);
        if self.must_settle(handle) {
            return self.let_settle(handle);
        }
        let request = self.requests.at(handle);
        if self.is_kept_by_file(request.fid, request.kind) {
            self.hold(handle);
        } else if !self.vet_removed(handle, effects) {
            self.enqueue(handle, front);
        }
    }

    /// Whether another mover than the one that a suspect store named may have it, and has not had time to say so.
    pub(super) fn must_settle(&self, handle: Handle) -> bool {
        self.timers.is_set(Timer::Settle) && self.requests.at(handle).has(RECOVERED)
    }

    /// A loose request waits until movers have had time to claim it.
    pub(super) fn let_settle(&mut self, handle: Handle) {
        let linked = self.next_sequence();
        let request = self.requests.at_mut(handle);
        request.state = State::Settling;
        request.linked = linked;
        let mut list = self.settling;
        self.requests.slab.push_back(&mut list, handle);
        self.settling = list;
    }

    /// The time for claims is over.
    pub(super) fn settle(&mut self, effects: &mut Effects) {
        effects.store.push(StoreOp::Note { name: SETTLING.to_owned(), value: None });
        self.slice_later();
    }

    /// Lets recovered requests go, the newest first and each to the front, so that they are before what came since.
    pub(super) fn settle_slice(&mut self, left: &mut usize, effects: &mut Effects) {
        if self.settling.is_empty() || self.timers.is_set(Timer::Settle) {
            return;
        }
        while *left > 0 && !self.settling.is_empty() {
            *left -= 1;
            let handle = self.settling.tail;
            self.unqueue(handle);
            self.queue_again(handle, true, effects);
        }
    }
}
