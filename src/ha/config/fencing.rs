//! Reading how a host is fenced.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use super::keys;
use super::model::{FenceDevice, FenceLevel, Parameter, Secret};
use super::problem::shown;
use super::read::{Fields, Reader, below};
use super::yaml::{Node, Place, Value};

/// As Pacemaker's.
const TIMEOUT: Duration = Duration::from_secs(60);
/// As Pacemaker's.
const ATTEMPTS: u32 = 2;
const MAX_LEVELS: usize = 8;
const MAX_DEVICES: usize = 16;

/// Parameters of the fence-agents API, and of the agents of its project, whose values are secrets. `-` and `_` are the same.
const SECRETS: &[&str] = &[
    "password",
    "passwd",
    "snmp_priv_passwd",
    "community",
    "secret_key",
    "api_key",
    "apikey",
    "apitoken",
    "token",
    "client_secret",
];

/// Agents of the fence-agents project that a server may need. Others are accepted, with a warning: they may be the site's.
const AGENTS: &[&str] = &[
    "fence_alom",
    "fence_amt",
    "fence_amt_ws",
    "fence_apc",
    "fence_apc_snmp",
    "fence_bladecenter",
    "fence_brocade",
    "fence_cdu",
    "fence_cisco_mds",
    "fence_cisco_ucs",
    "fence_compute",
    "fence_crosslink",
    "fence_cyberpower_ssh",
    "fence_docker",
    "fence_drac",
    "fence_drac5",
    "fence_dummy",
    "fence_eaton_snmp",
    "fence_eaton_ssh",
    "fence_emerson",
    "fence_eps",
    "fence_gce",
    "fence_hds_cb",
    "fence_heuristics_ping",
    "fence_hpblade",
    "fence_ibmblade",
    "fence_ibmz",
    "fence_idrac",
    "fence_ifmib",
    "fence_ilo",
    "fence_ilo2",
    "fence_ilo3",
    "fence_ilo3_ssh",
    "fence_ilo4",
    "fence_ilo4_ssh",
    "fence_ilo5",
    "fence_ilo5_ssh",
    "fence_ilo_moonshot",
    "fence_ilo_mp",
    "fence_ilo_ssh",
    "fence_imm",
    "fence_intelmodular",
    "fence_ipdu",
    "fence_ipmilan",
    "fence_ipmilanplus",
    "fence_ironic",
    "fence_kdump",
    "fence_kubevirt",
    "fence_ldom",
    "fence_lindypdu",
    "fence_lpar",
    "fence_mpath",
    "fence_netio",
    "fence_openstack",
    "fence_powerman",
    "fence_pve",
    "fence_raritan",
    "fence_raritan_px3",
    "fence_rcd_serial",
    "fence_redfish",
    "fence_rhevm",
    "fence_rsa",
    "fence_rsb",
    "fence_sanbox2",
    "fence_sbd",
    "fence_scsi",
    "fence_skalar",
    "fence_test",
    "fence_tripplite_snmp",
    "fence_vbox",
    "fence_virsh",
    "fence_virt",
    "fence_vmware",
    "fence_vmware_rest",
    "fence_vmware_soap",
    "fence_wti",
    "fence_xenapi",
    "fence_xvm",
    "fence_zvmip",
];

/// The levels of a host, and how it is called if its fence agent says that (HALO's `fence_test`).
pub(super) fn of_host(
    reader: &mut Reader,
    fields: &Fields<'_>,
    path: &str,
    name: &str,
) -> (Vec<FenceLevel>, Option<String>) {
    match (fields.get("fence_agent"), fields.get("fencing")) {
        (Some(agent), Some(_)) => {
            let message = "both `fence_agent` and `fencing` are given";
            let hint = "make fence_agent the first element of fencing".to_owned();
            reader.error_with_hint(agent.place, &below(path, "fence_agent"), message, hint);
            (Vec::new(), None)
        }
        (Some(agent), None) => match halo(reader, agent, fields.get("fence_parameters"), path, name) {
            Some((device, called)) => (vec![FenceLevel { devices: vec![Arc::new(device)] }], called),
            None => (Vec::new(), None),
        },
        (None, fencing) => {
            if let Some(parameters) = fields.get("fence_parameters") {
                let at = below(path, "fence_parameters");
                reader.warn(parameters.place, &at, "these are for nobody: there is no fence_agent", None);
            }
            (fencing.map_or(Vec::new(), |node| levels(reader, node, &below(path, "fencing"))), None)
        }
    }
}

