//! The command line of coordinatool.

use std::process::ExitCode;

fn main() -> ExitCode {
    coordinatool::client::program(std::env::args_os())
}
