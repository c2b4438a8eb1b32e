//! What a reload would change, for people.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use super::fencing::is_secret;
use super::model::{
    Config, FenceAttempts, FenceDevice, FenceLevel, Group, Host, Parameter, Resource, Settings,
};
use super::read::show;

/// Lines like `+ host oss3` and `~ group pool1: failover_hosts oss2 -> oss2, oss3`. Of secrets only that they changed.
/// Nothing: both mean the same.
pub fn difference(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    let changed = settings(&old.settings, &new.settings);
    lines.extend(changed.into_iter().map(|change| format!("~ cluster: {change}")));
    parts(&mut lines, "host", &old.hosts, &new.hosts, host, |host| {
        format!(" ({}, {})", listens(host), fencing(&host.fencing))
    });
    parts(&mut lines, "resource", &old.resources, &new.resources, resource, |resource| {
        format!(" ({}, group {})", resource.spec.kind, resource.group)
    });
    parts(&mut lines, "group", &old.groups, &new.groups, group, |group| format!(" ({})", places(group)));
    lines
}

fn parts<K: Ord + Display, V: PartialEq>(
    lines: &mut Vec<String>,
    what: &str,
    old: &BTreeMap<K, Arc<V>>,
    new: &BTreeMap<K, Arc<V>>,
    changes: impl Fn(&V, &V) -> Vec<String>,
    about: impl Fn(&V) -> String,
) {
    for id in old.keys().filter(|id| !new.contains_key(id)) {
        lines.push(format!("- {what} {id}"));
    }
    for (id, new) in new {
        match old.get(id) {
            None => lines.push(format!("+ {what} {id}{}", about(new))),
            Some(old) => {
                lines.extend(changes(old, new).into_iter().map(|change| format!("~ {what} {id}: {change}")));
            }
        }
    }
}

fn change(changes: &mut Vec<String>, name: &str, old: impl Display, new: impl Display) {
    let (old, new) = (old.to_string(), new.to_string());
    if old != new {
        let or_nothing = |text: String| if text.is_empty() { "(nothing)".to_owned() } else { text };
        changes.push(format!("{name} {} -> {}", or_nothing(old), or_nothing(new)));
    }
}

fn time(time: Option<Duration>) -> String {
    time.map_or("(default)".to_owned(), show)
}

fn settings(old: &Settings, new: &Settings) -> Vec<String> {
    let Settings {
        cluster,
        manage,
        heartbeat_interval,
        detection_time,
        fresh_time,
        agent_grace,
        startup_fencing,
        fence_attempts,
        power_on_after_fence,
        fence_monitor_interval,
        monitor_interval,
        unfinished_limit,
        proof_age,
        blast_radius_percent,
    } = old;
    let mut all = Vec::new();
    let manages =
        |manage: Option<bool>| manage.map_or("(command line)".to_owned(), |manage| manage.to_string());
    let attempts = |attempts: FenceAttempts| match attempts {
        FenceAttempts::OnceUntilReset => "once".to_owned(),
        FenceAttempts::Within { count, window } => format!("{count} in {}", show(window)),
    };
    change(&mut all, "name", cluster, &new.cluster);
    change(&mut all, "manage", manages(*manage), manages(new.manage));
    change(&mut all, "heartbeat_interval", show(*heartbeat_interval), show(new.heartbeat_interval));
    change(&mut all, "detection_time", show(*detection_time), show(new.detection_time));
    change(&mut all, "fresh_time", show(*fresh_time), show(new.fresh_time));
    change(&mut all, "agent_grace", show(*agent_grace), show(new.agent_grace));
    change(&mut all, "startup_fencing", startup_fencing, new.startup_fencing);
    change(&mut all, "fence_attempts", attempts(*fence_attempts), attempts(new.fence_attempts));
    change(&mut all, "power_on_after_fence", power_on_after_fence, new.power_on_after_fence);
    change(
        &mut all,
        "fence_monitor_interval",
        show(*fence_monitor_interval),
        show(new.fence_monitor_interval),
    );
    change(&mut all, "monitor_interval", show(*monitor_interval), show(new.monitor_interval));
    change(&mut all, "unfinished_limit", show(*unfinished_limit), show(new.unfinished_limit));
    change(&mut all, "proof_age", show(*proof_age), show(new.proof_age));
    change(&mut all, "blast_radius", blast_radius_percent, new.blast_radius_percent);
    all
}

fn listens(host: &Host) -> String {
    if host.address.contains(':') {
        format!("[{}]:{}", host.address, host.port)
    } else {
        format!("{}:{}", host.address, host.port)
    }
}

fn fencing(levels: &[FenceLevel]) -> String {
    let level = |level: &FenceLevel| {
        let names: Vec<&str> = level.devices.iter().map(|device| device.name.as_str()).collect();
        names.join(" and ")
    };
    match levels {
        [] => "no fencing".to_owned(),
        levels => levels.iter().map(level).collect::<Vec<_>>().join(", then "),
    }
}

fn host(old: &Host, new: &Host) -> Vec<String> {
    let mut all = Vec::new();
    change(&mut all, "address", listens(old), listens(new));
    change(&mut all, "self_protection", time(old.self_protection), time(new.self_protection));
    let names = (fencing(&old.fencing), fencing(&new.fencing));
    if names.0 != names.1 {
        change(&mut all, "fencing", names.0, names.1);
        return all;
    }
    let devices = |host: &Host| -> Vec<Arc<FenceDevice>> {
        host.fencing.iter().flat_map(|level| level.devices.clone()).collect()
    };
    for (old, new) in devices(old).iter().zip(&devices(new)) {
        let name = |key: &str| format!("{} {key}", new.name);
        change(&mut all, &name("timeout"), show(old.timeout), show(new.timeout));
        change(&mut all, &name("delay"), show(old.delay), show(new.delay));
        change(&mut all, &name("attempts"), old.attempts, new.attempts);
        let shown = |parameter: &Parameter| match parameter {
            Parameter::Plain(text) => format!("{text:?}"),
            Parameter::Secret(_) => "(secret)".to_owned(),
            Parameter::File(file) => format!("(secret in {file})"),
        };
        values(&mut all, &new.name, &old.parameters, &new.parameters, |_, parameter| shown(parameter));
    }
    all
}

