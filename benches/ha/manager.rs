//! The real manager for a fleet: its configuration, its process, and its API.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use coordinatool::tls::authority::Request;
use coordinatool::tls::{Authority, Endpoint, Paths, Role, Trust};
use harness::{Process, TestDirectory, patience, poll};

use crate::fleet::{Fleet, name};
use crate::machine::Watched;

/// The name in the certificate of the fleet, which is for the address of all of its agents.
const AGENTS: &str = "agents";
/// Resources of each host's group: a pool and targets on it.
pub const RESOURCES: usize = 4;

/// Settings of a cluster; what is not named has its default.
pub type Settings = BTreeMap<String, String>;

/// Certificates for a manager and a fleet.
pub fn endpoint_of_fleet(directory: &Path) -> Endpoint {
    let authority = Authority::create(directory, "bench").expect("an authority can be made");
    authority.issue(&Request::new("manager", Role::Manager)).expect("a certificate is issued");
    let agents = Request { addresses: vec![Ipv4Addr::LOCALHOST.into()], ..Request::new(AGENTS, Role::Agent) };
    authority.issue(&agents).expect("a certificate is issued");
    let paths = Paths::in_directory(directory, AGENTS);
    Endpoint::open(Role::Agent, paths, Trust::default()).expect("certificates just made are good")
}

/// A manager process.
#[derive(Debug)]
pub struct Manager {
    process: Process,
    socket: PathBuf,
}

impl Manager {
    /// Starts it and waits until its API answers. `tls`: where its certificates are.
    pub fn start(directory: &TestDirectory, fleet: &Fleet, settings: &Settings, tls: Option<&Path>) -> Self {
        directory.subdirectory("power");
        let config = directory.join("ha.yaml");
        fs::write(&config, configuration(directory.path(), fleet, settings)).expect("a file can be written");
        let agents = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ha_agents");
        let socket = directory.join("ha.sock");
        let mut command = Command::new(env!("CARGO_BIN_EXE_coordinatool"));
        command.args(["ha-manager", "--manage-resources", "--config"]).arg(&config);
        command.arg("--socket").arg(&socket);
        command.arg("--state-dir").arg(directory.join("state"));
        command.arg("--statefile").arg(directory.join("halo.state"));
        match tls {
            Some(tls) => command.arg("--tls-dir").arg(tls),
            None => command.arg("--insecure-loopback"),
        };
        command.env("COORDINATOOL_FENCE_PATH", agents);
        let process = Process::spawn("manager", command, &directory.join("manager.log"));
        let mut manager = Self { process, socket };
        let answers = poll(patience(), || {
            assert!(manager.process.is_running(), "the manager ended: {}", manager.log());
            manager.get("/api/v1/ha/status").ok()
        });
        assert!(answers.is_some(), "the manager does not answer: {}", manager.log());
        manager
    }

    /// Its process.
    pub fn watched(&self) -> Watched {
        Watched(self.process.id())
    }

    /// The last of what it wrote.
    pub fn log(&self) -> String {
        let log = self.process.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Asks over HTTP; the body of the answer.
    pub fn get(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        match end {
            Some(end) if answer.starts_with(b"HTTP/1.1 200 ") => Ok(answer.split_off(end + 4)),
            _ => Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned())),
        }
    }
}

/// Hosts in pairs that stand in for each other, each the home of a group of a pool and three targets on it.
fn configuration(directory: &Path, fleet: &Fleet, settings: &Settings) -> String {
    let directory = directory.display();
    let mut text = String::from("cluster:\n  name: bench\n");
    let mut add = |line: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{line}");
    };
    for (key, value) in settings {
        add(format_args!("  {key}: {value}"));
    }
    add(format_args!("hosts:"));
    for (number, address) in fleet.addresses.iter().enumerate() {
        add(format_args!(
            "- hostname: {}\n  address: {}\n  port: {}",
            name(number),
            address.ip(),
            address.port()
        ));
        add(format_args!("  fencing:\n    - agent: fence_test\n      parameters: {{dir: {directory}}}"));
    }
    add(format_args!("resources:"));
    for number in 0..fleet.addresses.len() {
        let targets: Vec<usize> =
            (1..RESOURCES).map(|target| number * (RESOURCES - 1) + target - 1).collect();
        let names: Vec<String> = targets.iter().map(|target| format!("lustre-OST{target:04x}")).collect();
        add(format_args!(
            "- name: pool{number:04}\n  kind: heartbeat/ZFS\n  dependents: [{}]",
            names.join(", ")
        ));
        add(format_args!("  parameters: {{pool: pool{number:04}}}"));
        for name in names {
            add(format_args!("- name: {name}\n  kind: lustre/Lustre\n  parameters:"));
            add(format_args!("    target: pool{number:04}/{name}\n    mountpoint: /mnt/lustre/{name}"));
        }
    }
    add(format_args!("resource_groups:"));
    for number in 0..fleet.addresses.len() {
        let (home, partner) = (name(number), name(number ^ 1));
        add(format_args!("- root: pool{number:04}\n  home_host: {home}\n  failover_hosts: [{partner}]"));
    }
    text
}
