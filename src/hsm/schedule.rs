//! Choosing work for movers, and movers for work.

use lustreapi_sys::Fid;

use super::Coordinator;
use super::effect::{Effect, Effects, WorkList};
use super::event::Lock;
use super::feed::RequestChange;
use super::index::NIL;
use super::placing::ITEM_BYTES;
use super::priorities::{Ballot, LANES, Lane};
use super::queues::{ClassKey, LaneQueue, Lanes, Place, Pool, Shelf, Standing};
use super::requests::{Handle, KINDS, Kind};
use super::sessions::SMALLEST_BUFFER;
use super::tapes::TapeState;
use super::timers::Timer;

/// The most items of one kind in one answer (C 0.4 looks at a hundred).
const MOST_PER_KIND: u32 = 100;

/// How many requests may be set aside while one answer is put together; the rest waits for the next slice.
const MOST_SET_ASIDE: u32 = 256;

/// How many classes are passed over in one search.
const MOST_PASSED: usize = 64;

/// What a mover is to begin with.
#[derive(Debug, Clone, Copy)]
enum Pick {
    Class(u32),
    Parked(Handle),
}

/// What there is at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stock {
    /// The plain class.
    Plain(u32),
    /// The group of classes with priorities and shares.
    Group,
    /// Tapes that are ready to be mounted.
    Ready,
    /// A tape that the mover has.
    Tape(u32),
}

/// Where a mover may take requests of one kind, archive id and flags.
struct Source {
    /// Of the plain class.
    key: ClassKey,
    what: Stock,
    /// What the mover may still have of it.
    left: u32,
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

    /// What goes first of all that the mover may take and has room for, and the lanes it was chosen from.
    fn first_pick(&self, mover: u32) -> (Option<Pick>, [bool; LANES]) {
        let entry = self.movers.at(mover);
        let max_bytes = entry.recv.map_or(0, |recv| recv.max_bytes);
        let mut shelves = self.shelves(mover);
        let tags = self.open_tags(mover);
        shelves.extend(tags.iter().map(|&tag| &self.tags.at(tag).shelf));
        let held = entry.tapes.iter().map(|&tape| self.tapes.at(tape));
        let served = held.filter(|tape| self.serves_archive(mover, tape.archive_id));
        let mut tapes: Vec<&Lanes> = served.map(|tape| &tape.lanes).collect();
        if self.has_room_for_tape(mover) {
            tapes.extend(shelves.iter().map(|shelf| &shelf.tapes));
        }
        let mut ballot = Ballot::new();
        for kind in KINDS {
            if entry.room(kind.at()) == 0 {
                continue;
            }
            for lanes in shelves.iter().map(|shelf| &shelf.lanes).chain(tapes.iter().copied()) {
                for lane in Lane::all_of(kind) {
                    let queue = &lanes[lane.at()];
                    if let (Some((standing, class)), Some(due)) = (self.first_open(queue), queue.due()) {
                        ballot.add(lane, due, (standing.turn, standing.due, 0), Pick::Class(class));
                    }
                }
            }
            for shelf in &shelves {
                let parked = &shelf.parked[kind.at()];
                let all_fit = parked.by_cost.last().is_some_and(|&(cost, _, _)| cost <= max_bytes);
                let parked = if all_fit {
                    parked.by_time.first().map(|&(_, _, handle)| handle)
                } else {
                    let small = parked.by_cost.first().filter(|&&(cost, _, _)| cost <= max_bytes);
                    small.map(|&(_, _, handle)| handle)
                };
                if let Some(handle) = parked.filter(|&handle| !self.is_unvettable(handle)) {
                    let lane = self.classes.at(self.requests.at(handle).class).key.lane;
                    let due = self.due(handle);
                    // It was first once already.
                    ballot.add(lane, due, (0, due, 0), Pick::Parked(handle));
                }
            }
        }
        let waiting = ballot.waiting();
        (ballot.elect(self), waiting)
    }

