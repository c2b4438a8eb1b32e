//! Records and their sum. The engine changes its durable state only by applying records, so what is read back at a start is
//! what was there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::ha::command::Progress;
use crate::ha::ids::{CommandId, Epoch, FenceId, GroupId, HostId, Identity, ManagerId, ResourceId};
use crate::ha::ocf::Recovery;
use crate::ha::protocol::ResourceSpec;
use crate::ha::status::Failure;

/// How many events are kept.
pub const EVENTS: usize = 10_000;
/// How many failures of a resource are kept.
pub const FAILURES: usize = 100;
/// How many attempts to change a host's power are kept.
pub const ATTEMPTS: usize = 50;
/// How many ended commands are kept.
pub const COMMANDS: usize = 200;

/// One change of the durable state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// Who this manager is (once), and the epoch that it reigns with from now on.
    Reign {
        /// Who.
        manager: ManagerId,
        /// The epoch.
        epoch: Epoch,
    },
    /// A resource may be active on a host from now on.
    Candidate {
        /// What it is.
        identity: Identity,
        /// As it is defined there.
        spec: ResourceSpec,
        /// Where.
        host: HostId,
        /// How that host is reached, for when it is no longer in the configuration.
        address: String,
        /// See `address`.
        port: u16,
    },
    /// A resource was proven stopped on a host that is in no configuration any more.
    NoCandidate {
        /// What.
        identity: Identity,
        /// Where.
        host: HostId,
    },
    /// A host's power is about to be changed.
    FenceIntent {
        /// The attempt.
        id: FenceId,
        /// Which host.
        host: HostId,
        /// `off` or `on`; `confirm`: no device is asked, an operator answers for it being off.
        action: String,
        /// No device is called before [`Record::FenceCall`] says so; without one there is nothing to wait for.
        until: i64,
        /// It counts against the limit on automatic fencing.
        automatic: bool,
        /// Who or what wanted it, and why.
        reason: String,
        /// When.
        at: i64,
    },
    /// A device is about to be called for it.
    FenceCall {
        /// The attempt.
        id: FenceId,
        /// Which host.
        host: HostId,
        /// The call does not live longer than this (wall clock, nanoseconds): a successor waits until then.
        until: i64,
    },
    /// How that went.
    FenceResult {
        /// The attempt.
        id: FenceId,
        /// Which host.
        host: HostId,
        /// It was seen to be off (or on, if that was wanted).
        success: bool,
        /// In words.
        result: String,
        /// When.
        at: i64,
    },
    /// A host may be fenced automatically again.
    Reset {
        /// Which.
        host: HostId,
    },
    /// A resource failed.
    Failed {
        /// Which.
        resource: ResourceId,
        /// How.
        failure: Failure,
    },
    /// Failures of a resource no longer count.
    Cleared {
        /// Which.
        resource: ResourceId,
    },
    /// An operator's decision about a group.
    GroupFlags {
        /// Which.
        group: GroupId,
        /// All its flags from now on.
        flags: GroupFlags,
    },
    /// An operator's decision about a host.
    HostFlags {
        /// Which.
        host: HostId,
        /// All its flags from now on.
        flags: HostFlags,
    },
    /// An operator stopped a resource, or lets it start again.
    ResourceStopped {
        /// Which.
        resource: ResourceId,
        /// Whether it stays stopped.
        stopped: bool,
    },
    /// Maintenance of the cluster until then (wall clock), `None` when over.
    Maintenance {
        /// The end of it.
        until: Option<i64>,
    },
    /// A host was seen alive by this manager.
    HostSeen {
        /// Which.
        host: HostId,
    },
    /// A host that an operator had confirmed to be off was heard again.
    Alive {
        /// Which.
        host: HostId,
    },
    /// What the fence devices of a host say is not believed any more, until it is reset.
    Distrusted {
        /// Which.
        host: HostId,
        /// Why.
        why: String,
    },
    /// A command was given, or goes on.
    Command {
        /// Its number.
        id: CommandId,
        /// What, in words.
        what: String,
        /// Who.
        by: String,
        /// Why.
        reason: Option<String>,
        /// When.
        at: i64,
        /// How far it is.
        progress: Progress,
    },
    /// Something happened that people may want to read.
    Event(Event),
    /// The list of events begins anew. They are kept, but not shown.
    EventsCleared {
        /// When.
        at: i64,
    },
}

