//! Commands on their way: each has a goal, and ends when that is reached or cannot be any more.

use std::time::Duration;

use super::fences::PowerKind;
use super::machine::Engine;
use super::timers::Timer;
use crate::ha::command::Progress;
use crate::ha::config::Group;
use crate::ha::ids::{CommandId, GroupId, HostId, ResourceId};
use crate::ha::state::Record;
use crate::ha::state::record::GroupFlags;
use crate::ha::status::Phase;
use crate::time::Now;

/// What a command waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Goal {
    /// Nothing: it is done.
    Instant,
    /// These groups run there.
    On { groups: Vec<GroupId>, host: HostId },
    /// No managed group is on the host.
    Empty(HostId),
    /// The resource runs.
    Up { group: GroupId, resource: ResourceId },
    /// The resource, and what depends on it, is stopped.
    Down { group: GroupId, resource: ResourceId },
    /// The change of the host's power is over: it reports itself.
    Power(HostId),
}

impl Engine {
    /// Looks how far each command is.
    pub(super) fn follow_goals(&mut self, now: Now) {
        let goals: Vec<(CommandId, Goal)> = self.goals.iter().map(|(id, goal)| (*id, goal.clone())).collect();
        for (id, goal) in goals {
            match self.progress(now, &goal) {
                Some(progress) => self.set_progress(id, progress),
                None => continue,
            }
        }
    }

    fn set_progress(&mut self, id: CommandId, progress: Progress) {
        let Some(command) = self.state.commands.get(&id) else {
            self.goals.remove(&id);
            return;
        };
        if command.progress != progress {
            let (what, by, reason, at) =
                (command.what.clone(), command.by.clone(), command.reason.clone(), command.at);
            self.record(Record::Command { id, what, by, reason, at, progress: progress.clone() });
        }
        if !matches!(progress, Progress::Running { .. }) {
            self.goals.remove(&id);
        }
    }

    fn progress(&mut self, now: Now, goal: &Goal) -> Option<Progress> {
        let done = |result: &str| Some(Progress::Done { result: result.to_owned() });
        let gone = |name: &str| {
            Some(Progress::Failed { reason: format!("{name} is not in the configuration any more") })
        };
        match goal {
            Goal::Instant => done("done"),
            Goal::Power(_) => None,
            Goal::On { groups, host } => {
                let mut waiting = Vec::new();
                for id in groups {
                    let Some(group) = self.config.groups.get(id).cloned() else { return gone(id.as_str()) };
                    let phase = self.groups.get(id).map(|entry| entry.phase);
                    let location = self.location(&group);
                    if location.as_ref() == Some(host)
                        && matches!(phase, Some(Phase::Running | Phase::Partial))
                    {
                        self.forget_wish(id, host);
                        continue;
                    }
                    let flags = self.state.groups.get(id);
                    if flags.is_none_or(|flags| flags.wanted_on.as_ref() != Some(host)) {
                        let reason = format!("{id}: another command or a failure came in between");
                        return Some(Progress::Failed { reason });
                    }
                    if let Err(why) = self.can_run_on(now, &group, host)
                        && location.as_ref() != Some(host)
                    {
                        self.forget_wish(id, host);
                        return Some(Progress::Failed { reason: format!("{id}: {why}") });
                    }
                    if matches!(phase, Some(Phase::Failed | Phase::Frozen)) {
                        self.forget_wish(id, host);
                        return Some(Progress::Failed { reason: format!("{id}: {}", self.waits_of(id)) });
                    }
                    waiting.push(self.doing(id));
                }
                if waiting.is_empty() {
                    done("done")
                } else {
                    Some(Progress::Running { doing: waiting.join("; ") })
                }
            }
            Goal::Empty(host) => {
                if !self.state.hosts.get(host).is_some_and(|flags| flags.deactivated) {
                    return Some(Progress::Failed { reason: format!("{host} was activated meanwhile") });
                }
                if !self.hosts.get(host).is_some_and(|host| host.is_up()) {
                    return done("done; the host is not connected");
                }
                let there: Vec<GroupId> = self
                    .config
                    .groups
                    .values()
                    .filter(|group| self.is_managed(&group.id) && self.may_be_on(group, host))
                    .map(|group| group.id.clone())
                    .collect();
                let moving = self.config.groups.values().filter(|group| {
                    self.is_managed(&group.id)
                        && group.hosts().any(|other| other == host)
                        && self.groups.get(&group.id).is_some_and(|entry| {
                            matches!(entry.phase, Phase::Planned | Phase::Starting | Phase::Stopping)
                        })
                });
                let mut doing: Vec<String> = moving.map(|group| self.doing(&group.id)).collect();
                doing.extend(there.iter().map(|id| self.doing(id)));
                doing.dedup();
                if there.is_empty() && doing.is_empty() {
                    done("done")
                } else {
                    Some(Progress::Running { doing: doing.join("; ") })
                }
            }
            Goal::Up { group, resource } => {
                let Some(entry) = self.config.groups.get(group).cloned() else { return gone(group.as_str()) };
                let location = self.location(&entry);
                let runs = |name: &ResourceId| {
                    location
                        .as_ref()
                        .is_some_and(|host| self.known(name, host).is_some_and(|known| known.is_running()))
                };
                let phase = self.groups.get(group).map(|entry| entry.phase);
                let whole = *resource == entry.root;
                if !self.config.resources.contains_key(resource) {
                    return gone(resource.as_str());
                }
                if runs(resource) && (!whole || phase == Some(Phase::Running)) {
                    return done("it runs");
                }
                if matches!(phase, Some(Phase::Failed | Phase::Frozen)) {
                    return Some(Progress::Failed { reason: format!("{group}: {}", self.waits_of(group)) });
                }
                if !self.is_managed(group) {
                    return Some(Progress::Failed { reason: format!("{group} is not managed") });
                }
                Some(Progress::Running { doing: self.doing(group) })
            }
            Goal::Down { group, resource } => {
                let Some((_, subject)) = self.subject_of(resource) else { return gone(resource.as_str()) };
                let hosts: Vec<HostId> = subject.on.keys().cloned().collect();
                let running = subject.on.values().any(|known| {
                    !known.is_stopped() && (known.is_here() || known.last_active || known.is_failed())
                });
                let children = hosts.iter().all(|host| {
                    self.children_are_down(resource, host)
                        || !self.hosts.get(host).is_some_and(|host| host.is_up())
                });
                if !running && children {
                    return done("it is stopped");
                }
                if !self.is_managed(group) {
                    return Some(Progress::Failed { reason: format!("{group} is not managed") });
                }
                // The rest of the group may go on running: its phase says nothing of this resource.
                let part = resource.as_str() != group.as_str();
                let phase = self.groups.get(group).map(|entry| entry.phase);
                let doing = match phase {
                    Some(Phase::Starting | Phase::Running | Phase::Partial) if part => {
                        format!("{resource} is stopping")
                    }
                    _ => self.doing(group),
                };
                Some(Progress::Running { doing })
            }
        }
    }

