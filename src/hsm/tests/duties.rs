//! Movers that are drained, in quarantine, or limited.

use super::*;
use crate::hsm::config::{Limit, Limits, QuarantineConfig, Rate};

const EIO: i32 = 5;

fn drain(s: &mut Session, mover: &str, on: bool) -> Vec<Effect> {
    let (reply, effects) = s.order(Order::Drain { mover: mover.into(), on });
    assert_eq!(reply, OperatorReply::Done);
    effects
}

fn view(s: &Session, id: &str) -> crate::hsm::mover_views::MoverView {
    s.walk(0).0.movers.into_iter().find(|view| view.id == id).unwrap()
}

#[test]
fn a_drained_mover_finishes_and_gets_nothing_new() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre(vec![archive(1, "")]);
    assert_eq!(s.work(1, ANY), [1]);
    drain(&mut s, "m0", true);
    assert_eq!(notes(&s).keys().collect::<Vec<_>>(), ["drain/m0"]);
    s.lustre(vec![archive(2, ""), item(Action::Cancel, 1, 1, "")]);
    assert_eq!(s.work(1, ANY), [1], "cancels reach it");
    s.done(1, 1, 1, 0);
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!(s.why(2), ["draining"]);
    assert!(view(&s, "m0").drained);
    // Another takes it; the drained one gets work when it may again.
    s.mover(2, "m1");
    assert_eq!(s.work(2, limits(1, 0, 0)), [2]);
    s.lustre(vec![archive(3, "")]);
    assert_eq!(cookies(&drain(&mut s, "m0", false), 1), [3]);
    assert!(notes(&s).is_empty());
    assert!(!view(&s, "m0").drained);
}

#[test]
fn draining_survives_restarts_and_reconnects() {
    let mut s = Session::new(config());
    drain(&mut s, "m0", true);
    assert_eq!(s.core.drained(), ["m0"], "also one that is not here");
    let stored: Vec<_> = notes(&s).into_iter().collect();
    let mut s = Session::new(config());
    s.event(Event::RecoveredNotes(stored));
    s.lustre(vec![archive(1, "")]);
    for conn in 1..4 {
        s.mover(conn, "m0");
        assert_eq!(s.work(conn, ANY), [0; 0]);
        s.disconnect(conn);
        s.pass(700);
    }
    assert_eq!(s.core.drained(), ["m0"]);
    s.mover(9, "m0");
    s.recv(9, ANY);
    assert_eq!(cookies(&drain(&mut s, "m0", false), 9), [1]);
}

/// What only the drained mover may take waits for it; what others may take goes to them.
#[test]
fn host_mappings_and_batches_of_a_drained_mover() {
    let mappings = vec![any("tag=n0", &["m0"]), any("tag=n1", &["m0", "m1"])];
    let mut s = Session::new(HsmConfig { host_mappings: mappings, ..config() });
    s.mover(1, "m0");
    s.mover(2, "m1");
    drain(&mut s, "m0", true);
    s.lustre(vec![archive(1, "tag=n0"), archive(2, "tag=n1")]);
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!(s.work(2, ANY), [2]);
    assert_eq!(s.why(1), ["draining"]);
    assert_eq!(cookies(&drain(&mut s, "m0", false), 1), [1]);

    let mut s = Session::new(HsmConfig { batch: batch(10, None, 1), ..config() });
    s.mover(1, "m0");
    s.lustre((1..=4).map(|oid| archive(oid, "tag=a")).collect());
    assert_eq!(s.work(1, limits(1, 0, 0)), [1]);
    s.mover(2, "m1");
    drain(&mut s, "m0", true);
    assert_eq!(s.work(2, limits(9, 0, 0)), [2, 3, 4], "its batch goes on elsewhere");
    s.lustre(vec![archive(5, "tag=b")]);
    assert_eq!(s.why(5), ["draining", "slot_held"]);
    drain(&mut s, "m0", false);
    assert_eq!(s.why(5), ["mover_full"], "it has the slot");
}

fn strict(errors: u32) -> HsmConfig {
    let quarantine =
        QuarantineConfig { errors, window: Duration::from_secs(600), time: Duration::from_secs(900) };
    HsmConfig { quarantine, ..config() }
}

