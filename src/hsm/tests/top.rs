//! What is going on: found in steps, whole all the same.

use super::super::Attributes;
use super::super::config::BatchConfig;
use super::super::mover_views::OwnerLoad;
use super::super::shares::ShareBy;
use super::super::top::{LOOK, LOOK_MOVERS};
use super::*;

fn owners(of: &[OwnerLoad]) -> Vec<(&str, &str, u64, u64, u64)> {
    of.iter()
        .map(|owner| (owner.kind, &*owner.name, owner.load.waiting, owner.load.running, owner.load.done))
        .collect()
}

/// As many queues as there are hints and archives: each step looks at so many, and nothing is missed.
#[test]
fn many_queues_are_looked_at_in_steps() {
    let batch = Some(BatchConfig { idle: Duration::from_secs(10), max: None, slots: 1 });
    let mut s = Session::new(HsmConfig { batch, ..config() });
    let count = 3 * LOOK;
    let items = (0..count).map(|n| archive(n + 1, &format!("tag=t{n}"))).collect();
    s.core_only(Event::Lustre { items });
    s.core_only(Event::Lustre { items: (0..5).map(|n| archive(count + 1 + n, "tag=t7")).collect() });
    s.now.mono = Mono(s.now.mono.0 + 60 * SECOND);
    let (walk, steps) = s.walk(3);
    let top = walk.top;
    assert!(steps as u32 >= 2 * count / LOOK, "{steps} steps");
    let (_, _, load) = &top.classes[0];
    assert_eq!((load.waiting, load.oldest), (u64::from(count) + 5, Some(Duration::from_secs(60))));
    let tags: Vec<_> = top.tags.iter().map(|tag| (&*tag.tag, tag.waiting, tag.oldest)).collect();
    let minute = Some(Duration::from_secs(60));
    assert_eq!(tags, [(&b"tag=t7"[..], 6, minute), (b"tag=t0", 1, minute), (b"tag=t1", 1, minute)]);
    assert_eq!(top.more_tags, count as usize - 3);
}

#[test]
fn many_movers_are_looked_at_in_steps() {
    let mut s = Session::new(config());
    let count = 2 * LOOK_MOVERS + 1;
    for number in 0..count {
        let conn = ConnId(number as u64);
        s.core_only(Event::Connected { conn, peer: "localhost:1".into() });
        let ehlo = Ehlo { id: Some(format!("m{number:04}")), ..Ehlo::default() };
        s.core_only(Event::Message { conn, message: Message::Ehlo(ehlo) });
    }
    s.disconnect(5);
    let (walk, steps) = s.walk(0);
    assert!(steps > 5, "{steps} steps");
    assert_eq!((walk.movers.len(), walk.top.movers.len()), (count, count));
    assert_eq!((&*walk.movers[count - 1].id, walk.movers[count - 1].connected), ("m0005", false));
}

/// Who has how much, from the shares that requests are in.
#[test]
fn owners_are_those_of_shares() {
    let mut s = Session::new(HsmConfig { fair_share: Some(ShareBy::User), ..config() });
    let effects = s.lustre((1..=5).map(|oid| archive(oid, "")).collect());
    let asked = effects.iter().find_map(|effect| match effect {
        Effect::LookUp { keys, .. } => Some(keys.clone()),
        _ => None,
    });
    assert_eq!(owners(&s.walk(10).0.top.owners), [("unknown", "unknown", 5, 0, 0)]);
    let user =
        |key: &RequestKey| Attributes { uid: if key.fid.oid > 2 { 12 } else { 7 }, ..Attributes::default() };
    let found = asked.unwrap().iter().map(|key| (*key, Some(user(key)))).collect();
    s.event(Event::LookedUp(found));
    assert_eq!(owners(&s.walk(10).0.top.owners), [("user", "12", 3, 0, 0), ("user", "7", 2, 0, 0)]);
    s.mover(1, "m0");
    s.recv(1, limits(2, 0, 0));
    // One of each: they take turns.
    assert_eq!(owners(&s.walk(10).0.top.owners), [("user", "12", 2, 1, 0), ("user", "7", 1, 1, 0)]);
    s.done(1, 1, 1, 0);
    let top = s.walk(1).0.top;
    assert_eq!((owners(&top.owners), top.more_owners), (vec![("user", "12", 2, 1, 0)], 1));
    let top = s.walk(10).0.top;
    assert_eq!(owners(&top.owners)[1], ("user", "7", 1, 0, 1));
}

/// A drained mover that was never seen is shown: somebody has to know why it will get nothing.
#[test]
fn drained_movers_are_shown_although_they_never_came() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.order(Order::Drain { mover: "m9".into(), on: true });
    let shown = |s: &Session| -> Vec<(String, bool, bool)> {
        let movers = s.walk(0).0.movers;
        movers.iter().map(|mover| (mover.id.clone(), mover.connected, mover.drained)).collect()
    };
    assert_eq!(shown(&s), [("m0".into(), true, false), ("m9".into(), false, true)]);
    s.mover(2, "m9");
    assert_eq!(shown(&s), [("m0".into(), true, false), ("m9".into(), true, true)]);
}
