//! Queues of requests and the ordered sets from which movers choose.
//!
//! Requests that any scheduling decision treats alike share a class, a FIFO. Classes lie on shelves, ordered by the time at
//! which their first request is due; a mover looks at the first class of a few shelves. So choosing costs the
//! logarithm of the number of classes, however many requests are queued.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::index::NIL;
use super::priorities::{LANES, Lane};
use super::requests::{Handle, Kind, List};

/// Which movers may take a request, archive ids aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    /// Any.
    Any,
    /// The mover with this id (an index of hosts).
    Host(u32),
    /// The movers of a host mapping (an index of sets).
    Set(u32),
}

/// What the requests of a class have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ClassKey {
    pub(super) kind: Kind,
    pub(super) archive_id: u32,
    pub(super) flags: u64,
    pub(super) place: Place,
    /// The tag whose slot it needs, `NIL` for none.
    pub(super) tag: u32,
    /// How urgent it is.
    pub(super) lane: Lane,
    /// Whose requests they are, `NIL` where that does not matter.
    pub(super) share: u32,
    /// On what tape their data lies, `NIL` for none.
    pub(super) tape: u32,
}

impl ClassKey {
    /// The class for requests that only priorities, shares and tapes tell apart from these.
    pub(super) fn plain(&self) -> Self {
        Self { lane: Lane::of(self.kind), share: NIL, tape: NIL, ..*self }
    }

    /// Whether no priority, share or tape tells these requests apart from others.
    pub(super) fn is_plain(&self) -> bool {
        *self == self.plain()
    }
}

/// Where a class lies among others: the lowest goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Standing {
    /// Virtual time of its share's next turn, 0 where there are no shares.
    pub(super) turn: u64,
    /// When its first request is due.
    pub(super) due: u64,
}

/// Requests that are treated alike, oldest first.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) key: ClassKey,
    pub(super) list: List,
    /// Requests that belong to this class, wherever they are.
    pub(super) refs: u32,
    /// Of these, how many movers have.
    pub(super) running: u32,
    /// How it lies on its shelves.
    pub(super) standing: Option<Standing>,
    /// It has requests and is known where such classes are.
    pub(super) listed: bool,
}

/// All classes.
#[derive(Debug, Default)]
pub(super) struct Classes {
    entries: Vec<Class>,
    free: Vec<u32>,
    index: FxHashMap<ClassKey, u32>,
}

impl Classes {
    pub(super) fn at(&self, id: u32) -> &Class {
        &self.entries[id as usize]
    }

    pub(super) fn at_mut(&mut self, id: u32) -> &mut Class {
        &mut self.entries[id as usize]
    }

    pub(super) fn find(&self, key: &ClassKey) -> Option<u32> {
        self.index.get(key).copied()
    }

    /// Takes a reference to the class of this key.
    pub(super) fn intern(&mut self, key: ClassKey) -> u32 {
        if let Some(&id) = self.index.get(&key) {
            self.at_mut(id).refs += 1;
            return id;
        }
        let class = Class { key, list: List::EMPTY, refs: 1, running: 0, standing: None, listed: false };
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = class;
                id
            }
            None => {
                let id = u32::try_from(self.entries.len()).unwrap_or(NIL);
                assert!(id < NIL, "more than 4 billion classes");
                self.entries.push(class);
                id
            }
        };
        self.index.insert(key, id);
        id
    }

    /// Gives a reference back. Returns the key when it was the last one.
    pub(super) fn release(&mut self, id: u32) -> Option<ClassKey> {
        let class = self.at_mut(id);
        class.refs -= 1;
        if class.refs > 0 {
            return None;
        }
        assert!(
            class.list.is_empty() && class.standing.is_none() && !class.listed,
            "an unused class is on no shelf"
        );
        let key = class.key;
        self.index.remove(&key);
        self.free.push(id);
        Some(key)
    }

    pub(super) fn in_use(&self, id: u32) -> bool {
        self.at(id).refs > 0
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Ids below this were given out at some time.
    pub(super) fn capacity(&self) -> u32 {
        self.entries.len() as u32
    }

    /// All ids ever given out; used by the check of invariants.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        (0..self.entries.len() as u32).filter(|id| self.entries[*id as usize].refs > 0)
    }
}

/// Requests that are larger than the buffer of a mover that met them.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// (bytes, sequence, request).
    pub(super) by_cost: BTreeSet<(u64, u64, Handle)>,
    /// (due, sequence, request).
    pub(super) by_time: BTreeSet<(u64, u64, Handle)>,
}

/// Classes of one lane.
#[derive(Debug, Default)]
pub(super) struct LaneQueue {
    /// (standing, class): whose turn it is.
    pub(super) by_turn: BTreeSet<(Standing, u32)>,
    /// (due, class) of those with shares: how late the lane is.
    by_due: BTreeSet<(u64, u32)>,
}

