//! Names of movers, the sets of them that host mappings name, and where the data of a request sends it.

use std::collections::BTreeMap;

use super::Coordinator;
use super::event::{ConnId, Ehlo};
use super::hints::{Mapped, map_hosts, without_nuls};
use super::index::NIL;
use super::queues::{Place, Pool};
use super::requests::Kind;

/// Names above which a locator can add none.
const MOST_LOCATED: usize = 65_536;

/// A name under which a mover is, was or may be connected.
#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) name: Box<str>,
    /// Named by a host mapping: never forgotten.
    pub(super) configured: bool,
    /// Named by the locator: tapes and requests that are in no queue may refer to it, so it is not forgotten either.
    pub(super) located: bool,
    /// Sets that it belongs to.
    pub(super) sets: Vec<u32>,
    /// What only this host may take.
    pub(super) pool: Pool,
    /// Requests queued for this host alone, tags included.
    pub(super) queued: u64,
    /// Its mover, connected or not.
    pub(super) mover: u32,
    /// A second connection that claims this name, and what it said.
    pub(super) claim: Option<(ConnId, Box<Ehlo>)>,
}

/// The hosts of a mapping.
#[derive(Debug, Default)]
pub(super) struct HostSet {
    pub(super) hosts: Vec<u32>,
    /// What any of these hosts may take.
    pub(super) pool: Pool,
    /// Requests queued for this set, tags included.
    pub(super) queued: u64,
    /// How many of them are connected.
    pub(super) connected: u32,
    /// The host under which status shows the requests while none is connected.
    pub(super) shown_at: u32,
    /// When that last changed (sequence number).
    pub(super) moved: u64,
}

/// All hosts and sets.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    entries: Vec<Host>,
    free: Vec<u32>,
    names: BTreeMap<Box<str>, u32>,
    pub(super) sets: Vec<HostSet>,
    set_index: BTreeMap<Vec<u32>, u32>,
}

impl Hosts {
    pub(super) fn at(&self, host: u32) -> &Host {
        &self.entries[host as usize]
    }

    pub(super) fn at_mut(&mut self, host: u32) -> &mut Host {
        &mut self.entries[host as usize]
    }

    pub(super) fn set_mut(&mut self, set: u32) -> &mut HostSet {
        &mut self.sets[set as usize]
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    pub(super) fn intern(&mut self, name: &str) -> u32 {
        if let Some(host) = self.find(name) {
            return host;
        }
        let host = Host { name: name.into(), mover: NIL, ..Host::default() };
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = host;
                id
            }
            None => {
                self.entries.push(host);
                self.entries.len() as u32 - 1
            }
        };
        self.names.insert(name.into(), id);
        id
    }

    /// The host that a locator names. `None` for one name too many: there are not that many movers.
    pub(super) fn intern_located(&mut self, name: &str) -> Option<u32> {
        if self.find(name).is_none() && self.entries.len() >= MOST_LOCATED {
            return None;
        }
        let host = self.intern(name);
        self.at_mut(host).located = true;
        Some(host)
    }

    /// Forgets a name that nothing refers to any more.
    pub(super) fn forget(&mut self, host: u32) {
        let entry = self.at(host);
        if entry.configured
            || entry.located
            || entry.mover != NIL
            || entry.claim.is_some()
            || entry.queued > 0
        {
            return;
        }
        if !entry.pool.is_empty() || !entry.sets.is_empty() {
            return;
        }
        let name = std::mem::take(&mut self.at_mut(host).name);
        self.names.remove(&name);
        self.free.push(host);
    }

    fn intern_set(&mut self, mut hosts: Vec<u32>, connected: impl Fn(&Host) -> bool) -> u32 {
        hosts.sort_unstable();
        hosts.dedup();
        if let Some(&set) = self.set_index.get(&hosts) {
            return set;
        }
        let set = self.sets.len() as u32;
        for &host in &hosts {
            self.at_mut(host).sets.push(set);
        }
        let connected = hosts.iter().filter(|&&host| connected(self.at(host))).count() as u32;
        self.set_index.insert(hosts.clone(), set);
        self.sets.push(HostSet { hosts, connected, shown_at: NIL, ..HostSet::default() });
        set
    }
}

