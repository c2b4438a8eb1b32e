//! The clocks of this process, as the cores want them.

use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::time::{Mono, Now, Wall};

/// Both clocks, the monotonic one counted from when this was made. It goes on while the machine is suspended, so that what
/// was seen before is as old as it is.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Duration,
}

fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Clock {
    /// A clock that begins now.
    pub fn new() -> Self {
        Self { start: since_boot() }
    }

    /// A clock that began so long ago, for tests.
    #[cfg(test)]
    pub fn starting(ago: Duration) -> Self {
        Self { start: since_boot().saturating_sub(ago) }
    }

    /// What both clocks show.
    pub fn now(&self) -> Now {
        let passed = since_boot().saturating_sub(self.start);
        let mono = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        let wall = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(error) => i64::try_from(error.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
        };
        Now { mono: Mono(mono), wall: Wall(wall) }
    }

    /// When `at` is, or `None` when that is further away than a clock can count.
    pub fn instant(&self, at: Mono) -> Option<Instant> {
        let wait = (self.start + Duration::from_nanos(at.0)).saturating_sub(since_boot());
        Instant::now().checked_add(wait)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
