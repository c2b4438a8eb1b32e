//! What movers may be given, beyond what they ask for: an operator drains or limits them, too many errors put them in quarantine, the
//! configuration limits them.
//!
//! All of it comes down to one number for each mover, its allowance: how many more requests it may be given now. Room for
//! work of each kind is never more than that, so no other rule needs to know why.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;
use rustc_hash::FxBuildHasher;

use super::Coordinator;
use super::bucket::Bucket;
use super::effect::{Effects, StoreOp};
use super::feed::MoverChange;
use super::index::NIL;
use super::quarantine::Quarantine;
use super::requests::{Handle, Kind};
use super::time::{Mono, Wall};
use super::timers::Timer;
use super::window::Window;

const DRAIN: &str = "drain/";

/// Names for which operators may have decided something at the same time.
pub(super) const MOST_NAMED: usize = 4096;

/// What is known of a mover by its name, also while it is away.
#[derive(Debug, Default)]
pub(super) struct Duty {
    pub(super) drained: bool,
    /// The most requests that it may run, by an operator's order.
    pub(super) most: Option<u32>,
    pub(super) quarantine: Option<Quarantine>,
    /// Quarantines in a row.
    pub(super) times: u32,
    pub(super) window: Window,
    pub(super) failed: u64,
    /// What it told, by errno.
    pub(super) errors: BTreeMap<i32, u64>,
    /// Bytes of what it ended well, by kind and archive id, as far as they are known.
    pub(super) moved: BTreeMap<(Kind, u32), u64>,
    /// Of `limit_mover`: the rate, and bytes in flight.
    pub(super) bucket: Bucket,
    pub(super) bytes: u64,
}

/// Errors, and archives, that are counted each on its own for one mover.
const MOST_KINDS: usize = 64;

impl Duty {
    /// Counts an error that the mover told. Beyond so many different ones they are somebody's invention.
    pub(super) fn count_error(&mut self, errno: i32) {
        let known = self.errors.contains_key(&errno) || self.errors.len() < MOST_KINDS;
        *self.errors.entry(if known { errno } else { i32::MAX }).or_insert(0) += 1;
    }

    /// Counts what the mover moved.
    pub(super) fn count_bytes(&mut self, kind: Kind, archive_id: u32, bytes: u64) {
        let key = (kind, archive_id);
        let known = self.moved.contains_key(&key) || self.moved.len() < MOST_KINDS;
        let count = self.moved.entry(if known { key } else { (kind, u32::MAX) }).or_insert(0);
        *count = count.saturating_add(bytes);
    }

    /// Whether it has to be kept, and shown, although the mover is not known.
    pub(super) fn matters(&self) -> bool {
        self.drained || self.most.is_some() || self.quarantine.is_some()
    }
}

/// All of them, by the movers' names.
#[derive(Debug, Default)]
pub(super) struct Duties {
    /// Looked at several times for each request.
    by_name: HashMap<Box<str>, Duty, FxBuildHasher>,
    /// Their names in order.
    names: BTreeSet<Box<str>>,
    /// When a mover's allowance changes by time alone.
    wakes: BTreeSet<(Mono, Box<str>)>,
    /// Those in quarantine.
    pub(super) quarantined: BTreeSet<Box<str>>,
    /// Those whose quarantine is to be noted in the store.
    pub(super) changed: BTreeSet<Box<str>>,
    /// When quarantines of before a restart are looked at again.
    pub(super) review_at: Option<Mono>,
}

impl Duties {
    pub(super) fn get(&self, name: &str) -> Option<&Duty> {
        self.by_name.get(name)
    }

    /// Those whose names come after this one.
    pub(super) fn after(&self, name: Option<&str>) -> impl Iterator<Item = (&str, &Duty)> {
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.names.range::<str, _>((from, Bound::Unbounded));
        names.filter_map(|name| Some((&**name, self.by_name.get(name)?)))
    }

    /// For how many names operators have decided something.
    pub(super) fn named(&self) -> usize {
        self.after(None).filter(|(_, duty)| duty.drained || duty.most.is_some()).count()
    }

    pub(super) fn get_mut(&mut self, name: &str) -> &mut Duty {
        match self.by_name.entry_ref(name) {
            EntryRef::Occupied(there) => there.into_mut(),
            EntryRef::Vacant(new) => {
                self.names.insert(name.into());
                new.insert_with_key(name.into(), Duty::default())
            }
        }
    }

