//! A manager that only observes.

use harness::ha::{Cluster, Shape};

/// Nothing was changed by the manager.
pub fn assert_untouched(cluster: &Cluster) {
    let acts: Vec<_> = cluster
        .history()
        .into_iter()
        .filter(|record| matches!(record.what.as_str(), "start" | "stop"))
        .collect();
    assert_eq!(acts, []);
    assert_eq!(cluster.fenced(), [""; 0]);
}

#[test]
fn observe1() {
    let cluster = Cluster::start(Shape::pair().observing());
    cluster.wait_phase(&["g0", "g1"], "stopped");
    cluster.settle();
    cluster.wait_phase(&["g0", "g1"], "stopped");
    assert_untouched(&cluster);
    assert_eq!(cluster.active(), []);
}

#[test]
fn observe2() {
    let mut cluster = Cluster::new(Shape::pair().observing());
    cluster.start_group_by_hand("g0", "h0");
    cluster.start_group_by_hand("g1", "h0");
    cluster.start_agents();
    cluster.start_manager();
    let status = cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert!(!status.managed);
    assert_untouched(&cluster);
}

/// Both groups run at home, then group 0 is stopped by hand and started on `host`.
fn stopped_and_started_by_hand(host: &str) {
    let mut cluster = Cluster::new(Shape::pair().observing());
    cluster.start_group_by_hand("g0", "h0");
    cluster.start_group_by_hand("g1", "h1");
    cluster.start_agents();
    cluster.start_manager();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.stop_group_by_hand("g0");
    let status = cluster.wait_phase(&["g0"], "stopped");
    assert!(status.runs_on("g1", "h1"));
    cluster.start_group_by_hand("g0", host);
    cluster.wait_placed(&[("g0", host), ("g1", "h1")]);
    assert_untouched(&cluster);
}

#[test]
fn observe3() {
    stopped_and_started_by_hand("h0");
}

#[test]
fn observe4() {
    stopped_and_started_by_hand("h1");
}
