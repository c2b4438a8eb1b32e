//! Restores that are bound to a mover that is gone.

use lustreapi_sys::abi::HSM_REQ_BLOCKING;

use super::*;
use crate::hsm::event::Features;
use crate::hsm::{LustreAnswer, LustreCall};

const ENOENT: i32 = 2;
const EAGAIN: i32 = 11;
const EINVAL: i32 = 22;
const ETIMEDOUT: i32 = 110;

fn asking() -> Session {
    Session::new(HsmConfig { ask_lustre: true, client_grace: Duration::from_secs(30), ..config() })
}

fn ours(s: &mut Session, conn: u64, id: &str) {
    s.connect(conn);
    let features = Features { lease: true, ..Features::default() };
    s.ehlo(conn, Ehlo { id: Some(id.into()), features, ..Ehlo::default() });
}

/// Cookie and flags of what the MDT is asked to take again.
fn requested(effects: &[Effect]) -> Vec<(u64, u64)> {
    let of = |effect: &Effect| match effect {
        Effect::AskLustre(LustreCall::Request { item, .. }) => Some((item.cookie, item.flags)),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}

fn ended(s: &mut Session, oid: u32, errno: i32) -> Vec<Effect> {
    s.event(Event::LustreEnded { key: key(oid), errno })
}

fn taken(s: &mut Session, oid: u32, errno: i32) -> Vec<Effect> {
    s.event(Event::LustreAnswered(LustreAnswer::Requested { key: key(oid), number: u64::MAX, errno }))
}

/// A restore, and an archive, of a mover of the C version that does not come back; another one waits.
fn orphaned() -> (Session, Vec<Effect>) {
    let mut s = asking();
    s.mover(1, "c0");
    s.mover(2, "m1");
    s.lustre(vec![ActionItem { flags: HSM_REQ_BLOCKING, ..restore(1, "") }]);
    assert_eq!(s.work(1, ANY), [1]);
    s.recv(2, ANY);
    s.disconnect(1);
    let effects = s.pass(31);
    (s, effects)
}

#[test]
fn it_is_ended_and_then_requested_again() {
    let (mut s, effects) = orphaned();
    assert_eq!(cookies(&effects, 2), [0; 0], "nobody else may have it");
    assert_eq!(endings(&effects), [(1, ETIMEDOUT)]);
    assert_eq!(requested(&effects), [], "the MDT would take it for the old one");
    assert!(!s.store.contains(&StoreOp::Remove { key: key(1) }), "a crash now repeats it");
    assert_eq!(requested(&ended(&mut s, 1, 0)), [(1, 0)], "nobody is blocked on the new one");
    assert_eq!(requested(&taken(&mut s, 1, EAGAIN)), []);
    assert_eq!(requested(&s.pass(2)), [(1, 0)]);
    taken(&mut s, 1, 0);
    assert!(s.store.contains(&StoreOp::Remove { key: key(1) }));
    let counters = s.core.counters();
    assert_eq!((counters.pending, counters.running, counters.unbound), ([0; 3], [0; 3], 1));
    let again = ActionItem { cookie: 9, ..restore(1, "") };
    assert_eq!(cookies(&s.lustre(vec![again]), 2), [9]);
}

#[test]
fn who_is_bound() {
    // Ours or C's, there is a Lustre, it came back, what it ran, and whether that is ended.
    for (own, lustre, back, make, bound) in [
        (false, true, false, restore as fn(u32, &str) -> ActionItem, true),
        (false, true, true, restore, true),
        (true, true, false, restore, false),
        (true, true, true, restore, false),
        (false, false, false, restore, false),
        (false, true, false, archive, false),
        (false, true, true, remove, false),
    ] {
        let mut s = Session::new(HsmConfig {
            ask_lustre: lustre,
            client_grace: Duration::from_secs(30),
            lease: Duration::from_secs(5),
            ..config()
        });
        let join = |s: &mut Session, conn| match own {
            true => ours(s, conn, "m0"),
            false => drop(s.mover_with(conn, "m0", vec![])),
        };
        join(&mut s, 1);
        s.lustre(vec![make(1, "")]);
        s.recv(1, ANY);
        for state in [
            LustreAnswer::KeptAlive { key: key(1), number: u64::MAX, errno: 0 },
            LustreAnswer::State { key: key(1), number: u64::MAX, state: Ok(Default::default()) },
        ] {
            s.event(Event::LustreAnswered(state));
        }
        assert_eq!(s.core.counters().running.iter().sum::<u64>(), 1);
        s.disconnect(1);
        let mut effects = Vec::new();
        if back {
            join(&mut s, 3);
            effects.extend(std::mem::take(&mut s.visible));
        } else {
            effects.extend(s.pass(40));
        }
        assert_eq!(
            endings(&effects),
            if bound { vec![(1, ETIMEDOUT)] } else { vec![] },
            "{own} {lustre} {back}"
        );
        assert_eq!(s.core.counters().requeued, u64::from(!bound));
    }
}

/// Its restart lets go of the binding, and sends it again with the same cookie.
#[test]
fn an_mdt_that_restarted_gets_it_run_again() {
    // It comes again before the end was answered, or after; the answer; whether it is run again.
    for (early, errno, again) in [(true, ENOENT, true), (false, ENOENT, true), (true, 0, false)] {
        let (mut s, _) = orphaned();
        if early {
            s.lustre(vec![restore(1, "")]);
        }
        let mut effects = ended(&mut s, 1, errno);
        if !early {
            assert_eq!(requested(&effects).len(), 1);
            s.lustre(vec![restore(1, "")]);
            effects = taken(&mut s, 1, 0);
        }
        assert_eq!(cookies(&effects, 2), if again { vec![1] } else { vec![] }, "{early} {errno}");
        assert_eq!(requested(&effects).is_empty(), again);
        if again {
            assert!(s.store.contains(&StoreOp::Assign { key: key(1), mover: "m1".into() }));
        }
    }
}

#[test]
fn a_mover_that_comes_back_too_late_does_not_get_it_back() {
    let (mut s, _) = orphaned();
    s.mover_with(3, "c0", vec![restore(1, "")]);
    assert_eq!(s.core.counters().running, [0; 3]);
    assert_eq!(requested(&ended(&mut s, 1, 0)), [(1, 0)]);
    s.done(3, 1, 1, ENOENT);
    taken(&mut s, 1, 0);
    assert_eq!(s.core.counters().ended, 1);
}

#[test]
fn a_cancel_meanwhile_ends_it() {
    let (mut s, _) = orphaned();
    s.lustre(vec![item(Action::Cancel, 1, 1, "")]);
    assert_eq!(requested(&ended(&mut s, 1, 0)), []);
    assert_eq!(s.core.counters().pending, [0; 3]);
}

/// The mover before had bound it all the same: its successor's end is refused.
#[test]
fn the_mdts_refusal_shows_a_binding() {
    let mut s = asking();
    ours(&mut s, 1, "m0");
    s.mover(2, "m1");
    s.lustre(vec![restore(1, ""), restore(2, "")]);
    assert_eq!(s.work(1, limits(0, 1, 0)), [1]);
    s.disconnect(1);
    s.pass(120);
    assert_eq!(s.work(2, ANY), [2, 1]);
    assert_eq!(endings(&s.done(2, 2, 2, EINVAL)), [], "its own fault");
    let effects = s.done(2, 1, 1, EINVAL);
    assert_eq!(endings(&effects), [(1, ETIMEDOUT)]);
    assert_eq!(requested(&ended(&mut s, 1, 0)), [(1, 0)]);
}

#[test]
fn a_restart_in_between_repeats_it() {
    let recovered = |s: &mut Session, mover: &str| {
        let requests = vec![(restore(1, ""), Some(mover.to_owned()))];
        s.event(Event::Recovered { requests, suspect: false });
    };
    let mut s = asking();
    recovered(&mut s, "c0");
    assert_eq!(endings(&s.pass(31)), [(1, ETIMEDOUT)]);

    // Of a mover of ours it is known over a restart that its restores may move.
    let mut s = asking();
    ours(&mut s, 1, "m0");
    let notes: Vec<(String, String)> = s
        .store
        .iter()
        .filter_map(|op| match op {
            StoreOp::Note { name, value: Some(value) } => Some((name.clone(), value.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(notes.len(), 1);
    let mut s = asking();
    recovered(&mut s, "m0");
    s.event(Event::RecoveredNotes(notes.clone()));
    s.mover(2, "m1");
    s.recv(2, ANY);
    assert_eq!(cookies(&s.pass(31), 2), [1]);
    assert!(
        s.store.contains(&StoreOp::Note { name: notes[0].0.clone(), value: None }),
        "forgotten with the mover"
    );
}

/// An operator queues what the MDT shows as active, or the MDT delivers what it remembers as bound.
#[test]
fn what_comes_bound_waits_for_its_mover() {
    let bound = || ActionItem { dfid: fid(100), ..restore(1, "") };
    for queued in [true, false] {
        let start = || {
            let mut s = asking();
            s.mover(2, "m1");
            s.recv(2, ANY);
            s.connect(9);
            let effects = if queued { s.queue(9, vec![bound()]) } else { s.lustre(vec![bound()]) };
            assert_eq!((cookies(&effects, 2), endings(&effects)), (vec![], vec![]));
            s
        };
        let mut s = start();
        assert_eq!(endings(&s.pass(11)), []);
        assert_eq!(endings(&s.pass(2)), [(1, ETIMEDOUT)]);
        assert_eq!(requested(&ended(&mut s, 1, 0)), [(1, 0)]);

        let mut s = start();
        s.mover_with(1, "c0", vec![bound()]);
        assert_eq!(endings(&s.pass(60)), [], "its mover has it");
        s.done(1, 1, 100, 0);
        assert_eq!(s.core.counters().done, [1, 0, 0]);

        let mut s = start();
        assert_eq!(cookies(&s.lustre(vec![restore(1, "")]), 2), [1], "its MDT has let go of it");
    }
}

#[test]
fn what_comes_back_bound_is_ended_again() {
    let (mut s, _) = orphaned();
    assert_eq!(requested(&ended(&mut s, 1, ENOENT)).len(), 1);
    let effects = s.lustre(vec![ActionItem { dfid: fid(100), ..restore(1, "") }]);
    assert_eq!(endings(&effects), [(1, ETIMEDOUT)]);
    taken(&mut s, 1, 0);
    assert_eq!(s.core.counters().ended, 0, "that was about the time before");
    assert_eq!(requested(&ended(&mut s, 1, 0)).len(), 1);
    taken(&mut s, 1, 0);
    assert_eq!(s.core.counters().ended, 1);
}

/// Found by the simulator: the daemon died of it when redis had to be written anew.
#[test]
fn a_store_that_lost_it_is_told_whose_it_is() {
    let (s, _) = orphaned();
    let mut part = Vec::new();
    assert_eq!(s.core.stored_slice(0, 100, &mut part), None);
    let held: Vec<_> = part.into_iter().map(|(item, mover)| (item.key(), mover)).collect();
    assert_eq!(held, [(key(1), Some("c0".to_owned()))]);
}
