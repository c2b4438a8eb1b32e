//! What a group needs next: it is looked at as a whole each time something happened to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::knowledge::SubjectId;
use super::machine::Engine;
use super::proofs::Missing;
use super::timers::Timer;
use crate::ha::config::Group;
use crate::ha::ids::{GroupId, HostId, ResourceId};
use crate::ha::protocol::Action;
use crate::ha::status::Phase;
use crate::time::Now;

/// What the engine remembers of a group beside its durable flags.
#[derive(Debug)]
pub(super) struct GroupEntry {
    pub(super) phase: Phase,
    /// What it waits for, in words.
    pub(super) waits_for: Vec<String>,
}

impl GroupEntry {
    pub(super) fn new() -> Self {
        Self { phase: Phase::Unknown, waits_for: Vec::new() }
    }
}

impl Engine {
    /// Looks at a group and gives the orders that it needs next.
    pub(super) fn reconcile(&mut self, now: Now, id: &GroupId) {
        let Some(group) = self.config.groups.get(id).cloned() else { return };
        let mut waits = Vec::new();
        let phase = self.next_steps(now, &group, &mut waits);
        waits.sort();
        waits.dedup();
        let Some(entry) = self.groups.get_mut(id) else { return };
        let was = std::mem::replace(&mut entry.phase, phase);
        let why = waits.join("; ");
        entry.waits_for = waits;
        if was != phase {
            let event = match phase {
                Phase::Frozen => "frozen",
                Phase::Failed => "gave_up",
                Phase::Running if was != Phase::Partial => "running",
                _ => return,
            };
            let location = self.location(&group);
            let why = (!why.is_empty()).then_some(why);
            self.note(now, event, id.as_str(), location.as_ref(), "manager", why);
        }
    }

    fn next_steps(&mut self, now: Now, group: &Arc<Group>, waits: &mut Vec<String>) -> Phase {
        let here = self.whereabouts(group);
        if here.len() > 1 {
            let places: Vec<String> = here
                .iter()
                .map(|(host, members)| {
                    let names: Vec<&str> = members.iter().map(ResourceId::as_str).collect();
                    format!("{} on {host}", names.join(", "))
                })
                .collect();
            waits.push(format!(
                "active on more than one host ({}): nothing is done until one of them is stopped by hand",
                places.join("; ")
            ));
            return Phase::Frozen;
        }
        let location = here.into_keys().next();
        if !self.acts() || !self.is_managed(&group.id) {
            return self.phase_of_unmanaged(group, location.as_ref());
        }
        match location.or_else(|| self.location_in_error(group)) {
            Some(location) => self.steps_at(now, group, &location, waits),
            None => self.steps_from_nowhere(now, group, waits),
        }
    }

    /// Where members of a group are for sure.
    pub(super) fn whereabouts(&self, group: &Group) -> BTreeMap<HostId, Vec<ResourceId>> {
        let mut here: BTreeMap<HostId, Vec<ResourceId>> = BTreeMap::new();
        for member in &group.members {
            let Some((subject, _)) = self.subject_of(member) else { continue };
            for (_, entry) in self.same_resource(subject) {
                for host in entry.here() {
                    let members = here.entry(host.clone()).or_default();
                    if members.last() != Some(member) {
                        members.push(member.clone());
                    }
                }
            }
        }
        here
    }

    /// Where a group is, if that is one host.
    pub(super) fn location(&self, group: &Group) -> Option<HostId> {
        let here = self.whereabouts(group);
        if here.len() == 1 { here.into_keys().next() } else { None }
    }

    /// It runs nowhere, but one host reports an error for it: there it must be stopped and started again.
    fn location_in_error(&self, group: &Group) -> Option<HostId> {
        let mut failed =
            group.members.iter().filter_map(|member| self.subject_of(member)).flat_map(|(_, subject)| {
                subject
                    .on
                    .iter()
                    .filter(|(_, known)| known.is_failed() && known.last_active)
                    .map(|(host, _)| host)
            });
        let first = failed.next()?;
        failed.all(|other| other == first).then(|| first.clone())
    }

