//! The embedded Lustre, and what its users and administrators do with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::Signal;
use serde::Deserialize;

use crate::directory::TestDirectory;
use crate::files::Request;
use crate::ledger::{Entry, Stray};
use crate::process::{Process, TEST_VARIABLE};
use crate::programs::Programs;
use crate::wait::{patience, poll};

/// The name of the file system.
pub const FSNAME: &str = "testfs0";

/// Most files in one request: a real Lustre refuses a list of 100 with E2BIG and takes 50.
const FILES_PER_REQUEST: usize = 50;

/// A running embedded Lustre.
#[derive(Debug)]
pub struct Lustre {
    program: PathBuf,
    directory: PathBuf,
    mounts: Vec<PathBuf>,
    server: Process,
}

/// What `lfs hsm_state` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HsmState {
    /// `HS_*` flags.
    pub flags: u32,
    /// Where the copy is, 0 for nowhere.
    pub archive_id: u32,
}

/// The whole ledger.
#[derive(Debug, Clone, Default, Deserialize)]
struct Ledgers {
    entries: Vec<Entry>,
    strays: Vec<Stray>,
}

impl Lustre {
    /// Starts one with so many MDTs and mounts, below the test's directory.
    pub fn start(
        programs: &Programs,
        directory: &TestDirectory,
        mdts: usize,
        mounts: usize,
        parameters: &[String],
        arguments: &[String],
    ) -> Self {
        let root = directory.subdirectory("mnt0");
        let mut paths = vec![root.clone()];
        let program = programs.path("lustre-sim");
        let mut command = Command::new(&program);
        command.args(["serve", "--fsname", FSNAME, "--mdts", &mdts.to_string(), "--root"]).arg(&root);
        for number in 1..mounts {
            let mount = directory.join(format!("mnt{number}"));
            command.arg("--mount").arg(&mount);
            paths.push(mount);
        }
        for parameter in parameters {
            command.args(["--param", parameter]);
        }
        command.args(arguments).env(TEST_VARIABLE, directory.path()).env("RUST_BACKTRACE", "1");
        let log = directory.join("logs/lustre-sim.log");
        let server = Process::spawn("lustre-sim", command, &log);
        let mut lustre = Self { program, directory: directory.path().to_owned(), mounts: paths, server };
        let up = poll(patience(), || {
            let running = lustre.server.is_running();
            assert!(running, "the embedded Lustre ended: {}", lustre.server.log());
            let output = lustre.run(&["get-param", "mdt.*.hsm_control"]);
            (output.status.success() && lustre.mounts.iter().all(|mount| mount.exists())).then_some(())
        });
        assert!(up.is_some(), "the embedded Lustre does not come up: {}", lustre.server.log());
        lustre
    }

    /// The path of a mount.
    pub fn mount(&self, number: usize) -> &Path {
        &self.mounts[number]
    }

