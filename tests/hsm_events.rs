//! What happens, told as it happens over the HSM role's API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod daemon_support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use daemon_support::{Daemon, PATIENCE, Setup, item, oids};
use harness::ha::http::ask;
use serde_json::{Value, json};

/// A connection that follows.
struct Follower(BufReader<UnixStream>);

impl Follower {
    /// Returns once the daemon has taken it.
    fn new(daemon: &Daemon, query: &str) -> Self {
        let mut stream = UnixStream::connect(daemon.dir().join("hsm.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /api/v1/hsm/events{query} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut follower = Self(BufReader::new(stream));
        let mut line = String::new();
        follower.0.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        while line != "\r\n" {
            line.clear();
            follower.0.read_line(&mut line).unwrap();
        }
        follower
    }

    /// The next event; `None` at the end.
    fn next(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 || line == "0\r\n" {
                return None;
            }
            if let Some(data) = line.strip_prefix("data:") {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }

    /// The next event in a few words.
    fn words(&mut self) -> String {
        let event = self.next().expect("another event");
        let text = |name: &str| event[name].as_str().unwrap_or("").to_owned();
        let about = if event["alert"].is_object() {
            event["alert"]["kind"].as_str().unwrap().to_owned()
        } else {
            text("cookie")
        };
        let words = format!("{} {} {about} {}", text("kind"), text("what"), text("mover"));
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

fn post(daemon: &Daemon, path: &str, body: &Value) {
    let answer = ask(&daemon.dir().join("hsm.sock"), "POST", path, &body.to_string()).unwrap();
    assert_eq!(answer.code, 200, "{}", answer.body);
}

#[test]
fn what_happens_is_told() {
    let daemon = Setup::default().start();
    post(&daemon, "/api/v1/hsm/lock", &json!({"lock": "locked"}));
    let mut all = Follower::new(&daemon, "");
    assert_eq!(all.words(), "alert raised locked", "what there is comes first");
    let mut failed = Follower::new(&daemon, "?failed=true");
    let mut movers = Follower::new(&daemon, "?kind=mover");
    post(&daemon, "/api/v1/hsm/lock", &json!({"lock": "unlocked"}));
    assert_eq!(all.words(), "alert cleared locked");
    let mut mover = daemon.mover("m1");
    assert_eq!(all.words(), "mover connected m1");
    daemon.peer().queue(&[item(20, 1, 1, ""), item(20, 2, 2, "")]);
    assert_eq!([all.words(), all.words()], ["request admitted 0x1", "request admitted 0x2"]);
    assert_eq!(oids(&mover.work("")), [1, 2]);
    mover.done(1, 1, 0);
    mover.done(2, 2, 5);
    let life = [all.words(), all.words(), all.words(), all.words()];
    let want = ["sent 0x1 m1", "sent 0x2 m1", "done 0x1 m1", "done 0x2 m1"];
    assert_eq!(life, want.map(|words| format!("request {words}")));
    let event = failed.next().unwrap();
    assert_eq!(
        (&event["cookie"], &event["status"], &event["action"]),
        (&json!("0x2"), &json!(5), &json!("ARCHIVE"))
    );
    assert_eq!(event["fid"], "[0x200000401:0x2:0x0]");
    assert_eq!(all.words(), "alert raised failed");
    drop(mover);
    assert_eq!([movers.words(), movers.words()], ["mover connected m1", "mover away m1"]);
}

/// Who reads nothing costs a bounded number of events, delays nobody, and is told what it missed when it reads again.
#[test]
fn a_slow_follower_is_told_that_it_missed_something() {
    let daemon = Setup::default().start();
    let mut slow = Follower::new(&daemon, "?kind=request");
    let mut quick = Follower::new(&daemon, "?kind=request");
    const COUNT: u32 = 60_000;
    let items: Vec<String> = (1..=COUNT).map(|n| item(20, n, u64::from(n), "")).collect();
    for part in items.chunks(2000) {
        daemon.peer().queue(part);
        // This one reads all of it before there is more.
        for _ in part {
            let event = quick.next().unwrap();
            assert_eq!(event["what"], "admitted", "{event}");
        }
    }
    let mut mover = daemon.mover("m1");
    assert_eq!(oids(&mover.work(r#", "max_archive": 1"#)), [1], "others are served");
    let (mut seen, mut last) = (0, Value::Null);
    while let Some(event) = slow.next() {
        (seen, last) = (seen + 1, event);
    }
    assert_eq!((&last["kind"], &last["what"]), (&json!("end"), &json!("slow")), "after {seen}");
    let missed = last["text"].as_str().unwrap();
    assert!(missed.contains("events were missed"), "{missed}");
    assert!(seen < COUNT, "{seen}");
}

/// Followers do not take the places of those who only ask.
#[test]
fn there_is_an_end_to_followers() {
    let daemon = Setup::default().start();
    let followers: Vec<Follower> = (0..64).map(|_| Follower::new(&daemon, "")).collect();
    let socket = daemon.dir().join("hsm.sock");
    let refused = ask(&socket, "GET", "/api/v1/hsm/events", "").unwrap();
    assert_eq!((refused.code, refused.errors().contains("follow already")), (503, true), "{}", refused.body);
    assert_eq!(ask(&socket, "GET", "/api/v1/hsm/status", "").unwrap().code, 200);
    drop(followers);
    // Their places are free when the daemon has seen that they are gone.
    let place = harness::poll(PATIENCE, || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(b"GET /api/v1/hsm/events HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.starts_with("HTTP/1.1 200").then_some(())
    });
    assert!(place.is_some(), "nobody's place is given to others");
}
