//! Logs on standard error: quiet by default, in levels with the C version's names. Who logs never waits for whoever reads
//! that: a journal that hangs, as on a machine whose disk fails, must not look as if this process hung.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::Verbosity;

/// Target of what everybody should see once (level `normal`), which is logged as info.
pub const NOTICE: &str = "coordinatool::notice";

/// Lines that may wait for whoever reads them. More are lost, which is told later.
const WAITING: usize = 4096;
/// How long the end of the process may be held up by what waits.
const LAST_WORDS: Duration = Duration::from_secs(1);

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
        LINES.get_or_init(|| begin(io::stderr()));
        let (filter, handle) = reload::Layer::new(targets(verbosity));
        let layer =
            fmt::layer().with_writer(|| Lines).with_target(false).with_ansi(std::io::stderr().is_terminal());
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

/// What the thread that writes is given.
enum Piece {
    Line(Vec<u8>),
    /// Answered when all before it was written.
    Flush(Sender<()>),
}

/// The way to the thread that writes. Without it, which is when there could be no thread, lines are written at once.
static LINES: OnceLock<Option<SyncSender<Piece>>> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);

fn begin(to: impl Write + Send + 'static) -> Option<SyncSender<Piece>> {
    let (sender, pieces) = sync_channel(WAITING);
    let thread = std::thread::Builder::new().name("log".to_owned()).stack_size(128 * 1024);
    thread.spawn(move || write(&pieces, to)).ok().map(|_| sender)
}

fn write(pieces: &Receiver<Piece>, mut to: impl Write) {
    while let Ok(piece) = pieces.recv() {
        match piece {
            // If nobody reads, there is nobody to tell.
            Piece::Line(line) => drop(to.write_all(&line)),
            Piece::Flush(done) => drop(done.send(())),
        }
        let lost = LOST.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(to, "{lost} lines of the log are lost: nobody read them in time");
        }
    }
}

/// One line for the thread that writes.
#[derive(Debug)]
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match LINES.get() {
            Some(Some(lines)) => give(lines, bytes),
            _ => io::stderr().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn give(lines: &SyncSender<Piece>, bytes: &[u8]) {
    if lines.try_send(Piece::Line(bytes.to_vec())).is_err() {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until what was logged is written, but not for long. False if it is not.
pub fn flush() -> bool {
    LINES.get().is_none_or(|lines| lines.as_ref().is_none_or(flushed))
}

fn flushed(lines: &SyncSender<Piece>) -> bool {
    let until = Instant::now() + LAST_WORDS;
    let (sender, done) = channel();
    let mut piece = Piece::Flush(sender);
    while let Err(error) = lines.try_send(piece) {
        match error {
            TrySendError::Full(same) if Instant::now() < until => piece = same,
            _ => return false,
        }
        std::thread::sleep(LAST_WORDS / 100);
    }
    done.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok()
}

/// Flushes what was logged when it is dropped, at the end of a program.
#[derive(Debug)]
pub struct Flush;

impl Drop for Flush {
    fn drop(&mut self) {
        flush();
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
        if flush() {
            // Also when the logger is what is broken.
            eprintln!("coordinatool: FATAL: thread {name}: {info}");
        }
        std::process::exit(EXIT_PANIC);
    }));
}

/// Exit code after a panic (`EX_SOFTWARE`).
pub const EXIT_PANIC: i32 = 70;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn nobody_waits_for_who_does_not_read() {
        let (mut reader, writer) = io::pipe().unwrap();
        let lines = begin(writer).unwrap();
        let line = [b'x'; 1000];
        // More than a pipe and the queue take together.
        for _ in 0..WAITING + 200 {
            give(&lines, &line);
        }
        assert!(!flushed(&lines));
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        while !flushed(&lines) {}
        give(&lines, b"the end\n");
        drop(lines);
        let text = reading.join().unwrap();
        assert!(text.contains("lines of the log are lost"), "{}", text.len());
        assert!(text.ends_with("the end\n"));
    }
}
