//! What is going on, gathered in steps: no step looks at more than a few thousand queues, however many there are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use super::batches::TagKey;
use super::duty::Duty;
use super::index::NIL;
use super::mover_views::{Load, MoverView, OwnerLoad, TagLoad, Top};
use super::quarantine::Quarantine;
use super::queues::Place;
use super::requests::{Handle, Kind};
use super::shares::Owner;
use super::timers::Timer;
use super::window::Window;
use super::{Coordinator, Now};

/// Over what time ends per second are counted.
pub(super) const PACE: Duration = Duration::from_secs(60);

/// Queues or batches looked at in one step.
pub(super) const LOOK: u32 = 4096;
/// Movers looked at in one step: each is copied.
pub(super) const LOOK_MOVERS: usize = 256;

fn rate(pace: Window, now: Now) -> f64 {
    let (failed, done) = pace.counts(PACE, now.mono);
    (f64::from(failed) + f64::from(done)) / PACE.as_secs_f64()
}

/// What comes next.
#[derive(Debug)]
enum Stage {
    /// The batches with the most work are found.
    Tags(u32),
    /// All queues, for the oldest of each and what each owner has.
    Classes(u32),
    /// Those with the most are found among all owners.
    Owners,
    /// Movers that are connected (`true`), then those that are away, after this order.
    Movers(bool, Bound<u64>),
    /// Those that are drained or in quarantine and of which nothing else is known, after this name.
    Awaited(Option<Box<str>>),
    Done,
}

/// What one owner has here.
#[derive(Debug, Default)]
struct Having {
    waiting: u64,
    running: u64,
    oldest: Option<Duration>,
}

/// A walk over queues, batches and movers, carried on by [`Coordinator::top_step`]. What is found belongs to the moment
/// of its step: a request that moves meanwhile may be seen twice or not at all.
#[derive(Debug)]
pub struct TopWalk {
    most: usize,
    stage: Option<Stage>,
    /// (work, which) of the batches with the most.
    picked: BTreeSet<(u64, Reverse<u32>)>,
    with_work: usize,
    tags: BTreeMap<u32, (TagKey, TagLoad)>,
    oldest: BTreeMap<(Kind, u32), Option<Duration>>,
    own: BTreeMap<u32, Option<Duration>>,
    owners: BTreeMap<Owner, Having>,
    /// Those with the most work, by how much.
    first_owners: BTreeMap<(u64, Reverse<Owner>), Having>,
    owners_with_work: usize,
    /// All movers and peers, connected ones first.
    pub movers: Vec<MoverView>,
    loads: Vec<(String, Load)>,
    /// What was found, complete after the last step.
    pub top: Top,
}

impl TopWalk {
    /// One that shows at most so many batches, and as many owners.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            stage: Some(Stage::Tags(0)),
            picked: BTreeSet::new(),
            with_work: 0,
            tags: BTreeMap::new(),
            oldest: BTreeMap::new(),
            own: BTreeMap::new(),
            owners: BTreeMap::new(),
            first_owners: BTreeMap::new(),
            owners_with_work: 0,
            movers: Vec::new(),
            loads: Vec::new(),
            top: Top::default(),
        }
    }

    fn pick_owners(&mut self) -> Stage {
        for _ in 0..LOOK {
            let Some((owner, having)) = self.owners.pop_first() else {
                return Stage::Movers(true, Bound::Unbounded);
            };
            let work = having.waiting + having.running;
            if work == 0 {
                continue;
            }
            self.owners_with_work += 1;
            self.first_owners.insert((work, Reverse(owner)), having);
            if self.first_owners.len() > self.most {
                self.first_owners.pop_first();
            }
        }
        Stage::Owners
    }
}

impl Coordinator {
    fn age(&self, handle: Handle, now: Now) -> Option<Duration> {
        let age = |handle| now.mono.0.saturating_sub(self.requests.at(handle).queued.0);
        (handle != NIL).then(|| Duration::from_nanos(age(handle)))
    }

    /// Goes on with a walk. Returns whether it is over.
    pub fn top_step(&self, walk: &mut TopWalk, now: Now) -> bool {
        let Some(stage) = walk.stage.take() else {
            return true;
        };
        let next = match stage {
            Stage::Tags(from) => self.walk_tags(walk, from),
            Stage::Classes(from) => self.walk_classes(walk, from, now),
            Stage::Owners => walk.pick_owners(),
            Stage::Movers(connected, after) => self.walk_movers(walk, connected, after, now),
            Stage::Awaited(after) => self.walk_awaited(walk, after, now),
            Stage::Done => {
                self.finish_top(walk, now);
                return true;
            }
        };
        walk.stage = Some(next);
        false
    }

