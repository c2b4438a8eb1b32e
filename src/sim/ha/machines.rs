//! Hosts: power, kernels, and what is truly active on them.

use std::collections::BTreeMap;

use super::agents::AgentProcess;
use super::clock::{Clock, MILLI, SECOND};
use super::devices::Device;
use super::disk::File;
use super::network::Side;
use super::scenario::{Scenario, host_id};
use super::scripts::Cgroup;
use super::world::{HostTask, Task, World};
use crate::ha::ids::{AgentRun, HostId, OrderId};

/// A device of the world, as it is: the `target` of a resource.
pub(super) type Thing = String;

/// Who made something active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// An order of a manager.
    Order(OrderId),
    /// An administrator.
    Hand,
}

/// What a host's kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// Without power.
    Off,
    /// It boots.
    Booting,
    /// It works.
    Up,
    /// Nothing answers, but what is active stays so. `stopped`: its clock stands still as well.
    Hung { since: u64, stopped: bool },
}

/// A host.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) id: HostId,
    pub(super) uuid: String,
    pub(super) tells_uuid: bool,
    pub(super) clock: Clock,
    pub(super) kernel: Kernel,
    /// Counts boots.
    pub(super) boot: u64,
    /// What is active, and since when.
    pub(super) active: BTreeMap<Thing, (Cause, u64)>,
    pub(super) cgroups: BTreeMap<OrderId, Cgroup>,
    pub(super) keeps_processes: bool,
    pub(super) agent: Option<AgentProcess>,
    pub(super) agents: u64,
    /// The agent's file of intents.
    pub(super) file: File,
    pub(super) disk_full: bool,
    /// What waits for a hung host.
    pub(super) frozen: Vec<HostTask>,
    /// The BMC, then the outlets.
    pub(super) devices: Vec<Device>,
    /// The hardware watchdog: its timeout.
    pub(super) watchdog: Option<u64>,
    /// When it resets the host unless it is fed.
    pub(super) fires_at: Option<u64>,
    /// A look at the watchdog is planned.
    pub(super) watched: bool,
    /// When a fault last touched it.
    pub(super) touched: u64,
}

impl Machine {
    pub(super) fn all(scenario: &Scenario) -> Vec<Machine> {
        let wiring = scenario.wiring.iter().enumerate();
        wiring
            .map(|(number, wiring)| Machine {
                id: host_id(number),
                uuid: format!("00112233-4455-6677-8899-{number:012x}"),
                tells_uuid: wiring.tells_uuid,
                clock: Clock {
                    ppm: wiring.ppm,
                    ahead: number as u64 * 100 * SECOND,
                    lost: 0,
                    wall_offset: 0,
                },
                kernel: Kernel::Up,
                boot: 1,
                active: BTreeMap::new(),
                cgroups: BTreeMap::new(),
                keeps_processes: wiring.keeps_processes,
                agent: None,
                agents: 0,
                file: File::default(),
                disk_full: false,
                frozen: Vec::new(),
                devices: (0..=wiring.outlets).map(|_| Device::default()).collect(),
                watchdog: wiring.watchdog,
                fires_at: None,
                watched: false,
                touched: 0,
            })
            .collect()
    }

    pub(super) fn is_hung(&self) -> bool {
        matches!(self.kernel, Kernel::Hung { .. })
    }

    /// Whether its kernel answers on the network.
    pub(super) fn answers(&self) -> bool {
        self.kernel == Kernel::Up
    }

    /// Whether it has power.
    pub(super) fn is_on(&self) -> bool {
        self.kernel != Kernel::Off
    }

    /// Whether its supplies give power: the BMC's switch, and one outlet if it has any.
    fn has_power(&self) -> bool {
        let outlets = &self.devices[1..];
        self.devices[0].on && (outlets.is_empty() || outlets.iter().any(|outlet| outlet.on))
    }

    /// Whether its BMC has power itself.
    pub(super) fn bmc_lives(&self) -> bool {
        let outlets = &self.devices[1..];
        outlets.is_empty() || outlets.iter().any(|outlet| outlet.on)
    }

    /// Whether a cgroup of a start of this is there: it may become active, or is.
    pub(super) fn is_starting(&self, thing: &str) -> bool {
        self.cgroups.values().any(|cgroup| cgroup.may_activate() && cgroup.thing == thing)
    }
}

impl World {
    /// Whether a host is in this boot, dead or alive.
    pub(super) fn is_present(&self, host: usize, boot: u64) -> bool {
        let machine = &self.hosts[host];
        machine.boot == boot && matches!(machine.kernel, Kernel::Up | Kernel::Hung { .. })
    }

    /// The supplies of a host changed.
    pub(super) fn power_changed(&mut self, host: usize) {
        let powered = self.hosts[host].has_power();
        match (self.hosts[host].kernel, powered) {
            (Kernel::Off, true) => self.power_on(host),
            (Kernel::Off, false) | (_, true) => {}
            (_, false) => {
                self.tell(format_args!("h{host} loses power"));
                self.hosts[host].touched = self.now;
                self.kernel_gone(host);
                self.hosts[host].kernel = Kernel::Off;
            }
        }
    }

