//! What operators do to a cluster, through `coordinatool-client ha` and with real agents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Output;

use harness::ha::{Cluster, GroupShape, Shape};

/// Three hosts; g0 may run on all of them, g1 at home on h1.
fn three() -> Shape {
    Shape::hosts(3).group(GroupShape::new("g0", "h0", &["h1", "h2"])).group(GroupShape::new(
        "g1",
        "h1",
        &["h2"],
    ))
}

fn running() -> Cluster {
    let cluster = Cluster::start(three());
    cluster.wait_connected();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Does it, and waits for its end.
fn does(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.client(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output)
}

/// Must not be done.
fn refused(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.client(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output));
    text(&output)
}

#[test]
fn a_group_is_moved() {
    let cluster = running();
    does(&cluster, &["move", "g0", "--to", "h2", "--reason", "test"]);
    cluster.wait_placed(&[("g0", "h2"), ("g1", "h1")]);
    does(&cluster, &["move", "g0"]);
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    let why = refused(&cluster, &["move", "g1", "--to", "h0"]);
    assert!(why.contains("h0"), "{why}");
    assert_eq!(cluster.fenced(), [""; 0]);
}

#[test]
fn what_is_stopped_stays_stopped() {
    let mut cluster = running();
    does(&cluster, &["stop", "g0"]);
    cluster.wait_phase(&["g0"], "stopped");
    assert!(!cluster.active().iter().any(|(name, _)| name.starts_with("g0")));
    does(&cluster, &["stop", "g1c"]);
    cluster.wait_phase(&["g1"], "partial");
    assert!(cluster.is_active("g1", "h1") && !cluster.is_active("g1c", "h1"));
    // Neither a restart of the manager nor a failover starts it.
    cluster.crash_manager();
    cluster.wait_connected();
    cluster.kill_agent("h1");
    cluster.wait("the rest of g1 runs on h2", |status| {
        let group = status.group("g1");
        group.location.as_deref() == Some("h2") && group.phase == "partial"
    });
    cluster.settle();
    assert_eq!(cluster.active(), [("g1".to_owned(), "h2".to_owned())]);
    does(&cluster, &["start", "g1c"]);
    does(&cluster, &["start", "g0"]);
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h2")]);
}

#[test]
fn nothing_is_done_during_maintenance() {
    let cluster = running();
    does(&cluster, &["maintenance", "g0", "--for", "1h"]);
    cluster.stop_group_by_hand("g0");
    cluster.wait_phase(&["g0"], "stopped");
    cluster.settle();
    assert!(!cluster.active().iter().any(|(name, _)| name.starts_with("g0")), "it was left alone");
    does(&cluster, &["maintenance", "g0", "--end"]);
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);

    // It ends by itself, too.
    does(&cluster, &["maintenance", "--for", "2s"]);
    cluster.stop_by_hand("g1c");
    cluster.wait_phase(&["g1"], "partial");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert_eq!(cluster.count("stop", "g1", "h1"), 0);
}

#[test]
fn a_dry_run_changes_nothing() {
    let cluster = running();
    let before: Vec<_> = cluster.history().into_iter().filter(|record| record.code == "begin").collect();
    for arguments in [
        &["move", "g0", "--to", "h1", "--dry-run"] as &[&str],
        &["fence", "h0", "--dry-run"],
        &["deactivate", "h0", "--dry-run"],
        &["stop", "g0", "--dry-run"],
        &["unmanage", "g0", "--dry-run"],
        &["power", "off", "h0", "--dry-run"],
    ] {
        let said = does(&cluster, arguments);
        assert!(said.contains("h0") || said.contains("g0"), "{arguments:?}: {said}");
    }
    cluster.settle();
    let status = cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert!(status.host("h0").active && status.group("g0").managed && status.commands.is_empty());
    let after: Vec<_> = cluster.history().into_iter().filter(|record| record.code == "begin").collect();
    assert_eq!((after, cluster.fenced()), (before, vec![]));
}

#[test]
fn hosts_are_emptied_one_after_the_other() {
    let cluster = running();
    does(&cluster, &["deactivate", "h[0-1]", "--reason", "new kernel"]);
    let status = cluster.wait_placed(&[("g0", "h2"), ("g1", "h2")]);
    assert!(!status.host("h0").active && !status.host("h1").active);
    let why = refused(&cluster, &["deactivate", "h2"]);
    assert!(why.contains("h2"), "{why}");
    does(&cluster, &["activate", "h[0-1]"]);
    does(&cluster, &["failback", "--onto", "h0"]);
    does(&cluster, &["failback", "--onto", "h1"]);
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert_eq!(cluster.fenced(), [""; 0]);
}

#[test]
fn a_failure_is_cleared() {
    let cluster = running();
    for host in ["h0", "h1", "h2"] {
        cluster.behave(&format!("g0c.start.{host}"), &["code 6", "reason no such disk"]);
    }
    cluster.stop_by_hand("g0c");
    cluster.wait("it is given up", |status| {
        status.group("g0").phase == "failed" && status.has_alert("g0", "g0c")
    });
    let shown = text(&cluster.client(&["history", "g0c"]));
    assert!(shown.contains("no such disk"), "{shown}");
    for host in ["h0", "h1", "h2"] {
        cluster.behave(&format!("g0c.start.{host}"), &[]);
    }
    does(&cluster, &["clear", "g0c"]);
    cluster.wait_phase(&["g0"], "running");
}

/// Another host, another group, and a group that is no longer there: all while the rest runs.
#[test]
fn a_configuration_is_changed_while_everything_runs() {
    let mut cluster = running();
    let before = cluster.history().iter().filter(|record| record.what == "stop").count();
    cluster.reshape(|shape| {
        shape.hosts.push(("h3".to_owned(), harness::ha::Fencing::Test));
        shape.groups.push(GroupShape::new("g2", "h3", &["h2"]));
    });
    does(&cluster, &["reload", "--yes"]);
    cluster.wait("the new group waits for the new host", |status| status.group("g2").phase == "unknown");
    cluster.start_agent("h3");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1"), ("g2", "h3")]);
    cluster.kill_agent("h3");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1"), ("g2", "h2")]);
    cluster.reshape(|shape| shape.groups.retain(|group| group.root != "g1"));
    does(&cluster, &["reload", "--yes"]);
    assert!(cluster.status().groups.iter().all(|group| group.id != "g1"));
    assert!(cluster.is_placed("g0", "h0"));
    assert!(cluster.is_active("g1", "h1") && cluster.is_active("g1c", "h1"), "it is left as it is");
    assert_eq!(cluster.history().iter().filter(|record| record.what == "stop").count(), before);
}

/// HALO's own status, from the same cluster.
#[test]
fn halo_shows_it_in_its_own_words() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.wait_connected();
    let shown = |cluster: &Cluster| text(&cluster.halo(&["status"]));
    assert!(shown(&cluster).contains("Running on h1"), "{}", shown(&cluster));
    assert!(shown(&cluster).contains("Connected hosts:\th[0-1]"), "{}", shown(&cluster));
    cluster.kill_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    let text = shown(&cluster);
    assert!(text.contains("Running (Failed Over) on h0"), "{text}");
    assert!(text.contains("Disconnected hosts:\th1") && text.contains("event=fence object=h1"), "{text}");
    assert!(cluster.halo(&["unmanage", "g0", "--reason", "x"]).status.success());
    assert!(shown(&cluster).contains("(Unmanaged)"));
    let again = cluster.halo(&["fence", "h1"]);
    assert_eq!(again.status.code(), Some(1));
}
