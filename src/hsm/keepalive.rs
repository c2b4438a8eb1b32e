//! Keepalives: the MDT times out what shows no progress for `active_request_timeout`, whether it runs or only waits here.
//!
//! A zero-length progress begins that time anew and tells whether the MDT still knows the request (Lustre
//! mdt_hsm_update_request_state). Each request gets one every quarter of the timeout: a cursor goes round the slab once in
//! that time, at an even pace, so that no request needs a timer of its own. The slab never shrinks, so a request is never met
//! later than one round after the last time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::Coordinator;
use super::action::{Action, ActionItem, RequestKey};
use super::cancel::{ECANCELED, ENOENT};
use super::effect::{Effect, Effects};
use super::lustre_call::LustreCall;
use super::requests::{Handle, State};
use super::time::Mono;
use super::timers::Timer;

/// Entries of the slab looked at in one step.
const LOOKED_AT: u32 = 2048;
/// Keepalives that the MDTs have not answered yet.
const MOST_ASKED: usize = 8192;
/// Of these, for files of one sequence, so that an MDT that does not answer leaves room for the others.
const MOST_OF_SEQUENCE: u32 = 1024;
/// What was not used of the rate is good for a burst of this long, in nanoseconds.
const BURST: u64 = 125_000_000;
/// How long a step waits when it may send no more.
const PAUSE: Duration = Duration::from_millis(20);
/// How often troubles are logged.
const LOG_EVERY: Duration = Duration::from_secs(600);

/// Where keepalives stand.
#[derive(Debug, Default)]
pub(super) struct KeepAlive {
    /// `active_request_timeout` as Lustre has it.
    told: Option<Duration>,
    armed: bool,
    /// This round does not keep the pace but goes as fast as it may.
    hurry: bool,
    /// When the round began.
    began: Mono,
    /// Whom it looks at next.
    cursor: Handle,
    /// When the last step was, and for how many keepalives there was still time, in nanoseconds of the rate.
    stepped: Mono,
    spare: u64,
    /// Sent and not answered.
    asked: BTreeSet<RequestKey>,
    by_sequence: BTreeMap<u64, u32>,
    /// The last sequence number at times past: what came to its mover before is at least that old.
    marks: VecDeque<(Mono, u64)>,
    /// What came to its mover up to this sequence number is too old.
    too_old: u64,
    logged: Option<Mono>,
}

impl KeepAlive {
    fn answered(&mut self, key: RequestKey) {
        if self.asked.remove(&key)
            && let Some(count) = self.by_sequence.get_mut(&key.fid.seq)
        {
            *count -= 1;
            if *count == 0 {
                self.by_sequence.remove(&key.fid.seq);
            }
        }
    }
}

impl Coordinator {
    /// `active_request_timeout`, zero when nothing is to be kept alive.
    pub(super) fn request_timeout(&self) -> Duration {
        if self.config.request_timeout.is_zero() {
            return Duration::ZERO;
        }
        self.keepalive.told.unwrap_or(self.config.request_timeout)
    }

    /// How often a request is kept alive; `None` for never.
    pub(super) fn keepalive_interval(&self) -> Option<Duration> {
        let interval = self.request_timeout() / 4;
        (!interval.is_zero()).then_some(interval)
    }

    pub(super) fn told_timeout(&mut self, timeout: Duration) {
        if timeout.is_zero() || self.keepalive.told == Some(timeout) {
            return;
        }
        tracing::info!(seconds = timeout.as_secs_f64(), "active_request_timeout, as Lustre has it");
        self.keepalive.told = Some(timeout);
        self.keep_alive_soon();
    }

    /// All requests are to be kept alive as soon as possible.
    pub(super) fn keep_alive_soon(&mut self) {
        self.keepalive.hurry = true;
        self.keepalive.cursor = 0;
        self.keepalive.armed = false;
        self.arm_keepalive();
    }

    /// There is something to be kept alive.
    pub(super) fn arm_keepalive(&mut self) {
        if self.keepalive.armed {
            return;
        }
        let Some(interval) = self.keepalive_interval() else {
            return;
        };
        self.keepalive.armed = true;
        if !self.timers.is_set(Timer::KeepAlive) {
            self.begin_round(self.now.mono);
            self.keepalive.stepped = self.now.mono;
        }
        let wait = if self.keepalive.hurry { Duration::ZERO } else { interval / 64 };
        self.timers.set(Timer::KeepAlive, self.now.mono + wait);
    }

    fn begin_round(&mut self, at: Mono) {
        self.keepalive.began = at;
        self.keepalive.cursor = 0;
        let oldest = self.now.mono - self.config.keepalive_running_max;
        let sequence = self.sequence();
        let apart = self.config.keepalive_running_max / 1024;
        let marks = &mut self.keepalive.marks;
        if marks.back().is_none_or(|&(last, _)| self.now.mono.since(last) >= apart) {
            marks.push_back((self.now.mono, sequence));
        }
        while let Some(&(_, sequence)) = marks.front().filter(|&&(at, _)| at < oldest) {
            self.keepalive.too_old = sequence;
            marks.pop_front();
        }
    }

    /// A request was forgotten: when it was the last, nobody needs to be woken.
    pub(super) fn disarm_keepalive(&mut self) {
        if self.keepalive.armed && self.requests.slab.len() == 0 {
            self.keepalive.armed = false;
            self.timers.clear(Timer::KeepAlive);
        }
    }

