//! The oracle for "one mover at a time", for a request and for a file, counted by leases that hold.

use std::collections::BTreeSet;

use super::mover::Attempt;
use super::world::World;
use crate::hsm::{ActionItem, RequestKey};

/// What the running daemon's life began with.
#[derive(Debug, Default)]
pub(super) struct Began {
    /// When.
    at: u64,
    /// What its store held.
    held: BTreeSet<RequestKey>,
}

impl World {
    /// A daemon has read its store.
    pub(super) fn began(&mut self, held: BTreeSet<RequestKey>) {
        self.began = Began { at: self.now, held };
    }

    /// Since which life the daemon knows what movers have. Without a store, one that starts cannot know what those work on
    /// that are not back yet.
    pub(super) fn known_since(&self) -> u64 {
        if self.scenario.store { self.amnesia } else { self.boots }
    }

    /// A mover begins: nobody else may be at it with a lease that holds.
    pub(super) fn one_mover_begins(&self, mover: usize, item: &ActionItem) -> Result<(), String> {
        let now = self.clock().mono;
        let since = self.known_since();
        for (number, other) in self.movers.iter().enumerate() {
            if !other.lease_holds(now) {
                continue;
            }
            if let Some(key) = other.conflicts_with(item, since).filter(|key| !self.is_over(key)) {
                return Err(format!(
                    "mover{mover} begins {} {} while mover{number} works on {key}",
                    item.action,
                    item.key()
                ));
            }
            if number != mover && other.conflicts_with(item, 0) == Some(item.key()) {
                self.not_in_haste(mover, number, item)?;
            }
        }
        Ok(())
    }

    /// Whether the MDT has ended a request. A mover that slept through that may claim it from a daemon that has restarted since
    /// and knows nothing of it; it works in vain, and nobody waits for it.
    fn is_over(&self, key: &RequestKey) -> bool {
        let mut entries = self.fs.ledger().filter(|e| e.fid == key.fid && e.cookie == key.cookie).peekable();
        entries.peek().is_some() && entries.all(|entry| entry.status.is_final())
    }

    /// What a redis server holds that lost the assignments is not given out before those who have it could say so.
    fn not_in_haste(&self, mover: usize, other: usize, item: &ActionItem) -> Result<(), String> {
        let key = item.key();
        let given = self.given_at.get(&key).copied().unwrap_or(0);
        let settled = self.began.at + self.scenario.config.settle.as_nanos() as u64;
        if !self.scenario.redis
            || given < self.began.at
            || given >= settled
            || !self.began.held.contains(&key)
        {
            return Ok(());
        }
        Err(format!(
            "mover{mover} begins {} {key}, which mover{other} works on: the daemon's store held it, and it was given out \
             {} ms after the daemon's start",
            item.action,
            (given - self.began.at) / 1_000_000
        ))
    }

    /// A mover goes on with what it began: nobody else may have begun meanwhile.
    pub(super) fn one_mover_goes_on(&self, mover: usize, attempt: &Attempt) -> Result<(), String> {
        let now = self.clock().mono;
        let since = self.known_since();
        if !attempt.begun || attempt.cancel_acked || attempt.boot < since {
            return Ok(());
        }
        let item = &attempt.item;
        for (number, other) in self.movers.iter().enumerate() {
            if number == mover || !other.lease_holds(now) {
                continue;
            }
            // A restore does not wait for an archive of its file, whichever came first.
            if let Some(key) = other.conflicts_with(item, since).filter(|key| *key == item.key()) {
                return Err(format!(
                    "mover{mover} goes on with {} {key}, which mover{number} has begun",
                    item.action
                ));
            }
        }
        Ok(())
    }
}
