//! The write end of a copytool's pipe, and the thread that fills it as the kernel would.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::mdt::{DeliveryId, Outcome};

/// A frame on its way.
pub struct Frame {
    /// What the MDT waits for; none for a copy that it does not know of.
    pub delivery: Option<(DeliveryId, Outcome)>,
    /// KUC header and list.
    pub bytes: Arc<[u8]>,
    /// How long to wait first.
    pub delay: Duration,
    /// Close the pipe behind it.
    pub last: bool,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Frame>,
    closed: bool,
    full: bool,
}

/// One registered copytool's pipe.
pub struct AgentPipe {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// What the pipe's thread reports.
pub type Report = Box<dyn Fn(Option<DeliveryId>, Outcome) + Send>;

impl AgentPipe {
    /// Starts the thread that writes into `pipe`. `report` is called from it after each frame.
    pub fn start(pipe: OwnedFd, report: Report) -> std::io::Result<Arc<Self>> {
        // Nobody else has this description: the copytool closes its copy after registering.
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let agent = Arc::new(Self { queue: Mutex::default(), changed: Condvar::new() });
        let thread = Arc::clone(&agent);
        std::thread::Builder::new().name("kuc".into()).spawn(move || thread.run(&pipe, &report))?;
        Ok(agent)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a frame.
    pub fn push(&self, frame: Frame) {
        self.lock().frames.push_back(frame);
        self.changed.notify_all();
    }

    /// Closes the pipe, whatever is still to be written.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Frames that wait, and whether the thread waits for room.
    pub fn backlog(&self) -> (usize, bool) {
        let queue = self.lock();
        (queue.frames.len(), queue.full)
    }

    fn run(&self, pipe: &OwnedFd, report: &Report) {
        loop {
            let (bytes, delay) = {
                let mut queue = self.lock();
                while queue.frames.is_empty() && !queue.closed {
                    queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                match queue.frames.front() {
                    Some(frame) if !queue.closed => (Arc::clone(&frame.bytes), frame.delay),
                    _ => break,
                }
            };
            if !delay.is_zero() {
                let queue = self.lock();
                drop(self.changed.wait_timeout_while(queue, delay, |queue| !queue.closed));
            }
            let written = self.write(pipe, &bytes);
            let Some(frame) = self.lock().frames.pop_front() else { break };
            match written {
                Ok(()) => {
                    if let Some((delivery, outcome)) = frame.delivery {
                        report(Some(delivery), outcome);
                    }
                    if frame.last {
                        break;
                    }
                }
                Err(()) => {
                    report(
                        frame.delivery.map(|(delivery, _)| delivery),
                        Outcome::Failed(crate::mdt::Errno::PIPE),
                    );
                    break;
                }
            }
        }
        let left: Vec<Frame> = {
            let mut queue = self.lock();
            queue.closed = true;
            queue.full = false;
            queue.frames.drain(..).collect()
        };
        // Reported without the lock: the reports take the server's.
        for (delivery, _) in left.into_iter().filter_map(|frame| frame.delivery) {
            report(Some(delivery), Outcome::Failed(crate::mdt::Errno::PIPE));
        }
    }

    /// Writes everything, waiting for room. Fails when the reader or the registration is gone.
    fn write(&self, pipe: &OwnedFd, mut bytes: &[u8]) -> Result<(), ()> {
        /// How soon a registration's end is noticed while the pipe is full.
        const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        while !bytes.is_empty() {
            match rustix::io::write(pipe, bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    {
                        let mut queue = self.lock();
                        queue.full = true;
                        if queue.closed {
                            return Err(());
                        }
                    }
                    let end = pipe.as_fd();
                    let mut wait = [PollFd::new(&end, PollFlags::OUT)];
                    let _ = poll(&mut wait, Some(&LOOK));
                }
                Err(_) => return Err(()),
            }
        }
        self.lock().full = false;
        Ok(())
    }
}
