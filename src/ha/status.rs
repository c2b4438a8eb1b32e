//! What the engine shows: made for the API, the command line and the web page alike.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::command::Progress;
use super::ids::{CommandId, Epoch, GroupId, HostId, ResourceId};
use super::ocf::Recovery;
use super::protocol::Isolation;

/// Everything at one moment. Wall-clock times are nanoseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the cluster.
    pub cluster: String,
    /// Whether it acts or only observes.
    pub managed: bool,
    /// The manager's epoch.
    pub epoch: Epoch,
    /// Another manager has taken over: this one only observes.
    pub superseded: bool,
    /// Maintenance of the whole cluster ends then.
    pub maintenance_until: Option<i64>,
    /// In the order of the configuration.
    pub hosts: Vec<HostStatus>,
    /// In the order of the configuration.
    pub groups: Vec<GroupStatus>,
    /// What needs an operator, most urgent first.
    pub alerts: Vec<Alert>,
    /// Commands that go on or ended lately, newest first.
    pub commands: Vec<CommandStatus>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its name.
    pub id: HostId,
    /// `address:port` of its agent.
    pub address: String,
    /// How it looks from here.
    pub state: HostState,
    /// Why it is in that state, and since when.
    pub detail: String,
    /// Since when it is in that state.
    pub since: i64,
    /// It may run groups (not deactivated).
    pub active: bool,
    /// It was fenced and not reset since.
    pub fenced: bool,
    /// What its fence devices said last, and when.
    pub power: Option<PowerStatus>,
    /// Maintenance ends then.
    pub maintenance_until: Option<i64>,
    /// Version of its agent.
    pub agent_version: Option<String>,
    /// How its agent keeps operations apart.
    pub isolation: Option<Isolation>,
    /// Whether it can be fenced, in words: devices, or why not.
    pub fencing: String,
    /// Whether a hardware watchdog resets it when it is cut off.
    pub self_protected: bool,
}

/// How a host looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// This manager has not seen it yet.
    Unseen,
    /// Sealed, and its heartbeats arrive.
    Connected,
    /// Silent, but not for long.
    Suspect,
    /// Its agent is gone, its kernel answers: in its grace.
    AgentDown,
    /// Lost: it may be fenced.
    Lost,
    /// Being powered off.
    Fencing,
    /// Its fence device says that it is off.
    Off,
    /// Reached, but it must not be used: see the detail.
    Refused,
}

/// What fence devices said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerStatus {
    /// `on`, `off`, or an error.
    pub said: String,
    /// When.
    pub at: i64,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Its name.
    pub id: GroupId,
    /// Whether it is managed.
    pub managed: bool,
    /// Where it stands.
    pub phase: Phase,
    /// What it waits for, or why it is frozen or failed, in words with the command that helps. Empty: nothing.
    pub waits_for: Vec<String>,
    /// Where it belongs.
    pub home: HostId,
    /// Where else it may run.
    pub failover: Vec<HostId>,
    /// Where it is, if anything of it runs.
    pub location: Option<HostId>,
    /// An operator stopped it.
    pub stopped_by_operator: bool,
    /// Maintenance ends then.
    pub maintenance_until: Option<i64>,
    /// Its resources: each parent before its children.
    pub resources: Vec<ResourceStatus>,
}

/// Phases of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nobody knows where it runs.
    Unknown,
    /// It runs nowhere.
    Stopped,
    /// A host was chosen, proofs are being gathered.
    Planned,
    /// Being started.
    Starting,
    /// All of it runs.
    Running,
    /// A part of it runs, and it is not for the manager to change that.
    Partial,
    /// Being stopped.
    Stopping,
    /// It failed, and is left alone until cleared.
    Failed,
    /// In doubt, so nothing is done.
    Frozen,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceStatus {
    /// Its name.
    pub id: ResourceId,
    /// `provider/type`.
    pub kind: String,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// The resource it depends on.
    pub parent: Option<ResourceId>,
    /// How deep it is in the tree; the root is 0.
    pub depth: usize,
    /// What is known of it on each candidate host.
    pub on: BTreeMap<HostId, Seen>,
    /// Failures that still count.
    pub failures: Vec<Failure>,
    /// An operator stopped it.
    pub stopped_by_operator: bool,
}

/// What is known of a resource on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// What.
    pub state: SeenState,
    /// The reason that its agent gave, or why nothing is known.
    pub comment: Option<String>,
    /// Since when.
    pub since: i64,
}

/// States of a resource on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenState {
    /// It runs.
    Running,
    /// It runs, but its agent warns.
    Degraded,
    /// It is being started.
    Starting,
    /// It is being stopped.
    Stopping,
    /// It is stopped.
    Stopped,
    /// Its agent reports an error; it may be active.
    Error,
    /// Nobody knows.
    Unknown,
}

/// A failure of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub at: i64,
    /// Where.
    pub host: HostId,
    /// `start`, `stop` or `monitor`.
    pub action: String,
    /// What happened.
    pub what: String,
    /// What that means for this host and others.
    #[serde(default = "soft")]
    pub recovery: Recovery,
}

fn soft() -> Recovery {
    Recovery::Soft
}

/// Something that needs an operator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Alert {
    /// How urgent: `critical` or `warning`.
    pub severity: Severity,
    /// A host, group or resource, or the cluster.
    pub object: String,
    /// What is wrong.
    pub text: String,
    /// The exact command that helps, if one does.
    pub command: Option<String>,
    /// Since when.
    pub since: i64,
}

/// How urgent an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something is down or in doubt.
    Critical,
    /// Something will hurt later.
    Warning,
}

/// A command of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandStatus {
    /// Its number.
    pub id: CommandId,
    /// What, in words.
    pub what: String,
    /// Who gave it.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// When it was given.
    pub at: i64,
    /// How far it is.
    pub progress: Progress,
}
