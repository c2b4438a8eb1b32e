//! Agents of a cluster, each of which plays a machine of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::cluster::Cluster;
use super::dark::sign;
use crate::process::{Process, TEST_VARIABLE, processes_with, read_log};
use crate::wait::{patience, poll};

/// Where agents listen, from this port on. The address is the cluster's own.
pub(super) const PORT: u16 = 8000;
/// What the environment of an agent has in it; its resource agents have not, but `dir` and the host's name instead.
pub(super) const MACHINE: &str = "COORDINATOOL_TEST_MACHINE";

impl Cluster {
    /// Boots a host: starts its agent, and waits until that listens. A host that is off is powered on before that, and
    /// counts as booted anew.
    pub fn start_agent(&mut self, host: &str) {
        let directory = self.directory().to_owned();
        if self.is_off(host) {
            self.power_on(host);
        } else if !directory.join("boot").join(host).exists() {
            self.new_boot(host);
        }
        let dark = sign(&directory, host);
        assert!(poll(patience(), || (!dark.exists()).then_some(())).is_some(), "{host} stays dark");
        let announced = directory.join(format!("{host}.address"));
        let _ = fs::remove_file(&announced);
        let number = self.shape().hosts.iter().position(|(name, _)| name == host);
        let number = number.unwrap_or_else(|| panic!("there is no host {host}"));
        let port = PORT + u16::try_from(number).expect("there are few hosts");
        let mut command = self.program_by("coordinatool-agent", &self.agent_prefix(host));
        let address = self.address_of(host);
        command.args(["-v", "-v", "--host", host, "--port", &port.to_string(), "--listen", &address]);
        command.args(self.trust());
        command.arg("--ocf-root").arg(self.ocf_root());
        command.arg("--state-dir").arg(directory.join("state").join(host));
        command.arg("--boot-id").arg(directory.join("boot").join(host));
        command.arg("--address-file").arg(&announced);
        command.args(&self.shape().agent_arguments);
        command.env(TEST_VARIABLE, &directory).env(MACHINE, directory.join(host)).env("RUST_BACKTRACE", "1");
        let log = self.agent_log(host);
        let mut process = Process::spawn(host, command, &log);
        let listens = poll(patience(), || {
            assert!(process.is_running(), "the agent of {host} ended: {}", read_log(&log));
            announced.exists().then_some(())
        });
        assert!(listens.is_some(), "the agent of {host} does not listen: {}", read_log(&log));
        self.agents.insert(host.to_owned(), process);
    }

    /// Starts the agents of all hosts.
    pub fn start_agents(&mut self) {
        for host in self.host_names() {
            self.start_agent(&host);
        }
    }

    /// SIGKILL to an agent. What it started goes on.
    pub fn kill_agent(&mut self, host: &str) {
        self.agent(host).kill();
    }

    /// SIGTERM to an agent, which must end with success. What it started goes on.
    pub fn stop_agent(&mut self, host: &str) {
        let status = self.agent(host).terminate(patience());
        assert!(status.success(), "the agent of {host} ended with {status}");
    }

    /// Sends an agent a signal, if it runs.
    pub fn signal_agent(&mut self, host: &str, signal: Signal) {
        self.agent(host).signal(signal);
    }

    /// Freezes an agent: its kernel takes connections, but nobody answers.
    pub fn pause_agent(&mut self, host: &str) {
        self.agent(host).signal(Signal::STOP);
    }

    /// Lets a frozen agent go on.
    pub fn resume_agent(&mut self, host: &str) {
        self.agent(host).signal(Signal::CONT);
    }

    /// Power failure: all processes of a host and what is active on it are gone at once, and nobody said so.
    pub fn power_off(&mut self, host: &str) {
        self.agent(host).kill();
        kill_all(|| processes_of_host(self.directory(), host));
        write(&self.directory().join("power").join(host), "off");
        for kind in ["active", "busy"] {
            for entry in fs::read_dir(self.directory().join(kind)).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == host) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
        let dark = sign(self.directory(), host);
        assert!(poll(patience(), || dark.exists().then_some(())).is_some(), "{host} does not get dark");
    }

    /// Powers a host on: it boots, but its agent does not start.
    pub fn power_on(&self, host: &str) {
        write(&self.directory().join("power").join(host), "on");
        let _ = fs::remove_file(self.directory().join("says").join(host));
        self.new_boot(host);
    }

