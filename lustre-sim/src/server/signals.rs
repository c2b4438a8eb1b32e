//! Signals that end the server.

use std::io;

/// SIGINT, SIGTERM and SIGHUP, blocked in all threads that are started afterwards.
#[derive(Debug)]
pub struct StopSignals(libc::sigset_t);

/// Blocks the signals that end a program in this thread and in those it starts.
pub fn block_stop_signals() -> io::Result<StopSignals> {
    // SAFETY: a signal set is plain data, filled by sigemptyset; the calls only read and write it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(&mut set, signal);
        }
        match libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) {
            0 => Ok(StopSignals(set)),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

impl StopSignals {
    /// Waits for one of them.
    pub fn wait(&self) {
        let mut signal = 0;
        // SAFETY: waits for the set that was blocked.
        while unsafe { libc::sigwait(&self.0, &mut signal) } != 0 {}
    }
}
