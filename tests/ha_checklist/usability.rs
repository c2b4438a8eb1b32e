//! What is wrong with options and files is said, with the culprit's name.

use std::process::{Command, Output};

use harness::Programs;
use harness::ha::{Cluster, GroupShape, Shape};

fn run(program: &str, arguments: &[&str]) -> (bool, String) {
    ended(Command::new(Programs::find_ha().path(program)).args(arguments).output().unwrap())
}

fn ended(output: Output) -> (bool, String) {
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn remote() {
    let directory = harness::TestDirectory::new("remote");
    let state = directory.join("state");
    let arguments =
        ["--network", "203.0.113.0/24", "--state-dir", state.to_str().unwrap(), "--insecure-loopback"];
    let (well, text) = run("coordinatool-agent", &arguments);
    assert!(!well && text.contains("203.0.113.0/24"), "{text}");
}

#[test]
fn manager_config() {
    let (well, text) =
        run("coordinatool", &["ha-manager", "--config", "/nowhere/ha.yaml", "--insecure-loopback"]);
    assert!(!well && text.contains("/nowhere/ha.yaml"), "{text}");
}

/// Starts a manager with this in place of one of its options.
fn manager_with(option: &str, value: &str) -> (bool, String) {
    let cluster = Cluster::new(Shape::pair());
    let mut replaced = Command::new(Programs::find_ha().path("coordinatool"));
    let mut next = false;
    for argument in cluster.manager_command("manager").get_args() {
        replaced.arg(if next { value.as_ref() } else { argument });
        next = argument == option;
    }
    ended(replaced.output().unwrap())
}

#[test]
fn manager_socket() {
    let (well, text) = manager_with("--socket", "/proc/nowhere/ha.sock");
    assert!(!well && text.contains("/proc/nowhere/ha.sock"), "{text}");
}

#[test]
fn manager_statefile() {
    let (well, text) = manager_with("--state-dir", "/proc/nowhere");
    assert!(!well && text.contains("/proc/nowhere"), "{text}");
    let (well, text) = manager_with("--statefile", "/proc");
    assert!(!well && text.contains("/proc"), "{text}");
}

/// HALO cannot tell that a host has several partners, and refuses it. Here that is fine; a partner that is named twice by one
/// group is not, nor one that is its home.
#[test]
fn failover_partners() {
    for (failover, culprit) in [(["h1", "h1"], "h1"), (["h1", "h0"], "h0")] {
        let cluster = Cluster::new(Shape::hosts(3).group(GroupShape::new("g0", "h0", &failover)));
        let (well, text) = ended(cluster.manager_command("manager").output().unwrap());
        assert!(!well && text.contains(culprit) && text.contains("failover_hosts"), "{text}");
    }
    let ring = Shape::hosts(3)
        .group(GroupShape::new("g0", "h0", &["h1", "h2"]))
        .group(GroupShape::new("g1", "h1", &["h2"]))
        .group(GroupShape::new("g2", "h2", &["h0"]));
    let cluster = Cluster::start(ring);
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1"), ("g2", "h2")]);
}

/// The same tree is in both groups.
#[test]
fn shared_resource() {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.reshape(|shape| shape.groups[1].children = vec!["g0c".to_owned()]);
    let (well, text) = ended(cluster.manager_command("manager").output().unwrap());
    assert!(!well && text.contains("g0c"), "{text}");
}

#[test]
fn discover_nodeset() {
    for nodeset in ["h[1-", "h]", "h[1-2", "h[a-b]"] {
        let (well, text) = run("halo", &["discover", nodeset]);
        assert!(!well && text.contains("nodeset syntax error: unable to parse"), "{nodeset}: {text}");
    }
}
