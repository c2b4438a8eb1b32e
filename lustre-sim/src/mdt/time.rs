//! Time, as an argument.

use serde::Serialize;

/// Both clocks of a machine, read at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
pub struct Time {
    /// Monotonic nanoseconds since an arbitrary start. Never goes back.
    pub mono: u64,
    /// Wall-clock seconds since the epoch, which Lustre uses for its timeouts, its log and its first cookie. May jump.
    pub wall: i64,
}

/// Nanoseconds of a second.
pub(super) const SECOND: u64 = 1_000_000_000;

impl Time {
    /// The time `nanos` nanoseconds later, on both clocks. The wall clock shows whole seconds, counted as if it had just
    /// begun one at `mono` 0.
    pub fn after(self, nanos: u64) -> Time {
        let mono = self.mono.saturating_add(nanos);
        let seconds = mono / SECOND - self.mono / SECOND;
        Time { mono, wall: self.wall.saturating_add_unsigned(seconds) }
    }
}
