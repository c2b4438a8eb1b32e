//! Requests that have ended, and what went through.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::Coordinator;
use super::action::Action;
use super::cancel::ENOENT;
use super::feed::RequestChange;
use super::index::NIL;
use super::life::End;
use super::mover_views::Flow;
use super::requests::{Handle, Kind};
use super::shares::Owner;
use super::time::Wall;
use super::top::PACE;
use super::views::{Ended, HistoryQuery, Outcome};
use super::window::Window;

/// How much of a request's data is remembered.
const MOST_DATA: usize = 128;

/// The most (action, archive id) pairs and errors that are counted each on its own.
const MOST_KINDS: usize = 4096;

/// What is known of the end of a request that is about to be forgotten.
#[derive(Debug)]
pub(super) struct Fate {
    handle: Handle,
    /// The mover that had it last, when it was sent there and for how long.
    ran: Option<(Arc<str>, Duration)>,
    outcome: Outcome,
    status: i32,
}

impl Default for Fate {
    fn default() -> Self {
        Self { handle: NIL, ran: None, outcome: Outcome::Dropped, status: 0 }
    }
}

/// What ended.
#[derive(Debug, Default)]
pub(super) struct History {
    ring: VecDeque<Ended>,
    pub(super) fate: Fate,
    /// By action and archive id.
    pub(super) flows: BTreeMap<(Kind, u32), Flow>,
    /// Ends of the last minute, likewise.
    pub(super) paces: BTreeMap<(Kind, u32), Window>,
    errors: BTreeMap<i32, u64>,
    /// What ended of whom, where there are shares.
    pub(super) owners: BTreeMap<Owner, Tally>,
}

/// What ended of one owner's.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) pace: Window,
}

impl History {
    fn flow_key(&self, kind: Kind, archive_id: u32) -> (Kind, u32) {
        // Beyond that, archive ids are somebody's invention: they are counted together.
        let known = self.flows.len() < MOST_KINDS || self.flows.contains_key(&(kind, archive_id));
        (kind, if known { archive_id } else { u32::MAX })
    }
}

impl Coordinator {
    fn flow(&mut self, handle: Handle) -> &mut Flow {
        let request = self.requests.at(handle);
        let archive_id = self.classes.at(request.class).key.archive_id;
        let at = self.history.flow_key(request.kind, archive_id);
        self.history.flows.entry(at).or_default()
    }

    /// A request has come.
    pub(super) fn note_new(&mut self, handle: Handle) {
        self.flow(handle).waiting += 1;
    }

    /// A request is being sent to a mover.
    pub(super) fn note_start(&mut self, handle: Handle) {
        let flow = self.flow(handle);
        flow.waiting = flow.waiting.saturating_sub(1);
        flow.running += 1;
    }

    /// A request is being taken from its mover; if it is forgotten in the same step, that is who had it.
    pub(super) fn note_stop(&mut self, handle: Handle) {
        let request = self.requests.at(handle);
        let since = request.queued + Duration::from_millis(u64::from(request.waited_ms));
        let ran = Duration::from_nanos(self.now.mono.0.saturating_sub(since.0));
        let mover = self.movers.at(request.owner).id.clone();
        let fate = &mut self.history.fate;
        if fate.handle != handle {
            *fate = Fate { handle, ..Fate::default() };
        }
        fate.ran = Some((mover, ran));
        let flow = self.flow(handle);
        flow.running = flow.running.saturating_sub(1);
        flow.waiting += 1;
    }

    /// Says how a request ends that is about to be forgotten. Whoever does not say so drops it.
    pub(super) fn note_fate(&mut self, handle: Handle, outcome: Outcome, status: i32) {
        let fate = &mut self.history.fate;
        if fate.handle != handle {
            *fate = Fate { handle, ..Fate::default() };
        }
        fate.outcome = outcome;
        fate.status = status;
    }

    /// A request is dropped because the MDT no longer has it, unless somebody said otherwise.
    pub(super) fn note_unknown_at_mdt(&mut self, handle: Handle) {
        if self.history.fate.handle != handle {
            self.note_fate(handle, Outcome::Dropped, ENOENT);
        }
    }

