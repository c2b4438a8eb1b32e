//! Operations that the store could not take yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::hsm::RequestKey;
use crate::hsm::effect::StoreOp;
use crate::store::Store;

/// Operations that wait for room, in order.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) groups: VecDeque<Vec<StoreOp>>,
    ops: usize,
    compacted: usize,
}

impl Backlog {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Operations that wait.
    pub(super) fn len(&self) -> usize {
        self.ops
    }

    /// Adds operations at the end.
    pub(super) fn push(&mut self, ops: Vec<StoreOp>, store: &dyn Store) {
        if ops.is_empty() {
            return;
        }
        self.ops += ops.len();
        self.groups.push_back(ops);
        if self.ops > 2 * self.compacted + 10_000 {
            self.compact(&|key| store.may_hold(key));
        }
    }

    /// Adds all that waits elsewhere.
    pub(super) fn append(&mut self, other: Backlog, store: &dyn Store) {
        for ops in other.groups {
            self.push(ops, store);
        }
    }

    /// Forgets the first groups, which were written.
    pub(super) fn drop_first(&mut self, groups: usize) {
        for ops in self.groups.drain(..groups) {
            self.ops -= ops.len();
        }
    }

    /// Forgets requests that came and went while nothing could be written. Those that the store may hold (they were
    /// appended before a sync failed, or are put again with other data) are not: their removal must get there.
    pub(super) fn compact(&mut self, held: &dyn Fn(&RequestKey) -> bool) {
        #[derive(PartialEq)]
        enum Life {
            /// Perhaps in the store already.
            Stored,
            /// First put in here.
            Born,
            /// Put and removed in here.
            Gone,
        }
        let mut lives: BTreeMap<RequestKey, Life> = BTreeMap::new();
        for op in self.groups.iter().flatten() {
            let key = key_of(op);
            let life = lives.entry(key).or_insert_with(|| {
                if matches!(op, StoreOp::Put(_)) && !held(&key) { Life::Born } else { Life::Stored }
            });
            match op {
                StoreOp::Remove { .. } if *life == Life::Born => *life = Life::Gone,
                StoreOp::Put(_) if *life == Life::Gone => *life = Life::Born,
                _ => {}
            }
        }
        self.retain(|key| lives.get(key) != Some(&Life::Gone));
        self.compacted = self.ops;
    }

    /// Requests that the store may hold and that have ended.
    pub(super) fn ended(&self, held: &dyn Fn(&RequestKey) -> bool) -> Vec<RequestKey> {
        let last: BTreeMap<RequestKey, &StoreOp> =
            self.groups.iter().flatten().map(|op| (key_of(op), op)).collect();
        let ended = last.into_iter().filter(|(key, op)| matches!(op, StoreOp::Remove { .. }) && held(key));
        ended.map(|(key, _)| key).collect()
    }

    /// Drops what waits for these requests.
    pub(super) fn forget(&mut self, keys: &BTreeSet<RequestKey>) {
        self.retain(|key| !keys.contains(key));
        self.compacted = self.compacted.min(self.ops);
    }

    fn retain(&mut self, keep: impl Fn(&RequestKey) -> bool) {
        for ops in &mut self.groups {
            ops.retain(|op| keep(&key_of(op)));
        }
        self.groups.retain(|ops| !ops.is_empty());
        self.ops = self.groups.iter().map(Vec::len).sum();
    }
}

/// What an operation is about.
fn key_of(op: &StoreOp) -> RequestKey {
    match op {
        StoreOp::Put(item) => item.key(),
        StoreOp::Assign { key, .. } | StoreOp::Unassign { key } | StoreOp::Remove { key } => *key,
        StoreOp::Note { name, .. } => crate::store::notes::key(name),
    }
}
