//! What the MDT may have forgotten.
//!
//! An MDT that restarts keeps its log and loses its memory: it sends restores again, with the same cookie, but never archives
//! and removes, whose ends it refuses with ENOENT (Lustre mdt_coordinator.c). So what it says it does not know is not handed
//! out while that is in doubt. When it says so a second time, a restore waits until it comes again, and an archive or a
//! remove is requested anew with its full data; only when the MDT has taken that is the old one forgotten.
//!
//! The MDT does not know either what has ended, and its end may have been lost with a mover and a daemon that died. So the
//! file is looked at before each of these steps: where nothing is left to do, nothing is requested again. That matters
//! most for what users asked since: an archive that was requested again would come after their remove.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use lustreapi_sys::Fid;
use lustreapi_sys::abi::{HS_ARCHIVED, HS_DIRTY, HS_EXISTS, HS_RELEASED};
use rustc_hash::FxHashMap;

use super::Coordinator;
use super::action::RequestKey;
use super::cancel::{ECANCELED, ENOENT, ENOSYS, LATER};
use super::effect::{Effect, Effects};
use super::lustre_call::{FileState, LustreCall};
use super::requests::{
    CLAIMED, ENDED_BEFORE, FORGOTTEN, Handle, Kind, RECOVERED, REDELIVERED, REJOINED, State, UNHEARD,
};
use super::time::Mono;
use super::timers::Timer;
use super::views::Outcome;

/// Requests in doubt at a time; more of them stay where they are until the next keepalive.
const MOST: usize = 16_384;
/// Questions about them that the MDTs have not answered yet.
const MOST_ASKED: u32 = 128;
/// How long after the first "unknown" the second question is asked: a list that the MDT could not deliver is unknown until
/// it is sent again.
const CONFIRM_AFTER: Duration = Duration::from_secs(30);
/// How long the MDT may take to take a request again.
const GIVE_UP_AFTER: Duration = Duration::from_secs(7 * 86_400);
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Requests of one file that are looked at.
const MOST_OF_FILE: usize = 64;
/// Requests remembered that movers ended with ENOENT and that were looked into.
const MOST_LOOKED_INTO: usize = 65_536;

/// What is done about a request in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The MDT did not know it: is there anything left to do for the file?
    First,
    /// It is asked again before anything is done.
    Confirm,
    /// It did not know it again: is there still anything left to do?
    Wanted,
    /// A restore: the MDT will send it again, or has given it up.
    Redelivery,
    /// Its mover ended it with ENOENT, which may be the MDT's answer: is there anything left to do for the file?
    Look,
    /// A restore that a mover ended with an error: has the MDT heard that, or did it send the restore again?
    Heard,
    /// The MDT is to take it again.
    Request,
    /// A REMOVE whose copy is gone: the MDT is told that it succeeded.
    End,
}

/// Those in which the MDT is asked whether it knows the request.
const ASKED_ALIVE: [Stage; 3] = [Stage::Confirm, Stage::Redelivery, Stage::Heard];

#[derive(Debug)]
struct Doubt {
    stage: Stage,
    since: Mono,
    due: Mono,
    tries: u32,
    /// Asked and not answered: the number of the question.
    asked: Option<u64>,
    /// It came again while the MDT was asked to take it again; or the MDT has said once that it heard of its end.
    back: bool,
    /// With what error its mover ended it.
    status: i32,
    /// Its end was refused before: when the MDT still has it, it is ended there.
    last: bool,
}

/// Requests in doubt.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    of: BTreeMap<Handle, Doubt>,
    due: BTreeSet<(Mono, Handle)>,
    asked: u32,
    looked_into: LookedInto,
}

/// Requests that movers ended with ENOENT, by file and kind: the next such end is final, or a copytool that always says so
/// would be asked for ever.
#[derive(Debug, Default)]
struct LookedInto {
    ring: VecDeque<(Fid, Kind, Mono)>,
    last: FxHashMap<(Fid, Kind), Mono>,
}

