//! Time as the pure machines know it: an argument.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// Monotonic time in nanoseconds since an arbitrary start. Deadlines are kept in it, so that a clock set back or forward
/// changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

/// Wall-clock time in nanoseconds since the epoch. Only shown and stored, never compared with a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(pub i64);

/// Both clocks, read at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For deadlines.
    pub mono: Mono,
    /// For display and records.
    pub wall: Wall,
}

impl Now {
    /// What the wall clock shows, or will show, at `at`, if nobody sets it.
    pub fn wall_at(&self, at: Mono) -> Wall {
        let ahead = i128::from(at.0) - i128::from(self.mono.0);
        let wall = i128::from(self.wall.0) + ahead;
        Wall(i64::try_from(wall).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX }))
    }
}

impl Mono {
    /// The latest time there is: a deadline that never comes.
    pub const MAX: Mono = Mono(u64::MAX);

    /// Time since `earlier`, zero if that is later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Mono {
    type Output = Mono;

    fn add(self, duration: Duration) -> Mono {
        Mono(self.0.saturating_add(nanos(duration)))
    }
}

impl AddAssign<Duration> for Mono {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Mono {
    type Output = Mono;

    fn sub(self, duration: Duration) -> Mono {
        Mono(self.0.saturating_sub(nanos(duration)))
    }
}

impl Wall {
    /// Whole seconds since the epoch.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_show_as_wall_time_and_never_wrap() {
        let now = Now { mono: Mono(5_000), wall: Wall(1_000_000) };
        assert_eq!(now.wall_at(Mono(6_000)), Wall(1_001_000));
        assert_eq!(now.wall_at(Mono(4_000)), Wall(999_000));
        assert_eq!(now.wall_at(Mono::MAX), Wall(i64::MAX));
        assert_eq!(Mono(1) - Duration::from_secs(1), Mono(0));
        assert_eq!(Mono::MAX + Duration::from_secs(1), Mono::MAX);
        assert_eq!(Wall(-1).seconds(), -1);
    }
}
