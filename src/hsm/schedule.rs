//! Choosing work for movers, and movers for work.

use lustreapi_sys::Fid;

use super::Coordinator;
use super::effect::{Effect, Effects, WorkList};
use super::event::Lock;
use super::index::NIL;
use super::placing::ITEM_BYTES;
use super::queues::{ClassKey, Place, Pool, Shelf};
use super::requests::{Handle, KINDS, Kind};
use super::sessions::SMALLEST_BUFFER;
use super::timers::Timer;

/// The most items of one kind in one answer (C 0.4 looks at a hundred).
const MOST_PER_KIND: u32 = 100;

/// How many requests may be set aside while one answer is put together; the rest waits for the next slice.
const MOST_SET_ASIDE: u32 = 256;

/// What a mover is to begin with.
#[derive(Debug, Clone, Copy)]
enum Pick {
    Class(u32),
    Parked(Handle),
}

/// An answer to `recv` in the making.
struct Draft {
    /// Archive id and flags of everything in it.
    pair: Option<(u32, u64)>,
    list: Vec<super::ActionItem>,
    bytes: u64,
    max_bytes: u64,
    given: [u32; 3],
    set_aside: u32,
    full: bool,
}

impl Coordinator {
    /// Everybody may be able to work now.
    pub(super) fn wake_everyone(&mut self) {
        for mover in self.movers.everyone() {
            if self.movers.at(mover).waiting.is_some() {
                self.fresh_movers.insert(mover);
            }
        }
    }

    /// The shelves from which a mover may take requests that need no slot.
    pub(super) fn shelves(&self, mover: u32) -> Vec<&Shelf> {
        let entry = self.movers.at(mover);
        let connected = entry.conn.is_some();
        let mut shelves = Vec::with_capacity(4);
        let unknown = self.crews.all.connected == 0;
        if connected {
            shelves.extend(served(&self.global, &entry.archive_ids, unknown));
        }
        if entry.host != NIL {
            let host = self.hosts.at(entry.host);
            shelves.extend(served(&host.pool, &entry.archive_ids, unknown));
            if connected {
                for &set in &host.sets {
                    let pool = &self.hosts.sets[set as usize].pool;
                    shelves.extend(served(pool, &entry.archive_ids, unknown));
                }
            }
        }
        shelves
    }

    /// The tags with a slot on this mover that may run more there.
    fn open_tags(&self, mover: u32) -> Vec<u32> {
        let entry = self.movers.at(mover);
        let limit = self.slot_limit(mover);
        let open = |tag: &u32| *tag != NIL && entry.tag_running.get(tag).copied().unwrap_or(0) < limit;
        entry.slots.iter().map(|slot| slot.tag).filter(open).collect()
    }

    /// What is due first of all that the mover may take and has room for.
    fn first_pick(&self, mover: u32) -> Option<Pick> {
        let entry = self.movers.at(mover);
        let max_bytes = entry.recv.map_or(0, |recv| recv.max_bytes);
        let mut shelves = self.shelves(mover);
        let tags = self.open_tags(mover);
        shelves.extend(tags.iter().map(|&tag| &self.tags.at(tag).shelf));
        let mut best: Option<(u64, Kind, Pick)> = None;
        for kind in KINDS {
            if entry.room(kind.at()) == 0 {
                continue;
            }
            for shelf in &shelves {
                let class = shelf.classes[kind.at()].first().map(|&(due, class)| (due, Pick::Class(class)));
                let class = class.filter(|&(_, pick)| match pick {
                    Pick::Class(class) => !self.is_unvettable(self.classes.at(class).list.head),
                    Pick::Parked(_) => true,
                });
                let parked = &shelf.parked[kind.at()];
                let all_fit = parked.by_cost.last().is_some_and(|&(cost, _, _)| cost <= max_bytes);
                let parked = if all_fit {
                    parked.by_time.first().map(|&(due, _, handle)| (due, Pick::Parked(handle)))
                } else {
                    let small = parked.by_cost.first().filter(|&&(cost, _, _)| cost <= max_bytes);
                    small.map(|&(_, _, handle)| (self.due(handle), Pick::Parked(handle)))
                };
                let parked = parked.filter(|&(_, pick)| match pick {
                    Pick::Parked(handle) => !self.is_unvettable(handle),
                    Pick::Class(_) => true,
                });
                for (due, pick) in [class, parked].into_iter().flatten() {
                    if best.is_none_or(|(first, of, _)| (due, kind) < (first, of)) {
                        best = Some((due, kind, pick));
                    }
                }
            }
        }
        best.map(|(_, _, pick)| pick)
    }

