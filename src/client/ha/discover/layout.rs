//! From what was found on servers to groups with a home.

use std::collections::{BTreeMap, BTreeSet};

use super::parse::{Found, LdevLine};

/// A group for the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The root's name.
    pub root: String,
    /// Where it belongs.
    pub home: String,
    /// Where else it may run, as far as that is known.
    pub failover: Vec<String>,
    /// The root first.
    pub resources: Vec<Resource>,
    /// For the reader of the file.
    pub notes: Vec<String>,
}

/// A resource for the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// `provider/type`.
    pub kind: &'static str,
    /// Its parameters, in order.
    pub parameters: Vec<(&'static str, String)>,
}

/// A target, from all that was seen of it.
#[derive(Debug, Default)]
struct Target {
    label: String,
    device: String,
    zfs: bool,
    mountpoint: Option<String>,
    /// Where it is mounted, with its mount point.
    mounted: BTreeMap<String, String>,
    /// Where its device is seen.
    seen: BTreeSet<String>,
    local: Option<String>,
    foreign: Option<String>,
}

impl Target {
    fn pool(&self) -> Option<&str> {
        self.zfs.then(|| self.device.split('/').next().unwrap_or(&self.device))
    }
}

/// Makes groups of what was found on hosts, and of lines of an `ldev.conf` that was given; `mountpoints` is where a target
/// is mounted of which that is not known. Also says what was left out or odd.
pub fn groups(found: &[(String, Found)], ldev: &[LdevLine], mountpoints: &str) -> (Vec<Group>, Vec<String>) {
    let mut warnings = Vec::new();
    let targets = targets(found, ldev);
    let names = names(&targets);
    // Pools and targets that are not in a pool, in the order of their labels.
    let mut roots: BTreeMap<(Option<&str>, usize), Vec<usize>> = BTreeMap::new();
    let mut order: Vec<(Option<&str>, usize)> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let key = match target.pool() {
            Some(pool) => (Some(pool), pool_host(&targets, pool, target)),
            None => (None, index),
        };
        let members = roots.entry(key).or_default();
        if members.is_empty() {
            order.push(key);
        }
        members.push(index);
    }
    let mut groups = Vec::new();
    for key in order {
        let members: Vec<(&Target, &str)> = roots
            .get(&key)
            .into_iter()
            .flatten()
            .filter_map(|index| Some((targets.get(*index)?, names.get(*index)?.as_str())))
            .collect();
        groups.push(group(key.0, &members, found, mountpoints));
    }
    rename_twins(&mut groups);
    let used: BTreeSet<&str> = targets.iter().filter_map(Target::pool).collect();
    for (host, found) in found {
        for pool in found.pools.iter().filter(|pool| !used.contains(pool.as_str())) {
            warnings.push(format!("pool {pool} on {host} holds no Lustre target; it is left out"));
        }
        warnings.extend(found.warnings.iter().map(|warning| format!("{host}: {warning}")));
    }
    (groups, warnings)
}

/// Pools of one name on hosts that have nothing to do with each other are not the same pool: the first target's number
/// stands for the pool that this target is in.
fn pool_host(targets: &[Target], pool: &str, target: &Target) -> usize {
    let hosts = |target: &Target| -> BTreeSet<String> {
        let mut hosts: BTreeSet<String> = target.seen.iter().chain(target.mounted.keys()).cloned().collect();
        hosts.extend(target.local.iter().chain(&target.foreign).cloned());
        hosts
    };
    let own = hosts(target);
    let same = |other: &&(usize, &Target)| {
        other.1.pool() == Some(pool) && (own.is_empty() || !hosts(other.1).is_disjoint(&own))
    };
    targets.iter().enumerate().collect::<Vec<_>>().iter().find(same).map_or(0, |(index, _)| *index)
}

