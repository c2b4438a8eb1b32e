//! Asking the MDT about requests before they are sent, ahead of the movers that wait for them.
//!
//! When a mover could have a request about which something must be known first ([`super::verdict`]), the questions are sent
//! and the request is set aside, so that what is behind it goes on; some of those behind it are asked about as well. With
//! the answers it comes back near the head of its queue, and answers count for [`FRESH`] only. While its MDT does not answer
//! it waits; others do not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lustreapi_sys::Fid;

use super::Coordinator;
use super::action::RequestKey;
use super::coordinator::SLICE;
use super::effect::{Effect, Effects};
use super::event::Done;
use super::index::NIL;
use super::lustre_call::{FileState, LustreCall};
use super::recent::Recent;
use super::requests::{ENDED_BEFORE, Handle, Kind, RECOVERED, State};
use super::time::Mono;
use super::timers::Timer;
use super::verdict::{EALREADY, Questions, Subject, Verdict};
use super::views::Outcome;

/// How long answers count, from when the questions were asked.
const FRESH: Duration = Duration::from_secs(10);
/// How many requests may be asked about for one mover at a time, and how far ahead of what it got.
const AHEAD: u32 = 64;
/// How many requests may wait for answers. Each is small; this keeps an MDT that is away from making us ask it about
/// everything that is queued.
const MOST: usize = 4096;
/// A question without an answer for this long counts as lost.
const LOST: Duration = Duration::from_secs(600);
/// The longest pause before an MDT that could not answer is asked again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A question and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question<T> {
    Unasked,
    Asked,
    Answered(T),
}

impl<T: Copy> Question<T> {
    fn new(asked: bool) -> Self {
        if asked { Self::Asked } else { Self::Unasked }
    }

    fn answer(self) -> Option<T> {
        if let Self::Answered(answer) = self { Some(answer) } else { None }
    }
}

/// What is known of one request.
#[derive(Debug)]
struct Inquiry {
    asked: Mono,
    /// Of its questions; older answers are to somebody else's.
    number: u64,
    alive: Question<i32>,
    state: Question<Result<FileState, i32>>,
    /// When to ask again; `None` once everything is known.
    again: Option<Mono>,
    tries: u32,
}

impl Inquiry {
    fn is_answered(&self) -> bool {
        self.alive != Question::Asked && self.state != Question::Asked
    }
}

/// All that is asked and known.
#[derive(Debug, Default)]
pub(super) struct Vetting {
    inquiries: BTreeMap<Handle, Inquiry>,
    /// Requests in [`State::Vetting`].
    pub(super) aside: BTreeSet<Handle>,
    /// When to ask again, for each that is not fully answered.
    again: BTreeSet<(Mono, Handle)>,
    /// How many more requests may be asked about for the mover that is being served.
    allowance: u32,
}

impl Vetting {
    /// For each mover that is served.
    pub(super) fn allow(&mut self) {
        self.allowance = AHEAD;
    }

    fn is_full(&self) -> bool {
        self.again.len() >= MOST
    }

    /// How many requests wait for answers.
    pub(super) fn len(&self) -> usize {
        self.again.len()
    }

    /// Whether an answer is under way, or will be asked for again.
    fn is_asking(&self, handle: Handle) -> bool {
        self.inquiries.get(&handle).is_some_and(|inquiry| inquiry.again.is_some())
    }

    fn set_again(&mut self, handle: Handle, at: Option<Mono>) {
        let Some(inquiry) = self.inquiries.get_mut(&handle) else { return };
        if let Some(old) = std::mem::replace(&mut inquiry.again, at) {
            self.again.remove(&(old, handle));
        }
        if let Some(at) = at {
            self.again.insert((at, handle));
        }
    }

    /// Forgets what is known of a request: it was sent, or is gone, or must be asked about anew.
    pub(super) fn forget(&mut self, handle: Handle) {
        if self.inquiries.is_empty() {
            return;
        }
        self.set_again(handle, None);
        self.inquiries.remove(&handle);
    }
}

