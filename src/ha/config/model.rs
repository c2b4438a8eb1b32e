//! The configuration as the machines use it: complete, checked, every reference resolved.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::ha::ids::{GroupId, HostId, Identity, ResourceId};
use crate::ha::protocol::ResourceSpec;

/// A whole configuration. Only [`super`]'s checks make one, so what is named here exists here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// What holds for the cluster.
    pub settings: Settings,
    /// All servers.
    pub hosts: BTreeMap<HostId, Arc<Host>>,
    /// All resources that are in a group.
    pub resources: BTreeMap<ResourceId, Arc<Resource>>,
    /// All groups.
    pub groups: BTreeMap<GroupId, Arc<Group>>,
}

/// Settings of the cluster, with their defaults in [`Settings::default`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The cluster's name: agents of another cluster refuse.
    pub cluster: String,
    /// Whether anything may be done. `None` leaves it to the command line; the default there is to observe.
    pub manage: Option<bool>,
    /// How often agents show that they are alive.
    pub heartbeat_interval: Duration,
    /// A host that was silent for this long is lost.
    pub detection_time: Duration,
    /// How old the heartbeat that a start quotes may be, by the agent's clock.
    pub fresh_time: Duration,
    /// How long a host may be without its agent while its kernel still answers, before it counts as lost.
    pub agent_grace: Duration,
    /// A lost host may be fenced although this manager has never seen it alive.
    pub startup_fencing: bool,
    /// How often a host may be fenced automatically.
    pub fence_attempts: FenceAttempts,
    /// Power a host on again that was fenced without an operator, once its groups run elsewhere.
    pub power_on_after_fence: bool,
    /// How often fence devices are asked whether they work. Zero: never.
    pub fence_monitor_interval: Duration,
    /// Interval of monitors where neither the resource nor its agent's meta-data say one. HALO's cycle is 5 s.
    pub monitor_interval: Duration,
    /// How long an operation that is past its timeout may stay unfinished before its host is fenced.
    pub unfinished_limit: Duration,
    /// How old a stopped-proof or off-proof may be at a start, by the manager's clock.
    pub proof_age: Duration,
    /// A larger share of the hosts than this (per cent), and more than one host, lost within one detection time: nothing
    /// is fenced.
    pub blast_radius_percent: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster: "lustre".to_owned(),
            manage: None,
            heartbeat_interval: Duration::from_secs(1),
            detection_time: Duration::from_secs(8),
            fresh_time: Duration::from_secs(4),
            agent_grace: Duration::from_secs(30),
            startup_fencing: false,
            fence_attempts: FenceAttempts::OnceUntilReset,
            power_on_after_fence: false,
            fence_monitor_interval: Duration::from_secs(300),
            monitor_interval: Duration::from_secs(5),
            unfinished_limit: Duration::from_secs(60),
            proof_age: Duration::from_secs(5),
            blast_radius_percent: 25,
        }
    }
}

/// How often a host may be fenced without an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceAttempts {
    /// Once, then not before `reset` (HALO's rule).
    OnceUntilReset,
    /// At most `count` times within `window`.
    Within {
        /// How often.
        count: u32,
        /// In which time.
        window: Duration,
    },
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub id: HostId,
    /// Where its agent listens: a name or an address.
    pub address: String,
    /// At which port.
    pub port: u16,
    /// How to power it off, best way first. Empty: it cannot be fenced.
    pub fencing: Vec<FenceLevel>,
    /// It resets itself by a hardware watchdog when it is cut off from its manager for this long (the lease).
    pub self_protection: Option<Duration>,
    /// Its place in the configuration file, for display.
    pub position: usize,
}

/// Devices that together power a host off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceLevel {
    /// All of these must say that it is off.
    pub devices: Vec<Arc<FenceDevice>>,
}

