//! Admission, order, limits and sharing.

use super::*;
use crate::hsm::event::Features;

/// C (k): "same cookie with another dfid is queued twice".
#[test]
fn a_request_is_known_by_cookie_and_file() {
    let mut s = Session::new(config());
    s.connect(9);
    let first = archive(1, "");
    let moved = ActionItem { dfid: fid(100), ..archive(1, "") };
    let other_mdt = ActionItem { fid: fid(2), dfid: fid(2), ..archive(1, "") };
    let reply = s.queue(9, vec![first, moved, other_mdt]);
    assert_eq!(*replies(&reply, 9)[0], Reply::Queue { enqueued: 2, skipped: 1, status: 0, error: "" });
    assert_eq!(s.core.counters().duplicates, 1);
    let puts = s.store.iter().filter(|op| matches!(op, StoreOp::Put(_))).count();
    assert_eq!(puts, 2);
}

/// C gives all requests of one list the same time, and order is lost at a restart (defect 21).
#[test]
fn timestamps_rise_strictly_even_when_the_clock_is_set_back() {
    let mut s = Session::new(config());
    s.lustre((1..=3).map(|oid| archive(oid, "")).collect());
    s.now.wall = Wall(s.now.wall.0 - 5_000_000_000);
    s.lustre(vec![archive(4, "")]);
    let times: Vec<i64> = s
        .store
        .iter()
        .map(|op| match op {
            StoreOp::Put(item) => item.timestamp,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
}

/// Stores keep notes under FIDs that no MDT gives out.
#[test]
fn a_fid_of_notes_is_no_request() {
    let mut s = Session::new(config());
    s.connect(9);
    let note = Fid { seq: u64::MAX, ..fid(1) };
    let reply = s.queue(9, vec![ActionItem { fid: note, dfid: note, ..archive(1, "") }, archive(2, "")]);
    assert_eq!(*replies(&reply, 9)[0], Reply::Queue { enqueued: 1, skipped: 1, status: 0, error: "" });
    assert_eq!(s.store.len(), 1);
}

#[test]
fn what_queue_refuses() {
    let mut s = Session::new(config());
    s.connect(9);
    let queue = |s: &mut Session, items| replies(&s.queue(9, items), 9)[0].clone();
    let bad = "Error while parsing hsm action items";
    let answer = |enqueued, skipped, status, error| Reply::Queue { enqueued, skipped, status, error };
    // The good ones are kept.
    let cancel = item(Action::Cancel, 1, 1, "");
    assert_eq!(queue(&mut s, vec![cancel, archive(1, "")]), answer(1, 0, -22, bad));
    let nowhere = ActionItem { archive_id: 0, ..archive(2, "") };
    assert_eq!(queue(&mut s, vec![nowhere]), answer(0, 0, -22, bad));
    let unlinked = ActionItem { archive_id: 0, ..remove(3, "") };
    assert_eq!(queue(&mut s, vec![unlinked]), answer(1, 0, 0, ""));
    s.event(Event::StoreFull(true));
    assert_eq!(queue(&mut s, vec![archive(4, "")]), answer(0, 0, -28, "No space left on device"));
    s.event(Event::StoreFull(false));
    assert_eq!(queue(&mut s, vec![archive(4, "")]), answer(1, 0, 0, ""));
}

/// A full store does not keep Lustre's requests out; they are stored when there is room.
#[test]
fn lustre_is_served_while_the_store_is_full() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.event(Event::StoreFull(true));
    s.lustre(vec![archive(1, ""), archive(2, ""), archive(3, "")]);
    assert_eq!(s.work(1, limits(2, 0, 0)), [1, 2]);
    s.done(1, 1, 1, 0);
    assert_eq!(s.core.counters().unpersisted, 2);
    assert_eq!(s.store, []);
    s.event(Event::StoreFull(false));
    s.pass(1);
    assert_eq!(s.core.counters().unpersisted, 0);
    let names: Vec<String> = s
        .store
        .iter()
        .map(|op| match op {
            StoreOp::Put(item) => format!("put {}", item.cookie),
            StoreOp::Assign { key, mover } => format!("assign {} {mover}", key.cookie),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["put 2", "assign 2 m0", "put 3"]);
}

#[test]
fn store_operations_follow_a_request() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.connect(2);
    s.ehlo(2, Ehlo::default());
    s.lustre(vec![archive(1, "")]);
    s.work(1, ANY);
    s.disconnect(1);
    s.pass(601);
    assert_eq!(s.work(2, ANY), [1], "an anonymous mover");
    s.done(2, 1, 1, 0);
    let (put, rest) = s.store.split_first().unwrap();
    assert!(matches!(put, StoreOp::Put(_)));
    let assign = StoreOp::Assign { key: key(1), mover: "m0".into() };
    assert_eq!(rest, [assign, StoreOp::Unassign { key: key(1) }, StoreOp::Remove { key: key(1) }]);
}

#[test]
fn restores_go_first_but_nothing_starves() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre(vec![archive(1, ""), remove(2, ""), restore(3, "")]);
    assert_eq!(s.work(1, ANY), [3, 2, 1]);
    for oid in 1..=3 {
        s.done(1, oid, oid as u32, 0);
    }
    // With room for one item: restore, then remove, then archive.
    let one = Recv { max_bytes: 172, ..ANY };
    s.lustre(vec![archive(4, ""), remove(5, ""), restore(6, "")]);
    assert_eq!([s.work(1, one), s.work(1, one), s.work(1, one)], [[6], [5], [4]]);
    // An archive that has waited for more than an hour goes before a restore of now.
    s.lustre(vec![archive(7, "")]);
    s.pass(3601);
    s.lustre(vec![restore(8, "")]);
    assert_eq!([s.work(1, one), s.work(1, one)], [[7], [8]]);
}