    /// Keeps the next requests alive.
    pub(super) fn keepalive_step(&mut self, effects: &mut Effects) {
        self.keepalive.armed = false;
        let Some(interval) = self.keepalive_interval().filter(|_| self.requests.slab.len() > 0) else {
            self.keepalive.hurry = false;
            return;
        };
        let now = self.now.mono;
        let capacity = self.requests.slab.capacity();
        let cost = 1_000_000_000u64.checked_div(u64::from(self.config.keepalive_rate)).unwrap_or(0);
        let gained = now.since(self.keepalive.stepped).min(Duration::from_nanos(BURST)).as_nanos() as u64;
        // At least one, however short the time was.
        let mut spare = (self.keepalive.spare + gained).min(BURST).max(cost);
        self.keepalive.stepped = now;

        let passed = now.since(self.keepalive.began);
        let target = if self.keepalive.hurry {
            capacity
        } else {
            let share = u128::from(capacity) * passed.as_nanos() / interval.as_nanos();
            share.min(u128::from(capacity)) as u32
        };
        let mut looked_at = 0;
        let mut full = false;
        while self.keepalive.cursor < target && looked_at < LOOKED_AT {
            full = spare < cost || self.keepalive.asked.len() >= MOST_ASKED;
            if full {
                break;
            }
            looked_at += 1;
            if self.keep_one_alive(self.keepalive.cursor, effects) {
                spare -= cost;
            }
            self.keepalive.cursor += 1;
        }
        self.keepalive.spare = spare;
        let next = if full {
            self.log_slow_round(passed, interval);
            now + PAUSE
        } else if self.keepalive.cursor < target {
            Mono(now.0 + 1)
        } else {
            if target == capacity {
                let due = self.keepalive.began + interval;
                let late = self.keepalive.hurry || due + interval < now;
                self.keepalive.hurry = false;
                self.begin_round(if late { now } else { due.min(now) });
            }
            let share = interval.as_nanos() * 128 / u128::from(capacity.max(1));
            let share = Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX));
            now + share.clamp(Duration::from_millis(1).min(interval / 64), interval / 64)
        };
        self.keepalive.armed = true;
        self.timers.set(Timer::KeepAlive, next);
    }

    /// Returns whether a keepalive was sent.
    fn keep_one_alive(&mut self, handle: Handle, effects: &mut Effects) -> bool {
        let request = self.requests.at(handle);
        match request.state {
            // What is in doubt is asked about at its own pace.
            State::Free | State::Loose | State::Doubtful | State::Bound => return false,
            State::Running => {
                if request.linked <= self.keepalive.too_old || !self.mover_lives(request.owner) {
                    return false;
                }
            }
            State::Queued
            | State::Parked
            | State::Held
            | State::Settling
            | State::Limited
            | State::Vetting => {}
        }
        let key = request.key();
        if self.keepalive.asked.contains(&key) {
            return false;
        }
        let of_sequence = self.keepalive.by_sequence.entry(key.fid.seq).or_insert(0);
        if *of_sequence >= MOST_OF_SEQUENCE {
            return false;
        }
        *of_sequence += 1;
        self.keepalive.asked.insert(key);
        self.counts.keepalives += 1;
        let number = self.next_sequence();
        effects.visible.push(Effect::AskLustre(LustreCall::KeepAlive { key, number }));
        true
    }

    /// Whether what a mover runs is to be kept alive: while its lease holds, or it is connected and knows no leases, or it is
    /// away for less than its grace, since its work is given to others after that.
    fn mover_lives(&self, mover: u32) -> bool {
        let mover = self.movers.at(mover);
        mover.conn.is_none() || mover.lease_until.is_none_or(|until| until > self.now.mono)
    }

    /// The MDT's answer to a keepalive, whoever asked.
    pub(super) fn kept_alive(&mut self, key: RequestKey, number: u64, errno: i32, effects: &mut Effects) {
        self.keepalive.answered(key);
        if !self.reconcile_answered(key, number, errno, effects) {
            return;
        }
        let Some(handle) = self.requests.find(key) else {
            return;
        };
        // It was somewhere else when this was asked, or was not here: what it says was true of that. A cancel stays true.
        if number < self.requests.at(handle).linked && errno != ECANCELED {
            return;
        }
        match errno {
            0 => self.alive_at_mdt(handle, number, effects),
            ECANCELED => self.cancelled_at_mdt(handle, effects),
            ENOENT => self.unknown_at_mdt(handle, number, effects),
            _ => {
                self.counts.unanswered += 1;
                self.log_unanswered(key, errno);
                self.doubt_stays(handle, number);
            }
        }
    }

    /// A user has cancelled it, and the cancel has not come yet: it may be stuck behind `max_requests`.
    fn cancelled_at_mdt(&mut self, handle: Handle, effects: &mut Effects) {
        if self.cancels.contains_key(&handle) {
            return;
        }
        self.counts.found_cancelled += 1;
        let item = self.item(handle, true);
        let cancel = ActionItem {
            action: Action::Cancel,
            dfid: item.fid,
            extent_offset: 0,
            extent_length: u64::MAX,
            data: Box::default(),
            extra: Box::default(),
            ..item
        };
        self.cancel(cancel, effects);
    }

    fn log_unanswered(&mut self, key: RequestKey, errno: i32) {
        if self.may_log() {
            tracing::warn!(%key, errno, "an MDT does not answer keepalives: requests there may be timed out");
        }
    }

    fn log_slow_round(&mut self, passed: Duration, interval: Duration) {
        if passed > interval * 3 / 2 && self.may_log() {
            tracing::warn!(
                requests = self.requests.slab.len(),
                seconds = passed.as_secs(),
                "keepalives take longer than a quarter of active_request_timeout: raise keepalive_rate, or the timeout"
            );
        }
    }

    fn may_log(&mut self) -> bool {
        let now = self.now.mono;
        let may = self.keepalive.logged.is_none_or(|at| now.since(at) >= LOG_EVERY);
        if may {
            self.keepalive.logged = Some(now);
        }
        may
    }
}