    fn power_on(&mut self, host: usize) {
        self.tell(format_args!("h{host} boots"));
        let machine = &mut self.hosts[host];
        machine.kernel = Kernel::Booting;
        machine.boot += 1;
        let boot = machine.boot;
        let delay = self.rng.hosts.between(2, 30) * SECOND;
        self.after(delay, Task::Boot { host, boot });
    }

    /// It crashes, or is reset, and boots again.
    pub(super) fn reset_host(&mut self, host: usize, why: &str) {
        if self.hosts[host].kernel == Kernel::Off {
            return;
        }
        self.tell(format_args!("h{host} is reset: {why}"));
        self.kernel_gone(host);
        self.power_on(host);
    }

    /// Everything that lived in its memory is gone.
    fn kernel_gone(&mut self, host: usize) {
        let keys: Vec<u64> =
            self.net.links.iter().filter(|(_, link)| link.host == host).map(|(key, _)| *key).collect();
        for key in keys {
            self.abandon_link(key, Side::Agent);
        }
        let machine = &mut self.hosts[host];
        if machine.cgroups.values().any(|cgroup| cgroup.main) {
            self.report.kernel_with_script += 1;
        }
        let machine = &mut self.hosts[host];
        machine.active.clear();
        machine.cgroups.clear();
        machine.frozen.clear();
        machine.fires_at = None;
        machine.watched = false;
        machine.agent = None;
        machine.clock.lost = 0;
        machine.disk_full = false;
        if machine.file.crash(&mut self.rng.disks) {
            self.report.agent_unsynced += 1;
        }
    }

    pub(super) fn boot(&mut self, host: usize, boot: u64) {
        let machine = &mut self.hosts[host];
        if machine.kernel != Kernel::Booting || machine.boot != boot {
            return;
        }
        machine.kernel = Kernel::Up;
        self.tell(format_args!("h{host} is up"));
        let delay = self.rng.hosts.below(10 * SECOND);
        self.on_host(host, delay, HostTask::StartAgent);
        let node = super::managers::MANAGERS + host;
        self.flush(|_, to| to == node);
    }

    /// Nothing on it moves any more, but it is there.
    pub(super) fn hang(&mut self, host: usize, time: Option<u64>) {
        if self.hosts[host].kernel != Kernel::Up {
            return;
        }
        // A machine whose watchdog counts is no virtual machine.
        let stopped = self.rng.faults.one_in(2) && self.hosts[host].watchdog.is_none();
        self.tell(format_args!("h{host} hangs for {time:?}"));
        self.hosts[host].kernel = Kernel::Hung { since: self.now, stopped };
        if let Some(time) = time {
            let boot = self.hosts[host].boot;
            self.after(time, Task::Unhang { host, boot });
        }
    }

    /// A hung host goes on.
    pub(super) fn unhang(&mut self, host: usize, boot: u64) {
        let now = self.now;
        let machine = &mut self.hosts[host];
        let Kernel::Hung { since, stopped } = machine.kernel else { return };
        if machine.boot != boot {
            return;
        }
        machine.kernel = Kernel::Up;
        if stopped {
            machine.clock.lost += now - since;
        }
        let frozen = std::mem::take(&mut machine.frozen);
        self.tell(format_args!("h{host} goes on, with {} things to do", frozen.len()));
        for what in frozen {
            self.on_host(host, MILLI, what);
        }
        if let Some(life) = self.hosts[host].agent.as_ref().map(|agent| agent.life) {
            self.on_host(host, MILLI, HostTask::WakeAgent { life });
        }
        let node = super::managers::MANAGERS + host;
        self.flush(|_, to| to == node);
    }

    /// Something is active from now on.
    pub(super) fn activate(&mut self, host: usize, thing: &str, cause: Cause) {
        if self.hosts[host].active.contains_key(thing) {
            return;
        }
        self.tell(format_args!("h{host}: {thing} is active ({cause:?})"));
        self.hosts[host].active.insert(thing.to_owned(), (cause, self.now));
        self.judge_presence(host, thing, cause);
    }

    /// Something is not active any more.
    pub(super) fn deactivate(&mut self, host: usize, thing: &str) {
        if self.hosts[host].active.remove(thing).is_some() {
            self.tell(format_args!("h{host}: {thing} is not active any more"));
        }
    }

    /// A new agent's number.
    pub(super) fn agent_run(&mut self) -> AgentRun {
        AgentRun(self.rng.hosts.next_u64())
    }

    /// The hardware watchdog looks whether it was fed.
    pub(super) fn watchdog(&mut self, host: usize) {
        self.hosts[host].watched = false;
        match self.hosts[host].fires_at {
            Some(at) if at <= self.now && self.hosts[host].kernel != Kernel::Off => {
                self.report.watchdogs += 1;
                self.reset_host(host, "its watchdog fired");
            }
            Some(at) => {
                self.hosts[host].watched = true;
                self.on_host(host, at - self.now, HostTask::Watchdog);
            }
            None => {}
        }
    }
}
