//! Logs on standard error: quiet by default, in levels with the C version's names.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::Verbosity;

/// Target of what everybody should see once (level `normal`), which is logged as info.
pub const NOTICE: &str = "coordinatool::notice";

/// Changes how much is logged.
#[derive(Debug, Clone)]
pub struct Logging {
    filter: reload::Handle<Targets, Registry>,
}

fn targets(verbosity: Verbosity) -> Targets {
    let (all, notice) = match verbosity {
        Verbosity::Off => (LevelFilter::OFF, LevelFilter::OFF),
        Verbosity::Fatal | Verbosity::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
        Verbosity::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        Verbosity::Normal => (LevelFilter::WARN, LevelFilter::INFO),
        Verbosity::Info => (LevelFilter::INFO, LevelFilter::INFO),
        Verbosity::Debug => (LevelFilter::DEBUG, LevelFilter::DEBUG),
    };
    Targets::new().with_default(all).with_target(NOTICE, notice)
}

impl Logging {
    /// Begins to log. The journal adds the time itself.
    pub fn start(verbosity: Verbosity) -> Self {
        let (filter, handle) = reload::Layer::new(targets(verbosity));
        let layer = fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal());
        let journal = std::env::var_os("JOURNAL_STREAM").is_some();
        let registry = tracing_subscriber::registry();
        let started = if journal {
            registry.with(layer.without_time().with_filter(filter)).try_init()
        } else {
            registry.with(layer.with_filter(filter)).try_init()
        };
        if let Err(error) = started {
            eprintln!("coordinatool: cannot start logging: {error}");
        }
        Self { filter: handle }
    }

    /// Logs this much from now on.
    pub fn set(&self, verbosity: Verbosity) {
        if let Err(error) = self.filter.reload(targets(verbosity)) {
            eprintln!("coordinatool: cannot change how much is logged: {error}");
        }
    }
}

/// Makes a panic in any thread end the process, after it was logged: a daemon that lost one of its parts would hold work
/// that it can no longer hand out. The service manager starts it again.
pub fn exit_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed").to_owned();
        let trace = std::backtrace::Backtrace::force_capture();
        tracing::error!("FATAL: thread {name}: {info}\n{trace}");
        // Also when the logger is what is broken.
        eprintln!("coordinatool: FATAL: thread {name}: {info}");
        std::process::exit(EXIT_PANIC);
    }));
}

/// Exit code after a panic (`EX_SOFTWARE`).
pub const EXIT_PANIC: i32 = 70;
