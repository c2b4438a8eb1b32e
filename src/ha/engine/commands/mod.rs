//! What operators ask: checked, recorded, and then followed by [`super::goals`].

mod maintenance;
mod moves;
mod power;
mod resources;

use std::time::Duration;

use super::event::Effect;
use super::fences::PowerKind;
use super::goals::Goal;
use super::hosts::OffProof;
use super::machine::Engine;
use super::timers::Timer;
use crate::ha::command::{Accepted, Command, Denied, DeniedKind, PowerCommand, Progress, Request};
use crate::ha::config::Group;
use crate::ha::ids::{CommandId, FenceId, GroupId, HostId, ResourceId};
use crate::ha::state::Record;
use crate::ha::state::record::{GroupFlags, HostFlags};
use crate::time::Now;

pub(super) use maintenance::Covered;

const OBSERVES: &str = "The specified command can only be used when running in managed mode.";

fn conflict<T>(message: impl Into<String>) -> Result<T, Denied> {
    Err(Denied { kind: DeniedKind::Conflict, message: message.into() })
}

fn not_found<T>(message: impl Into<String>) -> Result<T, Denied> {
    Err(Denied { kind: DeniedKind::NotFound, message: message.into() })
}

/// A command that was checked: what it changes at once, and what it then waits for.
struct Plan {
    /// One word for the history.
    event: &'static str,
    object: String,
    /// In words, for the list of commands.
    what: String,
    consequences: Vec<String>,
    records: Vec<Record>,
    then: Then,
    goal: Goal,
}

/// What else happens at once.
enum Then {
    Nothing,
    LookAnew(Vec<GroupId>),
    Power(HostId, PowerKind),
    ConfirmOff(HostId),
    ClearFailures(Vec<ResourceId>),
    ClearHost(HostId),
    Takeover,
    Reload(Box<crate::ha::config::Config>),
}

impl Engine {
    pub(in crate::ha::engine) fn requested(&mut self, now: Now, request: Request) {
        let Request { token, command, by, reason, dry_run } = request;
        let answer = match self.plan(now, command) {
            Err(denied) => Err(denied),
            Ok(plan) if dry_run => Ok(Accepted { command: None, consequences: plan.consequences }),
            Ok(plan) => {
                let consequences = plan.consequences.clone();
                let command = self.carry_out(now, plan, by, reason);
                Ok(Accepted { command: Some(command), consequences })
            }
        };
        self.effect(Effect::Reply { token, answer });
    }

    fn carry_out(&mut self, now: Now, plan: Plan, by: String, reason: Option<String>) -> CommandId {
        let id = CommandId(self.state.last_command.0 + 1);
        self.note(now, plan.event, &plan.object, None, &by, reason.clone());
        for record in plan.records {
            self.record(record);
        }
        self.record(Record::Command {
            id,
            what: plan.what,
            by: by.clone(),
            reason: reason.clone(),
            at: now.wall.0,
            progress: Progress::Running { doing: "begins".to_owned() },
        });
        self.goals.insert(id, plan.goal);
        match plan.then {
            Then::Nothing => {}
            Then::LookAnew(groups) => groups.iter().for_each(|group| self.look_anew(now, group)),
            Then::Power(host, kind) => {
                let why = reason.unwrap_or_else(|| "asked for".to_owned());
                self.begin_power(now, &host, kind, &by, &why, Some(id));
            }
            Then::ConfirmOff(host) => self.confirm_off(now, &host, &by),
            Then::ClearFailures(resources) => {
                for resource in &resources {
                    self.clear_failures(now, resource);
                }
            }
            Then::ClearHost(host) => {
                if let Some(host) = self.hosts.get_mut(&host) {
                    host.distrust = None;
                    host.must_fence = None;
                    host.unfencing_failed = None;
                }
            }
            Then::Takeover => {
                self.superseded = None;
                let hosts: Vec<HostId> = self.hosts.keys().cloned().collect();
                self.takeover = hosts.iter().cloned().collect();
                for host in hosts {
                    if !self.hosts.get(&host).is_some_and(|host| host.is_up()) {
                        self.lose_link(now, &host, "takeover");
                        self.schedule_dial(now, &host, true);
                    } else {
                        self.takeover.remove(&host);
                    }
                }
            }
            Then::Reload(config) => self.reload(now, *config),
        }
        self.touch_all();
        self.schedule_maintenance(now);
        id
    }

    fn group(&self, id: &GroupId) -> Result<&Group, Denied> {
        match self.config.groups.get(id) {
            Some(group) => Ok(group),
            None => {
                let child = self.config.resources.get(id.as_str()).map(|resource| &resource.group);
                not_found(match child {
                    Some(group) => {
                        format!("'{id}' belongs to the resource group '{group}'. Specify root resource ID.")
                    }
                    None => "Resource group not found.".to_owned(),
                })
            }
        }
    }

    fn host(&self, id: &HostId) -> Result<(), Denied> {
        if self.config.hosts.contains_key(id) { Ok(()) } else { not_found(format!("Host '{id}' not found.")) }
    }

    fn acting(&self) -> Result<(), Denied> {
        if let Some(epoch) = self.superseded {
            return conflict(format!(
                "Another manager has taken over (epoch {epoch}); this one only observes."
            ));
        }
        if self.manage { Ok(()) } else { conflict(OBSERVES) }
    }

    fn group_flags(&self, group: &GroupId) -> GroupFlags {
        self.state.groups.get(group).cloned().unwrap_or_default()
    }

