//! What a start needs to know of every other candidate, and what freezes a group.

use std::time::Duration;

use super::play::{Play, add_group, add_host, pair};
use crate::ha::command::Command;
use crate::ha::config::Config;
use crate::ha::status::{HostState, Phase, SeenState};

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

fn all_run(play: &Play) -> bool {
    (0..4).all(|number| play.is_on(&format!("pool{number}"), &format!("h{number}")))
}

fn offs(play: &Play) -> Vec<&str> {
    play.calls.iter().filter_map(|call| call.strip_prefix("off ")).collect()
}

#[test]
fn every_code_of_a_probe_on_the_other_candidate() {
    // Anything but "not running" and "not installed" leaves it open whether it is active there.
    for (code, starts) in [
        (7, true),
        (5, true),
        (1, false),
        (2, false),
        (3, false),
        (4, false),
        (6, false),
        (9, false),
        (137, false),
    ] {
        let mut play = Play::new(pair());
        play.host("h1").codes.insert(("monitor", "ost0".into()), code);
        play.run(Duration::from_secs(30));
        assert_eq!(play.is_on("pool0", "h0"), starts, "{code}: {:?}", play.log);
        if !starts {
            assert_eq!(play.group("pool0").phase, Phase::Frozen, "{code}");
            let text = play.status().alerts.into_iter().find(|alert| alert.object == "pool0").unwrap().text;
            assert!(text.contains("ost0 may be active on h1"), "{text}");
            assert!(play.is_on("pool1", "h1") && play.calls.is_empty());
            // The cause is gone: it goes on by itself.
            play.host("h1").codes.clear();
            play.runs_on("h0", "h1");
        }
    }
}

#[test]
fn promoted_and_degraded_run() {
    for (code, seen) in [(8, SeenState::Running), (190, SeenState::Degraded), (191, SeenState::Degraded)] {
        let mut play = Play::new(pair());
        play.runs_on("h0", "h1");
        play.host("h0").codes.insert(("monitor", "ost0".into()), code);
        play.run(Duration::from_secs(60));
        assert!(play.is_on("pool0", "h0") && play.log.len() == 4, "{code}: {:?}", play.log);
        let group = play.group("pool0");
        assert_eq!(group.resources[1].on["h0"].state, seen, "{code}");
        assert!(group.resources[1].failures.is_empty(), "{code}");
    }
}

#[test]
fn a_group_found_promoted_elsewhere_is_not_started() {
    let mut play = Play::new(pair());
    play.host("h1").codes.insert(("monitor", "pool0".into()), 8);
    play.host("h1").codes.insert(("monitor", "ost0".into()), 191);
    play.run(Duration::from_secs(30));
    assert!(play.is_on("pool0", "h1") && !play.log.iter().any(|line| line.contains("0 h")), "{:?}", play.log);
}

#[test]
fn both_groups_of_a_host_go_where_each_may() {
    let mut config = Config::default();
    for number in 0..3 {
        add_host(&mut config, number);
    }
    add_group(&mut config, 0, "h0", &["h1"]);
    add_group(&mut config, 1, "h0", &["h2", "h1"]);
    let mut play = Play::new(config);
    play.runs_on("h0", "h0");
    play.host("h0").silent = true;
    play.runs_on("h1", "h2");
    assert_eq!(offs(&play), ["h0"], "once for both");
}

#[test]
fn a_group_that_may_run_nowhere_else_does_not_have_its_host_fenced() {
    let mut config = pair();
    add_group(&mut config, 2, "h1", &[]);
    let mut play = Play::new(config);
    play.runs_on("h0", "h1");
    play.ask(Command::Unmanage { group: "pool1".into() }).unwrap();
    play.ask(Command::Manage { group: "pool1".into() }).unwrap();
    play.ask(Command::Deactivate { host: "h0".into(), force: true }).unwrap();
    play.runs_on("h1", "h1");
    play.host("h1").silent = true;
    play.run(Duration::from_secs(120));
    assert!(offs(&play).is_empty(), "{:?}", play.calls);
    for group in ["pool0", "pool1", "pool2"] {
        let alerts = play.status().alerts;
        let alert = alerts.iter().find(|alert| alert.object == group);
        assert!(alert.is_some_and(|alert| alert.text.contains("h1")), "{group}: {alert:?}");
    }
    play.host("h1").silent = false;
    play.runs_on("h1", "h1");
}

#[test]
fn too_many_at_once_are_not_fenced_unless_they_are_off() {
    let mut play = Play::new(four());
    play.until("all run", all_run);
    play.host("h1").silent = true;
    play.host("h3").silent = true;
    play.run(Duration::from_secs(120));
    assert!(offs(&play).is_empty(), "{:?}", play.calls);
    assert!(play.group("pool1").waits_for[0].contains("at the same time"), "{:?}", play.group("pool1"));
    // Power is out there: no action is needed for what is off.
    play.crash("h3");
    play.until("pool3 is on h0", |play| play.is_on("pool3", "h0"));
    // So only one is left of those that were lost.
    play.until("pool1 is on h2", |play| play.is_on("pool1", "h2"));
    assert_eq!(offs(&play), ["h1"]);
}

#[test]
fn one_after_the_other_is_not_too_many() {
    let mut play = Play::new(four());
    play.until("all run", all_run);
    play.host("h1").silent = true;
    play.until("pool1 is on h2", |play| play.is_on("pool1", "h2"));
    play.host("h3").silent = true;
    play.until("pool3 is on h0", |play| play.is_on("pool3", "h0"));
    assert_eq!(offs(&play), ["h1", "h3"]);
}