impl LookedInto {
    /// Whether this file and kind was looked into not long ago. If not, it is now.
    fn again(&mut self, fid: Fid, kind: Kind, now: Mono) -> bool {
        const LONG_AGO: Duration = Duration::from_secs(86_400);
        if self.last.get(&(fid, kind)).is_some_and(|&at| now.since(at) < LONG_AGO) {
            return true;
        }
        self.last.insert((fid, kind), now);
        self.ring.push_back((fid, kind, now));
        if self.ring.len() > MOST_LOOKED_INTO
            && let Some((fid, kind, at)) = self.ring.pop_front()
            && self.last.get(&(fid, kind)) == Some(&at)
        {
            self.last.remove(&(fid, kind));
        }
        false
    }
}

impl Doubts {
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.of.len() >= MOST
    }

    /// Whether the MDT may still take its time over this one.
    pub(super) fn is_young(&self, handle: Handle, now: Mono) -> bool {
        self.of.get(&handle).is_some_and(|doubt| now.since(doubt.since) < GIVE_UP_AFTER)
    }

    pub(super) fn contains(&self, handle: Handle) -> bool {
        self.of.contains_key(&handle)
    }

    fn plan(&mut self, handle: Handle, at: Mono) {
        if let Some(doubt) = self.of.get_mut(&handle) {
            self.due.remove(&(doubt.due, handle));
            doubt.due = at;
            self.due.insert((at, handle));
        }
    }

    pub(super) fn remove(&mut self, handle: Handle) {
        if let Some(doubt) = self.of.remove(&handle) {
            self.due.remove(&(doubt.due, handle));
            self.asked -= u32::from(doubt.asked.is_some());
        }
    }

    /// Notes the answer to a question asked in one of these stages. Returns the stage; `None` when somebody else asked, or it
    /// is older than the question.
    pub(super) fn answered(&mut self, handle: Handle, number: u64, stages: &[Stage]) -> Option<Stage> {
        let is_asked = |doubt: &&mut Doubt| doubt.asked.is_some_and(|asked| number >= asked);
        let doubt =
            self.of.get_mut(&handle).filter(|doubt| stages.contains(&doubt.stage)).filter(is_asked)?;
        self.asked -= 1;
        doubt.asked = None;
        Some(doubt.stage)
    }

    /// Invariants, for tests and simulations.
    pub(super) fn check(&self) {
        let due: BTreeSet<_> =
            self.of.iter().filter(|(_, d)| d.asked.is_none()).map(|(&h, d)| (d.due, h)).collect();
        assert_eq!(due, self.due, "what is in doubt and not asked about has its time");
        let asked = self.of.values().filter(|doubt| doubt.asked.is_some()).count();
        assert_eq!(asked as u32, self.asked, "questions under way");
    }
}

impl Coordinator {
    /// A loose request is not handed out until it is known whether the MDT still has it.
    pub(super) fn doubt(&mut self, handle: Handle, stage: Stage, after: Duration) {
        let now = self.now.mono;
        self.vetting.forget(handle);
        let linked = self.next_sequence();
        let request = self.requests.at_mut(handle);
        request.state = State::Doubtful;
        request.linked = linked;
        let due = now + after;
        let doubt =
            Doubt { stage, since: now, due, tries: 0, asked: None, back: false, status: 0, last: false };
        self.doubts.of.insert(handle, doubt);
        self.doubts.due.insert((due, handle));
        self.arm_doubts();
    }

    /// A loose request that the MDT did not know while it ran: most likely its end was lost with its mover. Looks at the
    /// file before anything else is done to it; `false` if too many are in doubt.
    pub(super) fn doubt_first(&mut self, handle: Handle) -> bool {
        let room = !self.doubts.is_full();
        if room {
            self.doubt(handle, Stage::First, Duration::ZERO);
        }
        room
    }

    /// A file's copy was removed. Of the archives of it that wait, those that were asked for before the remove have come again
    /// through the pipe: what the MDT does not know of them has ended, and is not asked for again. (A file's MDT counts its
    /// cookies up, and a mover may say that it is done long after its MDT has taken other requests.)
    pub(super) fn copy_removed(&mut self, remove: RequestKey) {
        for handle in self.requests.of_file(remove.fid, MOST_OF_FILE) {
            let request = self.requests.at_mut(handle);
            let older = request.cookie < remove.cookie;
            if older && request.kind == Kind::Archive && request.state != State::Running {
                request.set(ENDED_BEFORE, true);
            }
        }
    }

