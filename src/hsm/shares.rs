//! Fair share: within a lane, users (or groups, projects, jobs, hints) take turns.
//!
//! Each share has a virtual time for each lane, the time of its next turn; whoever has the lowest goes first, and a request
//! moves its share on by one turn divided by its weight (weighted fair queueing). The clock of a lane moves on by one
//! turn divided by the weights of all who wait: who comes back after a pause begins there, so that pausing saves
//! nothing up, and somebody always new cannot keep the others away.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::FxHashMap;

use super::Coordinator;
use super::attributes::Attributes;
use super::hints::{hint_value, without_nuls};
use super::index::NIL;
use super::priorities::{LANES, Lane};
use super::queues::{ClassKey, Group, Standing};
use super::requests::{Handle, Kind};

/// What makes requests one share (`fair_share`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareBy {
    /// The file's user.
    User,
    /// The file's group.
    Group,
    /// The file's project.
    Project,
    /// The job that made the file (extended attribute `user.job`, Lustre 2.16).
    Job,
    /// The value of this hint in the request's data, which needs no look at the file.
    Hint(String),
}

/// Who a share belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Owner {
    /// Not known, or not known yet.
    Unknown,
    User(u32),
    Group(u32),
    Project(u32),
    Job(Box<str>),
    Hint(Box<[u8]>),
}

impl Owner {
    /// What it is: as `fair_share` names it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::User(_) => "user",
            Self::Group(_) => "group",
            Self::Project(_) => "project",
            Self::Job(_) => "job",
            Self::Hint(_) => "hint",
        }
    }

    /// As `share_weight` names it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Unknown => "unknown".to_owned(),
            Self::User(id) | Self::Group(id) | Self::Project(id) => id.to_string(),
            Self::Job(name) => name.to_string(),
            Self::Hint(value) => String::from_utf8_lossy(value).into_owned(),
        }
    }

    fn is_by(&self, by: &ShareBy) -> bool {
        match self {
            Self::Unknown => false,
            Self::User(_) => *by == ShareBy::User,
            Self::Group(_) => *by == ShareBy::Group,
            Self::Project(_) => *by == ShareBy::Project,
            Self::Job(_) => *by == ShareBy::Job,
            Self::Hint(_) => matches!(by, ShareBy::Hint(_)),
        }
    }
}

/// One turn of a share with weight 1.
const TURN: u64 = 1 << 20;
/// What nobody could serve for a while does not go before everything else for more than this.
const MOST_BEHIND: u64 = 4 * TURN;
/// Shares without requests that are remembered because they had more than their turn.
const MOST_IDLE: usize = 65_536;

#[derive(Debug)]
pub(super) struct Share {
    pub(super) owner: Owner,
    weight: u64,
    /// The configuration that the weight is from.
    version: u32,
    /// Classes that refer to it.
    refs: u32,
    /// Its restores that wait or run.
    pub(super) restores: u32,
    turns: [u64; LANES],
    queued: [u32; LANES],
    /// In the list of idle shares.
    idle: bool,
}

/// All shares.
#[derive(Debug)]
pub(super) struct Shares {
    entries: Vec<Share>,
    free: Vec<u32>,
    index: FxHashMap<Owner, u32>,
    idle: VecDeque<u32>,
    clock: [u64; LANES],
    /// Weights of all that wait.
    active: [u64; LANES],
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            index: FxHashMap::default(),
            idle: VecDeque::new(),
            clock: [1 << 32; LANES],
            active: [0; LANES],
        }
    }
}

impl Shares {
    pub(super) fn at(&self, share: u32) -> &Share {
        &self.entries[share as usize]
    }

    fn at_mut(&mut self, share: u32) -> &mut Share {
        &mut self.entries[share as usize]
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// When the share's next turn in this lane is.
    pub(super) fn turn(&self, share: u32, lane: Lane) -> u64 {
        if share == NIL { 0 } else { self.at(share).turns[lane.at()] }
    }

    fn intern(&mut self, owner: Owner) -> u32 {
        if let Some(&share) = self.index.get(&owner) {
            return share;
        }
        let share = Share {
            owner: owner.clone(),
            weight: 1,
            version: 0,
            refs: 0,
            restores: 0,
            turns: self.clock,
            queued: [0; LANES],
            idle: false,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = share;
                id
            }
            None => {
                self.entries.push(share);
                self.entries.len() as u32 - 1
            }
        };
        self.index.insert(owner, id);
        id
    }

