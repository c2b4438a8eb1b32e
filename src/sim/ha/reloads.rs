//! Configurations that change while everything runs.

use std::sync::Arc;

use super::scenario::{host_id, in_order};
use super::world::World;
use crate::ha::command::Command;
use crate::ha::config::{Config, Group, Host, Resource};
use crate::ha::ids::{GroupId, HostId, ResourceId};
use crate::sim::rng::Rng;

impl World {
    /// The configuration of the site's manager changes: in its file at once, in its process when it is told.
    pub(super) fn change_configuration(&mut self) {
        let mut config = self.managers[0].config.clone();
        let groups: Vec<GroupId> = config.groups.keys().cloned().collect();
        let rng = &mut self.rng.operator;
        let Some(group) = rng.pick(&groups).and_then(|id| config.groups.get(id)).cloned() else { return };
        let kind = rng.below(7);
        let what = match kind {
            0 => change_hosts(&mut config, &group, self.hosts.len(), rng),
            1 => back_to(&mut config, &self.scenario.config),
            2 => change_parameter(&mut config, &group, rng),
            3 => rename(&mut config, &group, rng),
            4 => retarget(&mut config, &group, rng),
            5 => remove_group(&mut config, &group),
            _ => remove_host(&mut config, rng),
        };
        let Some(what) = what else { return };
        self.tell(format_args!("another configuration: {what}"));
        self.report.reloads += 1;
        self.judge.learn(&config);
        self.managers[0].config = config.clone();
        // Now and then nobody tells the manager before it is restarted.
        if !self.rng.operator.one_in(5) {
            self.command(0, Command::Reload { config: Box::new(config) });
        }
    }

    /// What is active on a host that no configuration knows any more is stopped by hand.
    pub(super) fn stop_strangers(&mut self) {
        let config = &self.managers[0].config;
        let known: Vec<String> = config
            .resources
            .values()
            .filter_map(|resource| resource.spec.parameters.get("target").cloned())
            .collect();
        let mut strangers = Vec::new();
        for (number, host) in self.hosts.iter().enumerate() {
            let things = host.active.keys().filter(|thing| !known.contains(thing));
            strangers.extend(things.map(|thing| (number, thing.clone())));
            // On a host that is in no configuration any more nobody else will stop anything either.
            if !config.hosts.contains_key(&host.id) {
                strangers.extend(host.active.keys().map(|thing| (number, thing.clone())));
            }
        }
        for (host, thing) in strangers {
            self.tell(format_args!("by hand:"));
            self.end_thing(host, &thing);
        }
    }
}

fn change_hosts(config: &mut Config, group: &Group, hosts: usize, rng: &mut Rng) -> Option<String> {
    let mut all: Vec<HostId> = (0..hosts).map(host_id).filter(|id| config.hosts.contains_key(id)).collect();
    if all.len() < 2 {
        return None;
    }
    let home = all.remove(rng.below(all.len() as u64) as usize);
    let failover: Vec<HostId> = all.into_iter().filter(|_| rng.one_in(2)).collect();
    let text = format!("{} at home on {home}, else {failover:?}", group.id);
    let group = Group { home, failover, ..group.clone() };
    config.groups.insert(group.id.clone(), Arc::new(group));
    Some(text)
}

fn back_to(config: &mut Config, first: &Config) -> Option<String> {
    *config = first.clone();
    Some("the first one".to_owned())
}

fn some_member(config: &Config, group: &Group, rng: &mut Rng) -> Option<Resource> {
    config.resources.get(rng.pick(&group.members)?).map(|resource| (**resource).clone())
}

fn put(config: &mut Config, mut resource: Resource) {
    resource.identity = Resource::identity_of(&resource.spec.kind, &resource.spec.parameters);
    config.resources.insert(resource.spec.id.clone(), Arc::new(resource));
}

fn change_parameter(config: &mut Config, group: &Group, rng: &mut Rng) -> Option<String> {
    let mut resource = some_member(config, group, rng)?;
    let id = resource.spec.id.clone();
    resource.spec.parameters.insert("mountpoint".to_owned(), format!("/mnt/{id}/{}", rng.below(3)));
    put(config, resource);
    Some(format!("another mount point for {id}"))
}

/// The same device under another name. The root keeps its own, which is the group's.
fn rename(config: &mut Config, group: &Group, rng: &mut Rng) -> Option<String> {
    let mut resource = some_member(config, group, rng)?;
    let (old, new) = (resource.spec.id.clone(), ResourceId::from(format!("{}x", resource.spec.id)));
    let parent = resource.parent.clone()?;
    for child in &resource.children {
        if let Some(child) = config.resources.get_mut(child) {
            Arc::make_mut(child).parent = Some(new.clone());
        }
    }
    if let Some(parent) = config.resources.get_mut(&parent) {
        let children = &mut Arc::make_mut(parent).children;
        children.iter_mut().filter(|child| **child == old).for_each(|child| *child = new.clone());
    }
    resource.spec.id = new.clone();
    config.resources.remove(&old);
    put(config, resource);
    let members = in_order(config, &group.root);
    config.groups.insert(group.id.clone(), Arc::new(Group { members, ..group.clone() }));
    Some(format!("{old} is called {new}"))
}

/// Another device under the same name.
fn retarget(config: &mut Config, group: &Group, rng: &mut Rng) -> Option<String> {
    let mut resource = some_member(config, group, rng)?;
    let id = resource.spec.id.clone();
    let target = format!("dev-{id}-{}", rng.below(3));
    resource.spec.parameters.insert("target".to_owned(), target.clone());
    put(config, resource);
    Some(format!("{id} is {target}"))
}

fn remove_group(config: &mut Config, group: &Group) -> Option<String> {
    if config.groups.len() < 2 {
        return None;
    }
    config.groups.remove(&group.id);
    for member in &group.members {
        config.resources.remove(member);
    }
    Some(format!("{} is gone", group.id))
}

fn remove_host(config: &mut Config, rng: &mut Rng) -> Option<String> {
    let hosts: Vec<Arc<Host>> = config.hosts.values().cloned().collect();
    if hosts.len() < 3 {
        return None;
    }
    let gone = rng.pick(&hosts)?.id.clone();
    config.hosts.remove(&gone);
    let groups: Vec<Arc<Group>> = config.groups.values().cloned().collect();
    for group in groups {
        let mut left: Vec<HostId> = group.hosts().filter(|host| **host != gone).cloned().collect();
        if left.is_empty() {
            left.extend(config.hosts.keys().next().cloned());
        }
        let home = left.remove(0);
        let group = Group { home, failover: left, ..(*group).clone() };
        config.groups.insert(group.id.clone(), Arc::new(group));
    }
    Some(format!("{gone} is gone"))
}