/// An operator's decisions about a group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupFlags {
    /// It is left alone.
    pub unmanaged: bool,
    /// It stays stopped.
    pub stopped: bool,
    /// Where an operator wants it, until it is there or fails over.
    pub wanted_on: Option<HostId>,
    /// Left alone until then (wall clock).
    pub maintenance_until: Option<i64>,
}

/// An operator's decisions about a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostFlags {
    /// It may not run groups.
    pub deactivated: bool,
    /// Its groups are left alone until then (wall clock).
    pub maintenance_until: Option<i64>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: i64,
    /// What kind, one word: `fence`, `start`, `failed`, `manage`, ...
    pub event: String,
    /// The host, group, resource, or `cluster`.
    pub object: String,
    /// Where, if it happened on a host that is not the object.
    pub host: Option<HostId>,
    /// Who: an operator, or `manager`.
    pub by: String,
    /// What and why, in words.
    pub comment: Option<String>,
}

/// A fence attempt whose end is not recorded, or that still counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceAttempt {
    /// The attempt.
    pub id: FenceId,
    /// `off` or `on`.
    pub action: String,
    /// See [`Record::FenceIntent`].
    pub until: i64,
    /// See [`Record::FenceIntent`].
    pub automatic: bool,
    /// When it began.
    pub at: i64,
    /// How it ended: success, and words.
    pub result: Option<(bool, String)>,
}

/// Where a resource may be active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateHost {
    /// As it was defined there.
    pub spec: ResourceSpec,
    /// How the host is reached.
    pub address: String,
    /// See `address`.
    pub port: u16,
}

/// The sum of all records.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Who this manager is. `None`: it has never reigned, or its state is lost.
    pub manager: Option<ManagerId>,
    /// The last epoch.
    pub epoch: Epoch,
    /// Where each resource may be active.
    pub candidates: BTreeMap<Identity, BTreeMap<HostId, CandidateHost>>,
    /// Attempts to fence each host that count, oldest first.
    pub fences: BTreeMap<HostId, Vec<FenceAttempt>>,
    /// Hosts whose fence devices are not believed, and why.
    pub distrusted: BTreeMap<HostId, String>,
    /// The highest number of a fence attempt.
    pub last_fence: FenceId,
    /// Failures that were not cleared, oldest first.
    pub failures: BTreeMap<ResourceId, Vec<Failure>>,
    /// Decisions about groups.
    pub groups: BTreeMap<GroupId, GroupFlags>,
    /// Decisions about hosts.
    pub hosts: BTreeMap<HostId, HostFlags>,
    /// Resources that an operator stopped.
    pub stopped: BTreeSet<ResourceId>,
    /// Maintenance of the cluster.
    pub maintenance_until: Option<i64>,
    /// Hosts that were seen alive by this manager, in any of its runs.
    pub seen: BTreeSet<HostId>,
    /// Commands, oldest first.
    pub commands: BTreeMap<CommandId, CommandRecord>,
    /// The highest number of a command.
    pub last_command: CommandId,
    /// Events, oldest first.
    pub events: VecDeque<Event>,
    /// Events up to then are not shown.
    pub events_cleared: i64,
}

/// A command as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRecord {
    /// What, in words.
    pub what: String,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub at: i64,
    /// How far it is.
    pub progress: Progress,
}