    /// How many movers could take the requests of this class.
    fn takers(&self, key: &ClassKey) -> u32 {
        let takers = match key.place {
            _ if key.tag != NIL => self.tags.at(key.tag).slots.len() as u32,
            Place::Any => self.crews.serving(key.archive_id),
            Place::Host(_) => 1,
            Place::Set(set) => self.hosts.sets[set as usize].connected,
        };
        takers.max(1)
    }

    /// Answers a mover that waits, if there is anything for it. Returns whether it was answered.
    fn serve(&mut self, mover: u32, effects: &mut Effects) -> bool {
        let entry = self.movers.at(mover);
        let (Some(recv), Some(conn), Some(_)) = (entry.recv, entry.conn, entry.waiting) else {
            return false;
        };
        let mut draft = Draft {
            pair: None,
            list: Vec::new(),
            bytes: 0,
            max_bytes: recv.max_bytes,
            given: [0; 3],
            set_aside: 0,
            full: false,
        };
        self.vetting.allow();
        self.draft_cancels(mover, &mut draft);
        if self.lock == Lock::Unlocked {
            self.draft_work(mover, &mut draft, effects);
        }
        if draft.set_aside >= MOST_SET_ASIDE && draft.list.is_empty() {
            self.later_movers.insert(mover);
            self.timers.set(Timer::Slice, self.now.mono);
        }
        let Some((archive_id, flags)) = draft.pair.filter(|_| !draft.list.is_empty()) else {
            return false;
        };
        let entry = self.movers.at_mut(mover);
        entry.waiting = None;
        let binary_data = entry.features.binary_data;
        if !binary_data {
            for item in draft.list.iter().filter(|item| std::str::from_utf8(&item.data).is_err()) {
                tracing::warn!(
                    key = %item.key(),
                    mover = %self.movers.at(mover).id,
                    "the mover's library cannot take data that is not UTF-8: it gets replacement characters"
                );
            }
        }
        self.refresh_mover(mover);
        let list = WorkList { archive_id, flags, items: draft.list, binary_data };
        effects.visible.push(Effect::Work { conn, list });
        true
    }

    /// Cancels come first and know no limit but the buffer; a lock does not keep them, since they stop work.
    fn draft_cancels(&mut self, mover: u32, draft: &mut Draft) {
        let mut waiting = std::mem::take(&mut self.movers.at_mut(mover).cancels);
        let mut others = std::collections::VecDeque::new();
        while let Some(handle) = waiting.pop_front() {
            let Some(cancel) = self.cancels.get_mut(&handle) else {
                continue;
            };
            let pair = (cancel.item.archive_id, cancel.item.flags);
            if draft.pair.is_some_and(|of| of != pair) {
                others.push_back(handle);
                continue;
            }
            let mut item = cancel.item.clone();
            if ITEM_BYTES + item.data.len() as u64 > draft.max_bytes {
                // The mover needs the cookie and the file, not the data.
                item.data = Box::default();
            }
            let bytes = ITEM_BYTES + item.data.len() as u64;
            if draft.bytes + bytes > draft.max_bytes {
                others.push_back(handle);
                break;
            }
            cancel.sent = true;
            self.counts.pending_cancel -= 1;
            draft.pair = Some(pair);
            draft.bytes += bytes;
            draft.list.push(item);
        }
        others.append(&mut waiting);
        self.movers.at_mut(mover).cancels = others;
    }

    fn draft_work(&mut self, mover: u32, draft: &mut Draft, effects: &mut Effects) {
        if draft.pair.is_some() {
            // Cancels go alone, so that nothing that is to be begun stands between them and the mover's threads.
            return;
        }
        while draft.list.is_empty() && draft.set_aside < MOST_SET_ASIDE {
            let set_aside = draft.set_aside;
            let first = match self.first_pick(mover) {
                None => return,
                Some(Pick::Class(class)) => {
                    let key = self.classes.at(class).key;
                    draft.pair = Some((key.archive_id, key.flags));
                    key.kind
                }
                Some(Pick::Parked(handle)) => {
                    let (class, fid) = (self.requests.at(handle).class, self.requests.at(handle).fid);
                    let key = self.classes.at(class).key;
                    self.keep_slot(mover, handle);
                    self.unqueue(handle);
                    draft.pair = Some((key.archive_id, key.flags));
                    self.take(handle, fid, key.kind, mover, draft, effects);
                    key.kind
                }
            };
            self.fill(mover, first, draft, effects);
            let progress = !draft.list.is_empty() || draft.set_aside > set_aside;
            debug_assert!(progress, "what was picked first can be taken or set aside");
            if !progress {
                return;
            }
        }
    }

