//! Fencing by operators, how often it happens by itself, and when it may not.

use harness::ha::{Cluster, Shape};
use harness::{patience, poll};
use serde_json::json;

/// Both groups on h0.
fn all_on_h0() -> Cluster {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.start_group_by_hand("g0", "h0");
    cluster.start_group_by_hand("g1", "h0");
    cluster.start_agents();
    cluster.start_manager();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.wait_connected();
    cluster
}

#[test]
fn admin_fence1() {
    let cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.command("hosts/h0/fence").unwrap();
    let status = cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    assert!(status.is_connected("h1") && !status.is_connected("h0"));
    assert!(status.host("h0").fenced);
}

#[test]
fn admin_fence2() {
    let cluster = all_on_h0();
    cluster.command("hosts/h0/fence").unwrap();
    let status = cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    assert!(status.is_connected("h1") && !status.is_connected("h0"));
    assert_eq!(cluster.fenced(), ["h0 off"]);
}

#[test]
fn admin_fence3() {
    let cluster = all_on_h0();
    cluster.command("hosts/h1/fence").unwrap();
    let status = cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert!(status.is_connected("h0") && !status.is_connected("h1"));
    assert!(status.host("h1").fenced);
    assert_eq!(cluster.count("stop", "g0", "h0") + cluster.count("stop", "g1", "h0"), 0);
}

#[test]
fn fence_reset1() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.kill_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.start_agent("h1");
    cluster.wait_host("h1", "connected");
    cluster.command("hosts/h1/failback").unwrap();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);

    cluster.kill_agent("h1");
    cluster.wait_host("h1", "lost");
    cluster.wait("it says which command helps", |status| {
        status.group("g1").waits_for.iter().any(|what| what.contains("reset h1"))
    });
    cluster.settle();
    cluster.wait_phase(&["g1"], "unknown");
    assert_eq!(cluster.fenced(), ["h1 off"], "it was not fenced a second time");
    cluster.start_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);

    cluster.command("hosts/h1/reset").unwrap();
    assert!(!cluster.status().host("h1").fenced);
    cluster.kill_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_eq!(cluster.fenced(), ["h1 off", "h1 off"]);
}

#[test]
fn fence_reset2() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.kill_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    let (code, why) = cluster.order("hosts/h1/fence", &json!({})).unwrap_err();
    assert_eq!(code, 409);
    assert!(why.contains("already been fenced"), "{why}");
    assert_eq!(cluster.fenced(), ["h1 off"]);
}

#[test]
fn auto_fence_illegal1() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.command("groups/g1/unmanage").unwrap();
    cluster.kill_agent("h1");
    cluster.wait_host("h1", "lost");
    cluster.settle();
    let status = cluster.wait_phase(&["g1"], "unknown");
    assert!(!status.host("h1").fenced);
    assert_eq!(cluster.fenced(), [""; 0]);
}

#[test]
fn auto_fence_illegal2() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.command("hosts/h0/deactivate").unwrap();
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    cluster.kill_agent("h1");
    cluster.wait_host("h1", "lost");
    cluster.settle();
    let status = cluster.wait_phase(&["g0", "g1"], "unknown");
    assert!(!status.host("h1").fenced);
    assert_eq!(cluster.fenced(), [""; 0]);
}

/// HALO's test of its fence agent: power off, see that it is off, power on, and so on.
#[test]
fn fencing() {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.start_agent("h0");
    cluster.start_manager();
    let power = |cluster: &Cluster, action: &str| {
        // A host that has just connected is being let in by its fence devices.
        let done =
            poll(patience(), || match cluster.command_with("hosts/h1/power", &json!({"action": action})) {
                Err(busy) if busy.contains("is being changed") => None,
                done => Some(done),
            });
        done.unwrap().unwrap()
    };
    assert_eq!(power(&cluster, "off"), "off");
    assert_eq!(power(&cluster, "status"), "off");
    for _ in 0..2 {
        cluster.start_agent("h1");
        cluster.wait_host("h1", "connected");
        assert_eq!(power(&cluster, "status"), "on");
        assert_eq!(power(&cluster, "off"), "off");
        cluster.wait_host("h1", "off");
        assert!(!cluster.agent_runs("h1"));
        assert_eq!(power(&cluster, "status"), "off");
        assert_eq!(power(&cluster, "on"), "on");
        assert_eq!(power(&cluster, "status"), "on");
    }
}