/// Gives `mover` so many requests that end with these errors.
fn ends(s: &mut Session, conn: u64, first: u32, errnos: &[i32]) {
    for (at, &errno) in errnos.iter().enumerate() {
        let oid = first + at as u32;
        s.lustre(vec![archive(oid, "")]);
        assert_eq!(s.work(conn, ANY), [u64::from(oid)], "{at}");
        s.done(conn, oid.into(), oid, errno);
    }
}

#[test]
fn errors_that_lead_to_quarantine() {
    // Errors of m0, whether there is another that can do its work, whether it is in quarantine then.
    type Case<'a> = (&'a [i32], Option<&'a [u32]>, bool);
    let cases: &[Case<'_>] = &[
        (&[EIO, EIO], Some(&[]), false),
        (&[EIO, EIO, EIO], Some(&[]), true),
        (&[EIO, 0, EIO, 28], Some(&[]), true),
        (&[0, 0, 0, 0, EIO, EIO, EIO, 0], Some(&[]), false),
        (&[2, 2, 2, 125, 16, 38], Some(&[]), false),
        (&[EIO, EIO, EIO], None, false),
        (&[EIO, EIO, EIO], Some(&[1]), false),
    ];
    for (errnos, other, want) in cases {
        let mut s = Session::new(strict(3));
        s.mover(1, "m0");
        if let Some(ids) = other {
            s.mover_for(2, "m1", ids);
        }
        ends(&mut s, 1, 1, errnos);
        assert_eq!(view(&s, "m0").quarantined.is_some(), *want, "{errnos:?} {other:?}");
        let mut off = Session::new(strict(0));
        off.mover(1, "m0");
        off.mover(2, "m1");
        ends(&mut off, 1, 1, errnos);
        assert_eq!(view(&off, "m0").quarantined, None);
    }
}

/// A mover whose archive is not mounted fails with ENOENT. That may be the file's as well, so it is shown, and no quarantine.
#[test]
fn what_may_be_the_files_fault_is_shown_as_failed() {
    let mut s = Session::new(strict(3));
    s.mover(1, "m0");
    s.mover(2, "m1");
    ends(&mut s, 1, 1, &[2, 2, 2, 125, 0]);
    let seen = view(&s, "m0");
    assert_eq!((seen.failed, seen.quarantined, seen.recent.0), (3, None, 0));
    assert!(seen.errors.contains(&(2, 3)), "{:?}", seen.errors);
}

#[test]
fn errors_of_long_ago_do_not_count() {
    let mut s = Session::new(strict(3));
    s.mover(1, "m0");
    s.mover(2, "m1");
    ends(&mut s, 1, 1, &[EIO, EIO]);
    s.pass(601);
    ends(&mut s, 1, 3, &[EIO, EIO]);
    assert_eq!(view(&s, "m0").recent, (2, 0));
    ends(&mut s, 1, 5, &[EIO]);
    assert!(view(&s, "m0").quarantined.is_some());
}

#[test]
fn a_quarantine_ends_with_a_trial() {
    let mut s = Session::new(strict(2));
    s.mover(1, "m0");
    s.mover(2, "m1");
    ends(&mut s, 1, 1, &[EIO, EIO]);
    s.lustre((10..=12).map(|oid| archive(oid, "")).collect());
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!(s.why(10), ["quarantined", "mover_not_asking"]);
    // The trial fails: twice as long.
    assert_eq!(cookies(&s.pass(899), 1), [0; 0]);
    assert_eq!(cookies(&s.pass(1), 1), [10], "one only");
    assert!(view(&s, "m0").on_probation);
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!(s.why(11), ["on_trial", "mover_not_asking"]);
    s.done(1, 10, 10, EIO);
    assert_eq!(cookies(&s.pass(1799), 1), [0; 0]);
    // The next one is cancelled by its user, which proves nothing; the one after it is done.
    assert_eq!(cookies(&s.pass(1), 1), [11]);
    s.recv(1, ANY);
    assert_eq!(cookies(&s.lustre(vec![item(Action::Cancel, 11, 11, "")]), 1), [11]);
    s.done(1, 11, 11, 125);
    assert_eq!(s.work(1, ANY), [12]);
    s.done(1, 12, 12, 0);
    let seen = view(&s, "m0");
    assert_eq!((seen.quarantined, seen.on_probation, seen.recent), (None, false, (0, 0)));
    s.lustre((13..=15).map(|oid| archive(oid, "")).collect());
    assert_eq!(s.work(1, ANY), [13, 14], "its share again");
    assert_eq!(s.core.counters().quarantines, 2);
}

