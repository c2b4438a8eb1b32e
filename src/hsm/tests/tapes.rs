//! Tapes: who gets what, in which order, judged by what movers are given.

use super::*;
use crate::hsm::config::{HostRule, Locating, ShareBy, TapeRules};
use crate::hsm::{Located, Location, Sought};

const ONE: Recv = Recv { max_archive: None, max_restore: None, max_remove: None, max_bytes: 172 };

/// No waiting, one tape for each mover.
fn rules() -> TapeRules {
    TapeRules { wait: Duration::ZERO, wait_most: 1000, max: Duration::from_secs(100), per_mover: 1 }
}

fn locating(locating: Locating) -> HsmConfig {
    HsmConfig { locating: Some(locating), ..config() }
}

fn with_rules(tapes: TapeRules) -> HsmConfig {
    locating(Locating { tapes, ..Locating::default() })
}

fn sought(effects: &[Effect]) -> Vec<Sought> {
    let sought = |effect: &Effect| match effect {
        Effect::Locate(sought) => Some(sought.clone()),
        _ => None,
    };
    effects.iter().filter_map(sought).flatten().collect()
}

fn on(tape: &str, position: u64) -> Located {
    Located::At(Location { tape: Some(tape.into()), host: None, position: Some(position) })
}

fn at_host(host: &str) -> Located {
    Located::At(Location { host: Some(host.into()), ..Location::default() })
}

/// Restores of these files on a tape, in this order of coming; the number is the position as well.
fn restores(s: &mut Session, tape: &str, oids: &[u32]) -> Vec<Effect> {
    let effects = s.lustre(oids.iter().map(|&oid| restore(oid, "")).collect());
    assert_eq!(sought(&effects).len(), oids.len());
    s.event(Event::Located(oids.iter().map(|&oid| (key(oid), on(tape, oid.into()))).collect()))
}

fn finish(s: &mut Session, conn: u64, cookies: &[u64]) {
    for &cookie in cookies {
        s.done(conn, cookie, cookie as u32, 0);
    }
}

#[test]
fn nothing_is_given_out_before_it_is_located() {
    let mut s = Session::new(with_rules(rules()));
    s.mover(1, "m0");
    let asked = sought(&s.lustre(vec![restore(1, "x"), archive(2, "")]));
    let want = Sought {
        key: key(1),
        action: Action::Restore,
        archive_id: 1,
        focus: Some("m0".into()),
        data: (*b"x").into(),
    };
    assert_eq!(asked, [want], "archives are not located");
    assert_eq!(s.work(1, ANY), [2]);
    assert_eq!(s.work(1, ANY), [0; 0]);
    let effects = s.event(Event::Located(vec![(key(1), on("A", 1))]));
    assert_eq!(cookies(&effects, 1), [1], "the mover that waits gets it");
}

#[test]
fn a_locator_that_fails_or_is_silent_costs_a_bounded_time() {
    for (answer, seconds) in
        [(Some(Located::Failed), 0), (Some(Located::At(Location::default())), 0), (None, 60)]
    {
        let mut s = Session::new(with_rules(rules()));
        s.mover(1, "m0");
        s.lustre(vec![restore(1, "")]);
        assert_eq!(s.work(1, ANY), [0; 0]);
        let mut effects = Vec::new();
        if let Some(answer) = answer {
            effects.extend(s.event(Event::Located(vec![(key(1), answer)])));
        } else {
            effects.extend(s.pass(seconds - 1));
            assert_eq!(cookies(&effects, 1), [0; 0]);
            effects.extend(s.pass(2));
        }
        assert_eq!(cookies(&effects, 1), [1]);
        // An answer that comes too late changes nothing.
        s.event(Event::Located(vec![(key(1), on("A", 1))]));
    }
}

/// As C 0.4 with phobos: asked again after the grace, and never given to anybody meanwhile.
#[test]
fn with_retry_a_failure_is_asked_again() {
    let rule = Locating { retry: true, tapes: rules(), ..Locating::default() };
    let mut s = Session::new(HsmConfig { client_grace: Duration::from_secs(30), ..locating(rule) });
    s.mover(1, "m0");
    s.lustre(vec![restore(1, "")]);
    s.event(Event::Located(vec![(key(1), Located::Failed)]));
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!(sought(&s.pass(29)), []);
    assert_eq!(sought(&s.pass(2)).len(), 1);
    s.pass(3600);
    let effects = s.event(Event::Located(vec![(key(1), Located::At(Location::default()))]));
    assert_eq!(cookies(&effects, 1), [1]);
}

