//! Processes that never outlive their test.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{patience, poll};

/// Every process of a test has this variable in its environment, with the test's directory as value, so that those that
/// left their parent are found as well.
pub const TEST_VARIABLE: &str = "COORDINATOOL_TEST_DIRECTORY";

/// A child process, killed when this goes out of scope.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a command whose output is appended to the file `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Self {
        let output = append(log);
        let errors = output.try_clone().expect("a descriptor can be duplicated");
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned(), ended: None }
    }

    /// What the test calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        self.status().is_none()
    }

    /// How it ended; `None` while it runs.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended
    }

    /// Sends a signal if it still runs.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            // It may end in between; then there is nobody to signal.
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// Stops it (SIGSTOP) and waits until no thread of it moves.
    pub fn freeze(&mut self) {
        let pid = Pid::from_child(&self.child);
        freeze(|| vec![pid]);
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        poll(patience, || self.status())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn terminate(&mut self, patience: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        match self.wait(patience) {
            Some(status) => status,
            None => panic!("{} does not end after SIGTERM; its log: {}", self.name, self.log.display()),
        }
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        read_log(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The text of a log, empty if there is none.
pub fn read_log(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn append(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()))
}

/// The ids of all living processes that were started for the test with this directory, wherever they were reparented.
pub fn processes_of(directory: &Path) -> Vec<Pid> {
    processes_with(&format!("{TEST_VARIABLE}={}", directory.display()))
}

/// The ids of all living processes that have a variable with a value (`NAME=VALUE`) in their environment, but not of this one.
pub fn processes_with(mark: &str) -> Vec<Pid> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let marked = environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes());
        if marked
            && id != own
            && let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw)
        {
            found.push(pid);
        }
    }
    found
}

/// Sends a signal to a child that was not started as a [`Process`].
pub fn send(child: &Child, signal: Signal) {
    // It may have ended; then there is nobody to signal.
    let _ = kill_process(Pid::from_child(child), signal);
}

/// Stops processes and waits until none of them moves. `list` is asked again until it names none that is new: what was not
/// stopped yet may have started others.
///
/// # Panics
/// When one does not stop.
pub fn freeze(list: impl Fn() -> Vec<Pid>) {
    let mut stopped = Vec::new();
    loop {
        let new: Vec<Pid> = list().into_iter().filter(|pid| !stopped.contains(pid)).collect();
        if new.is_empty() {
            return;
        }
        for &pid in &new {
            // It may end in between; then nothing of it moves.
            let _ = kill_process(pid, Signal::STOP);
        }
        for &pid in &new {
            poll(patience(), || stands_still(pid).then_some(())).expect("a stopped process stands still");
        }
        stopped.extend(new);
    }
}

/// Whether all threads of a process are stopped or gone.
fn stands_still(pid: Pid) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).into_iter().flatten().flatten();
    tasks.into_iter().all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).chars().next();
        matches!(state, None | Some('T' | 'Z' | 'X'))
    })
}

/// Kills what is left of a test.
pub fn kill_processes_of(directory: &Path) {
    for pid in processes_of(directory) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::TestDirectory;

    #[test]
    fn a_process_that_left_its_parent_is_found_and_killed() {
        let directory = TestDirectory::new("stray");
        let log = directory.join("log");
        let mut command = Command::new("setsid");
        command.args(["--fork", "sleep", "1000"]).env(TEST_VARIABLE, directory.path());
        let mut process = Process::spawn("setsid", command, &log);
        assert!(process.wait(patience()).is_some_and(|status| status.success()));
        let left = poll(patience(), || Some(processes_of(directory.path())).filter(|left| !left.is_empty()));
        assert_eq!(left.map(|left| left.len()), Some(1));
        kill_processes_of(directory.path());
        assert_eq!(poll(patience(), || processes_of(directory.path()).is_empty().then_some(())), Some(()));
    }
}
