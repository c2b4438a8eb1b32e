use std::time::Duration;

use super::*;
use crate::ha::config::*;

const HALO: &str = "\
hosts:
- hostname: oss1:8000
  fence_agent: powerman
  fence_parameters: null
- hostname: oss2:8001
  fence_agent: redfish
  fence_parameters: {username: admin, password: hidden}
resources:
- name: pool1
  kind: heartbeat/ZFS
  parameters: {pool: pool1, importforce: true}
  dependents: [ost1, ost0]
- name: ost0
  kind: lustre/Lustre
  parameters: {target: pool1/ost0, mountpoint: /mnt/ost0, index: 7}
  dependents: []
- name: ost1
  kind: lustre/Lustre
  parameters: {target: pool1/ost1, mountpoint: /mnt/ost1}
  dependents: []
resource_groups:
- root: pool1
  home_host: oss1:8000
  failover_hosts: [oss2]
";

fn good(text: &str) -> Loaded {
    load(text, "ha.yaml").unwrap_or_else(|problems| panic!("{problems:#?}"))
}

#[test]
fn halos_file_as_it_is() {
    let Loaded { config, warnings, secrets, .. } = good(HALO);
    assert_eq!(warnings, []);
    assert_eq!(secrets, [(7, "hosts[1].fence_parameters.password".to_owned())]);
    assert_eq!(config.settings, Settings::default());
    let device = |host: &str| config.hosts[host].fencing[0].devices[0].clone();
    let plain = |text: &str| Parameter::Plain(text.to_owned());
    let powerman = device("oss1");
    assert_eq!(
        (powerman.agent.as_str(), powerman.name.as_str()),
        ("fence_powerman", "fence_powerman(localhost, oss1)")
    );
    let expected = [("ipaddr".to_owned(), plain("localhost")), ("plug".to_owned(), plain("oss1"))];
    assert_eq!(powerman.parameters, expected.into());
    let redfish = device("oss2");
    assert_eq!(redfish.agent, "fence_redfish");
    assert_eq!(redfish.parameters["ipaddr"], plain("oss2"));
    assert_eq!(redfish.parameters["ssl-insecure"], plain("true"));
    assert_eq!(redfish.parameters["password"], Parameter::Secret(Secret("hidden".into())));
    assert!(!format!("{config:?}").contains("hidden"));
    assert_eq!((config.hosts["oss2"].address.as_str(), config.hosts["oss2"].port), ("oss2", 8001));
    let group = &config.groups["pool1"];
    assert_eq!(group.members, ["pool1", "ost1", "ost0"].map(Into::into));
    assert_eq!((group.home.as_str(), group.failover[0].as_str()), ("oss1", "oss2"));
    assert_eq!(config.resources["ost0"].spec.parameters["index"], "7");
    assert_eq!(config.resources["pool1"].spec.parameters["importforce"], "true");
    assert_eq!(config.resources["ost0"].parent, Some("pool1".into()));
}

/// Replaces parts of a good file, and says what was wrong with the result: line, key, message with hint.
fn wrong(changes: &[(&str, &str)]) -> Vec<(usize, String, String)> {
    let mut text = HALO.to_owned();
    for (old, new) in changes {
        assert!(text.contains(old), "{old}");
        text = text.replacen(old, new, 1);
    }
    let problems = load(&text, "ha.yaml").expect_err(&text);
    assert!(problems.iter().all(|problem| problem.file == "ha.yaml"), "{problems:?}");
    let said =
        |problem: &Problem| format!("{}; {}", problem.message, problem.hint.as_deref().unwrap_or_default());
    problems.iter().map(|problem| (problem.line, problem.key.clone(), said(problem))).collect()
}

