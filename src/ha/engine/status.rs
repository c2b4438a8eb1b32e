//! Everything as it is now, for people and programs.

use std::collections::BTreeMap;

use super::knowledge::{Known, KnownState};
use super::machine::Engine;
use crate::ha::ids::{CommandId, HostId, ResourceId};
use crate::ha::protocol::Action;
use crate::ha::status::{
    CommandStatus, GroupStatus, HostStatus, PowerStatus, ResourceStatus, Seen, SeenState, Status,
};
use crate::time::Now;

impl Engine {
    /// Everything as it is now.
    pub fn status(&self, now: Now) -> Status {
        let mut hosts: Vec<(usize, HostStatus)> =
            self.hosts.keys().filter_map(|id| self.host_status(id)).collect();
        hosts.sort_by_key(|(position, _)| *position);
        let mut groups: Vec<(usize, GroupStatus)> = self
            .config
            .groups
            .values()
            .map(|group| (group.position, self.group_status(now, group)))
            .collect();
        groups.sort_by_key(|(position, _)| *position);
        Status {
            cluster: self.config.settings.cluster.clone(),
            managed: self.manage,
            epoch: self.state.epoch,
            superseded: self.superseded.is_some(),
            maintenance_until: self.state.maintenance_until,
            hosts: hosts.into_iter().map(|(_, host)| host).collect(),
            groups: groups.into_iter().map(|(_, group)| group).collect(),
            alerts: self.alerts(),
            commands: self
                .state
                .commands
                .iter()
                .rev()
                .take(50)
                .filter_map(|(id, _)| self.command_status(*id))
                .collect(),
        }
    }

    /// A command of an operator, as long as it is remembered: longer than the list in [`Status`] is.
    pub fn command_status(&self, id: CommandId) -> Option<CommandStatus> {
        self.state.commands.get(&id).map(|command| CommandStatus {
            id,
            what: command.what.clone(),
            by: command.by.clone(),
            reason: command.reason.clone(),
            at: command.at,
            progress: command.progress.clone(),
        })
    }

    fn host_status(&self, id: &HostId) -> Option<(usize, HostStatus)> {
        let host = self.hosts.get(id)?;
        let flags = self.state.hosts.get(id);
        let fencing = match &host.config {
            None => "no longer in the configuration".to_owned(),
            Some(config) if config.fencing.is_empty() => "no fence device".to_owned(),
            Some(config) => {
                let levels: Vec<String> = config
                    .fencing
                    .iter()
                    .map(|level| {
                        level
                            .devices
                            .iter()
                            .map(|device| device.name.as_str())
                            .collect::<Vec<_>>()
                            .join(" + ")
                    })
                    .collect();
                levels.join(", else ")
            }
        };
        let position = host.config.as_ref().map_or(usize::MAX, |config| config.position);
        let address = if host.address.contains(':') {
            format!("[{}]:{}", host.address, host.port)
        } else {
            format!("{}:{}", host.address, host.port)
        };
        Some((
            position,
            HostStatus {
                id: id.clone(),
                address,
                state: host.state,
                detail: host.detail.clone(),
                since: host.since.0,
                active: !flags.is_some_and(|flags| flags.deactivated),
                fenced: self.is_fenced(id),
                power: host.power.as_ref().map(|(said, at)| PowerStatus { said: said.clone(), at: at.0 }),
                maintenance_until: flags.and_then(|flags| flags.maintenance_until),
                agent_version: host.agent.as_ref().map(|agent| agent.program.clone()),
                isolation: host.agent.as_ref().map(|agent| agent.isolation),
                fencing,
                self_protected: host.config.as_ref().is_some_and(|config| config.self_protection.is_some())
                    && host.agent.as_ref().is_some_and(|agent| agent.watchdog.is_some()),
            },
        ))
    }

    fn group_status(&self, now: Now, group: &crate::ha::config::Group) -> GroupStatus {
        let entry = self.groups.get(&group.id);
        let flags = self.state.groups.get(&group.id);
        let mut depths: BTreeMap<&ResourceId, usize> = BTreeMap::new();
        let mut resources = Vec::new();
        for member in &group.members {
            let Some(resource) = self.config.resources.get(member) else { continue };
            let depth =
                resource.parent.as_ref().and_then(|parent| depths.get(parent)).map_or(0, |depth| depth + 1);
            depths.insert(member, depth);
            let on = self.subject_of(member).map(|(_, subject)| {
                subject.on.iter().map(|(host, known)| (host.clone(), self.seen(host, known))).collect()
            });
            resources.push(ResourceStatus {
                id: member.clone(),
                kind: resource.spec.kind.clone(),
                parameters: resource.spec.parameters.clone(),
                parent: resource.parent.clone(),
                depth,
                on: on.unwrap_or_default(),
                failures: self.counting_failures(now, member),
                stopped_by_operator: self.state.stopped.contains(member),
            });
        }
        GroupStatus {
            id: group.id.clone(),
            managed: !flags.is_some_and(|flags| flags.unmanaged),
            phase: entry.map_or(crate::ha::status::Phase::Unknown, |entry| entry.phase),
            waits_for: entry.map(|entry| entry.waits_for.clone()).unwrap_or_default(),
            home: group.home.clone(),
            failover: group.failover.clone(),
            location: self.location(group),
            stopped_by_operator: flags.is_some_and(|flags| flags.stopped),
            maintenance_until: flags.and_then(|flags| flags.maintenance_until),
            resources,
        }
    }

    fn seen(&self, host: &HostId, known: &Known) -> Seen {
        let state = match (known.pending, known.state) {
            (Some((_, Action::Start)), _) => SeenState::Starting,
            (Some((_, Action::Stop)), _) => SeenState::Stopping,
            (_, KnownState::Running { degraded: false }) => SeenState::Running,
            (_, KnownState::Running { degraded: true }) => SeenState::Degraded,
            (_, KnownState::Stopped | KnownState::NotInstalled) => SeenState::Stopped,
            (_, KnownState::Failed(_)) => SeenState::Error,
            (_, KnownState::Unknown) => match self.hosts.get(host) {
                // What is off runs nothing.
                Some(host) if host.off.is_some() => SeenState::Stopped,
                _ => SeenState::Unknown,
            },
        };
        let comment = match (&known.comment, state) {
            (Some(comment), _) => Some(comment.to_string()),
            (None, SeenState::Unknown) => {
                if known.unfinished.is_empty() {
                    self.hosts.get(host).filter(|host| !host.is_up()).map(|host| host.detail.clone())
                } else {
                    Some("an operation is unfinished".to_owned())
                }
            }
            _ => None,
        };
        Seen { state, comment, since: known.since.0 }
    }
}
