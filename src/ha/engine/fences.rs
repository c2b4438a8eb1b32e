//! Powering hosts off and on: when that is allowed, and what is believed afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::event::Effect;
use super::hosts::{OffProof, Silence};
use super::machine::{Caller, Engine};
use super::timers::Timer;
use crate::ha::config::{FenceAttempts, FenceLevel, Group};
use crate::ha::fencing::{DeviceAnswer, Goal, PowerChange, Step, Verdict};
use crate::ha::ids::{CallId, CommandId, FenceId, HostId};
use crate::ha::state::Record;
use crate::ha::status::HostState;
use crate::time::{Mono, Now};

/// A failed automatic attempt is repeated after these pauses, then an operator is needed.
const REPEAT: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(45)];
/// How many hosts may be fenced at the same time.
const AT_ONCE: usize = 10;

/// What is being done to a host's power.
#[derive(Debug)]
pub(super) struct PowerRun {
    pub(super) kind: PowerKind,
    change: PowerChange,
    /// Its recorded intent.
    id: Option<FenceId>,
    waits_for_answer: bool,
    /// Not before this time.
    pause_until: Option<Mono>,
    repeated: usize,
    pub(super) command: Option<CommandId>,
    why: String,
    /// Hosts that were connected when it began: if one of them falls silent, the plug may be the wrong one.
    witnesses: BTreeSet<HostId>,
}

/// Kinds of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PowerKind {
    /// Off, so that its groups may run elsewhere.
    Fence { automatic: bool },
    /// On again.
    On,
    /// Only look.
    Look,
    /// An attempt of an earlier run of the manager is waited out, then looked at.
    WaitOut,
}

impl PowerRun {
    pub(super) fn is_fence(&self) -> bool {
        matches!(self.kind, PowerKind::Fence { .. } | PowerKind::WaitOut)
    }

    /// Its recorded intent, if it changes anything.
    pub(super) fn intent(&self) -> Option<FenceId> {
        assert!(self.id.is_some() || matches!(self.kind, PowerKind::Look | PowerKind::WaitOut));
        self.id
    }
}

impl Engine {
    fn levels(&self, host: &HostId) -> Vec<FenceLevel> {
        let config = self.hosts.get(host).and_then(|host| host.config.as_ref());
        config.map(|config| config.fencing.clone()).unwrap_or_default()
    }

    /// Begins to change a host's power, after its intent is recorded.
    pub(super) fn begin_power(
        &mut self,
        now: Now,
        host: &HostId,
        kind: PowerKind,
        by: &str,
        why: &str,
        command: Option<CommandId>,
    ) {
        let (goal, action, automatic) = match kind {
            PowerKind::Fence { automatic } => (Goal::Off, "off", automatic),
            PowerKind::On => (Goal::On, "on", false),
            PowerKind::Look | PowerKind::WaitOut => (Goal::Status, "status", false),
        };
        let change = PowerChange::new(self.levels(host), goal);
        let end = now.mono + change.budget();
        let change = change.ending_by(end);
        let id = (goal != Goal::Status).then(|| {
            let id = FenceId(self.state.last_fence.0 + 1);
            let until = now.wall_at(end).0;
            let reason = format!("{by}: {why}");
            let (host, action) = (host.clone(), action.to_owned());
            self.record(Record::FenceIntent { id, host, action, until, automatic, reason, at: now.wall.0 });
            id
        });
        if goal == Goal::Off {
            self.note(now, "fencing", host.as_str(), None, by, Some(why.to_owned()));
        }
        let witnesses = self
            .hosts
            .iter()
            .filter(|(other, entry)| *other != host && entry.is_up())
            .map(|(other, _)| other.clone())
            .collect();
        let run = PowerRun {
            kind,
            change,
            id,
            waits_for_answer: false,
            pause_until: None,
            repeated: 0,
            command,
            why: why.to_owned(),
            witnesses,
        };
        self.power.insert(host.clone(), run);
        self.judge_host(now, host);
        self.drive_power(now, host, None);
    }

