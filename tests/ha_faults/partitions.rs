//! Hosts that live, but cannot be reached: each has a network of its own, whose link is cut. With certificates.

use harness::ha::{Cluster, Shape};
use harness::skip;

use crate::{NOBODY, acts};

/// A pair whose groups run at home; `None`, and the test is skipped, where there can be no network namespaces.
fn isolated(test: &str, shape: Shape) -> Option<Cluster> {
    let mut cluster = match Cluster::isolated(shape) {
        Ok(cluster) => cluster,
        Err(reason) => {
            skip(test, &reason);
            return None;
        }
    };
    cluster.start_agents();
    cluster.start_manager();
    cluster.wait_connected();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    Some(cluster)
}

/// Its resources are still active when it is found lost: it is fenced first.
#[test]
fn a_host_is_cut_off() {
    let Some(mut cluster) = isolated("a_host_is_cut_off", Shape::pair()) else { return };
    cluster.link("h1").cut();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_eq!(cluster.fenced(), ["h1 off"]);
    assert!(!cluster.agent_runs("h1"));
    cluster.link("h1").mend();
    cluster.start_agent("h1");
    cluster.wait_connected();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.command("hosts/h1/failback").unwrap();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
}

/// It cannot be fenced, so nothing is started elsewhere; when the link is mended all is as before.
#[test]
fn a_host_is_cut_off_and_cannot_be_fenced() {
    let name = "a_host_is_cut_off_and_cannot_be_fenced";
    let Some(mut cluster) = isolated(name, Shape::pair()) else { return };
    let before = acts(&cluster);
    cluster.behave("fence.off.h1", &["code 1"]);
    cluster.link("h1").cut();
    cluster
        .wait("it is tried again", |status| status.has_alert("g1", "fencing h1 failed and is tried again"));
    cluster.settle();
    cluster.link("h1").mend();
    cluster.wait_connected();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.settle();
    assert_eq!(acts(&cluster), before, "nothing was started or stopped");
    assert!(cluster.agent_runs("h1"));
}

/// The manager is the one that is cut off: nobody is fenced, and nothing changes when it is not any more.
#[test]
fn the_management_network_fails() {
    let Some(cluster) = isolated("the_management_network_fails", Shape::pair()) else { return };
    let before = acts(&cluster);
    cluster.link("h0").cut();
    cluster.link("h1").cut();
    cluster.wait("both are lost", |status| status.hosts.iter().all(|host| host.state == "lost"));
    cluster.settle();
    for host in ["h0", "h1"] {
        cluster.link(host).mend();
    }
    cluster.wait_connected();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.settle();
    assert_eq!((acts(&cluster), cluster.fenced()), (before, vec![]));
}

/// Its kernel answers: somebody may be at work there.
#[test]
fn a_firewall_rejects_the_manager() {
    let name = "a_firewall_rejects_the_manager";
    let Some(cluster) = isolated(name, Shape::pair().set("agent_grace", "30s")) else { return };
    let before = acts(&cluster);
    if let Err(reason) = cluster.link("h1").reject(true) {
        return skip(name, &format!("no firewall rules can be made: {reason}"));
    }
    cluster.wait_host("h1", "agent_down");
    cluster.settle();
    cluster.link("h1").reject(false).unwrap();
    cluster.wait_connected();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert_eq!((acts(&cluster), cluster.fenced()), (before, vec![]));
}

#[test]
fn a_link_fails_for_a_moment() {
    let name = "a_link_fails_for_a_moment";
    let Some(cluster) = isolated(name, Shape::pair().set("detection_time", "20s")) else { return };
    let before = acts(&cluster);
    cluster.link("h1").cut();
    cluster.wait_host("h1", "suspect");
    cluster.link("h1").mend();
    cluster.wait_connected();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert_eq!((acts(&cluster), cluster.fenced()), (before, vec![]));
}

/// No command makes it worse: what is cut off is no target, and what is alone is not taken away.
#[test]
fn commands_during_a_partition() {
    let shape = Shape::pair().set("fence_attempts", "once");
    let Some(cluster) = isolated("commands_during_a_partition", shape) else { return };
    cluster.behave("fence.off", &["code 1"]);
    cluster.link("h1").cut();
    cluster.wait_host("h1", "fencing");
    for refused in ["hosts/h1/failback", "hosts/h0/deactivate", "hosts/h0/fence"] {
        let why = cluster.command(refused).unwrap_err();
        assert!(why.contains("connected") || why.contains("disconnected"), "{refused}: {why}");
    }
    cluster.settle();
    assert!(cluster.is_placed("g0", "h0") && cluster.is_placed("g1", "h1"));
    assert!(!cluster.fenced().contains(&"h0 off".to_owned()), "{:?}", cluster.fenced());
    assert_ne!(cluster.fenced(), NOBODY);
}
