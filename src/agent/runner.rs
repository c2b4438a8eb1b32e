//! Runs operations: one child for each, with a time limit, until it ends; what it leaves behind is another's business
//! ([`super::leftovers`]).

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use super::exec_in;
use super::isolation::Isolation;
use super::leaders::Leaders;
use super::script::{self, Advice, Script};
use crate::ha::agent::Event;
use crate::ha::ids::{HostId, OrderId};
use crate::ha::ocf::{Outcome, environment as ocf};
use crate::ha::protocol::{Action, Operation};

/// Time to find out what is to be run, and how long it may take. What comes of it later is not run any more: whoever ordered
/// it may have given it up.
const PREPARATION: Duration = Duration::from_secs(15);
/// Time to end after SIGTERM, before everything is killed.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time to end after SIGKILL, before it counts as stuck.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// As the outcome of what was killed says.
const KILL: i32 = Signal::KILL.as_raw();
/// How much of standard error is kept, from its end.
const KEPT: usize = 16 * 1024;
/// Time for stragglers (`logger &`) to end by themselves.
const STRAGGLERS: Duration = Duration::from_millis(200);

/// Runs operations.
#[derive(Debug)]
pub struct Runner {
    /// Below which `resource.d` is.
    pub root: PathBuf,
    /// Where it runs.
    pub host: HostId,
    /// How operations are kept apart.
    pub isolation: Isolation,
    /// Who operations' own processes are.
    pub leaders: Leaders,
    /// What resource agents advise.
    pub advice: Advice,
    /// Operations that do not run yet, and whether they are to be killed.
    pub prepared: RefCell<HashMap<OrderId, bool>>,
    /// `HALO_TEST_ID` for resource agents of HALO's tests.
    pub test_id: Option<String>,
}

/// What every program of ours finds in its environment, whatever is in the agent's.
pub fn environment() -> impl Iterator<Item = (&'static str, OsString)> {
    const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/".into());
    [("PATH", OsStr::new(PATH).to_owned()), ("LC_ALL", "C".into()), ("HOME", home)].into_iter()
}

impl Runner {
    /// An operation will be run: from now on it can be forestalled.
    pub fn expect(&self, order: OrderId) {
        self.prepared.borrow_mut().insert(order, false);
    }

    /// An operation that does not run yet never will; false if it does.
    pub fn forestall(&self, order: OrderId) -> bool {
        self.prepared.borrow_mut().get_mut(&order).map(|unwanted| *unwanted = true).is_some()
    }

    /// Runs an operation to its end.
    pub async fn run(self: Rc<Self>, order: OrderId, operation: Operation) -> Event {
        let start = Instant::now();
        let prepared = tokio::time::timeout(PREPARATION, self.prepare(&operation)).await;
        let unwanted = self.prepared.borrow_mut().remove(&order).unwrap_or_default();
        let (outcome, reason, advised) = match prepared.unwrap_or_else(|_| Err(slow(&operation))) {
            // From here to its beginning nothing else happens.
            _ if unwanted => (Outcome::Signaled(KILL), "killed before it began".to_owned(), None),
            Ok((script, timeout, advised)) => {
                let (outcome, reason) = self.execute(order, &operation, &script, timeout).await;
                (outcome, reason, advised)
            }
            Err(why) => (Outcome::NotRun(why.clone()), why, None),
        };
        let resource_itself = operation.action == Action::Start && outcome.succeeded();
        let mut left_behind = self.isolation.is_populated(order).await;
        let patience = Instant::now() + STRAGGLERS;
        while left_behind && !resource_itself && outcome != Outcome::TimedOut && Instant::now() < patience {
            tokio::time::sleep(STRAGGLERS / 10).await;
            left_behind = self.isolation.is_populated(order).await;
        }
        // What enters it at this moment keeps it from being removed.
        left_behind = left_behind || !self.isolation.remove(order);
        if !left_behind {
            self.leaders.forget(order);
        }
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (took_ms, advised_interval_ms) = (millis(start.elapsed()), advised.map(millis));
        tracing::info!(%order, resource = %operation.resource.id, action = ?operation.action, %outcome, took_ms, reason);
        Event::Exited { order, outcome, reason, took_ms, left_behind, advised_interval_ms }
    }

    async fn prepare(&self, operation: &Operation) -> Result<(Script, Duration, Option<Duration>), String> {
        let (root, resource) = (self.root.clone(), operation.resource.clone());
        // The file system may hang; heartbeats must not.
        let found = tokio::task::spawn_blocking(move || script::find(&root, &resource)).await;
        let script = found.map_err(|error| error.to_string())??;
        let (timeout, advised) = self.advice.of(&script, operation).await;
        Ok((script, timeout, advised))
    }

