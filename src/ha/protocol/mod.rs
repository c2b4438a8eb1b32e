//! What managers and agents say to each other. Managers dial agents; each message is one frame ([`frame`]).
//!
//! ```text
//! manager                                   agent
//!    Hello      ───────────────────────────▶       nothing is obeyed yet
//!               ◀───────────────────────────    Welcome (run, boot, highest seal, unfinished operations)
//!    Seal       ───────────────────────────▶       stored and synced; lower epochs are refused from now on
//!               ◀───────────────────────────    Sealed (unfinished operations), or Rejected
//!               ◀───────────────────────────    Heartbeat n, n + 1, ...
//!    Acknowledge───────────────────────────▶
//!    Order      ───────────────────────────▶       intent stored and synced, then executed
//!               ◀───────────────────────────    Refused, or Finished, and Emptied when the last process is gone
//!    Forget     ───────────────────────────▶       the result arrived: the intent may go
//! ```

pub mod frame;

use serde::{Deserialize, Serialize};

use super::ids::{AgentRun, BootId, Epoch, HostId, ManagerId, ManagerRun, OrderId, ResourceId};
use super::ocf::Outcome;

/// The protocol's version. Either side speaks the lower of both, down to [`OLDEST_VERSION`].
pub const VERSION: u32 = 1;
/// The oldest version that is still understood.
pub const OLDEST_VERSION: u32 = 1;

/// From the manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToAgent {
    /// Who calls. The first message of a connection.
    Hello(Hello),
    /// Obey this epoch from now on.
    Seal(Seal),
    /// A heartbeat arrived.
    Acknowledge {
        /// Its number.
        number: u64,
    },
    /// Do something.
    Order(Order),
    /// Kill an operation with all its processes. It is reported as any other end.
    Abandon {
        /// Which.
        order: OrderId,
    },
    /// These results are stored at the manager.
    Forget {
        /// Of these orders.
        orders: Vec<OrderId>,
    },
}

/// The manager introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the manager.
    pub version: u32,
    /// Name of the cluster. An agent that belongs to another one refuses.
    pub cluster: String,
    /// The host that the manager believes to have dialled.
    pub host: HostId,
    /// Who it is.
    pub manager: ManagerId,
    /// Which process of it.
    pub run: ManagerRun,
    /// How often a heartbeat shall come, in milliseconds.
    pub heartbeat_ms: u64,
    /// How old a quoted heartbeat may be for a start, in milliseconds by the agent's clock.
    pub fresh_ms: u64,
    /// Self-fencing: the host resets itself when no heartbeat that it sent within this time was acknowledged, in
    /// milliseconds. Only with a hardware watchdog.
    pub lease_ms: Option<u64>,
}

/// From now on, refuse what is below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The manager's epoch.
    pub epoch: Epoch,
    /// An operator confirmed that this manager replaces the one that the agent obeyed.
    pub takeover: bool,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its name; the epoch in it is compared with the seal when it is executed.
    pub id: OrderId,
    /// Only for this boot of the host.
    pub boot: BootId,
    /// Only for this run of the agent.
    pub agent: AgentRun,
    /// The last heartbeat that had arrived when the order was given.
    pub heartbeat: u64,
    /// What.
    pub operation: Operation,
}

/// An action on a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// What to act on.
    pub resource: ResourceSpec,
    /// What to do.
    pub action: Action,
    /// How long it may take, in milliseconds. `None`: what the agent's meta-data advises.
    pub timeout_ms: Option<u64>,
}

/// A resource as an agent must know it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceSpec {
    /// Its name.
    pub id: ResourceId,
    /// `provider/type` below `resource.d` of the OCF root.
    pub kind: String,
    /// Parameters, in order of their names.
    pub parameters: std::collections::BTreeMap<String, String>,
}

/// What can be done with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Look at it, to find out whether it runs here (interval 0).
    Probe,
    /// Look at it again, since it should run here.
    Monitor {
        /// `OCF_CHECK_LEVEL`.
        depth: u8,
        /// The interval in milliseconds, for `OCF_RESKEY_CRM_meta_interval`. 0: what the meta-data advises.
        interval_ms: u64,
    },
}

