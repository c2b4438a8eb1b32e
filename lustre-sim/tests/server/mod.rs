//! Starts an embedded Lustre and copytools as processes of their own.

#![allow(dead_code)] // Each test program uses a part.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use lustre_sim::client::{Client, ClientError};
use lustre_sim::control::Until;
use lustreapi_sys::abi;
use serde_json::Value;

/// Nothing here takes that long; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Builds the library and the copytool, which are not part of this package, and returns where they are.
pub fn programs() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = Path::new(env!("CARGO_BIN_EXE_lustre-sim")).parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--locked"]);
        cargo.args(["-p", "lustre-sim-liblustreapi", "-p", "lustre-sim-copytool"]);
        cargo.env("CARGO_TARGET_DIR", dir.parent().unwrap());
        if dir.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "the library and the copytool do not build");
        dir.to_path_buf()
    })
}

/// A process that is killed when the test ends.
pub struct Process(pub Child);

impl Process {
    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: a child that was not waited for.
        unsafe { libc::kill(self.0.id() as i32, signal) };
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An embedded Lustre, an archive directory, and a client.
pub struct Sim {
    pub dir: tempfile::TempDir,
    pub client: Client,
    server: Process,
}

impl Sim {
    /// Starts a server with a short loop period and these further options.
    pub fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("fs");
        std::fs::create_dir(dir.path().join("archive")).unwrap();
        programs();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lustre-sim"));
        command.args(["serve", "--param", "loop_period=1", "--root"]).arg(&root);
        for option in options {
            command.arg(option.replace("{dir}", dir.path().to_str().unwrap()));
        }
        let mut server = Process(command.stdin(Stdio::null()).spawn().unwrap());
        let start = std::time::Instant::now();
        let client = loop {
            if let Ok(client) = Client::of(&root)
                && client.status().is_ok()
                && root.join(".lustre/lib/liblustreapi.so.1").exists()
            {
                break client;
            }
            assert!(server.0.try_wait().unwrap().is_none(), "the server has ended");
            assert!(start.elapsed() < PATIENCE, "the server does not answer");
            std::thread::sleep(Duration::from_millis(10));
        };
        Self { dir, client, server }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.client.root().join(name)
    }

    pub fn archive_dir(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    /// Makes a file.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A command that finds this embedded Lustre's library.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("LD_LIBRARY_PATH", self.path(".lustre/lib"));
        command
    }

    /// Starts the copytool on a mount point and waits until it is registered as the agent number `agents`.
    pub fn copytool_on(&self, mount: &Path, agents: usize, options: &[&str]) -> Process {
        let mut command = self.command(programs().join("lustre-sim-copytool"));
        command
            .arg("--hsm-root")
            .arg(self.archive_dir())
            .arg("--journal")
            .arg(self.dir.path().join("journal"));
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.dir.path().join("copytool.log"))
            .unwrap();
        command.args(options).arg(mount).stderr(log);
        if mount.is_symlink() {
            // Who may not mount has symbolic links for further mounts, which look like one client.
            command.env(lustre_sim::protocol::CLIENT_VARIABLE, agents.to_string());
        }
        let process = Process(command.spawn().unwrap());
        self.wait(Until::Agents { at_least: agents });
        process
    }

    pub fn copytool(&self, options: &[&str]) -> Process {
        self.copytool_on(self.client.root(), 1, options)
    }

    #[track_caller]
    pub fn wait(&self, until: Until) {
        if let Err(error) = self.client.wait(until.clone(), PATIENCE) {
            let log = std::fs::read_to_string(self.dir.path().join("copytool.log")).unwrap_or_default();
            let actions = self.client.get_param("mdt.*.hsm.actions").unwrap_or_default();
            panic!("{until:?}: {error}\n{actions}\n{log}");
        }
    }

    pub fn request(&self, hua: u32, file: &Path, data: &[u8]) -> Result<(), ClientError> {
        self.client.request(hua, 0, 0, &[file], data)
    }

    /// Archives a file and waits for it.
    #[track_caller]
    pub fn archive(&self, file: &Path) {
        self.request(abi::HUA_ARCHIVE, file, b"").unwrap();
        self.wait_state(file, abi::HS_ARCHIVED, 0);
    }

    #[track_caller]
    pub fn release(&self, file: &Path) {
        self.request(abi::HUA_RELEASE, file, b"").unwrap();
    }

    #[track_caller]
    pub fn wait_state(&self, file: &Path, set: u32, clear: u32) {
        let fids = vec![self.client.fid(file).unwrap().to_string()];
        self.wait(Until::State { fids, set, clear });
    }

    #[track_caller]
    pub fn wait_ended(&self, at_least: usize) {
        self.wait(Until::Ended { at_least });
    }

    #[track_caller]
    pub fn wait_started(&self, at_least: usize) {
        self.wait(Until::Started { at_least });
    }

    pub fn flags(&self, file: &Path) -> u32 {
        self.client.state(file).unwrap().flags
    }

    /// Entries of the ledger: action, status and errno of the end.
    pub fn ends(&self) -> Vec<(String, String, Option<i64>)> {
        let ledger = self.client.ledger().unwrap();
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let entries = ledger["entries"].as_array().unwrap().iter();
        entries.map(|e| (text(&e["action"]), text(&e["status"]), e["end"]["errno"].as_i64())).collect()
    }

    /// The names of the calls so far that are ioctls of a copytool, of one request or of none.
    pub fn calls(&self, pid: u32) -> Vec<String> {
        let own = ["CREATE_VOLATILE", "GET_LAYOUT", "SET_LAYOUT", "CLIENT_UUID"];
        let calls = self.client.calls().unwrap().into_iter();
        calls.filter(|c| c.pid == pid && !own.contains(&c.name.as_str())).map(|c| c.name).collect()
    }

    pub fn journal(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("journal")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// An end in the ledger.
pub fn end(action: &str, status: &str, errno: Option<i64>) -> (String, String, Option<i64>) {
    (action.to_owned(), status.to_owned(), errno)
}
