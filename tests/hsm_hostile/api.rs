//! What may come over the socket of the API. (Slow clients, and many, are in `tests/hsm_api.rs`.)

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::daemon_support::{Daemon, PATIENCE, Setup, item};
use crate::witness::{MIB, Witness, forget_peak, peak, resident};

/// What the API answers to these bytes, up to the end of the connection. Whoever has stopped sending has gone, as it sees it.
fn raw(daemon: &Daemon, bytes: &[u8], stop: bool) -> Vec<u8> {
    let mut stream = UnixStream::connect(daemon.dir().join("hsm.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may have refused already.
    let _ = stream.write_all(bytes);
    if stop {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

const END: &str = "host: x\r\nconnection: close\r\n\r\n";

#[test]
fn garbage_is_refused() {
    let daemon = Setup::default().start();
    let witness = Witness::start(&daemon);
    let before = resident(&daemon);
    forget_peak(&daemon);
    let head = |text: &str| format!("GET {text} HTTP/1.1\r\n{END}").into_bytes();
    let post = |path: &str, length: &str, body: &str| {
        format!("POST /api/v1/hsm/{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{length}\r\n\r\n{body}")
            .into_bytes()
    };
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let deep_length = format!("content-length: {}", deep.len());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no HTTP", b"{\"command\": \"status\"}".to_vec()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec()),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("NULs", vec![0; 4096]),
        ("a header of 1 MB", format!("GET / HTTP/1.1\r\na: {}\r\n{END}", "b".repeat(1 << 20)).into_bytes()),
        ("10,000 headers", format!("GET / HTTP/1.1\r\n{}{END}", "a: b\r\n".repeat(10_000)).into_bytes()),
        ("a line that does not end", vec![b'G'; 2 << 20]),
        ("a path of 1 MB", head(&format!("/{}", "a".repeat(1 << 20)))),
        ("a path that is none", head("/api/v1/hsm/%00%ff/../..//status")),
        ("a path with NUL", head("/api/v1/hsm/sta\0tus")),
        ("a query of 60 KB", head(&format!("/api/v1/hsm/requests?fid={}", "x,".repeat(30_000)))),
        ("a query with other names", head("/api/v1/hsm/requests?command=cancel")),
        ("numbers that are none", head("/api/v1/hsm/requests?limit=-1&user=99999999999")),
        ("a cookie that is none", head("/api/v1/hsm/requests?cookie=0xfffffffffffffffff")),
        ("another method", format!("DELETE /api/v1/hsm/status HTTP/1.1\r\n{END}").into_bytes()),
        ("no host", b"GET /nowhere HTTP/1.1\r\nconnection: close\r\n\r\n".to_vec()),
        ("a negative length", post("cancel", "content-length: -1", "{}")),
        ("two lengths", post("cancel", "content-length: 2\r\ncontent-length: 3", "{}")),
        ("a length and chunks", post("lock", "content-length: 2\r\ntransfer-encoding: chunked", "zz\r\n{}")),
        ("chunks that are none", post("cancel", "transfer-encoding: chunked", "fffffffffffffffff\r\n{}")),
        ("a body that is no JSON", post("cancel", "content-length: 4", "\u{0}{]\"")),
        ("a body that nests", post("cancel", &deep_length, &deep)),
        ("a body of another type", post("lock", "content-length: 11", "{\"mode\": 99")),
        ("an order of nothing", post("cancel", "content-length: 2", "{}")),
        ("a mover of an odd name", post("movers/%00%1b%5b2J/drain", "content-length: 3", "[1]")),
        ("a listing that is none", post("reconcile", "content-length: 9", "\u{1}nonsense")),
    ];
    // Closed by hyper, perhaps with an answer, which is lost when not all was read.
    let unread = [
        "a header of 1 MB",
        "10,000 headers",
        "a line that does not end",
        "a path of 1 MB",
        "NULs",
        "HTTP/2",
    ];
    for (name, bytes) in &cases {
        let answer = raw(&daemon, bytes, false);
        let refused = answer.starts_with(b"HTTP/1.1 4") || answer.is_empty() && unread.contains(name);
        assert!(refused, "{name}: {}", answer.escape_ascii());
        assert!(answer.len() < 70 << 10, "{name}: an answer of {} bytes", answer.len());
        witness.served(&daemon, name);
    }
    // It is gone before it could be told.
    raw(&daemon, &post("cancel", "content-length: 1000", "{\"all\": true"), true);
    witness.end();
    let grown = peak(&daemon).saturating_sub(before);
    assert!(grown < 24 * MIB, "{} MiB", grown / MIB);
    let lines = daemon.log().lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count();
    assert!(lines < 10, "{}", daemon.log());
}

/// Good requests with some bytes changed: whatever becomes of them, the next good one is answered.
#[test]
fn damaged_requests_leave_it_as_it_was() {
    let daemon = Setup::default().start();
    let items: Vec<_> = (1..=20).map(|n| item(20, n, n.into(), "tag=a")).collect();
    daemon.peer().queue(&items);
    let select = r#"{"select": {"fids": ["[0x200000401:0x1:0x0]"], "hint": "tag="}, "preview": true}"#;
    let length = select.len();
    let good = [
        format!("GET /api/v1/hsm/requests?hint=tag%3Da&limit=3&archive_id=1 HTTP/1.1\r\n{END}"),
        format!("GET /api/v1/hsm/explain?fid=[0x200000401:0x1:0x0] HTTP/1.1\r\n{END}"),
        format!("GET /api/v1/hsm/history?limit=10 HTTP/1.1\r\n{END}"),
        format!("POST /api/v1/hsm/cancel HTTP/1.1\r\ncontent-length: {length}\r\n{END}{select}"),
    ];
    let seed = 11;
    let mut state: u64 = seed;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for run in 0..400 {
        let mut bytes = good[random(good.len())].clone().into_bytes();
        for _ in 0..1 + random(4) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = random(256) as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b" {}[]%&=:\r\n\0\xff"[random(13)]),
            }
        }
        raw(&daemon, &bytes, true);
        if run % 20 == 0 {
            let answer = raw(&daemon, format!("GET /api/v1/hsm/status HTTP/1.1\r\n{END}").as_bytes(), false);
            assert!(answer.starts_with(b"HTTP/1.1 200"), "seed {seed}, run {run}: {}", bytes.escape_ascii());
        }
    }
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}