#[test]
fn every_error_with_its_line_key_and_what_was_meant() {
    type Row = (&'static str, &'static str, usize, &'static str, &'static [&'static str]);
    let table: &[Row] = &[
        // What HALO takes silently.
        (
            "fence_agent: powerman",
            "fence_agnt: powerman",
            3,
            "hosts[0].fence_agnt",
            &["unknown key", "did you mean fence_agent?"],
        ),
        (
            "resource_groups:",
            "resource_group:",
            21,
            "resource_group",
            &["unknown key", "did you mean resource_groups?"],
        ),
        ("dependents: []", "depends: []", 16, "resources[1].depends", &["unknown key"]),
        ("name: ost1", "name: ost0", 17, "resources[2].name", &["ost0 is there already", "line 13"]),
        ("oss2:8001", "oss1:8000", 5, "hosts[1].hostname", &["oss1 is there already", "line 2"]),
        ("oss2:8001", "oss1:8001", 5, "hosts[1].hostname", &["oss1 is there already", "`address`"]),
        ("[oss2]", "[oss1]", 24, "resource_groups[0].failover_hosts[0]", &["cannot fail over to itself"]),
        ("[oss2]", "[oss2, oss2]", 24, "resource_groups[0].failover_hosts[1]", &["in this list already"]),
        (
            "pool: pool1, importforce",
            "pool: pool1, pool: pool1, importforce",
            11,
            "resources[0].parameters.pool",
            &["this key is there already"],
        ),
        // What makes HALO panic, or crash.
        (
            "home_host: oss1:8000",
            "home_host: oss7",
            23,
            "resource_groups[0].home_host",
            &["no host \"oss7\"", "did you mean oss"],
        ),
        (
            "[oss2]",
            "[os2]",
            24,
            "resource_groups[0].failover_hosts[0]",
            &["no host \"os2\"", "did you mean oss2?"],
        ),
        (
            "dependents: [ost1, ost0]",
            "dependents: [ost1, osto]",
            12,
            "resources[0].dependents[1]",
            &["no resource \"osto\"", "did you mean ost0?"],
        ),
        (
            "root: pool1",
            "root: pool",
            22,
            "resource_groups[0].root",
            &["no resource pool", "did you mean pool1?"],
        ),
        (
            "fence_agent: powerman",
            "fence_agent: powermann",
            3,
            "hosts[0].fence_agent",
            &["unknown fence agent", "did you mean powerman?"],
        ),
        (
            "fence_agent: powerman",
            "fence_agent: ipmilan",
            3,
            "hosts[0].fence_agent",
            &["unknown fence agent", "fence_ipmilan"],
        ),
        (", password: hidden", "", 6, "hosts[1].fence_parameters", &["needs password"]),
        ("oss1:8000", "oss1:eight", 2, "hosts[0].hostname", &["\"eight\" is not a port"]),
        (
            "dependents: []",
            "dependents: [pool1]",
            9,
            "resources[0].dependents",
            &["in a circle", "pool1 after ost0 after pool1"],
        ),
        (
            "dependents: []",
            "dependents: [ost0]",
            16,
            "resources[1].dependents[0]",
            &["ost0 depends on itself"],
        ),
        (
            "dependents: []",
            "dependents: [ost1]",
            16,
            "resources[1].dependents[0]",
            &["ost1 is shared", "pool1 in line 9"],
        ),
        (
            "root: pool1",
            "root: ost1",
            22,
            "resource_groups[0].root",
            &["cannot be a root", "make pool1 the root"],
        ),
        // What HALO tells well.
        ("- name: pool1\n", "- nam: pool1\n", 9, "resources[0].name", &["missing"]),
        ("root: pool1\n", "x-root: pool1\n", 22, "resource_groups[0].root", &["missing"]),
        (
            "kind: lustre/Lustre",
            "kind: Lustre",
            14,
            "resources[1].kind",
            &["not a resource agent", "did you mean lustre/Lustre?"],
        ),
        (
            "kind: lustre/Lustre",
            "kind: ../../bin/touch",
            14,
            "resources[1].kind",
            &["not a resource agent", "never leaves resource.d"],
        ),
        (
            "kind: heartbeat/ZFS",
            "kind: ocf:heartbeat:ZFS",
            10,
            "resources[0].kind",
            &["did you mean heartbeat/ZFS?"],
        ),
        ("hosts:\n", "hosts: {}\nnodes:\n", 1, "hosts", &["a list is expected"]),
        ("index: 7", "in-dex: 7", 15, "resources[1].parameters.in-dex", &["not the name of a parameter"]),
        ("index: 7", "index: [7]", 15, "resources[1].parameters.index", &["a text is expected, not a list"]),
        ("index: 7", "index:", 15, "resources[1].parameters.index", &["\"\""]),
        (
            "target: pool1/ost1",
            "target: pool1/ost0",
            17,
            "resources[2].parameters",
            &["same device pool1/ost0 as ost0 in line 13"],
        ),
        (
            "username: admin",
            "username: admin, action: on",
            7,
            "hosts[1].fence_parameters.action",
            &["the manager itself"],
        ),
    ];
    for (old, new, line, key, says) in table {
        let found = wrong(&[(old, new)]);
        let fits = |(at, path, message): &(usize, String, String)| {
            at == line && path == key && says.iter().all(|part| message.contains(part))
        };
        assert!(found.iter().any(fits), "{new}: {line} {key} {says:?}: {found:#?}");
    }
}

#[test]
fn all_errors_at_once_in_the_order_of_the_file() {
    let found = wrong(&[
        ("fence_agent: powerman", "fence_agnt: x"),
        ("kind: lustre/Lustre", "kind: x"),
        ("[oss2]", "[oss9, oss1]"),
    ]);
    let lines: Vec<usize> = found.iter().map(|(line, ..)| *line).collect();
    assert_eq!(lines, [3, 14, 24, 24], "{found:#?}");
    // What follows from another error is not told.
    for wrong_host in ["oss1:x", "oss1:8001"] {
        let found = wrong(&[("oss2:8001", wrong_host), ("[oss2]", &format!("['{wrong_host}']"))]);
        assert!(found.len() == 1 && found[0].0 == 5, "{found:#?}");
    }
}

#[test]
fn settings_that_contradict_each_other() {
    let table: &[(&str, &str, &str)] = &[
        ("heartbeat_interval: 4s", "cluster.heartbeat_interval", "more than 8s"),
        ("detection_time: 2s", "cluster.detection_time", "more than 2s"),
        ("fresh_time: 8", "cluster.fresh_time", "less than detection_time"),
        ("fresh_time: 1", "cluster.fresh_time", "more than heartbeat_interval"),
        ("proof_age: 9s", "cluster.proof_age", "not be more than"),
        ("blast_radius: 0", "cluster.blast_radius", "1 to 100"),
        ("agent_grace: 5 weeks", "cluster.agent_grace", "500ms, 30s, 2m"),
        ("fence_attempts: twice", "cluster.fence_attempts", "{count: 3, window: 1h}"),
        ("fence_attempts: {count: 2}", "cluster.fence_attempts", "both"),
        ("monitor_intervall: 2", "cluster.monitor_intervall", "did you mean monitor_interval?"),
        ("manage: maybe", "cluster.manage", "true or false"),
    ];
    for (setting, key, says) in table {
        let found = wrong(&[("hosts:", &format!("cluster: {{{setting}}}\nhosts:"))]);
        let fits = |(line, path, message): &(usize, String, String)| {
            *line == 1 && path == key && message.contains(says)
        };
        assert!(found.iter().any(fits), "{setting}: {found:#?}");
    }
    let lease = wrong(&[("fence_parameters: null", "self_protection: 2s")]);
    assert!(lease[0].1 == "hosts[0].self_protection" && lease[0].2.contains("more than 2s"), "{lease:?}");
}

#[test]
fn what_looks_wrong_is_told_but_loads() {
    let table: &[(&str, &str, usize, &str)] = &[
        ("  fence_agent: powerman\n", "", 2, "oss1 cannot be fenced"),
        ("[ost1, ost0]", "[ost1]", 13, "ost0 is in no group"),
        ("[ost1, ost0]", "[ost1]", 13, "ost0 is in no group"),
        ("fence_agent: powerman", "fence_agent: fence_powrman", 3, "did you mean fence_powerman?"),
        ("mountpoint: /mnt/ost1", "mountpoint: /mnt/ost0/", 13, "like ost1, and both may be on oss1"),
        ("target: pool1/ost0, ", "taget: pool1/ost0, ", 15, "did you mean target?"),
        ("fence_parameters: null", "self_protection: 5s", 2, "before it counts as lost"),
    ];
    for (old, new, line, says) in table {
        let text = HALO.replacen(old, new, 1);
        let warnings = good(&text).warnings;
        let fits = |warning: &Problem| warning.line == *line && warning.to_string().contains(says);
        assert!(warnings.iter().any(fits), "{new}: {warnings:#?}");
    }
    let none = "hosts: [{hostname: a}]\nresources: []\nresource_groups: []\n";
    assert!(good(none).warnings[0].message.contains("no groups"));
}

#[test]
fn hosts_at_one_address_and_rings() {
    let text = "\
hosts:
- {hostname: 'localhost:8001', fence_agent: fence_test, fence_parameters: {target: h1, test_id: t}}
- {hostname: 'localhost:8002', fence_agent: fence_test, fence_parameters: {target: h2, test_id: t}}
- {hostname: h3, address: localhost, port: 8003, fencing: [{agent: fence_dummy}]}
- {hostname: '[::1]:8004', fencing: [{agent: fence_dummy}]}
resources:
- {name: a, kind: x/y, parameters: {n: 1}}
- {name: b, kind: x/y, parameters: {n: 2}}
- {name: c, kind: x/y, parameters: {n: 3}}
resource_groups:
- {root: a, home_host: 'localhost:8001', failover_hosts: ['localhost:8002']}
- {root: b, home_host: h2, failover_hosts: [h3, '::1']}
- {root: c, home_host: h3, failover_hosts: ['[::1]:8004', h1], auto_failback: true}
";
    let Loaded { config, warnings, .. } = good(text);
    assert_eq!(warnings, []);
    let listens = |host: &str| (config.hosts[host].address.as_str(), config.hosts[host].port);
    assert_eq!(listens("h1"), ("localhost", 8001));
    assert_eq!(listens("h3"), ("localhost", 8003));
    assert_eq!(listens("::1"), ("::1", 8004));
    assert_eq!(config.groups["b"].failover, ["h3".into(), "::1".into()]);
    assert!(config.groups["c"].auto_failback);
    let twice = load(&text.replacen("8002", "8001", 1), "f").expect_err("one listener");
    assert!(twice[0].message.contains("port 8001 is that of host h1"), "{twice:?}");
    let short =
        load(&text.replacen("home_host: 'localhost:8001'", "home_host: localhost", 1), "f").expect_err("two");
    assert!(short[0].message.contains("2 hosts are called"), "{short:?}");
}

#[test]
fn a_hundred_thousand_deep_and_back() {
    let chain = |count: usize, last: &str| {
        let mut text = "hosts: [{hostname: a}]\nresources:\n".to_owned();
        for n in 0..count {
            text +=
                &format!("- {{name: r{n}, kind: x/y, parameters: {{n: {n}}}, dependents: [r{}]}}\n", n + 1);
        }
        text += &format!("- {{name: r{count}, kind: x/y, parameters: {{}}, dependents: [{last}]}}\n");
        text + "resource_groups: [{root: r0, home_host: a, failover_hosts: []}]\n"
    };
    let config = good(&chain(100_000, "")).config;
    assert_eq!(config.groups["r0"].members.len(), 100_001);
    let circle = load(&chain(10_000, "r0"), "f").expect_err("circle");
    assert!(circle[0].message.contains("in a circle"), "{:?}", circle[0]);
}

#[test]
fn the_sample_has_every_key_and_the_defaults_that_it_names() {
    let text = include_str!("../../../conf/ha.yaml");
    let Loaded { config, warnings, secrets, .. } =
        load(text, "ha.yaml").unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!((warnings, secrets), (vec![], vec![]));
    for section in keys::SECTIONS {
        for (key, _) in section.keys {
            assert!(text.contains(&format!("{key}:")), "{key} of {} is not in conf/ha.yaml", section.path);
        }
    }
    let window = Duration::from_secs(3600);
    let sample = Settings {
        manage: Some(false),
        fence_attempts: FenceAttempts::Within { count: 3, window },
        ..Settings::default()
    };
    assert_eq!(config.settings, sample);
    assert_eq!(config.resources["ost0"].failures, FailurePolicy::default());
    let device = &config.hosts["oss1"].fencing[0].devices[0];
    let default = &config.hosts["oss2"].fencing[0].devices[0];
    assert_eq!(
        (device.timeout, device.delay, device.attempts),
        (default.timeout, default.delay, default.attempts)
    );
}