/// From the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromAgent {
    /// The answer to [`ToAgent::Hello`].
    Welcome(Welcome),
    /// The answer to [`ToAgent::Seal`]: stored.
    Sealed {
        /// The epoch.
        epoch: Epoch,
        /// Everything that is queued, runs, or left processes behind, whoever ordered it. What is not listed is over.
        unfinished: Vec<Unfinished>,
    },
    /// Hello or Seal were refused. The connection is closed next.
    Rejected(Rejected),
    /// Alive.
    Heartbeat {
        /// Counted from 1 in each run of the agent, over all its connections.
        number: u64,
    },
    /// An order was not executed, and never will be.
    Refused {
        /// Which.
        order: OrderId,
        /// Why.
        reason: Refusal,
    },
    /// An operation's own process ended.
    Finished(Finished),
    /// The last process of an operation that had left some behind is gone.
    Emptied {
        /// Which.
        order: OrderId,
        /// Of what.
        resource: ResourceId,
    },
}

/// The agent introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`VERSION`] of the agent.
    pub version: u32,
    /// Its program's version, for people.
    pub program: String,
    /// The host it runs on.
    pub host: HostId,
    /// This boot of it.
    pub boot: BootId,
    /// This run of the agent.
    pub agent: AgentRun,
    /// The highest epoch it was sealed with, 0 if never.
    pub sealed: Epoch,
    /// The manager it obeys, if it was ever sealed.
    pub obeys: Option<ManagerId>,
    /// The process that sealed it last.
    pub sealed_by: Option<ManagerRun>,
    /// The machine's UUID (`/sys/class/dmi/id/product_uuid`), where it has one.
    pub system_uuid: Option<String>,
    /// How it keeps operations apart.
    pub isolation: Isolation,
    /// The time after which the armed hardware watchdog resets the host, in milliseconds, as read back from it.
    pub watchdog_ms: Option<u64>,
}

/// How an agent finds all processes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// A cgroup for each operation.
    Cgroup,
    /// No cgroups: process groups, and a scan of all processes' environments. A child may escape it.
    Scan,
}

/// An operation that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// Which.
    pub order: OrderId,
    /// On what.
    pub resource: ResourceSpec,
    /// What.
    pub action: Action,
    /// How its own process ended, if it has: what is left are its children.
    pub outcome: Option<Outcome>,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Which.
    pub order: OrderId,
    /// On what.
    pub resource: ResourceId,
    /// What.
    pub action: Action,
    /// How its process ended.
    pub outcome: Outcome,
    /// Whether processes of it are still there: then it is unfinished until `Emptied`. A successful start leaves the
    /// resource's own processes behind, which do not count.
    pub unfinished: bool,
    /// What follows the last `ocf-exit-reason:` on standard error, else its last line; bounded.
    pub reason: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// For a monitor: the interval that the meta-data advises, in milliseconds.
    pub advised_interval_ms: Option<u64>,
}

/// Why an order is not executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The agent is sealed with a higher epoch.
    Sealed(Epoch),
    /// The connection has not sealed the agent.
    NotSealed,
    /// The quoted heartbeat is too old (a start only): its age in milliseconds.
    StaleHeartbeat(u64),
    /// Meant for another boot or another run.
    OtherRun,
    /// Another operation on the resource is unfinished.
    Busy(OrderId),
    /// The kind or a parameter is not acceptable, or there are too many operations: why.
    Unacceptable(String),
    /// The intent could not be stored: why.
    NotStored(String),
}

/// Why a manager is not obeyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejected {
    /// No common version.
    Version {
        /// The agent's.
        agent: u32,
    },
    /// The agent belongs to another cluster.
    Cluster {
        /// That one.
        cluster: String,
    },
    /// The agent runs on another host.
    Host {
        /// That one.
        host: HostId,
    },
    /// The agent obeys another manager, and no takeover was confirmed.
    Manager {
        /// That one.
        obeys: ManagerId,
    },
    /// The agent is sealed with a higher epoch, or with this one by another process.
    Epoch {
        /// That epoch.
        sealed: Epoch,
    },
    /// The seal could not be stored: why.
    NotStored(String),
}
