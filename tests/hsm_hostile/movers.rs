//! Movers that take what is not theirs, or never stop.

use serde_json::Value;

use crate::daemon_support::{Daemon, EHLO, Peer, Setup, item, item_of, oids};
use crate::witness::{MIB, Witness, forget_peak, peak, resident};

fn done(cookie: u64, oid: u32) -> String {
    format!(
        r#"{{"command": "done", "hai_cookie": {cookie}, "hai_dfid": {{"f_seq": 8589935617, "f_oid": {oid}, "f_ver": 0}}, "status": 0}}"#
    )
}

fn count(status: &Value, key: &str) -> u64 {
    status[key].as_u64().unwrap_or(0)
}

/// Sends all of it while the answers are read and thrown away.
fn pour(peer: &mut Peer, text: &str) {
    let mut reader = peer.stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || drop(std::io::copy(&mut reader, &mut std::io::sink())));
        peer.send(text);
        peer.half_close();
    });
}

fn running(daemon: &Daemon, count_of: u32) -> Peer {
    let items: Vec<_> = (1..=count_of).map(|n| item(20, n, n.into(), "")).collect();
    daemon.peer().queue(&items);
    let mut victim = daemon.mover("victim");
    assert_eq!(oids(&victim.work("")).len(), count_of as usize);
    victim
}

/// C: `done` from anybody ends anybody's work, and its counter becomes 4294967295 (peer 27).
#[test]
fn nobody_ends_or_takes_the_work_of_a_mover_that_lives() {
    let daemon = Setup::stored().start();
    let mut victim = running(&daemon, 20);
    let claim: Vec<_> = (1..=20).map(|n| item(20, n, n.into(), "")).collect();
    let claim = claim.join(", ");

    // Under its id, with its work.
    let mut thief = daemon.peer();
    let reply = thief.ask(&format!(r#"{{"command": "ehlo", "id": "victim", "hai_list": [{claim}]}}"#));
    assert!(reply.contains(r#""status": 17"#), "{reply}");
    // Under an id of its own.
    let mut other = daemon.peer();
    assert_eq!(other.ask(&format!(r#"{{"command": "ehlo", "id": "thief", "hai_list": [{claim}]}}"#)), EHLO);
    // Without any.
    let mut nobody = daemon.peer();
    for peer in [&mut thief, &mut other, &mut nobody] {
        for n in 1..=20 {
            // Success, as C answers for what it does not know.
            assert_eq!(peer.ask(&done(n.into(), n)), r#"{"command": "done"}"#);
        }
    }
    let status = daemon.status();
    assert_eq!((count(&status, "running_archive"), count(&status, "done_archive")), (20, 0), "{status}");
    for n in 1..=20 {
        victim.done(n.into(), n, 0);
    }
    let status = daemon.status();
    assert_eq!((count(&status, "running_archive"), count(&status, "done_archive")), (0, 20), "{status}");
    // Nobody gets any of it again.
    assert_eq!(daemon.peer().queue(&[item(20, 99, 99, "")]), r#"{"command": "queue", "enqueued": 1}"#);
    assert_eq!(oids(&other.work("")), [99]);
}

/// What was ended once may be ended a thousand times.
#[test]
fn ends_of_what_is_not_running_change_nothing() {
    let daemon = Setup::default().start();
    let mut victim = running(&daemon, 3);
    let witness = Witness::start(&daemon);
    victim.done(1, 1, 0);
    let before = resident(&daemon);
    forget_peak(&daemon);
    // Ended, never known, another file's cookie, a cookie cut to 32 bits with its sign.
    let odd = [done(1, 1), done(77_777, 5), done(2, 3), done(u64::MAX, 2), done(1 << 40 | 2, 2)].concat();
    pour(&mut daemon.mover("odd"), &odd.repeat(2000));
    pour(&mut daemon.peer(), &odd.repeat(2000));
    // The owner itself.
    pour(&mut victim, &[done(1, 1), done(77_777, 5), done(2, 3)].concat().repeat(2000));
    witness.served(&daemon, "after 26000 ends of nothing");
    witness.end();
    let status =
        daemon.wait_for_status("the owner is away", |status| count(status, "clients_connected") == 1);
    assert_eq!(count(&status, "running_archive") + count(&status, "pending_archive"), 2, "{status}");
    let grown = peak(&daemon).saturating_sub(before);
    assert!(grown < 16 * MIB, "{} MiB", grown / MIB);
    let lines = daemon.log().lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count();
    assert!(lines < 100, "{lines} lines of warnings");
}

/// Ids that nobody comes back with, as many and as long as may be.
#[test]
fn ids_without_end_cost_little() {
    let daemon = Setup::conf("client_grace_ms 600000\n").start();
    let long = "x".repeat(1 << 20);
    let mut peer = daemon.peer();
    peer.send(&format!(r#"{{"command": "ehlo", "id": "{long}"}}"#));
    let refused = peer.recv();
    assert!(refused.is_none_or(|reply| reply != EHLO), "an id of a megabyte");
    let before = resident(&daemon);
    forget_peak(&daemon);
    for number in 0..5000 {
        let mut peer = daemon.peer();
        let id = format!("{number}-{}", "y".repeat(900));
        let ehlo = format!(r#"{{"command": "ehlo", "id": "{id}"}}"#);
        assert_eq!(peer.ask(&ehlo), EHLO);
    }
    // From here on, since each of its looks at the status shows them all.
    let grown = peak(&daemon).saturating_sub(before);
    assert!(grown < 24 * MIB, "{} MiB", grown / MIB);
    Witness::start(&daemon).end();
}

/// `recv` after `recv`, of every size, of a mover that has all it can get.
#[test]
fn asking_for_work_without_end_changes_nothing() {
    let daemon = Setup::default().start();
    let witness = Witness::start(&daemon);
    let items: Vec<_> = (1..=50).map(|n| item_of(20, n, n.into(), 5, &"d".repeat(3000))).collect();
    daemon.peer().queue(&items);
    let recv = |bytes: &str, most: &str| {
        format!(r#"{{"command": "recv", "max_bytes": {bytes}, "max_archive": {most}, "max_restore": 0}}"#)
    };
    let odd = ["0", "1", "171", "4294967295", "18446744073709551615", "1e18"]
        .map(|bytes| recv(bytes, "0"))
        .concat();
    let mut mover = daemon.peer();
    assert_eq!(mover.ask(r#"{"command": "ehlo", "id": "greedy", "archive_ids": [5]}"#), EHLO);
    pour(&mut mover, &odd.repeat(2000));
    pour(&mut daemon.peer(), &odd.repeat(2000));
    witness.served(&daemon, "after 24000 recv");
    // Nothing was given: each allows no archive, or has no room for one.
    let mut late = daemon.peer();
    assert_eq!(late.ask(r#"{"command": "ehlo", "id": "late", "archive_ids": [5]}"#), EHLO);
    // Larger than its buffer: it waits for one with room, and the mover for what is small.
    late.send(r#"{"command": "recv", "max_bytes": 1000}"#);
    daemon.peer().queue(&[item_of(20, 60, 60, 5, "small")]);
    let small: Value = serde_json::from_str(&late.recv().unwrap()).unwrap();
    assert_eq!(oids(&small), [60]);
    let mut all = Vec::new();
    while all.len() < 50 {
        all.extend(oids(&late.work("")));
    }
    all.sort_unstable();
    assert_eq!(all, (1..=50).collect::<Vec<i64>>());
    witness.end();
}
