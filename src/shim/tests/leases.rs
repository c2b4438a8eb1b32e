//! Leases, and what a server refuses.

use super::*;

#[test]
fn refused_requests_stop_and_may_come_back() {
    let mut rig = Rig::ready(ShimConfig::default(), Duration::ZERO);
    rig.run(&[1, 2, 3]);
    rig.feed(Event::WorkWanted);
    rig.work(vec![item(Action::Archive, 4), item(Action::Archive, 5)]);
    // Not acknowledged when the connection went, and ended for the server: no longer of interest.
    rig.feed(Event::Ended(end(3, 0)));
    rig.reconnect(Duration::from_secs(60), vec![key(1), key(3), key(4)]);
    let refused: Vec<_> = rig
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Refused { key } => Some(key.cookie),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [1, 4]);
    assert_eq!(rig.dones(), []);
    assert!(!rig.shim.holds(&key(1)) && rig.shim.holds(&key(2)));
    assert_eq!(rig.take(), [5]);
    // What the stopped attempt says is not told to the server.
    rig.feed(Event::Ended(end(1, 125)));
    assert_eq!(rig.dones(), []);
    rig.feed(Event::WorkWanted);
    rig.work(vec![item(Action::Archive, 1)]);
    assert!(rig.asked().contains(&Effect::Revived { key: key(1) }));
    assert_eq!(rig.take(), [1]);
}

#[test]
fn the_lease_counts_from_when_the_answered_message_was_sent() {
    let lease = Duration::from_secs(60);
    let mut rig = Rig::new(ShimConfig::default());
    rig.feed(Event::Resolved { servers: 1 });
    rig.connect();
    let sent = rig.now;
    rig.now += Duration::from_secs(7);
    rig.welcome(lease, Vec::new());
    assert_eq!(rig.shim.lease_until(), Some(sent + lease));
    rig.sent();
    // A third after it was sent.
    assert_eq!(rig.shim.next_deadline(), Some(sent + Duration::from_secs(20)));
    rig.wait(Duration::from_secs(13));
    let renewed = rig.now;
    let [Message::Lease { serial }] = rig.sent()[..] else { panic!("no renewal") };
    rig.now += Duration::from_secs(10);
    rig.reply(&Reply::Lease { serial: serial + 1, lease_ms: 60_000 });
    assert_eq!(rig.shim.lease_until(), Some(sent + lease));
    rig.reply(&Reply::Lease { serial, lease_ms: 60_000 });
    assert_eq!(rig.shim.lease_until(), Some(renewed + lease));
}

#[test]
fn a_server_that_does_not_renew_is_left_while_there_is_time() {
    let lease = Duration::from_secs(60);
    let mut rig = Rig::ready(ShimConfig::default(), lease);
    rig.wait(Duration::from_secs(20));
    assert_eq!(rig.sent().len(), 1);
    rig.wait(Duration::from_secs(20));
    let asked = rig.asked();
    assert!(asked.contains(&Effect::Close { conn: 1 }), "{asked:?}");
    assert!(rig.shim.lease_until().unwrap() > rig.now);
    // A server that knows no leases frees us from ours.
    rig.wait(Duration::from_secs(6));
    rig.feed(Event::Resolved { servers: 1 });
    rig.effects.extend(asked);
    rig.effects.retain(|effect| matches!(effect, Effect::Connect { .. }));
    rig.connect();
    rig.welcome(Duration::ZERO, Vec::new());
    assert_eq!(rig.shim.lease_until(), None);
}

/// A server that grants almost nothing is asked ten times a second at most.
#[test]
fn a_tiny_lease_does_not_keep_the_mover_busy() {
    let mut rig = Rig::ready(ShimConfig::default(), Duration::from_millis(1));
    let mut renewals = 0;
    for _ in 0..1000 {
        rig.wait(Duration::from_micros(100));
        let sent = rig.sent();
        renewals += sent.len();
        for message in sent {
            let Message::Lease { serial } = message else { panic!("{message:?}") };
            rig.reply(&Reply::Lease { serial, lease_ms: 1 });
        }
    }
    assert_eq!(renewals, 1);
    // The longest there is does not overflow.
    let rig = Rig::ready(ShimConfig::default(), Duration::from_millis(i64::MAX as u64));
    assert!(rig.shim.lease_until().is_some());
}
