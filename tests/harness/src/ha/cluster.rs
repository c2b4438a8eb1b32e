//! One cluster for one test.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::agents::{PORT, write};
use super::dark::Darkness;
use super::manager::MANAGER;
use super::shape::Shape;
use super::status::Status;
use super::truth::{self, Record};
use crate::directory::TestDirectory;
use crate::network::FarNetwork;
use crate::process::Process;
use crate::programs::Programs;
use crate::wait::{patience, poll};

/// A cluster of agents and a manager. Everything ends with it.
#[derive(Debug)]
pub struct Cluster {
    shape: Shape,
    address: String,
    programs: Programs,
    pub(super) agents: BTreeMap<String, Process>,
    pub(super) managers: BTreeMap<String, Process>,
    expect_double: bool,
    /// Where each host has a network of its own.
    pub(super) networks: BTreeMap<String, FarNetwork>,
    darkness: Option<Darkness>,
    // Last: it goes after all processes.
    directory: TestDirectory,
}

impl Cluster {
    /// Writes the configuration; nothing is started.
    pub fn new(shape: Shape) -> Self {
        let name =
            std::thread::current().name().unwrap_or("ha").rsplit("::").next().unwrap_or("ha").to_owned();
        let directory = TestDirectory::new(&name);
        for kind in ["active", "busy", "control", "power", "says", "boot", "dark"] {
            directory.subdirectory(kind);
        }
        let mut cluster = Self {
            shape,
            address: own_address(),
            programs: Programs::find_ha(),
            agents: BTreeMap::new(),
            managers: BTreeMap::new(),
            expect_double: false,
            networks: BTreeMap::new(),
            darkness: None,
            directory,
        };
        cluster.write_configuration();
        let hosts = cluster.host_names().into_iter().zip(PORT..).map(|(host, port)| {
            let address = cluster.address.parse().expect("an address of our own");
            (host, SocketAddr::new(address, port))
        });
        cluster.darkness = Some(Darkness::over(cluster.directory(), hosts.collect()));
        cluster
    }

    /// All of it running.
    pub fn start(shape: Shape) -> Self {
        let mut cluster = Self::new(shape);
        cluster.start_agents();
        cluster.start_manager();
        cluster
    }

    pub(super) fn write_configuration(&self) {
        let addresses = self.shape.hosts.iter().map(|(host, _)| self.address_of(host)).collect::<Vec<_>>();
        let yaml = self.shape.yaml(self.directory.path(), &addresses, PORT);
        write(&self.configuration(), &yaml);
    }

    /// Changes the shape and writes the configuration again; the manager is not told (`order("reload", ...)` does).
    pub fn reshape(&mut self, change: impl FnOnce(&mut Shape)) {
        change(&mut self.shape);
        self.write_configuration();
    }

    /// Its shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The manager's configuration.
    pub fn configuration(&self) -> PathBuf {
        self.directory.join("ha.yaml")
    }

    /// The loopback address of its agents, which no other test uses.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where the agent of a host listens.
    pub fn address_of(&self, host: &str) -> String {
        self.networks.get(host).map_or_else(|| self.address.clone(), |network| network.far().to_string())
    }

    /// Names of all hosts.
    pub fn host_names(&self) -> Vec<String> {
        self.shape.hosts.iter().map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs.path(name)
    }

    /// Directory of the tests' own agents.
    pub(super) fn fence_path(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../ha_agents")
            .canonicalize()
            .expect("agents of tests are there")
    }

    pub(super) fn ocf_root(&self) -> PathBuf {
        self.shape.ocf_root.clone().unwrap_or_else(|| self.fence_path().join("ocf"))
    }

    /// A program, started by another one if that is wanted.
    pub(super) fn program_by(&self, name: &str, prefix: &[String]) -> Command {
        match prefix.split_first() {
            Some((first, others)) => {
                let mut command = Command::new(first);
                command.args(others).arg(self.program(name));
                command
            }
            None => Command::new(self.program(name)),
        }
    }

