//! Lines on standard error, at the configured verbosity.

use std::sync::atomic::{AtomicU8, Ordering};

use coordinatool::config::Verbosity;
use coordinatool::shim::Level;

/// Lustre's number of the most verbose level that is shown.
static SHOWN: AtomicU8 = AtomicU8::new(4);

/// Lustre's numbers (`LLAPI_MSG_*`).
fn number(level: Level) -> u8 {
    match level {
        Level::Error => 2,
        Level::Warn => 3,
        Level::Normal => 4,
        Level::Info => 5,
        Level::Debug => 6,
    }
}

/// Shows lines up to this verbosity.
pub fn set_verbosity(verbosity: Verbosity) {
    let shown = match verbosity {
        Verbosity::Off => 0,
        Verbosity::Fatal => 1,
        Verbosity::Error => 2,
        Verbosity::Warn => 3,
        Verbosity::Normal => 4,
        Verbosity::Info => 5,
        Verbosity::Debug => 6,
    };
    SHOWN.store(shown, Ordering::Relaxed);
}

/// Whether lines of this level are shown.
pub fn enabled(level: Level) -> bool {
    number(level) <= SHOWN.load(Ordering::Relaxed)
}

/// Writes one line. A standard error that nobody reads neither stops the copytool nor, without a reader, ends it by SIGPIPE:
/// the line is lost then.
pub fn line(level: Level, text: &str) {
    if !enabled(level) {
        return;
    }
    let name = match level {
        Level::Error => "ERROR",
        Level::Warn => "WARN",
        Level::Normal => "NORMAL",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
    };
    // What a server sends may hold anything; a log line is one line.
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = format!("coordinatool_client: {name}: {text}\n");
    let mut poll = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd is given, and its count.
    if unsafe { libc::poll(&mut poll, 1, 0) } != 1 || poll.revents != libc::POLLOUT {
        return;
    }
    // SAFETY: the pointer and length are those of a live string. Nothing can be done about an error.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
}
