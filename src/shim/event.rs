//! What happens to the shim, and what it wants done.

use lustreapi_sys::Fid;

use crate::hsm::{ActionItem, RequestKey};

/// Something that happened outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// The answer to [`Effect::Resolve`]: how many addresses there are to try, numbered from 0. Zero when no name could be
    /// resolved; the shim asks again later.
    Resolved {
        /// Number of addresses.
        servers: usize,
    },
    /// A connection asked for by [`Effect::Connect`] stands.
    Connected {
        /// Its number.
        conn: u64,
    },
    /// A connection could not be made, or has ended. Ignored for a connection that was closed by [`Effect::Close`].
    Disconnected {
        /// Its number.
        conn: u64,
        /// Why, for the log.
        reason: &'a str,
    },
    /// Bytes from the daemon, cut anywhere.
    Received {
        /// From which connection.
        conn: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// The copytool called recv and found no list: it wants work.
    WorkWanted,
    /// The copytool began an action.
    Begun {
        /// Which.
        key: RequestKey,
    },
    /// The copytool ended an action, and the MDT was told.
    Ended(End),
    /// An attempt was given up without telling the MDT: a begin was refused, or the end was withheld because the lease had
    /// lapsed. The daemon gets the request back.
    Abandoned {
        /// Which.
        key: RequestKey,
    },
    /// The answer to [`Effect::Probe`].
    Probed {
        /// Which.
        key: RequestKey,
        /// Whether the file is gone.
        gone: bool,
    },
    /// A deadline of [`super::Shim::next_deadline`] has come. Harmless at any other time.
    Tick,
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Which request.
    pub key: RequestKey,
    /// The data FID that the copytool was given, under which the daemon knows the request.
    pub dfid: Fid,
    /// 0 or a positive errno: the copytool's, else that of the real end.
    pub status: i32,
    /// The copytool succeeded, and the status is that of the real end: the MDT does not know.
    pub unheard: bool,
    /// Whether this acknowledges a cancel: the cancelled action may still be running and will end as well.
    pub cancel: bool,
}

/// Something to be done outside, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Find the addresses of the configured servers; [`Event::Resolved`] follows.
    Resolve,
    /// Connect; [`Event::Connected`] or [`Event::Disconnected`] follows.
    Connect {
        /// Number of the new connection, never used twice.
        conn: u64,
        /// Which address.
        server: usize,
    },
    /// Send bytes.
    Send {
        /// To which connection.
        conn: u64,
        /// All of them, in order.
        bytes: Vec<u8>,
    },
    /// Close a connection, connected or not. No event follows.
    Close {
        /// Which.
        conn: u64,
    },
    /// The daemon gave the request to another mover, or it has ended: whatever attempt is under way must stop, and its end
    /// must not reach the MDT.
    Refused {
        /// Which.
        key: RequestKey,
    },
    /// The daemon handed out the request again: new begins are welcome, attempts begun before stay dead.
    Revived {
        /// Which.
        key: RequestKey,
    },
    /// Find out whether the file of a request that the copytool never began still exists; [`Event::Probed`] follows.
    Probe {
        /// Which.
        key: RequestKey,
    },
    /// The copytool silently dropped a request: tell the MDT that it failed with this errno. Any later begin must be refused ([`Effect::Refused`] comes with it).
    EndAtLustre {
        /// The request.
        item: Box<ActionItem>,
        /// A positive errno.
        errno: i32,
    },
    /// Say something.
    Log {
        /// How important it is.
        level: Level,
        /// What.
        text: String,
    },
}

/// Importance of a log line: Lustre's levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Something is lost or will not work.
    Error,
    /// Something is wrong but is dealt with.
    Warn,
    /// Worth knowing in normal times.
    Normal,
    /// Each step.
    Info,
    /// Each message.
    Debug,
}