/// One answer is for one archive id and one value of the flags.
#[test]
fn an_answer_is_for_one_archive_and_flags() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    let with = |item: ActionItem, archive_id, flags| ActionItem { archive_id, flags, ..item };
    s.lustre(vec![
        with(restore(1, ""), 1, 0),
        with(restore(2, ""), 2, 0),
        with(restore(3, ""), 1, 4),
        with(archive(4, ""), 1, 0),
        with(archive(5, ""), 2, 0),
    ]);
    assert_eq!([s.work(1, ANY), s.work(1, ANY)], [[1, 4], [2, 5]]);
    assert_eq!(s.work(1, ANY), [3]);
}

/// C: "a mover of archive 2 starves behind 150 requests of archive 1" (defect 28).
#[test]
fn a_mover_finds_its_archive_behind_many_others() {
    let mut s = Session::new(config());
    s.mover_for(1, "m1", &[2, 3]);
    let mut items: Vec<_> = (1..=150).map(|oid| archive(oid, "")).collect();
    items.push(ActionItem { archive_id: 2, ..archive(151, "") });
    s.lustre(items);
    assert_eq!(s.work(1, ANY), [151]);
    assert_eq!(s.work(1, ANY), [0; 0]);
}

/// C: "an item larger than max_bytes blocks its mover" (defect 29).
#[test]
fn an_item_that_is_too_large_is_left_to_others() {
    let mut s = Session::new(config());
    s.mover(1, "small");
    let large = "x".repeat(300);
    s.lustre(vec![archive(1, &large), archive(2, &large), archive(3, "")]);
    let small = Recv { max_bytes: 200, ..ANY };
    assert_eq!(s.work(1, small), [3]);
    assert_eq!(s.core.counters().oversized, 2);
    assert!(s.status(1, 6).contains("\"hai_cookie\": 1, "), "still to be seen");
    // One that waits already is woken when another mover meets such an item.
    s.mover(2, "large");
    assert_eq!(s.work(2, Recv { max_bytes: 444, ..ANY }), [1]);
    assert_eq!(s.work(2, ANY), [2]);
    assert_eq!(s.work(2, ANY), [0; 0]);
    s.done(1, 3, 3, 0);
    s.lustre(vec![archive(4, &large)]);
    assert_eq!(s.core.counters().pending, [0; 3]);
}

