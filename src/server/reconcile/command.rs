//! A command whose output is a listing: run without a shell, for a bounded time, its output never held as a whole.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};

/// Most bytes of output: ten million requests.
const MOST_OUTPUT: u64 = 4 << 30;
/// What is kept of what it says on standard error.
const MOST_ERRORS: usize = 2048;
const PART: usize = 64 << 10;

/// Why a command gave no listing.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no program in it.
    #[error("the command is empty")]
    Empty,
    /// It cannot be started.
    #[error("cannot run `{program}`: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its output cannot be read.
    #[error("cannot read what the command prints: {0}")]
    Read(io::Error),
    /// It took too long and was killed.
    #[error("the command did not end within {} s and was killed", .0.as_secs_f64())]
    Timeout(Duration),
    /// It printed too much and was killed.
    #[error("the command printed more than {MOST_OUTPUT} bytes and was killed")]
    TooMuch,
    /// It failed.
    #[error("the command failed: {status}{}", said(.errors))]
    Failed {
        /// How.
        status: ExitStatus,
        /// What it said.
        errors: String,
    },
}

fn said(errors: &str) -> String {
    let errors = errors.trim();
    if errors.is_empty() { String::new() } else { format!(": {errors}") }
}

/// Runs a command and hands over what it prints, part by part; each part is waited for. A command that does not succeed has
/// printed nothing that can be relied on.
pub async fn run(argv: &[String], limit: Duration, take: impl AsyncFnMut(&[u8])) -> Result<(), CommandError> {
    let (program, arguments) = argv.split_first().ok_or(CommandError::Empty)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // In a group of its own, so that what it started ends with it.
    let child = command.process_group(0).kill_on_drop(true).spawn();
    let child = child.map_err(|source| CommandError::Start { program: program.clone(), source })?;
    let mut group = Group(child);
    match timeout_at(Instant::now() + limit, output(&mut group.0, take)).await {
        Ok(result) => result,
        Err(_) => Err(CommandError::Timeout(limit)),
    }
}

async fn output(child: &mut Child, take: impl AsyncFnMut(&[u8])) -> Result<(), CommandError> {
    let closed = || CommandError::Read(io::ErrorKind::BrokenPipe.into());
    let out = child.stdout.take().ok_or_else(closed)?;
    let mut errors = child.stderr.take().ok_or_else(closed)?;
    let mut kept = Vec::new();
    tokio::try_join!(parts(out, take), async {
        let mut part = [0; 1024];
        // It is read to the end, or the command might wait for ever to say more.
        while let Ok(len @ 1..) = errors.read(&mut part).await {
            kept.extend_from_slice(&part[..len.min(MOST_ERRORS.saturating_sub(kept.len()))]);
        }
        Ok(())
    })?;
    let status = child.wait().await.map_err(CommandError::Read)?;
    if status.success() {
        Ok(())
    } else {
        Err(CommandError::Failed { status, errors: String::from_utf8_lossy(&kept).into_owned() })
    }
}

async fn parts(
    mut out: impl AsyncRead + Unpin,
    mut take: impl AsyncFnMut(&[u8]),
) -> Result<(), CommandError> {
    let mut part = vec![0; PART];
    let mut total = 0;
    loop {
        match out.read(&mut part).await.map_err(CommandError::Read)? {
            0 => return Ok(()),
            len => {
                total += len as u64;
                if total > MOST_OUTPUT {
                    return Err(CommandError::TooMuch);
                }
                take(&part[..len]).await;
            }
        }
    }
}

/// Ends with everything that is in its process group.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // The id is free for others once the child was waited for.
        let id = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(id) = id {
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    async fn run_for(script: &str, limit: Duration) -> (Vec<u8>, Result<(), CommandError>) {
        let mut all = Vec::new();
        let result = run(&sh(script), limit, async |part: &[u8]| all.extend_from_slice(part)).await;
        (all, result)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn output_comes_in_parts_and_a_failure_says_why() {
        let (all, result) = run_for("seq 1 100000", LONG).await;
        assert!(result.is_ok());
        assert_eq!(all.len(), 588_895);
        let (all, result) = run_for("echo some; echo 'no route to host' >&2; exit 255", LONG).await;
        assert_eq!(all, b"some\n");
        let text = result.unwrap_err().to_string();
        assert!(text.contains("255") && text.contains("no route to host"), "{text}");
        let missing = run(&["/nonexistent/program".to_owned()], LONG, async |_: &[u8]| ()).await;
        assert!(missing.unwrap_err().to_string().contains("/nonexistent/program"));
        assert!(matches!(run(&[], LONG, async |_: &[u8]| ()).await, Err(CommandError::Empty)));
    }

    /// More than a pipe holds, on standard error.
    #[tokio::test]
    async fn a_talkative_command_does_not_hang() {
        let (all, result) = run_for("seq 1 100000 >&2; echo end", LONG).await;
        assert!(result.is_ok());
        assert_eq!(all, b"end\n");
    }

    /// Also what it left in the background, which holds its output open.
    #[tokio::test]
    async fn what_takes_too_long_is_killed_with_all_it_started() {
        let script = "sleep 600 & echo $!; wait";
        let (all, result) = run_for(script, Duration::from_millis(300)).await;
        assert!(matches!(result, Err(CommandError::Timeout(_))), "{result:?}");
        let sleeper: i32 = String::from_utf8(all).unwrap().trim().parse().unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{sleeper}/stat")).ok();
        // Its parent is gone; whoever inherited it may take a moment to take note.
        for _ in 0..500 {
            if state().is_none_or(|stat| stat.rsplit(')').next().unwrap().trim_start().starts_with('Z')) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it still runs: {:?}", state());
    }
}