    fn host_flags(&self, host: &HostId) -> HostFlags {
        self.state.hosts.get(host).cloned().unwrap_or_default()
    }

    fn located(&self, group: &Group) -> String {
        self.location(group).map_or_else(|| "nowhere".to_owned(), |host| host.to_string())
    }

    /// The other hosts of the groups that a host has a part in.
    fn partners(&self, host: &HostId) -> Vec<HostId> {
        let mut partners: Vec<HostId> = self
            .config
            .groups
            .values()
            .filter(|group| group.hosts().any(|other| other == host))
            .flat_map(|group| group.hosts().filter(|other| *other != host).cloned())
            .collect();
        partners.sort();
        partners.dedup();
        partners
    }

    fn is_active(&self, host: &HostId) -> bool {
        !self.state.hosts.get(host).is_some_and(|flags| flags.deactivated)
    }

    /// Groups that are on a host, by all that is known.
    fn groups_on(&self, host: &HostId) -> Vec<GroupId> {
        let here = |group: &Group| {
            group.members.iter().any(|member| {
                self.known(member, host)
                    .is_some_and(|known| known.is_here() || known.is_failed() || known.last_active)
            })
        };
        self.config.groups.values().filter(|group| here(group)).map(|group| group.id.clone()).collect()
    }

    fn plan(&self, now: Now, command: Command) -> Result<Plan, Denied> {
        match command {
            Command::Manage { group } => {
                self.acting()?;
                self.group(&group)?;
                let flags = GroupFlags { unmanaged: false, ..self.group_flags(&group) };
                Ok(Plan {
                    event: "manage",
                    object: group.to_string(),
                    what: format!("manage {group}"),
                    consequences: vec![format!(
                        "look for {group} on all its hosts, then keep it running where it is, or at home"
                    )],
                    records: vec![Record::GroupFlags { group: group.clone(), flags }],
                    then: Then::LookAnew(vec![group]),
                    goal: Goal::Instant,
                })
            }
            Command::Unmanage { group } => {
                self.acting()?;
                self.group(&group)?;
                let flags = GroupFlags { unmanaged: true, ..self.group_flags(&group) };
                Ok(Plan {
                    event: "unmanage",
                    object: group.to_string(),
                    what: format!("unmanage {group}"),
                    consequences: vec![format!(
                        "{group} is only looked at; its host is not fenced automatically"
                    )],
                    records: vec![Record::GroupFlags { group, flags }],
                    then: Then::Nothing,
                    goal: Goal::Instant,
                })
            }
            Command::Activate { host } => {
                self.acting()?;
                self.host(&host)?;
                let flags = HostFlags { deactivated: false, ..self.host_flags(&host) };
                Ok(Plan {
                    event: "activate",
                    object: host.to_string(),
                    what: format!("activate {host}"),
                    consequences: vec![format!("{host} may run groups again; none is moved for that")],
                    records: vec![Record::HostFlags { host, flags }],
                    then: Then::Nothing,
                    goal: Goal::Instant,
                })
            }
            Command::Deactivate { host, force } => self.plan_deactivate(now, host, force),
            Command::Failback { host } => self.plan_failback(now, host),
            Command::Move { group, to } => self.plan_move(now, &group, to),
            Command::Start { target } => self.plan_start(&target),
            Command::Stop { target } => self.plan_stop(&target),
            Command::Clear { target } => self.plan_clear(target),
            Command::Maintenance { target, time } => self.plan_maintenance(now, target, time),
            Command::Fence { host, force } => self.plan_fence(&host, force),
            Command::Reset { host } => {
                self.acting()?;
                self.host(&host)?;
                let distrusted = self
                    .hosts
                    .get(&host)
                    .is_some_and(|host| host.distrust.is_some() || host.must_fence.is_some());
                if !self.is_fenced(&host) && !self.state.fences.contains_key(&host) && !distrusted {
                    return conflict(format!("Could not reset '{host}': Host has not been fenced."));
                }
                Ok(Plan {
                    event: "reset",
                    object: host.to_string(),
                    what: format!("reset {host}"),
                    consequences: vec![format!("{host} may be fenced automatically again")],
                    records: vec![Record::Reset { host: host.clone() }],
                    then: Then::ClearHost(host),
                    goal: Goal::Instant,
                })
            }
            Command::Power { host, action } => self.plan_power(&host, action),
            Command::ConfirmOff { host } => self.plan_confirm_off(host),
            Command::Takeover => Ok(Plan {
                event: "takeover",
                object: "cluster".to_owned(),
                what: "take over".to_owned(),
                consequences: vec!["every agent obeys this manager from now on, and no other".to_owned()],
                records: Vec::new(),
                then: Then::Takeover,
                goal: Goal::Instant,
            }),
            Command::Reload { config } => Ok(Plan {
                event: "reload",
                object: "cluster".to_owned(),
                what: "reload the configuration".to_owned(),
                consequences: self.consequences_of_reload(&config),
                records: Vec::new(),
                then: Then::Reload(config),
                goal: Goal::Instant,
            }),
            Command::ClearEvents => Ok(Plan {
                event: "clear",
                object: "events".to_owned(),
                what: "clear the events".to_owned(),
                consequences: vec!["events up to now are not shown any more".to_owned()],
                records: vec![Record::EventsCleared { at: now.wall.0 }],
                then: Then::Nothing,
                goal: Goal::Instant,
            }),
        }
    }
}
