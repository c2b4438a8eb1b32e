//! Failures of resources: restart in place, then another host, then stop with a visible reason.

use std::time::Duration;

use super::knowledge::SubjectId;
use super::machine::Engine;
use crate::ha::config::Group;
use crate::ha::ids::{HostId, ResourceId};
use crate::ha::ocf::{Outcome, Recovery};
use crate::ha::state::Record;
use crate::ha::status::Failure;
use crate::time::{Mono, Now};

impl Engine {
    /// A failure of a resource is noted.
    pub(super) fn failed(
        &mut self,
        now: Now,
        subject: SubjectId,
        host: &HostId,
        action: &str,
        outcome: &Outcome,
        reason: &str,
    ) {
        let what = if reason.is_empty() { outcome.to_string() } else { format!("{outcome}: {reason}") };
        // A monitor may well find something broken that a restart mends, and what cannot be stopped is fenced: only a
        // start tells where it can run.
        let recovery = if action == "start" { outcome.recovery() } else { Recovery::Soft };
        self.failed_as(now, subject, host, action, what, recovery);
    }

    pub(super) fn failed_as(
        &mut self,
        now: Now,
        subject: SubjectId,
        host: &HostId,
        action: &str,
        what: String,
        recovery: Recovery,
    ) {
        let Some(entry) = self.subjects.get(&subject) else { return };
        let name = entry.spec.id.clone();
        self.note(now, "failed", name.as_str(), Some(host), "manager", Some(format!("{action}: {what}")));
        if !entry_is_managed(self, subject) {
            return;
        }
        let failure =
            Failure { at: now.wall.0, host: host.clone(), action: action.to_owned(), what, recovery };
        self.record(Record::Failed { resource: name.clone(), failure });
        let count = self.counting(now, &name).filter(|failure| failure.host == *host).count();
        let pause = match count {
            0..=2 => Duration::ZERO,
            more => Duration::from_secs(1 << (more - 3).min(5)),
        };
        self.retries.insert((name, host.clone()), now.mono + pause);
    }

    pub(super) fn stop_failed(
        &mut self,
        now: Now,
        subject: SubjectId,
        host: &HostId,
        outcome: &Outcome,
        reason: &str,
    ) {
        self.failed(now, subject, host, "stop", outcome, reason);
        if let Some(known) = self.subjects.get_mut(&subject).and_then(|subject| subject.on.get_mut(host)) {
            known.failed_stops += 1;
        }
    }

    /// Whether a resource stays stopped, since it failed too often.
    pub(super) fn is_given_up(&self, now: Now, group: &Group, resource: &ResourceId) -> bool {
        self.given_up_until(now, group, resource).is_some()
    }

    /// Failures of a resource that still count.
    fn counting(&self, now: Now, resource: &ResourceId) -> impl Iterator<Item = &Failure> {
        let window =
            self.config.resources.get(resource).map(|resource| resource.failures.window).unwrap_or_default();
        let window = i64::try_from(window.as_nanos()).unwrap_or(i64::MAX);
        self.state.failures.get(resource).into_iter().flatten().filter(move |failure| {
            failure.recovery != Recovery::Soft || now.wall.0.saturating_sub(failure.at) < window
        })
    }

    /// Failures that still count, for display.
    pub(super) fn counting_failures(&self, now: Now, resource: &ResourceId) -> Vec<Failure> {
        self.counting(now, resource).cloned().collect()
    }

    /// Why a resource is not tried on a host any more, if so.
    pub(super) fn is_exhausted(
        &self,
        now: Now,
        resource: &ResourceId,
        host: &HostId,
    ) -> Option<&'static str> {
        let policy = self.config.resources.get(resource)?.failures;
        let mut soft = 0;
        // That it could not be stopped says nothing about where it can run.
        for failure in self.counting(now, resource).filter(|failure| failure.action != "stop") {
            match failure.recovery {
                Recovery::Fatal => return Some("is configured wrongly"),
                Recovery::Hard if failure.host == *host => return Some("cannot run"),
                Recovery::Soft if failure.host == *host => soft += 1,
                _ => {}
            }
        }
        (soft > policy.retries).then_some("failed too often")
    }

    /// A resource stays stopped until an operator clears it, or until this time, when its oldest failure does not count any
    /// more.
    pub(super) fn given_up_until(&self, now: Now, group: &Group, resource: &ResourceId) -> Option<Mono> {
        let policy = self.config.resources.get(resource)?.failures;
        let (mut total, mut oldest) = (0, None::<i64>);
        for failure in self.counting(now, resource).filter(|failure| failure.action != "stop") {
            total += 1;
            if failure.recovery == Recovery::Soft {
                oldest = Some(oldest.map_or(failure.at, |oldest| oldest.min(failure.at)));
            }
        }
        if total == 0 {
            return None;
        }
        let everywhere = || group.hosts().all(|host| self.is_exhausted(now, resource, host).is_some());
        if total < policy.threshold && !everywhere() {
            return None;
        }
        Some(oldest.map_or(Mono::MAX, |oldest| {
            let age = Duration::from_nanos(u64::try_from(now.wall.0.saturating_sub(oldest)).unwrap_or(0));
            now.mono + policy.window.saturating_sub(age) + Duration::from_millis(1)
        }))
    }

    /// When a resource that failed on a host may be tried there again.
    pub(super) fn retry_at(&self, resource: &ResourceId, host: &HostId) -> Option<Mono> {
        self.retries.get(&(resource.clone(), host.clone())).copied()
    }

    /// Failures of a resource do not count any more.
    pub(super) fn clear_failures(&mut self, now: Now, resource: &ResourceId) {
        if self.state.failures.contains_key(resource) {
            self.record(Record::Cleared { resource: resource.clone() });
        }
        self.retries.retain(|(name, _), _| name != resource);
        let Some(subject) = self.current.get(resource).copied() else { return };
        let Some(entry) = self.subjects.get_mut(&subject) else { return };
        entry.on.values_mut().for_each(|known| known.failed_stops = 0);
        let hosts: Vec<HostId> = entry.on.keys().cloned().collect();
        for host in hosts {
            self.relieve_at_once(now, subject, &host);
        }
    }

    /// A resource that stops running in a managed group has failed.
    pub(super) fn should_run(&self, subject: SubjectId, _host: &HostId) -> bool {
        entry_is_managed(self, subject)
    }
}

fn entry_is_managed(engine: &Engine, subject: SubjectId) -> bool {
    let current = engine.subjects.get(&subject).is_some_and(|subject| subject.current);
    current && engine.acts() && engine.group_of(subject).is_some_and(|group| engine.is_managed(&group))
}