    fn phase_of_unmanaged(&self, group: &Group, location: Option<&HostId>) -> Phase {
        let known = |member: &ResourceId, host: &HostId| self.known(member, host);
        match location {
            Some(location) => {
                let all = group
                    .members
                    .iter()
                    .all(|member| known(member, location).is_some_and(|known| known.is_running()));
                if all { Phase::Running } else { Phase::Partial }
            }
            None => {
                let stopped = group
                    .members
                    .iter()
                    .filter_map(|member| self.subject_of(member))
                    .all(|(_, subject)| subject.on.iter().all(|(host, known)| self.is_down(host, known)));
                if stopped { Phase::Stopped } else { Phase::Unknown }
            }
        }
    }

    /// For all that is known, it is not active there.
    fn is_down(&self, host: &HostId, known: &super::knowledge::Known) -> bool {
        known.is_stopped() || self.hosts.get(host).is_some_and(|host| host.off.is_some())
    }

    /// The group is on one host: keep it complete there, or take it off.
    fn steps_at(
        &mut self,
        now: Now,
        group: &Arc<Group>,
        location: &HostId,
        waits: &mut Vec<String>,
    ) -> Phase {
        if self.state.groups.get(&group.id).is_some_and(|flags| flags.stopped) {
            return self.stop_all(now, group, location, waits);
        }
        match self.wants_to_leave(now, group, location) {
            Some(Ok(destination)) => {
                waits.push(format!("moves to {destination}"));
                return self.stop_all(now, group, location, waits);
            }
            Some(Err(why)) => waits.push(why),
            None => {}
        }
        self.bring_up(now, group, location, waits)
    }

    /// Starts what is missing where the group is: parents first, siblings at once.
    fn bring_up(&mut self, now: Now, group: &Arc<Group>, host: &HostId, waits: &mut Vec<String>) -> Phase {
        let (mut complete, mut failed, mut held) = (true, false, false);
        for member in &group.members {
            let Some((_, entry)) = self.subject_of(member) else { continue };
            let Some(known) = entry.on.get(host) else { continue };
            let (running, broken) = (known.is_running(), known.is_failed() && known.last_active);
            if known.is_changing() {
                complete = false;
                continue;
            }
            if self.is_to_be_down(member) {
                held = true;
                if !self.children_are_down(member, host) || !self.stop_one(now, group, member, host, waits) {
                    complete = false;
                }
                continue;
            }
            if running {
                continue;
            }
            complete = false;
            if let Some(until) = self.given_up_until(now, group, member) {
                failed = true;
                self.timers.by(Timer::Group(group.id.clone()), until);
                waits.push(format!(
                    "{member} failed too often and stays stopped: after mending it, coordinatool-client ha clear {member}"
                ));
                continue;
            }
            if let Some(at) = self.retry_at(member, host).filter(|at| *at > now.mono) {
                waits.push(format!(
                    "{member} is tried again in {:.0} s",
                    at.since(now.mono).as_secs_f64().ceil()
                ));
                self.timers.by(Timer::Group(group.id.clone()), at);
                continue;
            }
            if broken {
                self.recover(now, group, member, host, waits);
                continue;
            }
            let parent = self.config.resources.get(member).and_then(|resource| resource.parent.clone());
            let ready = parent
                .as_ref()
                .is_none_or(|parent| self.known(parent, host).is_some_and(|known| known.is_running()));
            let coming = parent.as_ref().is_some_and(|parent| {
                self.known(parent, host)
                    .is_some_and(|known| matches!(known.pending, Some((_, Action::Start))))
            });
            if ready {
                self.start(now, group, member, host, waits);
            } else if coming {
                // What is seen meanwhile need not be looked for later.
                self.gather_proofs(now, group, member, host, &mut Vec::new());
            }
        }
        match (complete, failed) {
            (true, _) if held => Phase::Partial,
            (true, _) => Phase::Running,
            (false, true) => Phase::Failed,
            (false, false) => Phase::Starting,
        }
    }

    /// An active resource reports an error: it is stopped, after what depends on it, and started again.
    fn recover(
        &mut self,
        now: Now,
        group: &Arc<Group>,
        member: &ResourceId,
        host: &HostId,
        waits: &mut Vec<String>,
    ) {
        let children: Vec<ResourceId> =
            self.config.resources.get(member).map(|resource| resource.children.clone()).unwrap_or_default();
        let mut down = true;
        for child in children {
            down &= self.stop_tree(now, group, &child, host, waits);
        }
        if down {
            self.stop_one(now, group, member, host, waits);
        }
    }

