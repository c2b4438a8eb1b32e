//! What really happened to every request: the record that tests judge by.

use lustreapi_sys::Fid;
use serde::{Serialize, Serializer};

use super::{Action, ClientId, Errno, LogIndex, RecordStatus, Time};

/// Everything that one MDT was ever asked and told. Survives its restarts, and the removal of records from its log.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Ledger {
    /// Every record ever logged, in order. Never removed.
    pub entries: Vec<LedgerEntry>,
    /// Ends that the MDT refused.
    pub strays: Vec<Stray>,
}

/// One request: a record of the log.
#[derive(Debug, Clone, Serialize)]
pub struct LedgerEntry {
    /// Index of the MDT.
    pub mdt: u32,
    /// Its cookie; a cancel has its victim's.
    pub cookie: u64,
    /// The file.
    #[serde(serialize_with = "as_text")]
    pub fid: Fid,
    /// What was asked.
    pub action: Action,
    /// The archive, 0 if unknown.
    pub archive_id: u32,
    /// Flags of the request.
    pub flags: u64,
    /// What the user passed along.
    pub data: Vec<u8>,
    /// Where the record was in the log.
    pub index: LogIndex,
    /// When it was asked.
    pub created: Time,
    /// Every list that carried it: to whom and when. More than one with resends, retries and restarts.
    pub sent: Vec<(Time, ClientId)>,
    /// Times at which its record was set to STARTED.
    pub started: u32,
    /// Accepted progress reports that did not end it, keepalives included.
    pub progress: u64,
    /// When the last of them came, and from whom.
    pub last_progress: Option<(Time, ClientId)>,
    /// The longest time between two accepted reports, or between being sent and the first, in nanoseconds.
    pub longest_silence: u64,
    /// Clients that reported progress or ends, in order of their first report.
    pub reporters: Vec<ClientId>,
    /// Ends that were accepted. More than one only when a retry or a restart made it run again.
    pub accepted_ends: u32,
    /// Its current status.
    pub status: RecordStatus,
    /// How it ended, if it has.
    pub end: Option<End>,
    /// When the record was removed from the log.
    pub purged: Option<Time>,
}

/// How a request ended.
#[derive(Debug, Clone, Serialize)]
pub struct End {
    /// When.
    pub at: Time,
    /// The record's final status.
    pub status: RecordStatus,
    /// The error that the copytool or the MDT gave, none for success.
    pub errno: Option<Errno>,
    /// Who ended it; nobody when the MDT did (timeout, purge, cancel, impossible).
    pub by: Option<ClientId>,
    /// Bytes reported as copied.
    pub bytes: u64,
}

/// An end that the MDT refused.
#[derive(Debug, Clone, Serialize)]
pub struct Stray {
    /// When.
    pub at: Time,
    /// From whom.
    pub by: ClientId,
    /// For which cookie.
    pub cookie: u64,
    /// With which FID.
    #[serde(serialize_with = "as_text")]
    pub fid: Fid,
    /// The end's own error, 0 for success.
    pub errval: u16,
    /// Why it was refused.
    pub refused: Errno,
}

fn as_text<S: Serializer>(fid: &Fid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(fid)
}
