//! What is drawn for one run: the cluster, its settings, and how much goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::clock::{MILLI, SECOND};
use crate::ha::config::{
    Config, FailurePolicy, FenceAttempts, FenceDevice, FenceLevel, Group, Host, Parameter, Resource, Settings,
};
use crate::ha::ids::{GroupId, HostId, ResourceId};
use crate::ha::protocol::ResourceSpec;
use crate::sim::rng::Rng;

/// A whole run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The first configuration.
    pub config: Config,
    /// Whether the manager acts.
    pub manage: bool,
    /// What goes wrong.
    pub faults: Faults,
    /// For how long faults go on, in nanoseconds.
    pub busy: u64,
    /// Longest usual delay of bytes on the network, in nanoseconds.
    pub net_delay: u64,
    /// Longest usual time of a sync, in nanoseconds.
    pub sync_delay: u64,
    /// How each host is wired, by its number.
    pub wiring: Vec<Wiring>,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub struct Faults {
    /// Mean time between two faults, in nanoseconds; 0 for none.
    pub every: u64,
    /// Hosts that faults hit, by their numbers.
    pub victims: BTreeSet<usize>,
    /// The manager crashes, pauses, loses its state.
    pub manager: bool,
    /// Links, paths and partitions.
    pub network: bool,
    /// Once in how many operations on a victim a script misbehaves; 0 for never.
    pub scripts: u64,
    /// Fence devices misbehave.
    pub devices: bool,
    /// Mean time between two commands of an operator, in nanoseconds; 0 for none.
    pub operator: u64,
    /// Administrators start and stop by hand.
    pub hands: bool,
    /// The configuration changes.
    pub reloads: bool,
    /// Another manager appears.
    pub rival: bool,
}

/// How a host is wired.
#[derive(Debug, Clone)]
pub struct Wiring {
    /// Its outlets, beside its BMC.
    pub outlets: usize,
    /// Whether its agent can tell its UUID.
    pub tells_uuid: bool,
    /// Its plug is that of another host.
    pub wrong_plug: Option<usize>,
    /// Its hardware watchdog's timeout, in nanoseconds.
    pub watchdog: Option<u64>,
    /// Its clock's drift, in millionths.
    pub ppm: i64,
    /// Processes of a started resource stay in its cgroup.
    pub keeps_processes: bool,
}

/// The name of a host's number.
pub fn host_id(number: usize) -> HostId {
    HostId::from(format!("h{number}"))
}

/// The number behind an address of a host.
pub fn number_of(address: &str) -> usize {
    address.rsplit('.').next().and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
}

impl Scenario {
    /// Draws a run.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::stream(seed, "scenario");
        let hosts = *rng.pick(&[2, 2, 2, 3, 4, 4, 6]).unwrap_or(&2) as usize;
        let faults = Faults::draw(hosts, &mut rng);
        let mut config = Config { settings: settings(&mut rng), ..Config::default() };
        let mut wiring: Vec<Wiring> =
            (0..hosts).map(|number| Wiring::draw(number, hosts, &mut rng)).collect();
        if faults.rival {
            // What a lease proves to one manager ends when another one prolongs it: such sites must have one manager only.
            wiring.iter_mut().for_each(|wiring| wiring.watchdog = None);
        }
        for (number, wiring) in wiring.iter().enumerate() {
            add_host(&mut config, number, wiring, &mut rng);
        }
        for number in 0..rng.between(1, 5) as usize {
            add_group(&mut config, number, hosts, &mut rng);
        }
        let manage = !rng.one_in(12);
        Self {
            config,
            manage,
            faults,
            busy: rng.between(40, 160) * SECOND,
            net_delay: *rng.pick(&[MILLI / 2, 2 * MILLI, 100 * MILLI]).unwrap_or(&MILLI),
            sync_delay: *rng.pick(&[MILLI / 2, 5 * MILLI, 300 * MILLI]).unwrap_or(&MILLI),
            wiring,
        }
    }
}

impl Faults {
    fn draw(hosts: usize, rng: &mut Rng) -> Self {
        let every = if rng.one_in(12) { 0 } else { rng.between(2, 20) * SECOND };
        let all = rng.one_in(2);
        let victims: BTreeSet<usize> = match rng.below(6) {
            // Only the manager has trouble.
            0 => BTreeSet::new(),
            1 | 2 => BTreeSet::from([rng.below(hosts as u64) as usize]),
            _ => (0..hosts).filter(|_| all || rng.one_in(2)).collect(),
        };
        Self {
            every,
            manager: victims.is_empty() || rng.one_in(2),
            network: !rng.one_in(3),
            scripts: if rng.one_in(2) { rng.between(3, 40) } else { 0 },
            devices: rng.one_in(2),
            operator: if rng.one_in(2) { rng.between(3, 40) * SECOND } else { 0 },
            hands: rng.one_in(5),
            reloads: rng.one_in(3),
            rival: rng.one_in(6),
            victims,
        }
    }
}

fn settings(rng: &mut Rng) -> Settings {
    let heartbeat = Duration::from_millis(*rng.pick(&[500, 1000, 1000, 2000]).unwrap_or(&1000));
    Settings {
        cluster: "sim".to_owned(),
        heartbeat_interval: heartbeat,
        detection_time: heartbeat * 4 + Duration::from_secs(rng.between(1, 6)),
        fresh_time: heartbeat * 2 + Duration::from_secs(rng.between(1, 3)),
        agent_grace: Duration::from_secs(rng.between(5, 30)),
        startup_fencing: rng.one_in(5),
        fence_attempts: if rng.one_in(2) {
            FenceAttempts::OnceUntilReset
        } else {
            FenceAttempts::Within { count: rng.between(1, 3) as u32, window: Duration::from_secs(600) }
        },
        power_on_after_fence: rng.one_in(3),
        fence_monitor_interval: Duration::from_secs(*rng.pick(&[0, 30, 120]).unwrap_or(&0)),
        monitor_interval: Duration::from_secs(rng.between(3, 20)),
        unfinished_limit: Duration::from_secs(rng.between(5, 40)),
        proof_age: Duration::from_secs(rng.between(2, 6)),
        ..Settings::default()
    }
}

