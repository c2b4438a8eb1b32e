//! The daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    coordinatool::server::main()
}