impl Vetting {
    /// Checks every invariant; `state` tells where a request is.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub(super) fn check(&self, state: impl Fn(Handle) -> State) {
        for (&handle, inquiry) in &self.inquiries {
            assert!(
                matches!(state(handle), State::Queued | State::Parked | State::Vetting | State::Limited),
                "only what waits for a mover is asked about"
            );
            let again = inquiry.again.is_some_and(|at| self.again.contains(&(at, handle)));
            assert_eq!(again, inquiry.again.is_some(), "what is to be asked again is in order");
            assert!(again || inquiry.is_answered(), "an answer that does not come is asked for again");
        }
        assert_eq!(self.again.len(), self.inquiries.values().filter(|i| i.again.is_some()).count());
        for &handle in &self.aside {
            assert_eq!(state(handle), State::Vetting);
            assert!(self.is_asking(handle), "what is set aside waits for an answer");
        }
    }
}

/// Files whose archives stopped lately, at a mover or here, and when.
#[derive(Debug, Default)]
pub(super) struct LateArchives {
    files: Recent<Fid, Mono>,
    /// Since when all of them are known.
    since: Mono,
}

impl LateArchives {
    /// Whether an archive of the file may have stopped after this time, which is not that of a request before our start.
    fn may_have(&self, fid: Fid, after: Mono) -> bool {
        after < self.since || self.last(fid).is_some()
    }

    pub(super) fn note(&mut self, fid: Fid, at: Mono) {
        if let Some(forgotten) = self.files.add(fid, at) {
            self.since = forgotten;
        }
    }

    fn last(&self, fid: Fid) -> Option<Mono> {
        self.files.get(&fid)
    }
}

impl Coordinator {
    fn subject(&self, handle: Handle) -> Subject {
        let request = self.requests.at(handle);
        let class = self.classes.at(request.class).key;
        Subject {
            kind: request.kind,
            archive_id: class.archive_id,
            flags: class.flags,
            ended_before: request.has(ENDED_BEFORE),
            may_be_archived: request.kind == Kind::Archive
                && (request.has(RECOVERED) || self.late_archives.may_have(request.fid, request.queued)),
            removed: self.is_removed(handle),
            must_wait: request.kind == Kind::Archive && self.endings.would_harm(request.fid),
        }
    }

    fn questions(&self, handle: Handle) -> Questions {
        if self.config.ask_lustre { self.subject(handle).questions() } else { Questions::default() }
    }

    /// With what error a request may be ended at the MDT: that of an ARCHIVE marks a file dirty that is archived by now, and
    /// if it is released as well nothing brings its data back (Lustre `hsm_cdt_request_completed`, since LU-19829). A mover
    /// that has another one of the file may have ended it already, and not be heard.
    pub(super) fn harmless_error(&self, handle: Handle, errno: i32) -> i32 {
        let subject = self.subject(handle);
        let is_archive = |other: &Handle| self.requests.at(*other).kind == Kind::Archive;
        let running = self.busy.get(&self.requests.at(handle).fid);
        let with_mover = subject.kind == Kind::Archive && running.into_iter().flatten().any(is_archive);
        if self.config.ask_lustre && (subject.may_be_archived || with_mover) { EALREADY } else { errno }
    }

    fn is_fresh(&self, handle: Handle, inquiry: &Inquiry) -> bool {
        // What another request did to the file makes old answers worthless.
        let changed = self.late_archives.last(self.requests.at(handle).fid);
        inquiry.asked + FRESH >= self.now.mono && changed.is_none_or(|changed| inquiry.asked >= changed)
    }

    /// Whether enough is known of a request to send it now.
    pub(super) fn is_vetted(&self, handle: Handle) -> bool {
        let questions = self.questions(handle);
        if !questions.any() {
            return true;
        }
        self.vetting.inquiries.get(&handle).is_some_and(|inquiry| {
            inquiry.is_answered()
                && self.is_fresh(handle, inquiry)
                && (!questions.alive || inquiry.alive.answer().is_some())
                && (!questions.state || inquiry.state.answer().is_some())
                && self.verdict(handle, inquiry) == Verdict::Send
        })
    }

    /// Whether a request must stay where it is because nothing more may be asked now.
    pub(super) fn is_unvettable(&self, handle: Handle) -> bool {
        (self.vetting.allowance == 0 || self.vetting.is_full()) && !self.is_vetted(handle)
    }

