//! What a store held.

use super::*;

fn stored(oid: u32, data: &str, second: i64) -> ActionItem {
    ActionItem { timestamp: 1_795_217_000_000_000_000 + second * 1_000_000_000, ..archive(oid, data) }
}

fn recover(s: &mut Session, requests: Vec<(ActionItem, Option<&str>)>, suspect: bool) -> Vec<Effect> {
    let requests = requests.into_iter().map(|(item, mover)| (item, mover.map(str::to_owned))).collect();
    s.event(Event::Recovered { requests, suspect })
}

/// C (h): "SIGTERM loses assignments" and running requests were given to another mover before the first was back.
#[test]
fn movers_have_their_grace_to_come_back() {
    let mut s = Session::new(HsmConfig { client_grace: Duration::from_secs(10), ..config() });
    recover(
        &mut s,
        vec![(stored(1, "", 1), Some("m0")), (stored(2, "", 2), None), (stored(3, "", 3), Some("m1"))],
        true,
    );
    assert_eq!(s.store, [], "the store knows it all");
    s.mover(5, "other");
    assert_eq!(s.work(5, ANY), [2]);
    assert_eq!(s.work(5, ANY), [0; 0]);
    s.pass(9);
    s.mover_with(6, "m0", vec![archive(1, "")]);
    assert_eq!(cookies(&s.pass(1), 5), [3]);
    s.done(6, 1, 1, 0);
    assert_eq!(s.core.counters().done[2], 1);
    let ops = [StoreOp::Unassign { key: key(3) }, StoreOp::Remove { key: key(1) }];
    assert!(ops.iter().all(|op| s.store.contains(op)));
}

/// C (21): order lost at a restart.
#[test]
fn order_survives() {
    let mut s = Session::new(config());
    recover(&mut s, vec![(stored(3, "", 1), None), (stored(1, "", 2), None)], false);
    recover(&mut s, vec![(stored(2, "", 3), None)], false);
    s.lustre(vec![archive(4, "")]);
    s.mover(1, "m0");
    let effects = s.recv(1, ANY);
    let items = &list(&effects, 1).unwrap().items;
    assert_eq!(cookies(&effects, 1), [3, 1, 2, 4]);
    assert!(items.windows(2).all(|pair| pair[0].timestamp < pair[1].timestamp));
}

#[test]
fn suspect_requests_wait_for_claims() {
    let mut s = Session::new(HsmConfig { settle: Duration::from_secs(12), ..config() });
    recover(&mut s, (1..=3).map(|oid| (stored(oid, "", oid.into()), None)).collect(), true);
    s.mover(5, "other");
    s.lustre(vec![archive(4, ""), archive(5, "")]);
    assert_eq!(s.work(5, limits(1, 0, 0)), [4]);
    for oid in 1..=3 {
        assert!(s.status(5, 6).contains(&format!("\"hai_cookie\": {oid}, ")));
    }
    s.mover_with(6, "m0", vec![archive(2, "")]);
    assert_eq!(s.work(5, limits(2, 0, 0)), [5]);
    assert_eq!(s.work(5, ANY), [0; 0]);
    s.lock(5, Lock::Locked);
    s.lustre(vec![archive(6, "")]);
    s.pass(12);
    // They were before what has come since.
    assert_eq!(cookies(&s.lock(5, Lock::Unlocked), 5).first(), Some(&1));
    s.pass(700);
    assert_eq!(s.core.counters().running[2] + s.core.counters().pending[2], 6);
}

/// Found by the simulator: a daemon that was stopped at once left a store that was not suspect any more.
#[test]
fn a_store_is_suspect_until_movers_could_claim() {
    for (settle, suspect, noted) in [(12, true, true), (12, false, false), (0, true, false)] {
        let mut s = Session::new(HsmConfig { settle: Duration::from_secs(settle), ..config() });
        recover(&mut s, vec![(stored(1, "", 1), Some("m0")), (stored(2, "", 1), None)], suspect);
        assert_eq!(notes(&s).contains_key(crate::hsm::SETTLING), noted);
        s.pass(11);
        assert_eq!(notes(&s).contains_key(crate::hsm::SETTLING), noted);
        s.pass(2);
        assert_eq!(notes(&s).len(), 0);
    }
    let mut s = Session::new(config());
    s.event(Event::RecoveredNotes(vec![(crate::hsm::SETTLING.into(), "1".into())]));
}

/// A store that lost its last changes may name the mover before the one that has it: that one coming back without it says
/// nothing.
#[test]
fn what_a_suspect_store_gives_to_the_wrong_mover_can_be_claimed_by_the_right_one() {
    for (suspect, claimed) in [(true, true), (true, false), (false, false)] {
        let mut s = Session::new(HsmConfig { settle: Duration::from_secs(12), ..config() });
        recover(&mut s, vec![(stored(1, "", 1), Some("m0"))], suspect);
        s.mover(1, "m0");
        assert_eq!(s.work(1, ANY).is_empty(), suspect, "what nobody can claim needs not wait");
        if claimed {
            s.mover_with(2, "m1", vec![archive(1, "")]);
            s.pass(20);
            assert_eq!(s.core.counters().running[2], 1);
            assert_eq!(error(&s.done(2, 1, 1, 0), 2), None);
            assert_eq!(s.core.counters().done[2], 1);
        } else if suspect {
            assert_eq!(cookies(&s.pass(12), 1), [1]);
        }
    }
}

