//! Restores that are bound to a mover that is gone.
//!
//! The first progress under the FID of a mover's volatile file binds a restore to that file: what another mover then reports
//! is refused with EINVAL for ever, its end as well (Lustre mdt_hsm_update_request_state). Movers with our library report
//! under the file's own FID and bind a restore only when they end it; of any other mover it must be assumed that it has
//! bound what it was sent, since nothing tells (lhsmtool_posix binds at once). So a restore of such a mover is not given to
//! another one: it is ended at its MDT with an error, and requested again.
//!
//! The end comes first. While the old request stands the MDT takes a second one for the same and drops it. A reader that is
//! blocked gets ENODATA by that end; without it he would wait until the MDT times the request out, and get the same then.
//! Until the MDT has taken the new request the store keeps the old one, so that a crash in between repeats the step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lustreapi_sys::Fid;
use lustreapi_sys::abi::HSM_REQ_BLOCKING;

use super::Coordinator;
use super::action::RequestKey;
use super::cancel::{ENOENT, LATER};
use super::coordinator::SLICE;
use super::effect::{Effect, Effects, StoreOp};
use super::index::NIL;
use super::lustre_call::LustreCall;
use super::requests::{Handle, Kind, MOVED, State};
use super::time::Mono;
use super::timers::Timer;
use super::views::Outcome;

/// With this a bound restore is ended: its mover did not come back in time.
const ETIMEDOUT: i32 = 110;
/// What a mover is told when a restore is bound to another.
pub(super) const EINVAL: i32 = 22;
/// The longest pause before an MDT that could not take a request is asked again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long the mover of a restore that came bound may claim it at least: longer than movers take to reconnect.
const CLAIM: Duration = Duration::from_secs(12);
/// Kind of the notes that remember movers whose restores may move.
const NOTE: &str = "movable";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It came bound: the mover that has it may still claim it until then.
    Waiting(Mono),
    /// The MDT is to end it.
    Ending,
    /// The MDT is to take it again; when to ask, `None` while it is asked.
    Requesting(Option<Mono>),
}

impl Stage {
    fn due(self) -> Option<Mono> {
        match self {
            Self::Waiting(at) | Self::Requesting(Some(at)) => Some(at),
            Self::Ending | Self::Requesting(None) => None,
        }
    }
}

#[derive(Debug)]
struct Bound {
    stage: Stage,
    /// The mover that it is still assigned to in the store, so that nobody else gets it after a crash.
    mover: Option<Box<str>>,
    /// The MDT sent it again, under the same cookie, and so has let go of the binding.
    back: bool,
    /// The MDT did not know it any more.
    forgotten: bool,
    tries: u32,
    /// Of the last question.
    number: u64,
}

/// Restores that are being ended and requested again.
#[derive(Debug, Default)]
pub(super) struct BoundRestores {
    of: BTreeMap<Handle, Bound>,
    due: BTreeSet<(Mono, Handle)>,
    /// Movers with our library, by name: what they run may be given to others.
    movable: BTreeSet<Arc<str>>,
}

impl BoundRestores {
    pub(super) fn contains(&self, handle: Handle) -> bool {
        self.of.contains_key(&handle)
    }

    /// All, in a fixed order.
    pub(super) fn handles(&self) -> impl Iterator<Item = Handle> + '_ {
        self.of.keys().copied()
    }

    pub(super) fn remove(&mut self, handle: Handle) {
        if let Some(at) = self.of.remove(&handle).and_then(|bound| bound.stage.due()) {
            self.due.remove(&(at, handle));
        }
    }

    /// Whether the mover that has it may still claim it.
    pub(super) fn may_be_claimed(&self, handle: Handle) -> bool {
        self.of.get(&handle).is_some_and(|bound| matches!(bound.stage, Stage::Waiting(_)))
    }

    /// # Panics
    /// When an invariant is broken.
    pub(super) fn check(&self) {
        let due = self.of.iter().filter_map(|(&handle, bound)| Some((bound.stage.due()?, handle)));
        let due: BTreeSet<_> = due.collect();
        assert_eq!(due, self.due, "restores to be requested again");
    }
}

