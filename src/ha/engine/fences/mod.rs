//! Powering hosts off and on: one change of a host's power at a time, each with a recorded intent.
//!
//! A change goes on until its devices have answered. A fencing that switched something then waits for its witnesses, and is
//! believed only when the host itself is silent ([`off_proofs`]).

mod off_proofs;
mod policy;
mod power_on;
mod recovery;
mod unfencing;
mod witnesses;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::ha::config::{FenceAttempts, FenceLevel, Group};
use crate::ha::engine::event::Effect;
use crate::ha::engine::hosts::{MustFence, OffProof, Silence};
use crate::ha::engine::knowledge::SubjectId;
use crate::ha::engine::machine::{Caller, Engine};
use crate::ha::engine::timers::Timer;
use crate::ha::fencing::{DeviceAction, DeviceAnswer, Goal, PowerChange, Step, Verdict};
use crate::ha::ids::{CallId, CommandId, FenceId, GroupId, HostId};
use crate::ha::state::Record;
use crate::ha::status::HostState;
use crate::time::{Mono, Now};
pub(super) use unfencing::Need;
use unfencing::Unfencing;
use witnesses::Witnesses;

/// A failed automatic attempt is repeated after these pauses, then an operator is needed.
const REPEAT: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(45)];
/// How many hosts may be fenced at the same time.
const AT_ONCE: usize = 10;

/// What is being done to a host's power.
#[derive(Debug)]
pub(in crate::ha::engine) struct PowerRun {
    pub(in crate::ha::engine) kind: PowerKind,
    /// Which of all changes of this run of the manager.
    number: u64,
    course: Course,
    /// Its recorded intent.
    id: Option<FenceId>,
    waits_for_answer: bool,
    /// Not before this time.
    pause_until: Option<Mono>,
    repeated: usize,
    /// Why the attempt before this one failed.
    failed: String,
    pub(in crate::ha::engine) command: Option<CommandId>,
    why: String,
    witnesses: Witnesses,
}

/// How it is done.
#[derive(Debug)]
enum Course {
    Change(PowerChange),
    Unfence(Unfencing),
    /// The devices say that it is off; others are listened for before that is believed.
    Listen,
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
    /// What fencing did to it is undone, since it joins again.
    Unfence,
}

impl PowerRun {
    pub(in crate::ha::engine) fn is_fence(&self) -> bool {
        matches!(self.kind, PowerKind::Fence { .. } | PowerKind::WaitOut)
    }

    /// A fencing by itself that failed, and waits for its next attempt.
    pub(in crate::ha::engine) fn pauses(&self) -> bool {
        self.kind == (PowerKind::Fence { automatic: true }) && self.pause_until.is_some()
    }

    /// Whether a host may come to life by it.
    pub(in crate::ha::engine) fn lets_in(&self) -> bool {
        matches!(self.kind, PowerKind::On | PowerKind::Unfence)
    }

