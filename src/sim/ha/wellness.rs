//! What must be true when no faults happen any more, and what must be true at any time of what the manager shows.

use std::fmt::Write as _;

use super::clock::SECOND;
use super::world::{Task, World};
use crate::ha::ids::GroupId;
use crate::ha::status::Phase;

impl World {
    /// Whether everything has come to its end.
    pub(super) fn is_well(&self) -> bool {
        self.judge.well
    }

    /// The judge looks at what the managers show.
    pub(super) fn look(&mut self) {
        for number in 0..self.managers.len() {
            let now = self.managers[number].clock.now(self.now);
            let Some(process) = &self.managers[number].process else { continue };
            let status = process.engine.status(now);
            let frozen: Vec<&GroupId> =
                status.groups.iter().filter(|g| g.phase == Phase::Frozen).map(|g| &g.id).collect();
            let silent = frozen
                .iter()
                .find(|id| !status.alerts.iter().any(|alert| alert.object == id.as_str()))
                .map(|id| (*id).clone());
            self.report.frozen += frozen.len() as u64;
            if let Some(group) = silent {
                self.fail(format!("{group} is frozen without an alert"));
            }
            if !self.managers[number].process.as_ref().is_some_and(|process| process.is_stopped()) {
                self.judge_decisions(number);
            }
        }
        if self.calm {
            let well = self.not_well().is_empty();
            // It must stay so for a while.
            self.judge.well = well && self.now > self.calm_since + 20 * SECOND;
            if !well {
                self.mend();
            }
        }
        let next = self.look_interval();
        self.after(next, Task::Look);
    }

    /// Which groups do not run as they should.
    fn not_well(&self) -> Vec<String> {
        let mut found = Vec::new();
        let manager = &self.managers[0];
        let Some(process) = manager.process.as_ref().filter(|process| !process.is_stopped()) else {
            return vec!["there is no manager".to_owned()];
        };
        let status = process.engine.status(manager.clock.now(self.now));
        if !manager.manage {
            if status.hosts.iter().any(|host| host.state != crate::ha::status::HostState::Connected) {
                found.push("not all hosts are connected".to_owned());
            }
            return found;
        }
        for group in manager.config.groups.values() {
            let things: Vec<&String> = group
                .members
                .iter()
                .filter_map(|member| manager.config.resources.get(member)?.spec.parameters.get("target"))
                .collect();
            let places: Vec<usize> = (0..self.hosts.len())
                .filter(|host| things.iter().any(|thing| self.hosts[*host].active.contains_key(*thing)))
                .collect();
            let whole = places.len() == 1
                && things.iter().all(|thing| self.hosts[places[0]].active.contains_key(*thing));
            let shown = status.groups.iter().find(|shown| shown.id == group.id);
            if !whole || shown.is_none_or(|shown| shown.phase != Phase::Running) {
                let shown = shown.map(|shown| (shown.phase, shown.waits_for.clone()));
                found.push(format!("{}: active on {places:?}, shown as {shown:?}", group.id));
            }
        }
        found
    }

    /// What is not well, for the report of a failure.
    pub(super) fn what_is_not_well(&self) -> String {
        let mut text = self.not_well().join("\n");
        let manager = &self.managers[0];
        if let Some(process) = &manager.process {
            let status = process.engine.status(manager.clock.now(self.now));
            for host in &status.hosts {
                let _ = write!(text, "\n{}: {:?}, {}", host.id, host.state, host.detail);
            }
            for alert in &status.alerts {
                let _ = write!(text, "\nalert: {}: {}", alert.object, alert.text);
            }
        }
        for (number, machine) in self.hosts.iter().enumerate() {
            let cgroups = machine.cgroups.len();
            let active: Vec<_> = machine.active.keys().collect();
            let agent = machine.agent.is_some();
            let _ = write!(
                text,
                "\nh{number} is {:?}, active {active:?}, {cgroups} cgroups, agent: {agent}",
                machine.kernel
            );
        }
        text
    }
}
