//! What fails on movers: attempts, retries, the list of what was given up.

use super::super::Attributes;
use super::*;

const EIO: i32 = 5;

fn retrying(limit: u32) -> Session {
    let backoff = Duration::from_secs(60);
    Session::new(HsmConfig { retry_limit: limit, retry_backoff: backoff, ..config() })
}

fn answer(s: &mut Session, key: RequestKey, errno: i32) -> Vec<Effect> {
    s.event(Event::LustreAnswered(LustreAnswer::Requested { key, number: u64::MAX, errno }))
}

/// One request is given to the mover and fails.
fn fail(s: &mut Session, what: ActionItem, errno: i32) -> Vec<Effect> {
    let cookie = what.cookie;
    s.lustre(vec![what.clone()]);
    assert_eq!(s.work(1, ANY), [cookie]);
    s.message(1, Message::Done(Done { cookie, dfid: what.fid, status: errno }))
}

#[test]
fn what_failed_is_kept_or_not() {
    // With what errno, whether it is kept, whether it is tried again.
    let cases = [(EIO, true), (28, true), (38, true), (16, true), (2, false), (125, false)];
    for (errno, kept) in cases {
        for limit in [0, 1] {
            let mut s = retrying(limit);
            s.mover(1, "m0");
            fail(&mut s, archive(1, "tag=a"), errno);
            assert_eq!(s.core.dead_letters().len(), usize::from(kept), "{errno}");
            assert_eq!(notes(&s).len(), usize::from(kept), "{errno}");
            let tried = limit > 0 && kept;
            assert_eq!(asked(&s.pass(61)), if tried { vec![1] } else { vec![] }, "{errno} {limit}");
        }
    }
}

#[test]
fn attempts_grow_apart_and_end() {
    let mut s = retrying(3);
    s.mover(1, "m0");
    fail(&mut s, archive(1, "tag=a"), EIO);
    for (attempt, seconds) in [(1u64, 60), (2, 120), (3, 240)] {
        assert_eq!(asked(&s.pass(seconds - 1)), [0; 0], "{attempt}");
        let letters = s.core.dead_letters();
        assert_eq!(letters[0].failures, attempt as u32);
        assert!(letters[0].retry.is_some());
        let effects = s.pass(1);
        assert_eq!(asked(&effects), [if attempt == 1 { 1 } else { 98 + attempt }], "{attempt}");
        let Some(Effect::AskLustre(LustreCall::Request { item, .. })) =
            effects.iter().find(|effect| matches!(effect, Effect::AskLustre(_)))
        else {
            panic!("asked");
        };
        assert_eq!((&*item.data, item.action, item.archive_id), (&b"tag=a"[..], Action::Archive, 1));
        let key = item.key();
        assert!(s.core.dead_letters()[0].asking);
        answer(&mut s, key, 0);
        assert!(s.core.dead_letters().is_empty(), "alive again");
        // The MDT gives it a cookie of its own.
        let again = ActionItem { cookie: 99 + attempt, ..archive(1, "tag=a") };
        s.lustre(vec![again]);
        let why = s.core.explain(&Find::File(fid(1)));
        assert_eq!(why[0].attempts.len(), attempt as usize);
        assert_eq!((why[0].attempts[0].errno, &*why[0].attempts[0].mover), (EIO, "m0"));
        assert_eq!(s.work(1, ANY), [99 + attempt]);
        s.done(1, 99 + attempt, 1, EIO);
    }
    assert_eq!(asked(&s.pass(100_000)), [0; 0]);
    let letters = s.core.dead_letters();
    assert_eq!((letters.len(), letters[0].failures, letters[0].retry), (1, 4, None));
    assert_eq!(letters[0].attempts.len(), 4);
    assert_eq!(s.core.counters().retried, 3);
}

