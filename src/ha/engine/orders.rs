//! Orders to agents, and what comes of them.

use std::sync::Arc;
use std::time::Duration;

use super::event::Effect;
use super::knowledge::{KnownState, RefusedStop, SubjectId};
use super::machine::Engine;
use crate::ha::config::Resource;
use crate::ha::ids::{HostId, LinkId, OrderId};
use crate::ha::ocf::{Outcome, Recovery};
use crate::ha::protocol::{Action, Finished, Operation, Order, Refusal, ToAgent, Unfinished};
use crate::time::{Mono, Now};

/// How long an operation may take whose timeout only the meta-data on its host tell.
const UNKNOWN_TIMEOUT: Duration = Duration::from_secs(600);
/// An agent asks an operation whose time is over to end, kills it two seconds later and tells so: within this.
const KILLED: Duration = Duration::from_secs(5);

/// An order without a result.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) host: HostId,
    pub(super) subject: SubjectId,
    pub(super) action: Action,
    pub(super) at: Mono,
}

impl Engine {
    /// Gives an order. A start is given only if nothing is missing for it.
    pub(super) fn order(&mut self, now: Now, subject: SubjectId, host: &HostId, action: Action) -> bool {
        let changes = matches!(action, Action::Start | Action::Stop);
        if self.superseded.is_some() {
            return false;
        }
        assert!(!changes || self.acts(), "nothing is started or stopped by who only observes");
        if action == Action::Start {
            let missing = self.missing_for_start(subject, host, now.mono);
            assert!(missing.is_empty(), "a start without proofs: {missing:?}");
        }
        let Some(entry) = self.hosts.get(host) else { return false };
        let (Some(link), true, Some(agent)) = (entry.link(), entry.is_up(), &entry.agent) else {
            return false;
        };
        let (boot, agent, heartbeat) = (agent.boot.clone(), agent.run, entry.heartbeat);
        let id = OrderId { epoch: self.state.epoch, run: self.run, number: self.next_order };
        let timeout_ms = self.timeout_of(subject, action);
        let Some(entry) = self.subjects.get_mut(&subject) else { return false };
        let resource = entry.spec.clone();
        let Some(known) = entry.on.get_mut(host) else { return false };
        if known.pending.is_some() {
            return false;
        }
        known.pending = Some((id, action));
        if changes {
            known.since = now.wall;
        }
        if action == Action::Start {
            // It may be active here from now on, whatever the result says.
            known.last_active = true;
            entry.wanted_since = None;
        }
        self.next_order += 1;
        self.orders.insert(id, Given { host: host.clone(), subject, action, at: now.mono });
        let order =
            Order { id, boot, agent, heartbeat, operation: Operation { resource, action, timeout_ms } };
        self.effect(Effect::Send { link, message: ToAgent::Order(order) });
        true
    }

    fn timeout_of(&self, subject: SubjectId, action: Action) -> Option<u64> {
        let name = &self.subjects.get(&subject)?.spec.id;
        let resource = self.config.resources.get(name)?;
        let timeout = match action {
            Action::Start => resource.start_timeout,
            Action::Stop => resource.stop_timeout,
            Action::Probe | Action::Monitor { .. } => resource.monitor_timeout,
        }?;
        u64::try_from(timeout.as_millis()).ok()
    }

    /// An agent reports a result.
    pub(super) fn finished(&mut self, now: Now, host: &HostId, link: LinkId, finished: Finished) {
        if matches!(finished.action, Action::Start | Action::Stop) {
            self.effect(Effect::Send { link, message: ToAgent::Forget { orders: vec![finished.order] } });
        }
        let Some(given) = self.orders.remove(&finished.order).filter(|given| given.host == *host) else {
            // Of an order that we no longer count on: what it changed is seen by looking again.
            let order = finished.order;
            self.change_unfinished(now, host, order, finished.unfinished.then(|| self.patience(now)));
            return self.look_again(now, host, &finished.resource);
        };
        if !finished.unfinished {
            // Another definition of the same name may have waited for it.
            self.change_unfinished(now, host, finished.order, None);
        }
        let patience = self.patience(now);
        let name = {
            let Some(subject) = self.subjects.get_mut(&given.subject) else { return };
            let Some(known) = subject.on.get_mut(host) else { return };
            known.pending = None;
            if given.action == Action::Stop {
                known.stop_refused = None;
            }
            if finished.unfinished {
                known.unfinished.insert(finished.order, patience);
                self.unfinished.entry(host.clone()).or_default().insert(finished.order);
            }
            known.advised_interval_ms = finished.advised_interval_ms.or(known.advised_interval_ms);
            subject.spec.id.clone()
        };
        match given.action {
            Action::Probe | Action::Monitor { .. } => self.monitored(now, &given, host, &finished),
            Action::Start => {
                let ok = finished.outcome.succeeded();
                if ok {
                    let text = format!("took {:.1} s", finished.took_ms as f64 / 1000.0);
                    self.note(now, "start", name.as_str(), Some(host), "manager", Some(text));
                    self.set_known(
                        now,
                        given.subject,
                        host,
                        KnownState::Running { degraded: false },
                        given.at,
                        None,
                    );
                    self.schedule_look(now, given.subject, host);
                } else {
                    self.failed(now, given.subject, host, "start", &finished.outcome, &finished.reason);
                    self.mark_unknown(now, given.subject, host, &finished);
                    self.look(now, given.subject, host);
                }
            }
            Action::Stop => {
                if !finished.outcome.succeeded() {
                    self.stop_failed(now, given.subject, host, &finished.outcome, &finished.reason);
                } else {
                    self.note(now, "stop", name.as_str(), Some(host), "manager", None);
                    let subject = self.subjects.get_mut(&given.subject);
                    if let Some(known) = subject.and_then(|subject| subject.on.get_mut(host)) {
                        known.stop_claimed = true;
                    }
                }
                // No exit code of a stop proves anything.
                self.mark_unknown(now, given.subject, host, &finished);
                self.look(now, given.subject, host);
            }
        }
        self.touch_subject(given.subject);
    }

