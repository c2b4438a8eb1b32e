//! `coordinatool-client`: what the C client does, with the same bytes on standard output.
//!
//! [`args`] and [`settings`] say what to do and with whom, [`connection`] speaks with the server, [`queue`] hands in
//! requests, [`mover`] takes some; [`output`] keeps C's order of bytes.

pub mod args;
pub mod connection;
pub mod ha;
pub mod help;
pub mod hsm;
pub mod local;
pub mod mover;
pub mod output;
pub mod psk;
pub mod queue;
pub mod settings;
pub mod stream;

use std::ffi::OsString;
use std::io::{self, BufReader, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use self::args::{Command, Mode, Options};
use self::connection::{Connection, ConnectionError, Target, Way};
use self::output::Output;
use self::queue::{QueueError, Queuer};
use self::settings::{Settings, Surroundings};
use crate::config::Verbosity;
use crate::hsm::event::{Ehlo, Features, Lock};
use crate::security::{Asking, server_name};
use crate::wire::client::{ServerMessage, parse_reply, write_lock, write_status};

/// The process's environment and files.
struct System;

impl Surroundings for System {
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn file(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        std::fs::File::open(path)?.take(settings::MAX_FILE + 1).read_to_end(&mut content)?;
        if content.len() as u64 > settings::MAX_FILE {
            return Err(io::Error::other(format!("longer than {} bytes", settings::MAX_FILE)));
        }
        Ok(content)
    }
}

/// Runs the program that its arguments ask for: HALO's command line if it is called `halo`, high availability if the first
/// argument is `ha`, certificates and keys with `ca` and `psk`, a subcommand about requests if it is one of those, else what
/// the C client does.
pub fn program(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let name = args.first().map(std::path::Path::new).and_then(std::path::Path::file_name);
    if name.is_some_and(|name| name == "halo") {
        return ha::halo_main(args.into_iter());
    }
    if args.get(1).is_some_and(|word| word == "ha") {
        return ha::main(args.into_iter().skip(1));
    }
    // Certificates are the same for high availability and for movers.
    if args.get(1).is_some_and(|word| word == "ca") {
        return ha::main(std::iter::once("ha".into()).chain(args.into_iter().skip(1)));
    }
    if args.get(1).is_some_and(|word| word == "psk") {
        return psk::main(args.into_iter().skip(1));
    }
    if args.get(1).is_some_and(|word| hsm::is_subcommand(word)) {
        return hsm::main(args.into_iter());
    }
    main(args.into_iter().skip(1))
}

/// Runs the program with its arguments, the name left out.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match args::parse(args) {
        Ok(Command::Run(options)) => options,
        Ok(Command::Help) => return print(&help::text()),
        Ok(Command::Version) => {
            return print(&format!("Coordinatool client version {}\n", env!("CARGO_PKG_VERSION")));
        }
        Err(error) => {
            complain(&format!("{error}\nTry `coordinatool-client --help`."));
            return ExitCode::FAILURE;
        }
    };
    let mut warnings = Vec::new();
    let settings = match Settings::resolve(&options, &System, &mut warnings) {
        Ok(settings) => settings,
        Err(problem) => {
            complain(&problem.to_string());
            return ExitCode::FAILURE;
        }
    };
    start_log(settings.verbosity);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let mut output = Output::new(stdout.lock(), terminal);
    let result = run(&options, &settings, &mut output);
    let finished = output.finish();
    match result.and_then(|good| finished.map(|()| good).map_err(|error| error.to_string())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints a text that needs no server.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Says why the program ends; nobody can be told if that does not work.
fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "coordinatool-client: {message}");
}