    /// A request is being forgotten.
    pub(super) fn note_ended(&mut self, handle: Handle) {
        let fate = std::mem::take(&mut self.history.fate);
        let fate = if fate.handle == handle { fate } else { Fate::default() };
        let ran_ms = fate.ran.as_ref().map(|(_, ran)| u64::try_from(ran.as_millis()).unwrap_or(u64::MAX));
        let mover = fate.ran.as_ref().map(|(mover, _)| mover);
        let end = End { mover: mover.map(|id| &**id), outcome: fate.outcome, errno: fate.status, ran_ms };
        self.log_ended(handle, end);
        let change = RequestChange::Ended { outcome: fate.outcome, status: fate.status };
        self.tell_request(handle, mover, change);
        let request = self.requests.at(handle);
        let (key, kind) = (request.key(), request.kind);
        let (queued, waited_ms, data) = (Wall(request.timestamp), request.waited_ms, request.data);
        let archive_id = self.classes.at(request.class).key.archive_id;
        self.count_ended(kind, archive_id, waited_ms, &fate);
        self.count_owner(handle, &fate);
        if self.config.history_size == 0 {
            self.history.ring.clear();
            return;
        }
        let data = &self.data.at(data).bytes;
        let sent = Duration::from_millis(u64::from(waited_ms));
        let ended = Ended {
            key,
            action: kind.action(),
            archive_id,
            data: SmallVec::from_slice(&data[..data.len().min(MOST_DATA)]),
            sent: fate.ran.is_some().then(|| Wall(queued.0.saturating_add(sent.as_nanos() as i64))),
            mover: fate.ran.map(|(mover, _)| mover),
            queued,
            ended: self.now.wall,
            outcome: fate.outcome,
            status: fate.status,
            failed_before: self.failed_before(key.fid, kind, archive_id),
        };
        while self.history.ring.len() >= self.config.history_size {
            self.history.ring.pop_front();
        }
        self.history.ring.push_back(ended);
    }

    fn count_ended(&mut self, kind: Kind, archive_id: u32, waited_ms: u32, fate: &Fate) {
        let at = self.history.flow_key(kind, archive_id);
        let good = (fate.outcome, fate.status) == (Outcome::Done, 0);
        self.history.paces.entry(at).or_default().add(PACE, self.now.mono, good);
        let flow = self.history.flows.entry(at).or_default();
        flow.waiting = flow.waiting.saturating_sub(1);
        match (fate.outcome, fate.status) {
            (Outcome::Done, 0) => flow.done += 1,
            (Outcome::Done, _) => flow.failed += 1,
            (Outcome::Cancelled, _) => flow.cancelled += 1,
            (Outcome::Dropped, _) => flow.dropped += 1,
        }
        if let Some((_, ran)) = &fate.ran {
            flow.waited.add(Duration::from_millis(u64::from(waited_ms)));
            flow.ran.add(*ran);
        }
        if fate.outcome == Outcome::Done && fate.status != 0 {
            let errors = &mut self.history.errors;
            let known = errors.contains_key(&fate.status) || errors.len() < MOST_KINDS;
            *errors.entry(if known { fate.status } else { i32::MAX }).or_insert(0) += 1;
        }
    }

    fn count_owner(&mut self, handle: Handle, fate: &Fate) {
        let share = self.classes.at(self.requests.at(handle).class).key.share;
        if share == NIL || fate.outcome != Outcome::Done {
            return;
        }
        let (owners, owner) = (&mut self.history.owners, &self.shares.at(share).owner);
        if !owners.contains_key(owner) {
            if owners.len() >= MOST_KINDS {
                return;
            }
            owners.insert(owner.clone(), Tally::default());
        }
        let Some(tally) = owners.get_mut(owner) else { return };
        tally.pace.add(PACE, self.now.mono, fate.status == 0);
        if fate.status == 0 { tally.done += 1 } else { tally.failed += 1 }
    }

    /// Requests that ended, the last first. Costs the length of the history.
    pub fn history(&self, query: &HistoryQuery) -> Vec<Ended> {
        let fits = |ended: &&Ended| {
            query.fid.is_none_or(|fid| ended.key.fid == fid)
                && query.mover.as_deref().is_none_or(|mover| ended.mover.as_deref() == Some(mover))
                && query.status.is_none_or(|status| ended.outcome == Outcome::Done && ended.status == status)
                && (!query.failed || ended.outcome != Outcome::Done || ended.status != 0)
        };
        let most = if query.most == 0 { usize::MAX } else { query.most };
        self.history.ring.iter().rev().filter(fits).take(most).cloned().collect()
    }

    /// How many ended requests are remembered, and how many at most.
    pub fn history_kept(&self) -> (usize, usize) {
        (self.history.ring.len(), self.config.history_size)
    }

    /// What went through, by action and archive id (`u32::MAX` for those beyond 4096).
    pub fn flows(&self) -> Vec<(Action, u32, Flow)> {
        self.history.flows.iter().map(|(&(kind, id), flow)| (kind.action(), id, flow.clone())).collect()
    }

    /// Requests that failed on movers, by errno.
    pub fn errors(&self) -> Vec<(i32, u64)> {
        self.history.errors.iter().map(|(&errno, &count)| (errno, count)).collect()
    }
}
