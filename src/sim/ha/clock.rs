//! Clocks of machines: they run at their own speed, and the wall clock is set now and then.

use crate::time::{Mono, Now, Wall};

/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;
/// Nanoseconds of a millisecond.
pub const MILLI: u64 = 1_000_000;

/// Wall-clock nanoseconds at which every run starts.
const EPOCH: i64 = 1_795_216_572_000_000_000;

/// The clocks of one machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    /// How much faster than true time it runs, in millionths.
    pub ppm: i64,
    /// What the monotonic clock is ahead, in nanoseconds.
    pub ahead: u64,
    /// Nanoseconds in which the monotonic clock stood still.
    pub lost: u64,
    /// How far off the wall clock is, in nanoseconds.
    pub wall_offset: i64,
}

impl Clock {
    /// The monotonic clock at a true time.
    pub fn mono(&self, now: u64) -> Mono {
        let drift = i128::from(now) * i128::from(self.ppm) / 1_000_000;
        let local = i128::from(now) + drift + i128::from(self.ahead) - i128::from(self.lost);
        Mono(u64::try_from(local).unwrap_or(0))
    }

    /// Both clocks at a true time.
    pub fn now(&self, now: u64) -> Now {
        let wall = EPOCH.saturating_add_unsigned(now).saturating_add(self.wall_offset);
        Now { mono: self.mono(now), wall: Wall(wall) }
    }

    /// The first true time at which the monotonic clock shows `at` or more, `None` if that never comes.
    pub fn reaches(&self, at: Mono) -> Option<u64> {
        if at == Mono::MAX {
            return None;
        }
        let local = i128::from(at.0) - i128::from(self.ahead) + i128::from(self.lost);
        let mut time = u64::try_from(local * 1_000_000 / (1_000_000 + i128::from(self.ppm))).unwrap_or(0);
        while self.mono(time) < at {
            time += 1;
        }
        Some(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_when_the_clock_shows_it() {
        for ppm in [-500, 0, 500] {
            let clock = Clock { ppm, ahead: 77 * SECOND, lost: 3 * SECOND, wall_offset: -5 };
            for at in [80 * SECOND, 123_456_789_012, 1000 * SECOND + 1] {
                let time = clock.reaches(Mono(at)).unwrap();
                assert!(clock.mono(time) >= Mono(at));
                assert!(time == 0 || clock.mono(time - 1) < Mono(at));
            }
        }
        assert_eq!(Clock::default().reaches(Mono::MAX), None);
    }
}
