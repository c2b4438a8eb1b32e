//! Operators: commands at any moment, and the mending of everything once faults are over.

use std::time::Duration;

use super::clock::SECOND;
use super::devices::Mood;
use super::machines::{Cause, Kernel};
use super::managers::ManagerInput;
use super::world::{HostTask, ManagerTask, Task, World};
use crate::ha::command::{Command, PowerCommand, Request};
use crate::ha::engine::Event;
use crate::ha::ids::{GroupId, HostId, ReplyToken};
use crate::ha::status::{HostState, Phase};

impl World {
    /// An operator gives a command to a manager.
    pub(super) fn command(&mut self, manager: usize, command: Command) {
        let token = ReplyToken(self.rng.operator.next_u64());
        self.tell(format_args!("operator to manager {manager}: {command:.200?}"));
        if self.managers[manager].process.is_none() {
            return;
        }
        self.judge.asked.insert(token, command.clone());
        let request = Request {
            token,
            command,
            by: "admin".to_owned(),
            reason: Some("simulated".to_owned()),
            dry_run: self.rng.operator.one_in(20),
        };
        if request.dry_run {
            self.judge.asked.remove(&token);
        }
        let input = ManagerInput::Event(Event::Request(request));
        self.on_manager(manager, 0, ManagerTask::Input(input));
    }

    /// An operator does something.
    pub(super) fn operator(&mut self) {
        if self.calm {
            return;
        }
        let mean = self.scenario.faults.operator;
        let next = self.rng.operator.below(2 * mean);
        self.after(next, Task::Operator);
        let manager = usize::from(self.managers[1].process.is_some() && self.rng.operator.one_in(3));
        let hosts: Vec<HostId> = self.managers[manager].config.hosts.keys().cloned().collect();
        let groups: Vec<GroupId> = self.managers[manager].config.groups.keys().cloned().collect();
        let names: Vec<String> =
            self.managers[manager].config.resources.keys().map(|id| id.to_string()).collect();
        let rng = &mut self.rng.operator;
        let (Some(host), Some(group), Some(name)) =
            (rng.pick(&hosts).cloned(), rng.pick(&groups).cloned(), rng.pick(&names).cloned())
        else {
            return;
        };
        let force = rng.one_in(3);
        let time = Duration::from_secs(rng.below(40));
        let to = if rng.one_in(2) { Some(host.clone()) } else { None };
        let command = match rng.below(19) {
            0 => Command::Unmanage { group },
            1 | 2 => Command::Manage { group },
            3 => Command::Deactivate { host, force },
            4 => Command::Activate { host },
            5 | 6 => Command::Failback { host },
            7 | 8 => Command::Move { group, to },
            9 => Command::Stop { target: name },
            10 => Command::Start { target: name },
            11 => Command::Clear { target: rng.one_in(2).then_some(name) },
            12 => {
                let target = match rng.below(3) {
                    0 => None,
                    1 => Some(host.to_string()),
                    _ => Some(group.to_string()),
                };
                Command::Maintenance { target, time }
            }
            13 => Command::Fence { host, force },
            14 => Command::Reset { host },
            15 => Command::Power { host, action: PowerCommand::On },
            16 => Command::Power {
                host,
                action: if rng.one_in(2) { PowerCommand::Off } else { PowerCommand::Status },
            },
            17 => return self.confirm_some_host(manager),
            _ => Command::Takeover,
        };
        self.command(manager, command);
    }

    /// An operator goes and looks whether a host is off, and tells the manager if it is. Nobody powers it on meanwhile.
    fn confirm_some_host(&mut self, manager: usize) {
        let off = |host: &usize| self.hosts[*host].kernel == Kernel::Off;
        let Some(host) = (0..self.hosts.len()).find(off) else { return };
        self.report.confirmed += 1;
        let id = self.hosts[host].id.clone();
        self.command(manager, Command::ConfirmOff { host: id });
    }

    /// Faults are over: everything that can be repaired by hand is.
    pub(super) fn calm_down(&mut self) {
        self.calm = true;
        self.calm_since = self.now;
        self.tell(format_args!("calm"));
        let paths: Vec<(usize, usize)> = self.net.blocked.iter().copied().collect();
        for (one, other) in paths {
            self.heal(one, other);
        }
        self.kill_manager(1);
        for host in 0..self.hosts.len() {
            let boot = self.hosts[host].boot;
            self.unhang(host, boot);
            for device in 0..self.hosts[host].devices.len() {
                self.hosts[host].devices[device].mood = Mood::Honest;
                self.hosts[host].devices[device].on = true;
            }
            self.scenario.wiring[host].wrong_plug = None;
            self.power_changed(host);
            self.hosts[host].disk_full = false;
            if let Some(life) = self.hosts[host].agent.as_ref().map(|agent| agent.life) {
                self.on_host(host, 0, HostTask::ContinueAgent { life });
            }
            let by_hand: Vec<String> = self.hosts[host]
                .active
                .iter()
                .filter(|(_, (cause, _))| *cause == Cause::Hand)
                .map(|(thing, _)| thing.clone())
                .collect();
            for thing in by_hand {
                self.end_thing(host, &thing);
            }
        }
        if self.managers[0].process.is_some() {
            self.on_manager(0, 0, ManagerTask::Continue);
        } else {
            self.after(SECOND, Task::StartManager { manager: 0 });
        }
    }