#[test]
fn a_quarantine_ends_when_the_mover_is_needed_or_an_operator_says_so() {
    for how in ["disconnect", "drain", "release"] {
        let mut s = Session::new(strict(1));
        s.mover(1, "m0");
        s.mover(2, "m1");
        ends(&mut s, 1, 1, &[EIO]);
        s.lustre(vec![archive(9, "")]);
        assert_eq!(s.work(1, ANY), [0; 0], "{how}");
        let effects = match how {
            "disconnect" => s.disconnect(2),
            "drain" => drain(&mut s, "m1", true),
            _ => s.order(Order::Release { mover: "m0".into() }).1,
        };
        assert_eq!(cookies(&effects, 1), [9], "{how}");
    }
}

/// All notes of a session, for the next one.
fn kept(s: &Session) -> Vec<(String, String)> {
    notes(s).into_iter().collect()
}

#[test]
fn a_quarantine_lasts_over_a_restart() {
    let mut s = Session::new(strict(1));
    s.mover(1, "m0");
    s.mover(2, "m1");
    ends(&mut s, 1, 1, &[EIO]);
    let (stored, began) = (kept(&s), s.now);
    // Half of its time is over when the daemon comes back.
    let mut s = Session::new(strict(1));
    s.now = Now { mono: Mono(7 * SECOND), wall: began.wall_at(began.mono + Duration::from_secs(450)) };
    s.event(Event::RecoveredNotes(stored));
    s.lustre(vec![archive(9, "")]);
    s.mover(1, "m0");
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!(s.why(9), ["quarantined"]);
    s.mover(2, "m1");
    assert_eq!(cookies(&s.pass(449), 1), [0; 0]);
    assert_eq!(cookies(&s.pass(1), 1), [9], "on trial");
    assert!(kept(&s).iter().any(|(name, value)| name == "quarantine/m0" && value.starts_with("trial")));
    // It fails again: for twice as long, since the one before counts.
    s.done(1, 9, 9, EIO);
    s.lustre(vec![archive(10, "")]);
    s.recv(1, ANY);
    assert_eq!(cookies(&s.pass(1799), 1), [0; 0]);
    assert_eq!(cookies(&s.pass(1), 1), [10]);
    s.done(1, 10, 10, 0);
    assert!(!kept(&s).iter().any(|(name, _)| name.starts_with("quarantine/")), "{:?}", kept(&s));
}

/// Others had time to come back, and nobody did: the one in quarantine is all there is.
#[test]
fn a_quarantine_of_before_ends_when_nobody_else_comes() {
    let mut s = Session::new(strict(1));
    s.mover(1, "m0");
    s.mover(2, "m1");
    ends(&mut s, 1, 1, &[EIO]);
    let stored = kept(&s);
    let mut s = Session::new(strict(1));
    s.event(Event::RecoveredNotes(stored.clone()));
    s.lustre(vec![archive(9, "")]);
    s.mover(1, "m0");
    s.recv(1, ANY);
    assert_eq!(cookies(&s.pass(59), 1), [0; 0]);
    assert_eq!(cookies(&s.pass(1), 1), [9]);
    // Where there are no quarantines any more, it is over at once.
    let mut s = Session::new(config());
    s.event(Event::RecoveredNotes(stored));
    assert!(s.walk(0).0.movers.is_empty());
}

#[test]
fn operators_limit_movers_and_that_lasts() {
    let limit = |s: &mut Session, most| {
        let (reply, effects) = s.order(Order::Limit { mover: "m0".into(), most });
        assert_eq!(reply, OperatorReply::Done);
        effects
    };
    let mut s = Session::new(config());
    limit(&mut s, Some(2));
    let stored = kept(&s);
    assert_eq!(stored, [("limit/m0".to_owned(), "max=2".to_owned())]);
    let mut s = Session::new(config());
    s.event(Event::RecoveredNotes(stored));
    assert_eq!(view(&s, "m0").limit, Some(2), "it is shown before it comes");
    s.mover(1, "m0");
    s.lustre((1..=5).map(|oid| archive(oid, "")).collect());
    assert_eq!(s.work(1, ANY), [1, 2]);
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!(s.why(3), ["mover_limit"]);
    assert!(view(&s, "m0").limited);
    assert_eq!(cookies(&limit(&mut s, None), 1), [3, 4, 5]);
    assert!(kept(&s).is_empty());
    let (reply, _) = s.order(Order::Limit { mover: String::new(), most: Some(1) });
    assert!(matches!(reply, OperatorReply::Refused(_)));
}

