//! A queue between two threads whose reader can wait for a descriptor as well.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

/// Wakes a reader that waits for its descriptor.
#[derive(Debug)]
struct Bell {
    /// Whether it does. A writer that finds it so rings, once.
    wanted: AtomicBool,
    event: OwnedFd,
}

impl Bell {
    fn ring(&self) {
        // Pairs with the one of the reader: either it finds the job, or we find that it waits.
        fence(Ordering::SeqCst);
        if self.wanted.load(Ordering::Relaxed) && self.wanted.swap(false, Ordering::Relaxed) {
            // It only fails when it was rung more often than a number can say.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }
}

/// The end that puts jobs in.
#[derive(Debug)]
pub(super) struct Writer<J> {
    jobs: Sender<J>,
    bell: Arc<Bell>,
}

/// The end that takes them out.
#[derive(Debug)]
pub(super) struct Reader<J> {
    jobs: Receiver<J>,
    bell: Arc<Bell>,
}

/// What came first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<J> {
    /// A job.
    Job(J),
    /// There is something to read from the descriptor.
    Readable,
    /// Neither: it is time.
    Time,
    /// Nobody will put in jobs any more.
    Gone,
}

/// A queue.
///
/// # Errors
/// When there are too many descriptors.
pub(super) fn queue<J>() -> io::Result<(Writer<J>, Reader<J>)> {
    let (send, jobs) = mpsc::channel();
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let bell = Arc::new(Bell { wanted: AtomicBool::new(false), event });
    Ok((Writer { jobs: send, bell: Arc::clone(&bell) }, Reader { jobs, bell }))
}

impl<J> Writer<J> {
    /// Puts a job in. It is lost when the reader is gone.
    pub(super) fn send(&self, job: J) {
        if self.jobs.send(job).is_ok() {
            self.bell.ring();
        }
    }
}

impl<J> Drop for Writer<J> {
    fn drop(&mut self) {
        // The reader looks and finds the queue closed, once that is so.
        let (closed, _) = mpsc::channel();
        self.jobs = closed;
        self.bell.ring();
    }
}

impl<J> Reader<J> {
    /// A job that is there.
    pub(super) fn try_next(&self) -> Option<J> {
        self.jobs.try_recv().ok()
    }

    /// Waits for a job, at most until some time.
    pub(super) fn next(&self, until: Option<Instant>) -> Next<J> {
        let job = match until {
            None => self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => self.jobs.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match job {
            Ok(job) => Next::Job(job),
            Err(RecvTimeoutError::Timeout) => Next::Time,
            Err(RecvTimeoutError::Disconnected) => Next::Gone,
        }
    }

    /// Waits for a job or until there is something to read, at most until some time. A job that is there comes first.
    pub(super) fn next_or_readable(&self, descriptor: BorrowedFd<'_>, until: Option<Instant>) -> Next<J> {
        use mpsc::TryRecvError;

        self.bell.wanted.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let next = match self.jobs.try_recv() {
            Ok(job) => Next::Job(job),
            Err(TryRecvError::Disconnected) => Next::Gone,
            Err(TryRecvError::Empty) => match wait([descriptor, self.bell.event.as_fd()], until) {
                [true, _] => Next::Readable,
                [_, true] => {
                    // It may have been rung for a job that is taken already.
                    let _ = rustix::io::read(&self.bell.event, &mut [0; 8]);
                    self.jobs.try_recv().map_or(Next::Time, Next::Job)
                }
                _ => Next::Time,
            },
        };
        self.bell.wanted.store(false, Ordering::Relaxed);
        next
    }
}

/// Waits until there is something to read, at most until some time. Returns whether there is.
pub(super) fn readable(descriptor: BorrowedFd<'_>, until: Option<Instant>) -> bool {
    wait([descriptor], until)[0]
}

fn wait<const N: usize>(descriptors: [BorrowedFd<'_>; N], until: Option<Instant>) -> [bool; N] {
    let mut waiting = descriptors.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
    let left = until.map(|at| at.saturating_duration_since(Instant::now()));
    let left = left.map(|left| Timespec::try_from(left).unwrap_or_default());
    // A signal ends the wait early, and whoever waits looks again.
    let _ = rustix::event::poll(&mut waiting, left.as_ref());
    std::array::from_fn(|at| !waiting[at].revents().is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// However the two threads meet, each job arrives without the descriptor's help.
    #[test]
    fn no_job_is_slept_through() {
        const JOBS: u32 = 20_000;
        let (writer, reader) = queue().unwrap();
        let (silent, _kept) = rustix::pipe::pipe().unwrap();
        let (ask, asked) = mpsc::channel();
        let other = std::thread::spawn(move || {
            for job in 0..JOBS {
                asked.recv().unwrap();
                writer.send(job);
            }
        });
        for job in 0..JOBS {
            ask.send(()).unwrap();
            loop {
                match reader.next_or_readable(silent.as_fd(), None) {
                    Next::Time => {}
                    next => {
                        assert_eq!(next, Next::Job(job));
                        break;
                    }
                }
            }
        }
        other.join().unwrap();
        while reader.next_or_readable(silent.as_fd(), None) != Next::Gone {}
    }

    #[test]
    fn what_is_there_ends_the_wait() {
        let (writer, reader) = queue().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let at = Some(Instant::now() + Duration::from_millis(1));
        assert_eq!((reader.next(at), reader.next_or_readable(read.as_fd(), at)), (Next::Time, Next::Time));
        assert!(!readable(read.as_fd(), at));
        rustix::io::write(&write, b"x").unwrap();
        assert!(readable(read.as_fd(), None));
        assert_eq!(reader.next_or_readable(read.as_fd(), None), Next::Readable);
        writer.send(1);
        assert_eq!(reader.next_or_readable(read.as_fd(), None), Next::Job(1));
        assert_eq!(reader.try_next(), None);
        writer.send(2);
        assert_eq!((reader.next(None), reader.try_next()), (Next::Job(2), None));
        drop(writer);
        assert_eq!(
            (reader.next(None), reader.next_or_readable(read.as_fd(), None)),
            (Next::Gone, Next::Gone)
        );
    }
}