/// Changes of values by name. Two that differ but look the same are secrets.
fn values<V: PartialEq>(
    changes: &mut Vec<String>,
    of: &str,
    old: &BTreeMap<String, V>,
    new: &BTreeMap<String, V>,
    shown: impl Fn(&str, &V) -> String,
) {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (old, new) = (old.get(name), new.get(name));
        if old == new {
            continue;
        }
        let text = |value: Option<&V>| value.map_or("(nothing)".to_owned(), |value| shown(name, value));
        let (old, new) = (text(old), text(new));
        changes.push(match old == new {
            true => format!("{of} {name} changed"),
            false => format!("{of} {name} {old} -> {new}"),
        });
    }
}

fn resource(old: &Resource, new: &Resource) -> Vec<String> {
    let mut all = Vec::new();
    change(&mut all, "kind", &old.spec.kind, &new.spec.kind);
    values(&mut all, "parameter", &old.spec.parameters, &new.spec.parameters, |name, text| {
        if is_secret(name) { "(secret)".to_owned() } else { format!("{text:?}") }
    });
    change(&mut all, "group", &old.group, &new.group);
    let parent = |resource: &Resource| resource.parent.as_ref().map(ToString::to_string).unwrap_or_default();
    change(&mut all, "depends on", parent(old), parent(new));
    change(&mut all, "start timeout", time(old.start_timeout), time(new.start_timeout));
    change(&mut all, "stop timeout", time(old.stop_timeout), time(new.stop_timeout));
    change(&mut all, "monitor timeout", time(old.monitor_timeout), time(new.monitor_timeout));
    change(&mut all, "monitor interval", time(old.monitor_interval), time(new.monitor_interval));
    change(&mut all, "monitor depth", old.monitor_depth, new.monitor_depth);
    change(&mut all, "retries", old.failures.retries, new.failures.retries);
    change(&mut all, "threshold", old.failures.threshold, new.failures.threshold);
    change(&mut all, "window", show(old.failures.window), show(new.failures.window));
    all
}

fn list<T: Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn places(group: &Group) -> String {
    if group.failover.is_empty() {
        format!("on {}", group.home)
    } else {
        format!("on {}, else {}", group.home, list(&group.failover))
    }
}

fn group(old: &Group, new: &Group) -> Vec<String> {
    let mut all = Vec::new();
    change(&mut all, "home_host", &old.home, &new.home);
    change(&mut all, "failover_hosts", list(&old.failover), list(&new.failover));
    change(&mut all, "auto_failback", old.auto_failback, new.auto_failback);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::config::load;

    const OLD: &str = "\
hosts:
- {hostname: a, fencing: [{agent: fence_ipmilan, parameters: {ip: a-bmc, password: old}}]}
- {hostname: b}
resources:
- {name: r, kind: x/y, parameters: {n: 1, passwd: old}, dependents: [s]}
- {name: s, kind: x/y, parameters: {n: 2}}
resource_groups: [{root: r, home_host: a, failover_hosts: [b]}]
";

    fn lines(changes: &[(&str, &str)]) -> Vec<String> {
        let text = changes.iter().fold(OLD.to_owned(), |text, (old, new)| text.replacen(old, new, 1));
        let load = |text: &str| load(text, "f").unwrap_or_else(|problems| panic!("{problems:?}")).config;
        let found = difference(&load(OLD), &load(&text));
        assert!(!found.iter().any(|line| line.contains("\"old\"") || line.contains("\"new\"")), "{found:?}");
        found
    }

    #[test]
    fn only_what_changed_and_no_secrets() {
        assert!(lines(&[]).is_empty());
        let one: &[(&str, &str, &str)] = &[
            ("hosts:", "cluster: {detection_time: 10}\nhosts:", "~ cluster: detection_time 8s -> 10s"),
            (
                "hosts:",
                "cluster: {fence_attempts: {count: 3, window: 1h}}\nhosts:",
                "~ cluster: fence_attempts once -> 3 in 1h",
            ),
            ("resources:", "- {hostname: c}\nresources:", "+ host c (c:8000, no fencing)"),
            ("hostname: b", "hostname: b, address: '::1'", "~ host b: address b:8000 -> [::1]:8000"),
            ("password: old", "password: new", "~ host a: fence_ipmilan(a-bmc) password changed"),
            ("ip: a-bmc", "ip: x", "~ host a: fencing fence_ipmilan(a-bmc) -> fence_ipmilan(x)"),
            ("passwd: old", "passwd: new", "~ resource r: parameter passwd changed"),
            ("n: 1", "n: 3", "~ resource r: parameter n \"1\" -> \"3\""),
            ("failover_hosts: [b]", "failover_hosts: []", "~ group r: failover_hosts b -> (nothing)"),
            ("[b]", "[b], auto_failback: yes", "~ group r: auto_failback false -> true"),
        ];
        for (old, new, line) in one {
            assert_eq!(lines(&[(old, new)]), [*line], "{new}");
        }
        let moved = lines(&[(", dependents: [s]", ""), ("[b]}]", "[b]}, {root: s, home_host: b}]")]);
        let expected =
            ["~ resource s: group r -> s", "~ resource s: depends on r -> (nothing)", "+ group s (on b)"];
        assert_eq!(moved, expected);
    }
}
