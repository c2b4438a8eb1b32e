//! The clocks of this process, as the core wants them.

use std::time::{Instant, SystemTime};

use crate::hsm::{Mono, Now, Wall};

/// Both clocks, the monotonic one counted from when this was made.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// What both clocks show.
    pub fn now(&self) -> Now {
        let mono = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let wall = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(error) => i64::try_from(error.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
        };
        Now { mono: Mono(mono), wall: Wall(wall) }
    }

    /// When `at` is, or `None` when that is further away than a clock can count.
    pub fn instant(&self, at: Mono) -> Option<Instant> {
        self.start.checked_add(std::time::Duration::from_nanos(at.0))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
