//! The configuration file that `discover` writes.

use std::fmt::Write;

use super::layout::Group;

/// A text as YAML: plain where that cannot be misread, else with quotes.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte))
        && !["null", "true", "false", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// The file. `hosts` in this order, then hosts that only groups name.
pub fn render(hosts: &[String], groups: &[Group]) -> String {
    let mut all: Vec<&str> = hosts.iter().map(String::as_str).collect();
    for host in groups.iter().flat_map(|group| std::iter::once(&group.home).chain(&group.failover)) {
        if !all.contains(&host.as_str()) {
            all.push(host);
        }
    }
    let mut out = String::new();
    // Writing to a String does not fail.
    let mut line = |text: &str| {
        let _ = writeln!(out, "{text}");
    };
    line(
        "# Written by `discover`. Read it all, give every host a fence device, then check it with `validate`.",
    );
    line("hosts:");
    if all.is_empty() {
        line("  []");
    }
    for host in &all {
        line(&format!("  - hostname: {}", scalar(host)));
        line("    # How to power it off: without this nothing is ever started elsewhere for it.");
        line("    # fencing:");
        line("    #   - agent: fence_ipmilan");
        line(&format!(
            "    #     parameters: {{ip: {}, username: USER, lanplus: 1}}",
            scalar(&format!("{host}-bmc"))
        ));
        line("    #     secrets: {password: /etc/coordinatool/secrets/bmc}");
    }
    line("resources:");
    if groups.is_empty() {
        line("  []");
    }
    for group in groups {
        for (index, resource) in group.resources.iter().enumerate() {
            line(&format!("  - name: {}", scalar(&resource.name)));
            line(&format!("    kind: {}", resource.kind));
            line("    parameters:");
            for (name, value) in &resource.parameters {
                line(&format!("      {name}: {}", scalar(value)));
            }
            let dependents: Vec<String> = match index {
                0 => group.resources.iter().skip(1).map(|resource| scalar(&resource.name)).collect(),
                _ => Vec::new(),
            };
            line(&format!("    dependents: [{}]", dependents.join(", ")));
        }
    }
    line("resource_groups:");
    if groups.is_empty() {
        line("  []");
    }
    for group in groups {
        for note in &group.notes {
            line(&format!("  # {}", note.replace(|c: char| c.is_control(), " ")));
        }
        line(&format!("  - root: {}", scalar(&group.root)));
        line(&format!("    home_host: {}", scalar(&group.home)));
        let failover: Vec<String> = group.failover.iter().map(|host| scalar(host)).collect();
        if failover.is_empty() {
            line("    failover_hosts: []  # fill in which other hosts reach its disks");
        } else {
            line(&format!("    failover_hosts: [{}]", failover.join(", ")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ha::discover::layout::Resource;

    #[test]
    fn texts_are_quoted_where_they_must_be() {
        for (text, yaml) in [
            ("oss1", "oss1"),
            ("/dev/mapper/ost-0", "/dev/mapper/ost-0"),
            ("on", "\"on\""),
            ("10", "\"10\""),
            ("a: b", "\"a: b\""),
            ("", "\"\""),
            ("a\"b\n", "\"a\\\"b\\n\""),
            ("tank/o #1", "\"tank/o #1\""),
        ] {
            assert_eq!(scalar(text), yaml);
        }
    }

    #[test]
    fn the_file_is_halos_with_hints() {
        let resource = |name: &str| Resource {
            name: name.to_owned(),
            kind: "heartbeat/ZFS",
            parameters: vec![("pool", name.to_owned())],
        };
        let group = Group {
            root: "a".into(),
            home: "oss1".into(),
            failover: vec!["oss2".into()],
            resources: vec![resource("a"), resource("b")],
            notes: vec!["b is on oss2 now".into()],
        };
        let text = render(&["oss1".to_owned()], &[group]);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("# ")).collect();
        let wanted = "hosts:\n  - hostname: oss1\n  - hostname: oss2\nresources:\n  - name: a\n    kind: heartbeat/ZFS\n    \
                      parameters:\n      pool: a\n    dependents: [b]\n  - name: b\n    kind: heartbeat/ZFS\n    \
                      parameters:\n      pool: b\n    dependents: []\nresource_groups:\n  - root: a\n    home_host: oss1\n    \
                      failover_hosts: [oss2]";
        assert_eq!(lines.join("\n"), wanted);
        assert!(text.contains("  # b is on oss2 now\n  - root: a\n"));
    }

    #[test]
    fn the_file_is_a_good_configuration() {
        let text = "oss1 oss2 l-OST0000 zfs:a/o\nmds1 - MGS /dev/m\n1 - l-MDT0000 /dev/mapper/on\n";
        let (lines, _) = super::super::parse::ldev_conf(text, "F");
        let (groups, _) = super::super::layout::groups(&[], &lines, "/mnt");
        let text = render(&[], &groups);
        let config = crate::ha::config::load(&text, "F").map(|loaded| loaded.config);
        let config = config.unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
        assert_eq!((config.hosts.len(), config.groups.len(), config.resources.len()), (4, 3, 4));
        // What is commented out for the reader to fill in is right as well.
        let filled = text.replace("    # fencing:", "    fencing:").replace("    #   ", "      ");
        let config = crate::ha::config::load(&filled, "F").map(|loaded| loaded.config);
        let config = config.unwrap_or_else(|problems| panic!("{problems:?}\n{filled}"));
        assert!(config.hosts.values().all(|host| host.fencing.len() == 1));
    }
}
