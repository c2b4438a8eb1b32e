//! The world of one run: time, and everything that is in it.

use std::collections::BTreeMap;

use super::agents::AgentInput;
use super::clock::SECOND;
use super::devices::DeviceStep;
use super::judge::Judge;
use super::machines::Machine;
use super::managers::{Manager, ManagerInput};
use super::network::{Network, Side};
use super::report::Report;
use super::scenario::Scenario;
use super::scripts::ScriptStep;
use crate::ha::ids::{CallId, LinkId, OrderId};
use crate::sim::rng::Rng;

/// How long after the last fault everything must be well again, in nanoseconds.
const RECOVERY: u64 = 1800 * SECOND;

/// Something that is going to happen.
#[derive(Debug)]
pub(super) enum Task {
    /// The next piece of a stream is due at its end.
    Deliver { link: u64, to: Side },
    /// A connection is tried, or given up.
    Connect { manager: usize, life: u64, link: LinkId, host: usize, give_up: u64 },
    /// Something happens on a host: only in this boot, and not while it hangs.
    OnHost { host: usize, boot: u64, what: HostTask },
    /// The power of a host is on: it boots.
    Boot { host: usize, boot: u64 },
    /// A hung or paused host goes on.
    Unhang { host: usize, boot: u64 },
    /// Something happens to a manager's process.
    OnManager { manager: usize, life: u64, what: ManagerTask },
    /// The manager is started.
    StartManager { manager: usize },
    /// A fence device does something.
    Device { host: usize, step: DeviceStep },
    /// A call of a fence device ends.
    CallEnds { manager: usize, life: u64, call: CallId },
    /// A path works again: both directions between two nodes.
    Heal { one: usize, other: usize },
    /// Something goes wrong.
    Fault,
    /// An operator does something.
    Operator,
    /// The judge looks.
    Look,
    /// No more faults.
    Calm,
}

/// What happens on a host.
#[derive(Debug)]
pub(super) enum HostTask {
    /// The agent's process starts.
    StartAgent,
    /// Something reaches the agent's process.
    Agent { life: u64, input: AgentInput },
    /// A stopped agent goes on.
    ContinueAgent { life: u64 },
    /// The agent's timer.
    WakeAgent { life: u64 },
    /// The disk has room again.
    DiskFree,
    /// A script goes on.
    Script { order: OrderId, step: ScriptStep },
    /// The hardware watchdog looks.
    Watchdog,
}

/// What happens to a manager.
#[derive(Debug)]
pub(super) enum ManagerTask {
    /// Something reaches it.
    Input(ManagerInput),
    /// Its timer.
    Wake,
    /// It goes on.
    Continue,
    /// Its journal was synced up to here.
    Synced { length: usize },
}

/// Streams of randomness.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) network: Rng,
    pub(super) scripts: Rng,
    pub(super) disks: Rng,
    pub(super) devices: Rng,
    pub(super) faults: Rng,
    pub(super) operator: Rng,
    pub(super) hosts: Rng,
    pub(super) managers: Rng,
}

/// The world.
#[derive(Debug)]
pub(super) struct World {
    /// True time in nanoseconds.
    pub(super) now: u64,
    agenda: BTreeMap<(u64, u64), Task>,
    tasks: u64,
    pub(super) net: Network,
    pub(super) hosts: Vec<Machine>,
    pub(super) managers: Vec<Manager>,
    pub(super) judge: Judge,
    pub(super) scenario: Scenario,
    pub(super) rng: Streams,
    /// Faults are over.
    pub(super) calm: bool,
    pub(super) calm_since: u64,
    pub(super) report: Report,
    pub(super) trace: bool,
    failure: Option<String>,
}

impl World {
    pub(super) fn new(seed: u64, trace: bool) -> Self {
        let scenario = Scenario::draw(seed);
        let stream = |name| Rng::stream(seed, name);
        let rng = Streams {
            network: stream("network"),
            scripts: stream("scripts"),
            disks: stream("disks"),
            devices: stream("devices"),
            faults: stream("faults"),
            operator: stream("operator"),
            hosts: stream("hosts"),
            managers: stream("managers"),
        };
        let mut world = Self {
            now: SECOND,
            agenda: BTreeMap::new(),
            tasks: 0,
            net: Network::default(),
            hosts: Machine::all(&scenario),
            managers: vec![Manager::new(&scenario), Manager::new(&scenario)],
            judge: Judge::new(&scenario),
            scenario,
            rng,
            calm: false,
            calm_since: 0,
            report: Report::default(),
            trace,
            failure: None,
        };
        if trace {
            println!("{:#?}", world.scenario);
        }
        for host in 0..world.hosts.len() {
            let delay = world.rng.hosts.below(3 * SECOND);
            world.on_host(host, delay, HostTask::StartAgent);
        }
        world.after(0, Task::StartManager { manager: 0 });
        if world.scenario.faults.every > 0 {
            world.after(world.scenario.faults.every, Task::Fault);
        }
        if world.scenario.faults.operator > 0 {
            world.after(world.scenario.faults.operator, Task::Operator);
        }
        world.after(5 * SECOND, Task::Look);
        world.after(world.scenario.busy, Task::Calm);
        world
    }

