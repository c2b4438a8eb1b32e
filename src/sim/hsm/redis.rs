//! A redis server and the store on it: what `store::redis` promises, without its protocol. Changes are durable once the
//! server has them or, while it is away, once they are in the spill on the daemon's own disk. A server that comes back as it was
//! gets the spill; one that comes back emptied or older is written anew from a snapshot of what the coordinator knows.

use std::collections::BTreeMap;

use crate::hsm::effect::StoreOp;
use crate::hsm::{ActionItem, RequestKey, SETTLING};
use crate::store::memory_disk::MemoryDisk;
use crate::store::{EmbeddedStore, Recovery, Snapshot, Store, StoreError};

/// What a server holds.
#[derive(Debug, Clone, Default)]
struct Tables {
    requests: BTreeMap<RequestKey, (ActionItem, Option<String>)>,
    notes: BTreeMap<String, String>,
    /// The last change that it confirmed.
    stamp: u64,
    /// The life of the server in which a daemon stopped cleanly, after which none has begun.
    clean: Option<u64>,
}

impl Tables {
    fn apply(&mut self, op: &StoreOp) {
        match op {
            StoreOp::Put(item) => drop(self.requests.insert(item.key(), (item.clone(), None))),
            StoreOp::Assign { key, mover } => {
                if let Some((_, owner)) = self.requests.get_mut(key) {
                    *owner = Some(mover.clone());
                }
            }
            StoreOp::Unassign { key } => {
                if let Some((_, owner)) = self.requests.get_mut(key) {
                    *owner = None;
                }
            }
            StoreOp::Remove { key } => drop(self.requests.remove(key)),
            StoreOp::Note { name, value: Some(value) } => {
                self.notes.insert(name.clone(), value.clone());
            }
            StoreOp::Note { name, value: None } => drop(self.notes.remove(name)),
        }
    }
}

/// How a server comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// As it was.
    Nothing,
    /// As it was when its disk last synced.
    Unsynced,
    /// As a copy of long ago.
    Older,
    /// Empty.
    Everything,
}

/// From when the server does not have everything until it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// It was away: it gets the spill.
    Spill,
    /// It lost something: a snapshot is wanted.
    Wanted,
    /// The snapshot comes.
    Running,
    /// The spill begins with the snapshot.
    Anew,
}

/// The server, the spill, and the store on them. Server and spill survive the daemon.
#[derive(Debug, Default)]
pub struct Redis {
    down: bool,
    /// Counts its starts.
    life: u64,
    tables: Tables,
    /// As its disk has it.
    synced: Tables,
    /// Somebody's copy.
    copy: Tables,
    /// The spill, and the one that will replace it.
    spill: Vec<StoreOp>,
    fresh: Vec<StoreOp>,
    /// What the store of the present daemon knows.
    stamp: u64,
    pending: Vec<StoreOp>,
    behind: Option<Behind>,
    snapshots: u64,
    notes: BTreeMap<String, String>,
    /// An earlier daemon died before it had written the server anew; or after it had written all into the spill.
    unknown: bool,
    anew: bool,
    /// What was lost is lost.
    lost: bool,
}

impl Redis {
    /// The server is away.
    pub fn stop(&mut self) {
        self.down = true;
    }

    /// Whether it is.
    pub fn is_down(&self) -> bool {
        self.down
    }

    /// The server is back.
    pub fn come_back(&mut self, loss: Loss) {
        self.down = false;
        match loss {
            // It was only out of reach.
            Loss::Nothing => return,
            Loss::Unsynced => self.tables = self.synced.clone(),
            Loss::Older => self.tables = self.copy.clone(),
            Loss::Everything => self.tables = Tables::default(),
        }
        self.synced = self.tables.clone();
        self.life += 1;
    }

    /// The server's disk syncs.
    pub fn sync_disk(&mut self) {
        if !self.down {
            self.synced = self.tables.clone();
        }
    }

    /// Somebody makes a copy of it.
    pub fn make_copy(&mut self) {
        self.copy = self.synced.clone();
    }

    /// Whether its disk has a request, and not yet who was given it.
    pub fn has_only_request(&self, key: &RequestKey) -> bool {
        self.synced.requests.get(key).is_some_and(|(_, mover)| mover.is_none())
    }

    /// Whether it does not have everything.
    pub fn is_behind(&self) -> bool {
        self.behind.is_some() || !self.pending.is_empty()
    }

    /// The daemon is gone, and with it what was only in its memory.
    pub fn daemon_gone(&mut self) {
        self.pending.clear();
        self.fresh.clear();
        self.unknown |= matches!(self.behind, Some(Behind::Wanted | Behind::Running));
        self.anew |= self.behind == Some(Behind::Anew);
        self.behind = None;
    }

    /// Whether a server lost what no daemon knows any more, since this was last asked.
    pub fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    fn replay(&mut self) {
        for op in std::mem::take(&mut self.spill) {
            self.tables.apply(&op);
        }
        self.confirm();
    }

