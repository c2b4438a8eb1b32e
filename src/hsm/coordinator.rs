//! The state machine's state, and who handles which event.

use std::collections::{BTreeMap, BTreeSet};

use lustreapi_sys::Fid;
use rustc_hash::FxHashMap;

use super::action::RequestKey;
use super::attempts::Letters;
use super::attributes::Lookups;
use super::batches::Tags;
use super::bound::BoundRestores;
use super::cancel::Cancel;
use super::config::HsmConfig;
use super::counters::Counters;
use super::data::DataTable;
use super::doubts::Doubts;
use super::duty::Duties;
use super::effect::{Effect, Effects, Reply};
use super::event::{ConnId, Event, Lock, Message};
use super::feed::Feed;
use super::history::History;
use super::hosts::Hosts;
use super::keepalive::KeepAlive;
use super::limits::Limited;
use super::locations::Locations;
use super::movers::Movers;
use super::operator::AskId;
use super::owed::Endings;
use super::priorities::Dues;
use super::queues::{ClassKey, Classes, Crews, Group, Place, Pool};
use super::reading::Reading;
use super::recent::Recent;
use super::reconcile;
use super::removed::Removed;
use super::reporting::Reports;
use super::requests::{Few, Handle, List, Requests};
use super::shares::Shares;
use super::status::StatusRuns;
use super::stranded::Strandings;
use super::sweep::Sweep;
use super::tapes::Tapes;
use super::time::{Mono, Now};
use super::timers::{Timer, Timers};
use super::vetting::{LateArchives, Vetting};

/// Requests handled in one step of work that is cut into slices.
pub(super) const SLICE: usize = 1024;

/// Due timers handled in one call; the rest follows in the next.
const TIMERS_PER_CALL: usize = 4096;

/// The coordinator: which request goes to which mover, and when.
#[derive(Debug)]
pub struct Coordinator {
    pub(super) config: HsmConfig,
    /// Counts configurations, from 1.
    pub(super) config_version: u32,
    /// Set while the store is still being read.
    pub(super) reading: Option<Box<Reading>>,
    pub(super) now: Now,
    random_state: u64,
    sequence: u64,
    last_timestamp: i64,
    pub(super) store_full: bool,
    pub(super) lock: Lock,
    pub(super) terminated: bool,

    pub(super) requests: Requests,
    pub(super) data: DataTable,
    pub(super) classes: Classes,
    /// Classes that differ from a plain one in priority and share only, by the key of that one.
    pub(super) groups: FxHashMap<ClassKey, Group>,
    pub(super) shares: Shares,
    pub(super) dues: Dues,
    pub(super) lookups: Lookups,
    pub(super) tapes: Tapes,
    pub(super) locations: Locations,
    /// What any mover may take.
    pub(super) global: Pool,
    pub(super) hosts: Hosts,
    pub(super) tags: Tags,
    pub(super) movers: Movers,
    pub(super) crews: Crews,
    pub(super) conns: FxHashMap<ConnId, u32>,

    /// What runs for each file.
    pub(super) busy: FxHashMap<Fid, Few>,
    /// What waits for its file: (file, class, timestamp, request).
    pub(super) held: BTreeSet<(Fid, u32, i64, Handle)>,
    /// The request of each file and class that may go next.
    pub(super) released: FxHashMap<(Fid, u32), Handle>,
    pub(super) settling: List,
    /// Requests that the store could not take.
    pub(super) unpersisted: BTreeSet<Handle>,
    pub(super) cancels: FxHashMap<Handle, Cancel>,
    pub(super) endings: Endings,
    /// Keys of the requests that ended last: a mover that still claims one must not bring it back to life.
    pub(super) tombstones: Recent<RequestKey, ()>,
    pub(super) vetting: Vetting,
    pub(super) late_archives: LateArchives,
    pub(super) bound: BoundRestores,
    /// Copies that are gone and that the MDT believes in.
    pub(super) removed: Removed,
    pub(super) keepalive: KeepAlive,
    /// What the MDT may have forgotten.
    pub(super) doubts: Doubts,
    pub(super) strandings: Strandings,
    pub(super) reconciling: Option<Box<reconcile::Run>>,

