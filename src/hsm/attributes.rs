//! Whose file it is: looked up by the shell, off the path of requests.
//!
//! Until the answer comes a request waits in the share `unknown`, which takes its turns as any other: it is never
//! delayed by the lookup itself.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::Coordinator;
use super::action::RequestKey;
use super::effect::{Effect, Effects};
use super::index::NIL;
use super::priorities::Rank;
use super::queues::ClassKey;
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
    /// What limits want to know, where they do.
    files: FxHashMap<Handle, FileOf>,
}

/// What limits want to know of a request's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileOf {
    pub(super) user: u32,
    pub(super) size: u64,
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
            let (Some(handle), Some(attributes)) = (self.requests.find(key), attributes) else {
                continue;
            };
            if self.limits_want_files() {
                let file = FileOf { user: attributes.uid, size: attributes.size };
                self.lookups.files.insert(handle, file);
            }
            if !self.lacks_share(handle) {
                continue;
            }
            let Some(share) = self.share_of_file(&attributes) else {
                tracing::debug!(%key, "nobody is known to own this file");
                continue;
            };
            let request = self.requests.at(handle);
            let (state, data) = (request.state, request.data);
            let class = self.classes.at(request.class).key;
            if state == State::Running {
                // It had its turn already.
                self.charge_share(&ClassKey { share, ..class });
                self.shares.rest(share);
                continue;
            }
            let lane = self.lane_of(class.kind, class.flags, data, share);
            let (tape, place) = self.location_again(&class, handle);
            self.rehome(handle, Rank { lane, share, tape, place }, effects);
        }
    }

    /// Whether it is worth a look whose file the request is for.
    pub(super) fn lacks_owner(&self, handle: Handle) -> bool {
        self.lacks_share(handle) || (self.limits_want_files() && !self.lookups.files.contains_key(&handle))
    }

    /// What limits want to know of the request's file.
    pub(super) fn file_of(&self, handle: Handle) -> Option<FileOf> {
        self.lookups.files.get(&handle).copied()
    }

    /// The request is gone.
    pub(super) fn forget_file(&mut self, handle: Handle) {
        self.lookups.files.remove(&handle);
    }

    /// Whether the users of files are looked up at all.
    pub(super) fn knows_users(&self) -> bool {
        self.config.fair_share == Some(ShareBy::User) || self.limits_want_files()
    }

    /// The user of the request's file, if it is known.
    pub(super) fn user_of(&self, handle: Handle) -> Option<u32> {
        if let Some(file) = self.file_of(handle) {
            return Some(file.user);
        }
        let share = self.classes.at(self.requests.at(handle).class).key.share;
        match (share != NIL).then(|| &self.shares.at(share).owner) {
            Some(Owner::User(uid)) => Some(*uid),
            _ => None,
        }
    }
}
