//! Resource agents of the distribution (package resource-agents) under real agents of ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::ha::{Cluster, GroupShape, Shape};
use serde_json::json;

const ROOT: &str = "/usr/lib/ocf";

/// Whether such an agent is there; `tests/run.sh` installs them.
fn assert_installed(agent: &str) {
    assert!(Path::new(ROOT).join("resource.d/heartbeat").join(agent).exists(), "install resource-agents");
}

/// A name that no other test on this machine uses: these agents keep files in /run, whatever the test's directory is.
fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

fn group(kind: &str, root: &str, home: &str, failover: &[&str]) -> GroupShape {
    let mut group = GroupShape::new(root, home, failover);
    group.children.clear();
    group.kind = format!("heartbeat/{kind}");
    group
}

/// HALO passes no name of the instance, so that all resources of this agent share one file.
#[test]
fn two_dummies_do_not_collide() {
    assert_installed("Dummy");
    let (one, two) = (unique("one"), unique("two"));
    let dummy = |name: &str| {
        let mut dummy = group("Dummy", name, "h0", &[]);
        // It means nothing, but no two resources may be the same thing.
        dummy.parameters.insert("fake".to_owned(), name.to_owned());
        dummy
    };
    let shape = Shape::hosts(1).ocf_root(ROOT).group(dummy(&one)).group(dummy(&two));
    let cluster = Cluster::start(shape);
    cluster.wait_phase(&[&one, &two], "running");
    cluster.command_with("stop", &json!({"target": one})).unwrap();
    cluster.wait_phase(&[&one], "stopped");
    cluster.settle();
    let status = cluster.wait_phase(&[&two], "running");
    assert!(status.resource(&two).failures.is_empty(), "it ran all the time");
    cluster.command_with("stop", &json!({"target": two})).unwrap();
    cluster.wait_phase(&[&two], "stopped");
}

