//! The embedded store: a [`Journal`] in a directory of its own. For one node; a site whose coordinator itself fails over
//! uses redis.

use super::journal::{Journal, JournalOptions};
use super::segments::Segments;
use super::{Recovery, Store, StoreError, notes};
use crate::hsm::effect::StoreOp;
use crate::hsm::{ActionItem, RequestKey};

/// Bytes of a segment: about 50,000 requests. At least three are kept: one in use and two empty ones.
pub const SEGMENT_BYTES: u32 = 8 << 20;

/// The store, on a real disk or on a simulated one.
#[derive(Debug)]
pub struct EmbeddedStore<S> {
    journal: Journal<S>,
    /// Read at recovery, until they are taken.
    notes: Vec<(String, String)>,
}

impl<S: Segments> EmbeddedStore<S> {
    /// A store on any disk. The seed must differ from run to run, except in simulations.
    pub fn on(disk: S, options: JournalOptions) -> Self {
        Self { journal: Journal::new(disk, options), notes: Vec::new() }
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
    /// Whether there is a store in a directory.
    pub fn is_at(path: &std::path::Path) -> bool {
        super::disk::DirSegments::is_at(path)
    }

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
        let notes = &mut self.notes;
        let mut recovery = self.journal.recover(&mut |item, mover| match notes::from_item(item) {
            Ok((name, value)) => notes.push((name, value)),
            Err(item) => found(item, mover),
        })?;
        recovery.requests -= self.notes.len() as u64;
        Ok(recovery)
    }

    fn append(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        if !ops.iter().any(|op| matches!(op, StoreOp::Note { .. })) {
            return self.journal.append(ops);
        }
        let ops: Vec<_> = ops
            .iter()
            .map(|op| match op {
                StoreOp::Note { name, value } => notes::to_op(name, value.as_deref()),
                other => other.clone(),
            })
            .collect();
        self.journal.append(&ops)
    }

    fn take_notes(&mut self) -> Vec<(String, String)> {
        let mut found = std::mem::take(&mut self.notes);
        found.sort();
        found
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
