//! Deadlines.

use std::collections::BTreeSet;

use super::time::Mono;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Work that was cut into slices goes on.
    Slice,
    /// A mover has been away for too long.
    Grace(u32),
    /// A peer whose id is taken by another has waited long enough (index of hosts).
    Probe(u32),
    /// A slot of a mover is to be looked at.
    Slot(u32, u32),
    /// Requests recovered without a mover are let go.
    Settle,
    /// Progress reports and the removal of old reporting files.
    Report,
    /// An end that the MDT could not take is tried again.
    Ending,
    /// The MDT is asked again about requests that wait for its word.
    Vetting,
    /// An MDT is asked to take restores again that were bound to a mover.
    Bound,
    /// Requests are kept alive.
    KeepAlive,
    /// Requests that the MDT may have forgotten are looked at.
    Doubt,
    /// Work that no mover can take is looked for.
    Stranded,
    /// The MDT is asked again for requests that failed.
    Retry,
    /// A mover's allowance changes by time.
    Duty,
    /// Limits of hints and users are looked at.
    Limits,
    /// A tape has gathered requests, or was with its mover, for long enough.
    Tape(u32),
    /// Requests have waited to be located for long enough.
    Locations,
}

/// All deadlines, each timer at most once.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeSet<(Mono, Timer)>,
    set: std::collections::BTreeMap<Timer, Mono>,
}

impl Timers {
    /// Sets or moves a timer.
    pub(super) fn set(&mut self, timer: Timer, at: Mono) {
        if let Some(old) = self.set.insert(timer, at) {
            self.due.remove(&(old, timer));
        }
        self.due.insert((at, timer));
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(old) = self.set.remove(&timer) {
            self.due.remove(&(old, timer));
        }
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.set.contains_key(&timer)
    }

    /// When a timer is due.
    pub(super) fn at(&self, timer: Timer) -> Option<Mono> {
        self.set.get(&timer).copied()
    }

    /// Hosts whose first connection is being probed.
    pub(super) fn probes(&self) -> impl Iterator<Item = u32> + '_ {
        let all = self.set.range(Timer::Probe(0)..=Timer::Probe(u32::MAX));
        all.filter_map(|(timer, _)| if let Timer::Probe(host) = timer { Some(*host) } else { None })
    }

    pub(super) fn next(&self) -> Option<Mono> {
        self.due.first().map(|&(at, _)| at)
    }

    /// Takes a timer that is due.
    pub(super) fn pop(&mut self, now: Mono) -> Option<Timer> {
        let &(at, timer) = self.due.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_in_order_and_once() {
        let mut timers = Timers::default();
        timers.set(Timer::Grace(1), Mono(30));
        timers.set(Timer::Report, Mono(20));
        timers.set(Timer::Settle, Mono(25));
        timers.set(Timer::Grace(1), Mono(10));
        timers.clear(Timer::Settle);
        assert_eq!(timers.next(), Some(Mono(10)));
        assert_eq!(timers.pop(Mono(9)), None);
        assert_eq!(timers.pop(Mono(50)), Some(Timer::Grace(1)));
        assert_eq!(timers.pop(Mono(50)), Some(Timer::Report));
        assert_eq!(timers.pop(Mono(50)), None);
        assert_eq!(timers.next(), None);
    }
}
