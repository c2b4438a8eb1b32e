//! The data of requests, interned: what follows from it is worked out once for all requests that carry it.

use smallvec::SmallVec;

use super::index::{Index, NIL, near};
use super::queues::Place;
use super::reporting::NO_REPORT;

/// Entries in one piece of memory.
const CHUNK: usize = 4096;

/// Data that at least one request carries.
#[derive(Debug)]
pub(super) struct Data {
    /// Little as a rule, and then without memory of its own.
    pub(super) bytes: SmallVec<[u8; 16]>,
    /// Only the beginning of what the user gave is known.
    pub(super) truncated: bool,
    refs: u32,
    /// The configuration for which the following was worked out; 0 for none.
    pub(super) planned: u32,
    /// Where archives with this data go.
    pub(super) place: Place,
    /// What movers see, when it is not `bytes`: interned.
    pub(super) sent: u32,
    /// What movers see without NULs at the end, the tag of a batch, when that is not `bytes`: interned.
    pub(super) label: u32,
    /// The reporting file.
    pub(super) report: u64,
}

/// All data.
#[derive(Debug)]
pub(super) struct DataTable {
    entries: Entries,
    index: Index,
    free: Vec<u32>,
}

/// In chunks, so that none has to be moved when there are more.
#[derive(Debug, Default)]
struct Entries {
    chunks: Vec<Vec<Data>>,
    len: usize,
}

impl Entries {
    fn at(&self, id: u32) -> &Data {
        &self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }

    fn at_mut(&mut self, id: u32) -> &mut Data {
        &mut self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }

    fn push(&mut self, data: Data) {
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(data);
            self.len += 1;
        }
    }
}

/// Data that ends in a number comes in sequence as well.
fn hash_data(bytes: &[u8], truncated: bool) -> u64 {
    match bytes.split_last() {
        Some((last, run)) => near((run, truncated), *last),
        None => near(truncated, 0),
    }
}

impl DataTable {
    pub(super) fn new() -> Self {
        Self { entries: Entries::default(), index: Index::new(), free: Vec::new() }
    }

    pub(super) fn at(&self, id: u32) -> &Data {
        self.entries.at(id)
    }

    pub(super) fn at_mut(&mut self, id: u32) -> &mut Data {
        self.entries.at_mut(id)
    }

    /// Takes a reference to the entry for these bytes.
    pub(super) fn intern(&mut self, bytes: &[u8], truncated: bool) -> u32 {
        let hash = hash_data(bytes, truncated);
        let entries = &self.entries;
        let found = self.index.find(hash, |at| {
            let data = entries.at(at);
            data.truncated == truncated && *data.bytes == *bytes
        });
        if let Some(id) = found {
            self.entries.at_mut(id).refs += 1;
            return id;
        }
        let data = Data {
            bytes: SmallVec::from_slice(bytes),
            truncated,
            refs: 1,
            planned: 0,
            place: Place::Any,
            sent: NIL,
            label: NIL,
            report: NO_REPORT,
        };
        let id = match self.free.pop() {
            Some(id) => {
                *self.entries.at_mut(id) = data;
                id
            }
            None => {
                let id = u32::try_from(self.entries.len).unwrap_or(NIL);
                assert!(id < NIL, "more than 4 billion different data");
                self.entries.push(data);
                id
            }
        };
        self.index.insert(hash, id);
        id
    }

    /// Takes another reference.
    pub(super) fn hold(&mut self, id: u32) {
        self.at_mut(id).refs += 1;
    }

    /// Gives a reference back.
    pub(super) fn release(&mut self, id: u32) {
        let data = self.at_mut(id);
        data.refs -= 1;
        if data.refs > 0 {
            return;
        }
        let (sent, label) = (data.sent, data.label);
        let hash = hash_data(&data.bytes, data.truncated);
        self.index.remove(hash, id);
        self.at_mut(id).bytes = SmallVec::new();
        self.free.push(id);
        // Not deep: what an entry refers to refers to its own label at most.
        for other in [sent, label] {
            if other != NIL {
                self.release(other);
            }
        }
    }

    /// What movers see of this data.
    pub(super) fn sent(&self, id: u32) -> &[u8] {
        let data = self.at(id);
        if data.sent == NIL { &data.bytes } else { &self.at(data.sent).bytes }
    }

    /// The entry for what movers see of this data, without NULs at the end.
    pub(super) fn label(&self, id: u32) -> u32 {
        let data = self.at(id);
        if data.label == NIL { id } else { data.label }
    }

    /// How many entries are in use.
    pub(super) fn len(&self) -> usize {
        self.entries.len - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_data_is_kept_once_and_forgotten_with_its_last_user() {
        let mut table = DataTable::new();
        let a = table.intern(b"tag=a", false);
        assert_eq!(table.intern(b"tag=a", false), a);
        assert_ne!(table.intern(b"tag=a", true), a);
        let label = table.intern(b"tag", false);
        table.at_mut(a).label = label;
        table.release(a);
        assert_eq!(table.len(), 3);
        table.release(a);
        assert_eq!(table.len(), 1);
        let b = table.intern(b"tag=b", false);
        assert_eq!(&*table.at(b).bytes, b"tag=b");
    }
}