    /// The manager stood still until now.
    pub(in crate::ha::engine) fn paused(&mut self, now: Mono) {
        self.witnesses.paused(now);
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

    /// Begins to change a host's power, after its intent is recorded. Only a look, or a pause between attempts, may
    /// be overtaken by that.
    pub(in crate::ha::engine) fn begin_power(
        &mut self,
        now: Now,
        host: &HostId,
        kind: PowerKind,
        by: &str,
        why: &str,
        command: Option<CommandId>,
    ) {
        let (course, action, automatic) = match kind {
            PowerKind::Fence { automatic } => (self.change(host, Goal::Off), "off", automatic),
            PowerKind::On => (self.change(host, Goal::On), "on", false),
            PowerKind::Look | PowerKind::WaitOut => (self.change(host, Goal::Status), "status", false),
            PowerKind::Unfence => (Course::Unfence(self.unfencing(host)), "unfence", false),
        };
        if let Some(other) = self.power.remove(host) {
            let idle = other.kind == PowerKind::Look || other.pauses();
            assert!(idle, "one change of power at a time: {:?}", other.kind);
            self.end_attempt(now, host, &other, false, "overtaken by another command");
            if let Some(command) = other.command {
                self.power_command_over(now, host, command, PowerKind::Look, "overtaken by another command");
            }
        }
        if let (PowerKind::Fence { .. }, Some(entry)) = (kind, self.hosts.get_mut(host)) {
            entry.resumed = false;
        }
        if kind == PowerKind::On {
            // From now on it may come to life.
            self.no_longer_off(now, host);
        }
        let course = course.ending(now.mono);
        let changes = !matches!(kind, PowerKind::Look | PowerKind::WaitOut);
        let id = changes.then(|| self.record_intent(now, host, action, automatic, format!("{by}: {why}")));
        if matches!(kind, PowerKind::Fence { .. }) {
            self.note(now, "fencing", host.as_str(), None, by, Some(why.to_owned()));
        }
        self.next_power += 1;
        let run = PowerRun {
            kind,
            number: self.next_power,
            course,
            id,
            waits_for_answer: false,
            pause_until: None,
            repeated: 0,
            failed: String::new(),
            command,
            why: why.to_owned(),
            witnesses: self.witnesses(host),
        };
        self.power.insert(host.clone(), run);
        self.judge_host(now, host);
        self.drive_power(now, host, None);
    }

    fn change(&self, host: &HostId, goal: Goal) -> Course {
        Course::Change(PowerChange::new(self.levels(host), goal))
    }

    fn record_intent(
        &mut self,
        now: Now,
        host: &HostId,
        action: &str,
        automatic: bool,
        reason: String,
    ) -> FenceId {
        let id = FenceId(self.state.last_fence.0 + 1);
        // Each call says for itself how long it may live.
        let until = now.wall.0;
        let (host, action) = (host.clone(), action.to_owned());
        self.record(Record::FenceIntent { id, host, action, until, automatic, reason, at: now.wall.0 });
        id
    }

    /// A device has answered.
    pub(in crate::ha::engine) fn power_answered(
        &mut self,
        now: Now,
        host: &HostId,
        number: u64,
        answer: DeviceAnswer,
    ) {
        // The answer to a question that was overtaken is none to the present one.
        if self.power.get(host).is_some_and(|run| run.number == number) {
            self.drive_power(now, host, Some(answer));
        }
    }

    /// Goes on with a change of power.
    pub(in crate::ha::engine) fn drive_power(
        &mut self,
        now: Now,
        host: &HostId,
        mut answer: Option<DeviceAnswer>,
    ) {
        let (levels, acts) = (self.levels(host), self.acts());
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
        if run.id.is_some() && !acts {
            let why = "this manager does not act any more".to_owned();
            return self.power_over(now, host, Verdict::Failed(why));
        }
        let change = match &mut run.course {
            Course::Change(change) => change,
            Course::Unfence(_) => return self.unfence(now, host, answer),
            Course::Listen => return self.listen(now, host),
        };
        if change.levels() != levels {
            // What the old devices say about the new plugs is nothing.
            if run.id.is_some() {
                let changed = "its fence devices were changed meanwhile".to_owned();
                return self.power_over(now, host, Verdict::Failed(changed));
            }
            *change = PowerChange::new(levels, Goal::Status);
            answer = None;
        }
        match change.step(now.mono, answer) {
            Step::Call { level, device, action } => {
                let Some(device) = change.called_device(level, device).cloned() else { return };
                if action == DeviceAction::Off {
                    run.witnesses.switched(now.mono);
                }
                self.call_device(now, host, device, action);
            }
            Step::Wait(until) => {
                self.timers.set(Timer::Power(host.clone()), until.max(now.mono + Duration::from_millis(1)))
            }
            Step::Over(verdict) => self.power_over(now, host, verdict),
        }
    }

    fn call_device(
        &mut self,
        now: Now,
        host: &HostId,
        device: Arc<crate::ha::config::FenceDevice>,
        action: DeviceAction,
    ) {
        let Some(run) = self.power.get_mut(host) else { return };
        assert!(
            run.id.is_some() || action == DeviceAction::Status,
            "power is never changed without a recorded intent"
        );
        run.waits_for_answer = true;
        let caller = Caller::Power(host.clone(), run.number);
        if let (Some(id), true) = (run.id, action != DeviceAction::Status) {
            // To let a host in, meta-data are asked for as well.
            let times = if action == DeviceAction::Unfence { 2 } else { 1 };
            let until = now.wall_at(now.mono + device.timeout * times + PowerChange::AFTERLIFE).0;
            self.record(Record::FenceCall { id, host: host.clone(), until });
        }
        let (call, timeout) = (self.new_call(caller), device.timeout);
        self.effect(Effect::CallDevice { call, host: host.clone(), device, action, timeout });
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
            entry.power_read = Some(now.mono);
        }
        match (run.kind, verdict) {
            (PowerKind::Fence { automatic }, Verdict::Failed(why))
                if automatic
                    && run.repeated < REPEAT.len()
                    && self.acts()
                    && !self.is_distrusted(host)
                    && !self.is_back(host) =>
            {
                return self.fence_again(now, host, run, &why);
            }
            (PowerKind::Fence { .. }, Verdict::Off { acted }) => {
                if acted && self.has_witnesses(now, &mut run) {
                    run.course = Course::Listen;
                    self.power.insert(host.clone(), run);
                    return self.listen(now, host);
                }
                self.fenced(now, host, &mut run, acted);
            }
            (PowerKind::Fence { .. }, Verdict::On) => {
                self.fence_failed(now, host, &run, "its devices say that it is on")
            }
            (PowerKind::Fence { .. }, Verdict::Failed(why)) => self.fence_failed(now, host, &run, &why),
            (PowerKind::WaitOut, verdict) => self.waited_out(now, host, &verdict, &said),
            (PowerKind::Look, Verdict::Off { .. }) => {
                self.take_off_proof(now, host, "its fence device says so", None);
            }
            (PowerKind::Look, Verdict::On) => self.seen_on(now, host, "now its devices say that it is on"),
            // Nobody can tell: it is asked again before the proof is used.
            (PowerKind::Look, Verdict::Failed(_)) => self.ask_again_later(now, host),
            (PowerKind::On, verdict) => self.switched_on(now, host, &run, &verdict, &said),
            // It has an end of its own, unless it was broken off.
            (PowerKind::Unfence, _) => {
                self.unfencing_needs.retain(|_, need| *need != Need::Asking);
                self.end_attempt(now, host, &run, false, &said);
            }
        }
        if let Some(command) = run.command {
            self.power_command_over(now, host, command, run.kind, &said);
        }
        self.unfence_if_needed(now, host);
        self.judge_host(now, host);
        self.touch_groups_of(host);
        if !matches!(run.kind, PowerKind::Look | PowerKind::Unfence) {
            self.touch_groups_of_the_lost();
        }
    }

