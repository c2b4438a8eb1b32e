//! Fence devices are tried before they are needed: do they work, and is the right machine behind them?

use std::collections::BTreeMap;

use super::event::Effect;
use super::machine::{Caller, Engine};
use super::monitors::{next_in_cycle, spread};
use super::timers::Timer;
use crate::ha::fencing::{DeviceAction, DeviceAnswer, same_machine};
use crate::ha::ids::HostId;
use crate::time::Now;

/// What the checks of a host's devices found.
#[derive(Debug, Default)]
pub(super) struct DeviceCheck {
    /// What is wrong with each device (level and number in it), in words.
    pub(super) wrong: BTreeMap<(usize, usize), String>,
}

impl Engine {
    pub(super) fn schedule_devices(&mut self, now: Now, host: &HostId) {
        let interval = self.config.settings.fence_monitor_interval;
        let timer = Timer::Devices(host.clone());
        let needed = !interval.is_zero() && self.hosts.get(host).is_some_and(|host| host.can_be_fenced());
        if !needed {
            self.timers.cancel(&timer);
            self.checks.remove(host);
        } else if !self.timers.is_set(&timer) {
            // The first time soon, so that a wrong password is found at once.
            let first = spread(host.as_str(), interval.min(std::time::Duration::from_secs(10)));
            self.timers.set(timer, now.mono + first);
        }
    }

    /// Asks every device of a host whether it works.
    pub(super) fn check_devices(&mut self, now: Now, host: &HostId) {
        let interval = self.config.settings.fence_monitor_interval;
        let next = next_in_cycle(now.mono, interval, spread(host.as_str(), interval));
        self.timers.set(Timer::Devices(host.clone()), next);
        if self.power.contains_key(host) {
            return;
        }
        self.call_each(host, DeviceAction::Monitor, Caller::Check);
    }

    /// Asks every device of a host that joined which machine is behind it.
    pub(super) fn identify_machine(&mut self, _now: Now, host: &HostId) {
        let known = self
            .hosts
            .get(host)
            .and_then(|host| host.agent.as_ref())
            .is_some_and(|agent| agent.system_uuid.is_some());
        if known {
            self.call_each(host, DeviceAction::Identify, Caller::Identify);
        }
    }

    fn call_each(&mut self, host: &HostId, action: DeviceAction, caller: fn(HostId, usize, usize) -> Caller) {
        let Some(config) = self.hosts.get(host).and_then(|host| host.config.clone()) else { return };
        for (level, devices) in config.fencing.iter().enumerate() {
            for (number, device) in devices.devices.iter().enumerate() {
                let call = self.new_call(caller(host.clone(), level, number));
                let (device, timeout) = (device.clone(), device.timeout);
                self.effect(Effect::CallDevice { call, host: host.clone(), device, action, timeout });
            }
        }
    }

    fn device_name(&self, host: &HostId, level: usize, device: usize) -> String {
        let config = self.hosts.get(host).and_then(|host| host.config.as_ref());
        let device = config.and_then(|config| config.fencing.get(level)?.devices.get(device));
        device.map_or_else(|| "a fence device".to_owned(), |device| device.name.clone())
    }

    pub(super) fn device_checked(
        &mut self,
        now: Now,
        host: &HostId,
        level: usize,
        device: usize,
        answer: &DeviceAnswer,
    ) {
        let name = self.device_name(host, level, device);
        let wrong = match answer {
            DeviceAnswer::Failed(why) => Some(format!("{name} does not work: {why}")),
            DeviceAnswer::TimedOut => Some(format!("{name} does not answer")),
            _ => None,
        };
        let check = self.checks.entry(host.clone()).or_default();
        let was = match &wrong {
            Some(wrong) => check.wrong.insert((level, device), wrong.clone()),
            None => check.wrong.remove(&(level, device)),
        };
        if was.is_none()
            && let Some(wrong) = wrong
        {
            self.note(now, "fence_device", host.as_str(), None, "manager", Some(wrong));
        } else if was.is_some()
            && self.checks.get(host).is_some_and(|check| !check.wrong.contains_key(&(level, device)))
        {
            self.note(
                now,
                "fence_device",
                host.as_str(),
                None,
                "manager",
                Some(format!("{name} works again")),
            );
        }
    }

    pub(super) fn machine_identified(
        &mut self,
        now: Now,
        host: &HostId,
        level: usize,
        device: usize,
        answer: &DeviceAnswer,
    ) {
        let DeviceAnswer::Uuid(uuid) = answer else { return };
        let name = self.device_name(host, level, device);
        let Some(entry) = self.hosts.get_mut(host) else { return };
        let Some(own) = entry.agent.as_ref().and_then(|agent| agent.system_uuid.as_deref()) else { return };
        if same_machine(own, uuid) == Some(false) {
            let text =
                format!("{name} belongs to another machine: its UUID is {uuid}, that of {host} is {own}");
            self.distrust(now, host, text);
        }
    }
}