#[test]
fn success_a_cancel_and_a_lost_file_end_the_matter() {
    for how in ["success", "cancel of what waits", "cancel", "operator", "file gone", "forgotten"] {
        let mut s = retrying(1);
        s.mover(1, "m0");
        fail(&mut s, archive(1, ""), EIO);
        s.pass(60);
        let again = item(Action::Archive, 1, 7, "");
        match how {
            "file gone" => drop(answer(&mut s, key(1), 2)),
            "forgotten" => {
                answer(&mut s, key(1), 22);
                assert_eq!(s.core.dead_letters()[0].refused, Some(22));
                let select = Select { fids: vec![fid(1)], ..Select::default() };
                assert_eq!(s.order(Order::Forget { select }).0, OperatorReply::Letters(1));
            }
            _ => {
                answer(&mut s, key(1), 0);
                s.lustre(vec![again]);
                match how {
                    "success" => {
                        assert_eq!(s.work(1, ANY), [7]);
                        s.done(1, 7, 1, 0);
                    }
                    "cancel" => {
                        assert_eq!(s.work(1, ANY), [7]);
                        s.lustre(vec![item(Action::Cancel, 1, 7, "")]);
                        assert_eq!(s.work(1, ANY), [7]);
                        s.done(1, 7, 1, 125);
                    }
                    "operator" => drop(s.cancel(Select::default(), false)),
                    _ => drop(s.lustre(vec![item(Action::Cancel, 1, 7, "")])),
                }
            }
        }
        // What the MDT is owed is another matter.
        let left: Vec<_> = notes(&s).into_keys().filter(|name| !name.starts_with("owed/")).collect();
        assert_eq!(left, [""; 0], "{how}");
        assert!(s.core.dead_letters().is_empty(), "{how}");
        assert_eq!(asked(&s.pass(10_000)), [0; 0], "{how}");
    }
}

/// Other actions and archives are other matters.
#[test]
fn each_action_has_attempts_of_its_own() {
    let mut s = retrying(0);
    s.mover(1, "m0");
    fail(&mut s, item(Action::Archive, 1, 1, ""), EIO);
    fail(&mut s, item(Action::Restore, 1, 2, ""), EIO);
    fail(&mut s, ActionItem { archive_id: 2, ..item(Action::Archive, 1, 3, "") }, EIO);
    fail(&mut s, item(Action::Archive, 1, 4, ""), EIO);
    let failures: Vec<_> =
        s.core.dead_letters().iter().map(|letter| (letter.key.cookie, letter.failures)).collect();
    assert_eq!(failures, [(4, 2), (2, 1), (3, 1)]);
    let ended = s.core.history(&HistoryQuery { failed: true, most: 1, ..HistoryQuery::default() });
    assert_eq!((ended[0].key.cookie, ended[0].status, ended[0].failed_before), (4, EIO, 2));
}

#[test]
fn an_mdt_that_is_away_is_asked_later() {
    let mut s = retrying(1);
    s.mover(1, "m0");
    fail(&mut s, restore(1, ""), EIO);
    assert_eq!(asked(&s.pass(60)), [1]);
    for errno in [11, 107, 110] {
        answer(&mut s, key(1), errno);
        assert_eq!(asked(&s.pass(59)), [0; 0], "{errno}");
        assert_eq!(asked(&s.pass(1)), [1], "{errno}");
    }
    answer(&mut s, key(1), 0);
    assert_eq!(s.core.counters().retried, 1);
}

