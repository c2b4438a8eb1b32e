//! The daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    coordinatool::server::ha::fence_agent::stand_in_for_ipmitool().unwrap_or_else(coordinatool::server::main)
}
