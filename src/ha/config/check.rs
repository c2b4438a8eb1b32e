//! What can only be seen when the whole configuration is there.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Config, Resource};
use super::read::{Reader, below, show};
use super::yaml::Place;
use crate::ha::ids::{HostId, Identity, ResourceId};

/// Where resources and hosts are written.
pub(super) struct Places {
    pub hosts: BTreeMap<HostId, Place>,
    /// Place and path.
    pub resources: BTreeMap<ResourceId, (Place, String)>,
}

/// Parameters that name the storage behind a resource, whatever its kind.
const DEVICES: &[(&str, &str)] =
    &[("lustre/Lustre", "target"), ("heartbeat/Filesystem", "device"), ("heartbeat/Raid1", "raiddev")];
/// Parameters that name a directory that something is mounted on.
const MOUNT_POINTS: &[(&str, &str)] =
    &[("lustre/Lustre", "mountpoint"), ("heartbeat/Filesystem", "directory")];

/// Looks at everything together.
pub(super) fn check(reader: &mut Reader, config: &Config, places: &Places) {
    unfenced(reader, config, places);
    leases(reader, config, places);
    twins(reader, config, places);
    mount_points(reader, config, places);
    pools(reader, config, places);
}

fn parameter<'a>(resource: &'a Resource, known: &[(&str, &str)]) -> Option<&'a str> {
    let (_, name) = known.iter().find(|(kind, _)| *kind == resource.spec.kind)?;
    resource.spec.parameters.get(*name).map(|text| text.trim_end_matches('/')).filter(|text| !text.is_empty())
}

/// Hosts whose groups could move if only the host could be proven off.
fn unfenced(reader: &mut Reader, config: &Config, places: &Places) {
    let mut movable: BTreeMap<&HostId, &str> = BTreeMap::new();
    for group in config.groups.values().filter(|group| !group.failover.is_empty()) {
        for host in group.hosts() {
            movable.entry(host).or_insert(group.id.as_str());
        }
    }
    for (id, group) in movable {
        let Some(host) = config.hosts.get(id) else { continue };
        if host.fencing.is_empty() && host.self_protection.is_none() {
            let message = format!(
                "host {id} cannot be fenced: if it fails while it runs group {group}, nothing takes over before \
                 an operator has confirmed that it is off"
            );
            let hint = "add `fencing`".to_owned();
            let key = format!("hosts[{}]", host.position);
            reader.warn(places.hosts.get(id).copied().unwrap_or_default(), &key, message, hint);
        }
    }
}

fn leases(reader: &mut Reader, config: &Config, places: &Places) {
    let settings = &config.settings;
    for (id, host) in &config.hosts {
        let Some(lease) = host.self_protection else { continue };
        let place = places.hosts.get(id).copied().unwrap_or_default();
        let key = format!("hosts[{}].self_protection", host.position);
        if lease <= settings.heartbeat_interval * 2 {
            let message = format!(
                "host {id} would reset itself when two heartbeats ({} each) are late",
                show(settings.heartbeat_interval)
            );
            let hint = format!("more than {} is needed", show(settings.heartbeat_interval * 2));
            reader.error_with_hint(place, &key, message, hint);
        } else if lease < settings.detection_time {
            let message = format!(
                "host {id} resets itself after {}, before it counts as lost ({})",
                show(lease),
                show(settings.detection_time)
            );
            let hint = "a short disturbance of the network then costs a reboot".to_owned();
            reader.warn(place, &key, message, hint);
        }
    }
}

/// Two resources that are one.
fn twins(reader: &mut Reader, config: &Config, places: &Places) {
    let mut by_identity: BTreeMap<&Identity, &ResourceId> = BTreeMap::new();
    let mut by_device: BTreeMap<&str, &ResourceId> = BTreeMap::new();
    // In the order of the file, so that the second one is told.
    let mut order: Vec<(&(Place, String), &ResourceId)> =
        places.resources.iter().map(|(id, place)| (place, id)).collect();
    order.sort();
    for ((place, path), id) in order {
        let Some(resource) = config.resources.get(id) else { continue };
        let device = parameter(resource, DEVICES);
        let same = by_identity.get(&resource.identity).or_else(|| by_device.get(device?)).copied();
        if let Some(other) = same {
            let line = places.resources.get(other).map_or(0, |(place, _)| place.line);
            let what =
                device.map_or("kind and the same parameters".to_owned(), |device| format!("device {device}"));
            let message = format!("resource {id} is the same {what} as {other} in line {line}");
            let hint = "one device belongs to one resource; parameters must tell two apart".to_owned();
            reader.error_with_hint(*place, &below(path, "parameters"), message, hint);
            continue;
        }
        by_identity.insert(&resource.identity, id);
        if let Some(device) = device {
            by_device.insert(device, id);
        }
    }
}

/// Two file systems on one directory of one host.
fn mount_points(reader: &mut Reader, config: &Config, places: &Places) {
    let mut used: BTreeMap<(&HostId, &str), &ResourceId> = BTreeMap::new();
    let mut told: BTreeSet<&ResourceId> = BTreeSet::new();
    for group in config.groups.values() {
        for id in &group.members {
            let Some(resource) = config.resources.get(id) else { continue };
            let Some(directory) = parameter(resource, MOUNT_POINTS) else { continue };
            for host in group.hosts() {
                let other = *used.entry((host, directory)).or_insert(id);
                if other != id && told.insert(id) {
                    let Some((place, path)) = places.resources.get(id) else { continue };
                    let message =
                        format!("{id} is mounted on {directory} like {other}, and both may be on {host}");
                    reader.warn(*place, &below(path, "parameters"), message, None);
                }
            }
        }
    }
}

/// Datasets that are mounted by a resource which does not wait for their pool.
fn pools(reader: &mut Reader, config: &Config, places: &Places) {
    let pools: BTreeMap<&str, &ResourceId> = config
        .resources
        .iter()
        .filter(|(_, resource)| resource.spec.kind == "heartbeat/ZFS")
        .filter_map(|(id, resource)| Some((resource.spec.parameters.get("pool")?.as_str(), id)))
        .collect();
    for (id, resource) in
        config.resources.iter().filter(|(_, resource)| resource.spec.kind == "lustre/Lustre")
    {
        let Some(target) = resource.spec.parameters.get("target").filter(|target| !target.starts_with('/'))
        else {
            continue;
        };
        let Some(pool) = target.split('/').next().and_then(|pool| pools.get(pool)) else { continue };
        let mut above = resource.parent.as_ref();
        while let Some(parent) = above.filter(|parent| parent != pool) {
            above = config.resources.get(parent).and_then(|resource| resource.parent.as_ref());
        }
        if let (None, Some((place, path))) = (above, places.resources.get(id)) {
            let message = format!("{id} is in the pool of {pool}, but does not depend on it");
            let hint = format!("add {id} to the dependents of {pool}");
            reader.warn(*place, path, message, hint);
        }
    }
}
