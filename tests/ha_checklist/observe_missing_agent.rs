//! A manager that only observes, while not all agents can be asked.

use harness::ha::{Cluster, Shape};

use crate::observe::assert_untouched;

/// Group 0 runs at home; the agent of h1 is absent, and group 1 runs nowhere that can be seen.
fn without_h1() -> Cluster {
    let mut cluster = Cluster::new(Shape::pair().observing());
    cluster.start_group_by_hand("g0", "h0");
    cluster.start_agent("h0");
    cluster.start_manager();
    cluster
}

/// Both agents are there, both groups run at home.
fn whole() -> Cluster {
    let mut cluster = Cluster::new(Shape::pair().observing());
    cluster.start_group_by_hand("g0", "h0");
    cluster.start_group_by_hand("g1", "h1");
    cluster.start_agents();
    cluster.start_manager();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster
}

#[test]
fn observe_missing_agent1() {
    let cluster = without_h1();
    cluster.start_group_by_hand("g1", "h0");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_untouched(&cluster);
}

#[test]
fn observe_missing_agent2() {
    let cluster = without_h1();
    cluster.wait_placed(&[("g0", "h0")]);
    cluster.wait("h0 does not run group 1", |status| status.seen("g1", "h0") == "stopped");
    cluster.wait_phase(&["g1"], "unknown");
    cluster.start_group_by_hand("g1", "h0");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_untouched(&cluster);
}

#[test]
fn observe_missing_agent3() {
    let mut cluster = without_h1();
    cluster.wait_placed(&[("g0", "h0")]);
    cluster.wait_phase(&["g1"], "unknown");
    cluster.start_group_by_hand("g1", "h1");
    cluster.start_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert_untouched(&cluster);
}

#[test]
fn observe_missing_agent4() {
    let mut cluster = whole();
    cluster.power_off("h1");
    cluster.wait_phase(&["g1"], "unknown");
    cluster.start_group_by_hand("g1", "h0");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_untouched(&cluster);
}

#[test]
fn observe_missing_agent5() {
    let mut cluster = whole();
    cluster.kill_agent("h0");
    cluster.kill_agent("h1");
    cluster.wait_phase(&["g0", "g1"], "unknown");
    cluster.start_agent("h0");
    let status = cluster.wait_placed(&[("g0", "h0")]);
    assert_eq!(status.group("g1").phase, "unknown");
    cluster.start_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert_untouched(&cluster);
}

#[test]
fn observe_missing_agent6() {
    let mut cluster = whole();
    cluster.kill_agent("h1");
    cluster.wait_phase(&["g1"], "unknown");
    cluster.stop_group_by_hand("g0");
    cluster.wait_phase(&["g0", "g1"], "unknown");
    cluster.start_group_by_hand("g0", "h1");
    cluster.start_agent("h1");
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    assert_untouched(&cluster);
}
