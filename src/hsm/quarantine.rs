//! Movers that fail too often get nothing for a while, then one request on trial.
//!
//! A mover goes into quarantine when it has had `quarantine_errors` errors within `quarantine_window_ms` and more errors
//! than successes, and only while others can do everything that it does. Errors that say more about the file than about the
//! mover do not count.

use std::time::Duration;

use super::Coordinator;
use super::cancel::{ECANCELED, ENOENT, ENOSYS};
use super::feed::MoverChange;
use super::index::NIL;
use super::requests::{Handle, Kind};
use super::time::Mono;

/// The file changed while it was archived.
const EBUSY: i32 = 16;

/// A quarantine becomes twice as long each time that the trial fails, up to so many times as long.
const LONGEST: u32 = 16;

/// Why a mover gets nothing, or next to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quarantine {
    /// It gets nothing until then.
    Until(Mono),
    /// It gets one request, and this one decides (`NIL` while it has not got it).
    Trial(Handle),
}

impl Coordinator {
    /// A mover has finished a request that nobody cancelled.
    pub(super) fn judge_mover(&mut self, mover: u32, handle: Handle, errno: i32) {
        self.count_result(mover, handle, errno);
        if errno != 0 && errno != ECANCELED {
            // Whoever's fault it is: a mover whose archive is not mounted fails with ENOENT.
            self.duties.get_mut(&self.movers.at(mover).id).failed += 1;
        }
        if [ECANCELED, ENOENT, ENOSYS, EBUSY].contains(&errno) {
            return;
        }
        let (length, now) = (self.config.quarantine.window, self.now.mono);
        let duty = self.duties.get_mut(&self.movers.at(mover).id);
        duty.window.add(length, now, errno == 0);
        if errno == 0 && duty.quarantine.is_none() {
            return;
        }
        let name = self.movers.at(mover).id.clone();
        if duty.quarantine == Some(Quarantine::Trial(handle)) {
            if errno == 0 {
                tracing::info!(mover = %name, "the mover has worked again: its quarantine is over");
                self.end_quarantine(&name);
            } else {
                self.begin_quarantine(mover, &name);
            }
            return;
        }
        if errno == 0 || duty.quarantine.is_some() || self.config.quarantine.errors == 0 {
            return;
        }
        let (errors, successes) = duty.window.counts(length, now);
        if errors >= self.config.quarantine.errors && errors > successes && self.can_spare(mover) {
            self.begin_quarantine(mover, &name);
        }
    }

    fn count_result(&mut self, mover: u32, handle: Handle, errno: i32) {
        let name = &self.movers.at(mover).id;
        let request = self.requests.at(handle);
        let (kind, archive_id) = (request.kind, self.classes.at(request.class).key.archive_id);
        if errno != 0 {
            self.duties.get_mut(name).count_error(errno);
        } else if kind != Kind::Remove
            && let Some(bytes) = self.size_of(handle)
        {
            self.duties.get_mut(name).count_bytes(kind, archive_id, bytes);
        }
    }

    /// Whether others can do everything that a mover does.
    fn can_spare(&self, mover: u32) -> bool {
        let entry = self.movers.at(mover);
        if entry.host == NIL || self.hosts.at(entry.host).queued > 0 {
            return false;
        }
        let healthy = |other: &&u32| {
            let peer = self.movers.at(**other);
            let duty = self.duty(**other);
            **other != mover
                && peer.is_mover
                && duty.is_none_or(|duty| !duty.drained && duty.quarantine.is_none())
        };
        let others: Vec<u32> = self.movers.connected.values().filter(healthy).copied().collect();
        let serves = |id: u32| {
            others.iter().any(|&other| {
                let ids = &self.movers.at(other).archive_ids;
                ids.is_empty() || ids.contains(&id)
            })
        };
        if entry.archive_ids.is_empty() {
            others.iter().any(|&other| self.movers.at(other).archive_ids.is_empty())
        } else {
            entry.archive_ids.iter().all(|&id| serves(id))
        }
    }

