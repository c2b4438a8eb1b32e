//! Looking at resources: when, where, and how.

use std::time::Duration;

use super::knowledge::SubjectId;
use super::machine::Engine;
use super::timers::Timer;
use crate::ha::ids::{GroupId, HostId, ResourceId};
use crate::ha::protocol::Action;
use crate::time::Now;

/// A managed resource that runs is looked for on its other hosts this many times less often.
const ELSEWHERE: u32 = 6;

/// A fixed part of `interval` for each name, so that things that happen regularly do not all happen at once.
pub(super) fn spread(name: &str, interval: Duration) -> Duration {
    // FNV-1a, finished as in MurmurHash3: names that differ in one digit must not be neighbours.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    let nanos = (u128::from(hash) * interval.as_nanos()) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
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

    /// Sets the time of the next look.
    pub(super) fn schedule_look(&mut self, now: Now, subject: SubjectId, host: &HostId) {
        let at = now.mono + self.interval(subject, host);
        self.timers.set(Timer::Monitor(subject, host.clone()), at);
    }

    /// Sets the time of the first regular look, spread over the interval.
    pub(super) fn schedule_first_look(&mut self, now: Now, subject: SubjectId, host: &HostId) {
        let timer = Timer::Monitor(subject, host.clone());
        if !self.timers.is_set(&timer) {
            let Some(entry) = self.subjects.get(&subject) else { return };
            let name = format!("{} {host}", entry.spec.id);
            let interval = self.interval(subject, host);
            self.timers.set(timer, now.mono + interval + spread(&name, interval));
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
}
