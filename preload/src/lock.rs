//! A lock that survives fork and never blocks a signal handler.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use crate::clock;

/// Holds the process that took it: a child forked while another thread held the lock sees a holder that is not itself,
/// whose memory it does not share, and takes the lock over.
#[derive(Debug, Default)]
pub struct PidLock(AtomicI32);

impl PidLock {
    /// Takes the lock unless it is held in this process.
    pub fn try_lock(&self) -> Option<Guard<'_>> {
        let me = clock::pid();
        let mut holder = self.0.load(Ordering::Relaxed);
        loop {
            if holder == me {
                return None;
            }
            match self.0.compare_exchange_weak(holder, me, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(Guard(self)),
                Err(seen) => holder = seen,
            }
        }
    }

    /// Takes the lock; those who hold it do so for the time of a few system calls that do not block.
    pub fn lock(&self) -> Guard<'_> {
        let mut tries = 0u32;
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            tries += 1;
            if tries < 100 {
                std::thread::yield_now();
            } else {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    }
}

/// The lock is held while this lives.
#[derive(Debug)]
pub struct Guard<'a>(&'a PidLock);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.0.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_one_left_behind_by_fork_is_taken_over() {
        let lock = PidLock::default();
        let guard = lock.try_lock().unwrap();
        assert!(lock.try_lock().is_none());
        drop(guard);
        assert!(lock.try_lock().is_some());
        // What a child sees when its parent's thread held the lock at fork.
        lock.0.store(clock::pid() + 1, Ordering::Relaxed);
        assert!(lock.try_lock().is_some());
    }
}
