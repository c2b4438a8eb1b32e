//! Who is obeyed.

use std::fs;

use coordinatool::ha::ids::{Epoch, ManagerId};
use coordinatool::ha::protocol::{Action, FromAgent, Refusal, Rejected, Seal, ToAgent};

use super::player::{Agent, DONE, Manager};

fn rejected(manager: &mut Manager) -> Rejected {
    let why = manager.wait("a rejection", |message| match message {
        FromAgent::Rejected(why) => Some(why.clone()),
        _ => None,
    });
    manager.closed();
    why
}

fn refused(manager: &mut Manager, action: Action) -> Refusal {
    refused_with(manager, action, "exit 0")
}

fn refused_with(manager: &mut Manager, action: Action, say: &str) -> Refusal {
    let order = manager.order("r", action, say);
    manager.wait("a refusal", |message| match message {
        FromAgent::Refused { order: refused, reason } if *refused == order => Some(reason.clone()),
        FromAgent::Finished(finished) if finished.order == order => panic!("executed"),
        _ => None,
    })
}

#[test]
fn a_manager_with_a_higher_epoch_ends_the_reign_of_the_other() {
    let agent = Agent::start("higher");
    let mut old = agent.manager(4);
    assert_eq!(old.does("r", Action::Start, "exit 0").outcome, DONE);
    let mut new = agent.manager(5);
    old.closed();
    assert_eq!(new.does("r", Action::Probe, "exit 0").outcome, DONE);
    // The old one comes back, and is told why not.
    let mut again = agent.stranger(1, 4);
    assert_eq!(again.welcome().sealed, Epoch(5));
    again.send(&ToAgent::Seal(Seal { epoch: Epoch(4), takeover: false }));
    assert_eq!(rejected(&mut again), Rejected::Epoch { sealed: Epoch(5) });
    assert_eq!(new.does("r", Action::Probe, "exit 0").outcome, DONE, "the new one is not disturbed");
}

#[test]
fn orders_without_a_seal_are_refused() {
    let agent = Agent::start("unsealed");
    let mut sealed = agent.manager(4);
    let mut other = agent.stranger(1, 4);
    other.run = sealed.run;
    other.welcome();
    other.heartbeat = sealed.wait("a heartbeat", |message| match message {
        FromAgent::Heartbeat { number } => Some(*number),
        _ => None,
    });
    assert_eq!(refused(&mut other, Action::Start), Refusal::NotSealed);
    other.epoch = Epoch(3);
    assert_eq!(refused(&mut other, Action::Stop), Refusal::Sealed(Epoch(4)));
}

#[test]
fn another_manager_is_obeyed_only_after_a_confirmed_takeover() {
    let agent = Agent::start("takeover");
    let mut first = agent.manager(4);
    for (epoch, takeover) in [(9, false), (3, true)] {
        let mut other = agent.stranger(2, epoch);
        assert_eq!(other.welcome().obeys, Some(ManagerId(1)));
        other.send(&ToAgent::Seal(Seal { epoch: Epoch(epoch), takeover }));
        let why = rejected(&mut other);
        let right = if takeover {
            Rejected::Epoch { sealed: Epoch(4) }
        } else {
            Rejected::Manager { obeys: ManagerId(1) }
        };
        assert_eq!(why, right);
    }
    assert_eq!(first.does("r", Action::Probe, "exit 0").outcome, DONE);
    let mut other = agent.stranger(2, 9);
    other.welcome();
    other.send(&ToAgent::Seal(Seal { epoch: Epoch(9), takeover: true }));
    other.wait("sealed", |message| matches!(message, FromAgent::Sealed { .. }).then_some(()));
    first.closed();
}

#[test]
fn a_start_that_quotes_an_old_heartbeat_is_refused() {
    let agent = Agent::start("stale");
    let mut manager = agent.stranger(1, 4);
    manager.fresh_ms = 200;
    manager.welcome();
    manager.seal();
    let first = manager.wait("a heartbeat", |message| match message {
        FromAgent::Heartbeat { number } => Some(*number),
        _ => None,
    });
    // Heartbeats go on: when this many more have come, the first is too old.
    manager.wait("later heartbeats", |message| {
        matches!(message, FromAgent::Heartbeat { number } if *number > first + 6).then_some(())
    });
    manager.heartbeat = first;
    assert!(matches!(refused(&mut manager, Action::Start), Refusal::StaleHeartbeat(age) if age > 200));
    manager.heartbeat = 1_000_000;
    assert!(
        matches!(refused(&mut manager, Action::Start), Refusal::StaleHeartbeat(_)),
        "one that was never sent"
    );
    manager.wait("a heartbeat", |message| matches!(message, FromAgent::Heartbeat { .. }).then_some(()));
    assert_eq!(manager.does("r", Action::Start, "exit 0").outcome, DONE);
}

#[test]
fn orders_for_another_run_of_the_agent_are_refused() {
    let mut agent = Agent::start("otherrun");
    let before = agent.manager(4).welcome.unwrap();
    agent.restart();
    let mut manager = agent.manager(5);
    assert_ne!(manager.welcome.as_ref().unwrap().agent, before.agent);
    manager.welcome = Some(before);
    assert_eq!(refused(&mut manager, Action::Start), Refusal::OtherRun);
}

#[test]
fn the_seal_survives_a_restart() {
    let mut agent = Agent::start("sealed");
    agent.manager(7);
    agent.restart();
    let mut late = agent.stranger(1, 6);
    let welcome = late.welcome();
    assert_eq!((welcome.sealed, welcome.obeys), (Epoch(7), Some(ManagerId(1))));
    late.send(&ToAgent::Seal(Seal { epoch: Epoch(6), takeover: false }));
    assert_eq!(rejected(&mut late), Rejected::Epoch { sealed: Epoch(7) });
}

#[test]
fn managers_of_other_clusters_and_for_other_hosts_are_rejected() {
    let agent = Agent::start("others");
    agent.manager(1);
    let mut other = agent.stranger(1, 2);
    other.hello("somebody");
    assert!(matches!(rejected(&mut other), Rejected::Host { .. }));
}

#[test]
fn nothing_is_done_without_a_stored_intent() {
    let Some(agent) = Agent::on_a_small_disk("full") else { return };
    let state = agent.directory.join("agent");
    let mut manager = agent.manager(1);
    let filled = fs::write(state.join("filler"), vec![0; 1 << 20]);
    assert!(filled.is_err(), "the disk is full");
    // Larger than what is left of the file's last page.
    let long = format!("exit 0 # {}", "x".repeat(10_000));
    let why = refused_with(&mut manager, Action::Start, &long);
    assert!(
        matches!(&why, Refusal::NotStored(text) if text.contains(&state.display().to_string())),
        "{why:?}"
    );
    fs::remove_file(state.join("filler")).unwrap();
    assert_eq!(manager.does("r", Action::Start, "exit 0").outcome, DONE);
}
