//! Powering hosts off and on: what is believed, what is done once, and what excludes what.

use std::time::Duration;

use super::play::{Play, add_group, add_host, pair};
use crate::ha::command::{Command, PowerCommand, Progress};
use crate::ha::config::{Config, FenceAttempts};
use crate::ha::engine::LostState;
use crate::ha::fencing::{DeviceAction, DeviceAnswer};
use crate::ha::status::{HostState, Phase};

fn count(play: &Play, call: &str) -> usize {
    play.calls.iter().filter(|made| *made == call).count()
}

fn powered_on_again() -> Config {
    let mut config = pair();
    config.settings.power_on_after_fence = true;
    config
}

/// Four hosts, each with a group that may run on the next one.
fn four() -> Config {
    let mut config = Config::default();
    for number in 0..4 {
        add_host(&mut config, number);
    }
    for number in 0..4 {
        add_group(&mut config, number, &format!("h{number}"), &[&format!("h{}", (number + 1) % 4)]);
    }
    config
}

#[test]
fn a_fenced_host_is_powered_on_once_its_groups_run_elsewhere() {
    let mut play = Play::new(powered_on_again());
    play.runs_on("h0", "h1");
    play.host("h1").silent = true;
    play.until("h1 is powered on", |play| count(play, "on h1") == 1);
    assert!(play.is_on("pool1", "h0"), "not before its group is safe: {:?}", play.log);
    let attempts = &play.engine.state().fences["h1"];
    assert_eq!(attempts.last().map(|attempt| attempt.action.as_str()), Some("on"));
    play.run(Duration::from_secs(400));
    assert_eq!((count(&play, "on h1"), count(&play, "off h1")), (1, 1), "{:?}", play.calls);
    play.runs_on("h0", "h0");
}

#[test]
fn what_an_operator_fences_stays_off() {
    let mut play = Play::new(powered_on_again());
    play.runs_on("h0", "h1");
    play.ask(Command::Fence { host: "h1".into(), force: false }).unwrap();
    play.runs_on("h0", "h0");
    play.run(Duration::from_secs(60));
    assert_eq!(count(&play, "on h1"), 0);
}

#[test]
fn a_restarted_manager_powers_on_what_the_last_one_had_fenced() {
    let mut play = Play::new(powered_on_again());
    play.runs_on("h0", "h1");
    play.hold.insert(DeviceAction::On);
    play.crash("h1");
    play.until("it is fenced", |play| count(play, "status h1") > 0);
    let state = play.engine.state().clone();
    play.restart(state, LostState::No);
    play.hold.clear();
    play.runs_on("h0", "h0");
    play.until("h1 is powered on", |play| play.hosts["h1"].alive);
    play.run(Duration::from_secs(30));
    assert_eq!(count(&play, "on h1"), 2, "the first call died with the manager: {:?}", play.calls);
}

#[test]
fn powering_on_ends_every_proof_that_it_is_off() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.crash("h1");
    play.runs_on("h0", "h0");
    play.run(Duration::from_secs(20));
    play.hold.insert(DeviceAction::On);
    play.ask(Command::Power { host: "h1".into(), action: PowerCommand::On }).unwrap();
    assert_eq!(play.host_status("h1").state, HostState::Unseen);
    // It may be up any moment, so nothing that may run there is started elsewhere, and it is not fenced while it boots.
    play.host("h0").active.remove("ost1");
    play.log.clear();
    play.run(Duration::from_secs(120));
    assert!(play.log.is_empty(), "{:?}", play.log);
    assert_eq!(count(&play, "off h1"), 0, "it was off at the first look: {:?}", play.calls);
    // Neither an operator's fencing nor a confirmation comes in between.
    for command in
        [Command::Fence { host: "h1".into(), force: true }, Command::ConfirmOff { host: "h1".into() }]
    {
        assert!(play.ask(command).is_err());
    }
    play.boot("h1");
    play.runs_on("h0", "h0");
}

#[test]
fn a_confirmation_ends_when_it_is_powered_on() {
    let mut config = pair();
    config.settings.fence_attempts = FenceAttempts::Within { count: 1, window: Duration::from_secs(3600) };
    let mut play = Play::new(config);
    play.runs_on("h0", "h1");
    play.device_says.insert("h1".into(), DeviceAnswer::Failed("broken".to_owned()));
    play.crash("h1");
    play.run(Duration::from_secs(300));
    assert_eq!(play.group("pool1").phase, Phase::Unknown);
    play.ask(Command::ConfirmOff { host: "h1".into() }).unwrap();
    play.runs_on("h0", "h0");
    play.device_says.clear();
    play.hold.insert(DeviceAction::On);
    play.ask(Command::Power { host: "h1".into(), action: PowerCommand::On }).unwrap();
    let state = play.engine.state().clone();
    assert!(state.fences["h1"].iter().all(|attempt| attempt.action != "confirm"));
    play.restart(state, LostState::No);
    assert_ne!(play.host_status("h1").state, HostState::Off);
}

