//! The library with TLS, where that makes a difference: forks, and servers that do not speak it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Each test program uses its own part.
#[allow(dead_code)]
mod rig;
#[path = "rig/tls.rs"]
mod tls;

use coordinatool::security::psk;
use rig::{ARCHIVE, Puppet, Server, item};

/// A key, and the variables of a copytool that uses it.
fn key() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("psk");
    psk::create(&path).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

/// Work and its end, through TLS, for a copytool whose children do it.
#[test]
fn a_forked_child_needs_no_connection() {
    let (_directory, key) = key();
    let server = Server::start();
    let host = tls::in_front_of(server.host(), key.as_ref());
    let mut puppet = Puppet::start(&host, &[("COORDINATOOL_TLS", "on"), ("COORDINATOOL_PSK_FILE", &key)]);
    puppet.order(&format!("register {} 0", puppet.mnt().display()));
    let (mut peer, _) = server.welcome();
    puppet.line("register");
    puppet.order("recv");
    peer.expect("recv");
    peer.work(1, &[item(ARCHIVE, 1, 1, "")]);
    puppet.line("list");
    assert_eq!(puppet.call("begin 0"), 0);
    assert_eq!(puppet.call("fork-end 0 0"), 0);
    puppet.order("recv");
    assert_eq!(peer.expect("done")["hai_cookie"], 1);
    peer.expect("recv");
    peer.work(1, &[item(ARCHIVE, 2, 2, "")]);
    puppet.line("list");
    puppet.finish();
}

/// A copytool that becomes a daemon after it has registered: two processes have the session's keys, and neither may go on
/// with it. The child makes a connection of its own.
#[test]
fn a_daemon_makes_its_own_connection() {
    let (_directory, key) = key();
    let server = Server::start();
    let host = tls::in_front_of(server.host(), key.as_ref());
    let mut puppet = Puppet::start(&host, &[("COORDINATOOL_TLS", "on"), ("COORDINATOOL_PSK_FILE", &key)]);
    puppet.order(&format!("register {} 0", puppet.mnt().display()));
    let (mut before, _) = server.welcome();
    puppet.line("register");
    assert_eq!(puppet.call("daemon"), 0);
    puppet.order("recv");
    let (mut peer, _) = server.welcome();
    before.wait_closed();
    peer.expect("recv");
    peer.work(1, &[item(ARCHIVE, 1, 1, "")]);
    puppet.line("list");
    assert_eq!(puppet.call("begin 0"), 0);
    assert_eq!(puppet.call("end 0 0"), 0);
    assert_eq!(peer.expect("done")["hai_cookie"], 1);
}

/// A server without TLS answers the hello by closing: the copytool starts all the same, says what it thinks, and goes on
/// trying in its time.
#[test]
fn a_server_without_tls_is_tried_again() {
    let (_directory, key) = key();
    let server = Server::start();
    let env = [("COORDINATOOL_TLS", "on"), ("COORDINATOOL_PSK_FILE", key.as_str())];
    let mut puppet = Puppet::start(&server.host(), &env);
    puppet.order(&format!("register {} 0", puppet.mnt().display()));
    for answer in [&b""[..], b"{\"command\": \"ehlo\"}", b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let mut peer = server.accept();
        peer.send_raw(answer);
        if answer.is_empty() {
            peer.close();
        } else {
            peer.wait_closed();
        }
    }
    puppet.line("register");
    puppet.finish();
}
