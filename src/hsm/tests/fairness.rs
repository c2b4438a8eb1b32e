//! Priorities and fair share: who goes first, and that nobody is forgotten.

use std::collections::BTreeMap;

use super::*;
use crate::hsm::config::{Priorities, ShareBy};
use crate::hsm::{Attributes, Wanted};

/// One item of four bytes fits.
const ONE: Recv = Recv { max_archive: None, max_restore: None, max_remove: None, max_bytes: 172 };

fn by_hint(weights: &[(&str, u32)]) -> HsmConfig {
    let share_weights = weights.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect();
    HsmConfig { fair_share: Some(ShareBy::Hint("u=".into())), share_weights, ..config() }
}

fn by_user() -> HsmConfig {
    HsmConfig { fair_share: Some(ShareBy::User), ..config() }
}

fn with_priorities(priorities: Priorities) -> HsmConfig {
    HsmConfig { priorities: Some(priorities), ..config() }
}

fn blocked(item: ActionItem) -> ActionItem {
    ActionItem { flags: lustreapi_sys::abi::HSM_REQ_BLOCKING, ..item }
}

/// Takes so many items one at a time.
fn take(s: &mut Session, count: usize) -> Vec<u64> {
    (0..count).flat_map(|_| s.work(1, ONE)).collect()
}

fn asked(effects: &[Effect]) -> Vec<RequestKey> {
    let keys = |effect: &Effect| match effect {
        Effect::LookUp { keys, .. } => Some(keys.clone()),
        _ => None,
    };
    effects.iter().filter_map(keys).flatten().collect()
}

fn owned(uid: u32) -> Option<Attributes> {
    Some(Attributes { uid, gid: uid + 100, ..Attributes::default() })
}

#[test]
fn one_request_waits_for_one_turn_whatever_another_share_has_queued() {
    let mut s = Session::new(by_hint(&[]));
    s.mover(1, "m0");
    s.lustre((1..=500).map(|oid| restore(oid, "u=a")).collect());
    assert_eq!(take(&mut s, 3), [1, 2, 3]);
    s.pass(60);
    s.lustre(vec![restore(2000, "u=b")]);
    let given = take(&mut s, 3);
    assert!(given[..2].contains(&2000), "{given:?}");
    // In one answer as well.
    s.lustre(vec![restore(2001, "u=b"), restore(2002, "u=b")]);
    let given = s.work(1, Recv { max_restore: Some(10 + 6), ..ANY });
    let second = given.iter().position(|&cookie| cookie == 2002).unwrap();
    assert!(given.contains(&2001) && second < 5, "{given:?}");
}

#[test]
fn shares_take_turns_by_weight() {
    let mut s = Session::new(by_hint(&[("b", 3)]));
    s.mover(1, "m0");
    s.lustre((1..=400).map(|oid| restore(oid, if oid % 2 == 0 { "u=a" } else { "u=b" })).collect());
    let given = take(&mut s, 200);
    let of_b = given.iter().filter(|&cookie| cookie % 2 == 1).count();
    assert!((148..=152).contains(&of_b), "three of four are of b, not {of_b}");
    // At no time is anybody far from what is due to it.
    for part in given.chunks(8) {
        let of_b = part.iter().filter(|&cookie| cookie % 2 == 1).count();
        assert!((5..=7).contains(&of_b), "{part:?}");
    }
    // Each share's own requests stay in order.
    for rest in [0, 1] {
        let own: Vec<u64> = given.iter().copied().filter(|cookie| cookie % 2 == rest).collect();
        assert!(own.is_sorted(), "{own:?}");
    }
}