#[test]
fn a_host_that_came_back_is_not_fenced_by_the_next_attempt() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.device_says.insert("h1".into(), DeviceAnswer::Failed("broken".to_owned()));
    play.host("h1").silent = true;
    play.until("it is tried again", |play| {
        play.group("pool1").waits_for.iter().any(|what| what.contains("is tried again: "))
    });
    let before = count(&play, "off h1");
    play.device_says.clear();
    play.host("h1").silent = false;
    play.run(Duration::from_secs(300));
    assert_eq!(count(&play, "off h1"), before, "{:?}", play.calls);
    assert_eq!(play.host_status("h1").state, HostState::Connected);
    play.runs_on("h0", "h1");
}

#[test]
fn an_operator_need_not_wait_for_the_next_attempt() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.device_says.insert("h1".into(), DeviceAnswer::Failed("broken".to_owned()));
    play.crash("h1");
    play.until("it is tried again", |play| {
        play.group("pool1").waits_for.iter().any(|what| what.contains("is tried again: "))
    });
    play.device_says.clear();
    assert!(play.ask(Command::Fence { host: "h1".into(), force: false }).is_err(), "it was tried once");
    play.ask(Command::Fence { host: "h1".into(), force: true }).unwrap();
    play.runs_on("h0", "h0");
    let open = |attempt: &crate::ha::state::record::FenceAttempt| attempt.result.is_none();
    assert!(!play.engine.state().fences["h1"].iter().any(open));
}

#[test]
fn a_plug_of_another_host_is_not_believed() {
    let mut play = Play::new(four());
    play.until("all run", |play| {
        (0..4).all(|number| play.is_on(&format!("pool{number}"), &format!("h{number}")))
    });
    play.plugs.insert("h1".into(), "h3".into());
    play.host("h1").silent = true;
    play.until("h3 is hit in its place", |play| count(play, "off h1") == 1);
    play.run(Duration::from_secs(120));
    // h1 is alive: its group must not run anywhere else.
    assert!(play.hosts["h1"].active.contains("ost1") && !play.hosts["h2"].active.contains("ost1"));
    assert!(
        play.status().alerts.iter().any(|alert| alert.object == "h1" && alert.text.contains("right plug"))
    );
    assert_eq!(count(&play, "off h1"), 1, "{:?}", play.calls);
    // A restart of the manager does not make it believe.
    play.restart(play.engine.state().clone(), LostState::No);
    play.run(Duration::from_secs(900));
    assert!(!play.hosts["h2"].active.contains("ost1"));
}

#[test]
fn two_hosts_that_die_at_once_are_no_evidence_of_a_wrong_plug() {
    let mut play = Play::new(four());
    play.until("all run", |play| {
        (0..4).all(|number| play.is_on(&format!("pool{number}"), &format!("h{number}")))
    });
    play.crash("h1");
    play.run(Duration::from_secs(4));
    play.hold.insert(DeviceAction::Off);
    play.run(Duration::from_secs(4));
    play.crash("h3");
    play.hold.clear();
    play.until("pool1 is on h2", |play| play.is_on("pool1", "h2"));
    assert!(play.status().alerts.iter().all(|alert| !alert.text.contains("plug")));
}

#[test]
fn an_attempt_that_a_restart_interrupted_is_taken_up_again() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.hold.insert(DeviceAction::Off);
    play.host("h1").silent = true;
    play.until("the call is out", |play| !play.held.is_empty());
    // The manager dies, and the call dies with it.
    play.restart(play.engine.state().clone(), LostState::No);
    play.hold.clear();
    play.runs_on("h0", "h0");
    assert_eq!(count(&play, "off h1"), 2);
}

#[test]
fn a_host_that_died_while_the_manager_was_down_is_found_off() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.crash("h1");
    play.restart(play.engine.state().clone(), LostState::No);
    play.runs_on("h0", "h0");
    assert_eq!(count(&play, "off h1"), 0, "its device says so: {:?}", play.calls);
    assert!(!play.host_status("h1").fenced);
}