    fn remove(&mut self, name: &str) {
        self.names.remove(name);
        self.by_name.remove(name);
    }
}

impl Coordinator {
    pub(super) fn duty(&self, mover: u32) -> Option<&Duty> {
        self.duties.get(&self.movers.at(mover).id)
    }

    /// The mover of this name, connected or not.
    pub(super) fn mover_named(&self, name: &str) -> Option<u32> {
        let host = self.hosts.find(name)?;
        Some(self.hosts.at(host).mover).filter(|&mover| mover != NIL)
    }

    /// Whether a mover is kept from work for a long time, so that batches should not wait for it either.
    pub(super) fn is_barred(&self, mover: u32) -> bool {
        self.duty(mover)
            .is_some_and(|duty| duty.drained || matches!(duty.quarantine, Some(Quarantine::Until(_))))
    }

    /// How many more requests a mover may be given; `None` for any number.
    fn allowance(&self, mover: u32) -> Option<u32> {
        let entry = self.movers.at(mover);
        let limit = self.config.limits.of_mover(&entry.id);
        let duty = self.duties.get(&entry.id);
        let mut allowance = None;
        let mut at_most = |most: u32| allowance = Some(allowance.unwrap_or(u32::MAX).min(most));
        let load = u32::try_from(entry.load()).unwrap_or(u32::MAX);
        if let Some(duty) = duty {
            if let Some(most) = duty.most {
                at_most(most.saturating_sub(load));
            }
            match duty.quarantine {
                _ if duty.drained => at_most(0),
                Some(Quarantine::Until(_)) => at_most(0),
                Some(Quarantine::Trial(given)) => at_most(u32::from(given == NIL)),
                None => {}
            }
        }
        if let Some(limit) = limit {
            if let Some(max) = limit.max {
                at_most(max.saturating_sub(load));
            }
            if let Some(bytes) = limit.bytes
                && duty.is_some_and(|duty| duty.bytes >= bytes)
                && load > 0
            {
                at_most(0);
            }
            if let Some(rate) = limit.rate {
                let bucket = duty.map_or_else(Bucket::default, |duty| duty.bucket);
                at_most(bucket.room(rate, self.now.mono));
            }
        }
        allowance
    }

    /// When the rate of a mover lets it have one more, if that is what it waits for.
    pub(super) fn mover_opens(&self, mover: u32) -> Option<Mono> {
        let rate = self.config.limits.of_mover(&self.movers.at(mover).id)?.rate?;
        let bucket = self.duty(mover).map_or_else(Bucket::default, |duty| duty.bucket);
        (bucket.room(rate, self.now.mono) == 0).then(|| bucket.open_at(rate))
    }

    /// Works out anew what a mover may be given. [`Self::refresh_mover`] follows.
    pub(super) fn refresh_allowance(&mut self, mover: u32) {
        let allowance = self.allowance(mover);
        let entry = self.movers.at_mut(mover);
        entry.allowance = allowance;
        if allowance != Some(0) {
            return;
        }
        self.review_tapes_of(mover);
        let name = self.movers.at(mover).id.clone();
        if let Some(rate) = self.config.limits.of_mover(&name).and_then(|limit| limit.rate) {
            let bucket = self.duties.get(&name).map_or_else(Bucket::default, |duty| duty.bucket);
            if bucket.room(rate, self.now.mono) == 0 {
                self.wake_mover_at(bucket.open_at(rate), &name);
            }
        }
    }

    /// What a mover may be given has changed: it is put where it belongs and gets what it may.
    pub(super) fn review_mover(&mut self, mover: u32) {
        self.refresh_allowance(mover);
        self.refresh_mover(mover);
        if self.movers.at(mover).conn.is_some() && self.movers.at(mover).is_mover {
            self.give_up_slots(mover, true);
            self.fill_slots(mover);
        }
        self.review_tapes_of(mover);
        self.fresh_movers.insert(mover);
    }

    /// Work out again what every mover may be given, after a new configuration.
    pub(super) fn review_movers(&mut self) {
        for mover in self.movers.everyone() {
            self.refresh_allowance(mover);
            self.refresh_mover(mover);
        }
    }

