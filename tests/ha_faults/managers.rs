//! Managers that die, or are two, or cannot store anything.

use std::fs;
use std::process::Command;

use harness::ha::{Cluster, Shape};
use harness::{Signal, patience, poll, skip};
use serde_json::json;

use crate::{NOBODY, acts, alone, at_home, running};

/// Kills the manager as soon as something is so while h1 fails, and starts it again: it goes on.
fn killed_when(
    what: &str,
    shape: Shape,
    prepare: impl Fn(&Cluster),
    now: impl Fn(&Cluster) -> bool,
) -> Cluster {
    let mut cluster = running(shape);
    prepare(&cluster);
    cluster.kill_agent("h1");
    cluster.wait_until(what, now);
    cluster.crash_manager();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_eq!(cluster.count("start", "g0", "h0"), 1, "the other group was left alone");
    cluster
}

/// The next one has never seen that host. Where the operator wants it, that is no reason to wait for a word.
#[test]
fn a_manager_is_killed_when_a_host_is_found_lost() {
    let lost = |cluster: &Cluster| cluster.happened("lost", "h1") > 0;
    killed_when("h1 is lost", Shape::pair().set("startup_fencing", "true"), |_| (), lost);
}

/// The orphan of the fence agent may go on for as long as it is allowed to: nothing is done before, unless the operator knows
/// more.
#[test]
fn a_manager_is_killed_while_it_fences() {
    let mut cluster = at_home();
    cluster.behave("fence.off.h1", &["hang"]);
    cluster.kill_agent("h1");
    cluster.wait_until("h1 is being fenced", |cluster| !cluster.fenced().is_empty());
    cluster.crash_manager();
    let helps = "is waited out; once you have seen that it is off: coordinatool-client ha confirm-off h1";
    cluster.wait("it says what it waits for", |status| status.has_alert("g1", helps));
    cluster.settle();
    assert!(cluster.is_placed("g0", "h0") && cluster.is_placed("g1", "h1"));
    cluster.power_off("h1");
    cluster.command("hosts/h1/confirm_off").unwrap();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_eq!(cluster.fenced(), ["h1 off"], "it was not fenced twice");
}

/// Without an operator, its successor waits as long as that one call may live, asks the device, and does it again.
#[test]
fn a_fencing_in_which_a_manager_was_killed_is_taken_up_again() {
    let mut cluster = at_home();
    cluster.behave("fence.off.h1", &["hang"]);
    cluster.kill_agent("h1");
    cluster.wait_until("h1 is being fenced", |cluster| !cluster.fenced().is_empty());
    cluster.behave("fence.off.h1", &[]);
    cluster.crash_manager();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_eq!(cluster.fenced(), ["h1 off", "h1 off"]);
}

#[test]
fn a_manager_is_killed_after_fencing() {
    // The proof that it is off is all that the next step needs.
    let slow = |cluster: &Cluster| cluster.behave("g1.probe.h0", &["delay 1"]);
    let off = |cluster: &Cluster| cluster.happened("fence", "h1") > 0;
    let cluster = killed_when("h1 is off", Shape::pair(), slow, off);
    assert_eq!(cluster.fenced(), ["h1 off"]);
}

/// The start goes on without it, and is not begun a second time.
#[test]
fn a_manager_is_killed_while_the_root_starts() {
    let slow = |cluster: &Cluster| cluster.behave("g1.start.h0", &["delay 1"]);
    let starting = |cluster: &Cluster| cluster.count("start", "g1", "h0") > 0;
    let cluster = killed_when("the root is being started", Shape::pair(), slow, starting);
    assert_eq!(cluster.count("start", "g1", "h0"), 1);
    assert_eq!(cluster.fenced(), ["h1 off"]);
}

#[test]
fn a_manager_is_killed_while_a_child_starts() {
    let slow = |cluster: &Cluster| cluster.behave("g1c.start.h0", &["delay 1"]);
    let starting = |cluster: &Cluster| cluster.count("start", "g1c", "h0") > 0;
    let cluster = killed_when("the child is being started", Shape::pair(), slow, starting);
    assert_eq!((cluster.count("start", "g1", "h0"), cluster.count("start", "g1c", "h0")), (1, 1));
    assert_eq!(cluster.fenced(), ["h1 off"]);
}

