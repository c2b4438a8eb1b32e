//! `status`.

use serde::{Deserialize, Serialize};

use super::alerts::Alert;
use super::flow::{CancelReport, Mover, Stranded, Top};
use crate::hsm;

/// A number for each kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Restores.
    pub restore: u64,
    /// Removes.
    pub remove: u64,
    /// Archives.
    pub archive: u64,
}

impl From<[u64; 3]> for Counts {
    fn from([restore, remove, archive]: [u64; 3]) -> Self {
        Self { restore, remove, archive }
    }
}

impl Counts {
    /// All kinds together.
    pub fn sum(self) -> u64 {
        self.restore + self.remove + self.archive
    }
}

/// Whether work is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lock {
    /// It is.
    #[default]
    Unlocked,
    /// It is not.
    Locked,
    /// It is not, and the daemon ends when nothing runs.
    Quit,
}

impl From<hsm::event::Lock> for Lock {
    fn from(lock: hsm::event::Lock) -> Self {
        match lock {
            hsm::event::Lock::Unlocked => Self::Unlocked,
            hsm::event::Lock::Locked => Self::Locked,
            hsm::event::Lock::LockedQuit => Self::Quit,
        }
    }
}

impl From<Lock> for hsm::event::Lock {
    fn from(lock: Lock) -> Self {
        match lock {
            Lock::Unlocked => Self::Unlocked,
            Lock::Locked => Self::Locked,
            Lock::Quit => Self::LockedQuit,
        }
    }
}

/// What the daemon counted since it started, and what is there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Requests taken.
    pub admitted: u64,
    /// Requests that were known already.
    pub duplicates: u64,
    /// Requests forgotten, for whatever reason.
    pub ended: u64,
    /// Cancels acknowledged.
    pub done_cancel: u64,
    /// Cancels of requests that nobody knew.
    pub unknown_cancels: u64,
    /// `done` for what the sender does not run.
    pub foreign_dones: u64,
    /// Deliveries of what a mover was running.
    pub redeliveries: u64,
    /// Requests that went back to the queue from a mover.
    pub requeued: u64,
    /// Times that a request waited for another of the same file.
    pub held: u64,
    /// Times that a request was too large for a mover's buffer.
    pub oversized: u64,
    /// Times that a request was set aside because a limit was reached.
    pub limited: u64,
    /// Times that a mover was put into quarantine.
    pub quarantines: u64,
    /// Failed requests for which another attempt was planned.
    pub retries_planned: u64,
    /// Failed requests that the MDT took once more.
    pub retried: u64,
    /// Failed requests that were given up because there were too many.
    pub letters_dropped: u64,
    /// Removes refused because they would have deleted the only copy.
    pub refused_removes: u64,
    /// REMOVEs ended with success because a mover had removed the copy before.
    #[serde(default)]
    pub removes_told: u64,
    /// Archives not repeated because the file was archived meanwhile.
    pub needless_archives: u64,
    /// Restores bound to a mover that was gone, ended and requested again.
    pub unbound: u64,
    /// Deliveries of what had ended, dropped.
    pub late_deliveries: u64,
    /// Keepalives sent to MDTs.
    pub keepalives: u64,
    /// Requests that users had cancelled, as keepalives found out.
    pub found_cancelled: u64,
    /// Requests that an MDT had forgotten.
    pub forgotten_at_mdt: u64,
    /// Of these, those that the MDT took again.
    pub requested_again: u64,
    /// Of these, those that were given up.
    pub given_up: u64,
    /// Requests that an MDT listed and that were not known here.
    pub adopted: u64,
    /// Requests that were ended because no mover could take them.
    pub stranded_ended: u64,
    /// Questions that an MDT could not answer.
    pub unanswered: u64,
    /// Now: requests that are not handed out because the MDT may have forgotten them.
    pub doubtful: u64,
    /// Now: requests that nobody who is connected can take, when this was last looked at.
    pub stranded: u64,
    /// Now: failed requests that are kept for an operator or for another attempt.
    pub letters: u64,
    /// Now: requests that the store does not have.
    pub unpersisted: u64,
    /// Now: cancels that wait for their mover.
    pub pending_cancel: u64,
    /// Now: ends that the MDT has not taken yet.
    pub ending: u64,
    /// Now: connections.
    pub connected: u64,
    /// Now: requests that wait for another of the same file.
    pub waiting_for_file: u64,
    /// Now: different data in use.
    pub different_data: u64,
    /// Now: queues in use.
    pub classes: u64,
    /// Now: shares that are remembered.
    pub shares: u64,
    /// Now: tapes that are known.
    pub tapes: u64,
    /// Now: requests about which an MDT is asked before they are sent.
    pub asking: u64,
}

