//! Fence agents that must let a host in again when it joins.

use std::sync::Arc;
use std::time::Duration;

use super::play::{Play, pair};
use crate::ha::command::Command;
use crate::ha::engine::LostState;
use crate::ha::fencing::{DeviceAction, DeviceAnswer};
use crate::ha::status::HostState;

fn unfences(play: &Play, host: &str) -> usize {
    play.calls.iter().filter(|call| **call == format!("unfence {host}")).count()
}

#[test]
fn a_host_is_let_in_before_anything_is_started_there() {
    let mut play = Play::new(pair());
    for host in ["h0", "h1"] {
        play.unfencing.insert(host.into(), DeviceAnswer::Done);
    }
    play.hold.insert(DeviceAction::Unfence);
    play.run(Duration::from_secs(10));
    assert!(play.log.is_empty() && play.held.len() == 1, "{:?} {:?}", play.log, play.held);
    assert!(play.group("pool0").waits_for[0].contains("let it in"), "{:?}", play.group("pool0"));
    play.hold.clear();
    play.answer(DeviceAnswer::Done);
    play.runs_on("h0", "h1");
    // Once in a boot, with an intent that a successor would wait for.
    play.run(Duration::from_secs(60));
    assert_eq!((unfences(&play, "h0"), unfences(&play, "h1")), (1, 1), "{:?}", play.calls);
    play.crash("h1");
    play.runs_on("h0", "h0");
    play.boot("h1");
    play.until("h1 connected", |play| play.host_status("h1").state == HostState::Connected);
    assert_eq!(unfences(&play, "h1"), 2);
}

/// A group does not go to its failover host because its home is let in a moment later.
#[test]
fn a_host_that_is_being_let_in_is_waited_for() {
    let mut config = pair();
    let h1 = config.hosts.get_mut("h1").unwrap();
    Arc::make_mut(h1).fencing.clear();
    let mut play = Play::new(config);
    play.hold.insert(DeviceAction::Unfence);
    play.until("pool1 on h1", |play| play.is_on("pool1", "h1"));
    play.run(Duration::from_secs(5));
    assert_eq!(play.log, ["start pool1 h1", "start ost1 h1"]);
    play.hold.clear();
    play.answer(DeviceAnswer::Unsupported);
    play.runs_on("h0", "h1");
}

#[test]
fn a_host_that_is_not_let_in_is_no_target() {
    let mut play = Play::new(pair());
    for host in ["h0", "h1"] {
        play.unfencing.insert(host.into(), DeviceAnswer::Done);
    }
    play.runs_on("h0", "h1");
    play.unfencing.insert("h1".into(), DeviceAnswer::Failed("no key".to_owned()));
    play.crash("h1");
    play.runs_on("h0", "h0");
    play.boot("h1");
    play.until("h1 connected", |play| play.host_status("h1").state == HostState::Connected);
    let denied = play.ask(Command::Failback { host: "h1".into() }).unwrap_err();
    assert!(denied.message.contains("no key"), "{denied}");
    let alert = play.status().alerts.into_iter().find(|alert| alert.text.contains("no key"));
    assert_eq!(alert.map(|alert| alert.object), Some("h1".to_owned()));
    // It is tried again.
    play.unfencing.insert("h1".into(), DeviceAnswer::Done);
    play.run(Duration::from_secs(60));
    play.ask(Command::Failback { host: "h1".into() }).unwrap();
    play.runs_on("h0", "h1");
}

#[test]
fn an_unfencing_that_was_interrupted_is_waited_out_before_a_fencing() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.crash("h1");
    play.runs_on("h0", "h0");
    play.unfencing.insert("h1".into(), DeviceAnswer::Done);
    play.ask(Command::Reload { config: Box::new(pair()) }).unwrap();
    play.hold.insert(DeviceAction::Unfence);
    play.boot("h1");
    play.until("it is being let in", |play| !play.held.is_empty());
    // The child of a dead manager may still be at it: nothing may fence meanwhile.
    let state = play.engine.state().clone();
    let open = state.fences["h1"].iter().find(|attempt| attempt.result.is_none()).unwrap();
    assert_eq!(open.action, "unfence");
    play.restart(state, LostState::No);
    let denied = play.ask(Command::Fence { host: "h1".into(), force: true }).unwrap_err();
    assert!(denied.message.contains("in progress"), "{denied}");
}

#[test]
fn who_observes_lets_nobody_in() {
    let mut play = Play::with(pair(), false, Default::default(), LostState::Absent);
    play.unfencing.insert("h0".into(), DeviceAnswer::Done);
    play.run(Duration::from_secs(20));
    assert!(play.calls.is_empty());
    let mut config = pair();
    config.settings.manage = Some(true);
    play.ask(Command::Reload { config: Box::new(config) }).unwrap();
    play.runs_on("h0", "h1");
    assert_eq!(unfences(&play, "h0"), 1);
}
