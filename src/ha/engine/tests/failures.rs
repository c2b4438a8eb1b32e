//! Failures of resources: restart in place, another host, then stop with a reason.

use std::time::Duration;

use super::play::{Play, pair};
use crate::ha::command::Command;
use crate::ha::config::{Config, FailurePolicy, Resource};
use crate::ha::engine::LostState;
use crate::ha::status::{HostState, Phase};

fn with_policy(failures: FailurePolicy) -> Config {
    let mut config = pair();
    for resource in config.resources.values_mut() {
        *resource = Resource { failures, ..(**resource).clone() }.into();
    }
    config
}

fn count(play: &Play, line: &str) -> usize {
    play.log.iter().filter(|logged| *logged == line).count()
}

#[test]
fn every_code_of_a_start() {
    // Soft: tried again here, then there. Hard: there at once. Fatal: nowhere.
    for (code, here, there) in [
        (1, 4, true),
        (7, 4, true),
        (137, 4, true),
        (2, 1, true),
        (3, 1, true),
        (4, 1, true),
        (5, 1, true),
        (6, 1, false),
    ] {
        let mut play = Play::new(pair());
        play.host("h0").codes.insert(("start", "ost0".into()), code);
        play.run(Duration::from_secs(120));
        assert_eq!(count(&play, "start ost0 h0"), here, "{code}: {:?}", play.log);
        assert_eq!(play.is_on("pool0", "h1"), there, "{code}: {:?}", play.log);
        assert!(play.is_on("pool1", "h1") && play.calls.is_empty());
        if !there {
            assert_eq!(play.group("pool0").phase, Phase::Failed, "{code}");
            play.host("h0").codes.clear();
            play.run(Duration::from_secs(7200));
            assert_eq!(play.group("pool0").phase, Phase::Failed, "no time heals a wrong configuration");
            play.ask(Command::Clear { target: Some("ost0".to_owned()) }).unwrap();
            play.runs_on("h0", "h1");
        }
    }
}

#[test]
fn every_code_of_a_monitor_of_what_runs() {
    for code in [1, 2, 3, 4, 5, 6, 7, 9, 137] {
        let mut play = Play::new(pair());
        play.runs_on("h0", "h1");
        play.host("h0").sick.insert("ost0".into(), code);
        play.until("it is noticed", |play| !play.group("pool0").resources[1].failures.is_empty());
        play.until("it runs again", |play| play.is_on("pool0", "h0") || play.is_on("pool0", "h1"));
        assert!(play.is_on("pool1", "h1") && play.calls.is_empty(), "{code}: {:?}", play.calls);
    }
}

#[test]
fn every_code_of_a_stop_leads_to_fencing() {
    for code in [1, 2, 3, 4, 5, 6, 7, 8, 9, 137, 190] {
        let mut play = Play::new(pair());
        play.runs_on("h0", "h1");
        play.host("h1").codes.insert(("stop", "ost1".into()), code);
        play.ask(Command::Deactivate { host: "h1".into(), force: false }).unwrap();
        play.runs_on("h0", "h0");
        assert!(play.calls.contains(&"off h1".to_owned()), "{code}");
    }
}

#[test]
fn what_reports_errors_even_when_it_was_stopped_is_fenced() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.host("h1").codes.insert(("monitor", "ost1".into()), 1);
    play.runs_on("h0", "h0");
    assert!(play.log.iter().filter(|line| *line == "stop ost1 h1").count() == 2, "{:?}", play.log);
}

#[test]
fn a_stop_that_claims_success_is_not_believed() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    // It says 0 and does nothing.
    play.host("h1").codes.insert(("stop", "ost1".into()), 0);
    play.ask(Command::Move { group: "pool1".into(), to: Some("h0".into()) }).unwrap();
    play.run(Duration::from_secs(60));
    assert!(!play.log.contains(&"start pool1 h0".to_owned()) || !play.hosts["h1"].alive, "{:?}", play.log);
    assert!(play.calls.contains(&"off h1".to_owned()), "in the end its host is fenced: {:?}", play.log);
    play.runs_on("h0", "h0");
}

