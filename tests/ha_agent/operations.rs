//! Operations: their environment, their results, their limits, and what they leave behind.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use coordinatool::ha::ocf::Outcome;
use coordinatool::ha::protocol::{Action, FromAgent, Refusal, ToAgent};
use harness::{patience, poll};

use super::player::{Agent, DONE, id};

const MONITOR: Action = Action::Monitor { depth: 10, interval_ms: 3000 };

#[test]
fn resource_agents_find_the_environment_of_the_standard() {
    let agent = Agent::with("environment", &["--test-id", "77"]);
    let mut manager = agent.manager(1);
    let file = agent.file("env");
    let say = format!("env > {file}; pwd >> {file}; umask >> {file}; readlink /proc/self/fd/0 >> {file}");
    assert_eq!(manager.does("ost1", MONITOR, &say).outcome, DONE);
    let text = fs::read_to_string(&file).unwrap();
    let has = |line: &str| assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    has(&format!("OCF_ROOT={}", agent.file("ocf")));
    for line in [
        "OCF_RESOURCE_INSTANCE=ost1",
        "OCF_RESOURCE_TYPE=Script",
        "OCF_RESOURCE_PROVIDER=test",
        "OCF_RA_VERSION_MAJOR=1",
        "OCF_RA_VERSION_MINOR=1",
        "OCF_EXIT_REASON_PREFIX=ocf-exit-reason:",
        "OCF_CHECK_LEVEL=10",
        "OCF_RESKEY_CRM_meta_timeout=20000",
        "OCF_RESKEY_CRM_meta_interval=3000",
        "OCF_RESKEY_CRM_meta_name=monitor",
        "HALO_TEST_ID=77",
        "/",
        "0022",
        "/dev/null",
    ] {
        has(line);
    }
    // Nothing of the agent's own environment.
    assert!(!text.contains("CARGO"), "{text}");
    assert_eq!(manager.does("ost1", Action::Probe, &say).outcome, DONE);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("OCF_RESKEY_CRM_meta_interval=0\n"), "a probe is a monitor without an interval");
    assert!(!text.contains("OCF_CHECK_LEVEL"), "{text}");
}

#[test]
fn two_dummies_do_not_collide() {
    let agent = Agent::with("dummies", &["--ocf-root", "/usr/lib/ocf"]);
    let mut manager = agent.manager(1);
    let mut does = |resource: &str, action| {
        let state = agent.file(&format!("{resource}.state"));
        let parameters = BTreeMap::from([("state".to_owned(), state)]);
        let order = manager.order_of("heartbeat/Dummy", resource, action, parameters, None);
        manager.finished(order).outcome
    };
    assert_eq!(does("a", Action::Probe), Outcome::Exited(7));
    assert_eq!(does("a", Action::Start), DONE);
    assert_eq!(does("a", Action::Probe), DONE);
    assert_eq!(does("b", Action::Probe), Outcome::Exited(7));
    assert_eq!(does("a", Action::Stop), DONE);
    assert_eq!(does("a", Action::Probe), Outcome::Exited(7));
}

#[test]
fn every_exit_code_arrives_with_its_reason() {
    let agent = Agent::start("codes");
    let mut manager = agent.manager(1);
    for code in [0, 1, 2, 5, 6, 7, 8, 9, 124, 125, 126, 137, 190, 191, 255] {
        let say = format!("echo first >&2; echo ocf-exit-reason:because $1 >&2; echo last >&2; exit {code}");
        let finished = manager.does("r", MONITOR, &say);
        assert_eq!(finished.outcome, Outcome::Exited(code));
        assert_eq!((finished.reason.as_str(), finished.unfinished), ("because monitor", false));
        assert_eq!(finished.advised_interval_ms, Some(7000), "as its meta-data say");
    }
    let killed = manager.does("r", Action::Probe, "kill -SEGV $$");
    assert_eq!(killed.outcome, Outcome::Signaled(11));
}

#[test]
fn a_hanging_operation_delays_nobody_and_is_ended() {
    let agent = Agent::start("hang");
    let mut manager = agent.manager(1);
    let parameters = BTreeMap::from([("say".to_owned(), "trap '' TERM; sleep 1000; sleep 1000".to_owned())]);
    let hanging = manager.order_of("test/Script", "a", Action::Stop, parameters, Some(300));
    assert_eq!(manager.does("b", Action::Start, "exit 0").outcome, DONE);
    let busy = manager.order("a", Action::Probe, "exit 0");
    manager.wait("a refusal", |message| match message {
        FromAgent::Refused { order, reason } if *order == busy => {
            assert_eq!(*reason, Refusal::Busy(hanging));
            Some(())
        }
        _ => None,
    });
    let finished = manager.finished(hanging);
    assert_eq!(finished.outcome, Outcome::TimedOut);
    if finished.unfinished {
        manager.emptied(hanging);
    }
    assert_eq!(manager.does("a", Action::Probe, "exit 7").outcome, Outcome::Exited(7), "it is free again");
}