    fn confirm(&mut self) {
        self.stamp += 1;
        self.tables.stamp = self.stamp;
        self.tables.clean = None;
    }

    /// Does what is to be done between commits.
    pub fn look_after(&mut self) {
        if self.down {
            return;
        }
        let intact = self.tables.stamp == self.stamp;
        match self.behind {
            Some(Behind::Anew) => {
                self.tables = Tables::default();
                self.replay();
                self.behind = None;
            }
            Some(Behind::Spill) if intact => {
                self.replay();
                self.behind = None;
            }
            None if intact => {}
            None | Some(Behind::Spill) => self.want_snapshot(),
            Some(Behind::Wanted | Behind::Running) => {}
        }
    }

    fn want_snapshot(&mut self) {
        self.snapshots += 1;
        self.behind = Some(Behind::Wanted);
    }
}

impl Store for Redis {
    fn recover(&mut self, found: &mut dyn FnMut(ActionItem, Option<String>)) -> Result<Recovery, StoreError> {
        let mut suspect = self.tables.clean != Some(self.life) || !self.spill.is_empty();
        if std::mem::take(&mut self.anew) {
            self.tables = Tables::default();
        } else {
            self.lost |= std::mem::take(&mut self.unknown) || self.tables.stamp != self.stamp;
        }
        self.unknown = false;
        self.replay();
        let mut requests: Vec<_> = self.tables.requests.values().cloned().collect();
        requests.sort_by_key(|(item, _)| item.timestamp);
        let count = requests.len() as u64;
        requests.into_iter().for_each(|(item, mover)| found(item, mover));
        self.notes = self.tables.notes.clone();
        suspect |= self.notes.contains_key(SETTLING);
        Ok(Recovery { requests: count, quarantined: Vec::new(), suspect })
    }

    fn append(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        for op in ops {
            match op {
                StoreOp::Note { name, value: Some(value) } => {
                    self.notes.insert(name.clone(), value.clone());
                }
                StoreOp::Note { name, value: None } => drop(self.notes.remove(name)),
                _ => {}
            }
        }
        self.pending.extend_from_slice(ops);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let ops = std::mem::take(&mut self.pending);
        if self.behind.is_none() && !ops.is_empty() {
            if !self.down {
                let intact = self.tables.stamp == self.stamp;
                ops.iter().for_each(|op| self.tables.apply(op));
                self.confirm();
                if !intact {
                    self.want_snapshot();
                }
                return Ok(());
            }
            self.behind = Some(Behind::Spill);
        }
        if self.behind == Some(Behind::Running) {
            self.fresh.extend_from_slice(&ops);
        }
        self.spill.extend(ops);
        Ok(())
    }

    fn has_room(&mut self) -> bool {
        true
    }

    fn take_notes(&mut self) -> Vec<(String, String)> {
        self.notes.clone().into_iter().collect()
    }

    fn wants_snapshot(&self) -> Option<u64> {
        (self.behind == Some(Behind::Wanted)).then_some(self.snapshots)
    }

    fn snapshot(&mut self, part: &Snapshot) -> Result<(), StoreError> {
        if part.number != self.snapshots {
            return Ok(());
        }
        if self.behind == Some(Behind::Wanted) {
            self.fresh.clear();
            self.behind = Some(Behind::Running);
        }
        for (item, mover) in &part.requests {
            self.fresh.push(StoreOp::Put(item.clone()));
            if let Some(mover) = mover {
                self.fresh.push(StoreOp::Assign { key: item.key(), mover: mover.clone() });
            }
        }
        if part.last {
            let note = |(name, value): (&String, &String)| StoreOp::Note {
                name: name.clone(),
                value: Some(value.clone()),
            };
            self.fresh.extend(self.notes.iter().map(note));
            self.spill = std::mem::take(&mut self.fresh);
            self.behind = Some(Behind::Anew);
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), StoreError> {
        if self.behind.is_none() && !self.down {
            self.tables.clean = Some(self.life);
        }
        Ok(())
    }

    fn describe(&self) -> String {
        "redis".to_owned()
    }
}

/// The store of a run.
pub enum Keeper {
    /// A journal on a disk.
    Embedded(Box<EmbeddedStore<MemoryDisk>>),
    /// A redis server.
    Redis(Box<Redis>),
}

/// What is left of it without a daemon.
pub enum Left {
    /// The disk.
    Disk(MemoryDisk),
    /// The server, and the spill.
    Redis(Box<Redis>),
}

impl Keeper {
    /// What the store does.
    pub fn store(&mut self) -> &mut dyn Store {
        match self {
            Self::Embedded(store) => store.as_mut(),
            Self::Redis(store) => store.as_mut(),
        }
    }

    /// The daemon is gone.
    pub fn leave(self) -> Left {
        match self {
            Self::Embedded(store) => Left::Disk(store.into_disk()),
            Self::Redis(mut redis) => {
                redis.daemon_gone();
                Left::Redis(redis)
            }
        }
    }
}
