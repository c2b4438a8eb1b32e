//! Movers: a copytool that knows nothing of us, under the `LD_PRELOAD` library.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};

use crate::journal::{Step, read_journal};
use crate::process::{Process, TEST_VARIABLE, freeze, processes_of, processes_with};
use crate::testbed::Testbed;
use crate::wait::{patience, poll};

/// How a mover is started.
#[derive(Debug, Clone)]
pub struct MoverSettings {
    id: String,
    mount: usize,
    archive: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(String, OsString)>,
    without_library: bool,
    prefix: Vec<String>,
    journal: Option<PathBuf>,
    program: PathBuf,
}

impl MoverSettings {
    /// A mover with this id on mount number `mount`, with an archive directory that all movers share.
    pub fn new(bed: &Testbed, id: &str, mount: usize) -> Self {
        Self {
            id: id.to_owned(),
            mount,
            archive: bed.directory().join("archive"),
            arguments: Vec::new(),
            variables: Vec::new(),
            without_library: false,
            prefix: Vec::new(),
            journal: None,
            program: bed.programs().path("lustre-sim-copytool"),
        }
    }

    /// Another copytool, which takes `--hsm-root DIR`, `--steps FILE` and a mount as well.
    #[must_use]
    pub fn program(mut self, program: &Path) -> Self {
        program.clone_into(&mut self.program);
        self
    }

    /// Serves only these archive ids.
    #[must_use]
    pub fn archives(mut self, ids: &[u32]) -> Self {
        for id in ids {
            self = self.argument("--archive").argument(id.to_string());
        }
        self
    }

    /// One more argument of the copytool.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// One more variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// An archive directory of its own, so that the copies show who made them.
    #[must_use]
    pub fn own_archive(mut self, bed: &Testbed) -> Self {
        self.archive = bed.directory().join(format!("archive-{}", self.id));
        self
    }

    /// Each action waits, once it has begun, as long as the gate is closed for it.
    #[must_use]
    pub fn behind(self, gate: &Gate) -> Self {
        let path = gate.path().to_owned();
        self.argument("--hold").argument(path)
    }

    /// Registers with Lustre itself, as a copytool does where there is no coordinator.
    #[must_use]
    pub fn without_library(mut self) -> Self {
        self.without_library = true;
        self
    }

    /// Started by another command, such as `nsenter`.
    #[must_use]
    pub fn prefix(mut self, command: Vec<String>) -> Self {
        self.prefix = command;
        self
    }

    /// Writes what it does to this file, which it may share with other movers: the order of lines is the order of things.
    #[must_use]
    pub fn journal(mut self, path: &Path) -> Self {
        self.journal = Some(path.to_owned());
        self
    }

    fn journal_path(&self, bed: &Testbed) -> PathBuf {
        self.journal.clone().unwrap_or_else(|| bed.directory().join(format!("{}.journal", self.id)))
    }

    /// Starts it.
    pub fn start<'bed>(&self, bed: &'bed Testbed) -> Mover<'bed> {
        std::fs::create_dir_all(&self.archive).expect("an archive directory can be made");
        Mover { bed, settings: self.clone(), process: self.spawn(bed) }
    }

    fn spawn(&self, bed: &Testbed) -> Process {
        let copytool = &self.program;
        let mut command = match self.prefix.split_first() {
            None => Command::new(copytool),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(copytool);
                command
            }
        };
        command
            .arg("--hsm-root")
            .arg(&self.archive)
            .arg("--steps")
            .arg(self.journal_path(bed))
            .args(&self.arguments)
            .arg(bed.mount(self.mount))
            .env("LD_LIBRARY_PATH", bed.liblustreapi().parent().expect("a library is in a directory"))
            .env("COORDINATOOL_CONF", bed.configuration())
            .env("COORDINATOOL_CLIENT_ID", &self.id)
            .env("COORDINATOOL_VERBOSE", "debug")
            .env(TEST_VARIABLE, bed.directory())
            .env("RUST_BACKTRACE", "1");
        let library = bed.programs().path("libcoordinatool_client.so");
        bed.set_preload(&mut command, (!self.without_library).then_some(library.as_path()));
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        Process::spawn(&self.id, command, &bed.log_path(&self.id))
    }
}

/// A running mover, killed when this goes out of scope.
#[derive(Debug)]
pub struct Mover<'bed> {
    bed: &'bed Testbed,
    settings: MoverSettings,
    process: Process,
}

impl Mover<'_> {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.settings.id
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
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
            None => self.bed.fail(&format!("the mover {} does not end", self.settings.id)),
        }
    }

    /// SIGTERM, as `systemctl stop` does.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.terminate(patience())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Stops all of its processes (SIGSTOP), children that carry out actions too, and waits until none of them moves.
    pub fn freeze(&mut self) {
        freeze(|| self.processes());
    }

    /// SIGKILL for all of its processes, as the service manager does.
    pub fn kill_all(&mut self) {
        for pid in self.processes() {
            let _ = kill_process(pid, Signal::KILL);
        }
        self.process.kill();
        // Children are reaped by whoever adopted them.
        poll(patience(), || self.processes().is_empty().then_some(())).expect("killed processes end");
    }

    fn processes(&self) -> Vec<Pid> {
        let mark = format!("COORDINATOOL_CLIENT_ID={}", self.settings.id);
        let same_test = processes_of(self.bed.directory());
        processes_with(&mark).into_iter().filter(|pid| same_test.contains(pid)).collect()
    }

    /// Starts it again with the same id and options.
    pub fn start_again(&mut self) {
        self.process = self.settings.spawn(self.bed);
    }

    /// SIGTERM and a new start.
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// What the copytool did so far, over all its lives.
    pub fn journal(&self) -> Vec<Step> {
        read_journal(&self.settings.journal_path(self.bed))
    }

    /// Its log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its archive directory.
    pub fn archive(&self) -> &Path {
        &self.settings.archive
    }

    /// How many copies are in its archive directory.
    pub fn copies(&self) -> usize {
        copies(&self.settings.archive)
    }
}

/// How many regular files are below a directory, leftovers of unfinished copies not counted.
pub fn copies(directory: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            count += copies(&entry.path());
        } else if kind.is_file() && !entry.file_name().to_string_lossy().ends_with("_tmp") {
            count += 1;
        }
    }
    count
}

/// Holds back what copytools have begun: all of it, or the requests with certain data.
#[derive(Debug)]
pub struct Gate {
    path: PathBuf,
}

impl Gate {
    /// A gate that is open for everything.
    pub fn open_for_all(bed: &Testbed, name: &str) -> Self {
        let path = bed.directory().join(format!("gate-{name}"));
        std::fs::create_dir_all(&path).expect("a gate can be made");
        Self { path }
    }

    /// A gate that is closed for everything.
    pub fn closed_for_all(bed: &Testbed, name: &str) -> Self {
        let gate = Self::open_for_all(bed, name);
        gate.close();
        gate
    }

    /// Its directory, which the copytool watches.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Holds back everything.
    pub fn close(&self) {
        self.close_for("all");
    }

    /// Lets everything pass that is not held back by its data.
    pub fn open(&self) {
        self.open_for("all");
    }

    /// Holds back requests with this data.
    pub fn close_for(&self, data: &str) {
        std::fs::write(self.path.join(data), "").expect("a gate can be closed");
    }

    /// Lets requests with this data pass.
    pub fn open_for(&self, data: &str) {
        std::fs::remove_file(self.path.join(data)).expect("a closed gate can be opened");
    }
}
