//! Starting, stopping, and what stands in the way.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use harness::ha::{Cluster, Shape};
use harness::{Signal, patience, poll};

/// Runs a manager that cannot start; its exit code and what it said.
fn run(cluster: &Cluster, name: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = cluster.manager_command(name);
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_socket_and_the_state_are_for_their_owner_only() {
    let cluster = Cluster::start(Shape::pair());
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&cluster.socket()), 0o600);
    let state = cluster.manager_state("manager");
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&state.join("state")), 0o600);
}

#[test]
fn two_managers_cannot_share_a_state() {
    let cluster = Cluster::start(Shape::pair());
    let state = cluster.manager_state("manager").display().to_string();
    let (code, said) = run(&cluster, "second", &["--state-dir", &state]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another manager uses this directory"), "{said}");
    let socket = cluster.socket().display().to_string();
    let (code, said) = run(&cluster, "third", &["--socket", &socket]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another manager listens on it"), "{said}");
    // The first one is not disturbed.
    assert_eq!(cluster.ask("GET", "/api/v1/ha/status", "").code, 200);
}

#[test]
fn all_problems_of_a_configuration_are_told_at_once() {
    let cluster = Cluster::new(Shape::pair());
    let text = fs::read_to_string(cluster.configuration()).unwrap();
    let broken = text.replace("home_host: h0", "home_host: h7").replace("detection_time:", "detektion_time:");
    fs::write(cluster.configuration(), broken).unwrap();
    let (code, said) = run(&cluster, "manager", &[]);
    assert_eq!(code, Some(64), "{said}");
    for words in ["detektion_time", "detection_time", "h7", "ha.yaml:"] {
        assert!(said.contains(words), "no {words} in {said}");
    }
    assert!(!cluster.manager_state("manager").exists(), "nothing was begun");
}

#[test]
fn without_certificates_there_is_no_manager() {
    let cluster = Cluster::new(Shape::pair());
    let mut command = std::process::Command::new(harness::Programs::find().path("coordinatool"));
    command.arg("ha-manager").arg("--config").arg(cluster.configuration());
    command.arg("--state-dir").arg(cluster.manager_state("manager")).args(["--tls-dir", "/nonexistent"]);
    command.arg("--socket").arg(cluster.socket());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("/nonexistent/") && said.contains("ca issue manager --role manager"), "{said}");
}

#[test]
fn an_old_socket_is_replaced_and_a_file_is_not() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.kill_manager();
    assert!(cluster.socket().exists());
    cluster.start_manager();
    cluster.stop_manager();
    assert!(!cluster.socket().exists(), "it is removed at a clean stop");
    fs::write(cluster.socket(), "precious").unwrap();
    let (code, said) = run(&cluster, "again", &["--socket", &cluster.socket().display().to_string()]);
    assert_eq!((code, said.contains("is no socket")), (Some(64), true), "{said}");
    assert_eq!(fs::read_to_string(cluster.socket()).unwrap(), "precious");
}

#[test]
fn stopping_and_starting_the_manager_disturbs_nothing() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    let before = cluster.history();
    let epoch = cluster.status().epoch;
    cluster.stop_manager();
    cluster.start_manager();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.kill_manager();
    cluster.start_manager();
    let status = cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert_eq!(status.epoch, epoch + 2, "a reign for each");
    let acts = |history: &[harness::ha::Record]| {
        history.iter().filter(|one| one.what != "monitor" && one.what != "probe").count()
    };
    assert_eq!(acts(&before), acts(&cluster.history()), "{:?}", cluster.history());
}

#[test]
fn a_manager_that_is_paused_does_nothing_with_what_it_knew() {
    let mut cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.signal_manager(Signal::STOP);
    // Somebody stops a group meanwhile, and another manager's operator would start it elsewhere: by hand here.
    cluster.stop_group_by_hand("g0");
    cluster.start_group_by_hand("g0", "h1");
    cluster.signal_manager(Signal::CONT);
    cluster.wait("g0 is found on h1", |status| status.runs_on("g0", "h1"));
    assert!(poll(patience(), || Some(cluster.doubles().is_empty())).unwrap());
}
