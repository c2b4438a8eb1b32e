//! Looking at resources: when, where, and how.

use std::time::Duration;

use super::knowledge::SubjectId;
use super::machine::Engine;
use super::timers::Timer;
use crate::ha::ids::{GroupId, HostId, ResourceId};
use crate::ha::protocol::Action;
use crate::time::{Mono, Now};

/// A managed resource that runs is looked for on its other hosts this many times less often.
const ELSEWHERE: u32 = 6;

/// A fixed part of `interval` for each name, so that things that happen regularly do not all happen at once.
pub(super) fn spread(name: &str, interval: Duration) -> Duration {
    part(name.bytes(), interval)
}

fn part(name: impl Iterator<Item = u8>, interval: Duration) -> Duration {
    // FNV-1a, finished as in MurmurHash3: names that differ in one digit must not be neighbours.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    let nanos = (u128::from(hash) * interval.as_nanos()) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// The first time after `now` that is `place` into a cycle of `interval`. However many things are done at once, what follows
/// from them regularly is spread again within one cycle, and answers that take their time do not make cycles longer.
pub(super) fn next_in_cycle(now: Mono, interval: Duration, place: Duration) -> Mono {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let cycle = nanos(interval).max(1);
    let since = (now.0 % cycle + cycle - nanos(place) % cycle) % cycle;
    now + Duration::from_nanos(cycle - since)
}

impl Engine {
    /// Looks at a resource on a host now, unless an order on it is under way already.
    pub(super) fn look(&mut self, now: Now, subject: SubjectId, host: &HostId) {
        let busy = self
            .subjects
            .get(&subject)
            .and_then(|subject| subject.on.get(host))
            .is_none_or(|known| known.pending.is_some() || !known.unfinished.is_empty());
        if !busy {
            self.order(now, subject, host, Action::Probe);
        }
        self.schedule_look(now, subject, host);
    }

    /// Looks again at whatever has this name.
    pub(super) fn look_again(&mut self, now: Now, host: &HostId, resource: &ResourceId) {
        let subjects: Vec<SubjectId> = self.by_name.get(resource).into_iter().flatten().copied().collect();
        for subject in subjects {
            self.look(now, subject, host);
        }
    }

    pub(super) fn monitor_due(&mut self, now: Now, subject: SubjectId, host: &HostId) {
        if let Some(order) = self.overdue(now, subject, host) {
            let known = self.subjects.get_mut(&subject).and_then(|entry| entry.on.get_mut(host));
            if let Some(known) = known {
                known.overdue = Some(order);
            }
            self.lose_link(now, host, "an order has no result");
        }
        let Some(entry) = self.subjects.get(&subject) else { return };
        let Some(known) = entry.on.get(host) else { return };
        // An agent that was restarted while it started a resource learns by a probe that what is left is the resource.
        if known.pending.is_none() && self.hosts.get(host).is_some_and(|host| host.is_up()) {
            let action = match self.config.resources.get(&entry.spec.id) {
                Some(resource) if entry.current && known.is_running() && known.is_quiet() => {
                    Action::Monitor {
                        depth: resource.monitor_depth,
                        interval_ms: u64::try_from(self.interval(subject, host).as_millis()).unwrap_or(0),
                    }
                }
                _ => Action::Probe,
            };
            self.order(now, subject, host, action);
        }
        self.schedule_look(now, subject, host);
    }

    /// The interval at which it is looked at there.
    fn interval(&self, subject: SubjectId, host: &HostId) -> Duration {
        let settings = &self.config.settings;
        let Some(entry) = self.subjects.get(&subject) else { return settings.monitor_interval };
        let resource = self.config.resources.get(&entry.spec.id).filter(|_| entry.current);
        let advised =
            entry.on.get(host).and_then(|known| known.advised_interval_ms).map(Duration::from_millis);
        let own = resource.and_then(|resource| resource.monitor_interval).or(advised);
        let interval = own.unwrap_or(settings.monitor_interval).max(Duration::from_millis(10));
        let elsewhere = entry.here().iter().any(|here| *here != host);
        let managed = self.group_of(subject).is_some_and(|group| self.is_managed(&group));
        if elsewhere && managed && self.acts() { interval * ELSEWHERE } else { interval }
    }

    /// Sets the time of the next look: at its group's own place in the cycle, within one interval. A group is looked at as a
    /// whole, so that a child is not restarted on a parent that has failed as well.
    pub(super) fn schedule_look(&mut self, now: Now, subject: SubjectId, host: &HostId) {
        let Some(entry) = self.subjects.get(&subject) else { return };
        let resource = self.config.resources.get(&entry.spec.id);
        let name = resource.map_or(entry.spec.id.as_str(), |resource| resource.group.as_str());
        let interval = self.interval(subject, host);
        let place = part(name.bytes().chain([b' ']).chain(host.as_str().bytes()), interval);
        self.timers.set(Timer::Monitor(subject, host.clone()), next_in_cycle(now.mono, interval, place));
    }

    /// Sets the time of the first regular look.
    pub(super) fn schedule_first_look(&mut self, now: Now, subject: SubjectId, host: &HostId) {
        if !self.timers.is_set(&Timer::Monitor(subject, host.clone())) {
            self.schedule_look(now, subject, host);
        }
    }

    pub(super) fn group_of(&self, subject: SubjectId) -> Option<GroupId> {
        let entry = self.subjects.get(&subject)?;
        self.config.resources.get(&entry.spec.id).map(|resource| resource.group.clone())
    }

    pub(super) fn touch_subject(&mut self, subject: SubjectId) {
        if let Some(group) = self.group_of(subject) {
            self.touched.insert(group);
        }
        // Another definition of the same device may wait for this one.
        let groups: Vec<GroupId> =
            self.same_resource(subject).filter_map(|(other, _)| self.group_of(*other)).collect();
        self.touched.extend(groups);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spread_evenly() {
        let interval = Duration::from_secs(8);
        let mut parts = [0; 8];
        for number in 0..4000 {
            let at = spread(&format!("ost{number:04} oss{}", number / 4), interval);
            assert!(at < interval);
            parts[at.as_secs() as usize] += 1;
        }
        assert!(parts.iter().all(|part| (400..=600).contains(part)), "{parts:?}");
    }

    #[test]
    fn everything_has_its_place_in_the_cycle() {
        let ms = Duration::from_millis;
        // now, interval, place, next
        let table = [
            (0, 5000, 0, 5000),
            (0, 5000, 1200, 1200),
            (1199, 5000, 1200, 1200),
            (1200, 5000, 1200, 6200),
            (1201, 5000, 1200, 6200),
            (6200, 5000, 1200, 11200),
            (7000, 5000, 1200, 11200),
            (12_345, 5000, 4999, 14_999),
            (12_345, 0, 0, 12_345),
        ];
        for (now, interval, place, next) in table {
            let found = next_in_cycle(Mono(0) + ms(now), ms(interval), ms(place));
            let exact = if interval == 0 {
                found.since(Mono(0) + ms(next)) < ms(1)
            } else {
                found == Mono(0) + ms(next)
            };
            assert!(exact, "{now} {interval} {place}: {found:?}");
        }
        // The clock may have begun long ago.
        let late = next_in_cycle(Mono(u64::MAX - 7), ms(5000), ms(1));
        assert!(late > Mono(u64::MAX - 7));
    }
}
