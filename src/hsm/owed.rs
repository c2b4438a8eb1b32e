//! Ends that we owe to the MDTs.
//!
//! What ends here without a mover (a cancel of what waits, a request that is refused or that no mover can take) is forgotten
//! at once, and its MDT is told. An MDT that cannot be told now is told later: until it has taken the end, or has refused it
//! for good, a note in the store says that it is owed, also over restarts. Otherwise a request that nobody has any more
//! would block its file until its MDT times it out.
//!
//! While the end of an archive is owed no other archive of its file is given out: where that one has succeeded, the error that
//! comes late would make an archived file dirty, and nothing brings its data back once it is released (Lustre
//! `hsm_cdt_request_completed`). EALREADY does no harm.
//!
//! The note is older than the removal of the request in the store, so that no crash comes between them. Bound restores need
//! none: the store has them until the MDT has taken the new request ([`super::bound`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lustreapi_sys::Fid;

use super::Coordinator;
use super::action::{Action, ActionItem, RequestKey};
use super::cancel::{ECANCELED, ENOENT, LATER};
use super::coordinator::SLICE;
use super::effect::{Effect, Effects, StoreOp};
use super::timers::Timer;
use super::verdict::EALREADY;

/// When an MDT that could not take an end is told again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How often it is told in one life of the daemon.
const MOST_TRIES: u32 = 720;
/// Kind of the notes in the store.
const NOTE: &str = "owed";
/// First word of their values.
const VERSION: &str = "1";

/// An end that the MDT has not taken yet.
#[derive(Debug)]
struct Ending {
    item: ActionItem,
    errno: i32,
    /// For a cancel.
    cancelled: bool,
    /// The store has a note of it.
    noted: bool,
    tries: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Endings {
    of: BTreeMap<RequestKey, Ending>,
    /// Those that failed, or of which an earlier run told us, and that are to be given again.
    again: BTreeSet<RequestKey>,
    /// Notes that mean nothing, since the store has the request as well.
    void: Vec<RequestKey>,
    /// How many of these ends would harm a file that is archived before the MDT takes them.
    harmful: BTreeMap<Fid, u32>,
}

impl Ending {
    /// Of a cancel nobody knows here what it ends.
    fn is_harmful(&self) -> bool {
        matches!(self.item.action, Action::Archive | Action::Cancel) && self.errno != EALREADY
    }
}

impl Endings {
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    pub(super) fn contains(&self, key: &RequestKey) -> bool {
        self.of.contains_key(key)
    }

    /// Whether an end is owed that would harm this file if it was archived before.
    pub(super) fn would_harm(&self, fid: Fid) -> bool {
        !self.harmful.is_empty() && self.harmful.contains_key(&fid)
    }

    fn insert(&mut self, key: RequestKey, ending: Ending) {
        if ending.is_harmful() {
            *self.harmful.entry(key.fid).or_insert(0) += 1;
        }
        self.of.insert(key, ending);
    }

    fn remove(&mut self, key: &RequestKey) -> Option<Ending> {
        self.again.remove(key);
        let ending = self.of.remove(key)?;
        if ending.is_harmful()
            && let Some(count) = self.harmful.get_mut(&key.fid)
        {
            *count -= 1;
            if *count == 0 {
                self.harmful.remove(&key.fid);
            }
        }
        Some(ending)
    }

    /// Counts the end as that of a cancel.
    pub(super) fn count_as_cancel(&mut self, key: &RequestKey) {
        if let Some(ending) = self.of.get_mut(key) {
            ending.cancelled = true;
        }
    }

    /// # Panics
    /// When an invariant is broken.
    pub(super) fn check(&self) {
        assert!(self.again.iter().all(|key| self.of.contains_key(key)), "what is to be ended again is known");
        let mut harmful = BTreeMap::new();
        for (key, _) in self.of.iter().filter(|(_, ending)| ending.is_harmful()) {
            *harmful.entry(key.fid).or_insert(0) += 1;
        }
        assert_eq!(harmful, self.harmful, "ends that would harm files");
    }
}

fn note_name(key: RequestKey) -> String {
    format!("{NOTE}/{}/{:#x}", key.fid, key.cookie)
}

fn to_note(item: &ActionItem, errno: i32) -> String {
    let action = item.action.hsma();
    format!("{VERSION} {action} {errno} {} {}", item.extent_offset, item.extent_length)
}

/// What an MDT must be told to end a request.
fn from_note(key: RequestKey, value: &str) -> Option<(ActionItem, i32)> {
    let mut words = value.split(' ');
    if words.next() != Some(VERSION) {
        return None;
    }
    let action = Action::from_hsma(words.next()?.parse().ok()?)?;
    let errno = words.next()?.parse().ok().filter(|errno| *errno > 0)?;
    let (extent_offset, extent_length) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let item = ActionItem { extent_offset, extent_length, ..ActionItem::new(action, key.fid, key.cookie, 0) };
    words.next().is_none().then_some((item, errno))
}

fn key_of(name: &str) -> Option<RequestKey> {
    let (fid, cookie) = name.rsplit_once('/')?;
    let cookie = u64::from_str_radix(cookie.strip_prefix("0x")?, 16).ok()?;
    Some(RequestKey { cookie, fid: fid.parse().ok()? })
}

impl Coordinator {
    /// Notes that an MDT is owed the end of a request. To be called before the request is forgotten.
    pub(super) fn owe(&self, item: &ActionItem, errno: i32, effects: &mut Effects) {
        let name = note_name(item.key());
        effects.store.push(StoreOp::Note { name, value: Some(to_note(item, errno)) });
    }

