//! `halo` against a played manager: HALO's output, messages and exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ha_client_support;

use std::os::unix::fs::symlink;

use ha_client_support::{
    Asked, Manager, Ran, Say, accepted, command, done, good, program, refused, run, running, script,
};
use serde_json::{Value, json};

/// The state in which the sample in HALO's columns was printed.
fn status() -> String {
    let resource = |id: &str, home: &str, on: &str, managed: bool, dependents: &[&str]| {
        let there = |host: &str| if host == on { "Running" } else { "Stopped" };
        json!({
            "id": id, "kind": "lab/res", "parameters": {"name": id}, "managed": managed, "home_host": home,
            "status": {"h0": {"status": there("h0"), "comment": null}, "h1": {"status": there("h1"), "comment": null}},
            "failover_host": if home == "h0" { "h1" } else { "h0" }, "dependents": dependents, "exclusive": true,
        })
    };
    let event = |event: &str, time: &str, comment: Value| json!({"timestamp": format!("2026-11-20 23:20:{time}"), "event": event, "obj_id": "h1", "comment": comment});
    json!({
        "resources": [
            resource("pool0", "h0", "h0", true, &["ost0"]), resource("ost0", "h0", "h0", true, &[]),
            resource("pool1", "h1", "h0", true, &["ost1"]), resource("ost1", "h1", "h1", false, &[]),
        ],
        "hosts": [
            {"id": "h0", "active": true, "connected": true, "fenced": false},
            {"id": "h1", "active": false, "connected": true, "fenced": true},
        ],
        "events": [
            event("reset", "40.000000001", json!("old")), event("clear", "45.000000001", Value::Null),
            event("deactivate", "48.000000001", Value::Null), event("fence", "49.698872423", json!("testing")),
        ],
    })
    .to_string()
}

#[test]
fn the_status_is_halos_byte_for_byte() {
    let manager = Manager::start(|_, _| Say::Answer(200, status()));
    let wanted = "pool0               \t(lab/res)\tRunning on h0\n \
                  ost0               \t(lab/res)\tRunning on h0\n\
                  pool1               \t(lab/res)\tRunning (Failed Over) on h0\n \
                  ost1               \t(lab/res)\tRunning on h1 (Unmanaged)\n\
                  \n\
                  Connected hosts:\th0, h1 (deactivated)\n\
                  Disconnected hosts:\t\n\
                  Events: \n\
                  2026-11-20 23:20:48.000000001 event=deactivate object=h1 comment=\"\"\n\
                  2026-11-20 23:20:49.698872423 event=fence object=h1 comment=\"testing\"\n";
    let whole = Ran { code: Some(0), out: wanted.into(), err: String::new() };
    assert_eq!(manager.halo(&["status"]), whole);
    assert_eq!(manager.asked()[0].path, "/status");
    // Flags that HALO's command line takes and does not use.
    assert_eq!(manager.halo(&["--statefile", "x", "--mtls", "status"]), whole);
    let one = manager.halo(&["status", "-e", "1"]).out;
    assert!(!one.contains("deactivate ") && one.contains("event=fence"), "{one}");
    let abnormal = manager.halo(&["status", "-x"]).out;
    assert_eq!(abnormal, "pool1               \t(lab/res)\tRunning (Failed Over) on h0\n\n");
    let events = manager.halo(&["events", "show"]).out;
    assert_eq!(events.lines().count(), 3);
    assert!(
        events.starts_with("2026-11-20 23:20:40.000000001 event=reset object=h1 comment=\"old\"\n"),
        "{events}"
    );
}

/// `coordinatool-client` is HALO's command line when it is called so.
#[test]
fn a_link_called_halo_is_halo() {
    let manager = Manager::start(|_, _| Say::Answer(200, status()));
    let link = manager.directory.path().join("halo");
    symlink(env!("CARGO_BIN_EXE_coordinatool-client"), &link).unwrap();
    let mut called = std::process::Command::new(&link);
    called.args(["status", "--socket"]).arg(manager.socket());
    assert_eq!(run(called), manager.halo(&["status"]));
}

