//! What a group needs next: it is looked at as a whole each time something happened to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::machine::Engine;
use crate::ha::config::Group;
use crate::ha::ids::{GroupId, HostId, ResourceId};
use crate::ha::status::Phase;
use crate::time::Now;

/// Where members of a group are for sure.
#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    Nowhere,
    On(&'a HostId),
    Several,
}

/// What the engine remembers of a group beside its durable flags.
#[derive(Debug)]
pub(super) struct GroupEntry {
    pub(super) phase: Phase,
    /// What it waits for, in words.
    pub(super) waits_for: Vec<String>,
    /// Where it ran last and is to go on: the first choice after a failure of all of it.
    pub(super) place: Option<HostId>,
    /// Since when it is in this phase, and waits or does not.
    pub(super) since: i64,
}

impl GroupEntry {
    pub(super) fn new(now: Now) -> Self {
        Self { phase: Phase::Unknown, waits_for: Vec::new(), place: None, since: now.wall.0 }
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
        if was != phase || entry.waits_for.is_empty() != waits.is_empty() {
            entry.since = now.wall.0;
        }
        entry.waits_for = waits;
        // Not only the command that waits for it: after a restart of the manager nobody does.
        if matches!(phase, Phase::Running | Phase::Partial)
            && let Some(host) = self.location(&group)
        {
            self.forget_wish(id, &host);
        }
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
        let found = self.place(group);
        if matches!(found, Place::Several) {
            let places: Vec<String> = self
                .whereabouts(group)
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
        let location = if let Place::On(host) = found { Some(host.clone()) } else { None };
        let place = self.groups.get_mut(&group.id).map(|entry| &mut entry.place);
        if let (Some(place), Some(location)) = (place, &location) {
            *place = Some(location.clone());
        }
        if !self.acts() || !self.is_managed(&group.id) {
            self.forget_place(&group.id);
            return self.phase_of_unmanaged(group, location.as_ref());
        }
        match location.or_else(|| self.location_in_error(group)) {
            Some(location) => self.steps_at(now, group, &location, waits),
            None => self.steps_from_nowhere(now, group, waits),
        }
    }

    /// It has no claim to where it was: somebody else decides about that.
    pub(super) fn forget_place(&mut self, group: &GroupId) {
        if let Some(entry) = self.groups.get_mut(group) {
            entry.place = None;
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

    /// Whether a group is on one host.
    fn place(&self, group: &Group) -> Place<'_> {
        let mut place = Place::Nowhere;
        for member in &group.members {
            let Some((subject, _)) = self.subject_of(member) else { continue };
            for (_, entry) in self.same_resource(subject) {
                for (host, _) in entry.on.iter().filter(|(_, known)| known.is_here()) {
                    match place {
                        Place::Nowhere => place = Place::On(host),
                        Place::On(other) if other == host => {}
                        Place::On(_) | Place::Several => return Place::Several,
                    }
                }
            }
        }
        place
    }

    /// Where a group is, if that is one host.
    pub(super) fn location(&self, group: &Group) -> Option<HostId> {
        match self.place(group) {
            Place::On(host) => Some(host.clone()),
            Place::Nowhere | Place::Several => None,
        }
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

    pub(super) fn phase_of_unmanaged(&self, group: &Group, location: Option<&HostId>) -> Phase {
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
}