    /// Whether something of a group is on a host for all that is known: a stop that failed, or was not looked after yet, has
    /// not emptied it.
    fn may_be_on(&self, group: &Group, host: &HostId) -> bool {
        group
            .members
            .iter()
            .filter_map(|member| self.known(member, host))
            .any(|known| known.is_here() || (!known.is_stopped() && (known.last_active || known.is_failed())))
    }

    /// An operator's wish for a group is fulfilled, or cannot be.
    pub(super) fn forget_wish(&mut self, group: &GroupId, host: &HostId) {
        let Some(flags) = self.state.groups.get(group).filter(|flags| flags.wanted_on.as_ref() == Some(host))
        else {
            return;
        };
        let flags = GroupFlags { wanted_on: None, ..flags.clone() };
        self.record(Record::GroupFlags { group: group.clone(), flags });
        self.touched.insert(group.clone());
    }

    pub(super) fn waits_of(&self, group: &GroupId) -> String {
        self.groups.get(group).map(|entry| entry.waits_for.join("; ")).unwrap_or_default()
    }

    fn doing(&self, group: &GroupId) -> String {
        let Some(entry) = self.groups.get(group) else { return format!("{group} is gone") };
        let phase = match entry.phase {
            Phase::Unknown => "is being looked for",
            Phase::Stopped => "is stopped",
            Phase::Planned => "waits for proofs",
            Phase::Starting => "is starting",
            Phase::Running => "runs",
            Phase::Partial => "runs in part",
            Phase::Stopping => "is stopping",
            Phase::Failed => "has failed",
            Phase::Frozen => "is frozen",
        };
        let waits = entry.waits_for.join("; ");
        if waits.is_empty() { format!("{group} {phase}") } else { format!("{group} {phase} ({waits})") }
    }

    /// A change of power that a command asked for is over.
    pub(super) fn power_command_over(
        &mut self,
        now: Now,
        host: &HostId,
        command: CommandId,
        kind: PowerKind,
        said: &str,
    ) {
        let reached = match kind {
            PowerKind::Fence { .. } => said == "off",
            PowerKind::On => said == "on",
            PowerKind::Look | PowerKind::WaitOut | PowerKind::Unfence => said == "on" || said == "off",
        };
        if reached && self.checks.get(host).is_some_and(|check| !check.wrong.is_empty()) {
            // What did not work seems to be mended: the alert shall not stay until the next round.
            self.timers.by(Timer::Devices(host.clone()), now.mono + Duration::from_secs(1));
        }
        let progress = if reached {
            Progress::Done { result: said.to_owned() }
        } else if matches!(kind, PowerKind::Fence { .. }) {
            Progress::Failed {
                reason: format!("Fence operation failed. The host is not powered off. ({host}: {said})"),
            }
        } else {
            Progress::Failed { reason: format!("{host}: {said}") }
        };
        self.set_progress(command, progress);
    }

    /// Commands of an earlier run: their goals are in the durable flags, so they take effect; only nobody follows them.
    pub(super) fn end_interrupted_commands(&mut self, _now: Now) {
        let open: Vec<CommandId> = self
            .state
            .commands
            .iter()
            .filter(|(_, command)| matches!(command.progress, Progress::Running { .. }))
            .map(|(id, _)| *id)
            .collect();
        for id in open {
            let reason =
                "the manager was restarted; what was decided stays in force, see the status".to_owned();
            self.set_progress(id, Progress::Failed { reason });
        }
    }
}
