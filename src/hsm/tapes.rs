//! Tapes: requests for one medium go to one mover at a time, in the order in which they lie on it.
//!
//! A tape gathers requests for a while before anybody may mount it. The mover that takes the first has the tape until nothing
//! is left of it, or until its time is over and another tape waits; then it goes behind those that wait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::Coordinator;
use super::index::NIL;
use super::priorities::Rank;
use super::queues::{ClassKey, Lanes, Place};
use super::requests::{Handle, Kind};
use super::time::Mono;
use super::timers::Timer;

/// The tape of requests of which nobody knows yet where they are.
pub(super) const PENDING: u32 = 0;

/// How tapes are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapeRules {
    /// How long a tape waits for more requests before it is mounted (`tape_wait_ms`); as long it stays when it has no more.
    pub wait: Duration,
    /// With so many requests it waits no longer (`tape_wait_most`).
    pub wait_most: u32,
    /// How long a mover keeps a tape while another tape waits (`tape_max_ms`); zero for as long as there is work.
    pub max: Duration,
    /// Tapes that one mover has at a time (`tapes_per_mover`); 0 for any number.
    pub per_mover: u32,
}

impl Default for TapeRules {
    fn default() -> Self {
        Self { wait: Duration::from_secs(10), wait_most: 1000, max: Duration::from_secs(1800), per_mover: 1 }
    }
}

/// Who may have a tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TapeState {
    /// Nobody asks for anything on it.
    Idle,
    /// It waits for more requests.
    Gathering,
    /// The next mover may have it.
    Ready,
    /// This mover has it, until then at least.
    Mounted { mover: u32, until: Mono },
    /// This mover finishes what it has begun.
    Draining { mover: u32 },
}

/// Requests that may go into one answer.
type Pair = (Kind, u32, u64);

/// Where a request lies: (position, timestamp, request).
type Spot = (u64, i64, Handle);

#[derive(Debug)]
pub(super) struct Tape {
    pub(super) archive_id: u32,
    pub(super) name: Box<str>,
    pub(super) state: TapeState,
    /// Which mover may have it.
    pub(super) place: Place,
    /// What is queued, for its mover.
    pub(super) lanes: Lanes,
    /// Its classes with requests.
    pub(super) classes: BTreeSet<u32>,
    /// What is queued, by place.
    order: BTreeSet<(Pair, Spot)>,
    /// What was taken last.
    cursor: Spot,
    /// Its requests are not due before.
    pub(super) floor: u64,
    refs: u32,
    running: u32,
}

/// All tapes.
#[derive(Debug)]
pub(super) struct Tapes {
    entries: Vec<Tape>,
    free: Vec<u32>,
    /// By archive id and name.
    index: FxHashMap<(u32, Box<str>), u32>,
    /// How many wait for a mover.
    ready: u32,
    /// Mounted, but without work.
    lingering: BTreeSet<u32>,
    /// To be looked at when the present step is done.
    to_review: VecDeque<u32>,
}

fn tape(archive_id: u32, name: &str, place: Place) -> Tape {
    Tape {
        archive_id,
        name: name.into(),
        state: TapeState::Idle,
        place,
        lanes: Lanes::default(),
        classes: BTreeSet::new(),
        order: BTreeSet::new(),
        cursor: (0, i64::MIN, 0),
        floor: 0,
        refs: 0,
        running: 0,
    }
}

impl Default for Tapes {
    fn default() -> Self {
        Self {
            entries: vec![tape(0, "", Place::Any)],
            free: Vec::new(),
            index: FxHashMap::default(),
            ready: 0,
            lingering: BTreeSet::new(),
            to_review: VecDeque::new(),
        }
    }
}

impl Tapes {
    pub(super) fn at(&self, tape: u32) -> &Tape {
        &self.entries[tape as usize]
    }

    pub(super) fn at_mut(&mut self, tape: u32) -> &mut Tape {
        &mut self.entries[tape as usize]
    }

