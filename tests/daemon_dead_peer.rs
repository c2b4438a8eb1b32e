//! A mover whose host is gone without a word must not block its id.
//!
//! The test runs in a network of its own (`unshare -n`), in which an address can be made to vanish.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod daemon_support;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Command;

use daemon_support::{EHLO, Peer, Setup, item, oids};
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