fn targets(found: &[(String, Found)], ldev: &[LdevLine]) -> Vec<Target> {
    // A block device may have another name on each host, so its label says what is the same. Datasets are told apart by
    // their names as well: there are pools with an MGS for each file system.
    let mut targets: BTreeMap<(String, String), Target> = BTreeMap::new();
    let mut note = |label: &str, device: &str, zfs: bool, host: Option<&str>| -> (String, String) {
        let apart = if zfs { device.to_owned() } else { String::new() };
        let key = (label.to_owned(), apart);
        let target = targets.entry(key.clone()).or_default();
        if target.device.is_empty() {
            target.label = label.to_owned();
            target.device = device.to_owned();
            target.zfs = zfs;
        }
        target.seen.extend(host.map(str::to_owned));
        key
    };
    let mut mounts = Vec::new();
    let mut places = Vec::new();
    for (host, found) in found {
        for mount in &found.mounts {
            let zfs = !mount.device.starts_with('/');
            let key = note(&mount.label, &mount.device, zfs, Some(host));
            mounts.push((key, host.clone(), mount.mountpoint.clone(), mount.device.clone()));
        }
        for (dataset, label) in &found.datasets {
            note(label, dataset, true, Some(host));
        }
        for (device, label) in &found.devices {
            // The path that it is mounted by is as good, and better if blkid shows one path of many.
            if !found.mounts.iter().any(|mount| mount.label == *label) {
                note(label, device, false, Some(host));
            }
        }
    }
    for line in found.iter().flat_map(|(_, found)| &found.ldev).chain(ldev) {
        let key = note(&line.label, &line.device, line.zfs, None);
        places.push((key, line));
    }
    for (key, host, mountpoint, device) in mounts {
        if let Some(target) = targets.get_mut(&key) {
            target.device = device;
            target.mountpoint = Some(mountpoint.clone());
            target.mounted.insert(host, mountpoint);
        }
    }
    for (key, line) in places {
        if let Some(target) = targets.get_mut(&key) {
            target.local.get_or_insert_with(|| line.local.clone());
            if target.foreign.is_none() {
                target.foreign = line.foreign.clone();
            }
        }
    }
    targets.into_values().collect()
}

/// Labels as names of resources; those that several targets have are told apart by their devices.
fn names(targets: &[Target]) -> Vec<String> {
    let count = |label: &str| targets.iter().filter(|target| target.label == label).count();
    targets
        .iter()
        .map(|target| match count(&target.label) {
            1 => target.label.clone(),
            _ => format!("{}-{}", target.label, target.device.trim_start_matches('/').replace('/', "-")),
        })
        .collect()
}

fn group(
    pool: Option<&str>,
    members: &[(&Target, &str)],
    found: &[(String, Found)],
    mountpoints: &str,
) -> Group {
    let mut notes = Vec::new();
    let first =
        |hosts: &dyn Fn(&Target) -> Option<String>| members.iter().find_map(|(target, _)| hosts(target));
    let local = first(&|target| target.local.clone());
    let mounted = first(&|target| target.mounted.keys().next().cloned());
    let imported = pool.and_then(|pool| {
        let has = |found: &Found| found.pools.iter().any(|other| other == pool);
        found.iter().find(|(_, found)| has(found)).map(|(host, _)| host.clone())
    });
    let seen = first(&|target| target.seen.iter().next().cloned());
    let home = local.clone().or(mounted).or(imported).or(seen).unwrap_or_default();
    let mut failover: Vec<String> = Vec::new();
    let foreign = members.iter().filter_map(|(target, _)| target.foreign.clone());
    let seen = members.iter().filter(|(target, _)| !target.zfs).flat_map(|(target, _)| target.seen.clone());
    for host in foreign.chain(seen) {
        if host != home && !failover.contains(&host) {
            failover.push(host);
        }
    }
    for (target, name) in members {
        let places: Vec<&str> = target.mounted.keys().map(String::as_str).collect();
        match places.as_slice() {
            [] if !found.is_empty() => notes.push(format!("{name} was not mounted on any host that was asked")),
            [place] if *place != home => notes.push(format!("{name} is on {place} now")),
            [_, _, ..] => notes.push(format!(
                "DANGER: {name} is mounted on several hosts at once: {}. Unmount all but one, and check the file system",
                places.join(", ")
            )),
            _ => {}
        }
        if let Some(other) = &target.local
            && *other != home
        {
            notes.push(format!("ldev.conf says that {name} belongs to {other}"));
        }
    }
    let mut resources = Vec::new();
    if let Some(pool) = pool {
        resources.push(Resource {
            name: pool.to_owned(),
            kind: "heartbeat/ZFS",
            parameters: vec![("pool", pool.to_owned())],
        });
    }
    for (target, name) in members {
        let mountpoint = target.mountpoint.clone().unwrap_or_else(|| {
            notes.push(format!("the mount point of {name} is not known: {mountpoints}/{name} is a guess"));
            format!("{mountpoints}/{name}")
        });
        resources.push(Resource {
            name: (*name).to_owned(),
            kind: "lustre/Lustre",
            parameters: vec![("target", target.device.clone()), ("mountpoint", mountpoint)],
        });
    }
    let root = resources.first().map(|root| root.name.clone()).unwrap_or_default();
    Group { root, home, failover, resources, notes }
}

/// Pools of one name get their home's name as well: names are unique in a configuration.
fn rename_twins(groups: &mut [Group]) {
    let roots: Vec<String> = groups.iter().map(|group| group.root.clone()).collect();
    for group in groups.iter_mut() {
        if roots.iter().filter(|root| **root == group.root).count() > 1 {
            group.root = format!("{}-{}", group.root, group.home);
            if let Some(root) = group.resources.first_mut() {
                root.name = group.root.clone();
            }
        }
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
