//! Another configuration takes effect.

use super::groups::GroupEntry;
use super::machine::{Caller, Engine};
use crate::ha::config::{Config, FenceLevel};
use crate::ha::ids::HostId;
use crate::ha::protocol::Hello;
use crate::time::{Mono, Now};

impl Engine {
    pub(super) fn reload(&mut self, now: Now, config: Config) {
        let before: Vec<(HostId, Hello)> = self.hosts.keys().map(|id| (id.clone(), self.hello(id))).collect();
        let devices: Vec<_> = self
            .hosts
            .iter()
            .map(|(id, host)| (id.clone(), host.config.clone().map(|config| config.fencing.clone())))
            .collect();
        self.manage = config.settings.manage.unwrap_or(self.manage_by_default);
        self.config = config;
        self.take_groups(now);
        // A fence agent may have been replaced with the configuration.
        self.unfencing_needs.retain(|_, need| *need == super::fences::Need::Asking);
        self.take_configuration(now);
        for (id, hello) in before {
            if self.hosts.contains_key(&id) && self.hello(&id) != hello {
                // It beats, and lives, by what it was told.
                self.lose_link(now, &id, "it is told of other settings");
            }
        }
        for (id, fencing) in devices {
            self.devices_changed(now, &id, fencing);
        }
        self.unfence_all(now);
    }

    /// What other devices said of a host proves nothing.
    fn devices_changed(&mut self, now: Now, id: &HostId, before: Option<Vec<FenceLevel>>) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        if host.config.as_ref().map(|config| &config.fencing) == before.as_ref() {
            return;
        }
        if let Some(off) = host.off.as_mut().filter(|off| !off.stands) {
            off.read = Mono(0);
        }
        host.unfenced = None;
        host.unfencing_failed = None;
        host.power_read = None;
        host.ask_power_at = None;
        let up = host.is_up();
        self.checks.remove(id);
        // Answers that are still to come are those of the old devices.
        self.calls.retain(
            |_, caller| !matches!(caller, Caller::Check(host, ..) | Caller::Identify(host, ..) if host == id),
        );
        if up {
            self.identify_machine(now, id);
        }
    }

    /// Keeps what is remembered of groups in line with the configuration.
    pub(super) fn take_groups(&mut self, now: Now) {
        let config = &self.config;
        self.groups.retain(|id, _| config.groups.contains_key(id));
        for id in config.groups.keys() {
            self.groups.entry(id.clone()).or_insert_with(|| GroupEntry::new(now));
        }
    }
}
