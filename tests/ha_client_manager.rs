//! The command lines against the real manager. Its hosts are not there; what needs agents is tested elsewhere.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ha_client_support;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ha_client_support::{Ran, program, run};
use harness::{Process, patience, poll};
use serde_json::Value;
use tempfile::TempDir;

const CONFIG: &str = "\
hosts:
- {hostname: oss1, address: 127.0.0.1, port: PORT1}
- {hostname: oss2, address: 127.0.0.1, port: PORT2}
resources:
- {name: pool1, kind: lab/res, parameters: {name: a}, dependents: [ost1]}
- {name: ost1, kind: lab/res, parameters: {name: b}, dependents: []}
resource_groups:
- {root: pool1, home_host: oss1, failover_hosts: [oss2]}
";

/// A manager and where it lives.
struct Live {
    directory: TempDir,
    manager: Process,
    /// Nobody else gets the ports while these are held; nobody answers there either.
    _ports: [TcpListener; 2],
}

impl Live {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [first, second] =
            [0, 1].map(|index: usize| ports[index].local_addr().unwrap().port().to_string());
        let config = CONFIG.replace("PORT1", &first).replace("PORT2", &second);
        std::fs::write(directory.path().join("ha.yaml"), config).unwrap();
        let manager = Self::spawn(&directory);
        let live = Self { directory, manager, _ports: ports };
        live.wait();
        live
    }

    fn spawn(directory: &TempDir) -> Process {
        let path = |name: &str| directory.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_coordinatool"));
        command.arg("ha-manager").arg("--config").arg(path("ha.yaml")).arg("--socket").arg(path("ha.sock"));
        command.arg("--state-dir").arg(path("state")).arg("--statefile").arg(path("none"));
        command.args(["--manage-resources", "--insecure-loopback"]).stdin(Stdio::null());
        Process::spawn("manager", command, &path("log"))
    }

    fn wait(&self) {
        poll(patience(), || (self.ha(&["status"]).code == Some(0)).then_some(()))
            .expect("the manager answers");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn ha(&self, arguments: &[&str]) -> Ran {
        let mut command = program("coordinatool-client");
        command.arg("ha").args(arguments).env("COORDINATOOL_HA_SOCKET", self.path("ha.sock"));
        run(command)
    }

    fn good(&self, arguments: &[&str]) -> String {
        let ran = self.ha(arguments);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}: {ran:?}");
        ran.out
    }

    fn halo(&self, arguments: &[&str]) -> Ran {
        let mut command = program("halo");
        command.args(arguments).env("HALO_SOCKET", self.path("ha.sock"));
        run(command)
    }
}

