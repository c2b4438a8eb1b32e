//! Ends: kept until they are acknowledged, given back, or looked for.

use super::*;

/// C 0.4: "done lost if the socket dies before send ('will resolve on reconnect' but the item is already deleted from its
/// tree, so the server re-runs it)".
#[test]
fn ends_are_claimed_and_sent_until_acknowledged() {
    let mut rig = Rig::ready(ShimConfig::default(), Duration::ZERO);
    rig.run(&[1, 2, 3, 4]);
    for n in 1..4 {
        rig.feed(Event::Ended(end(n, n as i32)));
    }
    assert_eq!(rig.dones(), [(1, 1), (2, 2), (3, 3)]);
    rig.reply(&Reply::Done);
    assert_eq!(rig.shim.unacknowledged(), 2);
    assert_eq!(rig.reconnect(Duration::ZERO, Vec::new()), [4, 2, 3]);
    assert_eq!(rig.dones(), [(2, 2), (3, 3)]);
    // Ended while there was no connection.
    let conn = rig.conn();
    rig.feed(Event::Disconnected { conn, reason: "test" });
    rig.feed(Event::Ended(end(4, 0)));
    rig.wait(Duration::from_secs(6));
    rig.connect();
    assert_eq!(rig.welcome(Duration::ZERO, Vec::new()).hai_list.unwrap().len(), 3);
    assert_eq!(rig.dones(), [(2, 2), (3, 3), (4, 0)]);
    for left in [2, 1, 0] {
        rig.reply(&Reply::Done);
        assert_eq!(rig.shim.unacknowledged(), left);
    }
    assert_eq!(rig.shim.in_flight(), 0);
}

#[test]
fn an_end_that_the_server_does_not_take_is_not_sent_for_ever() {
    let mut rig = Rig::ready(ShimConfig::default(), Duration::ZERO);
    rig.run(&[1]);
    rig.feed(Event::Ended(end(1, 0)));
    assert_eq!(rig.dones(), [(1, 0)]);
    rig.reply(&Reply::Error { command: "done", status: 22, error: "cookie or fid not set -- old client?" });
    assert_eq!((rig.shim.unacknowledged(), rig.shim.is_ready()), (0, true));
}

#[test]
fn work_that_is_done_and_that_the_mdt_did_not_hear_of_is_told_so() {
    let mut rig = Rig::ready(ShimConfig::default(), Duration::ZERO);
    rig.run(&[1]);
    rig.feed(Event::Ended(End { unheard: true, ..end(1, 2) }));
    let told = |message: &&Message| matches!(message, Message::Unheard(Done { cookie: 1, status: 2, .. }));
    assert_eq!(rig.sent().iter().filter(told).count(), 1);
    // Until the daemon has heard it.
    assert_eq!(rig.reconnect(Duration::ZERO, Vec::new()), [1]);
    assert_eq!(rig.sent().iter().filter(told).count(), 1);
    rig.reply(&Reply::Done);
    assert_eq!(rig.shim.unacknowledged(), 0);
}

#[test]
fn a_cancel_and_its_victim_are_both_reported() {
    let mut rig = Rig::ready(ShimConfig::default(), Duration::ZERO);
    rig.run(&[1]);
    rig.feed(Event::WorkWanted);
    rig.work(vec![item(Action::Cancel, 1)]);
    assert_eq!(rig.take(), [1]);
    rig.feed(Event::Ended(End { cancel: true, ..end(1, 38) }));
    // Not as an end, which a server that has restarted meanwhile would take it for.
    let sent = rig.sent();
    assert!(sent.contains(&Message::GoesOn), "{sent:?}");
    // The copytool cannot cancel and goes on: the request stays ours over a reconnect.
    assert_eq!(rig.reconnect(Duration::ZERO, Vec::new()), [1]);
    rig.reply(&Reply::Done);
    rig.feed(Event::Ended(end(1, 0)));
    let sent = rig.sent();
    assert_eq!(sent.iter().filter(|message| **message == Message::GoesOn).count(), 1, "{sent:?}");
    assert!(
        sent.iter().any(|message| matches!(message, Message::Done(Done { cookie: 1, status: 0, .. }))),
        "{sent:?}"
    );
    assert_eq!(rig.shim.in_flight(), 0);
}

