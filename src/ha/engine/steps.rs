//! The next orders for a group: stop what must go, start what is missing, and gather the proofs for that.

use std::sync::Arc;
use std::time::Duration;

use super::knowledge::SubjectId;
use super::machine::Engine;
use super::proofs::Missing;
use super::timers::Timer;
use crate::ha::config::Group;
use crate::ha::ids::{HostId, ResourceId};
use crate::ha::protocol::Action;
use crate::ha::status::Phase;
use crate::time::Now;

/// How far the proofs for a start are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Proofs {
    Complete,
    Missing,
    /// It may be active where it must not be.
    InDoubt,
}

/// What takes longer than this is told to who looks at the status.
const WORTH_TELLING: Duration = Duration::from_secs(10);

impl Engine {
    /// The group is on one host: keep it complete there, or take it off.
    pub(super) fn steps_at(
        &mut self,
        now: Now,
        group: &Arc<Group>,
        location: &HostId,
        waits: &mut Vec<String>,
    ) -> Phase {
        if self.state.groups.get(&group.id).is_some_and(|flags| flags.stopped) {
            self.forget_place(&group.id);
            return self.stop_all(now, group, location, waits);
        }
        match self.wants_to_leave(now, group, location) {
            Some(Ok(destination)) => {
                self.forget_place(&group.id);
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
        let (mut complete, mut failed, mut held, mut doubt) = (true, false, false, false);
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
                if broken {
                    self.recover(now, group, member, host, waits);
                }
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
                doubt |= self.start(now, group, member, host, waits) == Proofs::InDoubt;
            } else if coming {
                // What is seen meanwhile need not be looked for later.
                self.gather_proofs(now, group, member, host, &mut Vec::new());
            }
        }
        if doubt {
            return Phase::Frozen;
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
        if let Some(refused) = known.stop_refused.clone() {
            let limit = self.config.settings.unfinished_limit;
            waits.push(format!("the agent of {host} does not stop {member}: {}", refused.why));
            // What runs well goes on; what does not must end somehow.
            if known.is_failed() && now.mono >= refused.since + limit {
                let why = format!("{member} could not be stopped");
                self.must_fence(now, host, subject, &why);
                waits.push(self.consider_fence(now, host, group));
                return false;
            }
            if now.mono < refused.again {
                self.timers.by(Timer::Group(group.id.clone()), refused.again);
                return false;
            }
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
    pub(super) fn steps_from_nowhere(
        &mut self,
        now: Now,
        group: &Arc<Group>,
        waits: &mut Vec<String>,
    ) -> Phase {
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
            Err(reasons)
                if group.hosts().any(|host| reasons.first() == self.is_being_let_in(host).as_ref()) =>
            {
                waits.extend(reasons);
                let unknown = self.phase_of_unmanaged(group, None);
                return if unknown == Phase::Unknown { Phase::Unknown } else { Phase::Planned };
            }
            Err(reasons) => {
                waits.push(format!("no host can run it: {}", reasons.join(", ")));
                // Looking is never wrong: it may turn out to run somewhere.
                return self.phase_of_unmanaged(group, None);
            }
        };
        // Every resource is looked for on every candidate before anything is started.
        let mut proofs = Proofs::Complete;
        for member in &group.members {
            proofs = proofs.max(self.gather_proofs(now, group, member, &destination, waits));
        }
        if proofs == Proofs::InDoubt {
            return Phase::Frozen;
        }
        if proofs != Proofs::Complete {
            let unknown = self.phase_of_unmanaged(group, None);
            return if unknown == Phase::Unknown { Phase::Unknown } else { Phase::Planned };
        }
        if let Some(at) = self.retry_at(&group.root, &destination).filter(|at| *at > now.mono) {
            self.timers.by(Timer::Group(group.id.clone()), at);
            return Phase::Planned;
        }
        let root = group.root.clone();
        match self.start(now, group, &root, &destination, waits) {
            Proofs::InDoubt => Phase::Frozen,
            _ => Phase::Starting,
        }
    }

    fn start(
        &mut self,
        now: Now,
        group: &Arc<Group>,
        member: &ResourceId,
        host: &HostId,
        waits: &mut Vec<String>,
    ) -> Proofs {
        let proofs = self.gather_proofs(now, group, member, host, waits);
        if proofs == Proofs::Complete
            && let Some((subject, _)) = self.subject_of(member)
        {
            self.order(now, subject, host, Action::Start);
        }
        proofs
    }

    /// Sees to every proof that a start still needs.
    fn gather_proofs(
        &mut self,
        now: Now,
        group: &Arc<Group>,
        member: &ResourceId,
        target: &HostId,
        waits: &mut Vec<String>,
    ) -> Proofs {
        let Some((subject, _)) = self.subject_of(member) else { return Proofs::Missing };
        if let Some(entry) = self.subjects.get_mut(&subject) {
            entry.wanted_since.get_or_insert(now.mono);
        }
        let missing = self.missing_for_start(subject, target, now.mono);
        let mut proofs = if missing.is_empty() { Proofs::Complete } else { Proofs::Missing };
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
                    proofs = Proofs::InDoubt;
                    waits.push(if known.is_running() {
                        format!("{name} is active on {host}")
                    } else {
                        format!("{name} may be active on {host}, its agent reports: {comment}")
                    });
                }
            }
        }
        proofs
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
        let Some(entry) = self.subjects.get(&subject) else { return };
        let Some(known) = entry.on.get(host) else { return };
        let name = entry.spec.id.clone();
        let Some(until) = known.unfinished.values().min().copied() else {
            // An order without a result: the next look of its monitor notices when that takes too long.
            let given = known.pending.and_then(|(order, _)| self.orders.get(&order));
            if given.is_some_and(|given| now.mono.since(given.at) >= WORTH_TELLING) {
                waits.push(format!("an operation on {name} goes on on {host}"));
            }
            return;
        };
        if now.mono >= until {
            let why = format!("an operation on {name} does not end");
            self.must_fence(now, host, subject, &why);
            waits.push(self.consider_fence(now, host, group));
        } else {
            waits.push(format!("an operation on {name} is unfinished on {host}"));
            self.timers.by(Timer::Group(group.id.clone()), until);
        }
    }
}