    pub(super) timers: Timers,
    pub(super) reports: Reports,
    pub(super) status: StatusRuns,
    pub(super) counts: Counters,
    pub(super) history: History,
    pub(super) feed: Feed,
    pub(super) letters: Letters,
    pub(super) duties: Duties,
    pub(super) limited: Limited,
    /// Cancels of operators that are going on.
    pub(super) sweeps: BTreeMap<AskId, Sweep>,
    /// Classes with requests, by where they are shown: (place, kind, class). Those of tags are not here.
    pub(super) shown: BTreeSet<(Place, u8, u32)>,
    /// Movers with requests that go back to the queue, slice by slice.
    pub(super) retiring: BTreeSet<u32>,
    /// Where a walk over all requests after a new configuration stands.
    pub(super) replacing: Option<Handle>,

    /// Classes that got requests in this step, and movers whose own situation changed.
    pub(super) fresh_classes: BTreeSet<u32>,
    pub(super) fresh_movers: BTreeSet<u32>,
    /// Movers to be looked at again in the next step.
    pub(super) later_movers: BTreeSet<u32>,
}

impl Coordinator {
    /// A coordinator that knows nothing yet. `seed` feeds its only randomness, the choice among equal hosts.
    pub fn new(config: HsmConfig, seed: u64, now: Now) -> Self {
        let mut new = Self {
            config,
            config_version: 1,
            reading: None,
            now,
            random_state: seed,
            sequence: 0,
            last_timestamp: 0,
            store_full: false,
            lock: Lock::Unlocked,
            terminated: false,
            requests: Requests::new(),
            data: DataTable::new(),
            classes: Classes::default(),
            groups: FxHashMap::default(),
            shares: Shares::default(),
            dues: Dues::default(),
            lookups: Lookups::default(),
            tapes: Tapes::default(),
            locations: Locations::default(),
            global: Pool::default(),
            hosts: Hosts::default(),
            tags: Tags::default(),
            movers: Movers::default(),
            crews: Crews::default(),
            conns: FxHashMap::default(),
            busy: FxHashMap::default(),
            held: BTreeSet::new(),
            released: FxHashMap::default(),
            settling: List::EMPTY,
            unpersisted: BTreeSet::new(),
            cancels: FxHashMap::default(),
            endings: Endings::default(),
            tombstones: Recent::default(),
            vetting: Vetting::default(),
            late_archives: LateArchives::default(),
            bound: BoundRestores::default(),
            removed: Removed::default(),
            keepalive: KeepAlive::default(),
            doubts: Doubts::default(),
            strandings: Strandings::default(),
            reconciling: None,
            timers: Timers::default(),
            reports: Reports::default(),
            status: StatusRuns::default(),
            counts: Counters::default(),
            history: History::default(),
            feed: Feed::default(),
            letters: Letters::default(),
            duties: Duties::default(),
            limited: Limited::default(),
            sweeps: BTreeMap::new(),
            shown: BTreeSet::new(),
            retiring: BTreeSet::new(),
            replacing: None,
            fresh_classes: BTreeSet::new(),
            fresh_movers: BTreeSet::new(),
            later_movers: BTreeSet::new(),
        };
        new.name_hosts();
        new
    }