#[test]
fn an_abandoned_operation_is_killed() {
    let agent = Agent::start("abandon");
    let mut manager = agent.manager(1);
    let order = manager.order("a", Action::Start, &format!("touch {}; sleep 1000", agent.file("begun")));
    poll(patience(), || fs::metadata(agent.file("begun")).ok()).unwrap();
    manager.send(&ToAgent::Abandon { order });
    assert_ne!(manager.finished(order).outcome, DONE);
}

#[test]
fn children_that_left_their_session_are_found_and_killed() {
    for options in [&[][..], &["--no-cgroups"][..]] {
        let agent = Agent::with("escape", options);
        let mut manager = agent.manager(1);
        let escaped = agent.file("escaped");
        let say = format!(
            "setsid sh -c 'echo $$ > {escaped}; exec sleep 1000' & while [ ! -s {escaped} ]; do :; done; exit 1"
        );
        let order = manager.order("a", Action::Start, &say);
        let finished = manager.finished(order);
        assert_eq!((finished.outcome, finished.unfinished), (Outcome::Exited(1), true));
        manager.emptied(order);
        let pid = fs::read_to_string(&escaped).unwrap();
        let gone = || (!fs::exists(format!("/proc/{}/cwd", pid.trim())).unwrap()).then_some(());
        assert_eq!(poll(patience(), gone), Some(()), "{options:?}");
    }
}

#[test]
fn processes_of_a_started_resource_live_until_it_is_stopped() {
    let agent = Agent::start("daemon");
    let mut manager = agent.manager(1);
    let file = agent.file("pid");
    // It keeps standard error open, and writes to it when nobody reads any more.
    let say = format!(
        "setsid sh -c 'echo $$ > {file}; while :; do echo alive >&2; sleep 0.1; done' & while [ ! -s {file} ]; do :; done"
    );
    let started = manager.does("a", Action::Start, &say);
    assert_eq!((started.outcome, started.unfinished), (DONE, false));
    assert_eq!(manager.does("a", MONITOR, "exit 0").outcome, DONE);
    let process = format!("/proc/{}/cwd", fs::read_to_string(&file).unwrap().trim());
    assert!(fs::exists(&process).unwrap());
    // This stop leaves it alive: the agent does not.
    let order = manager.order("a", Action::Stop, "exit 0");
    let stopped = manager.finished(order);
    assert_eq!((stopped.outcome, stopped.unfinished), (DONE, true));
    manager.emptied(order);
    assert!(!fs::exists(&process).unwrap());
}

#[test]
fn output_without_end_is_bounded() {
    let agent = Agent::start("output");
    let mut manager = agent.manager(1);
    let say = "head -c 100000000 /dev/zero | tr '\\0' x >&2; head -c 100000000 /dev/zero; echo >&2; \
               echo ocf-exit-reason:at the end >&2; exit 1";
    let finished = manager.does("a", Action::Start, say);
    assert_eq!((finished.outcome, finished.reason.as_str()), (Outcome::Exited(1), "at the end"));
}

#[test]
fn only_resource_agents_below_the_root_are_run() {
    let agent = Agent::start("paths");
    let mut manager = agent.manager(1);
    let touched = agent.file("touched");
    fs::write(agent.file("outside"), format!("#!/bin/sh\ntouch {touched}\n")).unwrap();
    for kind in
        ["../../../outside", "test/../../../outside", "test/none", "test", "/bin/true", "test/Script/x"]
    {
        let order = manager.order_of(kind, "a", Action::Start, BTreeMap::new(), None);
        let finished = manager.finished(order);
        assert!(matches!(finished.outcome, Outcome::NotRun(_)), "{kind}: {:?}", finished.outcome);
        assert_eq!(finished.resource, id("a"));
    }
    assert!(!fs::exists(touched).unwrap());
}

#[test]
fn an_operation_that_is_abandoned_before_it_begins_never_begins() {
    let agent = Agent::start("never");
    let [asked, go, ran] = ["asked", "go", "ran"].map(|name| agent.file(name));
    let script = agent.directory.join("ocf/resource.d/test/Slow");
    let text = format!(
        "#!/bin/sh\ncase $1 in meta-data) touch {asked}; while [ ! -e {go} ]; do sleep 0.02; done; exit 1;; esac\n\
         touch {ran}\n"
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut manager = agent.manager(1);
    let order = manager.order_of("test/Slow", "a", Action::Start, BTreeMap::new(), None);
    assert!(poll(patience(), || fs::metadata(&asked).ok()).is_some());
    manager.send(&ToAgent::Abandon { order });
    // What was sent before this has been heard.
    manager.does("b", Action::Probe, "exit 0");
    fs::write(&go, "").unwrap();
    let finished = manager.finished(order);
    assert_eq!((finished.outcome, finished.unfinished), (Outcome::Signaled(9), false));
    assert!(!fs::exists(&ran).unwrap());
}
