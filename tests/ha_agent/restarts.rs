//! An agent that is killed and comes back.

use std::fs;
use std::process::Command;

use coordinatool::ha::ids::OrderId;
use coordinatool::ha::ocf::Outcome;
use coordinatool::ha::protocol::{Action, FromAgent};
use harness::{Programs, TestDirectory, patience, poll};

use super::player::{Agent, DONE, Manager};

fn exists(path: &str) {
    assert!(poll(patience(), || fs::metadata(path).ok()).is_some(), "no {path}");
}

#[test]
fn a_start_goes_on_while_the_agent_is_restarted_and_is_unfinished_until_it_ends() {
    for options in [&[][..], &["--no-cgroups"][..]] {
        let mut agent = Agent::with("restart", options);
        let (begun, go, ended) = (agent.file("begun"), agent.file("go"), agent.file("ended"));
        let mut manager = agent.manager(1);
        let say = format!(
            "touch {begun}; while [ ! -e {go} ]; do echo waiting >&2; sleep 0.05; done; touch {ended}; exit 0"
        );
        let order = manager.order("a", Action::Start, &say);
        exists(&begun);
        agent.restart();
        let mut manager = agent.manager(2);
        let unfinished: Vec<_> =
            manager.unfinished.iter().map(|one| (one.order, one.outcome.clone())).collect();
        assert_eq!(unfinished, [(order, None)], "{options:?}");
        fs::write(&go, "").unwrap();
        let finished = manager.finished(order);
        assert_eq!((finished.outcome, finished.unfinished), (Outcome::Lost, false));
        exists(&ended);
        manager.emptied(order);
        assert_eq!(manager.does("a", Action::Probe, "exit 0").outcome, DONE, "it may be looked at now");
    }
}

#[test]
fn what_was_started_survives_the_agent() {
    let mut agent = Agent::start("survives");
    let file = agent.file("pid");
    let mut manager = agent.manager(1);
    let say = format!("setsid sh -c 'echo $$ > {file}; exec sleep 1000' & while [ ! -s {file} ]; do :; done");
    assert_eq!(manager.does("a", Action::Start, &say).outcome, DONE);
    let process = format!("/proc/{}/cwd", fs::read_to_string(&file).unwrap().trim());
    agent.restart();
    let mut manager = agent.manager(2);
    assert!(manager.unfinished.is_empty(), "{:?}", manager.unfinished);
    assert!(fs::exists(&process).unwrap());
    // And its stop still knows what belongs to it.
    let order = manager.order("a", Action::Stop, "exit 0");
    assert!(manager.finished(order).unfinished);
    manager.emptied(order);
    assert!(!fs::exists(&process).unwrap());
}

#[test]
fn a_result_that_nobody_heard_is_told_to_the_next_manager() {
    let agent = Agent::start("result");
    let (begun, go) = (agent.file("begun"), agent.file("go"));
    let mut manager = agent.manager(1);
    let say = format!("touch {begun}; while [ ! -e {go} ]; do sleep 0.02; done; exit 0");
    let order = manager.order("a", Action::Start, &say);
    exists(&begun);
    drop(manager);
    fs::write(&go, "").unwrap();
    let mut next = agent.manager(2);
    let finished = next.wait("the result", |message| match message {
        FromAgent::Finished(finished) if finished.order == order => Some(finished.clone()),
        _ => None,
    });
    assert_eq!(finished.outcome, DONE);
}

/// Begins a start of "a" that leaves a daemon and ends while no agent is there; returns the file with the daemon's cwd.
fn start_that_ends_unseen(agent: &mut Agent) -> (Manager, OrderId, String) {
    let [begun, file, ended] = ["begun", "pid", "ended"].map(|name| agent.file(name));
    let mut manager = agent.manager(1);
    let say = format!(
        "case $1 in start) setsid sh -c 'echo $$ > {file}; exec sleep 1000' & touch {begun}; \
         while [ -d /proc/{} ]; do sleep 0.02; done; touch {ended};; esac",
        agent.process.id()
    );
    let order = manager.order("a", Action::Start, &say);
    exists(&begun);
    exists(&file);
    agent.process.kill();
    exists(&ended);
    agent.restart();
    let process = format!("/proc/{}/cwd", fs::read_to_string(&file).unwrap().trim());
    let mut manager = agent.manager(2);
    // Seen before the manager came, or after.
    assert!(manager.unfinished.iter().all(|one| one.order == order));
    let finished = manager.finished(order);
    assert_eq!((finished.outcome, finished.unfinished), (Outcome::Lost, false));
    (manager, order, process)
}

#[test]
fn what_a_start_left_that_ended_unseen_is_the_resource_if_it_runs() {
    for options in [&[][..], &["--no-cgroups"][..]] {
        let mut agent = Agent::with("unseen", options);
        let (mut manager, order, process) = start_that_ends_unseen(&mut agent);
        assert_eq!(manager.does("a", Action::Probe, "exit 0").outcome, DONE);
        assert!(fs::exists(&process).unwrap(), "{options:?}");
        let stop = manager.order("a", Action::Stop, "exit 0");
        assert!(manager.finished(stop).unfinished);
        manager.emptied(order);
        assert!(!fs::exists(&process).unwrap());
    }
}

#[test]
fn what_a_start_left_that_ended_unseen_goes_if_the_resource_is_stopped() {
    let mut agent = Agent::start("unseen-stopped");
    let (mut manager, order, process) = start_that_ends_unseen(&mut agent);
    let probe = manager.order("a", Action::Probe, "exit 7");
    assert!(manager.finished(probe).unfinished, "no proof yet");
    manager.emptied(order);
    assert!(!fs::exists(&process).unwrap());
    assert_eq!(manager.does("a", Action::Start, "exit 0").outcome, DONE);
}

#[test]
fn what_runs_survives_an_agent_that_lost_its_records() {
    for all in [true, false] {
        let mut agent = Agent::start("lost-records");
        let file = agent.file("pid");
        let mut manager = agent.manager(1);
        let say =
            format!("setsid sh -c 'echo $$ > {file}; exec sleep 1000' & while [ ! -s {file} ]; do :; done");
        assert_eq!(manager.does("a", Action::Start, &say).outcome, DONE);
        let process = format!("/proc/{}/cwd", fs::read_to_string(&file).unwrap().trim());
        agent.process.kill();
        let intents = agent.file("agent/intents");
        let text = fs::read_to_string(&intents).unwrap();
        let seals: String =
            text.lines().filter(|line| line.contains("sealed")).map(|line| format!("{line}\n")).collect();
        assert!(!seals.is_empty());
        fs::write(&intents, if all { "" } else { &seals }).unwrap();
        agent.restart();
        let mut manager = agent.manager(2);
        assert_eq!(manager.does("b", Action::Probe, "exit 7").outcome, Outcome::Exited(7));
        assert!(fs::exists(&process).unwrap(), "{all}");
    }
}

#[test]
fn what_was_about_to_begin_when_the_agent_died_never_does() {
    let directory = TestDirectory::new("orphan");
    let file = directory.join("touched");
    let mine = std::process::id();
    for (first, code) in
        [("-1".to_owned(), 125), ("/nonexistent/cgroup.procs".to_owned(), 125), (format!("-{mine}"), 0)]
    {
        assert!(!file.exists());
        let mut command = Command::new(Programs::find().path("coordinatool-agent"));
        let status = command.args(["exec-in", &first, "-", "/usr/bin/touch"]).arg(&file).status().unwrap();
        assert_eq!(status.code(), Some(code), "{first}");
    }
    assert!(file.exists());
}
