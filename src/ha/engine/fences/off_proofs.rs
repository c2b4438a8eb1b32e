//! When it is believed that a host is off.

use super::*;

impl Engine {
    /// A host's devices say that it is off. While it is still connected, it must fall silent first.
    pub(super) fn take_off_proof(&mut self, now: Now, host: &HostId, how: &'static str) {
        let heartbeat = self.config.settings.heartbeat_interval;
        let Some(entry) = self.hosts.get_mut(host) else { return };
        if entry.distrust.is_some() {
            return;
        }
        if entry.link.is_some_and(|(_, stage)| stage != crate::ha::engine::hosts::Stage::Dialling) {
            let silence = Silence {
                told: now.mono,
                tolerate_until: now.mono + heartbeat,
                until: now.mono + heartbeat * 3,
            };
            entry.silence = Some(silence);
            self.timers.by(Timer::Host(host.clone()), silence.until);
            return;
        }
        entry.off = Some(OffProof { read: now.mono, stands: false, how });
        self.host_is_off(now, host);
    }

    /// A host that shall be off has fallen silent: for long enough, or its connection broke.
    pub(in crate::ha::engine) fn believe_silence(&mut self, now: Now, host: &HostId, broken: bool) {
        let Some(entry) = self.hosts.get_mut(host) else { return };
        let Some(silence) = entry.silence else { return };
        if !broken && now.mono < silence.until {
            self.timers.by(Timer::Host(host.clone()), silence.until);
            return;
        }
        entry.silence = None;
        entry.off = Some(OffProof { read: silence.told, stands: false, how: "its fence device says so" });
        self.lose_link(now, host, "powered off");
        self.host_is_off(now, host);
    }

    pub(in crate::ha::engine) fn host_is_off(&mut self, now: Now, host: &HostId) {
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.must_fence = None;
            entry.lost_at.get_or_insert(now.mono);
            entry.refused_since = None;
        }
        self.forget_knowledge(now, host);
        for subject in self.subjects.values_mut() {
            if let Some(known) = subject.on.get_mut(host) {
                known.last_active = false;
            }
        }
        self.judge_host(now, host);
        self.touch_groups_of(host);
    }

    /// An off-proof is too old: its devices are asked again.
    pub(in crate::ha::engine) fn read_power(&mut self, now: Now, host: &HostId) {
        if !self.power.contains_key(host) {
            self.begin_power(now, host, PowerKind::Look, "manager", "a fresh proof is needed", None);
        }
    }
}