    /// Takes one event and appends to `effects` what follows from it.
    pub fn handle(&mut self, now: Now, event: Event, effects: &mut Effects) {
        self.now = now;
        let event = if self.reading.is_none() {
            event
        } else {
            let Some(event) = self.while_reading(event, effects) else { return };
            event
        };
        if self.timers.next().is_some_and(|due| due <= now.mono) {
            self.expire(effects);
        }
        // What is asked while the store is read is not carried out.
        let may_ask = !matches!(event, Event::Recovered { .. } | Event::RecoveredNotes(_));
        match event {
            Event::Connected { conn, peer } => self.connected(conn, peer),
            Event::PeerNamed { conn, peer } => self.peer_named(conn, peer),
            Event::Disconnected { conn } => self.disconnected(conn, effects),
            Event::Message { conn, message } => self.message(conn, message, effects),
            Event::Lustre { items } => self.lustre(items, effects),
            Event::LustreEnded { key, errno } => self.lustre_ended(key, errno, effects),
            Event::Recovered { requests, suspect } => self.recovered(requests, suspect, effects),
            Event::RecoveredNotes(notes) => self.recovered_notes(notes),
            Event::RecoveryEnded => {}
            Event::LustreAnswered(answer) => self.lustre_answered(answer, effects),
            Event::Operator { ask, who, order } => self.operator(ask, &who, order, effects),
            Event::Reconcile { ask, step } => self.reconcile(ask, step, effects),
            Event::RequestTimeout(timeout) => self.told_timeout(timeout),
            Event::StoreFull(full) => self.set_store_full(full),
            Event::LookedUp(found) => self.looked_up(found, effects),
            Event::Located(found) => self.located(found, effects),
            Event::SpaceUsed(percent) => self.space_used(percent),
            Event::Reconfigured(config) => self.reconfigure(*config),
            Event::Tick => {}
        }
        self.work_slice(effects);
        self.review_tapes();
        self.dispatch(effects);
        // What was just given out may leave a tape without work, which lets its mover have another.
        if self.review_tapes() {
            self.dispatch(effects);
        }
        if self.has_lookups() {
            if may_ask { self.look_up(effects) } else { self.slice_later() }
        }
        if self.has_unlocated() {
            if may_ask { self.locate(effects) } else { self.slice_later() }
        }
        if self.tapes.has_reviews() {
            self.slice_later();
        }
        self.note_quarantines(effects);
        self.quit_if_idle(effects);
    }

    /// When [`Event::Tick`] is wanted at the latest; `None` when nothing is pending.
    pub fn next_deadline(&self) -> Option<Mono> {
        // What is due waits for the end of reading.
        if self.reading.is_some() { None } else { self.timers.next() }
    }

    pub(super) fn message(&mut self, conn: ConnId, message: Message, effects: &mut Effects) {
        let Some(&mover) = self.conns.get(&conn) else {
            tracing::debug!(conn = conn.0, "message from a connection that is gone");
            return;
        };
        match message {
            Message::Ehlo(ehlo) => self.ehlo(conn, mover, ehlo, effects),
            Message::EhloBadArchiveId => self.ehlo_bad_archive_id(conn, mover, effects),
            Message::Recv(recv) => self.recv(conn, mover, recv, effects),
            Message::Done(done) => self.done(conn, mover, done, false, effects),
            Message::Unheard(done) => self.done(conn, mover, done, true, effects),
            Message::GoesOn => {
                tracing::info!(mover = %self.movers.at(mover).id, "the mover cannot cancel: it goes on");
                effects.visible.push(Effect::Reply { conn, reply: Reply::Done });
            }
            Message::DoneIncomplete => {
                let error = "cookie or fid not set -- old client?";
                effects.visible.push(reply_error(conn, "done", 22, error));
            }
            Message::Queue(queue) => self.queue(conn, queue, effects),
            Message::Lock(lock) => self.set_lock(conn, lock, effects),
            Message::Status { verbose } => self.start_status(conn, verbose, effects),
            Message::Lease { serial } => self.renew_lease(conn, mover, serial, effects),
        }
    }

    fn set_lock(&mut self, conn: ConnId, lock: Option<Lock>, effects: &mut Effects) {
        let Some(lock) = lock else {
            effects.visible.push(reply_error(conn, "lock", -22, "invalid locked value"));
            return;
        };
        effects.visible.push(Effect::Reply { conn, reply: Reply::Lock });
        self.set_lock_to(lock);
    }

    pub(super) fn set_lock_to(&mut self, lock: Lock) {
        self.lock = lock;
        if lock != Lock::LockedQuit {
            self.terminated = false;
        }
        if lock == Lock::Unlocked {
            self.wake_everyone();
        }
    }

    /// After `lock` 2: stops as soon as nothing runs.
    fn quit_if_idle(&mut self, effects: &mut Effects) {
        if self.lock == Lock::LockedQuit && !self.terminated && self.counts.running == [0; 3] {
            self.terminated = true;
            effects.visible.push(Effect::Terminate);
        }
    }

    pub(super) fn set_store_full(&mut self, full: bool) {
        self.store_full = full;
        if !full && !self.unpersisted.is_empty() {
            self.slice_later();
        }
    }