    /// Stops everything on a host, children first. What is proven stopped stays so; then the group is nowhere.
    fn stop_all(&mut self, now: Now, group: &Arc<Group>, host: &HostId, waits: &mut Vec<String>) -> Phase {
        let root = group.root.clone();
        self.stop_tree(now, group, &root, host, waits);
        Phase::Stopping
    }

    /// Stops a resource and what depends on it. True when all of it is stopped.
    fn stop_tree(
        &mut self,
        now: Now,
        group: &Arc<Group>,
        member: &ResourceId,
        host: &HostId,
        waits: &mut Vec<String>,
    ) -> bool {
        // Without recursion: a tree may be as deep as the configuration allows.
        let mut order = vec![member.clone()];
        let mut next = 0;
        while let Some(resource) = order.get(next).and_then(|name| self.config.resources.get(name)) {
            order.extend(resource.children.iter().cloned());
            next += 1;
        }
        let mut down = true;
        for member in order.iter().rev() {
            if self.children_are_down(member, host) {
                down &= self.stop_one(now, group, member, host, waits);
            } else {
                down = false;
            }
        }
        down
    }

    /// Stops one resource. True when it is proven stopped.
    fn stop_one(
        &mut self,
        now: Now,
        group: &Arc<Group>,
        member: &ResourceId,
        host: &HostId,
        waits: &mut Vec<String>,
    ) -> bool {
        let Some((current, _)) = self.subject_of(member) else { return true };
        // What runs may have been started by an older definition: one after the other.
        let mut all: Vec<SubjectId> = self
            .same_resource(current)
            .filter(|(id, other)| other.on.contains_key(host) && (**id == current || !other.current))
            .map(|(id, _)| *id)
            .collect();
        all.sort_by_key(|id| *id != current);
        all.into_iter().all(|subject| self.stop_definition(now, group, member, subject, host, waits))
    }

    /// Stops a resource as it is, or was, defined. True when it is proven stopped.
    fn stop_definition(
        &mut self,
        now: Now,
        group: &Arc<Group>,
        member: &ResourceId,
        subject: SubjectId,
        host: &HostId,
        waits: &mut Vec<String>,
    ) -> bool {
        let Some(known) = self.subjects.get(&subject).and_then(|entry| entry.on.get(host)) else {
            return true;
        };
        if !known.is_quiet() {
            self.watch_unfinished(now, group, subject, host, waits);
            return false;
        }
        if known.is_stopped() {
            return true;
        }
        if matches!(known.state, super::knowledge::KnownState::Unknown) {
            self.look(now, subject, host);
            return false;
        }
        if known.failed_stops >= 2 {
            let why = format!("{member} could not be stopped");
            self.must_fence(now, host, subject, &why);
            waits.push(self.consider_fence(now, host, group));
            return false;
        }
        self.order(now, subject, host, Action::Stop);
        false
    }

    pub(super) fn children_are_down(&self, member: &ResourceId, host: &HostId) -> bool {
        self.config.resources.get(member).is_none_or(|resource| {
            let children = resource.children.iter().filter_map(|child| self.subject_of(child));
            children
                .flat_map(|(child, _)| {
                    self.same_resource(child).filter(move |(id, other)| **id == child || !other.current)
                })
                .filter_map(|(_, definition)| definition.on.get(host))
                .all(|known| known.is_stopped() && known.is_quiet())
        })
    }

    /// The operator wants it stopped, or something that it depends on.
    pub(super) fn is_to_be_down(&self, member: &ResourceId) -> bool {
        let mut at = Some(member.clone());
        while let Some(name) = at {
            if self.state.stopped.contains(&name) {
                return true;
            }
            at = self.config.resources.get(&name).and_then(|resource| resource.parent.clone());
        }
        false
    }