    /// Tells the MDT that a request has ended, and how, and goes on until it knows. `noted`: [`Self::owe`] was called.
    ///
    /// # Panics
    /// For a success: only who has done a request may say so. A restore ended that way would be taken for the data. (That a
    /// mover has removed a copy is said elsewhere: [`Self::end_removed`].)
    pub(super) fn end_at_lustre(&mut self, item: ActionItem, errno: i32, noted: bool, effects: &mut Effects) {
        assert!(errno > 0, "the coordinator ends no request with success");
        let key = item.key();
        if let Some(ending) = self.endings.of.get_mut(&key) {
            ending.noted |= noted;
            return;
        }
        effects.visible.push(Effect::EndAtLustre { item: Box::new(item.clone()), errno });
        let cancelled = errno == ECANCELED;
        self.endings.insert(key, Ending { item, errno, cancelled, noted, tries: 1 });
    }

    /// The MDT's answer.
    pub(super) fn lustre_ended(&mut self, key: RequestKey, errno: i32, effects: &mut Effects) {
        let Some(ending) = self.endings.of.get(&key) else {
            self.removal_ended(key, errno, effects);
            return;
        };
        if LATER.contains(&errno) && ending.tries < MOST_TRIES {
            self.endings.again.insert(key);
            if !self.timers.is_set(Timer::Ending) {
                self.timers.set(Timer::Ending, self.now.mono + RETRY_AFTER);
            }
            return;
        }
        let cancelled = ending.cancelled || ending.item.action == Action::Cancel;
        self.no_longer_owed(key, effects);
        match errno {
            0 => self.counts.done_cancel += u64::from(cancelled),
            ENOENT => tracing::info!(%key, "the MDT had forgotten the request that was ended"),
            _ => tracing::error!(%key, errno, "the MDT did not take the end of a request"),
        }
        self.bound_ended(key, errno, effects);
    }

    fn no_longer_owed(&mut self, key: RequestKey, effects: &mut Effects) {
        if self.endings.remove(&key).is_some_and(|ending| ending.noted) {
            effects.store.push(StoreOp::Note { name: note_name(key), value: None });
        }
    }

    /// Gives ends once more.
    pub(super) fn retry_endings(&mut self, effects: &mut Effects) {
        let forget = |key| StoreOp::Note { name: note_name(key), value: None };
        effects.store.extend(self.endings.void.drain(..).map(forget));
        for _ in 0..SLICE {
            let Some(key) = self.endings.again.pop_first() else { return };
            let Some(ending) = self.endings.of.get_mut(&key) else { continue };
            ending.tries += 1;
            let item = Box::new(ending.item.clone());
            effects.visible.push(Effect::EndAtLustre { item, errno: ending.errno });
        }
        if !self.endings.again.is_empty() {
            self.timers.set(Timer::Ending, self.now.mono);
        }
    }

    /// Takes up a note of an earlier run; returns whether it was one of these. The end is given as soon as the store was read.
    pub(super) fn recovered_owed(&mut self, name: &str, value: &str) -> bool {
        let Some(name) = name.strip_prefix(NOTE).and_then(|rest| rest.strip_prefix('/')) else {
            return false;
        };
        let Some((key, (item, errno))) = key_of(name).and_then(|key| Some((key, from_note(key, value)?)))
        else {
            tracing::error!(name, value, "this note of an end that is owed to an MDT cannot be read");
            return true;
        };
        self.timers.set(Timer::Ending, self.now.mono);
        if self.requests.find(key).is_some() {
            // A crash came before it was forgotten, so nobody saw that it was to end.
            self.endings.void.push(key);
            return true;
        }
        // What happened to the file meanwhile is not known, nor what a cancel was about: no other error leaves an archived
        // file as it is.
        let harmless = matches!(item.action, Action::Archive | Action::Cancel) && self.config.ask_lustre;
        let errno = if harmless { EALREADY } else { errno };
        // A mover that comes back with it is told that it has ended.
        self.tombstones.add(key, ());
        let cancelled = errno == ECANCELED;
        self.endings.insert(key, Ending { item, errno, cancelled, noted: true, tries: 0 });
        self.endings.again.insert(key);
        true
    }
}