#[test]
fn an_operator_tries_again() {
    let mut s = retrying(0);
    s.mover(1, "m0");
    for oid in 1..=100 {
        fail(&mut s, archive(oid, if oid <= 90 { "tag=a" } else { "tag=b" }), EIO);
    }
    let select = Select { hint: Some("tag=a".into()), ..Select::default() };
    let (reply, effects) = s.order(Order::Retry { select });
    assert_eq!(reply, OperatorReply::Letters(90));
    let first = asked(&effects);
    assert_eq!(first, (1..=64).collect::<Vec<_>>(), "so many at a time");
    let mut next = Vec::new();
    for oid in 1..=64 {
        answer(&mut s, key(oid), 0);
        next.extend(asked(&s.pass_ms(1)));
    }
    assert_eq!(next, (65..=90).collect::<Vec<_>>());
    for oid in 65..=90 {
        answer(&mut s, key(oid), 0);
    }
    assert_eq!(s.core.dead_letters().len(), 10);
    let select = Select { mover: Some("m0".into()), ..Select::default() };
    assert_eq!(s.order(Order::Forget { select }).0, OperatorReply::Letters(10));
    assert_eq!(s.core.dead_letters().len(), 0);
}

/// A user was faster: the MDT is not asked for what is there.
#[test]
fn what_is_there_again_is_not_asked_for() {
    let mut s = retrying(1);
    s.mover(1, "m0");
    fail(&mut s, archive(1, ""), EIO);
    s.lustre(vec![item(Action::Archive, 1, 9, "")]);
    assert_eq!(asked(&s.pass(1000)), [0; 0]);
    assert!(s.core.dead_letters().is_empty());
}

#[test]
fn what_failed_survives_a_restart() {
    let mut s = retrying(2);
    s.mover(1, "m0");
    fail(&mut s, archive(1, "tag=a"), EIO);
    s.pass(30);
    let odd = ActionItem {
        dfid: fid(20),
        extent_offset: 5,
        extent_length: 10,
        gid: 7,
        data: (*b"\xff\0").into(),
        extra: "\"hai_x\":1".into(),
        ..archive(2, "")
    };
    s.lustre(vec![odd.clone()]);
    s.work(1, ANY);
    s.done(1, 2, 20, EIO);
    let before = s.core.dead_letters();
    let stored: Vec<_> = notes(&s).into_iter().collect();
    let mut next = retrying(2);
    next.now = s.now;
    next.event(Event::RecoveredNotes(stored.clone()));
    let after = next.core.dead_letters();
    assert_eq!(after.len(), 2);
    for letter in &before {
        let same = after.iter().find(|other| other.key == letter.key).unwrap();
        assert_eq!((same.failures, same.retry, &same.attempts), (1, letter.retry, &letter.attempts));
    }
    assert_eq!(asked(&next.pass(30)), [1]);
    let effects = next.pass(30);
    let item = effects.iter().find_map(|effect| match effect {
        Effect::AskLustre(LustreCall::Request { item, .. }) => Some(item),
        _ => None,
    });
    let want = ActionItem { timestamp: item.unwrap().timestamp, ..odd };
    assert_eq!(**item.unwrap(), want, "with all that belongs to it");
    // What cannot be read does no harm, and stays.
    for value in ["", "{}", "rubbish", "{\"version\":2}"] {
        let mut odd = retrying(2);
        odd.event(Event::RecoveredNotes(vec![(stored[0].0.clone(), value.into())]));
        assert!(odd.core.dead_letters().is_empty() && odd.store.is_empty());
    }
    let mut other = retrying(2);
    other.event(Event::RecoveredNotes(vec![("letter/other".into(), stored[0].1.clone())]));
    assert!(other.core.dead_letters().is_empty());
}

#[test]
fn the_list_is_bounded() {
    let mut s = Session::new(HsmConfig { dead_letters: 3, ..config() });
    s.mover(1, "m0");
    for oid in 1..=5 {
        fail(&mut s, archive(oid, ""), EIO);
    }
    let kept: Vec<_> = s.core.dead_letters().iter().map(|letter| letter.key.cookie).collect();
    assert_eq!((kept, notes(&s).len()), (vec![3, 4, 5], 3));
    assert_eq!(s.core.counters().letters_dropped, 2);
    let mut none = Session::new(HsmConfig { dead_letters: 0, ..config() });
    none.mover(1, "m0");
    fail(&mut none, archive(1, ""), EIO);
    assert!(none.core.dead_letters().is_empty() && notes(&none).is_empty());
}

