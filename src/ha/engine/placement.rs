//! Which host a group goes to.

use super::machine::Engine;
use crate::ha::config::Group;
use crate::ha::ids::{GroupId, HostId, ResourceId};
use crate::ha::status::HostState;
use crate::time::Now;

impl Engine {
    /// Whether a group may be acted upon. Unmanaged beats everything; maintenance is unmanaged for a time.
    pub(super) fn is_managed(&self, group: &GroupId) -> bool {
        let flags = self.state.groups.get(group);
        if flags.is_some_and(|flags| flags.unmanaged || flags.maintenance_until.is_some()) {
            return false;
        }
        if self.state.maintenance_until.is_some() {
            return false;
        }
        let Some(group) = self.config.groups.get(group) else { return false };
        // Mostly none is, and then it does not matter where the group is, which is costly to find out.
        if self.state.hosts.values().all(|flags| flags.maintenance_until.is_none()) {
            return true;
        }
        let in_maintenance =
            |host: &HostId| self.state.hosts.get(host).is_some_and(|flags| flags.maintenance_until.is_some());
        !self.whereabouts(group).keys().any(in_maintenance)
    }

    /// Whether a group can be started on a host, or why not.
    pub(super) fn can_run_on(&self, now: Now, group: &Group, id: &HostId) -> Result<(), String> {
        let Some(host) = self.hosts.get(id) else { return Err(format!("{id} is unknown")) };
        let flags = self.state.hosts.get(id);
        if flags.is_some_and(|flags| flags.deactivated) {
            return Err(format!("{id} is deactivated"));
        }
        if flags.is_some_and(|flags| flags.maintenance_until.is_some()) {
            return Err(format!("{id} is in maintenance"));
        }
        if let Some(why) = &host.must_fence {
            return Err(format!("{id} must be fenced ({})", why.why));
        }
        if !host.is_up() || host.state != HostState::Connected {
            return Err(format!("{id} is not connected ({})", host.detail));
        }
        if let Some(why) = self.is_being_let_in(id).or_else(|| self.is_not_let_in(id)) {
            return Err(why);
        }
        for member in group.members.iter().filter(|member| self.is_wanted(now, group, member)) {
            if let Some(why) = self.is_exhausted(now, member, id) {
                return Err(format!("{member} {why} on {id}"));
            }
        }
        Ok(())
    }

    /// Whether a member is to run at all: what an operator stopped, or what was given up, does not decide where the rest
    /// goes.
    fn is_wanted(&self, now: Now, group: &Group, member: &ResourceId) -> bool {
        !self.is_to_be_down(member) && (*member == group.root || !self.is_given_up(now, group, member))
    }

    /// Where an operator wants a group, if it may still run there.
    fn wanted_on(&self, group: &Group) -> Option<&HostId> {
        let wanted = self.state.groups.get(&group.id)?.wanted_on.as_ref()?;
        group.hosts().any(|host| host == wanted).then_some(wanted)
    }

    /// The best host for a group, or why none will do.
    pub(super) fn choose(
        &self,
        now: Now,
        group: &Group,
        not: Option<&HostId>,
    ) -> Result<HostId, Vec<String>> {
        let wanted = self.wanted_on(group);
        let place = self.groups.get(&group.id).and_then(|entry| entry.place.as_ref());
        let place = place.filter(|place| group.hosts().any(|host| host == *place));
        let mut reasons = Vec::new();
        for host in wanted.into_iter().chain(place).chain(group.hosts()) {
            if Some(host) == not {
                continue;
            }
            match self.can_run_on(now, group, host) {
                Ok(()) => return Ok(host.clone()),
                // A moment later it can, and a group should not go elsewhere for that.
                Err(reason) if self.is_being_let_in(host).is_some_and(|why| reason == why) => {
                    return Err(vec![reason]);
                }
                Err(reason) if reasons.contains(&reason) => {}
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons)
    }

    /// Whether a group shall leave the host it is on: where to, or why it must but cannot.
    pub(super) fn wants_to_leave(
        &self,
        now: Now,
        group: &Group,
        location: &HostId,
    ) -> Option<Result<HostId, String>> {
        let wanted = self.wanted_on(group);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != location) {
            return match self.can_run_on(now, group, wanted) {
                Ok(()) => Some(Ok(wanted.clone())),
                Err(why) => Some(Err(format!("cannot move: {why}"))),
            };
        }
        let deactivated = self.state.hosts.get(location).is_some_and(|flags| flags.deactivated);
        let exhausted = group
            .members
            .iter()
            .filter(|member| self.is_wanted(now, group, member))
            .find_map(|member| self.is_exhausted(now, member, location).map(|why| (member, why)));
        let stranger = !group.hosts().any(|host| host == location);
        let why = if deactivated {
            format!("{location} is deactivated")
        } else if let Some((member, why)) = exhausted {
            format!("{member} {why} on {location}")
        } else if stranger {
            format!("{location} is not one of its hosts any more")
        } else {
            let home = group.auto_failback && group.home != *location && wanted.is_none();
            return (home && self.can_run_on(now, group, &group.home).is_ok())
                .then(|| Ok(group.home.clone()));
        };
        Some(
            self.choose(now, group, Some(location))
                .map_err(|reasons| format!("{why}, but {}", reasons.join(", "))),
        )
    }
}