#[test]
fn commands_are_handed_in_and_only_a_fence_is_waited_for() {
    let cases: &[(&[&str], &str, Value)] = &[
        (&["manage", "pool1", "--reason", "r"], "groups/pool1/manage", json!({"reason": "r"})),
        (&["unmanage", "pool1"], "groups/pool1/unmanage", json!({})),
        (&["activate", "h1"], "hosts/h1/activate", json!({})),
        (&["deactivate", "h1", "--reason", "r"], "hosts/h1/deactivate", json!({"reason": "r"})),
        (&["failback", "--onto", "h1", "--reason", "r"], "hosts/h1/failback", json!({"reason": "r"})),
        (&["reset", "h1"], "hosts/h1/reset", json!({})),
        (&["events", "clear"], "clear_events", json!({})),
        (&["fence", "h1"], "hosts/h1/fence", json!({"force": false})),
        (&["fence", "h1", "--force"], "hosts/h1/fence", json!({"force": true})),
    ];
    for (arguments, path, body) in cases {
        let manager = Manager::start(|asked, before| match (asked.method.as_str(), before) {
            ("POST", _) => accepted(3, &["something"]),
            (_, 1) => command(3, running("powering off")),
            _ => command(3, done("h1 is off")),
        });
        let ran = manager.halo(arguments);
        assert_eq!(ran, Ran { code: Some(0), out: String::new(), err: String::new() }, "{arguments:?}");
        let asked = manager.asked();
        let wanted = Asked { method: "POST".into(), path: format!("/api/v1/ha/{path}"), body: body.clone() };
        assert_eq!(asked[0], wanted);
        assert_eq!(asked.len() > 1, arguments[0] == "fence", "{arguments:?}");
    }
}

#[test]
fn refusals_are_in_halos_words() {
    let observes = "The specified command can only be used when running in managed mode.";
    let cases: &[(&[&str], u16, &str, &str)] = &[
        (
            &["fence", "h1"],
            409,
            "Will not fence 'h1': Host has already been fenced.",
            "Will not fence 'h1': Host has already been fenced.",
        ),
        (&["fence", "h9"], 404, "Host 'h9' not found.", "Could not fence 'h9': host not found."),
        (
            &["manage", "ost1"],
            404,
            "Specify root resource ID.",
            "Could not update 'ost1': Specify root resource ID.",
        ),
        (
            &["unmanage", "x"],
            404,
            "Resource group not found.",
            "Could not update 'x': Resource group not found.",
        ),
        (
            &["deactivate", "h0"],
            409,
            "Could not deactivate 'h0': Partner host is already deactivated. You cannot deactivate both hosts in a pair.",
            "Could not deactivate 'h0': Partner host is already deactivated. You cannot deactivate both hosts in a pair.",
        ),
        (
            &["reset", "h1"],
            409,
            "Host has not been fenced.",
            "Could not reset 'h1': Host has not been fenced.",
        ),
        (
            &["activate", "h1"],
            409,
            observes,
            "Could not activate 'h1': The specified command can only be used when running in managed mode.",
        ),
        (
            &["failback", "--onto", "h1"],
            409,
            "Host is deactivated. Please activate it before running resources on it.",
            "Could not perform failback onto 'h1': Host is deactivated. Please activate it before running resources on it.",
        ),
        (&["events", "clear"], 500, "the disk is full", "Could not clear events: the disk is full"),
    ];
    for (arguments, code, reason, wanted) in cases {
        let (code, reason) = (*code, (*reason).to_owned());
        let manager = Manager::start(move |_, _| refused(code, &[&reason]));
        let ran = manager.halo(arguments);
        assert_eq!(
            ran,
            Ran { code: Some(1), out: String::new(), err: format!("{wanted}\n") },
            "{arguments:?}"
        );
    }
}