    fn verdict(&self, handle: Handle, inquiry: &Inquiry) -> Verdict {
        self.subject(handle).judge(inquiry.alive.answer(), inquiry.state.answer())
    }

    /// A loose request waits until it is known that it may be sent.
    pub(super) fn vet(&mut self, handle: Handle, effects: &mut Effects) {
        let linked = self.next_sequence();
        let request = self.requests.at_mut(handle);
        request.state = State::Vetting;
        request.linked = linked;
        self.vetting.aside.insert(handle);
        self.vetting.allowance = self.vetting.allowance.saturating_sub(1);
        self.inquire(handle, effects);
    }

    /// A loose REMOVE of a copy that is gone needs no mover: it is looked into at once. Returns whether it is one.
    pub(super) fn vet_removed(&mut self, handle: Handle, effects: &mut Effects) -> bool {
        let removed = self.is_removed(handle) && !self.vetting.is_full();
        if removed {
            self.vet(handle, effects);
        }
        removed
    }

    /// Asks about a request of which too little is known, unless an answer is under way.
    fn inquire(&mut self, handle: Handle, effects: &mut Effects) {
        if !self.vetting.is_asking(handle) {
            self.ask(handle, 0, effects);
        }
    }

    fn ask(&mut self, handle: Handle, tries: u32, effects: &mut Effects) {
        let Questions { alive, state } = self.questions(handle);
        let (key, number) = (self.requests.at(handle).key(), self.next_sequence());
        if alive {
            effects.visible.push(Effect::AskLustre(LustreCall::KeepAlive { key, number }));
        }
        if state {
            effects.visible.push(Effect::AskLustre(LustreCall::State { key, number }));
        }
        self.vetting.set_again(handle, None);
        let inquiry = Inquiry {
            asked: self.now.mono,
            number,
            alive: Question::new(alive),
            state: Question::new(state),
            again: None,
            tries,
        };
        self.vetting.inquiries.insert(handle, inquiry);
        self.vetting.set_again(handle, Some(self.now.mono + LOST));
        self.set_vetting_timer();
    }

    fn set_vetting_timer(&mut self) {
        match self.vetting.again.first() {
            Some(&(at, _)) => self.timers.set(Timer::Vetting, at),
            None => self.timers.clear(Timer::Vetting),
        }
    }

    /// A mover was looking for work of this class: asks about what is next there, so that it finds it ready.
    pub(super) fn look_ahead(&mut self, class: u32, effects: &mut Effects) {
        let mut at = self.classes.at(class).list.head;
        for _ in 0..AHEAD {
            if at == NIL || self.vetting.allowance == 0 || self.vetting.is_full() {
                return;
            }
            let next = self.requests.at(at).next;
            if !self.is_vetted(at) && !self.vetting.is_asking(at) {
                self.vetting.allowance -= 1;
                self.ask(at, 0, effects);
            }
            at = next;
        }
    }

    /// The MDT said whether it knows a request.
    pub(super) fn vetting_alive(&mut self, key: RequestKey, number: u64, errno: i32, effects: &mut Effects) {
        let Some(handle) = self.requests.find(key) else { return };
        if let Some(inquiry) = self.vetting.inquiries.get_mut(&handle)
            && inquiry.alive == Question::Asked
            && number >= inquiry.number
        {
            inquiry.alive = Question::Answered(errno);
            self.judge(handle, effects);
        }
    }

    /// The MDT said what state a file is in.
    pub(super) fn vetting_state(
        &mut self,
        key: RequestKey,
        number: u64,
        state: Result<FileState, i32>,
        effects: &mut Effects,
    ) {
        let Some(handle) = self.requests.find(key) else { return };
        if let Some(inquiry) = self.vetting.inquiries.get_mut(&handle)
            && inquiry.state == Question::Asked
            && number >= inquiry.number
        {
            inquiry.state = Question::Answered(state);
            self.judge(handle, effects);
        }
    }

