//! Requests that failed on movers: asked for again after a while, or kept until an operator decides.
//!
//! A `done` with an error has ended the request at the MDT as well, so trying again means to ask the MDT for a new one.
//! What is known of a failure is kept until the same action succeeds for the file, is cancelled, or an operator forgets
//! it; the oldest goes when there are too many.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lustreapi_sys::Fid;

use super::Coordinator;
use super::action::RequestKey;
use super::cancel::{ECANCELED, ENOENT, LATER};
use super::effect::{Effect, Effects, StoreOp};
use super::index::NIL;
use super::letter::{Letter, Stage};
use super::lustre_call::LustreCall;
use super::mover_views::DeadLetter;
use super::requests::{Handle, Kind};
use super::time::{Mono, Wall};
use super::timers::Timer;
use super::views::{Attempt, Select};

/// What failed: an action for a file in an archive.
pub(super) type Target = (Fid, Kind, u32);

/// Attempts that are remembered for each.
pub(super) const MOST_ATTEMPTS: usize = 8;

/// Failed requests looked at in one step.
const LOOK: usize = 512;

/// How many requests are asked for at the same time.
const MOST_ASKED: usize = 64;

/// The longest time between an error and the next attempt, unless `retry_backoff_ms` is longer.
const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);

/// When the MDT could not be asked, it is asked again after this time, so often.
const ASK_AGAIN: Duration = Duration::from_secs(60);
const MOST_ASKS: u32 = 1440;

/// What becomes of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It is run again without the MDT being asked.
    Again,
    /// The MDT is asked again, within limits.
    Retry,
    /// An operator decides.
    GiveUp,
}

/// All that failed.
#[derive(Debug, Default)]
pub(super) struct Letters {
    pub(super) all: BTreeMap<Target, Letter>,
    /// By when they failed first.
    order: BTreeMap<u64, Target>,
    next: u64,
    due: BTreeSet<(Mono, Target)>,
    /// How many are given up, and how many are being tried again.
    dead: usize,
    alive: usize,
    /// What the MDTs are asked for, and the number of each question.
    asking: BTreeMap<RequestKey, (u64, Target)>,
}

impl Letters {
    /// Counts a letter (`true`), or counts it no more, by its stage.
    fn count(&mut self, stage: Stage, on: bool) {
        let count = match stage {
            Stage::Dead => &mut self.dead,
            Stage::Alive => &mut self.alive,
            Stage::Waiting(_) | Stage::Asking => return,
        };
        *count = if on { *count + 1 } else { *count - 1 };
    }

    fn remove(&mut self, target: &Target) -> Option<Letter> {
        let letter = self.all.remove(target)?;
        self.count(letter.stage, false);
        self.order.remove(&letter.order);
        if let Stage::Waiting(due) = letter.stage {
            self.due.remove(&(due, *target));
        }
        self.asking.retain(|_, (_, other)| other != target);
        Some(letter)
    }

    /// Moves a letter on.
    fn set_stage(&mut self, target: Target, stage: Stage) {
        let Some(letter) = self.all.get_mut(&target) else {
            return;
        };
        if let Stage::Waiting(due) = letter.stage {
            self.due.remove(&(due, target));
        }
        if let Stage::Waiting(due) = stage {
            self.due.insert((due, target));
        }
        let old = std::mem::replace(&mut letter.stage, stage);
        self.count(old, false);
        self.count(stage, true);
    }

    fn add(&mut self, target: Target, mut letter: Letter) {
        self.next += 1;
        letter.order = self.next;
        self.order.insert(self.next, target);
        let stage = letter.stage;
        letter.stage = Stage::Dead;
        self.all.insert(target, letter);
        self.count(Stage::Dead, true);
        self.set_stage(target, stage);
    }
}

impl Coordinator {
    /// How many attempts at this action failed for the file, as far as is known.
    pub(super) fn failed_before(&self, fid: Fid, kind: Kind, archive_id: u32) -> u32 {
        self.letters.all.get(&(fid, kind, archive_id)).map_or(0, |letter| letter.failures)
    }

    pub(super) fn target(&self, handle: Handle) -> Target {
        let request = self.requests.at(handle);
        (request.fid, request.kind, self.classes.at(request.class).key.archive_id)
    }

    /// A mover said that a request failed. `again`: it goes back to the queue, since the MDT has sent it once more.
    pub(super) fn note_failure(&mut self, handle: Handle, errno: i32, again: bool, effects: &mut Effects) {
        let then = if again { Then::Again } else { Then::Retry };
        self.keep_letter(handle, errno, then, effects);
    }

    /// A request is given up that no mover has failed: an operator may want it tried again.
    pub(super) fn note_given_up(&mut self, handle: Handle, errno: i32, effects: &mut Effects) {
        self.keep_letter(handle, errno, Then::GiveUp, effects);
    }