#[test]
fn one_tape_is_with_one_mover_and_read_in_order() {
    let mut s = Session::new(with_rules(rules()));
    s.mover(1, "m0");
    s.mover(2, "m1");
    restores(&mut s, "A", &[5, 3, 9, 1]);
    assert_eq!(s.work(1, limits(0, 2, 0)), [1, 3], "in the order of the tape");
    assert_eq!(s.work(2, ANY), [0; 0], "the tape is with the other");
    finish(&mut s, 1, &[1]);
    assert_eq!(s.work(1, limits(0, 2, 0)), [5]);
    // What lies before what was read is read in the next round.
    restores(&mut s, "A", &[2, 7]);
    finish(&mut s, 1, &[3, 5]);
    let mut given = Vec::new();
    for _ in 0..3 {
        let next = s.work(1, limits(0, 1, 0));
        finish(&mut s, 1, &next);
        given.extend(next);
    }
    assert_eq!(given, [7, 9, 2]);
    // Nothing is left of it: the other may have it next.
    let effects = restores(&mut s, "A", &[11]);
    assert_eq!(cookies(&effects, 2), [11]);
}

#[test]
fn different_tapes_go_to_different_movers() {
    let mut s = Session::new(with_rules(rules()));
    s.mover(1, "m0");
    s.mover(2, "m1");
    s.lustre((1..=9).map(|oid| restore(oid, "")).collect());
    let tape = |oid: u32| ["A", "B", "C"][oid as usize % 3];
    s.event(Event::Located((1..=9).map(|oid| (key(oid), on(tape(oid), oid.into()))).collect()));
    let first = s.work(1, ANY);
    let second = s.work(2, ANY);
    for given in [&first, &second] {
        assert_eq!(given.len(), 3, "all of one tape: {given:?}");
        assert!(given.iter().all(|cookie| cookie % 3 == given[0] % 3), "{given:?}");
    }
    assert_ne!(first[0] % 3, second[0] % 3);
    assert_eq!(s.work(1, ANY), [0; 0], "one tape at a time");
    // The third goes to whoever is done with its own.
    finish(&mut s, 2, &second);
    let effects = s.recv(2, ANY);
    assert_eq!(cookies(&effects, 2).len(), 3);
}

#[test]
fn a_tape_gathers_requests_before_it_is_mounted() {
    let gather = TapeRules { wait: Duration::from_secs(20), wait_most: 4, ..rules() };
    let mut s = Session::new(with_rules(gather));
    s.mover(1, "m0");
    s.work(1, ANY);
    restores(&mut s, "A", &[8]);
    s.pass(10);
    assert_eq!(cookies(&restores(&mut s, "A", &[4]), 1), [0; 0]);
    assert_eq!(cookies(&s.pass(9), 1), [0; 0]);
    assert_eq!(cookies(&s.pass(2), 1), [4, 8]);
    // It stays for as long, so that more of it needs no other mount, and then it is anybody's.
    finish(&mut s, 1, &[4, 8]);
    s.mover(2, "m1");
    s.work(2, ANY);
    s.work(1, ANY);
    s.pass(10);
    assert_eq!(cookies(&restores(&mut s, "A", &[20]), 1), [20]);
    finish(&mut s, 1, &[20]);
    s.pass(30);
    // Enough requests need not wait.
    let effects = restores(&mut s, "B", &[31, 32, 33, 34]);
    assert_eq!(cookies(&effects, 2), [31, 32, 33, 34]);
}

/// A tape with work without end does not keep another waiting for longer than its time.
#[test]
fn no_tape_starves_others() {
    let mut s = Session::new(with_rules(rules()));
    s.mover(1, "m0");
    restores(&mut s, "A", &(1..=200).collect::<Vec<_>>());
    restores(&mut s, "B", &[1001, 1002]);
    let mut given = Vec::new();
    for _ in 0..60 {
        let next = s.work(1, limits(0, 1, 0));
        s.pass(3);
        finish(&mut s, 1, &next);
        given.extend(next);
    }
    let first = given.iter().position(|&cookie| cookie > 1000).expect("B is read");
    assert!((30..=36).contains(&first), "after 100 seconds, not after {first} requests of 3");
    assert_eq!(&given[first..first + 2], [1001, 1002]);
    assert!(given[first + 2..].is_sorted() && given[first + 2] < 1000, "then A goes on where it was");
}

