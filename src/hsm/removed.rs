//! Copies that are gone although the MDT does not know it.
//!
//! A copytool that has removed a copy ends the REMOVE with success. An MDT that restarted meanwhile refuses that end (ENOENT,
//! Lustre mdt_hsm_update_request_state) and goes on calling the file archived: a release would destroy its only data. Asked
//! for again, the REMOVE would fail at the next mover, since there is no copy, and the file would stay as it is. Movers of
//! ours say that their copytool succeeded, so the fact is kept here, and the REMOVE that the MDT hands out anew is ended with
//! success without a mover.
//!
//! It is kept in the store until the MDT has taken a success, an ARCHIVE of the file is given to a mover (whatever it leaves
//! behind, a mover is to remove), or a week has passed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lustreapi_sys::Fid;

use super::Coordinator;
use super::action::RequestKey;
use super::cancel::{ENOENT, ENOSYS, LATER};
use super::doubts::Stage;
use super::effect::{Effects, StoreOp};
use super::requests::{Handle, Kind};
use super::views::Outcome;

/// Files remembered; beyond that the oldest are forgotten. No more than what movers remove during the restart of an MDT.
const MOST: usize = 65_536;
/// For how long: as long as an MDT may take to take a request again.
const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Kind of the notes in the store.
const NOTE: &str = "removed";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gone {
    archive_id: u32,
    /// Nanoseconds of the wall clock.
    since: i64,
}

/// Files whose copy is gone.
#[derive(Debug, Default)]
pub(super) struct Removed {
    of: BTreeMap<Fid, Gone>,
    by_age: BTreeSet<(i64, Fid)>,
}

impl Removed {
    fn insert(&mut self, fid: Fid, gone: Gone) {
        self.remove(fid);
        self.of.insert(fid, gone);
        self.by_age.insert((gone.since, fid));
    }

    fn remove(&mut self, fid: Fid) -> bool {
        let Some(gone) = self.of.remove(&fid) else { return false };
        self.by_age.remove(&(gone.since, fid));
        true
    }

    /// # Panics
    /// When an invariant is broken.
    pub(super) fn check(&self) {
        let ages: BTreeSet<_> = self.of.iter().map(|(&fid, gone)| (gone.since, fid)).collect();
        assert_eq!(ages, self.by_age, "copies that are gone, by age");
        assert!(self.of.len() <= MOST);
    }
}

fn note_name(fid: Fid) -> String {
    format!("{NOTE}/{fid}")
}

impl Coordinator {
    /// A copytool has removed the copy of this request's file, and the MDT does not know.
    pub(super) fn note_removed(&mut self, handle: Handle, effects: &mut Effects) {
        let (fid, _, archive_id) = self.target(handle);
        let gone = Gone { archive_id, since: self.now.wall.0 };
        self.removed.insert(fid, gone);
        let value = format!("{archive_id} {}", gone.since);
        effects.store.push(StoreOp::Note { name: note_name(fid), value: Some(value) });
        let oldest = self.now.wall.0.saturating_sub(KEPT.as_nanos() as i64);
        while let Some(&(since, fid)) = self.removed.by_age.first()
            && (since < oldest || self.removed.of.len() > MOST)
        {
            tracing::warn!(%fid, "nobody asks for the REMOVE of this copy any more: that it is gone is forgotten");
            self.forget_removed(fid, effects);
        }
    }

    /// The MDT knows it, or there may be a copy again.
    pub(super) fn forget_removed(&mut self, fid: Fid, effects: &mut Effects) {
        if self.removed.remove(fid) {
            effects.store.push(StoreOp::Note { name: note_name(fid), value: None });
        }
    }

    /// Whether a REMOVE has nothing left to remove.
    pub(super) fn is_removed(&self, handle: Handle) -> bool {
        if self.removed.of.is_empty() || self.requests.at(handle).kind != Kind::Remove {
            return false;
        }
        let (fid, _, archive_id) = self.target(handle);
        let oldest = self.now.wall.0.saturating_sub(KEPT.as_nanos() as i64);
        self.removed.of.get(&fid).is_some_and(|gone| gone.archive_id == archive_id && gone.since >= oldest)
    }

    /// Takes up a note of an earlier run; returns whether it was one of these.
    pub(super) fn recovered_removed(&mut self, name: &str, value: &str) -> bool {
        let Some(fid) = name.strip_prefix(NOTE).and_then(|rest| rest.strip_prefix('/')) else {
            return false;
        };
        let gone = value.split_once(' ').and_then(|(archive_id, since)| {
            Some(Gone { archive_id: archive_id.parse().ok()?, since: since.parse().ok()? })
        });
        match (fid.parse(), gone) {
            (Ok(fid), Some(gone)) if self.removed.of.len() < MOST => self.removed.insert(fid, gone),
            _ => tracing::error!(
                name,
                value,
                "this note of a copy that is gone cannot be read, or is one too many"
            ),
        }
        true
    }

    /// A mover has removed the copy, and the MDT answered its end with this errno: it is told once more, or asked for the
    /// request again when it does not know it.
    pub(super) fn tell_removed(&mut self, handle: Handle, mover: u32, errno: i32, effects: &mut Effects) {
        if self.doubts.is_full() {
            // When its turn comes it is found to be done.
            return self.requeue(handle, effects);
        }
        let stage = if errno == ENOENT { Stage::Look } else { Stage::End };
        self.doubt_ended(handle, mover, stage, effects);
    }

    /// A REMOVE that waits has nothing left to remove: the MDT is told that it succeeded.
    pub(super) fn end_removed(&mut self, handle: Handle) {
        let request = self.requests.at(handle);
        let (key, class) = (request.key(), request.class);
        tracing::info!(%key, "REMOVE of a copy that is gone already: ended with success");
        self.unqueue(handle);
        let let_go = self.clear_released(handle);
        self.refresh_class(class);
        self.doubt(handle, Stage::End, Duration::ZERO);
        if let_go {
            self.release_held(key.fid);
        }
    }

    /// The MDT's answer to the success of a REMOVE. Returns whether it was that.
    pub(super) fn removal_ended(&mut self, key: RequestKey, errno: i32, effects: &mut Effects) -> bool {
        let Some(handle) = self.requests.find(key) else { return false };
        if self.doubts.answered(handle, u64::MAX, &[Stage::End]).is_none() {
            return false;
        }
        let later = LATER.contains(&errno) || errno == ENOSYS;
        match errno {
            0 => {
                self.counts.removes_told += 1;
                self.note_fate(handle, Outcome::Done, 0);
                self.note_settled(self.target(handle), effects);
                self.forget_removed(key.fid, effects);
                self.drop_waiting(handle, effects);
            }
            ENOENT => self.doubt_now(handle, Stage::Look),
            _ if later && self.doubts.is_young(handle, self.now.mono) => {
                self.counts.unanswered += 1;
                self.doubt_later(handle);
            }
            _ => {
                tracing::error!(%key, errno, "the MDT does not take the end of a REMOVE whose copy is gone: dropped");
                self.counts.given_up += 1;
                self.note_fate(handle, Outcome::Dropped, errno);
                self.note_given_up(handle, errno, effects);
                self.drop_waiting(handle, effects);
            }
        }
        true
    }
}