    /// How many are known.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The tape of this name and archive; a new one may be had by movers of this place.
    pub(super) fn intern(&mut self, archive_id: u32, name: &str, place: Place) -> u32 {
        let key = (archive_id, name.into());
        if let Some(&tape) = self.index.get(&key) {
            return tape;
        }
        let new = tape(archive_id, name, place);
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = new;
                id
            }
            None => {
                self.entries.push(new);
                self.entries.len() as u32 - 1
            }
        };
        self.index.insert(key, id);
        id
    }

    /// A class refers to the tape.
    pub(super) fn hold(&mut self, tape: u32) {
        if tape != NIL {
            self.at_mut(tape).refs += 1;
        }
    }

    /// A class refers to it no longer.
    pub(super) fn release(&mut self, tape: u32) {
        if tape != NIL {
            self.at_mut(tape).refs -= 1;
            self.review_later(tape);
        }
    }

    pub(super) fn review_later(&mut self, tape: u32) {
        if tape != NIL && tape != PENDING {
            self.to_review.push_back(tape);
        }
    }

    /// Compares tapes with what was counted otherwise: queued and running by tape, and the movers that have them.
    ///
    /// # Panics
    /// When they differ.
    pub(super) fn check(
        &self,
        queued: &BTreeMap<u32, usize>,
        running: &BTreeMap<u32, u32>,
        mounted: &BTreeMap<u32, u32>,
    ) {
        let (mut ready, mut held) = (0, 0);
        for &id in self.index.values() {
            let tape = self.at(id);
            let waiting = queued.get(&id).copied().unwrap_or(0);
            assert_eq!(tape.order.len(), waiting, "what is queued for tape {}", tape.name);
            assert_eq!(
                running.get(&id).copied().unwrap_or(0),
                tape.running,
                "what runs of tape {}",
                tape.name
            );
            ready += u32::from(tape.state == TapeState::Ready);
            match tape.state {
                TapeState::Mounted { mover, .. } | TapeState::Draining { mover } => {
                    held += 1;
                    assert_eq!(mounted.get(&id), Some(&mover), "tape {} is with its mover", tape.name);
                }
                TapeState::Idle => assert_eq!(waiting, 0, "tape {} has work", tape.name),
                TapeState::Gathering | TapeState::Ready => {}
            }
        }
        assert_eq!((ready, held), (self.ready, mounted.len()), "tapes that are ready and mounted");
    }

    /// Whether tapes are to be looked at.
    pub(super) fn has_reviews(&self) -> bool {
        !self.to_review.is_empty()
    }

    /// Whether a class of this tape lies where movers find it.
    pub(super) fn is_offered(&self, tape: u32) -> bool {
        tape == NIL || matches!(self.at(tape).state, TapeState::Ready | TapeState::Mounted { .. })
    }

    /// The request that comes next on the tape, of those that go into one answer.
    pub(super) fn next(&self, tape: u32, pair: Pair) -> Option<Handle> {
        let entry = self.at(tape);
        let first = (pair, (0, i64::MIN, 0));
        let last = (pair, (u64::MAX, i64::MAX, u32::MAX));
        let after = (pair, entry.cursor);
        let ahead = entry.order.range(after..=last).next();
        ahead.or_else(|| entry.order.range(first..=last).next()).map(|&(_, (_, _, handle))| handle)
    }
}

impl Coordinator {
    fn tape_rules(&self) -> TapeRules {
        self.config.locating.as_ref().map(|locating| locating.tapes).unwrap_or_default()
    }

    /// Whether the mover may mount another tape.
    pub(super) fn has_room_for_tape(&self, mover: u32) -> bool {
        let most = self.tape_rules().per_mover;
        most == 0 || (self.movers.at(mover).tapes.len() as u32) < most
    }

    fn spot(&self, handle: Handle) -> Spot {
        let position = self.locations.position(handle);
        (position, self.requests.at(handle).timestamp, handle)
    }

    fn pair(key: &ClassKey) -> Pair {
        (key.kind, key.archive_id, key.flags)
    }

