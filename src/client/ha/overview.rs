//! A status as text: alerts, groups as trees, hosts, commands.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::options::StatusOptions;
use super::text::{Table, ago, fold, lasting, moment, one_line};
use crate::ha::command::Progress;
use crate::ha::status::{
    CommandStatus, GroupStatus, HostState, HostStatus, Phase, ResourceStatus, SeenState, Severity, Status,
};

/// The whole text; `now` in nanoseconds since the epoch. With `abnormal`, nothing if all is well.
pub fn render(status: &Status, now: i64, options: &StatusOptions) -> String {
    let mut out = String::new();
    cluster(status, options, &mut out);
    alerts(status, now, &mut out);
    groups(status, now, options, &mut out);
    hosts(status, now, options, &mut out);
    commands(status, now, options, &mut out);
    out
}

fn part(out: &mut String) {
    if !out.is_empty() {
        out.push('\n');
    }
}

fn cluster(status: &Status, options: &StatusOptions, out: &mut String) {
    let mode = if status.superseded {
        "another manager has taken over, this one only observes"
    } else if status.managed {
        "managed"
    } else {
        "observed only, nothing is started, stopped or fenced"
    };
    if !options.abnormal || status.superseded {
        // Writing to a String does not fail.
        let _ = writeln!(out, "Cluster {}: {mode} (epoch {})", status.cluster, status.epoch);
    }
    if let Some(until) = status.maintenance_until {
        let _ = writeln!(out, "In maintenance until {}: groups are left alone", moment(until));
    }
}

fn alerts(status: &Status, now: i64, out: &mut String) {
    if status.alerts.is_empty() {
        return;
    }
    part(out);
    for alert in &status.alerts {
        let severity = match alert.severity {
            Severity::Critical => "CRITICAL",
            Severity::Warning => "WARNING",
        };
        let text = one_line(&alert.text);
        let since = lasting(now, alert.since);
        let since = if since.is_empty() { since } else { format!(" ({})", since.trim_start()) };
        let _ = writeln!(out, "{severity:<8}  {}: {text}{since}", alert.object);
        if let Some(command) = &alert.command {
            let _ = writeln!(out, "          -> {}", one_line(command));
        }
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Unknown => "unknown",
        Phase::Stopped => "stopped",
        Phase::Planned => "planned",
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Partial => "partial",
        Phase::Stopping => "stopping",
        Phase::Failed => "failed",
        Phase::Frozen => "frozen",
    }
}

fn seen_word(state: SeenState) -> &'static str {
    match state {
        SeenState::Running => "running",
        SeenState::Degraded => "degraded",
        SeenState::Starting => "starting",
        SeenState::Stopping => "stopping",
        SeenState::Stopped => "stopped",
        SeenState::Error => "error",
        SeenState::Unknown => "unknown",
    }
}

/// What a resource is doing as a whole, where, and why.
fn seen(resource: &ResourceStatus) -> (SeenState, String, Option<&str>) {
    use SeenState::{Degraded, Error, Running, Starting, Stopped, Stopping, Unknown};
    // What tells most comes first.
    for state in [Error, Stopping, Starting, Degraded, Running, Unknown] {
        let there: Vec<_> = resource.on.iter().filter(|(_, seen)| seen.state == state).collect();
        if there.is_empty() {
            continue;
        }
        let running = resource.on.values().any(|seen| matches!(seen.state, Running | Degraded));
        if state == Unknown && running {
            continue;
        }
        let names: Vec<&str> = there.iter().map(|(host, _)| host.as_str()).collect();
        let comment = there.iter().find_map(|(_, seen)| seen.comment.as_deref());
        return (state, fold(&names), comment);
    }
    let state = if resource.on.is_empty() { Unknown } else { Stopped };
    (state, String::new(), None)
}

/// Whether a group is as it should be.
fn is_normal(group: &GroupStatus) -> bool {
    group.phase == Phase::Running
        && group.managed
        && group.maintenance_until.is_none()
        && !group.stopped_by_operator
        && group.waits_for.is_empty()
        && group.location.as_ref() == Some(&group.home)
        && group.resources.iter().all(|resource| {
            resource.failures.is_empty()
                && !resource.stopped_by_operator
                && seen(resource).0 == SeenState::Running
        })
}

