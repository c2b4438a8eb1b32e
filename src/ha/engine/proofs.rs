//! The one rule that may never break: when a resource may be started.
//!
//! R may be started on T only if T has no unfinished operation on R, and every other candidate host has a stopped-proof or
//! an off-proof. What is a candidate is kept by [`super::candidates`]; an order to start is given only by
//! [`super::orders`], which asks here.

use super::hosts::HostEntry;
use super::knowledge::{Known, Subject, SubjectId};
use super::machine::Engine;
use crate::ha::ids::HostId;
use crate::time::Mono;

/// What is missing for a start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Missing {
    /// The host can be asked: a fresh look at the resource is needed.
    Probe(HostId, SubjectId),
    /// The host was switched off: a fresh look at its power is needed.
    PowerStatus(HostId),
    /// The host is out of reach and not known to be off.
    Host(HostId),
    /// Something is under way there.
    Busy(HostId, SubjectId),
    /// It is active there, or may be: its agent reports an error.
    Active(HostId, SubjectId),
}

impl Engine {
    /// What is missing for a start of `subject` on `target`. Empty: it may be started, now.
    pub(super) fn missing_for_start(&self, subject: SubjectId, target: &HostId, now: Mono) -> Vec<Missing> {
        let mut missing = Vec::new();
        let Some(wanted) = self.subjects.get(&subject) else { return missing };
        for (id, other) in self.same_resource(subject) {
            for (host, known) in &other.on {
                let since = wanted.wanted_since.unwrap_or(now);
                missing.extend(self.missing_proof(*id, host, known, host == target, since, now));
            }
        }
        if !wanted.on.contains_key(target) {
            missing.push(Missing::Host(target.clone()));
        }
        missing
    }

    /// All definitions that may be the same thing: of one device, or an old one of the same name.
    pub(super) fn same_resource(&self, subject: SubjectId) -> impl Iterator<Item = (&SubjectId, &Subject)> {
        let wanted = self.subjects.get(&subject);
        let named = wanted.and_then(|wanted| self.by_name.get(&wanted.spec.id));
        let same = wanted.and_then(|wanted| self.by_identity.get(&wanted.identity));
        let old = named.into_iter().flatten().filter(move |id| !same.is_some_and(|same| same.contains(id)));
        let old = old.filter(|id| self.subjects.get(id).is_some_and(|other| !other.current));
        same.into_iter().flatten().chain(old).filter_map(|id| self.subjects.get_key_value(id))
    }

    /// What is missing for a proof that `known` is not active on `host`.
    fn missing_proof(
        &self,
        subject: SubjectId,
        host: &HostId,
        known: &Known,
        is_target: bool,
        since: Mono,
        now: Mono,
    ) -> Option<Missing> {
        let entry = self.hosts.get(host);
        if let Some(entry) = entry {
            if entry.is_up() {
                return self.missing_stopped_proof(subject, host, known, since, now);
            }
            if !is_target && let Some(missing) = self.missing_off_proof(host, entry, since, now) {
                return missing;
            }
        }
        Some(Missing::Host(host.clone()))
    }

    /// Stopped-proof: the host is sealed by us on a live connection, nothing is unfinished there, and a look that was
    /// ordered after the need arose says stopped.
    fn missing_stopped_proof(
        &self,
        subject: SubjectId,
        host: &HostId,
        known: &Known,
        since: Mono,
        now: Mono,
    ) -> Option<Missing> {
        if !known.is_quiet() {
            return Some(Missing::Busy(host.clone(), subject));
        }
        let fresh = known.asked >= since && now.since(known.told) <= self.config.settings.proof_age;
        if fresh && known.is_stopped() {
            return None;
        }
        if fresh && (known.is_running() || known.is_failed()) {
            return Some(Missing::Active(host.clone(), subject));
        }
        Some(Missing::Probe(host.clone(), subject))
    }

    /// Off-proof: its fence device said "off" after the need arose, lately, and nothing was heard of the host since (which
    /// would have taken the proof away). The outer `None`: there is no such proof to renew.
    fn missing_off_proof(
        &self,
        host: &HostId,
        entry: &HostEntry,
        since: Mono,
        now: Mono,
    ) -> Option<Option<Missing>> {
        let off = entry.off.as_ref()?;
        let fresh =
            off.stands || (off.read >= since && now.since(off.read) <= self.config.settings.proof_age);
        Some(if fresh { None } else { Some(Missing::PowerStatus(host.clone())) })
    }
}