/// A share that always has but one request is no better off than one with many, and a pause saves nothing up.
#[test]
fn neither_trickling_nor_pausing_pays() {
    let mut s = Session::new(by_hint(&[]));
    s.mover(1, "m0");
    s.lustre((1..=500).map(|oid| restore(oid, "u=a")).collect());
    let mut next = 1000;
    let mut of_b = 0;
    s.lustre(vec![restore(next, "u=b")]);
    for _ in 0..100 {
        if take(&mut s, 1)[0] >= 1000 {
            of_b += 1;
            next += 1;
            s.lustre(vec![restore(next, "u=b")]);
        }
    }
    assert!((49..=51).contains(&of_b), "{of_b} of 100");
    // b did nothing while a was served: it does not get more than every other turn afterwards.
    let mut s = Session::new(by_hint(&[]));
    s.mover(1, "m0");
    s.lustre((1..=300).map(|oid| restore(oid, "u=a")).collect());
    take(&mut s, 100);
    s.lustre((1000..1100).map(|oid| restore(oid, "u=b")).collect());
    let given = take(&mut s, 20);
    let of_b = given.iter().filter(|&&cookie| cookie >= 1000).count();
    assert!((10..=11).contains(&of_b), "{given:?}");
}

/// Users that come with one request each do not keep away the one who was there first.
#[test]
fn a_stream_of_newcomers_starves_nobody() {
    let mut s = Session::new(by_hint(&[]));
    s.mover(1, "m0");
    s.lustre((1..=50).map(|oid| restore(oid, "u=a")).collect());
    let mut served = 0;
    for round in 0..100 {
        for new in 0..2 {
            let oid = 1000 + round * 2 + new;
            s.lustre(vec![restore(oid, &format!("u=n{oid}"))]);
        }
        served += take(&mut s, 1).iter().filter(|&&cookie| cookie < 1000).count();
    }
    assert!(served >= 3, "{served}");
}

/// What a share has with other flags or for another archive is the same share's.
#[test]
fn a_share_has_one_turn_for_all_its_queues() {
    let mut s = Session::new(by_hint(&[]));
    s.mover(1, "m0");
    let other = |item: ActionItem| ActionItem { archive_id: 2, flags: 1, ..item };
    s.lustre((1..=20).map(|oid| restore(oid, "u=a")).collect());
    s.lustre((21..=40).map(|oid| other(restore(oid, "u=a"))).collect());
    s.lustre((101..=120).map(|oid| restore(oid, "u=b")).collect());
    let given = take(&mut s, 20);
    let of_b = given.iter().filter(|&&cookie| cookie > 100).count();
    assert!((9..=11).contains(&of_b), "{given:?}");
}

#[test]
fn users_are_looked_up_and_never_waited_for() {
    let mut s = Session::new(by_user());
    s.mover(1, "m0");
    let effects = s.lustre(vec![restore(1, ""), restore(2, ""), restore(3, "")]);
    assert_eq!(asked(&effects), [key(1), key(2), key(3)]);
    let wanted = effects.iter().find_map(|effect| match effect {
        Effect::LookUp { wanted, .. } => Some(*wanted),
        _ => None,
    });
    assert_eq!(wanted, Some(Wanted::default()), "user and group cost nothing more");
    // Nobody answers, and the work goes on.
    assert_eq!(take(&mut s, 1), [1]);
    let found = vec![(key(1), owned(7)), (key(2), owned(7)), (key(3), owned(8))];
    s.event(Event::LookedUp(found));
    assert_eq!(s.core.user_of(s.core.requests.find(key(2)).unwrap()), Some(7));
    // User 7 had its turn already, before anybody knew.
    assert_eq!(take(&mut s, 2), [3, 2]);
}

#[test]
fn unknown_owners_are_one_share() {
    let mut s = Session::new(by_user());
    s.mover(1, "m0");
    s.lustre((1..=10).map(|oid| restore(oid, "")).collect());
    let mut found: Vec<_> = (1..=5).map(|oid| (key(oid), None)).collect();
    found.extend((6..=10).map(|oid| (key(oid), owned(1))));
    s.event(Event::LookedUp(found));
    let given = take(&mut s, 10);
    let first: Vec<bool> = given.iter().take(6).map(|&cookie| cookie <= 5).collect();
    assert_eq!(first.iter().filter(|&&unknown| unknown).count(), 3, "{given:?}");
    assert_eq!(s.core.shares.len(), 2, "the unknown and the one user");
}