    fn keep_letter(&mut self, handle: Handle, errno: i32, then: Then, effects: &mut Effects) {
        let target = self.target(handle);
        if errno == ECANCELED || errno == ENOENT || self.config.dead_letters == 0 {
            return self.note_settled(target, effects);
        }
        let request = self.requests.at(handle);
        let truncated = self.data.at(request.data).truncated;
        let sent = Duration::from_millis(u64::from(request.waited_ms)).as_nanos() as i64;
        let mover = (request.owner != NIL).then(|| self.movers.at(request.owner).id.to_string());
        let attempt = Attempt {
            cookie: request.cookie,
            mover: mover.unwrap_or_default(),
            errno,
            sent: Wall(request.timestamp.saturating_add(sent)),
            failed: self.now.wall,
        };
        let item = self.item(handle, true);
        if !self.letters.all.contains_key(&target) {
            self.letters.add(target, Letter::new(item.clone(), truncated));
            self.drop_oldest_letters(effects);
        }
        let (limit, backoff) = (self.config.retry_limit, self.config.retry_backoff);
        let Some(letter) = self.letters.all.get_mut(&target) else {
            return;
        };
        letter.failed(item, truncated, attempt);
        let tried = letter.failures - letter.spared;
        let stage = if then == Then::Again {
            Stage::Alive
        } else if then == Then::Retry && tried <= limit && !letter.truncated {
            let doubled = backoff.saturating_mul(1 << (tried - 1).min(20));
            Stage::Waiting(self.now.mono + doubled.min(LONGEST_BACKOFF.max(backoff)))
        } else {
            Stage::Dead
        };
        match stage {
            Stage::Dead => {
                tracing::warn!(key = %letter.item.key(), errno, failures = letter.failures, "given up");
            }
            Stage::Waiting(_) => self.counts.retries_planned += 1,
            _ => {}
        }
        self.letters.set_stage(target, stage);
        self.store_letter(&target, effects);
        self.arm_retries();
    }

    /// The request that was taken for another attempt at this one was the failed one itself, and has ended now.
    pub(super) fn not_alive(&mut self, target: Target, effects: &mut Effects) {
        let limit = self.config.retry_limit;
        let Some(letter) = self.letters.all.get(&target).filter(|letter| letter.stage == Stage::Alive) else {
            return;
        };
        let again = letter.failures - letter.spared <= limit && !letter.truncated;
        let stage = if again { Stage::Waiting(self.now.mono) } else { Stage::Dead };
        self.letters.set_stage(target, stage);
        self.store_letter(&target, effects);
        self.arm_retries();
    }

    /// The action has succeeded for the file, or nobody wants it any more.
    pub(super) fn note_settled(&mut self, target: Target, effects: &mut Effects) {
        if self.letters.remove(&target).is_some() {
            effects.store.push(StoreOp::Note { name: Letter::note_name(&target), value: None });
        }
    }

    fn drop_oldest_letters(&mut self, effects: &mut Effects) {
        while self.letters.all.len() > self.config.dead_letters {
            let Some((_, &oldest)) = self.letters.order.first_key_value() else {
                return;
            };
            tracing::warn!(fid = %oldest.0, "too many failed requests: the oldest is no longer known");
            self.counts.letters_dropped += 1;
            self.note_settled(oldest, effects);
        }
    }

    fn store_letter(&self, target: &Target, effects: &mut Effects) {
        if let Some(letter) = self.letters.all.get(target) {
            let value = letter.to_note(self.now);
            effects.store.push(StoreOp::Note { name: Letter::note_name(target), value: Some(value) });
        }
    }

    /// A note of an earlier run. Returns whether it was a letter.
    pub(super) fn recovered_letter(&mut self, name: &str, value: &str) -> bool {
        if !Letter::is_note(name) {
            return false;
        }
        match Letter::from_note(value, self.now) {
            Ok((target, letter)) if Letter::note_name(&target) == name => {
                if self.letters.all.len() < self.config.dead_letters {
                    self.letters.remove(&target);
                    self.letters.add(target, letter);
                    self.arm_retries();
                }
            }
            Ok(_) => tracing::error!(name, value, "a note on a failed request has another's name"),
            Err(error) => tracing::error!(name, value, error, "cannot read a note on a failed request"),
        }
        true
    }

    fn arm_retries(&mut self) {
        match self.letters.due.first() {
            Some(&(due, _)) if self.letters.asking.len() < MOST_ASKED => {
                self.timers.set(Timer::Retry, due.max(self.now.mono));
            }
            _ => self.timers.clear(Timer::Retry),
        }
    }

