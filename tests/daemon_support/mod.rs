//! A daemon of its own for each test, and peers that speak to it over TCP.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use coordinatool::wire::{Decoder, Limits};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Long enough for a busy machine: nothing passes by waiting less.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the daemon has logged.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    ended: bool,
}

/// A running daemon with a directory of its own.
pub struct Daemon {
    child: Child,
    log: Arc<(Mutex<Log>, Condvar)>,
    port: u16,
    dir: Arc<tempfile::TempDir>,
    setup: Setup,
}

/// How to start one.
#[derive(Clone, Default)]
pub struct Setup {
    /// Content of the configuration file.
    pub conf: String,
    /// More options.
    pub args: Vec<String>,
    /// Commands of a shell that come before, such as `ulimit -n 40`.
    pub shell: Option<String>,
    /// Variables of the environment.
    pub env: Vec<(String, String)>,
    /// Whether to keep requests; in memory only otherwise.
    pub stored: bool,
}

impl Setup {
    pub fn conf(text: &str) -> Self {
        Self { conf: text.to_owned(), ..Self::default() }
    }

    pub fn stored() -> Self {
        Self { stored: true, ..Self::default() }
    }

    pub fn start(self) -> Daemon {
        Daemon::start(self)
    }
}

impl Daemon {
    pub fn start(setup: Setup) -> Self {
        Self::start_in(setup, Arc::new(tempfile::tempdir().unwrap()))
    }

    fn command(setup: &Setup, dir: &Path) -> Command {
        let conf = dir.join("coordinatool.conf");
        std::fs::write(&conf, &setup.conf).unwrap();
        let program = env!("CARGO_BIN_EXE_coordinatool");
        let mut command = match &setup.shell {
            None => Command::new(program),
            Some(before) => {
                let mut command = Command::new("sh");
                command.arg("-c").arg(format!("{before}; exec \"$0\" \"$@\"")).arg(program);
                command
            }
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("COORDINATOOL") {
                command.env_remove(name);
            }
        }
        command.env_remove("STATE_DIRECTORY").env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
        // Tests run beside each other, and beside a daemon of this host.
        command.env("COORDINATOOL_LOCAL_SOCKET", "off");
        command.envs(setup.env.iter().map(|(name, value)| (name, value)));
        command.args(["--lustre", "none", "--fsname", "testfs0", "-H", "127.0.0.1", "-p", "0", "-v"]);
        command.arg("-c").arg(conf).arg("--state-dir").arg(dir.join("state"));
        command.arg("--api-socket").arg(dir.join("hsm.sock"));
        command.args(["--store", if setup.stored { "embedded" } else { "none" }]);
        command.args(&setup.args);
        command
    }

    fn start_in(setup: Setup, dir: Arc<tempfile::TempDir>) -> Self {
        let mut command = Self::command(&setup, dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new((Mutex::new(Log::default()), Condvar::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let sink = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sink.0.lock().unwrap().lines.push(line);
                sink.1.notify_all();
            }
            sink.0.lock().unwrap().ended = true;
            sink.1.notify_all();
        });
        let mut daemon = Self { child, log, port: 0, dir, setup };
        // The plain port is said first, if there is one.
        let line = daemon.wait_for_log("Listening ");
        let port = line.rsplit(':').next().unwrap();
        daemon.port = port.trim().parse().unwrap();
        daemon.wait_for_log("Starting main loop");
        daemon
    }

