//! Comparing what is here with what the MDTs list.
//!
//! A listing (`hsm/actions` or `hsm/active_requests` of one MDT or all) comes in parts and changes nothing until it is known
//! to be whole. Then each difference is put to the MDT before anything is done about it, since the listing is older than what
//! is here: what it shows as started and is not here is adopted if the MDT still knows it, which closes the gap between the
//! KUC pipe and the store; what is here and not there is dropped, or requested again, if the MDT does not know it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::Coordinator;
use super::action::{Action, ActionItem, RequestKey};
use super::cancel::{ECANCELED, ENOENT};
use super::effect::{Effect, Effects};
use super::lustre_call::LustreCall;
use super::operator::{AskId, OperatorReply};
use super::requests::{Handle, Kind, State};

/// Requests to be adopted or looked at that one listing may bring up; more of them are left to the next.
const MOST_FOUND: usize = 100_000;
/// Questions that the MDTs have not answered yet.
const MOST_ASKED: usize = 128;
/// Differences told by name.
const MOST_EXAMPLES: usize = 20;

/// A step of a reconciliation. [`super::Effect::Operator`] follows the last one, and one that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reconcile {
    /// A listing is about to be read. What is admitted later is not missed in it.
    Begin(Listing),
    /// Its next records.
    Part(Vec<Listed>),
    /// That was all of it.
    End,
    /// It was cut off: nothing comes of it. The reason is for the log and the answer.
    Abort(String),
}

/// What is known of a listing before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Where it comes from, for the report.
    pub source: String,
    /// Whether it shows all MDTs. If not, only requests of sequences that appear in it are missed.
    pub all_mdts: bool,
    /// What may be adopted.
    pub adopt: Adopt,
}

/// Which requests may be adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adopt {
    /// None.
    Nothing,
    /// All, since there is no other agent.
    All,
    /// Those of the agent with this UUID, and those of which the listing does not say whose they are (`actions`).
    Agent(Box<str>),
}

/// A record of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The request, with as much of its data as was printed.
    pub item: ActionItem,
    /// Whether there may be more data than was printed.
    pub truncated: bool,
    /// How far it is.
    pub status: ListedStatus,
    /// UUID of the agent that runs it; empty if it was not printed.
    pub agent: Box<str>,
}

/// How far a listed request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedStatus {
    /// Not given to an agent yet: it will come.
    Waiting,
    /// Given to an agent.
    Started,
    /// Ended, however.
    Ended,
}

/// What came of a reconciliation; also what the API and the command line show of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reconciled {
    /// Of the listing.
    pub source: String,
    /// Records, cancels included.
    pub listed: u64,
    /// Of these: known here.
    pub known: u64,
    /// Of these: not given to an agent yet, so not expected here.
    pub waiting: u64,
    /// Of these: another agent's.
    pub elsewhere: u64,
    /// Of these: known here, but with another action or archive id. What is here stays.
    pub different: u64,
    /// Started there, unknown here, and adopted.
    pub adopted: u64,
    /// Started there and unknown here, but the MDT does not know it: it ended meanwhile, or is left from before a restart of
    /// the MDT.
    pub stale: u64,
    /// Here, and not listed or listed as ended, but the MDT knows it.
    pub alive: u64,
    /// Here, and neither listed nor known to the MDT: waits for the MDT to send it again, or is requested again.
    pub forgotten: u64,
    /// Here, listed as ended and unknown to the MDT: dropped.
    pub dropped: u64,
    /// The MDT could not be asked.
    pub undecided: u64,
    /// Left to the next reconciliation, since there were too many.
    pub left: u64,
    /// The first differences, in words.
    pub examples: Vec<String>,
}

/// Where a reconciliation is.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Reading,
    /// Looks for what was not listed, from this handle on.
    Sweeping(Handle),
    Asking,
}

/// Why the MDT is asked about a request.
#[derive(Debug)]
enum Found {
    /// Started there, unknown here.
    Missing(Box<Listed>),
    /// Here, and not in the listing.
    Unlisted,
    /// Here, and listed as ended.
    Ended,
}

#[derive(Debug)]
pub(super) struct Run {
    ask: AskId,
    listing: Listing,
    phase: Phase,
    /// Requests with a later timestamp are not expected in the listing.
    began: i64,
    report: Reconciled,
    /// Handles of what was listed, one bit for each.
    seen: Vec<u64>,
    sequences: BTreeSet<u64>,
    found: VecDeque<(RequestKey, Found)>,
    /// What the MDTs are asked about, and the number of each question.
    asked: BTreeMap<RequestKey, (u64, Found)>,
}

