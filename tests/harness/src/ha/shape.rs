//! What a cluster of a test looks like.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// How a host is fenced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fencing {
    /// By `fence_test`.
    Test,
    /// Not at all.
    None,
    /// As this says, below the key `fencing` of the host (with six blanks before each line).
    Yaml(String),
}

/// A group of the test's resource agent.
#[derive(Debug, Clone)]
pub struct GroupShape {
    /// Its root.
    pub root: String,
    /// Children of the root.
    pub children: Vec<String>,
    /// Where it belongs.
    pub home: String,
    /// Where else it may run.
    pub failover: Vec<String>,
    /// More keys of the group, each a line.
    pub keys: Vec<String>,
    /// More keys of each of its resources, each a line, with what is below it.
    pub resource_keys: Vec<String>,
    /// More parameters of each of its resources.
    pub parameters: BTreeMap<String, String>,
    /// The kind of its resources.
    pub kind: String,
}

impl GroupShape {
    /// A root with one child, whose name is the root's with a `c` behind it.
    pub fn new(root: &str, home: &str, failover: &[&str]) -> Self {
        Self {
            root: root.to_owned(),
            children: vec![format!("{root}c")],
            home: home.to_owned(),
            failover: failover.iter().map(|&host| host.to_owned()).collect(),
            keys: Vec::new(),
            resource_keys: Vec::new(),
            parameters: BTreeMap::new(),
            kind: "test/Service".to_owned(),
        }
    }

    /// One more key for each of its resources.
    #[must_use]
    pub fn resource_key(mut self, line: &str) -> Self {
        self.resource_keys.push(line.to_owned());
        self
    }

    /// Root and children.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.root.as_str()).chain(self.children.iter().map(String::as_str))
    }
}

/// Hosts, groups and settings.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Names of hosts and how they are fenced.
    pub hosts: Vec<(String, Fencing)>,
    /// Groups.
    pub groups: Vec<GroupShape>,
    /// Keys below `cluster`; short times unless set otherwise.
    pub settings: BTreeMap<String, String>,
    /// Whether the manager may act.
    pub manage: bool,
    /// More arguments of the manager.
    pub manager_arguments: Vec<String>,
    /// More arguments of each agent.
    pub agent_arguments: Vec<String>,
    /// A program and its arguments that each agent is started by, such as `unshare`; it must become the agent.
    pub agent_prefix: Vec<String>,
    /// The same for managers.
    pub manager_prefix: Vec<String>,
    /// Where resource agents are, if not those of the tests.
    pub ocf_root: Option<PathBuf>,
}

impl Shape {
    /// Hosts h0, h1, ... with fence devices, no groups, and a manager that acts.
    pub fn hosts(count: usize) -> Self {
        let settings = [
            ("heartbeat_interval", "100ms"),
            ("detection_time", "1500ms"),
            ("fresh_time", "800ms"),
            ("proof_age", "1500ms"),
            ("agent_grace", "300ms"),
            ("monitor_interval", "200ms"),
            ("fence_monitor_interval", "0"),
            ("unfinished_limit", "2s"),
        ];
        Self {
            hosts: (0..count).map(|number| (format!("h{number}"), Fencing::Test)).collect(),
            groups: Vec::new(),
            settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            manage: true,
            manager_arguments: Vec::new(),
            agent_arguments: Vec::new(),
            agent_prefix: Vec::new(),
            manager_prefix: Vec::new(),
            ocf_root: None,
        }
    }

    /// Two hosts that stand in for each other, each the home of a group with a child (HALO's tests have this).
    pub fn pair() -> Self {
        Self::hosts(2).group(GroupShape::new("g0", "h0", &["h1"])).group(GroupShape::new("g1", "h1", &["h0"]))
    }

    /// One more group.
    #[must_use]
    pub fn group(mut self, group: GroupShape) -> Self {
        self.groups.push(group);
        self
    }

    /// Another value for a setting of the cluster.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Only observe.
    #[must_use]
    pub fn observing(mut self) -> Self {
        self.manage = false;
        self
    }

    /// Resource agents of this machine instead of the tests' own.
    #[must_use]
    pub fn ocf_root(mut self, root: &str) -> Self {
        self.ocf_root = Some(root.into());
        self
    }

    /// Another way to fence a host.
    #[must_use]
    pub fn fencing(mut self, host: &str, fencing: Fencing) -> Self {
        for (name, present) in &mut self.hosts {
            if name == host {
                present.clone_from(&fencing);
            }
        }
        self
    }

    /// The configuration; agents listen on these addresses, from port `port` on.
    pub(super) fn yaml(&self, directory: &Path, addresses: &[String], port: u16) -> String {
        let mut text = String::from("cluster:\n");
        let mut add = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("text can be written");
        for (key, value) in &self.settings {
            add(format_args!("  {key}: {value}"));
        }
        add(format_args!("hosts:"));
        for (((name, fencing), address), port) in self.hosts.iter().zip(addresses).zip(port..) {
            add(format_args!("- hostname: {name}\n  address: {address}\n  port: {port}"));
            match fencing {
                Fencing::Test => add(format_args!(
                    "  fencing:\n    - agent: fence_test\n      parameters: {{dir: {}}}\n      timeout: 5s\n      \
                     attempts: 1",
                    directory.display()
                )),
                Fencing::None => {}
                Fencing::Yaml(yaml) => add(format_args!("  fencing:\n{yaml}")),
            }
        }
        add(format_args!("resources:"));
        for group in &self.groups {
            for member in group.members() {
                let dependents = if member == group.root { group.children.join(", ") } else { String::new() };
                add(format_args!("- name: {member}\n  kind: {}\n  dependents: [{dependents}]", group.kind));
                add(format_args!("  parameters:"));
                if group.kind.starts_with("test/") {
                    add(format_args!("    dir: {}\n    target: {member}", directory.display()));
                }
                for (name, value) in &group.parameters {
                    add(format_args!("    {name}: \"{}\"", value.replace("%r", member)));
                }
                for key in &group.resource_keys {
                    add(format_args!("  {key}"));
                }
            }
        }
        add(format_args!("resource_groups:"));
        for group in &self.groups {
            add(format_args!("- root: {}\n  home_host: {}", group.root, group.home));
            add(format_args!("  failover_hosts: [{}]", group.failover.join(", ")));
            for key in &group.keys {
                add(format_args!("  {key}"));
            }
        }
        text
    }
}
