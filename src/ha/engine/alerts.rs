//! What needs an operator: derived from what is, so an alert is there exactly as long as its cause.

use super::event::LostState;
use super::hosts::MustFence;
use super::machine::Engine;
use crate::ha::protocol::Isolation;
use crate::ha::status::{Alert, HostState, Phase, Severity};

impl Engine {
    pub(super) fn alerts(&self) -> Vec<Alert> {
        let mut alerts = Vec::new();
        let mut add = |severity, object: &str, text: String, command: Option<String>, since: i64| {
            alerts.push(Alert { severity, object: object.to_owned(), text, command, since });
        };
        if let Some(epoch) = self.superseded {
            let text = format!(
                "another manager has taken over (epoch {epoch}): this one only observes; one of the two must be stopped"
            );
            add(
                Severity::Critical,
                "cluster",
                text,
                Some("coordinatool-client ha takeover".to_owned()),
                self.begun_at,
            );
        }
        if let LostState::Damaged(how) = &self.lost {
            add(
                Severity::Warning,
                "cluster",
                format!("a part of the stored state was damaged: {how}"),
                None,
                self.begun_at,
            );
        }
        for (id, host) in &self.hosts {
            let since = host.since.0;
            if let Some(why) = &host.distrust {
                let command = format!("coordinatool-client ha reset {id}");
                add(Severity::Critical, id.as_str(), why.clone(), Some(command), since);
            }
            if let Some(MustFence { why, .. }) = &host.must_fence {
                let command = format!("coordinatool-client ha fence {id}");
                add(
                    Severity::Critical,
                    id.as_str(),
                    format!("it must be fenced: {why}"),
                    Some(command),
                    since,
                );
            }
            match host.state {
                HostState::Refused => {
                    let command = host
                        .detail
                        .contains("obeys another manager")
                        .then(|| "coordinatool-client ha takeover".to_owned());
                    add(Severity::Critical, id.as_str(), host.detail.clone(), command, since);
                }
                HostState::Lost => {
                    add(Severity::Critical, id.as_str(), format!("it is lost: {}", host.detail), None, since)
                }
                HostState::AgentDown => add(Severity::Warning, id.as_str(), host.detail.clone(), None, since),
                _ => {}
            }
            // While it is tried again its groups say so.
            if self.is_fenced(id) && !self.power.get(id).is_some_and(|change| change.is_fence()) {
                let command = format!("coordinatool-client ha reset {id}");
                let attempts = self.state.fences.get(id).into_iter().flatten();
                let done = attempts.into_iter().any(|attempt| matches!(attempt.result, Some((true, _))));
                let what = if done { "it was fenced" } else { "fencing it was tried, without success yet" };
                let text = format!("{what}; by default that is not done by itself again before a reset");
                add(Severity::Warning, id.as_str(), text, Some(command), since);
            }
            if let Some((why, _)) = &host.unfencing_failed {
                let text = format!("its fence devices do not let it in, so nothing is started there: {why}");
                add(Severity::Critical, id.as_str(), text, None, since);
            }
            if host.config.is_some() && !host.can_be_fenced() && self.manage {
                add(
                    Severity::Warning,
                    id.as_str(),
                    "it has no fence device: its groups cannot fail over".to_owned(),
                    None,
                    since,
                );
            }
            if host.agent.as_ref().is_some_and(|agent| agent.isolation == Isolation::Scan) {
                let text = "its agent has no cgroups: processes of an operation may escape it".to_owned();
                add(Severity::Warning, id.as_str(), text, None, since);
            }
            if host.config.as_ref().is_some_and(|config| config.self_protection.is_some())
                && host.agent.as_ref().is_some_and(|agent| agent.watchdog.is_none())
            {
                let text = "self-protection is configured, but it has no hardware watchdog".to_owned();
                add(Severity::Warning, id.as_str(), text, None, since);
            }
            if let Some(check) = self.checks.get(id) {
                for wrong in check.wrong.values() {
                    add(Severity::Warning, id.as_str(), wrong.clone(), None, since);
                }
            }
        }
        for (id, group) in &self.groups {
            let severity = match group.phase {
                Phase::Frozen | Phase::Failed => Severity::Critical,
                _ if group.waits_for.is_empty() => continue,
                Phase::Unknown | Phase::Stopped => Severity::Critical,
                _ => Severity::Warning,
            };
            let text = group.waits_for.join("; ");
            let command =
                (group.phase == Phase::Failed).then(|| format!("coordinatool-client ha clear {id}"));
            add(severity, id.as_str(), text, command, group.since);
        }
        for (id, host, why, since) in self.given_up_moves() {
            let text = format!(
                "its move to {host}, which a restart of the manager interrupted, was given up: {why}"
            );
            let command = format!("coordinatool-client ha move {id} --to {host}");
            add(Severity::Warning, id.as_str(), text, Some(command), since);
        }
        alerts.sort();
        alerts
    }
}
