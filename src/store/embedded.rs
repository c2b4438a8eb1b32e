//! The embedded store: a [`Journal`] in a directory of its own. For one node; a site whose coordinator itself fails over
//! uses redis.

use super::journal::{Journal, JournalOptions};
use super::segments::Segments;
use super::{Recovery, Store, StoreError};
use crate::hsm::effect::StoreOp;
use crate::hsm::{ActionItem, RequestKey};

/// Bytes of a segment: about 50,000 requests. At least three are kept: one in use and two empty ones.
pub const SEGMENT_BYTES: u32 = 8 << 20;

/// The store, on a real disk or on a simulated one.
#[derive(Debug)]
pub struct EmbeddedStore<S> {
    journal: Journal<S>,
}

impl<S: Segments> EmbeddedStore<S> {
    /// A store on any disk. The seed must differ from run to run, except in simulations.
    pub fn on(disk: S, options: JournalOptions) -> Self {
        Self { journal: Journal::new(disk, options) }
    }

    /// The journal, to inject faults.
    pub fn journal_mut(&mut self) -> &mut Journal<S> {
        &mut self.journal
    }

    /// Takes the disk out, as a crash would leave it.
    pub fn into_disk(self) -> S {
        self.journal.into_disk()
    }
}

#[cfg(feature = "daemon")]
impl EmbeddedStore<super::disk::DirSegments> {
    /// Opens the store in a directory, which is made if it is missing (0700, files 0600) and locked against other daemons.
    pub fn open(path: &std::path::Path) -> Result<Self, StoreError> {
        use std::hash::{BuildHasher, Hasher};

        let disk = super::disk::DirSegments::open(path).map_err(|source| {
            let store = format!("embedded store {}", path.display());
            if super::segments::is_full(&source) {
                StoreError::Full { store, source }
            } else {
                StoreError::Io { store, context: "cannot be opened".to_owned(), source }
            }
        })?;
        // Each `RandomState` of the standard library has random keys.
        let seed = std::hash::RandomState::new().build_hasher().finish();
        Ok(Self::on(disk, JournalOptions { segment_bytes: SEGMENT_BYTES, seed }))
    }
}

impl<S: Segments + Send> Store for EmbeddedStore<S> {
    fn recover(&mut self, found: &mut dyn FnMut(ActionItem, Option<String>)) -> Result<Recovery, StoreError> {
        // Assignments are durable before a mover sees them, so what has none is nobody's, whatever way the last run
        // ended: nothing is suspect.
        self.journal.recover(found)
    }

    fn append(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        self.journal.append(ops)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.journal.sync()
    }

    fn has_room(&mut self) -> bool {
        self.journal.has_room()
    }

    fn may_hold(&self, key: &RequestKey) -> bool {
        self.journal.holds(key)
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.journal.close()
    }

    fn describe(&self) -> String {
        self.journal.describe()
    }
}
