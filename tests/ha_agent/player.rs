//! An agent with resource agents of the test's own, and managers played by hand.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use coordinatool::ha::ids::{AgentRun, BootId, Epoch, ManagerId, ManagerRun, OrderId, ResourceId};
use coordinatool::ha::ocf::Outcome;
use coordinatool::ha::protocol::frame::{self, Decoder};
use coordinatool::ha::protocol::{
    Action, Finished, FromAgent, Hello, Operation, Order, ResourceSpec, Seal, ToAgent, Unfinished, VERSION,
    Welcome,
};
use harness::{Process, Programs, TestDirectory, patience, poll};

/// A resource agent whose parameter `say` is a shell command for each action, with `$1` the action.
const SCRIPT: &str = r#"#!/bin/sh
[ "$1" = meta-data ] && { echo '<resource-agent name="script"><actions><action name="start" timeout="30s"/><action name="monitor" timeout="30s" interval="7s"/></actions></resource-agent>'; exit 0; }
eval "$OCF_RESKEY_say"
"#;

/// An agent process.
pub struct Agent {
    pub directory: TestDirectory,
    pub process: Process,
    options: Vec<String>,
    root: PathBuf,
}

impl Agent {
    pub fn start(name: &str) -> Self {
        Self::with(name, &[])
    }

    /// With its state on a file system of 64 KiB; `None` where nothing can be mounted.
    pub fn on_a_small_disk(name: &str) -> Option<Self> {
        let directory = TestDirectory::new(name);
        let state = directory.subdirectory("agent");
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(state).status();
        if !mount.is_ok_and(|status| status.success()) {
            harness::skip(name, "needs to mount a tmpfs");
            return None;
        }
        Some(Self::within(directory, &[]))
    }

    /// With more options.
    pub fn with(name: &str, options: &[&str]) -> Self {
        Self::within(TestDirectory::new(name), options)
    }

    fn within(directory: TestDirectory, options: &[&str]) -> Self {
        let root = directory.path().join("ocf");
        let script = root.join("resource.d/test/Script");
        fs::create_dir_all(script.parent().unwrap()).unwrap();
        harness::write_program(&script, SCRIPT);
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let process = spawn(&directory, &root, &options);
        Self { directory, process, options, root }
    }

    /// Kills it and starts it again.
    pub fn restart(&mut self) {
        self.process.kill();
        let _ = fs::remove_file(self.directory.join("address"));
        self.process = spawn(&self.directory, &self.root, &self.options);
    }

    pub fn connect(&self) -> TcpStream {
        let address = self.directory.join("address");
        let found = poll(patience(), || fs::read_to_string(&address).ok());
        let address = found.unwrap_or_else(|| panic!("the agent does not listen: {}", self.process.log()));
        TcpStream::connect(address.trim()).unwrap()
    }

    /// A manager that has sealed it.
    pub fn manager(&self, epoch: u64) -> Manager {
        let mut manager = self.stranger(1, epoch);
        manager.welcome();
        manager.seal();
        manager
    }

    /// A manager that has said nothing yet.
    pub fn stranger(&self, id: u64, epoch: u64) -> Manager {
        Manager {
            stream: self.connect(),
            host: host(&self.directory),
            decoder: Decoder::default(),
            id: ManagerId(id),
            run: ManagerRun(epoch),
            epoch: Epoch(epoch),
            fresh_ms: 60_000,
            welcome: None,
            unfinished: Vec::new(),
            heartbeat: 0,
            number: 0,
            heard: Vec::new(),
        }
    }

    /// A file that scripts of the test may use.
    pub fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill();
        // What it started has its agent's name in its environment.
        let marks = format!("coordinatool-agent-{}", host(&self.directory));
        for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            for entry in fs::read_dir(mount).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(&marks) {
                    remove(&entry.path());
                }
            }
        }
    }
}

fn remove(cgroup: &Path) {
    for below in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if below.path().is_dir() {
            remove(&below.path());
        }
    }
    let _ = fs::write(cgroup.join("cgroup.kill"), "1");
    for pid in fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default().lines() {
        let _ = Command::new("kill").args(["-9", pid]).status();
    }
    poll(Duration::from_secs(5), || fs::remove_dir(cgroup).ok());
}

/// Hosts of different tests have different names.
pub fn host(directory: &TestDirectory) -> String {
    directory.path().file_name().unwrap().to_string_lossy().into_owned()
}

fn spawn(directory: &TestDirectory, root: &Path, options: &[String]) -> Process {
    let mut command = Command::new(Programs::find().path("coordinatool-agent"));
    command.args(["--port", "0", "-v", "--host", &host(directory)]);
    if !options.iter().any(|option| option == "--tls-dir") {
        command.args(["--insecure-loopback", "--listen", "127.0.0.1"]);
    }
    command.arg("--ocf-root").arg(root).arg("--state-dir").arg(directory.join("agent"));
    command.arg("--address-file").arg(directory.join("address")).args(options);
    for variable in ["HALO_NET", "HALO_PORT", "OCF_ROOT"] {
        command.env_remove(variable);
    }
    Process::spawn("agent", command, &directory.join("agent.log"))
}

/// A connection of a manager.
pub struct Manager {
    pub stream: TcpStream,
    host: String,
    decoder: Decoder,
    pub id: ManagerId,
    pub run: ManagerRun,
    pub epoch: Epoch,
    pub fresh_ms: u64,
    pub welcome: Option<Welcome>,
    pub unfinished: Vec<Unfinished>,
    /// The last heartbeat.
    pub heartbeat: u64,
    number: u64,
    /// What nobody asked for yet.
    heard: Vec<FromAgent>,
}

