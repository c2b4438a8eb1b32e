//! What the coordinator wants done.

use super::action::{ActionItem, RequestKey};
use super::event::ConnId;
use super::lustre_call::LustreCall;
use super::operator::{AskId, OperatorReply};

/// What one call of [`super::Coordinator::handle`] asks for.
///
/// The shell gives `store` to the store as one commit and carries out `visible` once that commit is durable (at once if
/// `store` is empty), in order, and never before what an earlier call sent to the same connection.
#[derive(Debug, Default)]
pub struct Effects {
    /// Changes to what must survive a crash, in order.
    pub store: Vec<StoreOp>,
    /// What others can see.
    pub visible: Vec<Effect>,
}

impl Effects {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.store.is_empty() && self.visible.is_empty()
    }

    /// Forgets everything but keeps the memory.
    pub fn clear(&mut self) {
        self.store.clear();
        self.visible.clear();
    }
}

/// One change of the durable state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreOp {
    /// A request was admitted. Its data is the original, not what `archive_on_hosts_ch` made of it.
    Put(ActionItem),
    /// A mover was given the request.
    Assign {
        /// Which request.
        key: RequestKey,
        /// The mover's id.
        mover: String,
    },
    /// The request is nobody's again.
    Unassign {
        /// Which request.
        key: RequestKey,
    },
    /// The request has ended.
    Remove {
        /// Which request.
        key: RequestKey,
    },
    /// A small fact that is no request and must survive a restart: a mover that is drained, a dead letter.
    Note {
        /// What it is about: `kind/name`, as `drain/mover0`.
        name: String,
        /// What is to be known; `None` forgets it.
        value: Option<String>,
    },
}

/// Something visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answer a peer.
    Reply {
        /// Whom.
        conn: ConnId,
        /// What.
        reply: Reply,
    },
    /// Answer a peer's `recv`.
    Work {
        /// Whom.
        conn: ConnId,
        /// What to do.
        list: WorkList,
    },
    /// Answer `status`: the shell pulls the answer from [`super::Coordinator::status_chunk`] at the reader's pace.
    Status {
        /// Whom.
        conn: ConnId,
        /// The running answer.
        cursor: super::StatusCursor,
    },
    /// Close a connection; [`super::Event::Disconnected`] follows.
    Close {
        /// Which.
        conn: ConnId,
        /// For the log.
        reason: &'static str,
    },
    /// A new connection claims the id of a live one. The shell finds out within 3 s whether the first peer still
    /// answers, and closes it if not; the core answers the second one when it knows.
    Probe {
        /// The connection to probe.
        conn: ConnId,
    },
    /// Tell the MDT that a request has ended without a mover: `HSM_COPY_END` with this error and no retry.
    /// [`super::Event::LustreEnded`] follows.
    EndAtLustre {
        /// The request as the MDT knows it.
        item: Box<ActionItem>,
        /// Positive errno.
        errno: i32,
    },
    /// Ask the MDT something. [`super::Event::LustreAnswered`] follows.
    AskLustre(LustreCall),
    /// Find out whose files these are. [`super::Event::LookedUp`] follows within a bounded time, whatever happens.
    LookUp {
        /// Requests for the files.
        keys: Vec<RequestKey>,
        /// What is wanted beside user and group.
        wanted: super::Wanted,
    },
    /// Ask the locator where these lie. [`super::Event::Located`] follows within a bounded time, whatever happens.
    Locate(Vec<super::Sought>),
    /// Answer an operator's order.
    Operator {
        /// Whose.
        ask: AskId,
        /// What came of it.
        reply: OperatorReply,
    },
    /// Append a line to a reporting file.
    Report {
        /// Value of the reporting hint: the name of the file, 1 to 64 characters of `[A-Za-z0-9_-]`.
        name: String,
        /// The line, without newline.
        line: String,
    },
    /// Remove a reporting file.
    RemoveReport {
        /// Name of the file.
        name: String,
    },
    /// Nothing runs any more after `lock` 2: stop.
    Terminate,
}

/// Work for one mover: one archive id, one set of flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkList {
    /// Archive id of all items.
    pub archive_id: u32,
    /// Flags of all items.
    pub flags: u64,
    /// In the order in which the mover shall begin them; the data is what the mover is to see.
    pub items: Vec<ActionItem>,
    /// Whether the peer takes `hai_data_b64`.
    pub binary_data: bool,
}

/// Answers of the mover protocol. The codec gives them C's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Success of `ehlo`.
    Ehlo(EhloReply),
    /// Success of `done`, also for requests that are unknown or not the sender's.
    Done,
    /// Answer to `queue`; `status` is 0, or a negative errno as in C.
    Queue {
        /// How many were queued.
        enqueued: u64,
        /// How many were known already.
        skipped: u64,
        /// 0 or an error.
        status: i32,
        /// Text of the error, empty for none.
        error: &'static str,
    },
    /// Success of `lock`.
    Lock,
    /// Answer to `lease`.
    Lease {
        /// Of the request.
        serial: u64,
        /// How long the lease holds from when the request was sent, in milliseconds.
        lease_ms: u64,
    },
    /// Any failure.
    Error {
        /// `ehlo`, `recv`, `done`, `lock`.
        command: &'static str,
        /// As C gives it: 22 or 17, negative for a bad lock value.
        status: i32,
        /// C's text.
        error: &'static str,
    },
}

/// What a mover of ours learns in the answer to its `ehlo`. Empty towards C.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EhloReply {
    /// The lease granted, in milliseconds from when the `ehlo` was sent; 0 for a peer that knows no leases.
    pub lease_ms: u64,
    /// Requests of its `hai_list` that are another mover's by now, or have ended: it must stop them without telling the
    /// MDT.
    pub refused: Vec<RequestKey>,
}
