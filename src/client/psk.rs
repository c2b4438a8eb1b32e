//! `psk`: pre-shared keys for movers and clients.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::security::{FileError, Psk, psk};

#[derive(Debug, Parser)]
#[command(
    name = "psk",
    bin_name = "coordinatool-client psk",
    about = "Pre-shared keys, by which servers and movers know each other"
)]
struct Options {
    #[command(subcommand)]
    command: PskCommand,
}

#[derive(Debug, Subcommand)]
enum PskCommand {
    /// Write a new key to a file that only its owner can read
    New {
        /// Which file; it must not be there yet
        file: PathBuf,
    },
    /// Check a key file and show its id, which is the same wherever the key is
    Show {
        /// Which file
        file: PathBuf,
    },
}

/// Runs it; the first argument is its name.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let options = match Options::try_parse_from(args) {
        Ok(options) => options,
        Err(error) => {
            // Nobody can be told if that does not work.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match run(&options.command) {
        Ok(text) => match writeln!(std::io::stdout(), "{text}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            super::complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn run(command: &PskCommand) -> Result<String, FileError> {
    match command {
        PskCommand::New { file } => {
            let id = psk::create(file)?;
            Ok(format!(
                "{}: key {id}; copy it to the server and to every mover, as root's, mode 0600, and set psk_file",
                file.display()
            ))
        }
        PskCommand::Show { file } => Ok(format!("{}: key {}", file.display(), Psk::read(file)?.id())),
    }
}
