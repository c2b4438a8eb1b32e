//! Work that no mover can take: nobody who is connected serves its archive, or the hosts of its mapping are away.
//!
//! Since keepalives take away the timeout that would end such requests, they would fill `max_requests` of their MDT for
//! ever, and nothing else would come. So they are shown, complained about, not more than so many of each class, and ended
//! after a time; the MDT is told an error, so users see that it failed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Coordinator;
use super::action::Action;
use super::effect::Effects;
use super::index::NIL;
use super::queues::{ClassKey, Crews, Place};
use super::requests::{Handle, State};
use super::time::Mono;
use super::timers::Timer;
use super::views::Outcome;

/// How often classes are looked at.
const EVERY: Duration = Duration::from_secs(30);
/// Looking is this much rarer than the shortest time that matters.
const SHARE: u32 = 8;
/// How long a class may be without a mover before anybody is told: movers restart.
const TOLD_AFTER: Duration = Duration::from_secs(60);
/// How often the same class is complained about.
const TOLD_EVERY: Duration = Duration::from_secs(3600);
/// Classes looked at in one step.
const CLASSES_PER_STEP: u32 = 256;
/// Requests ended in one step.
const ENDED_PER_STEP: u32 = 256;

/// The MDT's users see that no device was there for what was one too many.
const ENODEV: i32 = 19;
/// The MDT's users see that it took too long.
const ETIMEDOUT: i32 = 110;

/// Requests that no connected mover can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranded {
    /// What they ask for.
    pub action: Action,
    /// Their archive id.
    pub archive_id: u32,
    /// The hosts that could take them; empty for any that serves the archive.
    pub hosts: Vec<String>,
    /// How many are queued.
    pub requests: u64,
    /// For how long there has been no mover for them.
    pub lasted: Duration,
}

#[derive(Debug)]
struct Entry {
    key: ClassKey,
    since: Mono,
    told: Option<Mono>,
}

/// Classes without a mover.
#[derive(Debug, Default)]
pub(super) struct Strandings {
    of: BTreeMap<u32, Entry>,
    armed: bool,
    /// The class to be looked at next, while a look is under way.
    at: Option<u32>,
    /// Requests counted so far in this look, and in the last one.
    counting: u64,
    counted: u64,
}

impl Coordinator {
    /// Requests that no connected mover can take, by class; those that have been so only since the last look are missing.
    pub fn stranded(&self) -> Vec<Stranded> {
        let known = self.strandings.of.iter().filter(|(id, entry)| self.is_stranded(**id, &entry.key));
        known
            .map(|(&id, entry)| Stranded {
                action: entry.key.kind.action(),
                archive_id: entry.key.archive_id,
                hosts: self.hosts_of(entry.key.place),
                requests: self.queued_in(id),
                lasted: self.now.mono.since(entry.since),
            })
            .collect()
    }

    /// Requests that no mover could take when this was last looked at.
    pub(super) fn stranded_requests(&self) -> u64 {
        self.strandings.counted
    }

    fn queued_in(&self, class: u32) -> u64 {
        u64::from(self.classes.at(class).list.len)
    }

    fn hosts_of(&self, place: Place) -> Vec<String> {
        let name = |host: &u32| self.hosts.at(*host).name.to_string();
        match place {
            Place::Any => Vec::new(),
            Place::Host(host) => vec![name(&host)],
            Place::Set(set) => self.hosts.sets[set as usize].hosts.iter().map(name).collect(),
        }
    }

    /// Whether requests are queued in this class and nobody who is connected can take them.
    fn is_stranded(&self, id: u32, key: &ClassKey) -> bool {
        self.classes.in_use(id)
            && self.classes.at(id).key == *key
            && !self.classes.at(id).list.is_empty()
            && !self.has_taker(key)
    }

    /// Whether a mover that is connected may take requests of this class, now or when it has room.
    pub(super) fn has_taker(&self, key: &ClassKey) -> bool {
        let takes = |host: &u32| {
            let mover = self.hosts.at(*host).mover;
            mover != NIL && {
                let entry = self.movers.at(mover);
                entry.conn.is_some() && serves(&self.crews, &entry.archive_ids, key.archive_id)
            }
        };
        match key.place {
            Place::Any => self.crews.serving(key.archive_id) > 0,
            Place::Host(host) => takes(&host),
            Place::Set(set) => self.hosts.sets[set as usize].hosts.iter().any(takes),
        }
    }

    /// There is something queued: it is looked at now and then.
    pub(super) fn arm_strandings(&mut self) {
        if !self.strandings.armed {
            self.strandings.armed = true;
            let every = match self.config.stranded_timeout {
                Duration::ZERO => EVERY,
                timeout => (timeout / SHARE).clamp(Duration::from_millis(100), EVERY),
            };
            self.timers.set(Timer::Stranded, self.now.mono + every);
        }
    }

