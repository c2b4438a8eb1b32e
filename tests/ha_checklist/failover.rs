//! A host dies: its groups run on its partner. They return when an operator says so.

use harness::ha::{Cluster, Shape};

#[test]
fn failover1() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.kill_agent("h1");
    let status = cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_eq!(cluster.fenced(), ["h1 off"]);
    assert!(status.host("h1").fenced && !status.host("h0").fenced);
    assert_eq!(cluster.count("start", "g0", "h0"), 1, "group 0 was left alone");
    assert_eq!(cluster.count("stop", "g0", "h0"), 0);
}

#[test]
fn failover2() {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.start_group_by_hand("g0", "h0");
    cluster.start_group_by_hand("g1", "h0");
    cluster.start_agents();
    cluster.start_manager();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.kill_agent("h0");
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    assert_eq!(cluster.fenced(), ["h0 off"]);
}

#[test]
fn failover3() {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.start_group_by_hand("g0", "h1");
    cluster.start_group_by_hand("g1", "h0");
    cluster.start_agents();
    cluster.start_manager();
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h0")]);
    cluster.command("hosts/h0/failback").unwrap();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.command("hosts/h1/failback").unwrap();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert_eq!(cluster.count("stop", "g1", "h0"), 1, "each was moved once");
    assert_eq!(cluster.count("stop", "g0", "h1"), 1);
}

#[test]
fn failover4() {
    let cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.command("hosts/h0/failback").unwrap();
    cluster.command("hosts/h1/failback").unwrap();
    cluster.settle();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    let stopped = cluster.history().iter().filter(|record| record.what == "stop").count();
    assert_eq!(stopped, 0, "nothing was stopped");
}

#[test]
fn failover5() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.kill_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.start_agent("h1");
    cluster.wait_host("h1", "connected");
    cluster.settle();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.command("hosts/h1/failback").unwrap();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
}
