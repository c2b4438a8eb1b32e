//! Memory that many peers hold together.

use std::io::Write;
use std::time::Instant;

use crate::daemon_support::{Daemon, Peer, Setup, item};
use crate::witness::{MIB, STATUS, Witness, forget_peak, peak, resident};

/// A peer in the middle of a message, of which this much is there.
fn midway(daemon: &Daemon, bytes: usize) -> Peer {
    let mut peer = daemon.peer();
    let text = format!(r#"{{"command": "status", "junk": "{}"#, "x".repeat(bytes));
    // The daemon may close before it has all.
    let _ = peer.stream.write_all(text.as_bytes());
    peer
}

/// C reads one message at a time, and hangs in it. Here each peer may be in the middle of one of 128 MB: the sum is bounded, and
/// those go that have held theirs for longest, so that whoever sends a long message at once gets it through.
#[test]
fn messages_that_do_not_end_have_a_bound_together() {
    let daemon = Setup::conf("max_input_buffers 32M\n").start();
    let witness = Witness::start(&daemon);
    let before = resident(&daemon);
    forget_peak(&daemon);
    let begun = Instant::now();
    let mut held: Vec<Peer> = (0..24).map(|_| midway(&daemon, 6 << 20)).collect();
    daemon.wait_for_log("more than max_input_buffers 33554432 bytes");
    witness.served(&daemon, "while messages do not end");
    // Five megabytes at once, from one who came late.
    let items: Vec<_> = (1..=14_000).map(|n| item(20, n, n.into(), &"d".repeat(60))).collect();
    assert_eq!(daemon.peer().queue(&items), r#"{"command": "queue", "enqueued": 14000}"#);
    // The first has been sent away, the last has not.
    assert_eq!(held[0].recv(), None);
    let last = held.last_mut().unwrap();
    last.send("\"}");
    assert!(last.recv().unwrap().starts_with(r#"{"command": "status""#));
    let grown = peak(&daemon).saturating_sub(before);
    assert!(grown < 70 * MIB, "{} MiB", grown / MIB);
    let lines = daemon.log().lines().filter(|line| line.contains("max_input_buffers")).count();
    // One in ten seconds.
    let most = 2 + begun.elapsed().as_secs() / 10;
    assert!(lines as u64 <= most, "{lines} lines, at most {most}");
    drop(held);
    witness.served(&daemon, "after messages that did not end");
    witness.end();
}

/// A long message that has been taken costs nothing any more, although its peer stays and says nothing.
#[test]
fn messages_that_ended_are_not_kept() {
    let daemon = Setup::conf("max_input_buffers 32M\n").start();
    let before = resident(&daemon);
    let mut peers: Vec<Peer> = (0..16).map(|_| midway(&daemon, 0)).collect();
    let junk = "x".repeat(8 << 20);
    for peer in &mut peers {
        peer.send(&junk);
        assert!(peer.ask("\"}").starts_with(r#"{"command": "status""#));
    }
    let grown = resident(&daemon).saturating_sub(before);
    assert!(grown < 24 * MIB, "{} MiB", grown / MIB);
    for peer in &mut peers {
        assert!(peer.ask(STATUS).starts_with(r#"{"command": "status""#));
    }
}