impl Run {
    fn see(&mut self, handle: Handle) {
        let at = handle as usize / 64;
        if self.seen.len() <= at {
            self.seen.resize(at + 1, 0);
        }
        self.seen[at] |= 1 << (handle % 64);
    }

    fn has_seen(&self, handle: Handle) -> bool {
        self.seen.get(handle as usize / 64).is_some_and(|bits| bits & (1 << (handle % 64)) != 0)
    }

    fn found(&mut self, key: RequestKey, found: Found) {
        if self.found.len() < MOST_FOUND {
            self.found.push_back((key, found));
        } else {
            self.report.left += 1;
        }
    }

    fn example(&mut self, what: std::fmt::Arguments<'_>) {
        if self.report.examples.len() < MOST_EXAMPLES {
            self.report.examples.push(what.to_string());
        }
    }
}

impl Coordinator {
    pub(super) fn reconcile(&mut self, ask: AskId, step: Reconcile, effects: &mut Effects) {
        match step {
            Reconcile::Begin(listing) => self.begin_reconciling(ask, listing, effects),
            Reconcile::Part(records) => {
                let Some(mut run) = self.reading(ask) else { return };
                for record in records {
                    self.listed(&mut run, record);
                }
                self.reconciling = Some(run);
            }
            Reconcile::End => {
                let Some(mut run) = self.reading(ask) else { return };
                run.phase = Phase::Sweeping(0);
                self.reconciling = Some(run);
            }
            Reconcile::Abort(reason) => {
                let Some(run) = self.reading(ask) else { return };
                tracing::warn!(
                    source = run.listing.source,
                    reason,
                    "a listing was cut off: nothing comes of it"
                );
                refuse(ask, reason, effects);
            }
        }
    }

    /// Takes the run that is reading for this order.
    fn reading(&mut self, ask: AskId) -> Option<Box<Run>> {
        self.reconciling.take_if(|run| run.ask == ask && run.phase == Phase::Reading)
    }

    fn begin_reconciling(&mut self, ask: AskId, listing: Listing, effects: &mut Effects) {
        match self.reconciling.take() {
            Some(run) if run.phase != Phase::Reading => {
                refuse(
                    ask,
                    format!("the listing of {} is still being looked into", run.listing.source),
                    effects,
                );
                self.reconciling = Some(run);
                return;
            }
            Some(run) => {
                refuse(run.ask, "another listing came before this one had ended".to_owned(), effects)
            }
            None => {}
        }
        let report = Reconciled { source: listing.source.clone(), ..Reconciled::default() };
        self.reconciling = Some(Box::new(Run {
            ask,
            listing,
            phase: Phase::Reading,
            began: self.now.wall.0,
            report,
            seen: Vec::new(),
            sequences: BTreeSet::new(),
            found: VecDeque::new(),
            asked: BTreeMap::new(),
        }));
    }

    /// Looks at one record. Nothing but the run changes.
    fn listed(&mut self, run: &mut Run, record: Listed) {
        run.report.listed += 1;
        let key = record.item.key();
        run.sequences.insert(key.fid.seq);
        let Some(kind) = Kind::of(record.item.action) else {
            // Keepalives of the victim tell of its cancel.
            return;
        };
        if let Some(handle) = self.requests.find(key) {
            run.see(handle);
            run.report.known += 1;
            let request = self.requests.at(handle);
            let archive_id = self.classes.at(request.class).key.archive_id;
            if request.kind != kind || archive_id != record.item.archive_id {
                run.report.different += 1;
                run.example(format_args!(
                    "{key}: {} of archive {archive_id} here, {} of archive {} there",
                    request.kind.action(),
                    record.item.action,
                    record.item.archive_id
                ));
            }
            if record.status == ListedStatus::Ended {
                run.found(key, Found::Ended);
            }
            return;
        }
        match (record.status, &run.listing.adopt) {
            (ListedStatus::Ended, _) => {}
            (ListedStatus::Waiting, _) => run.report.waiting += 1,
            (ListedStatus::Started, _)
                if self.tombstones.get(&key).is_some() || self.endings.contains(&key) => {}
            (ListedStatus::Started, Adopt::Nothing) => {
                run.report.left += 1;
                run.example(format_args!("{key}: {} started there, unknown here", record.item.action));
            }
            (ListedStatus::Started, Adopt::Agent(ours))
                if !record.agent.is_empty() && record.agent != *ours =>
            {
                run.report.elsewhere += 1;
            }
            (ListedStatus::Started, _) => run.found(key, Found::Missing(Box::new(record))),
        }
    }