#[test]
fn what_fails_everywhere_stays_stopped_until_cleared_or_the_window_passes() {
    let window = Duration::from_secs(600);
    for clear in [true, false] {
        let mut play = Play::new(with_policy(FailurePolicy { retries: 1, threshold: 9, window }));
        for host in ["h0", "h1"] {
            play.host(host).codes.insert(("start", "ost0".into()), 1);
        }
        play.until("it gives up", |play| play.group("pool0").phase == Phase::Failed);
        assert_eq!((count(&play, "start ost0 h0"), count(&play, "start ost0 h1")), (2, 2), "{:?}", play.log);
        let alert = play.status().alerts.into_iter().find(|alert| alert.object == "pool0").unwrap();
        assert_eq!(alert.command.as_deref(), Some("coordinatool-client ha clear pool0"));
        let tried = play.log.len();
        play.run(Duration::from_secs(60));
        assert_eq!(play.log.len(), tried);
        for host in ["h0", "h1"] {
            play.host(host).codes.clear();
        }
        // It survives a restart of the manager.
        play.restart(play.engine.state().clone(), LostState::No);
        play.run(Duration::from_secs(60));
        assert_eq!(play.group("pool0").phase, Phase::Failed);
        if clear {
            play.ask(Command::Clear { target: None }).unwrap();
        } else {
            play.run(window);
        }
        play.until("it runs", |play| play.is_on("pool0", "h0") || play.is_on("pool0", "h1"));
    }
}

#[test]
fn the_threshold_counts_failures_on_all_hosts() {
    let window = Duration::from_secs(3600);
    let mut play = Play::new(with_policy(FailurePolicy { retries: 50, threshold: 3, window }));
    play.runs_on("h0", "h1");
    for _ in 0..3 {
        assert!(play.is_on("pool0", "h0"));
        play.host("h0").active.remove("ost0");
        play.run(Duration::from_secs(30));
    }
    assert_eq!(play.group("pool0").phase, Phase::Failed);
    assert_eq!(count(&play, "start ost0 h0"), 3, "{:?}", play.log);
}

#[test]
fn a_flapping_resource_is_restarted_ever_more_slowly() {
    let window = Duration::from_secs(3600);
    let mut play = Play::new(with_policy(FailurePolicy { retries: 50, threshold: 100, window }));
    play.runs_on("h0", "h1");
    let begin = play.now.mono;
    for _ in 0..12 {
        play.host("h0").active.remove("ost0");
        play.until("it runs again", |play| {
            play.is_on("pool0", "h0") && play.hosts["h0"].active.contains("ost0")
        });
    }
    assert!(play.now.mono.since(begin) > Duration::from_secs(120), "{:?}", play.now.mono.since(begin));
    assert!(count(&play, "start ost0 h0") == 13);
}

#[test]
fn old_failures_make_room_for_new_ones() {
    let window = Duration::from_secs(30);
    let mut play = Play::new(with_policy(FailurePolicy { retries: 3, threshold: 4, window }));
    play.runs_on("h0", "h1");
    for _ in 0..120 {
        play.host("h0").active.remove("ost0");
        play.run(Duration::from_secs(40));
    }
    assert!(play.is_on("pool0", "h0"), "each alone is forgiven");
    for _ in 0..4 {
        play.host("h0").active.remove("ost0");
        play.host("h1").active.remove("ost0");
        play.run(Duration::from_secs(6));
    }
    assert!(!play.is_on("pool0", "h0"), "many at once are not: {:?}", play.group("pool0"));
}

