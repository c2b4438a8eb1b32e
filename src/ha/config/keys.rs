//! Every key that a configuration may hold. What is marked `HALO` is HALO's (a0fa0b9) and means here what it means there.
//!
//! Durations are `500ms`, `30s`, `2m`, `1h`, `1d`; a plain number counts seconds. Keys that begin with `x-` are skipped
//! wherever they are: they are the place for what is only there to be referred to by a YAML alias.

/// A mapping of the configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    /// Where it is, with `[]` for any element of a list.
    pub path: &'static str,
    /// Its keys and what they mean.
    pub keys: &'static [(&'static str, &'static str)],
}

/// All sections.
pub const SECTIONS: &[&Section] = &[
    &TOP,
    &CLUSTER,
    &FENCE_ATTEMPTS,
    &HOST,
    &FENCE_DEVICE,
    &RESOURCE,
    &OPERATIONS,
    &OPERATION,
    &MONITOR,
    &FAILURES,
    &GROUP,
];

/// The file.
pub const TOP: Section = Section {
    path: "",
    keys: &[
        ("hosts", "HALO. List of servers."),
        ("resources", "HALO. List of resources."),
        ("resource_groups", "HALO. List of groups."),
        ("cluster", "What holds for the cluster."),
    ],
};

/// Settings of the cluster.
pub const CLUSTER: Section = Section {
    path: "cluster",
    keys: &[
        ("name", "Name of the cluster; agents of another one refuse orders. Default: lustre."),
        ("manage", "Whether anything may be done. Default: what the command line says, else only observe."),
        ("heartbeat_interval", "How often agents show that they are alive. Default: 1s."),
        ("detection_time", "A host that is silent for so long is lost. Default: 8s."),
        (
            "fresh_time",
            "How old the heartbeat that a start refers to may be, by the agent's clock. Default: 4s.",
        ),
        (
            "agent_grace",
            "How long a host may be without its agent while its kernel still answers. Default: 30s.",
        ),
        ("startup_fencing", "Fence lost hosts that this manager has never seen alive. Default: false."),
        (
            "fence_attempts",
            "How often a host is fenced automatically: `once`, then not before `reset` (HALO's rule and the default), or a mapping.",
        ),
        ("power_on_after_fence", "Power a fenced host on again. Default: false."),
        (
            "fence_monitor_interval",
            "How often fence devices are asked whether they work; 0: never. Default: 5m.",
        ),
        (
            "monitor_interval",
            "How often resources are monitored where neither they nor their agents say. Default: 5s.",
        ),
        (
            "unfinished_limit",
            "An operation that is unfinished for so long after its timeout has its host fenced. Default: 1m.",
        ),
        (
            "proof_age",
            "How old a proof that a resource is stopped, or a host off, may be at a start. Default: 5s.",
        ),
        (
            "blast_radius",
            "More hosts than this share, per cent, lost at once: nothing is fenced. Default: 25.",
        ),
    ],
};

/// `cluster.fence_attempts`, where it is not `once`.
pub const FENCE_ATTEMPTS: Section = Section {
    path: "cluster.fence_attempts",
    keys: &[("count", "How often."), ("window", "Within which time.")],
};

/// A server.
pub const HOST: Section = Section {
    path: "hosts[]",
    keys: &[
        (
            "hostname",
            "HALO. `name` or `name:port`, unique; the name without the port names the host. `[::1]:8000` for IPv6.",
        ),
        (
            "fence_agent",
            "HALO. `powerman`, `redfish`, `fence_test` or nothing; here also the name of any fence agent.",
        ),
        ("fence_parameters", "HALO. Parameters of `fence_agent`."),
        ("address", "Where its agent listens, if that is not the host name."),
        ("port", "At which port. Default: 8000."),
        (
            "fencing",
            "Fence devices, best first, in place of `fence_agent`. An element that is a list holds devices that only together power the host off.",
        ),
        (
            "self_protection",
            "Its hardware watchdog resets it when it is cut off from the manager for so long. Default: never.",
        ),
    ],
};