    /// Runs one that is expected to end by itself; returns its exit code and what it said.
    pub fn run_to_end(setup: &Setup) -> (Option<i32>, String) {
        let dir = tempfile::tempdir().unwrap();
        let output = Self::command(setup, dir.path()).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Waits for a line of the log that contains `text`, and returns it.
    pub fn wait_for_log(&self, text: &str) -> String {
        let (log, changed) = &*self.log;
        let mut log = log.lock().unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = log.lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            assert!(!log.ended, "the daemon ended without `{text}`:\n{}", log.lines.join("\n"));
            assert!(Instant::now() < end, "no `{text}` in:\n{}", log.lines.join("\n"));
            log = changed.wait_timeout(log, Duration::from_secs(1)).unwrap().0;
        }
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        // Also for a test that failed while it looked at the log.
        self.log.0.lock().unwrap_or_else(PoisonError::into_inner).lines.join("\n")
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub fn peer(&self) -> Peer {
        Peer::connect(self.port)
    }

    /// A mover that has introduced itself.
    pub fn mover(&self, id: &str) -> Peer {
        let mut peer = self.peer();
        assert_eq!(peer.ask(&format!(r#"{{"command": "ehlo", "fsname": "testfs0", "id": "{id}"}}"#)), EHLO);
        peer
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the daemon does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops it and starts another with the same directory.
    pub fn restart(mut self, signal: Signal) -> Self {
        self.signal(signal);
        let status = self.wait();
        if signal == Signal::TERM {
            assert_eq!(status.code(), Some(0), "{}", self.log());
        }
        let (setup, dir) = (self.setup.clone(), Arc::clone(&self.dir));
        Self::start_in(setup, dir)
    }

    /// Asks for the verbose status.
    pub fn status(&self) -> Value {
        let text = self.peer().ask(r#"{"command": "status", "verbose": 6}"#);
        serde_json::from_str(&text).unwrap()
    }

    /// Asks for the status until `good` says so.
    pub fn wait_for_status(&self, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if good(&status) {
                return status;
            }
            assert!(Instant::now() < end, "never {what}: {status}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- end of the daemon's log\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

/// A TCP connection that takes replies apart.
pub struct Peer {
    pub stream: TcpStream,
    decoder: Decoder,
}

impl Peer {
    pub fn connect(port: u16) -> Self {
        Self::on(TcpStream::connect(("127.0.0.1", port)).unwrap())
    }

    pub fn on(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, decoder: Decoder::new(Limits::default()) }
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// The next reply, as its bytes stand; `None` at the end of the connection.
    pub fn recv(&mut self) -> Option<String> {
        let mut buffer = [0; 65536];
        loop {
            if let Some(object) = self.decoder.next_object().unwrap() {
                return Some(String::from_utf8(object.to_vec()).unwrap());
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    assert_eq!(self.decoder.pending_bytes(), 0, "the connection ends within a reply");
                    return None;
                }
                Ok(len) => self.decoder.push(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }

    pub fn ask(&mut self, text: &str) -> String {
        self.send(text);
        self.recv().unwrap_or_else(|| panic!("closed after {text}"))
    }

    /// Asks for work and waits for it.
    pub fn work(&mut self, limits: &str) -> Value {
        let text = self.ask(&format!(r#"{{"command": "recv"{limits}, "max_bytes": 1048576}}"#));
        serde_json::from_str(&text).unwrap()
    }

    pub fn done(&mut self, cookie: u64, oid: u32, status: i32) {
        let text = format!(
            r#"{{"command": "done", "hai_cookie": {cookie}, "hai_dfid": {{"f_seq": 8589935617, "f_oid": {oid}, "f_ver": 0}}, "status": {status}}}"#
        );
        assert_eq!(self.ask(&text), r#"{"command": "done"}"#);
    }

    pub fn queue(&mut self, items: &[String]) -> String {
        let items = items.join(", ");
        self.ask(&format!(r#"{{"command": "queue", "fsname": "testfs0", "hsm_action_items": [{items}]}}"#))
    }

    /// Whether the daemon has closed the connection, after whatever it still sent.
    pub fn is_closed(&mut self) -> bool {
        while self.recv().is_some() {}
        true
    }

    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

/// Success of `ehlo`.
pub const EHLO: &str = r#"{"command": "ehlo"}"#;

/// A request as C's own client writes it: whole file, no group lock.
pub fn item(action: u32, oid: u32, cookie: u64, data: &str) -> String {
    item_of(action, oid, cookie, 1, data)
}

pub fn item_of(action: u32, oid: u32, cookie: u64, archive_id: u32, data: &str) -> String {
    let oid = oid as i32;
    let fid = format!(r#"{{"f_seq": 8589935617, "f_oid": {oid}, "f_ver": 0}}"#);
    let data = serde_json::to_string(data).unwrap();
    format!(
        r#"{{"hai_action": {action}, "hai_fid": {fid}, "hai_dfid": {fid}, "hai_extent_offset": 0, "hai_extent_length": -1, "hai_cookie": {cookie}, "hai_gid": 0, "hal_archive_id": {archive_id}, "hal_flags": 0, "hai_data": {data}}}"#
    )
}

/// The object ids of a list of work, in order.
pub fn oids(work: &Value) -> Vec<i64> {
    let list = work["hsm_action_list"]["list"].as_array().unwrap_or_else(|| panic!("no work: {work}"));
    list.iter().map(|item| item["hai_fid"]["f_oid"].as_i64().unwrap()).collect()
}

/// `text` with every number behind `key` replaced by 0: ports and times vary.
pub fn without(text: &str, key: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(key) {
        let (before, after) = rest.split_at(at + key.len());
        out.push_str(before);
        out.push('0');
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}

/// The client entry of this id in a status.
pub fn client<'a>(status: &'a Value, id: &str) -> Option<&'a Value> {
    status["clients"].as_array()?.iter().find(|client| client["client_id"] == id)
}