    fn arm_doubts(&mut self) {
        if let Some(&(at, _)) = self.doubts.due.first().filter(|_| self.doubts.asked < MOST_ASKED) {
            // Later than now: what is due is looked at in a step of its own.
            self.timers.set(Timer::Doubt, at.max(Mono(self.now.mono.0 + 1)));
        }
    }

    /// The next step comes after a while, twice as long each time.
    pub(super) fn doubt_later(&mut self, handle: Handle) {
        let longest = self.keepalive_interval().unwrap_or(CONFIRM_AFTER).max(FIRST_RETRY);
        if let Some(doubt) = self.doubts.of.get_mut(&handle) {
            let wait = FIRST_RETRY.saturating_mul(1 << doubt.tries.min(16)).min(longest);
            doubt.tries += 1;
            self.doubts.plan(handle, self.now.mono + wait);
        }
        self.arm_doubts();
    }

    pub(super) fn doubt_now(&mut self, handle: Handle, stage: Stage) {
        if let Some(doubt) = self.doubts.of.get_mut(&handle) {
            doubt.stage = stage;
            doubt.tries = 0;
            self.doubts.plan(handle, self.now.mono);
        }
        self.arm_doubts();
    }

    /// Asks what is due.
    pub(super) fn doubt_step(&mut self, effects: &mut Effects) {
        while self.doubts.asked < MOST_ASKED {
            let Some(&(at, handle)) = self.doubts.due.first().filter(|&&(at, _)| at <= self.now.mono) else {
                break;
            };
            self.doubts.due.remove(&(at, handle));
            let number = self.next_sequence();
            let Some(doubt) = self.doubts.of.get_mut(&handle) else {
                continue;
            };
            doubt.asked = Some(number);
            self.doubts.asked += 1;
            let key = self.requests.at(handle).key();
            let call = match doubt.stage {
                Stage::End => {
                    let item = Box::new(self.item(handle, true));
                    effects.visible.push(Effect::EndAtLustre { item, errno: 0 });
                    continue;
                }
                Stage::Confirm | Stage::Redelivery | Stage::Heard => LustreCall::KeepAlive { key, number },
                Stage::First | Stage::Wanted | Stage::Look => LustreCall::State { key, number },
                Stage::Request => LustreCall::Request { item: Box::new(self.item(handle, true)), number },
            };
            effects.visible.push(Effect::AskLustre(call));
        }
        self.arm_doubts();
    }

    /// The doubt is over: the request goes back to where it waits.
    fn no_doubt(&mut self, handle: Handle, effects: &mut Effects) {
        self.unqueue(handle);
        self.queue_again(handle, true, effects);
        self.arm_doubts();
    }

    /// A request that waits is not the MDT's any more, or not under this name.
    pub(super) fn drop_waiting(&mut self, handle: Handle, effects: &mut Effects) {
        let class = self.requests.at(handle).class;
        self.unqueue(handle);
        self.refresh_class(class);
        self.note_unknown_at_mdt(handle);
        self.forget(handle, effects);
        self.arm_doubts();
    }

    /// The MDT knows it: it says so, or has sent it again.
    pub(super) fn known_at_mdt(&mut self, handle: Handle, effects: &mut Effects) {
        let request = self.requests.at_mut(handle);
        match request.state {
            State::Running => request.set(FORGOTTEN, false),
            State::Doubtful => match self.doubts.of.get_mut(&handle) {
                // The MDT may be about to take it a second time: wait for what it says.
                Some(doubt) if doubt.stage == Stage::Request && doubt.asked.is_some() => doubt.back = true,
                // A mover has ended it: that it was known before does not matter.
                Some(doubt) if matches!(doubt.stage, Stage::Look | Stage::End) => {}
                _ => self.no_doubt(handle, effects),
            },
            _ => {}
        }
    }

