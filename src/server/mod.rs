//! The daemon: everything around the coordinator's core that touches the world.
//!
//! One thread runs the core, the connections and the timers ([`shell`]). Threads of their own are: the store
//! ([`committer`]), the reader of the kernel's pipe and the ends at Lustre ([`crate::lustre`]), names of peers ([`names`]),
//! reporting files ([`reporting`]), HTTP ([`api`]), looks at files ([`attributes`]) and at the file system ([`space`]); none of
//! them can delay another.

pub mod api;
pub mod attributes;
mod backlog;
mod check;
pub mod committer;
pub mod config;
pub mod connection;
pub mod daemon;
pub mod files;
pub mod ha;
pub mod inputs;
mod jobs;
pub mod listener;
pub mod local_socket;
pub mod locator;
pub mod names;
pub mod options;
mod pool;
mod recent;
pub mod reconcile;
pub mod reporting;
pub mod security;
pub mod shell;
pub mod space;
pub mod stores;
pub mod transport;

pub use crate::wire::outbox;

use std::process::ExitCode;

use options::Command;

/// The program: reads the command line and runs until told to stop. Exit code 0 after a clean stop, 1 when it cannot start
/// or is told twice to stop, 70 after a panic.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|first| first == "ha-manager") {
        return ha::process::main(std::iter::once("coordinatool ha-manager".into()).chain(arguments));
    }
    let mut arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    if arguments.next().is_some_and(|first| first == locator::phobos::COMMAND) {
        return locator::phobos::main(&arguments.collect::<Vec<_>>());
    }
    let options = match options::parse(std::env::args_os()) {
        Command::Run(options) => *options,
        Command::Print(text) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Command::Fail(text) => {
            eprint!("{text}");
            return ExitCode::FAILURE;
        }
    };
    if options.is_ha_only() {
        let arguments = options.ha_arguments().unwrap_or_default();
        return ha::process::main(std::iter::once("coordinatool".into()).chain(arguments));
    }
    let loaded = match config::load(&options, &config::System) {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in &problems.0 {
                eprintln!("coordinatool: {problem}");
            }
            return ExitCode::FAILURE;
        }
    };
    if options.check_config {
        print!("{}", check::report(&loaded));
        return match check::files(&loaded.settings, std::time::SystemTime::now()) {
            Ok(warnings) => {
                warnings.iter().for_each(|warning| println!("warning: {warning}"));
                println!("The configuration is good.");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("coordinatool: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let _flush = crate::system::logging::Flush;
    let logging = crate::system::logging::Logging::start(loaded.settings.verbose);
    crate::system::logging::exit_on_panic();
    let inherited = crate::system::handover::Inherited::take(&loaded.settings.hsm.archive_ids);
    let socket = options.ha_socket.clone().unwrap_or_else(|| ha::options::SOCKET.into());
    let child =
        options.ha_arguments().map(|arguments| ha::child::HaChild::start(arguments, socket)).transpose();
    let child = match child {
        Ok(child) => child,
        Err(error) => {
            tracing::error!("the HA manager cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    match daemon::run(&options, loaded, &logging, child.as_ref(), inherited) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
