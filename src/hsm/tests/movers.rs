//! Connections, identities, grace, leases and who may say that something is done.

use super::*;
use crate::hsm::effect::EhloReply;
use crate::hsm::event::Features;

fn leased(id: &str, items: Vec<ActionItem>) -> Ehlo {
    let features = Features { binary_data: true, lease: true };
    Ehlo { id: Some(id.into()), hai_list: Some(items), features, ..Ehlo::default() }
}

fn ehlo_reply(effects: &[Effect], conn: u64) -> Option<EhloReply> {
    replies(effects, conn).into_iter().find_map(|reply| match reply {
        Reply::Ehlo(reply) => Some(reply.clone()),
        _ => None,
    })
}

/// C (15): "a half-open mover blocks its own id".
#[test]
fn a_second_connection_takes_over_when_the_first_is_dead() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre(vec![archive(1, ""), archive(2, "")]);
    assert_eq!(s.work(1, limits(1, 0, 0)), [1]);
    s.connect(2);
    let claim = || Ehlo { id: Some("m0".into()), hai_list: Some(vec![archive(1, "")]), ..Ehlo::default() };
    assert_eq!(s.ehlo(2, claim()), [Effect::Probe { conn: ConnId(1) }]);
    // A third one does not wait, and nobody asks twice.
    s.connect(3);
    let taken = Some(("ehlo", 17, "id already used by another client"));
    assert_eq!(error(&s.ehlo(3, claim()), 3), taken);
    assert_eq!(error(&s.ehlo(2, claim()), 2), Some(("ehlo", 22, "Client cannot send EHLO twice")));
    let text = "Client must send EHLO first and not already be in RECV";
    assert_eq!(error(&s.recv(2, ANY), 2), Some(("recv", 22, text)));
    let effects = s.disconnect(1);
    assert!(ehlo_reply(&effects, 2).is_some());
    assert_eq!(s.work(2, limits(1, 0, 0)), [0; 0], "it still runs the first");
    assert_eq!(cookies(&s.done(2, 1, 1, 0), 2), [2]);
    // The first one lives: 17 after 3 s, and the connection may try again.
    assert_eq!(s.ehlo(3, claim()), [Effect::Probe { conn: ConnId(2) }]);
    assert_eq!(s.pass_ms(2999), []);
    assert_eq!(error(&s.pass_ms(1), 3), taken);
    assert_eq!(s.ehlo(3, claim()), [Effect::Probe { conn: ConnId(2) }]);
    // The claimant goes away itself.
    assert_eq!(s.disconnect(3), []);
    assert_eq!(s.pass(5), []);
}

/// C (27): "`done` without ownership check closes others' work, counter 4294967295".
#[test]
fn only_the_owner_ends_a_request() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.mover(2, "m1");
    s.lustre(vec![archive(1, ""), archive(2, "")]);
    assert_eq!(s.work(1, limits(1, 0, 0)), [1]);
    for (conn, cookie, oid) in [(2, 1, 1), (1, 2, 2), (1, 7, 7)] {
        assert_eq!(s.done(conn, cookie, oid, 0), [Effect::Reply { conn: ConnId(conn), reply: Reply::Done }]);
    }
    let counters = s.core.counters();
    assert_eq!((counters.foreign_dones, counters.running[2], counters.pending[2]), (3, 1, 1));
    s.done(1, 1, 1, 0);
    // A double acknowledgement.
    s.done(1, 1, 1, 0);
    let counters = s.core.counters();
    assert_eq!((counters.done[2], counters.ended, counters.running[2]), (1, 1, 0));
}

/// C (a): "cookies >= 2^32, or >= 2^31 sign-extended: request stays running for ever".
#[test]
fn truncated_cookies_of_c_movers_are_understood() {
    let cases = [
        (0xf_692f_08f6u64, 0x692f_08f6u64),
        (0xf_f92f_08f6, 0xffff_ffff_f92f_08f6),
        (0x9000_0000, 0xffff_ffff_9000_0000),
    ];
    for (cookie, sent) in cases {
        for dfid in [1, 50] {
            let mut s = Session::new(config());
            s.mover(1, "m0");
            s.mover(2, "m1");
            s.lustre(vec![ActionItem { dfid: fid(dfid), ..item(Action::Archive, 1, cookie, "") }]);
            assert_eq!(s.work(1, ANY), [cookie]);
            s.done(2, sent, dfid, 0);
            assert_eq!(s.core.counters().running[2], 1, "not another's");
            s.done(1, sent, dfid, 0);
            assert_eq!(s.core.counters().done[2], 1, "{cookie:#x} as {sent:#x}");
        }
    }
}

