//! Cancels.

use super::*;

fn cancel(oid: u32) -> ActionItem {
    item(Action::Cancel, oid, u64::from(oid), "")
}

fn ended(s: &mut Session, oid: u32, errno: i32) {
    s.event(Event::LustreEnded { key: key(oid), errno });
}

/// C (i): "cancel of a queued request leaks pending_* and pending_cancel/done_cancel never move".
#[test]
fn a_queued_request_ends_at_once() {
    let mut s = Session::new(config());
    s.connect(1);
    s.lustre(vec![archive(1, ""), archive(2, ""), archive(3, "")]);
    assert_eq!(endings(&s.lustre(vec![cancel(2)])), [(2, 125)]);
    assert_eq!(s.store.last(), Some(&StoreOp::Remove { key: key(2) }));
    let counters = s.core.counters();
    assert_eq!(
        (counters.pending[2], counters.pending_cancel, counters.done_cancel, counters.ending),
        (2, 0, 0, 1)
    );
    ended(&mut s, 2, 0);
    let counters = s.core.counters();
    assert_eq!((counters.done_cancel, counters.ending, counters.done[2]), (1, 0, 0));
}

#[test]
fn an_end_that_the_mdt_cannot_take_is_tried_again() {
    for (errno, again, counted) in
        [(0, false, 1), (2, false, 0), (22, false, 0), (11, true, 0), (107, true, 0)]
    {
        let mut s = Session::new(config());
        // Nobody knows its victim: the record at the MDT must be ended all the same.
        assert_eq!(endings(&s.lustre(vec![cancel(9)])), [(9, 125)]);
        ended(&mut s, 9, errno);
        assert_eq!(!endings(&s.pass(5)).is_empty(), again, "{errno}");
        assert_eq!(s.core.counters().done_cancel, counted, "{errno}");
        assert_eq!(s.core.counters().ending, u64::from(again), "{errno}");
    }
}

#[test]
fn a_running_request_is_cancelled_by_its_mover() {
    // What the mover answers: counts of cancels and archives, and whether it still runs.
    let cases = [(125, 1, 0, 0), (5, 1, 0, 0), (0, 0, 1, 0), (38, 0, 0, 1)];
    for (status, cancels, archives, running) in cases {
        let mut s = Session::new(config());
        s.mover(1, "m0");
        s.lustre(vec![archive(1, ""), archive(2, "")]);
        assert_eq!(s.work(1, limits(1, 0, 0)), [1]);
        assert_eq!(endings(&s.lustre(vec![cancel(1), cancel(1)])), []);
        assert_eq!(s.core.counters().pending_cancel, 1);
        // Ahead of everything else, at the limit, and even when locked.
        s.lock(1, Lock::Locked);
        let effects = s.recv(1, limits(1, 0, 0));
        let work = &list(&effects, 1).unwrap().items;
        assert_eq!((work.len(), work[0].action, work[0].cookie), (1, Action::Cancel, 1));
        assert_eq!(s.core.counters().pending_cancel, 0);
        s.done(1, 1, 1, status);
        let counters = s.core.counters();
        let got = (counters.done_cancel, counters.done[2], counters.running[2]);
        assert_eq!(got, (cancels, archives, running), "{status}");
        if running == 1 {
            // It went on and finished.
            s.done(1, 1, 1, 0);
            assert_eq!(s.core.counters().done[2], 1);
        } else {
            // C's library aborts on the second acknowledgement; here it is harmless.
            s.done(1, 1, 1, 125);
            assert_eq!(s.core.counters().foreign_dones, 1);
        }
    }
}

#[test]
fn a_mover_that_waits_gets_the_cancel_at_once() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre(vec![archive(1, "")]);
    s.work(1, ANY);
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!(cookies(&s.lustre(vec![cancel(1)]), 1), [1]);
}

/// C: SIGABRT when a mover reconnects while a cancel is pending.
#[test]
fn a_cancel_waits_for_its_mover() {
    // Back with the request, back without it, not back.
    for (back, claims) in [(true, true), (true, false), (false, false)] {
        for sent in [true, false] {
            let mut s = Session::new(config());
            s.mover(1, "m0");
            s.lustre(vec![archive(1, "")]);
            s.work(1, ANY);
            s.lustre(vec![cancel(1)]);
            if sent {
                assert_eq!(s.work(1, ANY), [1]);
            }
            s.disconnect(1);
            if back {
                let items = if claims { vec![archive(1, "")] } else { Vec::new() };
                s.mover_with(2, "m0", items);
                if claims {
                    assert_eq!(s.work(2, ANY), [1], "it is sent (again)");
                    s.done(2, 1, 1, 125);
                    assert_eq!(s.core.counters().done_cancel, 1);
                }
            } else {
                s.pass(601);
            }
            let counters = s.core.counters();
            assert_eq!((counters.running[2], counters.pending[2], counters.pending_cancel), (0, 0, 0));
            // A cancelled request is nobody else's.
            assert_eq!(
                endings(&s.visible),
                if claims { vec![] } else { vec![(1, 125)] },
                "{back} {claims} {sent}"
            );
        }
    }
}

#[test]
fn a_redelivered_and_cancelled_request_is_not_run_again() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre(vec![archive(1, "")]);
    s.work(1, ANY);
    s.lustre(vec![archive(1, ""), cancel(1)]);
    s.done(1, 1, 1, 5);
    let counters = s.core.counters();
    assert_eq!((counters.pending[2], counters.running[2], counters.pending_cancel), (0, 0, 0));
}

#[test]
fn cancelling_what_keeps_a_file_lets_the_next_go() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre(vec![archive(1, ""), item(Action::Archive, 1, 2, ""), item(Action::Archive, 1, 3, "")]);
    assert_eq!(s.work(1, ANY), [1]);
    s.done(1, 1, 1, 0);
    // 2 is let go now, and cancelled before anybody took it.
    s.lustre(vec![item(Action::Cancel, 1, 2, "")]);
    assert_eq!(s.work(1, ANY), [3]);
}

/// C sends a cancel with other flags than the rest never; here each pair has its turn.
#[test]
fn cancels_of_several_archives_are_sent_one_after_the_other() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre((1..=3).map(|oid| archive(oid, "")).collect());
    assert_eq!(s.work(1, ANY), [1, 2, 3]);
    s.lustre(vec![cancel(1), ActionItem { flags: 1, ..cancel(2) }, cancel(3)]);
    assert_eq!(s.work(1, ANY), [1, 3]);
    assert_eq!(s.work(1, ANY), [2]);
    let long = "x".repeat(100);
    s.lustre(vec![archive(4, "")]);
    s.work(1, ANY);
    s.lustre(vec![ActionItem { data: long.as_bytes().into(), ..cancel(4) }]);
    assert_eq!(s.work(1, Recv { max_bytes: 172, ..ANY }), [4], "its data is not worth an answer");
}
