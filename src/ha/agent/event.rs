//! What happens to an agent, and what it wants done.

use serde::{Deserialize, Serialize};

use crate::ha::ids::{AgentRun, BootId, Epoch, HostId, LinkId, ManagerId, ManagerRun, OrderId};
use crate::ha::ocf::Outcome;
use crate::ha::protocol::{FromAgent, Isolation, Operation, ToAgent};

/// What an agent knows of itself when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The host.
    pub host: HostId,
    /// The boot.
    pub boot: BootId,
    /// The run, drawn at random by the shell.
    pub run: AgentRun,
    /// Its program's version.
    pub program: String,
    /// The machine's UUID.
    pub system_uuid: Option<String>,
    /// How operations are kept apart.
    pub isolation: Isolation,
    /// The hardware watchdog's timeout, once armed.
    pub watchdog_ms: Option<u64>,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What an earlier run left: its records in order, and which operations still have processes.
    Recovered {
        /// Records that were stored.
        records: Vec<IntentRecord>,
        /// Operations with live processes (cgroups that are not empty).
        alive: Vec<OrderId>,
    },
    /// A manager connected (and was authenticated).
    Connected {
        /// The connection, numbered by the shell.
        link: LinkId,
    },
    /// A message arrived.
    Received {
        /// From where.
        link: LinkId,
        /// What.
        message: ToAgent,
    },
    /// A connection is gone.
    Disconnected {
        /// Which.
        link: LinkId,
    },
    /// The process of an operation ended.
    Exited {
        /// Which.
        order: OrderId,
        /// How.
        outcome: Outcome,
        /// See [`crate::ha::protocol::Finished::reason`].
        reason: String,
        /// How long it took, in milliseconds.
        took_ms: u64,
        /// Whether other processes of it are left.
        left_behind: bool,
        /// See [`crate::ha::protocol::Finished::advised_interval_ms`].
        advised_interval_ms: Option<u64>,
    },
    /// The last process of an operation is gone.
    Emptied {
        /// Which.
        order: OrderId,
    },
    /// Records up to and including this many (counted over the run) are stored; or storing failed.
    Stored {
        /// How many of [`Effect::Store`] are done.
        count: u64,
        /// Why the last one failed, if it did. It is as if it had not been asked for.
        error: Option<String>,
    },
    /// Time has passed.
    Tick,
}

/// What shall be done. Order matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Append this record and sync; answer with [`Event::Stored`]. The machine waits for that where it matters.
    Store(IntentRecord),
    /// Send a message.
    Send {
        /// Where to.
        link: LinkId,
        /// What.
        message: FromAgent,
    },
    /// Close a connection after what was sent before.
    Close {
        /// Which.
        link: LinkId,
    },
    /// Run an operation in a cgroup named after the order; kill it when its timeout is over. Answer with
    /// [`Event::Exited`].
    Run {
        /// Which.
        order: OrderId,
        /// What.
        operation: Operation,
    },
    /// Kill every process of an operation (SIGKILL), and answer with [`Event::Emptied`] when none is left (at once if there
    /// is none).
    Kill {
        /// Which.
        order: OrderId,
    },
    /// Answer with [`Event::Emptied`] when no process of an operation is left, or, if others are still there when its own
    /// process is known to have ended, with [`Event::Exited`] ([`Outcome::Lost`]). Nothing is killed.
    Watch {
        /// Which.
        order: OrderId,
    },
    /// The hardware watchdog may be fed until then (monotonic): not fed any more, it resets the host.
    FeedWatchdogUntil(crate::time::Mono),
    /// Close the watchdog in an orderly way: no lease is wanted any more.
    ReleaseWatchdog,
}

/// Effects in order.
pub type Effects = Vec<Effect>;

/// What an agent keeps on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum IntentRecord {
    /// Sealed.
    Sealed {
        /// With this epoch.
        epoch: Epoch,
        /// By this manager.
        manager: ManagerId,
        /// By this run of it.
        run: ManagerRun,
        /// Of this cluster.
        cluster: String,
    },
    /// About to execute.
    Intent(Intent),
    /// The operation is over: its process ended and nothing of it is left, or what is left belongs to a started resource.
    Over {
        /// Which.
        order: OrderId,
        /// Its result, `None` if it never began.
        outcome: Option<Outcome>,
    },
    /// The manager has the result.
    Forgotten {
        /// Which.
        order: OrderId,
    },
}

/// An operation that is about to begin, or has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Which.
    pub order: OrderId,
    /// In which boot: what an earlier boot began is over.
    pub boot: BootId,
    /// What.
    pub operation: Operation,
}
