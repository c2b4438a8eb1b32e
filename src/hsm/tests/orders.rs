//! Cancels by operators.

use super::*;

fn of(change: impl FnOnce(&mut Select)) -> Select {
    let mut select = Select::default();
    change(&mut select);
    select
}

/// Two movers, one request running on each, six waiting.
fn busy() -> Session {
    let mut s = Session::new(HsmConfig { host_mappings: vec![any("tag=n1", &["m1"])], ..config() });
    s.mover(1, "m0");
    s.mover(2, "m1");
    s.lustre(vec![archive(1, "tag=n1"), restore(2, "tag=a")]);
    assert_eq!(s.work(2, limits(1, 0, 0)), [1]);
    assert_eq!(s.work(1, limits(0, 1, 0)), [2]);
    s.lustre(vec![
        archive(3, "tag=a"),
        archive(4, "tag=n1"),
        ActionItem { archive_id: 2, ..archive(5, "tag=a,x") },
        restore(6, "xtag=a"),
        remove(7, ""),
        item(Action::Archive, 3, 8, "tag=b\0"),
    ]);
    s
}

#[test]
fn a_cancel_hits_what_is_selected_and_nothing_else() {
    // What is selected, the cookies of what waits and of what runs.
    let fids = |fids: &[u32]| fids.iter().map(|&oid| fid(oid)).collect::<Vec<_>>();
    let cases: Vec<(Select, &[u64], &[u64])> = vec![
        (of(|_| ()), &[3, 4, 5, 6, 7, 8], &[1, 2]),
        (of(|s| s.fids = fids(&[3])), &[3, 8], &[]),
        (of(|s| s.fids = fids(&[1, 7, 99, 7])), &[7], &[1]),
        (of(|s| s.cookie = Some(8)), &[8], &[]),
        (of(|s| s.hint = Some("tag=a".into())), &[3, 5], &[2]),
        (of(|s| s.hint = Some("tag=".into())), &[3, 4, 5, 8], &[1, 2]),
        (of(|s| s.mover = Some("m1".into())), &[4], &[1]),
        (of(|s| s.mover = Some("m0".into())), &[], &[2]),
        (of(|s| s.mover = Some("nobody".into())), &[], &[]),
        (of(|s| s.archive_id = Some(2)), &[5], &[]),
        (of(|s| s.action = Some(Action::Restore)), &[6], &[2]),
        (of(|s| s.running = Some(true)), &[], &[1, 2]),
        (of(|s| s.running = Some(false)), &[3, 4, 5, 6, 7, 8], &[]),
        (
            of(|s| {
                s.action = Some(Action::Archive);
                s.hint = Some("tag=a".into());
                s.archive_id = Some(1);
            }),
            &[3],
            &[],
        ),
    ];
    // Of no user's cancel: an ARCHIVE must not make its file dirty, others are to be seen as failed and cancelled.
    let ended_with = |cookie| if [6, 7].contains(&cookie) { 38 } else { 114 };
    for (select, waiting, running) in cases {
        let mut s = busy();
        let (seen, effects) = s.cancel(select.clone(), true);
        assert_eq!((seen.waiting, seen.running), (waiting.len() as u64, running.len() as u64), "{select:?}");
        assert_eq!((endings(&effects), s.core.counters().pending_cancel), (vec![], 0), "only looked at");
        assert_eq!(seen.examples.len(), (waiting.len() + running.len()).min(3));
        let (report, effects) = s.cancel(select.clone(), false);
        assert_eq!(report, CancelReport { preview: false, ..seen }, "{select:?}");
        let mut ended = endings(&effects);
        ended.sort_unstable();
        assert_eq!(
            ended,
            waiting.iter().map(|&cookie| (cookie, ended_with(cookie))).collect::<Vec<_>>(),
            "{select:?}"
        );
        assert_eq!(s.core.counters().pending_cancel, running.len() as u64);
        assert_eq!(s.core.counters().pending.iter().sum::<u64>(), 6 - waiting.len() as u64);
        for &cookie in running {
            let conn = if cookie == 1 { 2 } else { 1 };
            let effects = s.recv(conn, ANY);
            let work = &list(&effects, conn).unwrap().items;
            assert_eq!(work[0].cookie, cookie);
            assert!(work.iter().all(|item| item.action == Action::Cancel), "cancels go alone");
            s.done(conn, cookie, cookie as u32, 125);
        }
        assert_eq!(s.core.counters().done_cancel, running.len() as u64);
        let query = HistoryQuery::default();
        assert!(s.core.history(&query).iter().all(|ended| ended.outcome == Outcome::Cancelled));
    }
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let mut s = busy();
    let refused = |s: &mut Session, order: Order| match s.order(order) {
        (OperatorReply::Refused(why), _) => why,
        (other, _) => panic!("{other:?}"),
    };
    let cancel = |select| Order::Cancel { select, preview: false, examples: 0 };
    refused(&mut s, cancel(of(|s| s.hint = Some(String::new()))));
    refused(&mut s, cancel(of(|s| s.mover = Some(String::new()))));
    assert!(refused(&mut s, cancel(of(|s| s.user = Some(0)))).contains("not known"));
    refused(&mut s, Order::Retry { select: of(|s| s.running = Some(true)) });
    refused(&mut s, Order::Forget { select: of(|s| s.user = Some(1)) });
    refused(&mut s, Order::Drain { mover: String::new(), on: true });
    refused(&mut s, Order::Release { mover: "m0".into() });
    assert_eq!(s.core.counters().pending.iter().sum::<u64>(), 6);
}

