//! The embedded Lustre, and what its users and administrators do with it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use lustre_sim::client::{Client, ClientError, FileState};
use lustre_sim::control::Command as Control;
use lustreapi_sys::abi;
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
    client: Client,
}

/// The whole ledger.
#[derive(Debug, Clone, Default, Deserialize)]
struct Ledger {
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
        let mut server = Process::spawn("lustre-sim", command, &log);
        let client = poll(patience(), || {
            assert!(server.is_running(), "the embedded Lustre ended: {}", server.log());
            let client = Client::of(&root).ok()?;
            client.status().ok().map(|_| client)
        });
        let client =
            client.unwrap_or_else(|| panic!("the embedded Lustre does not come up: {}", server.log()));
        Self { program, directory: directory.path().to_owned(), mounts: paths, server, client }
    }

    /// The path of a mount.
    pub fn mount(&self, number: usize) -> &Path {
        &self.mounts[number]
    }

    /// Runs `lustre-sim` with these arguments on the first mount.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(&self.program)
            .args(arguments)
            .current_dir(&self.mounts[0])
            .env(TEST_VARIABLE, &self.directory)
            .stdin(Stdio::null())
            .output()
            .expect("lustre-sim starts")
    }

    /// A top-level directory whose files are on a certain MDT; nothing if it is there.
    pub fn make_directory(&self, name: &str, mdt: usize) {
        let path = self.mounts[0].join(name);
        if !path.exists() {
            let index = u32::try_from(mdt).expect("MDTs are few");
            checked("mkdir", self.client.mkdir(&path, index));
        }
    }

    /// Gives a file that has no FID yet this one.
    pub fn adopt(&self, path: &Path, fid: &str) {
        checked("adopt", self.client.adopt(path, fid.parse().expect("a FID")));
    }

    /// `lfs hsm_archive` and the like, in as many calls as needed.
    pub fn request(&self, action: Ask, paths: &[PathBuf], request: &Request) {
        for part in paths.chunks(FILES_PER_REQUEST) {
            let part: Vec<&Path> = part.iter().map(PathBuf::as_path).collect();
            let id = request.archive_id.unwrap_or(0);
            let result = self.client.request(action as u32, id, 0, &part, &request.data);
            checked(&format!("{action:?} of {part:?}"), result);
        }
    }

    /// `lfs hsm_remove --mntpath ... FID`, which is for files that are not there any more.
    pub fn remove_by_fid(&self, fid: &str) {
        let fid = fid.parse().expect("a FID");
        checked("remove by FID", self.client.request_fids(Ask::Remove as u32, 0, 0, &[fid], &[]));
    }

    /// A reader of a released file, which blocks until it is restored.
    pub fn read(&self, path: &Path) -> Reader {
        let (sender, receiver) = channel();
        let (client, path) = (self.client.clone(), path.to_owned());
        // It ends with the embedded Lustre at the latest.
        std::thread::spawn(move || {
            let _ = sender.send(client.read(&path).map_err(|error| error.to_string()));
        });
        Reader { receiver }
    }

    /// `lfs hsm_state`, in order.
    pub fn hsm_states(&self, paths: &[PathBuf]) -> Vec<FileState> {
        paths.iter().map(|path| checked("state", self.client.state(path))).collect()
    }

    /// The FIDs, without brackets, in order.
    pub fn fids(&self, paths: &[PathBuf]) -> Vec<String> {
        let fid = |path: &PathBuf| checked("fid", self.client.fid(path)).to_string();
        paths.iter().map(|path| fid(path).trim_matches(['[', ']']).to_owned()).collect()
    }

    /// Every request that the MDTs ever had.
    pub fn ledger(&self) -> Vec<Entry> {
        self.whole_ledger().entries
    }

    /// Ends that the MDTs refused.
    pub fn strays(&self) -> Vec<Stray> {
        self.whole_ledger().strays
    }

    fn whole_ledger(&self) -> Ledger {
        let value = checked("ledger", self.client.ledger());
        serde_json::from_value(value).expect("the ledger is as the harness knows it")
    }

    /// The ledger for people, as far as it can be had.
    pub fn ledger_text(&self) -> String {
        let Ok(value) = self.client.ledger() else { return "no answer".to_owned() };
        let lines = |name: &str| -> Vec<String> {
            value[name].as_array().into_iter().flatten().map(|entry| format!("{name}: {entry}")).collect()
        };
        [lines("entries"), lines("strays")].concat().join("\n")
    }

    /// `lctl get_param mdt.*.NAME`, as far as it can be had.
    pub fn parameter_text(&self, name: &str) -> String {
        self.client.get_param(&format!("mdt.*.{name}")).unwrap_or_else(|error| error.to_string())
    }

    /// The value of a parameter of one MDT.
    pub fn parameter(&self, mdt: usize, name: &str) -> String {
        let text = checked("get_param", self.client.get_param(&format!("mdt.{}.{name}", mdt_name(mdt))));
        text.split_once('=').map_or("", |(_, value)| value).trim_end().to_owned()
    }

    /// `lctl get_param mdt.MDT.hsm.active_requests`, as an administrator pipes it to `coordinatool-client -Q`.
    pub fn active_requests(&self, mdt: usize) -> String {
        checked("get_param", self.client.get_param(&format!("mdt.{}.hsm.active_requests", mdt_name(mdt))))
    }

    /// Whether no MDT lists an active request.
    pub fn no_active_requests(&self) -> bool {
        !self.parameter_text("hsm.active_requests").contains("fid=")
    }

    /// `lctl set_param mdt.*.NAME=VALUE`.
    pub fn set_parameter(&self, name: &str, value: &str) {
        checked("set_param", self.client.set_param(&format!("mdt.*.{name}"), value));
    }

    /// How many agents are registered, counted on each MDT.
    pub fn agents(&self) -> usize {
        self.parameter_text("hsm.agents").matches("uuid=").count()
    }

    /// Stops and starts an MDT: its memory is lost.
    pub fn restart_mdt(&self, number: usize) {
        let index = u32::try_from(number).expect("MDTs are few");
        checked("stop an MDT", self.client.command(&Control::StopMdt { index }, &[]));
        checked("start an MDT", self.client.command(&Control::StartMdt { index }, &[]));
    }

    /// Writes the last list of each agent into its pipe once more.
    pub fn redeliver(&self) {
        checked("redeliver", self.client.command(&Control::Redeliver, &[]));
    }

    /// The server's client, for everything else.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

