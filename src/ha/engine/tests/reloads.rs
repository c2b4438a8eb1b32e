//! Another configuration while things run: nothing is forgotten that may be active somewhere.

use std::time::Duration;

use super::play::{Play, add_group, add_host, pair};
use crate::ha::command::{Command, Progress};
use crate::ha::config::{Config, Group, Resource};
use crate::ha::status::Phase;

fn reload(play: &mut Play, config: Config) {
    play.ask(Command::Reload { config: Box::new(config) }).unwrap();
}

/// The pair, with other parameters of ost1.
fn with_device(device: &str) -> Config {
    let mut config = pair();
    let ost1 = config.resources["ost1"].clone();
    let mut spec = ost1.spec.clone();
    spec.parameters.insert("name".to_owned(), device.to_owned());
    let identity = Resource::identity_of(&spec.kind, &spec.parameters);
    config.resources.insert("ost1".into(), Resource { spec, identity, ..(*ost1).clone() }.into());
    config
}

/// The pair, with ost1 under another name.
fn renamed() -> Config {
    let mut config = pair();
    let ost1 = config.resources.remove("ost1").unwrap();
    let mut spec = ost1.spec.clone();
    spec.id = "data1".into();
    config.resources.insert("data1".into(), Resource { spec, ..(*ost1).clone() }.into());
    let pool1 = config.resources["pool1"].clone();
    let children = vec!["data1".into()];
    config.resources.insert("pool1".into(), Resource { children, ..(*pool1).clone() }.into());
    let group = config.groups["pool1"].clone();
    let members = vec!["pool1".into(), "data1".into()];
    config.groups.insert("pool1".into(), Group { members, ..(*group).clone() }.into());
    config
}

#[test]
fn the_same_again_changes_nothing() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    let (log, seen) = (play.log.len(), play.engine.state().clone());
    reload(&mut play, pair());
    play.run(Duration::from_secs(60));
    play.runs_on("h0", "h1");
    assert_eq!(play.log.len(), log);
    assert_eq!(play.engine.state().candidates, seen.candidates);
}

#[test]
fn what_is_defined_anew_waits_for_its_old_self() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    // What is active is one thing to the host, whatever the parameters say; here the new one would be a second.
    play.host("h1").hung.insert(("monitor", "ost1".into()));
    reload(&mut play, with_device("other"));
    play.run(Duration::from_secs(60));
    assert_eq!(play.log.len(), 4, "not started as such: {:?}", play.log);
    assert_eq!(play.engine.state().candidates.values().filter(|hosts| hosts.contains_key("h1")).count(), 5);
}

#[test]
fn a_rename_starts_nothing_twice() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    // The agent looks at the device, so the new name is active where the old one is.
    play.host("h1").active.insert("data1".into());
    reload(&mut play, renamed());
    play.until("it is found under its new name", |play| play.is_on("pool1", "h1"));
    assert_eq!(play.log.len(), 4, "{:?}", play.log);
    // It moves: both names must be stopped before it starts again.
    play.ask(Command::Move { group: "pool1".into(), to: Some("h0".into()) }).unwrap();
    play.until("it runs on h0", |play| play.is_on("pool1", "h0"));
    let at = |what: &str| play.log.iter().position(|line| line == what);
    let (old, new) = (at("stop ost1 h1"), at("start data1 h0"));
    assert!(old.is_some() && old < new, "the old name was still active: {:?}", play.log);
}

#[test]
fn a_group_that_is_removed_goes_on_and_its_host_stays_a_candidate() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    let mut config = pair();
    config.groups.remove("pool1");
    config.resources.remove("pool1");
    config.resources.remove("ost1");
    reload(&mut play, config);
    play.run(Duration::from_secs(60));
    assert!(play.hosts["h1"].active.contains("ost1") && play.log.len() == 4);
    // It comes back with another home: it stays where it is found.
    let mut config = pair();
    let group = config.groups["pool1"].clone();
    let (home, failover) = ("h0".into(), vec!["h1".into()]);
    config.groups.insert("pool1".into(), Group { home, failover, ..(*group).clone() }.into());
    reload(&mut play, config);
    play.runs_on("h0", "h1");
    assert_eq!(play.log.len(), 4, "{:?}", play.log);
}

