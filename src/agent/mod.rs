//! The agent's shell: connections, processes, cgroups, files and the watchdog around [`crate::ha::agent`].
//!
//! ```text
//! listener ──messages──▶ shell ──▶ ha::agent::Agent
//!                          │ ├─Run────▶ runner ──▶ exec-in ──▶ resource agent (in its own cgroup)
//!                          │ ├─Kill───▶ leftovers
//!                          │ ├─Store──▶ intents (a thread)
//!                          │ └─Feed───▶ watchdog
//!                          ◀── what they report
//! ```

mod exec_in;
mod host;
mod intents;
mod isolation;
mod leaders;
mod leftovers;
mod listener;
mod options;
mod runner;
mod script;
mod shell;
mod watchdog;

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::Verbosity;
use crate::ha::agent::{Agent, Identity};
use crate::ha::ids::AgentRun;
use crate::system::logging::{self, Logging};
use crate::system::supervisor;
use crate::tls::{Endpoint, Paths, Role, Trust};

use isolation::Isolation;
use options::Options;

/// `EX_USAGE`: what the user has to change.
const EXIT_USAGE: u8 = 64;

/// The program.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|first| first == "exec-in") {
        return exec_in::main(arguments);
    }
    let options = match Options::try_parse() {
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
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { text, code }) => {
            eprintln!("coordinatool-agent: {text}");
            code
        }
    }
}

/// Why the agent cannot run.
struct Failure {
    text: String,
    code: ExitCode,
}

/// What the user has to change. The service manager does not try again.
impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { text, code: ExitCode::from(EXIT_USAGE) }
    }
}

/// What may be better the next time: an address that is not there yet, a disk that is full.
fn for_now(error: impl ToString) -> Failure {
    Failure { text: error.to_string(), code: ExitCode::FAILURE }
}

fn endpoint(options: &Options, host: &str, listening: &[SocketAddr]) -> Result<Option<Endpoint>, String> {
    if options.insecure_loopback {
        let outside = listening.iter().find(|address| !address.ip().is_loopback());
        return match outside {
            Some(address) => Err(format!(
                "--insecure-loopback with {address}, which is not a loopback address (--listen 127.0.0.1)"
            )),
            None => Ok(None),
        };
    }
    let standard = Paths::in_directory(&options.tls_dir, host);
    let paths = Paths {
        authority: options.ca.clone().unwrap_or(standard.authority),
        certificate: options.cert.clone().unwrap_or(standard.certificate),
        key: options.key.clone().unwrap_or(standard.key),
    };
    let allowed_names = options.trust_manager.iter().map(|name| name.to_ascii_lowercase()).collect();
    let endpoint = Endpoint::open(Role::Agent, paths, Trust { allowed_names, ..Trust::default() });
    let endpoint = endpoint.map_err(|error| {
        format!(
            "{error} (`coordinatool-client ha ca issue {host}` on the manager's host makes a certificate; --tls-dir DIR \
             says where it is)"
        )
    })?;
    endpoint.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    Ok(Some(endpoint))
}

