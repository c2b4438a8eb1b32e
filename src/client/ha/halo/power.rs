//! `halo power`: through the manager, or with `-f` a fence agent that is run here.

use std::io::{BufRead, Read};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::options::Power;
use super::{failed, tell};
use crate::client::ha::act::{End, wait};
use crate::client::ha::api::{Api, ApiError, segment};
use crate::client::ha::options::PowerAction;
use crate::client::ha::text::{hosts, one_line};
use crate::client::ha::{Outcome, complain, say};
use crate::ha::command::Accepted;
use crate::ha::status::Status;
use crate::system::fence_path::AgentPath;

/// How long a fence agent may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a fence agent says after this many bytes is not read.
const MAX_OUTPUT: u64 = 64 << 10;
/// No password is longer.
const MAX_PASSWORD: u64 = 4096;

pub(super) async fn run(api: &Api, power: &Power) -> Outcome {
    let mut names = match hosts(&power.hosts) {
        Ok(names) => names,
        Err(error) => return Outcome::usage(&error),
    };
    if names.is_empty() {
        if power.action != PowerAction::Status || power.fence_agent.is_some() {
            tell(&format!("Must specify host names to perform action \"{}\".", power.action.word()));
            return Outcome::Failed;
        }
        match api.get::<Status>("/api/v1/ha/status").await {
            Ok(status) => names = status.hosts.iter().map(|host| host.id.to_string()).collect(),
            Err(error) => return failed(&error),
        }
    }
    let agent = match &power.fence_agent {
        None => None,
        Some(name) => match Agent::new(name, power) {
            Ok(agent) => Some(agent),
            Err(error) => return Outcome::usage(&error),
        },
    };
    let mut outcome = Outcome::Done;
    for name in &names {
        let result = match &agent {
            Some(agent) => agent.call(name, power.action).await,
            None => ask(api, name, power.action).await,
        };
        match (power.action, result) {
            (_, Err(Ended::NoManager(error))) => {
                complain(&format!("{error}; -f runs a fence agent without a manager"));
                return Outcome::Failed;
            }
            (PowerAction::Status, Ok(on)) => say(&format!("{name} is {}", if on { "on" } else { "off" })),
            (_, Ok(_)) => tell(&format!("{name} Fence: Success")),
            (PowerAction::Status, Err(Ended::Badly(error))) => {
                tell(&format!("Could not determine power status for {name}, {error}"));
                outcome = Outcome::Failed;
            }
            (_, Err(Ended::Badly(error))) => {
                tell(&format!("{name} Fence result: Failure: {error}"));
                outcome = Outcome::Failed;
            }
        }
    }
    outcome
}

enum Ended {
    NoManager(String),
    Badly(String),
}

fn badly(error: impl ToString) -> Ended {
    Ended::Badly(error.to_string())
}

/// Has the manager do it. Returns whether the host is on.
async fn ask(api: &Api, host: &str, action: PowerAction) -> Result<bool, Ended> {
    let path = format!("/api/v1/ha/hosts/{}/power", segment(host));
    let accepted: Accepted =
        api.post(&path, &json!({"action": action.word()})).await.map_err(|error| match error {
            ApiError::NoManager { .. } | ApiError::Forbidden { .. } => Ended::NoManager(error.to_string()),
            error => badly(error),
        })?;
    if let Some(id) = accepted.command {
        match wait(api, id, |_| {}).await.map_err(badly)? {
            End::Done(_) => {}
            End::Failed(reason) => return Err(badly(reason)),
        }
    }
    match action {
        PowerAction::On => Ok(true),
        PowerAction::Off => Ok(false),
        PowerAction::Status => {
            let status: Status = api.get("/api/v1/ha/status").await.map_err(badly)?;
            let known = status.hosts.into_iter().find(|known| known.id.as_str() == host);
            match known.and_then(|known| known.power) {
                Some(power) if power.said == "on" => Ok(true),
                Some(power) if power.said == "off" => Ok(false),
                Some(power) => Err(badly(one_line(&power.said))),
                None => Err(badly("its fence devices said nothing")),
            }
        }
    }
}

/// The password that was given, or with `-` the first line of standard input: what is on the command line can be seen.
fn secret(given: &str) -> Result<String, String> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().take(MAX_PASSWORD).read_line(&mut line);
    read.map_err(|error| format!("cannot read the password from standard input: {error}"))?;
    match line.trim_end_matches(['\r', '\n']) {
        "" => Err("there is no password on standard input".to_owned()),
        password => Ok(password.to_owned()),
    }
}

/// A fence agent as HALO calls it.
struct Agent {
    program: String,
    login: Option<(String, String)>,
}

impl Agent {
    fn new(name: &str, power: &Power) -> Result<Self, String> {
        match (name, &power.username, &power.password) {
            ("powerman", _, _) => Ok(Self { program: "fence_powerman".to_owned(), login: None }),
            ("redfish", Some(name), Some(password)) => {
                let login = Some((name.clone(), secret(password)?));
                Ok(Self { program: "fence_redfish".to_owned(), login })
            }
            ("redfish", _, _) => Err("-f redfish needs -l NAME and -p PASSWORD".to_owned()),
            (other, _, _) => Err(format!("unsupported fence agent {other}; there are: powerman, redfish")),
        }
    }

    /// The lines for its standard input (HALO a0fa0b9, fence-agents API).
    fn input(&self, host: &str, action: PowerAction) -> String {
        let action = action.word();
        match &self.login {
            None => format!("ipaddr=localhost\naction={action}\nplug={host}\n"),
            Some((name, password)) => format!(
                "ipaddr={host}\naction={action}\nusername={name}\npassword={password}\nssl-insecure=true\n"
            ),
        }
    }

    /// Runs it. Returns whether the host is on: `status` ends with 0 if it is, and with 2 if it is off.
    async fn call(&self, host: &str, action: PowerAction) -> Result<bool, Ended> {
        let program = AgentPath::from_environment().find(&self.program).map_err(badly)?;
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child =
            command.spawn().map_err(|error| badly(format!("cannot run {}: {error}", self.program)))?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let input = self.input(host, action);
        let send = async {
            if let Some(mut stdin) = stdin {
                // If it does not read, its exit code tells.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let read = async {
            let mut said = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = (&mut stderr).take(MAX_OUTPUT).read_to_end(&mut said).await;
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            }
            said
        };
        let whole = async {
            let ((), said) = tokio::join!(send, read);
            (child.wait().await, said)
        };
        let (status, said) = tokio::time::timeout(PATIENCE, whole)
            .await
            .map_err(|_| badly(format!("{} did not end within {} s", self.program, PATIENCE.as_secs())))?;
        let status = status.map_err(badly)?;
        match (action, status.code()) {
            (PowerAction::Status | PowerAction::On, Some(0)) => Ok(true),
            (PowerAction::Status, Some(2)) | (PowerAction::Off, Some(0)) => Ok(false),
            _ => Err(badly(format!("{status}: {}", one_line(&String::from_utf8_lossy(&said))))),
        }
    }
}
