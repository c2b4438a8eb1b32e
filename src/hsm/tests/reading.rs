//! Peers that come while the store is still being read.

use super::*;

fn stored(oid: u32, mover: Option<&str>) -> (ActionItem, Option<String>) {
    (
        ActionItem { timestamp: 1_795_217_000_000_000_000 + i64::from(oid), ..archive(oid, "") },
        mover.map(str::to_owned),
    )
}

fn begin(config: HsmConfig) -> Session {
    let mut s = Session::new(config);
    s.core.read_store_first();
    s
}

fn read(s: &mut Session, requests: Vec<(ActionItem, Option<String>)>) {
    assert_eq!(s.event(Event::Recovered { requests, suspect: false }), []);
}

fn ehlo(id: &str, list: Option<Vec<ActionItem>>, lease: bool) -> Message {
    let features = super::super::event::Features { lease, ..Default::default() };
    Message::Ehlo(Ehlo { id: Some(id.into()), hai_list: list, features, ..Ehlo::default() })
}

fn say(s: &mut Session, conn: u64, message: Message) -> Vec<Effect> {
    s.event(Event::Message { conn: ConnId(conn), message })
}

fn answered(effects: &[Effect], to: u64) -> bool {
    let hit = |e: &Effect| matches!(e, Effect::Reply { conn, reply: Reply::Ehlo(_) } if conn.0 == to);
    effects.iter().any(hit)
}

#[test]
fn a_mover_is_answered_at_once_and_gets_work_when_all_is_known() {
    let mut s = begin(config());
    s.connect(1);
    assert!(answered(&say(&mut s, 1, ehlo("m0", None, false)), 1));
    assert_eq!(s.recv(1, ANY), [], "it waits");
    read(&mut s, vec![stored(2, None), stored(3, None)]);
    assert!(s.status(1, 4).contains("\"recovering\": 2"));
    read(&mut s, vec![stored(4, None)]);
    assert_eq!(s.core.next_deadline(), None, "nothing is due before");
    let effects = s.event(Event::RecoveryEnded);
    assert!(!answered(&effects, 1), "not twice");
    assert_eq!(cookies(&effects, 1), [2, 3, 4]);
    assert!(!s.status(1, 4).contains("recovering"));
}

/// What C says of itself is judged by all requests, not by those that happen to be known when it comes.
#[test]
fn claims_are_judged_at_the_end() {
    let mut s = begin(config());
    for conn in 1..=2 {
        s.connect(conn);
    }
    assert!(answered(&say(&mut s, 1, ehlo("m0", Some(vec![archive(1, "")]), false)), 1));
    assert!(answered(&say(&mut s, 2, ehlo("m1", Some(vec![archive(5, "")]), false)), 2));
    say(&mut s, 2, Message::Recv(ANY));
    read(&mut s, vec![stored(1, Some("m0")), stored(2, Some("m0")), stored(5, Some("m0"))]);
    let effects = s.event(Event::RecoveryEnded);
    assert!(!answered(&effects, 1) && !answered(&effects, 2));
    // m0 goes on with 1; 2 and 5, which it did not name, are nobody's any more, and m1 goes on with 5.
    assert_eq!(cookies(&effects, 2), [2]);
    s.done(2, 5, 5, 0);
    s.done(2, 2, 2, 0);
    s.done(1, 1, 1, 0);
    assert_eq!((s.core.counters().done[2], s.core.counters().running[2]), (3, 0));
}

/// A mover of ours is told what it must stop, which is not known yet.
#[test]
fn a_mover_of_ours_with_claims_waits_for_its_answer() {
    let mut s = begin(config());
    for conn in 1..=3 {
        s.connect(conn);
    }
    assert!(answered(&say(&mut s, 1, ehlo("m0", Some(vec![]), true)), 1));
    assert!(!answered(&say(&mut s, 2, ehlo("m1", Some(vec![archive(1, "")]), true)), 2));
    read(&mut s, vec![stored(1, Some("m2"))]);
    let effects = s.event(Event::RecoveryEnded);
    let refused = effects.iter().find_map(|effect| match effect {
        Effect::Reply { conn: ConnId(2), reply: Reply::Ehlo(reply) } => Some(reply.refused.clone()),
        _ => None,
    });
    assert_eq!(refused, Some(vec![key(1)]));
}

#[test]
fn of_two_with_one_id_the_second_waits() {
    let mut s = begin(config());
    for conn in 1..=3 {
        s.connect(conn);
    }
    assert!(answered(&say(&mut s, 1, ehlo("m0", None, false)), 1));
    assert!(!answered(&say(&mut s, 2, ehlo("m0", None, false)), 2));
    let twice = say(&mut s, 1, ehlo("m0", None, false));
    assert!(
        matches!(&twice[..], [Effect::Reply { reply: Reply::Error { error, .. }, .. }] if error.contains("twice"))
    );
    s.event(Event::Disconnected { conn: ConnId(1) });
    assert!(!answered(&say(&mut s, 3, ehlo("m0", None, false)), 3));
    read(&mut s, vec![stored(1, Some("m0"))]);
    let effects = s.event(Event::RecoveryEnded);
    assert!(answered(&effects, 2), "the first is gone");
    assert!(effects.contains(&Effect::Probe { conn: ConnId(2) }), "and now it is asked about: {effects:?}");
}

#[test]
fn nothing_else_overtakes_what_is_read() {
    let mut s = begin(config());
    s.connect(1);
    let queue =
        Message::Queue(Queue { items: Some(vec![archive(1, ""), archive(9, "")]), ..Queue::default() });
    assert!(!s.core.takes_now(&queue) && s.core.takes_now(&Message::Status { verbose: 4 }));
    assert_eq!(say(&mut s, 1, queue), []);
    read(&mut s, vec![stored(1, None), stored(2, None)]);
    let effects = s.event(Event::RecoveryEnded);
    assert!(
        matches!(&effects[..], [Effect::Reply { reply: Reply::Queue { enqueued: 1, skipped: 1, .. }, .. }]),
        "{effects:?}"
    );
    s.mover(2, "m0");
    assert_eq!(s.work(2, ANY), [1, 2, 9]);
}