#[test]
fn all_hosts_lost_is_our_own_loss() {
    let mut play = Play::new(four());
    play.until("all run", all_run);
    for number in 0..4 {
        play.host(&format!("h{number}")).silent = true;
    }
    play.run(Duration::from_secs(600));
    assert!(offs(&play).is_empty());
    // They come back one after the other, slowly.
    for number in 0..4 {
        play.host(&format!("h{number}")).silent = false;
        play.run(Duration::from_secs(6));
    }
    play.until("all run", all_run);
    assert!(offs(&play).is_empty() && play.log.len() == 8, "{:?} {:?}", play.calls, play.log);
}

#[test]
fn a_dead_agent_on_a_living_host_gets_its_grace() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.host("h1").refuses = true;
    play.cut("h1");
    play.run(Duration::from_secs(25));
    assert_eq!(play.host_status("h1").state, HostState::AgentDown);
    assert!(offs(&play).is_empty());
    // It is restarted in time.
    play.host("h1").refuses = false;
    play.runs_on("h0", "h1");
    play.host("h1").refuses = true;
    play.cut("h1");
    play.runs_on("h0", "h0");
    assert_eq!(offs(&play), ["h1"]);
}

#[test]
fn an_unmanaged_group_protects_its_host_from_fencing() {
    let mut config = pair();
    add_group(&mut config, 2, "h1", &["h0"]);
    let mut play = Play::new(config);
    play.runs_on("h0", "h1");
    play.ask(Command::Unmanage { group: "pool2".into() }).unwrap();
    play.host("h1").silent = true;
    play.run(Duration::from_secs(120));
    assert!(offs(&play).is_empty());
    let waits = play.group("pool1").waits_for.join("; ");
    assert!(waits.contains("pool2 is unmanaged") && waits.contains("ha fence h1"), "{waits}");
}

#[test]
fn a_host_without_a_device_needs_an_operator() {
    let mut config = pair();
    let h1 = config.hosts["h1"].clone();
    config.hosts.insert("h1".into(), crate::ha::config::Host { fencing: Vec::new(), ..(*h1).clone() }.into());
    let mut play = Play::new(config);
    play.runs_on("h0", "h1");
    play.crash("h1");
    play.run(Duration::from_secs(120));
    assert!(play.group("pool1").waits_for[0].contains("confirm-off h1"), "{:?}", play.group("pool1"));
    play.ask(Command::ConfirmOff { host: "h1".into() }).unwrap();
    play.runs_on("h0", "h0");
    // What was confirmed holds over a restart, and ends when it is heard.
    play.restart(play.engine.state().clone(), crate::ha::engine::LostState::No);
    play.runs_on("h0", "h0");
    play.boot("h1");
    play.until("h1 is back", |play| play.host_status("h1").state == HostState::Connected);
    assert!(play.engine.state().fences.is_empty());
}

#[test]
fn a_watchdog_is_believed_after_its_time() {
    let mut config = pair();
    let h1 = config.hosts["h1"].clone();
    let lease = Some(Duration::from_secs(10));
    let host = crate::ha::config::Host { fencing: Vec::new(), self_protection: lease, ..(*h1).clone() };
    config.hosts.insert("h1".into(), host.into());
    for watchdog_ms in [None, Some(15_000)] {
        let mut play = Play::new(config.clone());
        play.runs_on("h0", "h1");
        play.host("h1").watchdog_ms = watchdog_ms;
        play.cut("h1");
        play.runs_on("h0", "h1");
        play.run(Duration::from_secs(5));
        // It resets itself (10 + 2 * 15) * 1.001 + 1 s after its last heartbeat was acknowledged.
        play.host("h1").silent = true;
        play.run(Duration::from_secs(40));
        assert!(!play.is_on("pool1", "h0"));
        play.host("h1").active.clear();
        play.run(Duration::from_secs(20));
        assert_eq!(play.is_on("pool1", "h0"), watchdog_ms.is_some());
    }
}

#[test]
fn a_lease_that_the_agent_was_never_told_of_proves_nothing() {
    let with = |lease| {
        let mut config = pair();
        let h1 = config.hosts["h1"].clone();
        let host = crate::ha::config::Host { fencing: Vec::new(), self_protection: lease, ..(*h1).clone() };
        config.hosts.insert("h1".into(), host.into());
        config
    };
    let (short, long) = (Duration::from_secs(10), Duration::from_secs(600));
    for before in [None, Some(long)] {
        let mut play = Play::new(with(before));
        play.host("h1").watchdog_ms = Some(15_000);
        play.runs_on("h0", "h1");
        play.run(Duration::from_secs(5));
        assert_eq!(play.hosts["h1"].lease_ms, before.map(|_| 600_000));
        play.ask(Command::Reload { config: Box::new(with(Some(short))) }).unwrap();
        play.run(Duration::from_secs(5));
        assert_eq!(play.hosts["h1"].lease_ms, Some(10_000), "it is told at once");
        if before.is_some() {
            // Alive, but cut off: what it was told first may still hold.
            play.host("h1").silent = true;
            play.run(Duration::from_secs(300));
            assert!(!play.hosts["h0"].active.contains("ost1"), "{before:?}");
        }
    }
}