/// A slow start delays nothing else on that host, and is not taken for a failure.
#[test]
fn a_slow_start_delays_nobody() {
    assert_installed("Delay");
    let (slow, quick) = (unique("slow"), unique("quick"));
    let mut delayed = group("Delay", &slow, "h0", &[]);
    for (name, value) in [("startdelay", "2"), ("stopdelay", "0"), ("mondelay", "0")] {
        delayed.parameters.insert(name.to_owned(), value.to_owned());
    }
    let shape = Shape::hosts(1).ocf_root(ROOT).group(delayed).group(group("Dummy", &quick, "h0", &[]));
    let cluster = Cluster::start(shape);
    cluster.wait("one runs while the other still starts", |status| {
        status.group(&quick).phase == "running" && status.seen(&slow, "h0") == "starting"
    });
    let status = cluster.wait_phase(&[&slow, &quick], "running");
    assert!(status.resource(&slow).failures.is_empty());
    for name in [&slow, &quick] {
        cluster.command_with("stop", &json!({"target": name})).unwrap();
    }
    cluster.wait_phase(&[&slow, &quick], "stopped");
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A loop device with a file system, while this lives.
struct Disk(String);

impl Disk {
    fn make(image: &Path) -> Result<Self, String> {
        fs::File::create(image).and_then(|file| file.set_len(16 << 20)).map_err(|error| error.to_string())?;
        let image = image.to_str().ok_or("the path is not UTF-8")?;
        run("mkfs.ext4", &["-q", image])?;
        Ok(Self(run("losetup", &["--find", "--show", image])?))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("losetup", &["--detach", &self.0]);
    }
}

/// Each host has mounts of its own. The file system moves with what is on it, and a dead host's mount is gone with it.
#[test]
fn a_file_system_fails_over() {
    assert_installed("Filesystem");
    if !rustix::process::geteuid().is_root() {
        return harness::skip("a_file_system_fails_over", "needs root, to mount");
    }
    let scratch = harness::TestDirectory::new("disk");
    let disk = match Disk::make(&scratch.join("image")) {
        Ok(disk) => disk,
        Err(why) => return harness::skip("a_file_system_fails_over", &format!("no loop device: {why}")),
    };
    let point = scratch.subdirectory("mounted");
    let name = unique("disk");
    let mut filesystem = group("Filesystem", &name, "h0", &["h1"]);
    for (key, value) in
        [("device", disk.0.as_str()), ("directory", point.to_str().unwrap()), ("fstype", "ext4")]
    {
        filesystem.parameters.insert(key.to_owned(), value.to_owned());
    }
    let mut shape = Shape::hosts(2).ocf_root(ROOT).group(filesystem);
    shape.agent_prefix = ["unshare", "--mount", "--propagation", "private"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::start(shape);
    let on = |cluster: &Cluster, host: &str| {
        cluster.wait("it is mounted", |status| status.runs_on(&name, host));
        fs::read_to_string(cluster.inside(host, &point).join("who")).unwrap_or_default()
    };
    assert_eq!(on(&cluster, "h0"), "");
    fs::write(cluster.inside("h0", &point).join("who"), "h0").unwrap();
    cluster.command_with(&format!("groups/{name}/move"), &json!({"to": "h1"})).unwrap();
    assert_eq!(on(&cluster, "h1"), "h0", "what was written on one is there on the other");
    assert!(fs::read_dir(cluster.inside("h0", &point)).unwrap().next().is_none(), "it is mounted once");
    cluster.kill_agent("h1");
    assert_eq!(on(&cluster, "h0"), "h0");
    assert_eq!(cluster.fenced(), ["h1 off"]);
    cluster.command_with("stop", &json!({"target": name})).unwrap();
    cluster.wait_phase(&[&name], "stopped");
    drop(cluster);
}

/// An address in a network of its own: started, started again when somebody takes it away, stopped.
#[test]
fn an_address_is_kept() {
    assert_installed("IPaddr2");
    if !rustix::process::geteuid().is_root() {
        return harness::skip("an_address_is_kept", "needs root, to make a network namespace");
    }
    let namespace = format!("ct-{}", std::process::id());
    let ip = |arguments: &[&str]| {
        let mut all = vec!["-n", &namespace];
        all.extend(arguments);
        run("ip", &all)
    };
    if let Err(why) = run("ip", &["netns", "add", &namespace]) {
        return harness::skip("an_address_is_kept", &format!("no network namespace: {why}"));
    }
    struct Namespace(String);
    impl Drop for Namespace {
        fn drop(&mut self) {
            let _ = run("ip", &["netns", "delete", &self.0]);
        }
    }
    let _namespace = Namespace(namespace.clone());
    ip(&["link", "set", "lo", "up"]).unwrap();
    ip(&["link", "add", "public", "type", "veth", "peer", "name", "other"]).unwrap();
    ip(&["address", "add", "198.51.100.1/24", "dev", "public"]).unwrap();
    ip(&["link", "set", "public", "up"]).unwrap();
    ip(&["link", "set", "other", "up"]).unwrap();
    let name = unique("address");
    let mut address = group("IPaddr2", &name, "h0", &[]);
    for (key, value) in [("ip", "198.51.100.7"), ("nic", "public"), ("cidr_netmask", "24")] {
        address.parameters.insert(key.to_owned(), value.to_owned());
    }
    address = address.resource_key("operations: {monitor: {interval: 200ms}}");
    let mut shape = Shape::hosts(1).ocf_root(ROOT).group(address);
    shape.agent_prefix = ["ip", "netns", "exec", &namespace].map(str::to_owned).to_vec();
    shape.manager_prefix.clone_from(&shape.agent_prefix);
    let cluster = Cluster::start(shape);
    let is_there = || ip(&["-4", "address", "show"]).is_ok_and(|shown| shown.contains("198.51.100.7/24"));
    cluster.wait_phase(&[&name], "running");
    assert!(is_there());
    ip(&["address", "del", "198.51.100.7/24", "dev", "public"]).unwrap();
    cluster.wait("that is noticed", |status| !status.resource(&name).failures.is_empty());
    cluster.wait_phase(&[&name], "running");
    assert!(is_there());
    cluster.command_with("stop", &json!({"target": name})).unwrap();
    cluster.wait_phase(&[&name], "stopped");
    assert!(!is_there());
}
