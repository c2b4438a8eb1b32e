//! Requests of which the MDT may know nothing: what is done about each, and when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use lustreapi_sys::Fid;
use rustc_hash::FxHashMap;

use super::requests::{Handle, Kind};
use super::time::Mono;

/// Requests in doubt at a time; more of them stay where they are until the next keepalive.
const MOST: usize = 16_384;
/// How long the MDT may take to take a request again.
const GIVE_UP_AFTER: Duration = Duration::from_secs(7 * 86_400);
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
pub(super) const ASKED_ALIVE: [Stage; 3] = [Stage::Confirm, Stage::Redelivery, Stage::Heard];

#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) stage: Stage,
    pub(super) since: Mono,
    pub(super) due: Mono,
    pub(super) tries: u32,
    /// Asked and not answered: the number of the question.
    pub(super) asked: Option<u64>,
    /// It came again while the MDT was asked to take it again, or its file was looked at; or the MDT has said once that it heard
    /// of its end.
    pub(super) back: bool,
    /// With what error its mover ended it.
    pub(super) status: i32,
    /// Its end was refused before: when the MDT still has it, it is ended there.
    pub(super) last: bool,
}

/// Requests in doubt.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    pub(super) of: BTreeMap<Handle, Doubt>,
    pub(super) due: BTreeSet<(Mono, Handle)>,
    pub(super) asked: u32,
    pub(super) looked_into: LookedInto,
}

/// Requests that movers ended with ENOENT, by file and kind: the next such end is final, or a copytool that always says so
/// would be asked for ever.
#[derive(Debug, Default)]
pub(super) struct LookedInto {
    ring: VecDeque<(Fid, Kind, Mono)>,
    last: FxHashMap<(Fid, Kind), Mono>,
}

impl LookedInto {
    /// Whether this file and kind was looked into not long ago. If not, it is now.
    pub(super) fn again(&mut self, fid: Fid, kind: Kind, now: Mono) -> bool {
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

    pub(super) fn plan(&mut self, handle: Handle, at: Mono) {
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