/// Alone, a tape is not taken off for its time being over.
#[test]
fn a_tape_stays_while_no_other_waits() {
    let mut s = Session::new(with_rules(rules()));
    s.mover(1, "m0");
    s.mover(2, "m1");
    s.work(2, ANY);
    restores(&mut s, "A", &(1..=100).collect::<Vec<_>>());
    let mut of = [0, 0];
    finish(&mut s, 2, &[]);
    for _ in 0..20 {
        for conn in [1, 2] {
            let next = s.work(conn, limits(0, 1, 0));
            of[conn as usize - 1] += next.len();
            s.pass(30);
            finish(&mut s, conn, &next);
        }
    }
    assert!(of.contains(&0), "one mover has it all: {of:?}");
}

#[test]
fn a_mover_may_have_several_tapes() {
    let mut s = Session::new(with_rules(TapeRules { per_mover: 2, ..rules() }));
    s.mover(1, "m0");
    for (tape, oid) in [("A", 1), ("B", 2), ("C", 3)] {
        restores(&mut s, tape, &[oid]);
    }
    assert_eq!(s.work(1, ANY), [1, 2], "two of three");
}

/// What a mover that is gone had of a tape, and the tape, go to another.
#[test]
fn a_tape_of_a_mover_that_is_gone_goes_to_another() {
    let mut s = Session::new(HsmConfig { client_grace: Duration::from_secs(30), ..with_rules(rules()) });
    s.mover(1, "m0");
    restores(&mut s, "A", &[1, 2, 3]);
    assert_eq!(s.work(1, limits(0, 1, 0)), [1]);
    s.mover(2, "m1");
    assert_eq!(s.work(2, ANY), [0; 0]);
    s.disconnect(1);
    assert_eq!(cookies(&s.pass(29), 2), [0; 0], "it may come back");
    let effects = s.pass(2);
    assert_eq!(cookies(&effects, 2), [2, 3]);
    // What it was running is located again.
    assert_eq!(sought(&effects).len(), 1);
    s.event(Event::Located(vec![(key(1), on("A", 1))]));
    assert_eq!(s.work(2, ANY), [1]);
}

#[test]
fn hosts_are_ignored_preferred_or_strict() {
    for (host, rule, want) in [
        ("m0", HostRule::Ignore, [vec![], vec![1]]),
        ("m0", HostRule::Soft, [vec![1], vec![]]),
        ("m9", HostRule::Soft, [vec![], vec![1]]),
        ("m0", HostRule::Strict, [vec![1], vec![]]),
        ("m9", HostRule::Strict, [vec![], vec![]]),
    ] {
        let mut s = Session::new(locating(Locating { host: rule, tapes: rules(), ..Locating::default() }));
        s.mover(1, "m0");
        s.mover(2, "m1");
        s.lustre(vec![restore(1, "")]);
        s.event(Event::Located(vec![(key(1), at_host(host))]));
        let second = s.work(2, ANY);
        assert_eq!([s.work(1, ANY), second], want, "{host} {rule:?}");
    }
}

/// C 0.4 with phobos: for a host that is not there the request waits, and after the grace it is located again.
#[test]
fn a_strict_host_that_stays_away_is_asked_for_again() {
    let rule = Locating { host: HostRule::Strict, tapes: rules(), ..Locating::default() };
    let mut s = Session::new(HsmConfig { client_grace: Duration::from_secs(30), ..locating(rule) });
    s.mover(1, "m0");
    s.lustre(vec![restore(1, "")]);
    s.event(Event::Located(vec![(key(1), at_host("m9"))]));
    assert_eq!(s.work(1, ANY), [0; 0]);
    let clients = s.clients(1);
    assert!(clients.iter().any(|client| client["client_id"] == "m9" && client["status"] == "disconnected"));
    let again = sought(&s.pass(31));
    assert_eq!(again.len(), 1);
    let effects = s.event(Event::Located(vec![(key(1), at_host("m0"))]));
    assert_eq!(cookies(&effects, 1), [1]);
}

#[test]
fn removes_are_located_where_configured() {
    for removes in [false, true] {
        let mut s = Session::new(locating(Locating { removes, tapes: rules(), ..Locating::default() }));
        let effects = s.lustre(vec![remove(1, "")]);
        assert_eq!(sought(&effects).len(), usize::from(removes));
    }
}

/// Within the turns of shares, a tape that is mounted is read to its end.
#[test]
fn a_mounted_tape_serves_all_who_want_something_on_it() {
    let mut s =
        Session::new(HsmConfig { fair_share: Some(ShareBy::Hint("u=".into())), ..with_rules(rules()) });
    s.mover(1, "m0");
    s.lustre((1..=20).map(|oid| restore(oid, if oid % 2 == 0 { "u=a" } else { "u=b" })).collect());
    let tape = |oid: u32| if oid <= 10 { "A" } else { "B" };
    s.event(Event::Located((1..=20).map(|oid| (key(oid), on(tape(oid), oid.into()))).collect()));
    let given: Vec<u64> = (0..20)
        .flat_map(|_| {
            let next = s.work(1, ONE);
            finish(&mut s, 1, &next);
            next
        })
        .collect();
    assert_eq!(given, (1..=20).collect::<Vec<u64>>(), "one tape after the other, each in its order");
}