/// A request of which only the beginning of the data is known would come back as another one.
#[test]
fn truncated_data_is_not_asked_for() {
    let mut s = retrying(3);
    s.mover(1, "m0");
    let cut = ActionItem { extra: "\"hai_data_truncated\":true".into(), ..archive(1, "tag=a") };
    fail(&mut s, cut, EIO);
    assert_eq!(asked(&s.pass(100_000)), [0; 0]);
    assert_eq!(s.core.dead_letters().len(), 1);
}

#[test]
fn history_tells_what_ended_and_how() {
    let mut s = Session::new(HsmConfig { history_size: 4, ..config() });
    s.mover(1, "m0");
    s.lustre(vec![archive(1, "tag=a"), restore(2, ""), archive(3, ""), archive(4, ""), archive(5, "")]);
    s.pass(10);
    assert_eq!(s.work(1, ANY), [2, 1, 3, 4, 5]);
    s.pass(5);
    s.done(1, 2, 2, 0);
    s.done(1, 1, 1, EIO);
    s.done(1, 3, 3, 0);
    s.done(1, 4, 4, 2);
    s.lustre(vec![archive(6, ""), item(Action::Cancel, 6, 6, "")]);
    let find = |query: HistoryQuery| -> Vec<_> {
        s.core.history(&query).iter().map(|ended| (ended.key.cookie, ended.outcome, ended.status)).collect()
    };
    let query = HistoryQuery::default;
    assert_eq!(
        find(query()),
        [(6, Outcome::Cancelled, 125), (4, Outcome::Done, 2), (3, Outcome::Done, 0), (1, Outcome::Done, EIO)],
        "2 is forgotten"
    );
    assert_eq!(find(HistoryQuery { fid: Some(fid(3)), ..query() }), [(3, Outcome::Done, 0)]);
    assert_eq!(find(HistoryQuery { status: Some(EIO), ..query() }), [(1, Outcome::Done, EIO)]);
    assert_eq!(find(HistoryQuery { mover: Some("m0".into()), failed: true, ..query() }).len(), 2);
    assert_eq!(find(HistoryQuery { most: 2, ..query() }).len(), 2);
    let ended = &s.core.history(&HistoryQuery { fid: Some(fid(1)), ..query() })[0];
    let seconds = |from: Wall, to: Wall| (to.0 - from.0) / SECOND as i64;
    assert_eq!(seconds(ended.queued, ended.sent.unwrap()), 10);
    assert_eq!(seconds(ended.sent.unwrap(), ended.ended), 5);
    assert_eq!((&*ended.data, ended.mover.as_deref()), (&b"tag=a"[..], Some("m0")));
    let flows = s.core.flows();
    let archives = &flows.iter().find(|(action, _, _)| *action == Action::Archive).unwrap().2;
    assert_eq!((archives.done, archives.failed, archives.cancelled), (1, 2, 1));
    assert_eq!((archives.waiting, archives.running), (0, 1));
    assert_eq!((archives.waited.total(), archives.waited.counts[4]), (3, 3), "within 15 s");
    assert_eq!(s.core.errors(), [(2, 1), (EIO, 1)]);
    let top = s.walk(10).0.top;
    assert_eq!(top.movers.len(), 1);
    assert_eq!((top.movers[0].1.running, top.movers[0].1.done, top.movers[0].1.failed), (1, 2, 2));
    assert!((top.classes[0].2.rate - 1.0 / 60.0).abs() < 1e-9);
}

