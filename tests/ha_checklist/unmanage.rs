//! Groups that an operator has taken into his own hands.

use harness::ha::{Cluster, Shape};

/// All runs at home, group 0 is not managed any more.
fn with_unmanaged_group() -> Cluster {
    let cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.command("groups/g0/unmanage").unwrap();
    assert!(!cluster.status().group("g0").managed);
    cluster
}

/// The same, and somebody has stopped it.
fn with_stopped_group() -> Cluster {
    let cluster = with_unmanaged_group();
    cluster.stop_group_by_hand("g0");
    cluster.wait_phase(&["g0"], "stopped");
    cluster
}

fn started_by_hand_one_by_one(host: &str) {
    let cluster = with_stopped_group();
    cluster.settle();
    let status = cluster.wait_phase(&["g0"], "stopped");
    assert!(status.runs_on("g1", "h1"));
    assert_eq!(cluster.count("start", "g0", "h0"), 1, "it was not started again");
    cluster.start_by_hand("g0", host);
    cluster.wait("the root runs", |status| {
        let group = status.group("g0");
        group.phase == "partial"
            && group.location.as_deref() == Some(host)
            && status.seen("g0", host) == "running"
            && status.seen("g0c", host) == "stopped"
    });
    cluster.settle();
    assert!(!cluster.is_active("g0c", host), "the child was not started");
    cluster.start_by_hand("g0c", host);
    cluster.wait_placed(&[("g0", host), ("g1", "h1")]);
}

#[test]
fn unmanage1() {
    started_by_hand_one_by_one("h0");
}

#[test]
fn unmanage2() {
    started_by_hand_one_by_one("h1");
}

#[test]
fn unmanage3() {
    let cluster = with_stopped_group();
    cluster.command("groups/g0/manage").unwrap();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
}

fn managed_again_with_only_the_root_on(host: &str) {
    let cluster = with_stopped_group();
    cluster.start_by_hand("g0", host);
    cluster.wait("the root runs", |status| status.seen("g0", host) == "running");
    cluster.command("groups/g0/manage").unwrap();
    cluster.wait_placed(&[("g0", host), ("g1", "h1")]);
}

#[test]
fn unmanage4() {
    managed_again_with_only_the_root_on("h1");
}

#[test]
fn unmanage5() {
    managed_again_with_only_the_root_on("h0");
}

#[test]
fn unmanage6() {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.start_group_by_hand("g0", "h0");
    cluster.start_group_by_hand("g1", "h0");
    cluster.start_agents();
    cluster.start_manager();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.command("groups/g1/unmanage").unwrap();
    cluster.stop_group_by_hand("g1");
    cluster.start_group_by_hand("g1", "h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.kill_agent("h0");
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    assert_eq!(cluster.fenced(), ["h0 off"]);
    let touched = cluster.count("start", "g1", "h1") + cluster.count("stop", "g1", "h1");
    assert_eq!(touched, 0, "the moved group was not disturbed");
}
