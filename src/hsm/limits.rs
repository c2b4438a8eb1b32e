//! Limits of the configuration on what runs at the same time, by mover, hint and user.
//!
//! A request whose hint or user is at its limit is set aside when its turn comes, in the order of admission, and comes
//! back to the head of its queue when there is room: so what is behind it goes on. A request that comes later joins those
//! that are set aside already.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Coordinator;
use super::bucket::{Bucket, Rate};
use super::coordinator::SLICE;
use super::hints::{hint_value, without_nuls};
use super::requests::{Handle, State};
use super::time::Mono;
use super::timers::Timer;

/// When there is room but those who were let in have not taken it, others are let in after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// Requests at the same time (`max=`).
    pub max: Option<u32>,
    /// Bytes of files at the same time, where sizes are known; one request may always run (`bytes=`).
    pub bytes: Option<u64>,
    /// Requests begun per time (`rate=`).
    pub rate: Option<Rate>,
}

/// All limits of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// `limit_mover ID`; `*` for each of the others.
    pub movers: Vec<(String, Limit)>,
    /// `limit_hint NAME=VALUE`: the name with its `=`, and the value; `None` (`*`) for each of the others.
    pub hints: Vec<(String, Option<String>, Limit)>,
    /// `limit_user UID`; `None` (`*`) for each of the others.
    pub users: Vec<(Option<u32>, Limit)>,
}

impl Limits {
    pub(super) fn of_mover(&self, name: &str) -> Option<Limit> {
        let named = self.movers.iter().find(|(id, _)| id == name);
        named.or_else(|| self.movers.iter().find(|(id, _)| id == "*")).map(|(_, limit)| *limit)
    }

    fn of_hint(&self, name: &str, value: &[u8]) -> Option<Limit> {
        let of_name = || self.hints.iter().filter(|(hint, _, _)| hint == name);
        let named = of_name().find(|(_, of, _)| of.as_ref().is_some_and(|of| of.as_bytes() == value));
        named.or_else(|| of_name().find(|(_, of, _)| of.is_none())).map(|(_, _, limit)| *limit)
    }

    fn of_user(&self, user: u32) -> Option<Limit> {
        let named = self.users.iter().find(|(of, _)| *of == Some(user));
        named.or_else(|| self.users.iter().find(|(of, _)| of.is_none())).map(|(_, limit)| *limit)
    }

    pub(super) fn any(&self) -> bool {
        !(self.movers.is_empty() && self.hints.is_empty() && self.users.is_empty())
    }
}

/// Requests under one limit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    /// With this hint (its name ends in `=`) and value.
    Hint(Box<str>, Box<[u8]>),
    /// Of files of this user.
    User(u32),
}

/// What runs and what waits under one limit.
#[derive(Debug, Default)]
struct Usage {
    running: u32,
    bytes: u64,
    bucket: Bucket,
    /// By age.
    waiting: BTreeSet<(i64, Handle)>,
    /// When it is looked at for its rate.
    wake: Option<Mono>,
}

/// What a running request counts for.
#[derive(Debug)]
struct Charge {
    groups: Box<[Group]>,
    bytes: u64,
}

/// What runs and what waits under limits.
#[derive(Debug, Default)]
pub(super) struct Limited {
    usage: BTreeMap<Group, Usage>,
    charges: BTreeMap<Handle, Charge>,
    /// Where what is set aside waits.
    waiting: BTreeMap<Handle, Group>,
    wakes: BTreeSet<(Mono, Group)>,
    /// Groups whose limit is gone: everybody is let in.
    opening: BTreeSet<Group>,
}

/// A limit that is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) group: Group,
    pub(super) running: u32,
    /// When there is room again, for a rate.
    pub(super) until: Option<Mono>,
}

impl Group {
    /// The line of the configuration that it comes from, in short.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Hint(name, value) => format!("limit_hint {name}{}", String::from_utf8_lossy(value)),
            Self::User(user) => format!("limit_user {user}"),
        }
    }
}