/// The MDT asks for it again, or knows it after all: it could be claimed before, and still can.
#[test]
fn doubts_do_not_let_go_what_could_be_claimed() {
    let config =
        HsmConfig { settle: Duration::from_secs(12), ask_lustre: true, ..super::keepalive::watched() };
    let mut s = Session::new(config);
    s.mover(1, "m0");
    recover(&mut s, vec![(stored(1, "", 1), None)], true);
    s.work(1, ANY);
    let unknown = LustreAnswer::KeptAlive { key: key(1), number: u64::MAX, errno: 2 };
    s.event(Event::LustreAnswered(unknown));
    assert_eq!(s.core.counters().doubtful, 1);
    // Delivered again.
    assert_eq!(cookies(&s.lustre(vec![archive(1, "")]), 1), [0; 0]);
    assert_eq!(s.core.counters().doubtful, 0);
    s.mover_with(2, "m1", vec![archive(1, "")]);
    assert_eq!(cookies(&s.pass(20), 1), [0; 0]);
    assert_eq!(s.core.counters().running[2], 1);
}

#[test]
fn odd_records_do_no_harm() {
    let mut s = Session::new(config());
    let cancel = item(Action::Cancel, 9, 9, "");
    recover(&mut s, vec![(stored(1, "", 1), None), (stored(1, "", 1), Some("m0")), (cancel, None)], false);
    let anywhere = ActionItem { archive_id: 0, action: Action::Remove, ..stored(2, "", 2) };
    recover(
        &mut s,
        vec![(anywhere, Some("")), (ActionItem { timestamp: i64::MAX, ..stored(3, "", 0) }, None)],
        false,
    );
    assert_eq!(s.store, [StoreOp::Remove { key: key(9) }]);
    assert_eq!(s.core.counters().pending, [0, 1, 2]);
    s.lustre(vec![archive(4, ""), archive(5, "")]);
    let times: Vec<i64> = s
        .store
        .iter()
        .filter_map(|op| match op {
            StoreOp::Put(item) => Some(item.timestamp),
            _ => None,
        })
        .collect();
    assert!(times[0] < times[1] && times[1] < i64::MAX);
}

/// A store that applies operations, and parts of a snapshot between them, ends up with what one has that saw everything.
#[test]
fn what_the_store_should_hold_is_told_in_slices_while_things_change() {
    use std::collections::BTreeMap;

    type Held = BTreeMap<RequestKey, (ActionItem, Option<String>)>;
    fn apply(held: &mut Held, ops: &[StoreOp]) {
        for op in ops {
            match op {
                StoreOp::Put(item) => drop(held.insert(item.key(), (item.clone(), None))),
                StoreOp::Assign { key, mover } => {
                    if let Some(entry) = held.get_mut(key) {
                        entry.1 = Some(mover.clone());
                    }
                }
                StoreOp::Unassign { key } => {
                    if let Some(entry) = held.get_mut(key) {
                        entry.1 = None;
                    }
                }
                StoreOp::Remove { key } => drop(held.remove(key)),
                StoreOp::Note { .. } => {}
            }
        }
    }

    let mut s = Session::new(config());
    s.lustre((1..=6000).map(|oid| archive(oid, if oid % 7 == 0 { "tag=a" } else { "" })).collect());
    s.mover(1, "m0");
    s.mover(2, "m1");
    assert_eq!(s.work(1, limits(10, 0, 0)).len(), 10);
    let mut truth = Held::new();
    apply(&mut truth, &s.store);
    assert_eq!(truth.len(), 6000);

    let (mut lost, mut seen) = (Held::new(), s.store.len());
    let (mut from, mut parts, mut next) = (Some(0), 0, 1_u32);
    while let Some(at) = from {
        let mut part = Vec::new();
        from = s.core.stored_slice(at, 100, &mut part);
        for (item, mover) in part {
            lost.insert(item.key(), (item, mover));
        }
        // Some end, others are given out and queued: before and behind where the slices are.
        s.done(1, next.into(), next, 0);
        s.done(1, u64::from(next) + 1, next + 1, 0);
        next += 2;
        if next <= 10 {
            s.lustre(vec![archive(7000 + parts, "")]);
        }
        s.recv(2, limits(parts + 1, 0, 0));
        parts += 1;
        apply(&mut truth, &s.store[seen..]);
        apply(&mut lost, &s.store[seen..]);
        seen = s.store.len();
    }
    assert!(parts > 50, "{parts}");
    assert!(truth.values().filter(|(_, mover)| mover.is_some()).count() > 10);
    assert_eq!(lost, truth);
}