    /// Takes up a weight from another configuration.
    fn weigh(&mut self, share: u32, version: u32, weights: &BTreeMap<String, u32>) {
        if self.at(share).version == version {
            return;
        }
        let entry = &mut self.entries[share as usize];
        let weight = u64::from(weights.get(&entry.owner.name()).copied().unwrap_or(1).max(1));
        for lane in 0..LANES {
            if entry.queued[lane] > 0 {
                self.active[lane] = self.active[lane] - entry.weight + weight;
            }
        }
        entry.weight = weight;
        entry.version = version;
    }

    fn count(&mut self, share: u32, lane: usize, change: i64) {
        let entry = &mut self.entries[share as usize];
        let before = entry.queued[lane];
        entry.queued[lane] = before.wrapping_add_signed(change as i32);
        if before == 0 && change > 0 {
            entry.turns[lane] = entry.turns[lane].max(self.clock[lane]);
            self.active[lane] += entry.weight;
        } else if entry.queued[lane] == 0 && change < 0 {
            self.active[lane] -= entry.weight;
        }
    }

    /// One of its requests is given to a mover.
    fn charge(&mut self, share: u32, lane: usize) {
        let entry = &mut self.entries[share as usize];
        let others = if entry.queued[lane] > 0 { 0 } else { entry.weight };
        let floor = self.clock[lane].saturating_sub(MOST_BEHIND);
        entry.turns[lane] = entry.turns[lane].max(floor) + TURN / entry.weight;
        self.clock[lane] += TURN / (self.active[lane] + others).max(1);
    }

    fn hold(&mut self, share: u32) {
        self.at_mut(share).refs += 1;
    }

    fn release(&mut self, share: u32) {
        self.at_mut(share).refs -= 1;
        self.rest(share);
    }

    /// Begins to forget a share that nothing refers to.
    pub(super) fn rest(&mut self, share: u32) {
        let entry = self.at_mut(share);
        if entry.refs == 0 && !entry.idle {
            entry.idle = true;
            self.idle.push_back(share);
        }
        for _ in 0..2 {
            self.tidy();
        }
    }

    /// Compares the counts with what was counted otherwise: by share and lane, and by share.
    ///
    /// # Panics
    /// When they differ.
    pub(super) fn check(&self, queued: &BTreeMap<(u32, usize), u32>, restores: &BTreeMap<u32, u32>) {
        let mut active = [0; LANES];
        let mut used = 0;
        for (id, share) in self.entries.iter().enumerate() {
            let id = id as u32;
            if self.index.get(&share.owner) != Some(&id) {
                continue;
            }
            used += 1;
            assert_eq!(
                restores.get(&id).copied().unwrap_or(0),
                share.restores,
                "restores of {:?}",
                share.owner
            );
            for (lane, active) in active.iter_mut().enumerate() {
                let known = queued.get(&(id, lane)).copied().unwrap_or(0);
                assert_eq!(known, share.queued[lane], "what waits of {:?} in lane {lane}", share.owner);
                *active += if known > 0 { share.weight } else { 0 };
            }
            assert!(share.refs > 0 || share.idle, "{:?} is referred to or idle", share.owner);
        }
        assert_eq!(used, self.index.len(), "every share is found");
        assert_eq!(active, self.active, "weights of those who wait");
    }

    /// Looks at one idle share: it is forgotten once the others have caught up with it.
    fn tidy(&mut self) {
        let Some(share) = self.idle.pop_front() else {
            return;
        };
        let entry = self.at(share);
        if entry.refs > 0 {
            self.at_mut(share).idle = false;
            return;
        }
        let caught_up = entry.turns.iter().zip(&self.clock).all(|(turn, clock)| turn <= clock);
        if caught_up || self.idle.len() >= MOST_IDLE {
            let owner = std::mem::replace(&mut self.at_mut(share).owner, Owner::Unknown);
            self.index.remove(&owner);
            self.free.push(share);
        } else {
            self.idle.push_back(share);
        }
    }
}

impl Coordinator {
    /// The share of a request that comes in.
    pub(super) fn share_of_new(&mut self, data: u32) -> u32 {
        let owner = match &self.config.fair_share {
            None => return NIL,
            Some(ShareBy::Hint(name)) => {
                let bytes = without_nuls(&self.data.at(data).bytes);
                let value = hint_value(bytes, name.as_bytes());
                value.map_or(Owner::Unknown, |value| Owner::Hint(value.into()))
            }
            Some(_) => Owner::Unknown,
        };
        self.share_for(owner)
    }

