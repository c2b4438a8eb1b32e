//! Resource agents that fail or hang.

use harness::ha::{Cluster, GroupShape, Shape};
use serde_json::json;

use crate::{NOBODY, alone, at_home, running};

/// Operations that are killed after a second.
const SHORT: &str = "operations: {start: {timeout: 1s}, stop: {timeout: 1s}, monitor: {timeout: 1s}}";

/// Groups `c1`, `c2`, ... of one resource each at home on h0, one for each exit code; 0 stands for a signal.
fn of_each(codes: &[u32]) -> Shape {
    codes.iter().fold(Shape::hosts(2), |shape, code| shape.group(alone(&format!("c{code}"), "h0", &["h1"])))
}

/// What makes an action end so, once.
fn end_once(code: u32) -> [String; 2] {
    ["once".to_owned(), if code == 0 { "die".to_owned() } else { format!("code {code}") }]
}

fn behave(cluster: &Cluster, what: &str, code: u32) {
    let words = end_once(code);
    cluster.behave(what, &[&words[0], &words[1]]);
}

/// All others of the agent go on meanwhile, and it is killed and recovered in place.
#[test]
fn a_monitor_hangs() {
    let shape = Shape::hosts(2)
        .group(alone("hung", "h0", &["h1"]).resource_key(SHORT))
        .group(GroupShape::new("g0", "h0", &["h1"]));
    let cluster = running(shape);
    cluster.behave("hung.monitor", &["hang", "stubborn", "once"]);
    cluster.wait_until("it hangs", |cluster| !cluster.directory().join("control/hung.monitor").exists());
    cluster.stop_by_hand("g0c");
    cluster.wait_until("another resource is restarted", |cluster| cluster.count("start", "g0c", "h0") == 2);
    cluster.wait("the monitor's time is over", |status| !status.resource("hung").failures.is_empty());
    let status = cluster.wait_placed(&[("hung", "h0"), ("g0", "h0")]);
    let failure = &status.resource("hung").failures[0];
    assert_eq!((failure.action.as_str(), failure.what.as_str()), ("monitor", "timed out"));
    assert_eq!(cluster.fenced(), NOBODY);
}

/// It is killed, and after it was tried often enough the group runs on the other host.
#[test]
fn a_start_hangs() {
    let group = alone("hung", "h0", &["h1"]).resource_key(SHORT).resource_key("failures: {retries: 0}");
    let mut cluster = Cluster::new(Shape::hosts(2).group(group));
    cluster.behave("hung.start.h0", &["hang", "stubborn"]);
    cluster.start_agents();
    cluster.start_manager();
    cluster.wait_placed(&[("hung", "h1")]);
    assert_eq!((cluster.count("start", "hung", "h0"), cluster.fenced()), (1, vec![]));
}

#[test]
fn a_host_is_deactivated_while_a_start_hangs_there() {
    let mut cluster = Cluster::new(Shape::hosts(2).group(alone("hung", "h0", &["h1"]).resource_key(SHORT)));
    cluster.behave("hung.start.h0", &["hang"]);
    cluster.start_agents();
    cluster.start_manager();
    cluster.wait_until("it hangs", |cluster| cluster.count("start", "hung", "h0") == 1);
    cluster.command("hosts/h0/deactivate").unwrap();
    cluster.wait_placed(&[("hung", "h1")]);
}

#[test]
fn a_stop_hangs_once() {
    let cluster = running(Shape::hosts(2).group(alone("hung", "h0", &["h1"]).resource_key(SHORT)));
    cluster.behave("hung.stop", &["hang", "once"]);
    cluster.command_with("groups/hung/move", &json!({"to": "h1"})).unwrap();
    cluster.wait_placed(&[("hung", "h1")]);
    assert_eq!(cluster.fenced(), NOBODY, "the second attempt was enough");
}

/// What cannot be stopped does not go away by waiting: its host is fenced, which the other groups survive.
#[test]
fn a_stop_always_fails() {
    let cluster = running(Shape::pair());
    cluster.behave("g0.stop", &["code 1", "reason it is busy"]);
    cluster.order("groups/g0/move", &json!({"to": "h1"})).unwrap();
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    assert_eq!(cluster.fenced(), ["h0 off"]);
    assert!(cluster.happened("must_fence", "h0") > 0);
}