    /// The MDT does not know it.
    pub(super) fn unknown_at_mdt(&mut self, handle: Handle, number: u64, effects: &mut Effects) {
        let request = self.requests.at_mut(handle);
        let (key, kind, class, state) = (request.key(), request.kind, request.class, request.state);
        match state {
            State::Running => {
                if !request.has(FORGOTTEN) {
                    request.set(FORGOTTEN, true);
                    tracing::info!(%key, "the MDT has forgotten a request that runs");
                }
            }
            State::Doubtful => match self.doubts.answered(handle, number, &ASKED_ALIVE) {
                Some(Stage::Heard) => self.end_heard(handle, effects),
                Some(Stage::Confirm) => {
                    self.counts.forgotten_at_mdt += 1;
                    tracing::info!(%key, "the MDT does not know this request");
                    self.doubt_now(handle, Stage::Wanted);
                }
                Some(_) => {
                    let since = self.doubts.of.get(&handle).map_or(self.now.mono, |doubt| doubt.since);
                    if self.now.mono.since(since) < self.patience() {
                        self.doubt_later(handle);
                        return;
                    }
                    tracing::warn!(%key, "the MDT has given this restore up: dropped");
                    self.counts.given_up += 1;
                    self.drop_waiting(handle, effects);
                }
                None => {}
            },
            // It ended before it was delivered again: not to be asked for once more.
            State::Queued | State::Parked | State::Held | State::Settling | State::Limited
                if request.has(ENDED_BEFORE) && kind != Kind::Restore =>
            {
                self.drop_late(handle, effects);
            }
            State::Queued | State::Parked | State::Held | State::Settling | State::Limited => {
                if self.doubts.is_full() {
                    return;
                }
                self.unqueue(handle);
                let let_go = self.clear_released(handle);
                self.refresh_class(class);
                self.doubt(handle, Stage::First, Duration::ZERO);
                if let_go {
                    self.release_held(key.fid);
                }
            }
            // Its own questions are under way.
            State::Vetting | State::Bound => {}
            State::Free | State::Loose => {}
        }
    }

    /// The MDT should send it again, as it does after its restart.
    fn await_redelivery(&mut self, handle: Handle) {
        if let Some(doubt) = self.doubts.of.get_mut(&handle) {
            doubt.stage = Stage::Redelivery;
        }
        self.doubt_later(handle);
    }

    /// How long a restore that the MDT does not know waits to come again.
    fn patience(&self) -> Duration {
        let timeout = self.request_timeout();
        if timeout.is_zero() { Duration::from_secs(3600) } else { timeout }
    }

    /// The MDT could not say whether it knows the request: the question is asked again.
    pub(super) fn doubt_stays(&mut self, handle: Handle, number: u64) {
        if self.doubts.answered(handle, number, &ASKED_ALIVE).is_some() {
            self.doubt_later(handle);
        }
    }

    /// A mover ended an archive or a remove with ENOENT, or with any error after the MDT had forgotten it, so that the MDT may
    /// not know of it: returns whether it is looked into, and the request was taken from the mover. `told`: it was the MDT
    /// that refused the end of a copytool that succeeded.
    pub(super) fn ended_unknown(
        &mut self,
        handle: Handle,
        mover: u32,
        status: i32,
        told: bool,
        effects: &mut Effects,
    ) -> bool {
        let request = self.requests.at(handle);
        let (key, kind, forgotten) = (request.key(), request.kind, request.has(FORGOTTEN));
        // A copytool's own error never reaches an MDT that has forgotten the request.
        let unheard = status == ENOENT || (forgotten && ![0, ECANCELED].contains(&status));
        let forgotten = forgotten || told;
        if self.keepalive_interval().is_none() || self.doubts.is_full() {
            return false;
        }
        if kind == Kind::Restore {
            return self.ended_unheard(handle, mover, status, effects);
        }
        if !unheard {
            return false;
        }
        let again = self.doubts.looked_into.again(key.fid, kind, self.now.mono);
        if again && !forgotten {
            return false;
        }
        tracing::info!(%key, forgotten, "ended with an error: was it the MDT that did not know it?");
        self.doubt_ended(handle, mover, Stage::Look, effects);
        true
    }

    /// A mover has ended a request, and more is to be done about it.
    pub(super) fn doubt_ended(&mut self, handle: Handle, mover: u32, stage: Stage, effects: &mut Effects) {
        let request = self.requests.at(handle);
        let (fid, kind) = (request.fid, request.kind);
        self.stop(handle);
        self.renew_class(handle);
        self.unassign(handle, effects);
        self.counts.done[kind.at()] += 1;
        self.movers.at_mut(mover).done[kind.at()] += 1;
        self.doubt(handle, stage, Duration::ZERO);
        self.release_held(fid);
    }