    /// What a careful operator does about what the manager shows.
    pub(super) fn mend(&mut self) {
        for host in 0..self.hosts.len() {
            // Somebody goes there and looks.
            if self.hosts[host].kernel == Kernel::Up && self.hosts[host].agent.is_none() {
                self.on_host(host, SECOND, HostTask::StartAgent);
            }
            if self.hosts[host].kernel == Kernel::Off {
                self.hosts[host].devices.iter_mut().for_each(|device| device.on = true);
                self.power_changed(host);
            }
        }
        let now = self.managers[0].clock.now(self.now);
        let Some(process) = &self.managers[0].process else {
            return self.after(SECOND, Task::StartManager { manager: 0 });
        };
        // Not everything at once: what was told last has some time to work.
        if self.now < self.calm_since + 30 * SECOND || !self.managers[0].manage {
            return self.take_over_if_needed();
        }
        let status = process.engine.status(now);
        let mut commands = Vec::new();
        if *process.engine.config() != self.managers[0].config {
            commands.push(Command::Reload { config: Box::new(self.managers[0].config.clone()) });
        }
        let flags = process.engine.state();
        if flags.maintenance_until.is_some() {
            commands.push(Command::Maintenance { target: None, time: Duration::ZERO });
        }
        for host in &status.hosts {
            let id = host.id.clone();
            if !host.active {
                commands.push(Command::Activate { host: id.clone() });
            }
            if host.maintenance_until.is_some() {
                commands.push(Command::Maintenance { target: Some(id.to_string()), time: Duration::ZERO });
            }
            let distrusted = status.alerts.iter().any(|alert| {
                alert.object == id.as_str() && alert.command.as_ref().is_some_and(|c| c.contains("reset"))
            });
            if host.fenced || distrusted {
                commands.push(Command::Reset { host: id });
            }
        }
        for group in &status.groups {
            let id = group.id.clone();
            if flags.groups.get(&id).is_some_and(|flags| flags.unmanaged) {
                commands.push(Command::Manage { group: id.clone() });
            }
            if group.stopped_by_operator || group.resources.iter().any(|r| r.stopped_by_operator) {
                commands.push(Command::Start { target: id.to_string() });
                let stopped = group.resources.iter().filter(|r| r.stopped_by_operator);
                commands.extend(stopped.map(|r| Command::Start { target: r.id.to_string() }));
            }
            if group.maintenance_until.is_some() {
                commands.push(Command::Maintenance { target: Some(id.to_string()), time: Duration::ZERO });
            }
            let failures = group.resources.iter().any(|resource| !resource.failures.is_empty());
            if group.phase == Phase::Failed || (failures && group.phase != Phase::Running) {
                commands.push(Command::Clear { target: Some(id.to_string()) });
            }
        }
        // What nothing else helps is rebooted by hand.
        let stuck: Vec<usize> = (0..self.hosts.len())
            .filter(|number| {
                let id = self.hosts[*number].id.as_str();
                status.alerts.iter().any(|a| a.object == id && a.text.starts_with("it must be fenced"))
            })
            .filter(|_| self.now > self.calm_since + 300 * SECOND)
            .collect();
        for command in commands {
            self.command(0, command);
        }
        let frozen: Vec<GroupId> =
            status.groups.iter().filter(|g| g.phase == Phase::Frozen).map(|g| g.id.clone()).collect();
        for group in frozen {
            self.thaw(&group);
        }
        self.stop_strangers();
        for host in stuck {
            self.report.rebooted_by_hand += 1;
            self.reset_host(host, "an administrator reboots it");
        }
        self.take_over_if_needed();
    }

    /// A group is active on several hosts: it is stopped by hand on all but one.
    fn thaw(&mut self, group: &GroupId) {
        let config = &self.managers[0].config;
        let Some(group) = config.groups.get(group) else { return };
        let things: Vec<String> = group
            .members
            .iter()
            .filter_map(|member| config.resources.get(member)?.spec.parameters.get("target").cloned())
            .collect();
        let places: Vec<usize> = (0..self.hosts.len())
            .filter(|host| things.iter().any(|thing| self.hosts[*host].active.contains_key(thing)))
            .collect();
        for host in places.iter().skip(1) {
            self.tell(format_args!("by hand:"));
            for thing in things.iter().rev() {
                self.end_thing(*host, thing);
            }
        }
    }

    fn take_over_if_needed(&mut self) {
        let now = self.managers[0].clock.now(self.now);
        let Some(process) = &self.managers[0].process else { return };
        let status = process.engine.status(now);
        let refused = status.hosts.iter().any(|host| host.state == HostState::Refused);
        if status.superseded || refused {
            self.command(0, Command::Takeover);
        }
    }
}