    /// Goes on with a listing that is whole.
    pub(super) fn reconcile_slice(&mut self, left: &mut usize, effects: &mut Effects) {
        let Some(mut run) = self.reconciling.take_if(|run| run.phase != Phase::Reading) else {
            return;
        };
        if let Phase::Sweeping(mut at) = run.phase {
            let end = self.requests.slab.capacity();
            while *left > 0 && at < end {
                *left -= 1;
                self.miss(&mut run, at);
                at += 1;
            }
            run.phase = if at < end { Phase::Sweeping(at) } else { Phase::Asking };
        }
        if run.phase == Phase::Asking {
            while run.asked.len() < MOST_ASKED
                && let Some((key, found)) = run.found.pop_front()
            {
                let number = self.next_sequence();
                effects.visible.push(Effect::AskLustre(LustreCall::KeepAlive { key, number }));
                run.asked.insert(key, (number, found));
            }
            if run.asked.is_empty() {
                report(*run, effects);
                return;
            }
        }
        self.reconciling = Some(run);
    }

    /// Notes a request that should have been listed.
    fn miss(&self, run: &mut Run, handle: Handle) {
        let request = self.requests.at(handle);
        // What is in doubt is being asked about already.
        if matches!(request.state, State::Free | State::Loose | State::Doubtful | State::Bound)
            || request.timestamp >= run.began
            || run.has_seen(handle)
        {
            return;
        }
        if run.listing.all_mdts || run.sequences.contains(&request.fid.seq) {
            run.found(request.key(), Found::Unlisted);
        }
    }

    /// The MDT's answer to a question about a difference, before anything else is made of it. Returns whether that is still
    /// to be done.
    pub(super) fn reconcile_answered(
        &mut self,
        key: RequestKey,
        number: u64,
        errno: i32,
        effects: &mut Effects,
    ) -> bool {
        let is_asked = |run: &mut Box<Run>| run.asked.get(&key).is_some_and(|(asked, _)| number >= *asked);
        let Some(mut run) = self.reconciling.take_if(is_asked) else {
            return true;
        };
        let found = run.asked.remove(&key).map(|(_, found)| found);
        let handle = self.requests.find(key);
        let mut go_on = true;
        match (found, errno) {
            (Some(Found::Missing(record)), 0 | ECANCELED) if handle.is_none() => {
                run.report.adopted += 1;
                run.example(format_args!("{key}: {} was unknown here: adopted", record.item.action));
                tracing::warn!(%key, action = %record.item.action, "the MDT runs a request that was not known here: adopted");
                self.counts.adopted += 1;
                self.adopt_listed(*record, effects);
            }
            (Some(Found::Missing(record)), ENOENT) => {
                run.report.stale += 1;
                run.example(format_args!(
                    "{key}: {} started there, but the MDT does not know it",
                    record.item.action
                ));
            }
            (_, 0 | ECANCELED) => run.report.alive += 1,
            (Some(Found::Ended), ENOENT) => {
                if let Some(handle) =
                    handle.filter(|&handle| self.requests.at(handle).state != State::Running)
                {
                    run.report.dropped += 1;
                    run.example(format_args!("{key}: ended there: dropped"));
                    tracing::warn!(%key, "the MDT has ended this request: dropped");
                    self.counts.given_up += 1;
                    self.drop_waiting(handle, effects);
                    go_on = false;
                }
            }
            (_, ENOENT) => {
                run.report.forgotten += 1;
                run.example(format_args!("{key}: the MDT does not know it"));
            }
            _ => run.report.undecided += 1,
        }
        self.reconciling = Some(run);
        go_on
    }

    fn adopt_listed(&mut self, record: Listed, effects: &mut Effects) {
        let mut item = record.item;
        item.timestamp = 0;
        item.extra = if record.truncated { r#""hai_data_truncated":true"#.into() } else { Box::default() };
        if item.action != Action::Restore {
            item.dfid = item.fid;
        }
        self.admit_older(item, effects);
    }
}

fn refuse(ask: AskId, reason: String, effects: &mut Effects) {
    effects.visible.push(Effect::Operator { ask, reply: OperatorReply::Refused(reason) });
}

fn report(run: Run, effects: &mut Effects) {
    let report = run.report;
    tracing::info!(
        source = report.source,
        listed = report.listed,
        known = report.known,
        adopted = report.adopted,
        forgotten = report.forgotten,
        dropped = report.dropped,
        undecided = report.undecided,
        "reconciled with the MDTs"
    );
    let reply = OperatorReply::Reconciled(Box::new(report));
    effects.visible.push(Effect::Operator { ask: run.ask, reply });
}