/// `HUA_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Ask {
    /// `lfs hsm_archive`
    Archive = abi::HUA_ARCHIVE,
    /// `lfs hsm_restore`
    Restore = abi::HUA_RESTORE,
    /// `lfs hsm_release`
    Release = abi::HUA_RELEASE,
    /// `lfs hsm_remove`
    Remove = abi::HUA_REMOVE,
    /// `lfs hsm_cancel`
    Cancel = abi::HUA_CANCEL,
}

fn mdt_name(number: usize) -> String {
    format!("{FSNAME}-MDT{number:04x}")
}

fn checked<T>(what: &str, result: Result<T, ClientError>) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error}"))
}

impl Drop for Lustre {
    fn drop(&mut self) {
        self.server.signal(Signal::TERM);
        self.server.wait(std::time::Duration::from_secs(10));
    }
}

/// Somebody who reads a file.
#[derive(Debug)]
pub struct Reader {
    receiver: Receiver<Result<Vec<u8>, String>>,
}

impl Reader {
    /// What was read, or the error.
    pub fn finish(self) -> Result<Vec<u8>, String> {
        self.receiver.recv_timeout(patience()).unwrap_or_else(|_| Err("still blocked".to_owned()))
    }

    /// What was read as text, or the error.
    pub fn finish_text(self) -> Result<String, String> {
        self.finish().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether it still waits for the data.
    pub fn is_blocked(&self) -> bool {
        matches!(self.receiver.try_recv(), Err(TryRecvError::Empty))
    }
}