impl LaneQueue {
    fn insert(&mut self, standing: Standing, class: u32) {
        self.by_turn.insert((standing, class));
        if standing.turn != 0 {
            self.by_due.insert((standing.due, class));
        }
    }

    fn remove(&mut self, standing: Standing, class: u32) {
        self.by_turn.remove(&(standing, class));
        if standing.turn != 0 {
            self.by_due.remove(&(standing.due, class));
        }
    }

    /// When the first of all requests is due.
    pub(super) fn due(&self) -> Option<u64> {
        let plain =
            self.by_turn.first().filter(|(standing, _)| standing.turn == 0).map(|(first, _)| first.due);
        let shared = self.by_due.first().map(|&(due, _)| due);
        plain.into_iter().chain(shared).min()
    }
}

/// Classes by lane.
pub(super) type Lanes = [LaneQueue; LANES];

/// Moves a class from one standing to another.
pub(super) fn restand(lanes: &mut Lanes, lane: Lane, id: u32, old: Option<Standing>, new: Option<Standing>) {
    let lane = &mut lanes[lane.at()];
    if let Some(old) = old {
        lane.remove(old, id);
    }
    if let Some(new) = new {
        lane.insert(new, id);
    }
}

/// Classes that differ in priority, share and tape only; the plain one is not here.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) lanes: Lanes,
    /// Those of tapes that are ready to be mounted.
    pub(super) tapes: Lanes,
    /// Requests that wait, those on tapes apart.
    pub(super) queued: u32,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.queued == 0 && self.lanes.iter().chain(&self.tapes).all(|lane| lane.by_turn.is_empty())
    }
}

/// What lies ready for some movers.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// Classes with requests.
    pub(super) lanes: Lanes,
    /// Those of tapes that are ready to be mounted.
    pub(super) tapes: Lanes,
    /// For each kind.
    pub(super) parked: [Parked; 3],
    /// Tags that want a slot: (since, tag).
    pub(super) tags: BTreeSet<(u64, u32)>,
}

impl Shelf {
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().chain(&self.tapes).all(|lane| lane.by_turn.is_empty())
            && self.parked.iter().all(|parked| parked.by_cost.is_empty())
            && self.tags.is_empty()
    }
}

/// Everything of one [`Place`].
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// For movers that serve all archives.
    pub(super) all: Shelf,
    /// For movers that serve some.
    pub(super) by_id: BTreeMap<u32, Shelf>,
}

impl Pool {
    /// Does something to both shelves on which work for this archive lies.
    pub(super) fn update(&mut self, archive_id: u32, mut change: impl FnMut(&mut Shelf)) {
        change(&mut self.all);
        let shelf = self.by_id.entry(archive_id).or_default();
        change(shelf);
        if shelf.is_empty() {
            self.by_id.remove(&archive_id);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// Movers by what they can do now. Keys are (load, since when or in which order, mover).
#[derive(Debug, Default)]
pub(super) struct Crew {
    /// How many are connected.
    pub(super) connected: u32,
    /// Waiting for work, with room for that kind.
    pub(super) waiting: [BTreeSet<(u64, u64, u32)>; 3],
    /// With a free batch slot, by the number of those taken.
    pub(super) free: BTreeSet<(u64, u64, u32)>,
}

impl Crew {
    pub(super) fn is_empty(&self) -> bool {
        self.connected == 0 && self.waiting.iter().all(BTreeSet::is_empty) && self.free.is_empty()
    }
}

/// All movers that are connected.
#[derive(Debug, Default)]
pub(super) struct Crews {
    /// Every mover.
    pub(super) everyone: Crew,
    /// Those that serve all archives.
    pub(super) all: Crew,
    /// Those that serve some, by archive id.
    pub(super) by_id: BTreeMap<u32, Crew>,
}

impl Crews {
    /// How many connected movers serve this archive. Archive 0 is served by movers of all archives, and by everyone when
    /// there is none: then the MDT knew only that we take any.
    pub(super) fn serving(&self, archive_id: u32) -> u32 {
        if archive_id == 0 && self.all.connected == 0 {
            return self.everyone.connected;
        }
        self.all.connected + self.by_id.get(&archive_id).map_or(0, |crew| crew.connected)
    }

    /// The crews whose members serve this archive.
    pub(super) fn for_archive(&self, archive_id: u32) -> [Option<&Crew>; 2] {
        if archive_id == 0 && self.all.connected == 0 {
            return [Some(&self.everyone), None];
        }
        [Some(&self.all), self.by_id.get(&archive_id)]
    }
}
