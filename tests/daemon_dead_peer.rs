//! A mover whose host is gone without a word must not block its id.
//!
//! The test runs in a network of its own (`unshare -n`), in which an address can be made to vanish.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod daemon_support;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Command;

use daemon_support::{EHLO, Peer, Setup, item, item_of, oids};
use socket2::{Domain, Socket, Type};

const INSIDE: &str = "TEST_IN_OWN_NETWORK";

/// Runs the test of this name again in a network of its own. Returns whether this is already there.
fn in_own_network(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let exe = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args([
            "--net",
            "--map-root-user",
            "sh",
            "-c",
            "ip link set lo up && exec \"$0\" --exact \"$1\" --nocapture",
        ])
        .arg(exe)
        .arg(test)
        .env(INSIDE, "1")
        .status()
        .expect("`unshare` (util-linux) is needed");
    assert!(status.success(), "in its own network: {status}; `ip` (iproute2) and user namespaces are needed");
    false
}

fn connect_from(source: Ipv4Addr, port: u16) -> Peer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::V4(SocketAddrV4::new(source, 0)).into()).unwrap();
    socket.connect(&SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).into()).unwrap();
    Peer::on(socket.into())
}

/// C: no keepalive; a half-open mover blocks its own id (defect 15), and its successor retries for ever.
#[test]
fn a_mover_that_vanished_makes_room_for_its_successor() {
    if !in_own_network("a_mover_that_vanished_makes_room_for_its_successor") {
        return;
    }
    let daemon = Setup::default().start();
    let mut first = connect_from(Ipv4Addr::new(127, 0, 0, 2), daemon.port());
    assert_eq!(first.ask(r#"{"command": "ehlo", "id": "m0"}"#), EHLO);
    assert_eq!(daemon.peer().queue(&[item(20, 1, 1, "")]), r#"{"command": "queue", "enqueued": 1}"#);
    assert_eq!(oids(&first.work("")), [1]);
    let gone = ["route", "add", "blackhole", "127.0.0.2/32", "table", "local"];
    assert!(Command::new("ip").args(gone).status().unwrap().success());
    let mut second = daemon.peer();
    let claim = format!(r#"{{"command": "ehlo", "id": "m0", "hai_list": [{}]}}"#, item(20, 1, 1, ""));
    assert_eq!(second.ask(&claim), EHLO);
    // It is the same mover: it keeps what it has.
    second.done(1, 1, 0);
    assert_eq!(daemon.status()["done_archive"], 1);
}

/// Half of a conversation: hosts that vanish while they are sent a long answer, while they wait for work and in the middle of
/// a message. C writes until the answer is taken, and serves nobody meanwhile.
#[test]
fn hosts_that_vanish_in_the_middle_disturb_nobody() {
    const STATUS: &str = r#"{"command": "status"}"#;
    if !in_own_network("hosts_that_vanish_in_the_middle_disturb_nobody") {
        return;
    }
    let daemon = Setup::default().start();
    let mut honest = daemon.mover("honest");
    for first in (1..20_000).step_by(1000) {
        let items: Vec<_> =
            (first..first + 1000).map(|n| item_of(20, n, n.into(), 9, "tag=a long enough tag")).collect();
        daemon.peer().queue(&items);
    }
    let connect = || connect_from(Ipv4Addr::new(127, 0, 0, 2), daemon.port());
    let mut gone = Vec::new();
    for number in 0..30 {
        let mut peer = connect();
        match number % 3 {
            0 => peer.send(&r#"{"command": "status", "verbose": 6}"#.repeat(20)),
            1 => {
                let ehlo = format!(r#"{{"command": "ehlo", "id": "m{number}", "archive_ids": [3]}}"#);
                assert_eq!(peer.ask(&ehlo), EHLO);
                peer.send(r#"{"command": "recv", "max_bytes": 1048576}"#);
            }
            _ => peer.send(r#"{"command": "queue", "hsm_action_items": [{"#),
        }
        gone.push(peer);
    }
    let route = ["route", "add", "blackhole", "127.0.0.2/32", "table", "local"];
    assert!(Command::new("ip").args(route).status().unwrap().success());
    for n in 1..=50 {
        // What those that are gone are given comes back when they are found to be dead.
        daemon.peer().queue(&[item_of(20, 30_000 + n, 30_000 + u64::from(n), 3, "")]);
        assert!(daemon.peer().ask(STATUS).starts_with(r#"{"command": "status""#));
    }
    assert_eq!(honest.work(r#", "max_archive": 5"#)["hsm_action_list"]["list"].as_array().unwrap().len(), 5);
    // One of them comes back, by another way.
    let mut back = daemon.peer();
    assert_eq!(back.ask(r#"{"command": "ehlo", "id": "m1", "archive_ids": [3]}"#), EHLO);
    assert!(!oids(&back.work("")).is_empty());
    assert_eq!(daemon.log().matches("panicked").count(), 0);
}
