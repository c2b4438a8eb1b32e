//! A manager starts and finds resources here and there.

use harness::ha::{Cluster, Shape, Status};

/// Nothing is known, so nothing is done.
fn assert_unknown(cluster: &Cluster, groups: &[&str]) -> Status {
    cluster.wait_phase(groups, "unknown");
    cluster.settle();
    assert!(cluster.fenced().is_empty(), "nobody was fenced");
    cluster.wait_phase(groups, "unknown")
}

#[test]
fn startup1() {
    let cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert_eq!(cluster.count("start", "g0", "h1") + cluster.count("start", "g1", "h0"), 0);
}

#[test]
fn startup2() {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.start_agent("h0");
    cluster.start_manager();
    cluster.wait("h0 runs nothing", |status| {
        ["g0", "g0c", "g1", "g1c"].iter().all(|resource| status.seen(resource, "h0") == "stopped")
    });
    let status = assert_unknown(&cluster, &["g0", "g1"]);
    assert_eq!(cluster.active(), []);
    assert!(status.group("g0").waits_for.iter().any(|what| what.contains("h1")), "it says why");
}

/// HALO starts the child of a group whose root runs, without asking the absent host, where that child may be active. Here it
/// waits for that host.
#[test]
fn startup3() {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.start_by_hand("g0", "h0");
    cluster.start_agent("h0");
    cluster.start_manager();
    cluster.wait("the root is found", |status| status.group("g0").location.as_deref() == Some("h0"));
    assert_unknown(&cluster, &["g1"]);
    assert_eq!(cluster.active(), [("g0".to_owned(), "h0".to_owned())]);
    let status = cluster.status();
    assert!(status.group("g0").waits_for.iter().any(|what| what.contains("h1")), "it says why");
    cluster.start_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert_eq!(cluster.count("start", "g0", "h0"), 0, "the root was not touched");
}

#[test]
fn startup4() {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.start_group_by_hand("g0", "h0");
    cluster.start_group_by_hand("g1", "h0");
    cluster.start_agent("h0");
    cluster.start_manager();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.settle();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_eq!(cluster.count("stop", "g1", "h0"), 0, "it is not brought home by itself");
}

#[test]
fn startup5() {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.start_manager();
    assert_unknown(&cluster, &["g0", "g1"]);
    cluster.start_agents();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
}

#[test]
fn startup6() {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.start_group_by_hand("g0", "h0");
    cluster.start_group_by_hand("g1", "h0");
    cluster.start_agent("h1");
    cluster.start_manager();
    cluster.wait_host("h1", "connected");
    assert_unknown(&cluster, &["g0", "g1"]);
    cluster.start_agent("h0");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    let started = cluster.history().iter().filter(|record| record.what == "start").count();
    assert_eq!(started, 0, "everything ran already");
}
