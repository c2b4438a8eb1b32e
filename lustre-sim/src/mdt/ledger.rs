//! What really happened to every request: the record that tests judge by.

use lustreapi_sys::Fid;
use serde::{Serialize, Serializer};

use super::{Action, ClientId, Errno, LogIndex, Record, RecordStatus, Time};

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
    /// When the last accepted report or end came, and from whom.
    pub last_progress: Option<(Time, ClientId)>,
    /// The longest time between two accepted reports, or between being sent and the first, in nanoseconds.
    pub longest_silence: u64,
    /// Clients that reported progress or ends, in order of their first report.
    pub reporters: Vec<ClientId>,
    /// Ends that were accepted. More than one only when a retry or a restart made it run again.
    pub accepted_ends: u32,
    /// CANCELs that `hsm_control=purge` sent for it, which have no record of their own.
    pub purge_cancels: u32,
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

/// How a status came about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    pub errno: Option<Errno>,
    pub by: Option<ClientId>,
    pub bytes: u64,
}

impl Ending {
    /// The MDT did it, without an error.
    pub const SILENT: Ending = Ending { errno: None, by: None, bytes: 0 };
}

impl Ledger {
    /// A record was logged; returns the number of its entry.
    pub(super) fn logged(&mut self, mdt: u32, now: Time, record: &Record) -> usize {
        self.entries.push(LedgerEntry {
            mdt,
            cookie: record.cookie,
            fid: record.fid,
            action: record.action,
            archive_id: record.archive_id,
            flags: record.flags,
            data: record.data.to_vec(),
            index: record.index,
            created: now,
            sent: Vec::new(),
            started: 0,
            progress: 0,
            last_progress: None,
            longest_silence: 0,
            reporters: Vec::new(),
            accepted_ends: 0,
            purge_cancels: 0,
            status: record.status,
            end: None,
            purged: None,
        });
        self.entries.len() - 1
    }

    fn with(&mut self, entry: usize, change: impl FnOnce(&mut LedgerEntry)) {
        if let Some(entry) = self.entries.get_mut(entry) {
            change(entry);
        }
    }

    /// A list that carries the record was sent.
    pub(super) fn sent(&mut self, entry: usize, now: Time, client: ClientId) {
        self.with(entry, |entry| entry.sent.push((now, client)));
    }

    /// A purge sent a CANCEL for the record.
    pub(super) fn purge_sent(&mut self, entry: usize) {
        self.with(entry, |entry| entry.purge_cancels += 1);
    }

    /// The record was removed from the log.
    pub(super) fn purged(&mut self, entry: usize, now: Time) {
        self.with(entry, |entry| entry.purged = Some(now));
    }

    /// The record's status was written.
    pub(super) fn status(&mut self, entry: usize, now: Time, status: RecordStatus, ending: Ending) {
        self.with(entry, |entry| {
            entry.status = status;
            if status == RecordStatus::Started {
                entry.started += 1;
            }
            let Ending { errno, by, bytes } = ending;
            entry.end = status.is_final().then_some(End { at: now, status, errno, by, bytes });
        });
    }

    /// A report was accepted.
    pub(super) fn reported(&mut self, entry: usize, now: Time, client: ClientId, ended: bool) {
        self.with(entry, |entry| {
            let before = entry.last_progress.map(|(at, _)| at).max(entry.sent.last().map(|(at, _)| *at));
            if let Some(before) = before {
                entry.longest_silence = entry.longest_silence.max(now.mono.saturating_sub(before.mono));
            }
            entry.last_progress = Some((now, client));
            if ended {
                entry.accepted_ends += 1;
            } else {
                entry.progress += 1;
            }
            if !entry.reporters.contains(&client) {
                entry.reporters.push(client);
            }
        });
    }
}

fn as_text<S: Serializer>(fid: &Fid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(fid)
}
