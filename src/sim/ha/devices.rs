//! Fence devices: a BMC and outlets for each host, honest or not.

use std::sync::Arc;

use super::clock::{MILLI, SECOND};
use super::machines::Kernel;
use super::managers::ManagerInput;
use super::world::{ManagerTask, Task, World};
use crate::ha::config::{FenceDevice, Parameter};
use crate::ha::engine::Event;
use crate::ha::fencing::{DeviceAction, DeviceAnswer};
use crate::ha::ids::{CallId, HostId};

/// A switch of a host's power.
#[derive(Debug, Clone)]
pub(super) struct Device {
    /// The switch.
    pub(super) on: bool,
    pub(super) mood: Mood,
}

impl Default for Device {
    fn default() -> Self {
        Self { on: true, mood: Mood::Honest }
    }
}

/// How a device behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Honest,
    /// It takes seconds.
    Slow,
    /// It does not answer, but does what it was told.
    ActsSilently,
    /// It does not answer and does nothing.
    Hangs,
    /// It says that it failed, and did nothing.
    Fails,
    /// It says that it did, and did nothing. Its status is true.
    ClaimsToAct,
    /// It says that it did, and does it later. Its status is true.
    ActsLate,
    /// Its status fails.
    StatusFails,
    /// Its status lies as well: nothing can be proven by it.
    Lies,
}

/// All moods that a device may have without harm.
pub(super) const MOODS: [Mood; 8] = [
    Mood::Slow,
    Mood::ActsSilently,
    Mood::Hangs,
    Mood::Fails,
    Mood::ClaimsToAct,
    Mood::ActsLate,
    Mood::StatusFails,
    Mood::Lies,
];

/// What a device does in its own time.
#[derive(Debug, Clone, Copy)]
pub(super) enum DeviceStep {
    /// It switches.
    Switch { device: usize, on: bool },
    /// It behaves again.
    Recover { device: usize },
}

/// A call of a fence agent that has not ended.
#[derive(Debug)]
pub(super) struct Call {
    host: usize,
    device: usize,
    action: DeviceAction,
    /// The plug that it switches belongs to this host.
    plug: usize,
    /// What it will say, if that does not depend on the moment.
    answer: Option<DeviceAnswer>,
}

fn number(device: &FenceDevice, name: &str) -> usize {
    match device.parameters.get(name) {
        Some(Parameter::Plain(text)) => text.parse().unwrap_or(0),
        _ => 0,
    }
}