/// A fence device.
pub const FENCE_DEVICE: Section = Section {
    path: "hosts[].fencing[]",
    keys: &[
        ("agent", "The fence agent, for instance `fence_ipmilan`."),
        ("parameters", "What it is told (fence-agents API), without `action`."),
        ("secrets", "Parameters whose values are the first lines of files that only root may read."),
        ("plug", "Short for `plug` in `parameters`: which machine of the device."),
        ("timeout", "How long one call may take. Default: 60s."),
        ("delay", "Wait so long before the first `off`. Default: 0."),
        ("attempts", "How often `off` is tried before the next level. Default: 2."),
    ],
};

/// A resource.
pub const RESOURCE: Section = Section {
    path: "resources[]",
    keys: &[
        ("name", "HALO. Unique."),
        ("kind", "HALO. The OCF resource agent: `provider/type`."),
        ("parameters", "HALO. Its parameters."),
        ("dependents", "HALO. Names of resources that are started after this one and stopped before it."),
        ("operations", "Times of its operations."),
        ("failures", "How its failures are met."),
    ],
};

/// Times of a resource's operations.
pub const OPERATIONS: Section = Section {
    path: "resources[].operations",
    keys: &[("start", "Times of start."), ("stop", "Times of stop."), ("monitor", "Times of monitor.")],
};

/// Start and stop.
pub const OPERATION: Section = Section {
    path: "resources[].operations.start",
    keys: &[("timeout", "How long it may take. Default: what the agent's meta-data advise.")],
};

/// Monitor.
pub const MONITOR: Section = Section {
    path: "resources[].operations.monitor",
    keys: &[
        ("timeout", "How long it may take. Default: what the agent's meta-data advise."),
        (
            "interval",
            "How often it runs. Default: what the agent's meta-data advise, else `monitor_interval`.",
        ),
        ("depth", "`OCF_CHECK_LEVEL`, 0 to 255. Default: 0."),
    ],
};

/// How failures of a resource are met.
pub const FAILURES: Section = Section {
    path: "resources[].failures",
    keys: &[
        ("retries", "Restarts in place before it is moved, within `window`. Default: 3."),
        (
            "threshold",
            "Failures on all hosts within `window` after which it stays stopped until it is cleared. Default: 9.",
        ),
        ("window", "How long a failure counts. Default: 1h."),
    ],
};

/// A group.
pub const GROUP: Section = Section {
    path: "resource_groups[]",
    keys: &[
        ("root", "HALO. Its root resource, which names the group."),
        ("home_host", "HALO. Where it belongs."),
        ("failover_hosts", "HALO (there at most one). Where else it may run, best first."),
        ("auto_failback", "Return home by itself once home is well again. Default: false."),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_explained() {
        for section in SECTIONS {
            for (index, (name, about)) in section.keys.iter().enumerate() {
                assert!(about.ends_with('.'), "{name}");
                assert!(section.keys[..index].iter().all(|(other, _)| other != name), "{name}");
            }
        }
    }

    #[test]
    fn the_manual_explains_every_key_with_its_default() {
        let manual = include_str!("../../../docs/man/coordinatool-ha.yaml.5");
        for section in SECTIONS {
            for (name, about) in section.keys {
                let is_entry = |line: &str| {
                    let mut words = line.split([' ', '*', ',']).filter(|word| !word.is_empty());
                    matches!(words.next(), Some(".B" | ".BR")) && words.any(|word| word == *name)
                };
                let entries: Vec<&str> = manual.lines().filter(|line| is_entry(line)).collect();
                assert!(!entries.is_empty(), "{name} of {} is not in the manual", section.path);
                // Defaults that are one word.
                let default = about.split_once("Default: ").map(|(_, rest)| rest.trim_end_matches('.'));
                if let Some(default) = default.filter(|default| !default.contains(' ')) {
                    let shown = entries.iter().any(|line| line.contains(&format!("({default}")));
                    assert!(shown, "the default {default} of {name} is not in the manual: {entries:?}");
                }
            }
        }
    }
}
