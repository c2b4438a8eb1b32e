//! The request log (`HSM_ACTIONS` llog), what `hsm/actions` prints.

use std::collections::BTreeMap;
use std::sync::Arc;

use lustreapi_sys::Fid;
use serde::Serialize;

use super::{Action, Extent};

/// Status of a record (`ARS_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordStatus {
    /// Not sent yet, or to be sent again.
    Waiting,
    /// An agent has it.
    Started,
    /// Ended with an error, or found impossible.
    Failed,
    /// Cancelled, timed out or purged.
    Canceled,
    /// Ended well. Also a cancel that was carried out.
    Succeed,
}

impl RecordStatus {
    /// The name that Lustre prints.
    pub const fn name(self) -> &'static str {
        match self {
            RecordStatus::Waiting => "WAITING",
            RecordStatus::Started => "STARTED",
            RecordStatus::Failed => "FAILED",
            RecordStatus::Canceled => "CANCELED",
            RecordStatus::Succeed => "SUCCEED",
        }
    }

    /// Whether nothing will happen to the record but its removal.
    pub const fn is_final(self) -> bool {
        !matches!(self, RecordStatus::Waiting | RecordStatus::Started)
    }
}

/// Place of a record: catalogue entry and index in it, both from 1, printed as `idx=1/7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct LogIndex {
    /// Catalogue entry.
    pub catalogue: u32,
    /// Record in it.
    pub record: u32,
}

/// One request in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it is.
    pub index: LogIndex,
    /// Number of its entry in the ledger.
    pub entry: usize,
    /// What is asked.
    pub action: Action,
    /// The file.
    pub fid: Fid,
    /// The file, or the volatile file of a restore once that is bound and the record was written again.
    pub dfid: Fid,
    /// Its cookie; a cancel has that of what it cancels.
    pub cookie: u64,
    /// The archive, 0 if unknown.
    pub archive_id: u32,
    /// Flags of the request.
    pub flags: u64,
    /// Range.
    pub extent: Extent,
    /// What the user passed along.
    pub data: Arc<[u8]>,
    /// Status.
    pub status: RecordStatus,
    /// Wall-clock seconds of the last change. In memory also of the last progress.
    pub changed: i64,
}

impl Record {
    /// `lrh_len`: 136 bytes and the data rounded up to 8, as a real Lustre prints.
    pub fn lrh_len(&self) -> usize {
        136 + self.data.len().next_multiple_of(8)
    }
}

/// Records of one catalogue entry, after which the next begins (llog bitmap of an 8 KiB chunk).
const RECORDS_PER_ENTRY: u32 = 64767;

/// The log.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    records: BTreeMap<LogIndex, Record>,
    last: LogIndex,
}

impl Log {
    /// Appends a record and gives it its place.
    pub fn append(&mut self, mut record: Record) -> LogIndex {
        if self.last.catalogue == 0 || self.last.record >= RECORDS_PER_ENTRY {
            self.last = LogIndex { catalogue: self.last.catalogue + 1, record: 0 };
        }
        self.last.record += 1;
        record.index = self.last;
        self.records.insert(self.last, record);
        self.last
    }

    /// All records in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.records.values()
    }

    /// All records in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Record> {
        self.records.values_mut()
    }

    /// The first record after `index`.
    pub fn after(&self, index: LogIndex) -> Option<&Record> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.records.range((Excluded(index), Unbounded)).next().map(|(_, record)| record)
    }

    /// A record by its place.
    pub fn get(&self, index: LogIndex) -> Option<&Record> {
        self.records.get(&index)
    }

    /// A record by its place.
    pub fn get_mut(&mut self, index: LogIndex) -> Option<&mut Record> {
        self.records.get_mut(&index)
    }

    /// Removes a record.
    pub fn remove(&mut self, index: LogIndex) -> Option<Record> {
        self.records.remove(&index)
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}
