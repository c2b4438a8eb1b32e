//! What peers say of themselves: `ehlo`, leases, `recv`.

use std::time::Duration;

use super::admission::Admitted;
use super::coordinator::reply_error;
use super::effect::{Effect, Effects, EhloReply, Reply};
use super::event::{ConnId, Ehlo, Recv};
use super::feed::{MoverChange, RequestChange};
use super::index::NIL;
use super::requests::{CLAIMED, Handle, Kind, REJOINED, State};
use super::timers::Timer;
use super::{Action, ActionItem, Coordinator, RequestKey};

/// How long a second connection with a live id waits for the first one to prove dead.
const PROBE: Duration = Duration::from_secs(3);

/// Added to a lease before its work is given to others.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// The smallest buffer with which a mover may ask for work (C 0.4: one item and 100 bytes).
pub(super) const SMALLEST_BUFFER: u64 = 172;

impl Coordinator {
    pub(super) fn ehlo_bad_archive_id(&mut self, conn: ConnId, mover: u32, effects: &mut Effects) {
        let error = if self.movers.at(mover).said_ehlo {
            "Client cannot send EHLO twice"
        } else {
            "Bad archive id in list"
        };
        effects.visible.push(reply_error(conn, "ehlo", 22, error));
    }

    pub(super) fn ehlo(&mut self, conn: ConnId, mover: u32, ehlo: Ehlo, effects: &mut Effects) {
        if self.movers.at(mover).said_ehlo {
            effects.visible.push(reply_error(conn, "ehlo", 22, "Client cannot send EHLO twice"));
            return;
        }
        let Some(id) = ehlo.id.clone() else {
            self.introduce(mover, &ehlo);
            self.claim(mover, ehlo, conn, effects);
            return;
        };
        let host = self.hosts.intern(&id);
        let first = self.hosts.at(host).mover;
        let live = (first != NIL).then(|| self.movers.at(first).conn).flatten();
        let Some(live) = live else {
            self.adopt(conn, mover, host, ehlo, effects);
            return;
        };
        if self.hosts.at(host).claim.is_some() {
            effects.visible.push(reply_error(conn, "ehlo", 17, "id already used by another client"));
            return;
        }
        tracing::info!(mover = %id, "a second connection claims the id of a live mover");
        self.movers.at_mut(mover).said_ehlo = true;
        self.hosts.at_mut(host).claim = Some((conn, Box::new(ehlo)));
        self.timers.set(Timer::Probe(host), self.now.mono + PROBE);
        effects.visible.push(Effect::Probe { conn: live });
    }

    /// The first peer still lives.
    pub(super) fn probe_ended(&mut self, host: u32, effects: &mut Effects) {
        let Some((conn, _)) = self.hosts.at_mut(host).claim.take() else {
            return;
        };
        if let Some(&mover) = self.conns.get(&conn) {
            self.movers.at_mut(mover).said_ehlo = false;
            effects.visible.push(reply_error(conn, "ehlo", 17, "id already used by another client"));
        }
    }

    /// Takes over what a peer says of itself.
    fn introduce(&mut self, mover: u32, ehlo: &Ehlo) {
        let mut ids = ehlo.archive_ids.clone();
        ids.sort_unstable();
        ids.dedup();
        let entry = self.movers.at_mut(mover);
        assert!(entry.listed == super::movers::Listed::default(), "a mover is listed only once it is known");
        entry.archive_ids = ids;
        entry.features = ehlo.features;
        entry.said_ehlo = true;
    }