    /// The first class of a lane whose next request may be sent, or asked about.
    fn first_open(&self, queue: &LaneQueue) -> Option<(Standing, u32)> {
        let open = |&&(_, class): &&(Standing, u32)| {
            let entry = self.classes.at(class);
            let next = match entry.key.tape {
                NIL => None,
                tape => self.tapes.next(tape, (entry.key.kind, entry.key.archive_id, entry.key.flags)),
            };
            !self.is_unvettable(next.unwrap_or(entry.list.head))
        };
        queue.by_turn.iter().take(MOST_PASSED).find(open).copied()
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

    /// Where the mover may take requests of one kind, archive id and flags: queues of plain classes, and groups of others.
    fn sources(&self, mover: u32, kind: Kind, (archive_id, flags): (u32, u64)) -> Vec<Source> {
        let entry = self.movers.at(mover);
        let mut sources = Vec::with_capacity(4);
        let mut add = |place, tag| {
            let (lane, share) = (Lane::of(kind), NIL);
            let key = ClassKey { kind, archive_id, flags, place, tag, lane, share, tape: NIL };
            let takers = self.takers(&key);
            let class = self.classes.find(&key).filter(|&class| !self.classes.at(class).list.is_empty());
            if let Some(class) = class {
                let left = self.classes.at(class).list.len.div_ceil(takers);
                sources.push(Source { key, what: Stock::Plain(class), left });
            }
            let Some(group) = self.groups.get(&key) else {
                return;
            };
            if group.queued > 0 {
                sources.push(Source { key, what: Stock::Group, left: group.queued.div_ceil(takers) });
            }
            if self.has_room_for_tape(mover) {
                sources.push(Source { key, what: Stock::Ready, left: u32::MAX });
            }
        };
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
        for &tape in &entry.tapes {
            if matches!(self.tapes.at(tape).state, TapeState::Mounted { .. }) {
                sources.push(tape_source(tape, kind, archive_id, flags));
            }
        }
        sources
    }

    /// The mover takes the tape of this class, if it has one that is ready.
    fn mount_if_ready(&mut self, key: &ClassKey, mover: u32) {
        if key.tape != NIL && self.tapes.at(key.tape).state == TapeState::Ready {
            self.mount(key.tape, mover);
        }
    }

    /// Which class goes next: the source it is in, and the class.
    fn next_of(&self, mover: u32, kind: Kind, sources: &[Source]) -> Option<(usize, u32)> {
        let limit = self.slot_limit(mover);
        let mut ballot = Ballot::new();
        for (at, source) in sources.iter().enumerate() {
            let tag = source.key.tag;
            let running = self.movers.at(mover).tag_running.get(&tag).copied().unwrap_or(0);
            if source.left == 0 || (tag != NIL && running >= limit) {
                continue;
            }
            let group = self.groups.get(&source.key);
            let lanes = match source.what {
                Stock::Plain(class) => {
                    let head = self.classes.at(class).list.head;
                    if head != NIL && !self.is_unvettable(head) {
                        let due = self.due(head);
                        let order = (0, due, self.requests.at(head).timestamp);
                        ballot.add(source.key.lane, due, order, (at, class));
                    }
                    continue;
                }
                Stock::Tape(tape) => {
                    let pair = (kind, source.key.archive_id, source.key.flags);
                    let next = self.tapes.next(tape, pair);
                    if let Some(next) = next.filter(|&next| !self.is_unvettable(next)) {
                        let class = self.requests.at(next).class;
                        let key = self.classes.at(class).key;
                        let due = self.due(next).max(self.tapes.at(tape).floor);
                        let turn = self.shares.turn(key.share, key.lane);
                        let order = (turn, due, self.requests.at(next).timestamp);
                        ballot.add(key.lane, due, order, (at, class));
                    }
                    continue;
                }
                Stock::Group => group.map(|group| &group.lanes),
                Stock::Ready => group.map(|group| &group.tapes),
            };
            let Some(lanes) = lanes else {
                continue;
            };
            for lane in Lane::all_of(kind) {
                let queue = &lanes[lane.at()];
                if let (Some((standing, class)), Some(due)) = (self.first_open(queue), queue.due()) {
                    let head = self.classes.at(class).list.head;
                    let order = (standing.turn, standing.due, self.requests.at(head).timestamp);
                    ballot.add(lane, due, order, (at, class));
                }
            }
        }
        ballot.elect(self)
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

    fn source_of(&self, class: u32, sources: &[Source]) -> Option<(usize, u32)> {
        let key = self.classes.at(class).key;
        let what = if key.tape == NIL { Stock::Group } else { Stock::Tape(key.tape) };
        let found = |source: &Source| source.what == what && (key.tape != NIL || source.key == key.plain());
        Some((sources.iter().position(found)?, class))
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

/// What a mover may take of a tape that it has.
fn tape_source(tape: u32, kind: Kind, archive_id: u32, flags: u64) -> Source {
    let key = ClassKey {
        kind,
        archive_id,
        flags,
        place: Place::Any,
        tag: NIL,
        lane: Lane::of(kind),
        share: NIL,
        tape,
    };
    Source { key, what: Stock::Tape(tape), left: u32::MAX }
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