#[test]
fn what_is_done_is_seen() {
    let live = Live::start();
    let status = live.good(&["status"]);
    assert!(
        status.starts_with("Cluster lustre: managed (epoch 1)\n") && status.contains("\n  ost1 "),
        "{status}"
    );
    let out = live.good(&["unmanage", "pool1", "--reason", "a test"]);
    assert!(out.ends_with("\ndone\n"), "{out}");
    assert!(live.good(&["status", "-x"]).contains("unmanaged"));
    assert!(live.good(&["history", "pool1"]).contains("unmanage        pool1: a test (by "));
    // Refused, each for its own reason.
    for (arguments, words) in [
        (&["fence", "oss9"][..], "'oss9'"),
        (&["reset", "oss1"], "Could not reset 'oss1': Host has not been fenced."),
        (&["manage", "ost1"], "Specify root resource ID."),
        (&["move", "pool1"], "pool1"),
        (&["start", "nothing"], "nothing"),
        (&["wait", "99"], "99"),
    ] {
        let ran = live.ha(arguments);
        assert_eq!(ran.code, Some(1), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(words), "{arguments:?}: {ran:?}");
    }
    let out = live.good(&["manage", "pool1", "--dry-run", "--json"]);
    let line: Value = serde_json::from_str(&out).unwrap();
    assert!(line["command"].is_null() && line["consequences"].is_array(), "{line}");
    let out = live.good(&["maintenance", "pool1", "--for", "1h", "--json"]);
    let line: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(line["progress"]["state"], "done", "{line}");
    assert!(live.good(&["status", "-x"]).contains("maintenance until"));
    live.good(&["maintenance", "pool1", "--end"]);
    let number = line["command"].to_string();
    assert!(live.good(&["wait", &number]).starts_with("done"));
    let events: Vec<Value> =
        live.good(&["events", "--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().any(|event| event["event"] == "unmanage" && event["object"] == "pool1"));
    assert!(live.good(&["events", "--object", "oss7"]).is_empty());
    live.good(&["events", "clear"]);
    assert!(!live.good(&["events"]).contains("unmanage"), "they are cleared");
    assert!(live.good(&["history", "pool1"]).contains("unmanage"), "but not lost");
}

#[test]
fn a_file_that_changed_is_loaded_or_refused() {
    let live = Live::start();
    assert!(live.ha(&["reload", "--dry-run"]).out.contains("what is in use already"));
    let text = std::fs::read_to_string(live.path("ha.yaml")).unwrap();
    std::fs::write(live.path("ha.yaml"), text.replace("name: b}", "name: c}")).unwrap();
    let ran = live.ha(&["reload", "--dry-run"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("ost1"), "{ran:?}");
    let ran = live.ha(&["reload", "-y"]);
    assert!(ran.code == Some(0) && ran.out.ends_with("done\n"), "{ran:?}");
    assert!(live.ha(&["reload", "--dry-run"]).out.contains("what is in use already"));
    std::fs::write(live.path("ha.yaml"), text.replace("oss1, failover", "oss3, failover")).unwrap();
    let ran = live.ha(&["reload"]);
    assert_eq!(ran.code, Some(64), "{ran:?}");
    assert!(ran.err.contains("ha.yaml:8: ") && ran.err.contains("oss3"), "{ran:?}");
    assert_eq!(live.ha(&["reload", "-y"]).code, Some(64), "not asking makes no difference");
}

#[test]
fn halo_gets_what_halo_gives() {
    let live = Live::start();
    let ran = live.halo(&["status"]);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[0].starts_with("pool1               \t(lab/res)\tUnknown"), "{ran:?}");
    assert!(lines[1].starts_with(" ost1               \t(lab/res)\tUnknown"), "{ran:?}");
    assert_eq!(
        lines[2..6],
        ["", "Connected hosts:\t", "Disconnected hosts:\toss[1-2]", "Events: "],
        "{ran:?}"
    );
    let ran = live.halo(&["unmanage", "pool1", "--reason", "a test"]);
    assert_eq!(ran, Ran { code: Some(0), out: String::new(), err: String::new() });
    let shown = live.halo(&["status", "-e", "1"]).out;
    assert!(shown.contains(" (Unmanaged)\n"), "{shown}");
    assert!(shown.ends_with(" event=unmanage object=pool1 comment=\"a test\"\n"), "{shown}");
    for (arguments, words) in [
        (&["unmanage", "x"][..], "Could not update 'x': Resource group not found.\n"),
        (&["fence", "x"], "Could not fence 'x': host not found.\n"),
        (&["reset", "oss1"], "Could not reset 'oss1': Host has not been fenced.\n"),
    ] {
        assert_eq!(live.halo(arguments), Ran { code: Some(1), out: String::new(), err: words.into() });
    }
    assert_eq!(live.halo(&["events", "clear"]).code, Some(0));
    assert!(!live.halo(&["status"]).out.contains("event=unmanage"));
    assert!(live.halo(&["events", "show"]).out.contains("event=unmanage"));
}

/// Who waits for a command waits for the manager as well; who follows events goes on following.
#[test]
fn a_manager_may_restart() {
    let mut live = Live::start();
    let mut command = program("coordinatool-client");
    command.args(["ha", "events", "--follow"]).env("COORDINATOOL_HA_SOCKET", live.path("ha.sock"));
    let follow = Process::spawn("follow", command, &live.path("followed"));
    let file = live.path("followed");
    let followed = || std::fs::read_to_string(&file).unwrap_or_default();
    poll(patience(), || followed().contains("epoch 1").then_some(())).expect("it shows what was");
    live.manager.signal(harness::Signal::KILL);
    poll(patience(), || followed().contains("lost the manager").then_some(())).expect("it notices");
    let again = Live::spawn(&live.directory);
    poll(patience(), || followed().contains("epoch 2").then_some(())).expect("it goes on");
    assert_eq!(followed().matches("epoch 1").count(), 1, "{}", followed());
    drop((follow, again));
}