    /// A connection becomes the mover of this name, with all that was left of it.
    pub(super) fn adopt(&mut self, conn: ConnId, fresh: u32, host: u32, ehlo: Ehlo, effects: &mut Effects) {
        let old = self.hosts.at(host).mover;
        let mover = if old == NIL {
            self.hosts.at_mut(host).mover = fresh;
            fresh
        } else {
            // The record stays, since its requests refer to it; it moves into the connection's place.
            let order = self.movers.at(fresh).order;
            let left = self.movers.at(old).order;
            self.movers.disconnected.remove(&left);
            self.movers.connected.insert(order, old);
            self.drop_tapes(fresh);
            self.movers.remove(fresh);
            self.conns.insert(conn, old);
            self.timers.clear(Timer::Grace(old));
            let entry = self.movers.at_mut(old);
            entry.order = order;
            entry.conn = Some(conn);
            entry.recv = None;
            tracing::info!(mover = %entry.id, "mover is back");
            old
        };
        let name = (*self.hosts.at(host).name).into();
        let entry = self.movers.at_mut(mover);
        entry.id = name;
        entry.host = host;
        entry.is_mover = true;
        self.introduce(mover, &ehlo);
        self.note_movable(mover, effects);
        let id = self.movers.at(mover).id.clone();
        self.tell_mover(&id, MoverChange::Connected);
        self.claim(mover, ehlo, conn, effects);
        self.refresh_allowance(mover);
        self.refresh_mover(mover);
        self.give_up_slots(mover, true);
        self.fill_slots(mover);
    }

    /// What the mover says that it still runs stays its own; the rest of what it had goes back to the queue.
    fn claim(&mut self, mover: u32, ehlo: Ehlo, conn: ConnId, effects: &mut Effects) {
        let retire_up_to = self.sequence();
        let mut refused = Vec::new();
        for item in ehlo.hai_list.unwrap_or_default() {
            let key = item.key();
            if !self.claim_one(mover, item, effects) {
                refused.push(key);
            }
        }
        let entry = self.movers.at_mut(mover);
        if !entry.active.is_empty() {
            entry.retire_up_to = retire_up_to;
            self.retiring.insert(mover);
        }
        let lease = self.grant_lease(mover);
        if !self.movers.at(mover).features.lease {
            refused.clear();
        }
        let reply = Reply::Ehlo(EhloReply { lease_ms: lease, refused });
        effects.visible.push(Effect::Reply { conn, reply });
    }

    /// Returns whether the mover may go on with this request.
    fn claim_one(&mut self, mover: u32, item: ActionItem, effects: &mut Effects) -> bool {
        let (key, dfid) = (item.key(), item.dfid);
        let known =
            self.requests.find_any(key.cookie, key.fid).or_else(|| self.requests.find_any(key.cookie, dfid));
        if let Some(handle) = known {
            let (state, owner, class, kind) = {
                let request = self.requests.at(handle);
                (request.state, request.owner, request.class, request.kind)
            };
            if Kind::of(item.action) != Some(kind) {
                tracing::warn!(%key, mover = %self.movers.at(mover).id, "claimed, but it is another action");
                return false;
            }
            if state == State::Bound && !self.bound.may_be_claimed(handle) {
                tracing::warn!(%key, mover = %self.movers.at(mover).id, "claimed, but it came back too late");
                return false;
            }
            if state == State::Running {
                if owner != mover {
                    tracing::warn!(%key, mover = %self.movers.at(mover).id, "claimed, but another mover has it");
                    return false;
                }
                // Its `done` will name the same data FID.
                self.requests.add_alias(handle, dfid);
                self.requests.at_mut(handle).set(REJOINED, true);
                self.relink_active(handle, mover);
                self.resend_cancel(handle, mover);
                return true;
            }
            if self.must_wait_for_file(mover, key, kind) {
                return false;
            }
            self.requests.add_alias(handle, dfid);
            self.unqueue(handle);
            self.refresh_class(class);
            self.start(handle, mover, effects);
            self.requests.at_mut(handle).set(CLAIMED, true);
            self.tell_request(handle, None, RequestChange::Claimed);
            return true;
        }
        if self.tombstones.get(&key).is_some() {
            tracing::info!(%key, mover = %self.movers.at(mover).id, "claimed, but it has ended");
            return false;
        }
        if item.archive_id == 0 && item.action != Action::Remove {
            tracing::warn!(%key, mover = %self.movers.at(mover).id, "claimed without an archive id");
            return true;
        }
        if Kind::of(item.action).is_some_and(|kind| self.must_wait_for_file(mover, key, kind)) {
            self.admit_older(item, effects);
            return false;
        }
        if let Some(Admitted::New(handle)) = self.admit(item, effects) {
            self.report_new(handle, effects);
            self.start(handle, mover, effects);
            self.requests.at_mut(handle).set(CLAIMED, true);
            self.tell_request(handle, None, RequestChange::Claimed);
        }
        true
    }

