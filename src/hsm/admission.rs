//! How requests come in: from Lustre, from `queue`, from a mover that still runs them.

use super::Coordinator;
use super::action::{Action, ActionItem};
use super::effect::{Effect, Effects, Reply, StoreOp};
use super::event::{ConnId, Queue};
use super::feed::RequestChange;
use super::index::NIL;
use super::priorities::Rank;
use super::requests::{ENDED_BEFORE, Handle, Kind, RECOVERED, REDELIVERED, STORED, State};
use super::tapes::PENDING;
use super::time::Mono;

/// What came of a request that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admitted {
    /// It is new, and loose.
    New(Handle),
    /// It was known.
    Known(Handle),
}

/// Whether the client that read a request from `active_requests` saw only the first bytes of its data.
fn is_truncated(item: &ActionItem) -> bool {
    const MARK: &str = "\"hai_data_truncated\"";
    if item.extra.is_empty() {
        return false;
    }
    let Some(at) = item.extra.find(MARK) else {
        return false;
    };
    item.extra[at + MARK.len()..].trim_start_matches([':', ' ']).starts_with("true")
}

impl Coordinator {
    /// Requests of a KUC list. They are taken even when the store is full: the MDT has no other coordinator.
    pub(super) fn lustre(&mut self, items: Vec<ActionItem>, effects: &mut Effects) {
        for mut item in items {
            if item.action == Action::Cancel {
                self.cancel(item, effects);
                continue;
            }
            item.timestamp = 0;
            self.admit_and_queue(item, effects);
        }
    }

    /// `queue`: the good items are kept even when others are bad.
    pub(super) fn queue(&mut self, conn: ConnId, queue: Queue, effects: &mut Effects) {
        let mut reply = |enqueued, skipped, status, error| {
            let reply = Reply::Queue { enqueued, skipped, status, error };
            effects.visible.push(Effect::Reply { conn, reply });
        };
        let Some(items) = queue.items else {
            return reply(0, 0, 22, "No hsm_action_items set");
        };
        if queue.fsname.is_some_and(|name| name != self.config.fsname) {
            return reply(0, 0, 22, "Bad fsname");
        }
        if self.store_full {
            return reply(0, 0, -28, "No space left on device");
        }
        let mut bad = queue.bad_items;
        let (mut enqueued, mut skipped) = (0, 0);
        for mut item in items {
            // Cancels belong to the MDT; only a remove may lack its archive.
            if item.action == Action::Cancel || (item.archive_id == 0 && item.action != Action::Remove) {
                bad += 1;
                continue;
            }
            item.timestamp = 0;
            match self.admit_older(item, effects) {
                true => enqueued += 1,
                false => skipped += 1,
            }
        }
        let (status, error) = if bad > 0 { (-22, "Error while parsing hsm action items") } else { (0, "") };
        let reply = Reply::Queue { enqueued, skipped, status, error };
        effects.visible.push(Effect::Reply { conn, reply });
    }

    /// Takes a request that the MDT handed over just now. Returns whether it is new.
    pub(super) fn admit_and_queue(&mut self, item: ActionItem, effects: &mut Effects) -> bool {
        self.admit_with(item, 0, effects)
    }

    /// The same for one that the MDT handed over at any time, possibly before we started.
    pub(super) fn admit_older(&mut self, item: ActionItem, effects: &mut Effects) -> bool {
        self.admit_with(item, RECOVERED, effects)
    }

    fn admit_with(&mut self, item: ActionItem, flags: u16, effects: &mut Effects) -> bool {
        let dfid = item.dfid;
        match self.admit(item, effects) {
            Some(Admitted::New(handle)) => {
                self.requests.at_mut(handle).set(flags, true);
                self.enqueue_admitted(handle, effects);
                true
            }
            Some(Admitted::Known(handle)) => {
                self.delivered_again(handle, dfid, effects);
                false
            }
            None => false,
        }
    }

    /// A new request enters its queue.
    pub(super) fn enqueue_admitted(&mut self, handle: Handle, effects: &mut Effects) {
        self.report_new(handle, effects);
        self.report_assign(handle, effects);
        if self.came_bound(handle) {
            return;
        }
        let request = self.requests.at(handle);
        // Not to be found at the head of its queue by each mover in turn.
        if self.is_kept_by_file(request.fid, request.kind) {
            self.hold(handle);
        } else if !self.vet_removed(handle, effects) && !self.joins_limited(handle) {
            self.enqueue(handle, false);
        }
    }

    fn delivered_again(&mut self, handle: Handle, dfid: lustreapi_sys::Fid, effects: &mut Effects) {
        self.counts.duplicates += 1;
        self.requests.add_alias(handle, dfid);
        let request = self.requests.at_mut(handle);
        let key = request.key();
        if request.state == State::Running {
            // The MDT wants it run again, should the attempt that is under way fail.
            request.set(REDELIVERED, true);
            self.counts.redeliveries += 1;
            tracing::info!(%key, "duplicate of a running request");
        } else {
            tracing::info!(%key, "duplicate of a queued request");
            self.bound_came_back(handle, dfid, effects);
        }
        self.known_at_mdt(handle, effects);
    }

    /// Takes a request, if it is not known. Its timestamp is kept when it has one.
    pub(super) fn admit(&mut self, mut item: ActionItem, effects: &mut Effects) -> Option<Admitted> {
        let kind = Kind::of(item.action)?;
        let key = item.key();
        if let Some(handle) = self.requests.find(key) {
            return Some(Admitted::Known(handle));
        }
        if key.fid.seq == u64::MAX {
            // Stores keep notes under such FIDs.
            tracing::error!(%key, "no MDT gives out such a FID: refused");
            return None;
        }
        if item.timestamp <= 0 {
            item.timestamp = self.next_timestamp();
        }
        let handle = self.insert(&item, kind);
        if self.store_full {
            self.unpersisted.insert(handle);
            // The shell has said once that it is full, and status counts them.
            tracing::info!(%key, "the store is full: this request would not survive a crash");
        } else {
            self.requests.at_mut(handle).set(STORED, true);
            effects.store.push(StoreOp::Put(item));
        }
        self.log_admitted(handle);
        self.tell_request(handle, None, RequestChange::Admitted);
        Some(Admitted::New(handle))
    }

    /// Adds a request that is not there; it is loose.
    pub(super) fn insert(&mut self, item: &ActionItem, kind: Kind) -> Handle {
        let data = self.data.intern(&item.data, is_truncated(item));
        self.plan(data);
        let share = self.share_of_new(data);
        let lane = self.lane_of(kind, item.flags, data, share);
        let located = self.locates(kind);
        let rank = Rank { lane, share, tape: if located { PENDING } else { NIL }, place: None };
        let class = self.class_for(kind, item.archive_id, item.flags, data, rank);
        let queued = self.queued_at(item.timestamp);
        let handle = self.requests.add(item, kind, queued, class, data);
        if located {
            self.locate_later(handle);
        }
        if self.lacks_owner(handle) {
            self.look_up_later(handle);
        }
        self.report_join(handle);
        if self.tombstones.remove(&item.key()) {
            self.requests.at_mut(handle).set(ENDED_BEFORE, true);
        }
        self.note_new(handle);
        self.arm_keepalive();
        self.arm_strandings();
        self.counts.admitted += 1;
        self.counts.pending[kind.at()] += 1;
        handle
    }

    /// When a request with this timestamp came, on the clock of deadlines.
    fn queued_at(&self, timestamp: i64) -> Mono {
        let age = self.now.wall.0.saturating_sub(timestamp).max(0) as u64;
        Mono(self.now.mono.0.saturating_sub(age))
    }
}
