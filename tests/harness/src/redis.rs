//! A real redis server for one test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use redis::{Connection, FromRedisValue};
use rustix::process::Signal;

use crate::process::{Process, TEST_VARIABLE};
use crate::testbed::Testbed;
use crate::wait::{patience, poll};

/// C's requests.
pub const REQUESTS: &str = "coordinatool_requests";
/// C's assignments.
pub const ASSIGNED: &str = "coordinatool_assigned";

/// A running server, killed when this goes out of scope. It stores on its disk what it confirmed.
#[derive(Debug)]
pub struct Redis<'bed> {
    bed: &'bed Testbed,
    directory: PathBuf,
    port: u16,
    options: Vec<String>,
    process: Process,
}

impl<'bed> Redis<'bed> {
    /// Starts a server at the test's own address.
    pub fn start(bed: &'bed Testbed) -> Self {
        Self::start_with(bed, 6379, &["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts one at a port with these options.
    pub fn start_with(bed: &'bed Testbed, port: u16, options: &[&str]) -> Self {
        let directory = bed.directory().join(format!("redis-{port}"));
        std::fs::create_dir_all(&directory).expect("a directory can be made");
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let process = spawn(bed, &directory, port, &options);
        let redis = Self { bed, directory, port, options, process };
        redis.wait_ready();
        redis
    }

    /// Its host.
    pub fn host(&self) -> String {
        self.bed.address().ip().to_string()
    }

    /// Its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// What the daemon has to be told.
    pub fn arguments(&self) -> [String; 4] {
        ["--redis-host".to_owned(), self.host(), "--redis-port".to_owned(), self.port.to_string()]
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it (SIGSTOP) and waits until no thread of it moves.
    pub fn freeze(&mut self) {
        self.process.freeze();
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Starts it again with what it stored.
    pub fn start_again(&mut self) {
        self.process = spawn(self.bed, &self.directory, self.port, &self.options);
        self.wait_ready();
    }

    /// Forgets what it stored, while it does not run.
    pub fn forget(&self) {
        self.restore(&Backup(Vec::new()));
    }

    /// What it has stored, while it does not run.
    pub fn backup(&self) -> Backup {
        let mut files = Vec::new();
        let mut directories = vec![self.directory.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).expect("the directory is there").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.is_file() {
                    let bytes = std::fs::read(&path).expect("the file can be read");
                    files.push((path, bytes));
                }
            }
        }
        Backup(files)
    }

    /// Makes it what it was when the backup was made, while it does not run.
    pub fn restore(&self, backup: &Backup) {
        std::fs::remove_dir_all(&self.directory).expect("the directory can be removed");
        std::fs::create_dir_all(&self.directory).expect("a directory can be made");
        for (path, bytes) in &backup.0 {
            std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("directory");
            std::fs::write(path, bytes).expect("the file can be written");
        }
    }

    fn try_connect(&self) -> Option<Connection> {
        let client = redis::Client::open(format!("redis://{}:{}/", self.host(), self.port)).ok()?;
        client.get_connection().ok()
    }

    fn wait_ready(&self) {
        self.bed.wait("redis answers", || {
            self.try_connect().is_some_and(|mut connection| redis::cmd("PING").exec(&mut connection).is_ok())
        });
    }

    /// Runs a command.
    ///
    /// # Panics
    /// When it fails.
    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let (name, rest) = words.split_first().expect("a command");
        let mut command = redis::cmd(name);
        for word in rest {
            command.arg(*word);
        }
        let mut connection = self.try_connect().expect("redis listens");
        command.query(&mut connection).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Sets a field of a hash to any bytes.
    pub fn set(&self, hash: &str, field: &str, value: &[u8]) {
        let mut connection = self.try_connect().expect("redis listens");
        let mut command = redis::cmd("HSET");
        command.arg(hash).arg(field).arg(value);
        command.exec(&mut connection).expect("HSET works");
    }

    /// All fields of a hash.
    pub fn hash(&self, key: &str) -> BTreeMap<String, String> {
        self.ask(&["HGETALL", key])
    }

    /// The requests that a C version would find.
    pub fn requests(&self) -> BTreeMap<String, String> {
        self.hash(REQUESTS)
    }

    /// The assignments that a C version would find; the one that belongs to no request is left out.
    pub fn assigned(&self) -> BTreeMap<String, String> {
        let mut assigned = self.hash(ASSIGNED);
        assigned.remove(&"f".repeat(48));
        assigned
    }

    /// All keys, sorted.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.ask(&["KEYS", "*"]);
        keys.sort();
        keys
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits for its end after a signal.
    pub fn wait_end(&mut self) {
        assert!(self.process.wait(patience()).is_some(), "redis ends");
        poll(patience(), || self.try_connect().is_none().then_some(())).expect("nobody listens any more");
    }
}

/// What a server had stored.
#[derive(Debug, Clone)]
pub struct Backup(Vec<(PathBuf, Vec<u8>)>);

fn spawn(bed: &Testbed, directory: &std::path::Path, port: u16, options: &[String]) -> Process {
    let mut command = Command::new("redis-server");
    command
        .arg("--bind")
        .arg(bed.address().ip().to_string())
        .arg("--port")
        .arg(port.to_string())
        .arg("--dir")
        .arg(directory)
        .arg("--unixsocket")
        .arg(directory.join("socket"))
        .args(["--save", "", "--daemonize", "no"])
        .args(options)
        .env(TEST_VARIABLE, bed.directory());
    Process::spawn("redis-server", command, &bed.log_path(&format!("redis-{port}")))
}
