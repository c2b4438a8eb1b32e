//! What is going on, from counters.

use std::collections::BTreeMap;
use std::time::Duration;

use super::index::NIL;
use super::mover_views::{Load, MoverView, TagLoad, Top};
use super::quarantine::Quarantine;
use super::queues::Place;
use super::requests::Handle;
use super::timers::Timer;
use super::window::Window;
use super::{Coordinator, Now};

/// Over what time ends per second are counted.
pub(super) const PACE: Duration = Duration::from_secs(60);

fn rate(pace: Window, now: Now) -> f64 {
    let (failed, done) = pace.counts(PACE, now.mono);
    (f64::from(failed) + f64::from(done)) / PACE.as_secs_f64()
}

fn older(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.max(other)
}

impl Coordinator {
    fn age(&self, handle: Handle, now: Now) -> Option<Duration> {
        let age = |handle| now.mono.0.saturating_sub(self.requests.at(handle).queued.0);
        (handle != NIL).then(|| Duration::from_nanos(age(handle)))
    }

    /// What is going on, with at most so many batches. Costs the number of queues and movers.
    pub fn top(&self, now: Now, most_tags: usize) -> Top {
        let mut oldest = BTreeMap::new();
        let mut own = BTreeMap::new();
        let mut tagged = BTreeMap::new();
        for id in self.classes.ids() {
            let class = self.classes.at(id);
            let age = self.age(class.list.head, now);
            let entry = oldest.entry((class.key.kind, class.key.archive_id)).or_insert(None);
            *entry = older(*entry, age);
            if let Place::Host(host) = class.key.place {
                let entry = own.entry(host).or_insert(None);
                *entry = older(*entry, age);
            }
            if class.key.tag != NIL {
                let entry = tagged.entry(class.key.tag).or_insert(None);
                *entry = older(*entry, age);
            }
        }
        let classes = self.history.flows.iter().map(|(key, flow)| {
            let load = Load {
                waiting: flow.waiting,
                running: flow.running,
                oldest: oldest.get(key).copied().flatten(),
                done: flow.done,
                failed: flow.failed,
                rate: self.history.paces.get(key).map_or(0.0, |pace| rate(*pace, now)),
            };
            (key.0.action(), key.1, load)
        });
        let movers = self.movers.everyone().into_iter().filter(|&mover| self.movers.at(mover).is_mover);
        let movers = movers.map(|mover| {
            let entry = self.movers.at(mover);
            let failed = self.duty(mover).map_or(0, |duty| duty.failed);
            let load = Load {
                waiting: if entry.host == NIL { 0 } else { self.hosts.at(entry.host).queued },
                running: entry.load(),
                oldest: own.get(&entry.host).copied().flatten(),
                done: entry.done.iter().sum::<u64>().saturating_sub(failed),
                failed,
                rate: rate(entry.pace, now),
            };
            (entry.id.to_string(), load)
        });
        let mut tags: Vec<u32> = self.tags.ids().collect();
        tags.retain(|&tag| self.tags.at(tag).queued + self.tags.at(tag).running > 0);
        tags.sort_by_key(|&tag| {
            (std::cmp::Reverse(self.tags.at(tag).queued + self.tags.at(tag).running), tag)
        });
        let more_tags = tags.len().saturating_sub(most_tags);
        tags.truncate(most_tags);
        let tags = tags.into_iter().map(|tag| {
            let entry = self.tags.at(tag);
            TagLoad {
                tag: self.data.at(entry.key.label).bytes[..].into(),
                archive_id: entry.key.archive_id,
                waiting: entry.queued,
                running: entry.running,
                oldest: tagged.get(&tag).copied().flatten(),
                movers: entry.slots.keys().map(|&mover| self.movers.at(mover).id.to_string()).collect(),
            }
        });
        Top { classes: classes.collect(), movers: movers.collect(), tags: tags.collect(), more_tags }
    }

    /// All movers and peers, connected ones first. Costs their number.
    pub fn movers_view(&self) -> Vec<MoverView> {
        let now = self.now;
        self.movers.everyone().into_iter().map(|mover| self.mover_view(mover, now)).collect()
    }

    fn mover_view(&self, mover: u32, now: Now) -> MoverView {
        let entry = self.movers.at(mover);
        let duty = self.duty(mover);
        let quarantine = duty.and_then(|duty| duty.quarantine);
        let grace = self.timers.at(Timer::Grace(mover)).unwrap_or(now.mono);
        let slot =
            |tag: u32| (tag != NIL).then(|| self.data.at(self.tags.at(tag).key.label).bytes[..].into());
        let held_back = duty.is_some_and(|duty| duty.drained || duty.quarantine.is_some());
        MoverView {
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
            failed: duty.map_or(0, |duty| duty.failed),
            recent: duty.map_or((0, 0), |duty| duty.window.counts(self.config.quarantine.window, now.mono)),
            own_queue: if entry.host == NIL { 0 } else { self.hosts.at(entry.host).queued },
            cancels: entry.cancels.len() as u64,
            slots: entry.slots.iter().map(|entry| slot(entry.tag)).collect(),
            drained: duty.is_some_and(|duty| duty.drained),
            quarantined: match quarantine {
                Some(Quarantine::Until(at)) => Some(now.wall_at(at)),
                _ => None,
            },
            on_probation: matches!(quarantine, Some(Quarantine::Trial(_))),
            limited: entry.allowance == Some(0) && !held_back,
            lease_until: entry.lease_until.map(|at| now.wall_at(at)),
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
