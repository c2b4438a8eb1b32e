//! Connections and movers: who is there, who was, and what they may still hold.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Coordinator;
use super::admission::Admitted;
use super::batches::Slot;
use super::coordinator::reply_error;
use super::effect::{Effect, Effects, EhloReply, Reply};
use super::event::{ConnId, Ehlo, Features, Recv};
use super::index::NIL;
use super::queues::Crew;
use super::requests::{CLAIMED, Handle, KINDS, List, State};
use super::time::{Mono, Wall};
use super::timers::Timer;

/// How long a second connection with a live id waits for the first one to prove dead.
const PROBE: Duration = Duration::from_secs(3);

/// Added to a lease before its work is given to others.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// The smallest buffer with which a mover may ask for work (C 0.4: one item and 100 bytes).
pub(super) const SMALLEST_BUFFER: u64 = 172;

/// Where a mover stands in the crews; what was put there must be found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Listed {
    connected: bool,
    waiting: [Option<(u64, u64)>; 3],
    free: Option<(u64, u64)>,
}

/// A peer, or a mover that is not connected.
#[derive(Debug, Default)]
pub(super) struct Mover {
    /// What it calls itself, or `host:port`.
    pub(super) id: Box<str>,
    /// Unique for each record.
    pub(super) serial: u64,
    /// Order among the connected or among the disconnected ones.
    pub(super) order: u64,
    pub(super) conn: Option<ConnId>,
    /// Its name, `NIL` for anonymous peers.
    pub(super) host: u32,
    pub(super) said_ehlo: bool,
    /// It identified itself or asked for work.
    pub(super) is_mover: bool,
    /// What it asked for last.
    pub(super) recv: Option<Recv>,
    /// Since when it waits for work (sequence number).
    pub(super) waiting: Option<u64>,
    /// What it serves, sorted; empty for all.
    pub(super) archive_ids: Vec<u32>,
    pub(super) features: Features,
    /// When its lease ends, for movers that have one.
    pub(super) lease_until: Option<Mono>,
    /// What it runs, in the order in which it came there.
    pub(super) active: List,
    /// What came to it up to this sequence number goes back to the queue.
    pub(super) retire_up_to: u64,
    pub(super) running: [u32; 3],
    pub(super) done: [u64; 3],
    /// Requests with a cancel to be sent.
    pub(super) cancels: VecDeque<Handle>,
    pub(super) slots: Vec<Slot>,
    /// What it runs of each tag.
    pub(super) tag_running: BTreeMap<u32, u32>,
    pub(super) disconnected_at: Wall,
    listed: Listed,
}

impl Mover {
    pub(super) fn load(&self) -> u64 {
        self.running.iter().map(|&running| u64::from(running)).sum()
    }

    /// Room for requests of each kind.
    pub(super) fn room(&self, kind: usize) -> u32 {
        let Some(recv) = self.recv else {
            return 0;
        };
        let max = [recv.max_restore, recv.max_remove, recv.max_archive][kind];
        max.map_or(u32::MAX, |max| max.saturating_sub(self.running[kind]))
    }

    /// Its rank among movers with a free slot.
    pub(super) fn free_key(&self) -> (u64, u64) {
        let used = self.slots.iter().filter(|slot| !slot.is_free()).count() as u64;
        (used, u64::MAX - self.order)
    }
}

/// All peers and movers.
#[derive(Debug, Default)]
pub(super) struct Movers {
    entries: Vec<Mover>,
    free: Vec<u32>,
    /// Connections, by the order in which they came.
    pub(super) connected: BTreeMap<u64, u32>,
    /// Movers that are away, by the order in which they left.
    pub(super) disconnected: BTreeMap<u64, u32>,
}

impl Movers {
    pub(super) fn at(&self, mover: u32) -> &Mover {
        &self.entries[mover as usize]
    }

    pub(super) fn at_mut(&mut self, mover: u32) -> &mut Mover {
        &mut self.entries[mover as usize]
    }

