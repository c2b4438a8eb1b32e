//! Reading `resource_groups`, and making trees of the resources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::host::Hosts;
use super::keys;
use super::model::{Group, Resource};
use super::read::{Reader, below};
use super::resource::Raw;
use super::yaml::{Node, Place};
use crate::ha::ids::{GroupId, HostId, ResourceId};

type Groups = BTreeMap<GroupId, Arc<Group>>;
type Resources = BTreeMap<ResourceId, Arc<Resource>>;

/// Which resource each one depends on, and which depend on it.
struct Forest {
    parent: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
}

/// Reads the groups.
pub(super) fn read(
    reader: &mut Reader,
    node: &Node,
    hosts: &Hosts,
    raw: Vec<Raw>,
    index: &BTreeMap<ResourceId, usize>,
) -> (Groups, Resources) {
    let forest = forest(reader, &raw, index);
    let mut groups = Groups::new();
    let mut owner: Vec<Option<GroupId>> = vec![None; raw.len()];
    let mut lines: BTreeMap<GroupId, usize> = BTreeMap::new();
    let items = reader.list(node, "resource_groups").unwrap_or_default();
    if items.is_empty() {
        reader.warn(node.place, "resource_groups", "there are no groups, so nothing is looked after", None);
    }
    for (position, node) in items.iter().enumerate() {
        let path = format!("resource_groups[{position}]");
        let Some(group) = group(reader, node, &path, hosts) else { continue };
        let at = below(&path, "root");
        let Some(root) = index.get(&group.root).copied() else {
            let hint = reader.suggest(group.root.as_str(), index.keys().map(ResourceId::as_str));
            reader.error_with_hint(group.place, &at, format!("there is no resource {}", group.root), hint);
            continue;
        };
        let id = GroupId::from(group.root.as_str());
        if let Some(line) = lines.get(&id) {
            reader.error(
                group.place,
                &at,
                format!("resource {id} is the root of the group in line {line} already"),
            );
            continue;
        }
        lines.insert(id.clone(), node.place.line);
        if let Some(parent) = forest.parent[root] {
            let parent = &raw[parent];
            let message = format!(
                "resource {id} cannot be a root: it is a dependent of {} in line {}",
                parent.spec.id, parent.place.line
            );
            let hint =
                format!("a group takes a resource with its dependents: make {} the root", parent.spec.id);
            reader.error_with_hint(group.place, &at, message, hint);
            continue;
        }
        let members = forest.below(root);
        for member in &members {
            owner[*member] = Some(id.clone());
        }
        let members = members.into_iter().map(|member| raw[member].spec.id.clone()).collect();
        let (Some(home), root) = (group.home, group.root) else { continue };
        let (failover, auto_failback) = (group.failover, group.auto_failback);
        groups.insert(
            id.clone(),
            Arc::new(Group { id, root, members, home, failover, auto_failback, position }),
        );
    }
    unused(reader, &raw, &forest, &owner);
    let resources = resources(raw, &forest, owner);
    (groups, resources)
}

struct RawGroup {
    place: Place,
    root: ResourceId,
    home: Option<HostId>,
    failover: Vec<HostId>,
    auto_failback: bool,
}

fn group(reader: &mut Reader, node: &Node, path: &str, hosts: &Hosts) -> Option<RawGroup> {
    let fields = reader.fields(node, path, &keys::GROUP)?;
    let root = reader.name(&fields, path, "root");
    let find = |reader: &mut Reader, node: &Node, at: &str, name: &str| match hosts.find(name) {
        Ok(id) => id.cloned(),
        Err(message) => {
            let hint = reader.suggest(name, hosts.names());
            reader.error_with_hint(node.place, at, message, hint);
            None
        }
    };
    let mut home = None;
    if let (Some(name), Some(node)) = (reader.name(&fields, path, "home_host"), fields.get("home_host")) {
        home = find(reader, node, &below(path, "home_host"), name);
    }
    let mut failover: Vec<HostId> = Vec::new();
    let mut listed = BTreeSet::new();
    let at = below(path, "failover_hosts");
    let nodes = fields.get("failover_hosts").and_then(|node| reader.list(node, &at)).unwrap_or_default();
    for (number, node) in nodes.iter().enumerate() {
        let at = format!("{at}[{number}]");
        let Some(name) = reader.text(node, &at) else { continue };
        let Some(id) = find(reader, node, &at, name) else { continue };
        if home.as_ref() == Some(&id) {
            reader.error(node.place, &at, format!("{id} is the home host, it cannot fail over to itself"));
        } else if !listed.insert(id.clone()) {
            reader.error(node.place, &at, format!("{id} is in this list already"));
        } else {
            failover.push(id);
        }
    }
    let auto_failback =
        fields.get("auto_failback").and_then(|node| reader.boolean(node, &below(path, "auto_failback")));
    let place = fields.get("root").map_or(node.place, |node| node.place);
    Some(RawGroup {
        place,
        root: root?.into(),
        home,
        failover,
        auto_failback: auto_failback.unwrap_or(false),
    })
}

