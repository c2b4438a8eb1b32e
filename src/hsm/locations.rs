//! Where the data of a request lies: asked of a locator, off the path of requests.
//!
//! A request waits until the answer is there, but no longer than configured; then it is placed as if there were no locator.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::Coordinator;
use super::action::{Action, RequestKey};
use super::effect::{Effect, Effects};
use super::index::NIL;
use super::priorities::Rank;
use super::queues::{ClassKey, Place};
use super::requests::{Handle, Kind, State};
use super::tapes::{PENDING, TapeRules};
use super::time::Mono;
use super::timers::Timer;

/// How requests are located.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locating {
    /// How tapes are used.
    pub tapes: TapeRules,
    /// How long a request waits to be located (`locator_wait_ms`).
    pub wait: Duration,
    /// Removes are located as well (`locate_removes`).
    pub removes: bool,
    /// What the host that the locator names means (`locator_host`).
    pub host: HostRule,
    /// After a failure the locator is asked again after `client_grace_ms`, for ever, as C 0.4 does with phobos; otherwise the
    /// request is placed without it (`locator_failure`).
    pub retry: bool,
}

impl Default for Locating {
    fn default() -> Self {
        Self {
            tapes: TapeRules::default(),
            wait: Duration::from_secs(60),
            removes: false,
            host: HostRule::Soft,
            retry: false,
        }
    }
}

/// What the host that the locator names means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostRule {
    /// Nothing.
    Ignore,
    /// That mover gets the request while it is connected.
    Soft,
    /// Nobody else gets it; the locator is asked again when that mover has been away for `client_grace_ms`.
    Strict,
}

/// Something to be located.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sought {
    /// Which request.
    pub key: RequestKey,
    /// What it is about to do.
    pub action: Action,
    /// In which archive.
    pub archive_id: u32,
    /// A connected mover with the least work, among equals any: of several good hosts, this one.
    pub focus: Option<String>,
    /// Its data.
    pub data: Box<[u8]>,
}

/// Where something lies. Names are 1 to 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Location {
    /// The tape or other medium.
    pub tape: Option<String>,
    /// The mover that can read it best.
    pub host: Option<String>,
    /// Where on the medium: lower is nearer to its begin.
    pub position: Option<u64>,
}

/// What a locator says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// It lies here; nothing known is as good as no answer.
    At(Location),
    /// The locator failed, or took too long.
    Failed,
}

/// Requests with the locator at a time.
const MOST_ASKED: usize = 1024;
/// Longest name of a tape or host, in bytes.
const MAX_NAME: usize = 255;

/// The tape of a request that was located under an older configuration.
const LAPSED: u32 = NIL - 1;

/// What is known of a request.
#[derive(Debug, Clone, Copy)]
struct Where {
    /// `PENDING` until it is located, `NIL` for no tape.
    tape: u32,
    place: Option<Place>,
    position: u64,
}

/// A request, its generation, and when it is to be looked at.
type Due = (Mono, Handle, u32);

/// All that is known of where requests lie.
#[derive(Debug, Default)]
pub(super) struct Locations {
    known: FxHashMap<Handle, Where>,
    /// To be asked for.
    waiting: VecDeque<(Handle, u32)>,
    asked: usize,
    /// Waits to be located for too long then.
    overdue: VecDeque<Due>,
    /// To be asked for again then.
    again: VecDeque<Due>,
}

impl Locations {
    /// Where the request lies on its tape; the end for one of which that is not known.
    pub(super) fn position(&self, handle: Handle) -> u64 {
        self.known.get(&handle).map_or(u64::MAX, |known| known.position)
    }

    fn is_pending(&self, handle: Handle) -> bool {
        self.known.get(&handle).is_some_and(|known| known.tape == PENDING)
    }
}