    fn walk_tags(&self, walk: &mut TopWalk, from: u32) -> Stage {
        let end = self.tags.capacity();
        let stop = end.min(from.saturating_add(LOOK));
        for id in from..stop {
            let entry = self.tags.at(id);
            let work = entry.queued + entry.running;
            if work == 0 || !self.tags.in_use(id) {
                continue;
            }
            walk.with_work += 1;
            walk.picked.insert((work, Reverse(id)));
            if walk.picked.len() > walk.most {
                walk.picked.pop_first();
            }
        }
        if stop < end {
            return Stage::Tags(stop);
        }
        for &(_, Reverse(id)) in &walk.picked {
            // One that went in an earlier step of ours has nothing any more.
            if !self.tags.in_use(id) {
                continue;
            }
            let entry = self.tags.at(id);
            let load = TagLoad {
                tag: self.data.at(entry.key.label).bytes[..].into(),
                archive_id: entry.key.archive_id,
                waiting: entry.queued,
                running: entry.running,
                oldest: None,
                movers: entry.slots.keys().map(|&mover| self.movers.at(mover).id.to_string()).collect(),
            };
            walk.tags.insert(id, (entry.key, load));
        }
        Stage::Classes(0)
    }

    fn walk_classes(&self, walk: &mut TopWalk, from: u32, now: Now) -> Stage {
        let end = self.classes.capacity();
        let stop = end.min(from.saturating_add(LOOK));
        for id in (from..stop).filter(|&id| self.classes.in_use(id)) {
            let class = self.classes.at(id);
            let (key, age) = (class.key, self.age(class.list.head, now));
            let oldest = walk.oldest.entry((key.kind, key.archive_id)).or_default();
            *oldest = age.max(*oldest);
            if let Place::Host(host) = key.place {
                let oldest = walk.own.entry(host).or_default();
                *oldest = age.max(*oldest);
            }
            // The id of a batch that is gone may be another's by now.
            if let Some((of, load)) = walk.tags.get_mut(&key.tag)
                && *of == self.tags.at(key.tag).key
            {
                load.oldest = age.max(load.oldest);
            }
            if key.share != NIL {
                let owner = &self.shares.at(key.share).owner;
                if !walk.owners.contains_key(owner) {
                    walk.owners.insert(owner.clone(), Having::default());
                }
                if let Some(having) = walk.owners.get_mut(owner) {
                    having.waiting += u64::from(class.refs - class.running);
                    having.running += u64::from(class.running);
                    having.oldest = age.max(having.oldest);
                }
            }
        }
        if stop < end { Stage::Classes(stop) } else { Stage::Owners }
    }

    fn walk_movers(&self, walk: &mut TopWalk, connected: bool, after: Bound<u64>, now: Now) -> Stage {
        let movers = if connected { &self.movers.connected } else { &self.movers.disconnected };
        let mut last = None;
        for (&order, &mover) in movers.range((after, Bound::Unbounded)).take(LOOK_MOVERS) {
            last = Some(order);
            let view = self.mover_view(mover, now);
            if view.is_mover {
                let entry = self.movers.at(mover);
                let load = Load {
                    waiting: view.own_queue,
                    running: entry.load(),
                    oldest: walk.own.get(&entry.host).copied().flatten(),
                    done: entry.done.iter().sum::<u64>().saturating_sub(view.failed),
                    failed: view.failed,
                    rate: rate(entry.pace, now),
                };
                walk.loads.push((view.id.clone(), load));
            }
            walk.movers.push(view);
        }
        match last {
            Some(order) => Stage::Movers(connected, Bound::Excluded(order)),
            None if connected => Stage::Movers(false, Bound::Unbounded),
            None => Stage::Awaited(None),
        }
    }

    fn walk_awaited(&self, walk: &mut TopWalk, after: Option<Box<str>>, now: Now) -> Stage {
        let mut last = None;
        for (name, duty) in self.duties.after(after.as_deref()).take(LOOK_MOVERS) {
            last = Some(name.into());
            if duty.matters() && self.mover_named(name).is_none() {
                let nobody = MoverView { id: name.to_owned(), is_mover: true, ..MoverView::default() };
                walk.movers.push(self.with_duty(nobody, Some(duty), now));
            }
        }
        if last.is_some() { Stage::Awaited(last) } else { Stage::Done }
    }