    fn mark_unknown(&mut self, now: Now, subject: SubjectId, host: &HostId, finished: &Finished) {
        let comment = (!finished.reason.is_empty()).then(|| Arc::from(finished.reason.as_str()));
        if let Some(known) = self.subjects.get_mut(&subject).and_then(|subject| subject.on.get_mut(host)) {
            known.state = KnownState::Unknown;
            known.comment = comment;
            known.since = now.wall;
        }
    }

    fn monitored(&mut self, now: Now, given: &Given, host: &HostId, finished: &Finished) {
        let state = KnownState::from(finished.outcome.monitored());
        let comment = (!finished.reason.is_empty()).then(|| finished.reason.clone());
        let comment = match (state, comment) {
            (KnownState::Failed(_), reason) => Some(match reason {
                Some(reason) => format!("{}: {reason}", finished.outcome),
                None => finished.outcome.to_string(),
            }),
            (KnownState::Running { degraded: true }, reason) => {
                Some(reason.unwrap_or_else(|| "degraded".to_owned()))
            }
            _ => None,
        };
        let was_running = self
            .subjects
            .get(&given.subject)
            .and_then(|subject| subject.on.get(host))
            .is_some_and(|known| known.is_running());
        let known = self.subjects.get_mut(&given.subject).and_then(|subject| subject.on.get_mut(host));
        let claimed = known.is_some_and(|known| std::mem::take(&mut known.stop_claimed));
        if claimed && matches!(state, KnownState::Running { .. } | KnownState::Failed(_)) {
            let reason = format!("it said that it succeeded, but: {}", finished.outcome);
            self.stop_failed(now, given.subject, host, &Outcome::Exited(1), &reason);
        }
        if was_running && !matches!(state, KnownState::Running { .. }) && self.should_run(given.subject, host)
        {
            self.failed(now, given.subject, host, "monitor", &finished.outcome, &finished.reason);
        }
        self.set_known(now, given.subject, host, state, given.at, comment.as_deref());
        self.schedule_look(now, given.subject, host);
        self.relieve(now, given.subject, host);
        self.settle_former(given.subject, host);
    }

    /// What a look at it told.
    fn set_known(
        &mut self,
        now: Now,
        subject: SubjectId,
        host: &HostId,
        state: KnownState,
        asked: Mono,
        comment: Option<&str>,
    ) {
        let Some(known) = self.subjects.get_mut(&subject).and_then(|subject| subject.on.get_mut(host)) else {
            return;
        };
        if known.state != state {
            known.state = state;
            known.since = now.wall;
        }
        if known.comment.as_deref() != comment {
            known.comment = comment.map(Arc::from);
        }
        known.asked = asked;
        known.told = now.mono;
        match state {
            KnownState::Running { .. } => known.last_active = true,
            KnownState::Stopped | KnownState::NotInstalled => {
                known.last_active = false;
                known.failed_stops = 0;
            }
            KnownState::Failed(_) | KnownState::Unknown => {}
        }
    }

    /// The last process of an operation is gone: what it did is seen by looking again.
    pub(super) fn emptied(&mut self, now: Now, host: &HostId, order: OrderId) {
        self.change_unfinished(now, host, order, None);
    }

    /// An operation is over (`None`), or may go on until then.
    fn change_unfinished(&mut self, now: Now, host: &HostId, order: OrderId, until: Option<Mono>) {
        let Some(left) = self.unfinished.get_mut(host).filter(|left| left.contains(&order)) else { return };
        if until.is_none() {
            left.remove(&order);
        }
        let mut again = Vec::new();
        for (id, subject) in &mut self.subjects {
            let Some(known) = subject.on.get_mut(host) else { continue };
            let Some(deadline) = known.unfinished.get_mut(&order) else { continue };
            match until {
                Some(until) => *deadline = until.min(*deadline),
                None => {
                    known.unfinished.remove(&order);
                    again.push(*id);
                }
            }
        }
        for subject in again {
            self.look(now, subject, host);
            self.touch_subject(subject);
        }
    }

