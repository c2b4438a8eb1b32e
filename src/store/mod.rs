//! Persistence behind one trait: the embedded store and none; redis speaks the same trait.
//!
//! The shell runs a [`Store`] on a thread of its own: it appends the operations of many calls of the coordinator, makes
//! them durable with one [`Store::sync`], and only then lets their consequences be seen.

#[cfg(feature = "daemon")]
pub mod disk;
pub mod embedded;
pub mod journal;
pub mod memory_disk;
pub mod none;
pub mod notes;
pub mod record;
#[cfg(feature = "daemon")]
pub mod redis;
pub mod segments;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::hsm::effect::StoreOp;
use crate::hsm::{ActionItem, RequestKey};

pub use embedded::EmbeddedStore;
pub use none::NoStore;

/// A request that an earlier run left, and the mover it is assigned to.
pub type Recovered = (ActionItem, Option<String>);

/// Requests in a part of [`Store::recover_in_parts`].
pub const PART: usize = 1000;

/// Keeps requests and assignments across crashes.
pub trait Store: Send {
    /// Reads what an earlier run left, in the order in which it was first admitted. A damaged record is set aside, counted
    /// in the summary and logged; it never prevents a start.
    fn recover(&mut self, found: &mut dyn FnMut(ActionItem, Option<String>)) -> Result<Recovery, StoreError>;

    /// The same in parts, each as early as can be, and with it whether its requests are suspect ([`Recovery::suspect`]). No
    /// more are given once `take` has returned `false`.
    fn recover_in_parts(
        &mut self,
        take: &mut dyn FnMut(Vec<Recovered>, bool) -> bool,
    ) -> Result<Recovery, StoreError> {
        // Whether the requests are suspect is known when all are read.
        let mut parts = vec![Vec::with_capacity(PART)];
        let recovery = self.recover(&mut |item, mover| {
            if parts.last().is_none_or(|part: &Vec<Recovered>| part.len() == PART) {
                parts.push(Vec::with_capacity(PART));
            }
            if let Some(part) = parts.last_mut() {
                part.push((item, mover));
            }
        })?;
        let _ = parts.into_iter().filter(|part| !part.is_empty()).all(|part| take(part, recovery.suspect));
        Ok(recovery)
    }

    /// Takes operations, all or none. They are durable only after the next [`Store::sync`].
    fn append(&mut self, ops: &[StoreOp]) -> Result<(), StoreError>;

    /// The same, for a store that keeps them until it is synced: without copying.
    fn append_shared(&mut self, ops: &Arc<Vec<StoreOp>>) -> Result<(), StoreError> {
        self.append(ops)
    }

    /// Makes everything appended so far durable. Not while a sync that was begun is under way.
    fn sync(&mut self) -> Result<(), StoreError>;

    /// Begins to make everything appended so far durable. Syncs are done in the order in which they were begun; returns how
    /// many are done now that were not before. Here as in [`Store::go_on`] an error says that none of those under way is
    /// done or ever will be: what they were to make durable has to be appended again.
    fn begin_sync(&mut self) -> Result<usize, StoreError> {
        self.sync().map(|()| 1)
    }

    /// Whether to begin a sync of what was appended: `more` says that more to append is there already.
    fn wants_sync(&self, more: bool) -> bool {
        !more
    }

    /// What to wait for while syncs are under way.
    fn under_way(&self) -> Option<UnderWay<'_>> {
        None
    }

    /// Goes on with the syncs under way, without waiting; returns how many are done now that were not before.
    fn go_on(&mut self) -> Result<usize, StoreError> {
        Ok(0)
    }

    /// Whether there is room for more requests. Asked when an append or sync failed for want of room, and now and then
    /// until it is true again.
    fn has_room(&mut self) -> bool;

    /// Whether the store may hold this request, durably or not. Where it is not known, it may.
    fn may_hold(&self, _key: &RequestKey) -> bool {
        true
    }

    /// Hands over the notes that [`Store::recover`] found, by name; once.
    fn take_notes(&mut self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Does what is to be done between commits, without waiting for anybody. Returns when it wants to be called again at the
    /// latest; `None` for a store that needs nothing.
    fn tend(&mut self) -> Option<Duration> {
        None
    }

    /// The number of the snapshot that the store wants: it lost what it had, or has collected too many changes.
    fn wants_snapshot(&self) -> Option<u64> {
        None
    }

    /// Takes a part of the snapshot that it wanted: requests and who has them, as they are after all operations that were
    /// appended so far. Each request that is not removed meanwhile is in one of the parts.
    fn snapshot(&mut self, _part: &Snapshot) -> Result<(), StoreError> {
        Ok(())
    }

    /// How it is.
    fn health(&self) -> Health {
        Health::default()
    }

    /// Notes that this run ends cleanly: assignments stay, and nothing recovered next time is suspect.
    fn close(&mut self) -> Result<(), StoreError>;

    /// For logs: `embedded store /var/lib/...`, `no store`.
    fn describe(&self) -> String;
}

/// Syncs that are under way.
#[derive(Debug)]
pub struct UnderWay<'a> {
    /// There is something to read from it when one may be done.
    pub descriptor: BorrowedFd<'a>,
    /// When to go on even so.
    pub until: Instant,
    /// So many operations are worth a sync of their own before that.
    pub enough: usize,
}

/// A part of all requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Of which snapshot, by [`Store::wants_snapshot`].
    pub number: u64,
    /// Requests, and the mover each is assigned to.
    pub requests: Vec<(ActionItem, Option<String>)>,
    /// Whether nothing follows.
    pub last: bool,
}

/// What an operator should know of a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// What is wrong, in a sentence; `None` when all is well.
    pub trouble: Option<String>,
    /// Bytes that wait on the node's own disk for a server to come back.
    pub spilled_bytes: u64,
    /// Requests that the C version would not see.
    pub not_for_c: u64,
    /// Records set aside when the store was read.
    pub quarantined: u64,
    /// Why what is stored may be lost all the same: settings of the server.
    pub warnings: Vec<String>,
}

/// What a store found at start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Requests handed over.
    pub requests: u64,
    /// Records set aside, with where and why.
    pub quarantined: Vec<String>,
    /// Whether a request without a mover may be held by one all the same: the last run did not end cleanly and the store
    /// does not keep assignments in order.
    pub suspect: bool,
}

/// Why a store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room: the disk is full or a quota is reached.
    #[error("{store}: no room left ({source})")]
    Full {
        /// Which store.
        store: String,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else of the system.
    #[error("{store}: {context}: {source}")]
    Io {
        /// Which store.
        store: String,
        /// What was being done.
        context: String,
        /// What the system said.
        source: io::Error,
    },
    /// The store was written by something newer, or by something else.
    #[error("{store}: {reason}")]
    Incompatible {
        /// Which store.
        store: String,
        /// What does not fit, and what to do.
        reason: String,
    },
    /// An assignment or removal names a request that the store cannot hold.
    #[error("{store}: cannot store {key}: {reason}")]
    Unstorable {
        /// Which store.
        store: String,
        /// Which request.
        key: RequestKey,
        /// Why.
        reason: String,
    },
}