    /// A request was forgotten: when it was the last, nothing can be stranded.
    pub(super) fn disarm_strandings(&mut self) {
        if self.requests.slab.len() == 0 {
            self.strandings = Strandings::default();
            self.timers.clear(Timer::Stranded);
        }
    }

    /// Looks at some classes.
    pub(super) fn look_for_stranded(&mut self, effects: &mut Effects) {
        let mut id = self.strandings.at.take().unwrap_or(0);
        let end = self.classes.capacity();
        let until = end.min(id.saturating_add(CLASSES_PER_STEP));
        let mut ended = 0;
        while id < until {
            if !self.look_at_class(id, &mut ended, effects) {
                break;
            }
            id += 1;
        }
        if id < end {
            self.strandings.at = Some(id);
            self.timers.set(Timer::Stranded, Mono(self.now.mono.0 + 1));
            return;
        }
        self.strandings.counted = std::mem::take(&mut self.strandings.counting);
        self.strandings.armed = false;
        if self.requests.slab.len() > 0 {
            self.arm_strandings();
        }
    }

    /// Returns whether nothing of this class is left to be ended in this step.
    fn look_at_class(&mut self, id: u32, ended: &mut u32, effects: &mut Effects) -> bool {
        let key = match self.classes.in_use(id) {
            true => self.classes.at(id).key,
            false => {
                self.strandings.of.remove(&id);
                return true;
            }
        };
        if !self.is_stranded(id, &key) {
            self.strandings.of.remove(&id);
            return true;
        }
        let now = self.now.mono;
        let entry = self.strandings.of.entry(id).or_insert(Entry { key, since: now, told: None });
        if entry.key != key {
            *entry = Entry { key, since: now, told: None };
        }
        let since = entry.since;
        let told = entry.told.is_some_and(|at| now.since(at) < TOLD_EVERY);
        if now.since(since) >= TOLD_AFTER && !told {
            entry.told = Some(now);
            tracing::warn!(
                action = %key.kind.action(),
                archive_id = key.archive_id,
                hosts = self.hosts_of(key.place).join(" "),
                requests = self.queued_in(id),
                seconds = now.since(since).as_secs(),
                "requests wait and no mover that is connected can take them"
            );
        }
        while let Some((handle, errno)) = self.to_be_ended(id, since) {
            if *ended >= ENDED_PER_STEP {
                return false;
            }
            *ended += 1;
            self.end_stranded(handle, errno, effects);
        }
        if self.classes.in_use(id) {
            self.strandings.counting += self.queued_in(id);
        }
        true
    }

    /// The request of a stranded class that is to be ended next, and with what: one that waited too long, or the last to come
    /// of too many.
    fn to_be_ended(&self, id: u32, since: Mono) -> Option<(Handle, i32)> {
        // Nobody could be told, and the requests may be nowhere else.
        self.keepalive_interval()?;
        if !self.classes.in_use(id) {
            return None;
        }
        let list = self.classes.at(id).list;
        let (timeout, most) = (self.config.stranded_timeout, self.config.stranded_max);
        if list.is_empty() {
            return None;
        }
        let queued = self.requests.at(list.head).queued;
        if !timeout.is_zero() && self.now.mono.since(since.max(queued)) >= timeout {
            return Some((list.head, ETIMEDOUT));
        }
        let waited = self.now.mono.since(since) >= TOLD_AFTER;
        (most > 0 && list.len > most && waited).then_some((list.tail, ENODEV))
    }

    fn end_stranded(&mut self, handle: Handle, errno: i32, effects: &mut Effects) {
        let request = self.requests.at(handle);
        assert_eq!(request.state, State::Queued, "what is stranded is queued");
        tracing::warn!(key = %request.key(), errno, "no mover can take this request: ended");
        self.counts.stranded_ended += 1;
        let item = self.item(handle, true);
        self.note_fate(handle, Outcome::Dropped, errno);
        self.note_given_up(handle, errno, effects);
        let errno = self.harmless_error(handle, errno);
        self.owe(&item, errno, effects);
        self.drop_waiting(handle, effects);
        self.end_at_lustre(item, errno, true, effects);
    }
}

/// Whether a mover with these archive ids serves an archive. Archive 0 is everybody's while nobody serves all.
fn serves(crews: &Crews, ids: &[u32], archive_id: u32) -> bool {
    ids.is_empty() || ids.contains(&archive_id) || (archive_id == 0 && crews.all.connected == 0)
}