#[test]
fn tapes_are_forgotten_and_cancels_find_what_is_on_them() {
    let mut s = Session::new(with_rules(TapeRules { wait: Duration::from_secs(5), ..rules() }));
    s.mover(1, "m0");
    restores(&mut s, "A", &[1, 2]);
    s.lustre(vec![restore(3, "")]);
    for oid in 1..=3 {
        s.lustre(vec![item(Action::Cancel, oid, oid.into(), "")]);
    }
    assert_eq!(s.core.counters().pending, [0; 3]);
    assert_eq!(s.core.tapes.len(), 0);
    for oid in 10..20 {
        restores(&mut s, &format!("T{oid}"), &[oid]);
        s.pass(6);
        let given = s.work(1, ANY);
        finish(&mut s, 1, &given);
        s.pass(6);
    }
    assert_eq!(s.core.tapes.len(), 0);
}

/// A request that is too large for the mover of its tape goes to another mover.
#[test]
fn what_is_too_large_leaves_its_tape() {
    let mut s = Session::new(with_rules(rules()));
    s.mover(1, "m0");
    s.mover(2, "m1");
    let long = "x".repeat(100);
    s.lustre(vec![restore(1, ""), restore(2, &long), restore(3, "")]);
    s.event(Event::Located((1..=3).map(|oid| (key(oid), on("A", oid.into()))).collect()));
    let mut given = Vec::new();
    for _ in 0..2 {
        let next = s.work(1, ONE);
        finish(&mut s, 1, &next);
        given.extend(next);
    }
    assert_eq!(given, [1, 3]);
    assert_eq!(s.work(2, ANY), [2]);
}

/// Each thing that may keep a tape is named by `explain`.
#[test]
fn what_keeps_a_tape_is_explained() {
    let wait = Duration::from_secs(10);
    let mut s = Session::new(with_rules(TapeRules { wait, ..rules() }));
    s.mover(1, "m0");
    s.mover(2, "m1");
    assert_eq!(s.work(1, ONE), [0; 0]);
    assert_eq!(s.work(2, ONE), [0; 0]);
    s.lustre(vec![restore(1, "")]);
    assert_eq!(s.why(1), ["locating"]);
    s.event(Event::Located(vec![(key(1), on("A", 1))]));
    assert_eq!(s.why(1), ["tape_gathers"]);
    restores(&mut s, "A", &[2, 3]);
    let first = s.pass(10);
    let (conn, other) = if cookies(&first, 1).is_empty() { (2, 1) } else { (1, 2) };
    assert_eq!(cookies(&first, conn), [1], "one mover has the tape");
    assert_eq!(cookies(&first, other), [0; 0]);
    assert_eq!(s.why(2)[..2], ["tape_mounted", "mover_not_asking"]);
    // Its mover goes away for good, or is drained with nothing to do: the other may have the tape.
    finish(&mut s, conn, &[1]);
    let drained = if conn == 1 { "m0" } else { "m1" };
    let (_, effects) = s.order(Order::Drain { mover: drained.into(), on: true });
    assert_eq!(cookies(&effects, other), [2]);
}

/// Found by the simulator: a mover left for good while a request that was located there was held for its file, in no queue.
#[test]
fn the_host_of_a_held_request_is_not_forgotten() {
    let mut s =
        Session::new(locating(Locating { host: HostRule::Strict, removes: true, ..Locating::default() }));
    s.mover(1, "m0");
    s.mover(2, "m1");
    s.lustre(vec![archive(1, "")]);
    assert_eq!(s.work(1, ANY), [1]);
    s.lustre(vec![item(Action::Remove, 1, 9, "")]);
    let second = item(Action::Remove, 1, 9, "").key();
    s.event(Event::Located(vec![(second, at_host("m1"))]));
    s.disconnect(2);
    s.pass(601);
    // Another takes the number that it had, were it forgotten.
    s.mover(3, "m2");
    s.done(1, 1, 1, 0);
    s.pass(601);
    s.mover(4, "m1");
    let asked = sought(&s.visible);
    assert!(asked.iter().any(|sought| sought.key == second));
    s.event(Event::Located(vec![(second, at_host("m1"))]));
    assert_eq!(s.work(4, ANY), [9]);
}
