//! High availability on one machine, without Lustre: four agents that each play a server, a manager, and groups whose
//! resources are files. A server dies, another hangs, one comes back, the manager is killed. What happens is shown as the
//! manager tells it; at the end it is counted from what the resource agents wrote down themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use harness::Programs;
use harness::ha::{Cluster, Fencing, GroupShape, Shape};

/// Groups with their homes: each is a pool and a target in it.
const GROUPS: [(&str, &str, &str); 4] = [
    ("pool-mdt0", "mds1", "mds2"),
    ("pool-mdt1", "mds2", "mds1"),
    ("pool-ost0", "oss1", "oss2"),
    ("pool-ost1", "oss2", "oss1"),
];

/// Time for the terminal, not for the cluster.
const SHOWN: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let shell = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--shell"] => true,
        _ => {
            eprintln!(
                "Usage: ha-demo [--shell]\n--shell opens a shell in which commands can be tried on the cluster.\nSet \
                 COORDINATOOL_KEEP_LOGS=1 to keep its files and logs."
            );
            return ExitCode::from(2);
        }
    };
    let mut cluster = Cluster::start(shape());
    step("Four servers, two pairs: every group is started at home");
    placed(&cluster, &[("mds1", 0), ("mds2", 1), ("oss1", 2), ("oss2", 3)]);
    status(&cluster);
    let events = follow(&cluster);
    run(&mut cluster);
    if shell {
        open_shell(&cluster);
    }
    drop(events);
    summary(&cluster)
}

fn shape() -> Shape {
    let mut shape = Shape::hosts(0).set("detection_time", "1500ms").set("agent_grace", "1s");
    shape.hosts = ["mds1", "mds2", "oss1", "oss2"].map(|host| (host.to_owned(), Fencing::Test)).to_vec();
    for (root, home, partner) in GROUPS {
        let mut group = GroupShape::new(root, home, &[partner]);
        group.children = vec![root.trim_start_matches("pool-").to_owned()];
        shape = shape.group(group);
    }
    shape
}

fn run(cluster: &mut Cluster) {
    step("oss2 dies: its agent is killed with SIGKILL, its target is still mounted");
    let begun = Instant::now();
    cluster.kill_agent("oss2");
    placed(cluster, &[("oss1", 2), ("oss1", 3)]);
    done(begun, "oss2 was powered off, then its group was started on oss1");

    step("mds1 hangs: its agent is frozen with SIGSTOP, its kernel still answers");
    let begun = Instant::now();
    cluster.pause_agent("mds1");
    placed(cluster, &[("mds2", 0), ("mds2", 1)]);
    done(begun, "mds1 was powered off, then its group was started on mds2");
    status(cluster);

    step("oss2 boots, and its group is brought home");
    let begun = Instant::now();
    cluster.start_agent("oss2");
    cluster.wait_host("oss2", "connected");
    client(cluster, &["failback", "--onto", "oss2", "--reason", "oss2 has new memory"]);
    placed(cluster, &[("oss1", 2), ("oss2", 3)]);
    done(begun, "it was stopped on oss1 before it was started on oss2");

    step("The manager is killed with SIGKILL and started again: nothing moves");
    let before = starts(cluster);
    cluster.crash_manager();
    placed(cluster, &[("mds2", 0), ("mds2", 1), ("oss1", 2), ("oss2", 3)]);
    assert_eq!(starts(cluster), before, "a restart of the manager starts nothing");
    println!("   it found everything as it was");
    status(cluster);
}

fn step(text: &str) {
    println!("\n== {text}");
}

fn done(begun: Instant, text: &str) {
    let took = begun.elapsed().as_secs_f64();
    // What is followed is shown a moment after it happened.
    std::thread::sleep(SHOWN);
    println!("   {text}: {took:.1} s");
}

/// Waits until groups run on hosts, by the manager's word and by the files.
fn placed(cluster: &Cluster, on: &[(&str, usize)]) {
    let on: Vec<(&str, &str)> = on.iter().map(|(host, group)| (GROUPS[*group].0, *host)).collect();
    cluster.wait_placed(&on);
}

fn starts(cluster: &Cluster) -> usize {
    cluster.history().iter().filter(|record| record.what == "start" && record.code == "0").count()
}

fn client(cluster: &Cluster, arguments: &[&str]) {
    println!("$ coordinatool-client ha {}", arguments.join(" "));
    let output = cluster.client(arguments);
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(&output.stdout).and_then(|()| out.write_all(&output.stderr));
}

fn status(cluster: &Cluster) {
    client(cluster, &["status"]);
}

/// The manager's events as they happen, until this is dropped.
struct Events(Child);

fn follow(cluster: &Cluster) -> Events {
    println!("\n$ coordinatool-client ha events --follow &");
    let mut command = Command::new(Programs::find_ha().path("coordinatool-client"));
    command.args(["ha", "events", "--follow"]).env("COORDINATOOL_HA_SOCKET", cluster.socket());
    let events = Events(command.spawn().expect("the client was built"));
    std::thread::sleep(SHOWN);
    events
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn open_shell(cluster: &Cluster) {
    step(
        "A shell: `coordinatool-client ha status`, `... fence oss1`, `kill -9` of an agent; exit ends the demo",
    );
    let programs = Programs::find_ha().path("");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command
        .args(["--norc", "-i"])
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("PS1", "ha-demo$ ");
    command.env("COORDINATOOL_HA_SOCKET", cluster.socket()).current_dir(cluster.directory());
    if let Err(error) = command.status() {
        println!("no bash: {error}");
    }
}

/// Counts from what the resource agents wrote down.
fn summary(cluster: &Cluster) -> ExitCode {
    let doubles = cluster.doubles();
    let history = cluster.history();
    let count = |what: &str| history.iter().filter(|one| one.what == what && one.code != "begin").count();
    println!(
        "\nThe resource agents' own record: {} starts, {} stops, {} monitors and probes; powered off: {}",
        count("start"),
        count("stop"),
        count("monitor") + count("probe"),
        cluster.fenced().join(", ").replace(" off", ""),
    );
    if doubles.is_empty() {
        println!("No resource was ever started while it was active, or about to be, on another server.");
        ExitCode::SUCCESS
    } else {
        println!("STARTED TWICE: {doubles:?}; see {}", Path::new(cluster.directory()).display());
        ExitCode::FAILURE
    }
}
