//! Powering hosts off and on: when that is allowed, and what is believed afterwards.

mod off_proofs;
mod policy;
mod recovery;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::ha::config::{FenceAttempts, FenceLevel, Group};
use crate::ha::engine::event::Effect;
use crate::ha::engine::hosts::{OffProof, Silence};
use crate::ha::engine::knowledge::SubjectId;
use crate::ha::engine::machine::{Caller, Engine};
use crate::ha::engine::timers::Timer;
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
pub(in crate::ha::engine) struct PowerRun {
    pub(in crate::ha::engine) kind: PowerKind,
    change: PowerChange,
    /// Its recorded intent.
    id: Option<FenceId>,
    waits_for_answer: bool,
    /// Not before this time.
    pause_until: Option<Mono>,
    repeated: usize,
    pub(in crate::ha::engine) command: Option<CommandId>,
    why: String,
    /// Hosts that were connected when it began: if one of them falls silent, the plug may be the wrong one.
    witnesses: BTreeSet<HostId>,
}

/// Kinds of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ha::engine) enum PowerKind {
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
    pub(in crate::ha::engine) fn is_fence(&self) -> bool {
        matches!(self.kind, PowerKind::Fence { .. } | PowerKind::WaitOut)
    }

    /// Its recorded intent, if it changes anything.
    pub(in crate::ha::engine) fn intent(&self) -> Option<FenceId> {
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
    pub(in crate::ha::engine) fn begin_power(
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
    pub(in crate::ha::engine) fn drive_power(
        &mut self,
        now: Now,
        host: &HostId,
        mut answer: Option<DeviceAnswer>,
    ) {
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

    pub(in crate::ha::engine) fn new_call(&mut self, caller: Caller) -> CallId {
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

    /// A connected host has something that cannot be stopped.
    pub(in crate::ha::engine) fn must_fence(
        &mut self,
        now: Now,
        host: &HostId,
        subject: SubjectId,
        why: &str,
    ) {
        let Some(entry) = self.hosts.get_mut(host) else { return };
        if entry.must_fence.is_none() {
            entry.must_fence = Some((subject, why.to_owned()));
            self.note(now, "must_fence", host.as_str(), None, "manager", Some(why.to_owned()));
            self.touch_groups_of(host);
        }
    }

    /// What could not be stopped is stopped, or what did not end has ended.
    pub(in crate::ha::engine) fn need_not_fence(&mut self, now: Now, subject: SubjectId, host: &HostId) {
        let Some(entry) = self.hosts.get_mut(host) else { return };
        if let Some((_, why)) = entry.must_fence.take_if(|(cause, _)| *cause == subject) {
            let text = format!("over: {why}");
            self.note(now, "need_not_fence", host.as_str(), None, "manager", Some(text));
            self.touch_groups_of(host);
        }
    }
}
