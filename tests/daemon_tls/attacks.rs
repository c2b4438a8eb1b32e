//! What strangers try. Whoever is inside must not notice.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::SystemTime;

use coordinatool::client::stream::Stream;
use coordinatool::security::Credentials;
use coordinatool::tls::Role;
use coordinatool::tls::authority::Request;

use crate::daemon_support::{Daemon, PATIENCE, item};
use crate::site::{DAY, Peer, Site, foreign, status, tls_port, without_role};

const STATUS: &str = r#"{"command": "status"}"#;

/// Memory that the daemon has in RAM, in bytes.
fn memory(daemon: &Daemon) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid().as_raw_nonzero())).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// What the daemon answers to bytes; its end of the connection.
fn raw(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may have closed already.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn strangers_do_not_get_in() {
    let site = Site::new();
    let daemon = site.daemon("");
    let port = tls_port(&daemon);
    let mut inside = Peer::connect(port, &site.certificate("m0", Role::Mover)).unwrap();
    let mut plain = daemon.peer();

    // Certificates of another authority: neither end believes the other, whichever looks first.
    let other = foreign();
    let error = status(port, &other.certificate("m0", Role::Mover)).unwrap_err();
    assert!(error.starts_with("the server's certificate: "), "{error}");
    let Credentials::Certificate { certificate, key, .. } = other.certificate("m1", Role::Mover) else {
        panic!()
    };
    let believing = Credentials::Certificate { authority: site.path("ca.crt"), certificate, key };
    let error = status(port, &believing).unwrap_err();
    assert!(error.contains("does not accept our certificate or key"), "{error}");

    // Expired, and not valid yet.
    let now = SystemTime::now();
    for (name, from) in [("past", now - 3 * DAY), ("future", now + DAY)] {
        let request = Request { from, valid: DAY, ..Request::new(name, Role::Admin) };
        let error = status(port, &site.issue(request)).unwrap_err();
        assert!(error.contains("does not accept our certificate or key"), "{name}: {error}");
    }
    // A server's certificate is no client's where it says so; nor is that of an agent a server's.
    assert!(status(port, &site.certificate("oss1", Role::Agent)).is_err());
    // A key of somebody else's.
    let error = status(port, &other.key("psk")).unwrap_err();
    assert!(error.contains("does not know our pre-shared key"), "{error}");

    // No TLS at all: the mover protocol in the clear, other protocols, noise, nothing.
    let noise: Vec<u8> = (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut record = vec![22, 3, 1, 0xff, 0xff];
    record.extend_from_slice(&noise);
    // Renegotiation is not in TLS 1.3: a second hello in the clear is an error like any other.
    let twice = [&[22, 3, 1, 0, 4, 0, 0, 0, 0][..], &[22, 3, 1, 0, 4, 0, 0, 0, 0]].concat();
    for bytes in
        [STATUS.as_bytes(), b"GET / HTTP/1.1\r\n\r\n", &noise, &record, &twice, b"\x16\x03\x01\x00\x00"]
    {
        let answer = raw(port, bytes);
        assert!(answer.len() < 64 && !answer.starts_with(b"{"), "{answer:?}");
    }
    // A hello of another kind, often: what strangers send is counted in the log, not written down.
    for _ in 0..50 {
        raw(port, &[22, 3, 1, 0, 4, 0x60, 0, 0, 0]);
    }
    let lines = daemon.log().lines().filter(|line| line.contains("WARN")).count();
    assert!(lines < 10, "{}", daemon.log());
    // TLS to the plain port, too.
    assert_eq!(raw(daemon.port(), &[22, 3, 1, 0, 4, 0, 0, 0, 0]), b"");
    daemon.wait_for_log("it speaks TLS to the plain port");

    assert!(inside.ask(STATUS).is_ok() && plain.ask(STATUS).contains("status"));
    assert!(status(port, &site.key("psk")).is_ok());
}

/// A daemon that only knows a pre-shared key, and one that only knows certificates, say so to who comes with the other.
#[test]
fn what_is_not_configured_is_refused() {
    let site = Site::new();
    let key = format!("tls on\ntls_port 0\npsk_file {}\n", site.path("psk").display());
    let daemon = crate::daemon_support::Setup::conf(&key).start();
    assert!(status(tls_port(&daemon), &site.key("psk")).is_ok());
    let error = status(tls_port(&daemon), &site.certificate("m0", Role::Mover)).unwrap_err();
    assert!(error.contains("or takes no certificates"), "{error}");
    daemon.wait_for_log("it comes with a certificate, and only pre-shared keys are configured");
    // The admin's key is not configured here: it does not become a mover's.
    assert!(status(tls_port(&daemon), &site.key("admin.psk")).is_err());
}

/// The daemon that a client believes has the role in its certificate and the name that it was asked for.
#[test]
fn nobody_poses_as_the_daemon() {
    let site = Site::new();
    let local = || vec!["127.0.0.1".parse().unwrap()];
    let mover = site.certificate("m0", Role::Mover);
    for (name, request, want) in [
        (
            "an agent's",
            Request { addresses: local(), ..Request::new("oss1", Role::Agent) },
            "not for the role server",
        ),
        (
            "a mover's",
            Request { addresses: local(), ..Request::new("m1", Role::Mover) },
            "extended key usage",
        ),
        ("of another name", Request::new("mgmt9", Role::Server), "not valid for name"),
    ] {
        let file = request.name.clone();
        site.issue(request);
        let conf = site.conf("").replace("mgmt.", &format!("{file}."));
        let daemon = crate::daemon_support::Setup::conf(&conf).start();
        let error = status(tls_port(&daemon), &mover).unwrap_err();
        assert!(error.starts_with("the server's certificate: ") && error.contains(want), "{name}: {error}");
    }
    // Somebody who has another key than ours, whatever he asks us to believe.
    let theirs = foreign();
    let daemon = theirs.daemon("");
    let error = status(tls_port(&daemon), &site.key("psk")).unwrap_err();
    assert!(error.contains("does not know our pre-shared key"), "{error}");
}

#[test]
fn huge_certificates_and_slow_handshakes_cost_nobody_anything() {
    let site = Site::new();
    let daemon = site.daemon("");
    let port = tls_port(&daemon);
    let mut inside = Peer::connect(port, &site.certificate("m0", Role::Mover)).unwrap();
    let before = memory(&daemon);

    let names = |count: u32| (0..count).map(|i| format!("name-{i:06}.example.org")).collect::<Vec<_>>();
    let large = without_role(&site, "large", &names(2000));
    assert!(status(port, &large).unwrap_err().contains("does not accept our certificate"));
    let line = daemon.wait_for_log("does not say what it may be used for");
    assert!(line.contains(" and 1993 more") && line.len() < 1000, "{line}");
    // A chain of half a megabyte is not even read.
    let one = std::fs::read_to_string(site.path("large.crt")).unwrap();
    std::fs::write(site.path("large.crt"), one.repeat(10)).unwrap();
    assert!(status(port, &large).is_err() && inside.ask(STATUS).is_ok());
    // Hellos that never come, and hellos that never end.
    let idle: Vec<TcpStream> = (0..700)
        .map(|i| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            if i % 2 == 0 {
                stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).unwrap();
            }
            stream
        })
        .collect();
    // Everybody else gets in while they wait.
    for _ in 0..5 {
        assert!(status(port, &site.key("psk")).is_ok() && inside.ask(STATUS).is_ok());
    }
    daemon.wait_for_log("more than 512 handshakes at a time");
    let grown = memory(&daemon).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    drop(idle);
    assert!(status(port, &site.certificate("m1", Role::Mover)).is_ok());
}

