//! `coordinatool-client ha` against a played manager: what it asks, what it says, how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ha_client_support;

use ha_client_support::{
    Asked, Manager, Ran, Say, accepted, command, done, good, program, refused, run, run_at_terminal, running,
    start,
};
use harness::{Signal, patience, poll};
use serde_json::{Value, json};

/// Accepts everything; commands are done at once.
fn obedient() -> Manager {
    Manager::start(|asked: &Asked, _| match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/api/v1/ha/status") => good(status()),
        ("GET", _) => command(7, done("it is so")),
        _ => accepted(7, &["something happens"]),
    })
}

fn status() -> Value {
    let host = |id: &str| {
        json!({
            "id": id, "address": format!("{id}:8000"), "state": "connected", "detail": "", "since": 0, "active": true,
            "fenced": false, "power": {"said": "on", "at": 0}, "maintenance_until": null, "agent_version": "0.1.0",
            "isolation": "cgroup", "fencing": "x", "self_protected": false,
        })
    };
    let seen = |state: &str| json!({"state": state, "comment": null, "since": 0});
    json!({
        "cluster": "lab", "managed": true, "epoch": 3, "superseded": false, "maintenance_until": null,
        "hosts": [host("oss1"), host("oss2")],
        "groups": [{
            "id": "pool1", "managed": true, "phase": "running", "waits_for": [], "home": "oss1", "failover": ["oss2"],
            "location": "oss1", "stopped_by_operator": false, "maintenance_until": null,
            "resources": [{
                "id": "pool1", "kind": "lab/res", "parameters": {}, "parent": null, "depth": 0,
                "on": {"oss1": seen("running"), "oss2": seen("stopped")}, "failures": [], "stopped_by_operator": false,
            }],
        }],
        "alerts": [], "commands": [], "known_to_later_versions": 1,
    })
}

#[test]
fn each_command_asks_for_what_it_says() {
    let both = |verb: &str| vec![format!("hosts/oss1/{verb}"), format!("hosts/oss2/{verb}")];
    let one = |path: &str| vec![path.to_owned()];
    let cases: Vec<(&[&str], Vec<String>, Value)> = vec![
        (&["manage", "pool1"], one("groups/pool1/manage"), json!({})),
        (&["unmanage", "a/b", "--reason", "why"], one("groups/a%2Fb/unmanage"), json!({"reason": "why"})),
        (&["activate", "oss[1-2]"], both("activate"), json!({})),
        (&["deactivate", "oss1,oss2"], both("deactivate"), json!({"force": false})),
        (&["deactivate", "oss1", "--force"], one("hosts/oss1/deactivate"), json!({"force": true})),
        (&["failback", "--onto", "oss1"], one("hosts/oss1/failback"), json!({})),
        (&["fence", "oss1", "--force"], one("hosts/oss1/fence"), json!({"force": true})),
        (&["reset", "oss1", "oss2"], both("reset"), json!({})),
        (&["power", "off", "oss[1-2]"], both("power"), json!({"action": "off"})),
        (&["confirm-off", "oss1", "--yes-it-is-off"], one("hosts/oss1/confirm_off"), json!({})),
        (&["move", "pool1"], one("groups/pool1/move"), json!({})),
        (&["move", "pool1", "--to", "oss2"], one("groups/pool1/move"), json!({"to": "oss2"})),
        (&["start", "ost1"], one("start"), json!({"target": "ost1"})),
        (&["stop", "ost1"], one("stop"), json!({"target": "ost1"})),
        (&["clear"], one("clear"), json!({})),
        (&["clear", "ost1"], one("clear"), json!({"target": "ost1"})),
        (&["maintenance", "--for", "2h"], one("maintenance"), json!({"seconds": 7200})),
        (&["maintenance", "pool1", "--for", "90"], one("groups/pool1/maintenance"), json!({"seconds": 90})),
        (&["maintenance", "oss2", "--end"], one("hosts/oss2/maintenance"), json!({"seconds": 0})),
        (&["takeover", "-y"], one("takeover"), json!({})),
        (&["reload", "-y"], one("reload"), json!({})),
        (&["events", "clear"], one("clear_events"), json!({})),
        (&["reset", "oss1", "--dry-run"], one("hosts/oss1/reset"), json!({"dry_run": true})),
    ];
    for (arguments, paths, body) in cases {
        let manager = obedient();
        let ran = manager.ha(arguments);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}: {ran:?}");
        let wanted: Vec<Asked> = paths
            .iter()
            .map(|path| Asked {
                method: "POST".into(),
                path: format!("/api/v1/ha/{path}"),
                body: body.clone(),
            })
            .collect();
        assert_eq!(manager.posts(), wanted, "{arguments:?}");
    }
}

