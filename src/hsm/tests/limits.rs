//! Limits of hints: what is at its limit waits, what is behind it does not.

use super::*;
use crate::hsm::config::{Limit, Limits, Rate};

fn hints(of: &[(&str, Option<&str>, Limit)]) -> HsmConfig {
    let hints = of.iter().map(|&(name, value, limit)| (name.into(), value.map(str::to_owned), limit));
    HsmConfig { limits: Limits { hints: hints.collect(), ..Limits::default() }, ..config() }
}

fn max(max: u32) -> Limit {
    Limit { max: Some(max), ..Limit::default() }
}

#[test]
fn a_limit_keeps_only_its_own() {
    let mut s = Session::new(hints(&[("project=", Some("a"), max(2))]));
    s.mover(1, "m0");
    s.lustre((1..=5).map(|oid| archive(oid, "project=a")).collect());
    s.lustre(vec![
        archive(6, "project=b"),
        archive(7, ""),
        archive(8, "x,project=a\0"),
        archive(9, "xproject=a"),
    ]);
    assert_eq!(s.work(1, ANY), [1, 2, 6, 7, 9]);
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!((s.why(3), s.why(8)), (vec!["limit"], vec!["limit"]));
    let counters = s.core.counters();
    assert_eq!((counters.pending[2], counters.limited), (4, 4));
    // In the order in which they came, one for each that ends.
    assert_eq!(cookies(&s.done(1, 2, 2, 0), 1), [3]);
    s.done(1, 1, 1, 0);
    assert_eq!(s.work(1, ANY), [4]);
    s.done(1, 6, 6, 0);
    assert_eq!(s.work(1, ANY), [0; 0]);
    s.done(1, 3, 3, 5);
    s.recv(1, ANY);
    s.done(1, 4, 4, 0);
    assert_eq!([5, 8].map(|oid| s.core.explain(&Find::File(fid(oid))).len()), [1, 1]);
    for oid in [5, 8] {
        assert!(matches!(s.core.explain(&Find::File(fid(oid)))[0].reasons[0].name(), "running"));
    }
}

#[test]
fn values_have_limits_of_their_own() {
    let mut s =
        Session::new(hints(&[("p=", None, max(1)), ("p=", Some("big"), max(3)), ("q=", None, max(2))]));
    s.mover(1, "m0");
    let data =
        ["p=a", "p=a", "p=b", "p=big", "p=big", "p=big", "p=big", "p=c,q=z", "p=d,q=z", "p=e,q=z", "q=z"];
    s.lustre((1u32..).zip(data).map(|(oid, data)| restore(oid, data)).collect());
    assert_eq!(s.work(1, ANY), [1, 3, 4, 5, 6, 8, 9]);
    let names: Vec<_> = [2, 7, 10, 11]
        .into_iter()
        .map(|oid| match &s.core.explain(&Find::File(fid(oid)))[0].reasons[0] {
            crate::hsm::reason::Reason::Limit { name, running, .. } => (name.clone(), *running),
            other => panic!("{other:?}"),
        })
        .collect();
    let want = [("limit_hint p=a", 1), ("limit_hint p=big", 3), ("limit_hint q=z", 2), ("limit_hint q=z", 2)];
    assert_eq!(names, want.map(|(name, running)| (name.to_owned(), running)));
}

/// What one project has queued does not delay what another queues later.
#[test]
fn a_great_queue_at_its_limit_lets_others_pass() {
    let mut s = Session::new(hints(&[("p=", Some("a"), max(1))]));
    s.mover(1, "m0");
    let mut effects = Effects::default();
    let items = (1..=50_000).map(|oid| restore(oid, "p=a")).collect();
    s.core.handle(s.now, Event::Lustre { items }, &mut effects);
    assert_eq!(s.work(1, limits(0, 9, 0)), [1]);
    let mut effects = s.recv(1, limits(0, 9, 0));
    for _ in 0..400 {
        effects.extend(s.core_only(Event::Tick));
    }
    assert_eq!(cookies(&effects, 1), [0; 0]);
    effects = s.core_only(Event::Lustre { items: vec![restore(60_000, "p=b")] });
    assert_eq!(cookies(&effects, 1), [60_000]);
    s.core_only(Event::Message { conn: ConnId(1), message: Message::Recv(limits(0, 9, 0)) });
    effects = s.core_only(Event::Lustre { items: vec![restore(60_001, "p=a"), restore(60_002, "")] });
    assert_eq!(cookies(&effects, 1), [60_002]);
    s.core.check();
}

