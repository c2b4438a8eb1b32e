//! Both roles in one daemon.

use std::process::Command;

use harness::ha::{Cluster, Shape};
use harness::{Process, Programs, patience, poll};

fn daemon(cluster: &Cluster, arguments: &[&str]) -> Process {
    let mut command = Command::new(Programs::find().path("coordinatool"));
    command.arg("--ha-config").arg(cluster.configuration()).arg("--ha-socket").arg(cluster.socket());
    command.arg("--ha-state-dir").arg(cluster.manager_state("manager"));
    command.args(["--manage-resources", "--insecure-loopback"]).args(arguments);
    command.env("COORDINATOOL_FENCE_PATH", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ha_agents"));
    command.env("COORDINATOOL_REDIS_HOST", "");
    for variable in ["COORDINATOOL_CONF", "HALO_CONFIG", "HALO_SOCKET", "HALO_STATEFILE"] {
        command.env_remove(variable);
    }
    Process::spawn("daemon", command, &cluster.directory().join("daemon.log"))
}

fn answers(cluster: &Cluster) -> bool {
    poll(patience(), || cluster.try_status("manager")).is_some()
}

#[test]
fn the_daemon_keeps_the_ha_manager_running() {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.start_agents();
    let store = cluster.directory().join("hsm").display().to_string();
    let hsm =
        ["--lustre", "none", "--fsname", "test", "--port", "0", "--host", "127.0.0.1", "--state-dir", &store];
    let mut process = daemon(&cluster, &hsm);
    assert!(answers(&cluster), "{}", process.log());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    // Its HA process is a child of it; killed, it comes back.
    let children = || {
        // Listed with the thread that started them.
        let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap().flatten();
        let lists =
            tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
        lists
            .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    let first = children();
    assert_eq!(first.len(), 1, "{first:?}");
    Command::new("kill").args(["-9", &first[0]]).status().unwrap();
    let again = poll(patience(), || Some(children()).filter(|now| now.len() == 1 && *now != first));
    assert!(again.is_some(), "{}", process.log());
    assert!(answers(&cluster), "{}", process.log());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert!(process.terminate(patience()).success(), "{}", process.log());
    // Nothing that runs was stopped with it.
    assert!(cluster.is_active("g0", "h0") && cluster.is_active("g1", "h1"));
    assert_eq!(cluster.count("start", "g0", "h0"), 1);
}

#[test]
fn without_a_mount_there_is_only_the_ha_role() {
    let mut cluster = Cluster::new(Shape::pair());
    cluster.start_agents();
    let mut process = daemon(&cluster, &[]);
    assert!(answers(&cluster), "{}", process.log());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    assert!(process.terminate(patience()).success(), "{}", process.log());
}
