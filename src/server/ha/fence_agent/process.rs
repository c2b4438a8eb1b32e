//! One run of a program: told on standard input, read without limit but kept within one, and killed with all its children.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// In the environment of every program that is run here and of its children: finds those that left their process group.
const CALL_VARIABLE: &str = "COORDINATOOL_FENCE_CALL";
/// What is left in the pipes is read for this long once the program has ended; a child that escaped may hold them open.
const DRAIN: Duration = Duration::from_millis(200);
/// Kills the program should we be killed first. It is part of coreutils.
const BACKSTOP: [&str; 2] = ["/usr/bin/timeout", "/bin/timeout"];

/// What to run.
pub struct Program<'a> {
    pub path: &'a Path,
    pub arguments: &'a [OsString],
    /// Added to our own environment.
    pub environment: &'a [(&'static str, OsString)],
    /// Given on standard input.
    pub input: Vec<u8>,
    /// How many bytes of each output are kept.
    pub kept: usize,
    /// It changes something, so that nothing of it may be left: children that left its process group are looked for even
    /// if there is no sign of any.
    pub acts: bool,
}

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    pub ended: Ended,
    pub output: Tail,
    pub errors: Tail,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Exited(i32),
    Signaled(i32),
}

/// The end of an output.
#[derive(Debug)]
pub struct Tail {
    bytes: VecDeque<u8>,
    kept: usize,
    cut: bool,
}

impl Tail {
    pub fn new(kept: usize) -> Self {
        Self { bytes: VecDeque::new(), kept, cut: false }
    }

    pub fn add(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(self.kept)..];
        let old = (self.bytes.len() + new.len()).saturating_sub(self.kept);
        self.cut |= old > 0 || new.len() < bytes.len();
        self.bytes.drain(..old);
        self.bytes.extend(new);
    }

    /// Whether something is missing before it.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    pub fn text(&self) -> String {
        let (one, other) = self.bytes.as_slices();
        String::from_utf8_lossy(&[one, other].concat()).into_owned()
    }

    async fn fill(&mut self, mut from: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; 16 << 10];
        // An output that cannot be read any more has ended.
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            self.add(&buffer[..read]);
        }
    }
}

/// Runs a program to its end, and kills what it leaves behind. Dropping the future kills everything at once. `limit` is for
/// the case that this process is killed: the program follows at most two seconds after it. The error says why it cannot be
/// run.
pub async fn run(program: Program<'_>, limit: Duration) -> Result<Run, String> {
    let Program { path, arguments, environment, input, kept, acts } = program;
    let call = next_call();
    let mut command = command(path, limit);
    command
        .args(arguments)
        .current_dir("/")
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("LANG", "C")
        .env("LC_ALL", "C")
        .env(CALL_VARIABLE, &call)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    // These are between us and the service manager.
    for ours in
        ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]
    {
        command.env_remove(ours);
    }
    let mut child = command.spawn().map_err(|error| format!("cannot run {}: {error}", path.display()))?;
    let mut family =
        Family { group: child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)), call: Some(call) };
    let (mut output, mut errors) = (Tail::new(kept), Tail::new(kept));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let status = {
        let tell = async {
            if let Some(mut stdin) = stdin {
                // A program need not read what it is told.
                let _ = stdin.write_all(&input).await;
            }
        };
        let read_output = async {
            if let Some(stdout) = stdout {
                output.fill(stdout).await;
            }
        };
        let read_errors = async {
            if let Some(stderr) = stderr {
                errors.fill(stderr).await;
            }
        };
        let pump = async { tokio::join!(tell, read_output, read_errors) };
        tokio::pin!(pump);
        let (status, closed) = tokio::select! {
            status = child.wait() => {
                family.kill_group();
                (status, tokio::time::timeout(DRAIN, &mut pump).await.is_ok())
            }
            _ = &mut pump => (child.wait().await, true),
        };
        if closed && !acts {
            // Nobody is left who holds the pipes.
            family.call = None;
        }
        status.map_err(|error| format!("cannot wait for {}: {error}", path.display()))?
    };
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, signal) => Ended::Signaled(signal.unwrap_or_default()),
    };
    Ok(Run { ended, output, errors })
}

fn command(path: &Path, limit: Duration) -> Command {
    match BACKSTOP.into_iter().find(|backstop| Path::new(backstop).exists()) {
        Some(backstop) => {
            let mut command = Command::new(backstop);
            let seconds = (limit.as_secs() + 1 + u64::from(limit.subsec_nanos() > 0)).to_string();
            command.args(["-s", "KILL", &seconds]).arg(path);
            command
        }
        None => Command::new(path),
    }
}

fn next_call() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A process with all its descendants, killed when this is dropped.
struct Family {
    group: Option<Pid>,
    /// To look for members that left the group.
    call: Option<String>,
}

impl Family {
    fn kill_group(&self) {
        if let Some(group) = self.group {
            // Mostly nobody is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        self.kill_group();
        if let Some(call) = self.call.take() {
            // On a machine with many processes this takes a while.
            let marked = call.clone();
            let thread = std::thread::Builder::new().name("fence-kill".to_owned());
            if thread.spawn(move || kill_marked(&marked)).is_err() {
                kill_marked(&call);
            }
        }
    }
}

/// Kills every process that has this call in its environment.
fn kill_marked(call: &str) {
    let mark = format!("{CALL_VARIABLE}={call}");
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let id = process.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(id) = id.and_then(Pid::from_raw) else { continue };
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        if environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes()) {
            let _ = kill_process(id, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_what_came_last() {
        for (parts, text, cut) in [
            (&[""][..], "", false),
            (&["abc"], "abc", false),
            (&["abcde"], "abcde", false),
            (&["ab", "cde"], "abcde", false),
            (&["ab", "cdef"], "bcdef", true),
            (&["abcdefgh"], "defgh", true),
            (&["abcde", "fghijklm"], "ijklm", true),
        ] {
            let mut tail = Tail::new(5);
            parts.iter().for_each(|part| tail.add(part.as_bytes()));
            assert_eq!((tail.text().as_str(), tail.is_cut()), (text, cut), "{parts:?}");
        }
    }
}