    fn begin_quarantine(&mut self, mover: u32, name: &str) {
        let duty = self.duties.get_mut(name);
        let factor = 1u32.checked_shl(duty.times).unwrap_or(LONGEST).min(LONGEST);
        duty.times = duty.times.saturating_add(1);
        let time = self.config.quarantine.time.saturating_mul(factor);
        let until = self.now.mono + time;
        duty.quarantine = Some(Quarantine::Until(until));
        self.counts.quarantines += 1;
        tracing::error!(mover = name, seconds = time.as_secs(), "the mover fails too often: it gets nothing");
        self.duties.quarantined.insert(name.into());
        self.tell_mover(name, MoverChange::Quarantined(self.wall(until)));
        self.duties.changed.insert(name.into());
        self.wake_mover_at(until, name);
        self.review_mover(mover);
    }

    /// The longest time for which a mover may be in quarantine.
    pub(super) fn longest_quarantine(&self) -> Duration {
        self.config.quarantine.time.saturating_mul(LONGEST)
    }

    fn end_quarantine(&mut self, name: &str) {
        let duty = self.duties.get_mut(name);
        duty.quarantine = None;
        duty.times = 0;
        duty.window = Default::default();
        self.duties.quarantined.remove(name);
        self.tell_mover(name, MoverChange::Released);
        self.duties.changed.insert(name.into());
        if let Some(mover) = self.mover_named(name) {
            self.review_mover(mover);
        }
    }

    /// The time of a quarantine is over: the next request is a trial.
    pub(super) fn quarantine_over(&mut self, name: &str) {
        let now = self.now.mono;
        let over =
            |duty: &super::duty::Duty| matches!(duty.quarantine, Some(Quarantine::Until(at)) if at <= now);
        if self.duties.get(name).is_some_and(over) {
            tracing::info!(mover = name, "the mover is tried again");
            self.tell_mover(name, MoverChange::Trial);
            self.duties.changed.insert(name.into());
            self.duties.get_mut(name).quarantine = Some(Quarantine::Trial(NIL));
        }
    }

    /// A mover on trial is given its request.
    pub(super) fn begin_trial(&mut self, handle: Handle, name: &str) {
        if self.duties.get(name).is_some_and(|duty| duty.quarantine == Some(Quarantine::Trial(NIL))) {
            self.duties.get_mut(name).quarantine = Some(Quarantine::Trial(handle));
        }
    }

    /// A request has left its mover, and nothing was decided by it: another is to decide.
    pub(super) fn abort_trial(&mut self, handle: Handle, name: &str) {
        if self.duties.get(name).is_some_and(|duty| duty.quarantine == Some(Quarantine::Trial(handle))) {
            self.duties.get_mut(name).quarantine = Some(Quarantine::Trial(NIL));
        }
    }

    /// An operator ends a quarantine. Returns why not.
    pub(super) fn release(&mut self, name: &str) -> Result<(), String> {
        if self.duties.get(name).is_none_or(|duty| duty.quarantine.is_none()) {
            return Err(format!("mover {name} is not in quarantine"));
        }
        self.end_quarantine(name);
        Ok(())
    }

    /// A mover has gone or is drained: those in quarantine that are needed now come back.
    pub(super) fn review_quarantines(&mut self) {
        if self.duties.quarantined.is_empty() {
            return;
        }
        for name in self.duties.quarantined.clone() {
            let Some(mover) = self.mover_named(&name) else { continue };
            if self.movers.at(mover).conn.is_some() && !self.can_spare(mover) {
                tracing::warn!(mover = %name, "no other mover is left that could do its work: its quarantine is over");
                self.end_quarantine(&name);
            }
        }
    }
}

/// When movers that fail get nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuarantineConfig {
    /// So many errors (`quarantine_errors`); 0 for never.
    pub errors: u32,
    /// In so much time (`quarantine_window_ms`).
    pub window: Duration,
    /// How long it lasts at first (`quarantine_ms`).
    pub time: Duration,
}

impl Default for QuarantineConfig {
    fn default() -> Self {
        Self { errors: 0, window: Duration::from_secs(600), time: Duration::from_secs(900) }
    }
}