impl Coordinator {
    /// A mover said who it is: whether what it runs may be given to others is remembered over restarts.
    pub(super) fn note_movable(&mut self, mover: u32, effects: &mut Effects) {
        let entry = self.movers.at(mover);
        if !self.config.ask_lustre
            || entry.host == NIL
            || entry.features.lease == self.bound.movable.contains(&entry.id)
        {
            return;
        }
        let (id, movable) = (entry.id.clone(), entry.features.lease);
        let name = format!("{NOTE}/{id}");
        effects.store.push(StoreOp::Note { name, value: movable.then(|| "1".to_owned()) });
        if movable {
            self.bound.movable.insert(id);
        } else {
            self.bound.movable.remove(&id);
        }
    }

    /// A mover is forgotten, and with it what was noted of it.
    pub(super) fn forget_movable(&mut self, mover: u32, effects: &mut Effects) {
        let id = &self.movers.at(mover).id;
        if self.bound.movable.remove(id) {
            effects.store.push(StoreOp::Note { name: format!("{NOTE}/{id}"), value: None });
        }
    }

    /// Takes up a note of an earlier run; returns whether it was one of these.
    pub(super) fn recovered_movable(&mut self, name: &str) -> bool {
        let Some(id) = name.strip_prefix(NOTE).and_then(|rest| rest.strip_prefix('/')) else {
            return false;
        };
        self.bound.movable.insert(id.into());
        true
    }

    /// Whether a running request cannot be given to another mover.
    pub(super) fn may_be_bound(&self, handle: Handle) -> bool {
        let request = self.requests.at(handle);
        let owner = self.movers.at(request.owner);
        self.config.ask_lustre
            && request.kind == Kind::Restore
            && !owner.features.lease
            && !self.bound.movable.contains(&owner.id)
    }

    /// Whether the mover's error means that the MDT refused its end because the restore is another's, who had it before.
    pub(super) fn was_refused_as_bound(&self, handle: Handle, status: i32) -> bool {
        let request = self.requests.at(handle);
        self.config.ask_lustre && status == EINVAL && request.kind == Kind::Restore && request.has(MOVED)
    }

    /// Ends a running restore at its MDT and has it requested again.
    pub(super) fn unbind(&mut self, handle: Handle, effects: &mut Effects) {
        let request = self.requests.at(handle);
        let (key, fid) = (request.key(), request.fid);
        tracing::warn!(
            %key,
            mover = %self.movers.at(request.owner).id,
            "this restore is bound to a mover that is gone: ended with an error, and requested again"
        );
        let mover = self.movers.at(request.owner).id.to_string();
        self.stop(handle);
        self.add_bound(handle, Stage::Ending);
        if let Some(bound) = self.bound.of.get_mut(&handle) {
            bound.mover = Some(mover.into());
        }
        self.end_bound(handle, effects);
        self.release_held(fid);
    }

    /// The mover that a bound restore is assigned to in the store.
    pub(super) fn mover_of_bound(&self, handle: Handle) -> Option<String> {
        self.bound.of.get(&handle)?.mover.as_deref().map(str::to_owned)
    }

    fn add_bound(&mut self, handle: Handle, stage: Stage) {
        let linked = self.next_sequence();
        let request = self.requests.at_mut(handle);
        request.state = State::Bound;
        request.linked = linked;
        let bound = Bound { stage, mover: None, back: false, forgotten: false, tries: 0, number: 0 };
        self.bound.of.insert(handle, bound);
        self.bound.due.extend(stage.due().map(|at| (at, handle)));
        self.set_bound_timer();
    }

    fn end_bound(&mut self, handle: Handle, effects: &mut Effects) {
        self.counts.unbound += 1;
        let item = self.item(handle, true);
        self.end_at_lustre(item, ETIMEDOUT, false, effects);
    }

    /// A new restore is bound already when the MDT names a data FID that is not the file's: an operator queues what is
    /// active, or the MDT remembers the binding over its restart (Lustre 2.17). Such a loose request waits for its mover.
    /// Returns whether it is one.
    pub(super) fn came_bound(&mut self, handle: Handle) -> bool {
        let request = self.requests.at(handle);
        let (key, kind, fid) = (request.key(), request.kind, request.fid);
        if !self.config.ask_lustre || kind != Kind::Restore || self.requests.dfid(handle) == fid {
            return false;
        }
        tracing::info!(%key, "this restore is bound to a mover: it may claim it");
        self.add_bound(handle, Stage::Waiting(self.now.mono + self.config.settle.max(CLAIM)));
        true
    }

