//! The daemon as a real process, registered with the embedded Lustre.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::peer::Peer;
use crate::process::{Process, TEST_VARIABLE};
use crate::testbed::Testbed;
use crate::wait::patience;

/// What an administrator wrote into the configuration file, beside address and directories, which the test bed adds.
/// Daemon, movers and client share one file, as with the C version.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    lines: Vec<String>,
}

impl Settings {
    /// Nothing but what the test bed adds: no limits on movers.
    pub fn new() -> Self {
        Self::default()
    }

    /// At most three requests of each kind at a time on a mover, and a short grace.
    pub fn three_at_a_time() -> Self {
        Self::new()
            .line("max_archive 3")
            .line("max_restore 3")
            .line("max_remove 3")
            .line("client_grace_ms 1000")
    }

    /// One more line.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// All lines.
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// A running daemon, killed when this goes out of scope.
#[derive(Debug)]
pub struct Daemon<'bed> {
    bed: &'bed Testbed,
    process: Process,
    arguments: Vec<String>,
}

impl<'bed> Daemon<'bed> {
    /// Starts the daemon on the first mount and waits until it listens and every MDT knows it.
    pub fn start(bed: &'bed Testbed, settings: &Settings) -> Self {
        Self::start_with(bed, settings, &[])
    }

    /// The same with more arguments.
    pub fn start_with(bed: &'bed Testbed, settings: &Settings, arguments: &[&str]) -> Self {
        bed.configure(settings);
        let daemon = Self::start_without_waiting(bed, arguments);
        daemon.wait_ready();
        daemon
    }

    /// Starts it with the configuration there is, and waits for nothing.
    pub fn start_without_waiting(bed: &'bed Testbed, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { bed, process: spawn(bed, &arguments), arguments }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.bed.address()
    }

    /// Its log so far, over all its lives.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Waits for its end.
    pub fn wait_end(&mut self) -> ExitStatus {
        match self.process.wait(patience()) {
            Some(status) => status,
            None => self.bed.fail("the daemon does not end"),
        }
    }

    /// A clean stop (SIGTERM); it must end with success.
    pub fn stop(&mut self) {
        let status = self.process.terminate(patience());
        assert!(status.success(), "the daemon stops cleanly, not with {status}");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Starts it again with the same configuration and waits until it is ready.
    pub fn start_again(&mut self) {
        self.process = spawn(self.bed, &self.arguments);
        self.wait_ready();
    }

    /// Starts it again without waiting for anything.
    pub fn start_unready(&mut self) {
        self.process = spawn(self.bed, &self.arguments);
    }

    /// Stops it (SIGSTOP) and waits until no thread of it moves.
    pub fn freeze(&mut self) {
        self.process.freeze();
    }

    /// A clean stop and a new start.
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// A crash and a new start.
    pub fn crash_and_restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// A new connection.
    pub fn connect(&self) -> Peer {
        Peer::connect(self.address()).expect("the daemon listens")
    }

    /// Its status, with every request.
    pub fn status(&self) -> Value {
        self.bed.status().expect("the daemon answers status")
    }

    /// The entry of a mover in the status.
    pub fn mover_status(&self, id: &str) -> Option<Value> {
        let status = self.status();
        status["clients"].as_array()?.iter().find(|client| client["client_id"] == id).cloned()
    }

    /// Waits until a mover asks for work.
    pub fn wait_mover(&self, id: &str) {
        self.bed.wait(&format!("{id} waits for work"), || {
            self.mover_status(id).is_some_and(|mover| mover["status"] == "waiting")
        });
    }

    /// Waits until so many requests of all kinds are queued or running.
    pub fn wait_known(&self, count: u64) {
        self.bed.wait(&format!("the daemon knows {count} requests"), || known(&self.status()) == count);
        self.wait_stored();
    }

    /// Waits until what the daemon knows now is stored: an answer to `queue` waits for the newest commit, status does not.
    pub fn wait_stored(&self) {
        self.connect().ask(&json!({"command": "queue", "hsm_action_items": []}));
    }

    /// Sends `lock` over a connection of its own.
    pub fn lock(&self, value: i64) -> Value {
        self.connect().ask(&json!({"command": "lock", "locked": value}))
    }

    /// Waits until it listens, has read its store, and every MDT knows it.
    pub fn wait_ready(&self) {
        let address = self.address();
        self.bed.wait("the daemon listens", || {
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
        });
        if !self.arguments.iter().any(|argument| argument == "--lustre") {
            self.bed.wait("the daemon is registered with every MDT", || {
                self.bed.lustre().agents() == self.bed.mdts()
            });
        } else {
            self.bed.wait("the daemon has read its store", || self.bed.is_serving());
        }
    }
}

/// How many requests are queued or running by a status.
pub fn known(status: &Value) -> u64 {
    ["running", "pending"]
        .iter()
        .flat_map(|state| ["restore", "archive", "remove"].map(|kind| format!("{state}_{kind}")))
        .map(|counter| status[counter].as_u64().unwrap_or(0))
        .sum()
}

fn spawn(bed: &Testbed, arguments: &[String]) -> Process {
    let mut command = Command::new(bed.programs().path("coordinatool"));
    command
        .args(["-v", "-v", "--config"])
        .arg(bed.configuration())
        .args(arguments)
        .env("COORDINATOOL_REDIS_HOST", "")
        .env(TEST_VARIABLE, bed.directory())
        .env("RUST_BACKTRACE", "1");
    bed.set_preload(&mut command, Some(bed.liblustreapi()));
    if !arguments.iter().any(|argument| argument == "--lustre") {
        command.arg(bed.mount(0));
    }
    Process::spawn("coordinatool", command, &daemon_log(bed))
}

fn daemon_log(bed: &Testbed) -> PathBuf {
    bed.log_path("coordinatool")
}
