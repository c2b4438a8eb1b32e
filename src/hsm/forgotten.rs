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

use std::time::Duration;

use lustreapi_sys::abi::{HS_ARCHIVED, HS_DIRTY, HS_EXISTS, HS_RELEASED};

use super::Coordinator;
use super::action::RequestKey;
use super::cancel::{ENOENT, ENOSYS, LATER};
use super::doubts::{ASKED_ALIVE, Doubt, Stage};
use super::effect::{Effect, Effects};
use super::lustre_call::{FileState, LustreCall};
use super::requests::{ENDED_BEFORE, FORGOTTEN, Handle, Kind, State};
use super::time::Mono;
use super::timers::Timer;
use super::views::Outcome;

/// Questions about them that the MDTs have not answered yet.
const MOST_ASKED: u32 = 128;
/// How long after the first "unknown" the second question is asked: a list that the MDT could not deliver is unknown until
/// it is sent again.
const CONFIRM_AFTER: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Requests of one file that are looked at.
const MOST_OF_FILE: usize = 64;

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

    pub(super) fn arm_doubts(&mut self) {
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
                // A mover has ended it: that it was known before does not matter, but it may have been sent since.
                Some(doubt) if matches!(doubt.stage, Stage::Look | Stage::End) => doubt.back = true,
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
            _ if self.doubts.of.get_mut(&handle).is_some_and(|doubt| std::mem::take(&mut doubt.back)) => {
                tracing::info!(%key, "not done, and the MDT may have sent it again: it is asked");
                self.doubt_now(handle, Stage::Confirm);
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