    /// Whether a host was powered off.
    pub fn is_off(&self, host: &str) -> bool {
        fs::read_to_string(self.directory().join("power").join(host)).is_ok_and(|text| text.trim() == "off")
    }

    /// How many processes of resource agents there are on a host, those that they left behind included.
    pub fn operations_on(&self, host: &str) -> usize {
        processes_of_host(self.directory(), host).len()
    }

    /// Whether the agent of a host runs.
    pub fn agent_runs(&mut self, host: &str) -> bool {
        self.agents.get_mut(host).is_some_and(Process::is_running)
    }

    /// A path as the agent of a host sees it, which may have mounts of its own.
    pub fn inside(&self, host: &str, path: &Path) -> PathBuf {
        let agent = self.agents.get(host).unwrap_or_else(|| panic!("the agent of {host} was never started"));
        let root = PathBuf::from(format!("/proc/{}/root", agent.id()));
        root.join(path.strip_prefix("/").expect("an absolute path is asked for"))
    }

    /// Where the log of an agent is.
    pub fn agent_log(&self, host: &str) -> PathBuf {
        self.directory().join(format!("{host}.log"))
    }

    fn agent(&mut self, host: &str) -> &mut Process {
        self.agents.get_mut(host).unwrap_or_else(|| panic!("the agent of {host} was never started"))
    }

    /// Another boot of a host.
    fn new_boot(&self, host: &str) {
        static BOOTS: AtomicU64 = AtomicU64::new(0);
        let number = BOOTS.fetch_add(1, Ordering::Relaxed);
        write(
            &self.directory().join("boot").join(host),
            &format!("{:08x}-0000-4000-8000-{number:012x}", std::process::id()),
        );
    }

    /// Cgroups that agents made: known from their logs.
    fn cgroups(&self) -> Vec<PathBuf> {
        let logs = self.host_names().into_iter().map(|host| read_log(&self.agent_log(&host)));
        let mut found = Vec::new();
        for log in logs {
            for line in log.lines() {
                let path = line.split_once("a cgroup of its own below ").map(|(_, rest)| rest);
                if let Some((path, _)) = path.and_then(|rest| rest.split_once(" (version")) {
                    found.push(PathBuf::from(path));
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// Ends all that is left of the agents and what they started.
    pub(super) fn clean_up_agents(&mut self) {
        self.agents.clear();
        let cgroups = self.cgroups();
        let parameter = format!("OCF_RESKEY_dir={}", self.directory().display());
        let own = format!("{TEST_VARIABLE}={}", self.directory().display());
        kill_all(|| {
            let mut left = processes_with(&parameter);
            left.extend(processes_with(&own));
            left.extend(cgroups.iter().flat_map(|cgroup| processes_in(cgroup)));
            left
        });
        for cgroup in cgroups {
            remove_cgroup(&cgroup);
        }
    }
}

fn processes_of_host(directory: &Path, host: &str) -> Vec<Pid> {
    let of_test = processes_with(&format!("OCF_RESKEY_dir={}", directory.display()));
    let of_host = processes_with(&format!("OCF_RESKEY_CRM_meta_on_node={host}"));
    of_test.into_iter().filter(|process| of_host.contains(process)).collect()
}

/// Kills until nothing is left: some may have been about to fork.
fn kill_all(mut left: impl FnMut() -> Vec<Pid>) {
    let gone = poll(Duration::from_secs(10), || {
        let left = left();
        for process in &left {
            let _ = kill_process(*process, Signal::KILL);
        }
        left.is_empty().then_some(())
    });
    if gone.is_none() {
        eprintln!("processes are left that cannot be killed: {:?}", left());
    }
}

fn processes_in(cgroup: &Path) -> Vec<Pid> {
    let mut found: Vec<Pid> = fs::read_to_string(cgroup.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| Pid::from_raw(line.parse().ok()?))
        .collect();
    for below in directories(cgroup) {
        found.extend(processes_in(&below));
    }
    found
}

fn remove_cgroup(cgroup: &Path) {
    for below in directories(cgroup) {
        remove_cgroup(&below);
    }
    // What has just been killed leaves it a moment later.
    poll(Duration::from_secs(2), || (fs::remove_dir(cgroup).is_ok() || !cgroup.exists()).then_some(()));
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Writes a file at once, so that nobody reads half of it.
pub(super) fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    let written = fs::write(&new, format!("{text}\n")).and_then(|()| fs::rename(&new, path));
    written.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}
