//! Commands at a bad moment, and what is done by hand.

use std::process::Stdio;

use harness::ha::{Cluster, GroupShape, Shape};
use harness::{Signal, json};

use crate::{NOBODY, acts, alone, at_home, running};

/// A pair whose h1 is dead: both groups run on h0.
fn without_h1() -> Cluster {
    let mut cluster = at_home();
    cluster.power_off("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster
}

/// Both groups are still on h0 and were never stopped.
fn assert_not_disturbed(cluster: &Cluster) {
    cluster.settle();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_eq!((cluster.count("stop", "g0", "h0"), cluster.count("stop", "g1", "h0")), (0, 0));
    assert!(!cluster.fenced().contains(&"h0 off".to_owned()));
}

/// Whoever asked has gone: what was decided goes on.
#[test]
fn the_client_is_interrupted_while_it_fences() {
    for arguments in [&["fence", "h1"][..], &["fence", "h1", "--reason", "test"]] {
        let mut cluster = at_home();
        cluster.behave("fence.off.h1", &["delay 1"]);
        let mut command = if arguments.len() == 2 {
            cluster.halo_command(arguments)
        } else {
            cluster.client_command(arguments)
        };
        let mut client = command.stderr(Stdio::null()).spawn().unwrap();
        cluster.wait_until("it is being fenced", |cluster| !cluster.fenced().is_empty());
        harness::send(&client, Signal::INT);
        client.wait().unwrap();
        cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
        assert!(cluster.manager_ended().is_none());
        assert_eq!(cluster.fenced(), ["h1 off"]);
    }
}

/// A host that comes back while an operator has it fenced is off in the end, as was ordered.
#[test]
fn an_agent_returns_while_its_host_is_fenced() {
    let mut cluster = running(Shape::pair().set("agent_grace", "30s"));
    cluster.behave("fence.off.h1", &["delay 2"]);
    cluster.kill_agent("h1");
    cluster.wait_host("h1", "agent_down");
    cluster.order("hosts/h1/fence", &json!({})).unwrap();
    cluster.wait_until("it is being fenced", |cluster| !cluster.fenced().is_empty());
    cluster.start_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert!(cluster.manager_ended().is_none());
    assert_eq!(cluster.fenced(), ["h1 off"]);
}

#[test]
fn failback_onto_a_dead_host_is_refused() {
    let mut cluster = without_h1();
    for _ in 0..2 {
        let why = cluster.command("hosts/h1/failback").unwrap_err();
        assert!(why.contains("not connected"), "{why}");
        let why = cluster.command_with("groups/g1/move", &json!({"to": "h1"})).unwrap_err();
        assert!(why.contains("not connected"), "{why}");
        assert_not_disturbed(&cluster);
        // The next manager knows it as well.
        cluster.crash_manager();
        cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    }
}

/// No command takes the last host away, whichever way its partner was lost.
#[test]
fn the_last_host_is_not_taken_away() {
    let cluster = without_h1();
    for command in ["hosts/h0/deactivate", "hosts/h0/fence"] {
        let why = cluster.command(command).unwrap_err();
        assert!(why.contains("connected"), "{command}: {why}");
    }
    assert_not_disturbed(&cluster);
}

/// A host that runs nothing is watched as well.
#[test]
fn an_idle_hosts_agent_is_dead() {
    let mut cluster = running(Shape::hosts(2).group(alone("g0", "h0", &["h1"])).set("agent_grace", "30s"));
    cluster.kill_agent("h1");
    cluster.wait_host("h1", "agent_down");
    for command in ["hosts/h0/deactivate", "hosts/h0/fence"] {
        assert!(cluster.command(command).is_err(), "{command}");
    }
    cluster.settle();
    assert!(cluster.is_placed("g0", "h0"));
    assert_eq!((cluster.count("stop", "g0", "h0"), cluster.fenced()), (0, vec![]));
}

/// Somebody moves the groups of a host that cannot be seen. In both modes that is taken as it is.
#[test]
fn unmanaged_groups_are_moved_by_hand_while_their_host_is_away() {
    for shape in [Shape::pair(), Shape::pair().observing()] {
        let managed = shape.manage;
        let mut cluster = Cluster::new(shape.group(alone("g2", "h1", &["h0"])));
        for (group, host) in [("g0", "h0"), ("g1", "h1"), ("g2", "h1")] {
            cluster.start_group_by_hand(group, host);
        }
        cluster.start_agents();
        cluster.start_manager();
        cluster.wait_placed(&[("g0", "h0"), ("g1", "h1"), ("g2", "h1")]);
        for group in ["g1", "g2"] {
            if managed {
                cluster.command(&format!("groups/{group}/unmanage")).unwrap();
            }
        }
        cluster.kill_agent("h1");
        cluster.wait_host("h1", "lost");
        for group in ["g1", "g2"] {
            cluster.stop_group_by_hand(group);
            cluster.start_group_by_hand(group, "h0");
        }
        cluster.wait_placed(&[("g0", "h0"), ("g1", "h0"), ("g2", "h0")]);
        cluster.start_agent("h1");
        cluster.wait_connected();
        cluster.wait_placed(&[("g0", "h0"), ("g1", "h0"), ("g2", "h0")]);
        assert_eq!((acts(&cluster), cluster.fenced()), (0, vec![]));
    }
}

/// The host boots, its groups are started elsewhere by hand, and it comes back: its home is not a reason to start it.
#[test]
fn a_group_is_started_by_hand_while_its_host_boots() {
    let mut cluster = running(Shape::pair().set("agent_grace", "30s").set("fence_attempts", "once"));
    cluster.behave("fence.off.h1", &["code 1"]);
    cluster.power_off("h1");
    cluster.start_group_by_hand("g1", "h0");
    // Hands that act within the age of a proof are nobody's to notice.
    cluster.wait("it is seen on h0", |status| status.seen("g1", "h0") == "running");
    cluster.start_agent("h1");
    cluster.wait_connected();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.settle();
    assert_eq!(cluster.count("start", "g1", "h1"), 1, "only at the very beginning");
}

/// Active twice by somebody's hands: nothing is done, and it is said, until one is stopped.
#[test]
fn a_group_is_active_on_both_hosts() {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.start_group_by_hand("g0", "h0");
    cluster.start_group_by_hand("g0", "h1");
    cluster.start_group_by_hand("g1", "h1");
    cluster.start_agents();
    cluster.start_manager();
    let status = cluster.wait_phase(&["g0"], "frozen");
    assert!(status.has_alert("g0", "active on more than one host"), "{:?}", status.alerts);
    cluster.wait_placed(&[("g1", "h1")]);
    cluster.settle();
    assert_eq!(acts(&cluster), 0);
    for member in ["g0c", "g0"] {
        cluster.stop_by_hand_on(member, "h0");
    }
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    // The same while it is being watched.
    cluster.start_by_hand("g1", "h0");
    cluster.wait_phase(&["g1"], "frozen");
    cluster.stop_by_hand_on("g1", "h0");
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    assert_eq!((acts(&cluster), cluster.fenced()), (0, vec![]));
}

/// The root is nowhere, a child is where nobody expects it: that is where the group is, so it is completed there.
#[test]
fn a_child_is_active_on_the_partner() {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.start_by_hand("g0c", "h1");
    cluster.start_agents();
    cluster.start_manager();
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    assert_eq!(cluster.count("start", "g0c", "h0"), 0);
}

/// Only the root of an unmanaged group was moved by hand: it is not one group any more, and nothing is started.
#[test]
fn half_of_an_unmanaged_group_was_moved() {
    let cluster = at_home();
    cluster.command("groups/g0/unmanage").unwrap();
    cluster.stop_by_hand("g0");
    cluster.start_by_hand("g0", "h1");
    cluster.command("groups/g0/manage").unwrap();
    let status = cluster.wait_phase(&["g0"], "frozen");
    assert!(status.has_alert("g0", "g0 on h1") && status.has_alert("g0", "g0c on h0"), "{:?}", status.alerts);
    cluster.settle();
    assert_eq!(cluster.count("start", "g0c", "h1"), 0);
    cluster.stop_by_hand("g0c");
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    assert_eq!(cluster.fenced(), NOBODY);
}

#[test]
fn a_whole_unmanaged_group_was_moved() {
    let cluster = at_home();
    let before = acts(&cluster);
    cluster.command("groups/g0/unmanage").unwrap();
    cluster.stop_group_by_hand("g0");
    cluster.start_group_by_hand("g0", "h1");
    cluster.command("groups/g0/manage").unwrap();
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    assert_eq!((acts(&cluster), cluster.fenced()), (before, vec![]));
}

/// A plain group of three generations, taken down and up again by somebody in the middle of a move.
#[test]
fn somebody_interferes_with_a_move() {
    let cluster = running(Shape::hosts(2).group(GroupShape::new("g0", "h0", &["h1"])));
    cluster.behave("g0.stop", &["delay 1"]);
    cluster.order("groups/g0/move", &json!({"to": "h1"})).unwrap();
    cluster.wait_until("the root is being stopped", |cluster| cluster.count("stop", "g0", "h0") == 1);
    cluster.start_by_hand("g0c", "h0");
    cluster.wait_placed(&[("g0", "h1")]);
    assert_eq!(cluster.fenced(), NOBODY);
}