    /// Adds what fits of the draft's archive id and flags: the kind that is due first, then restores, removes, archives.
    fn fill(&mut self, mover: u32, first: Kind, draft: &mut Draft, effects: &mut Effects) {
        let Some((archive_id, flags)) = draft.pair else {
            return;
        };
        let others = KINDS.into_iter().filter(|&kind| kind != first);
        for kind in std::iter::once(first).chain(others) {
            if draft.full {
                return;
            }
            self.fill_kind(mover, kind, archive_id, flags, draft, effects);
        }
    }

    fn fill_kind(
        &mut self,
        mover: u32,
        kind: Kind,
        archive_id: u32,
        flags: u64,
        draft: &mut Draft,
        effects: &mut Effects,
    ) {
        let entry = self.movers.at(mover);
        let all = entry.archive_ids.is_empty() || entry.archive_ids.contains(&archive_id);
        let unknown = archive_id == 0 && self.crews.all.connected == 0;
        if !all && !unknown {
            return;
        }
        let mut keys = Vec::with_capacity(4);
        let mut add = |place, tag| keys.push(ClassKey { kind, archive_id, flags, place, tag });
        add(Place::Any, NIL);
        if entry.host != NIL {
            add(Place::Host(entry.host), NIL);
            for &set in &self.hosts.at(entry.host).sets {
                add(Place::Set(set), NIL);
            }
        }
        if kind == Kind::Archive {
            for tag in self.open_tags(mover) {
                let place = self.tags.at(tag).key.place;
                add(place, tag);
            }
        }
        // Each class with what this mover may have of it.
        let mut classes: Vec<(u32, u32)> = keys
            .iter()
            .filter_map(|key| self.classes.find(key))
            .filter(|&class| !self.classes.at(class).list.is_empty())
            .map(|class| {
                let entry = self.classes.at(class);
                (class, entry.list.len.div_ceil(self.takers(&entry.key)))
            })
            .collect();
        let limit = self.slot_limit(mover);
        while draft.given[kind.at()] < MOST_PER_KIND && self.movers.at(mover).room(kind.at()) > 0 {
            // As C: nothing more once the smallest buffer would not fit.
            if draft.bytes + SMALLEST_BUFFER > draft.max_bytes && draft.bytes > 0 {
                draft.full = true;
                break;
            }
            if draft.set_aside >= MOST_SET_ASIDE {
                draft.full = true;
                break;
            }
            let open = classes.iter().enumerate().filter(|(_, (class, share))| {
                let class = self.classes.at(*class);
                let tag = class.key.tag;
                let running = self.movers.at(mover).tag_running.get(&tag).copied().unwrap_or(0);
                *share > 0
                    && !class.list.is_empty()
                    && (tag == NIL || running < limit)
                    && !self.is_unvettable(class.list.head)
            });
            let Some((at, head)) = open
                .map(|(at, &(class, _))| (at, self.classes.at(class).list.head))
                .min_by_key(|&(at, head)| (self.due(head), self.requests.at(head).timestamp, at))
            else {
                break;
            };
            let cost = self.cost(head);
            if cost > draft.max_bytes {
                self.unqueue(head);
                self.park(head);
                draft.set_aside += 1;
                continue;
            }
            if draft.bytes + cost > draft.max_bytes {
                draft.full = true;
                break;
            }
            let fid = self.requests.at(head).fid;
            self.keep_slot(mover, head);
            self.unqueue(head);
            if self.take(head, fid, kind, mover, draft, effects) {
                classes[at].1 -= 1;
            }
        }
        for key in keys {
            if let Some(class) = self.classes.find(&key) {
                self.refresh_class(class);
                if kind == Kind::Remove
                    && (draft.given[kind.at()] > 0 || self.movers.at(mover).room(kind.at()) > 0)
                {
                    self.look_ahead(class, effects);
                }
            }
        }
    }

    /// A request is about to leave its tag's queue for the mover: the slot begins a new idle time.
    fn keep_slot(&mut self, mover: u32, handle: Handle) {
        let tag = self.classes.at(self.requests.at(handle).class).key.tag;
        if tag != NIL
            && let Some(&slot) = self.tags.at(tag).slots.get(&mover)
        {
            self.refresh_slot(mover, slot as usize);
        }
    }

    /// Gives a loose request to the mover, or holds it if its file is busy. Returns whether it was given.
    fn take(
        &mut self,
        handle: Handle,
        fid: Fid,
        kind: Kind,
        mover: u32,
        draft: &mut Draft,
        effects: &mut Effects,
    ) -> bool {
        if self.is_kept_by_file(fid, kind) {
            self.clear_released(handle);
            self.hold(handle);
            draft.set_aside += 1;
            return false;
        }
        if self.set_aside_if_limited(handle) {
            draft.set_aside += 1;
            return false;
        }
        if !self.is_vetted(handle) {
            self.vet(handle, effects);
            draft.set_aside += 1;
            return false;
        }
        draft.bytes += self.cost(handle);
        draft.given[kind.at()] += 1;
        self.report_sent(handle, mover, effects);
        self.start(handle, mover, effects);
        let item = self.item(handle, false);
        self.log_sent(handle);
        draft.list.push(item);
        true
    }