/// Lookups are bounded, and one who comes after a crowd is found before the crowd is through.
#[test]
fn lookups_are_bounded_and_the_newest_are_among_them() {
    let mut s = Session::new(by_user());
    let mut keys = asked(&s.lustre((1..=1500).map(|oid| restore(oid, "")).collect()));
    assert_eq!(keys.len(), 512);
    assert!(keys.iter().filter(|key| key.cookie > 1400).count() >= 50, "some of the newest");
    let mut seen = 0;
    while !keys.is_empty() {
        seen += keys.len();
        keys = asked(&s.event(Event::LookedUp(keys.iter().map(|&key| (key, owned(1))).collect())));
        assert!(keys.len() <= 512);
    }
    assert_eq!(seen, 1500, "each is looked up once");
}

/// What a store held is looked up when somebody carries it out.
#[test]
fn recovered_requests_are_looked_up_later() {
    let mut s = Session::new(by_user());
    let effects = s.event(Event::Recovered { requests: vec![(restore(1, ""), None)], suspect: false });
    assert_eq!(asked(&effects), []);
    assert_eq!(asked(&s.pass(1)), [key(1)]);
}

#[test]
fn a_new_rule_for_shares_holds_for_what_waits() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre((1..=100).map(|oid| restore(oid, "u=a")).collect());
    s.lustre(vec![restore(200, "u=b")]);
    s.event(Event::Reconfigured(Box::new(by_hint(&[]))));
    s.pass(1);
    let given = take(&mut s, 2);
    assert!(given.contains(&200), "{given:?}");
    for cookie in given {
        s.done(1, cookie, cookie as u32, 0);
    }
    s.event(Event::Reconfigured(Box::new(config())));
    s.pass(1);
    assert_eq!(s.core.counters().classes, 1);
    assert_eq!(take(&mut s, 3).len(), 3);
}

#[test]
fn shares_are_forgotten() {
    let mut s = Session::new(by_hint(&[]));
    s.mover(1, "m0");
    for oid in 1..=200 {
        s.lustre(vec![restore(oid, &format!("u=x{oid}"))]);
        assert_eq!(take(&mut s, 1), [u64::from(oid)]);
        s.done(1, oid.into(), oid, 0);
    }
    assert!(s.core.counters().shares < 20, "{}", s.core.counters().shares);
}

#[test]
fn blocked_readers_go_first_and_bulk_restores_last() {
    let mut s = Session::new(with_priorities(Priorities {
        bulk_hint: Some("class=bulk".into()),
        ..Priorities::default()
    }));
    s.mover(1, "m0");
    s.lustre(vec![
        archive(1, ""),
        remove(2, ""),
        restore(3, "class=bulk"),
        restore(4, ""),
        blocked(restore(5, "")),
    ]);
    let one = Recv { max_bytes: 172, ..ANY };
    let given: Vec<u64> = (0..5).flat_map(|_| s.work(1, one)).collect();
    assert_eq!(given, [5, 4, 3, 2, 1]);
}

/// Each lane's head start is all that it has: what has waited for longer goes first.
#[test]
fn nothing_waits_for_ever_behind_what_is_more_urgent() {
    let cases: [(ActionItem, u64); 4] =
        [(restore(1, ""), 60), (restore(1, "class=bulk"), 300), (remove(1, ""), 600), (archive(1, ""), 3600)];
    for (item, seconds) in cases {
        for (wait, first) in [(seconds - 1, 2), (seconds + 1, 1)] {
            let priorities = Priorities { bulk_hint: Some("class=bulk".into()), ..Priorities::default() };
            let mut s = Session::new(with_priorities(priorities));
            s.mover(1, "m0");
            s.lustre(vec![item.clone()]);
            s.pass(wait);
            s.lustre(vec![blocked(restore(2, ""))]);
            assert_eq!(take(&mut s, 1), [first], "{} after {wait} s", item.action);
        }
    }
}

/// Without `priorities` a flag changes nothing.
#[test]
fn by_default_all_restores_are_alike() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre(vec![restore(1, "")]);
    s.pass(1);
    s.lustre(vec![blocked(restore(2, ""))]);
    assert_eq!(take(&mut s, 2), [1, 2]);
}

