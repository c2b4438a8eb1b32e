//! What kills, aborts or hangs the C server, row by row.

use std::io::Write;
use std::net::Shutdown;

use crate::daemon_support::{Daemon, EHLO, Peer, Setup, item, item_of};
use crate::witness::{MIB, STATUS, attack};

const VERBOSE: &str = r#"{"command": "status", "verbose": 6}"#;

/// Sends without caring whether it is taken: the daemon may have closed.
fn throw(peer: &mut Peer, bytes: &[u8]) {
    let _ = peer.stream.write_all(bytes);
}

fn holding(daemon: &Daemon, texts: &[&str]) -> Vec<Peer> {
    let peers = texts.iter().map(|text| {
        let mut peer = daemon.peer();
        throw(&mut peer, text.as_bytes());
        peer
    });
    peers.collect()
}

fn fill(daemon: &Daemon, count: u32) {
    let mut peer = daemon.peer();
    for first in (1..=count).step_by(1000) {
        let items: Vec<_> =
            (first..first + 1000).map(|n| item(20, n, n.into(), "tag=of some length")).collect();
        assert_eq!(peer.queue(&items), r#"{"command": "queue", "enqueued": 1000}"#);
    }
}

/// C: "SIGPIPE kills the server".
#[test]
fn what_kills_c_by_sigpipe() {
    let daemon = Setup::default().start();
    fill(&daemon, 20_000);
    attack(
        &daemon,
        &[
            ("pipelined requests, then closed", 8 * MIB, &|daemon| {
                for _ in 0..50 {
                    throw(&mut daemon.peer(), STATUS.repeat(500).as_bytes());
                }
                Vec::new()
            }),
            ("verbose status, half read, then reset", 16 * MIB, &|daemon| {
                for _ in 0..20 {
                    let mut peer = daemon.peer();
                    throw(&mut peer, VERBOSE.repeat(3).as_bytes());
                    // A reset, not an end: the daemon's next write fails at once.
                    socket2::SockRef::from(&peer.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
                }
                Vec::new()
            }),
            ("verbose status that is not read, of peers that stay", 16 * MIB, &|daemon| {
                holding(daemon, &[VERBOSE.repeat(60).as_str(); 20])
            }),
        ],
    );
}

/// C: "SIGABRT" and "SIGSEGV". (A mover that reconnects while a cancel is pending is in `tests/hsm_defects.rs`, another
/// `hal_version` among the unit tests of `lustre::list`, name servers among those of `server::names`.)
#[test]
fn what_aborts_c() {
    let daemon = Setup::default().start();
    fill(&daemon, 20_000);
    let ehlo = |ids: &str| format!(r#"{{"command": "ehlo", "id": "odd", "archive_ids": [{ids}]}}"#);
    attack(
        &daemon,
        &[
            ("archive id 0 in a request", 4 * MIB, &|daemon| {
                let mut peer = daemon.peer();
                let reply = peer.queue(&[item_of(20, 90_001, 90_001, 0, "")]);
                assert!(reply.starts_with(r#"{"command": "queue""#), "{reply}");
                vec![peer]
            }),
            ("archive ids that are none in ehlo", 4 * MIB, &|daemon| {
                ["0", "-1", "4294967296", "\"x\"", "null", "[]", "1e9", "1, 0"]
                    .map(|ids| {
                        let mut peer = daemon.peer();
                        let reply = peer.ask(&ehlo(ids));
                        assert!(reply.starts_with(r#"{"command": "ehlo""#), "{ids}: {reply}");
                        peer
                    })
                    .into()
            }),
            ("more archive ids than there can be", 4 * MIB, &|daemon| {
                let mut peer = daemon.peer();
                throw(&mut peer, ehlo(&["1"; 5000].join(", ")).as_bytes());
                assert_eq!(peer.recv(), None);
                Vec::new()
            }),
            ("ehlo without id, then work", 4 * MIB, &|daemon| {
                let mut peer = daemon.peer();
                assert_eq!(peer.ask(r#"{"command": "ehlo"}"#), EHLO);
                peer.work(r#", "max_archive": 1"#);
                vec![peer]
            }),
            ("verbose status of a long queue, by many, some of whom leave", 16 * MIB, &|daemon| {
                let mut peers = holding(daemon, &[VERBOSE; 40]);
                peers.truncate(20);
                peers.retain_mut(|peer| peer.recv().unwrap().len() > 1 << 20);
                assert_eq!(peers.len(), 20);
                peers
            }),
        ],
    );
}

/// C: "all other clients hang while connected".
#[test]
fn what_hangs_c() {
    let daemon = Setup::default().start();
    attack(
        &daemon,
        &[
            ("half an object", 4 * MIB, &|daemon| holding(daemon, &[r#"{"command": "sta"#; 20])),
            ("white space", 4 * MIB, &|daemon| {
                holding(daemon, &[" ", "\n", "\t\r\n ", &" ".repeat(1 << 16)])
            }),
            ("a newline behind a message", 4 * MIB, &|daemon| {
                let mut peer = daemon.peer();
                assert!(peer.ask(&format!("{STATUS}\n")).starts_with(r#"{"command": "status""#));
                vec![peer]
            }),
            ("no object", 4 * MIB, &|daemon| holding(daemon, &["3", "\"x\"", "nul", "[1, 2", "-"])),
            ("a peer that has closed its sending half", 4 * MIB, &|daemon| {
                let peers = holding(daemon, &[r#"{"command": "qu"#; 5]);
                peers.iter().for_each(|peer| peer.stream.shutdown(Shutdown::Write).unwrap());
                peers
            }),
            ("a slow writer", 4 * MIB, &|daemon| {
                let mut peer = daemon.peer();
                for byte in STATUS.bytes().take(STATUS.len() - 1) {
                    throw(&mut peer, &[byte]);
                }
                vec![peer]
            }),
            ("midway in a message of 100 MB", 100 * MIB, &|daemon| {
                let mut peer = daemon.peer();
                throw(&mut peer, br#"{"command": "queue", "junk": ""#);
                let junk = "x".repeat(1 << 20);
                (0..60).for_each(|_| throw(&mut peer, junk.as_bytes()));
                vec![peer]
            }),
            ("replies that are not read", 8 * MIB, &|daemon| {
                let texts = STATUS.repeat(2000);
                let peers = (0..10).map(|_| daemon.peer());
                let peers = peers.map(|mut peer| {
                    // As many as it takes: the daemon stops reading at some point.
                    peer.stream.set_nonblocking(true).unwrap();
                    throw(&mut peer, texts.as_bytes());
                    peer
                });
                peers.collect()
            }),
        ],
    );
}

/// C: "hang + 2 GB memory", and what C survives.
#[test]
fn what_costs_c_memory_or_nothing() {
    let daemon = Setup::default().start();
    let wrong = [
        r#"{"command": "queue", "hsm_action_items": {"a": 1}}"#,
        r#"{"command": "queue", "hsm_action_items": [[[[1]]]]}"#,
        r#"{"command": "queue", "fsname": ["testfs0"], "hsm_action_items": [{"hai_fid": 3}]}"#,
        r#"{"command": "recv", "max_archive": "many", "max_bytes": {}}"#,
        r#"{"command": "recv", "max_archive": -5, "max_restore": -9223372036854775808, "max_bytes": -1}"#,
        r#"{"command": "done", "hai_cookie": -1, "hai_dfid": {"f_seq": -1, "f_oid": -1, "f_ver": -1}, "status": -99999}"#,
        r#"{"command": "done", "hai_cookie": 1e300, "hai_dfid": [], "status": null}"#,
        r#"{"command": "lock", "locked": {}}"#,
        r#"{"command": "status", "verbose": -9223372036854775808}"#,
        r#"{"command": "ehlo", "id": 3, "hai_list": 7, "archive_ids": "x"}"#,
        r#"{"command": "lease", "serial": -1}"#,
    ];
    attack(
        &daemon,
        &[
            // 30 MB of text. C needs 20 bytes for each of it.
            ("a long array of numbers for requests", 50 * MIB, &|daemon| {
                let numbers = "1,".repeat(15 << 20);
                let mut peer = daemon.peer();
                let reply = peer.ask(&format!(r#"{{"command": "queue", "hsm_action_items": [{numbers}1]}}"#));
                assert!(reply.contains(r#""status": -22"#), "{reply}");
                vec![peer]
            }),
            ("a string of 100 MB", 150 * MIB, &|daemon| {
                let mut peer = daemon.peer();
                let junk = "x".repeat(100 << 20);
                let reply = peer.ask(&format!(r#"{{"command": "status", "junk": "{junk}"}}"#));
                assert!(reply.starts_with(r#"{"command": "status""#), "{reply}");
                vec![peer]
            }),
            ("deep nesting", 4 * MIB, &|daemon| {
                let mut peer = daemon.peer();
                throw(&mut peer, format!(r#"{{"a": {}"#, "[".repeat(1_000_000)).as_bytes());
                assert_eq!(peer.recv(), None);
                Vec::new()
            }),
            ("wrong types and wild numbers", 4 * MIB, &|daemon| holding(daemon, &wrong)),
            ("broken texts", 4 * MIB, &|daemon| {
                holding(
                    daemon,
                    &["{\"command\" \"status\"}", "{,}", "{\"a\": 01}", "{\"a\": \"\u{1}\"}", "\u{0}"],
                )
            }),
            ("noise", 4 * MIB, &|daemon| {
                let noise: Vec<u8> =
                    (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
                noise.chunks(1 << 14).for_each(|part| throw(&mut daemon.peer(), part));
                Vec::new()
            }),
            ("1000 peers that say nothing", 16 * MIB, &|daemon| (0..1000).map(|_| daemon.peer()).collect()),
        ],
    );
}
