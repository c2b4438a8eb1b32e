//! Unfencing: some fence agents must let a host in again that joins after a boot (`automatic` on their action `on`). Until
//! then nothing is started there.

use super::*;
use crate::ha::config::FenceDevice;
use crate::ha::ids::BootId;

/// A failed unfencing is repeated after this time.
const AGAIN: Duration = Duration::from_secs(30);

/// Whether a fence agent has something to undo at a join. Its meta-data say that, so it is found out once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ha::engine) enum Need {
    /// It is being asked for the first time.
    Asking,
    Yes,
    No,
}

/// All devices of a host let it in again, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Unfencing {
    levels: Vec<FenceLevel>,
    /// This boot of it.
    boot: Option<BootId>,
    devices: Vec<Arc<FenceDevice>>,
    next: usize,
    failed: Vec<String>,
}

impl Engine {
    /// The devices of a host that must be asked, since their agents may have something to undo.
    fn to_unfence(&self, host: &HostId) -> Vec<Arc<FenceDevice>> {
        let levels = self.levels(host);
        let devices = levels.iter().flat_map(|level| &level.devices);
        devices.filter(|device| self.unfencing_needs.get(&device.agent) != Some(&Need::No)).cloned().collect()
    }

    pub(super) fn unfencing(&self, host: &HostId) -> Unfencing {
        let agent = self.hosts.get(host).and_then(|entry| entry.agent.as_ref());
        Unfencing {
            levels: self.levels(host),
            boot: agent.map(|agent| agent.boot.clone()),
            devices: self.to_unfence(host),
            next: 0,
            failed: Vec::new(),
        }
    }

    /// Whether nothing may be started on a connected host before its devices have let it in.
    fn awaits_unfencing(&self, host: &HostId) -> bool {
        self.hosts.get(host).is_some_and(|entry| {
            let boot = entry.agent.as_ref().map(|agent| &agent.boot);
            boot.is_some() && entry.unfenced.as_ref() != boot && entry.can_be_fenced()
        })
    }

    /// The devices of a connected host are about to let it in; nothing may be started there before that.
    pub(in crate::ha::engine) fn is_being_let_in(&self, host: &HostId) -> Option<String> {
        let failed = self.hosts.get(host)?.unfencing_failed.is_some();
        (self.awaits_unfencing(host) && !failed)
            .then(|| format!("{host}: its fence devices have not let it in yet"))
    }

    /// The devices of a connected host have failed to let it in: why.
    pub(in crate::ha::engine) fn is_not_let_in(&self, host: &HostId) -> Option<String> {
        let (why, _) = self.hosts.get(host)?.unfencing_failed.as_ref()?;
        self.awaits_unfencing(host).then(|| format!("{host}: its fence devices do not let it in: {why}"))
    }

    /// A host has joined, or may be tried again: lets it in where that is needed.
    pub(in crate::ha::engine) fn unfence_if_needed(&mut self, now: Now, host: &HostId) {
        if !self.acts() || self.power.contains_key(host) || !self.awaits_unfencing(host) {
            return;
        }
        let Some(entry) = self.hosts.get_mut(host) else { return };
        if !entry.is_up() || entry.silence.is_some() {
            return;
        }
        if let Some((_, again)) = entry.unfencing_failed.as_ref().filter(|(_, again)| now.mono < *again) {
            self.timers.by(Timer::Host(host.clone()), *again);
            return;
        }
        let devices = self.to_unfence(host);
        if devices.is_empty() {
            if let Some(entry) = self.hosts.get_mut(host) {
                entry.unfenced = entry.agent.as_ref().map(|agent| agent.boot.clone());
                entry.unfencing_failed = None;
            }
            self.touch_groups_of(host);
            return;
        }
        // What one host finds out of an agent need not be asked for all others.
        if devices.iter().any(|device| self.unfencing_needs.get(&device.agent) == Some(&Need::Asking)) {
            return;
        }
        for device in &devices {
            self.unfencing_needs.entry(device.agent.clone()).or_insert(Need::Asking);
        }
        self.begin_power(now, host, PowerKind::Unfence, "manager", "it joins", None);
    }

    /// Goes on with the next device.
    pub(super) fn unfence(&mut self, now: Now, host: &HostId, answer: Option<DeviceAnswer>) {
        let Some(PowerRun { course: Course::Unfence(course), .. }) = self.power.get_mut(host) else { return };
        if let Some(answer) = answer
            && let Some(device) = course.next.checked_sub(1).and_then(|last| course.devices.get(last))
        {
            let need = match answer {
                DeviceAnswer::Unsupported => Need::No,
                DeviceAnswer::Done => Need::Yes,
                DeviceAnswer::Failed(why) => {
                    course.failed.push(format!("{}: {why}", device.name));
                    Need::Yes
                }
                _ => {
                    course.failed.push(format!("{} does not answer", device.name));
                    Need::Yes
                }
            };
            self.unfencing_needs.insert(device.agent.clone(), need);
        }
        if let Some(device) = course.devices.get(course.next).cloned() {
            course.next += 1;
            return self.call_device(now, host, device, DeviceAction::Unfence);
        }
        self.unfencing_over(now, host);
    }

    fn unfencing_over(&mut self, now: Now, host: &HostId) {
        let Some(run) = self.power.remove(host) else { return };
        let Course::Unfence(course) = &run.course else { return };
        let acted =
            course.devices.iter().any(|device| self.unfencing_needs.get(&device.agent) == Some(&Need::Yes));
        let why = course.failed.join("; ");
        self.end_attempt(now, host, &run, why.is_empty(), if why.is_empty() { "done" } else { &why });
        let levels = self.levels(host);
        if let Some(entry) = self.hosts.get_mut(host) {
            if why.is_empty() {
                entry.unfencing_failed = None;
                // Only this boot of it was let in, and only by these devices.
                entry.unfenced = course.boot.clone().filter(|_| course.levels == levels);
            } else {
                entry.unfencing_failed = Some((why.clone(), now.mono + AGAIN));
            }
        }
        if acted {
            let (event, comment) =
                if why.is_empty() { ("unfenced", None) } else { ("unfence_failed", Some(why)) };
            self.note(now, event, host.as_str(), None, "manager", comment);
        }
        self.judge_host(now, host);
        self.touch_groups_of(host);
        self.unfence_all(now);
    }

    /// Hosts that waited for this one, or for this manager to act, go on.
    pub(in crate::ha::engine) fn unfence_all(&mut self, now: Now) {
        let hosts: Vec<HostId> =
            self.hosts.iter().filter(|(_, entry)| entry.is_up()).map(|(id, _)| id.clone()).collect();
        for host in hosts {
            self.unfence_if_needed(now, &host);
        }
    }
}
