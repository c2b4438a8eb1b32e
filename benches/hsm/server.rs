//! The daemon and the redis that are measured, each on a core of its own where there are four.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Peer, Process, TestDirectory, Value, json, patience, poll};

use crate::machine::Watched;
use crate::messages::FSNAME;
use crate::site::Site;

/// Where requests are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Store {
    /// In memory.
    None,
    /// In files of the daemon.
    Embedded,
    /// In a redis.
    Redis,
}

impl Store {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "no store",
            Self::Embedded => "embedded",
            Self::Redis => "redis",
        }
    }
}

/// Which cores are for what.
#[derive(Debug, Clone, Copy)]
pub enum Core {
    /// The daemon, or what stands in for it.
    Server,
    /// The load generator.
    Load,
    /// Redis.
    Redis,
}

impl Core {
    /// As `taskset` takes it; `None` where there are too few.
    fn list(self) -> Option<&'static str> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (cores >= 4).then_some(match self {
            Self::Server => "0",
            Self::Load => "1,2",
            Self::Redis => "3",
        })
    }

    /// A command that runs a program there.
    pub fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match self.list() {
            None => Command::new(program),
            Some(list) => {
                let mut command = Command::new("taskset");
                command.args(["-c", list]).arg(program);
                command
            }
        }
    }
}

/// Keeps this process, as far as it is started later, on the cores for the load.
pub fn keep_to_load_cores() {
    if let Some(list) = Core::Load.list() {
        let id = std::process::id().to_string();
        let done = Command::new("taskset").args(["-a", "-p", "-c", list, &id]).stdout(Stdio::null()).status();
        assert!(done.is_ok_and(|status| status.success()), "taskset (util-linux) is needed");
    }
}

/// A redis that keeps nothing on disk, as for the figures of the C coordinatool.
#[derive(Debug)]
pub struct Redis {
    _process: Process,
    port: u16,
}

impl Redis {
    /// Starts one.
    pub fn start(directory: &Path) -> Self {
        let port = free_port();
        let mut command = Core::Redis.command("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"]);
        command.arg("--port").arg(port.to_string()).arg("--dir").arg(directory);
        let process = Process::spawn("redis-server", command, &directory.join("redis.log"));
        let redis = Self { _process: process, port };
        poll(patience(), || TcpStream::connect(redis.address()).ok()).expect("redis listens");
        redis
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Forgets everything.
    pub fn flush(&self) {
        let mut stream = TcpStream::connect(self.address()).expect("redis listens");
        stream.write_all(b"*1\r\n$8\r\nFLUSHALL\r\n").expect("redis reads");
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("redis answers");
        assert_eq!(&answer, b"+OK\r\n");
    }
}

/// An embedded Lustre as a daemon sees it.
#[derive(Debug)]
struct Mounted {
    mount: PathBuf,
    library: PathBuf,
}

/// A daemon with a directory of its own, most without a Lustre.
#[derive(Debug)]
pub struct Server {
    process: Process,
    directory: PathBuf,
    address: SocketAddr,
    store: Store,
    redis: Option<u16>,
    lustre: Option<Mounted>,
    config: String,
    /// Of the last start.
    started: Instant,
}

impl Server {
    /// Starts one with these lines of configuration.
    pub fn start(directory: &TestDirectory, store: Store, redis: Option<&Redis>, config: &str) -> Self {
        Self::begin(directory, store, redis, None, config)
    }

    /// Starts one that takes the requests of an embedded Lustre and keeps them in memory.
    pub fn on_lustre(directory: &TestDirectory, site: &Site) -> Self {
        let lustre = Mounted { mount: site.mount().to_owned(), library: site.library().to_owned() };
        Self::begin(directory, Store::None, None, Some(lustre), "")
    }

    fn begin(
        directory: &TestDirectory,
        store: Store,
        redis: Option<&Redis>,
        lustre: Option<Mounted>,
        config: &str,
    ) -> Self {
        let number = std::fs::read_dir(directory.path()).map_or(0, Iterator::count);
        let directory = directory.subdirectory(format!("server-{number}"));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let redis = redis.map(|redis| redis.port);
        let process = spawn(&directory, address, store, redis, lustre.as_ref(), config);
        let config = config.to_owned();
        let started = Instant::now();
        let server = Self { process, directory, address, store, redis, lustre, config, started };
        server.wait_listening();
        server
    }

    /// SIGKILL, and a start with what the store holds. Returns without waiting.
    pub fn crash_and_start(&mut self) {
        self.process.kill();
        self.started = Instant::now();
        self.process =
            spawn(&self.directory, self.address, self.store, self.redis, self.lustre.as_ref(), &self.config);
    }

    /// How long ago it was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    fn wait_listening(&self) {
        let connected = poll(patience(), || TcpStream::connect(self.address).ok());
        assert!(connected.is_some(), "the daemon does not listen; its log: {}", self.process.log());
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it uses.
    pub fn watched(&self) -> Watched {
        Watched(self.process.id())
    }

    /// A connection for single questions.
    pub fn peer(&self) -> Peer {
        Peer::connect(self.address).expect("the daemon listens")
    }

    /// Its status, without the single requests.
    pub fn status(&self) -> Value {
        self.peer().ask(&json!({"command": "status", "verbose": 4}))
    }
}

fn spawn(
    dir: &Path,
    address: SocketAddr,
    store: Store,
    redis: Option<u16>,
    lustre: Option<&Mounted>,
    config: &str,
) -> Process {
    let conf = dir.join("coordinatool.conf");
    std::fs::write(&conf, config).expect("the configuration can be written");
    let mut command = Core::Server.command(env!("CARGO_BIN_EXE_coordinatool"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COORDINATOOL") {
            command.env_remove(name);
        }
    }
    match lustre {
        None => command.args(["--lustre", "none", "--fsname", FSNAME]),
        Some(Mounted { mount, library }) => command.env("LD_PRELOAD", library).arg(mount),
    };
    command.args(["-H", "127.0.0.1"]);
    command.arg("-p").arg(address.port().to_string()).arg("-c").arg(conf);
    command.arg("--state-dir").arg(dir.join("state")).arg("--api-socket").arg(dir.join("hsm.sock"));
    command.env("COORDINATOOL_LOCAL_SOCKET", "off");
    match (store, redis) {
        (Store::None, _) => {
            command.args(["--store", "none"]);
        }
        (Store::Embedded, _) => {
            command.args(["--store", "embedded"]);
        }
        (Store::Redis, Some(port)) => {
            command.args(["--redis-host", "127.0.0.1", "--redis-port"]).arg(port.to_string());
        }
        (Store::Redis, None) => panic!("a redis is needed"),
    }
    Process::spawn("coordinatool", command, &dir.join("log"))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}