/// Who was let in and then cancelled, or has no mover, does not keep the others out.
#[test]
fn room_that_is_not_used_goes_to_others() {
    for how in ["cancelled", "no mover", "file busy"] {
        let mut s = Session::new(hints(&[("p=", None, max(1))]));
        s.mover_for(1, "m0", &[1]);
        s.lustre(vec![archive(1, "p=a")]);
        assert_eq!(s.work(1, ANY), [1]);
        let second = match how {
            "no mover" => ActionItem { archive_id: 2, ..archive(2, "p=a") },
            "file busy" => item(Action::Archive, 9, 2, "p=a"),
            _ => archive(2, "p=a"),
        };
        s.lustre(vec![item(Action::Archive, 9, 9, ""), second]);
        s.mover_for(2, "m2", &[2]);
        assert_eq!(s.work(1, limits(2, 0, 0)), [9], "{how}");
        s.work(2, ANY);
        s.lustre(vec![archive(3, "p=a")]);
        s.disconnect(2);
        s.done(1, 1, 1, 0);
        if how == "cancelled" {
            s.lustre(vec![item(Action::Cancel, 2, 2, "")]);
        }
        s.recv(1, ANY);
        s.pass(3);
        assert_eq!(s.core.explain(&Find::File(fid(3)))[0].reasons[0].name(), "running", "{how}");
    }
}

#[test]
fn rates_of_hints() {
    let rate = Rate { count: 60, per: Duration::from_secs(3600) };
    let mut s = Session::new(hints(&[("p=", None, Limit { rate: Some(rate), ..Limit::default() })]));
    s.mover(1, "m0");
    s.lustre((1..=3).map(|oid| archive(oid, "p=a")).collect());
    assert_eq!(s.work(1, ANY), [1]);
    s.done(1, 1, 1, 0);
    s.recv(1, ANY);
    let why = &s.core.explain(&Find::File(fid(2)))[0].reasons[0];
    assert_eq!(
        (why.name(), why.until()),
        ("limit", Some(s.now.wall_at(s.now.mono + Duration::from_secs(60))))
    );
    assert_eq!(cookies(&s.pass(59), 1), [0; 0]);
    assert_eq!(cookies(&s.pass(1), 1), [2]);
    s.recv(1, ANY);
    assert_eq!(cookies(&s.pass(60), 1), [3]);
}

#[test]
fn a_limit_that_is_gone_lets_everybody_in_order() {
    let mut s = Session::new(hints(&[("p=", None, max(1))]));
    s.mover(1, "m0");
    s.lustre((1..=3000).map(|oid| restore(oid, "p=a")).collect());
    assert_eq!(s.work(1, limits(0, 1, 0)), [1]);
    assert_eq!(s.work(1, limits(0, 2, 0)), [0; 0]);
    s.pass(1);
    let mut effects = Effects::default();
    s.core.handle(s.now, Event::Reconfigured(Box::new(config())), &mut effects);
    for _ in 0..20 {
        s.core.handle(s.now, Event::Tick, &mut effects);
    }
    s.core.check();
    s.done(1, 1, 1, 0);
    let mut next = s.work(1, limits(0, 200, 0));
    next.sort_unstable();
    assert!(s.core.counters().pending[0] >= 2800 && !next.is_empty());
    assert_eq!(s.core.explain(&Find::File(fid(3000)))[0].request.state.name(), "queued");
}

/// Cancels, requeues and lost movers give the room back.
#[test]
fn every_way_out_gives_the_room_back() {
    for how in ["cancel", "mover gone", "claimed without", "redelivered"] {
        let mut s = Session::new(hints(&[("p=", None, max(1))]));
        s.mover(1, "m0");
        s.lustre(vec![archive(1, "p=a"), archive(2, "p=a")]);
        assert_eq!(s.work(1, ANY), [1]);
        match how {
            "cancel" => {
                s.lustre(vec![item(Action::Cancel, 1, 1, "")]);
                s.work(1, ANY);
                s.done(1, 1, 1, 125);
            }
            "mover gone" => {
                s.disconnect(1);
                s.pass(601);
            }
            "claimed without" => {
                s.disconnect(1);
                s.mover_with(3, "m0", vec![]);
            }
            _ => {
                s.lustre(vec![archive(1, "p=a")]);
                s.done(1, 1, 1, 5);
            }
        }
        s.mover(5, "m5");
        s.recv(5, ANY);
        s.pass(2);
        let running = s.core.counters().running[2];
        assert_eq!(running, 1, "{how}");
    }
}