/// Work that no mover could take is ended at the MDT, but an operator can have it back.
#[test]
fn what_nobody_could_take_is_kept() {
    let timeout = Duration::from_secs(3600);
    let request_timeout = Duration::from_secs(100_000);
    let of = HsmConfig { stranded_timeout: timeout, request_timeout, retry_limit: 5, ..config() };
    let mut s = Session::new(of);
    s.mover_for(1, "m0", &[2]);
    s.lustre(vec![archive(1, "tag=a")]);
    let ends = endings(&s.pass(3 * 3600));
    assert_eq!(ends.len(), 1);
    let letters = s.core.dead_letters();
    assert_eq!((letters.len(), &*letters[0].mover, letters[0].retry), (1, "", None));
    let ended = s.core.history(&HistoryQuery::default());
    assert_eq!((ended[0].outcome, ended[0].status), (Outcome::Dropped, 110));
    let (reply, effects) = s.order(Order::Retry { select: Select::default() });
    assert_eq!((reply, asked(&effects)), (OperatorReply::Letters(1), vec![1]));
}

/// The list is read in parts, and counts need no walk over it.
#[test]
fn failed_requests_are_listed_in_parts_and_counted() {
    let mut s = retrying(0);
    s.mover(1, "m0");
    let count = 600;
    s.core_only(Event::Lustre { items: (1..=count).map(|oid| archive(oid, "")).collect() });
    let mut failed = 0;
    while failed < count {
        let work = s.core_only(Event::Message { conn: ConnId(1), message: Message::Recv(ANY) });
        for cookie in cookies(&work, 1) {
            failed += 1;
            let done = Done { cookie, dfid: fid(cookie as u32), status: EIO };
            s.core_only(Event::Message { conn: ConnId(1), message: Message::Done(done) });
        }
    }
    let (part, next) = s.core.letters_part(0, &Select::default(), false);
    assert!(part.len() < count as usize && next.is_some(), "{}", part.len());
    assert_eq!((s.core.dead_letters().len(), s.core.letter_counts()), (600, (600, 600)));
    let errors = &s.walk(0).0.movers[0].errors;
    assert_eq!(*errors, [(EIO, 600)]);
    // One is asked for again, and there is a request for it then.
    let select = Select { fids: vec![fid(7)], ..Select::default() };
    s.order(Order::Retry { select: select.clone() });
    assert_eq!(s.core.letter_counts(), (599, 600));
    answer(&mut s, key(7), 0);
    assert_eq!(s.core.letter_counts(), (599, 599));
    assert!(s.core.letters_part(0, &select, false).0.is_empty());
    let (tried, _) = s.core.letters_part(0, &select, true);
    assert!(tried.len() == 1 && tried[0].trying, "{tried:?}");
    s.order(Order::Forget { select: Select::default() });
    assert_eq!(s.core.letter_counts(), (0, 0));
}

/// Bytes count for movers where sizes are known, and are looked up when that is wanted.
#[test]
fn bytes_are_counted_where_they_are_known() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre(vec![ActionItem { extent_length: 1000, ..archive(1, "") }, archive(2, "")]);
    s.work(1, ANY);
    s.done(1, 1, 1, 0);
    s.done(1, 2, 2, 0);
    assert_eq!(s.walk(0).0.movers[0].bytes, [(Action::Archive, 1, 1000)]);
    let mut s = Session::new(HsmConfig { count_bytes: true, ..config() });
    s.mover(1, "m0");
    let effects = s.lustre(vec![restore(1, ""), restore(2, ""), remove(3, "")]);
    let file = Attributes { size: 7, ..Attributes::default() };
    let found = effects.iter().find_map(|effect| match effect {
        Effect::LookUp { keys, .. } => Some(keys.iter().map(|key| (*key, Some(file.clone()))).collect()),
        _ => None,
    });
    s.event(Event::LookedUp(found.unwrap()));
    s.work(1, ANY);
    s.done(1, 1, 1, 0);
    s.done(1, 2, 2, EIO);
    s.done(1, 3, 3, 0);
    let seen = s.walk(0).0.movers.remove(0);
    assert_eq!((seen.bytes, seen.errors), (vec![(Action::Restore, 1, 7)], vec![(EIO, 1)]));
}
