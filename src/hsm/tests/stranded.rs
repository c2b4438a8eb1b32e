//! Work that no mover can take.

use super::keepalive::watched;
use super::*;
use crate::hsm::Stranded;

/// What the tests have for a day.
const DAY: u64 = 600;

/// Few keepalives, so that time passes fast.
fn slow() -> HsmConfig {
    HsmConfig {
        request_timeout: Duration::from_secs(100_000),
        stranded_timeout: Duration::from_secs(3 * DAY),
        ..watched()
    }
}

fn of_archive(oid: u32, archive_id: u32) -> ActionItem {
    ActionItem { archive_id, ..archive(oid, "") }
}

fn stranded(s: &Session) -> Vec<(Action, u32, Vec<String>, u64)> {
    let all = s.core.stranded();
    all.into_iter()
        .map(|Stranded { action, archive_id, hosts, requests, .. }| (action, archive_id, hosts, requests))
        .collect()
}

/// Lets time pass; the MDT knows everything.
fn live(s: &mut Session, seconds: u64) -> Vec<Effect> {
    let mut effects = Vec::new();
    for _ in 0..seconds / 20 {
        let more = s.pass(20);
        for cookie in super::keepalive::kept(&more) {
            effects.extend(s.alive(cookie as u32, 0));
        }
        effects.extend(more);
    }
    effects
}

#[test]
fn what_has_no_mover_is_shown_and_what_has_one_is_not() {
    let mappings = vec![any("tag=n0", &["m7"]), any("tag=n1", &["m7", "m0"]), hash("g=", None, &["m8"])];
    let mut s = Session::new(HsmConfig { host_mappings: mappings, ..slow() });
    s.connect(1);
    s.ehlo(1, Ehlo { id: Some("m0".into()), archive_ids: vec![1], ..Ehlo::default() });
    // It is busy and at its limit, but it serves archive 1.
    s.lustre(vec![of_archive(1, 1)]);
    assert_eq!(s.work(1, limits(1, 1, 1)), [1]);
    s.lustre(vec![
        of_archive(2, 1),
        of_archive(3, 2),
        of_archive(4, 2),
        ActionItem { archive_id: 2, ..restore(5, "") },
        archive(6, "tag=n0"),
        archive(7, "tag=n1"),
        archive(8, "g=x"),
        ActionItem { archive_id: 0, ..remove(9, "") },
    ]);
    live(&mut s, 40);
    let mut shown = stranded(&s);
    shown.sort();
    let want = [
        (Action::Archive, 1, vec!["m7".to_owned()], 1),
        (Action::Archive, 1, vec!["m8".to_owned()], 1),
        (Action::Archive, 2, vec![], 2),
        (Action::Restore, 2, vec![], 1),
    ];
    assert_eq!(shown, want);
    assert_eq!(s.core.counters().stranded, 5);
    // Seen at once when a mover comes.
    s.connect(2);
    s.ehlo(2, Ehlo { id: Some("m7".into()), archive_ids: vec![1, 2], ..Ehlo::default() });
    s.recv(2, limits(1, 1, 1));
    assert_eq!(stranded(&s), [(Action::Archive, 1, vec!["m8".to_owned()], 1)]);
    live(&mut s, 40);
    assert_eq!(s.core.counters().stranded, 1);
}

#[test]
fn it_is_ended_after_a_time_and_the_rest_is_not() {
    for timeout in [0, 3 * DAY] {
        let mut s = Session::new(HsmConfig { stranded_timeout: Duration::from_secs(timeout), ..slow() });
        s.connect(1);
        s.ehlo(1, Ehlo { id: Some("m0".into()), archive_ids: vec![1], ..Ehlo::default() });
        s.lustre(vec![of_archive(1, 1), of_archive(2, 2)]);
        assert_eq!(endings(&live(&mut s, 2 * DAY)), []);
        s.lustre(vec![of_archive(3, 2)]);
        // Each has its own time.
        let effects = live(&mut s, DAY + 60);
        let ended = if timeout > 0 { vec![(2, 110)] } else { Vec::new() };
        assert_eq!(endings(&effects), ended);
        s.event(Event::LustreEnded { key: key(2), errno: 0 });
        assert_eq!(s.core.counters().stranded_ended, ended.len() as u64);
        assert_eq!(s.core.counters().done_cancel, 0, "nobody cancelled anything");
        assert_eq!(s.core.counters().pending[2], 3 - ended.len() as u64);
    }
}

/// A restore that waits over the night for a mover that comes back is served.
#[test]
fn a_mover_that_comes_back_begins_the_time_anew() {
    let mut s = Session::new(slow());
    s.lustre(vec![restore(1, "")]);
    for conn in [1, 2] {
        assert_eq!(endings(&live(&mut s, 2 * DAY)), []);
        s.mover(conn, "m0");
        live(&mut s, 60);
        assert_eq!(stranded(&s), []);
        s.disconnect(conn);
    }
    assert_eq!(endings(&live(&mut s, 2 * DAY)), []);
    assert_eq!(endings(&live(&mut s, 2 * DAY)), [(1, 110)]);
}

#[test]
fn too_many_are_ended_the_last_ones_first() {
    let mut s = Session::new(HsmConfig { stranded_max: 3, ..slow() });
    s.lustre((1..=5).map(|oid| archive(oid, "")).chain([restore(6, "")]).collect());
    // Movers restart.
    assert_eq!(endings(&live(&mut s, 40)), []);
    assert_eq!(endings(&live(&mut s, 100)), [(5, 19), (4, 19)]);
    s.mover(1, "m0");
    assert_eq!(s.work(1, limits(1, 1, 1)), [6, 1]);
    // With a mover, any number may wait.
    s.lustre((10..=20).map(|oid| archive(oid, "")).collect());
    assert_eq!(endings(&live(&mut s, 1000)), []);
}

/// More than one step can do.
#[test]
fn a_great_many_are_ended_in_slices() {
    let mut s = Session::new(HsmConfig { stranded_max: 10, ..slow() });
    let mut effects = Effects::default();
    s.core.handle(
        s.now,
        Event::Lustre { items: (1..=2000).map(|oid| archive(oid, "")).collect() },
        &mut effects,
    );
    let ended = endings(&live(&mut s, 140));
    assert_eq!(ended.len(), 1990);
    assert_eq!(s.core.counters().pending[2], 10);
}

/// Without a Lustre nobody could be told, and the request would be nowhere.
#[test]
fn nothing_is_ended_when_nobody_can_be_told() {
    let mut s = Session::new(HsmConfig { stranded_max: 1, request_timeout: Duration::ZERO, ..slow() });
    s.lustre(vec![archive(1, ""), archive(2, "")]);
    assert_eq!(endings(&s.pass(10 * DAY)), []);
    assert_eq!(stranded(&s), [(Action::Archive, 1, vec![], 2)]);
}