/// The data FID that a redelivery brought is known as well.
#[test]
fn a_later_data_fid_is_an_alias() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre(vec![restore(1, "")]);
    s.work(1, ANY);
    s.lustre(vec![ActionItem { dfid: fid(60), ..restore(1, "") }]);
    s.done(1, 1, 60, 0);
    assert_eq!(s.core.counters().done[0], 1);
}

/// C (26): "reconnect loses `current_*`: the mover gets twice its max, counter -16".
#[test]
fn limits_hold_across_reconnects() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre((1..=6).map(|oid| archive(oid, "")).collect());
    assert_eq!(s.work(1, limits(3, 0, 0)), [1, 2, 3]);
    s.disconnect(1);
    s.mover_with(2, "m0", vec![archive(1, ""), archive(2, ""), archive(3, "")]);
    assert_eq!(s.work(2, limits(3, 0, 0)), [0; 0]);
    assert_eq!(cookies(&s.done(2, 2, 2, 0), 2), [4]);
    let client = &s.clients(2)[0];
    assert_eq!((&client["current_archive"], &client["done_archive"]), (&3.into(), &1.into()));
}

#[test]
fn what_a_returning_mover_does_not_claim_goes_back_to_the_end() {
    for hai_list in [None, Some(Vec::new())] {
        let mut s = Session::new(config());
        s.mover(1, "m0");
        s.lustre((1..=4).map(|oid| archive(oid, "")).collect());
        assert_eq!(s.work(1, limits(3, 0, 0)), [1, 2, 3]);
        s.disconnect(1);
        s.connect(2);
        s.ehlo(2, Ehlo { id: Some("m0".into()), hai_list, ..Ehlo::default() });
        assert_eq!(s.work(2, ANY), [4, 1, 2, 3]);
        assert_eq!(s.core.counters().requeued, 3);
    }
}

#[test]
fn a_mover_may_bring_what_we_do_not_know() {
    let mut s = Session::new(config());
    let stranger = ActionItem { timestamp: 1_700_000_000_000_000_000, ..archive(1, "tag=a") };
    let nowhere = ActionItem { archive_id: 0, ..archive(2, "") };
    s.mover_with(1, "m0", vec![stranger.clone(), nowhere]);
    let want = [StoreOp::Put(stranger), StoreOp::Assign { key: key(1), mover: "m0".into() }];
    assert_eq!(s.store, want);
    s.done(1, 1, 1, 0);
    assert_eq!(s.core.counters().done[2], 1);
    // What has ended is not brought back to life: C creates it again.
    s.disconnect(1);
    s.mover_with(2, "m0", vec![archive(1, "tag=a")]);
    assert_eq!(s.core.counters().running, [0; 3]);
}

/// Found by the simulator: two restores of one file with two movers.
#[test]
fn a_claim_waits_for_another_request_of_its_file() {
    let second = || item(Action::Archive, 1, 9, "");
    for known in [true, false] {
        let mut s = Session::new(config());
        s.mover(1, "m0");
        s.lustre(vec![archive(1, "")]);
        assert_eq!(s.work(1, ANY), [1]);
        if known {
            s.lustre(vec![second()]);
        }
        s.connect(2);
        let reply = ehlo_reply(&s.ehlo(2, leased("m1", vec![second()])), 2).unwrap();
        assert_eq!(reply.refused, [second().key()]);
        assert_eq!(s.core.counters().running, [0, 0, 1]);
        // It was not lost by that, and a mover that cannot be stopped goes on.
        s.connect(3);
        s.ehlo(3, Ehlo { id: Some("m2".into()), hai_list: Some(vec![second()]), ..Ehlo::default() });
        assert_eq!(s.core.counters().running, [0, 0, 2]);
    }
}

#[test]
fn claims_of_what_another_has_are_refused() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre(vec![archive(1, ""), archive(2, "")]);
    assert_eq!(s.work(1, limits(1, 0, 0)), [1]);
    s.connect(2);
    let reply = ehlo_reply(&s.ehlo(2, leased("m1", vec![archive(1, ""), archive(2, "")])), 2).unwrap();
    assert_eq!(reply, EhloReply { lease_ms: 60_000, refused: vec![key(1)] });
    assert_eq!(s.core.counters().running[2], 2, "the queued one is its own");
    // A C mover cannot be told; its done is ignored.
    let effects = s.mover_with(3, "m2", vec![archive(1, "")]);
    assert_eq!(ehlo_reply(&effects, 3).unwrap(), EhloReply::default());
    s.done(3, 1, 1, 0);
    assert_eq!(s.core.counters().foreign_dones, 1);
}