/// What may be broken is stopped and started again, here. What "is not there" is looked for again before it is started: as
/// it is there, nothing needs to be done. None is given up.
#[test]
fn exit_codes_of_monitor() {
    let (broken, absent, well) = ([1, 2, 3, 4, 6, 9, 137, 0], [5, 7], [8, 190]);
    let codes: Vec<u32> = broken.iter().chain(&absent).chain(&well).copied().collect();
    let cluster = running(of_each(&codes));
    for code in &codes {
        behave(&cluster, &format!("c{code}.monitor.h0"), *code);
    }
    for code in codes {
        let name = format!("c{code}");
        cluster.wait_until(&format!("{code} was told"), |cluster| {
            !cluster.directory().join(format!("control/{name}.monitor.h0")).exists()
        });
        let met = |started: usize, stopped: usize| {
            cluster.wait_until(&format!("{code} is met"), |cluster| {
                cluster.count("start", &name, "h0") == started
                    && cluster.count("stop", &name, "h0") == stopped
            });
        };
        if broken.contains(&code) {
            met(2, 1)
        } else {
            met(1, 0)
        }
        if !well.contains(&code) {
            cluster.wait("it is noted", |status| !status.resource(&name).failures.is_empty());
        }
        cluster.wait_placed(&[(&name, "h0")]);
    }
    cluster.settle();
    let status = cluster.status();
    assert!(well.iter().all(|code| status.resource(&format!("c{code}")).failures.is_empty()));
    assert_eq!(cluster.fenced(), NOBODY);
}

/// What another attempt may mend is tried here again; where this host lacks something, the other one runs it; a wrong
/// configuration is tried nowhere else, until it is cleared.
#[test]
fn exit_codes_of_start() {
    let (soft, hard, fatal) = ([1, 7, 8, 9, 137, 190, 0], [2, 3, 4, 5], [6]);
    let codes: Vec<u32> = soft.iter().chain(&hard).chain(&fatal).copied().collect();
    let mut cluster = Cluster::new(of_each(&codes));
    for code in &codes {
        behave(&cluster, &format!("c{code}.start.h0"), *code);
    }
    cluster.start_agents();
    cluster.start_manager();
    for (codes, host) in [(&soft[..], "h0"), (&hard, "h1")] {
        for code in codes {
            let name = format!("c{code}");
            cluster.wait_placed(&[(&name, host)]);
            assert_eq!(cluster.status().resource(&name).failures.len(), 1, "{code}");
        }
    }
    let status = cluster.wait_phase(&["c6"], "failed");
    assert!(status.has_alert("c6", "coordinatool-client ha clear c6"), "{:?}", status.alerts);
    assert_eq!(cluster.count("start", "c6", "h1"), 0);
    cluster.command("groups/c6/clear").unwrap();
    cluster.wait_placed(&[("c6", "h0")]);
    assert_eq!(cluster.fenced(), NOBODY);
}

/// Whatever code it is: it is tried again, the host is not left half empty, and nobody is fenced for one failure.
#[test]
fn exit_codes_of_stop() {
    let codes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 137, 190, 0];
    let cluster = running(of_each(&codes));
    for code in codes {
        behave(&cluster, &format!("c{code}.stop"), code);
    }
    // All others are gone before it is known that this one is not.
    cluster.behave("c1.probe.h0", &["delay 2", "once"]);
    cluster.command("hosts/h0/deactivate").unwrap();
    let left: Vec<_> = cluster.active().into_iter().filter(|(_, host)| host == "h0").collect();
    assert_eq!(left, [], "the command did not end before");
    let names: Vec<String> = codes.iter().map(|code| format!("c{code}")).collect();
    let placed: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "h1")).collect();
    cluster.wait_placed(&placed);
    assert_eq!(cluster.fenced(), NOBODY);
}

/// Root and children, each in its turn.
#[test]
fn a_resource_that_dies_is_started_again_in_place() {
    let cluster = at_home();
    for (number, member) in ["g0c", "g0"].into_iter().enumerate() {
        cluster.stop_by_hand(member);
        cluster.wait_until("it is back", |cluster| cluster.count("start", member, "h0") == 2);
        cluster.wait_placed(&[("g0", "h0")]);
        assert_eq!(cluster.events().iter().filter(|event| event.event == "failed").count(), number + 1);
    }
    assert_eq!(cluster.count("start", "g0", "h1"), 0);
}

