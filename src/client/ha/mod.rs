//! `coordinatool-client ha`, and `halo` with HALO's own syntax and output.

use std::ffi::OsString;
use std::process::ExitCode;

/// The program `halo`.
pub fn halo_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let _ = args;
    eprintln!("halo: not there yet");
    ExitCode::FAILURE
}