fn groups(status: &Status, now: i64, options: &StatusOptions, out: &mut String) {
    let mut table = Table::new(&["GROUP", "KIND", "STATE", "HOST", "NOTES"]);
    for group in &status.groups {
        if options.abnormal && is_normal(group) {
            continue;
        }
        let mut resources = group.resources.iter();
        let root = resources.next();
        let mut notes = Vec::new();
        if !group.managed {
            notes.push("unmanaged".to_owned());
        }
        if let Some(until) = group.maintenance_until {
            notes.push(format!("maintenance until {}", moment(until)));
        }
        if group.stopped_by_operator {
            notes.push("stopped by an operator".to_owned());
        }
        if let Some(location) = &group.location
            && *location != group.home
        {
            notes.push(format!("home is {}", group.home));
        }
        let mut state = phase(group.phase).to_owned();
        if let Some(root) = root {
            let (root_state, root_host, comment) = seen(root);
            let doubt = matches!(root_state, SeenState::Error | SeenState::Unknown);
            let moves = matches!(group.phase, Phase::Starting | Phase::Stopping);
            if !doubt && !moves && phase(group.phase) != seen_word(root_state) {
                let _ = write!(state, " ({}: {})", root.id, seen_word(root_state));
            }
            if doubt && !root_host.is_empty() {
                notes.push(format!("{} on {root_host}", seen_word(root_state)));
            }
            notes.extend(resource_notes(root, comment, now, false));
        }
        let host = group.location.as_ref().map(ToString::to_string).unwrap_or_default();
        let kind = root.map(|root| root.kind.clone()).unwrap_or_default();
        table.row(vec![group.id.to_string(), kind, state, host, notes.join(", ")]);
        for reason in &group.waits_for {
            table.line(format!("  ! {}", one_line(reason)));
        }
        if let Some(root) = root {
            details(root, now, options, &mut table);
        }
        for resource in resources {
            let (state, host, comment) = seen(resource);
            let name = format!("{}{}", "  ".repeat(resource.depth.min(16)), resource.id);
            let notes = resource_notes(resource, comment, now, true).join(", ");
            let host = if state == SeenState::Stopped { String::new() } else { host };
            table.row(vec![name, resource.kind.clone(), seen_word(state).to_owned(), host, notes]);
            details(resource, now, options, &mut table);
        }
    }
    if !table.is_empty() {
        part(out);
        table.print(out);
    }
}

fn resource_notes(resource: &ResourceStatus, comment: Option<&str>, now: i64, own: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if own && resource.stopped_by_operator {
        notes.push("stopped by an operator".to_owned());
    }
    if let Some(comment) = comment {
        notes.push(one_line(comment));
    }
    if let Some(last) = resource.failures.last() {
        let count = match resource.failures.len() {
            1 => "1 failure".to_owned(),
            count => format!("{count} failures, the last"),
        };
        let ago = ago(now, last.at);
        notes.push(format!("{count} {ago} ago: {} on {}: {}", last.action, last.host, one_line(&last.what)));
    }
    notes
}

fn details(resource: &ResourceStatus, now: i64, options: &StatusOptions, table: &mut Table) {
    if !options.verbose {
        return;
    }
    let indent = "  ".repeat(resource.depth.min(16) + 1);
    if !resource.parameters.is_empty() {
        let parameters: Vec<String> =
            resource.parameters.iter().map(|(name, value)| format!("{name}={}", one_line(value))).collect();
        table.line(format!("{indent}  {}", parameters.join(" ")));
    }
    for (host, seen) in &resource.on {
        let comment = seen.comment.as_deref().map(one_line).unwrap_or_default();
        let comment = if comment.is_empty() { comment } else { format!(": {comment}") };
        let state = seen_word(seen.state);
        table.line(format!("{indent}  {host}: {state}{}{comment}", lasting(now, seen.since)));
    }
}

fn host_state(state: HostState) -> &'static str {
    match state {
        HostState::Unseen => "unseen",
        HostState::Connected => "connected",
        HostState::Suspect => "suspect",
        HostState::AgentDown => "agent down",
        HostState::Lost => "lost",
        HostState::Fencing => "fencing",
        HostState::Off => "off",
        HostState::Refused => "refused",
    }
}