    /// How long processes may be left of an operation whose own process ended.
    fn patience(&self, now: Now) -> Mono {
        now.mono + self.config.settings.unfinished_limit
    }

    /// How long an operation may take until its host is fenced for it: its time, that of its killing, and what is granted
    /// beyond that.
    fn longest(&self, subject: SubjectId, action: Action) -> Duration {
        let timeout = self.timeout_of(subject, action).map_or(UNKNOWN_TIMEOUT, Duration::from_millis);
        timeout.saturating_add(KILLED).saturating_add(self.config.settings.unfinished_limit)
    }

    /// An agent tells of an operation that is not over, whoever ordered it. It may go by another name here.
    pub(super) fn note_unfinished(&mut self, now: Now, host: &HostId, left: &Unfinished) {
        let identity = Resource::identity_of(&left.resource.kind, &left.resource.parameters);
        let same: Vec<SubjectId> = self
            .subjects
            .iter()
            .filter(|(_, subject)| subject.spec.id == left.resource.id || subject.identity == identity)
            .filter(|(_, subject)| subject.on.contains_key(host))
            .map(|(id, _)| *id)
            .collect();
        for subject in same {
            let until = match left.outcome {
                Some(_) => self.patience(now),
                None => now.mono + self.longest(subject, left.action),
            };
            if let Some(known) = self.subjects.get_mut(&subject).and_then(|entry| entry.on.get_mut(host)) {
                let until = if known.overdue == Some(left.order) { now.mono } else { until };
                known.unfinished.insert(left.order, until);
                known.last_active = true;
                self.unfinished.entry(host.clone()).or_default().insert(left.order);
            }
        }
    }

    /// An order has no result although its time is over: what has become of it is learnt by sealing anew.
    pub(super) fn overdue(&self, now: Now, subject: SubjectId, host: &HostId) -> Option<OrderId> {
        let known = self.subjects.get(&subject).and_then(|entry| entry.on.get(host))?;
        let (order, action) = known.pending?;
        let given = self.orders.get(&order)?;
        (now.mono >= given.at + self.longest(subject, action)).then_some(order)
    }

    pub(super) fn order_refused(&mut self, now: Now, host: &HostId, order: OrderId, reason: &Refusal) {
        let Some(given) = self.orders.remove(&order).filter(|given| given.host == *host) else { return };
        let Some(subject) = self.subjects.get_mut(&given.subject) else { return };
        let name = subject.spec.id.clone();
        let Some(known) = subject.on.get_mut(host) else { return };
        known.pending = None;
        let (running, known_refusal) = (known.is_running(), known.stop_refused.clone());
        let refused = match reason {
            Refusal::Unacceptable(why) => Some((why.clone(), Recovery::Hard)),
            // A full disk, perhaps: not the resource's fault.
            Refusal::NotStored(why) => Some((why.clone(), Recovery::Soft)),
            // Something that we do not know of is under way there: it will be reported when it is over.
            Refusal::Busy(other) => {
                known.unfinished.entry(*other).or_insert(now.mono + UNKNOWN_TIMEOUT);
                self.unfinished.entry(host.clone()).or_default().insert(*other);
                None
            }
            Refusal::Sealed(epoch) => {
                let epoch = *epoch;
                self.superseded_by(now, host, epoch);
                None
            }
            Refusal::NotSealed | Refusal::StaleHeartbeat(_) | Refusal::OtherRun => None,
        };
        if matches!(given.action, Action::Start | Action::Stop) {
            let text = format!("order refused by the agent: {reason:?}");
            self.note(now, "refused", name.as_str(), Some(host), "manager", Some(text));
        }
        if let Some((why, recovery)) = refused {
            let outcome = Outcome::NotRun(why.clone());
            match given.action {
                Action::Start => {
                    self.failed_as(now, given.subject, host, "start", outcome.to_string(), recovery)
                }
                Action::Stop => {
                    // Nothing was tried, so nothing has failed: it may well run on.
                    let since = known_refusal.map_or(now.mono, |before| before.since);
                    let again = now.mono + self.config.settings.heartbeat_interval * 5;
                    let refused = RefusedStop { why: why.into(), since, again };
                    let subject = self.subjects.get_mut(&given.subject);
                    if let Some(known) = subject.and_then(|subject| subject.on.get_mut(host)) {
                        known.stop_refused = Some(refused);
                    }
                }
                // What runs is not broken because its agent has no time to look.
                Action::Probe | Action::Monitor { .. } if running => {}
                Action::Probe | Action::Monitor { .. } => {
                    let state = KnownState::Failed(recovery);
                    self.set_known(now, given.subject, host, state, given.at, Some(&outcome.to_string()));
                }
            }
        }
        // Whatever it was, look again a little later.
        self.schedule_look(now, given.subject, host);
        if let Some(group) = self.group_of(given.subject) {
            self.timers
                .by(super::timers::Timer::Group(group), now.mono + self.config.settings.heartbeat_interval);
        }
    }
}