/// HALO's `fence_agent` and `fence_parameters`, or any fence agent by its name.
fn halo(
    reader: &mut Reader,
    node: &Node,
    parameters: Option<&Node>,
    path: &str,
    name: &str,
) -> Option<(FenceDevice, Option<String>)> {
    let at = below(path, "fence_agent");
    let parameters_at = below(path, "fence_parameters");
    let given = parameters.map(|node| reader.texts(node, &parameters_at)).unwrap_or_default();
    let agent = reader.text(node, &at)?;
    let mut all: BTreeMap<String, Parameter> = BTreeMap::new();
    let mut own = |key: &str, value: &str| all.insert(key.to_owned(), Parameter::Plain(value.to_owned()));
    let needed: &[&str] = match agent {
        "powerman" => {
            own("ipaddr", "localhost");
            own("plug", name);
            &[]
        }
        "redfish" => {
            own("ipaddr", name);
            own("ssl-insecure", "true");
            &["username", "password"]
        }
        "fence_test" => &["target", "test_id"],
        _ => &[],
    };
    for key in needed {
        if !given.contains_key(*key) {
            reader.error(node.place, &parameters_at, format!("fence agent {agent} needs {key} here"));
        }
    }
    let program = match agent {
        "powerman" | "redfish" => format!("fence_{agent}"),
        _ => program(reader, agent, node.place, &at, &["powerman", "redfish"])?,
    };
    let called = (agent == "fence_test").then(|| given.get("target").map(|(_, text)| text.clone())).flatten();
    take(reader, &mut all, given, &parameters_at);
    let device = FenceDevice {
        name: device_name(&program, &all),
        agent: program,
        parameters: all,
        timeout: TIMEOUT,
        delay: Duration::ZERO,
        attempts: ATTEMPTS,
    };
    Some((device, called))
}

/// The program of a fence agent, if it can be one.
fn program(reader: &mut Reader, agent: &str, place: Place, path: &str, short: &[&str]) -> Option<String> {
    if AGENTS.contains(&agent) {
        return Some(agent.to_owned());
    }
    // What all of them begin with must not make two of them alike.
    let bare = |name: &str| name.strip_prefix("fence_").unwrap_or(name).to_owned();
    let meant = |reader: &mut Reader| {
        let names = AGENTS.iter().map(|name| name.trim_start_matches("fence_"));
        let found = reader.nearest(&bare(agent), names)?;
        let is_short = short.contains(&found) && !agent.starts_with("fence_");
        let name = if is_short { found.to_owned() } else { format!("fence_{found}") };
        Some(format!("did you mean {name}?"))
    };
    let plain = agent.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if agent.starts_with("fence_") && plain {
        let hint = meant(reader);
        let message = format!("{} is none of the agents of the fence-agents project", shown(agent));
        reader.warn(place, path, message, hint);
        return Some(agent.to_owned());
    }
    let hint = meant(reader);
    let hint = hint.or_else(|| Some("the name of a fence agent is fence_NAME".to_owned()));
    reader.error_with_hint(place, path, format!("unknown fence agent {:?}", shown(agent)), hint);
    None
}

/// Adds parameters; secrets by their names.
fn take(
    reader: &mut Reader,
    all: &mut BTreeMap<String, Parameter>,
    given: BTreeMap<String, (Place, String)>,
    path: &str,
) {
    for (name, (place, text)) in given {
        let at = below(path, &shown(&name));
        if !is_parameter(&name) {
            reader.error(place, &at, "this is not the name of a parameter");
            continue;
        }
        if matches!(name.as_str(), "action" | "nodename") {
            reader.error(place, &at, format!("the manager itself says what {name} is"));
            continue;
        }
        if text.contains(['\n', '\r', '\0']) {
            reader.error(place, &at, "a parameter is one line");
            continue;
        }
        let secret = is_secret(&name);
        if secret {
            reader.secret(place, &at);
        }
        let value = if secret { Parameter::Secret(Secret(text)) } else { Parameter::Plain(text) };
        all.insert(name, value);
    }
}

/// Whether the value of a parameter of this name is a secret.
pub(super) fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name.to_ascii_lowercase().replace('-', "_").as_str())
}

