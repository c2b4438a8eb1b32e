//! Connections that break, agents that are restarted, managers that stand still or are replaced.

use std::time::Duration;

use super::play::{Play, finished, pair};
use crate::ha::command::Command;
use crate::ha::config::Resource;
use crate::ha::engine::LostState;
use crate::ha::fencing::{DeviceAction, DeviceAnswer};
use crate::ha::ids::{Epoch, ManagerId, ManagerRun};
use crate::ha::ocf::Outcome;
use crate::ha::protocol::{Action, Finished, FromAgent};
use crate::ha::state::State;
use crate::ha::status::{HostState, Phase};

fn starts(play: &Play, of: &str) -> Vec<String> {
    play.log.iter().filter(|line| line.starts_with(&format!("start {of} "))).cloned().collect()
}

/// A start of ost1 hangs on h1.
fn hanging_start() -> Play {
    let mut play = Play::new(pair());
    play.host("h1").hung.insert(("start", "ost1".into()));
    play.until("the start hangs", |play| !play.hosts["h1"].unfinished.is_empty());
    play
}

#[test]
fn a_connection_that_breaks_in_a_start_costs_nothing() {
    let mut play = hanging_start();
    for _ in 0..3 {
        play.cut("h1");
        play.run(Duration::from_secs(60));
    }
    assert!(
        play.calls.is_empty() && starts(&play, "ost1") == ["start ost1 h1"],
        "{:?} {:?}",
        play.log,
        play.calls
    );
    play.end("h1", 0);
    play.run(Duration::from_secs(60));
    assert!(play.is_on("pool1", "h1"), "{:#?}", play.group("pool1"));
    assert!(play.calls.is_empty() && starts(&play, "ost1").len() == 1, "{:?}", play.log);
}

#[test]
fn an_agent_restarted_in_the_middle_of_a_start() {
    let mut play = hanging_start();
    play.restart_agent("h1");
    play.run(Duration::from_secs(30));
    assert_eq!(starts(&play, "ost1"), ["start ost1 h1"]);
    // The processes end, nobody knows how. It is active.
    let left = play.host("h1").unfinished.remove(0);
    play.host("h1").hung.clear();
    play.host("h1").active.insert("ost1".into());
    play.says("h1", FromAgent::Emptied { order: left.order, resource: left.resource.id });
    play.runs_on("h0", "h1");
    assert!(starts(&play, "ost1").len() == 1 && play.calls.is_empty());
}

#[test]
fn a_start_that_completes_after_its_timeout_is_not_repeated_elsewhere() {
    let mut play = hanging_start();
    let left = play.hosts["h1"].unfinished[0].clone();
    let late = Finished {
        order: left.order,
        resource: left.resource.id.clone(),
        action: Action::Start,
        outcome: Outcome::TimedOut,
        unfinished: true,
        reason: String::new(),
        took_ms: 1,
        advised_interval_ms: None,
    };
    play.says("h1", FromAgent::Finished(late));
    play.run(Duration::from_secs(50));
    assert_eq!(starts(&play, "ost1"), ["start ost1 h1"]);
    assert!(play.group("pool1").waits_for.iter().any(|why| why.contains("unfinished")));
    play.host("h1").unfinished.clear();
    play.host("h1").hung.clear();
    play.host("h1").active.insert("ost1".into());
    play.says("h1", FromAgent::Emptied { order: left.order, resource: left.resource.id });
    play.run(Duration::from_secs(30));
    assert!(play.is_on("pool1", "h1") && play.calls.is_empty() && starts(&play, "ost1").len() == 1);
}

#[test]
fn an_operation_that_never_ends_has_its_host_fenced() {
    let mut config = pair();
    let ost1 = config.resources["ost1"].clone();
    let start_timeout = Some(Duration::from_secs(20));
    config.resources.insert("ost1".into(), Resource { start_timeout, ..(*ost1).clone() }.into());
    let mut play = Play::new(config);
    play.host("h1").hung.insert(("start", "ost1".into()));
    play.run(Duration::from_secs(75));
    assert!(play.calls.is_empty(), "its time and more is not over: {:?}", play.calls);
    play.until("h1 is fenced", |play| play.calls.contains(&"off h1".to_owned()));
    play.runs_on("h0", "h0");
}

#[test]
fn what_a_host_had_to_be_fenced_for_may_end_by_itself() {
    let mut play = hanging_start();
    play.ask(Command::Deactivate { host: "h0".into(), force: true }).unwrap();
    play.run(Duration::from_secs(1500));
    assert!(play.calls.is_empty(), "nobody else can run it: {:?}", play.calls);
    assert!(play.status().alerts.iter().any(|alert| alert.text.contains("must be fenced")));
    play.end("h1", 0);
    play.run(Duration::from_secs(10));
    assert!(!play.status().alerts.iter().any(|alert| alert.text.contains("must be fenced")));
    assert!(play.is_on("pool1", "h1"));
}