impl World {
    /// A manager calls a fence agent.
    pub(super) fn call_device(
        &mut self,
        manager: usize,
        call: CallId,
        for_host: &HostId,
        device: &Arc<FenceDevice>,
        action: DeviceAction,
    ) {
        self.judge_device_call(manager, for_host, action);
        let host = number(device, "plug");
        let outlet = number(device, "outlet").min(self.hosts[host].devices.len() - 1);
        // A cable in the wrong place: the BMC's address is that of another machine.
        let wrong = self.scenario.wiring[host].wrong_plug.filter(|_| outlet == 0);
        let plug = wrong.unwrap_or(host);
        let mood = self.hosts[host].devices[outlet].mood;
        if !matches!(action, DeviceAction::Monitor) {
            self.tell(format_args!(
                "manager {manager}: {action:?} {} ({mood:?}, plug of h{plug})",
                device.name
            ));
        }
        if mood != Mood::Honest {
            self.report.moody_calls += 1;
        }
        let timeout = u64::try_from(device.timeout.as_nanos()).unwrap_or(u64::MAX);
        let mut time = self.rng.devices.between(30, 800) * MILLI;
        if mood == Mood::Slow || self.rng.devices.one_in(20) {
            time = self.rng.devices.between(1, 8) * SECOND;
        }
        // A BMC that has lost its power answers nobody.
        let dead = outlet == 0 && !self.hosts[plug].bmc_lives();
        let switches = matches!(action, DeviceAction::Off | DeviceAction::On);
        let failed = || Some(DeviceAnswer::Failed("simulated".to_owned()));
        let silent = || Some(DeviceAnswer::TimedOut);
        let mut switch_after = switches.then_some(time / 2);
        let answer = match mood {
            _ if dead => {
                switch_after = None;
                time = timeout;
                silent()
            }
            Mood::Honest | Mood::Slow => switches.then_some(DeviceAnswer::Done),
            Mood::ActsSilently => {
                time = timeout;
                silent()
            }
            Mood::Hangs => {
                (switch_after, time) = (None, timeout);
                silent()
            }
            Mood::Fails => {
                switch_after = None;
                failed()
            }
            Mood::ClaimsToAct | Mood::Lies => {
                switch_after = None;
                switches.then_some(DeviceAnswer::Done)
            }
            Mood::ActsLate => {
                switch_after = switches.then(|| self.rng.devices.between(1, 60) * SECOND);
                switches.then_some(DeviceAnswer::Done)
            }
            Mood::StatusFails if action == DeviceAction::Status => failed(),
            Mood::StatusFails => switches.then_some(DeviceAnswer::Done),
        };
        let answer = if time >= timeout { silent() } else { answer };
        if let Some(after) = switch_after {
            let step = DeviceStep::Switch { device: outlet, on: action == DeviceAction::On };
            self.after(after, Task::Device { host: plug, step });
        }
        let entry = Call { host, device: outlet, action, plug, answer };
        self.managers[manager].calls.insert(call, entry);
        let life = self.managers[manager].life;
        self.after(time.min(timeout), Task::CallEnds { manager, life, call });
    }

    /// A call of a fence agent ends.
    pub(super) fn call_ends(&mut self, manager: usize, life: u64, call: CallId) {
        if self.managers[manager].life != life {
            return;
        }
        let Some(entry) = self.managers[manager].calls.remove(&call) else { return };
        let machine = &self.hosts[entry.plug];
        let device = &machine.devices[entry.device.min(machine.devices.len() - 1)];
        let answer = entry.answer.unwrap_or_else(|| match entry.action {
            DeviceAction::Status => {
                let lies = self.hosts[entry.host].devices[entry.device].mood == Mood::Lies;
                // A BMC sees whether the machine runs, an outlet its own switch.
                let on = if entry.device == 0 { machine.is_on() } else { device.on };
                if on && !lies { DeviceAnswer::On } else { DeviceAnswer::Off }
            }
            DeviceAction::Identify if entry.device == 0 => DeviceAnswer::Uuid(machine.uuid.clone()),
            DeviceAction::Identify | DeviceAction::Unfence => DeviceAnswer::Unsupported,
            DeviceAction::Monitor | DeviceAction::Off | DeviceAction::On => DeviceAnswer::Done,
        });
        if entry.action == DeviceAction::Status
            && answer == DeviceAnswer::Off
            && self.hosts[entry.host].is_on()
        {
            // From now on nothing can be known of it: by a lie, or by a plug that belongs to another machine.
            self.judge.deceived.insert(entry.host);
            self.tell(format_args!("the judge exempts h{}: its device said off", entry.host));
        }
        let event = Event::Fenced { call, answer };
        let what = ManagerTask::Input(ManagerInput::Event(event));
        self.on_manager(manager, 0, what);
    }

    /// A device does something in its own time.
    pub(super) fn device_step(&mut self, host: usize, step: DeviceStep) {
        match step {
            DeviceStep::Switch { device, on } => {
                if let Some(device) = self.hosts[host].devices.get_mut(device) {
                    device.on = on;
                }
                if !on && self.hosts[host].kernel != Kernel::Off {
                    self.report.powered_off += 1;
                }
                self.power_changed(host);
            }
            DeviceStep::Recover { device } => {
                if let Some(device) = self.hosts[host].devices.get_mut(device) {
                    device.mood = Mood::Honest;
                }
            }
        }
    }
}
