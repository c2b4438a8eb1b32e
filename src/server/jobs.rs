//! A queue between two threads whose reader can wait for a descriptor as well.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

/// The weight of a job that wakes the reader in any case.
pub(super) const URGENT: usize = 1 << 40;

/// Wakes a reader that waits for its descriptor.
#[derive(Debug)]
struct Bell {
    /// How much must wait for it to be worth waking the reader; 0 while it need not be. A writer that finds that so rings, once.
    wanted: AtomicUsize,
    /// The weight of all that waits.
    waiting: AtomicUsize,
    event: OwnedFd,
}

impl Bell {
    fn ring_if_wanted(&self) {
        // Pairs with the one of the reader: either it finds the job, or we find that it waits.
        fence(Ordering::SeqCst);
        let wanted = self.wanted.load(Ordering::Relaxed);
        let enough = wanted > 0 && self.waiting.load(Ordering::Relaxed) >= wanted;
        if enough && self.wanted.swap(0, Ordering::Relaxed) > 0 {
            // It only fails when it was rung more often than a number can say.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }
}

/// The end that puts jobs in.
#[derive(Debug)]
pub(super) struct Writer<J> {
    jobs: Sender<(usize, J)>,
    bell: Arc<Bell>,
}

/// The end that takes them out.
#[derive(Debug)]
pub(super) struct Reader<J> {
    jobs: Receiver<(usize, J)>,
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
    let bell = Arc::new(Bell { wanted: AtomicUsize::new(0), waiting: AtomicUsize::new(0), event });
    Ok((Writer { jobs: send, bell: Arc::clone(&bell) }, Reader { jobs, bell }))
}

impl<J> Writer<J> {
    /// Puts a job in that weighs so much. It is lost when the reader is gone.
    pub(super) fn send(&self, weight: usize, job: J) {
        // More than all that can wait in memory is as urgent as can be.
        let weight = weight.min(URGENT);
        self.bell.waiting.fetch_add(weight, Ordering::Relaxed);
        if self.jobs.send((weight, job)).is_ok() {
            self.bell.ring_if_wanted();
        }
    }
}

impl<J> Drop for Writer<J> {
    fn drop(&mut self) {
        // The reader looks and finds the queue closed, once that is so.
        let (closed, _) = mpsc::channel();
        self.jobs = closed;
        self.bell.waiting.fetch_add(URGENT, Ordering::Relaxed);
        self.bell.ring_if_wanted();
    }
}

impl<J> Reader<J> {
    fn taken(&self, (weight, job): (usize, J)) -> J {
        self.bell.waiting.fetch_sub(weight, Ordering::Relaxed);
        job
    }

    /// A job that is there.
    pub(super) fn try_next(&self) -> Option<J> {
        self.jobs.try_recv().ok().map(|job| self.taken(job))
    }

    /// Waits for a job, at most until some time.
    pub(super) fn next(&self, until: Option<Instant>) -> Next<J> {
        let job = match until {
            None => self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => self.jobs.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match job {
            Ok(job) => Next::Job(self.taken(job)),
            Err(RecvTimeoutError::Timeout) => Next::Time,
            Err(RecvTimeoutError::Disconnected) => Next::Gone,
        }
    }

    /// Waits until there is something to read or until jobs of `enough` weight wait, at most until some time. Such jobs come
    /// first.
    pub(super) fn next_or_readable(
        &self,
        descriptor: BorrowedFd<'_>,
        enough: usize,
        until: Option<Instant>,
    ) -> Next<J> {
        let enough = enough.max(1);
        self.bell.wanted.store(enough, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let next = if self.bell.waiting.load(Ordering::Relaxed) >= enough {
            // One that is just being put in is there in a moment.
            self.look()
        } else {
            match wait([descriptor, self.bell.event.as_fd()], until) {
                [true, _] => Next::Readable,
                [_, true] => {
                    // It may have been rung for a job that is taken already.
                    let _ = rustix::io::read(&self.bell.event, &mut [0; 8]);
                    self.look()
                }
                _ => Next::Time,
            }
        };
        self.bell.wanted.store(0, Ordering::Relaxed);
        next
    }

    fn look(&self) -> Next<J> {
        match self.jobs.try_recv() {
            Ok(job) => Next::Job(self.taken(job)),
            Err(TryRecvError::Empty) => Next::Time,
            Err(TryRecvError::Disconnected) => Next::Gone,
        }
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
                writer.send(1, (job, 1));
                writer.send(2, (job, 2));
            }
        });
        for job in 0..JOBS {
            ask.send(()).unwrap();
            for (weight, enough) in [(1, 3), (2, 2)] {
                loop {
                    match reader.next_or_readable(silent.as_fd(), enough, None) {
                        Next::Time => {}
                        next => {
                            assert_eq!(next, Next::Job((job, weight)));
                            break;
                        }
                    }
                }
            }
        }
        other.join().unwrap();
        while reader.next_or_readable(silent.as_fd(), 1, None) != Next::Gone {}
    }

    #[test]
    fn what_is_there_ends_the_wait() {
        let (writer, reader) = queue().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let at = Some(Instant::now() + Duration::from_millis(1));
        let both = |until| reader.next_or_readable(read.as_fd(), 10, until);
        assert_eq!((reader.next(at), both(at)), (Next::Time, Next::Time));
        assert!(!readable(read.as_fd(), at));
        writer.send(9, 1);
        assert_eq!(both(at), Next::Time, "not enough");
        writer.send(1, 2);
        assert_eq!(both(None), Next::Job(1));
        rustix::io::write(&write, b"x").unwrap();
        assert!(readable(read.as_fd(), None));
        assert_eq!(both(None), Next::Readable);
        assert_eq!((reader.try_next(), reader.try_next()), (Some(2), None));
        writer.send(URGENT, 3);
        assert_eq!(both(None), Next::Job(3));
        writer.send(1, 4);
        assert_eq!((reader.next(None), reader.try_next()), (Next::Job(4), None));
        drop(writer);
        assert_eq!((reader.next(None), both(None)), (Next::Gone, Next::Gone));
    }
}
