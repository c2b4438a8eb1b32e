//! Hosts that shall not run anything.

use harness::ha::{Cluster, Shape};
use serde_json::json;

#[test]
fn deactivate1() {
    let cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.command("hosts/h0/deactivate").unwrap();
    let status = cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    assert!(!status.host("h0").active && status.is_connected("h0"));
    assert_eq!(cluster.fenced(), [""; 0], "it was moved gracefully");
    cluster.command("hosts/h0/activate").unwrap();
    cluster.settle();
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    cluster.command("hosts/h0/failback").unwrap();
    let status = cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert!(status.hosts.iter().all(|host| host.active));
}

#[test]
fn deactivate2() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.command("hosts/h0/deactivate").unwrap();
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    cluster.power_off("h1");
    cluster.wait_host("h1", "lost");
    cluster.settle();
    cluster.wait_phase(&["g0", "g1"], "unknown");
    assert_eq!(cluster.active(), [], "nothing was started on the deactivated host");
    assert_eq!(cluster.fenced(), [""; 0]);
    cluster.start_agent("h1");
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
}

#[test]
fn deactivate3() {
    let cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.command("hosts/h0/deactivate").unwrap();
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    let (code, why) = cluster.order("hosts/h0/failback", &json!({})).unwrap_err();
    assert_eq!(code, 409);
    assert!(why.contains("deactivated") && why.contains("h0"), "{why}");
    cluster.settle();
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
}

#[test]
fn deactivate4() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.command("hosts/h0/deactivate").unwrap();
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    cluster.stop_manager();
    cluster.stop_group_by_hand("g0");
    cluster.start_group_by_hand("g0", "h0");
    cluster.start_manager();
    let status = cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    assert!(!status.host("h0").active, "that is remembered");
}

#[test]
fn deactivate5() {
    let cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.command("groups/g0/unmanage").unwrap();
    cluster.command("hosts/h0/deactivate").unwrap();
    cluster.settle();
    let status = cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert!(!status.host("h0").active);
    assert_eq!(cluster.count("stop", "g0", "h0"), 0);
}
