//! Servers that do what no server should, and machines that have nothing left: a copytool under the library goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Each test program uses its own part.
#[allow(dead_code)]
mod rig;

use std::collections::BTreeSet;

use rig::{ARCHIVE, Puppet, Server, fid, item};
use serde_json::{Value, json};

const QUIET: (&str, &str) = ("COORDINATOOL_VERBOSE", "off");

fn list(items: Value) -> Value {
    json!({
        "hsm_action_list": {"hal_version": 1, "hal_archive_id": 1, "hal_fsname": "testfs0", "list": items},
        "command": "recv",
    })
}

fn without(field: &str) -> Value {
    let mut item = item(ARCHIVE, 1, 1, "");
    item.as_object_mut().unwrap().remove(field);
    item
}

fn with(field: &str, value: Value) -> Value {
    let mut item = item(ARCHIVE, 1, 1, "");
    item[field] = value;
    item
}

/// What no server answers.
fn nonsense() -> Vec<String> {
    let deep = format!("{}{}", "{\"a\":".repeat(200), "1");
    vec![
        // Sizes.
        format!("{{\"command\": \"recv\", \"x\": \"{}", "x".repeat(9 << 20)),
        deep,
        // Types.
        json!({"command": ["recv"]}).to_string(),
        json!({"command": "recv", "hsm_action_list": []}).to_string(),
        json!({"command": "recv", "hsm_action_list": {"hal_version": 1, "hal_fsname": 3, "list": []}})
            .to_string(),
        list(json!({"0": 1})).to_string(),
        list(json!([[], "x", 3])).to_string(),
        // Items.
        list(json!([{}])).to_string(),
        list(json!([without("hai_fid")])).to_string(),
        list(json!([without("hai_action")])).to_string(),
        list(json!([with("hai_action", json!(77))])).to_string(),
        list(json!([with("hai_fid", json!({"f_seq": "x", "f_oid": -1, "f_ver": []}))])).to_string(),
        list(json!([item(ARCHIVE, 1, 1, ""), with("hai_cookie", json!("x"))])).to_string(),
        // Answers to nothing.
        json!({"command": "ehlo"}).to_string(),
        json!({"command": "queue", "enqueued": 3}).to_string(),
        json!({"command": "lock"}).to_string(),
    ]
}

/// Each of these ends the connection and nothing else: what is held is claimed again, nothing of the answer reaches the
/// copytool, and recv gives no error.
#[test]
fn an_answer_that_is_none_ends_the_connection() {
    let texts = nonsense();
    // The pause before each new connection is the time that this takes: four at a time.
    std::thread::scope(|scope| {
        for part in texts.chunks(texts.len().div_ceil(4)) {
            scope.spawn(move || each_ends_the_connection(part));
        }
    });
}

fn each_ends_the_connection(texts: &[String]) {
    let server = Server::start();
    let (mut puppet, mut peer) = server.puppet(&[QUIET]);
    puppet.line("register");
    puppet.order("loop");
    peer.expect("recv");
    peer.work(1, &[item(ARCHIVE, 9, 9, "")]);
    puppet.line("list");
    assert_eq!(puppet.call("begin 0"), 0);
    peer.expect("recv");
    for text in texts {
        println!("{:.200}", text);
        // It may be left before all of it is written.
        peer.try_send_raw(text.as_bytes());
        peer.wait_closed();
        let ehlo;
        (peer, ehlo) = server.welcome();
        assert_eq!(rig::claimed(&ehlo), [9], "after {:.200}", text);
        peer.expect("recv");
    }
    // Work twice for one question: the first is taken.
    peer.send_raw(format!("{}{}", list(json!([item(ARCHIVE, 10, 10, "")])), list(json!([]))).as_bytes());
    peer.wait_closed();
    puppet.line("list");
    let (_peer, ehlo) = server.welcome();
    assert_eq!(rig::claimed(&ehlo).len(), 2);
    puppet.finish();
}

/// Acknowledgements of nothing change nothing.
#[test]
fn an_acknowledgement_of_nothing_is_no_acknowledgement() {
    let server = Server::start();
    let (mut puppet, mut peer) = server.puppet(&[QUIET]);
    puppet.line("register");
    puppet.order("recv");
    peer.expect("recv");
    for _ in 0..100 {
        peer.send(&json!({"command": "done"}));
    }
    peer.work(1, &[item(ARCHIVE, 1, 1, "")]);
    puppet.line("list");
    assert_eq!(puppet.call("begin 0"), 0);
    assert_eq!(puppet.call("end 0 0"), 0);
    assert_eq!(peer.expect("done")["hai_cookie"], 1);
    peer.close();
    puppet.order("loop");
    let (mut peer, ehlo) = server.welcome();
    assert_eq!(rig::claimed(&ehlo), [1]);
    assert_eq!(peer.expect("done")["hai_cookie"], 1);
    puppet.finish();
}