#[test]
fn a_great_cancel_goes_in_slices_and_spares_what_comes_meanwhile() {
    let mut s = Session::new(config());
    s.connect(1);
    s.lustre((1..=20_000).map(|oid| archive(oid, if oid % 2 == 0 { "tag=a" } else { "" })).collect());
    let select = of(|select| select.hint = Some("tag=a".into()));
    let mut effects = Effects::default();
    let order = Order::Cancel { select, preview: false, examples: 2 };
    s.core.handle(s.now, Event::Operator { ask: AskId(9), who: "me".into(), order }, &mut effects);
    let first = endings(&effects.visible).len();
    assert!(first < 10_000, "a part of it in one step: {first}");
    let progress = s.core.orders();
    assert_eq!((progress.len(), progress[0].0), (1, AskId(9)));
    assert_eq!(progress[0].1.waiting, first as u64);
    // The first of these takes the place of one that was cancelled, before the walk or behind it.
    s.now.wall = s.now.wall_at(s.now.mono + Duration::from_secs(1));
    s.core.handle(s.now, Event::Lustre { items: vec![archive(30_000, "tag=a")] }, &mut effects);
    s.core.handle(s.now, Event::Lustre { items: vec![archive(30_001, "tag=a")] }, &mut effects);
    for _ in 0..100 {
        s.core.handle(s.now, Event::Tick, &mut effects);
    }
    s.core.check();
    let report = effects.visible.iter().find_map(|effect| match effect {
        Effect::Operator { ask: AskId(9), reply: OperatorReply::Cancel(report) } => Some(report),
        _ => None,
    });
    let report = report.unwrap();
    assert_eq!((report.waiting, report.progress, report.examples.len()), (10_000, 1000, 2));
    assert_eq!(endings(&effects.visible).len(), 10_000);
    assert_eq!(s.core.counters().pending[2], 10_002);
    assert!(s.core.orders().is_empty());
    assert_eq!(s.why(30_000), ["no_mover", "behind"]);
}

/// A request whose mover goes away after an operator's cancel is nobody else's.
#[test]
fn a_cancelled_request_is_fenced_off() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.mover(2, "m1");
    s.lustre(vec![archive(1, "")]);
    assert_eq!(s.work(1, ANY), [1]);
    s.work(2, ANY);
    s.cancel(of(|select| select.fids = vec![fid(1)]), false);
    // The same once more changes nothing.
    let (again, _) = s.cancel(of(|select| select.fids = vec![fid(1)]), false);
    assert_eq!((again.running, again.cancelling), (1, 1));
    assert_eq!(s.core.counters().pending_cancel, 1);
    s.disconnect(1);
    let effects = s.pass(601);
    assert_eq!((endings(&effects), cookies(&effects, 2)), (vec![(1, 114)], vec![]));
}

/// The end of a cancelled request lets the next one of its file go.
#[test]
fn cancelling_what_is_held_or_holds_harms_nobody() {
    for cancelled in [1, 2, 3] {
        let mut s = Session::new(config());
        s.mover(1, "m0");
        s.lustre((1..=3).map(|cookie| item(Action::Archive, 1, cookie, "")).collect());
        assert_eq!(s.work(1, ANY), [1]);
        s.cancel(of(|select| select.cookie = Some(cancelled)), false);
        if cancelled == 1 {
            assert_eq!(s.work(1, ANY), [1], "the cancel");
        }
        s.done(1, 1, 1, 0);
        let rest: Vec<u64> = [2, 3].into_iter().filter(|&cookie| cookie != cancelled).collect();
        for cookie in rest {
            assert_eq!(s.work(1, ANY), [cookie], "{cancelled}");
            s.done(1, cookie, 1, 0);
        }
        assert_eq!(s.core.counters().pending, [0; 3]);
    }
}
