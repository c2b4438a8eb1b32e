//! Fence agents that fail, hang or lie.

use harness::ha::{Cluster, Fencing, Shape};
use harness::json;

use crate::{NOBODY, at_home, running, waits};

/// Levels of fencing for h1, each a fence agent and how long it may take.
fn levels(shape: Shape, directory: &str, agents: &[(&str, &str)]) -> Shape {
    let level = |(agent, timeout): &(&str, &str)| {
        format!(
            "    - agent: {agent}\n      parameters: {{dir: {directory}}}\n      timeout: {timeout}\n      attempts: 1\n"
        )
    };
    let yaml: String = agents.iter().map(level).collect();
    shape.fencing("h1", Fencing::Yaml(yaml.trim_end().to_owned()))
}

/// A pair whose groups run at home; h1 has these levels.
fn with_levels(agents: &[(&str, &str)]) -> Cluster {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.install_fence_agent("fence_gone");
    let directory = cluster.directory().display().to_string();
    cluster.reshape(|shape| *shape = levels(shape.clone(), &directory, agents));
    cluster.start_agents();
    cluster.start_manager();
    cluster.wait_connected();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    cluster
}

/// What runs on h1 is only there, and what is wrong is said.
fn assert_nothing_moved(cluster: &Cluster) {
    cluster.settle();
    assert!(cluster.is_placed("g0", "h0") && cluster.is_placed("g1", "h1"), "{:?}", cluster.active());
    assert_eq!(cluster.count("start", "g1", "h0"), 0);
}

/// Nothing is started while the other host may live. Once the device works again, it needs no more than a command.
#[test]
fn fencing_fails_and_is_mended() {
    let mut cluster = at_home();
    cluster.behave("fence.off.h1", &["code 1", "say the plug is stuck"]);
    cluster.kill_agent("h1");
    cluster.wait("it is tried again", |status| {
        status
            .group("g1")
            .waits_for
            .iter()
            .any(|what| what.contains("fencing h1 failed and is tried again: "))
    });
    assert_nothing_moved(&cluster);
    cluster.behave("fence.off.h1", &[]);
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_eq!(cluster.fenced(), ["h1 off", "h1 off"]);
    assert!(cluster.status().host("h1").fenced);
}

/// The operator need not wait for the next attempt, and the group is started after a fencing by hand as after any other.
#[test]
fn fencing_fails_and_the_operator_helps() {
    let mut cluster = at_home();
    cluster.behave("fence.off.h1", &["code 1"]);
    cluster.kill_agent("h1");
    cluster
        .wait("it is tried again", |status| status.has_alert("g1", "fencing h1 failed and is tried again: "));
    assert_nothing_moved(&cluster);
    cluster.behave("fence.off.h1", &[]);
    cluster.command_with("hosts/h1/fence", &json!({"force": true})).unwrap();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.start_agent("h1");
    cluster.wait_host("h1", "connected");
    cluster.command("hosts/h1/failback").unwrap();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert_eq!(cluster.fenced(), ["h1 off", "h1 off"]);
}

/// It is killed when its time is over; the next level is tried. Everything else goes on meanwhile.
#[test]
fn a_fence_agent_hangs() {
    let mut cluster = with_levels(&[("fence_test", "1s"), ("fence_test", "5s")]);
    cluster.behave("fence.off.h1", &["hang", "once"]);
    cluster.kill_agent("h1");
    cluster.wait_until("it hangs", |cluster| !cluster.fenced().is_empty());
    cluster.stop_by_hand("g0c");
    cluster.wait_until("the other group is looked after", |cluster| cluster.count("start", "g0c", "h0") == 2);
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_eq!(cluster.fenced(), ["h1 off", "h1 off"]);
}

#[test]
fn a_fence_agent_prints_too_much() {
    let mut cluster = at_home();
    cluster.behave("fence.off.h1", &["flood"]);
    cluster.behave("fence.status.h1", &["flood"]);
    cluster.kill_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
}