impl Coordinator {
    /// Whether a limit, or the count of bytes, needs to know whose file a request is for, or how large it is.
    pub(super) fn limits_want_files(&self) -> bool {
        let limits = &self.config.limits;
        let bytes = |limit: &Limit| limit.bytes.is_some();
        self.config.count_bytes
            || !limits.users.is_empty()
            || limits.hints.iter().any(|(_, _, limit)| bytes(limit))
            || limits.movers.iter().any(|(_, limit)| bytes(limit))
    }

    /// Bytes of the request's file that are to be moved, if they are known.
    pub(super) fn size_of(&self, handle: Handle) -> Option<u64> {
        let length = self.requests.rare(handle).map(|rare| rare.extent_length);
        length.filter(|&length| length != u64::MAX).or_else(|| self.file_of(handle).map(|file| file.size))
    }

    /// The limits that a request counts for, those of movers apart.
    fn groups_of(&self, handle: Handle) -> Vec<Group> {
        let limits = &self.config.limits;
        let mut groups = Vec::new();
        if !limits.hints.is_empty() {
            let data = without_nuls(&self.data.at(self.requests.at(handle).data).bytes);
            for (name, _, _) in &limits.hints {
                if let Some(value) = hint_value(data, name.as_bytes())
                    && limits.of_hint(name, value).is_some()
                {
                    groups.push(Group::Hint(name.as_str().into(), value.into()));
                }
            }
        }
        if !limits.users.is_empty()
            && let Some(user) = self.user_of(handle)
            && limits.of_user(user).is_some()
        {
            groups.push(Group::User(user));
        }
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    fn limit_of(&self, group: &Group) -> Option<Limit> {
        match group {
            Group::Hint(name, value) => self.config.limits.of_hint(name, value),
            Group::User(user) => self.config.limits.of_user(*user),
        }
    }

    /// Whether a group has no room for a request, and until when where that is only a matter of time.
    fn is_full(&self, group: &Group) -> Option<Option<Mono>> {
        let limit = self.limit_of(group)?;
        let usage = self.limited.usage.get(group);
        let (running, bytes) = usage.map_or((0, 0), |usage| (usage.running, usage.bytes));
        if limit.max.is_some_and(|max| running >= max)
            || (running > 0 && limit.bytes.is_some_and(|most| bytes >= most))
        {
            return Some(None);
        }
        let rate = limit.rate?;
        let bucket = usage.map_or_else(Bucket::default, |usage| usage.bucket);
        (bucket.room(rate, self.now.mono) == 0).then(|| Some(bucket.open_at(rate)))
    }

    /// The limit that keeps a request from being sent now.
    pub(super) fn limit_reached(&self, handle: Handle) -> Option<Reached> {
        if self.config.limits.hints.is_empty() && self.config.limits.users.is_empty() {
            return None;
        }
        self.groups_of(handle).into_iter().find_map(|group| {
            let until = self.is_full(&group)?;
            let running = self.limited.usage.get(&group).map_or(0, |usage| usage.running);
            Some(Reached { group, running, until })
        })
    }

    /// The limit for which a request is set aside.
    pub(super) fn limited_by(&self, handle: Handle) -> Option<Reached> {
        let group = self.limited.waiting.get(&handle)?.clone();
        let until = self.is_full(&group).flatten();
        let running = self.limited.usage.get(&group).map_or(0, |usage| usage.running);
        Some(Reached { group, running, until })
    }

    /// Sets a loose request aside if a limit is reached. Returns whether it did.
    pub(super) fn set_aside_if_limited(&mut self, handle: Handle) -> bool {
        let Some(reached) = self.limit_reached(handle) else {
            return false;
        };
        self.set_aside(handle, reached.group, reached.until);
        true
    }

    /// Sets a loose request that has just come aside if others wait for the same limit. Returns whether it did.
    pub(super) fn joins_limited(&mut self, handle: Handle) -> bool {
        if self.limited.waiting.is_empty() {
            return false;
        }
        let waits = |group: &Group| {
            self.limited.usage.get(group).is_some_and(|usage| !usage.waiting.is_empty())
                && self.is_full(group).is_some()
        };
        let Some(group) = self.groups_of(handle).into_iter().find(waits) else {
            return false;
        };
        let until = self.is_full(&group).flatten();
        self.set_aside(handle, group, until);
        true
    }

    fn set_aside(&mut self, handle: Handle, group: Group, until: Option<Mono>) {
        let linked = self.next_sequence();
        let request = self.requests.at_mut(handle);
        request.state = State::Limited;
        request.linked = linked;
        let timestamp = request.timestamp;
        self.counts.limited += 1;
        self.limited.usage.entry(group.clone()).or_default().waiting.insert((timestamp, handle));
        self.limited.waiting.insert(handle, group.clone());
        let usage = self.limited.usage.get(&group);
        match until {
            Some(until) => self.wake_limit_at(until, group),
            // It joined others while there is room already.
            None if self.is_full(&group).is_none() && usage.is_some_and(|usage| usage.wake.is_none()) => {
                self.wake_limit_at(self.now.mono + LOOK_AGAIN, group);
            }
            None => {}
        }
    }

    /// Takes a request out of where it is set aside.
    pub(super) fn leave_limited(&mut self, handle: Handle) {
        let timestamp = self.requests.at(handle).timestamp;
        if let Some(group) = self.limited.waiting.remove(&handle)
            && let Some(usage) = self.limited.usage.get_mut(&group)
        {
            usage.waiting.remove(&(timestamp, handle));
            self.forget_usage(&group);
        }
    }

    fn wake_limit_at(&mut self, at: Mono, group: Group) {
        let Some(usage) = self.limited.usage.get_mut(&group) else {
            return;
        };
        if let Some(old) = usage.wake.replace(at) {
            self.limited.wakes.remove(&(old, group.clone()));
        }
        self.limited.wakes.insert((at, group));
        self.arm_limits();
    }

    fn arm_limits(&mut self) {
        match self.limited.wakes.first() {
            Some((at, _)) => self.timers.set(Timer::Limits, *at),
            None => self.timers.clear(Timer::Limits),
        }
    }

    fn forget_usage(&mut self, group: &Group) {
        let Some(usage) = self.limited.usage.get(group) else {
            return;
        };
        let rate = self.limit_of(group).and_then(|limit| limit.rate);
        // A rate is remembered as long as it is in use; the others are looked at when it is over.
        let rested = rate.is_none_or(|rate| usage.bucket.open_at(rate) <= self.now.mono);
        if usage.running > 0 || !usage.waiting.is_empty() {
            return;
        }
        if rested {
            if let Some(usage) = self.limited.usage.remove(group)
                && let Some(wake) = usage.wake
            {
                self.limited.wakes.remove(&(wake, group.clone()));
                self.arm_limits();
            }
        } else if usage.wake.is_none()
            && let Some(rate) = rate
        {
            self.wake_limit_at(usage.bucket.open_at(rate), group.clone());
        }
    }

    /// A request is being sent to a mover: it counts from now on.
    pub(super) fn begin_use(&mut self, handle: Handle, mover: u32) {
        if !self.config.limits.any() {
            self.charge_mover(handle, mover, 0);
            return;
        }
        let bytes = self.size_of(handle).unwrap_or(0);
        let groups = self.groups_of(handle);
        for group in &groups {
            let rate = self.limit_of(group).and_then(|limit| limit.rate);
            let usage = self.limited.usage.entry(group.clone()).or_default();
            usage.running += 1;
            usage.bytes += bytes;
            if let Some(rate) = rate {
                usage.bucket.take(rate, self.now.mono);
            }
        }
        if bytes > 0 || !groups.is_empty() {
            self.limited.charges.insert(handle, Charge { groups: groups.into(), bytes });
        }
        self.charge_mover(handle, mover, bytes);
    }

    /// A request has stopped on a mover: others may have its place.
    pub(super) fn end_use(&mut self, handle: Handle, mover: u32) {
        let Some(Charge { groups, bytes }) = self.limited.charges.remove(&handle) else {
            return self.discharge_mover(handle, mover, 0);
        };
        self.discharge_mover(handle, mover, bytes);
        for group in groups {
            if let Some(usage) = self.limited.usage.get_mut(&group) {
                usage.running = usage.running.saturating_sub(1);
                usage.bytes = usage.bytes.saturating_sub(bytes);
            }
            self.let_in(&group);
            self.forget_usage(&group);
        }
    }

    /// Lets the oldest of what waits for a limit go, one for each that it has room for.
    fn let_in(&mut self, group: &Group) {
        if self.limited.usage.get(group).is_none_or(|usage| usage.waiting.is_empty()) {
            return;
        }
        let Some(limit) = self.limit_of(group) else {
            self.limited.opening.insert(group.clone());
            return self.slice_later();
        };
        if let Some(until) = self.is_full(group) {
            if let Some(until) = until {
                self.wake_limit_at(until, group.clone());
            }
            return;
        }
        let Some(usage) = self.limited.usage.get(group) else {
            return;
        };
        let by_max = limit.max.map_or(u32::MAX, |max| max.saturating_sub(usage.running));
        let by_rate = limit.rate.map_or(u32::MAX, |rate| usage.bucket.room(rate, self.now.mono));
        // By bytes nobody knows beforehand: one after the other.
        let by_bytes = if limit.bytes.is_some() { 1 } else { u32::MAX };
        let room = by_max.min(by_rate).min(by_bytes).min(SLICE as u32) as usize;
        let oldest: Vec<Handle> = usage.waiting.iter().take(room).map(|&(_, handle)| handle).collect();
        // The oldest is to be first, and each goes to the front.
        for handle in oldest.into_iter().rev() {
            self.unqueue(handle);
            self.enqueue(handle, true);
        }
        // Those who were let in may find no mover, or be cancelled: then others are to have the room.
        if self.limited.usage.get(group).is_some_and(|usage| !usage.waiting.is_empty()) {
            self.wake_limit_at(self.now.mono + LOOK_AGAIN, group.clone());
        }
    }

    /// Lets in what waits for limits that are no longer in the configuration, the newest first and each to the front.
    pub(super) fn limits_slice(&mut self, left: &mut usize) {
        while *left > 0 {
            let Some(group) = self.limited.opening.first().cloned() else {
                return;
            };
            let newest = self.limited.usage.get(&group).and_then(|usage| usage.waiting.last().copied());
            let Some((_, handle)) = newest.filter(|_| self.limit_of(&group).is_none()) else {
                self.limited.opening.remove(&group);
                self.let_in(&group);
                continue;
            };
            *left -= 1;
            self.unqueue(handle);
            self.enqueue(handle, true);
        }
    }

    /// Looks at all limits again, after a new configuration.
    pub(super) fn review_limits(&mut self) {
        let groups: Vec<Group> = self.limited.usage.keys().cloned().collect();
        for group in groups {
            self.let_in(&group);
            self.forget_usage(&group);
        }
    }

    /// What is set aside, and what counts, must be what the requests say.
    pub(super) fn check_limits(&self, handle: Handle) {
        let limited = self.requests.at(handle).state == State::Limited;
        let group = self.limited.waiting.get(&handle);
        assert_eq!(limited, group.is_some(), "{} is set aside", self.requests.at(handle).key());
        if let Some(group) = group {
            let usage = &self.limited.usage[group];
            assert!(usage.waiting.contains(&(self.requests.at(handle).timestamp, handle)));
            let full = self.is_full(group).is_some_and(|until| until.is_none());
            let looked_at = usage.wake.is_some() || self.limited.opening.contains(group);
            assert!(full || looked_at, "{} waits for a limit for ever", self.requests.at(handle).key());
        }
        if self.limited.charges.contains_key(&handle) {
            assert_eq!(self.requests.at(handle).state, State::Running, "only what runs counts");
        }
    }

    /// Limits whose time has come.
    pub(super) fn limits_due(&mut self) {
        while let Some((at, _)) = self.limited.wakes.first()
            && *at <= self.now.mono
        {
            let Some((_, group)) = self.limited.wakes.pop_first() else { break };
            if let Some(usage) = self.limited.usage.get_mut(&group) {
                usage.wake = None;
            }
            self.let_in(&group);
            self.forget_usage(&group);
        }
        self.arm_limits();
    }
}
