//! The agent's shell: connections, processes, cgroups, files and the watchdog around [`crate::ha::agent`].

use std::process::ExitCode;

/// The program.
pub fn main() -> ExitCode {
    eprintln!("coordinatool-agent: not there yet");
    ExitCode::FAILURE
}
