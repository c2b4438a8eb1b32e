//! Giving work to movers that wait: what goes into an answer, and who is asked for what is new.
//!
//! What goes next of all that a mover may take is decided in [`super::choice`].

use lustreapi_sys::Fid;

use super::Coordinator;
use super::choice::{Pick, Stock, tape_source};
use super::effect::{Effect, Effects, WorkList};
use super::event::Lock;
use super::feed::RequestChange;
use super::index::NIL;
use super::placing::ITEM_BYTES;
use super::priorities::LANES;
use super::queues::{ClassKey, Place};
use super::requests::{Handle, KINDS, Kind};
use super::sessions::SMALLEST_BUFFER;
use super::tapes::TapeState;
use super::timers::Timer;

/// The most items of one kind in one answer (C 0.4 looks at a hundred).
const MOST_PER_KIND: u32 = 100;

/// How many requests may be set aside while one answer is put together; the rest waits for the next slice.
const MOST_SET_ASIDE: u32 = 256;

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
    /// The lanes from which the mover could have had something.
    waiting: [bool; LANES],
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

    /// Answers a mover that waits, if there is anything for it. Returns whether it was answered.
    fn serve(&mut self, mover: u32, effects: &mut Effects) -> bool {
        let entry = self.movers.at_mut(mover);
        let (Some(recv), Some(conn), Some(since)) = (entry.recv, entry.conn, entry.waiting) else {
            return false;
        };
        // Each request that it is given would move it among those that wait.
        entry.waiting = None;
        let mut draft = Draft {
            pair: None,
            list: Vec::new(),
            bytes: 0,
            max_bytes: recv.max_bytes,
            given: [0; 3],
            set_aside: 0,
            full: false,
            waiting: [false; LANES],
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
            self.movers.at_mut(mover).waiting = Some(since);
            self.refresh_mover(mover);
            return false;
        };
        let binary_data = self.movers.at(mover).features.binary_data;
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
            let (pick, waiting) = self.first_pick(mover);
            draft.waiting = waiting;
            let (first, chosen) = match pick {
                None => return,
                Some(Pick::Class(class)) if self.is_stale(class) => {
                    self.refresh_class(class);
                    continue;
                }
                Some(Pick::Class(class)) => {
                    let key = self.classes.at(class).key;
                    self.mount_if_ready(&key, mover);
                    draft.pair = Some((key.archive_id, key.flags));
                    // Of plain classes that are due at the same time the oldest request goes first, wherever it is.
                    (key.kind, if key.is_plain() { NIL } else { class })
                }
                Some(Pick::Parked(handle)) => {
                    let (class, fid) = (self.requests.at(handle).class, self.requests.at(handle).fid);
                    let key = self.classes.at(class).key;
                    self.keep_slot(mover, handle);
                    self.unqueue(handle);
                    draft.pair = Some((key.archive_id, key.flags));
                    self.take(handle, fid, key.kind, mover, draft, effects);
                    (key.kind, NIL)
                }
            };
            self.fill(mover, first, chosen, draft, effects);
            let progress = !draft.list.is_empty() || draft.set_aside > set_aside;
            debug_assert!(progress, "what was picked first can be taken or set aside");
            if !progress {
                return;
            }
        }
    }

    /// Adds what fits of the draft's archive id and flags: the kind that is due first, then restores, removes, archives.
    /// The class that was chosen goes before all others.
    fn fill(&mut self, mover: u32, first: Kind, chosen: u32, draft: &mut Draft, effects: &mut Effects) {
        let Some(pair) = draft.pair else {
            return;
        };
        let others = KINDS.into_iter().filter(|&kind| kind != first);
        for kind in std::iter::once(first).chain(others) {
            if draft.full {
                return;
            }
            let chosen = if kind == first { chosen } else { NIL };
            self.fill_kind(mover, kind, pair, chosen, draft, effects);
        }
    }

    /// The mover takes the tape of this class, if it has one that is ready.
    fn mount_if_ready(&mut self, key: &ClassKey, mover: u32) {
        if key.tape != NIL && self.tapes.at(key.tape).state == TapeState::Ready {
            self.mount(key.tape, mover);
        }
    }

    fn fill_kind(
        &mut self,
        mover: u32,
        kind: Kind,
        pair: (u32, u64),
        mut chosen: u32,
        draft: &mut Draft,
        effects: &mut Effects,
    ) {
        let archive_id = pair.0;
        if !self.serves_archive(mover, archive_id) {
            return;
        }
        // Each with what this mover may have of it.
        let mut sources = self.sources(mover, kind, pair);
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
            let chosen = std::mem::replace(&mut chosen, NIL);
            let wanted = if chosen == NIL { None } else { self.source_of(chosen, &sources) };
            let Some((at, class)) = wanted.or_else(|| self.next_of(mover, kind, &sources)) else {
                break;
            };
            if self.is_stale(class) {
                self.refresh_class(class);
                continue;
            }
            let mut at = at;
            if sources[at].what == Stock::Ready {
                let tape = self.classes.at(class).key.tape;
                self.mount(tape, mover);
                sources.push(tape_source(tape, kind, archive_id, pair.1));
                at = sources.len() - 1;
                if !self.has_room_for_tape(mover) {
                    let ready = sources.iter_mut().filter(|source| source.what == Stock::Ready);
                    ready.for_each(|source| source.left = 0);
                }
            }
            let head = match sources[at].what {
                Stock::Tape(tape) => self.tapes.next(tape, (kind, archive_id, pair.1)),
                _ => Some(self.classes.at(class).list.head),
            };
            let Some(head) = head else {
                sources[at].left = 0;
                continue;
            };
            let class = self.requests.at(head).class;
            let cost = self.cost(head);
            if cost > draft.max_bytes {
                self.unqueue(head);
                self.refresh_unless_plain(class);
                self.leave_tape(head);
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
            if let Stock::Tape(tape) = sources[at].what {
                self.wind_to(tape, head);
            }
            self.unqueue(head);
            let given = self.take(head, fid, kind, mover, draft, effects);
            self.refresh_unless_plain(class);
            if given {
                sources[at].left -= 1;
            }
        }
        for source in sources {
            if let Stock::Plain(class) = source.what {
                self.refresh_class(class);
                if kind == Kind::Remove
                    && (draft.given[kind.at()] > 0 || self.movers.at(mover).room(kind.at()) > 0)
                {
                    self.look_ahead(class, effects);
                }
            }
        }
    }

    /// Plain classes are refreshed once, when the answer is complete.
    fn refresh_unless_plain(&mut self, class: u32) {
        if self.classes.in_use(class) && !self.classes.at(class).key.is_plain() {
            self.refresh_class(class);
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
        let class = self.classes.at(self.requests.at(handle).class).key;
        self.charge_share(&class);
        self.pay(class.lane, draft.waiting);
        self.report_sent(handle, mover, effects);
        self.start(handle, mover, effects);
        let item = self.item(handle, false);
        self.log_sent(handle);
        self.tell_request(handle, None, RequestChange::Sent);
        if draft.list.is_empty() {
            // For what it will have, as a rule.
            draft.list.reserve_exact(1 + self.movers.at(mover).room(kind.at()).min(15) as usize);
        }
        draft.list.push(item);
        true
    }

    /// Gives work to movers that wait: first to those whose own situation changed, then to the least loaded of those
    /// who can take what is new.
    pub(super) fn dispatch(&mut self, effects: &mut Effects) {
        self.fresh_movers.append(&mut self.later_movers);
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
        let tape = (key.tape != NIL).then(|| self.tapes.at(key.tape).state);
        let fits = |mover: u32| {
            let has_tape = match tape {
                None => true,
                Some(TapeState::Ready) => self.has_room_for_tape(mover),
                Some(TapeState::Mounted { mover: other, .. }) => other == mover,
                Some(_) => false,
            };
            has_tape
                && !passed.contains(&mover)
                && self.movers.at(mover).recv.is_some_and(|recv| recv.max_bytes >= bytes)
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