    /// The MDT sent it again, with this data FID.
    pub(super) fn bound_came_back(&mut self, handle: Handle, dfid: Fid, effects: &mut Effects) {
        let free = dfid == self.requests.at(handle).fid;
        let Some(bound) = self.bound.of.get_mut(&handle) else { return };
        match bound.stage {
            Stage::Waiting(_) if free => self.run_again(handle, effects),
            Stage::Waiting(_) => {}
            // What the MDT did not know when it was told is there again, and still bound.
            Stage::Requesting(at) if !free && bound.forgotten => {
                bound.stage = Stage::Ending;
                if let Some(at) = at {
                    self.bound.due.remove(&(at, handle));
                    self.set_bound_timer();
                }
                self.end_bound(handle, effects);
            }
            _ => bound.back |= free,
        }
    }

    /// The MDT has ended it, or never will.
    pub(super) fn bound_ended(&mut self, key: RequestKey, errno: i32, effects: &mut Effects) {
        let Some(handle) = self.requests.find(key) else { return };
        let Some(bound) = self.bound.of.get_mut(&handle).filter(|bound| bound.stage == Stage::Ending) else {
            return;
        };
        bound.stage = Stage::Requesting(None);
        bound.forgotten = errno == ENOENT;
        if errno == 0 {
            // What it had sent again was ended as well.
            bound.back = false;
        } else if bound.back {
            return self.run_again(handle, effects);
        }
        self.request_again(handle, effects);
    }

    fn request_again(&mut self, handle: Handle, effects: &mut Effects) {
        let mut item = self.item(handle, true);
        // Nobody is blocked on it any more.
        item.flags &= !HSM_REQ_BLOCKING;
        let number = self.next_sequence();
        if let Some(bound) = self.bound.of.get_mut(&handle) {
            bound.number = number;
        }
        effects.visible.push(Effect::AskLustre(LustreCall::Request { item: Box::new(item), number }));
    }

    /// The MDT has taken it again, or has not. Returns whether that was asked here.
    pub(super) fn bound_requested(
        &mut self,
        key: RequestKey,
        number: u64,
        errno: i32,
        effects: &mut Effects,
    ) -> bool {
        let Some(handle) = self.requests.find(key) else { return false };
        let is_asked = |bound: &&mut Bound| bound.stage == Stage::Requesting(None) && number >= bound.number;
        let Some(bound) = self.bound.of.get_mut(&handle).filter(is_asked) else { return false };
        if bound.back && bound.forgotten {
            // The new request was taken for the one that the MDT had sent again.
            self.run_again(handle, effects);
            return true;
        }
        match errno {
            0 => tracing::info!(%key, "requested again"),
            ENOENT => tracing::info!(%key, "the file is gone: nothing to restore"),
            _ if LATER.contains(&errno) => {
                let pause = Duration::from_secs(1 << bound.tries.min(6)).min(LONGEST_PAUSE);
                let at = self.now.mono + pause;
                bound.tries += 1;
                bound.stage = Stage::Requesting(Some(at));
                self.bound.due.insert((at, handle));
                self.set_bound_timer();
                return true;
            }
            _ => tracing::error!(%key, errno, "the MDT does not take this restore again"),
        }
        self.note_fate(handle, Outcome::Dropped, ETIMEDOUT);
        self.drop_waiting(handle, effects);
        true
    }

    /// The MDT still wants it under the same cookie, and has forgotten the binding.
    fn run_again(&mut self, handle: Handle, effects: &mut Effects) {
        self.unqueue(handle);
        self.renew_class(handle);
        self.counts.requeued += 1;
        self.unassign(handle, effects);
        self.queue_again(handle, false, effects);
    }

    fn set_bound_timer(&mut self) {
        match self.bound.due.first() {
            Some(&(at, _)) => self.timers.set(Timer::Bound, at),
            None => self.timers.clear(Timer::Bound),
        }
    }

    /// The time has come to ask again.
    pub(super) fn request_bound(&mut self, effects: &mut Effects) {
        for _ in 0..SLICE {
            let Some(&(at, handle)) = self.bound.due.first().filter(|&&(at, _)| at <= self.now.mono) else {
                break;
            };
            self.bound.due.remove(&(at, handle));
            let Some(bound) = self.bound.of.get_mut(&handle) else { continue };
            if matches!(bound.stage, Stage::Waiting(_)) {
                bound.stage = Stage::Ending;
                self.end_bound(handle, effects);
            } else {
                bound.stage = Stage::Requesting(None);
                self.request_again(handle, effects);
            }
        }
        self.set_bound_timer();
    }
}