/// C's figure: each item costs 144 bytes and its data.
#[test]
fn answers_fit_the_buffer() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    assert_eq!(error(&s.recv(1, Recv { max_bytes: 171, ..ANY }), 1), Some(("recv", 22, "Buffer too small")));
    s.lustre((1..=9).map(|oid| archive(oid, "12345678")).collect());
    for (max_bytes, want) in [(172, 1), (3 * 152, 2), (2 * 152 + 172, 3)] {
        assert_eq!(s.work(1, Recv { max_bytes, ..ANY }).len(), want, "{max_bytes}");
    }
}

#[test]
fn limits_are_on_what_runs() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre((1..=5).map(|oid| archive(oid, "")).collect());
    assert_eq!(s.work(1, limits(2, 0, 0)), [1, 2]);
    assert_eq!(s.work(1, limits(2, 0, 0)), [0; 0]);
    assert_eq!(cookies(&s.done(1, 1, 1, 0), 1), [3]);
    assert_eq!(s.work(1, limits(4, 0, 0)), [4, 5]);
}

/// Movers are counted, not connections: in C a status client took its share.
#[test]
fn work_is_shared_among_movers() {
    let mut s = Session::new(config());
    for conn in 1..=4 {
        s.mover(conn, &format!("m{conn}"));
    }
    for conn in 10..20 {
        s.connect(conn);
    }
    for conn in 1..=3 {
        assert_eq!(s.work(conn, ANY), [0; 0]);
    }
    let effects = s.lustre((1..=70).map(|oid| archive(oid, "")).collect());
    let shares: Vec<usize> = (1..=4).map(|conn| cookies(&effects, conn).len()).collect();
    assert_eq!(shares, [18, 13, 10, 0]);
    assert_eq!(s.core.counters().pending[2], 29);
    // No answer has more than a hundred of a kind.
    s.lustre((100..900).map(|oid| archive(oid, "")).collect());
    assert_eq!(s.work(4, ANY).len(), 100);
}

/// C (23): "QUEUE and disconnects wake nobody".
#[test]
fn every_cause_wakes_who_waits() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.connect(9);
    // A queue command.
    assert_eq!(s.work(1, ANY), [0; 0]);
    let effects = s.queue(9, vec![archive(1, "")]);
    assert_eq!(cookies(&effects, 1), [1]);
    // A disconnect of an anonymous mover.
    s.connect(2);
    s.ehlo(2, Ehlo::default());
    s.lustre(vec![archive(2, "")]);
    assert_eq!(s.work(2, ANY), [2]);
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!(cookies(&s.disconnect(2), 1), [2]);
    // The end of a grace.
    s.mover(3, "m3");
    s.lustre(vec![archive(3, "")]);
    assert_eq!(s.work(3, ANY), [3]);
    assert_eq!(s.work(1, ANY), [0; 0]);
    s.disconnect(3);
    assert_eq!(cookies(&s.pass(600), 1), [3]);
    // An unlock.
    s.lock(9, Lock::Locked);
    s.lustre(vec![archive(4, "")]);
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!(cookies(&s.lock(9, Lock::Unlocked), 1), [4]);
    // The end of what ran for the same file.
    s.lustre(vec![item(Action::Remove, 4, 40, "")]);
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!(cookies(&s.done(1, 4, 4, 0), 1), [40]);
}

#[test]
fn lock_and_quit_waits_for_what_runs() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre(vec![archive(1, ""), archive(2, "")]);
    assert_eq!(s.work(1, limits(1, 0, 0)), [1]);
    assert!(!s.lock(1, Lock::LockedQuit).contains(&Effect::Terminate));
    // C (27): a foreign done made the counters negative, and lock-and-quit never quit.
    s.connect(2);
    assert!(!s.done(2, 1, 1, 0).contains(&Effect::Terminate));
    let effects = s.done(1, 1, 1, 0);
    assert_eq!(effects.last(), Some(&Effect::Terminate));
    assert_eq!(s.work(1, ANY), [0; 0]);
    let mut idle = Session::new(config());
    idle.connect(1);
    assert_eq!(idle.lock(1, Lock::LockedQuit).last(), Some(&Effect::Terminate));
}