#[test]
fn abandoned_requests_are_given_back() {
    let mut rig = Rig::ready(ShimConfig::default(), Duration::from_secs(60));
    rig.run(&[1, 2, 3]);
    rig.feed(Event::Abandoned { key: key(1) });
    rig.feed(Event::Abandoned { key: key(2) });
    rig.asked();
    let conn = rig.conn();
    rig.wait(Duration::from_millis(500));
    assert!(rig.asked().contains(&Effect::Close { conn }));
    rig.wait(Duration::from_secs(6));
    rig.connect();
    let ehlo = rig.welcome(Duration::from_secs(60), Vec::new());
    assert_eq!(ehlo.hai_list.unwrap_or_default(), [item(Action::Archive, 3)]);
}

#[test]
fn a_request_that_was_never_begun_is_looked_at() {
    let config = ShimConfig { begin_timeout: Duration::from_secs(60), ..ShimConfig::default() };
    let mut rig = Rig::ready(config, Duration::ZERO);
    rig.feed(Event::WorkWanted);
    rig.work(vec![item(Action::Restore, 1), item(Action::Remove, 2), item(Action::Archive, 3)]);
    rig.take();
    rig.feed(Event::Begun { key: key(3) });
    rig.asked();
    rig.wait(Duration::from_secs(59));
    assert_eq!(rig.asked(), []);
    for _ in 0..2 {
        rig.wait(Duration::from_secs(60));
        assert_eq!(rig.asked(), [Effect::Probe { key: key(1) }, Effect::Probe { key: key(2) }]);
        rig.feed(Event::Probed { key: key(1), gone: false });
        assert_eq!(rig.asked(), []);
    }
    // A remove of a file that is gone is nothing unusual; the copytool may have a long queue.
    rig.feed(Event::Probed { key: key(2), gone: true });
    assert_eq!(rig.asked(), []);
    rig.feed(Event::Probed { key: key(1), gone: true });
    let asked = rig.asked();
    assert_eq!(
        asked[..2],
        [
            Effect::Refused { key: key(1) },
            Effect::EndAtLustre { item: Box::new(item(Action::Restore, 1)), errno: 2 }
        ]
    );
    rig.effects = asked;
    assert_eq!(rig.dones(), [(1, 2)]);
}

/// A copytool that does nothing for ten times as long as a begin may take has dropped what it took, whatever it is.
#[test]
fn what_an_idle_copytool_took_is_ended() {
    for (action, errno) in [(Action::Remove, 5), (Action::Restore, 5), (Action::Archive, 114)] {
        let config = ShimConfig { begin_timeout: Duration::from_secs(60), ..ShimConfig::default() };
        let mut rig = Rig::ready(config, Duration::ZERO);
        rig.feed(Event::WorkWanted);
        rig.work(vec![item(action, 1), item(Action::Archive, 2)]);
        rig.take();
        // One that is under way keeps the other in the copytool's queue, for hours.
        rig.feed(Event::Begun { key: key(2) });
        let probed = |rig: &mut Rig| {
            rig.asked();
            rig.wait(Duration::from_secs(60));
            assert!(rig.asked().contains(&Effect::Probe { key: key(1) }));
            rig.feed(Event::Probed { key: key(1), gone: action == Action::Remove });
            rig.asked()
        };
        for _ in 0..120 {
            assert_eq!(probed(&mut rig), [], "{action}");
        }
        rig.feed(Event::Ended(end(2, 0)));
        // The process is stopped for a day.
        rig.wait(Duration::from_secs(86_400));
        for _ in 0..8 {
            assert_eq!(probed(&mut rig), [], "{action}");
        }
        let asked = probed(&mut rig);
        let told = Effect::EndAtLustre { item: Box::new(item(action, 1)), errno };
        assert_eq!(asked[..2], [Effect::Refused { key: key(1) }, told], "{action}");
        rig.effects = asked;
        assert_eq!(rig.dones(), [(1, 5)], "{action}");
        assert_eq!(rig.shim.in_flight(), 0);
    }
}