/// It is restarted a few times, then it runs on the other host.
#[test]
fn a_resource_that_flaps_on_one_host_is_moved() {
    let cluster = running(Shape::hosts(2).group(
        GroupShape::new("g0", "h0", &["h1"]).resource_key("failures: {retries: 1, threshold: 9, window: 1h}"),
    ));
    cluster.behave("g0c.monitor.h0", &["code 1"]);
    cluster.wait_placed(&[("g0", "h1")]);
    assert_eq!(cluster.count("start", "g0c", "h0"), 2);
    assert_eq!(cluster.fenced(), NOBODY);
}

/// There is a limit, and when it is reached it is said what helps.
#[test]
fn a_resource_that_flaps_everywhere_is_given_up_visibly() {
    let cluster =
        running(Shape::hosts(2).group(
            alone("g0", "h0", &["h1"]).resource_key("failures: {retries: 1, threshold: 3, window: 1h}"),
        ));
    cluster.behave("g0.monitor", &["code 1"]);
    let status = cluster.wait_phase(&["g0"], "failed");
    assert!(status.has_alert("g0", "coordinatool-client ha clear g0"), "{:?}", status.alerts);
    let starts = cluster.count("start", "g0", "h0") + cluster.count("start", "g0", "h1");
    assert_eq!(starts, 3, "one for each failure");
    cluster.behave("g0.monitor", &[]);
    cluster.command("groups/g0/clear").unwrap();
    cluster.wait("it runs again", |status| status.group("g0").phase == "running");
}

/// A group that has failed belongs to those that move when their host dies.
#[test]
fn a_host_dies_after_a_failure() {
    let three = |mut group: GroupShape| {
        group.children.push(format!("{}d", group.root));
        group
    };
    let shape =
        Shape::hosts(2).group(three(GroupShape::new("g0", "h0", &["h1"]))).group(alone("g1", "h0", &["h1"]));
    let mut cluster = Cluster::new(shape);
    cluster.behave("g1.start.h0", &["code 1", "once"]);
    cluster.start_agents();
    cluster.start_manager();
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.behave("g0c.monitor.h0", &["code 1", "once"]);
    cluster.wait("it is noticed", |status| !status.resource("g0c").failures.is_empty());
    cluster.stop_by_hand("g0d");
    cluster.wait("so is its sibling", |status| !status.resource("g0d").failures.is_empty());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
    cluster.kill_agent("h0");
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    assert_eq!(cluster.fenced(), ["h0 off"]);
}

/// That is what services do.
#[test]
fn a_start_leaves_a_process_behind() {
    let mut cluster = Cluster::new(Shape::hosts(2).group(alone("g0", "h0", &["h1"])));
    cluster.behave("g0.start.h0", &["fork"]);
    cluster.start_agents();
    cluster.start_manager();
    cluster.wait_placed(&[("g0", "h0")]);
    cluster.settle();
    cluster.wait_placed(&[("g0", "h0")]);
    assert_eq!((cluster.count("start", "g0", "h0"), cluster.fenced()), (1, vec![]));
}

/// Something of it is still there, whatever its exit code says: it is killed before the group is started elsewhere.
#[test]
fn a_stop_leaves_a_process_behind() {
    let cluster = running(Shape::pair());
    cluster.behave("g0.stop.h0", &["fork"]);
    cluster.order("groups/g0/move", &json!({"to": "h1"})).unwrap();
    cluster.wait_placed(&[("g0", "h1"), ("g1", "h1")]);
    cluster.wait_until("nothing of it is left", |cluster| cluster.operations_on("h0") == 0);
    assert_eq!(cluster.fenced(), NOBODY);
}

/// The agent that comes next finds what it was doing, and nothing is begun twice.
#[test]
fn an_agent_is_killed_while_it_starts_a_resource() {
    let mut cluster =
        Cluster::new(Shape::hosts(2).group(alone("g0", "h0", &["h1"])).set("agent_grace", "30s"));
    cluster.behave("g0.start.h0", &["delay 2"]);
    cluster.start_agents();
    cluster.start_manager();
    cluster.wait_until("it is being started", |cluster| cluster.count("start", "g0", "h0") == 1);
    cluster.kill_agent("h0");
    cluster.start_agent("h0");
    cluster.wait_placed(&[("g0", "h0")]);
    cluster.settle();
    assert_eq!((cluster.count("start", "g0", "h0"), cluster.count("start", "g0", "h1")), (1, 0));
    assert_eq!(cluster.fenced(), NOBODY);
}
