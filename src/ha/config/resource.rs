//! Reading `resources`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::keys::{self, Section};
use super::model::FailurePolicy;
use super::problem::shown;
use super::read::{Fields, Reader, below};
use super::yaml::{Node, Place};
use crate::ha::ids::ResourceId;
use crate::ha::protocol::ResourceSpec;

/// As the agents take them.
const MAX_PARAMETERS: usize = 256;
const MAX_VALUE: usize = 64 * 1024;
/// Kinds whose parameters we know a required one of, which also is what the resource is.
const REQUIRED: &[(&str, &[&str])] = &[
    ("lustre/Lustre", &["target", "mountpoint"]),
    ("heartbeat/ZFS", &["pool"]),
    ("heartbeat/Filesystem", &["device", "directory", "fstype"]),
    ("heartbeat/LVM-activate", &["vgname", "vg_access_mode"]),
    ("heartbeat/IPaddr2", &["ip"]),
];

/// A resource as it is written, before it has a place in a tree.
pub(super) struct Raw {
    pub place: Place,
    pub path: String,
    pub spec: ResourceSpec,
    pub dependents: Vec<(Place, String)>,
    pub start_timeout: Option<Duration>,
    pub stop_timeout: Option<Duration>,
    pub monitor_timeout: Option<Duration>,
    pub monitor_interval: Option<Duration>,
    pub monitor_depth: u8,
    pub failures: FailurePolicy,
}

/// Reads all resources, in the order of the file, and where each name is in that order.
pub(super) fn read(reader: &mut Reader, node: &Node) -> (Vec<Raw>, BTreeMap<ResourceId, usize>) {
    let mut resources: Vec<Raw> = Vec::new();
    let mut index = BTreeMap::new();
    for (number, node) in reader.list(node, "resources").unwrap_or_default().iter().enumerate() {
        let path = format!("resources[{number}]");
        let Some(raw) = resource(reader, node, path) else { continue };
        match index.get(&raw.spec.id) {
            Some(first) => {
                let first: &Raw = &resources[*first];
                let message =
                    format!("resource {} is there already, in line {}", raw.spec.id, first.place.line);
                reader.error(raw.place, &below(&raw.path, "name"), message);
            }
            None => {
                index.insert(raw.spec.id.clone(), resources.len());
                resources.push(raw);
            }
        }
    }
    (resources, index)
}

fn resource(reader: &mut Reader, node: &Node, path: String) -> Option<Raw> {
    let fields = reader.fields(node, &path, &keys::RESOURCE)?;
    let name = reader.name(&fields, &path, "name");
    let kind = kind(reader, &fields, &path);
    let parameters = parameters(reader, &fields, &path, kind.as_deref().unwrap_or_default());
    let mut dependents = Vec::new();
    if let Some(node) = fields.get("dependents") {
        let at = below(&path, "dependents");
        for (number, node) in reader.list(node, &at).unwrap_or_default().iter().enumerate() {
            if let Some(text) = reader.text(node, &format!("{at}[{number}]")) {
                dependents.push((node.place, text.to_owned()));
            }
        }
    }
    let mut raw = Raw {
        place: node.place,
        spec: ResourceSpec {
            id: name.unwrap_or_default().into(),
            kind: kind.unwrap_or_default(),
            parameters,
        },
        path,
        dependents,
        start_timeout: None,
        stop_timeout: None,
        monitor_timeout: None,
        monitor_interval: None,
        monitor_depth: 0,
        failures: FailurePolicy::default(),
    };
    if let Some(node) = fields.get("operations") {
        operations(reader, node, &mut raw);
    }
    if let Some(node) = fields.get("failures") {
        let at = below(&raw.path, "failures");
        raw.failures = failures(reader, node, &at);
    }
    name.is_some().then_some(raw)
}

fn kind(reader: &mut Reader, fields: &Fields<'_>, path: &str) -> Option<String> {
    let kind = reader.name(fields, path, "kind")?;
    let place = fields.get("kind").map_or(fields.place, |node| node.place);
    let fine = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let message = format!("{:?} is not a resource agent", shown(kind));
    match kind.split_once('/') {
        Some((provider, name)) if fine(provider) && fine(name) => return Some(kind.to_owned()),
        Some(_) if kind.contains("..") || kind.starts_with('/') => {
            let hint = "a kind never leaves resource.d of the OCF root".to_owned();
            reader.error_with_hint(place, &below(path, "kind"), message, hint);
        }
        _ => {
            let pacemaker = kind.strip_prefix("ocf:").map(|rest| rest.replace(':', "/"));
            let known = REQUIRED.iter().find(|(known, _)| known.ends_with(&format!("/{kind}")));
            let meant = pacemaker.or_else(|| known.map(|(known, _)| (*known).to_owned()));
            let hint = meant.map_or("provider/type is expected, as lustre/Lustre".to_owned(), |meant| {
                format!("did you mean {meant}?")
            });
            reader.error_with_hint(place, &below(path, "kind"), message, hint);
        }
    }
    None
}

