//! The HA role beside the HSM coordinator: a process of its own, started before any mount is touched, so that a Lustre that
//! hangs cannot hold it up.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::process::EXIT_USAGE;

/// How often it is looked after.
const LOOK: Duration = Duration::from_millis(100);
/// Pause before it is started again, doubled each time that it did not run for long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(60);
/// Time for a clean end.
const STOP: Duration = Duration::from_secs(5);

/// The process, and the thread that starts it again.
#[derive(Debug)]
pub struct HaChild {
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Reload,
    Stop,
}

impl HaChild {
    /// Starts `coordinatool ha-manager` with these arguments. One that already listens on the socket, which an earlier
    /// daemon had started, is left alone and replaced when it ends.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(arguments: Vec<OsString>, socket: PathBuf) -> io::Result<Self> {
        let (orders, received) = channel();
        let thread = std::thread::Builder::new()
            .name("ha-child".to_owned())
            .spawn(move || Keeper { arguments, socket, received }.keep())?;
        Ok(Self { orders, thread: Some(thread) })
    }

    /// Has it read its configuration again.
    pub fn reload(&self) {
        let _ = self.orders.send(Order::Reload);
    }
}

impl Drop for HaChild {
    /// Stops it. What runs on the servers goes on.
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Keeper {
    arguments: Vec<OsString>,
    socket: PathBuf,
    received: Receiver<Order>,
}

impl Keeper {
    fn keep(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            if UnixStream::connect(&self.socket).is_ok() {
                tracing::debug!("another HA manager listens on {}", self.socket.display());
                if self.wait(LAST_PAUSE) {
                    return;
                }
                continue;
            }
            let begun = Instant::now();
            match self.command().spawn() {
                Ok(mut child) => {
                    if self.look_after(&mut child) {
                        return;
                    }
                }
                Err(error) => tracing::error!("the HA manager cannot be started: {error}"),
            }
            pause = if begun.elapsed() > LONG { FIRST_PAUSE } else { (pause * 2).min(LAST_PAUSE) };
            if self.wait(pause) {
                return;
            }
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg("ha-manager").args(&self.arguments);
        // The service manager hears from the daemon only.
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        command
    }

    /// Waits; true when it is time to stop.
    fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            match self.received.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Order::Reload) => {}
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// Until it ends; true when it was told to.
    fn look_after(&self, child: &mut Child) -> bool {
        loop {
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => {
                    let help = if status.code() == Some(i32::from(EXIT_USAGE)) {
                        " (see what it said before)"
                    } else {
                        ""
                    };
                    tracing::error!("the HA manager ended: {status}{help}; it is started again");
                    return false;
                }
                Err(error) => {
                    tracing::error!("the HA manager cannot be waited for: {error}");
                    return false;
                }
            }
            match self.received.recv_timeout(LOOK) {
                Ok(Order::Reload) => signal(child, Signal::HUP),
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    stop(child);
                    return true;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let _ = kill_process(Pid::from_child(child), signal);
}

fn stop(child: &mut Child) {
    signal(child, Signal::TERM);
    let until = Instant::now() + STOP;
    while Instant::now() < until {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(LOOK / 4);
    }
    tracing::warn!("the HA manager does not end: it is killed");
    let _ = child.kill();
    let _ = child.wait();
}