    /// A mover ended a restore with an error, and the MDT may still wait for it: the MDT is asked. Returns whether it is.
    ///
    /// The error may be the MDT's own: it had restarted, or the copytool has worked at the wrong MDT; few movers can tell. Or the
    /// mover began the restore before we started, or before it claimed it or came back with it: that the MDT sent it again
    /// meanwhile was only remembered by who we were before, or when it waited, or was answered by an end that the mover sends once
    /// more, since it lost the answer.
    ///
    /// A restore that the MDT still has is run again, once. When the MDT goes on waiting after that as well, it is told the error,
    /// so that readers need not wait for its timeout.
    fn ended_unheard(&mut self, handle: Handle, mover: u32, status: i32, effects: &mut Effects) -> bool {
        let bound = self.was_refused_as_bound(handle, status);
        let request = self.requests.at_mut(handle);
        let old = request.has(RECOVERED) || request.has(CLAIMED) || request.has(REJOINED);
        // What was sent again is run again without a question.
        let fresh = !bound && !request.has(REDELIVERED);
        let last = !old && request.has(UNHEARD);
        if !(old || fresh) || [0, ECANCELED].contains(&status) {
            return false;
        }
        request.set(RECOVERED, false);
        if !old {
            request.set(UNHEARD, true);
        }
        let key = request.key();
        tracing::info!(%key, status, "ended with an error: has the MDT heard that?");
        self.doubt_ended(handle, mover, Stage::Heard, effects);
        if let Some(doubt) = self.doubts.of.get_mut(&handle) {
            doubt.status = status;
            doubt.last = last;
        }
        true
    }

    /// The MDT says that it knows a request.
    pub(super) fn alive_at_mdt(&mut self, handle: Handle, number: u64, effects: &mut Effects) {
        let last = |doubt: &Doubt| doubt.stage == Stage::Heard && doubt.last;
        if !self.doubts.of.get(&handle).is_some_and(last)
            || self.doubts.answered(handle, number, &[Stage::Heard]).is_none()
        {
            return self.known_at_mdt(handle, effects);
        }
        let status = self.doubts.of.get(&handle).map_or(ENOENT, |doubt| doubt.status);
        let item = self.item(handle, true);
        tracing::warn!(key = %item.key(), status, "the MDT waits for a restore whose end it has refused twice: it is told an error");
        self.owe(&item, status, effects);
        self.end_doubtful(handle, status, effects);
        self.end_at_lustre(item, status, true, effects);
    }

    /// A doubtful request has ended with an error.
    fn end_doubtful(&mut self, handle: Handle, status: i32, effects: &mut Effects) {
        let (class, target) = (self.requests.at(handle).class, self.target(handle));
        self.unqueue(handle);
        self.refresh_class(class);
        self.note_fate(handle, Outcome::Done, status);
        self.forget(handle, effects);
        self.not_alive(target, effects);
        self.arm_doubts();
    }

    /// The MDT has heard of the end of a restore.
    fn end_heard(&mut self, handle: Handle, effects: &mut Effects) {
        if let Some(doubt) = self.doubts.of.get_mut(&handle).filter(|doubt| !doubt.back) {
            // This may be the answer to a question of before the MDT sent it again.
            doubt.back = true;
            self.doubt_later(handle);
            return;
        }
        let status = self.doubts.of.get(&handle).map_or(ENOENT, |doubt| doubt.status);
        self.end_doubtful(handle, status, effects);
    }

    /// The MDT is asked once more, after a while.
    fn confirm(&mut self, handle: Handle) {
        let after = self.keepalive_interval().map_or(CONFIRM_AFTER, |at| at.min(CONFIRM_AFTER));
        if let Some(doubt) = self.doubts.of.get_mut(&handle) {
            doubt.stage = Stage::Confirm;
            self.doubts.plan(handle, self.now.mono + after);
        }
        self.arm_doubts();
    }

