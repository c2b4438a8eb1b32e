//! Peers that the C server does not survive: none of them may disturb another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod daemon_support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use daemon_support::{Daemon, EHLO, PATIENCE, Peer, Setup, item, oids};
use rustix::process::Signal;

const STATUS: &str = r#"{"command": "status"}"#;

/// Another peer is served at once.
fn others_are_served(daemon: &Daemon) {
    let reply = daemon.peer().ask(STATUS);
    assert!(reply.starts_with(r#"{"command": "status""#), "{reply}");
}

/// C: one client that sends half a JSON object freezes the whole server (4.9 d); so do one space, a trailing newline, a
/// top-level `3` and a slow writer, for as long as they are connected.
#[test]
fn a_peer_that_sends_half_a_message_or_none_disturbs_nobody() {
    let daemon = Setup::default().start();
    let mut peers = Vec::new();
    for text in [
        r#"{"command": "sta"#,
        " ",
        "\n",
        "",
        r#"{"command": "queue", "hsm_action_items": [{"#,
        "{\"a\": \"\\",
    ] {
        let mut peer = daemon.peer();
        peer.send(text);
        others_are_served(&daemon);
        peers.push((peer, text));
    }
    // They can go on where they stopped.
    let mut half = peers.swap_remove(0).0;
    half.send("tus\"}");
    assert!(half.recv().unwrap().starts_with(r#"{"command": "status""#));
    for (mut peer, text) in peers {
        if text.trim().is_empty() {
            assert_eq!(peer.ask("\n {\"command\": \"ehlo\"} "), EHLO);
            assert!(peer.ask(" \n\t{\"command\": \"status\"}\n").starts_with(r#"{"command": "status""#));
        }
    }
}

/// C: a slow writer hangs all other clients while it writes.
#[test]
fn a_slow_writer_is_understood_byte_by_byte() {
    let daemon = Setup::default().start();
    let mut slow = daemon.peer();
    for byte in
        format!(r#"{{"command": "queue", "hsm_action_items": [{}]}}"#, item(20, 1, 1, "a\"b\\")).bytes()
    {
        slow.stream.write_all(&[byte]).unwrap();
        if byte == b',' {
            others_are_served(&daemon);
        }
    }
    assert_eq!(slow.recv().unwrap(), r#"{"command": "queue", "enqueued": 1}"#);
}

#[test]
fn what_is_no_request_closes_the_connection_without_a_reply() {
    let daemon = Setup::default().start();
    for text in [
        "3",
        "[]",
        "\"x\"",
        "null",
        "}",
        "{]",
        "{\"command\": }",
        r#"{"command": "nope"}"#,
        r#"{"command": 3}"#,
        "{}",
    ] {
        let mut peer = daemon.peer();
        peer.send(text);
        assert_eq!(peer.recv(), None, "{text}");
        others_are_served(&daemon);
    }
    // What was asked before is answered.
    let mut peer = daemon.peer();
    peer.send(r#"{"command": "ehlo"}{"command": "lock", "locked": 0}{"command": "nope"}"#);
    assert_eq!(peer.recv().unwrap(), EHLO);
    assert_eq!(peer.recv().unwrap(), r#"{"command": "lock"}"#);
    assert_eq!(peer.recv(), None);
}

/// C: a client that pipelines requests and closes kills the server with SIGPIPE.
#[test]
fn pipelining_and_closing_is_survived() {
    let daemon = Setup::default().start();
    for _ in 0..20 {
        let mut peer = daemon.peer();
        peer.send(&STATUS.repeat(500));
        drop(peer);
    }
    others_are_served(&daemon);
    // Whoever stops sending but still reads gets all answers.
    let mut peer = daemon.peer();
    peer.send(&STATUS.repeat(300));
    peer.half_close();
    for _ in 0..300 {
        assert!(peer.recv().unwrap().starts_with(r#"{"command": "status""#));
    }
    assert_eq!(peer.recv(), None);
}

/// C: a client that does not read its replies hangs all others, and kills the server when it closes.
#[test]
fn a_peer_that_does_not_read_a_long_status_disturbs_nobody() {
    let daemon = Setup::default().start();
    let mut peer = daemon.peer();
    for start in (0..20_000u64).step_by(1000) {
        let items: Vec<_> =
            (start..start + 1000).map(|n| item(20, n as u32 + 1, n, "tag=a long enough tag")).collect();
        assert_eq!(peer.queue(&items), r#"{"command": "queue", "enqueued": 1000}"#);
    }
    let mut deaf = Vec::new();
    for _ in 0..4 {
        let mut peer = daemon.peer();
        peer.send(&r#"{"command": "status", "verbose": 6}"#.repeat(50));
        deaf.push(peer);
    }
    for _ in 0..20 {
        others_are_served(&daemon);
    }
    // One that comes late to it gets it whole.
    let mut late = deaf.pop().unwrap();
    for _ in 0..2 {
        let reply: serde_json::Value = serde_json::from_str(&late.recv().unwrap()).unwrap();
        assert_eq!(reply["pending_archive"], 20_000);
        assert_eq!(reply["waiting_archive"].as_array().unwrap().len(), 20_000);
    }
    drop(late);
    drop(deaf);
    daemon.wait_for_status("all gone", |status| {
        status["clients_connected"] == 2 || status["clients_connected"] == 1
    });
}

#[test]
fn messages_beyond_the_limits_close_their_connection_only() {
    let daemon = Setup::conf("max_message_size 64K\nmax_message_depth 16\n").start();
    let mut long = daemon.peer();
    let text = format!(r#"{{"command": "queue", "junk": "{}"#, "x".repeat(70_000));
    let _ = long.stream.write_all(text.as_bytes());
    assert_eq!(long.recv(), None);
    daemon.wait_for_log("longer than 65536 bytes");
    let mut deep = daemon.peer();
    deep.send(&format!(r#"{{"a": {}"#, "[".repeat(40)));
    assert_eq!(deep.recv(), None);
    daemon.wait_for_log("deeper than 16 levels");
    others_are_served(&daemon);
}

/// C takes 2 GB of memory for a 100 MB array of numbers, and serves nobody meanwhile. Here they are 4 MB.
#[test]
fn a_long_array_of_numbers_is_no_list_of_requests() {
    let daemon = Setup::default().start();
    let numbers = "1,".repeat(2_000_000);
    let mut peer = daemon.peer();
    let reply = peer.ask(&format!(r#"{{"command": "queue", "hsm_action_items": [{numbers}1]}}"#));
    assert_eq!(
        reply,
        r#"{"command": "queue", "status": -22, "error": "Error while parsing hsm action items"}"#
    );
    daemon.wait_for_log("more invalid hai");
    let lines = daemon.log().lines().filter(|line| line.contains("invalid hai")).count();
    assert_eq!(lines, 11);
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid().as_raw_nonzero())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 100 << 10, "peak memory {peak} kB");
}

#[test]
fn a_peer_that_says_nothing_is_sent_away_after_the_handshake_time() {
    let daemon = Setup::conf("handshake_timeout_ms 200\n").start();
    let mut silent = daemon.peer();
    let mut half = daemon.peer();
    half.send("{\"command\"");
    // Who has said something may be silent for ever.
    let mut good = daemon.mover("m0");
    assert_eq!(silent.recv(), None);
    assert_eq!(half.recv(), None);
    daemon.wait_for_log("no complete message within handshake_timeout_ms (10 bytes so far)");
    good.send(r#"{"command": "lock", "locked": 0}"#);
    assert_eq!(good.recv().unwrap(), r#"{"command": "lock"}"#);
}

/// C: more than 1024 descriptors, and it spins and logs 45 MB/s.
#[test]
fn running_out_of_descriptors_neither_spins_nor_hurts_those_connected() {
    let shell = Some("ulimit -n 48".to_owned());
    let daemon = Setup { shell, ..Setup::default() }.start();
    let mut mover = daemon.mover("m0");
    let crowd: Vec<_> = (0..100).map(|_| TcpStream::connect(("127.0.0.1", daemon.port())).unwrap()).collect();
    daemon.wait_for_log("refused: ");
    assert_eq!(mover.ask(r#"{"command": "lock", "locked": 0}"#), r#"{"command": "lock"}"#);
    // The refused ones are told so.
    let mut refused = 0;
    for mut stream in &crowd {
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        match stream.read(&mut [0; 1]) {
            Ok(0) => refused += 1,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => refused += 1,
            _ => {}
        }
    }
    assert!(refused > 0);
    let lines = daemon.log().lines().filter(|line| line.contains("refused: ")).count();
    assert!(lines < 5, "{lines} lines about refused peers");
    drop(crowd);
    daemon.wait_for_status("room again", |status| status["clients_connected"] == 2);
    daemon.signal(Signal::TERM);
}

#[test]
fn the_number_of_connections_can_be_limited() {
    let daemon = Setup::conf("max_connections 2\n").start();
    let _first = daemon.mover("m0");
    let second = daemon.mover("m1");
    let mut third = daemon.peer();
    assert_eq!(third.recv(), None);
    daemon.wait_for_log("refused: 2 connections are open");
    drop(second);
    // As a mover would: again and again.
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let mut again = daemon.peer();
        if again.stream.write_all(STATUS.as_bytes()).is_ok() && again.recv().is_some() {
            break;
        }
        assert!(std::time::Instant::now() < end);
    }
}

#[test]
fn answers_that_nobody_reads_end_the_connection_at_the_limit() {
    let daemon = Setup::conf("max_client_buffer 64K\n").start();
    let mut deaf = daemon.mover("deaf");
    let data = "x".repeat(4000);
    let items: Vec<_> = (1..=100u64).map(|n| item(20, n as u32, n, &data)).collect();
    assert_eq!(daemon.peer().queue(&items), r#"{"command": "queue", "enqueued": 100}"#);
    deaf.send(r#"{"command": "recv", "max_bytes": 10000000}"#);
    daemon.wait_for_log("more than max_client_buffer 65536: closing");
    assert!(deaf.is_closed());
    others_are_served(&daemon);
}

/// C renames no connection to an id in use, and a half-open mover blocks its own id for ever.
#[test]
fn an_id_in_use_is_refused_while_its_owner_lives() {
    let daemon = Setup::default().start();
    let mut first = daemon.mover("m0");
    let mut second = daemon.peer();
    let reply = second.ask(r#"{"command": "ehlo", "id": "m0"}"#);
    assert_eq!(reply, r#"{"command": "ehlo", "status": 17, "error": "id already used by another client"}"#);
    // The first is still the one.
    assert_eq!(daemon.peer().queue(&[item(20, 1, 1, "")]), r#"{"command": "queue", "enqueued": 1}"#);
    assert_eq!(oids(&first.work("")), [1]);
}

#[test]
fn an_id_whose_owner_has_closed_is_free_at_once() {
    let daemon = Setup::default().start();
    for _ in 0..20 {
        let first = daemon.mover("m0");
        drop(first);
        let mut second: Peer = daemon.peer();
        assert_eq!(second.ask(r#"{"command": "ehlo", "id": "m0"}"#), EHLO);
    }
}

/// What a peer asked for is worth as long as it reads: five seconds of nothing end it, not five seconds in all.
#[test]
fn a_half_closed_peer_that_reads_slowly_gets_all_of_a_long_status() {
    const COUNT: u64 = 100_000;
    let daemon = Setup::default().start();
    let mut peer = daemon.peer();
    for start in (0..COUNT).step_by(1000) {
        let items: Vec<_> =
            (start..start + 1000).map(|n| item(20, n as u32 + 1, n, "tag=long enough")).collect();
        peer.queue(&items);
    }
    let mut slow = daemon.peer();
    slow.send(r#"{"command": "status", "verbose": 6}"#);
    slow.half_close();
    let began = std::time::Instant::now();
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let len = slow.stream.read(&mut chunk).unwrap();
        if len == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..len]);
        // Slow is what this peer is: longer than the daemon would wait for one that reads nothing.
        if began.elapsed() < Duration::from_secs(7) {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let status: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(status["waiting_archive"].as_array().unwrap().len() as u64, COUNT);
}
