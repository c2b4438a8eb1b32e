//! Powering a host on again: after a fencing, where that is wanted, or because an operator asks for it.

use super::*;

impl Engine {
    /// A change of power that should have switched a host on is over.
    pub(super) fn switched_on(
        &mut self,
        now: Now,
        host: &HostId,
        run: &PowerRun,
        verdict: &Verdict,
        said: &str,
    ) {
        let success = *verdict == Verdict::On;
        self.end_attempt(now, host, run, success, said);
        self.note(now, "power_on", host.as_str(), None, "manager", Some(said.to_owned()));
        if !success && let Some(entry) = self.hosts.get_mut(host) {
            // It may still be off, which somebody may need to know.
            entry.booting = None;
            if !entry.is_up() {
                entry.lost_at.get_or_insert(now.mono);
            }
            self.read_power(now, host);
        }
    }

    /// Hosts that an earlier run had fenced and not yet powered on again.
    pub(super) fn recover_power_on(&mut self) {
        if !self.config.settings.power_on_after_fence {
            return;
        }
        for (host, attempts) in &self.state.fences {
            let last_on =
                attempts.iter().rposition(|attempt| attempt.action == "on" && attempt.result.is_some());
            let since = attempts.get(last_on.map_or(0, |last| last + 1)..).unwrap_or_default();
            let off = |attempt: &&crate::ha::state::record::FenceAttempt| attempt.action == "off";
            let automatic = since.iter().filter(off).any(|attempt| attempt.automatic);
            let fenced = since.iter().rfind(off).is_some_and(|last| matches!(last.result, Some((true, _))));
            if automatic && fenced && self.hosts.contains_key(host) {
                self.to_power_on.insert(host.clone());
            }
        }
    }

    /// Powers on, once, what was fenced without an operator and is not needed to be off any more.
    pub(in crate::ha::engine) fn power_on_fenced(&mut self, now: Now) {
        if self.to_power_on.is_empty() || !self.acts() {
            return;
        }
        let wanted = self.config.settings.power_on_after_fence;
        for host in self.to_power_on.clone() {
            let Some(entry) = self.hosts.get(&host) else {
                self.to_power_on.remove(&host);
                continue;
            };
            let alive = entry.is_up() || entry.booting.is_some();
            if !wanted || alive || !self.is_fenced(&host) || entry.distrust.is_some() {
                self.to_power_on.remove(&host);
                continue;
            }
            if self.power.contains_key(&host) || self.in_maintenance(&host) {
                continue;
            }
            match &entry.off {
                None => self.read_power(now, &host),
                Some(_) if self.is_needed_off(now, &host) => {}
                Some(_) => {
                    self.to_power_on.remove(&host);
                    self.begin_power(now, &host, PowerKind::On, "manager", "its groups were placed", None);
                }
            }
        }
    }

    fn in_maintenance(&self, host: &HostId) -> bool {
        self.state.maintenance_until.is_some()
            || self.state.hosts.get(host).is_some_and(|flags| flags.maintenance_until.is_some())
    }

    /// Whether a group is on its way to another host, for which this one must be off.
    fn is_needed_off(&self, now: Now, host: &HostId) -> bool {
        self.groups_of.get(host).into_iter().flatten().any(|id| {
            let Some(group) = self.config.groups.get(id) else { return false };
            let settled = self.groups.get(id).is_none_or(|entry| {
                use crate::ha::status::Phase;
                matches!(entry.phase, Phase::Running | Phase::Partial | Phase::Failed | Phase::Frozen)
            });
            let stopped = self.state.groups.get(id).is_some_and(|flags| flags.stopped);
            !settled && !stopped && self.is_managed(id) && self.choose(now, group, Some(host)).is_ok()
        })
    }
}