/// What an operator had decided stays in force.
#[test]
fn a_manager_is_killed_while_a_group_is_moved() {
    let mut cluster = at_home();
    cluster.behave("g0.stop", &["delay 1"]);
    cluster.order("groups/g0/move", &json!({"to": "h1"})).unwrap();
    cluster.wait_until("it is being stopped", |cluster| cluster.count("stop", "g0", "h0") == 1);
    cluster.crash_manager();
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    assert_eq!(cluster.fenced(), NOBODY);
}

#[test]
fn a_manager_is_killed_again_and_again() {
    let mut cluster = at_home();
    let before = acts(&cluster);
    for _ in 0..5 {
        cluster.crash_manager();
    }
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert_eq!((acts(&cluster), cluster.fenced()), (before, vec![]));
}

/// All heartbeats are old when it goes on: that is its own fault, not that of the hosts.
#[test]
fn a_manager_stands_still() {
    let mut cluster = at_home();
    let before = acts(&cluster);
    for _ in 0..2 {
        cluster.signal_manager(Signal::STOP);
        // More than the time after which a silent host is lost.
        std::thread::sleep(std::time::Duration::from_millis(2500));
        cluster.signal_manager(Signal::CONT);
        cluster.wait_connected();
    }
    cluster.settle();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert_eq!((acts(&cluster), cluster.fenced()), (before, vec![]));
}

/// A start that nobody waits for any more: its agent and the manager were both restarted.
#[test]
fn a_slow_start_outlives_its_agent_and_its_manager() {
    let mut cluster = running(Shape::hosts(2).group(alone("g0", "h0", &["h1"])).set("agent_grace", "30s"));
    cluster.behave("g0.start.h1", &["delay 4"]);
    cluster.order("groups/g0/move", &json!({"to": "h1"})).unwrap();
    cluster.wait_until("it is being started", |cluster| cluster.count("start", "g0", "h1") == 1);
    cluster.kill_agent("h1");
    cluster.kill_manager();
    cluster.start_agent("h1");
    cluster.start_manager();
    cluster.wait_host("h1", "connected");
    cluster.wait_placed(&[("g0", "h1")]);
    assert_eq!(cluster.count("start", "g0", "h0"), 1, "it was not started where it came from");
}

/// The same manager cannot run twice.
#[test]
fn a_second_manager_with_the_same_state_ends_at_once() {
    let cluster = at_home();
    let mut command: Command = cluster.manager_command("manager");
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("another manager"), "{text}");
    cluster.settle();
    assert!(cluster.is_placed("g0", "h0") && cluster.is_placed("g1", "h1"));
}

/// Agents obey one manager until an operator says otherwise; then the other one only observes.
#[test]
fn two_managers() {
    let mut cluster = at_home();
    let before = acts(&cluster);
    cluster.start_manager_as("other");
    let refused = |status: &harness::ha::Status| {
        status.alerts.iter().any(|alert| {
            alert.text.contains("obeys another manager")
                && alert.command.as_deref() == Some("coordinatool-client ha takeover")
        })
    };
    cluster.wait_as("other", "it is refused, and says what helps", refused);
    cluster.settle();
    assert_eq!((acts(&cluster), cluster.fenced()), (before, vec![]));
    // What the first one does is not undone by the second.
    cluster.command_with("groups/g0/move", &json!({"to": "h1"})).unwrap();
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    cluster.settle();
    assert_eq!(cluster.count("start", "g0", "h0"), 1);

    let answer = cluster.ask_as("other", "POST", "/api/v1/ha/takeover", "{}").unwrap();
    assert_eq!(answer.code, 202, "{}", answer.body);
    cluster.wait_as("other", "it has taken over", |status| {
        ["g0", "g1"].iter().all(|group| status.runs_on(group, "h1"))
    });
    cluster.wait("the first one only observes", |status| status.superseded);
    let why = cluster.command_with("groups/g0/move", &json!({"to": "h0"})).unwrap_err();
    assert!(!why.is_empty());
    cluster.settle();
    assert!(cluster.is_placed("g0", "h1") && cluster.is_placed("g1", "h1"));
    assert_eq!(cluster.fenced(), NOBODY);
}

