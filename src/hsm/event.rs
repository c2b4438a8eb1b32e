//! What happens to the coordinator.

use lustreapi_sys::Fid;

use super::action::{ActionItem, RequestKey};
use super::lustre_call::LustreAnswer;
use super::operator::{AskId, Order};

/// One TCP connection. The shell never uses a number twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Something that happened outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A peer connected; `peer` is `host:port`, shown in status until it says who it is.
    Connected {
        /// The new connection.
        conn: ConnId,
        /// `host:port`.
        peer: String,
    },
    /// The name of a peer was found out after it connected.
    PeerNamed {
        /// The connection.
        conn: ConnId,
        /// `host:port`.
        peer: String,
    },
    /// A connection is gone, whoever closed it.
    Disconnected {
        /// The connection.
        conn: ConnId,
    },
    /// A message from a peer.
    Message {
        /// Where it came from.
        conn: ConnId,
        /// What it says.
        message: Message,
    },
    /// The MDT handed over requests, cancels among them.
    Lustre {
        /// In the order of the list; flags and archive id of the list are in each item.
        items: Vec<ActionItem>,
    },
    /// The answer to [`super::Effect::EndAtLustre`].
    LustreEnded {
        /// Which request.
        key: RequestKey,
        /// 0 or a positive errno.
        errno: i32,
    },
    /// What a store held from before, in the order in which it was first admitted; may come in several parts, all of
    /// them before any other event, or before [`Event::RecoveryEnded`] where [`super::Coordinator::read_store_first`] was called.
    Recovered {
        /// The requests, and the mover each was assigned to.
        requests: Vec<(ActionItem, Option<String>)>,
        /// Whether unassigned requests may be held by a mover all the same (the last run did not stop cleanly and its
        /// store does not order assignments), so that they are held back for the settling time.
        suspect: bool,
    },
    /// Notes that a store held, by name; after all [`Event::Recovered`], before anything else.
    RecoveredNotes(Vec<(String, String)>),
    /// The store was read, after [`super::Coordinator::read_store_first`].
    RecoveryEnded,
    /// The answer to [`super::Effect::AskLustre`].
    LustreAnswered(LustreAnswer),
    /// An operator wants something done; [`super::Effect::Operator`] follows.
    Operator {
        /// Chosen by the shell, once for each.
        ask: AskId,
        /// Who: a user or a role, for history and logs.
        who: String,
        /// What.
        order: Order,
    },
    /// The answer to [`super::Effect::LookUp`]: `None` where nothing could be found out. Every key is answered, though not
    /// all at once.
    LookedUp(Vec<(RequestKey, Option<super::Attributes>)>),
    /// The answer to [`super::Effect::Locate`]. Every request is answered, though not all at once.
    Located(Vec<(RequestKey, super::Located)>),
    /// How full the file system is, in percent.
    SpaceUsed(u8),
    /// A step of a comparison with what the MDTs list; [`super::Effect::Operator`] follows the last.
    Reconcile {
        /// Chosen by the shell, once for each listing.
        ask: AskId,
        /// Which step.
        step: super::reconcile::Reconcile,
    },
    /// The smallest `active_request_timeout` of the MDTs, as read from Lustre: it goes before the configuration's.
    RequestTimeout(std::time::Duration),
    /// The store cannot take more, or can again.
    StoreFull(bool),
    /// The configuration was loaded again.
    Reconfigured(Box<super::HsmConfig>),
    /// A deadline of [`super::Coordinator::next_deadline`] has come. Harmless at any other time.
    Tick,
}

/// A request of the mover protocol, already checked for form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// `ehlo`.
    Ehlo(Ehlo),
    /// `ehlo` with an archive id of zero or less, which is refused.
    EhloBadArchiveId,
    /// `recv`: the mover waits for work.
    Recv(Recv),
    /// `done`.
    Done(Done),
    /// `done` of a mover of ours whose copytool succeeded while the MDT did not take its end: the status is the MDT's.
    Unheard(Done),
    /// `done` of a mover of ours that cannot cancel: it goes on with the request.
    GoesOn,
    /// `done` without cookie or FID.
    DoneIncomplete,
    /// `queue`.
    Queue(Queue),
    /// `lock`; `None` for a value that is not 0, 1 or 2.
    Lock(Option<Lock>),
    /// `status`.
    Status {
        /// 6 and more shows every request.
        verbose: i64,
    },
    /// `lease`: a mover of ours shows that it lives and asks to prolong its lease. Not known to C.
    Lease {
        /// Echoed in the answer, so that the mover counts from when it sent this.
        serial: u64,
    },
}

/// Who a peer is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ehlo {
    /// Mover id; `None` for anonymous peers, which lose their work when they disconnect.
    pub id: Option<String>,
    /// Name of the file system, unchecked as in C.
    pub fsname: Option<String>,
    /// Archive ids it serves; empty for all.
    pub archive_ids: Vec<u32>,
    /// `hai_list`: what it is still working on from an earlier connection. `None` when it did not send the member.
    pub hai_list: Option<Vec<ActionItem>>,
    /// What it understands beyond C's protocol.
    pub features: Features,
}

/// Extensions of the protocol that a peer announced in its `ehlo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// It takes `hai_data_b64` for data that is not UTF-8.
    pub binary_data: bool,
    /// It holds a lease and stops its work when that ends; it understands `refused` in the answer to `ehlo`.
    pub lease: bool,
}

/// `recv`: limits are on what the mover runs at the same time, not on one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recv {
    /// `max_archive`; `None` for no limit.
    pub max_archive: Option<u32>,
    /// `max_restore`.
    pub max_restore: Option<u32>,
    /// `max_remove`.
    pub max_remove: Option<u32>,
    /// The mover's buffer: each item costs 144 bytes and its data (C 0.4).
    pub max_bytes: u64,
}

/// `done`: a mover finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Cookie as sent: C movers truncate it to 32 bits, with sign extension.
    pub cookie: u64,
    /// Data FID as sent: `hai_fid` at first delivery.
    pub dfid: Fid,
    /// 0 or a positive errno.
    pub status: i32,
}

/// `queue`: requests that do not come from the KUC pipe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Queue {
    /// Refused when it is another file system's.
    pub fsname: Option<String>,
    /// Good items; `None` when the member is missing.
    pub items: Option<Vec<ActionItem>>,
    /// Items that could not be read; the good ones are queued all the same, the answer is an error.
    pub bad_items: usize,
}

/// `lock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lock {
    /// 0: hand out work.
    #[default]
    Unlocked,
    /// 1: hand out nothing.
    Locked,
    /// 2: hand out nothing, and stop when nothing runs.
    LockedQuit,
}
