//! What operators ask for, and what becomes of it.

use std::time::Duration;

use super::play::{Play, add_group, add_host, pair};
use crate::ha::command::{Command, DeniedKind, Progress};
use crate::ha::engine::LostState;
use crate::ha::status::Phase;

fn stop(target: &str) -> Command {
    Command::Stop { target: target.to_owned() }
}

fn start(target: &str) -> Command {
    Command::Start { target: target.to_owned() }
}

fn done(play: &mut Play) {
    play.until("the last command is done", |play| {
        matches!(play.status().commands[0].progress, Progress::Done { .. })
    });
}

#[test]
fn a_stopped_child_leaves_its_group_partial() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.ask(stop("ost0")).unwrap();
    done(&mut play);
    play.run(Duration::from_secs(20));
    assert_eq!(play.group("pool0").phase, Phase::Partial);
    assert!(play.hosts["h0"].active.contains("pool0") && !play.hosts["h0"].active.contains("ost0"));
    assert!(play.group("pool0").resources[1].stopped_by_operator);
    // It can be moved like this, and the child stays stopped.
    play.ask(Command::Move { group: "pool0".into(), to: Some("h1".into()) }).unwrap();
    done(&mut play);
    assert!(play.hosts["h1"].active.contains("pool0") && !play.hosts["h1"].active.contains("ost0"));
    play.ask(start("ost0")).unwrap();
    done(&mut play);
    play.runs_on("h1", "h1");
}

#[test]
fn stopping_a_root_stops_its_children_first() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.log.clear();
    play.ask(stop("pool0")).unwrap();
    done(&mut play);
    assert_eq!(play.log, ["stop ost0 h0", "stop pool0 h0"]);
    play.run(Duration::from_secs(30));
    assert_eq!((play.log.len(), play.group("pool0").phase), (2, Phase::Stopped));
    assert!(play.group("pool0").stopped_by_operator && play.status().alerts.is_empty());
    // A restart of the manager does not start it either.
    play.restart(play.engine.state().clone(), LostState::No);
    play.run(Duration::from_secs(30));
    assert_eq!(play.log.len(), 2);
    play.ask(start("pool0")).unwrap();
    play.runs_on("h0", "h1");
}

#[test]
fn starting_one_resource_of_a_stopped_group_starts_only_what_it_needs() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.ask(stop("pool0")).unwrap();
    done(&mut play);
    play.ask(start("pool0")).unwrap();
    play.runs_on("h0", "h1");
    play.ask(stop("ost0")).unwrap();
    play.ask(stop("pool0")).unwrap();
    done(&mut play);
    play.log.clear();
    play.ask(start("ost0")).unwrap();
    done(&mut play);
    assert_eq!(play.log, ["start pool0 h0", "start ost0 h0"]);
}

#[test]
fn a_stop_that_does_not_succeed_ends_in_fencing() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.host("h0").codes.insert(("stop", "ost0".into()), 1);
    play.ask(stop("ost0")).unwrap();
    play.until("h0 is fenced", |play| play.calls.contains(&"off h0".to_owned()));
    play.until("pool0 is on h1", |play| play.group("pool0").phase == Phase::Partial);
    play.run(Duration::from_secs(20));
    assert!(!play.hosts["h1"].active.contains("ost0"));
}

#[test]
fn what_is_said_of_a_command_is_what_it_does() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    for (command, expected) in [
        (Command::Move { group: "pool0".into(), to: Some("h0".into()) }, "pool0 is on h0 already"),
        (
            Command::Maintenance { target: None, time: Duration::from_secs(5400) },
            "nothing is done to cluster for 1h30m, then it is looked at anew",
        ),
    ] {
        assert_eq!(play.ask_for(command, true).unwrap().consequences, [expected]);
    }
    play.ask(Command::Deactivate { host: "h0".into(), force: false }).unwrap();
    play.runs_on("h1", "h1");
    let accepted = play.ask_for(Command::Deactivate { host: "h0".into(), force: false }, true).unwrap();
    assert_eq!(accepted.consequences, ["h0 is kept free of groups; none is there now"]);
    play.ask(Command::Activate { host: "h0".into() }).unwrap();
    play.ask(stop("ost0")).unwrap();
    let doing = play.status().commands[0].progress.clone();
    assert!(
        matches!(&doing, Progress::Done { .. })
            || matches!(&doing, Progress::Running { doing } if !doing.contains("starting")),
        "{doing:?}"
    );
}

