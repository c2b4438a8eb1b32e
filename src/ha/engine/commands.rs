//! What operators ask: checked, recorded, and then followed by [`super::goals`].

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
    LookAnew(GroupId),
    Power(HostId, PowerKind),
    ConfirmOff(HostId),
    ClearFailures(Vec<ResourceId>),
    ClearHost(HostId),
    Takeover,
    Reload(Box<crate::ha::config::Config>),
}

impl Engine {
    pub(super) fn requested(&mut self, now: Now, request: Request) {
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
            Then::LookAnew(group) => self.look_anew(now, &group),
            Then::Power(host, kind) => {
                let why = reason.unwrap_or_else(|| "asked for".to_owned());
                self.begin_power(now, &host, kind, &by, &why, Some(id));
            }
            Then::ConfirmOff(host) => self.confirm_off(now, &host, &by),
            Then::ClearFailures(resources) => {
                for resource in &resources {
                    self.clear_failures(resource);
                }
            }
            Then::ClearHost(host) => {
                if let Some(host) = self.hosts.get_mut(&host) {
                    host.distrust = None;
                    host.must_fence = None;
                }
            }
            Then::Takeover => {
                self.takeover = true;
                self.superseded = None;
                let hosts: Vec<HostId> = self.hosts.keys().cloned().collect();
                for host in hosts {
                    if !self.hosts.get(&host).is_some_and(|host| host.is_up()) {
                        self.lose_link(now, &host, "takeover");
                        self.schedule_dial(now, &host, true);
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
                    then: Then::LookAnew(group),
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

    fn plan_deactivate(&self, now: Now, host: HostId, force: bool) -> Result<Plan, Denied> {
        self.acting()?;
        self.host(&host)?;
        let partners = self.partners(&host);
        if !force && !partners.is_empty() && partners.iter().all(|partner| !self.is_active(partner)) {
            return conflict(format!(
                "Could not deactivate '{host}': Partner host is already deactivated. You cannot deactivate both hosts in a pair."
            ));
        }
        let mut consequences = Vec::new();
        for id in self.groups_on(&host) {
            let Some(group) = self.config.groups.get(&id) else { continue };
            if !self.is_managed(&id) {
                consequences.push(format!("{id} is left alone: it is not managed"));
                continue;
            }
            match self.choose(now, group, Some(&host)) {
                Ok(destination) => consequences.push(format!("{id} moves from {host} to {destination}")),
                Err(reasons) if force => consequences.push(format!("{id} stays: {}", reasons.join(", "))),
                Err(reasons) => {
                    let why = reasons.join(", ");
                    return conflict(format!(
                        "Could not deactivate '{host}': {id} has nowhere to run: {why}"
                    ));
                }
            }
        }
        let flags = HostFlags { deactivated: true, ..self.host_flags(&host) };
        Ok(Plan {
            event: "deactivate",
            object: host.to_string(),
            what: format!("deactivate {host}"),
            consequences,
            records: vec![Record::HostFlags { host: host.clone(), flags }],
            then: Then::Nothing,
            goal: Goal::Empty(host),
        })
    }

    fn plan_failback(&self, now: Now, host: HostId) -> Result<Plan, Denied> {
        self.acting()?;
        self.host(&host)?;
        let refuse = |why: &str| conflict(format!("Could not perform failback onto '{host}': {why}"));
        if self.partners(&host).is_empty() {
            return Err(Denied {
                kind: DeniedKind::Invalid,
                message: "Host does not have a failover partner.".to_owned(),
            });
        }
        if !self.is_active(&host) {
            return refuse("Host is deactivated. Please activate it before running resources on it.");
        }
        if !self.hosts.get(&host).is_some_and(|host| host.is_up()) {
            return refuse("Host is not connected.");
        }
        let mut records = Vec::new();
        let mut groups = Vec::new();
        let mut consequences = Vec::new();
        for group in
            self.config.groups.values().filter(|group| group.home == host && self.is_managed(&group.id))
        {
            if self.location(group).as_ref() == Some(&host) {
                continue;
            }
            if let Err(why) = self.can_run_on(now, group, &host) {
                return refuse(&why);
            }
            consequences.push(format!("{} moves from {} to {host}", group.id, self.located(group)));
            let flags = GroupFlags { wanted_on: Some(host.clone()), ..self.group_flags(&group.id) };
            records.push(Record::GroupFlags { group: group.id.clone(), flags });
            groups.push(group.id.clone());
        }
        Ok(Plan {
            event: "failback",
            object: host.to_string(),
            what: format!("failback onto {host}"),
            consequences,
            records,
            then: Then::Nothing,
            goal: Goal::On { groups, host },
        })
    }

    fn plan_move(&self, now: Now, id: &GroupId, to: Option<HostId>) -> Result<Plan, Denied> {
        self.acting()?;
        let group = self.group(id)?;
        if !self.is_managed(id) {
            return conflict(format!("Could not move '{id}': it is not managed, or in maintenance."));
        }
        let location = self.location(group);
        let to = match to {
            Some(to) => {
                self.host(&to)?;
                if !group.hosts().any(|host| *host == to) {
                    let hosts: Vec<&str> = group.hosts().map(HostId::as_str).collect();
                    return conflict(format!(
                        "Could not move '{id}' to '{to}': it may run on {}.",
                        hosts.join(", ")
                    ));
                }
                if let Err(why) = self.can_run_on(now, group, &to) {
                    return conflict(format!("Could not move '{id}' to '{to}': {why}."));
                }
                to
            }
            None => match self.choose(now, group, location.as_ref()) {
                Ok(to) => to,
                Err(reasons) => return conflict(format!("Could not move '{id}': {}.", reasons.join(", "))),
            },
        };
        let flags = GroupFlags { wanted_on: Some(to.clone()), ..self.group_flags(id) };
        Ok(Plan {
            event: "move",
            object: id.to_string(),
            what: format!("move {id} to {to}"),
            consequences: vec![format!("{id} is stopped on {} and started on {to}", self.located(group))],
            records: vec![Record::GroupFlags { group: id.clone(), flags }],
            then: Then::Nothing,
            goal: Goal::On { groups: vec![id.clone()], host: to },
        })
    }

    fn plan_start(&self, target: &str) -> Result<Plan, Denied> {
        self.acting()?;
        let Some(resource) = self.config.resources.get(target) else {
            return not_found(format!("There is no group or resource '{target}'."));
        };
        let group = resource.group.clone();
        let mut records = vec![Record::GroupFlags {
            group: group.clone(),
            flags: GroupFlags { stopped: false, ..self.group_flags(&group) },
        }];
        // What it depends on is needed as well; what depends on the whole group comes with it.
        let whole = resource.parent.is_none();
        let mut wanted: Vec<ResourceId> = Vec::new();
        let mut at = Some(resource.spec.id.clone());
        while let Some(name) = at {
            at = self.config.resources.get(&name).and_then(|resource| resource.parent.clone());
            wanted.push(name);
        }
        if whole && let Some(group) = self.config.groups.get(&group) {
            wanted.extend(group.members.iter().cloned());
        }
        for name in wanted {
            if self.state.stopped.contains(&name) {
                records.push(Record::ResourceStopped { resource: name, stopped: false });
            }
        }
        Ok(Plan {
            event: "start",
            object: target.to_owned(),
            what: format!("start {target}"),
            consequences: vec![format!("{target} is started, with what it depends on")],
            records,
            then: Then::Nothing,
            goal: Goal::Up { group, resource: resource.spec.id.clone() },
        })
    }

    fn plan_stop(&self, target: &str) -> Result<Plan, Denied> {
        self.acting()?;
        let Some(resource) = self.config.resources.get(target) else {
            return not_found(format!("There is no group or resource '{target}'."));
        };
        let group = resource.group.clone();
        let whole = resource.parent.is_none();
        let record = if whole {
            Record::GroupFlags {
                group: group.clone(),
                flags: GroupFlags { stopped: true, ..self.group_flags(&group) },
            }
        } else {
            Record::ResourceStopped { resource: resource.spec.id.clone(), stopped: true }
        };
        let consequence = if resource.children.is_empty() {
            format!("{target} is stopped and stays so until started again")
        } else {
            format!("{target} and what depends on it is stopped and stays so until started again")
        };
        Ok(Plan {
            event: "stop",
            object: target.to_owned(),
            what: format!("stop {target}"),
            consequences: vec![consequence],
            records: vec![record],
            then: Then::Nothing,
            goal: Goal::Down { group, resource: resource.spec.id.clone() },
        })
    }

    fn plan_clear(&self, target: Option<String>) -> Result<Plan, Denied> {
        let resources: Vec<ResourceId> = match &target {
            None => self.config.resources.keys().cloned().collect(),
            Some(name) => {
                if let Some(group) = self.config.groups.get(name.as_str()) {
                    group.members.clone()
                } else if let Some(resource) = self.config.resources.get(name.as_str()) {
                    vec![resource.spec.id.clone()]
                } else if self.config.hosts.contains_key(name.as_str()) {
                    let here = |failures: &Vec<crate::ha::status::Failure>| {
                        failures.iter().any(|failure| failure.host.as_str() == name)
                    };
                    self.state
                        .failures
                        .iter()
                        .filter(|(_, failures)| here(failures))
                        .map(|(id, _)| id.clone())
                        .collect()
                } else {
                    return not_found(format!("There is no group, resource or host '{name}'."));
                }
            }
        };
        let object = target.unwrap_or_else(|| "cluster".to_owned());
        Ok(Plan {
            event: "clear",
            what: format!("clear the failures of {object}"),
            object,
            consequences: vec!["failures are forgotten, and what they had stopped is tried again".to_owned()],
            records: Vec::new(),
            then: Then::ClearFailures(resources),
            goal: Goal::Instant,
        })
    }

    fn plan_maintenance(&self, now: Now, target: Option<String>, time: Duration) -> Result<Plan, Denied> {
        self.acting()?;
        let until = (!time.is_zero()).then(|| now.wall_at(now.mono + time).0);
        let record = match &target {
            None => Record::Maintenance { until },
            Some(name) => {
                if let Some(group) = self.config.groups.get(name.as_str()) {
                    let flags = GroupFlags { maintenance_until: until, ..self.group_flags(&group.id) };
                    Record::GroupFlags { group: group.id.clone(), flags }
                } else if let Some(host) = self.config.hosts.get(name.as_str()) {
                    let flags = HostFlags { maintenance_until: until, ..self.host_flags(&host.id) };
                    Record::HostFlags { host: host.id.clone(), flags }
                } else {
                    return not_found(format!("There is no group or host '{name}'."));
                }
            }
        };
        let object = target.unwrap_or_else(|| "cluster".to_owned());
        let consequence = match until {
            Some(_) => format!("nothing is done to {object} for {} s", time.as_secs()),
            None => format!("{object} is looked at anew and kept running again"),
        };
        Ok(Plan {
            event: "maintenance",
            what: if until.is_some() {
                format!("maintenance of {object}")
            } else {
                format!("end the maintenance of {object}")
            },
            object,
            consequences: vec![consequence],
            records: vec![record],
            then: Then::Nothing,
            goal: Goal::Instant,
        })
    }

    fn plan_fence(&self, host: &HostId, force: bool) -> Result<Plan, Denied> {
        self.acting()?;
        self.host(host)?;
        let refuse = |why: &str| conflict(format!("Will not fence '{host}': {why}"));
        if self.power.get(host).is_some_and(super::fences::PowerRun::is_fence) {
            return refuse("Another fence request is already in progress. Wait for it to finish.");
        }
        let partners = self.partners(host);
        if !force {
            if self.is_fenced(host) {
                return refuse("Host has already been fenced.");
            }
            if !partners.is_empty() && !partners.iter().any(|partner| self.is_active(partner)) {
                return refuse("Partner is deactivated.");
            }
            let connected = |partner: &HostId| {
                self.is_active(partner) && self.hosts.get(partner).is_some_and(|host| host.is_up())
            };
            if !partners.is_empty() && !partners.iter().any(connected) {
                return refuse("Partner is disconnected.");
            }
        }
        if !self.hosts.get(host).is_some_and(|host| host.can_be_fenced()) {
            return refuse("Host has no fence device.");
        }
        let mut consequences = vec![format!("{host} is powered off")];
        for group in self.groups_on(host) {
            consequences.push(if self.is_managed(&group) {
                format!("{group} is started on another host once {host} is proven to be off")
            } else {
                format!("{group} goes down with it and is not started elsewhere: it is not managed")
            });
        }
        Ok(Plan {
            event: "fence_requested",
            object: host.to_string(),
            what: format!("fence {host}"),
            consequences,
            records: Vec::new(),
            then: Then::Power(host.clone(), PowerKind::Fence { automatic: false }),
            goal: Goal::Power(host.clone()),
        })
    }

    fn plan_power(&self, host: &HostId, action: PowerCommand) -> Result<Plan, Denied> {
        self.host(host)?;
        if self.power.contains_key(host) {
            return conflict(format!(
                "The power of '{host}' is being changed already. Wait for it to finish."
            ));
        }
        if !self.hosts.get(host).is_some_and(|host| host.can_be_fenced()) {
            return conflict(format!("'{host}' has no fence device."));
        }
        let (event, what, kind) = match action {
            PowerCommand::On => ("power_on_requested", "power on", PowerKind::On),
            PowerCommand::Off => ("power_off_requested", "power off", PowerKind::Fence { automatic: false }),
            PowerCommand::Status => ("power_status", "ask the power of", PowerKind::Look),
        };
        if kind != PowerKind::Look {
            self.acting()?;
        }
        Ok(Plan {
            event,
            object: host.to_string(),
            what: format!("{what} {host}"),
            consequences: vec![format!("{what} {host}")],
            records: Vec::new(),
            then: Then::Power(host.clone(), kind),
            goal: Goal::Power(host.clone()),
        })
    }

    fn plan_confirm_off(&self, host: HostId) -> Result<Plan, Denied> {
        self.acting()?;
        let Some(entry) = self.hosts.get(&host) else {
            return not_found(format!("Host '{host}' not found."));
        };
        if entry.is_up() {
            return conflict(format!("'{host}' is not off: its agent is connected."));
        }
        let mut consequences = vec![format!(
            "{host} counts as off until it is heard again; if it is not, two servers may mount one target and destroy it"
        )];
        consequences.extend(
            self.groups_on(&host).into_iter().map(|group| format!("{group} may be started on another host")),
        );
        Ok(Plan {
            event: "confirm_off",
            object: host.to_string(),
            what: format!("confirm that {host} is off"),
            consequences,
            records: Vec::new(),
            then: Then::ConfirmOff(host),
            goal: Goal::Instant,
        })
    }

    fn confirm_off(&mut self, now: Now, host: &HostId, by: &str) {
        let id = FenceId(self.state.last_fence.0 + 1);
        self.record(Record::FenceIntent {
            id,
            host: host.clone(),
            action: "confirm".to_owned(),
            until: now.wall.0,
            automatic: false,
            reason: by.to_owned(),
            at: now.wall.0,
        });
        let result = format!("{by} answers for it being off");
        self.record(Record::FenceResult { id, host: host.clone(), success: true, result, at: now.wall.0 });
        // Whatever tried to power it off is overtaken by this.
        self.power.remove(host);
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.off = Some(OffProof { read: now.mono, stands: true, how: "an operator confirmed it" });
        }
        self.lose_link(now, host, "an operator confirmed that it is off");
        self.host_is_off(now, host);
    }

    /// All that is known of a group is void; look at it everywhere before anything is done.
    fn look_anew(&mut self, now: Now, id: &GroupId) {
        let Some(group) = self.config.groups.get(id).cloned() else { return };
        for member in &group.members {
            let Some(subject) = self.current.get(member).copied() else { continue };
            let hosts: Vec<HostId> = match self.subjects.get_mut(&subject) {
                Some(entry) => {
                    entry.wanted_since = Some(now.mono);
                    for known in entry.on.values_mut().filter(|known| known.pending.is_none()) {
                        known.state = super::knowledge::KnownState::Unknown;
                        known.since = now.wall;
                    }
                    entry.on.keys().cloned().collect()
                }
                None => continue,
            };
            for host in hosts {
                self.look(now, subject, &host);
            }
        }
    }

    /// A maintenance is over by itself: what it covered is looked at anew.
    pub(super) fn end_maintenance(&mut self, now: Now) {
        let over = |until: Option<i64>| until.is_some_and(|until| until <= now.wall.0);
        let mut ended: Vec<String> = Vec::new();
        if over(self.state.maintenance_until) {
            self.record(Record::Maintenance { until: None });
            ended.push("cluster".to_owned());
        }
        let hosts: Vec<(HostId, HostFlags)> = self
            .state
            .hosts
            .iter()
            .filter(|(_, flags)| over(flags.maintenance_until))
            .map(|(id, flags)| (id.clone(), flags.clone()))
            .collect();
        for (host, flags) in hosts {
            ended.push(host.to_string());
            self.record(Record::HostFlags { host, flags: HostFlags { maintenance_until: None, ..flags } });
        }
        let groups: Vec<(GroupId, GroupFlags)> = self
            .state
            .groups
            .iter()
            .filter(|(_, flags)| over(flags.maintenance_until))
            .map(|(id, flags)| (id.clone(), flags.clone()))
            .collect();
        for (group, flags) in groups {
            ended.push(group.to_string());
            self.record(Record::GroupFlags { group, flags: GroupFlags { maintenance_until: None, ..flags } });
        }
        for object in ended {
            self.note(now, "maintenance_over", &object, None, "manager", None);
        }
        self.touch_all();
        self.schedule_maintenance(now);
    }

    pub(super) fn schedule_maintenance(&mut self, now: Now) {
        let ends = self
            .state
            .maintenance_until
            .into_iter()
            .chain(self.state.hosts.values().filter_map(|flags| flags.maintenance_until))
            .chain(self.state.groups.values().filter_map(|flags| flags.maintenance_until));
        if let Some(first) = ends.min() {
            let rest = Duration::from_nanos(u64::try_from(first.saturating_sub(now.wall.0)).unwrap_or(0));
            // Looked at once a minute at least, since the wall clock may be set.
            self.timers.set(
                Timer::Maintenance,
                now.mono + rest.min(Duration::from_secs(60)) + Duration::from_millis(1),
            );
        } else {
            self.timers.cancel(&Timer::Maintenance);
        }
    }
}