impl Manager {
    pub fn send(&mut self, message: &ToAgent) {
        self.stream.write_all(&frame::encode(message).unwrap()).unwrap();
    }

    pub fn hello(&mut self, host: &str) {
        let hello = Hello {
            version: VERSION,
            cluster: "test".to_owned(),
            host: host.into(),
            manager: self.id,
            run: self.run,
            heartbeat_ms: 50,
            fresh_ms: self.fresh_ms,
            lease_ms: None,
        };
        self.send(&ToAgent::Hello(hello));
    }

    pub fn welcome(&mut self) -> Welcome {
        let host = self.host.clone();
        self.hello(&host);
        let welcome = self.wait("a welcome", |message| match message {
            FromAgent::Welcome(welcome) => Some(welcome.clone()),
            _ => None,
        });
        self.welcome = Some(welcome.clone());
        welcome
    }

    pub fn seal(&mut self) {
        let seal = Seal { epoch: self.epoch, takeover: false };
        self.send(&ToAgent::Seal(seal));
        self.unfinished = self.wait("sealed", |message| match message {
            FromAgent::Sealed { unfinished, .. } => Some(unfinished.clone()),
            _ => None,
        });
    }

    /// An order for a resource with the script `say`; returns its name.
    pub fn order(&mut self, resource: &str, action: Action, say: &str) -> OrderId {
        let parameters = BTreeMap::from([("say".to_owned(), say.to_owned())]);
        self.order_of("test/Script", resource, action, parameters, Some(20_000))
    }

    pub fn order_of(
        &mut self,
        kind: &str,
        resource: &str,
        action: Action,
        parameters: BTreeMap<String, String>,
        timeout_ms: Option<u64>,
    ) -> OrderId {
        let order = self.prepare(kind, resource, action, parameters, timeout_ms);
        let id = order.id;
        self.send(&ToAgent::Order(order));
        id
    }

    pub fn prepare(
        &mut self,
        kind: &str,
        resource: &str,
        action: Action,
        parameters: BTreeMap<String, String>,
        timeout_ms: Option<u64>,
    ) -> Order {
        self.number += 1;
        if self.heartbeat == 0 {
            self.wait("a heartbeat", |message| matches!(message, FromAgent::Heartbeat { .. }).then_some(()));
        }
        let (boot, agent) = self.place();
        Order {
            id: OrderId { epoch: self.epoch, run: self.run, number: self.number },
            boot,
            agent,
            heartbeat: self.heartbeat,
            operation: Operation {
                resource: ResourceSpec { id: resource.into(), kind: kind.to_owned(), parameters },
                action,
                timeout_ms,
            },
        }
    }

    fn place(&self) -> (BootId, AgentRun) {
        let welcome = self.welcome.as_ref().unwrap();
        (welcome.boot.clone(), welcome.agent)
    }

    /// The end of an order.
    pub fn finished(&mut self, order: OrderId) -> Finished {
        self.wait(&format!("the end of {order}"), |message| match message {
            FromAgent::Finished(finished) if finished.order == order => Some(finished.clone()),
            FromAgent::Refused { order: refused, reason } if *refused == order => {
                panic!("refused: {reason:?}")
            }
            _ => None,
        })
    }

    pub fn emptied(&mut self, order: OrderId) {
        self.wait(&format!("{order} to be emptied"), |message| {
            matches!(message, FromAgent::Emptied { order: emptied, .. } if *emptied == order).then_some(())
        });
    }

    /// Runs an order to its end.
    pub fn does(&mut self, resource: &str, action: Action, say: &str) -> Finished {
        let order = self.order(resource, action, say);
        self.finished(order)
    }

    /// Waits for a message, and keeps the others for later.
    pub fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(&FromAgent) -> Option<T>) -> T {
        let deadline = Instant::now() + patience();
        let mut looked = 0;
        loop {
            while looked < self.heard.len() {
                if let FromAgent::Heartbeat { number } = &self.heard[looked] {
                    self.heartbeat = *number;
                }
                if let Some(found) = wanted(&self.heard[looked]) {
                    self.heard.remove(looked);
                    return found;
                }
                looked += 1;
            }
            self.heard.retain(|message| !matches!(message, FromAgent::Heartbeat { .. }));
            looked = self.heard.len();
            assert!(Instant::now() < deadline, "no {what}, but {:?}", self.heard);
            match self.read(deadline) {
                Some(message) => self.heard.push(message),
                None => panic!("closed while waiting for {what}; before: {:?}", self.heard),
            }
        }
    }

    /// The next message; `None` when the connection is closed.
    fn read(&mut self, deadline: Instant) -> Option<FromAgent> {
        loop {
            if let Some(message) = self.decoder.pop().unwrap() {
                return Some(message);
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut bytes = [0; 8192];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.decoder.push(&bytes[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("nothing is said any more")
                }
                Err(_) => return None,
            }
        }
    }

    /// Waits for the agent to close the connection.
    pub fn closed(&mut self) {
        let deadline = Instant::now() + patience();
        while self.read(deadline).is_some() {}
    }
}

/// Success.
pub const DONE: Outcome = Outcome::Exited(0);

pub fn id(name: &str) -> ResourceId {
    name.into()
}
