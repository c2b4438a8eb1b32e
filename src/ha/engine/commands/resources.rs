//! Commands about single resources and groups: start, stop, clear.

use super::*;

impl Engine {
    /// Nothing is started or stopped behind the back of who took a group over.
    fn in_charge(&self, verb: &str, target: &str, group: &GroupId) -> Result<(), Denied> {
        if self.is_managed(group) {
            return Ok(());
        }
        conflict(format!("Could not {verb} '{target}': {group} is not managed, or in maintenance."))
    }

    pub(super) fn plan_start(&self, target: &str) -> Result<Plan, Denied> {
        self.acting()?;
        let Some(resource) = self.config.resources.get(target) else {
            return not_found(format!("There is no group or resource '{target}'."));
        };
        let group = resource.group.clone();
        self.in_charge("start", target, &group)?;
        let flags = self.group_flags(&group);
        let mut records = vec![Record::GroupFlags {
            group: group.clone(),
            flags: GroupFlags { stopped: false, ..flags.clone() },
        }];
        // What it depends on is needed as well; what depends on the whole group comes with it.
        let whole = resource.parent.is_none();
        let mut path: Vec<ResourceId> = Vec::new();
        let mut at = Some(resource.spec.id.clone());
        while let Some(name) = at {
            at = self.config.resources.get(&name).and_then(|resource| resource.parent.clone());
            path.push(name);
        }
        let members = self.config.groups.get(&group).map(|group| group.members.clone()).unwrap_or_default();
        for name in members {
            let was = self.state.stopped.contains(&name);
            let branch = self.config.resources.get(&name).and_then(|resource| resource.parent.as_ref());
            let beside = branch.is_some_and(|parent| path.contains(parent)) && !path.contains(&name);
            let stopped = if whole || path.contains(&name) {
                false
            } else {
                // Only this one was asked for: the rest of a group that was stopped as a whole stays so.
                was || (flags.stopped && beside)
            };
            if was != stopped {
                records.push(Record::ResourceStopped { resource: name, stopped });
            }
        }
        Ok(Plan {
            event: "start",
            object: target.to_owned(),
            what: format!("start {target}"),
            consequences: vec![format!("{target} is started, with what it depends on")],
            records,
            then: Then::Nothing,
            goal: Goal::Up { group, resource: resource.spec.id.clone() },
        })
    }

    pub(super) fn plan_stop(&self, target: &str) -> Result<Plan, Denied> {
        self.acting()?;
        let Some(resource) = self.config.resources.get(target) else {
            return not_found(format!("There is no group or resource '{target}'."));
        };
        let group = resource.group.clone();
        self.in_charge("stop", target, &group)?;
        let whole = resource.parent.is_none();
        let record = if whole {
            Record::GroupFlags {
                group: group.clone(),
                flags: GroupFlags { stopped: true, ..self.group_flags(&group) },
            }
        } else {
            Record::ResourceStopped { resource: resource.spec.id.clone(), stopped: true }
        };
        let consequence = if resource.children.is_empty() {
            format!("{target} is stopped and stays so until started again")
        } else {
            format!("{target} and what depends on it is stopped and stays so until started again")
        };
        Ok(Plan {
            event: "stop",
            object: target.to_owned(),
            what: format!("stop {target}"),
            consequences: vec![consequence],
            records: vec![record],
            then: Then::Nothing,
            goal: Goal::Down { group, resource: resource.spec.id.clone() },
        })
    }

    pub(super) fn plan_clear(&self, target: Option<String>) -> Result<Plan, Denied> {
        let resources: Vec<ResourceId> = match &target {
            None => self.config.resources.keys().cloned().collect(),
            Some(name) => {
                if let Some(group) = self.config.groups.get(name.as_str()) {
                    group.members.clone()
                } else if let Some(resource) = self.config.resources.get(name.as_str()) {
                    vec![resource.spec.id.clone()]
                } else if self.config.hosts.contains_key(name.as_str()) {
                    let here = |failures: &Vec<crate::ha::status::Failure>| {
                        failures.iter().any(|failure| failure.host.as_str() == name)
                    };
                    self.state
                        .failures
                        .iter()
                        .filter(|(_, failures)| here(failures))
                        .map(|(id, _)| id.clone())
                        .collect()
                } else {
                    return not_found(format!("There is no group, resource or host '{name}'."));
                }
            }
        };
        let object = target.unwrap_or_else(|| "cluster".to_owned());
        Ok(Plan {
            event: "clear",
            what: format!("clear the failures of {object}"),
            object,
            consequences: vec!["failures are forgotten, and what they had stopped is tried again".to_owned()],
            records: Vec::new(),
            then: Then::ClearFailures(resources),
            goal: Goal::Instant,
        })
    }

    /// All that is known of a group is void; look at it everywhere before anything is done.
    pub(super) fn look_anew(&mut self, now: Now, id: &GroupId) {
        let Some(group) = self.config.groups.get(id).cloned() else { return };
        for member in &group.members {
            let Some(subject) = self.current.get(member).copied() else { continue };
            let hosts: Vec<HostId> = match self.subjects.get_mut(&subject) {
                Some(entry) => {
                    entry.wanted_since = Some(now.mono);
                    for known in entry.on.values_mut().filter(|known| known.pending.is_none()) {
                        known.state = crate::ha::engine::knowledge::KnownState::Unknown;
                        known.since = now.wall;
                    }
                    entry.on.keys().cloned().collect()
                }
                None => continue,
            };
            for host in hosts {
                self.look(now, subject, &host);
            }
        }
    }
}
