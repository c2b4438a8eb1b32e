//! Batching: archives with the same data (a tag) go to one slot of one mover, so that they end up together, and other
//! tags keep out of that slot.
//!
//! A tag takes a slot when its first request comes, from the mover with the fewest slots in use. It keeps the slot until it
//! has had no work for the idle time, or, when another tag wants it, until the maximal time is over. Tags without a
//! slot wait in order. The empty tag is no reason to keep requests together: it may hold a slot for each request.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::Coordinator;
use super::config::BatchConfig;
use super::index::NIL;
use super::queues::{Place, Shelf};
use super::requests::Kind;
use super::time::Mono;
use super::timers::Timer;

/// How many tags or movers are passed over in one search.
const PASSED_OVER: usize = 64;

/// What makes requests one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TagKey {
    /// Interned data as movers see it, without NULs at the end.
    pub(super) label: u32,
    pub(super) archive_id: u32,
    pub(super) place: Place,
}

/// A batch.
#[derive(Debug)]
pub(super) struct Tag {
    pub(super) key: TagKey,
    /// What is queued.
    pub(super) shelf: Shelf,
    /// Its classes with requests.
    pub(super) classes: BTreeSet<u32>,
    /// Classes that refer to it.
    pub(super) refs: u32,
    pub(super) queued: u64,
    pub(super) running: u64,
    /// Its slots: mover and number.
    pub(super) slots: BTreeMap<u32, u32>,
    /// Since when it waits for a slot (sequence number).
    pub(super) waiting: Option<u64>,
    /// When its slots last changed (sequence number).
    pub(super) moved: u64,
    /// Whether it may hold several slots.
    pub(super) spread: bool,
}

impl Tag {
    /// Whether it has work for another slot.
    pub(super) fn wants_slot(&self) -> bool {
        let slots = self.slots.len() as u64;
        if self.spread { self.queued > slots } else { self.queued > 0 && slots == 0 }
    }
}

/// All batches.
#[derive(Debug, Default)]
pub(super) struct Tags {
    entries: Vec<Tag>,
    free: Vec<u32>,
    index: FxHashMap<TagKey, u32>,
}

impl Tags {
    pub(super) fn at(&self, id: u32) -> &Tag {
        &self.entries[id as usize]
    }

    pub(super) fn at_mut(&mut self, id: u32) -> &mut Tag {
        &mut self.entries[id as usize]
    }

    /// Ids below this were given out at some time.
    pub(super) fn capacity(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Whether a batch of this id is there now.
    pub(super) fn in_use(&self, id: u32) -> bool {
        self.entries.get(id as usize).is_some_and(|tag| self.index.get(&tag.key) == Some(&id))
    }

    /// Ids in use.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        let mut ids: Vec<u32> = self.index.values().copied().collect();
        ids.sort_unstable();
        ids.into_iter()
    }
}

/// A place for one tag on a mover.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// Its tag, `NIL` for none.
    pub(super) tag: u32,
    /// The tag had no work for too long: it is still shown, but any other may take the slot.
    pub(super) lapsed: bool,
    pub(super) idle_at: Mono,
    pub(super) max_at: Option<Mono>,
}

impl Slot {
    pub(super) const FREE: Slot = Slot { tag: NIL, lapsed: false, idle_at: Mono(0), max_at: None };

    pub(super) fn is_free(&self) -> bool {
        self.tag == NIL || self.lapsed
    }
}

impl Coordinator {
    /// The rules of batching when it is on.
    pub(super) fn batching(&self) -> Option<BatchConfig> {
        self.config.batch.filter(|batch| batch.slots > 0 && !batch.idle.is_zero())
    }

    /// Slots of a new mover.
    pub(super) fn new_slots(&self) -> Vec<Slot> {
        vec![Slot::FREE; self.batching().map_or(0, |batch| batch.slots as usize)]
    }

