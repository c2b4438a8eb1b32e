//! Commands about the power of hosts: fence, power, confirm-off.

use super::*;
use crate::ha::engine::fences::PowerRun;

impl Engine {
    pub(super) fn plan_fence(&self, host: &HostId, force: bool) -> Result<Plan, Denied> {
        self.acting()?;
        self.host(host)?;
        let refuse = |why: &str| conflict(format!("Will not fence '{host}': {why}"));
        // Who has mended the device need not wait for the next attempt.
        if self.power.get(host).is_some_and(|run| run.is_fence() && !run.pauses()) {
            return refuse("Another fence request is already in progress. Wait for it to finish.");
        }
        if self.power.get(host).is_some_and(PowerRun::lets_in) {
            return refuse("Its power is being changed. Wait for it to finish.");
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

    pub(super) fn plan_power(&self, host: &HostId, action: PowerCommand) -> Result<Plan, Denied> {
        self.host(host)?;
        // A look of our own is overtaken.
        if self.power.get(host).is_some_and(|run| run.kind != PowerKind::Look) {
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

    pub(super) fn plan_confirm_off(&self, host: HostId) -> Result<Plan, Denied> {
        self.acting()?;
        let Some(entry) = self.hosts.get(&host) else {
            return not_found(format!("Host '{host}' not found."));
        };
        if entry.is_up() {
            return conflict(format!("'{host}' is not off: its agent is connected."));
        }
        if self.power.get(&host).is_some_and(PowerRun::lets_in) {
            return conflict(format!("'{host}' is being powered on."));
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

    pub(super) fn confirm_off(&mut self, now: Now, host: &HostId, by: &str) {
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
        self.break_off_power(now, host, "an operator confirmed that it is off");
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.off = Some(OffProof { read: now.mono, stands: true, how: "an operator confirmed it" });
        }
        self.lose_link(now, host, "an operator confirmed that it is off");
        self.host_is_off(now, host);
    }
}
