//! A rate: so many requests in so much time, spread evenly.

use std::time::Duration;

use super::time::Mono;

/// So many requests in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// In what time; more than zero.
    pub per: Duration,
}

impl Rate {
    /// Nanoseconds from one to the next.
    fn interval(self) -> u64 {
        let per = u64::try_from(self.per.as_nanos()).unwrap_or(u64::MAX);
        (per / u64::from(self.count.max(1))).max(1)
    }

    /// How many may go at once after a pause: those of a second, at least one.
    fn burst(self) -> u64 {
        (1_000_000_000 / self.interval()).max(1)
    }
}

/// What was used of a rate. It remembers only when the last one would have gone, had all gone at even distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bucket {
    next: Mono,
}

impl Bucket {
    /// How many may go now.
    pub(super) fn room(self, rate: Rate, now: Mono) -> u32 {
        let whole = rate.interval().saturating_mul(rate.burst());
        let used = self.next.0.saturating_sub(now.0);
        u32::try_from(whole.saturating_sub(used) / rate.interval()).unwrap_or(u32::MAX)
    }

    /// When one may go, if none may now.
    pub(super) fn open_at(self, rate: Rate) -> Mono {
        Mono(self.next.0.saturating_sub(rate.interval().saturating_mul(rate.burst() - 1)))
    }

    /// One goes.
    pub(super) fn take(&mut self, rate: Rate, now: Mono) {
        self.next = Mono(self.next.0.max(now.0).saturating_add(rate.interval()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the rate, no more go in any time than it allows, and as many when there is always one that wants to.
    #[test]
    fn a_rate_is_kept_and_used() {
        let cases =
            [(10, 1, 10), (1, 1, 1), (3, 60, 1), (1000, 1, 1000), (7, 2, 3), (100, 3600, 1), (1, 86_400, 1)];
        for (count, seconds, burst) in cases {
            let rate = Rate { count, per: Duration::from_secs(seconds) };
            let start = Mono(1_000_000_000_000);
            let mut bucket = Bucket::default();
            assert_eq!(bucket.room(rate, start), burst, "{rate:?}");
            let (mut now, mut gone) = (start, 0u64);
            while gone < 2000 {
                while bucket.room(rate, now) > 0 {
                    bucket.take(rate, now);
                    gone += 1;
                }
                let open = bucket.open_at(rate);
                assert!(open > now, "{rate:?}");
                assert_eq!(bucket.room(rate, Mono(open.0 - 1)), 0, "{rate:?}");
                now = open;
            }
            let passed = (now.0 - start.0) as f64 / 1e9;
            let want = (gone - u64::from(burst)) as f64 * seconds as f64 / f64::from(count);
            assert!((passed - want).abs() <= want / 100.0 + 1.0, "{rate:?}: {passed} {want}");
            // After a long pause no more than the burst goes.
            assert_eq!(bucket.room(rate, Mono(now.0 + 1_000_000_000_000_000)), burst);
        }
    }
}
