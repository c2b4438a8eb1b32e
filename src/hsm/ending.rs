//! `done`: a mover has finished.

use super::Coordinator;
use super::cancel::ENOSYS;
use super::effect::{Effect, Effects, Reply};
use super::event::{ConnId, Done};
use super::requests::{ENDED_BEFORE, Handle, Kind, REDELIVERED, State};
use super::top::PACE;
use super::views::Outcome;

impl Coordinator {
    /// `unheard`: the copytool succeeded, but the MDT did not take its end.
    pub(super) fn done(
        &mut self,
        conn: ConnId,
        mover: u32,
        done: Done,
        unheard: bool,
        effects: &mut Effects,
    ) {
        match self.find_done(mover, &done) {
            Some(handle) if unheard && self.keeps_removed(handle) => {
                self.removed_unheard(handle, mover, done, effects);
            }
            Some(handle) => self.finished(handle, mover, done, unheard, effects),
            None => {
                self.counts.foreign_dones += 1;
                tracing::info!(
                    mover = %self.movers.at(mover).id, fid = %done.dfid, cookie = done.cookie, status = done.status,
                    "done for what this mover does not run: ignored"
                );
            }
        }
        effects.visible.push(Effect::Reply { conn, reply: Reply::Done });
    }

    /// What the sender of a `done` runs under the names it gives.
    fn find_done(&self, mover: u32, done: &Done) -> Option<Handle> {
        let own = |handle: &Handle| {
            let request = self.requests.at(*handle);
            request.state == State::Running && request.owner == mover
        };
        self.requests
            .find_any(done.cookie, done.dfid)
            .filter(own)
            .or_else(|| self.requests.find_alias(done.cookie, done.dfid).filter(own))
            .or_else(|| {
                let of_file = self.busy.get(&done.dfid);
                self.requests.find_truncated(done.cookie, done.dfid, mover, of_file)
            })
    }

    /// Whether it matters that the work of a request is done though the MDT does not know: an archive is made again, a
    /// restore is sent again, but nobody can remove a copy twice.
    fn keeps_removed(&self, handle: Handle) -> bool {
        self.config.ask_lustre && self.requests.at(handle).kind == Kind::Remove
    }

    /// The copy is gone and the MDT did not take the end: the request stays until the MDT knows. A cancel came too late.
    fn removed_unheard(&mut self, handle: Handle, mover: u32, done: Done, effects: &mut Effects) {
        let key = self.requests.at(handle).key();
        tracing::info!(
            %key, status = done.status, mover = %self.movers.at(mover).id,
            "the copy is removed, and the MDT has not taken the end: it is told again"
        );
        self.report_done(handle, &done, effects);
        self.drop_cancel(handle);
        let now = self.now.mono;
        self.movers.at_mut(mover).pace.add(PACE, now, true);
        self.judge_mover(mover, handle, 0);
        self.note_settled(self.target(handle), effects);
        self.note_removed(handle, effects);
        self.requests.at_mut(handle).set(REDELIVERED, false);
        self.tell_removed(handle, mover, done.status, effects);
    }

    fn finished(&mut self, handle: Handle, mover: u32, done: Done, unheard: bool, effects: &mut Effects) {
        let request = self.requests.at(handle);
        let (key, kind, fid, again) = (request.key(), request.kind, request.fid, request.has(REDELIVERED));
        let cancelled = self.cancels.get(&handle).map(|cancel| cancel.sent);
        if cancelled == Some(true) && done.status == ENOSYS {
            tracing::info!(%key, mover = %self.movers.at(mover).id, "the mover cannot cancel: it goes on");
            return;
        }
        tracing::debug!(%key, mover = %self.movers.at(mover).id, status = done.status, "done");
        self.report_done(handle, &done, effects);
        self.drop_cancel(handle);
        let now = self.now.mono;
        self.movers.at_mut(mover).pace.add(PACE, now, done.status == 0);
        if cancelled.is_none() {
            self.judge_mover(mover, handle, done.status);
        }
        match (done.status, cancelled) {
            (0, _) | (_, Some(_)) => self.note_settled(self.target(handle), effects),
            (errno, None) => self.note_failure(handle, errno, again, effects),
        }
        // First: an MDT that restarted knows nothing of a request whose list came twice before that.
        if cancelled.is_none() && self.ended_unknown(handle, mover, done.status, unheard, effects) {
            self.requests.at_mut(handle).set(REDELIVERED, false);
            return;
        }
        if done.status != 0 && again && cancelled.is_none() {
            let request = self.requests.at_mut(handle);
            request.set(REDELIVERED, false);
            // A list may come twice though it is wanted once; restores are sent again after a restart of their MDT.
            request.set(ENDED_BEFORE, kind != Kind::Restore);
            self.requeue(handle, effects);
            return;
        }
        if cancelled.is_none() && self.was_refused_as_bound(handle, done.status) {
            self.unbind(handle, effects);
            return;
        }
        self.stop(handle);
        if cancelled == Some(true) && done.status != 0 {
            self.note_fate(handle, Outcome::Cancelled, done.status);
            self.counts.done_cancel += 1;
        } else {
            self.note_fate(handle, Outcome::Done, done.status);
            self.counts.done[kind.at()] += 1;
            self.movers.at_mut(mover).done[kind.at()] += 1;
        }
        self.forget(handle, effects);
        if kind == Kind::Remove && done.status == 0 {
            self.copy_removed(key);
        }
        self.release_held(fid);
    }
}