    /// Makes an action of a resource agent or of the fence agent misbehave: see `tests/ha_agents`. `what` is
    /// `RESOURCE.ACTION`, `RESOURCE.ACTION.HOST`, `fence.ACTION` or `fence.ACTION.HOST`; no words: as it should be.
    pub fn behave(&self, what: &str, words: &[&str]) {
        let path = self.directory.join("control").join(what);
        if words.is_empty() {
            let _ = fs::remove_file(path);
        } else {
            // `with_extension` would take away a part of the name.
            let new = self.directory.join("control.new");
            fs::write(&new, words.join("\n") + "\n").expect("the directory of a test can be written to");
            fs::rename(&new, path).expect("the directory of a test can be written to");
        }
    }

    /// Starts a resource, as somebody with root's password could.
    pub fn start_by_hand(&self, resource: &str, host: &str) {
        let path = self.directory.join("active").join(format!("{resource}.{host}"));
        fs::write(path, "").expect("the directory of a test can be written to");
    }

    /// Stops a resource by hand wherever it is.
    pub fn stop_by_hand(&self, resource: &str) {
        for (_, host) in self.active().into_iter().filter(|(name, _)| name == resource) {
            self.stop_by_hand_on(resource, &host);
        }
    }

    /// Stops a resource by hand on one host.
    pub fn stop_by_hand_on(&self, resource: &str, host: &str) {
        let _ = fs::remove_file(self.directory.join("active").join(format!("{resource}.{host}")));
    }

    /// Starts all of a group by hand.
    pub fn start_group_by_hand(&self, group: &str, host: &str) {
        for member in self.members(group) {
            self.start_by_hand(&member, host);
        }
    }

    /// Stops all of a group by hand.
    pub fn stop_group_by_hand(&self, group: &str) {
        for member in self.members(group).iter().rev() {
            self.stop_by_hand(member);
        }
    }

    /// Root and children of a group.
    pub fn members(&self, group: &str) -> Vec<String> {
        let found = self.shape.groups.iter().find(|one| one.root == group);
        let found = found.unwrap_or_else(|| panic!("there is no group {group}"));
        found.members().map(str::to_owned).collect()
    }

    /// What is really active: `(resource, host)`, sorted.
    pub fn active(&self) -> Vec<(String, String)> {
        truth::active(self.directory.path())
    }

    /// Whether a resource is really active on a host.
    pub fn is_active(&self, resource: &str, host: &str) -> bool {
        self.active().iter().any(|(name, at)| name == resource && at == host)
    }

    /// All that resource agents did, oldest first.
    pub fn history(&self) -> Vec<Record> {
        truth::history(self.directory.path())
    }

    /// How often a resource agent was begun (`start`, `stop`) or ended (`monitor`, `probe`) for a resource on a host.
    pub fn count(&self, what: &str, resource: &str, host: &str) -> usize {
        let counts = |record: &&Record| {
            record.what == what
                && record.resource == resource
                && record.host == host
                && (record.code == "begin") == matches!(what, "start" | "stop")
        };
        self.history().iter().filter(counts).count()
    }

