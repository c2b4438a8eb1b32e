//! What operators are shown: plain data, made on demand from the coordinator's state.

use std::time::Duration;

use lustreapi_sys::Fid;
use smallvec::SmallVec;

use super::action::{Action, RequestKey};
use super::reason::Reason;
use super::time::Wall;

/// Which requests an order or a question is about: everything that is given must fit. Nothing given fits everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Select {
    /// Of one of these files; empty for any.
    pub fids: Vec<Fid>,
    /// With this cookie.
    pub cookie: Option<u64>,
    /// With this hint in the data: a whole one (`tag=n0`), or one up to its `=` (`tag=`) for any value.
    pub hint: Option<String>,
    /// Of files of this user.
    pub user: Option<u32>,
    /// That this mover runs, or that wait for it alone. For failed requests: on which they failed.
    pub mover: Option<String>,
    /// Of this archive.
    pub archive_id: Option<u32>,
    /// Of this action.
    pub action: Option<Action>,
    /// Only those that wait (`false`) or run (`true`).
    pub running: Option<bool>,
}

/// What an answer shows of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestView {
    /// Its identity.
    pub key: RequestKey,
    /// What is to be done.
    pub action: Action,
    /// Archive id.
    pub archive_id: u32,
    /// `hal_flags`.
    pub flags: u64,
    /// What the user passed with it.
    pub data: Box<[u8]>,
    /// When it was admitted.
    pub queued: Wall,
    /// How long ago that was.
    pub age: Duration,
    /// Where it is.
    pub state: RequestState,
    /// The mover that runs it, or that it waits for because no other may have it.
    pub mover: Option<String>,
}

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestState {
    /// In a queue.
    Queued,
    /// Set aside: larger than the buffer of a mover that met it.
    Oversized,
    /// Set aside until another request of its file has ended.
    Held,
    /// Set aside until a limit has room.
    Limited,
    /// Set aside until the MDT says whether it still knows it.
    Doubtful,
    /// Set aside until the MDT says whether it may still be done.
    Asking,
    /// A restore bound to a mover that is gone: it is ended at its MDT and requested again.
    Bound,
    /// Recovered; waits until movers have had time to claim it.
    Settling,
    /// With a mover.
    Running,
}

impl RequestState {
    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Oversized => "oversized",
            Self::Held => "held",
            Self::Limited => "limited",
            Self::Doubtful => "doubtful",
            Self::Asking => "asking",
            Self::Bound => "bound",
            Self::Settling => "settling",
            Self::Running => "running",
        }
    }
}

/// What an explanation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Find {
    /// All requests of a file, by its own FID.
    File(Fid),
    /// One request.
    Request(RequestKey),
}

/// Why a request is where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The request.
    pub request: RequestView,
    /// Its place in its queue, for what is queued.
    pub position: Option<Position>,
    /// The tag of its batch.
    pub tag: Option<Box<[u8]>>,
    /// What it waits for, what matters most first; never empty. What runs says with whom.
    pub reasons: Vec<Reason>,
    /// A cancel for it is on its way: to its mover (`false`), or it was handed over (`true`).
    pub cancel: Option<bool>,
    /// The store has it, so that it survives a crash.
    pub durable: bool,
    /// The MDT sent it again while it ran: if the mover fails, it is run again.
    pub redelivered: bool,
    /// What came of earlier attempts at the same action for this file, the oldest first.
    pub attempts: Vec<Attempt>,
}

/// A place in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Requests of the same queue that are before it.
    pub ahead: u64,
    /// Requests in that queue.
    pub of: u64,
    /// Whether `ahead` was counted; it is estimated in the middle of long queues.
    pub exact: bool,
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The request of that time.
    pub cookie: u64,
    /// Who tried; empty when it was given up before anybody did.
    pub mover: String,
    /// What it said: a positive errno.
    pub errno: i32,
    /// When it was sent there.
    pub sent: Wall,
    /// When it failed.
    pub failed: Wall,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// A mover finished it; the status is the mover's.
    Done,
    /// It was cancelled, by a user at the MDT or by an operator here.
    Cancelled,
    /// It was dropped: the MDT no longer had it, or it was ended for another reason; the status says which.
    Dropped,
}

impl Outcome {
    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Dropped => "dropped",
        }
    }
}

/// A request that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its identity.
    pub key: RequestKey,
    /// What was to be done.
    pub action: Action,
    /// Archive id.
    pub archive_id: u32,
    /// What the user passed with it; its beginning if it was long.
    pub data: SmallVec<[u8; 16]>,
    /// The mover that had it last.
    pub mover: Option<std::sync::Arc<str>>,
    /// When it was admitted.
    pub queued: Wall,
    /// When it was sent to that mover.
    pub sent: Option<Wall>,
    /// When it ended.
    pub ended: Wall,
    /// How it ended.
    pub outcome: Outcome,
    /// 0 or a positive errno.
    pub status: i32,
    /// How many attempts at the same action failed before for this file, as far as is known.
    pub failed_before: u32,
}

/// Which ended requests to show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryQuery {
    /// Of this file.
    pub fid: Option<Fid>,
    /// Last with this mover.
    pub mover: Option<String>,
    /// With this status; 0 for success.
    pub status: Option<i32>,
    /// Only those that did not succeed.
    pub failed: bool,
    /// The most to show; 0 for all.
    pub most: usize,
}