    fn judge(&mut self, handle: Handle, effects: &mut Effects) {
        let Some(inquiry) = self.vetting.inquiries.get(&handle) else { return };
        if !inquiry.is_answered() {
            return;
        }
        let (verdict, tries) = (self.verdict(handle, inquiry), inquiry.tries);
        let was_full = self.vetting.is_full();
        self.vetting.set_again(handle, None);
        self.set_vetting_timer();
        let request = self.requests.at(handle);
        let (key, kind, class, state) = (request.key(), request.kind, request.class, request.state);
        match verdict {
            Verdict::Send => {
                if state == State::Vetting {
                    self.unqueue(handle);
                    self.enqueue_in_order(handle, AHEAD);
                }
            }
            Verdict::Forgotten => {
                if state == State::Vetting {
                    self.unqueue(handle);
                    self.enqueue_in_order(handle, AHEAD);
                }
                self.vetting.forget(handle);
                self.unknown_at_mdt(handle, u64::MAX, effects);
            }
            Verdict::Later => {
                let pause = Duration::from_secs(1 << tries.min(5)).min(LONGEST_PAUSE);
                tracing::debug!(%key, action = %kind.action(), ?verdict, "asked again later");
                if let Some(inquiry) = self.vetting.inquiries.get_mut(&handle) {
                    inquiry.tries = tries + 1;
                }
                self.vetting.set_again(handle, Some(self.now.mono + pause));
                self.set_vetting_timer();
            }
            Verdict::Removed => self.end_removed(handle),
            Verdict::End(errno) => self.refuse(handle, errno, effects),
            Verdict::Ended => self.drop_late(handle, effects),
        }
        // A mover that was not given this one may have the next.
        if self.classes.in_use(class) {
            self.fresh_classes.insert(class);
        }
        if was_full && !self.vetting.is_full() {
            self.wake_everyone();
        }
    }

    /// A request that was delivered again after its end is not the MDT's any more.
    pub(super) fn drop_late(&mut self, handle: Handle, effects: &mut Effects) {
        let request = self.requests.at(handle);
        let (key, kind) = (request.key(), request.kind);
        tracing::info!(%key, action = %kind.action(), "delivered again after its end: dropped");
        self.counts.late_deliveries += 1;
        self.drop_waiting(handle, effects);
    }

    /// A request must not be done: it ends here and at the MDT.
    fn refuse(&mut self, handle: Handle, errno: i32, effects: &mut Effects) {
        let request = self.requests.at(handle);
        let (key, kind) = (request.key(), request.kind);
        let (cookie, dfid) = (key.cookie, self.requests.dfid(handle));
        match (kind, errno) {
            (_, super::cancel::ECANCELED) => tracing::info!(%key, "a user has cancelled it"),
            (Kind::Remove, _) => {
                self.counts.refused_removes += 1;
                tracing::error!(
                    %key,
                    errno,
                    "REMOVE refused: the file was released since, and its copy is all there is. Restore it before its \
                     copy is removed"
                );
            }
            _ => {
                self.counts.needless_archives += 1;
                tracing::info!(%key, errno, "not archived again: the file is archived and did not change");
            }
        }
        let item = self.item(handle, true);
        let cancelled = errno == super::cancel::ECANCELED;
        self.note_fate(handle, if cancelled { Outcome::Cancelled } else { Outcome::Dropped }, errno);
        self.report_done(handle, &Done { cookie, dfid, status: errno }, effects);
        let errno = self.harmless_error(handle, errno);
        self.owe(&item, errno, effects);
        self.drop_waiting(handle, effects);
        self.end_at_lustre(item, errno, true, effects);
    }

    /// The time has come to ask again.
    pub(super) fn vet_again(&mut self, effects: &mut Effects) {
        for _ in 0..SLICE {
            let Some(&(at, handle)) = self.vetting.again.first() else { break };
            if at > self.now.mono {
                break;
            }
            let tries = self.vetting.inquiries.get(&handle).map_or(0, |inquiry| inquiry.tries);
            let state = self.requests.at(handle).state;
            if self.questions(handle).any() && state == State::Vetting {
                self.ask(handle, tries, effects);
            } else {
                // Where it waits now it is asked about when its turn comes.
                self.vetting.forget(handle);
                if state == State::Vetting {
                    self.unqueue(handle);
                    self.enqueue_in_order(handle, AHEAD);
                }
            }
        }
        self.set_vetting_timer();
    }
}
