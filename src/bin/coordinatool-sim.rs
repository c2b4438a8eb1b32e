//! The deterministic simulator: see `coordinatool-sim --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    coordinatool::sim::cli::main()
}
