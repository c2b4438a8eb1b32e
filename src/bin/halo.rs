//! HALO's command line, answered by coordinatool.

use std::process::ExitCode;

fn main() -> ExitCode {
    coordinatool::client::ha::halo_main(std::env::args_os())
}