    pub(super) fn reconfigure(&mut self, config: HsmConfig) {
        let batch = self.config.batch != config.batch;
        self.config = config;
        self.config_version += 1;
        self.name_hosts();
        if batch {
            self.reset_slots();
        }
        self.replacing = Some(0);
        self.slice_later();
        if self.config.reporting_hint.is_none() {
            self.timers.clear(Timer::Report);
        }
        self.review_movers();
        self.review_limits();
        self.wake_everyone();
    }

    fn expire(&mut self, effects: &mut Effects) {
        for _ in 0..TIMERS_PER_CALL {
            match self.timers.pop(self.now.mono) {
                None => return,
                Some(Timer::Slice) => {}
                Some(Timer::Grace(mover)) => self.grace_ended(mover, effects),
                Some(Timer::Probe(host)) => self.probe_ended(host, effects),
                Some(Timer::Slot(mover, slot)) => self.slot_expired(mover, slot as usize),
                Some(Timer::Settle) => self.settle(effects),
                Some(Timer::Report) => self.report_interval(effects),
                Some(Timer::Ending) => self.retry_endings(effects),
                Some(Timer::Vetting) => self.vet_again(effects),
                Some(Timer::Bound) => self.request_bound(effects),
                Some(Timer::KeepAlive) => self.keepalive_step(effects),
                Some(Timer::Doubt) => self.doubt_step(effects),
                Some(Timer::Stranded) => self.look_for_stranded(effects),
                Some(Timer::Retry) => self.retry_due(effects),
                Some(Timer::Duty) => self.duty_due(),
                Some(Timer::Limits) => self.limits_due(),
                Some(Timer::Tape(tape)) => self.tape_due(tape),
                Some(Timer::Locations) => self.locations_due(effects),
            }
        }
    }

    /// Does a part of what is too much for one step.
    pub(super) fn work_slice(&mut self, effects: &mut Effects) {
        let mut left = SLICE;
        self.retire_slice(&mut left, effects);
        self.settle_slice(&mut left, effects);
        self.replace_slice(&mut left, effects);
        self.sweep_slice(&mut left, effects);
        self.limits_slice(&mut left);
        self.persist_slice(&mut left, effects);
        self.report_slice(&mut left, effects);
        self.reconcile_slice(&mut left, effects);
        if left == 0 {
            self.slice_later();
        }
    }

    /// Asks for a tick at once.
    pub(super) fn slice_later(&mut self) {
        self.timers.set(Timer::Slice, self.now.mono);
    }

    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// The last sequence number given out.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The wall clock, but later than any timestamp before.
    pub(super) fn next_timestamp(&mut self) -> i64 {
        self.last_timestamp = self.now.wall.0.max(self.last_timestamp.saturating_add(1));
        self.last_timestamp
    }

    /// The last timestamp given out or recovered.
    pub(super) fn last_timestamp(&self) -> i64 {
        self.last_timestamp
    }

    /// Notes a timestamp of an earlier run.
    pub(super) fn note_timestamp(&mut self, timestamp: i64) {
        // One from a clock that was far ahead must not stop time.
        const DAY: i64 = 86_400_000_000_000;
        let latest = self.now.wall.0.saturating_add(DAY);
        self.last_timestamp = self.last_timestamp.max(timestamp.min(latest));
    }

    /// A number below `limit` (splitmix64).
    pub(super) fn random(&mut self, limit: usize) -> usize {
        self.random_state = self.random_state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random_state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z % (limit.max(1) as u64)) as usize
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        Counters {
            ending: self.endings.len() as u64,
            connected: self.conns.len() as u64,
            waiting_for_file: self.held.len() as u64,
            different_data: self.data.len() as u64,
            classes: self.classes.len() as u64,
            shares: self.shares.len() as u64,
            tapes: self.tapes.len() as u64,
            unpersisted: self.unpersisted.len() as u64,
            asking: self.vetting.len() as u64,
            stranded: self.stranded_requests(),
            doubtful: self.doubts.len() as u64,
            letters: self.letters.all.len() as u64,
            ..self.counts
        }
    }
}

/// An error reply.
pub(super) fn reply_error(conn: ConnId, command: &'static str, status: i32, error: &'static str) -> Effect {
    Effect::Reply { conn, reply: Reply::Error { command, status, error } }
}