/// Two hosts of three are deactivated one right after the other, before anything moved.
#[test]
fn a_host_that_a_group_is_about_to_come_to_is_not_deactivated_as_its_last_one() {
    let mut config = pair();
    add_host(&mut config, 2);
    add_group(&mut config, 2, "h2", &["h0"]);
    let mut play = Play::new(config);
    play.until("pool2 on h2", |play| play.is_on("pool2", "h2"));
    play.runs_on("h0", "h1");
    play.host("h2").hung.insert(("stop", "ost2".into()));
    play.ask(Command::Deactivate { host: "h2".into(), force: false }).unwrap();
    let refused = play.ask(Command::Deactivate { host: "h0".into(), force: false }).unwrap_err();
    assert!(refused.message.contains("pool2 is about to start there"), "{refused:?}");
    play.ask(Command::Deactivate { host: "h0".into(), force: true }).unwrap();
}

/// A move that a restart of the manager interrupted goes on, and is over once the group is there: it must not draw the group
/// back later.
#[test]
fn the_wish_of_an_interrupted_move_ends_when_it_is_fulfilled() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    let mut state = play.engine.state().clone();
    state.groups.entry("pool0".into()).or_default().wanted_on = Some("h1".into());
    play.restart(state, LostState::No);
    play.runs_on("h1", "h1");
    play.crash("h1");
    play.runs_on("h0", "h0");
    play.boot("h1");
    play.run(Duration::from_secs(60));
    play.runs_on("h0", "h0");
    assert!(!play.engine.state().groups.contains_key("pool0"));
}

/// A move that a restart interrupted and whose host is down ends, and somebody is told: the group must not go there when the
/// host comes back.
#[test]
fn the_wish_of_an_interrupted_move_ends_when_its_host_is_down() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.host("h1").silent = true;
    play.runs_on("h0", "h0");
    let mut state = play.engine.state().clone();
    state.groups.entry("pool0".into()).or_default().wanted_on = Some("h1".into());
    play.restart(state, LostState::No);
    play.run(Duration::from_secs(50));
    play.runs_on("h0", "h0");
    let given_up = |play: &Play| {
        let alerts = play.status().alerts;
        alerts.into_iter().find(|alert| alert.object == "pool0" && alert.text.contains("was given up"))
    };
    play.until("it is given up", |play| given_up(play).is_some());
    assert_eq!(
        given_up(&play).unwrap().command.as_deref(),
        Some("coordinatool-client ha move pool0 --to h1")
    );
    assert!(play.engine.state().groups.get("pool0").is_none_or(|flags| flags.wanted_on.is_none()));
    play.boot("h1");
    play.run(Duration::from_secs(60));
    play.runs_on("h0", "h0");
    assert!(given_up(&play).is_some(), "until somebody decides");
    play.ask(Command::Move { group: "pool0".into(), to: Some("h1".into()) }).unwrap();
    play.runs_on("h1", "h0");
    assert_eq!(given_up(&play), None);
}

#[test]
fn what_is_not_managed_is_neither_started_nor_stopped() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.ask(Command::Unmanage { group: "pool0".into() }).unwrap();
    play.ask(Command::Maintenance { target: Some("pool1".to_owned()), time: Duration::from_secs(60) })
        .unwrap();
    for target in ["pool0", "ost0", "pool1", "ost1"] {
        assert_eq!(play.ask(stop(target)).unwrap_err().kind, DeniedKind::Conflict, "{target}");
        assert_eq!(play.ask(start(target)).unwrap_err().kind, DeniedKind::Conflict, "{target}");
    }
    assert_eq!(play.ask(stop("nothing")).unwrap_err().kind, DeniedKind::NotFound);
}

#[test]
fn maintenance_ends_by_itself_then_it_is_looked_at_anew() {
    for target in [Some("pool0"), Some("h0"), None] {
        let mut play = Play::new(pair());
        play.runs_on("h0", "h1");
        let time = Duration::from_secs(600);
        play.ask(Command::Maintenance { target: target.map(str::to_owned), time }).unwrap();
        // Somebody moves it by hand, and a clock is set.
        play.host("h0").active.clear();
        play.run(Duration::from_secs(60));
        play.now.wall.0 += 3_600_000_000_000;
        play.host("h1").active.extend(["pool0".into(), "ost0".into()]);
        play.log.clear();
        play.run(Duration::from_secs(500));
        assert!(play.log.is_empty(), "{target:?}: {:?}", play.log);
        play.run(Duration::from_secs(60));
        assert!(play.log.is_empty(), "{target:?}: it was found where it is: {:?}", play.log);
        assert!(play.is_on("pool0", "h1"));
        play.host("h1").active.remove("ost0");
        play.runs_on("h1", "h1");
    }
}

#[test]
fn maintenance_ended_by_hand_acts_at_once() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.ask(Command::Maintenance { target: None, time: Duration::from_secs(6000) }).unwrap();
    play.host("h0").active.clear();
    play.run(Duration::from_secs(60));
    play.restart(play.engine.state().clone(), LostState::No);
    play.run(Duration::from_secs(60));
    assert_eq!(play.log.len(), 4, "{:?}", play.log);
    play.ask(Command::Maintenance { target: None, time: Duration::ZERO }).unwrap();
    play.runs_on("h0", "h1");
}