    fn add(&mut self, mover: Mover) -> u32 {
        match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = mover;
                id
            }
            None => {
                self.entries.push(mover);
                self.entries.len() as u32 - 1
            }
        }
    }

    fn remove(&mut self, mover: u32) {
        self.entries[mover as usize] = Mover::default();
        self.free.push(mover);
    }

    /// All records: connected ones, then the others.
    pub(super) fn everyone(&self) -> Vec<u32> {
        self.connected.values().chain(self.disconnected.values()).copied().collect()
    }
}

impl Coordinator {
    pub(super) fn connected(&mut self, conn: ConnId, peer: String) {
        let order = self.next_sequence();
        let mover = Mover {
            id: peer.into(),
            serial: order,
            order,
            conn: Some(conn),
            host: NIL,
            active: List::EMPTY,
            slots: self.new_slots(),
            ..Mover::default()
        };
        let mover = self.movers.add(mover);
        self.movers.connected.insert(order, mover);
        self.conns.insert(conn, mover);
    }

    pub(super) fn peer_named(&mut self, conn: ConnId, peer: String) {
        if let Some(&mover) = self.conns.get(&conn) {
            let entry = self.movers.at_mut(mover);
            if entry.host == NIL {
                entry.id = peer.into();
            }
        }
    }

    /// A record for a host that is not there but has work.
    pub(super) fn add_absent(&mut self, host: u32) -> u32 {
        let order = self.next_sequence();
        let mover = Mover {
            id: self.hosts.at(host).name.clone(),
            serial: order,
            order,
            host,
            said_ehlo: true,
            is_mover: true,
            active: List::EMPTY,
            slots: self.new_slots(),
            disconnected_at: self.now.wall,
            ..Mover::default()
        };
        let mover = self.movers.add(mover);
        self.movers.disconnected.insert(order, mover);
        self.hosts.at_mut(host).mover = mover;
        self.timers.set(Timer::Grace(mover), self.now.mono + self.config.client_grace);
        tracing::info!(mover = %self.movers.at(mover).id, "waiting for this mover");
        mover
    }

    /// Puts a mover where its state belongs in the crews.
    pub(super) fn refresh_mover(&mut self, mover: u32) {
        let entry = self.movers.at(mover);
        let active = entry.conn.is_some() && entry.is_mover;
        let mut new = Listed { connected: active, ..Listed::default() };
        if active {
            if let Some(since) = entry.waiting {
                for kind in KINDS {
                    let kind = kind.at();
                    new.waiting[kind] = (entry.room(kind) > 0).then_some((entry.load(), since));
                }
            }
            if entry.slots.iter().any(Slot::is_free) {
                new.free = Some(entry.free_key());
            }
        }
        let old = entry.listed;
        if old == new {
            return;
        }
        let ids = std::mem::take(&mut self.movers.at_mut(mover).archive_ids);
        let change = |crew: &mut Crew| {
            if old.connected != new.connected {
                crew.connected = if new.connected { crew.connected + 1 } else { crew.connected - 1 };
            }
            for kind in 0..3 {
                if old.waiting[kind] != new.waiting[kind] {
                    if let Some((load, since)) = old.waiting[kind] {
                        crew.waiting[kind].remove(&(load, since, mover));
                    }
                    if let Some((load, since)) = new.waiting[kind] {
                        crew.waiting[kind].insert((load, since, mover));
                    }
                }
            }
            if old.free != new.free {
                if let Some((used, order)) = old.free {
                    crew.free.remove(&(used, order, mover));
                }
                if let Some((used, order)) = new.free {
                    crew.free.insert((used, order, mover));
                }
            }
        };
        change(&mut self.crews.everyone);
        let served_all = self.crews.all.connected > 0;
        if ids.is_empty() {
            change(&mut self.crews.all);
        }
        for &id in &ids {
            let crew = self.crews.by_id.entry(id).or_default();
            change(crew);
            if crew.is_empty() {
                self.crews.by_id.remove(&id);
            }
        }
        let entry = self.movers.at_mut(mover);
        entry.archive_ids = ids;
        entry.listed = new;
        if served_all && self.crews.all.connected == 0 && self.global.by_id.contains_key(&0) {
            // Requests without an archive id are everybody's now.
            self.wake_everyone();
        }
        if old.connected != new.connected {
            self.count_in_sets(mover, new.connected);
        }
    }