#[test]
fn a_fence_that_fails_is_told() {
    let manager = Manager::start(|asked, _| match asked.method.as_str() {
        "POST" => accepted(3, &[]),
        _ => command(
            3,
            json!({"state": "failed", "reason": "Fence operation failed. The host is not powered off. (h1: x)"}),
        ),
    });
    let ran = manager.halo(&["fence", "h1"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        ran.err,
        "Will not fence 'h1': Fence operation failed. The host is not powered off. (h1: x)\n"
    );
}

#[test]
fn power_goes_through_the_manager() {
    let host = |id: &str, said: &str| {
        json!({
            "id": id, "address": "", "state": "connected", "detail": "", "since": 0, "active": true, "fenced": false,
            "power": {"said": said, "at": 0}, "maintenance_until": null, "agent_version": null, "isolation": null,
            "fencing": "", "self_protected": false,
        })
    };
    let manager = Manager::start(move |asked, _| match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/api/v1/ha/status") => good(json!({
            "cluster": "lab", "managed": true, "epoch": 3, "superseded": false, "maintenance_until": null, "groups": [],
            "alerts": [], "commands": [],
            "hosts": [host("h0", "on"), host("h1", "off"), host("h2", "no answer")],
        })),
        ("POST", path) if path.contains("h3") => refused(409, &["no fence device"]),
        ("POST", _) => accepted(3, &[]),
        _ => command(3, done("ok")),
    });
    let ran = manager.halo(&["power", "status"]);
    let err = "Could not determine power status for h2, no answer\n";
    assert_eq!(ran, Ran { code: Some(1), out: "h0 is on\nh1 is off\n".into(), err: err.into() });
    let ran = manager.halo(&["power", "off", "h[0,3]"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.err, "h0 Fence: Success\nh3 Fence result: Failure: no fence device\n");
    let ran = manager.halo(&["power", "on"]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (Some(1), "Must specify host names to perform action \"on\".\n")
    );
}

/// `-f` needs no manager: the agent gets its parameters on standard input, and says with its exit code whether a host is on.
#[test]
fn a_fence_agent_can_be_run_here() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().display();
    let text = format!(
        "cat > {here}/input\ncase $(cat {here}/mode) in on) exit 0;; off) exit 2;; *) echo bad >&2; exit 1;; esac\n"
    );
    for name in ["fence_powerman", "fence_redfish"] {
        script(directory.path(), name, &text);
    }
    let halo = |mode: &str, arguments: &[&str]| {
        std::fs::write(directory.path().join("mode"), mode).unwrap();
        let mut called = program("halo");
        called
            .arg("power")
            .args(arguments)
            .env("COORDINATOOL_FENCE_PATH", directory.path())
            .env("HALO_SOCKET", "/no/such/socket");
        run(called)
    };
    let input = || std::fs::read_to_string(directory.path().join("input")).unwrap();
    let ran = halo("on", &["status", "h1", "-f", "powerman"]);
    assert_eq!(ran, Ran { code: Some(0), out: "h1 is on\n".into(), err: String::new() });
    assert_eq!(input(), "ipaddr=localhost\naction=status\nplug=h1\n");
    assert_eq!(halo("off", &["status", "h1", "-f", "powerman"]).out, "h1 is off\n");
    let ran = halo("on", &["off", "h[1-2]", "-f", "redfish", "-l", "root", "-p", "secret"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), "h1 Fence: Success\nh2 Fence: Success\n"));
    assert_eq!(input(), "ipaddr=h2\naction=off\nusername=root\npassword=secret\nssl-insecure=true\n");
    // Nobody is there to give it.
    let ran = halo("on", &["off", "h1", "-f", "redfish", "-l", "root", "-p", "-"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(2), "halo: there is no password on standard input\n"));
    let mut called = program("sh");
    called.args([
        "-c",
        "echo hidden | \"$0\" power off h1 -f redfish -l root -p -",
        env!("CARGO_BIN_EXE_halo"),
    ]);
    called.env("COORDINATOOL_FENCE_PATH", directory.path());
    assert_eq!(run(called).code, Some(0));
    assert!(input().contains("\npassword=hidden\n"), "{}", input());
    let ran = halo("bad", &["off", "h1", "-f", "powerman"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.err, "h1 Fence result: Failure: exit status: 1: bad\n");
    // 2 means off only as an answer to `status`.
    assert_eq!(halo("off", &["off", "h1", "-f", "powerman"]).code, Some(1));
    assert_eq!(halo("on", &["off", "h1", "-f", "redfish"]).code, Some(2));
    assert_eq!(halo("on", &["off", "h1", "-f", "other"]).code, Some(2));
    let ran = halo("on", &["off", "h1"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("no manager listens on /no/such/socket"), "{ran:?}");
}

#[test]
fn without_a_manager_the_socket_is_named() {
    for arguments in
        [&["status"][..], &["events", "show"], &["fence", "h1"], &["manage", "p"], &["power", "status"]]
    {
        let mut called = program("halo");
        called.args(arguments).args(["--socket", "/no/such/socket"]);
        let ran = run(called);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.starts_with("halo: no manager listens on /no/such/socket"), "{ran:?}");
    }
}