    /// A request has entered the queue of this class.
    pub(super) fn tape_queued(&mut self, key: &ClassKey, handle: Handle) {
        let tape = key.tape;
        if tape == NIL || tape == PENDING {
            return;
        }
        let spot = self.spot(handle);
        self.tapes.lingering.remove(&tape);
        let entry = self.tapes.at_mut(tape);
        entry.order.insert((Self::pair(key), spot));
        let (state, queued) = (entry.state, entry.order.len());
        let rules = self.tape_rules();
        let enough = queued >= rules.wait_most as usize;
        match state {
            TapeState::Idle if rules.wait.is_zero() || enough => self.set_tape(tape, TapeState::Ready),
            TapeState::Idle => {
                self.set_tape(tape, TapeState::Gathering);
                self.timers.set(Timer::Tape(tape), self.now.mono + rules.wait);
            }
            TapeState::Gathering if enough => self.set_tape(tape, TapeState::Ready),
            TapeState::Mounted { until, .. } => self.arm_tape(tape, until),
            _ => {}
        }
    }

    /// A request leaves the queue of this class.
    pub(super) fn tape_unqueued(&mut self, key: &ClassKey, handle: Handle) {
        let tape = key.tape;
        if tape == NIL || tape == PENDING {
            return;
        }
        let spot = self.spot(handle);
        self.tapes.at_mut(tape).order.remove(&(Self::pair(key), spot));
        self.tapes.review_later(tape);
    }

    /// A request of this class begins (`1`) or ends (`-1`) on a mover.
    pub(super) fn count_on_tape(&mut self, key: &ClassKey, change: i32) {
        let tape = key.tape;
        if tape == NIL || tape == PENDING {
            return;
        }
        let entry = self.tapes.at_mut(tape);
        entry.running = entry.running.wrapping_add_signed(change);
        self.tapes.review_later(tape);
    }

    /// A loose request that no mover of its tape can take leaves the tape.
    pub(super) fn leave_tape(&mut self, handle: Handle) {
        let request = self.requests.at(handle);
        let (class, data) = (request.class, request.data);
        let key = self.classes.at(class).key;
        if key.tape == NIL {
            return;
        }
        self.forget_location(handle);
        let rank = Rank { lane: key.lane, share: key.share, tape: NIL, place: None };
        let new = self.class_for(key.kind, key.archive_id, key.flags, data, rank);
        self.requests.at_mut(handle).class = new;
        self.release_class(class);
    }

    /// The mover was given a request of the tape.
    pub(super) fn wind_to(&mut self, tape: u32, handle: Handle) {
        self.tapes.at_mut(tape).cursor = self.spot(handle);
    }

    /// Moves a tape to another state, and its classes to where they belong then.
    fn set_tape(&mut self, tape: u32, state: TapeState) {
        let old = self.tapes.at(tape).state;
        let classes: Vec<u32> = self.tapes.at(tape).classes.iter().copied().collect();
        for &class in &classes {
            self.unshelve(class);
        }
        self.tapes.ready -= u32::from(old == TapeState::Ready);
        self.tapes.ready += u32::from(state == TapeState::Ready);
        self.tapes.at_mut(tape).state = state;
        for &class in &classes {
            self.refresh_class(class);
        }
        if state == TapeState::Ready {
            self.timers.clear(Timer::Tape(tape));
            self.fresh_classes.extend(classes);
            let lingering = std::mem::take(&mut self.tapes.lingering);
            self.tapes.to_review.extend(lingering);
        }
    }

    fn arm_tape(&mut self, tape: u32, until: Mono) {
        if until == Mono::MAX {
            self.timers.clear(Timer::Tape(tape));
        } else {
            self.timers.set(Timer::Tape(tape), until);
        }
    }

    /// A mover takes a tape that is ready.
    pub(super) fn mount(&mut self, tape: u32, mover: u32) {
        let max = self.tape_rules().max;
        let until = if max.is_zero() { Mono::MAX } else { self.now.mono + max };
        self.set_tape(tape, TapeState::Mounted { mover, until });
        self.arm_tape(tape, until);
        self.movers.at_mut(mover).tapes.push(tape);
        tracing::info!(tape = %self.tapes.at(tape).name, mover = %self.movers.at(mover).id, "tape goes to mover");
    }