/// Finds who depends on whom. Of a resource that is claimed twice the first claim counts, and what would close a circle
/// does not.
fn forest(reader: &mut Reader, raw: &[Raw], index: &BTreeMap<ResourceId, usize>) -> Forest {
    let mut forest = Forest { parent: vec![None; raw.len()], children: vec![Vec::new(); raw.len()] };
    for (number, resource) in raw.iter().enumerate() {
        for (position, (place, name)) in resource.dependents.iter().enumerate() {
            let at = format!("{}.dependents[{position}]", resource.path);
            let Some(child) = index.get(name.as_str()).copied() else {
                let hint = reader.suggest(name, index.keys().map(ResourceId::as_str));
                reader.error_with_hint(*place, &at, format!("there is no resource {name:?}"), hint);
                continue;
            };
            if child == number {
                reader.error(*place, &at, format!("{name} depends on itself"));
                continue;
            }
            match forest.parent[child] {
                Some(parent) if parent == number => {
                    reader.error(*place, &at, format!("{name} is in this list already"));
                }
                Some(parent) => {
                    let parent = &raw[parent];
                    let message = format!(
                        "{name} is shared: it is a dependent of {} in line {} already",
                        parent.spec.id, parent.place.line
                    );
                    let hint = "a resource belongs to one tree, and to one group".to_owned();
                    reader.error_with_hint(*place, &at, message, hint);
                }
                None => {
                    forest.parent[child] = Some(number);
                    forest.children[number].push(child);
                }
            }
        }
    }
    break_circles(reader, raw, &mut forest);
    forest
}

/// Tells of each circle once, and cuts it at its first resource.
fn break_circles(reader: &mut Reader, raw: &[Raw], forest: &mut Forest) {
    // Which walk has been at a resource; every one is left by its only parent, so that a walk is a line.
    let mut walked: Vec<Option<usize>> = vec![None; raw.len()];
    for start in 0..raw.len() {
        let mut at = start;
        let closes = loop {
            match walked[at] {
                Some(walk) if walk == start => break Some(at),
                Some(_) => break None,
                None => walked[at] = Some(start),
            }
            match forest.parent[at] {
                Some(parent) => at = parent,
                None => break None,
            }
        };
        let Some(closes) = closes else { continue };
        let mut circle = vec![closes];
        let mut at = closes;
        while let Some(parent) = forest.parent[at].filter(|parent| *parent != closes) {
            circle.push(parent);
            at = parent;
        }
        let first = circle.iter().copied().min().unwrap_or(closes);
        const SHOWN: usize = 8;
        let mut names: Vec<&str> = circle.iter().take(SHOWN).map(|at| raw[*at].spec.id.as_str()).collect();
        if circle.len() > SHOWN {
            names.push("...");
        }
        names.push(raw[closes].spec.id.as_str());
        let message = format!("these depend on each other in a circle: {}", names.join(" after "));
        reader.error(raw[first].place, &below(&raw[first].path, "dependents"), message);
        if let Some(parent) = forest.parent[first].take() {
            forest.children[parent].retain(|child| *child != first);
        }
    }
}

impl Forest {
    /// A resource and all below it: each parent before its children, children in the order of the file.
    fn below(&self, root: usize) -> Vec<usize> {
        let mut all = Vec::new();
        let mut open = vec![root];
        while let Some(next) = open.pop() {
            all.push(next);
            open.extend(self.children[next].iter().rev());
        }
        all
    }
}

fn unused(reader: &mut Reader, raw: &[Raw], forest: &Forest, owner: &[Option<GroupId>]) {
    for (number, resource) in raw.iter().enumerate() {
        if owner[number].is_none() && forest.parent[number].is_none() {
            let message = match forest.below(number).len() {
                1 => format!("resource {} is in no group, so nothing is done with it", resource.spec.id),
                all => format!(
                    "resource {} with {} below it is in no group, so nothing is done with them",
                    resource.spec.id,
                    all - 1
                ),
            };
            reader.warn(resource.place, &resource.path, message, None);
        }
    }
}

fn resources(raw: Vec<Raw>, forest: &Forest, owner: Vec<Option<GroupId>>) -> Resources {
    let names: Vec<ResourceId> = raw.iter().map(|raw| raw.spec.id.clone()).collect();
    let mut resources = Resources::new();
    for (number, (raw, owner)) in raw.into_iter().zip(owner).enumerate() {
        let Some(group) = owner else { continue };
        let resource = Resource {
            identity: Resource::identity_of(&raw.spec.kind, &raw.spec.parameters),
            spec: raw.spec,
            group,
            parent: forest.parent[number].map(|parent| names[parent].clone()),
            children: forest.children[number].iter().map(|child| names[*child].clone()).collect(),
            start_timeout: raw.start_timeout,
            stop_timeout: raw.stop_timeout,
            monitor_timeout: raw.monitor_timeout,
            monitor_interval: raw.monitor_interval,
            monitor_depth: raw.monitor_depth,
            failures: raw.failures,
        };
        resources.insert(resource.spec.id.clone(), Arc::new(resource));
    }
    resources
}