    /// The tag of a request, `NIL` for one that is not batched.
    pub(super) fn tag_for(&mut self, kind: Kind, archive_id: u32, place: Place, data: u32) -> u32 {
        if kind != Kind::Archive || self.batching().is_none() {
            return NIL;
        }
        let label = self.data.label(data);
        let key = TagKey { label, archive_id, place };
        if let Some(&tag) = self.tags.index.get(&key) {
            return tag;
        }
        self.data.hold(label);
        let tag = Tag {
            key,
            shelf: Shelf::default(),
            classes: BTreeSet::new(),
            refs: 0,
            queued: 0,
            running: 0,
            slots: BTreeMap::new(),
            waiting: None,
            moved: 0,
            spread: self.data.at(label).bytes.is_empty(),
        };
        let id = match self.tags.free.pop() {
            Some(id) => {
                self.tags.entries[id as usize] = tag;
                id
            }
            None => {
                self.tags.entries.push(tag);
                self.tags.entries.len() as u32 - 1
            }
        };
        self.tags.index.insert(key, id);
        id
    }

    pub(super) fn forget_tag_if_unused(&mut self, tag: u32) {
        let entry = self.tags.at(tag);
        if entry.refs > 0 || !entry.slots.is_empty() {
            return;
        }
        let key = entry.key;
        if self.tags.index.get(&key) != Some(&tag) {
            return;
        }
        assert!(
            entry.waiting.is_none() && entry.queued == 0 && entry.running == 0,
            "an unused tag has no work"
        );
        self.tags.index.remove(&key);
        self.tags.free.push(tag);
        self.data.release(key.label);
    }

    /// A request enters (`1`) or leaves (`-1`) the tag's queue.
    pub(super) fn count_in_tag(&mut self, tag: u32, change: i64) {
        let entry = self.tags.at_mut(tag);
        entry.queued = entry.queued.wrapping_add_signed(change);
        if change > 0 {
            self.refresh_slots(tag);
            self.place_tag(tag);
            return;
        }
        let idle = entry.queued == 0 && entry.running == 0;
        self.update_waiting(tag);
        if idle {
            self.review_tag(tag);
        }
    }

    /// There is work for the tag: its slots begin a new idle time.
    fn refresh_slots(&mut self, tag: u32) {
        let slots: Vec<(u32, u32)> =
            self.tags.at(tag).slots.iter().take(PASSED_OVER).map(|(&mover, &slot)| (mover, slot)).collect();
        for (mover, slot) in slots {
            self.refresh_slot(mover, slot as usize);
        }
    }

    /// There is work for the tag in this slot.
    pub(super) fn refresh_slot(&mut self, mover: u32, slot: usize) {
        let Some(batch) = self.batching() else {
            return;
        };
        let now = self.now.mono;
        let Some(entry) = self.movers.at_mut(mover).slots.get_mut(slot) else {
            return;
        };
        entry.idle_at = now + batch.idle;
        if entry.lapsed {
            entry.lapsed = false;
            entry.max_at = batch.max.map(|max| now + max);
            self.arm_slot(mover, slot);
            self.refresh_mover(mover);
        }
    }

    fn arm_slot(&mut self, mover: u32, slot: usize) {
        let entry = self.movers.at(mover).slots[slot];
        let idle = self.batching().map_or(Mono::MAX, |batch| self.now.mono + batch.idle);
        // A slot with work that is past its idle time is looked at again later.
        let idle = if entry.idle_at > self.now.mono { entry.idle_at } else { idle };
        let at = entry.max_at.map_or(idle, |max| idle.min(max));
        self.timers.set(Timer::Slot(mover, slot as u32), at);
    }

    /// Whether the tag waits for a slot, after something changed.
    fn update_waiting(&mut self, tag: u32) {
        let entry = self.tags.at(tag);
        let (key, waiting) = (entry.key, entry.waiting);
        let wants = entry.wants_slot();
        if wants == waiting.is_some() {
            return;
        }
        let since = match waiting {
            Some(since) => since,
            None => self.next_sequence(),
        };
        self.tags.at_mut(tag).waiting = wants.then_some(since);
        self.pool_mut(key.place).update(key.archive_id, |shelf| {
            if wants {
                shelf.tags.insert((since, tag))
            } else {
                shelf.tags.remove(&(since, tag))
            };
        });
    }

    /// Gives the tag a slot if it wants one and one is free.
    fn place_tag(&mut self, tag: u32) {
        self.update_waiting(tag);
        while self.tags.at(tag).waiting.is_some() {
            let Some(mover) = self.mover_for_tag(tag) else {
                return;
            };
            self.give_slot(mover, tag);
        }
    }