/// Two archives of one file share a temporary file in lhsmtool_posix.
#[test]
fn one_request_runs_for_a_file() {
    let cases: [(Action, Action, bool); 9] = [
        (Action::Archive, Action::Archive, true),
        (Action::Archive, Action::Remove, true),
        // The archive may be blocked itself, reading the released file.
        (Action::Archive, Action::Restore, false),
        (Action::Restore, Action::Archive, true),
        (Action::Restore, Action::Restore, true),
        (Action::Restore, Action::Remove, true),
        (Action::Remove, Action::Archive, true),
        (Action::Remove, Action::Restore, true),
        (Action::Remove, Action::Remove, true),
    ];
    for (first, second, waits) in cases {
        let mut s = Session::new(config());
        s.mover(1, "m0");
        s.mover(2, "m1");
        s.lustre(vec![item(first, 1, 1, "")]);
        assert_eq!(s.work(1, ANY), [1]);
        assert_eq!(s.work(2, ANY), [0; 0]);
        let effects = s.lustre(vec![item(second, 1, 2, "")]);
        assert_eq!(cookies(&effects, 2).is_empty(), waits, "{second} after {first}");
        if waits {
            assert_eq!(s.core.counters().waiting_for_file, 1);
            assert!(s.status(2, 6).contains("\"hai_cookie\": 2, "));
            assert_eq!(cookies(&s.done(1, 1, 1, 5), 2), [2], "{second} after {first} has failed");
        }
    }
}

#[test]
fn what_waits_for_a_file_keeps_its_order() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre((1..=4).map(|cookie| item(Action::Archive, 1, cookie, "")).chain([archive(9, "")]).collect());
    assert_eq!(s.work(1, ANY), [1, 9]);
    for next in 2..=4 {
        s.done(1, next - 1, 1, 0);
        assert_eq!(s.work(1, ANY), [next]);
        assert_eq!(s.work(1, ANY), [0; 0]);
        s.done(1, 77, 77, 0);
        s.disconnect(1);
        let running = vec![item(Action::Archive, 1, next, ""), archive(9, "")];
        s.mover_with(1, "m0", running);
    }
}

/// A thousand requests for one file cost a bounded amount of work at a time.
#[test]
fn many_requests_for_one_file() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre(
        (1..=1000).map(|cookie| item(Action::Restore, 1, cookie, "")).chain([restore(2000, "")]).collect(),
    );
    assert_eq!(s.work(1, ANY), [1]);
    let effects = [s.recv(1, ANY), s.pass(0)].concat();
    assert_eq!(cookies(&effects, 1), [2000]);
    for cookie in 1..1000 {
        s.done(1, cookie, 1, 0);
        assert_eq!(s.work(1, ANY), [cookie + 1]);
    }
}

#[test]
fn archive_zero_is_for_movers_of_all_archives_if_there_are_any() {
    let anywhere = |oid| ActionItem { archive_id: 0, ..remove(oid, "") };
    let mut s = Session::new(config());
    s.mover_for(1, "some", &[1]);
    s.mover(2, "all");
    s.lustre(vec![anywhere(1)]);
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!(s.work(2, ANY), [1]);
    s.lustre(vec![anywhere(2)]);
    let effects = s.disconnect(2);
    assert_eq!(cookies(&effects, 1), [2], "nobody else is there");
}

/// C (c): "non-UTF-8 data: request dropped (ENOMEM)". Only our own movers take such data as it is, so they go first.
#[test]
fn data_that_is_not_utf8_goes_to_our_movers_first() {
    let mut s = Session::new(config());
    s.mover(1, "theirs");
    s.connect(2);
    let features = Features { binary_data: true, lease: false };
    s.ehlo(2, Ehlo { id: Some("ours".into()), features, ..Ehlo::default() });
    s.recv(1, limits(1, 1, 1));
    s.recv(2, limits(1, 1, 1));
    // The one that waits longest would be next, were it not for the data.
    let binary = |oid| ActionItem { data: b"tag=\xff".as_slice().into(), ..archive(oid, "") };
    let effects = s.lustre(vec![binary(1)]);
    assert_eq!((cookies(&effects, 1), cookies(&effects, 2)), (vec![], vec![1]));
    // Nobody else waits: better with replacement characters than not at all.
    let effects = s.lustre(vec![binary(2)]);
    assert_eq!(cookies(&effects, 1), [2]);
    assert!(!list(&effects, 1).expect("work").binary_data);
}