fn is_parameter(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// `fencing`: levels, each a device or a list of devices.
fn levels(reader: &mut Reader, node: &Node, path: &str) -> Vec<FenceLevel> {
    let mut levels = Vec::new();
    let items = reader.list(node, path).unwrap_or_default();
    if items.len() > MAX_LEVELS {
        reader.error(node.place, path, format!("more than {MAX_LEVELS} levels"));
    }
    for (index, node) in items.iter().enumerate().take(MAX_LEVELS) {
        let at = format!("{path}[{index}]");
        let mut devices: Vec<Arc<FenceDevice>> = Vec::new();
        match &node.value {
            Value::List(items) if items.is_empty() || items.len() > MAX_DEVICES => {
                reader.error(node.place, &at, format!("a level has one to {MAX_DEVICES} devices"));
            }
            Value::List(items) => {
                for (number, node) in items.iter().enumerate() {
                    let at = format!("{at}[{number}]");
                    if let Some(device) = device(reader, node, &at).map(Arc::new) {
                        if devices.contains(&device) {
                            reader.error(node.place, &at, "the same device is in this level already");
                        }
                        devices.push(device);
                    }
                }
            }
            _ => devices.extend(device(reader, node, &at).map(Arc::new)),
        }
        if !devices.is_empty() {
            levels.push(FenceLevel { devices });
        }
    }
    levels
}

fn device(reader: &mut Reader, node: &Node, path: &str) -> Option<FenceDevice> {
    let fields = reader.fields(node, path, &keys::FENCE_DEVICE)?;
    let agent = reader.name(&fields, path, "agent");
    let place = fields.get("agent").map_or(node.place, |node| node.place);
    let agent = agent.and_then(|agent| program(reader, agent, place, &below(path, "agent"), &[]));
    let mut parameters = BTreeMap::new();
    if let Some(node) = fields.get("parameters") {
        let at = below(path, "parameters");
        let given = reader.texts(node, &at);
        take(reader, &mut parameters, given, &at);
    }
    if let Some(node) = fields.get("plug") {
        let at = below(path, "plug");
        if let Some(plug) = reader.text(node, &at) {
            let given = BTreeMap::from([("plug".to_owned(), (node.place, plug.to_owned()))]);
            if parameters.contains_key("plug") {
                reader.error(node.place, &at, "`plug` is in `parameters` already");
            }
            take(reader, &mut parameters, given, path);
        }
    }
    if let Some(node) = fields.get("secrets") {
        secrets(reader, node, &below(path, "secrets"), &mut parameters);
    }
    let time = |reader: &mut Reader, key: &str, default: Duration, least: Duration| {
        let node = fields.get(key);
        node.and_then(|node| reader.duration(node, &below(path, key), least)).unwrap_or(default)
    };
    let timeout = time(reader, "timeout", TIMEOUT, Duration::from_millis(100));
    let delay = time(reader, "delay", Duration::ZERO, Duration::ZERO);
    let attempts =
        fields.get("attempts").and_then(|node| reader.whole(node, &below(path, "attempts"), 1..=100));
    let agent = agent?;
    Some(FenceDevice {
        name: device_name(&agent, &parameters),
        agent,
        parameters,
        timeout,
        delay,
        attempts: attempts.unwrap_or(ATTEMPTS),
    })
}

/// `secrets`: parameters that are read from files when they are needed.
fn secrets(reader: &mut Reader, node: &Node, path: &str, parameters: &mut BTreeMap<String, Parameter>) {
    for (name, (place, file)) in reader.texts(node, path) {
        let at = below(path, &shown(&name));
        if !is_parameter(&name) {
            reader.error(place, &at, "this is not the name of a parameter");
        } else if !file.starts_with('/') || file.contains('\0') {
            let hint = "the secret itself would go into `parameters`; a file is safer".to_owned();
            reader.error_with_hint(place, &at, "the path of a file is expected, from /", hint);
        } else {
            match parameters.entry(name) {
                Entry::Occupied(entry) => {
                    reader.error(place, &at, format!("`{}` is in `parameters` already", entry.key()));
                }
                Entry::Vacant(entry) => drop(entry.insert(Parameter::File(file))),
            }
        }
    }
}

/// `fence_ipmilan(oss1-bmc)`, `fence_powerman(localhost, oss1)`.
fn device_name(agent: &str, parameters: &BTreeMap<String, Parameter>) -> String {
    let first = |names: &[&str]| {
        names.iter().find_map(|name| match parameters.get(*name) {
            Some(Parameter::Plain(text)) => Some(text.as_str()),
            _ => None,
        })
    };
    let parts: Vec<&str> =
        [first(&["ip", "ipaddr"]), first(&["plug", "port", "target"])].into_iter().flatten().collect();
    if parts.is_empty() { agent.to_owned() } else { format!("{agent}({})", parts.join(", ")) }
}