    fn serves(&self, mover: u32, archive_id: u32) -> bool {
        let ids = &self.movers.at(mover).archive_ids;
        ids.is_empty() || ids.contains(&archive_id)
    }

    fn has_free_slot(&self, mover: u32) -> bool {
        self.movers.at(mover).slots.iter().any(Slot::is_free) && !self.is_barred(mover)
    }

    /// The mover with a free slot for the tag that has the fewest slots in use, the one that connected last first, as in C.
    fn mover_for_tag(&self, tag: u32) -> Option<u32> {
        let entry = self.tags.at(tag);
        match entry.key.place {
            Place::Any => {
                let crews = self.crews.for_archive(entry.key.archive_id);
                let mut free = crews.into_iter().flatten().filter_map(|crew| {
                    let free = crew.free.iter().take(PASSED_OVER);
                    free.copied().find(|(_, _, mover)| !entry.slots.contains_key(mover))
                });
                let first = free.next();
                let best = match (first, free.next()) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
                best.map(|(_, _, mover)| mover)
            }
            Place::Host(host) => {
                let mover = self.hosts.at(host).mover;
                let fits = mover != NIL
                    && !entry.slots.contains_key(&mover)
                    && self.has_free_slot(mover)
                    && (self.movers.at(mover).conn.is_none() || self.serves(mover, entry.key.archive_id));
                fits.then_some(mover)
            }
            Place::Set(set) => {
                let hosts = &self.hosts.sets[set as usize].hosts;
                let movers = hosts.iter().map(|&host| self.hosts.at(host).mover).filter(|&mover| {
                    mover != NIL
                        && self.movers.at(mover).conn.is_some()
                        && !entry.slots.contains_key(&mover)
                        && self.has_free_slot(mover)
                        && self.serves(mover, entry.key.archive_id)
                });
                movers.min_by_key(|&mover| self.movers.at(mover).free_key())
            }
        }
    }

    fn give_slot(&mut self, mover: u32, tag: u32) {
        let Some(batch) = self.batching() else {
            return;
        };
        let slots = &self.movers.at(mover).slots;
        let empty = slots.iter().position(|slot| slot.tag == NIL);
        let Some(slot) = empty.or_else(|| slots.iter().position(|slot| slot.lapsed)) else {
            return;
        };
        self.take_slot(mover, slot);
        let now = self.now.mono;
        self.movers.at_mut(mover).slots[slot] =
            Slot { tag, lapsed: false, idle_at: now + batch.idle, max_at: batch.max.map(|max| now + max) };
        let moved = self.next_sequence();
        let entry = self.tags.at_mut(tag);
        entry.slots.insert(mover, slot as u32);
        entry.moved = moved;
        let classes = entry.classes.clone();
        self.update_waiting(tag);
        self.arm_slot(mover, slot);
        self.refresh_mover(mover);
        self.fresh_classes.extend(classes);
        let label = String::from_utf8_lossy(&self.data.at(self.tags.at(tag).key.label).bytes).into_owned();
        tracing::info!(mover = %self.movers.at(mover).id, slot, tag = %label, "new batch");
    }

    /// Takes a slot from its tag, if it has one.
    fn take_slot(&mut self, mover: u32, slot: usize) {
        let tag = self.movers.at(mover).slots[slot].tag;
        if tag == NIL {
            return;
        }
        self.movers.at_mut(mover).slots[slot] = Slot::FREE;
        self.timers.clear(Timer::Slot(mover, slot as u32));
        let moved = self.next_sequence();
        let entry = self.tags.at_mut(tag);
        entry.slots.remove(&mover);
        entry.moved = moved;
        self.update_waiting(tag);
        self.forget_tag_if_unused(tag);
        self.refresh_mover(mover);
    }

    /// The next tag that waits for a slot on this mover.
    fn tag_for_mover(&self, mover: u32) -> Option<u32> {
        let shelves = self.shelves(mover);
        let first = |shelf: &Shelf| {
            let tags = shelf.tags.iter().take(PASSED_OVER);
            tags.copied().find(|&(_, tag)| !self.tags.at(tag).slots.contains_key(&mover))
        };
        shelves.into_iter().filter_map(first).min().map(|(_, tag)| tag)
    }

