//! Which requests are more urgent than others.
//!
//! A lane holds the requests that are equally urgent. Each lane but the first has a head start to make up: its requests are
//! due that much later than a blocked reader's that came at the same time, so nothing starves. A lane with a weight has
//! that many of a hundred requests to itself however late the others are.

use std::time::Duration;

use lustreapi_sys::abi::HSM_REQ_BLOCKING;

use super::Coordinator;
use super::hints::hint_value;
use super::index::NIL;
use super::queues::{ClassKey, Place};
use super::requests::{Handle, Kind};

/// How urgent a request is, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// A restore for which a process is blocked: `HSM_REQ_BLOCKING` in `hal_flags` (Lustre 2.17).
    Blocked,
    /// Any other restore.
    Restore,
    /// A restore of many.
    Bulk,
    /// A remove.
    Remove,
    /// An archive.
    Archive,
}

/// How many lanes there are.
pub(super) const LANES: usize = 5;

/// All lanes, the most urgent first.
pub(super) const ALL_LANES: [Lane; LANES] =
    [Lane::Blocked, Lane::Restore, Lane::Bulk, Lane::Remove, Lane::Archive];

impl Lane {
    /// The lane of requests of which nothing more is known.
    pub(super) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Restore => Self::Restore,
            Kind::Remove => Self::Remove,
            Kind::Archive => Self::Archive,
        }
    }

    /// The lanes of requests of one kind.
    pub(super) fn all_of(kind: Kind) -> impl Iterator<Item = Self> {
        let lanes: &[Self] = match kind {
            Kind::Restore => &[Self::Blocked, Self::Restore, Self::Bulk],
            Kind::Remove => &[Self::Remove],
            Kind::Archive => &[Self::Archive],
        };
        lanes.iter().copied()
    }

    pub(super) fn at(self) -> usize {
        self as usize
    }

    /// The lane of this name in the configuration.
    pub fn from_name(name: &str) -> Option<Self> {
        ALL_LANES.into_iter().find(|lane| lane.name() == name)
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Restore => "restore",
            Self::Bulk => "bulk",
            Self::Remove => "remove",
            Self::Archive => "archive",
        }
    }
}

/// `priorities on` and what goes with it. Without, all restores are alike (C 0.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Priorities {
    /// How much later a restore is due than one for which somebody is blocked (`ageing_restore_ms`).
    pub restore: Duration,
    /// The same for a restore of many (`ageing_bulk_ms`).
    pub bulk: Duration,
    /// A restore without data counts as one for which a process is blocked (`blocked_without_data`): before Lustre 2.17
    /// nothing else tells a read from an `lfs hsm_restore`.
    pub blocked_without_data: bool,
    /// A restore is one of many when its share has this many already (`bulk_restores`); 0 for never.
    pub bulk_restores: u32,
    /// A restore with this hint is one of many (`bulk_hint NAME=VALUE`).
    pub bulk_hint: Option<String>,
    /// Requests of a hundred that a lane gets at least while it has any (`priority_weight`).
    pub weights: [u32; LANES],
}

impl Default for Priorities {
    fn default() -> Self {
        Self {
            restore: Duration::from_secs(60),
            bulk: Duration::from_secs(300),
            blocked_without_data: false,
            bulk_restores: 0,
            bulk_hint: None,
            weights: [0; LANES],
        }
    }
}

/// Where a request stands among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rank {
    pub(super) lane: Lane,
    pub(super) share: u32,
    pub(super) tape: u32,
    /// Which movers may have it, if its location says so.
    pub(super) place: Option<Place>,
}

/// What the lanes owe each other.
#[derive(Debug, Default)]
pub(super) struct Dues {
    /// Hundredths of requests that each lane is behind its weight.
    behind: [i64; LANES],
    /// The file system is so full that archives go first.
    pub(super) full: bool,
}

/// A lane that is a whole request behind its weight goes first.
const WHOLE: i64 = 100;
/// No lane is ever more than this behind or ahead.
const MOST_BEHIND: i64 = 100 * WHOLE;

