//! Successes and errors of the last while.

use std::time::Duration;

use super::time::Mono;

const PARTS: usize = 10;

/// Counts of the last while, in ten parts of it: what is older than nine to ten parts is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Window {
    parts: [(u32, u32); PARTS],
    /// The number of the part that is being filled, counted from the beginning of time.
    current: u64,
}

impl Window {
    fn advance(&mut self, length: Duration, now: Mono) {
        let nanos = (u64::try_from(length.as_nanos()).unwrap_or(u64::MAX) / PARTS as u64).max(1);
        // As a rule it is the same part as before, which shows without a division.
        let begun = self.current.saturating_mul(nanos);
        if now.0 >= begun && now.0 - begun < nanos {
            return;
        }
        let part = now.0 / nanos;
        if part < self.current || part - self.current >= PARTS as u64 {
            self.parts = [(0, 0); PARTS];
        } else {
            for old in self.current + 1..=part {
                self.parts[(old % PARTS as u64) as usize] = (0, 0);
            }
        }
        self.current = part;
    }

    /// Counts one.
    pub(super) fn add(&mut self, length: Duration, now: Mono, good: bool) {
        self.advance(length, now);
        let (errors, successes) = &mut self.parts[(self.current % PARTS as u64) as usize];
        if good {
            *successes = successes.saturating_add(1);
        } else {
            *errors = errors.saturating_add(1);
        }
    }

    /// Errors and successes.
    pub(super) fn counts(mut self, length: Duration, now: Mono) -> (u32, u32) {
        self.advance(length, now);
        self.parts.iter().fold((0, 0), |(errors, successes): (u32, u32), part| {
            (errors.saturating_add(part.0), successes.saturating_add(part.1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_is_forgotten_and_what_is_not_counts() {
        let length = Duration::from_secs(100);
        let at = |seconds: u64| Mono(seconds * 1_000_000_000);
        let mut window = Window::default();
        for second in [1000, 1005, 1050, 1095] {
            window.add(length, at(second), second == 1050);
        }
        let cases = [
            (1095, (3, 1)),
            (1099, (3, 1)),
            // The part from 1000 to 1009 goes as a whole.
            (1100, (1, 1)),
            (1149, (1, 1)),
            (1150, (1, 0)),
            (1200, (0, 0)),
            (9_000_000, (0, 0)),
        ];
        for (second, want) in cases {
            assert_eq!(window.counts(length, at(second)), want, "{second}");
        }
        // Another length of window, by a new configuration, begins anew.
        assert_eq!(window.counts(Duration::from_secs(1000), at(1099)), (0, 0));
    }
}