#[test]
fn a_host_that_is_removed_is_left_and_then_forgotten() {
    let mut config = pair();
    add_host(&mut config, 2);
    let group = config.groups["pool1"].clone();
    let failover = vec!["h2".into()];
    config.groups.insert("pool1".into(), Group { failover, ..(*group).clone() }.into());
    let mut play = Play::new(config.clone());
    play.runs_on("h0", "h1");
    // h1 is no more: its group moves to h2, home is h0 now.
    config.hosts.remove("h1");
    let (home, failover) = ("h2".into(), vec!["h0".into()]);
    config.groups.insert("pool1".into(), Group { home, failover, ..(*group).clone() }.into());
    let group = config.groups["pool0"].clone();
    config.groups.insert("pool0".into(), Group { failover: vec!["h2".into()], ..(*group).clone() }.into());
    reload(&mut play, config);
    play.runs_on("h0", "h2");
    play.until("h1 is forgotten", |play| play.status().hosts.iter().all(|host| host.id.as_str() != "h1"));
    assert!(play.engine.state().candidates.values().all(|hosts| !hosts.contains_key("h1")));
}

#[test]
fn a_removed_host_that_is_silent_needs_a_confirmation() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.crash("h1");
    let mut config = pair();
    config.hosts.remove("h1");
    for number in ["pool0", "pool1"] {
        let group = config.groups[number].clone();
        let (home, failover) = ("h0".into(), Vec::new());
        config.groups.insert(number.into(), Group { home, failover, ..(*group).clone() }.into());
    }
    reload(&mut play, config);
    play.run(Duration::from_secs(120));
    assert!(play.calls.is_empty() && play.log.len() == 4);
    let waits = play.group("pool1").waits_for.join("; ");
    assert!(waits.contains("confirm-off h1"), "{waits}");
    // It cannot be forgotten by a restart either.
    play.restart(play.engine.state().clone(), crate::ha::engine::LostState::No);
    play.run(Duration::from_secs(60));
    assert_eq!(play.log.len(), 4);
    play.ask(Command::ConfirmOff { host: "h1".into() }).unwrap();
    play.until("pool1 is on h0", |play| play.is_on("pool1", "h0"));
}

#[test]
fn a_group_leaves_a_host_that_is_not_one_of_its_own_any_more() {
    let mut config = pair();
    add_host(&mut config, 2);
    let mut play = Play::new(config.clone());
    play.runs_on("h0", "h1");
    let group = config.groups["pool1"].clone();
    let (home, failover) = ("h2".into(), vec!["h0".into()]);
    config.groups.insert("pool1".into(), Group { home, failover, ..(*group).clone() }.into());
    reload(&mut play, config);
    play.runs_on("h0", "h2");
    let stop = play.log.iter().position(|line| line == "stop pool1 h1").unwrap();
    let start = play.log.iter().position(|line| line == "start pool1 h2").unwrap();
    assert!(stop < start);
}

#[test]
fn commands_about_what_is_removed_end() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.host("h1").hung.insert(("stop", "ost1".into()));
    play.ask(Command::Move { group: "pool1".into(), to: Some("h0".into()) }).unwrap();
    play.ask(Command::Stop { target: "ost1".to_owned() }).unwrap();
    let mut config = pair();
    config.groups.remove("pool1");
    config.resources.remove("pool1");
    config.resources.remove("ost1");
    reload(&mut play, config);
    play.run(Duration::from_secs(5));
    for command in &play.status().commands {
        assert!(!matches!(command.progress, Progress::Running { .. }), "{command:?}");
    }
}

#[test]
fn managing_is_switched_off_and_on() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    let mut config = pair();
    config.settings.manage = Some(false);
    reload(&mut play, config);
    play.host("h0").active.clear();
    play.host("h1").silent = true;
    play.run(Duration::from_secs(60));
    assert!(play.log.len() == 4 && play.calls.is_empty());
    play.host("h1").silent = false;
    play.run(Duration::from_secs(20));
    reload(&mut play, pair());
    play.runs_on("h0", "h1");
}

#[test]
fn a_dry_run_changes_nothing() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    let before = play.engine.state().clone();
    let mut config = pair();
    config.groups.remove("pool1");
    add_group(&mut config, 2, "h0", &["h1"]);
    for (command, expected) in [
        (Command::Reload { config: Box::new(config) }, "pool1 is forgotten; it goes on running on h1"),
        (Command::Fence { host: "h1".into(), force: false }, "h1 is powered off"),
        (Command::Deactivate { host: "h1".into(), force: false }, "pool1 moves from h1 to h0"),
        (Command::Move { group: "pool0".into(), to: None }, "pool0 is stopped on h0 and started on h1"),
        (Command::Stop { target: "pool0".to_owned() }, "pool0 and what depends on it is stopped"),
    ] {
        let accepted = play.ask_for(command, true).unwrap();
        assert!(accepted.consequences.join("; ").contains(expected), "{accepted:?}");
        assert_eq!(accepted.command, None);
    }
    assert_eq!(*play.engine.state(), before);
    assert!(play.calls.is_empty());
    assert_eq!(play.group("pool1").phase, Phase::Running);
}