    /// Asks the MDT for what is due.
    pub(super) fn retry_due(&mut self, effects: &mut Effects) {
        while self.letters.asking.len() < MOST_ASKED {
            let Some(&(due, target)) = self.letters.due.first() else {
                break;
            };
            if due > self.now.mono {
                break;
            }
            // Somebody else has asked for it meanwhile.
            let there = self.requests.of_file(target.0, 64);
            if there.into_iter().any(|handle| self.target(handle) == target) {
                self.letters.set_stage(target, Stage::Alive);
                continue;
            }
            self.letters.set_stage(target, Stage::Asking);
            let number = self.next_sequence();
            if let Some(letter) = self.letters.all.get_mut(&target) {
                letter.asks += 1;
                self.letters.asking.insert(letter.item.key(), (number, target));
                tracing::info!(key = %letter.item.key(), failures = letter.failures, "asking the MDT for it again");
                let item = Box::new(letter.item.clone());
                effects.visible.push(Effect::AskLustre(LustreCall::Request { item, number }));
            }
        }
        self.arm_retries();
    }

    /// The MDT's answer to a request. Returns whether it was one for a failed request.
    pub(super) fn retry_answered(
        &mut self,
        key: RequestKey,
        number: u64,
        errno: i32,
        effects: &mut Effects,
    ) -> bool {
        let Some(&(_, target)) = self.letters.asking.get(&key).filter(|(asked, _)| number >= *asked) else {
            return false;
        };
        self.letters.asking.remove(&key);
        let Some(letter) = self.letters.all.get_mut(&target) else {
            return true;
        };
        letter.refused = (errno != 0).then_some(errno);
        let stage = match errno {
            0 => {
                letter.asks = 0;
                self.counts.retried += 1;
                Stage::Alive
            }
            _ if LATER.contains(&errno) && letter.asks < MOST_ASKS => {
                Stage::Waiting(self.now.mono + ASK_AGAIN)
            }
            _ => Stage::Dead,
        };
        if errno == ENOENT {
            tracing::info!(%key, "its file is gone: not tried again");
            self.note_settled(target, effects);
        } else {
            if stage == Stage::Dead {
                tracing::warn!(%key, errno, "the MDT does not take the request again");
            }
            self.letters.set_stage(target, stage);
            self.store_letter(&target, effects);
        }
        self.arm_retries();
        true
    }

    /// Failed requests that fit, except those that are tried again right now.
    fn letters_selected(&self, select: &Select) -> Vec<Target> {
        let all = self.letters.all.iter();
        all.filter(|(target, letter)| letter.stage != Stage::Alive && letter.fits(target, select))
            .map(|(target, _)| *target)
            .collect()
    }

    /// An operator wants failed requests to be tried again. Returns how many.
    pub(super) fn retry_letters(&mut self, select: &Select, effects: &mut Effects) -> u64 {
        let mut count = 0;
        for target in self.letters_selected(select) {
            let Some(letter) = self.letters.all.get_mut(&target) else { continue };
            count += 1;
            // The automatic attempts begin anew after this one.
            letter.spared = letter.failures;
            letter.asks = 0;
            if letter.stage != Stage::Asking {
                self.letters.set_stage(target, Stage::Waiting(self.now.mono));
            }
            self.store_letter(&target, effects);
        }
        self.retry_due(effects);
        count
    }

    /// An operator wants failed requests to be forgotten. Returns how many.
    pub(super) fn forget_letters(&mut self, select: &Select, effects: &mut Effects) -> u64 {
        let targets = self.letters_selected(select);
        let count = targets.len() as u64;
        for target in targets {
            self.note_settled(target, effects);
        }
        self.arm_retries();
        count
    }

    /// How many failed requests are given up, and how many are kept in all; those that are tried right now left out.
    pub fn letter_counts(&self) -> (u64, u64) {
        (self.letters.dead as u64, (self.letters.all.len() - self.letters.alive) as u64)
    }

    /// A part of the failed requests that are selected, the oldest failure first, from behind `after` (0 for the first),
    /// and where the next part begins. With `trying` also those for which there is a request again.
    pub fn letters_part(&self, after: u64, select: &Select, trying: bool) -> (Vec<DeadLetter>, Option<u64>) {
        let mut last = None;
        let mut found = Vec::new();
        for (&number, target) in self.letters.order.range(after.saturating_add(1)..).take(LOOK) {
            last = Some(number);
            if let Some(letter) = self.letters.all.get(target)
                && (trying || letter.stage != Stage::Alive)
                && letter.fits(target, select)
            {
                found.push(letter.view(self.now));
            }
        }
        (found, last)
    }

    /// All requests that failed and may be asked for again, the oldest failure first. Costs their number.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        let (mut all, mut after) = (Vec::new(), Some(0));
        while let Some(from) = after {
            let (part, next) = self.letters_part(from, &Select::default(), false);
            all.extend(part);
            after = next;
        }
        all
    }
}