    /// Plans something.
    pub(super) fn after(&mut self, delay: u64, task: Task) {
        self.at(self.now + delay, task);
    }

    /// Plans something.
    pub(super) fn at(&mut self, at: u64, task: Task) {
        self.tasks += 1;
        self.agenda.insert((at.max(self.now), self.tasks), task);
    }

    /// Plans something on a host in its present boot.
    pub(super) fn on_host(&mut self, host: usize, delay: u64, what: HostTask) {
        let boot = self.hosts[host].boot;
        self.after(delay, Task::OnHost { host, boot, what });
    }

    /// Plans something for a manager's present process.
    pub(super) fn on_manager(&mut self, manager: usize, delay: u64, what: ManagerTask) {
        let life = self.managers[manager].life;
        self.after(delay, Task::OnManager { manager, life, what });
    }

    /// The run has failed.
    pub(super) fn fail(&mut self, why: String) {
        if self.trace {
            println!("{:>12.6} FAILED: {why}", self.now as f64 / 1e9);
        }
        self.failure.get_or_insert(why);
    }

    /// Tells what happens, if anybody wants to know.
    pub(super) fn tell(&self, what: std::fmt::Arguments<'_>) {
        if self.trace {
            println!("{:>12.6} {what}", self.now as f64 / 1e9);
        }
    }

    /// Runs to the end.
    pub(super) fn run(mut self) -> Result<Report, String> {
        loop {
            if let Some(why) = self.failure.take() {
                return Err(format!("after {:.3} s: {why}", self.now as f64 / 1e9));
            }
            if self.calm && self.is_well() {
                break;
            }
            if self.calm && self.now > self.calm_since + RECOVERY {
                let why = self.what_is_not_well();
                return Err(format!("not well {} s after the last fault:\n{why}", RECOVERY / SECOND));
            }
            let Some(((at, _), task)) = self.agenda.pop_first() else {
                return Err("nothing will ever happen again".to_owned());
            };
            self.now = at;
            self.report.events += 1;
            if self.report.events > 2_000_000 {
                return Err(format!("too much happens:\n{}", self.what_is_not_well()));
            }
            let kind = self.perform(task);
            self.report.mix(self.now ^ kind.rotate_left(40));
        }
        self.report.seconds = self.now / SECOND;
        Ok(self.report)
    }

    /// Does what is due. Returns a number for the fingerprint.
    fn perform(&mut self, task: Task) -> u64 {
        match task {
            Task::Deliver { link, to } => {
                self.deliver(link, to);
                1 + link
            }
            Task::Connect { manager, life, link, host, give_up } => {
                self.try_connection(manager, life, link, host, give_up);
                2
            }
            Task::OnHost { host, boot, what } => {
                self.host_task(host, boot, what);
                1000 + host as u64
            }
            Task::Boot { host, boot } => {
                self.boot(host, boot);
                4
            }
            Task::Unhang { host, boot } => {
                self.unhang(host, boot);
                5
            }
            Task::OnManager { manager, life, what } => {
                self.manager_task(manager, life, what);
                2000 + manager as u64
            }
            Task::StartManager { manager } => {
                self.start_manager(manager);
                7
            }
            Task::Device { host, step } => {
                self.device_step(host, step);
                8
            }
            Task::CallEnds { manager, life, call } => {
                self.call_ends(manager, life, call);
                9
            }
            Task::Heal { one, other } => {
                self.heal(one, other);
                10
            }
            Task::Fault => {
                self.fault();
                11
            }
            Task::Operator => {
                self.operator();
                12
            }
            Task::Look => {
                self.look();
                13
            }
            Task::Calm => {
                self.calm_down();
                14
            }
        }
    }

    fn host_task(&mut self, host: usize, boot: u64, what: HostTask) {
        if !self.is_present(host, boot) {
            return;
        }
        if self.hosts[host].is_hung() && !matches!(what, HostTask::Watchdog) {
            // It waits until the host goes on, if ever.
            self.hosts[host].frozen.push(what);
            return;
        }
        match what {
            HostTask::StartAgent => self.start_agent(host),
            HostTask::Agent { life, input } => self.agent_input(host, life, input),
            HostTask::ContinueAgent { life } => self.continue_agent(host, life),
            HostTask::WakeAgent { life } => self.wake_agent(host, life),
            HostTask::DiskFree => self.hosts[host].disk_full = false,
            HostTask::Script { order, step } => self.script_step(host, order, step),
            HostTask::Watchdog => self.watchdog(host),
        }
    }
}
