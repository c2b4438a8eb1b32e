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