    /// Goes on with a change of power.
    pub(super) fn drive_power(&mut self, now: Now, host: &HostId, mut answer: Option<DeviceAnswer>) {
        let levels = self.levels(host);
        let Some(run) = self.power.get_mut(host) else { return };
        if answer.is_some() {
            run.waits_for_answer = false;
        } else if run.waits_for_answer {
            return;
        }
        if let Some(pause) = run.pause_until {
            if now.mono < pause {
                self.timers.set(Timer::Power(host.clone()), pause);
                return;
            }
            run.pause_until = None;
        }
        if run.change.levels() != levels {
            // What the old devices say about the new plugs is nothing.
            if run.id.is_some() {
                let changed = "its fence devices were changed meanwhile".to_owned();
                return self.power_over(now, host, Verdict::Failed(changed));
            }
            run.change = PowerChange::new(levels, Goal::Status);
            answer = None;
        }
        match run.change.step(now.mono, answer) {
            Step::Call { level, device, action } => {
                let Some(target) = run.change.called_device(level, device).cloned() else { return };
                assert!(
                    self.power.get(host).is_some_and(|run| run.id.is_some())
                        || matches!(action, crate::ha::fencing::DeviceAction::Status),
                    "power is never changed without a recorded intent"
                );
                if let Some(run) = self.power.get_mut(host) {
                    run.waits_for_answer = true;
                }
                let call = self.new_call(Caller::Power(host.clone()));
                let timeout = target.timeout;
                self.effect(Effect::CallDevice { call, host: host.clone(), device: target, action, timeout });
            }
            Step::Wait(until) => {
                self.timers.set(Timer::Power(host.clone()), until.max(now.mono + Duration::from_millis(1)))
            }
            Step::Over(verdict) => self.power_over(now, host, verdict),
        }
    }

    pub(super) fn new_call(&mut self, caller: Caller) -> CallId {
        let call = CallId(self.next_call);
        self.next_call += 1;
        self.calls.insert(call, caller);
        call
    }