    /// The state of a file whose request was ended with ENOENT, or is not known to its MDT.
    pub(super) fn doubt_looked(
        &mut self,
        key: RequestKey,
        number: u64,
        state: Result<FileState, i32>,
        effects: &mut Effects,
    ) {
        let Some(handle) = self.requests.find(key) else {
            return;
        };
        let asked = self.doubts.answered(handle, number, &[Stage::First, Stage::Wanted, Stage::Look]);
        let Some(stage) = asked else {
            return;
        };
        let kind = self.requests.at(handle).kind;
        let removed = self.is_removed(handle);
        let wanted = match state {
            Ok(state) if removed && state.is_released() => {
                tracing::error!(%key, "this file was released after a mover had removed its copy: its data is lost");
                false
            }
            Ok(state) => is_wanted(kind, state),
            Err(ENOENT) if removed => false,
            // The copy of a file that is gone may still have to be removed.
            Err(ENOENT) => kind == Kind::Remove,
            // As long as nothing says that it is done, it is not.
            Err(_) if stage != Stage::Look => true,
            Err(errno) => {
                self.counts.unanswered += 1;
                let since = self.doubts.of.get(&handle).map_or(self.now.mono, |doubt| doubt.since);
                if errno != ENOSYS && self.now.mono.since(since) < self.patience() {
                    self.doubt_later(handle);
                    return;
                }
                tracing::warn!(%key, errno, "cannot find out why this request was ended with ENOENT: it stays ended");
                false
            }
        };
        // Restores are sent again by the MDT, never asked for again.
        let over = kind != Kind::Restore && self.requests.at(handle).has(ENDED_BEFORE);
        match stage {
            _ if !wanted || over => {
                if removed {
                    self.forget_removed(key.fid, effects);
                }
                self.drop_waiting(handle, effects);
            }
            Stage::First => self.confirm(handle),
            Stage::Wanted if kind == Kind::Restore => {
                tracing::info!(%key, "the MDT should send this restore again");
                self.await_redelivery(handle);
            }
            Stage::Wanted => {
                tracing::info!(%key, "the MDT has forgotten this request: it is requested again");
                self.doubt_now(handle, Stage::Request);
            }
            _ => {
                self.counts.forgotten_at_mdt += 1;
                tracing::info!(%key, "not done, and unknown to the MDT: it is requested again");
                self.doubt_now(handle, Stage::Request);
            }
        }
    }

    /// Whether the MDT has taken a request again.
    pub(super) fn doubt_requested(
        &mut self,
        key: RequestKey,
        number: u64,
        errno: i32,
        effects: &mut Effects,
    ) {
        let Some(handle) = self.requests.find(key) else {
            return;
        };
        if self.doubts.answered(handle, number, &[Stage::Request]).is_none() {
            return;
        }
        let back = self.doubts.of.get(&handle).is_some_and(|doubt| doubt.back);
        let later = LATER.contains(&errno) || errno == ENOSYS;
        match errno {
            _ if back => {
                tracing::info!(%key, "the MDT knows this request after all");
                self.no_doubt(handle, effects);
            }
            0 => {
                tracing::info!(%key, "requested again");
                self.counts.requested_again += 1;
                self.drop_waiting(handle, effects);
            }
            _ if later && self.doubts.is_young(handle, self.now.mono) => {
                self.counts.unanswered += 1;
                self.doubt_later(handle);
            }
            ENOENT => {
                tracing::info!(%key, "the file of a forgotten request is gone: dropped");
                self.counts.given_up += 1;
                self.drop_waiting(handle, effects);
            }
            _ => {
                tracing::error!(%key, errno, "the MDT does not take a request again that it had forgotten: dropped");
                self.counts.given_up += 1;
                self.note_fate(handle, Outcome::Dropped, errno);
                self.note_given_up(handle, errno, effects);
                self.drop_waiting(handle, effects);
            }
        }
    }
}

/// Whether there is still something to do for the file.
fn is_wanted(kind: Kind, state: FileState) -> bool {
    let has = |bit| state.states & bit != 0;
    match kind {
        Kind::Archive => !has(HS_RELEASED) && (!has(HS_ARCHIVED) || has(HS_DIRTY)),
        // The only copy of a released file is nothing to remove.
        Kind::Remove => !has(HS_RELEASED) && (has(HS_ARCHIVED) || has(HS_EXISTS)),
        Kind::Restore => has(HS_RELEASED),
    }
}
