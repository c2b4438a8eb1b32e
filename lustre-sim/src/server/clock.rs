//! The server's clock: real time, which commands may set forward.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::mdt::Time;

/// Real time from a start that may be chosen, at a rate that may be chosen.
#[derive(Debug, Clone)]
pub struct Clock {
    start: Instant,
    wall: i64,
    rate: f64,
    skipped: Duration,
}

impl Clock {
    /// A clock that shows `wall` seconds now, or the machine's time, and runs `rate` times as fast as real time.
    pub fn new(wall: Option<i64>, rate: f64) -> Self {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = wall.unwrap_or(i64::try_from(system.as_secs()).unwrap_or(0));
        Self { start: Instant::now(), wall, rate, skipped: Duration::ZERO }
    }

    /// Now.
    pub fn now(&self) -> Time {
        let elapsed = self.start.elapsed().mul_f64(self.rate) + self.skipped;
        let mono = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        Time { mono, wall: self.wall.saturating_add_unsigned(elapsed.as_secs()) }
    }

    /// Sets the clock forward.
    pub fn advance(&mut self, by: Duration) {
        self.skipped += by;
    }

    /// How long in real time until the clock's monotonic part shows `mono`.
    pub fn until(&self, mono: u64) -> Duration {
        Duration::from_nanos(mono.saturating_sub(self.now().mono)).div_f64(self.rate)
    }
}