    async fn execute(
        &self,
        order: OrderId,
        operation: &Operation,
        script: &Script,
        timeout: Duration,
    ) -> (Outcome, String) {
        let (mut child, mut errors) = match self.spawn(order, operation, script, timeout) {
            Ok(spawned) => spawned,
            Err(error) => return (Outcome::NotRun(error.to_string()), error.to_string()),
        };
        let mut tail = Tail::default();
        let deadline = tokio::time::Instant::now() + timeout;
        let ended = tokio::time::timeout_at(deadline, async {
            tokio::select! {
                status = child.wait() => return status,
                // Standard error may end long before the process does.
                () = tail.read(&mut errors) => {}
            }
            child.wait().await
        });
        let ended = ended.await.ok();
        let outcome = match ended {
            Some(Ok(status)) => outcome(status),
            Some(Err(error)) => Outcome::NotRun(error.to_string()),
            None => {
                self.stop(order, &mut child).await;
                Outcome::TimedOut
            }
        };
        tail.rest(&errors);
        let said = String::from_utf8_lossy(&tail.kept).into_owned();
        if outcome == Outcome::Exited(i32::from(exec_in::FAILED_CODE))
            && let Some(why) = said.lines().last().and_then(|line| line.strip_prefix(exec_in::FAILED))
        {
            return (Outcome::NotRun(why.to_owned()), why.to_owned());
        }
        (outcome, ocf::exit_reason(&said))
    }

    fn spawn(
        &self,
        order: OrderId,
        operation: &Operation,
        script: &Script,
        timeout: Duration,
    ) -> std::io::Result<(Child, pipe::Receiver)> {
        let group = self.isolation.prepare(order)?;
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let mut command = Command::new("/proc/self/exe");
        let changes = matches!(operation.action, Action::Start | Action::Stop);
        let leader = if changes { self.leaders.path(order).into_os_string() } else { "-".into() };
        command.arg("exec-in").arg(group).arg(leader).arg(&script.path).arg(ocf::argument(operation.action));
        let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        command
            .env_clear()
            .envs(environment())
            .envs(ocf::variables(&self.root, &self.host, operation, timeout));
        command.envs(self.isolation.variables(order));
        if let Some(id) = &self.test_id {
            command.env("HALO_TEST_ID", id);
        }
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(writer));
        // A restart of this agent harms nothing that it started.
        command.kill_on_drop(false);
        let child = command.spawn()?;
        Ok((child, pipe::Receiver::from_owned_fd(reader)?))
    }

    /// Its time is over.
    async fn stop(&self, order: OrderId, child: &mut Child) {
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // Its own session's group: `exec-in` made one.
            let _ = kill_process_group(pid, Signal::TERM);
        }
        if tokio::time::timeout(PATIENCE, child.wait()).await.is_ok() {
            return;
        }
        self.isolation.kill(order).await;
        let _ = child.start_kill();
        if tokio::time::timeout(LAST_PATIENCE, child.wait()).await.is_err() {
            tracing::warn!(%order, "does not die of SIGKILL: it hangs in the kernel");
        }
    }
}

fn slow(operation: &Operation) -> String {
    format!("the file of {} could not be looked at within {PREPARATION:?}", operation.resource.kind)
}

fn outcome(status: ExitStatus) -> Outcome {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Outcome::Exited(code),
        (None, Some(signal)) => Outcome::Signaled(signal),
        (None, None) => Outcome::NotRun(format!("unknown status {status}")),
    }
}

/// The end of what was written.
#[derive(Debug, Default)]
struct Tail {
    kept: Vec<u8>,
}

impl Tail {
    /// Reads until nobody can write any more.
    async fn read(&mut self, from: &mut pipe::Receiver) {
        while from.readable().await.is_ok() {
            if self.available(from) {
                return;
            }
            // Who writes without end is not the only one who wants to run.
            tokio::task::yield_now().await;
        }
    }

    /// What is there now, without waiting for those who still could write.
    fn rest(&mut self, from: &pipe::Receiver) {
        self.available(from);
    }

    /// Takes one portion; true at the end.
    fn available(&mut self, from: &pipe::Receiver) -> bool {
        let mut bytes = [0; KEPT];
        // More than this at once would be somebody who writes without end.
        for _ in 0..64 {
            match from.try_read(&mut bytes) {
                Ok(0) => return true,
                Ok(read) => {
                    self.kept.extend_from_slice(&bytes[..read]);
                    let surplus = self.kept.len().saturating_sub(KEPT);
                    self.kept.drain(..surplus);
                }
                Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
        false
    }
}