/// One fence device, for one host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FenceDevice {
    /// For people: `fence_ipmilan(oss1-bmc)`.
    pub name: String,
    /// The program, for instance `fence_ipmilan`.
    pub agent: String,
    /// Parameters for its standard input, without `action`.
    pub parameters: BTreeMap<String, Parameter>,
    /// How long one call may take.
    pub timeout: Duration,
    /// Wait this long before the first `off`, so that of two nodes that fence each other one wins.
    pub delay: Duration,
    /// How often `off` is tried on this device before the next level.
    pub attempts: u32,
}

/// A parameter of a fence device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parameter {
    /// As written.
    Plain(String),
    /// As written, but a secret: never shown.
    Secret(Secret),
    /// The first line of this file, which only root may read. Read anew for each call.
    File(String),
}

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// What an agent must know.
    pub spec: ResourceSpec,
    /// What it is, whatever its name: see [`Resource::identity`].
    pub identity: Identity,
    /// Its group.
    pub group: GroupId,
    /// It is started after this one and stopped before it. `None`: the root.
    pub parent: Option<ResourceId>,
    /// Its dependents, in the order of the file.
    pub children: Vec<ResourceId>,
    /// Timeout of each operation. `None`: what the meta-data advises.
    pub start_timeout: Option<Duration>,
    /// See [`Resource::start_timeout`].
    pub stop_timeout: Option<Duration>,
    /// See [`Resource::start_timeout`].
    pub monitor_timeout: Option<Duration>,
    /// How often it is monitored. `None`: what the meta-data advises, else [`Settings::monitor_interval`].
    pub monitor_interval: Option<Duration>,
    /// `OCF_CHECK_LEVEL` of the monitor.
    pub monitor_depth: u8,
    /// How failures are met.
    pub failures: FailurePolicy,
}

impl Resource {
    /// What a resource is, whatever its name: its kind and the parameters that name its device. Known kinds
    /// (`lustre/Lustre` target, `heartbeat/ZFS` pool, `heartbeat/Filesystem` device, `heartbeat/LVM-activate` vgname and
    /// lvname, `heartbeat/IPaddr2` ip) have their own; for any other kind all parameters count.
    pub fn identity_of(kind: &str, parameters: &BTreeMap<String, String>) -> Identity {
        let own: &[&str] = match kind {
            "lustre/Lustre" => &["target"],
            "heartbeat/ZFS" => &["pool"],
            "heartbeat/Filesystem" => &["device"],
            "heartbeat/LVM-activate" => &["vgname", "lvname"],
            "heartbeat/IPaddr2" => &["ip"],
            _ => &[],
        };
        let mut text = kind.to_owned();
        for (name, value) in parameters {
            if own.is_empty()
                || !own.iter().any(|own| parameters.contains_key(*own))
                || own.contains(&name.as_str())
            {
                text.push(' ');
                text.push_str(name);
                text.push('=');
                text.push_str(value);
            }
        }
        text.into()
    }
}

/// How failures of a resource are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailurePolicy {
    /// Restarts in place before it is moved, within `window`.
    pub retries: u32,
    /// Failures on all hosts within `window` after which it stays stopped until an operator clears it.
    pub threshold: u32,
    /// How long a failure counts.
    pub window: Duration,
}

impl Default for FailurePolicy {
    fn default() -> Self {
        Self { retries: 3, threshold: 9, window: Duration::from_secs(3600) }
    }
}

/// A group: a tree of resources that run on one host together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name, the root's.
    pub id: GroupId,
    /// The root of the tree.
    pub root: ResourceId,
    /// All its resources: each parent before its children, children in the order of the file.
    pub members: Vec<ResourceId>,
    /// Where it belongs.
    pub home: HostId,
    /// Where else it may run, best first.
    pub failover: Vec<HostId>,
    /// Return home by itself when home is well again.
    pub auto_failback: bool,
    /// Its place in the configuration file, for display.
    pub position: usize,
}

impl Group {
    /// Every host it may run on, home first.
    pub fn hosts(&self) -> impl Iterator<Item = &HostId> {
        std::iter::once(&self.home).chain(&self.failover)
    }
}