/// The last one that can do the work never goes into quarantine, whatever it does.
#[test]
fn never_all_movers() {
    let mut s = Session::new(strict(1));
    for conn in 1..=3 {
        s.mover(conn, &format!("m{conn}"));
    }
    let mut oid = 0;
    for conn in 1..=3 {
        oid += 1;
        ends(&mut s, conn, oid, &[EIO]);
    }
    let held: Vec<_> =
        s.walk(0).0.movers.iter().filter(|view| view.quarantined.is_some()).map(|v| v.id.clone()).collect();
    assert_eq!(held.len(), 2, "{held:?}");
}

fn limited(id: &str, limit: Limit) -> HsmConfig {
    HsmConfig { limits: Limits { movers: vec![(id.into(), limit)], ..Limits::default() }, ..config() }
}

#[test]
fn limits_of_movers() {
    let max = |max| Limit { max: Some(max), ..Limit::default() };
    for (id, limit, want) in
        [("m0", max(2), 2), ("*", max(3), 3), ("m1", max(1), 5), ("m0", max(0), 0), ("m0", max(9), 5)]
    {
        let mut s = Session::new(limited(id, limit));
        s.mover(1, "m0");
        s.lustre((1..=5).map(|oid| if oid % 2 == 0 { restore(oid, "") } else { archive(oid, "") }).collect());
        assert_eq!(s.work(1, ANY).len(), want, "{id}");
        assert_eq!(view(&s, "m0").limited, want < 5, "{id}");
        if (1..5).contains(&want) {
            assert_eq!(s.work(1, ANY), [0; 0]);
            let waiting = s.core.explain(&Find::File(fid(5)));
            assert_eq!(waiting[0].reasons[0].name(), "mover_limit");
            assert_eq!(cookies(&s.done(1, 2, 2, 0), 1).len(), 1, "one ends, one goes");
        }
    }
}

#[test]
fn rates_and_bytes_of_movers() {
    let rate = Rate { count: 2, per: Duration::from_secs(1) };
    let mut s = Session::new(limited("m0", Limit { rate: Some(rate), ..Limit::default() }));
    s.mover(1, "m0");
    s.lustre((1..=5).map(|oid| archive(oid, "")).collect());
    assert_eq!(s.work(1, ANY), [1, 2]);
    assert_eq!(s.work(1, ANY), [0; 0]);
    let why = &s.core.explain(&Find::File(fid(3)))[0].reasons[0];
    assert_eq!((why.name(), why.until().is_some()), ("mover_limit", true));
    assert_eq!(cookies(&s.pass_ms(499), 1), [0; 0]);
    assert_eq!(cookies(&s.pass_ms(1), 1), [3]);
    s.pass(10);
    assert_eq!(s.work(1, ANY), [4, 5]);

    let part = |oid, bytes| ActionItem { extent_length: bytes, ..archive(oid, "") };
    let mut s = Session::new(limited("m0", Limit { bytes: Some(100), ..Limit::default() }));
    s.mover(1, "m0");
    s.lustre(vec![part(1, 60), part(2, 60), part(3, 500), part(4, 1)]);
    assert_eq!(s.work(1, ANY), [1, 2], "it is over the limit now");
    s.recv(1, ANY);
    assert_eq!(cookies(&s.done(1, 1, 1, 0), 1), [3]);
    s.recv(1, ANY);
    assert_eq!(cookies(&s.done(1, 2, 2, 0), 1), [0; 0]);
    assert_eq!(cookies(&s.done(1, 3, 3, 0), 1), [4]);
}

#[test]
fn a_new_configuration_counts_at_once() {
    let mut s = Session::new(limited("m0", Limit { max: Some(1), ..Limit::default() }));
    s.mover(1, "m0");
    s.lustre((1..=3).map(|oid| archive(oid, "")).collect());
    assert_eq!(s.work(1, ANY), [1]);
    s.recv(1, ANY);
    assert_eq!(cookies(&s.event(Event::Reconfigured(Box::new(config()))), 1), [2, 3]);
}
