//! The daemon.

use std::process::ExitCode;

use coordinatool::server::{self, ha};

fn main() -> ExitCode {
    ha::fence_agent::stand_in_for_ipmitool().unwrap_or_else(server::main)
}
