//! What the engine wants to be woken up for.

use std::collections::{BTreeMap, BTreeSet};

use super::knowledge::SubjectId;
use crate::ha::ids::{GroupId, HostId};
use crate::time::Mono;

/// A reason to wake up. Each has one deadline at most.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Dial a host again.
    Dial(HostId),
    /// Look whether a host is still alive.
    Host(HostId),
    /// Look at a resource on a host.
    Monitor(SubjectId, HostId),
    /// Look at a group again.
    Group(GroupId),
    /// Go on with a change of a host's power.
    Power(HostId),
    /// Ask a host's fence devices whether they work.
    Devices(HostId),
    /// A maintenance ends.
    Maintenance,
}

/// All deadlines.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeSet<(Mono, Timer)>,
    at: BTreeMap<Timer, Mono>,
}

impl Timers {
    /// Sets a deadline, in place of the one there was.
    pub(super) fn set(&mut self, timer: Timer, at: Mono) {
        self.cancel(&timer);
        self.queue.insert((at, timer.clone()));
        self.at.insert(timer, at);
    }

    /// Sets a deadline unless an earlier one is there.
    pub(super) fn by(&mut self, timer: Timer, at: Mono) {
        if self.at.get(&timer).is_none_or(|earlier| at < *earlier) {
            self.set(timer, at);
        }
    }

    /// Whether there is a deadline.
    pub(super) fn is_set(&self, timer: &Timer) -> bool {
        self.at.contains_key(timer)
    }

    pub(super) fn cancel(&mut self, timer: &Timer) {
        if let Some(at) = self.at.remove(timer) {
            self.queue.remove(&(at, timer.clone()));
        }
    }

    /// The first deadline.
    pub(super) fn next(&self) -> Mono {
        self.queue.first().map_or(Mono::MAX, |(at, _)| *at)
    }

    /// Takes a deadline that is over.
    pub(super) fn due(&mut self, now: Mono) -> Option<Timer> {
        if self.next() > now {
            return None;
        }
        let (_, timer) = self.queue.pop_first()?;
        self.at.remove(&timer);
        Some(timer)
    }
}
