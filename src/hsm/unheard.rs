//! Ends of which the MDT may not have heard: it had restarted, or the mover was at the wrong one.

use std::time::Duration;

use super::Coordinator;
use super::cancel::{ECANCELED, ENOENT};
use super::doubts::{Doubt, Stage};
use super::effect::Effects;
use super::requests::{CLAIMED, FORGOTTEN, Handle, Kind, RECOVERED, REDELIVERED, REJOINED, UNHEARD};
use super::views::Outcome;

impl Coordinator {
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
    pub(super) fn end_heard(&mut self, handle: Handle, effects: &mut Effects) {
        if let Some(doubt) = self.doubts.of.get_mut(&handle).filter(|doubt| !doubt.back) {
            // This may be the answer to a question of before the MDT sent it again.
            doubt.back = true;
            self.doubt_later(handle);
            return;
        }
        let status = self.doubts.of.get(&handle).map_or(ENOENT, |doubt| doubt.status);
        self.end_doubtful(handle, status, effects);
    }
}