/// A server that takes the connection and never says anything: register does not wait for it, unregister and the end of the
/// process neither.
#[test]
fn a_server_that_never_answers_keeps_nobody() {
    let server = Server::start();
    let mut puppet = Puppet::start(&server.host(), &[QUIET]);
    puppet.register(0, "");
    let mut peer = server.accept();
    peer.expect("ehlo");
    puppet.order("loop");
    // Not even half an answer.
    peer.send_raw(b"{\"command\": \"eh");
    assert_eq!(puppet.call("unregister"), 0);
    assert_eq!(puppet.line("loop"), "loop 0");
    assert_eq!(puppet.line("loop"), format!("loop {}", -libc::ESHUTDOWN));
    peer.wait_closed();
    puppet.finish();
}

/// A thousand threads that end at the same moment: each end is told once, under one connection and under one that is lost
/// in between.
#[test]
fn a_thousand_threads_end_at_once() {
    const THREADS: u64 = 1000;
    let server = Server::start();
    let (mut puppet, mut peer) = server.puppet(&[QUIET]);
    puppet.order("loop");
    peer.expect("recv");
    let items: Vec<_> = (1..=THREADS).map(|n| item(ARCHIVE, n, n as u32, "")).collect();
    peer.work(1, &items);
    puppet.line("list");
    puppet.order(&format!("burst {THREADS}"));
    let mut told = BTreeSet::new();
    for _ in 0..THREADS / 2 {
        let done = peer.expect("done");
        assert!(told.insert(done["hai_cookie"].as_u64().unwrap()), "told twice: {done}");
        peer.send(&json!({"command": "done"}));
    }
    assert_eq!(puppet.line("burst"), "burst 0");
    peer.close();
    let (mut peer, ehlo) = server.welcome();
    let claimed: BTreeSet<u64> = rig::claimed(&ehlo).into_iter().collect();
    assert_eq!(claimed.union(&told).count() as u64, THREADS);
    let mut again = BTreeSet::new();
    while again.union(&told).count() < THREADS as usize {
        let done = peer.expect("done");
        assert!(again.insert(done["hai_cookie"].as_u64().unwrap()), "told twice: {done}");
        peer.send(&json!({"command": "done"}));
    }
    let ends = puppet.asked().iter().filter(|line| line.starts_with("end ")).count();
    assert_eq!(ends as u64, THREADS, "the MDT hears of each once");
    puppet.finish();
}

/// Memory that is short for a while: the copytool waits for it, and does not die (Rust's habit) or spin.
#[test]
fn a_lack_of_memory_only_delays() {
    let server = Server::start();
    let (mut puppet, mut peer) = server.puppet(&[QUIET]);
    puppet.line("register");
    puppet.order("loop");
    peer.expect("recv");
    assert_eq!(puppet.call("starve"), 0);
    let items: Vec<_> = (1..=15_000)
        .map(|n| {
            json!({
                "hai_action": ARCHIVE, "hai_fid": fid(n), "hai_dfid": fid(n), "hai_extent_offset": 0,
                "hai_extent_length": -1, "hai_cookie": n, "hai_gid": 0, "hai_data": "0123456789012345",
            })
        })
        .collect();
    peer.work(1, &items);
    puppet.wait_error("there is no memory");
    assert_eq!(puppet.call("feed"), 0);
    let list = puppet.line("list");
    assert!(list.contains("count=15000"), "{:.200}", list);
    puppet.finish();
}

/// Nobody reads what is written to standard error, or nobody ever will: the copytool neither waits nor dies of SIGPIPE.
#[test]
fn a_standard_error_that_nobody_reads_stops_nothing() {
    for reader_is_there in [true, false] {
        let server = Server::start();
        let mut puppet =
            Puppet::start_mute(&server.host(), &[("COORDINATOOL_VERBOSE", "debug")], reader_is_there);
        puppet.order(&format!("register {} 0", puppet.mnt().display()));
        let (mut peer, _) = server.welcome();
        puppet.line("register");
        puppet.order("loop");
        peer.expect("recv");
        let items: Vec<_> = (1..=1000).map(|n| item(ARCHIVE, n, n as u32, "")).collect();
        peer.work(1, &items);
        puppet.line("list");
        puppet.order("work 0");
        // Much more is said of these than a pipe holds.
        for _ in 0..1000 {
            peer.expect("done");
            peer.send(&json!({"command": "done"}));
        }
        puppet.finish();
    }
}