fn run(options: &Options) -> Result<(), Failure> {
    let host = options.host.clone().unwrap_or_else(host::hostname);
    let boot = host::boot(&options.boot_id)?;
    options::check(options)?;
    let addresses = options::addresses(options).map_err(for_now)?;
    let listeners = listener::listen(&addresses, options.port).map_err(for_now)?;
    let listening: Vec<SocketAddr> =
        listeners.iter().map(|one| one.local_addr()).collect::<Result<_, _>>().map_err(for_now)?;
    let endpoint = endpoint(options, &host, &listening)?;
    let watchdog = match &options.watchdog {
        Some(device) => Some(watchdog::Watchdog::find(device, &options.watchdog_class, host::is_virtual())?),
        None => None,
    };
    let (intents, records) = intents::Intents::open(&options.state_dir, &boot)
        .map_err(|e| for_now(format!("{e} (--state-dir)")))?;
    // Agents of one machine differ in their state directories.
    let place = options.state_dir.canonicalize().map_err(for_now)?;
    let key = format!("{host}-{:08x}", crc32fast::hash(place.as_os_str().as_encoded_bytes()));
    let isolation = if options.no_cgroups {
        Isolation::scan(&key)
    } else {
        Isolation::new(&key, options.cgroup_root.as_deref())
    };
    let alive = isolation.populated();
    let leaders = leaders::Leaders::open(&options.state_dir, &alive)
        .map_err(|e| for_now(format!("{e} (--state-dir)")))?;
    let alive = leaders.told(&records, alive);
    let identity = Identity {
        host: host.as_str().into(),
        boot,
        run: AgentRun(crate::system::random().map_err(for_now)?),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        system_uuid: host::system_uuid(),
        isolation: isolation.kind(),
        watchdog_ms: watchdog
            .as_ref()
            .map(|dog| u64::try_from(dog.timeout().as_millis()).unwrap_or(u64::MAX)),
    };
    crate::system::stay_in_memory();
    let runner = runner::Runner {
        root: options.ocf_root.clone(),
        host: identity.host.clone(),
        isolation: isolation.clone(),
        leaders: leaders.clone(),
        advice: script::Advice::default(),
        prepared: Default::default(),
        test_id: options.test_id.clone(),
    };
    let failed = |error: std::io::Error| for_now(format!("cannot start: {error}"));
    let runtime = crate::system::runtime().map_err(failed)?;
    let local = tokio::task::LocalSet::new();
    let agent = Agent::new(identity);
    runtime
        .block_on(local.run_until(async {
            let (sender, events) = mpsc::unbounded_channel();
            let (messages, received) = mpsc::channel(256);
            let (leftovers, wanted) = mpsc::unbounded_channel();
            tokio::task::spawn_local(leftovers::look_after(isolation, leaders, wanted, sender.clone()));
            let intents = intents.start(sender.clone())?;
            let outputs =
                shell::Outputs { runner: Rc::new(runner), events: sender, leftovers, intents, watchdog };
            let mut shell = shell::Shell::new(agent, outputs, records, alive);
            let numbers = Rc::new(std::cell::Cell::new(0));
            let links = listener::limit();
            for listener in listeners {
                let listener = TcpListener::from_std(listener)?;
                let (endpoint, numbers, links) = (endpoint.clone(), Rc::clone(&numbers), links.clone());
                tokio::task::spawn_local(listener::accept(
                    listener,
                    endpoint,
                    numbers,
                    links,
                    messages.clone(),
                ));
            }
            if let Some(endpoint) = endpoint {
                tokio::task::spawn_local(look_at_certificates(endpoint));
            }
            let stop = stop()?;
            announce(options, &host, &listening)?;
            shell.run(received, events, stop).await;
            supervisor::stopping();
            Ok(())
        }))
        .map_err(failed)
}

fn announce(options: &Options, host: &str, listening: &[SocketAddr]) -> std::io::Result<()> {
    let shown: Vec<String> = listening.iter().map(ToString::to_string).collect();
    let shown = shown.join(" ");
    if let Some(path) = &options.address_file {
        // Whoever waits for the file finds all of it.
        let new = path.with_extension("new");
        let mut file = std::fs::File::create(&new)?;
        writeln!(file, "{shown}")?;
        std::fs::rename(&new, path)?;
    }
    tracing::info!(target: logging::NOTICE, "agent of {host} listens on {shown}");
    supervisor::ready(&format!("agent of {host} on {shown}"));
    Ok(())
}

fn stop() -> std::io::Result<impl Future<Output = &'static str>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        }
    })
}

async fn look_at_certificates(endpoint: Endpoint) {
    loop {
        tokio::time::sleep(shell::CERTIFICATES).await;
        let looked_at = endpoint.clone();
        let _ = tokio::task::spawn_blocking(move || looked_at.refresh()).await;
        endpoint.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    }
}
