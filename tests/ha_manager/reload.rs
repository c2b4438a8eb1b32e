//! Loading the configuration again.

use std::fs;

use harness::ha::{Cluster, GroupShape, Shape};
use harness::{Signal, json};

#[test]
fn a_reload_shows_what_changes_and_changes_nothing_else() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.reshape(|shape| shape.groups.push(GroupShape::new("g2", "h0", &["h1"])));
    let answer = cluster.ask("POST", "/api/v1/ha/reload", r#"{"dry_run":true}"#).json();
    let difference = answer["response"]["difference"].to_string();
    assert!(difference.contains("g2"), "{answer}");
    assert!(cluster.status().groups.len() == 2, "a dry run");
    cluster.command("reload").unwrap();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1"), ("g2", "h0")]);
    assert_eq!(cluster.count("start", "g0", "h0"), 1);
    assert_eq!(cluster.count("stop", "g0", "h0"), 0);
}

#[test]
fn a_bad_configuration_is_refused_as_a_whole() {
    let cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    let good = fs::read_to_string(cluster.configuration()).unwrap();
    fs::write(cluster.configuration(), good.replace("home_host: h1", "home_host: nobody")).unwrap();
    let (code, errors) = cluster.order("reload", &json!({})).unwrap_err();
    assert_eq!(code, 422);
    assert!(errors.contains("nobody"), "{errors}");
    assert!(cluster.status().runs_on("g1", "h1"));
    assert_eq!(cluster.status().group("g1").home, "h1");
}

#[test]
fn sighup_loads_it_as_well() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.reshape(|shape| shape.groups.push(GroupShape::new("g2", "h1", &["h0"])));
    cluster.signal_manager(Signal::HUP);
    cluster.wait("there are three groups", |status| status.groups.len() == 3);
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1"), ("g2", "h1")]);
}
