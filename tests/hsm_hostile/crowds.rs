//! Very many peers.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::daemon_support::{Daemon, PATIENCE, Setup, client, item_of};
use crate::witness::{MIB, Witness, forget_peak, peak, resident, ticks};

const CROWD: usize = 10_000;

fn warnings(daemon: &Daemon) -> usize {
    daemon.log().lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count()
}

fn connect(daemon: &Daemon) -> TcpStream {
    TcpStream::connect(("127.0.0.1", daemon.port())).unwrap()
}

/// As many as can be opened here, up to [`CROWD`].
fn crowd_size() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let most = limit.maximum.map_or(CROWD, |files| usize::try_from(files).unwrap().saturating_sub(500));
    assert!(most >= 1000, "`ulimit -Hn` is below 1500");
    CROWD.min(most)
}

/// 10,000 connections, every other one a mover that waits for work. C spins from 1024 on.
#[test]
fn ten_thousand_connections_disturb_nobody() {
    let size = crowd_size();
    let daemon = Setup::default().start();
    let witness = Witness::start(&daemon);
    let before = resident(&daemon);
    forget_peak(&daemon);
    let mut crowd = Vec::new();
    for number in 0..size {
        let mut stream = connect(&daemon);
        if number % 2 == 0 {
            let text = format!(
                r#"{{"command": "ehlo", "id": "m{number}", "archive_ids": [5]}}{{"command": "recv", "max_bytes": 1048576}}"#
            );
            stream.write_all(text.as_bytes()).unwrap();
        }
        crowd.push(stream);
    }
    let connected = |status: &serde_json::Value| status["clients_connected"].as_u64().unwrap() as usize;
    daemon.wait_for_status("all are there", |status| connected(status) >= size + 3);
    witness.served(&daemon, "among 10,000");
    // Each of the movers gets one of these.
    let mut peer = daemon.peer();
    let work: Vec<_> = (1..=size as u32 / 2).map(|n| item_of(20, n, n.into(), 5, "")).collect();
    peer.ask(&format!(r#"{{"command": "queue", "hsm_action_items": [{}]}}"#, work.join(", ")));
    daemon.wait_for_status("all work is given", |status| {
        status["running_archive"].as_u64().unwrap_or(0) >= size as u64 / 2
    });
    witness.served(&daemon, "while 10,000 work");
    let grown = peak(&daemon).saturating_sub(before);
    assert!(grown < 160 * MIB, "{} MiB for {size}", grown / MIB);
    drop(crowd);
    daemon.wait_for_status("all are gone", |status| connected(status) <= 6);
    witness.served(&daemon, "after 10,000");
    witness.end();
    assert!(warnings(&daemon) < 20, "{}", daemon.log());
}

/// Connections as fast as they can be made, closed at once, reset, or after some nonsense.
#[test]
fn floods_of_connections_disturb_nobody_and_do_not_fill_the_log() {
    let daemon = Setup::default().start();
    let witness = Witness::start(&daemon);
    let before = resident(&daemon);
    forget_peak(&daemon);
    std::thread::scope(|scope| {
        for kind in 0..3 {
            let daemon = &daemon;
            scope.spawn(move || {
                for _ in 0..3000 {
                    let mut stream = connect(daemon);
                    match kind {
                        0 => {}
                        1 => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
                        _ => drop(stream.write_all(b"GET / HTTP/1.1\r\n\r\n")),
                    }
                }
            });
        }
        witness.served(&daemon, "during a flood");
    });
    witness.served(&daemon, "after a flood");
    // Nonsense within the protocol, too.
    let bad = r#"{"command": "queue", "hsm_action_items": [1, {}, {"hai_action": 99}]}"#.repeat(3000);
    let mut peer = daemon.peer();
    let mut reader = peer.stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| std::io::copy(&mut reader, &mut std::io::sink()));
        peer.send(&bad);
        peer.half_close();
    });
    witness.served(&daemon, "after nonsense");
    witness.end();
    let grown = peak(&daemon).saturating_sub(before);
    assert!(grown < 32 * MIB, "{} MiB", grown / MIB);
    let lines = warnings(&daemon);
    assert!((3..150).contains(&lines), "{lines} lines");
    // Whatever was open for them is closed.
    let files = || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid().as_raw_nonzero())).unwrap().count();
    daemon.wait_for_status("their files are closed", |_| files() < 40);
}

/// At the limit of open files requests are still stored, the log stays short and the CPU idle; with room again, all is as
/// before.
#[test]
fn at_the_limit_of_open_files_work_goes_on() {
    let shell = Some("ulimit -n 320".to_owned());
    let daemon = Setup { shell, stored: true, ..Setup::default() }.start();
    let witness = Witness::start(&daemon);
    let crowd: Vec<TcpStream> = (0..600).map(|_| connect(&daemon)).collect();
    daemon.wait_for_log("refused: ");
    witness.served(&daemon, "at the limit");
    drop(crowd);
    daemon.wait_for_status("room again", |status| status["clients_connected"].as_u64().unwrap() <= 5);
    let _late = daemon.mover("late");
    assert!(client(&daemon.status(), "late").is_some());
    witness.end();
    assert!(warnings(&daemon) < 10, "{}", daemon.log());
}

/// With no descriptor left for them, clients of the API wait; neither the log nor the CPU shows it much.
#[test]
fn the_api_waits_for_descriptors() {
    let shell = Some("ulimit -n 40".to_owned());
    let daemon = Setup { shell, ..Setup::default() }.start();
    let witness = Witness::start(&daemon);
    let crowd: Vec<TcpStream> = (0..60).map(|_| connect(&daemon)).collect();
    daemon.wait_for_log("refused: ");
    let mut clients: Vec<UnixStream> =
        (0..20).map(|_| UnixStream::connect(daemon.dir().join("hsm.sock")).unwrap()).collect();
    for client in &mut clients {
        client.write_all(b"GET /api/v1/hsm/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    }
    daemon.wait_for_log("the API cannot accept a client");
    witness.served(&daemon, "without descriptors");
    witness.end();
    // A second of waiting costs next to none of it. (Only a spin would fail this, however busy the machine is.)
    let before = ticks(&daemon);
    std::thread::sleep(Duration::from_secs(1));
    assert!(ticks(&daemon) - before < 60, "{} ticks", ticks(&daemon) - before);
    let lines = daemon.log().matches("the API cannot accept a client").count();
    assert!(lines <= 3, "{lines} lines");
    drop(crowd);
    for client in &mut clients {
        let mut answer = [0; 12];
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        std::io::Read::read_exact(client, &mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
}
