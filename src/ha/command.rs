//! What an operator can ask of the engine.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::ids::{CommandId, GroupId, HostId, ReplyToken};

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Manage a group again: look at it anew, then act.
    Manage {
        /// Which.
        group: GroupId,
    },
    /// Leave a group alone: only look at it.
    Unmanage {
        /// Which.
        group: GroupId,
    },
    /// A host may run groups again.
    Activate {
        /// Which.
        host: HostId,
    },
    /// Move everything off a host and keep it free.
    Deactivate {
        /// Which.
        host: HostId,
        /// Although its groups then have nowhere to run.
        force: bool,
    },
    /// Bring the groups whose home this is back to it.
    Failback {
        /// Where to.
        host: HostId,
    },
    /// Move one group.
    Move {
        /// Which.
        group: GroupId,
        /// Where to. `None`: the best other host.
        to: Option<HostId>,
    },
    /// Start a group, or one resource with what it depends on.
    Start {
        /// A group or resource.
        target: String,
    },
    /// Stop a group, or one resource with what depends on it, and keep it stopped.
    Stop {
        /// A group or resource.
        target: String,
    },
    /// Forget the failures of a resource, group or host, and try again.
    Clear {
        /// A resource, group or host. `None`: all.
        target: Option<String>,
    },
    /// Leave a group, a host's groups or everything alone for some time.
    Maintenance {
        /// A group or host. `None`: the cluster.
        target: Option<String>,
        /// For how long; zero ends it.
        time: Duration,
    },
    /// Power a host off, and start its groups elsewhere.
    Fence {
        /// Which.
        host: HostId,
        /// Although it was fenced already, or its groups then have nowhere to run.
        force: bool,
    },
    /// A host may be fenced automatically again.
    Reset {
        /// Which.
        host: HostId,
    },
    /// Power a host on, off, or ask its devices.
    Power {
        /// Which.
        host: HostId,
        /// What.
        action: PowerCommand,
    },
    /// The operator has seen that a host is off, and answers for it.
    ConfirmOff {
        /// Which.
        host: HostId,
    },
    /// This manager replaces whichever the agents obeyed until now.
    Takeover,
    /// Use another configuration.
    Reload {
        /// That one.
        config: Box<Config>,
    },
    /// Begin the list of events anew.
    ClearEvents,
}

/// What to do with a host's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerCommand {
    /// On.
    On,
    /// Off. Nothing is started elsewhere for it, but its groups may be once it is proven.
    Off,
    /// Only look.
    Status,
}

/// A command and who gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where the answer goes.
    pub token: ReplyToken,
    /// What.
    pub command: Command,
    /// Who, for the history: `root (uid 0)`, `cn=alice`.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Under which number it goes on; `None` for a dry run.
    pub command: Option<CommandId>,
    /// What will happen, in order, in words.
    pub consequences: Vec<String>,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Denied {
    /// Of what kind.
    pub kind: DeniedKind,
    /// For the operator.
    pub message: String,
}

/// Kinds of refusals, as HTTP knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeniedKind {
    /// There is no such thing (404).
    NotFound,
    /// Not now, or not without `force` (409).
    Conflict,
    /// Never (400).
    Invalid,
}

/// How far a command is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Progress {
    /// It goes on.
    Running {
        /// What it is doing or waiting for.
        doing: String,
    },
    /// It ended well.
    Done {
        /// What came of it.
        result: String,
    },
    /// It did not.
    Failed {
        /// Why.
        reason: String,
    },
}
