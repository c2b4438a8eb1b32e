//! The command line of coordinatool.

use std::process::ExitCode;

fn main() -> ExitCode {
    coordinatool::client::main(std::env::args_os().skip(1))
}