/// A manager that stood still is not the manager any more, if another one has taken over meanwhile.
#[test]
fn a_manager_wakes_up_after_another_took_over() {
    let mut cluster = at_home();
    let before = acts(&cluster);
    cluster.signal_manager(Signal::STOP);
    cluster.start_manager_as("other");
    cluster.ask_as("other", "POST", "/api/v1/ha/takeover", "{}").unwrap();
    cluster.wait_as("other", "it has taken over", |status| {
        status.runs_on("g0", "h0") && status.runs_on("g1", "h1")
    });
    cluster.signal_manager(Signal::CONT);
    cluster.wait("it only observes", |status| status.superseded);
    cluster.settle();
    assert_eq!((acts(&cluster), cluster.fenced()), (before, vec![]));
}

/// Without its state it knows nothing, and asks all agents before it does anything.
#[test]
fn the_state_is_lost() {
    let mut cluster = at_home();
    cluster.kill_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.kill_manager();
    fs::remove_dir_all(cluster.manager_state("manager")).unwrap();
    cluster.start_manager();
    let takes_over = poll(patience(), || cluster.status().alerts.into_iter().find_map(|alert| alert.command));
    assert_eq!(takes_over.as_deref(), Some("coordinatool-client ha takeover"));
    cluster.command("takeover").unwrap();
    cluster.wait_placed(&[("g0", "h0")]);
    cluster.settle();
    assert!(cluster.is_placed("g1", "h0"));
    assert_eq!(cluster.fenced(), ["h1 off"]);
}

/// Nothing is done that could not be stored before: it is said, and goes on as soon as there is room.
#[test]
fn the_state_directory_is_full() {
    const NAME: &str = "the_state_directory_is_full";
    let mut cluster = Cluster::new(Shape::pair());
    let state = cluster.manager_state("manager");
    fs::create_dir_all(&state).unwrap();
    let Some(_mount) = Small::mount(&state) else {
        return skip(NAME, "needs root, to mount a small file system");
    };
    cluster.start_agents();
    cluster.start_manager();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster.wait_connected();
    let fill = || {
        let mut size = 1 << 20;
        let mut number = 0;
        while size > 0 {
            number += 1;
            if fs::write(state.join(format!("fill.{number}")), vec![0_u8; size]).is_err() {
                size /= 2;
            }
        }
    };
    let full = |cluster: &Cluster| cluster.status().has_alert("cluster", "the state cannot be stored");
    fill();
    // There is some room left in the last block.
    let reason = "x".repeat(500);
    for _ in 0..20 {
        if full(&cluster) {
            break;
        }
        let mut client =
            cluster.client_command(&["power", "status", "h0", "--reason", &reason]).spawn().unwrap();
        let answered = poll(patience(), || {
            let ended = client.try_wait().unwrap().map(|status| status.success());
            ended.or_else(|| full(&cluster).then_some(false))
        });
        let _ = client.kill();
        client.wait().unwrap();
        assert!(answered.is_some(), "neither an answer nor an alert");
    }
    assert!(full(&cluster));
    cluster.kill_agent("h1");
    cluster.wait_host("h1", "lost");
    cluster.settle();
    assert_eq!(cluster.fenced(), NOBODY, "without a stored intent nobody is fenced");
    assert_eq!(cluster.count("start", "g1", "h0"), 0);
    for entry in fs::read_dir(&state).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("fill.") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.crash_manager();
    let status = cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert!(status.host("h1").fenced, "nothing was forgotten");
    cluster.stop_manager();
}

/// A file system of 1 MiB.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(at: &std::path::Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m,mode=0700", "none"]).arg(at);
        mount.output().is_ok_and(|output| output.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: the manager may have it open when the test fails.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
