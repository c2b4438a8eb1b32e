//! Phobos as a locator: `coordinatool locate-phobos LIBRARY COPIES` reads lines as any locator that is a program does, and asks
//! `phobos_locate` for each.
//!
//! The library runs in a process of its own: it talks to a database, keeps state behind our back, and what crashes or
//! hangs there must not reach the daemon.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use super::phobos_sys::Phobos;

/// The word on the command line that makes the daemon's program this one.
pub const COMMAND: &str = "locate-phobos";

/// The command line for this library.
pub fn command(library: &str, copies: bool) -> std::io::Result<Vec<String>> {
    let program = std::env::current_exe()?;
    let program = program.to_str().ok_or(std::io::ErrorKind::InvalidInput)?;
    let copies = if copies { "copies" } else { "no-copies" };
    Ok([program, COMMAND, library, copies].map(str::to_owned).to_vec())
}

/// Exit code when the library cannot be used.
pub const NO_LIBRARY: u8 = 3;

/// Runs until the end of the input.
pub fn main(arguments: &[String]) -> ExitCode {
    let [library, copies] = arguments else {
        eprintln!("coordinatool {COMMAND}: LIBRARY copies|no-copies");
        return ExitCode::FAILURE;
    };
    let phobos = match Phobos::load(library, copies == "copies") {
        Ok(phobos) => phobos,
        Err(error) => {
            eprintln!("coordinatool: phobos cannot be asked: {error}");
            return ExitCode::from(NO_LIBRARY);
        }
    };
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let mut words = line.splitn(5, ' ');
        let fid = words.next().unwrap_or_default();
        let focus = words.nth(2).filter(|&focus| focus != "-");
        let Some(oid) = words.next().filter(|&oid| oid != "-") else {
            eprintln!("coordinatool: {fid} does not say what it is called in phobos");
            continue;
        };
        // What is not answered has failed.
        let written = match phobos.locate(oid, focus) {
            Ok(Some(host)) => writeln!(out, "{fid} - {host}"),
            Ok(None) => writeln!(out, "{fid}"),
            Err(error) => {
                eprintln!("coordinatool: phobos does not locate {fid} ({oid}): {error}");
                Ok(())
            }
        };
        if written.and_then(|()| out.flush()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