#[test]
fn answers_from_before_a_pause_prove_nothing() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.ask(Command::Stop { target: "pool1".to_owned() }).unwrap();
    play.until("stopped", |play| play.group("pool1").phase == Phase::Stopped);
    play.run(Duration::from_secs(60));
    play.log.clear();
    play.host("h0").hung.insert(("monitor", "pool1".into()));
    play.ask(Command::Start { target: "pool1".to_owned() }).unwrap();
    let probe = play.hosts["h0"].unfinished[0].clone();
    // The answer lies in the socket while the manager stands still, and somebody starts it by hand.
    play.log.push("by hand".to_owned());
    play.host("h0").hung.clear();
    play.host("h0").unfinished.clear();
    play.host("h0").active.insert("pool1".into());
    play.now.mono += Duration::from_secs(60);
    play.says("h0", finished(probe.order, "pool1".into(), Action::Probe, 7));
    play.run(Duration::from_secs(30));
    assert!(!play.log.contains(&"start pool1 h1".to_owned()), "{:?}", play.log);
    assert!(play.is_on("pool1", "h0"));
}

#[test]
fn a_manager_that_stood_still_takes_nobody_for_lost() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    for _ in 0..5 {
        play.pause(Duration::from_secs(3600));
        play.run(Duration::from_secs(20));
        assert!(play.calls.is_empty() && play.log.len() == 4, "{:?} {:?}", play.calls, play.log);
        play.runs_on("h0", "h1");
    }
    let lost = play.engine.state().events.iter().any(|event| event.event == "lost");
    assert!(!lost, "{:?}", play.engine.state().events);
}

#[test]
fn a_pause_is_not_the_silence_of_a_host() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.liars.insert("h1".into());
    play.ask(Command::Fence { host: "h1".into(), force: false }).unwrap();
    play.pause(Duration::from_secs(60));
    assert_ne!(play.host_status("h1").state, HostState::Off);
    play.run(Duration::from_secs(30));
    assert!(play.is_on("pool1", "h1"));
}

#[test]
fn who_accepts_connections_and_says_nothing_is_lost_and_dialled_again() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.device_says.insert("h1".into(), DeviceAnswer::TimedOut);
    play.host("h1").mute = true;
    play.until("h1 lost", |play| {
        matches!(play.host_status("h1").state, HostState::Lost | HostState::Fencing)
    });
    play.run(Duration::from_secs(60));
    play.host("h1").mute = false;
    play.until("h1 is back", |play| play.host_status("h1").state == HostState::Connected);
    play.device_says.clear();
    play.runs_on("h0", "h1");
}

#[test]
fn a_damaged_state_begins_above_every_seal() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    let manager = play.engine.state().manager;
    play.host("h1").sealed = Epoch(40);
    let state = State { manager, epoch: Epoch(7), ..State::default() };
    play.restart(state, LostState::Damaged("line 3".to_owned()));
    play.runs_on("h0", "h1");
    assert!(play.hosts.values().all(|host| host.sealed > Epoch(40)));
    assert_eq!(play.log.len(), 4, "nothing is started again: {:?}", play.log);
}

#[test]
fn a_manager_without_its_state_waits_for_a_takeover() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.host("h1").sealed = Epoch(40);
    play.restart(State::default(), LostState::Absent);
    play.run(Duration::from_secs(60));
    assert_eq!(play.host_status("h1").state, HostState::Refused);
    let alerts = play.status().alerts;
    assert!(alerts.iter().any(|alert| {
        alert.object == "h1" && alert.command.as_deref() == Some("coordinatool-client ha takeover")
    }));
    assert!(play.calls.is_empty());
    play.ask(Command::Takeover).unwrap();
    play.runs_on("h0", "h1");
    assert!(play.hosts.values().all(|host| host.sealed > Epoch(40)));
    assert_eq!(play.log.len(), 4, "{:?}", play.log);
}

/// Epochs go up by one for each start of a manager: an agent that claims more would use them up for everybody.
#[test]
fn an_epoch_that_nobody_can_have_reached_is_not_believed() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    let manager = play.engine.state().manager;
    for claimed in [u64::MAX, u64::MAX - 1, 1 << 40] {
        play.host("h1").sealed = Epoch(claimed);
        let state = State { manager, epoch: Epoch(7), ..State::default() };
        play.restart(state, LostState::Damaged("line 3".to_owned()));
        play.run(Duration::from_secs(5));
        assert_eq!(play.host_status("h1").state, HostState::Refused);
        assert!(play.status().epoch < Epoch(100));
    }
}

#[test]
fn who_was_replaced_stops_acting_and_does_not_fight() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.ask(Command::Takeover).unwrap();
    play.run(Duration::from_secs(10));
    play.hold.insert(DeviceAction::Off);
    play.host("h0").silent = true;
    play.until("h0 is being fenced", |play| !play.held.is_empty());
    // Another manager takes over.
    let host = play.host("h1");
    (host.sealed, host.obeys, host.sealed_by) = (Epoch(99), Some(ManagerId(4)), Some(ManagerRun(5)));
    play.cut("h1");
    play.run(Duration::from_secs(5));
    assert!(play.status().superseded);
    play.hold.clear();
    play.answer(DeviceAnswer::Failed("busy".to_owned()));
    play.host("h1").active.clear();
    (play.calls, play.log) = (Vec::new(), Vec::new());
    play.run(Duration::from_secs(300));
    assert!(play.calls.is_empty() && play.log.is_empty(), "{:?} {:?}", play.calls, play.log);
    assert_eq!(play.hosts["h1"].sealed, Epoch(99));
    assert!(play.status().alerts.iter().any(|alert| alert.text.contains("taken over")));
}