    /// Whether another request of the file was handed out since the mover lost its lease, so that it may not go on with this
    /// one. A mover without a lease cannot be stopped.
    fn must_wait_for_file(&self, mover: u32, key: RequestKey, kind: Kind) -> bool {
        let waits = self.movers.at(mover).features.lease && self.is_kept_by_file(key.fid, kind);
        if waits {
            tracing::warn!(%key, mover = %self.movers.at(mover).id, "claimed, but another request of its file runs");
        }
        waits
    }

    /// Moves a request to the end of its mover's list, out of what goes back to the queue.
    fn relink_active(&mut self, handle: Handle, mover: u32) {
        self.move_bookmarks(handle);
        let linked = self.next_sequence();
        let mut active = self.movers.at(mover).active;
        self.requests.slab.unlink(&mut active, handle);
        self.requests.slab.push_back(&mut active, handle);
        self.requests.at_mut(handle).linked = linked;
        self.movers.at_mut(mover).active = active;
    }

    /// Grants or renews a lease. Returns it in milliseconds, 0 for movers that know none.
    pub(super) fn grant_lease(&mut self, mover: u32) -> u64 {
        if !self.movers.at(mover).features.lease {
            return 0;
        }
        let lease = self.config.lease.min(self.config.client_grace);
        self.movers.at_mut(mover).lease_until = Some(self.now.mono + lease + LEASE_MARGIN);
        u64::try_from(lease.as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn renew_lease(&mut self, conn: ConnId, mover: u32, serial: u64, effects: &mut Effects) {
        let lease_ms = self.grant_lease(mover);
        effects.visible.push(Effect::Reply { conn, reply: Reply::Lease { serial, lease_ms } });
    }

    pub(super) fn recv(&mut self, conn: ConnId, mover: u32, recv: Recv, effects: &mut Effects) {
        let entry = self.movers.at(mover);
        let claiming = entry.host == NIL && entry.said_ehlo && self.is_claiming(conn);
        if !entry.said_ehlo || entry.waiting.is_some() || claiming {
            let error = "Client must send EHLO first and not already be in RECV";
            effects.visible.push(reply_error(conn, "recv", 22, error));
            return;
        }
        if recv.max_bytes < SMALLEST_BUFFER {
            effects.visible.push(reply_error(conn, "recv", 22, "Buffer too small"));
            return;
        }
        let since = self.next_sequence();
        let entry = self.movers.at_mut(mover);
        entry.recv = Some(recv);
        entry.waiting = Some(since);
        let new = !entry.is_mover;
        entry.is_mover = true;
        if new {
            self.refresh_allowance(mover);
            self.refresh_mover(mover);
            self.fill_slots(mover);
        }
        // What it can be given is looked for at the end of this step; it joins those that wait if that is nothing.
        self.fresh_movers.insert(mover);
    }

    /// Whether this peer waits for the answer to its `ehlo`.
    pub(super) fn is_claiming_mover(&self, mover: u32) -> bool {
        self.movers.at(mover).conn.is_some_and(|conn| self.is_claiming(conn))
    }

    fn is_claiming(&self, conn: ConnId) -> bool {
        self.timers_probe_hosts()
            .any(|host| self.hosts.at(host).claim.as_ref().is_some_and(|(claimant, _)| *claimant == conn))
    }

    pub(super) fn timers_probe_hosts(&self) -> impl Iterator<Item = u32> + '_ {
        self.timers.probes()
    }
}