impl Coordinator {
    /// Whether requests of this kind are located.
    pub(super) fn locates(&self, kind: Kind) -> bool {
        let removes = self.config.locating.as_ref().map(|locating| locating.removes);
        match kind {
            Kind::Restore => removes.is_some(),
            Kind::Remove => removes == Some(true),
            Kind::Archive => false,
        }
    }

    /// A request is to be located.
    pub(super) fn locate_later(&mut self, handle: Handle) {
        let Some(locating) = &self.config.locating else {
            return;
        };
        let generation = self.requests.at(handle).generation;
        let until = self.now.mono + locating.wait;
        // What is in the order of its tape keeps its position until it leaves it.
        let position = self.locations.position(handle);
        self.locations.known.insert(handle, Where { tape: PENDING, place: None, position });
        self.locations.waiting.push_back((handle, generation));
        self.locations.overdue.push_back((until, handle, generation));
        self.arm_locations();
    }

    /// Nothing is known of where the request lies any more.
    pub(super) fn forget_location(&mut self, handle: Handle) {
        self.locations.known.remove(&handle);
    }

    /// The tape and the place of a request whose class is worked out again.
    pub(super) fn location_again(&mut self, key: &ClassKey, handle: Handle) -> (u32, Option<Place>) {
        if !self.locates(key.kind) {
            if let Some(known) = self.locations.known.get_mut(&handle) {
                // The position stays: the request may still lie in the order of its tape.
                known.tape = LAPSED;
                known.place = None;
            }
            return (NIL, None);
        }
        let away = match key.place {
            Place::Host(host) => {
                let mover = self.hosts.at(host).mover;
                mover == NIL || self.movers.at(mover).conn.is_none()
            }
            _ => false,
        };
        match self.locations.known.get(&handle) {
            Some(known) if known.tape == PENDING || (known.tape != LAPSED && !away) => {
                (known.tape, known.place)
            }
            _ => {
                self.locate_later(handle);
                (PENDING, None)
            }
        }
    }

    /// Asks the locator.
    pub(super) fn locate(&mut self, effects: &mut Effects) {
        let mut sought = Vec::new();
        let mut left = super::coordinator::SLICE;
        while self.locations.asked + sought.len() < MOST_ASKED && left > 0 {
            left -= 1;
            let Some((handle, generation)) = self.locations.waiting.pop_front() else {
                break;
            };
            let request = self.requests.at(handle);
            if request.generation != generation || !self.locations.is_pending(handle) {
                continue;
            }
            sought.push(Sought {
                key: request.key(),
                action: request.kind.action(),
                archive_id: self.classes.at(request.class).key.archive_id,
                focus: None,
                data: self.data.at(request.data).bytes[..].into(),
            });
        }
        self.focus(&mut sought);
        if left == 0 {
            self.slice_later();
        }
        if !sought.is_empty() {
            self.locations.asked += sought.len();
            effects.visible.push(Effect::Locate(sought));
        }
    }

    /// Names the movers with the least work to the locator.
    fn focus(&mut self, sought: &mut [Sought]) {
        if sought.is_empty() {
            return;
        }
        let movers = self.movers.connected.values().copied();
        let named: Vec<u32> = movers.filter(|&mover| self.movers.at(mover).host != NIL).collect();
        let least = named.iter().map(|&mover| self.movers.at(mover).load()).min();
        let idle: Vec<u32> =
            named.into_iter().filter(|&mover| Some(self.movers.at(mover).load()) == least).collect();
        if idle.is_empty() {
            return;
        }
        for sought in sought {
            let chosen = idle[self.random(idle.len())];
            sought.focus = Some(self.movers.at(chosen).id.to_string());
        }
    }

    /// Whether requests wait to be asked for.
    pub(super) fn has_unlocated(&self) -> bool {
        !self.locations.waiting.is_empty()
    }

