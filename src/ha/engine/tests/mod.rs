//! The engine against agents and fence devices that are played by hand.

mod configs;
mod device_changes;
mod failures;
mod faults;
mod fencing;
mod links;
mod operators;
mod play;
mod played;
mod proofs;
mod reloads;
mod unfencing;

use std::time::Duration;

use play::{Play, pair};

use crate::ha::command::{Command, DeniedKind};
use crate::ha::engine::LostState;
use crate::ha::status::{HostState, Phase};

#[test]
fn groups_start_at_home_parents_first() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    for (first, then) in [("start pool0 h0", "start ost0 h0"), ("start pool1 h1", "start ost1 h1")] {
        let at = |line: &str| play.log.iter().position(|logged| logged == line).unwrap();
        assert!(at(first) < at(then), "{:?}", play.log);
    }
    assert_eq!(play.log.len(), 4);
}

#[test]
fn an_absent_host_keeps_what_may_run_there_stopped() {
    let mut play = Play::new(pair());
    play.crash("h1");
    play.run(Duration::from_secs(60));
    assert!(play.log.is_empty() && play.calls.is_empty(), "{:?} {:?}", play.log, play.calls);
    assert_eq!(play.group("pool1").phase, Phase::Unknown);
    assert!(
        play.group("pool0").waits_for.iter().any(|why| why.contains("ha fence h1")),
        "{:?}",
        play.group("pool0")
    );
    play.boot("h1");
    play.runs_on("h0", "h1");
}

#[test]
fn a_silent_host_is_fenced_and_its_group_runs_elsewhere() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.host("h1").silent = true;
    let before = play.now.mono;
    play.runs_on("h0", "h0");
    assert!(play.calls.contains(&"off h1".to_owned()));
    assert!(play.now.mono.since(before) < Duration::from_secs(15), "{:?}", play.now.mono.since(before));
    assert_eq!(play.host_status("h1").state, HostState::Off);
    // It comes back, and nothing moves by itself.
    play.boot("h1");
    play.until("h1 connected", |play| play.host_status("h1").state == HostState::Connected);
    play.run(Duration::from_secs(30));
    play.runs_on("h0", "h0");
    play.ask(Command::Failback { host: "h1".into() }).unwrap();
    play.runs_on("h0", "h1");
}

#[test]
fn a_second_death_waits_for_a_reset() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.crash("h1");
    play.runs_on("h0", "h0");
    play.boot("h1");
    play.until("h1 connected", |play| play.host_status("h1").state == HostState::Connected);
    play.ask(Command::Failback { host: "h1".into() }).unwrap();
    play.runs_on("h0", "h1");
    play.host("h1").silent = true;
    play.run(Duration::from_secs(60));
    assert_eq!(play.group("pool1").phase, Phase::Unknown);
    assert!(play.group("pool1").waits_for[0].contains("ha reset h1"), "{:?}", play.group("pool1"));
    play.ask(Command::Reset { host: "h1".into() }).unwrap();
    play.runs_on("h0", "h0");
}

#[test]
fn a_host_that_lives_although_its_device_says_off_proves_nothing() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.liars.insert("h1".into());
    play.ask(Command::Fence { host: "h1".into(), force: false }).unwrap();
    play.run(Duration::from_secs(30));
    assert!(play.is_on("pool1", "h1"));
    assert!(play.status().alerts.iter().any(|alert| alert.object == "h1" && alert.text.contains("off")));
}

#[test]
fn deactivate_moves_groups_and_refuses_an_outage() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.ask(Command::Deactivate { host: "h0".into(), force: false }).unwrap();
    play.runs_on("h1", "h1");
    let denied = play.ask(Command::Deactivate { host: "h1".into(), force: false }).unwrap_err();
    assert!(denied.message.contains("You cannot deactivate both hosts in a pair."), "{denied}");
    play.ask(Command::Activate { host: "h0".into() }).unwrap();
    play.ask(Command::Failback { host: "h0".into() }).unwrap();
    play.runs_on("h0", "h1");
    // The partner is gone: nothing is stopped for nothing.
    play.host("h0").silent = true;
    play.until("h0 is off", |play| play.host_status("h0").state == HostState::Off);
    play.runs_on("h1", "h1");
    let denied = play.ask(Command::Deactivate { host: "h1".into(), force: false }).unwrap_err();
    assert!(denied.message.contains("nowhere to run"), "{denied}");
    play.runs_on("h1", "h1");
}

#[test]
fn a_crashed_resource_is_restarted_then_moved() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    for _ in 0..3 {
        play.host("h1").active.remove("ost1");
        play.until("restarted", |play| play.hosts["h1"].active.contains("ost1") && play.is_on("pool1", "h1"));
    }
    play.host("h1").active.remove("ost1");
    play.runs_on("h0", "h0");
    assert!(play.calls.is_empty());
}

#[test]
fn a_group_on_two_hosts_freezes_with_an_alert() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.log.push("by hand".to_owned());
    play.host("h0").active.insert("ost1".into());
    play.until("frozen", |play| play.group("pool1").phase == Phase::Frozen);
    assert!(play.status().alerts.iter().any(|alert| alert.object == "pool1"));
    // Nothing would come of moving it, and that is said at once.
    for command in [
        Command::Move { group: "pool1".into(), to: Some("h0".into()) },
        Command::Move { group: "pool1".into(), to: None },
        Command::Failback { host: "h1".into() },
    ] {
        let denied = play.ask(command.clone()).unwrap_err();
        assert_eq!(denied.kind, DeniedKind::Conflict);
        let why = "pool1 is frozen: active on more than one host";
        assert!(denied.message.contains(why), "{command:?}: {denied:?}");
    }
    play.host("h0").active.remove("ost1");
    play.runs_on("h0", "h1");
}

#[test]
fn a_child_that_is_active_elsewhere_is_not_started_twice() {
    let mut play = Play::new(pair());
    play.host("h0").active.insert("ost1".into());
    play.runs_on("h0", "h0");
    assert!(!play.log.contains(&"start ost1 h1".to_owned()));
}

#[test]
fn observing_touches_nothing() {
    let mut play = Play::with(pair(), false, Default::default(), LostState::Absent);
    play.run(Duration::from_secs(30));
    assert_eq!(play.group("pool0").phase, Phase::Stopped);
    play.host("h1").active.extend(["pool0".into(), "ost0".into()]);
    play.until("seen", |play| play.is_on("pool0", "h1"));
    play.crash("h1");
    play.run(Duration::from_secs(60));
    assert!(play.log.is_empty() && play.calls.is_empty());
    assert!(play.ask(Command::Fence { host: "h1".into(), force: false }).is_err());
}

#[test]
fn a_restarted_manager_changes_nothing_that_runs() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.crash("h1");
    play.runs_on("h0", "h0");
    let (starts, state) = (play.log.len(), play.engine.state().clone());
    play.restart(state, LostState::No);
    play.run(Duration::from_secs(60));
    play.runs_on("h0", "h0");
    assert_eq!(play.log.len(), starts);
    assert!(play.host_status("h1").fenced);
}

#[test]
fn both_hosts_lost_at_once_are_not_fenced() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.host("h0").silent = true;
    play.host("h1").silent = true;
    play.run(Duration::from_secs(120));
    assert!(!play.calls.iter().any(|call| call.starts_with("off")), "{:?}", play.calls);
    play.host("h0").silent = false;
    play.host("h1").silent = false;
    play.runs_on("h0", "h1");
    assert_eq!(play.log.len(), 4);
}