impl Wiring {
    fn draw(number: usize, hosts: usize, rng: &mut Rng) -> Self {
        let outlets = if rng.one_in(4) { rng.between(1, 2) as usize } else { 0 };
        let wrong = (number as u64 + 1 + rng.below(hosts as u64 - 1)) % hosts as u64;
        Self {
            outlets,
            tells_uuid: !rng.one_in(4),
            wrong_plug: rng.one_in(25).then_some(wrong as usize),
            watchdog: rng.one_in(6).then(|| rng.between(2, 6) * SECOND),
            ppm: rng.between(0, 800) as i64 - 400,
            keeps_processes: rng.one_in(3),
        }
    }
}

fn add_host(config: &mut Config, number: usize, wiring: &Wiring, rng: &mut Rng) {
    let id = host_id(number);
    let timeout = Duration::from_secs(rng.between(3, 15));
    let device = |kind: &str, outlet: usize| {
        let parameters = [
            ("plug".to_owned(), Parameter::Plain(number.to_string())),
            ("outlet".to_owned(), Parameter::Plain(outlet.to_string())),
        ];
        Arc::new(FenceDevice {
            name: format!("{kind}({id}/{outlet})"),
            agent: kind.to_owned(),
            parameters: BTreeMap::from(parameters),
            timeout,
            delay: Duration::ZERO,
            attempts: 1 + u32::from(outlet == 0),
        })
    };
    let mut fencing = vec![FenceLevel { devices: vec![device("fence_bmc", 0)] }];
    if wiring.outlets > 0 {
        let devices = (1..=wiring.outlets).map(|outlet| device("fence_pdu", outlet)).collect();
        fencing.push(FenceLevel { devices });
    }
    if rng.one_in(15) {
        fencing.clear();
    }
    let host = Host {
        id: id.clone(),
        address: format!("10.0.0.{number}"),
        port: 8000,
        fencing,
        self_protection: wiring.watchdog.map(|_| Duration::from_secs(rng.between(4, 8))),
        position: number,
    };
    config.hosts.insert(id, Arc::new(host));
}

/// A resource with a device of its own.
pub fn resource(
    name: &str,
    target: &str,
    group: &GroupId,
    parent: Option<&ResourceId>,
    rng: &mut Rng,
) -> Resource {
    let seconds = |rng: &mut Rng, low, high| Some(Duration::from_secs(rng.between(low, high)));
    let parameters = BTreeMap::from([
        ("target".to_owned(), target.to_owned()),
        ("mountpoint".to_owned(), format!("/mnt/{name}")),
    ]);
    let spec = ResourceSpec { id: name.into(), kind: "lustre/Lustre".to_owned(), parameters };
    Resource {
        identity: Resource::identity_of(&spec.kind, &spec.parameters),
        spec,
        group: group.clone(),
        parent: parent.cloned(),
        children: Vec::new(),
        start_timeout: seconds(rng, 4, 20),
        stop_timeout: seconds(rng, 4, 20),
        monitor_timeout: seconds(rng, 2, 10),
        monitor_interval: if rng.one_in(2) { None } else { seconds(rng, 2, 20) },
        monitor_depth: 0,
        failures: FailurePolicy {
            retries: rng.below(4) as u32,
            threshold: 3 + rng.below(7) as u32,
            window: Duration::from_secs(600),
        },
    }
}

fn add_group(config: &mut Config, number: usize, hosts: usize, rng: &mut Rng) {
    let root = ResourceId::from(format!("g{number}r0"));
    let group = GroupId::from(root.as_str());
    let mut members: Vec<ResourceId> = Vec::new();
    for member in 0..*rng.pick(&[1, 1, 2, 2, 3, 5]).unwrap_or(&1) {
        let name = format!("g{number}r{member}");
        let parent = (member > 0).then(|| rng.below(member) as usize).and_then(|at| members.get(at).cloned());
        let new = resource(&name, &format!("dev-{name}"), &group, parent.as_ref(), rng);
        if let Some(parent) = parent.and_then(|parent| config.resources.get_mut(&parent)) {
            Arc::make_mut(parent).children.push(new.spec.id.clone());
        }
        members.push(new.spec.id.clone());
        config.resources.insert(new.spec.id.clone(), Arc::new(new));
    }
    members = in_order(config, &root);
    let home = rng.below(hosts as u64) as usize;
    let mut others: Vec<usize> = (0..hosts).filter(|other| *other != home).collect();
    while others.len() > 1 && rng.one_in(2) {
        let gone = rng.below(others.len() as u64) as usize;
        others.remove(gone);
    }
    let entry = Group {
        id: group.clone(),
        root,
        members,
        home: host_id(home),
        failover: others.into_iter().map(host_id).collect(),
        auto_failback: rng.one_in(6),
        position: number,
    };
    config.groups.insert(group, Arc::new(entry));
}

/// A root and all below it, each parent before its children.
pub fn in_order(config: &Config, root: &ResourceId) -> Vec<ResourceId> {
    let mut order = vec![root.clone()];
    let mut next = 0;
    while let Some(resource) = order.get(next).and_then(|name| config.resources.get(name)) {
        order.extend(resource.children.iter().cloned());
        next += 1;
    }
    order
}