impl State {
    /// Adds a record.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Reign { manager, epoch } => {
                self.manager = Some(*manager);
                self.epoch = *epoch;
            }
            Record::Candidate { identity, spec, host, address, port } => {
                let at = CandidateHost { spec: spec.clone(), address: address.clone(), port: *port };
                self.candidates.entry(identity.clone()).or_default().insert(host.clone(), at);
            }
            Record::NoCandidate { identity, host } => {
                if let Some(hosts) = self.candidates.get_mut(identity) {
                    hosts.remove(host);
                    if hosts.is_empty() {
                        self.candidates.remove(identity);
                    }
                }
            }
            Record::FenceIntent { id, host, action, until, automatic, at, reason: _ } => {
                self.last_fence = self.last_fence.max(*id);
                self.fences.entry(host.clone()).or_default().push(FenceAttempt {
                    id: *id,
                    action: action.clone(),
                    until: *until,
                    automatic: *automatic,
                    at: *at,
                    result: None,
                });
            }
            Record::FenceCall { id, host, until } => {
                let attempts = self.fences.get_mut(host);
                if let Some(attempt) =
                    attempts.and_then(|all| all.iter_mut().find(|attempt| attempt.id == *id))
                {
                    attempt.until = attempt.until.max(*until);
                }
            }
            Record::FenceResult { id, host, success, result, at: _ } => {
                let Some(attempts) = self.fences.get_mut(host) else { return };
                if let Some(attempt) = attempts.iter_mut().find(|attempt| attempt.id == *id) {
                    attempt.result = Some((*success, result.clone()));
                }
                // To let a host in counts for nothing once it is over.
                attempts.retain(|attempt| attempt.action != "unfence" || attempt.result.is_none());
                let over = |attempt: &FenceAttempt| attempt.result.is_some() && attempt.action != "confirm";
                if attempts.len() > ATTEMPTS
                    && let Some(oldest) = attempts.iter().position(over)
                {
                    attempts.remove(oldest);
                }
                if attempts.is_empty() {
                    self.fences.remove(host);
                }
            }
            // An attempt whose end is unknown must be waited out whatever the operator says.
            Record::Reset { host } => {
                self.distrusted.remove(host);
                if let Some(attempts) = self.fences.get_mut(host) {
                    attempts.retain(|attempt| attempt.result.is_none());
                    attempts.iter_mut().for_each(|attempt| attempt.automatic = false);
                    if attempts.is_empty() {
                        self.fences.remove(host);
                    }
                }
            }
            Record::Failed { resource, failure } => {
                let failures = self.failures.entry(resource.clone()).or_default();
                failures.push(failure.clone());
                if failures.len() > FAILURES {
                    // Those that no time heals are kept.
                    let soft = failures.iter().position(|failure| failure.recovery == Recovery::Soft);
                    failures.remove(soft.unwrap_or(0));
                }
            }
            Record::Cleared { resource } => {
                self.failures.remove(resource);
            }
            Record::GroupFlags { group, flags } => {
                if *flags == GroupFlags::default() {
                    self.groups.remove(group);
                } else {
                    self.groups.insert(group.clone(), flags.clone());
                }
            }
            Record::HostFlags { host, flags } => {
                if *flags == HostFlags::default() {
                    self.hosts.remove(host);
                } else {
                    self.hosts.insert(host.clone(), flags.clone());
                }
            }
            Record::ResourceStopped { resource, stopped: true } => {
                self.stopped.insert(resource.clone());
            }
            Record::ResourceStopped { resource, stopped: false } => {
                self.stopped.remove(resource);
            }
            Record::Maintenance { until } => self.maintenance_until = *until,
            Record::HostSeen { host } => {
                self.seen.insert(host.clone());
            }
            Record::Alive { host } => {
                if let Some(attempts) = self.fences.get_mut(host) {
                    attempts.retain(|attempt| attempt.action != "confirm");
                    if attempts.is_empty() {
                        self.fences.remove(host);
                    }
                }
            }
            Record::Distrusted { host, why } => {
                self.distrusted.insert(host.clone(), why.clone());
            }
            Record::Command { id, what, by, reason, at, progress } => {
                self.last_command = self.last_command.max(*id);
                let (what, by, reason) = (what.clone(), by.clone(), reason.clone());
                self.commands
                    .insert(*id, CommandRecord { what, by, reason, at: *at, progress: progress.clone() });
                self.forget_old_commands();
            }
            Record::Event(event) => {
                self.events.push_back(event.clone());
                if self.events.len() > EVENTS {
                    self.events.pop_front();
                }
            }
            Record::EventsCleared { at } => self.events_cleared = *at,
        }
    }

    fn forget_old_commands(&mut self) {
        while self.commands.len() > COMMANDS {
            let ended = |record: &CommandRecord| !matches!(record.progress, Progress::Running { .. });
            let Some(oldest) = self.commands.iter().find(|(_, record)| ended(record)).map(|(id, _)| *id)
            else {
                return;
            };
            self.commands.remove(&oldest);
        }
    }
}
