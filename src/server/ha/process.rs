//! The process of the HA role, from start to stop. Neither touches what runs on the servers.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::handle::Manager;
use super::journal::Journal;
use super::options::{HaOptions, Options};
use super::{reload, shell};
use crate::api;
use crate::config::Verbosity;
use crate::ha::config;
use crate::ha::engine::{LostState, Start};
use crate::ha::ids::{ManagerId, ManagerRun};
use crate::ha::state::Record;
use crate::server::{listener, local_socket};
use crate::system::clock::Clock;
use crate::system::fence_path::AgentPath;
use crate::system::logging::{self, Logging, NOTICE};
use crate::system::supervisor;
use crate::tls::{Endpoint, Paths, Role, Trust};

/// `EX_USAGE`: what the user has to change. The service manager does not try again.
pub const EXIT_USAGE: u8 = 64;

/// Why the role cannot run.
#[derive(Debug)]
pub enum Failure {
    /// Problems of the configuration, and other things that the user has to change.
    User(Vec<String>),
    /// Anything else.
    System(String),
}

impl From<String> for Failure {
    fn from(error: String) -> Self {
        Self::User(vec![error])
    }
}

fn failed(error: io::Error) -> Failure {
    Failure::System(format!("cannot start: {error}"))
}

/// `coordinatool ha-manager ...`, the program's name first.
pub fn main(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let options = match Options::try_parse_from(arguments) {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let _flush = logging::Flush;
    let _logging = Logging::start(match options.verbose {
        0 => Verbosity::Normal,
        1 => Verbosity::Info,
        _ => Verbosity::Debug,
    });
    logging::exit_on_panic();
    match run(&options.ha) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::User(problems)) => {
            problems.iter().for_each(|problem| eprintln!("coordinatool: {problem}"));
            ExitCode::from(EXIT_USAGE)
        }
        Err(Failure::System(error)) => {
            eprintln!("coordinatool: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until it is told to stop.
///
/// # Errors
/// When it cannot start.
pub fn run(options: &HaOptions) -> Result<(), Failure> {
    let file = options.config_file()?;
    let loaded = reload::load(&file).map_err(Failure::User)?;
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let endpoint = endpoint(options)?;
    listener::raise_file_limit();
    let opened = Journal::open(&options.state_dir, || import(&options.statefile));
    // A disk that is full or a manager that is about to end: the next time it may be better.
    let (journal, state, lost) = opened.map_err(|error| Failure::System(error.to_string()))?;
    if let LostState::Damaged(what) = &lost {
        tracing::error!("the state was damaged ({what}): agents are asked for the highest epoch");
    }
    let start = Start {
        config: loaded.config,
        manage: options.manage_resources,
        state,
        lost,
        new_manager: ManagerId(crate::system::random().map_err(failed)?),
        run: ManagerRun(crate::system::random().map_err(failed)?),
    };
    let runtime = crate::system::runtime().map_err(failed)?;
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async {
        let socket = &options.socket;
        let listener = local_socket::bind(socket, None).map_err(|error| {
            let text = format!("{}: {error} (--socket)", socket.display());
            match error.kind() {
                io::ErrorKind::AddrInUse => {
                    Failure::System(format!("{}: another manager listens on it (--socket)", socket.display()))
                }
                io::ErrorKind::AlreadyExists => Failure::User(vec![text]),
                _ => Failure::System(text),
            }
        })?;
        let (reported, reports) = mpsc::unbounded_channel();
        let journal = journal.start(move |report| {
            let _ = reported.send(report);
        });
        let journal = journal.map_err(failed)?;
        crate::system::stay_in_memory();
        crate::system::keep_secrets();
        let agents = AgentPath::from_environment();
        let (run, manager) = shell::start(shell::Parts { start, endpoint, agents, journal, reports });
        let context = api::Context::new(manager.clone(), file.clone());
        tokio::task::spawn_local(api::serve(listener, context));
        let mut stop = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let hangup = signal(SignalKind::hangup()).map_err(failed)?;
        tokio::task::spawn_local(reload_on_hangup(hangup, manager, file));
        tokio::task::spawn_local(keep_alive());
        tracing::info!(target: NOTICE, "the API is at {}", socket.display());
        supervisor::ready("serving");
        tokio::select! {
            () = run => return Err(Failure::System("the state could not be stored for too long".to_owned())),
            _ = stop.recv() => tracing::info!("got SIGTERM, exiting; what runs goes on"),
            _ = interrupt.recv() => tracing::info!("got SIGINT, exiting; what runs goes on"),
        }
        supervisor::stopping();
        let _ = std::fs::remove_file(socket);
        Ok(())
    }))
}

fn endpoint(options: &HaOptions) -> Result<Option<Endpoint>, String> {
    if options.insecure_loopback {
        return Ok(None);
    }
    let paths = Paths::in_directory(&options.tls_dir, &options.tls_name);
    let trust = Trust { server_name: options.server_name.clone(), ..Trust::default() };
    let endpoint = Endpoint::open(Role::Manager, paths, trust).map_err(|error| {
        format!(
            "{error} (`coordinatool-client ha ca init` and `ca issue {} --role manager` make certificates; --tls-dir \
             DIR says where they are)",
            options.tls_name
        )
    })?;
    endpoint.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    Ok(Some(endpoint))
}

/// What HALO knew, at the first start only. A host that was taken out of use there must not be used because nobody could
/// read that.
fn import(file: &Path) -> io::Result<Vec<Record>> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(io::Error::new(error.kind(), format!("{}: {error} (--statefile)", file.display())));
        }
    };
    let imported = config::halo_state::import(&bytes, Clock::new().now().wall.0);
    imported.warnings.iter().for_each(|warning| tracing::warn!("{}: {warning}", file.display()));
    tracing::warn!("{}: {} records imported", file.display(), imported.records.len());
    Ok(imported.records)
}

async fn reload_on_hangup(mut hangup: Signal, manager: Manager, file: PathBuf) {
    while hangup.recv().await.is_some() {
        match reload::reload(&manager, &file, "SIGHUP".to_owned(), None, false).await {
            Ok(answer) => answer.difference.iter().for_each(|line| tracing::info!(target: NOTICE, "{line}")),
            Err(problems) => {
                problems.iter().for_each(|problem| tracing::error!("{problem}"));
                tracing::error!("the configuration was not loaded again: the old one stays");
            }
        }
    }
}

async fn keep_alive() {
    let Some(interval) = supervisor::watchdog_interval() else { return };
    loop {
        supervisor::alive();
        tokio::time::sleep(interval).await;
    }
}
