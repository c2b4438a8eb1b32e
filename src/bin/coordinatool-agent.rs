//! The agent on each server.

use std::process::ExitCode;

fn main() -> ExitCode {
    coordinatool::agent::main()
}
