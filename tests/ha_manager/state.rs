//! What survives.

use std::fs;

use harness::ha::{Cluster, Shape};
use harness::json;

#[test]
fn what_operators_decided_survives_a_kill() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.command_with("groups/g0/unmanage", &json!({"reason": "mending"})).unwrap();
    cluster.order("hosts/h1/deactivate", &json!({})).unwrap();
    cluster.kill_manager();
    cluster.start_manager();
    let status = cluster.status();
    assert!(!status.group("g0").managed && status.group("g1").managed);
    assert!(!status.host("h1").active && status.host("h0").active);
    // And is gone on with.
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert!(cluster.happened("unmanage", "g0") == 1);
}

#[test]
fn a_damaged_state_is_kept_aside_and_the_epoch_learnt_from_the_agents() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    let epoch = cluster.status().epoch;
    cluster.kill_manager();
    let directory = cluster.manager_state("manager");
    let file = directory.join("state");
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 0x40;
    fs::write(&file, &bytes).unwrap();
    cluster.start_manager();
    assert_eq!(fs::read(directory.join("state.damaged.0")).unwrap(), bytes);
    // Agents obey one manager until a takeover is confirmed, and this one has forgotten who it was.
    cluster.wait("the agents say whom they obey", |status| {
        status.hosts.iter().all(|host| host.state == "refused" || host.state == "connected")
    });
    if cluster.status().hosts.iter().any(|host| host.state == "refused") {
        cluster.command("takeover").unwrap();
    }
    let status = cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert!(status.epoch > epoch, "{} after {epoch}", status.epoch);
}

#[test]
fn a_lost_state_needs_a_confirmed_takeover() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    let epoch = cluster.status().epoch;
    cluster.kill_manager();
    fs::remove_dir_all(cluster.manager_state("manager")).unwrap();
    cluster.start_manager();
    let status =
        cluster.wait("the agents refuse", |status| status.hosts.iter().all(|host| host.state == "refused"));
    assert!(
        status
            .alerts
            .iter()
            .any(|alert| { alert.command.as_deref().is_some_and(|command| command.contains("takeover")) }),
        "{:?}",
        status.alerts
    );
    cluster.command("takeover").unwrap();
    let status = cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert!(status.epoch > epoch);
    let starts = cluster.count("start", "g0", "h0");
    assert_eq!(starts, 1, "what ran was left alone");
}

#[test]
fn halos_state_is_imported_once() {
    let mut cluster = Cluster::new(Shape::pair());
    let halo = cluster.directory().join("manager.halo");
    let record = "2026-11-20T23:20:45.494048554\tunmanage\tg1\tpool maintenance\n";
    fs::write(&halo, record).unwrap();
    cluster.start_agents();
    cluster.start_manager();
    let status = cluster.wait("g0 runs", |status| status.runs_on("g0", "h0"));
    assert!(!status.group("g1").managed, "it stays as HALO left it");
    assert_eq!(cluster.count("start", "g1", "h1"), 0);
    cluster.command("groups/g1/manage").unwrap();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    // HALO's file says otherwise still, but is history now.
    cluster.kill_manager();
    cluster.start_manager();
    assert!(cluster.status().group("g1").managed);
}