/// The next level does it.
#[test]
fn a_fence_agent_is_not_installed() {
    let mut cluster = with_levels(&[("fence_gone", "5s"), ("fence_test", "5s")]);
    cluster.remove_fence_agent("fence_gone");
    cluster.kill_agent("h1");
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_eq!(cluster.fenced(), ["h1 off"]);
}

#[test]
fn the_only_fence_agent_is_not_installed() {
    let mut cluster = with_levels(&[("fence_gone", "5s")]);
    cluster.remove_fence_agent("fence_gone");
    cluster.kill_agent("h1");
    cluster.wait("it is said", |status| {
        status.group("g1").waits_for.iter().any(|what| what.contains("fencing h1 failed"))
    });
    let failure = cluster.wait_event("fence_failed", "h1");
    assert!(failure.contains("fence_gone is not installed"), "{failure}");
    assert_nothing_moved(&cluster);
}

/// It says that it has done it and has not; asked, it says so.
#[test]
fn a_fence_agent_does_nothing() {
    let mut cluster = at_home();
    cluster.behave("fence.off.h1", &["idle"]);
    cluster.kill_agent("h1");
    cluster.wait("it is not believed", |status| {
        status.group("g1").waits_for.iter().any(|what| what.contains("fencing h1 failed"))
    });
    assert_nothing_moved(&cluster);
}

/// It says that the host is off, and goes on saying so, but the host goes on to talk.
#[test]
fn a_fence_agent_lies() {
    let cluster = at_home();
    cluster.behave("fence.off.h1", &["lie"]);
    let failure = cluster.command("hosts/h1/fence").unwrap_err();
    assert!(failure.contains("its agent was heard after that"), "{failure}");
    assert_nothing_moved(&cluster);
    cluster.wait("its devices are not believed", |status| {
        status.alerts.iter().any(|alert| {
            alert.object == "h1" && alert.command.as_deref() == Some("coordinatool-client ha reset h1")
        })
    });
}

/// The plugs are mixed up: the host that shall take over falls silent. Nothing is started before that is understood.
#[test]
fn the_wrong_plug() {
    let mut cluster = running(Shape::pair().group(crate::alone("g2", "h0", &["h1"])));
    cluster.behave("fence.off.h1", &["lie"]);
    cluster.behave("fence.off.h0", &["idle"]);
    cluster.pause_agent("h1");
    cluster.wait_until("it is fenced", |cluster| !cluster.fenced().is_empty());
    cluster.pause_agent("h0");
    cluster.wait("it is understood", |status| status.has_alert("h1", "is it the right plug?"));
    cluster.resume_agent("h0");
    cluster.resume_agent("h1");
    cluster.wait_connected();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1"), ("g2", "h0")]);
    assert_nothing_moved(&cluster);
}

/// Nobody can know that it is off but somebody who looks.
#[test]
fn a_host_has_no_fence_device() {
    let mut cluster = running(Shape::pair().fencing("h1", Fencing::None));
    cluster.wait("that is said before it matters", |status| status.has_alert("h1", "it has no fence device"));
    cluster.power_off("h1");
    cluster.wait("it says what helps", |status| {
        status.has_alert("g1", "once you have seen that it is off: coordinatool-client ha confirm-off h1")
    });
    cluster.settle();
    assert!(cluster.manager_ended().is_none());
    assert_eq!(cluster.count("start", "g1", "h0"), 0);
    cluster.command("hosts/h1/confirm_off").unwrap();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_eq!(cluster.fenced(), NOBODY);
}

/// One is enough.
#[test]
fn an_operator_fences_what_is_being_fenced() {
    let mut cluster = at_home();
    cluster.behave("fence.off.h1", &["delay 2"]);
    cluster.kill_agent("h1");
    cluster.wait_until("it is being fenced", |cluster| !cluster.fenced().is_empty());
    let (code, why) = cluster.order("hosts/h1/fence", &json!({"force": true})).unwrap_err();
    assert_eq!(code, 409);
    assert!(why.contains("already in progress"), "{why}");
    assert!(waits(&cluster, "g1").contains("h1 is being powered off"));
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    assert_eq!(cluster.fenced(), ["h1 off"]);
}
