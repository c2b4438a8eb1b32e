//! Requests, why they wait, and how they ended.

use serde::{Deserialize, Serialize};

use super::text::{Cookie, Data, FidText};
use crate::hsm::reason::Reason as CoreReason;
use crate::hsm::time::Wall;
use crate::hsm::views;

/// A request.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// The file.
    pub fid: FidText,
    /// The MDT's cookie.
    pub cookie: Cookie,
    /// `ARCHIVE`, `RESTORE`, `REMOVE`.
    pub action: String,
    /// Archive id.
    pub archive_id: u32,
    /// `hal_flags`.
    pub flags: u64,
    /// What the user passed with it.
    pub data: Data,
    /// When it came, in nanoseconds since the epoch.
    pub queued: i64,
    /// How long ago that was, in milliseconds.
    pub age_ms: u64,
    /// Where it is: `queued`, `oversized`, `held`, `limited`, `settling`, `running`.
    pub state: String,
    /// The mover that runs it, or that it waits for because no other may have it.
    pub mover: Option<String>,
}

impl Request {
    /// As of now: the coordinator itself knows the time of the last event only.
    pub fn new(of: &views::RequestView, now: Wall) -> Self {
        Self {
            fid: FidText(of.key.fid),
            cookie: Cookie(of.key.cookie),
            action: of.action.name().to_owned(),
            archive_id: of.archive_id,
            flags: of.flags,
            data: Data::from(&*of.data),
            queued: of.queued.0,
            age_ms: now.0.saturating_sub(of.queued.0).max(0).unsigned_abs() / 1_000_000,
            state: of.state.name().to_owned(),
            mover: of.mover.clone(),
        }
    }
}

/// Something that keeps a request where it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reason {
    /// A short name that stays the same: `no_mover`, `file_busy` ...
    pub kind: String,
    /// In words.
    pub text: String,
    /// The mover that it is about.
    pub mover: Option<String>,
    /// When it ends by itself, in nanoseconds since the epoch, where that is known.
    pub until: Option<i64>,
}

impl Reason {
    fn new(of: &CoreReason, now: Wall) -> Self {
        Self {
            kind: of.name().to_owned(),
            text: of.text(now),
            mover: of.mover().map(str::to_owned),
            until: of.until().map(|until| until.0),
        }
    }
}

/// A place in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// Requests of the same queue that are before it.
    pub ahead: u64,
    /// Requests in that queue.
    pub of: u64,
    /// Whether `ahead` was counted, not estimated.
    pub exact: bool,
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempt {
    /// The request of that time.
    pub cookie: Cookie,
    /// Who tried.
    pub mover: String,
    /// What it said: a positive errno.
    pub errno: i32,
    /// When it was sent there.
    pub sent: i64,
    /// When it failed.
    pub failed: i64,
}

impl From<&views::Attempt> for Attempt {
    fn from(of: &views::Attempt) -> Self {
        Self {
            cookie: Cookie(of.cookie),
            mover: of.mover.clone(),
            errno: of.errno,
            sent: of.sent.0,
            failed: of.failed.0,
        }
    }
}

/// Why a request is where it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    /// The request.
    pub request: Request,
    /// Its place in its queue, for what is queued.
    pub position: Option<Position>,
    /// The tag of its batch.
    pub tag: Option<Data>,
    /// What it waits for, what matters most first.
    pub reasons: Vec<Reason>,
    /// `none`, `waiting` (for its mover to ask) or `sent`.
    pub cancel: String,
    /// The store has it, so that it survives a crash.
    pub durable: bool,
    /// The MDT sent it again while it ran: if the mover fails, it is run again.
    pub redelivered: bool,
    /// Earlier attempts at the same action for this file, the oldest first.
    pub attempts: Vec<Attempt>,
}

impl Explanation {
    /// As of now.
    pub fn new(of: &views::Explanation, now: Wall) -> Self {
        Self {
            request: Request::new(&of.request, now),
            position: of.position.map(|at| Position { ahead: at.ahead, of: at.of, exact: at.exact }),
            tag: of.tag.as_deref().map(Data::from),
            reasons: of.reasons.iter().map(|reason| Reason::new(reason, now)).collect(),
            cancel: match of.cancel {
                None => "none",
                Some(false) => "waiting",
                Some(true) => "sent",
            }
            .to_owned(),
            durable: of.durable,
            redelivered: of.redelivered,
            attempts: of.attempts.iter().map(Attempt::from).collect(),
        }
    }
}

/// A request that has ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ended {
    /// The file.
    pub fid: FidText,
    /// The MDT's cookie.
    pub cookie: Cookie,
    /// `ARCHIVE`, `RESTORE`, `REMOVE`.
    pub action: String,
    /// Archive id.
    pub archive_id: u32,
    /// What the user passed with it; its beginning if it was long.
    pub data: Data,
    /// The mover that had it last.
    pub mover: Option<String>,
    /// When it came, in nanoseconds since the epoch.
    pub queued: i64,
    /// When it was sent to that mover.
    pub sent: Option<i64>,
    /// When it ended.
    pub ended: i64,
    /// `done`, `cancelled` or `dropped`.
    pub outcome: String,
    /// 0 or a positive errno.
    pub status: i32,
    /// How many attempts at the same action failed before for this file.
    pub failed_before: u32,
}

impl From<&views::Ended> for Ended {
    fn from(of: &views::Ended) -> Self {
        Self {
            fid: FidText(of.key.fid),
            cookie: Cookie(of.key.cookie),
            action: of.action.name().to_owned(),
            archive_id: of.archive_id,
            data: Data::from(&*of.data),
            mover: of.mover.as_deref().map(str::to_owned),
            queued: of.queued.0,
            sent: of.sent.map(|sent| sent.0),
            ended: of.ended.0,
            outcome: of.outcome.name().to_owned(),
            status: of.status,
            failed_before: of.failed_before,
        }
    }
}

/// What a file's requests came to: those that are there, and those that ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FileReport {
    /// The file.
    pub fid: FidText,
    /// The daemon's clock, in nanoseconds since the epoch.
    pub now: i64,
    /// Its requests.
    pub requests: Vec<Explanation>,
    /// Its requests that ended, as far as they are remembered, the last first.
    pub history: Vec<Ended>,
}
