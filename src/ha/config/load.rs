//! From a file's text to a configuration, or to everything that is wrong with it.

use std::collections::BTreeMap;

use super::model::Config;
use super::problem::Problem;
use super::read::Reader;
use super::yaml::{self, Place};
use super::{check, groups, host, keys, resource, settings};
use crate::ha::ids::{HostId, ResourceId};

/// A configuration, and what there is to say about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What looks wrong, but can be used. In the order of the file.
    pub warnings: Vec<Problem>,
    /// The file, as it was named to [`load`].
    pub file: String,
    /// The line of each host.
    pub host_lines: BTreeMap<HostId, usize>,
    /// The line of each resource.
    pub resource_lines: BTreeMap<ResourceId, usize>,
    /// Line and key of each secret that is written in the file itself.
    pub secrets: Vec<(usize, String)>,
}

/// Reads a configuration: HALO's YAML (or JSON) with optional keys, see [`keys`]. Files with secrets are not read, and
/// nothing is looked up; `file` is only for the messages.
///
/// # Errors
/// Everything that is wrong, in the order of the file.
pub fn load(text: &str, file: &str) -> Result<Loaded, Vec<Problem>> {
    let mut reader = Reader::new(file);
    let root = match yaml::parse(text) {
        Ok(root) => root,
        Err(faults) => {
            faults.into_iter().for_each(|fault| reader.fault(fault));
            return Err(reader.errors);
        }
    };
    let mut config = Config::default();
    let mut host_lines = BTreeMap::new();
    let mut resource_lines = BTreeMap::new();
    if let Some(fields) = reader.fields(&root, "", &keys::TOP) {
        config.settings = settings::read(&mut reader, fields.get("cluster"));
        let mut part = |key: &'static str| {
            let node = fields.get(key);
            if node.is_none() {
                reader.error(Place::default(), key, "this key is missing");
            }
            node
        };
        let (hosts, resources, groups) = (part("hosts"), part("resources"), part("resource_groups"));
        let hosts = hosts.map(|node| host::read(&mut reader, node)).unwrap_or_default();
        let (raw, index) = resources.map(|node| resource::read(&mut reader, node)).unwrap_or_default();
        host_lines = hosts.places.iter().map(|(id, place)| (id.clone(), place.line)).collect();
        resource_lines = raw.iter().map(|raw| (raw.spec.id.clone(), raw.place.line)).collect();
        let resource_places =
            raw.iter().map(|raw| (raw.spec.id.clone(), (raw.place, raw.path.clone()))).collect();
        if let Some(node) = groups {
            (config.groups, config.resources) = groups::read(&mut reader, node, &hosts, raw, &index);
        }
        config.hosts = hosts.all;
        let places = check::Places { hosts: hosts.places, resources: resource_places };
        check::check(&mut reader, &config, &places);
    }
    let in_order =
        |problems: &mut Vec<Problem>| problems.sort_by_key(|problem| (problem.line, problem.column));
    in_order(&mut reader.errors);
    in_order(&mut reader.warnings);
    if !reader.errors.is_empty() {
        return Err(reader.errors);
    }
    let secrets = reader.secrets.into_iter().map(|(place, key)| (place.line, key)).collect();
    let warnings = reader.warnings;
    Ok(Loaded { config, warnings, file: file.to_owned(), host_lines, resource_lines, secrets })
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