    /// An automatic fencing failed: again, a little later.
    fn fence_again(&mut self, now: Now, host: &HostId, mut run: PowerRun, why: &str) {
        let pause = REPEAT[run.repeated];
        run.repeated += 1;
        why.clone_into(&mut run.failed);
        self.fence_failed(now, host, &run, why);
        run.course = self.change(host, Goal::Off).ending(now.mono + pause);
        // A repetition belongs to the same automatic attempt: it does not count once more.
        let reason = format!("manager: {} (again)", run.why);
        run.id = Some(self.record_intent(now, host, "off", false, reason));
        run.pause_until = Some(now.mono + pause);
        run.witnesses = self.witnesses(host);
        self.power.insert(host.clone(), run);
        self.timers.set(Timer::Power(host.clone()), now.mono + pause);
        self.touch_groups_of(host);
        self.touch_groups_of_the_lost();
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

    /// Its devices say that it is off, and nothing speaks against it.
    fn fenced(&mut self, now: Now, host: &HostId, run: &mut PowerRun, acted: bool) {
        let result = if acted { "off" } else { "was off already" };
        self.end_attempt(now, host, run, true, result);
        self.note(now, "fence", host.as_str(), None, "manager", Some(format!("{result} ({})", run.why)));
        if run.kind == (PowerKind::Fence { automatic: true }) && self.config.settings.power_on_after_fence {
            self.to_power_on.insert(host.clone());
        }
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.unfenced = None;
        }
        if self.take_off_proof(now, host, "its fence device says so", run.command) {
            // The command ends when the host has fallen silent, or has not.
            run.command = None;
        }
    }

