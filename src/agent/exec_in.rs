//! `coordinatool-agent exec-in FILE LEADER PROGRAM ARGUMENT...`: what a child does before it becomes a resource agent. It
//! puts itself into the cgroup whose `cgroup.procs` FILE is, so that nothing of it ever runs outside (`-PID`: it has none, and
//! is a child of PID), and says in the file LEADER (`-`: none) who it is.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::Mode;

/// How this ends when the program could not be run, with a line that begins with [`FAILED`] on standard error.
pub const FAILED_CODE: u8 = 125;
/// See [`FAILED_CODE`].
pub const FAILED: &str = "coordinatool-agent exec-in: ";

/// Becomes the program.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match become_program(arguments) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("{FAILED}{error}");
            ExitCode::from(FAILED_CODE)
        }
    }
}

fn become_program(mut arguments: impl Iterator<Item = OsString>) -> Result<Infallible, String> {
    let file = arguments.next().ok_or("no cgroup given")?;
    if let Some(agent) = file.to_str().and_then(|file| file.strip_prefix('-')) {
        // An agent that was started meanwhile may have looked for this process before it could be seen.
        let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().to_string());
        if parent.as_deref() != Some(agent) {
            return Err("the agent is gone".to_owned());
        }
    } else {
        // 0 stands for who writes it. The cgroup is not there any more if an agent that was started meanwhile found nobody.
        std::fs::write(&file, "0").map_err(|error| format!("{}: {error}", Path::new(&file).display()))?;
    }
    let leader = arguments.next().ok_or("no file for the leader given")?;
    if leader != "-" {
        super::leaders::write_own(Path::new(&leader));
    }
    // A group of its own for signals.
    rustix::process::setsid().map_err(|error| format!("setsid: {error}"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // The agent is spared by the out-of-memory killer; what it starts is not.
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    let arguments: Vec<CString> = arguments
        .map(|argument| CString::new(argument.into_vec()).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    let program = arguments.first().ok_or("no program given")?;
    // Not the standard library's: that would reset SIGPIPE, which this program ignores since it began. A resource must
    // not die of writing to the agent that started it, when that is restarted.
    nix::unistd::execv(program, &arguments).map_err(|error| format!("{}: {error}", program.to_string_lossy()))
}