/// A peer that has shaken hands and says nothing is sent away like one of the plain port.
#[test]
fn silence_after_the_handshake_ends() {
    let site = Site::new();
    let daemon = site.daemon("handshake_timeout_ms 300\n");
    let port = tls_port(&daemon);
    let mut silent = Peer::connect(port, &site.key("psk")).unwrap();
    assert_eq!(silent.receive().unwrap_err(), "closed");
    let hello = TcpStream::connect(("127.0.0.1", port)).unwrap();
    hello.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!((&hello).read(&mut [0; 64]).unwrap(), 0);
    daemon.wait_for_log("refused: no handshake within 300ms");
}

/// Long messages both ways, pieces of any size, many at once, half-closed connections: as without TLS.
#[test]
fn the_protocol_is_the_same_inside() {
    let site = Site::new();
    let daemon = site.daemon("");
    let port = tls_port(&daemon);
    let mut admin = Peer::connect(port, &site.key("admin.psk")).unwrap();
    let items: Vec<String> = (1..=20_000).map(|i| item(20, i, i.into(), "tag=with some data")).collect();
    let queue = format!(r#"{{"command": "queue", "hsm_action_items": [{}]}}"#, items.join(", "));
    assert!(queue.len() > 4 << 20);
    assert_eq!(admin.ask(&queue).unwrap()["enqueued"], 20_000);
    let verbose = r#"{"command": "status", "verbose": 6}"#;
    let status = admin.ask(verbose).unwrap();
    assert_eq!(status["waiting_archive"].as_array().unwrap().len(), 20_000);
    let mut plain: serde_json::Value = serde_json::from_str(&daemon.peer().ask(verbose)).unwrap();
    let mut inside = status;
    for shown in [&mut plain, &mut inside] {
        // Who asks is in it.
        shown.as_object_mut().unwrap().retain(|key, _| key != "clients" && key != "clients_connected");
    }
    assert_eq!(plain, inside);
    // A hundred in one piece, then one byte by byte.
    admin.send(&STATUS.repeat(100)).unwrap();
    for byte in STATUS.as_bytes().chunks(1) {
        admin.send(std::str::from_utf8(byte).unwrap()).unwrap();
    }
    for _ in 0..101 {
        assert_eq!(admin.receive().unwrap()["command"], "status");
    }
    // Who says goodbye still gets the answers that are due, whether it comes with the questions or after them.
    let mut other = Peer::connect(port, &site.key("admin.psk")).unwrap();
    for (peer, at_once) in [(&mut admin, false), (&mut other, true)] {
        let Stream::Tls(stream) = &mut peer.stream else { panic!("no TLS") };
        stream.conn.writer().write_all(STATUS.repeat(3).as_bytes()).unwrap();
        if !at_once {
            stream.flush().unwrap();
        }
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        for _ in 0..3 {
            assert_eq!(peer.receive().unwrap()["command"], "status");
        }
        assert_eq!(peer.receive().unwrap_err(), "closed", "at once: {at_once}");
    }
}
