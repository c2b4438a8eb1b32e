//! Requests that wait and belong elsewhere now: after another configuration, or when something about them has become known.

use super::Coordinator;
use super::effect::Effects;
use super::index::NIL;
use super::priorities::Rank;
use super::requests::{BOOKMARKED, Handle, State};

impl Coordinator {
    /// A loose request goes into the class where it belongs by the present configuration.
    pub(super) fn renew_class(&mut self, handle: Handle) {
        let request = self.requests.at(handle);
        let (kind, data, old) = (request.kind, request.data, request.class);
        self.plan(data);
        self.forget_location(handle);
        let key = self.classes.at(old).key;
        let rank = self.rank_again(&key, handle, data);
        let new = self.class_for(kind, key.archive_id, key.flags, data, rank);
        self.requests.at_mut(handle).class = new;
        self.release_class(old);
    }

    /// A cursor that stands on this request goes on to the next of its list.
    pub(super) fn move_bookmarks(&mut self, handle: Handle) {
        if !self.requests.at(handle).has(BOOKMARKED) {
            return;
        }
        let next = self.requests.at(handle).next;
        self.requests.at_mut(handle).set(BOOKMARKED, false);
        if self.status.move_bookmarks(handle, next) && next != NIL {
            self.requests.at_mut(next).set(BOOKMARKED, true);
        }
        if self.reports.move_bookmark(handle, next) && next != NIL {
            self.requests.at_mut(next).set(BOOKMARKED, true);
        }
    }

    /// After a new configuration: puts requests that wait into the queues where they belong now.
    pub(super) fn replace_slice(&mut self, left: &mut usize, effects: &mut Effects) {
        let Some(mut at) = self.replacing else {
            return;
        };
        let end = self.requests.slab.capacity();
        while *left > 0 && at < end {
            let state = self.requests.at(at).state;
            if state != State::Free {
                *left -= 1;
                self.replace(at, effects);
            }
            at += 1;
        }
        self.replacing = (at < end).then_some(at);
    }

    pub(super) fn replace(&mut self, handle: Handle, effects: &mut Effects) {
        let request = self.requests.at(handle);
        let (data, class) = (request.data, request.class);
        self.plan(data);
        let key = self.classes.at(class).key;
        let rank = self.rank_again(&key, handle, data);
        self.rehome(handle, rank, effects);
    }

    /// Moves a request into the class where it belongs with this rank.
    pub(super) fn rehome(&mut self, handle: Handle, rank: Rank, effects: &mut Effects) {
        let request = self.requests.at(handle);
        let (state, kind, data, class, fid) =
            (request.state, request.kind, request.data, request.class, request.fid);
        let key = self.classes.at(class).key;
        let new = self.class_for(kind, key.archive_id, key.flags, data, rank);
        if new == class {
            self.release_class(new);
            return;
        }
        if state == State::Running {
            // It counts in its tag where it runs, so it keeps its class until it stops.
            self.release_class(new);
            return;
        }
        if matches!(state, State::Doubtful | State::Bound) {
            self.requests.at_mut(handle).class = new;
            self.release_class(class);
            return;
        }
        let moves = self.classes.at(new).key.place != key.place;
        self.unqueue(handle);
        let let_go = self.clear_released(handle);
        self.refresh_class(class);
        self.requests.at_mut(handle).class = new;
        self.release_class(class);
        match state {
            State::Held => {
                self.hold(handle);
                // What kept it may have been the one before it in its old class.
                self.release_held(fid);
            }
            State::Settling => self.let_settle(handle),
            State::Vetting => self.vet(handle, effects),
            State::Limited if self.set_aside_if_limited(handle) => {}
            _ => {
                self.enqueue_by_age(handle);
                if moves {
                    self.report_assign(handle, effects);
                }
            }
        }
        if let_go {
            self.release_held(fid);
        }
    }
}
