//! The manager of a cluster, and what can be asked of it. A second one is only for tests of that.

use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::http::{self, Answer};
use super::status::{self, Event, Status};
use crate::process::{Process, TEST_VARIABLE, read_log};
use crate::wait::{patience, poll};

/// The manager of a cluster that has only one.
pub(super) const MANAGER: &str = "manager";

impl Cluster {
    /// Starts the manager and waits until its API answers.
    pub fn start_manager(&mut self) {
        self.start_manager_as(MANAGER);
    }

    /// Starts another manager, with a socket and state of its own.
    pub fn start_manager_as(&mut self, name: &str) {
        let command = self.manager_command(name);
        let process = Process::spawn(name, command, &self.manager_log_as(name));
        self.managers.insert(name.to_owned(), process);
        let ready = poll(patience(), || {
            let ended = self.managers.get_mut(name).and_then(Process::status);
            assert!(ended.is_none(), "{name} ended: {}", read_log(&self.manager_log_as(name)));
            self.ask_as(name, "GET", "/api/v1/ha/status", "").ok()
        });
        assert!(ready.is_some(), "{name} does not answer: {}", read_log(&self.manager_log_as(name)));
    }

    /// How a manager is started.
    pub fn manager_command(&self, name: &str) -> Command {
        let mut command = self.program_by("coordinatool", &self.shape().manager_prefix);
        command.args(["ha-manager", "-v", "-v", "--config"]).arg(self.configuration());
        command.arg("--socket").arg(self.socket_as(name));
        command.arg("--state-dir").arg(self.manager_state(name));
        command.arg("--statefile").arg(self.directory().join(format!("{name}.halo")));
        if self.shape().manage {
            command.arg("--manage-resources");
        }
        command.args(self.trust()).args(&self.shape().manager_arguments);
        // A test may have fence agents of its own.
        let own = self.directory().join("agents");
        command.env("COORDINATOOL_FENCE_PATH", format!("{}:{}", own.display(), self.fence_path().display()));
        command.env(TEST_VARIABLE, self.directory()).env("RUST_BACKTRACE", "1");
        command
    }

    /// Installs the tests' fence agent under another name, for this cluster only.
    pub fn install_fence_agent(&self, name: &str) {
        let own = self.directory().join("agents");
        let installed = std::fs::create_dir_all(&own)
            .and_then(|()| std::fs::copy(self.fence_path().join("fence_test"), own.join(name)));
        installed.unwrap_or_else(|error| panic!("cannot install {name}: {error}"));
    }

    /// Takes it away again.
    pub fn remove_fence_agent(&self, name: &str) {
        let path = self.directory().join("agents").join(name);
        std::fs::remove_file(&path).unwrap_or_else(|error| panic!("cannot remove {name}: {error}"));
    }

    /// SIGKILL.
    pub fn kill_manager(&mut self) {
        self.manager(MANAGER).kill();
    }

    /// SIGTERM; it must end with success.
    pub fn stop_manager(&mut self) {
        let status = self.manager(MANAGER).terminate(patience());
        assert!(status.success(), "the manager ended with {status}");
    }

    /// Sends it a signal.
    pub fn signal_manager(&mut self, signal: Signal) {
        self.manager(MANAGER).signal(signal);
    }

    /// How it ended, if it did.
    pub fn manager_ended(&mut self) -> Option<ExitStatus> {
        self.manager(MANAGER).status()
    }

    /// SIGKILL, and a new start.
    pub fn crash_manager(&mut self) {
        self.kill_manager();
        self.start_manager();
    }

    fn manager(&mut self, name: &str) -> &mut Process {
        self.managers.get_mut(name).unwrap_or_else(|| panic!("{name} was never started"))
    }

    /// Where its log is.
    pub fn manager_log(&self) -> PathBuf {
        self.manager_log_as(MANAGER)
    }

    /// Where the log of another one is.
    pub fn manager_log_as(&self, name: &str) -> PathBuf {
        self.directory().join(format!("{name}.log"))
    }

    /// Where its API is.
    pub fn socket(&self) -> PathBuf {
        self.socket_as(MANAGER)
    }