    fn power_over(&mut self, now: Now, host: &HostId, verdict: Verdict) {
        let Some(mut run) = self.power.remove(host) else { return };
        let said = match &verdict {
            Verdict::Off { .. } => "off".to_owned(),
            Verdict::On => "on".to_owned(),
            Verdict::Failed(why) => format!("unknown: {why}"),
        };
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.power = Some((said.clone(), now.wall));
        }
        let (command, kind) = (run.command, run.kind);
        match (kind, verdict) {
            (PowerKind::Fence { automatic }, Verdict::Failed(why))
                if automatic && run.repeated < REPEAT.len() =>
            {
                let pause = REPEAT[run.repeated];
                run.repeated += 1;
                self.end_attempt(now, host, &run, false, &why);
                let change = PowerChange::new(self.levels(host), Goal::Off);
                let end = now.mono + pause + change.budget();
                run.change = change.ending_by(end);
                let id = FenceId(self.state.last_fence.0 + 1);
                let until = now.wall_at(end).0;
                let reason = format!("manager: {} (again)", run.why);
                // A repetition belongs to the same automatic attempt: it does not count once more.
                self.record(Record::FenceIntent {
                    id,
                    host: host.clone(),
                    action: "off".to_owned(),
                    until,
                    automatic: false,
                    reason,
                    at: now.wall.0,
                });
                run.id = Some(id);
                run.pause_until = Some(now.mono + pause);
                self.power.insert(host.clone(), run);
                self.timers.set(Timer::Power(host.clone()), now.mono + pause);
                return self.touch_all();
            }
            (PowerKind::Fence { .. }, Verdict::Off { acted }) => self.fenced(now, host, &run, acted),
            (PowerKind::Fence { .. }, Verdict::On) => {
                self.fence_failed(now, host, &run, "its devices say that it is on")
            }
            (PowerKind::Fence { .. }, Verdict::Failed(why)) => self.fence_failed(now, host, &run, &why),
            (PowerKind::WaitOut, verdict) => {
                let off = matches!(verdict, Verdict::Off { .. });
                self.settle_intents(now, host, off, &said);
                if off {
                    self.take_off_proof(now, host, "its fence device says so");
                }
            }
            (PowerKind::Look, Verdict::Off { .. }) => {
                self.take_off_proof(now, host, "its fence device says so")
            }
            (PowerKind::Look, _) => {
                // It was switched on by somebody, or nobody can tell: no proof any more.
                if let Some(entry) = self.hosts.get_mut(host)
                    && let Some(off) = entry.off.take_if(|off| !off.stands)
                {
                    let text = format!("it counted as off ({}), now its devices say: {said}", off.how);
                    self.note(now, "power", host.as_str(), None, "manager", Some(text));
                }
            }
            (PowerKind::On, verdict) => {
                let success = verdict == Verdict::On;
                self.end_attempt(now, host, &run, success, &said);
                self.note(now, "power_on", host.as_str(), None, "manager", Some(said.clone()));
                if success && let Some(entry) = self.hosts.get_mut(host) {
                    entry.off = None;
                    entry.lost_at = None;
                    entry.seen = false;
                }
            }
        }
        if let Some(command) = command {
            self.power_command_over(now, host, command, kind, &said);
        }
        self.judge_host(now, host);
        self.touch_all();
    }

    fn end_attempt(&mut self, now: Now, host: &HostId, run: &PowerRun, success: bool, result: &str) {
        if let Some(id) = run.id {
            let (host, result) = (host.clone(), result.to_owned());
            self.record(Record::FenceResult { id, host, success, result, at: now.wall.0 });
        }
    }

    fn fence_failed(&mut self, now: Now, host: &HostId, run: &PowerRun, why: &str) {
        self.end_attempt(now, host, run, false, why);
        self.note(now, "fence_failed", host.as_str(), None, "manager", Some(why.to_owned()));
    }

    /// Its devices say that it is off.
    fn fenced(&mut self, now: Now, host: &HostId, run: &PowerRun, acted: bool) {
        let result = if acted { "off" } else { "was off already" };
        self.end_attempt(now, host, run, true, result);
        self.note(now, "fence", host.as_str(), None, "manager", Some(format!("{result} ({})", run.why)));
        let silent: Vec<&HostId> = run
            .witnesses
            .iter()
            .filter(|witness| {
                self.hosts.get(*witness).is_some_and(|other| !other.is_up() && other.off.is_none())
            })
            .filter(|witness| !self.power.contains_key(*witness))
            .collect();
        if acted && let Some(witness) = silent.first() {
            let text = format!("{witness} fell silent while {host} was powered off: is it the right plug?");
            self.note(now, "fence_failed", host.as_str(), None, "manager", Some(text.clone()));
            if let Some(entry) = self.hosts.get_mut(host) {
                entry.distrust = Some(text);
            }
            return;
        }
        self.take_off_proof(now, host, "its fence device says so");
    }

    /// A host's devices say that it is off. While it is still connected, it must fall silent first.
    fn take_off_proof(&mut self, now: Now, host: &HostId, how: &'static str) {
        let heartbeat = self.config.settings.heartbeat_interval;
        let Some(entry) = self.hosts.get_mut(host) else { return };
        if entry.distrust.is_some() {
            return;
        }
        if entry.link.is_some_and(|(_, stage)| stage != super::hosts::Stage::Dialling) {
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
    pub(super) fn believe_silence(&mut self, now: Now, host: &HostId, broken: bool) {
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

    pub(super) fn host_is_off(&mut self, now: Now, host: &HostId) {
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
    pub(super) fn read_power(&mut self, now: Now, host: &HostId) {
        if !self.power.contains_key(host) {
            self.begin_power(now, host, PowerKind::Look, "manager", "a fresh proof is needed", None);
        }
    }

    /// A connected host has something that cannot be stopped.
    pub(super) fn must_fence(&mut self, now: Now, host: &HostId, why: &str) {
        let Some(entry) = self.hosts.get_mut(host) else { return };
        if entry.must_fence.is_none() {
            entry.must_fence = Some(why.to_owned());
            self.note(now, "must_fence", host.as_str(), None, "manager", Some(why.to_owned()));
            self.touch_groups_of(host);
        }
    }

    /// A group needs to know that a host is off. Fences it if that is allowed; says what is waited for.
    pub(super) fn consider_fence(&mut self, now: Now, id: &HostId, group: &Arc<Group>) -> String {
        if let Some(until) = self.watchdog_fired(id)
            && self.hosts.get(id).is_some_and(|host| host.lost_at.is_some() && host.off.is_none())
        {
            if now.mono >= until {
                if let Some(host) = self.hosts.get_mut(id) {
                    host.off =
                        Some(OffProof { read: now.mono, stands: true, how: "its own watchdog has reset it" });
                }
                self.note(
                    now,
                    "fence",
                    id.as_str(),
                    None,
                    "manager",
                    Some("its own watchdog has reset it".to_owned()),
                );
                self.host_is_off(now, id);
                return format!("{id} was reset by its watchdog");
            }
            self.timers.by(Timer::Group(group.id.clone()), until);
        }
        if let Some(run) = self.power.get(id) {
            return match run.kind {
                PowerKind::Fence { .. } if run.pause_until.is_some() => {
                    format!("fencing {id} failed and is tried again")
                }
                PowerKind::Fence { .. } => format!("{id} is being powered off"),
                PowerKind::WaitOut => format!("an attempt of an earlier manager to fence {id} is waited out"),
                PowerKind::On => format!("{id} is being powered on"),
                PowerKind::Look => format!("the fence device of {id} is being asked"),
            };
        }
        match self.may_fence(now, id, group) {
            Ok(why) => {
                self.begin_power(now, id, PowerKind::Fence { automatic: true }, "manager", &why, None);
                format!("{id} is being powered off")
            }
            Err(Hold::Until(at, text)) => {
                self.timers.by(Timer::Group(group.id.clone()), at);
                text
            }
            Err(Hold::Look(text)) => {
                self.cut_off_at = Some(now.mono);
                // Those that are off already need no action: a rack without power.
                let asked = self
                    .hosts
                    .get(id)
                    .and_then(|host| host.power.as_ref())
                    .map(|(_, at)| now.wall.0.saturating_sub(at.0));
                let again = self.config.settings.detection_time;
                if self.hosts.get(id).is_some_and(|host| host.can_be_fenced())
                    && asked.is_none_or(|age| age >= i64::try_from(again.as_nanos()).unwrap_or(i64::MAX))
                {
                    self.read_power(now, id);
                }
                self.timers.by(Timer::Group(group.id.clone()), now.mono + again);
                text
            }
            Err(Hold::Operator(text)) => text,
        }
    }

    /// Whether a host may be fenced without an operator, and why.
    fn may_fence(&self, now: Now, id: &HostId, group: &Group) -> Result<String, Hold> {
        let operator = |text: String| Err(Hold::Operator(text));
        let by_hand = format!("coordinatool-client ha fence {id}");
        let confirm = format!("once you have seen that it is off: coordinatool-client ha confirm-off {id}");
        let Some(host) = self.hosts.get(id) else { return operator(format!("{id} is unknown")) };
        if host.config.is_none() {
            return operator(format!(
                "{id} is not in the configuration any more, but {} may be active there; {confirm}",
                group.id
            ));
        }
        let why = match (&host.must_fence, host.state) {
            (Some(why), _) => why.clone(),
            (None, HostState::Lost | HostState::Fencing) => host.detail.clone(),
            (None, HostState::Unseen) => {
                return operator(format!(
                    "{id} has not been seen by this manager and may run it; if it is dead: {by_hand}"
                ));
            }
            (None, HostState::Refused) => return operator(format!("{id} cannot be used: {}", host.detail)),
            (None, _) => return operator(format!("{id}: {}", host.detail)),
        };
        if let Some(lost) = host.lost_at {
            let settled = lost + self.config.settings.heartbeat_interval;
            if now.mono < settled && host.must_fence.is_none() {
                return Err(Hold::Until(settled, format!("{id} is lost")));
            }
        }
        if !host.can_be_fenced() {
            return operator(format!("{id} is lost ({why}) and has no fence device; {confirm}"));
        }
        if let Some(distrust) = &host.distrust {
            return operator(format!("the fence devices of {id} are not believed: {distrust}; {confirm}"));
        }
        if let Some(unmanaged) = self.unmanaged_group_on(id) {
            return operator(format!(
                "{id} is lost ({why}), but is not fenced because {unmanaged} is unmanaged and was there; {by_hand}"
            ));
        }
        let active = group.hosts().any(|other| other != id && self.can_run_on(now, group, other).is_ok());
        if !active {
            return operator(format!("{id} is lost ({why}), and no other host can run it"));
        }
        if let Some(text) = self.fence_limit(now, id) {
            return operator(format!("{id} is lost ({why}), but {text}"));
        }
        if self.power.values().filter(|run| run.is_fence()).count() >= AT_ONCE {
            return Err(Hold::Until(
                now.mono + Duration::from_secs(1),
                format!("{AT_ONCE} hosts are being fenced already"),
            ));
        }
        if let Some(text) = self.outside_blast_radius(now) {
            return Err(Hold::Look(format!("{id} is lost ({why}), but {text}; {by_hand}")));
        }
        // Hosts come back one after the other: the first must not have the others fenced.
        let settled = self.cut_off_at.map(|at| at + self.config.settings.detection_time * 2);
        if let Some(settled) = settled.filter(|settled| now.mono < *settled) {
            return Err(Hold::Until(
                settled,
                format!("{id} is lost ({why}); others that were lost have time to come back"),
            ));
        }
        Ok(why)
    }

    /// A group that was on a host and may not be touched.
    fn unmanaged_group_on(&self, host: &HostId) -> Option<&crate::ha::ids::GroupId> {
        self.config
            .groups
            .iter()
            .filter(|(id, _)| !self.is_managed(id))
            .find(|(_, group)| {
                group
                    .members
                    .iter()
                    .any(|member| self.known(member, host).is_some_and(|known| known.last_active))
            })
            .map(|(id, _)| id)
    }

    /// Why a host may not be fenced automatically once more.
    fn fence_limit(&self, now: Now, host: &HostId) -> Option<String> {
        let attempts = self.state.fences.get(host)?;
        let automatic = |attempt: &&crate::ha::state::record::FenceAttempt| attempt.automatic;
        match self.config.settings.fence_attempts {
            FenceAttempts::OnceUntilReset => self.is_fenced(host).then(|| {
                format!("was fenced before and not reset since: coordinatool-client ha reset {host}")
            }),
            FenceAttempts::Within { count, window } => {
                let window = i64::try_from(window.as_nanos()).unwrap_or(i64::MAX);
                let recent = attempts
                    .iter()
                    .filter(automatic)
                    .filter(|attempt| now.wall.0.saturating_sub(attempt.at) < window);
                (recent.count() >= usize::try_from(count).unwrap_or(usize::MAX))
                    .then(|| format!("was fenced {count} times lately: coordinatool-client ha reset {host}"))
            }
        }
    }

    /// HALO's "fenced" flag: it was fenced, by whomever, or that was tried, and was not reset since.
    pub(super) fn is_fenced(&self, host: &HostId) -> bool {
        self.state.fences.get(host).is_some_and(|all| {
            all.iter().any(|attempt| {
                attempt.action == "off" && (attempt.automatic || matches!(attempt.result, Some((true, _))))
            })
        })
    }

    /// Whether so many hosts are gone that rather this manager is cut off.
    pub(super) fn outside_blast_radius(&self, now: Now) -> Option<String> {
        let all: Vec<_> = self.hosts.values().filter(|host| host.config.is_some()).collect();
        let visible = all.iter().filter(|host| host.is_up() || host.off.is_some()).count();
        if visible * 2 < all.len() {
            return Some(format!(
                "only {visible} of {} hosts are visible: this manager may be the one that is cut off",
                all.len()
            ));
        }
        let settings = &self.config.settings;
        let window = settings.detection_time + settings.heartbeat_interval * 2;
        let newest = all.iter().filter(|host| host.off.is_none()).filter_map(|host| host.lost_at).max()?;
        let lost = all
            .iter()
            .filter(|host| host.off.is_none())
            .filter_map(|host| host.lost_at)
            .filter(|at| newest.since(*at) <= window && now.mono.since(*at) < window * 1000)
            .count();
        let limit = (all.len() * usize::from(settings.blast_radius_percent) / 100).max(1);
        (lost > limit).then(|| {
            format!("{lost} hosts were lost at the same time (more than {limit}): nothing is fenced")
        })
    }

    /// Attempts of an earlier run without a known end: they are waited out, then looked at.
    pub(super) fn recover_intents(&mut self, now: Now) {
        let mut confirmed = Vec::new();
        let mut open = Vec::new();
        for (host, attempts) in &self.state.fences {
            for attempt in attempts {
                if attempt.action == "confirm" {
                    confirmed.push(host.clone());
                } else if attempt.result.is_none() {
                    open.push((host.clone(), attempt.until));
                }
            }
        }
        for host in confirmed {
            if let Some(entry) = self.hosts.get_mut(&host) {
                entry.off = Some(OffProof { read: now.mono, stands: true, how: "an operator confirmed it" });
            }
        }
        for (host, until) in open {
            let change = PowerChange::new(self.levels(&host), Goal::Status);
            // A clock that was set meanwhile must not make it wait for ever.
            let longest = PowerChange::new(self.levels(&host), Goal::Off).budget() + REPEAT[REPEAT.len() - 1];
            let rest = Duration::from_nanos(u64::try_from(until.saturating_sub(now.wall.0)).unwrap_or(0))
                .min(longest);
            let run = PowerRun {
                kind: PowerKind::WaitOut,
                change,
                id: None,
                waits_for_answer: false,
                pause_until: Some(now.mono + rest),
                repeated: 0,
                command: None,
                why: "an earlier run of the manager began it".to_owned(),
                witnesses: BTreeSet::new(),
            };
            self.timers.set(Timer::Power(host.clone()), now.mono + rest);
            self.power.insert(host, run);
        }
    }

    fn settle_intents(&mut self, now: Now, host: &HostId, off: bool, said: &str) {
        let open: Vec<FenceId> = self
            .state
            .fences
            .get(host)
            .into_iter()
            .flatten()
            .filter(|attempt| attempt.result.is_none())
            .map(|attempt| attempt.id)
            .collect();
        for id in open {
            let result = format!("the manager was restarted meanwhile; then its power was {said}");
            self.record(Record::FenceResult { id, host: host.clone(), success: off, result, at: now.wall.0 });
        }
        let text = format!("an attempt of an earlier run ended: its power is {said}");
        self.note(
            now,
            if off { "fence" } else { "fence_failed" },
            host.as_str(),
            None,
            "manager",
            Some(text),
        );
    }
}

/// Why a host is not fenced now.
enum Hold {
    /// Look again at this time.
    Until(Mono, String),
    /// Ask its devices whether it is off already.
    Look(String),
    /// An operator is needed, or something must change.
    Operator(String),
}