#[test]
fn without_a_manager_it_fails_at_once_and_names_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nobody.sock");
    let socket = socket.to_str().unwrap();
    for arguments in [
        &["status"][..],
        &["events"],
        &["events", "--follow"],
        &["history", "pool1"],
        &["fence", "oss[1-2]"],
        &["maintenance", "oss1", "--for", "1h"],
        &["reload", "-y"],
        &["reload"],
        &["wait", "3"],
    ] {
        let mut command = program("coordinatool-client");
        command.arg("ha").args(arguments).args(["--socket", socket]);
        let ran = run(command);
        assert_eq!(ran.code, Some(1), "{arguments:?}: {ran:?}");
        let wanted = format!("coordinatool-client: no manager listens on {socket}: No such file");
        assert!(ran.err.starts_with(&wanted), "{arguments:?}: {ran:?}");
        assert_eq!(ran.err.lines().count(), 1, "{arguments:?}: {ran:?}");
    }
}

#[test]
fn the_end_is_waited_for_and_changes_are_shown() {
    let manager = Manager::start(|asked, before| match (asked.method.as_str(), before) {
        ("POST", _) => accepted(12, &["ost1 is stopped on oss1", "ost1 is started on oss2"]),
        (_, 1 | 2) => command(12, running("stopping ost1")),
        (_, 3) => command(12, running("starting\nost1")),
        _ => command(12, done("ost1 runs on oss2")),
    });
    let ran = manager.ha(&["move", "ost1", "--to", "oss2"]);
    let wanted = "ost1 is stopped on oss1\nost1 is started on oss2\n... stopping ost1\n... starting; ost1\n\
                  done: ost1 runs on oss2\n";
    assert_eq!(ran, Ran { code: Some(0), out: wanted.into(), err: String::new() });
    let paths: Vec<String> = manager.asked().into_iter().skip(1).map(|asked| asked.path).collect();
    assert_eq!(paths[0], "/api/v1/ha/commands/12");
    assert!(paths[1..].iter().all(|path| path == "/api/v1/ha/commands/12?wait=5"), "{paths:?}");
}