fn hosts(status: &Status, now: i64, options: &StatusOptions, out: &mut String) {
    // Hosts that look the same share a line, in the order of the first of them.
    let mut lines: Vec<(Vec<&str>, Vec<String>)> = Vec::new();
    let mut known: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for host in &status.hosts {
        let normal = host.state == HostState::Connected
            && host.active
            && !host.fenced
            && host.maintenance_until.is_none();
        if options.abnormal && normal {
            continue;
        }
        let cells = host_cells(host, now, options);
        let line = *known.entry(cells.clone()).or_insert_with(|| {
            lines.push((Vec::new(), cells));
            lines.len() - 1
        });
        if let Some((names, _)) = lines.get_mut(line) {
            names.push(host.id.as_str());
        }
    }
    let mut table = Table::new(if options.verbose {
        &["HOST", "STATE", "POWER", "NOTES", "AGENT", "FENCING"]
    } else {
        &["HOST", "STATE", "POWER", "NOTES"]
    });
    for (names, cells) in lines {
        let mut row = vec![fold(&names)];
        row.extend(cells);
        table.row(row);
    }
    if !table.is_empty() {
        part(out);
        table.print(out);
    }
}

fn host_cells(host: &HostStatus, now: i64, options: &StatusOptions) -> Vec<String> {
    let mut notes = Vec::new();
    if !host.active {
        notes.push("deactivated".to_owned());
    }
    if host.fenced {
        notes.push("fenced, not again before it is reset".to_owned());
    }
    if let Some(until) = host.maintenance_until {
        notes.push(format!("maintenance until {}", moment(until)));
    }
    if host.state != HostState::Connected {
        let detail = one_line(&host.detail);
        if !detail.is_empty() {
            notes.push(detail);
        }
        let since = lasting(now, host.since);
        if !since.is_empty() {
            notes.push(since.trim_start().to_owned());
        }
    }
    let power = host.power.as_ref().map_or(String::new(), |power| {
        let said = one_line(&power.said);
        // Why it is unknown is told by an alert; here it would push the notes out of sight.
        let short = said.split(':').next().unwrap_or_default().to_owned();
        if options.verbose { format!("{said} ({} ago)", ago(now, power.at)) } else { short }
    });
    let mut cells = vec![host_state(host.state).to_owned(), power, notes.join(", ")];
    if options.verbose {
        let mut agent = host.address.clone();
        if let Some(version) = &host.agent_version {
            let _ = write!(agent, " {}", one_line(version));
        }
        if let Some(isolation) = &host.isolation {
            let _ = write!(agent, " {isolation:?}");
        }
        cells.push(agent);
        let mut fencing = one_line(&host.fencing);
        if host.self_protected {
            fencing.push_str(", resets itself when cut off");
        }
        cells.push(fencing);
    }
    cells
}

fn commands(status: &Status, now: i64, options: &StatusOptions, out: &mut String) {
    let goes_on = |command: &&CommandStatus| matches!(command.progress, Progress::Running { .. });
    if options.abnormal {
        return;
    }
    let mut table = Table::new(&["COMMAND", "WHAT", "BY", "AGO", "HOW FAR"]);
    for command in status.commands.iter().filter(|command| options.verbose || goes_on(command)) {
        let progress = match &command.progress {
            Progress::Running { doing } => format!("... {}", one_line(doing)),
            Progress::Done { result } if result.is_empty() || result == "done" => "done".to_owned(),
            Progress::Done { result } => format!("done: {}", one_line(result)),
            Progress::Failed { reason } => format!("failed: {}", one_line(reason)),
        };
        let mut what = one_line(&command.what);
        if let Some(reason) = &command.reason {
            let _ = write!(what, " ({})", one_line(reason));
        }
        let by = one_line(&command.by);
        table.row(vec![command.id.to_string(), what, by, ago(now, command.at), progress]);
    }
    if !table.is_empty() {
        part(out);
        table.print(out);
    }
}

#[cfg(test)]
#[path = "overview_tests.rs"]
mod tests;
