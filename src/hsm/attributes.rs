//! Whose file it is: looked up by the shell, off the path of requests.
//!
//! Until the answer comes a request waits in the share `unknown`, which takes its turns as any other: it is never
//! delayed by the lookup itself.

use std::collections::VecDeque;

use super::Coordinator;
use super::action::RequestKey;
use super::effect::{Effect, Effects};
use super::index::NIL;
use super::priorities::Rank;
use super::requests::{Handle, State};
use super::shares::{Owner, ShareBy};

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Project, 0 for none.
    pub project: u32,
    /// Bytes.
    pub size: u64,
    /// Job that made the file, if Lustre recorded it.
    pub job: Option<Box<str>>,
}

/// What costs more to find out than user and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The project.
    pub project: bool,
    /// The job.
    pub job: bool,
}

/// Lookups that the shell may have at a time.
const MOST_ASKED: usize = 512;
/// Of these, at least one in so many is for a request that came last: who comes after a crowd does not wait for it.
const NEWEST_EVERY: usize = 8;

/// Lookups to be made.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    /// (request, its generation), the oldest first.
    waiting: VecDeque<(Handle, u32)>,
    asked: usize,
    turn: usize,
}

impl Coordinator {
    /// A request's owner is to be looked up.
    pub(super) fn look_up_later(&mut self, handle: Handle) {
        let generation = self.requests.at(handle).generation;
        self.lookups.waiting.push_back((handle, generation));
    }

    /// Asks for the owners of some requests.
    pub(super) fn look_up(&mut self, effects: &mut Effects) {
        let mut keys = Vec::new();
        let mut left = super::coordinator::SLICE;
        while self.lookups.asked + keys.len() < MOST_ASKED && left > 0 {
            left -= 1;
            self.lookups.turn += 1;
            let newest = self.lookups.turn.is_multiple_of(NEWEST_EVERY);
            let waiting = &mut self.lookups.waiting;
            let next = if newest { waiting.pop_back() } else { waiting.pop_front() };
            let Some((handle, generation)) = next else {
                break;
            };
            let request = self.requests.at(handle);
            let same = request.generation == generation && request.state != State::Free;
            if same && self.lacks_owner(handle) {
                keys.push(request.key());
            }
        }
        if left == 0 {
            self.slice_later();
        }
        if !keys.is_empty() {
            self.lookups.asked += keys.len();
            let by = self.config.fair_share.as_ref();
            let wanted = Wanted { project: by == Some(&ShareBy::Project), job: by == Some(&ShareBy::Job) };
            effects.visible.push(Effect::LookUp { keys, wanted });
        }
    }

    /// Whether lookups wait to be made.
    pub(super) fn has_lookups(&self) -> bool {
        !self.lookups.waiting.is_empty()
    }

    /// What came of lookups.
    pub(super) fn looked_up(&mut self, found: Vec<(RequestKey, Option<Attributes>)>, effects: &mut Effects) {
        self.lookups.asked = self.lookups.asked.saturating_sub(found.len());
        tracing::debug!(files = found.len(), "owners looked up");
        for (key, attributes) in found {
            let Some(handle) = self.requests.find(key).filter(|&handle| self.lacks_owner(handle)) else {
                continue;
            };
            let Some(share) = attributes.and_then(|attributes| self.share_of_file(&attributes)) else {
                tracing::debug!(%key, "nobody is known to own this file");
                continue;
            };
            let request = self.requests.at(handle);
            let (state, data) = (request.state, request.data);
            let class = self.classes.at(request.class).key;
            if state == State::Running {
                // It had its turn already.
                self.charge(&super::queues::ClassKey { share, ..class });
                self.shares.rest(share);
                continue;
            }
            let lane = self.lane_of(class.kind, class.flags, data, share);
            self.rehome(handle, Rank { lane, share }, effects);
        }
    }

    /// The user whose file it is, where shares are by user and it is known.
    pub fn user_of(&self, key: RequestKey) -> Option<u32> {
        let handle = self.requests.find(key)?;
        let share = self.classes.at(self.requests.at(handle).class).key.share;
        if share == NIL {
            return None;
        }
        match self.shares.at(share).owner {
            Owner::User(uid) => Some(uid),
            _ => None,
        }
    }
}