#[test]
fn a_silent_host_of_an_earlier_run_is_given_time_to_boot_then_fenced() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.host("h1").silent = true;
    play.restart(play.engine.state().clone(), LostState::No);
    play.run(Duration::from_secs(240));
    assert_eq!(count(&play, "off h1"), 0);
    let waits = play.group("pool1").waits_for.join("; ");
    assert!(waits.contains("ha fence h1"), "{waits}");
    play.runs_on("h0", "h0");
}

#[test]
fn the_fence_limit_of_a_window() {
    let mut config = pair();
    config.settings.fence_attempts = FenceAttempts::Within { count: 2, window: Duration::from_secs(3600) };
    let mut play = Play::new(config);
    play.runs_on("h0", "h1");
    for death in 1..=3 {
        play.host("h1").silent = true;
        if death < 3 {
            play.runs_on("h0", "h0");
            play.boot("h1");
            play.until("h1 connected", |play| play.host_status("h1").state == HostState::Connected);
            play.ask(Command::Failback { host: "h1".into() }).unwrap();
            play.runs_on("h0", "h1");
        }
    }
    play.run(Duration::from_secs(120));
    assert_eq!(count(&play, "off h1"), 2, "{:?}", play.calls);
    assert!(play.group("pool1").waits_for[0].contains("ha reset h1"), "{:?}", play.group("pool1"));
    // The window passes.
    play.run(Duration::from_secs(3600));
    play.runs_on("h0", "h0");
}

#[test]
fn a_command_to_fence_a_host_that_lives_on_fails() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.liars.insert("h1".into());
    play.ask(Command::Fence { host: "h1".into(), force: false }).unwrap();
    play.run(Duration::from_secs(10));
    let progress = play.status().commands[0].progress.clone();
    assert!(matches!(progress, Progress::Failed { .. }), "{progress:?}");
    // Nothing of it is believed after a restart either.
    play.restart(play.engine.state().clone(), LostState::No);
    play.host("h1").silent = true;
    play.run(Duration::from_secs(900));
    assert!(!play.hosts["h0"].active.contains("ost1"));
    play.crash("h1");
    play.ask(Command::ConfirmOff { host: "h1".into() }).unwrap();
    play.runs_on("h0", "h0");
}

#[test]
fn who_answers_at_its_address_is_not_off() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.crash("h1");
    play.until("it counts as off", |play| play.host_status("h1").state == HostState::Off);
    play.host("h1").refuses = true;
    play.until("it does not any more", |play| play.host_status("h1").state != HostState::Off);
}

/// Its kernel answers before its agent does, after a boot and after none.
#[test]
fn who_was_called_off_and_comes_back_in_the_same_boot_was_never_off() {
    for rebooted in [false, true] {
        let mut play = Play::new(pair());
        play.runs_on("h0", "h1");
        play.crash("h1");
        play.until("it counts as off", |play| play.host_status("h1").state == HostState::Off);
        play.host("h1").refuses = true;
        play.until("it does not any more", |play| play.host_status("h1").state != HostState::Off);
        if rebooted {
            play.boot("h1");
        } else {
            play.host("h1").refuses = false;
            play.host("h1").alive = true;
        }
        play.until("it is connected", |play| play.host_status("h1").state == HostState::Connected);
        let told = play.status().alerts.iter().any(|alert| alert.text.contains("never rebooted"));
        assert_eq!(told, !rebooted, "{:?}", play.status().alerts);
    }
}

/// An operator who has mended it asks it, and looks at the alerts.
#[test]
fn a_device_that_answers_an_operator_is_checked_again_at_once() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.device_says.insert("h1".into(), DeviceAnswer::Failed("no password".to_owned()));
    let wrong = |play: &Play| play.status().alerts.iter().any(|alert| alert.text.contains("does not work"));
    play.until("it was found out", wrong);
    play.device_says.clear();
    play.ask(Command::Power { host: "h1".into(), action: PowerCommand::Status }).unwrap();
    play.run(Duration::from_secs(2));
    assert!(!wrong(&play), "{:?}", play.status().alerts);
}

#[test]
fn a_device_that_cannot_be_asked_leaves_what_it_said_but_it_is_no_proof() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.crash("h1");
    play.runs_on("h0", "h0");
    play.run(Duration::from_secs(60));
    play.device_says.insert("h1".into(), DeviceAnswer::TimedOut);
    play.host("h0").active.clear();
    play.log.clear();
    play.run(Duration::from_secs(60));
    assert!(play.log.is_empty(), "{:?}", play.log);
    assert!(count(&play, "status h1") < 30, "not asked without a pause");
    play.device_says.clear();
    play.runs_on("h0", "h0");
}
