//! What went wrong with HALO a0fa0b9 under faults, with the outcome that it should have had.

use std::time::Duration;

use super::play::{Play, pair};
use crate::ha::command::{Command, PowerCommand};
use crate::ha::engine::LostState;
use crate::ha::fencing::{DeviceAction, DeviceAnswer};
use crate::ha::protocol::Action;
use crate::ha::status::{HostState, Phase};

fn offs(play: &Play) -> usize {
    play.calls.iter().filter(|call| call.starts_with("off")).count()
}

#[test]
fn a_manager_killed_while_a_failover_starts_the_group() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.host("h0").hung.insert(("start", "ost1".into()));
    play.crash("h1");
    play.until("the start hangs", |play| {
        play.hosts["h0"].unfinished.first().is_some_and(|left| left.action == Action::Start)
    });
    play.restart(play.engine.state().clone(), LostState::No);
    play.run(Duration::from_secs(20));
    play.end("h0", 0);
    play.runs_on("h0", "h0");
    assert_eq!(play.log.iter().filter(|line| *line == "start ost1 h0").count(), 1, "{:?}", play.log);
}

#[test]
fn a_fencing_that_fails_is_repeated_then_left_to_an_operator() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.device_says.insert("h1".into(), DeviceAnswer::Failed("no route".to_owned()));
    play.crash("h1");
    play.run(Duration::from_secs(600));
    assert_eq!(play.group("pool1").phase, Phase::Unknown);
    assert!((2..=8).contains(&offs(&play)), "{:?}", play.calls);
    assert!(play.status().alerts.iter().any(|alert| alert.object == "pool1"));
    // It works again: what is off already is found off, and the group is not forgotten.
    play.device_says.clear();
    play.runs_on("h0", "h0");
}

#[test]
fn a_fencing_that_hangs_ends_and_a_forced_one_moves_the_group() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.device_says.insert("h1".into(), DeviceAnswer::TimedOut);
    play.host("h1").silent = true;
    play.run(Duration::from_secs(900));
    assert_eq!(play.group("pool1").phase, Phase::Unknown);
    play.device_says.clear();
    play.ask(Command::Fence { host: "h1".into(), force: true }).unwrap();
    play.runs_on("h0", "h0");
}

#[test]
fn one_host_is_off_and_the_other_dies() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.crash("h1");
    play.runs_on("h0", "h0");
    let before = offs(&play);
    play.host("h0").silent = true;
    play.run(Duration::from_secs(120));
    assert_eq!(offs(&play), before, "there is nowhere to run it: {:?}", play.calls);
    // The first to come back runs all.
    play.boot("h1");
    play.runs_on("h1", "h1");
    assert!(play.calls.contains(&"off h0".to_owned()));
}

#[test]
fn both_agents_are_killed() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    for host in ["h0", "h1"] {
        play.host(host).refuses = true;
        play.cut(host);
    }
    play.run(Duration::from_secs(300));
    assert_eq!(offs(&play), 0);
    for host in ["h0", "h1"] {
        play.host(host).refuses = false;
    }
    play.runs_on("h0", "h1");
    assert_eq!((offs(&play), play.log.len()), (0, 4));
}

#[test]
fn an_agent_returns_while_an_operator_fences_its_host() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.host("h1").refuses = true;
    play.cut("h1");
    play.run(Duration::from_secs(3));
    play.hold.insert(DeviceAction::Off);
    play.ask(Command::Fence { host: "h1".into(), force: false }).unwrap();
    assert_eq!(play.held.len(), 1);
    play.host("h1").refuses = false;
    play.run(Duration::from_secs(5));
    let again = play.ask(Command::Fence { host: "h1".into(), force: true }).unwrap_err();
    assert!(again.message.contains("in progress"), "{again}");
    play.hold.clear();
    play.crash("h1");
    play.answer(DeviceAnswer::Done);
    play.runs_on("h0", "h0");
}

#[test]
fn a_group_that_is_active_on_both_from_the_beginning_is_frozen() {
    let mut play = Play::new(pair());
    play.log.push("by hand".to_owned());
    for host in ["h0", "h1"] {
        play.host(host).active.extend(["pool1".into(), "ost1".into()]);
    }
    play.run(Duration::from_secs(60));
    assert_eq!(play.group("pool1").phase, Phase::Frozen);
    assert!(play.status().alerts.iter().any(|alert| alert.object == "pool1"));
    assert!(play.is_on("pool0", "h0"));
    assert!(!play.log.iter().any(|line| line.contains("1 h")), "{:?}", play.log);
}

#[test]
fn only_the_root_of_an_unmanaged_group_is_moved_by_hand() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.ask(Command::Unmanage { group: "pool1".into() }).unwrap();
    play.host("h1").active.remove("pool1");
    play.host("h0").active.insert("pool1".into());
    play.log.push("by hand".to_owned());
    play.run(Duration::from_secs(60));
    play.ask(Command::Manage { group: "pool1".into() }).unwrap();
    play.run(Duration::from_secs(60));
    assert_eq!(play.group("pool1").phase, Phase::Frozen);
    assert!(!play.log.contains(&"start ost1 h0".to_owned()), "{:?}", play.log);
}

#[test]
fn a_group_that_was_mounted_by_hand_while_its_host_rebooted() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.ask(Command::Maintenance { target: Some("pool1".to_owned()), time: Duration::from_secs(30) })
        .unwrap();
    play.crash("h1");
    play.host("h0").active.extend(["pool1".into(), "ost1".into()]);
    play.run(Duration::from_secs(10));
    play.boot("h1");
    play.run(Duration::from_secs(60));
    play.runs_on("h0", "h0");
    assert_eq!(play.log.len(), 4, "{:?}", play.log);
}

#[test]
fn a_reset_and_a_restart_while_failed_over_then_the_other_host_dies() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.crash("h1");
    play.runs_on("h0", "h0");
    play.ask(Command::Reset { host: "h1".into() }).unwrap();
    play.restart(play.engine.state().clone(), LostState::No);
    play.runs_on("h0", "h0");
    play.crash("h0");
    play.run(Duration::from_secs(60));
    // Whichever is switched on first takes all.
    play.ask(Command::Power { host: "h1".into(), action: PowerCommand::On }).unwrap();
    play.runs_on("h1", "h1");
}

#[test]
fn the_idle_partner_is_watched_as_well() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.ask(Command::Deactivate { host: "h1".into(), force: false }).unwrap();
    play.runs_on("h0", "h0");
    play.ask(Command::Activate { host: "h1".into() }).unwrap();
    // Nothing runs on h1. It dies, and that is seen.
    play.crash("h1");
    play.until("it is lost", |play| play.host_status("h1").state == HostState::Lost);
    for command in [
        Command::Deactivate { host: "h0".into(), force: false },
        Command::Fence { host: "h0".into(), force: false },
        Command::Failback { host: "h1".into() },
    ] {
        assert!(play.ask(command).is_err());
    }
    play.runs_on("h0", "h0");
    assert_eq!(offs(&play), 0, "nobody needs it to be off");
}