impl Coordinator {
    /// How much later requests of a lane are due than those of the first that came at the same time, in nanoseconds.
    pub(super) fn head_start(&self, lane: Lane) -> u64 {
        let ageing = &self.config.ageing;
        let delay = match (lane, &self.config.priorities) {
            (Lane::Remove, _) => ageing.remove,
            (Lane::Archive, _) => ageing.archive,
            (Lane::Restore, Some(priorities)) => priorities.restore,
            (Lane::Bulk, Some(priorities)) => priorities.bulk,
            (Lane::Blocked | Lane::Restore | Lane::Bulk, _) => Duration::ZERO,
        };
        // Archives make room for what the others bring in.
        let delay = match (self.dues.full, lane) {
            (false, _) => delay,
            (true, Lane::Archive) => Duration::ZERO,
            (true, _) => delay.saturating_add(ageing.archive),
        };
        u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The lane of a request with this data whose share is known.
    pub(super) fn lane_of(&self, kind: Kind, flags: u64, data: u32, share: u32) -> Lane {
        let Some(priorities) = self.config.priorities.as_ref().filter(|_| kind == Kind::Restore) else {
            return Lane::of(kind);
        };
        let bytes = &self.data.at(data).bytes;
        if flags & HSM_REQ_BLOCKING != 0 || (priorities.blocked_without_data && bytes.is_empty()) {
            return Lane::Blocked;
        }
        let hinted = priorities.bulk_hint.as_deref().is_some_and(|hint| is_hinted(bytes, hint));
        let many = priorities.bulk_restores > 0
            && share != NIL
            && self.shares.at(share).restores >= priorities.bulk_restores;
        if hinted || many { Lane::Bulk } else { Lane::Restore }
    }

    /// Where a request stands when its class is worked out again.
    pub(super) fn rank_again(&mut self, key: &ClassKey, handle: Handle, data: u32) -> Rank {
        let share = self.share_again(key, handle, data);
        let lane = self.lane_of(key.kind, key.flags, data, share);
        // What was one of many stays it, though there may be fewer now.
        let many = key.lane == Lane::Bulk && lane == Lane::Restore && self.config.priorities.is_some();
        let (tape, place) = self.location_again(key, handle);
        Rank { lane: if many { Lane::Bulk } else { lane }, share, tape, place }
    }

    /// Whether the lane is behind its weight.
    pub(super) fn is_behind(&self, lane: Lane) -> bool {
        self.dues.behind[lane.at()] >= WHOLE
    }

    /// A request of `lane` is given to a mover; `waiting` are the lanes from which it could have had one.
    pub(super) fn pay(&mut self, lane: Lane, waiting: [bool; LANES]) {
        let Some(priorities) = &self.config.priorities else {
            return;
        };
        for other in ALL_LANES {
            let weight = i64::from(priorities.weights[other.at()]);
            let behind = &mut self.dues.behind[other.at()];
            if weight == 0 {
                *behind = 0;
                continue;
            }
            if other == lane {
                *behind = (*behind + weight - WHOLE).max(-MOST_BEHIND);
            } else if waiting[other.at()] {
                *behind = (*behind + weight).min(MOST_BEHIND);
            }
        }
    }

    /// How full the file system is, in percent.
    pub(super) fn space_used(&mut self, percent: u8) {
        /// It must be that much emptier before archives no longer go first.
        const HYSTERESIS: u8 = 2;
        let Some(limit) = self.config.archives_first_when_full else {
            self.dues.full = false;
            return;
        };
        let full = percent >= limit || (self.dues.full && percent.saturating_add(HYSTERESIS) > limit);
        if full != self.dues.full {
            tracing::warn!(
                percent,
                limit,
                full,
                "how full the file system is decides whether archives go first"
            );
        }
        self.dues.full = full;
    }
}

/// Whether the data has this hint, `NAME=VALUE`.
fn is_hinted(data: &[u8], hint: &str) -> bool {
    let data = super::hints::without_nuls(data);
    match hint.split_once('=') {
        Some((name, value)) => hint_value(data, format!("{name}=").as_bytes()) == Some(value.as_bytes()),
        None => super::hints::find_tag(data, hint.as_bytes()).is_some(),
    }
}

/// The first of what waits in each lane.
#[derive(Debug)]
pub(super) struct Ballot<P> {
    lanes: [Option<Candidate<P>>; LANES],
}

#[derive(Debug)]
struct Candidate<P> {
    /// When the first of the whole lane is due.
    due: u64,
    /// Standing of the one to be taken.
    order: (u64, u64, i64),
    pick: P,
}

impl<P> Ballot<P> {
    pub(super) fn new() -> Self {
        Self { lanes: [const { None }; LANES] }
    }

    /// Adds what could be taken from a lane: when the first of the lane is due, and the turn, due time and timestamp of
    /// what would be taken. Of equals the first added is kept.
    pub(super) fn add(&mut self, lane: Lane, due: u64, order: (u64, u64, i64), pick: P) {
        match &mut self.lanes[lane.at()] {
            Some(best) => {
                best.due = best.due.min(due);
                if order < best.order {
                    best.order = order;
                    best.pick = pick;
                }
            }
            none => *none = Some(Candidate { due, order, pick }),
        }
    }

    /// The lanes that have something.
    pub(super) fn waiting(&self) -> [bool; LANES] {
        [0, 1, 2, 3, 4].map(|lane: usize| self.lanes[lane].is_some())
    }

    /// What goes first: of a lane that is behind its weight, else of the lane that is due first.
    pub(super) fn elect(mut self, core: &Coordinator) -> Option<P> {
        let due = |lane: &Lane| {
            let due = self.lanes[lane.at()].as_ref().map_or(u64::MAX, |candidate| candidate.due);
            (!core.is_behind(*lane), due.saturating_add(core.head_start(*lane)), *lane)
        };
        let first = ALL_LANES.into_iter().filter(|lane| self.lanes[lane.at()].is_some()).min_by_key(due)?;
        self.lanes[first.at()].take().map(|candidate| candidate.pick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_have_names_and_kinds() {
        for (at, lane) in ALL_LANES.into_iter().enumerate() {
            assert_eq!(lane.at(), at);
            assert_eq!(Lane::from_name(lane.name()), Some(lane));
            let kinds = super::super::requests::KINDS.into_iter();
            assert_eq!(kinds.filter(|&kind| Lane::all_of(kind).any(|of| of == lane)).count(), 1);
        }
        assert_eq!(Lane::from_name("urgent"), None);
    }

    #[test]
    fn hints_are_found_whole() {
        let cases = [
            ("class=bulk", "class=bulk", true),
            ("a=b,class=bulk\0", "class=bulk", true),
            ("class=bulky", "class=bulk", false),
            ("myclass=bulk", "class=bulk", false),
            ("bulk", "bulk", true),
            ("bulky", "bulk", false),
            ("", "bulk", false),
        ];
        for (data, hint, want) in cases {
            assert_eq!(is_hinted(data.as_bytes(), hint), want, "{hint} in {data}");
        }
    }
}