    /// Runs `lustre-sim` with these arguments on the first mount.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("lustre-sim starts")
    }

    /// Runs it and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn run_checked(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "lustre-sim {arguments:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(&self.mounts[0])
            .env(TEST_VARIABLE, &self.directory)
            .stdin(Stdio::null());
        command
    }

    /// A top-level directory whose files are on a certain MDT; nothing if it is there.
    pub fn make_directory(&self, name: &str, mdt: usize) {
        if !self.mounts[0].join(name).exists() {
            self.run_checked(&["mkdir", "--mdt", &mdt.to_string(), name]);
        }
    }

    /// `lfs hsm_archive` and the like, in as many calls as needed.
    pub fn request(&self, action: &str, paths: &[PathBuf], request: &Request) {
        for part in paths.chunks(FILES_PER_REQUEST) {
            let mut command = self.command(&[action]);
            if let Some(id) = request.archive_id {
                command.args(["--archive", &id.to_string()]);
            }
            if !request.data.is_empty() {
                use std::os::unix::ffi::OsStrExt;
                command.arg("--data").arg(std::ffi::OsStr::from_bytes(&request.data));
            }
            let output = command.args(part).output().expect("lustre-sim starts");
            assert!(
                output.status.success(),
                "lustre-sim {action}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }

    /// `lfs hsm_release`.
    pub fn release(&self, paths: &[PathBuf]) {
        self.request("release", paths, &Request::default());
    }

    /// A process that reads a released file, which blocks until it is restored, and prints it.
    pub fn read(&self, path: &Path) -> Reader {
        let child = self
            .command(&["read"])
            .arg(path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("lustre-sim starts");
        Reader { child: Some(child) }
    }

    /// `lfs hsm_state`, in order.
    pub fn hsm_states(&self, paths: &[PathBuf]) -> Vec<HsmState> {
        let mut states = Vec::new();
        for part in paths.chunks(500) {
            let output = self.command(&["state"]).args(part).output().expect("lustre-sim starts");
            let text = String::from_utf8_lossy(&output.stdout);
            states.extend(text.lines().map(parse_state));
        }
        assert_eq!(states.len(), paths.len(), "a state for each file");
        states
    }

    /// The FIDs, without brackets, in order.
    pub fn fids(&self, paths: &[PathBuf]) -> Vec<String> {
        let mut fids = Vec::new();
        for part in paths.chunks(500) {
            let output = self.command(&["path2fid"]).args(part).output().expect("lustre-sim starts");
            let text = String::from_utf8_lossy(&output.stdout);
            fids.extend(
                text.lines()
                    .map(|line| line.rsplit(' ').next().expect("a FID").trim_matches(['[', ']']).to_owned()),
            );
        }
        assert_eq!(fids.len(), paths.len(), "a FID for each file");
        fids
    }

    /// Gives a file that has no FID yet this one.
    pub fn adopt(&self, path: &Path, fid: &str) {
        let output = self.command(&["adopt", "--fid", fid]).arg(path).output().expect("lustre-sim starts");
        assert!(
            output.status.success(),
            "lustre-sim adopt {fid}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Every request that the MDTs ever had.
    pub fn ledger(&self) -> Vec<Entry> {
        self.ledgers().entries
    }

    /// Ends that the MDTs refused.
    pub fn strays(&self) -> Vec<Stray> {
        self.ledgers().strays
    }

    fn ledgers(&self) -> Ledgers {
        let text = self.run_checked(&["ledger", "--json"]);
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("the ledger is not as expected: {error}: {text}"))
    }

    /// The ledger for people.
    pub fn ledger_text(&self) -> String {
        String::from_utf8_lossy(&self.run(&["ledger"]).stdout).into_owned()
    }

    /// `lctl get_param mdt.*.NAME`.
    pub fn parameter_text(&self, name: &str) -> String {
        String::from_utf8_lossy(&self.run(&["get-param", &format!("mdt.*.{name}")]).stdout).into_owned()
    }

    /// `lctl get_param -n mdt.MDT.NAME` without the last newline.
    pub fn parameter(&self, mdt: usize, name: &str) -> String {
        self.run_checked(&["get-param", "-n", &format!("mdt.{FSNAME}-MDT{mdt:04x}.{name}")])
            .trim_end()
            .to_owned()
    }

    /// `lctl get_param -n mdt.MDT.hsm.active_requests`.
    pub fn active_requests(&self, mdt: usize) -> String {
        self.run_checked(&["get-param", "-n", &format!("mdt.{FSNAME}-MDT{mdt:04x}.hsm.active_requests")])
    }

    /// `lctl set_param mdt.*.NAME=VALUE`.
    pub fn set_parameter(&self, name: &str, value: &str) {
        self.run_checked(&["set-param", &format!("mdt.*.{name}={value}")]);
    }

    /// On how many MDTs agents are registered, in all.
    pub fn agents(&self) -> usize {
        self.parameter_text("hsm.agents").matches("uuid=").count()
    }

    /// Stops and starts an MDT: its memory is lost.
    pub fn restart_mdt(&self, number: usize) {
        self.run_checked(&["mdt", "restart", &number.to_string()]);
    }
}

impl Drop for Lustre {
    fn drop(&mut self) {
        self.server.signal(Signal::TERM);
        self.server.wait(std::time::Duration::from_secs(10));
    }
}

fn parse_state(line: &str) -> HsmState {
    let flags = line
        .split_once("(0x")
        .and_then(|(_, rest)| rest.split_once(')'))
        .and_then(|(hex, _)| u32::from_str_radix(hex, 16).ok())
        .unwrap_or_else(|| panic!("not a line of hsm_state: {line}"));
    let archive_id = line.rsplit_once("archive_id:").and_then(|(_, id)| id.trim().parse().ok()).unwrap_or(0);
    HsmState { flags, archive_id }
}

/// A process that reads a file; killed when this goes out of scope.
#[derive(Debug)]
pub struct Reader {
    child: Option<Child>,
}

impl Reader {
    /// Whether it still waits for the data.
    pub fn is_blocked(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// What it read as text, or the error it printed.
    pub fn finish(self) -> Result<String, String> {
        self.finish_bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What it read, or the error it printed.
    pub fn finish_bytes(mut self) -> Result<Vec<u8>, String> {
        let mut child = self.child.take().expect("finished once");
        // Read at once: it may print more than a pipe holds.
        let mut output = child.stdout.take().expect("its output is a pipe");
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = std::io::Read::read_to_end(&mut output, &mut bytes);
            let _ = sender.send(read.map(|_| bytes));
        });
        let Ok(read) = receiver.recv_timeout(patience()) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err("still blocked".to_owned());
        };
        let end = child.wait_with_output().expect("its end can be waited for");
        if end.status.success() {
            read.map_err(|error| error.to_string())
        } else {
            Err(String::from_utf8_lossy(&end.stderr).into_owned())
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_hsm_state() {
        let rows = [
            ("a1: (0x00000009) exists archived, archive_id:1", HsmState { flags: 9, archive_id: 1 }),
            ("c1: (0x00000000)", HsmState { flags: 0, archive_id: 0 }),
            (
                "c1: (0x0000000d) released exists archived, archive_id:12",
                HsmState { flags: 13, archive_id: 12 },
            ),
        ];
        for (line, expected) in rows {
            assert_eq!(parse_state(line), expected);
        }
    }
}