    /// Gives the free slots of a mover to tags that wait.
    pub(super) fn fill_slots(&mut self, mover: u32) {
        while self.has_free_slot(mover) {
            let Some(tag) = self.tag_for_mover(mover) else {
                return;
            };
            self.give_slot(mover, tag);
        }
    }

    /// Looks at a slot after its time has come or its tag's work has changed.
    pub(super) fn slot_expired(&mut self, mover: u32, slot: usize) {
        let now = self.now.mono;
        let Some(&entry) = self.movers.at(mover).slots.get(slot) else {
            return;
        };
        if entry.is_free() {
            return;
        }
        let running = self.movers.at(mover).tag_running.contains_key(&entry.tag);
        if !running && self.tags.at(entry.tag).queued == 0 && entry.idle_at <= now {
            self.movers.at_mut(mover).slots[slot].lapsed = true;
            self.timers.clear(Timer::Slot(mover, slot as u32));
            self.refresh_mover(mover);
            self.fill_slots(mover);
            return;
        }
        if entry.max_at.is_some_and(|max| max <= now) {
            let connected = self.movers.at(mover).conn.is_some();
            if connected && self.tag_for_mover(mover).is_some() {
                // The tag waits again, behind those that wait already.
                let rival = self.tag_for_mover(mover);
                self.take_slot(mover, slot);
                if let Some(rival) = rival {
                    self.give_slot(mover, rival);
                }
                self.place_tag_if_used(entry.tag);
                return;
            }
            let max = self.batching().and_then(|batch| batch.max);
            self.movers.at_mut(mover).slots[slot].max_at = max.map(|max| now + max);
        }
        self.arm_slot(mover, slot);
    }

    fn place_tag_if_used(&mut self, tag: u32) {
        let key = self.tags.at(tag).key;
        if self.tags.index.get(&key) == Some(&tag) && self.tags.at(tag).queued > 0 {
            self.place_tag(tag);
        }
    }

    /// The tag lost work: its slot may be free for others.
    pub(super) fn review_tag(&mut self, tag: u32) {
        let slots: Vec<(u32, u32)> =
            self.tags.at(tag).slots.iter().take(PASSED_OVER).map(|(&mover, &slot)| (mover, slot)).collect();
        for (mover, slot) in slots {
            let entry = self.movers.at(mover).slots[slot as usize];
            if entry.tag == tag && entry.idle_at <= self.now.mono {
                self.slot_expired(mover, slot as usize);
            }
        }
    }

    /// How many archives of one tag this mover may run at a time.
    pub(super) fn slot_limit(&self, mover: u32) -> u32 {
        let entry = self.movers.at(mover);
        let slots = entry.slots.len().max(1) as u32;
        entry.recv.and_then(|recv| recv.max_archive).map_or(u32::MAX, |max| max.div_ceil(slots))
    }

    /// Takes the slots of a mover away from tags that it cannot serve, all of them when it is gone for good; those tied to
    /// its host stay if `keep_own`.
    pub(super) fn give_up_slots(&mut self, mover: u32, keep_own: bool) {
        let (host, connected) = (self.movers.at(mover).host, self.movers.at(mover).conn.is_some());
        let mut homeless = Vec::new();
        for slot in 0..self.movers.at(mover).slots.len() {
            let tag = self.movers.at(mover).slots[slot].tag;
            if tag == NIL {
                continue;
            }
            let key = self.tags.at(tag).key;
            let own = host != NIL && key.place == Place::Host(host);
            let keep = match connected {
                true if self.is_barred(mover) => own,
                true => self.serves(mover, key.archive_id),
                false => keep_own && own,
            };
            if !keep {
                self.take_slot(mover, slot);
                homeless.push(tag);
            }
        }
        for tag in homeless {
            self.place_tag_if_used(tag);
        }
    }

    /// After a change of the rules: nobody has a slot, every tag with work wants one.
    pub(super) fn reset_slots(&mut self) {
        for mover in self.movers.everyone() {
            for slot in 0..self.movers.at(mover).slots.len() {
                self.take_slot(mover, slot);
            }
            let slots = self.new_slots();
            self.movers.at_mut(mover).slots = slots;
            self.refresh_mover(mover);
        }
        for mover in self.movers.everyone() {
            if self.movers.at(mover).conn.is_some() && self.movers.at(mover).is_mover {
                self.fill_slots(mover);
            }
        }
    }
}
