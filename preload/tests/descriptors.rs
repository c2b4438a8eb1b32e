//! Descriptors of the library in processes that close what they did not open, run out of them, or end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Each test program uses its own part.
#[allow(dead_code)]
mod rig;

use rig::{ARCHIVE, Puppet, Server, item};

const QUIET: (&str, &str) = ("COORDINATOOL_VERBOSE", "off");

/// A thread that waits in recv learns that another one has unregistered: it may be about to be joined.
#[test]
fn unregister_wakes_whoever_waits_in_recv() {
    let server = Server::start();
    for round in 0..50 {
        let mut puppet = Puppet::start(&server.host(), &[QUIET]);
        puppet.order(&format!("register {} 0", puppet.mnt().display()));
        let (mut peer, _) = server.welcome();
        puppet.line("register");
        // Two of them, as both have to be woken.
        for _ in 0..2 {
            puppet.order("loop");
        }
        if round % 2 == 0 {
            peer.expect("recv");
        }
        assert_eq!(puppet.call("unregister"), 0);
        for _ in 0..2 {
            let mut line = puppet.line("loop");
            while line == "loop 0" {
                line = puppet.line("loop");
            }
            assert_eq!(line, format!("loop {}", -libc::ESHUTDOWN));
        }
        puppet.finish();
    }
}

/// The kernel gives a client mount one copytool (EEXIST), and another one once the first has unregistered.
#[test]
fn a_file_system_has_one_copytool() {
    let server = Server::start();
    let mut puppet = Puppet::start(&server.host(), &[QUIET]);
    let register = format!("register {} 0", puppet.mnt().display());
    puppet.order(&register);
    let (mut peer, _) = server.welcome();
    assert_eq!(puppet.line("register"), "register 0");
    // Not even asked for: the server hears nothing of it.
    assert_eq!(puppet.call(&format!("register {}/../mnt 0", puppet.mnt().display())), -libc::EEXIST);
    puppet.order("recv");
    peer.expect("recv");
    peer.work(1, &[item(ARCHIVE, 1, 1, "")]);
    puppet.line("list");
    assert_eq!(puppet.call("unregister"), 0);
    peer.wait_closed();
    puppet.order(&register);
    let (_peer, _) = server.welcome();
    assert_eq!(puppet.line("register"), "register 0");
    puppet.finish();
}

/// A copytool that closes the descriptor of get_fd. recv must not spin on it, and must not wait for ever.
#[test]
fn a_closed_descriptor_is_replaced() {
    let server = Server::start();
    let (mut puppet, mut peer) = server.puppet(&[QUIET]);
    puppet.line("register");
    assert_eq!(puppet.call("close-fd"), 0);
    puppet.order("recv");
    peer.expect("recv");
    peer.work(1, &[item(ARCHIVE, 1, 1, "")]);
    puppet.line("list");
    assert_eq!(puppet.call("begin 0"), 0);
    // While a thread waits.
    puppet.order("loop");
    peer.expect("recv");
    assert_eq!(puppet.call("close-fd"), 0);
    assert_eq!(puppet.call("end 0 0"), 0);
    assert_eq!(peer.expect("done")["hai_cookie"], 1);
    peer.send(&serde_json::json!({"command": "done"}));
    // A second one, so that the first is known to have found the new descriptor.
    puppet.order("loop");
    peer.work(1, &[item(ARCHIVE, 2, 2, "")]);
    puppet.line("list");
    puppet.finish();
}

/// A copytool that closes everything and opens files of its own, which get our numbers: nothing of ours goes into them, and
/// nothing that it held is forgotten.
#[test]
fn numbers_that_mean_something_else_are_left_alone() {
    for ends_first in [true, false] {
        let server = Server::start();
        let mut puppet = Puppet::start(&server.host(), &[QUIET]);
        puppet.order(&format!("register {} 0", puppet.mnt().display()));
        let (mut before, _) = server.welcome();
        puppet.order("recv");
        before.expect("recv");
        before.work(1, &[item(ARCHIVE, 1, 1, ""), item(ARCHIVE, 2, 2, "")]);
        puppet.line("list");
        assert_eq!(puppet.call("begin 0"), 0);
        let witness = puppet.mnt().join("witness");
        puppet.call(&format!("close-all {}", witness.display()));
        before.wait_closed();
        if ends_first {
            assert_eq!(puppet.call("end 0 0"), 0);
        }
        puppet.order("loop");
        let (mut peer, ehlo) = server.welcome();
        let mut claims = rig::claimed(&ehlo);
        claims.sort_unstable();
        assert_eq!(claims, [1, 2]);
        if !ends_first {
            peer.expect("recv");
            assert_eq!(puppet.call("end 0 0"), 0);
        }
        assert_eq!(peer.expect("done")["hai_cookie"], 1);
        puppet.asked();
        assert_eq!(puppet.call("begin 1"), 0);
        let asked = puppet.asked();
        assert!(asked[0].ends_with("fds=1"), "the root is open again: {asked:?}");
        assert_eq!(puppet.call("unregister"), 0);
        assert_eq!(
            std::fs::read(&witness).unwrap(),
            b"",
            "something of ours was written to a file of the copytool's"
        );
        puppet.finish();
    }
}

/// A server that comes back while there is no descriptor left to connect with: tried again, without an error for recv.
#[test]
fn running_out_of_descriptors_only_delays() {
    let server = Server::start();
    let (mut puppet, mut peer) = server.puppet(&[QUIET]);
    puppet.line("register");
    puppet.order("loop");
    peer.expect("recv");
    let last = puppet.call("exhaust");
    assert!(last > 3);
    peer.close();
    assert!(puppet.call("register / 0") < 0, "nor can anything be registered");
    puppet.call(&format!("relax {last}"));
    let (mut peer, _) = server.welcome();
    peer.expect("recv");
    peer.work(1, &[item(ARCHIVE, 1, 1, "")]);
    puppet.line("list");
    puppet.finish();
}

/// A copytool that forks a child for each of many requests and then waits for all of them: what they tell fits, although
/// nobody reads it (a pipe of the usual size holds some nine hundred records: both would wait for ever).
#[test]
fn many_children_end_before_their_parent_looks() {
    const CHILDREN: u64 = 600;
    let server = Server::start();
    let (mut puppet, mut peer) = server.puppet(&[QUIET]);
    puppet.order("recv");
    peer.expect("recv");
    let items: Vec<_> = (1..=CHILDREN).map(|n| item(ARCHIVE, n, n as u32, "")).collect();
    peer.work(1, &items);
    puppet.line("list");
    assert_eq!(puppet.call(&format!("fork-all {CHILDREN}")), 0);
    puppet.order("loop");
    let mut ended = std::collections::BTreeSet::new();
    while ended.len() < CHILDREN as usize {
        ended.insert(peer.expect("done")["hai_cookie"].as_u64());
    }
    puppet.finish();
}