    fn finish_top(&self, walk: &mut TopWalk, now: Now) {
        let classes = self.history.flows.iter().map(|(key, flow)| {
            let load = Load {
                waiting: flow.waiting,
                running: flow.running,
                oldest: walk.oldest.get(key).copied().flatten(),
                done: flow.done,
                failed: flow.failed,
                rate: self.history.paces.get(key).map_or(0.0, |pace| rate(*pace, now)),
            };
            (key.0.action(), key.1, load)
        });
        let mut order: Vec<u32> = walk.picked.iter().rev().map(|&(_, Reverse(id))| id).collect();
        order.retain(|id| walk.tags.contains_key(id));
        let owners = std::mem::take(&mut walk.first_owners);
        let more_owners = walk.owners_with_work - owners.len();
        let owners = owners.into_iter().rev().map(|((_, Reverse(owner)), having)| {
            let tally = self.history.owners.get(&owner);
            let load = Load {
                waiting: having.waiting,
                running: having.running,
                oldest: having.oldest,
                done: tally.map_or(0, |tally| tally.done),
                failed: tally.map_or(0, |tally| tally.failed),
                rate: tally.map_or(0.0, |tally| rate(tally.pace, now)),
            };
            OwnerLoad { kind: owner.kind(), name: owner.name(), load }
        });
        walk.top = Top {
            classes: classes.collect(),
            movers: std::mem::take(&mut walk.loads),
            more_tags: walk.with_work.saturating_sub(order.len()),
            tags: order.into_iter().filter_map(|id| walk.tags.remove(&id)).map(|(_, load)| load).collect(),
            owners: owners.collect(),
            more_owners,
        };
    }

    fn mover_view(&self, mover: u32, now: Now) -> MoverView {
        let entry = self.movers.at(mover);
        let duty = self.duty(mover);
        let grace = self.timers.at(Timer::Grace(mover)).unwrap_or(now.mono);
        let slot =
            |tag: u32| (tag != NIL).then(|| self.data.at(self.tags.at(tag).key.label).bytes[..].into());
        let held_back = duty.is_some_and(|duty| duty.drained || duty.quarantine.is_some());
        let view = MoverView {
            id: entry.id.to_string(),
            anonymous: entry.host == NIL,
            is_mover: entry.is_mover,
            connected: entry.conn.is_some(),
            away: entry.conn.is_none().then(|| (entry.disconnected_at, now.wall_at(grace))),
            waiting: entry.waiting.is_some(),
            archive_ids: entry.archive_ids.clone(),
            running: entry.running,
            most: entry.recv.map_or([None; 3], |recv| [recv.max_restore, recv.max_remove, recv.max_archive]),
            done: entry.done,
            own_queue: if entry.host == NIL { 0 } else { self.hosts.at(entry.host).queued },
            cancels: entry.cancels.len() as u64,
            slots: entry.slots.iter().map(|entry| slot(entry.tag)).collect(),
            limited: entry.allowance == Some(0) && !held_back,
            lease_until: entry.lease_until.map(|at| now.wall_at(at)),
            ..MoverView::default()
        };
        self.with_duty(view, duty, now)
    }

    /// A view with what is known by the mover's name alone.
    fn with_duty(&self, view: MoverView, duty: Option<&Duty>, now: Now) -> MoverView {
        let Some(duty) = duty else {
            return view;
        };
        MoverView {
            failed: duty.failed,
            errors: duty.errors.iter().map(|(&errno, &count)| (errno, count)).collect(),
            bytes: duty.moved.iter().map(|(&(kind, id), &bytes)| (kind.action(), id, bytes)).collect(),
            recent: duty.window.counts(self.config.quarantine.window, now.mono),
            drained: duty.drained,
            limit: duty.most,
            quarantined: match duty.quarantine {
                Some(Quarantine::Until(at)) => Some(now.wall_at(at)),
                _ => None,
            },
            on_probation: matches!(duty.quarantine, Some(Quarantine::Trial(_))),
            ..view
        }
    }

    /// How many requests wait and run, by kind; used by the check of invariants.
    pub(super) fn flow_totals(&self) -> ([u64; 3], [u64; 3]) {
        let mut totals = ([0; 3], [0; 3]);
        for ((kind, _), flow) in &self.history.flows {
            totals.0[kind.at()] += flow.waiting;
            totals.1[kind.at()] += flow.running;
        }
        totals
    }
}
