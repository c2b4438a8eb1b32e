//! Why requests wait.

use super::*;
use crate::hsm::reason::Reason;
use crate::hsm::views::RequestState;

/// Every obstacle is named, and what is named keeps the request: once it is gone, the request goes to the mover.
#[test]
fn an_obstacle_that_is_named_and_removed_was_the_one() {
    type Make = fn() -> Session;
    type Remove = fn(&mut Session) -> Vec<Effect>;
    let cases: Vec<(&[&str], Make, Remove)> = vec![
        (
            &["no_mover"],
            || {
                let mut s = Session::new(config());
                s.mover_for(9, "other", &[2]);
                s.recv(9, ANY);
                s.lustre(vec![archive(1, "")]);
                s
            },
            |s| {
                s.mover(1, "m0");
                s.recv(1, ANY)
            },
        ),
        (
            &["locked"],
            || {
                let mut s = Session::new(config());
                s.mover(1, "m0");
                s.recv(1, ANY);
                s.lock(1, Lock::Locked);
                s.lustre(vec![archive(1, "")]);
                s
            },
            |s| s.lock(1, Lock::Unlocked),
        ),
        (
            &["host_absent"],
            || {
                let mut s =
                    Session::new(HsmConfig { host_mappings: vec![any("tag=a", &["m0"])], ..config() });
                s.mover(9, "other");
                s.recv(9, ANY);
                s.lustre(vec![archive(1, "tag=a")]);
                s
            },
            |s| {
                s.mover(1, "m0");
                s.recv(1, ANY)
            },
        ),
        (
            &["hosts_absent"],
            || {
                let mapping = any("tag=a", &["m0", "m1"]);
                let mut s = Session::new(HsmConfig { host_mappings: vec![mapping], ..config() });
                s.mover(9, "other");
                s.recv(9, ANY);
                s.lustre(vec![archive(1, "tag=a")]);
                s
            },
            |s| {
                s.mover(1, "m1");
                s.recv(1, ANY)
            },
        ),
        (
            &["not_served"],
            || {
                let mut s =
                    Session::new(HsmConfig { host_mappings: vec![any("tag=a", &["m0"])], ..config() });
                s.mover_for(1, "m0", &[2]);
                s.recv(1, ANY);
                s.lustre(vec![archive(1, "tag=a")]);
                s
            },
            |s| {
                s.disconnect(1);
                s.mover_for(1, "m0", &[1, 2]);
                s.recv(1, ANY)
            },
        ),
        (
            &["mover_not_asking"],
            || {
                let mut s = Session::new(config());
                s.mover(1, "m0");
                s.lustre(vec![archive(1, "")]);
                s
            },
            |s| s.recv(1, ANY),
        ),
        (
            &["mover_full"],
            || {
                let mut s = Session::new(config());
                s.mover(1, "m0");
                s.lustre(vec![archive(8, ""), archive(1, "")]);
                assert_eq!(s.work(1, limits(1, 9, 9)), [8]);
                s.recv(1, limits(1, 9, 9));
                s
            },
            |s| s.done(1, 8, 8, 0),
        ),
        (
            &["file_busy"],
            || {
                let mut s = Session::new(config());
                s.mover(1, "m0");
                s.lustre(vec![item(Action::Archive, 1, 8, "")]);
                assert_eq!(s.work(1, ANY), [8]);
                s.recv(1, ANY);
                s.lustre(vec![archive(1, "")]);
                s
            },
            |s| s.done(1, 8, 1, 0),
        ),
        (
            &["too_large"],
            || {
                let mut s = Session::new(config());
                s.mover(9, "small");
                s.recv(9, Recv { max_bytes: 172, ..ANY });
                s.lustre(vec![archive(1, &"x".repeat(100))]);
                s
            },
            |s| {
                s.mover(1, "m0");
                s.recv(1, ANY)
            },
        ),
        (
            &["settling"],
            || {
                let mut s = Session::new(HsmConfig { settle: Duration::from_secs(30), ..config() });
                let requests = vec![(ActionItem { timestamp: 5, ..archive(1, "") }, None)];
                s.event(Event::Recovered { requests, suspect: true });
                s.mover(1, "m0");
                s.recv(1, ANY);
                s
            },
            |s| s.pass(30),
        ),
        (
            &["draining"],
            || {
                let mut s = Session::new(config());
                s.mover(1, "m0");
                s.recv(1, ANY);
                s.order(Order::Drain { mover: "m0".into(), on: true });
                s.lustre(vec![archive(1, "")]);
                s
            },
            |s| s.order(Order::Drain { mover: "m0".into(), on: false }).1,
        ),
        (
            &["slot_held"],
            || {
                let mut s = Session::new(HsmConfig { batch: batch(10, Some(20), 1), ..config() });
                s.mover(1, "m0");
                s.lustre(vec![archive(8, "tag=a")]);
                assert_eq!(s.work(1, ANY), [8]);
                s.recv(1, ANY);
                s.lustre(vec![archive(1, "tag=b")]);
                s
            },
            |s| {
                s.done(1, 8, 8, 0);
                s.pass(10)
            },
        ),
        (
            &["batch_full"],
            || {
                let mut s = Session::new(HsmConfig { batch: batch(10, None, 2), ..config() });
                s.mover(1, "m0");
                s.lustre(vec![archive(8, "tag=a"), archive(1, "tag=a")]);
                assert_eq!(s.work(1, limits(2, 0, 0)), [8]);
                s.recv(1, limits(2, 0, 0));
                s
            },
            |s| s.done(1, 8, 8, 0),
        ),
    ];
    for (want, make, remove) in cases {
        let mut s = make();
        assert_eq!(s.why(1), want);
        let explanation = &s.core.explain(&Find::Request(key(1)))[0];
        let text = explanation.reasons[0].text(s.now.wall);
        assert!(text.len() > 10 && !text.contains("{"), "{text}");
        assert_eq!(cookies(&remove(&mut s), 1), [1], "{want:?}");
        assert_eq!(s.why(1), ["running"]);
    }
}