    /// Where the API of another one is.
    pub fn socket_as(&self, name: &str) -> PathBuf {
        self.directory().join(format!("{name}.sock"))
    }

    /// Directory of a manager's state.
    pub fn manager_state(&self, name: &str) -> PathBuf {
        self.directory().join("state").join(name)
    }

    /// Asks a manager over HTTP.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ask_as(&self, name: &str, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
        http::ask(&self.socket_as(name), method, path, body)
    }

    /// Asks the manager over HTTP.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask_as(MANAGER, method, path, body)
            .unwrap_or_else(|error| self.fail(&format!("{method} {path}: {error}")))
    }

    /// The status, if the manager answers.
    pub fn try_status(&self, name: &str) -> Option<Status> {
        let answer = self.ask_as(name, "GET", "/api/v1/ha/status", "").ok()?;
        (answer.code == 200).then(|| answer.response())
    }

    /// The status.
    pub fn status(&self) -> Status {
        self.ask("GET", "/api/v1/ha/status", "").response()
    }

    /// All events, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.ask("GET", "/api/v1/ha/events", "").response()
    }

    /// Waits until something has happened to an object: what is said about it.
    pub fn wait_event(&self, event: &str, object: &str) -> String {
        let found = poll(patience(), || {
            self.events().into_iter().find(|one| one.event == event && one.object == object)
        });
        match found {
            Some(event) => event.comment.unwrap_or_default(),
            None => self.fail(&format!("{event} of {object} never happened")),
        }
    }

    /// How often something happened to an object.
    pub fn happened(&self, event: &str, object: &str) -> usize {
        self.events().iter().filter(|one| one.event == event && one.object == object).count()
    }

    /// Gives a command, for instance `order("hosts/h0/fence", json!({"force": true}))`: its number, or the code and the
    /// errors.
    ///
    /// # Errors
    /// When it is refused.
    pub fn order(&self, what: &str, body: &Value) -> Result<u64, (u16, String)> {
        let answer = self.ask("POST", &format!("/api/v1/ha/{what}"), &body.to_string());
        match answer.code {
            200 | 202 => Ok(answer.json()["response"]["command"].as_u64().unwrap_or_default()),
            code => Err((code, answer.errors())),
        }
    }

    /// Gives a command and waits for its end: what came of it, or why it was refused or failed.
    ///
    /// # Errors
    /// When it is refused or fails.
    pub fn command(&self, what: &str) -> Result<String, String> {
        self.command_with(what, &json!({}))
    }

    /// The same with a body.
    ///
    /// # Errors
    /// When it is refused or fails.
    pub fn command_with(&self, what: &str, body: &Value) -> Result<String, String> {
        let id = self.order(what, body).map_err(|(_, errors)| errors)?;
        let ended = poll(patience(), || {
            let answer = self.ask("GET", &format!("/api/v1/ha/commands/{id}?wait=5"), "");
            let command: status::Command = answer.response();
            (command.progress["state"] != "running").then_some(command.progress)
        });
        match ended {
            Some(mut end) if end["state"] == "done" => Ok(end.remove("result").unwrap_or_default()),
            Some(mut end) => Err(end.remove("reason").unwrap_or_default()),
            None => self.fail(&format!("{what} does not end")),
        }
    }

    /// Runs `coordinatool-client ha` with these arguments.
    pub fn client(&self, arguments: &[&str]) -> Output {
        self.run(self.client_command(arguments))
    }

    /// `coordinatool-client ha` with these arguments, to be run.
    pub fn client_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program("coordinatool-client"));
        command.arg("ha").args(arguments).env("COORDINATOOL_HA_SOCKET", self.socket());
        command.env(TEST_VARIABLE, self.directory()).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// `halo` with these arguments, to be run.
    pub fn halo_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program("halo"));
        command.arg("--socket").arg(self.socket()).args(arguments);
        command.env(TEST_VARIABLE, self.directory()).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Runs `halo` with these arguments.
    pub fn halo(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.program("halo"));
        command.args(["--socket"]).arg(self.socket()).args(arguments);
        self.run(command)
    }

    fn run(&self, mut command: Command) -> Output {
        command.env(TEST_VARIABLE, self.directory()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
    }
}