#[test]
fn a_failed_group_still_moves_when_its_host_dies() {
    let window = Duration::from_secs(3600);
    let mut play = Play::new(with_policy(FailurePolicy { retries: 1, threshold: 2, window }));
    play.runs_on("h0", "h1");
    play.host("h1").codes.insert(("start", "ost1".into()), 1);
    play.host("h1").active.remove("ost1");
    play.until("it gives up", |play| play.group("pool1").phase == Phase::Failed);
    assert!(play.hosts["h1"].active.contains("pool1"), "the rest of it goes on");
    play.host("h1").silent = true;
    play.until("the rest of it moves", |play| play.hosts["h0"].active.contains("pool1"));
    assert!(!play.hosts["h0"].active.contains("ost1"));
    play.ask(Command::Clear { target: Some("pool1".to_owned()) }).unwrap();
    play.runs_on("h0", "h0");
}

#[test]
fn failback_and_moves_onto_what_is_dead_are_refused() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.crash("h1");
    play.runs_on("h0", "h0");
    let commands = || {
        [
            Command::Failback { host: "h1".into() },
            Command::Move { group: "pool1".into(), to: Some("h1".into()) },
            Command::Move { group: "pool1".into(), to: None },
        ]
    };
    for command in commands() {
        assert!(play.ask(command).is_err());
    }
    // The same after a restart of the manager.
    play.restart(play.engine.state().clone(), LostState::No);
    play.runs_on("h0", "h0");
    for command in commands() {
        assert!(play.ask(command).is_err());
    }
    let log = play.log.clone();
    play.run(Duration::from_secs(60));
    assert_eq!(play.log, log, "nothing was stopped for nothing");
}

#[test]
fn a_target_that_dies_while_a_group_moves_to_it() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.host("h1").hung.insert(("stop", "ost1".into()));
    play.ask(Command::Move { group: "pool1".into(), to: Some("h0".into()) }).unwrap();
    play.run(Duration::from_secs(3));
    play.crash("h0");
    play.run(Duration::from_secs(5));
    play.end("h1", 0);
    play.until("pool1 is on h1 again", |play| play.is_on("pool1", "h1"));
    play.until("pool0 is there as well", |play| play.is_on("pool0", "h1"));
    assert_eq!(play.host_status("h0").state, HostState::Off);
}

#[test]
fn an_agent_that_cannot_store_its_intents_is_not_fenced_for_it() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.host("h1").full = true;
    play.ask(Command::Move { group: "pool1".into(), to: Some("h0".into()) }).unwrap();
    play.run(Duration::from_secs(300));
    assert!(play.calls.is_empty() && play.hosts["h1"].active.len() == 2, "{:?}", play.calls);
    assert!(
        play.group("pool1").waits_for.join("; ").contains("no space"),
        "{:?}",
        play.group("pool1").waits_for
    );
    assert!(play.engine.state().events.len() < 300, "not asked without a pause");
    play.host("h1").full = false;
    play.runs_on("h0", "h0");
    // What is broken there does not stay so for ever.
    play.ask(Command::Failback { host: "h1".into() }).unwrap();
    play.runs_on("h0", "h1");
    play.host("h1").full = true;
    play.host("h1").sick.insert("ost1".into(), 1);
    play.run(Duration::from_secs(30));
    assert!(play.calls.is_empty(), "{:?}", play.calls);
    play.runs_on("h0", "h0");
    assert!(play.calls.contains(&"off h1".to_owned()));
}

#[test]
fn a_start_that_cannot_be_stored_is_tried_elsewhere_and_forgiven() {
    let mut play = Play::new(pair());
    play.host("h1").full = true;
    play.runs_on("h0", "h0");
    play.host("h1").full = false;
    play.run(Duration::from_secs(3600));
    play.ask(Command::Failback { host: "h1".into() }).unwrap();
    play.runs_on("h0", "h1");
}

#[test]
fn what_crashes_altogether_is_restarted_where_it_was() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.ask(Command::Move { group: "pool1".into(), to: Some("h0".into()) }).unwrap();
    play.runs_on("h0", "h0");
    play.log.clear();
    play.host("h0").active.remove("pool1");
    play.host("h0").active.remove("ost1");
    play.until("all of it is noticed", |play| play.log.len() == 2);
    play.runs_on("h0", "h0");
    play.log.sort();
    assert_eq!(play.log, ["start ost1 h0", "start pool1 h0"]);
}