    /// The mover has the tape no longer.
    fn unmount(&mut self, tape: u32, mover: u32) {
        self.movers.at_mut(mover).tapes.retain(|&other| other != tape);
        self.timers.clear(Timer::Tape(tape));
        self.tapes.lingering.remove(&tape);
        let now = self.now.mono.0;
        let entry = self.tapes.at_mut(tape);
        entry.floor = now;
        let state = if entry.order.is_empty() { TapeState::Idle } else { TapeState::Ready };
        self.set_tape(tape, state);
        self.fresh_movers.insert(mover);
        tracing::info!(tape = %self.tapes.at(tape).name, mover = %self.movers.at(mover).id, "tape is free again");
    }

    /// The time of a tape has come.
    pub(super) fn tape_due(&mut self, tape: u32) {
        let entry = self.tapes.at(tape);
        let queued = !entry.order.is_empty();
        match entry.state {
            TapeState::Gathering => self.set_tape(tape, TapeState::Ready),
            TapeState::Mounted { mover, .. } if !queued && entry.running == 0 => {
                self.unmount(tape, mover);
                self.tapes.review_later(tape);
            }
            TapeState::Mounted { mover, until } if until <= self.now.mono => {
                if self.tapes.ready > 0 {
                    self.set_tape(tape, TapeState::Draining { mover });
                    self.tapes.review_later(tape);
                } else {
                    let until = self.now.mono + self.tape_rules().max;
                    self.tapes.at_mut(tape).state = TapeState::Mounted { mover, until };
                    self.timers.set(Timer::Tape(tape), until);
                }
            }
            _ => {}
        }
    }

    /// Looks at the tapes whose work or mover has changed. Returns whether there were any.
    pub(super) fn review_tapes(&mut self) -> bool {
        let some = !self.tapes.to_review.is_empty();
        while let Some(tape) = self.tapes.to_review.pop_front() {
            self.review_tape(tape);
        }
        some
    }

    fn review_tape(&mut self, tape: u32) {
        let entry = self.tapes.at(tape);
        if self.tapes.index.get(&(entry.archive_id, entry.name.clone())) != Some(&tape) {
            return;
        }
        let (queued, running) = (!entry.order.is_empty(), entry.running > 0);
        match entry.state {
            TapeState::Draining { mover } if !running => self.unmount(tape, mover),
            TapeState::Mounted { mover, .. } if !running && !self.can_use(mover, entry.archive_id) => {
                self.unmount(tape, mover);
            }
            TapeState::Mounted { mover, .. } if !running && !queued => {
                let wait = self.tape_rules().wait;
                if self.tapes.ready > 0 || wait.is_zero() {
                    self.unmount(tape, mover);
                } else if self.tapes.lingering.insert(tape) {
                    self.timers.set(Timer::Tape(tape), self.now.mono + wait);
                }
            }
            TapeState::Gathering | TapeState::Ready if !queued => {
                self.timers.clear(Timer::Tape(tape));
                self.set_tape(tape, TapeState::Idle);
            }
            _ => {}
        }
        let entry = self.tapes.at(tape);
        if entry.refs == 0 && entry.state == TapeState::Idle {
            let name = std::mem::take(&mut self.tapes.at_mut(tape).name);
            let archive_id = self.tapes.at(tape).archive_id;
            self.tapes.index.remove(&(archive_id, name));
            self.tapes.free.push(tape);
        }
    }

    /// Whether the mover can be given requests of this archive at all.
    fn can_use(&self, mover: u32, archive_id: u32) -> bool {
        let entry = self.movers.at(mover);
        entry.conn.is_some() && entry.allowance != Some(0) && self.serves_archive(mover, archive_id)
    }

    /// Whether the mover serves this archive now.
    pub(super) fn serves_archive(&self, mover: u32, archive_id: u32) -> bool {
        let ids = &self.movers.at(mover).archive_ids;
        ids.is_empty() || ids.contains(&archive_id) || (archive_id == 0 && self.crews.all.connected == 0)
    }

    /// The mover is about to be forgotten.
    pub(super) fn drop_tapes(&mut self, mover: u32) {
        for tape in self.movers.at(mover).tapes.clone() {
            self.unmount(tape, mover);
            self.tapes.review_later(tape);
        }
    }

    /// The mover is not connected any more.
    pub(super) fn review_tapes_of(&mut self, mover: u32) {
        let tapes = self.movers.at(mover).tapes.clone();
        self.tapes.to_review.extend(tapes);
    }
}