/// C (34): "grace < 1 s becomes 1 s, wall clock used".
#[test]
fn grace_is_exact_and_on_the_monotonic_clock() {
    let mut s = Session::new(HsmConfig { client_grace: Duration::from_millis(250), ..config() });
    s.mover(1, "m0");
    s.mover(2, "m1");
    s.lustre(vec![archive(1, "")]);
    assert_eq!(s.work(1, ANY), [1]);
    assert_eq!(s.work(2, ANY), [0; 0]);
    s.disconnect(1);
    s.now.wall = Wall(s.now.wall.0 + 3_600_000_000_000);
    assert_eq!(s.pass_ms(249), []);
    assert_eq!(cookies(&s.pass_ms(1), 2), [1]);
    assert_eq!(s.clients(2).len(), 1, "the mover is forgotten");
}

/// A mover that is cut off from us alone may still work until its lease is over.
#[test]
fn work_of_a_leased_mover_waits_for_the_lease() {
    for id in [Some("m0".to_owned()), None] {
        let mut s = Session::new(HsmConfig {
            client_grace: Duration::from_secs(10),
            lease: Duration::from_secs(10),
            ..config()
        });
        s.connect(1);
        s.ehlo(1, Ehlo { id: id.clone(), ..leased("", Vec::new()) });
        s.mover(2, "m1");
        s.lustre(vec![archive(1, "")]);
        assert_eq!(s.work(1, ANY), [1]);
        assert_eq!(s.work(2, ANY), [0; 0]);
        s.pass(8);
        let effects = s.message(1, Message::Lease { serial: 7 });
        assert_eq!(replies(&effects, 1), [&Reply::Lease { serial: 7, lease_ms: 10_000 }]);
        s.pass_ms(10);
        s.disconnect(1);
        assert_eq!(s.pass(10), [], "{id:?}");
        assert_eq!(cookies(&s.pass(1), 2), [1], "{id:?}");
    }
}

#[test]
fn an_anonymous_mover_loses_its_work_at_once() {
    let mut s = Session::new(config());
    s.connect(1);
    s.ehlo(1, Ehlo::default());
    s.lustre((1..=3).map(|oid| archive(oid, "")).collect());
    assert_eq!(s.work(1, limits(2, 0, 0)), [1, 2]);
    s.disconnect(1);
    s.connect(2);
    s.ehlo(2, Ehlo::default());
    assert_eq!(s.work(2, ANY), [3, 1, 2]);
    assert_eq!(s.clients(2).len(), 1);
    assert!(!s.store.iter().any(|op| matches!(op, StoreOp::Assign { .. })));
}

/// More than one step can do goes back in slices, and nothing is lost on the way.
#[test]
fn a_great_deal_of_work_goes_back_in_slices() {
    let mut s = Session::new(HsmConfig { client_grace: Duration::from_secs(1), ..config() });
    s.mover(1, "m0");
    s.lustre((1..=3000).map(|oid| archive(oid, "")).collect());
    for _ in 0..30 {
        s.recv(1, ANY);
    }
    assert_eq!(s.core.counters().running[2], 3000);
    s.disconnect(1);
    s.now.mono += Duration::from_secs(1);
    s.event(Event::Tick);
    let after = s.core.counters().running[2];
    assert!((1..3000).contains(&after), "{after} left after one step");
    // One that comes back in the middle keeps what it claims of the rest.
    s.mover_with(2, "m0", vec![archive(3000, "")]);
    s.pass(1);
    assert_eq!(s.core.counters().running[2], 1);
    assert_eq!(s.core.counters().pending[2], 2999);
}

#[test]
fn redelivery_runs_a_failed_attempt_again() {
    let cases = [(0, 0), (5, 1)];
    for (status, pending) in cases {
        let mut s = Session::new(config());
        s.mover(1, "m0");
        s.lustre(vec![archive(1, "")]);
        s.work(1, ANY);
        s.lustre(vec![archive(1, "")]);
        s.done(1, 1, 1, status);
        assert_eq!(s.core.counters().pending[2], pending);
        assert_eq!(s.core.counters().running[2], 0);
    }
}