    /// Calls of the fence agent that changed something, oldest first: `h1 off`.
    pub fn fenced(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.join("fencing")).unwrap_or_default();
        text.lines().filter(|line| !line.ends_with(" status")).map(str::to_owned).collect()
    }

    /// Starts of what was active elsewhere, and acts of hosts that were off.
    pub fn doubles(&self) -> Vec<Record> {
        truth::violations(self.directory.path())
    }

    /// This test starts something twice on purpose.
    pub fn expect_double(&mut self) {
        self.expect_double = true;
    }

    /// Waits until the manager's status is as it should be.
    pub fn wait(&self, what: &str, is: impl FnMut(&Status) -> bool) -> Status {
        self.wait_as(MANAGER, what, is)
    }

    /// The same with another manager.
    pub fn wait_as(&self, name: &str, what: &str, mut is: impl FnMut(&Status) -> bool) -> Status {
        let found = poll(patience(), || self.try_status(name).filter(|status| is(status)));
        found.unwrap_or_else(|| self.fail(&format!("it never came to this: {what}")))
    }

    /// Waits until something is so that the manager does not tell.
    pub fn wait_until(&self, what: &str, mut is: impl FnMut(&Self) -> bool) {
        if poll(patience(), || is(self).then_some(())).is_none() {
            self.fail(&format!("it never came to this: {what}"));
        }
    }

    /// Waits until each of these groups runs on this host, by the status and by the files.
    pub fn wait_placed(&self, placed: &[(&str, &str)]) -> Status {
        self.wait(&format!("groups run as in {placed:?}"), |status| {
            placed.iter().all(|(group, host)| status.runs_on(group, host) && self.is_placed(group, host))
        })
    }

    /// Whether all of a group is really active on a host and nothing of it elsewhere.
    pub fn is_placed(&self, group: &str, host: &str) -> bool {
        let active = self.active();
        let at = |member: &String| {
            let hosts: Vec<&str> =
                active.iter().filter(|(name, _)| name == member).map(|(_, at)| at.as_str()).collect();
            hosts == [host]
        };
        self.members(group).iter().all(at)
    }

    /// Waits until all these groups are in a phase.
    pub fn wait_phase(&self, groups: &[&str], phase: &str) -> Status {
        self.wait(&format!("{groups:?} {phase}"), |status| {
            groups.iter().all(|group| status.group(group).phase == phase)
        })
    }

    /// Waits until a host is in a state.
    pub fn wait_host(&self, host: &str, state: &str) -> Status {
        self.wait(&format!("{host} {state}"), |status| status.host(host).state == state)
    }

    /// Waits until all hosts are connected.
    pub fn wait_connected(&self) -> Status {
        self.wait("all hosts are connected", |status| {
            status.hosts.iter().all(|host| host.state == "connected")
        })
    }

    /// Gives time for what shall not happen: several cycles of everything.
    pub fn settle(&self) {
        std::thread::sleep(Duration::from_millis(1000));
    }

    /// Fails the test, and shows how things are.
    pub fn fail(&self, why: &str) -> ! {
        let mut text = format!("{why}\nreally active: {:?}\nfenced: {:?}\n", self.active(), self.fenced());
        let violations = self.doubles();
        if !violations.is_empty() {
            text += &format!("violations: {violations:?}\n");
        }
        match self.try_status(MANAGER) {
            Some(status) => text += &describe(&status),
            None => text += "the manager does not answer\n",
        }
        panic!("{text}logs: {}", self.directory.path().display());
    }
}

fn describe(status: &Status) -> String {
    let mut text = String::new();
    for host in &status.hosts {
        text += &format!("  {host:?}\n");
    }
    for group in &status.groups {
        let location = group.location.as_deref().unwrap_or("nowhere");
        text += &format!("  {} {} on {location}, waits for {:?}\n", group.id, group.phase, group.waits_for);
        for resource in &group.resources {
            let on: Vec<_> =
                resource.on.iter().map(|(host, seen)| format!("{host} {}", seen.state)).collect();
            text += &format!("    {} {} {:?}\n", resource.id, on.join(", "), resource.failures);
        }
    }
    for alert in &status.alerts {
        text += &format!("  {alert:?}\n");
    }
    for command in &status.commands {
        text += &format!("  {command:?}\n");
    }
    text
}

/// A loopback address that only this cluster uses, so that no port is ever taken: 127.P.P.N.
fn own_address() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("127.{high}.{low}.{}", number.clamp(1, 254))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.managers.clear();
        self.clean_up_agents();
        let found = truth::violations(self.directory.path());
        if !found.is_empty() && !self.expect_double && !std::thread::panicking() {
            self.directory.keep();
            panic!("started twice: {found:?}; logs: {}", self.directory.path().display());
        }
    }
}