    /// What the locator says.
    pub(super) fn located(&mut self, found: Vec<(RequestKey, Located)>, effects: &mut Effects) {
        self.locations.asked = self.locations.asked.saturating_sub(found.len());
        tracing::debug!(requests = found.len(), "located");
        for (key, located) in found {
            let known = self.requests.find(key);
            let Some(handle) = known.filter(|&handle| self.locations.is_pending(handle)) else {
                continue;
            };
            match located {
                Located::At(location) => self.settle_location(handle, &location, effects),
                Located::Failed if self.config.locating.as_ref().is_some_and(|locating| locating.retry) => {
                    let generation = self.requests.at(handle).generation;
                    let at = self.now.mono + self.config.client_grace;
                    self.locations.again.push_back((at, handle, generation));
                    self.arm_locations();
                }
                Located::Failed => self.settle_location(handle, &Location::default(), effects),
            }
        }
    }

    /// It is known where a request lies.
    fn settle_location(&mut self, handle: Handle, location: &Location, effects: &mut Effects) {
        let good = |name: &&String| !name.is_empty() && name.len() <= MAX_NAME;
        let request = self.requests.at(handle);
        if request.state == State::Running {
            // Should it come back it is asked for again.
            self.locations.known.insert(handle, Where { tape: NIL, place: None, position: u64::MAX });
            return;
        }
        let key = self.classes.at(request.class).key;
        let rule = self.config.locating.as_ref().map_or(HostRule::Ignore, |locating| locating.host);
        let mut place = location.host.as_ref().filter(good).and_then(|host| match rule {
            HostRule::Ignore => None,
            HostRule::Strict => self.hosts.intern_located(host).map(Place::Host),
            HostRule::Soft => {
                let host = self.hosts.find(host)?;
                let mover = self.hosts.at(host).mover;
                let serves = |mover: u32| {
                    let entry = self.movers.at(mover);
                    entry.conn.is_some()
                        && (entry.archive_ids.is_empty() || entry.archive_ids.contains(&key.archive_id))
                };
                (mover != NIL && serves(mover)).then(|| {
                    self.hosts.at_mut(host).located = true;
                    Place::Host(host)
                })
            }
        });
        let mut tape = NIL;
        if let Some(name) = location.tape.as_ref().filter(good) {
            // All of one tape is for the same movers.
            tape = self.tapes.intern(key.archive_id, name, place.unwrap_or(Place::Any));
            place = Some(self.tapes.at(tape).place);
        }
        let position = location.position.unwrap_or(u64::MAX);
        self.locations.known.insert(handle, Where { tape, place, position });
        let rank = Rank { lane: key.lane, share: key.share, tape, place };
        self.rehome(handle, rank, effects);
        self.tapes.review_later(tape);
    }

    /// The location of some requests has been waited for long enough.
    pub(super) fn locations_due(&mut self, effects: &mut Effects) {
        let now = self.now.mono;
        let mut left = super::coordinator::SLICE;
        while left > 0 && self.locations.again.front().is_some_and(|&(at, _, _)| at <= now) {
            left -= 1;
            if let Some((_, handle, generation)) = self.locations.again.pop_front() {
                self.locations.waiting.push_back((handle, generation));
            }
        }
        let retry = self.config.locating.as_ref().is_some_and(|locating| locating.retry);
        while left > 0 && self.locations.overdue.front().is_some_and(|&(at, _, _)| at <= now) {
            left -= 1;
            let Some((_, handle, generation)) = self.locations.overdue.pop_front() else { break };
            let same = self.requests.at(handle).generation == generation;
            if !retry && same && self.locations.is_pending(handle) {
                let key = self.requests.at(handle).key();
                tracing::warn!(%key, "the locator does not answer: placed without it");
                self.settle_location(handle, &Location::default(), effects);
            }
        }
        self.arm_locations();
    }

    fn arm_locations(&mut self) {
        let fronts = [self.locations.overdue.front(), self.locations.again.front()];
        match fronts.into_iter().flatten().map(|&(at, _, _)| at).min() {
            Some(at) => self.timers.set(Timer::Locations, at.max(self.now.mono)),
            None => self.timers.clear(Timer::Locations),
        }
    }
}