impl Coordinator {
    /// Learns the names in the configuration.
    pub(super) fn name_hosts(&mut self) {
        let names: Vec<String> =
            self.config.host_mappings.iter().flat_map(|mapping| mapping.hosts.clone()).collect();
        for name in names {
            let host = self.hosts.intern(&name);
            self.hosts.at_mut(host).configured = true;
        }
    }

    /// Works out where archives with this data go and what movers see of it.
    pub(super) fn plan(&mut self, data: u32) {
        if self.data.at(data).planned == self.config_version {
            return;
        }
        let entry = self.data.at(data);
        let mapped = map_hosts(&self.config.host_mappings, &entry.bytes, entry.truncated);
        let (place, sent) = match mapped {
            Mapped::No => (Place::Any, None),
            Mapped::Host { mapping, host, sent } => {
                let name = self.config.host_mappings[mapping].hosts[host].clone();
                (Place::Host(self.hosts.intern(&name)), sent)
            }
            Mapped::Any(mapping) => {
                let names = self.config.host_mappings[mapping].hosts.clone();
                let hosts = names.iter().map(|name| self.hosts.intern(name)).collect();
                let movers = &self.movers;
                let connected = |host: &Host| host.mover != NIL && movers.at(host.mover).conn.is_some();
                (Place::Set(self.hosts.intern_set(hosts, connected)), None)
            }
        };
        let sent = sent.map_or(NIL, |sent| self.data.intern(&sent, false));
        let seen = if sent == NIL { data } else { sent };
        let label = without_nuls(&self.data.at(seen).bytes);
        let label = if label.len() == self.data.at(seen).bytes.len() {
            // An entry never holds itself.
            if sent != NIL {
                self.data.hold(sent);
            }
            sent
        } else {
            let label = label.to_vec();
            self.data.intern(&label, false)
        };
        let version = self.config_version;
        let entry = self.data.at_mut(data);
        let old = [entry.sent, entry.label];
        entry.planned = version;
        entry.place = place;
        entry.sent = sent;
        entry.label = label;
        for id in old {
            if id != NIL {
                self.data.release(id);
            }
        }
    }

    /// Where a request of this kind with this (planned) data goes.
    pub(super) fn place_of(&self, kind: Kind, data: u32) -> Place {
        if kind == Kind::Archive { self.data.at(data).place } else { Place::Any }
    }

    pub(super) fn pool_mut(&mut self, place: Place) -> &mut Pool {
        match place {
            Place::Any => &mut self.global,
            Place::Host(host) => &mut self.hosts.at_mut(host).pool,
            Place::Set(set) => &mut self.hosts.set_mut(set).pool,
        }
    }

    /// Counts a request that enters (`1`) or leaves (`-1`) the queues of a place, and sees to it that a host that is not
    /// there is shown.
    pub(super) fn count_at_place(&mut self, place: Place, change: i64) {
        match place {
            Place::Any => {}
            Place::Host(host) => {
                let entry = self.hosts.at_mut(host);
                entry.queued = entry.queued.wrapping_add_signed(change);
                if change > 0 && entry.mover == NIL {
                    self.add_absent(host);
                }
            }
            Place::Set(set) => {
                let entry = self.hosts.set_mut(set);
                entry.queued = entry.queued.wrapping_add_signed(change);
                if change > 0 && entry.connected == 0 && entry.shown_at == NIL {
                    self.show_set(set);
                }
            }
        }
    }

    /// Chooses under which absent host the requests of a set are shown: one that was there, else any.
    pub(super) fn show_set(&mut self, set: u32) {
        let hosts = self.hosts.sets[set as usize].hosts.clone();
        let known = hosts.iter().copied().find(|&host| self.hosts.at(host).mover != NIL);
        let host = match known {
            Some(host) => host,
            None => {
                let host = hosts[self.random(hosts.len())];
                self.add_absent(host);
                host
            }
        };
        let moved = self.next_sequence();
        let entry = self.hosts.set_mut(set);
        entry.shown_at = host;
        entry.moved = moved;
    }

    /// Whether requests are shown under this host.
    pub(super) fn shows_requests(&self, host: u32) -> bool {
        let entry = self.hosts.at(host);
        entry.queued > 0
            || entry.sets.iter().any(|&set| {
                let set = &self.hosts.sets[set as usize];
                set.shown_at == host && set.queued > 0
            })
    }
}
