//! Agents and hosts that die, hang, or are absent.

use harness::ha::{Cluster, GroupShape, Shape};

use crate::{NOBODY, acts, alone, at_home, running};

/// The kernel of the host takes connections, but its agent does not answer, and a resource dies behind it.
#[test]
fn a_frozen_agent_is_noticed() {
    let mut cluster = at_home();
    cluster.pause_agent("h1");
    cluster.stop_by_hand("g1c");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_eq!(cluster.fenced(), ["h1 off"]);
    assert_eq!(cluster.count("start", "g0", "h0"), 1, "the other group was left alone");
}

#[test]
fn an_agent_that_is_restarted_in_time_changes_nothing() {
    let mut cluster = running(Shape::pair().set("agent_grace", "30s"));
    let before = acts(&cluster);
    cluster.kill_agent("h1");
    cluster.wait_host("h1", "agent_down");
    cluster.start_agent("h1");
    cluster.wait_connected();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.settle();
    assert_eq!((acts(&cluster), cluster.fenced()), (before, vec![]));
}

/// An unmanaged group may not be taken down by fencing its host: that is said, with what helps.
#[test]
fn a_host_with_an_unmanaged_group_is_left_to_the_operator() {
    let mut cluster = running(Shape::pair().group(alone("g2", "h1", &["h0"])));
    cluster.command("groups/g2/unmanage").unwrap();
    cluster.kill_agent("h1");
    let helps = "is not fenced because g2 is unmanaged and was there; coordinatool-client ha fence h1";
    cluster.wait("it says why", |status| status.has_alert("g1", helps));
    cluster.settle();
    assert!(cluster.status().has_alert("g1", helps), "it goes on saying so");
    assert_eq!(cluster.fenced(), NOBODY);

    cluster.command("hosts/h1/fence").unwrap();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.settle();
    assert!(!cluster.active().iter().any(|(name, _)| name == "g2"), "it is still not managed");
}

/// Both could have been fenced; one can stay.
#[test]
fn when_both_agents_are_lost_the_first_to_return_runs_all() {
    let mut cluster = at_home();
    cluster.kill_agent("h0");
    cluster.kill_agent("h1");
    cluster.wait("both are lost", |status| status.hosts.iter().all(|host| host.state == "lost"));
    cluster.wait("it says why nothing is done", |status| {
        ["g0", "g1"].iter().all(|group| status.has_alert(group, "no host can run it"))
    });
    cluster.settle();
    assert_eq!(cluster.fenced(), NOBODY);
    cluster.start_agent("h0");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_eq!(cluster.fenced(), ["h1 off"]);
    assert_eq!(cluster.count("start", "g0", "h0"), 1, "what ran there was left alone");
}

#[test]
fn when_both_hosts_die_the_first_to_return_runs_all() {
    let mut cluster = at_home();
    cluster.power_off("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.power_off("h0");
    cluster.wait_host("h0", "lost");
    cluster.start_agent("h1");
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    assert_eq!(cluster.fenced(), NOBODY, "both were off already");
}

#[test]
fn a_host_that_returned_takes_over_in_its_turn() {
    let mut cluster = at_home();
    cluster.kill_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.start_agent("h1");
    cluster.wait_host("h1", "connected");
    cluster.kill_agent("h0");
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    assert_eq!(cluster.fenced(), ["h1 off", "h0 off"]);
}

/// What `reset` is for, where that is not wanted.
#[test]
fn a_host_may_be_fenced_again_without_a_reset_where_that_is_configured() {
    let mut cluster = running(Shape::pair().set("fence_attempts", "{count: 2, window: 1h}"));
    for _ in 0..2 {
        cluster.kill_agent("h1");
        cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
        cluster.start_agent("h1");
        cluster.wait_host("h1", "connected");
        cluster.command("hosts/h1/failback").unwrap();
        cluster.wait_placed(&[("g1", "h1")]);
    }
    cluster.kill_agent("h1");
    cluster.wait("it is enough", |status| status.has_alert("g1", "was fenced 2 times lately"));
    assert_eq!(cluster.fenced(), ["h1 off", "h1 off"]);
}

/// The manager that comes next knows no off-proof any more, and the host was reset: its device is asked.
#[test]
fn a_restart_while_failed_over_forgets_nothing() {
    let mut cluster = at_home();
    cluster.kill_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.command("hosts/h1/reset").unwrap();
    cluster.crash_manager();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.power_off("h0");
    cluster.wait_host("h0", "lost");
    cluster.start_agent("h1");
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
}

/// Nobody knows whether a host that was never seen is dead: the operator says so.
#[test]
fn a_cold_start_without_a_host_waits_for_a_word() {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.start_agent("h0");
    cluster.start_manager();
    cluster.wait("it says what helps", |status| {
        ["g0", "g1"]
            .iter()
            .all(|group| status.has_alert(group, "if it is dead: coordinatool-client ha fence h1"))
    });
    cluster.settle();
    assert_eq!((cluster.active(), cluster.fenced()), (vec![], vec![]));
    cluster.command("hosts/h1/fence").unwrap();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
}

/// HALO's mode without failover hosts.
#[test]
fn a_group_with_one_host_waits_for_it() {
    let shape = Shape::hosts(2).group(GroupShape::new("g0", "h0", &[])).group(alone("g1", "h1", &[]));
    let mut cluster = running(shape);
    cluster.kill_agent("h1");
    cluster.wait_host("h1", "lost");
    cluster.settle();
    assert_eq!(cluster.fenced(), NOBODY);
    cluster.power_off("h1");
    cluster.start_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert_eq!(cluster.count("start", "g0", "h0"), 1);
}

/// Each stands in for the one before it.
#[test]
fn a_ring_of_hosts() {
    let shape = Shape::hosts(3)
        .group(alone("g0", "h0", &["h1"]))
        .group(alone("g1", "h1", &["h2"]))
        .group(alone("g2", "h2", &["h0"]));
    let mut cluster = running(shape);
    cluster.kill_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h2"), ("g2", "h2")]);
    cluster.power_off("h2");
    cluster.wait_placed(&[("g0", "h0"), ("g2", "h0")]);
    cluster.start_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1"), ("g2", "h0")]);
    assert_eq!(cluster.fenced(), ["h1 off"]);
}
