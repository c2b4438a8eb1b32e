//! When the coordinator looks at its log.
//!
//! Its thread sleeps at most a second (`mdt_coordinator`). Then it makes a housekeeping pass over the whole log if
//! `loop_period` is over, or a short one from where it was if something happened, or sleeps again. The end of the last
//! request in memory wakes it at once; other events wait for the second to end.

use super::pass::Sending;
use super::time::SECOND;
use super::{CallId, CdtState, ClientId, Effect, LogIndex, Mdt, Time};

/// What the coordinator's thread knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Thread {
    /// Something happened since the last pass.
    pub event: bool,
    /// Look at once.
    pub wake: bool,
    /// When it wakes by itself (monotonic nanoseconds).
    pub next_tick: u64,
    /// Wall-clock seconds of the last housekeeping pass.
    pub last_housekeeping: i64,
    /// Where a short pass begins: the last record that was taken up.
    pub scanned: LogIndex,
    /// The list under way. Nothing else is sent meanwhile.
    pub sending: Option<Sending>,
    /// Lists sent so far.
    pub deliveries: u64,
    /// Cancels of a purge under way, which nobody waits for.
    pub purge_deliveries: Vec<(u64, ClientId)>,
    /// Controls that wait for the list under way.
    pub deferred: Vec<Deferred>,
    /// The time of the last event.
    pub now: Time,
}

/// A change of `hsm_control` that waits until the coordinator is idle.
#[derive(Debug, Clone)]
pub(super) struct Deferred {
    pub id: CallId,
    pub client: ClientId,
    pub shutdown: bool,
    /// State to return to after a purge.
    pub before: CdtState,
}

impl Thread {
    /// Forgets everything but the numbers of deliveries, and begins to sleep.
    pub fn restart(&mut self, now: Time) {
        *self =
            Thread { next_tick: now.mono + SECOND, deliveries: self.deliveries, now, ..Thread::default() };
    }
}

impl Mdt {
    fn awake(&self) -> bool {
        self.up && self.state == CdtState::Enabled && self.thread.sending.is_none()
    }

    /// When [`super::Event::Tick`] should be given at the latest (monotonic nanoseconds). `None` while nothing is planned.
    pub fn next_deadline(&self) -> Option<u64> {
        if !self.awake() {
            return None;
        }
        if self.thread.event {
            return Some(self.thread.next_tick);
        }
        if self.log.is_empty() {
            return None;
        }
        let now = self.thread.now;
        let until_tick = self.thread.next_tick.saturating_sub(now.mono) / SECOND;
        let wall = now.wall.saturating_add_unsigned(until_tick);
        let due = self.thread.last_housekeeping.saturating_add(i64::from(self.params.loop_period));
        let seconds = u64::try_from(due.saturating_sub(wall)).unwrap_or(0);
        Some(self.thread.next_tick.saturating_add(seconds.saturating_mul(SECOND)))
    }

    /// What the thread does when its second is over.
    pub(super) fn tick(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let deadline = self.next_deadline();
        self.thread.now = now;
        if self.awake() && now.mono >= self.thread.next_tick {
            let missed = (now.mono - self.thread.next_tick) / SECOND;
            self.thread.next_tick += (missed + 1) * SECOND;
            // In between, the thread has slept through moments at which it had nothing to do.
            if deadline.is_none_or(|deadline| now.mono >= deadline) {
                self.turn(now, effects);
            }
        }
    }

    /// What the thread does when it is woken.
    pub(super) fn run_if_woken(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while self.thread.wake && self.awake() {
            self.turn(now, effects);
        }
    }

    fn turn(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let period = i64::from(self.params.loop_period.max(1));
        let late = now.wall.saturating_sub(self.thread.last_housekeeping);
        let thread = &mut self.thread;
        thread.wake = false;
        if self.log.is_empty() && !thread.event {
            // Housekeeping of nothing: only the time of the next one counts.
            if thread.last_housekeeping == 0 {
                thread.last_housekeeping = now.wall;
            } else if late >= period {
                thread.last_housekeeping = now.wall - late % period;
            }
            return;
        }
        let housekeeping = late >= period;
        if housekeeping {
            thread.last_housekeeping = now.wall;
        } else if !thread.event {
            return;
        }
        thread.event = false;
        self.pass(now, housekeeping, effects);
    }

    /// The pass has ended: the thread sleeps again.
    pub(super) fn pass_ended(&mut self, now: Time) {
        self.thread.next_tick = now.mono + SECOND;
    }
}