    /// The group runs nowhere for all that is known: choose a host, look everywhere, start.
    fn steps_from_nowhere(&mut self, now: Now, group: &Arc<Group>, waits: &mut Vec<String>) -> Phase {
        let stopped = self.state.groups.get(&group.id).is_some_and(|flags| flags.stopped);
        if stopped || self.is_to_be_down(&group.root) {
            return self.phase_of_unmanaged(group, None);
        }
        if let Some(until) = self.given_up_until(now, group, &group.root) {
            self.timers.by(Timer::Group(group.id.clone()), until);
            let root = &group.root;
            waits.push(format!(
                "{root} failed too often and stays stopped: after mending it, coordinatool-client ha clear {root}"
            ));
            return Phase::Failed;
        }
        let destination = match self.choose(now, group, None) {
            Ok(destination) => destination,
            Err(reasons) => {
                waits.push(format!("no host can run it: {}", reasons.join(", ")));
                // Looking is never wrong: it may turn out to run somewhere.
                return self.phase_of_unmanaged(group, None);
            }
        };
        // Every resource is looked for on every candidate before anything is started.
        let mut proven = true;
        for member in &group.members {
            proven &= self.gather_proofs(now, group, member, &destination, waits);
        }
        if !proven {
            let unknown = self.phase_of_unmanaged(group, None);
            return if unknown == Phase::Unknown { Phase::Unknown } else { Phase::Planned };
        }
        if let Some(at) = self.retry_at(&group.root, &destination).filter(|at| *at > now.mono) {
            self.timers.by(Timer::Group(group.id.clone()), at);
            return Phase::Planned;
        }
        let root = group.root.clone();
        self.start(now, group, &root, &destination, waits);
        Phase::Starting
    }

    fn start(
        &mut self,
        now: Now,
        group: &Arc<Group>,
        member: &ResourceId,
        host: &HostId,
        waits: &mut Vec<String>,
    ) {
        if !self.gather_proofs(now, group, member, host, waits) {
            return;
        }
        if let Some((subject, _)) = self.subject_of(member) {
            self.order(now, subject, host, Action::Start);
        }
    }

    /// Sees to every proof that a start still needs. True when none is missing.
    fn gather_proofs(
        &mut self,
        now: Now,
        group: &Arc<Group>,
        member: &ResourceId,
        target: &HostId,
        waits: &mut Vec<String>,
    ) -> bool {
        let Some((subject, _)) = self.subject_of(member) else { return false };
        if let Some(entry) = self.subjects.get_mut(&subject) {
            entry.wanted_since.get_or_insert(now.mono);
        }
        let missing = self.missing_for_start(subject, target, now.mono);
        for missing in &missing {
            match missing {
                Missing::Probe(host, subject) => self.look(now, *subject, host),
                Missing::PowerStatus(host) => self.read_power(now, host),
                Missing::Host(host) => waits.push(self.consider_fence(now, host, group)),
                Missing::Busy(host, subject) => self.watch_unfinished(now, group, *subject, host, waits),
                Missing::Active(host, subject) => {
                    let Some(entry) = self.subjects.get(subject) else { continue };
                    let Some(known) = entry.on.get(host) else { continue };
                    let (name, comment) = (&entry.spec.id, known.comment.as_deref().unwrap_or(""));
                    waits.push(if known.is_running() {
                        format!("{name} is active on {host}")
                    } else {
                        format!("{name} may be active on {host}, its agent reports: {comment}")
                    });
                }
            }
        }
        missing.is_empty()
    }

    /// Something is under way: it is waited for, but not for ever.
    fn watch_unfinished(
        &mut self,
        now: Now,
        group: &Arc<Group>,
        subject: super::knowledge::SubjectId,
        host: &HostId,
        waits: &mut Vec<String>,
    ) {
        let limit = self.config.settings.unfinished_limit;
        let Some(entry) = self.subjects.get(&subject) else { return };
        let Some(oldest) = entry.on.get(host).and_then(|known| known.unfinished.values().min().copied())
        else {
            return;
        };
        let name = entry.spec.id.clone();
        if now.mono >= oldest + limit {
            let why = format!("an operation on {name} does not end");
            self.must_fence(now, host, subject, &why);
            waits.push(self.consider_fence(now, host, group));
        } else {
            waits.push(format!("an operation on {name} is unfinished on {host}"));
            self.timers.by(Timer::Group(group.id.clone()), oldest + limit);
        }
    }
}
