//! When it is believed that a host is off, and when not any more.

use super::*;

/// A device that did not answer is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How long a host that was switched on may take until its agent is heard.
const BOOT: Duration = Duration::from_secs(600);

impl Engine {
    /// A host's devices say that it is off. While it is still connected, it must fall silent first: then true, and `command`
    /// ends with that.
    pub(super) fn take_off_proof(
        &mut self,
        now: Now,
        host: &HostId,
        how: &'static str,
        command: Option<CommandId>,
    ) -> bool {
        let heartbeat = self.config.settings.heartbeat_interval;
        let Some(entry) = self.hosts.get_mut(host) else { return false };
        if entry.distrust.is_some() {
            return false;
        }
        if entry.link.is_some_and(|(_, stage)| stage != crate::ha::engine::hosts::Stage::Dialling) {
            let silence = Silence {
                told: now.mono,
                tolerate_until: now.mono + heartbeat,
                until: now.mono + heartbeat * 3,
                command: command.or(entry.silence.and_then(|silence| silence.command)),
            };
            entry.silence = Some(silence);
            self.timers.by(Timer::Host(host.clone()), silence.until);
            return true;
        }
        entry.off = Some(OffProof { read: now.mono, stands: false, how });
        self.host_is_off(now, host);
        false
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
        self.lose_link(now, host, "powered off");
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.off = Some(OffProof { read: silence.told, stands: false, how: "its fence device says so" });
        }
        self.host_is_off(now, host);
        if let Some(command) = silence.command {
            self.power_command_over(now, host, command, PowerKind::Fence { automatic: false }, "off");
        }
    }

    /// A host that shall be off was heard all the same.
    pub(in crate::ha::engine) fn silence_broken(&mut self, now: Now, host: &HostId) {
        let Some(entry) = self.hosts.get_mut(host) else { return };
        let Some(silence) = entry.silence.take() else { return };
        let text = "a fence device said that it is off, and its agent was heard after that";
        self.distrust(now, host, text.to_owned());
        if let Some(command) = silence.command {
            self.power_command_over(now, host, command, PowerKind::Fence { automatic: false }, text);
        }
    }

    pub(in crate::ha::engine) fn host_is_off(&mut self, now: Now, host: &HostId) {
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.must_fence = None;
            entry.lost_at.get_or_insert(now.mono);
            entry.refused_since = None;
            entry.refused = None;
            entry.booting = None;
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

    /// An off-proof is too old, or it is not known whether a host is off: its devices are asked.
    pub(in crate::ha::engine) fn read_power(&mut self, now: Now, host: &HostId) {
        let Some(entry) = self.hosts.get(host) else { return };
        if self.power.contains_key(host) {
            return;
        }
        if let Some(again) = entry.ask_power_at.filter(|again| now.mono < *again) {
            self.timers.by(Timer::Host(host.clone()), again);
            return;
        }
        self.begin_power(now, host, PowerKind::Look, "manager", "a fresh proof is needed", None);
    }

    pub(super) fn ask_again_later(&mut self, now: Now, host: &HostId) {
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.ask_power_at = Some(now.mono + ASK_AGAIN);
            self.timers.by(Timer::Host(host.clone()), now.mono + ASK_AGAIN);
        }
    }

    /// Its devices, or its own kernel, say that a host is on which counted as off.
    pub(in crate::ha::engine) fn seen_on(&mut self, now: Now, host: &HostId, what: &str) {
        let Some(entry) = self.hosts.get_mut(host) else { return };
        let Some(off) = &entry.off else { return };
        let text = format!("it counted as off ({}), {what}", off.how);
        self.note(now, "power", host.as_str(), None, "manager", Some(text));
        self.no_longer_off(now, host);
    }

    /// No proof that a host is off holds any more; it has time to boot before it counts as lost.
    pub(super) fn no_longer_off(&mut self, now: Now, host: &HostId) {
        let Some(entry) = self.hosts.get_mut(host) else { return };
        entry.counted_as_off = entry.off.take().map(|off| off.how).or(entry.counted_as_off);
        entry.silence = None;
        if !entry.is_up() {
            entry.lost_at = None;
            entry.booting = Some(now.mono + BOOT);
        }
        self.heard_again(host);
        self.judge_host(now, host);
        self.touch_groups_of(host);
    }

    /// What an operator answered for does not hold any more.
    pub(in crate::ha::engine) fn heard_again(&mut self, host: &HostId) {
        let confirmed = self
            .state
            .fences
            .get(host)
            .is_some_and(|all| all.iter().any(|attempt| attempt.action == "confirm"));
        if confirmed {
            self.record(Record::Alive { host: host.clone() });
        }
    }
}