impl From<hsm::Counters> for Counters {
    fn from(of: hsm::Counters) -> Self {
        Self {
            admitted: of.admitted,
            duplicates: of.duplicates,
            ended: of.ended,
            done_cancel: of.done_cancel,
            unknown_cancels: of.unknown_cancels,
            foreign_dones: of.foreign_dones,
            redeliveries: of.redeliveries,
            requeued: of.requeued,
            held: of.held,
            oversized: of.oversized,
            limited: of.limited,
            quarantines: of.quarantines,
            retries_planned: of.retries_planned,
            retried: of.retried,
            letters_dropped: of.letters_dropped,
            letters: of.letters,
            refused_removes: of.refused_removes,
            removes_told: of.removes_told,
            needless_archives: of.needless_archives,
            unbound: of.unbound,
            late_deliveries: of.late_deliveries,
            keepalives: of.keepalives,
            found_cancelled: of.found_cancelled,
            forgotten_at_mdt: of.forgotten_at_mdt,
            requested_again: of.requested_again,
            given_up: of.given_up,
            adopted: of.adopted,
            stranded_ended: of.stranded_ended,
            unanswered: of.unanswered,
            doubtful: of.doubtful,
            stranded: of.stranded,
            unpersisted: of.unpersisted,
            pending_cancel: of.pending_cancel,
            ending: of.ending,
            connected: of.connected,
            waiting_for_file: of.waiting_for_file,
            different_data: of.different_data,
            classes: of.classes,
            shares: of.shares,
            tapes: of.tapes,
            asking: of.asking,
        }
    }
}

/// Everything at one moment, requests themselves left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Name of the file system.
    pub fsname: String,
    /// The daemon's clock, in nanoseconds since the epoch.
    pub now: i64,
    /// When the daemon started.
    pub started: i64,
    /// What somebody has to know, the worst first.
    pub alerts: Vec<Alert>,
    /// Whether work is handed out.
    pub lock: Lock,
    /// Where requests are kept, and how that goes.
    pub store: Store,
    /// Requests that wait, for whatever reason.
    pub queued: Counts,
    /// Requests that movers have.
    pub running: Counts,
    /// Requests that movers ended since the daemon started.
    pub done: Counts,
    /// What was counted.
    pub counters: Counters,
    /// Requests that failed and may be asked for again.
    pub dead_letters: u64,
    /// What is remembered of requests that ended.
    pub history: History,
    /// Requests that no connected mover can take, by what they have in common.
    pub stranded: Vec<Stranded>,
    /// Orders of operators that are being carried out.
    pub orders: Vec<CancelReport>,
    /// All movers and peers, connected ones first.
    pub movers: Vec<Mover>,
    /// What is going on.
    pub top: Top,
}

/// What is remembered of requests that ended: in memory, so nothing of before the daemon started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// How many.
    pub kept: u64,
    /// How many at most; older ones are forgotten.
    pub most: u64,
}

/// Where requests are kept, and how that goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Store {
    /// What it is; empty for none: then a restart forgets all requests.
    pub kind: String,
    /// It takes no more.
    pub full: bool,
    /// So much waits for it that peers are not read.
    pub behind: bool,
    /// Changes that are not durable yet.
    pub unstored: u64,
    /// What is wrong with it, in a sentence.
    pub trouble: Option<String>,
    /// Bytes that wait on this node's disk until redis has everything again.
    pub spilled_bytes: u64,
    /// Requests in it that the C version would not see.
    pub not_for_c: u64,
    /// Records that could not be read at start and were set aside.
    pub set_aside: u64,
    /// Settings of redis that may lose what it has confirmed.
    pub warnings: Vec<String>,
}