    /// Whether no limit, order or quarantine is about this mover, so that what it runs does not matter.
    fn is_free(&self, mover: u32) -> bool {
        self.movers.at(mover).allowance.is_none() && !self.config.limits.any()
    }

    /// A request is being sent to a mover.
    pub(super) fn charge_mover(&mut self, handle: Handle, mover: u32, bytes: u64) {
        if self.is_free(mover) {
            return;
        }
        let name = self.movers.at(mover).id.clone();
        let rate = self.config.limits.of_mover(&name).and_then(|limit| limit.rate);
        let now = self.now.mono;
        if rate.is_some() || bytes > 0 {
            let duty = self.duties.get_mut(&name);
            duty.bytes += bytes;
            if let Some(rate) = rate {
                duty.bucket.take(rate, now);
            }
        }
        self.begin_trial(handle, &name);
        self.refresh_allowance(mover);
    }

    /// A request has stopped on a mover.
    pub(super) fn discharge_mover(&mut self, handle: Handle, mover: u32, bytes: u64) {
        if bytes == 0 && self.is_free(mover) {
            return;
        }
        let name = self.movers.at(mover).id.clone();
        if bytes > 0 {
            let duty = self.duties.get_mut(&name);
            duty.bytes = duty.bytes.saturating_sub(bytes);
        }
        self.abort_trial(handle, &name);
        self.refresh_allowance(mover);
    }

    /// A mover is looked at again then.
    pub(super) fn wake_mover_at(&mut self, at: Mono, name: &str) {
        self.duties.wakes.insert((at, name.into()));
        self.arm_duty();
    }

    fn arm_duty(&mut self) {
        match self.duties.wakes.first() {
            Some((at, _)) => self.timers.set(Timer::Duty, *at),
            None => self.timers.clear(Timer::Duty),
        }
    }

    /// Movers whose time has come.
    pub(super) fn duty_due(&mut self) {
        while let Some((at, _)) = self.duties.wakes.first()
            && *at <= self.now.mono
        {
            let Some((_, name)) = self.duties.wakes.pop_first() else { break };
            self.quarantine_over(&name);
            if let Some(mover) = self.mover_named(&name) {
                self.review_mover(mover);
            }
        }
        self.arm_duty();
        self.review_recovered();
    }

    /// An operator drains a mover, or gives it work again. Returns why not.
    pub(super) fn drain(&mut self, name: &str, on: bool, effects: &mut Effects) -> Result<(), String> {
        if name.is_empty() {
            return Err("a mover without an id cannot be drained".to_owned());
        }
        let drained = self.duties.get(name).is_some_and(|duty| duty.drained);
        if drained == on {
            return Ok(());
        }
        if on && self.duties.named() >= MOST_NAMED {
            return Err(format!("{MOST_NAMED} movers are drained or limited already"));
        }
        self.duties.get_mut(name).drained = on;
        self.tell_mover(name, MoverChange::Drained(on));
        let value = on.then(|| format!("since={}", self.now.wall.0));
        effects.store.push(StoreOp::Note { name: format!("{DRAIN}{name}"), value });
        if let Some(mover) = self.mover_named(name) {
            self.review_mover(mover);
        }
        self.review_quarantines();
        Ok(())
    }

    /// A note of an earlier run. Returns whether it was about a drained mover.
    pub(super) fn recovered_drain(&mut self, name: &str) -> bool {
        let Some(name) = name.strip_prefix(DRAIN).filter(|name| !name.is_empty()) else {
            return false;
        };
        tracing::warn!(mover = name, "this mover is drained: it gets nothing until an operator lets it");
        self.duties.get_mut(name).drained = true;
        if let Some(mover) = self.mover_named(name) {
            self.review_mover(mover);
        }
        true
    }

    /// Names of drained movers.
    pub fn drained(&self) -> Vec<String> {
        let drained = self.duties.after(None).filter(|(_, duty)| duty.drained);
        drained.map(|(name, _)| name.to_string()).collect()
    }

    /// A mover is forgotten: what is known of it as well, unless that was somebody's decision or still matters.
    pub(super) fn forget_duty(&mut self, name: &str) {
        if self.duties.get(name).is_some_and(|duty| !duty.matters()) {
            self.duties.remove(name);
        }
    }

    /// The wall clock's time for a deadline.
    pub(super) fn wall(&self, at: Mono) -> Wall {
        self.now.wall_at(at)
    }
}