    fn count_in_sets(&mut self, mover: u32, connected: bool) {
        let host = self.movers.at(mover).host;
        if host == NIL {
            return;
        }
        for set in self.hosts.at(host).sets.clone() {
            let moved = self.next_sequence();
            let entry = self.hosts.set_mut(set);
            if connected {
                entry.connected += 1;
                if entry.shown_at != NIL {
                    entry.shown_at = NIL;
                    entry.moved = moved;
                }
            } else {
                entry.connected -= 1;
                if entry.connected == 0 && entry.queued > 0 {
                    entry.shown_at = host;
                    entry.moved = moved;
                }
            }
        }
    }

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
        assert!(entry.listed == Listed::default(), "a mover is listed only once it is known");
        entry.archive_ids = ids;
        entry.features = ehlo.features;
        entry.said_ehlo = true;
    }

    /// A connection becomes the mover of this name, with all that was left of it.
    fn adopt(&mut self, conn: ConnId, fresh: u32, host: u32, ehlo: Ehlo, effects: &mut Effects) {
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
        let name = self.hosts.at(host).name.clone();
        let entry = self.movers.at_mut(mover);
        entry.id = name;
        entry.host = host;
        entry.is_mover = true;
        self.introduce(mover, &ehlo);
        self.claim(mover, ehlo, conn, effects);
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
    fn claim_one(&mut self, mover: u32, item: super::ActionItem, effects: &mut Effects) -> bool {
        let (key, dfid) = (item.key(), item.dfid);
        let known =
            self.requests.find_any(key.cookie, key.fid).or_else(|| self.requests.find_any(key.cookie, dfid));
        if let Some(handle) = known {
            let (state, owner, class) = {
                let request = self.requests.at(handle);
                (request.state, request.owner, request.class)
            };
            if state == State::Running {
                if owner != mover {
                    tracing::warn!(%key, mover = %self.movers.at(mover).id, "claimed, but another mover has it");
                    return false;
                }
                self.relink_active(handle, mover);
                self.resend_cancel(handle, mover);
                return true;
            }
            self.unqueue(handle);
            self.refresh_class(class);
            self.start(handle, mover, effects);
            self.requests.at_mut(handle).set(CLAIMED, true);
            return true;
        }
        if self.tombstones.contains(key) {
            tracing::info!(%key, mover = %self.movers.at(mover).id, "claimed, but it has ended");
            return false;
        }
        if item.archive_id == 0 && item.action != super::Action::Remove {
            tracing::warn!(%key, mover = %self.movers.at(mover).id, "claimed without an archive id");
            return true;
        }
        if let Some(Admitted::New(handle)) = self.admit(item, effects) {
            self.report_new(handle, effects);
            self.start(handle, mover, effects);
            self.requests.at_mut(handle).set(CLAIMED, true);
        }
        true
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
    fn grant_lease(&mut self, mover: u32) -> u64 {
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
        self.refresh_mover(mover);
        if new {
            self.fill_slots(mover);
        }
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

    fn timers_probe_hosts(&self) -> impl Iterator<Item = u32> + '_ {
        self.timers.probes()
    }

    pub(super) fn disconnected(&mut self, conn: ConnId, effects: &mut Effects) {
        let Some(mover) = self.conns.remove(&conn) else {
            return;
        };
        let claimed = self
            .timers_probe_hosts()
            .find(|&host| self.hosts.at(host).claim.as_ref().is_some_and(|(claimant, _)| *claimant == conn));
        if let Some(host) = claimed {
            self.hosts.at_mut(host).claim = None;
            self.timers.clear(Timer::Probe(host));
        }
        let left = self.next_sequence();
        let entry = self.movers.at_mut(mover);
        let order = entry.order;
        entry.conn = None;
        entry.waiting = None;
        entry.order = left;
        entry.disconnected_at = self.now.wall;
        let host = entry.host;
        self.movers.connected.remove(&order);
        self.movers.disconnected.insert(left, mover);
        self.refresh_mover(mover);
        let leased = self.movers.at(mover).lease_until.unwrap_or(Mono(0));
        if host == NIL {
            let idle = self.movers.at(mover).active.is_empty();
            if idle || leased <= self.now.mono {
                self.grace_ended(mover, effects);
            } else {
                self.timers.set(Timer::Grace(mover), leased);
            }
            return;
        }
        tracing::info!(mover = %self.movers.at(mover).id, "mover disconnected");
        let until = (self.now.mono + self.config.client_grace).max(leased);
        self.timers.set(Timer::Grace(mover), until);
        if let Some((second, ehlo)) = self.hosts.at_mut(host).claim.take() {
            self.timers.clear(Timer::Probe(host));
            if let Some(&fresh) = self.conns.get(&second) {
                self.adopt(second, fresh, host, *ehlo, effects);
            }
        }
    }

    /// A mover has been away for too long: others may have its work.
    pub(super) fn grace_ended(&mut self, mover: u32, effects: &mut Effects) {
        if self.movers.at(mover).conn.is_some() {
            return;
        }
        if !self.movers.at(mover).active.is_empty() {
            let up_to = self.sequence();
            self.movers.at_mut(mover).retire_up_to = up_to;
            self.retiring.insert(mover);
            let mut left = super::coordinator::SLICE;
            self.retire_slice(&mut left, effects);
            if left == 0 {
                self.slice_later();
            }
            if self.retiring.contains(&mover) {
                return;
            }
        } else {
            self.let_go(mover);
        }
    }

    /// Forgets a mover that is away and has nothing left, or keeps it as the one whose requests wait for it.
    fn let_go(&mut self, mover: u32) {
        if self.movers.at(mover).conn.is_some() {
            return;
        }
        let host = self.movers.at(mover).host;
        let stays = host != NIL && self.shows_requests(host);
        self.give_up_slots(mover, stays);
        if stays {
            self.movers.at_mut(mover).disconnected_at = self.now.wall;
            self.timers.set(Timer::Grace(mover), self.now.mono + self.config.client_grace);
            return;
        }
        for slot in 0..self.movers.at(mover).slots.len() {
            self.timers.clear(Timer::Slot(mover, slot as u32));
        }
        self.timers.clear(Timer::Grace(mover));
        let order = self.movers.at(mover).order;
        self.movers.disconnected.remove(&order);
        self.fresh_movers.remove(&mover);
        self.later_movers.remove(&mover);
        self.movers.remove(mover);
        if host != NIL {
            for set in self.hosts.at(host).sets.clone() {
                let entry = self.hosts.set_mut(set);
                if entry.shown_at == host {
                    entry.shown_at = NIL;
                }
            }
            self.hosts.at_mut(host).mover = NIL;
            self.hosts.forget(host);
        }
    }

    /// Puts requests of movers that are gone, or that came back without them, into the queue again.
    pub(super) fn retire_slice(&mut self, left: &mut usize, effects: &mut Effects) {
        while *left > 0 {
            let Some(&mover) = self.retiring.first() else {
                return;
            };
            let entry = self.movers.at(mover);
            let head = entry.active.head;
            if head == NIL || self.requests.at(head).linked > entry.retire_up_to {
                self.retiring.remove(&mover);
                if entry.conn.is_none() && head == NIL && !self.timers.is_set(Timer::Grace(mover)) {
                    self.let_go(mover);
                }
                continue;
            }
            *left -= 1;
            self.retire(head, effects);
        }
    }

    fn retire(&mut self, handle: Handle, effects: &mut Effects) {
        if self.cancels.contains_key(&handle) {
            self.end_cancelled(handle, effects);
        } else {
            self.requeue(handle, effects);
        }
    }
}