fn start_log(verbosity: Verbosity) {
    use tracing::level_filters::LevelFilter;
    let level = match verbosity {
        Verbosity::Off => LevelFilter::OFF,
        Verbosity::Fatal | Verbosity::Error => LevelFilter::ERROR,
        Verbosity::Warn | Verbosity::Normal => LevelFilter::WARN,
        Verbosity::Info => LevelFilter::INFO,
        Verbosity::Debug => LevelFilter::DEBUG,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .with_max_level(level);
    // Fails only if there is one already.
    let _ = subscriber.try_init();
}

/// Does what is asked for. `Ok(false)` when all was said that there is to say, and it is a failure.
fn run(options: &Options, settings: &Settings, output: &mut Output<impl Write>) -> Result<bool, String> {
    let timeout = options.timeout.map(|seconds| Duration::from_secs(seconds.into()));
    let target = target(settings, timeout)?;
    let ehlo = Ehlo {
        id: options.client_id.clone(),
        fsname: None,
        archive_ids: options.archive_ids.clone(),
        hai_list: None,
        features: Features::default(),
    };
    let text = |error: &dyn std::error::Error| error.to_string();
    let connect = || target.connect(&ehlo).map_err(|error| text(&error));
    match options.mode {
        Mode::Status => {
            status(&mut connect()?, settings, options.iterations, output).map_err(|error| text(&*error))
        }
        Mode::Lock(lock) => {
            set_lock(&mut connect()?, lock, options.iterations, output).map_err(|error| text(&*error))
        }
        Mode::Recv | Mode::Drain => {
            let done = options.mode == Mode::Drain;
            let mut connection = connect()?;
            let ended = mover::run(&mut connection, settings, done, options.iterations, output);
            ended.map(|()| true).map_err(|error| text(&error))
        }
        Mode::Queue => queue(&mut Queuer::new(&target, &ehlo, options.fsname.as_deref()), output),
    }
}

/// Where to connect to, and how.
fn target(settings: &Settings, timeout: Option<Duration>) -> Result<Target, String> {
    let plain = Target { host: settings.host.clone(), port: settings.port.clone(), way: Way::Plain, timeout };
    if settings.host.starts_with('/') {
        let way = Way::Local(settings.host.clone().into());
        return Ok(Target { way, ..plain });
    }
    if !settings.server_set
        && let Some(socket) = local::find(&settings.local_socket, &settings.host)
    {
        return Ok(Target { host: socket.display().to_string(), way: Way::Local(socket), ..plain });
    }
    let Some(credentials) = settings.security.credentials(Asking::Anybody)? else { return Ok(plain) };
    let name =
        server_name(settings.security.server_name.as_deref().unwrap_or(&settings.host)).map_err(|error| {
            format!("host: {error}; tls_server_name says what is in the server's certificate")
        })?;
    let config = credentials.load().map_err(|error| format!("TLS: {error}"))?;
    let way = Way::Tls { config: std::sync::Arc::new(config), name };
    Ok(Target { port: settings.security.port.clone(), way, ..plain })
}

/// Waits for the one answer that is due; `None` when none is wanted (`-i 0`).
fn answer(
    connection: &mut Connection,
    answers: Option<u32>,
    patience: Duration,
) -> Result<Option<Vec<u8>>, ConnectionError> {
    if answers == Some(0) {
        return Ok(None);
    }
    connection.receive(Some(patience)).map(Some)
}

type Outcome = Result<bool, Box<dyn std::error::Error>>;

fn status(
    connection: &mut Connection,
    settings: &Settings,
    answers: Option<u32>,
    output: &mut Output<impl Write>,
) -> Outcome {
    let mut message = Vec::new();
    write_status(settings.verbose.into(), &mut message);
    connection.send(&message)?;
    let patience = connection.patience();
    if let Some(reply) = answer(connection, answers, patience)? {
        match parse_reply(&reply) {
            Ok(ServerMessage::Status(_)) => mover::show("status", &reply, output)?,
            Ok(other) => return Err(format!("unexpected answer to status: {other:?}").into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// A refusal is printed and no failure, as in C.
fn set_lock(
    connection: &mut Connection,
    lock: Lock,
    answers: Option<u32>,
    output: &mut Output<impl Write>,
) -> Outcome {
    let mut message = Vec::new();
    write_lock(lock, &mut message);
    connection.send(&message)?;
    let patience = connection.patience();
    if let Some(reply) = answer(connection, answers, patience)? {
        match parse_reply(&reply) {
            Ok(ServerMessage::Lock(Ok(()))) => output.text("ok\n")?,
            Ok(ServerMessage::Lock(Err(failure))) => {
                output.text(&format!("error locking: {}\n", failure.error))?;
            }
            Ok(other) => return Err(format!("unexpected answer to lock: {other:?}").into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn queue(queuer: &mut Queuer, output: &mut Output<impl Write>) -> Result<bool, String> {
    let mut input = BufReader::with_capacity(64 << 10, io::stdin().lock());
    let result = queuer.run(&mut input);
    let summary = &queuer.summary;
    for note in summary.notes() {
        tracing::warn!("{note}");
    }
    let stopped = match result {
        Ok(()) => None,
        Err(QueueError::Connection(error)) => {
            let mut text = error.to_string();
            if summary.sent > 0 {
                let unanswered = summary.sent - summary.answered;
                text.push_str(&format!(
                    ": {} requests were acknowledged ({} queued, {} known already), {unanswered} were sent without an \
                     answer, the rest was not sent; run the same again, known requests are skipped",
                    summary.answered, summary.enqueued, summary.skipped
                ));
            }
            return Err(text);
        }
        Err(error @ QueueError::Answer(_)) => return Err(error.to_string()),
        Err(error @ (QueueError::Input(_) | QueueError::Stopped(_))) => Some(error.to_string()),
    };
    if summary.sent > 0 {
        mover::show("queue", &summary.reply(), output).map_err(|error| error.to_string())?;
        let handled = summary.enqueued + summary.skipped;
        if summary.failure.is_none() && summary.sent != handled {
            let line = format!(
                "didn't process all records (expected {}, got {}+{})\n",
                summary.sent, summary.enqueued, summary.skipped
            );
            output.text(&line).map_err(|error| error.to_string())?;
        }
        // C exits with 0 after -22, which it gives for items that it cannot read.
        if let (None, Some(failure)) = (&stopped, &summary.failure) {
            return Err(format!("the server could not take all requests: {failure}"));
        }
        if summary.failure.is_none() && summary.sent != handled {
            return Ok(false);
        }
    }
    match stopped {
        Some(error) => Err(error),
        None => Ok(summary.bad_lines == 0),
    }
}