    /// The share of a request whose class is worked out again.
    pub(super) fn share_again(&mut self, key: &ClassKey, handle: Handle, data: u32) -> u32 {
        match &self.config.fair_share {
            None => NIL,
            Some(ShareBy::Hint(_)) => self.share_of_new(data),
            Some(by) if key.share != NIL && self.shares.at(key.share).owner.is_by(by) => key.share,
            Some(_) => {
                self.look_up_later(handle);
                self.share_for(Owner::Unknown)
            }
        }
    }

    /// The share of a file with these attributes.
    pub(super) fn share_of_file(&mut self, attributes: &Attributes) -> Option<u32> {
        let owner = match self.config.fair_share.as_ref()? {
            ShareBy::User => Owner::User(attributes.uid),
            ShareBy::Group => Owner::Group(attributes.gid),
            ShareBy::Project => Owner::Project(attributes.project),
            ShareBy::Job => Owner::Job(attributes.job.clone()?),
            ShareBy::Hint(_) => return None,
        };
        Some(self.share_for(owner))
    }

    fn share_for(&mut self, owner: Owner) -> u32 {
        let share = self.shares.intern(owner);
        self.shares.weigh(share, self.config_version, &self.config.share_weights);
        share
    }

    /// Whether shares are by what is known of files.
    pub(super) fn shares_by_file(&self) -> bool {
        !matches!(self.config.fair_share, None | Some(ShareBy::Hint(_)))
    }

    /// Whether the request is in the share of the unknown for want of a look at its file.
    pub(super) fn lacks_share(&self, handle: Handle) -> bool {
        let share = self.classes.at(self.requests.at(handle).class).key.share;
        self.shares_by_file() && share != NIL && self.shares.at(share).owner == Owner::Unknown
    }

    /// A request enters a class, which is new if `new`.
    pub(super) fn join_share(&mut self, key: &ClassKey, new: bool) {
        if key.share == NIL {
            return;
        }
        if new {
            self.shares.hold(key.share);
        }
        if key.kind == Kind::Restore {
            self.shares.at_mut(key.share).restores += 1;
        }
    }

    /// A request leaves a class, which is gone if `last`.
    pub(super) fn leave_share(&mut self, key: &ClassKey, last: bool) {
        if key.share == NIL {
            return;
        }
        if key.kind == Kind::Restore {
            self.shares.at_mut(key.share).restores -= 1;
        }
        if last {
            self.shares.release(key.share);
        }
    }

    /// A request enters (`1`) or leaves (`-1`) the queue of a class.
    pub(super) fn count_in_share(&mut self, class: u32, change: i64) {
        let key = self.classes.at(class).key;
        if key.is_plain() {
            return;
        }
        if key.share != NIL {
            self.shares.weigh(key.share, self.config_version, &self.config.share_weights);
            self.shares.count(key.share, key.lane.at(), change);
        }
        if key.tape == NIL {
            self.update_group(&key, |group| group.queued = group.queued.wrapping_add_signed(change as i32));
        }
    }

    /// Does something to the group of a class that is not plain.
    pub(super) fn update_group(&mut self, key: &ClassKey, change: impl FnOnce(&mut Group)) {
        if key.is_plain() {
            return;
        }
        let plain = key.plain();
        let group = self.groups.entry(plain).or_default();
        change(group);
        if group.is_empty() {
            self.groups.remove(&plain);
        }
    }

    /// How a class with this first request stands; `None` while nobody may have its tape.
    pub(super) fn standing(&self, key: &ClassKey, head: Handle) -> Option<Standing> {
        let floor = if key.tape == NIL { 0 } else { self.tapes.at(key.tape).floor };
        let standing =
            Standing { turn: self.shares.turn(key.share, key.lane), due: self.due(head).max(floor) };
        self.tapes.is_offered(key.tape).then_some(standing)
    }

    /// Whether the share of a class has had a turn since the class was put on its shelves.
    pub(super) fn is_stale(&self, class: u32) -> bool {
        let entry = self.classes.at(class);
        let turn = self.shares.turn(entry.key.share, entry.key.lane);
        entry.standing.is_some_and(|standing| standing.turn != turn)
    }

    /// A request of this class is given to a mover.
    pub(super) fn charge_share(&mut self, key: &ClassKey) {
        if key.share != NIL {
            self.shares.charge(key.share, key.lane.at());
        }
    }
}
