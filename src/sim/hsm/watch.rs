//! What is watched over long: timeouts of the MDTs, requests that wait for longer than these, and comparing with what the
//! MDTs list.
//!
//! All of it has a random stream of its own.

use lustre_sim::mdt::{Action, LedgerEntry, RecordStatus};
use lustreapi_sys::abi::{HS_ARCHIVED, HS_DIRTY};

use super::operator::Errand;
use super::scenario::{SECOND, Scenario};
use super::world::{Task, World};
use crate::hsm::RequestKey;
use crate::hsm::reconcile::{Adopt, Listing, Reconcile};
use crate::lustre::feed::Feed;
use crate::sim::rng::Rng;
use std::time::Duration;

/// What is drawn for one run.
#[derive(Debug, Clone, Default)]
pub struct WatchPlan {
    /// At the end everything stays locked for longer than requests may go without progress.
    pub long_lock: bool,
    /// What the MDTs list is compared, instead of queueing what they show as active.
    pub reconcile: bool,
    /// Nobody makes up for what the daemon loses, unless it died before it could have known or kept it.
    pub unaided: bool,
}

/// Draws this part of a run.
pub(super) fn draw(seed: u64, scenario: &mut Scenario) {
    let mut rng = Rng::stream(seed, "watch");
    // Longer than half-open connections go unnoticed, during which nobody keeps alive what runs behind them.
    scenario.config.request_timeout = Duration::from_secs(*rng.pick(&[600, 3600, 3600]).unwrap_or(&3600));
    // Where leases are that short, so much would be said meanwhile that it takes a minute to simulate.
    scenario.watch.long_lock = rng.one_in(4) && scenario.config.client_grace >= Duration::from_secs(5);
    if scenario.watch.long_lock {
        scenario.config.request_timeout = Duration::from_secs(600);
    }
    scenario.watch.reconcile = rng.one_in(2);
    scenario.watch.unaided = rng.one_in(2);
}

impl World {
    /// When the operator unlocks after the last fault.
    pub(super) fn unlock_after(&self) -> u64 {
        let timeout = u64::from(self.request_timeout());
        let long = if self.scenario.watch.long_lock { 2 * timeout } else { 0 };
        (40 + long) * SECOND
    }

    /// Whether the daemon must have come to know and kept everything by itself so far.
    pub(super) fn unaided(&self) -> bool {
        let plan = &self.scenario;
        plan.watch.unaided
            && plan.store
            && !plan.redis
            && self.report.frames_lost == 0
            && self.report.lost_unseen == 0
    }

    /// How what the daemon lost is found again.
    pub(super) fn catch_up(&self) -> Task {
        if self.scenario.watch.reconcile { Task::Compare } else { Task::Operator(Errand::Requeue) }
    }

    /// `active_request_timeout` of the MDTs in seconds.
    pub(super) fn request_timeout(&self) -> u32 {
        self.scenario.config.request_timeout.as_secs() as u32
    }

    /// The daemon compares what it has with what the MDTs list.
    pub(super) fn compare(&mut self) -> Result<(), String> {
        let clock = self.clock();
        let parameter = if self.watch_rng.one_in(2) { "actions" } else { "active_requests" };
        let text = self.fs.get_param(&format!("mdt.*.hsm.{parameter}")).map_err(|e| e.to_string())?;
        let Some(daemon) = &mut self.daemon else {
            self.after(SECOND, Task::Compare);
            return Ok(());
        };
        let source = parameter.to_owned();
        let mut feed = Feed::new("testfs0");
        let mut steps = vec![Reconcile::Begin(Listing { source, all_mdts: true, adopt: Adopt::All })];
        steps.extend(feed.push(text.as_bytes()));
        steps.extend(feed.finish().0);
        daemon.reconcile(clock, steps)?;
        self.report.compared += 1;
        self.note(format_args!("operator: compares {parameter}"));
        Ok(())
    }

    /// A request that its MDT forgot and that nobody ended: it must have been requested again, unless there was nothing left
    /// to do. Returns whether it was.
    pub(super) fn judge_forgotten(&self, entry: &LedgerEntry) -> Result<bool, String> {
        let later = |other: &LedgerEntry| other.created.mono > entry.created.mono;
        let same = |other: &LedgerEntry| {
            other.fid == entry.fid && other.mdt == entry.mdt && other.action == entry.action
        };
        let again = self.fs.ledger().any(|other| same(other) && later(other));
        if again || entry.action == Action::Cancel {
            return Ok(again);
        }
        let cancelled = self
            .fs
            .ledger()
            .any(|o| o.action == Action::Cancel && o.mdt == entry.mdt && o.cookie == entry.cookie);
        let Some(file) = self.fs.file(entry.fid) else { return Ok(false) };
        // What was archived, or removed, after it was asked for was as good as this request; what came later undid it.
        let by_another = self.fs.ledger().any(|other| {
            same(other)
                && other.status == RecordStatus::Succeed
                && other.end.as_ref().is_some_and(|end| end.at.mono >= entry.created.mono)
        });
        let done = match entry.action {
            Action::Archive => {
                by_another || file.released() || (file.has(HS_ARCHIVED) && !file.has(HS_DIRTY))
            }
            Action::Restore => !file.released(),
            // The only copy of a file that was released meanwhile is nothing to remove.
            _ => {
                let since = self.released_at.get(&entry.fid).copied();
                by_another
                    || file.released()
                    || !file.has(HS_ARCHIVED)
                    || since.is_some_and(|since| since >= entry.created.mono)
            }
        };
        // What died with the daemon, or on its way to it, it cannot know of; operators may throw things away, and the MDT
        // may refuse to take them again.
        let key = RequestKey { cookie: entry.cookie, fid: entry.fid };
        let excused = cancelled || self.given_up.contains(&key) || (!self.scenario.store && self.boots > 1);
        // A file whose request was looked into after an end with ENOENT is not looked into again for a day: a copytool that
        // always says so would be asked for ever. Only movers of the C version cannot say that it was the MDT that refused.
        let twice = self.unsaid.contains(&key)
            && self.fs.ledger().any(|other| {
                same(other)
                    && other.cookie != entry.cookie
                    && self.forgotten.contains(&(other.mdt, other.cookie))
            });
        // The user had its copy removed after that: another archive would bring it back.
        let removed = self.fs.ledger().any(|other| {
            other.fid == entry.fid
                && other.mdt == entry.mdt
                && other.action == Action::Remove
                // What waited for the MDT to come up was logged in one moment.
                && other.created.mono >= entry.created.mono
                && other.status == RecordStatus::Succeed
        });
        let unwanted = entry.action == Action::Archive && removed;
        if done || excused || twice || unwanted {
            return Ok(false);
        }
        Err(format!(
            "MDT{} {:?} {} cookie {:#x} was forgotten by the MDT and never requested again",
            entry.mdt, entry.action, entry.fid, entry.cookie
        ))
    }

    /// The oracle for the pace of keepalives, where nothing goes wrong.
    pub(super) fn judge_silence(&self, entry: &LedgerEntry) -> Result<(), String> {
        let half = u64::from(self.request_timeout()) * SECOND / 2;
        if self.scenario.fault_every == 0
            && entry.status != RecordStatus::Canceled
            && entry.longest_silence > half
        {
            return Err(format!(
                "MDT{} {:?} {} cookie {:#x}: nothing was heard of it for {} s",
                entry.mdt,
                entry.action,
                entry.fid,
                entry.cookie,
                entry.longest_silence / SECOND
            ));
        }
        Ok(())
    }
}
