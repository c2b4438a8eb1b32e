//! What goes next of all that a mover may take.

use super::Coordinator;
use super::index::NIL;
use super::priorities::{Ballot, LANES, Lane};
use super::queues::{ClassKey, LaneQueue, Lanes, Place, Pool, Shelf, Standing};
use super::requests::{Handle, KINDS, Kind};
use super::tapes::TapeState;

/// How many classes are passed over in one search.
const MOST_PASSED: usize = 64;

/// What a mover is to begin with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pick {
    Class(u32),
    Parked(Handle),
}

/// What there is at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stock {
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
pub(super) struct Source {
    /// Of the plain class.
    pub(super) key: ClassKey,
    pub(super) what: Stock,
    /// What the mover may still have of it.
    pub(super) left: u32,
}

impl Coordinator {
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
    pub(super) fn first_pick(&self, mover: u32) -> (Option<Pick>, [bool; LANES]) {
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

    /// Where the mover may take requests of one kind, archive id and flags: queues of plain classes, and groups of others.
    pub(super) fn sources(&self, mover: u32, kind: Kind, (archive_id, flags): (u32, u64)) -> Vec<Source> {
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

    /// Which class goes next: the source it is in, and the class.
    pub(super) fn next_of(&self, mover: u32, kind: Kind, sources: &[Source]) -> Option<(usize, u32)> {
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

    pub(super) fn source_of(&self, class: u32, sources: &[Source]) -> Option<(usize, u32)> {
        let key = self.classes.at(class).key;
        let what = if key.tape == NIL { Stock::Group } else { Stock::Tape(key.tape) };
        let found = |source: &Source| source.what == what && (key.tape != NIL || source.key == key.plain());
        Some((sources.iter().position(found)?, class))
    }
}

/// What a mover may take of a tape that it has.
pub(super) fn tape_source(tape: u32, kind: Kind, archive_id: u32, flags: u64) -> Source {
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
