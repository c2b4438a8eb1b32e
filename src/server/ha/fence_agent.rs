//! Calls of fence agents (fence-agents API): parameters on standard input, never anywhere else; a time limit; bounded output.

mod identify;
mod input;
mod process;
mod stand_in;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::ha::config::FenceDevice;
use crate::ha::fencing::{DeviceAction, DeviceAnswer, Metadata, Unfencing};
use crate::ha::ids::HostId;
use crate::system::fence_path::AgentPath;

use input::Values;
use process::{Ended, Program, Run};

/// Words for people are cut here.
const WORDS: usize = 200;
/// How much of an agent's output is kept, from its end.
const KEPT: usize = 4096;
const METADATA_KEPT: usize = 1 << 20;
/// Time to tell meta-data, which no agent needs its device for.
const METADATA_TIME: Duration = Duration::from_secs(10);

pub use stand_in::stand_in_for_ipmitool;

/// Calls a device for a host and gives its answer within `timeout`; then everything that the call has started is killed, and
/// also when the future is dropped. Should this process be killed, the fence agent follows at most
/// [`AFTERLIFE`](crate::ha::fencing::PowerChange::AFTERLIFE) after `timeout`.
///
/// Exit codes (fence-agents API): `status` 0 is on, 2 is off, anything else a failure; of other actions 0 is done. A failure
/// is told with the last line that the agent wrote, without secrets.
pub async fn call(
    path: &AgentPath,
    device: &FenceDevice,
    host: &HostId,
    action: DeviceAction,
    timeout: Duration,
) -> DeviceAnswer {
    let answer = tokio::time::timeout(timeout, call_without_limit(path, device, host, action, timeout));
    let answer = answer.await.unwrap_or(DeviceAnswer::TimedOut);
    tracing::debug!(device = device.name, %host, ?action, ?answer, "fence device called");
    answer
}

async fn call_without_limit(
    path: &AgentPath,
    device: &FenceDevice,
    host: &HostId,
    action: DeviceAction,
    timeout: Duration,
) -> DeviceAnswer {
    let prepared = {
        // Files may hang; the caller's thread must not.
        let (path, device) = (path.clone(), device.clone());
        tokio::task::spawn_blocking(move || {
            Ok::<_, String>((path.find(&device.agent)?, Values::read(&device)?))
        })
    };
    let (program, values) = match prepared.await {
        Ok(Ok(prepared)) => prepared,
        // Nobody knows whether it would have to let the host in. If it would, what is started there fails by itself, which
        // is better than to keep a host out because a power switch is not well.
        Ok(Err(_)) if action == DeviceAction::Unfence => return DeviceAnswer::Unsupported,
        Ok(Err(reason)) => return DeviceAnswer::Failed(reason),
        Err(error) => return DeviceAnswer::Failed(error.to_string()),
    };
    let stand_in = match stand_in::prepare(path, device, &values) {
        Ok(stand_in) => stand_in,
        Err(error) => return DeviceAnswer::Failed(format!("the password cannot be handed over: {error}")),
    };
    let agent = Agent { program, values, stand_in, host, timeout };
    match action {
        DeviceAction::Status => match agent.run("status").await {
            Ok(Run { ended: Ended::Exited(0), .. }) => DeviceAnswer::On,
            Ok(Run { ended: Ended::Exited(2), .. }) => DeviceAnswer::Off,
            run => agent.failed(run),
        },
        DeviceAction::Off => agent.act("off").await,
        DeviceAction::On => agent.act("on").await,
        DeviceAction::Monitor => agent.act("monitor").await,
        DeviceAction::Identify => identify::identify(path, device, &agent.values, timeout).await,
        DeviceAction::Unfence => agent.unfence().await,
    }
}

/// A fence agent that is ready to be called.
struct Agent<'a> {
    program: PathBuf,
    values: Values,
    stand_in: Option<stand_in::StandIn>,
    host: &'a HostId,
    timeout: Duration,
}

impl Agent<'_> {
    async fn run(&self, action: &str) -> Result<Run, String> {
        let nothing = (BTreeMap::new(), Vec::new());
        let (instead, environment) = self
            .stand_in
            .as_ref()
            .map_or((&nothing.0, &nothing.1), |stand_in| (&stand_in.instead, &stand_in.environment));
        let input = self.values.lines(self.host, action, instead);
        let acts = matches!(action, "off" | "on");
        self.process(input, KEPT, acts, environment).await
    }

    async fn process(
        &self,
        input: Vec<u8>,
        kept: usize,
        acts: bool,
        environment: &[(&'static str, OsString)],
    ) -> Result<Run, String> {
        let program = Program { path: &self.program, arguments: &[], environment, input, kept, acts };
        process::run(program, self.timeout).await
    }

    async fn act(&self, action: &str) -> DeviceAnswer {
        match self.run(action).await {
            Ok(Run { ended: Ended::Exited(0), .. }) => DeviceAnswer::Done,
            run => self.failed(run),
        }
    }

    /// An agent that does not tell its meta-data asks for nothing.
    async fn unfence(&self) -> DeviceAnswer {
        let input = b"action=metadata\n".to_vec();
        let asked = self.process(input, METADATA_KEPT, false, &[]);
        let text = match tokio::time::timeout(METADATA_TIME.min(self.timeout / 2), asked).await {
            Ok(Ok(Run { ended: Ended::Exited(0), output, .. })) => output.text(),
            _ => return DeviceAnswer::Unsupported,
        };
        match Metadata::parse(&text).map(|metadata| metadata.unfencing()) {
            Ok(Unfencing::Needed) => self.act("on").await,
            Ok(Unfencing::NeededOnTarget) => DeviceAnswer::Failed(
                "it must be called on the host itself to let it in, which is not supported".to_owned(),
            ),
            Ok(Unfencing::NotNeeded) | Err(_) => DeviceAnswer::Unsupported,
        }
    }

    fn failed(&self, run: Result<Run, String>) -> DeviceAnswer {
        DeviceAnswer::Failed(match run {
            Ok(run) => failure(&run, &self.values),
            Err(reason) => reason,
        })
    }
}

/// What a failed run says, without secrets.
fn failure(run: &Run, values: &Values) -> String {
    let last = |output: &process::Tail| {
        let text = values.without_secrets(output);
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
        let printable = |letter: char| if letter.is_control() { ' ' } else { letter };
        Some(line.chars().map(printable).take(WORDS).collect::<String>())
    };
    let ended = match run.ended {
        Ended::Exited(code) => format!("exit code {code}"),
        Ended::Signaled(signal) => format!("killed by signal {signal}"),
    };
    match last(&run.errors).or_else(|| last(&run.output)) {
        Some(words) => format!("{ended}: {words}"),
        None => ended,
    }
}