fn parameters(reader: &mut Reader, fields: &Fields<'_>, path: &str, kind: &str) -> BTreeMap<String, String> {
    let at = below(path, "parameters");
    let required = REQUIRED.iter().find(|(known, _)| *known == kind).map_or(&[][..], |(_, names)| names);
    let given = fields.get("parameters").map(|node| reader.texts(node, &at)).unwrap_or_default();
    if given.len() > MAX_PARAMETERS {
        reader.error(fields.place, &at, format!("more than {MAX_PARAMETERS} parameters"));
    }
    for name in required {
        if !given.contains_key(*name) {
            let near = given.iter().find(|(given, _)| super::suggest::nearest(given, [*name]).is_some());
            let place = near.map_or(fields.place, |(_, (place, _))| *place);
            let hint = near.map(|(given, _)| format!("{} is there: did you mean {name}?", shown(given)));
            reader.warn(place, &at, format!("{kind} needs the parameter {name}"), hint);
        }
    }
    let mut parameters = BTreeMap::new();
    for (name, (place, value)) in given {
        let at = below(&at, &shown(&name));
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            let hint = "letters, digits and _ only: it becomes a variable OCF_RESKEY_NAME".to_owned();
            reader.error_with_hint(place, &at, "this is not the name of a parameter", hint);
        } else if value.len() > MAX_VALUE || value.contains('\0') {
            reader.error(place, &at, "this value is too long, or holds a null byte");
        } else {
            parameters.insert(name, value);
        }
    }
    parameters
}

fn operations(reader: &mut Reader, node: &Node, raw: &mut Raw) {
    let path = below(&raw.path, "operations");
    let Some(fields) = reader.fields(node, &path, &keys::OPERATIONS) else { return };
    let operation = |reader: &mut Reader, name: &str, section: &Section| {
        let at = below(&path, name);
        let fields = reader.fields(fields.get(name)?, &at, section)?;
        let mut time = |key: &str| {
            let node = fields.get(key)?;
            reader.duration(node, &below(&at, key), Duration::from_millis(10))
        };
        let times = (time("timeout"), time("interval"));
        let depth = fields.get("depth").and_then(|node| reader.whole(node, &below(&at, "depth"), 0..=255));
        Some((times.0, times.1, depth))
    };
    raw.start_timeout = operation(reader, "start", &keys::OPERATION).and_then(|(timeout, ..)| timeout);
    raw.stop_timeout = operation(reader, "stop", &keys::OPERATION).and_then(|(timeout, ..)| timeout);
    if let Some((timeout, interval, depth)) = operation(reader, "monitor", &keys::MONITOR) {
        raw.monitor_timeout = timeout;
        raw.monitor_interval = interval;
        raw.monitor_depth = depth.and_then(|depth| u8::try_from(depth).ok()).unwrap_or(0);
    }
}

fn failures(reader: &mut Reader, node: &Node, path: &str) -> FailurePolicy {
    let mut policy = FailurePolicy::default();
    let Some(fields) = reader.fields(node, path, &keys::FAILURES) else { return policy };
    if let Some(node) = fields.get("retries") {
        policy.retries = reader.whole(node, &below(path, "retries"), 0..=1000).unwrap_or(policy.retries);
    }
    if let Some(node) = fields.get("threshold") {
        policy.threshold =
            reader.whole(node, &below(path, "threshold"), 1..=10_000).unwrap_or(policy.threshold);
    }
    if let Some(node) = fields.get("window") {
        let window = reader.duration(node, &below(path, "window"), Duration::from_secs(1));
        policy.window = window.unwrap_or(policy.window);
    }
    if policy.threshold <= policy.retries {
        let message = format!(
            "it would stay stopped after {} failures, before the {} restarts in place are used up",
            policy.threshold, policy.retries
        );
        let node = fields.get("threshold").or_else(|| fields.get("retries"));
        let hint = "threshold must be more than retries".to_owned();
        reader.error_with_hint(node.map_or(fields.place, |node| node.place), path, message, hint);
    }
    policy
}