    /// An operator answers for it being off: whatever was being done about it is over.
    pub(in crate::ha::engine) fn break_off_power(&mut self, now: Now, host: &HostId, why: &str) {
        let Some(run) = self.power.remove(host) else { return };
        self.end_attempt(now, host, &run, false, why);
        if let Some(command) = run.command {
            self.power_command_over(now, host, command, run.kind, why);
        }
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
            entry.must_fence = Some(MustFence { subject, why: why.to_owned() });
            self.note(now, "must_fence", host.as_str(), None, "manager", Some(why.to_owned()));
            self.touch_groups_of(host);
        }
    }

    /// An operator wants it to be tried again.
    pub(in crate::ha::engine) fn relieve_at_once(&mut self, now: Now, subject: SubjectId, host: &HostId) {
        let Some(entry) = self.hosts.get_mut(host) else { return };
        if let Some(cause) = entry.must_fence.take_if(|cause| cause.subject == subject) {
            let text = format!("not any more: {}", cause.why);
            self.note(now, "must_fence", host.as_str(), None, "manager", Some(text));
            self.touch_groups_of(host);
        }
    }

    /// What a host had to be fenced for is over: it was stopped after all, or its operation came to an end.
    pub(in crate::ha::engine) fn relieve(&mut self, now: Now, subject: SubjectId, host: &HostId) {
        let known = self.subjects.get(&subject).and_then(|entry| entry.on.get(host));
        let over =
            known.is_none_or(|known| known.is_quiet() && !known.is_failed() && known.failed_stops == 0);
        if over {
            self.relieve_at_once(now, subject, host);
        }
    }

    /// A host that was lost is connected again, so that it need not be fenced any more.
    fn is_back(&self, host: &HostId) -> bool {
        self.hosts.get(host).is_some_and(|entry| entry.is_up() && entry.must_fence.is_none())
    }

    /// A host has come back: a fencing by itself that failed is not repeated.
    pub(in crate::ha::engine) fn spare(&mut self, now: Now, host: &HostId) {
        let pauses =
            |run: &PowerRun| run.kind == (PowerKind::Fence { automatic: true }) && run.pause_until.is_some();
        if self.is_back(host) && self.power.get(host).is_some_and(pauses) {
            self.break_off_power(now, host, "it came back before the next attempt");
        }
    }

    fn is_distrusted(&self, host: &HostId) -> bool {
        self.hosts.get(host).is_some_and(|entry| entry.distrust.is_some())
    }

    /// The fence devices of a host are not believed any more, until an operator resets it.
    pub(in crate::ha::engine) fn distrust(&mut self, now: Now, host: &HostId, why: String) {
        let Some(entry) = self.hosts.get_mut(host) else { return };
        if entry.distrust.as_ref() == Some(&why) {
            return;
        }
        entry.distrust = Some(why.clone());
        self.record(Record::Distrusted { host: host.clone(), why: why.clone() });
        self.note(now, "fence_failed", host.as_str(), None, "manager", Some(why));
        self.touch_groups_of(host);
    }
}

impl Course {
    /// The same with a fixed end: no call lives longer than that if it begins at `from`.
    fn ending(self, from: Mono) -> Self {
        match self {
            Self::Change(change) => {
                let end = from + change.budget();
                Self::Change(change.ending_by(end))
            }
            other => other,
        }
    }
}
