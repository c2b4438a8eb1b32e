//! What survives a restart of the manager.

use harness::ha::{Cluster, Shape};
use serde_json::json;

/// HALO's test of a record as text; here a reason with everything in it that breaks lines (HALO's state file cannot be read
/// any more after a newline).
#[test]
fn serde1() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    let reason = "tab\tnewline\ncarriage return\r\"quote\" \\ ä \u{1f980} \u{0}";
    cluster.command_with("groups/g0/unmanage", &json!({"reason": reason})).unwrap();
    let before = cluster.events();
    assert!(before.iter().any(|event| event.comment.as_ref().is_some_and(|text| text.contains('\u{1f980}'))));
    cluster.crash_manager();
    let after = cluster.events();
    assert_eq!(after[..before.len()], before);
    assert!(!cluster.status().group("g0").managed);
}

/// Records of HALO's state file are applied when there is no state yet.
#[test]
fn state() {
    let mut cluster = Cluster::new(Shape::pair());
    let lines = "2026-11-20T23:20:45.494048554\tdeactivate\th1\tbroken fan\n\
        2026-11-20T23:20:46.494048554\tunmanage\tg0\tpool maintenance\n\
        2026-11-20T23:20:47.494048554\tdeactivate\th0\t\n\
        2026-11-20T23:20:48.494048554\tactivate\th0\tdone\n\
        2026-11-20T23:20:49.494048554\tfence\th1\t\n\
        2026-11-20T23:20:50.494048554\tunmanage\tg1\t\n\
        2026-11-20T23:20:51.494048554\tmanage\tg1\t\n";
    std::fs::write(cluster.directory().join("manager.halo"), lines).unwrap();
    cluster.start_agents();
    cluster.start_manager();
    let status = cluster.wait_placed(&[("g1", "h0")]);
    assert!(status.host("h0").active && !status.host("h1").active);
    assert!(!status.group("g0").managed && status.group("g1").managed);
    assert!(status.host("h1").fenced && !status.host("h0").fenced);
    assert!(!cluster.is_active("g0", "h0"), "an unmanaged group is not started");
    // They are read once.
    cluster.command("hosts/h1/activate").unwrap();
    cluster.crash_manager();
    assert!(cluster.status().host("h1").active);
}

#[test]
fn restart_fence() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.kill_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.crash_manager();
    cluster.settle();
    let status = cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert!(status.host("h1").fenced && !status.is_connected("h1"));
    assert_eq!(cluster.fenced(), ["h1 off"]);
    assert_eq!(cluster.count("start", "g1", "h0"), 1);
}

#[test]
fn restart_fence2() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.kill_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.kill_manager();
    // An administrator powers h1 on and takes the group there; its agent does not run.
    cluster.power_on("h1");
    cluster.stop_group_by_hand("g1");
    cluster.start_group_by_hand("g1", "h1");
    cluster.start_manager();
    cluster.wait("h0 was asked", |status| status.seen("g1", "h0") == "stopped");
    cluster.settle();
    let status = cluster.wait_phase(&["g1"], "unknown");
    assert!(status.host("h1").fenced);
    assert_eq!(cluster.fenced(), ["h1 off"]);
    assert!(cluster.is_placed("g1", "h1"), "nothing was done");
    cluster.command_with("hosts/h1/fence", &json!({"force": true})).unwrap();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_eq!(cluster.fenced(), ["h1 off", "h1 off"]);
}