#[test]
fn before_the_flag_existed_a_restore_without_data_may_count_as_blocked() {
    for (blocked_without_data, first) in [(false, 1), (true, 2)] {
        let mut s =
            Session::new(with_priorities(Priorities { blocked_without_data, ..Priorities::default() }));
        s.mover(1, "m0");
        s.lustre(vec![restore(1, "x")]);
        s.pass(1);
        s.lustre(vec![restore(2, "")]);
        assert_eq!(take(&mut s, 1), [first]);
    }
}

#[test]
fn what_a_share_has_beyond_a_number_is_bulk() {
    let priorities = Priorities { bulk_restores: 3, ..Priorities::default() };
    let mut s = Session::new(HsmConfig { priorities: Some(priorities), ..by_hint(&[]) });
    s.mover(1, "m0");
    s.lustre((1..=10).map(|oid| restore(oid, "u=a")).collect());
    s.lustre((11..=13).map(|oid| restore(oid, "u=b")).collect());
    let given = take(&mut s, 13);
    let (user, bulk) = given.split_at(6);
    assert!(user.iter().all(|cookie| [1, 2, 3, 11, 12, 13].contains(cookie)), "{given:?}");
    assert_eq!(bulk, [4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn a_lane_with_a_weight_gets_it_however_late_the_others_are() {
    let mut weights = [0; 5];
    weights[4] = 20;
    let priorities = Priorities { weights, ..Priorities::default() };
    let mut s = Session::new(with_priorities(priorities));
    s.mover(1, "m0");
    s.lustre((1..=200).map(|oid| restore(oid, "")).collect());
    s.lustre((1001..=1200).map(|oid| archive(oid, "")).collect());
    let given = take(&mut s, 100);
    let archives = given.iter().filter(|&&cookie| cookie > 1000).count();
    assert!((18..=22).contains(&archives), "{archives} of 100");
    // Once the restores are gone it is not held back to its weight.
    let rest = take(&mut s, 300);
    assert_eq!(rest.len(), 300);
}

#[test]
fn archives_go_first_while_the_file_system_is_nearly_full() {
    let mut s = Session::new(HsmConfig { archives_first_when_full: Some(90), ..config() });
    s.mover(1, "m0");
    s.lustre((1..=10).map(|oid| restore(oid, "")).collect());
    s.lustre((11..=20).map(|oid| archive(oid, "")).collect());
    let mut first = |percent: u8| {
        s.event(Event::SpaceUsed(percent));
        take(&mut s, 1)[0]
    };
    let firsts = [89, 90, 89, 88, 95].map(|percent| first(percent) > 10);
    assert_eq!(firsts, [false, true, true, false, true], "with some hysteresis");
    // A restore that has waited for long goes before an archive of now.
    s.pass(3601);
    s.lustre(vec![archive(30, "")]);
    let given = take(&mut s, 17);
    assert_eq!(given.last(), Some(&30), "{given:?}");
}

/// Shares, lanes and limits together: everything is served, and nobody waits for more turns than there are shares.
#[test]
fn every_request_is_served_within_a_bound_of_turns() {
    let shares = 40u32;
    let mut s = Session::new(by_hint(&[("s0", 10)]));
    s.mover(1, "m0");
    let mut owners = BTreeMap::new();
    let mut oid = 0u32;
    for share in 0..shares {
        // The first has a lot, the others less and less.
        for _ in 0..(120 / (share + 1)) {
            oid += 1;
            owners.insert(u64::from(oid), share);
        }
    }
    s.lustre(owners.iter().map(|(&oid, share)| restore(oid as u32, &format!("u=s{share}"))).collect());
    let given = take(&mut s, oid as usize);
    assert_eq!(given.len(), oid as usize, "all are served");
    let mut last = vec![0; shares as usize];
    let mut left: Vec<usize> =
        (0..shares).map(|share| owners.values().filter(|&&of| of == share).count()).collect();
    for (turn, cookie) in given.iter().enumerate() {
        let share = owners[cookie] as usize;
        // Weights add up to 49: that many turns at most, and a few for rounding.
        assert!(turn - last[share] <= 52, "share {share} waited for {} turns", turn - last[share]);
        last[share] = turn;
        left[share] -= 1;
    }
    assert!(left.iter().all(|&left| left == 0));
}
