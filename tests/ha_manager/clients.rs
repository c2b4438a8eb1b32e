//! Clients that are many, slow, or say nothing.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use harness::ha::{Cluster, Shape};
use harness::{patience, poll};

fn connect(cluster: &Cluster, says: &str) -> UnixStream {
    let mut stream = UnixStream::connect(cluster.socket()).unwrap();
    stream.set_read_timeout(Some(patience())).unwrap();
    stream.write_all(says.as_bytes()).unwrap();
    stream
}

fn was_heard(cluster: &Cluster) {
    cluster.command("groups/g0/unmanage").unwrap();
    let events = cluster.events();
    let lost: Vec<_> = events.iter().filter(|event| event.event == "lost").collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(cluster.status().runs_on("g0", "h0"));
}

#[test]
fn a_thousand_clients_are_answered() {
    let cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    let ask = "GET /api/v1/ha/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let clients: Vec<UnixStream> = (0..1000).map(|_| connect(&cluster, ask)).collect();
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('}'), "{answer}");
    }
    was_heard(&cluster);
}

#[test]
fn who_says_nothing_has_to_go() {
    let cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    let mut clients: Vec<UnixStream> = Vec::new();
    for _ in 0..100 {
        clients.push(connect(&cluster, ""));
        clients.push(connect(&cluster, "GET /api/v1/ha/st"));
        clients.push(connect(
            &cluster,
            "POST /api/v1/ha/takeover HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
        ));
    }
    // These have no room before others are gone.
    was_heard(&cluster);
    for mut client in clients {
        let mut rest = Vec::new();
        // What was not read by the other side makes this an error.
        let _ = client.read_to_end(&mut rest);
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&rest));
    }
}

#[test]
fn listeners_that_never_read_hold_up_nobody() {
    let cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    let ask = "GET /api/v1/ha/events/stream HTTP/1.1\r\nhost: x\r\n\r\n";
    let _listeners: Vec<UnixStream> = (0..100).map(|_| connect(&cluster, ask)).collect();
    was_heard(&cluster);
}

#[test]
fn what_operators_write_cannot_break_lines() {
    let cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    let long = "x".repeat(5000);
    for (path, method, body) in [
        ("/api/v1/ha/groups/g0/unmanage", "POST", r#"{"reason":"one\ntwo\u001b[31m"}"#.to_owned()),
        ("/resources/g1", "PATCH", format!(r#"{{"managed":false,"comment":"one\ntwo {long}"}}"#)),
    ] {
        let answer = cluster.ask(method, path, &body);
        assert!(matches!(answer.code, 200 | 202), "{}", answer.body);
    }
    let found = poll(patience(), || {
        let events = cluster.events();
        let told: Vec<String> = events.iter().filter_map(|event| event.comment.clone()).collect();
        let told: Vec<String> = told.into_iter().filter(|comment| comment.contains("one two")).collect();
        (told.len() == 2).then_some(told)
    });
    let found = found.unwrap_or_else(|| panic!("{:?}", cluster.events()));
    assert!(
        found.iter().all(|comment| !comment.contains(char::is_control) && comment.len() < 1100),
        "{found:?}"
    );
}