#[test]
fn a_failure_is_a_failure() {
    let manager = Manager::start(|asked, _| match asked.method.as_str() {
        "POST" if asked.path.contains("oss3") => {
            refused(409, &["Could not reset 'oss3': Host has not been fenced."])
        }
        "POST" => accepted(5, &[]),
        _ => command(5, json!({"state": "failed", "reason": "the device is silent"})),
    });
    let ran = manager.ha(&["fence", "oss1"]);
    let wanted = "coordinatool-client: command 5 failed: the device is silent\n";
    assert_eq!(ran, Ran { code: Some(1), out: String::new(), err: wanted.into() });
    // One that is refused does not keep the others from being done.
    let ran = manager.ha(&["reset", "oss[3-4]"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        ran.err,
        "coordinatool-client: Could not reset 'oss3': Host has not been fenced.\n\
         coordinatool-client: oss4: command 5 failed: the device is silent\n"
    );
}

#[test]
fn scripts_can_read_everything() {
    let manager = obedient();
    let lines = |ran: Ran| -> Vec<Value> {
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let end = json!({"object": "pool1", "command": 7, "progress": {"state": "done", "result": "it is so"}});
    assert_eq!(lines(manager.ha(&["move", "pool1", "--json"])), [end]);
    let begin = json!({"object": "pool1", "command": 7, "consequences": ["something happens"]});
    assert_eq!(lines(manager.ha(&["move", "pool1", "--json", "--no-wait"])), [begin]);
    assert_eq!(lines(manager.ha(&["wait", "7", "--json"])).len(), 1);
    let ran = manager.ha(&["status", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), status());
    let denied = Manager::start(|_, _| refused(404, &["Host 'x' not found."]));
    let ran = denied.ha(&["fence", "x", "--json"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(lines(ran), [json!({"object": "x", "errors": ["Host 'x' not found."]})]);
}

#[test]
fn what_is_not_waited_for_and_what_would_happen() {
    let manager = obedient();
    let ran = manager.ha(&["fence", "oss1", "--no-wait"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "something happens\ncommand 7\n"));
    let dry = Manager::start(|_, _| good(json!({"command": null, "consequences": ["oss1 is powered off"]})));
    let ran = dry.ha(&["fence", "oss1", "--dry-run"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "would: oss1 is powered off\n"));
    let dry = Manager::start(|_, _| good(json!({"command": null, "consequences": []})));
    assert_eq!(dry.ha(&["activate", "oss1", "--dry-run"]).out, "would change nothing\n");
}

/// Ctrl-C ends the client, not the command.
#[test]
fn an_interrupted_command_goes_on_at_the_manager() {
    let manager = Manager::start(|asked, before| match (asked.method.as_str(), before) {
        ("POST", _) => accepted(31, &[]),
        (_, 1) => command(31, running("powering off oss1")),
        _ => Say::Nothing,
    });
    let child = start(manager.ha_command(&["fence", "oss1"]));
    poll(patience(), || (manager.asked().len() >= 3).then_some(())).expect("it waits");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT).unwrap();
    let ran: Ran = child.wait_with_output().unwrap().into();
    let wanted = "coordinatool-client: command 31 goes on at the manager; `coordinatool-client ha wait 31` waits for it\n";
    assert_eq!(ran, Ran { code: Some(130), out: "... powering off oss1\n".into(), err: wanted.into() });
    assert_eq!(manager.posts().len(), 1);
}

#[test]
fn a_manager_that_restarts_is_waited_for() {
    let manager = Manager::start(|asked, before| match (asked.method.as_str(), before) {
        ("POST", _) => accepted(8, &[]),
        (_, 1) => command(8, running("a")),
        (_, 2) => Say::Break,
        (_, 3) => refused(503, &["the manager stops"]),
        _ => command(8, done("b")),
    });
    let ran = manager.ha(&["stop", "ost1"]);
    let wanted = "... a\n... the manager is gone; waiting for it to come back\ndone: b\n";
    assert_eq!(ran, Ran { code: Some(0), out: wanted.into(), err: String::new() });
}

#[test]
fn what_cannot_be_asked_back_is_not_done() {
    for arguments in [&["confirm-off", "oss1"][..], &["takeover"]] {
        let manager = obedient();
        let ran = manager.ha(arguments);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains("standard input is not a terminal"), "{ran:?}");
        assert_eq!(manager.asked(), [], "{arguments:?}");
    }
}

/// Whoever answers for a host being off types its name once more; what the manager refuses is not even asked.
#[test]
fn who_is_asked_back_must_answer() {
    let acts = |manager: &Manager| manager.posts().iter().filter(|asked| asked.body == json!({})).count();
    let end = done("it is so");
    for (arguments, line, acted) in [
        (&["confirm-off", "oss1"][..], "oss1", true),
        (&["confirm-off", "oss1"], "oss2", false),
        (&["confirm-off", "oss1"], "y", false),
        (&["takeover"], "y", true),
        (&["takeover"], "", false),
        (&["reload"], "yes", true),
        (&["reload"], "no", false),
    ] {
        let end = end.clone();
        let manager = Manager::start(move |asked, _| match asked.method.as_str() {
            "POST" => good(json!({"difference": ["x"], "command": 7, "consequences": ["something happens"]})),
            _ => command(7, end.clone()),
        });
        let ran = run_at_terminal(manager.ha_command(arguments), line);
        assert_eq!(ran.code, Some(if acted { 0 } else { 2 }), "{arguments:?} {line}: {ran:?}");
        assert_eq!(acts(&manager), usize::from(acted), "{arguments:?} {line}");
    }
    let manager = Manager::start(|_, _| refused(409, &["'oss1' is not off: its agent is connected."]));
    let ran = run_at_terminal(manager.ha_command(&["confirm-off", "oss1"]), "oss1");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!((manager.posts().len(), acts(&manager)), (1, 0));
}

#[test]
fn a_reload_shows_the_difference_first() {
    let script = |asked: &Asked, _| match asked.method.as_str() {
        "POST" => {
            let dry = asked.body["dry_run"] == json!(true);
            good(json!({
                "difference": ["+ host oss3"], "warnings": ["f:1: odd"], "command": if dry { None } else { Some(4) },
                "consequences": ["nothing moves"],
            }))
        }
        _ => command(4, done("loaded")),
    };
    let manager = Manager::start(script);
    let ran = manager.ha(&["reload", "--dry-run"]);
    let wanted = Ran {
        code: Some(0),
        out: "+ host oss3\nwould: nothing moves\n".into(),
        err: "coordinatool-client: warning: f:1: odd\n".into(),
    };
    assert_eq!(ran, wanted);
    assert_eq!(manager.ha(&["reload"]).code, Some(2));
    assert!(manager.posts().iter().all(|asked| asked.body == json!({"dry_run": true})));
    let ran = manager.ha(&["reload", "-y", "--reason", "new server"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "nothing moves\ndone: loaded\n"));
    assert_eq!(manager.posts().last().unwrap().body, json!({"reason": "new server"}));
    let bad = Manager::start(|_, _| refused(422, &["f:1: a: wrong", "f:2: b: wrong"]));
    let ran = bad.ha(&["reload"]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (Some(64), "coordinatool-client: f:1: a: wrong\nf:2: b: wrong\n")
    );
}

#[test]
fn a_status_is_readable() {
    let ran = obedient().ha(&["status"]);
    let wanted = "Cluster lab: managed (epoch 3)\n\nGROUP  KIND     STATE    HOST\npool1  lab/res  running  oss1\n\n\
                  HOST      STATE      POWER\noss[1-2]  connected  on\n";
    assert_eq!(ran, Ran { code: Some(0), out: wanted.into(), err: String::new() });
    let ran = obedient().ha(&["status", "-x"]);
    assert_eq!(ran, Ran { code: Some(0), out: String::new(), err: String::new() });
    let odd = Manager::start(|_, _| Say::Answer(200, "<html>".into()));
    let ran = odd.ha(&["status"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.starts_with("coordinatool-client: the manager's answer cannot be read: "), "{ran:?}");
}

#[test]
fn events_are_listed_and_followed() {
    let event = |at: i64, object: &str| json!({"at": at, "event": "start", "object": object, "host": "oss1", "by": "manager", "comment": "why"});
    let manager = Manager::start(move |asked, before| {
        if asked.path.starts_with("/api/v1/ha/events/stream") {
            if before > 3 {
                return Say::Nothing;
            }
            let data = format!(": hello\n\ndata: {}\n\ndata: {}\n\n", event(2, "ost1"), event(3, "ost2"));
            return Say::Answer(200, data);
        }
        good(json!([event(1_000_000_000, "ost1")]))
    });
    let ran = manager.ha(&["events", "--object", "ost1", "--limit", "5"]);
    let line = "1970-01-01 00:00:01  start           ost1 on oss1: why\n";
    assert_eq!(ran, Ran { code: Some(0), out: line.into(), err: String::new() });
    assert_eq!(manager.asked()[0].path, "/api/v1/ha/events?object=ost1&limit=5");
    let mut child = start(manager.ha_command(&["events", "--follow", "--json", "--object", "ost1"]));
    // The stream has ended twice, and was asked for again.
    poll(patience(), || (manager.asked().len() >= 5).then_some(())).expect("it follows");
    child.kill().unwrap();
    let ran: Ran = child.wait_with_output().unwrap().into();
    let times: Vec<Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|event| json!([event["at"], event["object"]]))
        .collect();
    assert_eq!(times[..2], [json!([1_000_000_000, "ost1"]), json!([2, "ost1"])]);
    assert!(!ran.out.contains("ost2"), "{ran:?}");
}

#[test]
fn a_history_has_the_failures_that_count() {
    let manager = Manager::start(|asked, _| {
        if asked.path.starts_with("/api/v1/ha/events") {
            return good(json!([]));
        }
        let mut status = status();
        status["groups"][0]["resources"][0]["failures"] =
            json!([{"at": 0, "host": "oss1", "action": "start", "what": "exit code 1", "recovery": "soft"}]);
        good(status)
    });
    let ran = manager.ha(&["history", "pool1"]);
    let wanted = "\nFailures that still count:\n1970-01-01 00:00:00  start of pool1 on oss1: exit code 1\n\
                  `coordinatool-client ha clear pool1` forgets them\n";
    assert_eq!(ran, Ran { code: Some(0), out: wanted.into(), err: String::new() });
    assert_eq!(manager.asked()[0].path, "/api/v1/ha/events?object=pool1&since=0");
    let ran = manager.ha(&["history", "nothing"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("'nothing'"), "{ran:?}");
}

#[test]
fn wrong_calls_end_with_2() {
    let manager = obedient();
    for arguments in [
        &["fence"][..],
        &["fence", "oss[1-"],
        &["no-such-command"],
        &["maintenance"],
        &["maintenance", "--for", "soon"],
        &["power", "sideways", "oss1"],
        &["failback", "oss1"],
        &[],
    ] {
        let ran = manager.ha(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert_eq!((manager.asked(), ran.out.as_str()), (Vec::new(), ""), "{arguments:?}");
    }
    assert_eq!(manager.ha(&["--help"]).code, Some(0));
}