#[test]
fn what_runs_says_where() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre(vec![archive(1, "tag=a")]);
    s.pass(7);
    s.work(1, ANY);
    let started = s.now.wall;
    s.pass(5);
    let running = |s: &Session| s.core.explain(&Find::File(fid(1))).remove(0);
    assert_eq!(running(&s).reasons, [Reason::Running { mover: "m0".into(), since: started }]);
    assert_eq!(running(&s).request.state, RequestState::Running);
    s.disconnect(1);
    let until = s.now.wall_at(s.now.mono + Duration::from_secs(600));
    let away = Reason::MoverAway { mover: "m0".into(), since: s.now.wall, until };
    assert_eq!(running(&s).reasons, std::slice::from_ref(&away));
    assert!(away.text(s.now.wall).contains("keeps its requests for another 10 min"));
    s.mover_with(2, "m0", vec![archive(1, "tag=a")]);
    s.lustre(vec![item(Action::Cancel, 1, 1, "")]);
    assert_eq!(running(&s).cancel, Some(false));
    s.recv(2, ANY);
    assert_eq!(running(&s).cancel, Some(true));
}

#[test]
fn all_requests_of_a_file_are_explained() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre((1..=3).map(|cookie| item(Action::Archive, 1, cookie, "")).collect());
    assert_eq!(s.work(1, ANY), [1]);
    let all = s.core.explain(&Find::File(fid(1)));
    let names: Vec<_> = all.iter().map(|one| (one.request.key.cookie, one.reasons[0].name())).collect();
    assert_eq!(names, [(1, "running"), (2, "file_busy"), (3, "file_busy")]);
    s.done(1, 1, 1, 0);
    // 2 is let go, 3 has to wait for it.
    let all = s.core.explain(&Find::File(fid(1)));
    let names: Vec<_> = all.iter().map(|one| (one.request.key.cookie, one.reasons[0].name())).collect();
    assert_eq!(names, [(2, "mover_not_asking"), (3, "file_turn")]);
    assert!(s.core.explain(&Find::File(fid(2))).is_empty());
    assert!(s.core.explain(&Find::Request(key(9))).is_empty());
}

#[test]
fn places_in_queues_are_counted_near_the_ends_and_estimated_between() {
    let mut s = Session::new(config());
    let many = 20_000u32;
    s.core_only(Event::Lustre { items: (1..=many).map(|oid| archive(oid, "")).collect() });
    for oid in [1, 2, 4097, 4098, 10_000, 15_000, many - 4097, many - 4096, many] {
        let position = s.core.explain(&Find::Request(key(oid)))[0].position.unwrap();
        let (ahead, of) = (u64::from(oid - 1), u64::from(many));
        let near = ahead <= 4096 || of - ahead - 1 <= 4096;
        assert_eq!((position.of, position.exact), (of, near), "{oid}");
        if near {
            assert_eq!(position.ahead, ahead, "{oid}");
        } else {
            assert!(position.ahead.abs_diff(ahead) <= of / 10, "{oid}: {}", position.ahead);
        }
    }
    let behind = s.core.explain(&Find::Request(key(3)));
    assert_eq!(behind[0].reasons, [Reason::NoMover { archive_id: 1 }, Reason::Behind { ahead: 2 }]);
}

#[test]
fn times_are_spoken() {
    let now = Wall(1_795_217_000_000_000_000);
    let later = |seconds: i64| Wall(now.0 + seconds * SECOND as i64);
    let quarantined = |until| Reason::Quarantined { mover: "m0".into(), until };
    for (seconds, want) in [
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (200_000, "2 d"),
        (-5, "0 s"),
    ] {
        let text = quarantined(later(seconds)).text(now);
        assert_eq!(text, format!("mover m0 failed too often and gets nothing for another {want}"));
    }
}
