//! What goes wrong, and when.

use super::clock::{MILLI, SECOND};
use super::devices::{DeviceStep, MOODS};
use super::disk::File;
use super::machines::{Cause, Kernel};
use super::managers::{MANAGERS, Manager};
use super::world::{HostTask, Task, World};
use crate::ha::ids::{Epoch, ManagerId};
use crate::ha::state::{State, log};

impl World {
    /// Something goes wrong.
    pub(super) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let every = self.scenario.faults.every;
        let next = self.rng.faults.below(2 * every);
        self.after(next, Task::Fault);
        if self.scenario.faults.reloads && self.rng.faults.one_in(6) {
            return self.change_configuration();
        }
        let victims: Vec<usize> = self.scenario.faults.victims.iter().copied().collect();
        let on_manager = self.scenario.faults.manager && (victims.is_empty() || self.rng.faults.one_in(3));
        if on_manager {
            return self.manager_fault();
        }
        let Some(host) = self.rng.faults.pick(&victims).copied() else { return };
        self.hosts[host].touched = self.now;
        match self.rng.faults.below(16) {
            0 | 1 => self.reset_host(host, "its kernel crashed"),
            2 => self.power_cut(host),
            3 | 4 => {
                let time = if self.rng.faults.one_in(4) { None } else { Some(self.some_time()) };
                self.report.hangs += u64::from(!self.hosts[host].active.is_empty());
                self.hang(host, time);
            }
            5 | 6 => self.agent_crash(host),
            7 => {
                let time = self.some_time();
                self.report.agent_stops += u64::from(!self.hosts[host].active.is_empty());
                self.stop_agent(host, time);
            }
            8 => {
                self.hosts[host].disk_full = true;
                let time = self.some_time();
                self.on_host(host, time, HostTask::DiskFree);
            }
            9 => self.resource_death(host),
            10 => self.set_clock(host),
            11 => self.device_mood(host),
            12 if self.scenario.faults.hands => self.hand(host),
            _ if self.scenario.faults.network => self.network_fault(host),
            _ => self.resource_death(host),
        }
    }

    /// Mostly seconds, now and then minutes.
    fn some_time(&mut self) -> u64 {
        let rng = &mut self.rng.faults;
        match rng.below(6) {
            0 => rng.between(30, 90) * SECOND,
            1 | 2 => rng.between(100, 3000) * MILLI,
            _ => rng.between(3, 25) * SECOND,
        }
    }

    /// Somebody pulls a plug, and puts it back.
    fn power_cut(&mut self, host: usize) {
        let device = self.rng.faults.below(self.hosts[host].devices.len() as u64) as usize;
        let after = self.some_time();
        self.tell(format_args!("h{host}: supply {device} fails"));
        self.after(0, Task::Device { host, step: DeviceStep::Switch { device, on: false } });
        // Without anybody to put it back it stays off.
        if !self.rng.faults.one_in(4) {
            self.after(after, Task::Device { host, step: DeviceStep::Switch { device, on: true } });
        }
    }

    fn agent_crash(&mut self, host: usize) {
        if self.hosts[host].kernel != Kernel::Up {
            return;
        }
        self.kill_agent(host);
        let delay =
            if self.rng.faults.one_in(3) { self.some_time() } else { self.rng.faults.below(2 * SECOND) };
        self.on_host(host, delay, HostTask::StartAgent);
    }

    fn resource_death(&mut self, host: usize) {
        let things: Vec<String> = self.hosts[host].active.keys().cloned().collect();
        let Some(thing) = self.rng.faults.pick(&things).cloned() else { return };
        self.report.deaths += 1;
        self.crash_thing(host, &thing);
    }

    fn set_clock(&mut self, host: usize) {
        let by = self.rng.faults.between(0, 7200) as i64 - 3600;
        self.report.clocks += 1;
        self.hosts[host].clock.wall_offset += by * SECOND as i64;
    }

    fn device_mood(&mut self, host: usize) {
        if !self.scenario.faults.devices {
            return self.resource_death(host);
        }
        let device = self.rng.faults.below(self.hosts[host].devices.len() as u64) as usize;
        let Some(mood) = self.rng.faults.pick(&MOODS).copied() else { return };
        self.tell(format_args!("h{host}: device {device} is {mood:?}"));
        self.hosts[host].devices[device].mood = mood;
        let after = self.some_time() + 20 * SECOND;
        self.after(after, Task::Device { host, step: DeviceStep::Recover { device } });
    }

    /// An administrator starts or stops something by hand.
    fn hand(&mut self, host: usize) {
        if !self.hosts[host].answers() {
            return;
        }
        self.report.hands += 1;
        let active: Vec<String> = self.hosts[host].active.keys().cloned().collect();
        if !active.is_empty() && self.rng.faults.one_in(2) {
            if let Some(thing) = self.rng.faults.pick(&active).cloned() {
                self.tell(format_args!("by hand:"));
                self.crash_thing(host, &thing);
            }
            return;
        }
        let roots: Vec<String> = self.scenario.config.groups.keys().map(|id| format!("dev-{id}")).collect();
        if let Some(thing) = self.rng.faults.pick(&roots).cloned() {
            self.activate(host, &thing, Cause::Hand);
        }
    }

    fn network_fault(&mut self, host: usize) {
        let node = MANAGERS + host;
        let heals = self.some_time();
        match self.rng.faults.below(4) {
            0 => {
                if self.reset_some_link() {
                    self.report.resets += 1;
                }
            }
            1 | 2 => {
                for manager in 0..MANAGERS {
                    self.cut_path(manager, node, true, heals);
                }
            }
            _ => {
                let inwards = self.rng.faults.one_in(2);
                let (from, to) = if inwards { (node, 0) } else { (0, node) };
                self.cut_path(from, to, false, heals);
            }
        }
    }

    /// A path does not work for some time.
    fn cut_path(&mut self, from: usize, to: usize, both: bool, time: u64) {
        self.tell(format_args!("path {from} - {to} is cut, both ways: {both}"));
        for node in [from, to] {
            if let Some(host) = node.checked_sub(MANAGERS).and_then(|host| self.hosts.get_mut(host)) {
                host.touched = self.now;
            }
        }
        self.net.blocked.insert((from, to));
        if both {
            self.net.blocked.insert((to, from));
            self.report.partitions += 1;
        } else {
            self.report.one_way += 1;
        }
        self.after(time, Task::Heal { one: from, other: to });
    }

    fn manager_fault(&mut self) {
        let rival = self.managers[1].process.is_some();
        let number = usize::from(rival && self.rng.faults.one_in(3));
        match self.rng.faults.below(10) {
            0..=2 => self.manager_crash(number),
            3 | 4 => {
                let time = self.some_time();
                if let Some(process) = &self.managers[number].process {
                    self.report.manager_stops += 1;
                    self.report.paused_with_effects += u64::from(process.is_waiting());
                }
                self.stop_manager(number, time);
            }
            5 => {
                // The manager is cut off from all hosts.
                let time = self.some_time();
                for host in 0..self.hosts.len() {
                    let later = self.rng.faults.below(5 * SECOND);
                    self.cut_path(number, MANAGERS + host, true, time + later);
                }
            }
            6 => self.state_fault(number),
            7 => {
                let by = self.rng.faults.between(0, 7200) as i64 - 3600;
                self.report.clocks += 1;
                self.managers[number].clock.wall_offset += by * SECOND as i64;
            }
            _ if self.scenario.faults.rival => self.rival(),
            _ => self.manager_crash(number),
        }
    }

    fn manager_crash(&mut self, number: usize) {
        if self.managers[number].process.is_some() {
            self.report.manager_busy += 1;
            let copy = self.managers[number].file.clone();
            self.managers[number].copies.push(copy);
        }
        self.kill_manager(number);
        self.restart_manager(number);
    }

    fn restart_manager(&mut self, number: usize) {
        if !std::mem::replace(&mut self.managers[number].coming, true) {
            let delay =
                if self.rng.faults.one_in(3) { self.some_time() } else { self.rng.faults.below(3 * SECOND) };
            self.after(delay, Task::StartManager { manager: number });
        }
    }

    /// The manager's state is lost, damaged, or an old one comes back.
    fn state_fault(&mut self, number: usize) {
        self.kill_manager(number);
        // Nobody loses what told where things may be, if that is elsewhere than the configuration says.
        let reloads = self.scenario.faults.reloads;
        let kind = self.rng.faults.below(3);
        let copies = &self.managers[number].copies;
        let old = self.rng.faults.pick(copies).cloned();
        match (kind, old) {
            (0, _) if !reloads => {
                self.tell(format_args!("manager {number}: the state is lost"));
                self.report.states_lost += 1;
                self.managers[number].file = File::default();
            }
            (1, Some(old)) if !reloads => {
                self.tell(format_args!("manager {number}: an old state is back"));
                self.report.states_old += 1;
                self.managers[number].file = old;
                self.judge.forget_decisions.insert(number);
            }
            (2, _) if !reloads => {
                self.tell(format_args!("manager {number}: the state is damaged"));
                self.report.states_damaged += 1;
                self.managers[number].file.damage(&mut self.rng.disks);
            }
            _ => {}
        }
        self.restart_manager(number);
    }

    /// Another manager is started somewhere else.
    fn rival(&mut self) {
        if self.managers[1].process.is_some() {
            return self.kill_manager(1);
        }
        let copy = self.rng.faults.one_in(2);
        let mut other = Manager::new(&self.scenario);
        other.life = self.managers[1].life;
        other.config = self.managers[0].config.clone();
        if copy {
            self.report.rivals_same += 1;
            other.file = self.managers[0].file.clone();
        } else {
            self.report.rivals_other += 1;
            // It may have reigned elsewhere for long.
            if self.rng.faults.one_in(2) {
                let manager = Some(ManagerId(self.rng.faults.next_u64()));
                let state =
                    State { manager, epoch: Epoch(self.rng.faults.between(1, 40)), ..State::default() };
                other.file.replace(log::file(&state).unwrap_or_default());
            }
        }
        self.managers[1] = other;
        self.judge.forget_decisions.insert(1);
        self.start_manager(1);
    }
}