    /// Gives work to movers that wait: first to those whose own situation changed, then to the least loaded of those
    /// who can take what is new.
    pub(super) fn dispatch(&mut self, effects: &mut Effects) {
        let later = std::mem::take(&mut self.later_movers);
        self.fresh_movers.extend(later);
        while let Some(mover) = self.fresh_movers.pop_first() {
            self.serve(mover, effects);
        }
        if self.lock != Lock::Unlocked {
            // Unlocking wakes everyone.
            self.fresh_classes.clear();
            return;
        }
        while let Some(class) = self.fresh_classes.pop_first() {
            let mut passed = Vec::new();
            while self.classes.in_use(class) && !self.classes.at(class).list.is_empty() {
                let key = self.classes.at(class).key;
                let Some(mover) = self.waiting_mover(&key, 0, &passed) else {
                    break;
                };
                if !self.serve(mover, effects) {
                    passed.push(mover);
                }
            }
            while let Some(mover) = self.fresh_movers.pop_first() {
                self.serve(mover, effects);
            }
        }
    }

    /// The least loaded mover that waits for work of this class and takes items of that size.
    fn waiting_mover(&self, key: &ClassKey, bytes: u64, passed: &[u32]) -> Option<u32> {
        let kind = key.kind.at();
        let fits = |mover: u32| {
            !passed.contains(&mover) && self.movers.at(mover).recv.is_some_and(|recv| recv.max_bytes >= bytes)
        };
        let waits = |mover: &u32| {
            let entry = self.movers.at(*mover);
            let serves = entry.archive_ids.is_empty()
                || entry.archive_ids.contains(&key.archive_id)
                || (key.archive_id == 0 && self.crews.all.connected == 0);
            entry.conn.is_some() && entry.waiting.is_some() && entry.room(kind) > 0 && serves && fits(*mover)
        };
        // Data that is not UTF-8 reaches only our own movers unharmed, so they go before the others.
        let head = self.classes.find(key).map_or(NIL, |class| self.classes.at(class).list.head);
        let plain =
            head == NIL || std::str::from_utf8(&self.data.at(self.requests.at(head).data).bytes).is_ok();
        let exact = |mover: u32| plain || self.movers.at(mover).features.binary_data;
        let order = |mover: &u32| {
            let entry = self.movers.at(*mover);
            (!exact(*mover), entry.load(), entry.waiting)
        };
        if key.tag != NIL {
            let limit = |mover: &u32| {
                let running = self.movers.at(*mover).tag_running.get(&key.tag).copied().unwrap_or(0);
                running < self.slot_limit(*mover)
            };
            let movers = self.tags.at(key.tag).slots.keys().copied();
            return movers.filter(waits).filter(limit).min_by_key(order);
        }
        match key.place {
            Place::Host(host) => Some(self.hosts.at(host).mover).filter(|&mover| mover != NIL).filter(waits),
            Place::Set(set) => {
                let hosts = &self.hosts.sets[set as usize].hosts;
                let movers =
                    hosts.iter().map(|&host| self.hosts.at(host).mover).filter(|&mover| mover != NIL);
                movers.filter(waits).min_by_key(order)
            }
            Place::Any => {
                let crews = self.crews.for_archive(key.archive_id);
                let first = |may: &dyn Fn(u32) -> bool| {
                    let waiting = crews.iter().flatten().map(|crew| crew.waiting[kind].iter().copied());
                    let first = waiting.filter_map(|mut all| all.find(|&(_, _, mover)| may(mover)));
                    first.min().map(|(_, _, mover)| mover)
                };
                first(&|mover| fits(mover) && exact(mover)).or_else(|| first(&fits))
            }
        }
    }

    /// A request was set aside as too large for one mover: another may be waiting for it.
    pub(super) fn wake_for_parked(&mut self, key: &ClassKey, bytes: u64) {
        if let Some(mover) = self.waiting_mover(key, bytes, &[]) {
            self.fresh_movers.insert(mover);
        }
    }
}

/// The shelves of a pool for a mover of these archive ids.
fn served<'a>(pool: &'a Pool, ids: &[u32], unknown: bool) -> Vec<&'a Shelf> {
    if ids.is_empty() {
        return vec![&pool.all];
    }
    let mut shelves: Vec<&Shelf> = ids.iter().filter_map(|id| pool.by_id.get(id)).collect();
    if unknown && !ids.contains(&0) {
        shelves.extend(pool.by_id.get(&0));
    }
    shelves
}
