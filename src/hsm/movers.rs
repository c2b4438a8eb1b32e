//! Connections and movers: who is there, who was, and what they may still hold.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::Coordinator;
use super::batches::Slot;
use super::event::{ConnId, Features, Recv};
use super::index::NIL;
use super::queues::Crew;
use super::requests::{Handle, KINDS, List};
use super::time::{Mono, Wall};
use super::timers::Timer;
use super::window::Window;

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
    pub(super) id: Arc<str>,
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
    /// How many more requests of all kinds it may be given; `None` for any number.
    pub(super) allowance: Option<u32>,
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
    /// What it ended in the last minute.
    pub(super) pace: Window,
    /// Requests with a cancel to be sent.
    pub(super) cancels: VecDeque<Handle>,
    pub(super) slots: Vec<Slot>,
    /// Tapes that it has.
    pub(super) tapes: Vec<u32>,
    /// What it runs of each tag.
    pub(super) tag_running: BTreeMap<u32, u32>,
    pub(super) disconnected_at: Wall,
    pub(super) listed: Listed,
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
        let room = max.map_or(u32::MAX, |max| max.saturating_sub(self.running[kind]));
        room.min(self.allowance.unwrap_or(u32::MAX))
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

    pub(super) fn remove(&mut self, mover: u32) {
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
            id: (*self.hosts.at(host).name).into(),
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
            if entry.slots.iter().any(Slot::is_free) && !self.is_barred(mover) {
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
}
