//! What the MDT has forgotten.

use super::keepalive::{kept, looked, requested, watched};
use super::*;
use crate::hsm::lustre_call::{FileState, LustreAnswer, LustreCall};
use lustreapi_sys::abi::{HS_ARCHIVED, HS_DIRTY, HS_EXISTS, HS_RELEASED};

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EAGAIN: i32 = 11;

impl Session {
    pub(super) fn answer_request(&mut self, oid: u32, errno: i32) -> Vec<Effect> {
        self.event(Event::LustreAnswered(LustreAnswer::Requested { key: key(oid), number: u64::MAX, errno }))
    }

    fn answer_state(&mut self, oid: u32, state: Result<u32, i32>) -> Vec<Effect> {
        let state = state.map(|states| FileState { states, archive_id: 1 });
        self.event(Event::LustreAnswered(LustreAnswer::State { key: key(oid), number: u64::MAX, state }))
    }

    /// The MDT does not know it, and there is something left to do.
    fn suspect(&mut self, oid: u32, state: Result<u32, i32>) {
        self.alive(oid, ENOENT);
        assert_eq!(looked(&self.pass_ms(1)), [u64::from(oid)], "is there anything left to do?");
        self.answer_state(oid, state);
    }

    /// The MDT says twice that it does not know it, and there still is something left to do.
    fn forget_with(&mut self, oid: u32, state: Result<u32, i32>) -> Vec<Effect> {
        self.suspect(oid, state);
        assert_eq!(kept(&self.pass(30)), [u64::from(oid)], "the second question");
        self.alive(oid, ENOENT);
        assert_eq!(looked(&self.pass_ms(1)), [u64::from(oid)], "and still?");
        let mut effects = self.answer_state(oid, state);
        effects.extend(self.pass_ms(1));
        effects
    }

    /// The same of any kind: the MDT cannot say.
    fn forget(&mut self, oid: u32) -> Vec<Effect> {
        self.forget_with(oid, Err(EAGAIN))
    }

    fn waiting(&self) -> u64 {
        self.core.counters().pending.iter().sum()
    }
}

#[test]
fn what_the_mdt_forgot_is_requested_again_with_all_of_its_data() {
    for action in [Action::Archive, Action::Remove] {
        let mut s = Session::new(watched());
        s.mover(1, "m0");
        let old = ActionItem {
            extent_offset: 4096,
            extent_length: 8192,
            archive_id: 3,
            flags: 1,
            ..item(action, 7, 7, "tag=a long text of a user")
        };
        s.lustre(vec![old.clone()]);
        let again = requested(&s.forget(7));
        assert_eq!(again.len(), 1);
        assert_eq!(again[0], ActionItem { timestamp: again[0].timestamp, ..old });
        // It is the MDT's only when the MDT says so: until then it must survive a crash, and nobody gets it.
        assert!(!s.store.contains(&StoreOp::Remove { key: key(7) }));
        assert_eq!(s.work(1, ANY), [0; 0]);
        assert_eq!(s.core.counters().doubtful, 1);
        s.answer_request(7, 0);
        assert_eq!(s.store.last(), Some(&StoreOp::Remove { key: key(7) }));
        let counters = s.core.counters();
        assert_eq!((s.waiting(), counters.doubtful, counters.forgotten_at_mdt), (0, 0, 1));
        assert_eq!((counters.requested_again, counters.given_up), (1, 0));
        // The new one comes through the pipe.
        assert_eq!(cookies(&s.lustre(vec![ActionItem { cookie: 100, ..again[0].clone() }]), 1), [100]);
    }
}

#[test]
fn one_unknown_is_not_enough() {
    // The MDT could not deliver a list and sends it again; or it was asked while it started.
    for back in [true, false] {
        let mut s = Session::new(watched());
        s.lustre(vec![archive(1, ""), archive(2, "")]);
        s.suspect(1, Ok(HS_EXISTS));
        // An answer to another question is not the second one.
        assert_eq!(requested(&s.alive(1, ENOENT)), []);
        let effects = if back { s.lustre(vec![archive(1, "")]) } else { s.pass(30) };
        assert_eq!(kept(&effects).is_empty(), back);
        if !back {
            s.alive(1, 0);
        }
        assert_eq!(s.core.counters().doubtful, 0);
        s.mover(1, "m0");
        // It is before what came later, as it was.
        assert_eq!(s.work(1, ANY), [1, 2], "{back}");
        assert_eq!(requested(&s.visible), []);
    }
}

#[test]
fn the_mdt_may_take_its_time_or_refuse() {
    // Its answers; whether the request is asked for again after each, what is left, and how many were given up.
    let cases: [(i32, bool, u64); 8] = [
        (0, false, 0),
        (EAGAIN, true, 0),
        (5, true, 0),
        (107, true, 0),
        (38, true, 0),
        (ENOENT, false, 1),
        (EPERM, false, 1),
        (22, false, 1),
    ];
    for (errno, again, given_up) in cases {
        let mut s = Session::new(watched());
        s.lustre(vec![archive(1, "")]);
        assert_eq!(requested(&s.forget(1)).len(), 1);
        s.answer_request(1, errno);
        assert_eq!(s.waiting(), u64::from(again), "{errno}");
        assert_eq!(requested(&s.pass(2)).len(), usize::from(again), "{errno}");
        assert_eq!(s.core.counters().given_up, given_up, "{errno}");
        if again {
            s.answer_request(1, 0);
            assert_eq!(s.waiting(), 0);
        }
    }
}

#[test]
fn one_that_comes_back_while_it_is_requested_again_stays() {
    for errno in [0, EPERM, EAGAIN] {
        let mut s = Session::new(watched());
        s.mover(1, "m0");
        assert_eq!(s.work(1, ANY), [0; 0]);
        s.connect(2);
        s.lock(2, Lock::Locked);
        s.lustre(vec![archive(1, "")]);
        assert_eq!(requested(&s.forget(1)).len(), 1);
        s.lustre(vec![archive(1, "")]);
        s.answer_request(1, errno);
        assert_eq!((s.waiting(), s.core.counters().doubtful), (1, 0), "{errno}");
        assert_eq!(cookies(&s.lock(2, Lock::Unlocked), 1), [1]);
    }
}

#[test]
fn a_restore_waits_until_it_comes_again() {
    // After how long it comes again, if it does.
    for back in [Some(10), Some(300), None] {
        let mut s = Session::new(watched());
        s.mover(1, "m0");
        s.lustre(vec![restore(1, "tag=a")]);
        let released = HS_EXISTS | HS_ARCHIVED | HS_RELEASED;
        let state = if back == Some(10) { Err(EAGAIN) } else { Ok(released) };
        assert_eq!(requested(&s.forget_with(1, state)), []);
        assert_eq!(s.work(1, ANY), [0; 0], "nobody gets what the MDT does not know");
        let mut effects = Vec::new();
        for _ in 0..back.unwrap_or(1000) {
            for cookie in kept(&s.pass(1)) {
                effects.extend(s.alive(cookie as u32, ENOENT));
            }
        }
        assert_eq!(requested(&effects), [], "a restore is never requested again");
        let counters = s.core.counters();
        match back {
            Some(_) => {
                assert_eq!((s.waiting(), counters.given_up), (1, 0), "{back:?}");
                // With another data FID, since the MDT may have kept the volatile one.
                let again = ActionItem { dfid: fid(77), ..restore(1, "tag=a") };
                let effects = s.lustre(vec![again]);
                assert_eq!(cookies(&effects, 1), [1], "{back:?}");
                s.done(1, 1, 77, 0);
                assert_eq!(s.core.counters().ended, 1);
                assert_eq!(s.core.counters().admitted, 1, "matched");
            }
            None => {
                assert_eq!((s.waiting(), counters.given_up), (0, 1));
                assert_eq!(s.core.counters().ended, 1);
            }
        }
    }
}

/// Mover and daemon died after the MDT had taken its end: nobody will ever tell.
#[test]
fn what_is_done_is_not_requested_again() {
    let clean = HS_EXISTS | HS_ARCHIVED;
    let cases = [
        (Action::Archive, Ok(clean)),
        (Action::Archive, Err(ENOENT)),
        (Action::Restore, Ok(clean)),
        (Action::Restore, Err(ENOENT)),
        (Action::Remove, Ok(0)),
    ];
    for (action, state) in cases {
        // Seen at once, or only when the MDT was asked for the second time.
        for at_once in [true, false] {
            let mut s = Session::new(watched());
            s.lustre(vec![item(action, 1, 1, "")]);
            if at_once {
                s.suspect(1, state);
            } else {
                s.suspect(1, Err(EAGAIN));
                s.pass(30);
                s.alive(1, ENOENT);
                s.pass_ms(1);
                s.answer_state(1, state);
            }
            s.pass(60);
            assert_eq!(requested(&s.visible), [], "{action} {state:?}");
            assert_eq!((s.waiting(), s.core.counters().doubtful), (0, 0), "{action} {state:?}");
            assert_eq!(s.store.last(), Some(&StoreOp::Remove { key: key(1) }));
        }
    }
}

/// A mover that is gone had ended it, and the MDT had said meanwhile that it does not know it: its file is looked at before
/// anything else that users want for it is done.
#[test]
fn what_a_lost_mover_may_have_ended_is_looked_at_first() {
    let mut s = Session::new(watched());
    s.mover(1, "m0");
    s.lustre(vec![archive(1, "")]);
    assert_eq!(s.work(1, ANY), [1]);
    s.alive(1, ENOENT);
    s.event(Event::Disconnected { conn: ConnId(1) });
    s.mover(2, "m0");
    assert_eq!(looked(&s.pass_ms(1)), [1]);
    assert_eq!(s.work(2, ANY), [0; 0]);
    s.answer_state(1, Ok(HS_EXISTS | HS_ARCHIVED));
    assert_eq!(s.waiting(), 0);
}

/// It comes again while its file is looked at: it is the MDT's.
#[test]
fn what_comes_again_while_it_is_looked_at_stays() {
    let mut s = Session::new(watched());
    s.mover(1, "m0");
    s.lustre(vec![restore(1, "")]);
    s.alive(1, ENOENT);
    s.pass_ms(1);
    s.lustre(vec![restore(1, "")]);
    s.answer_state(1, Ok(HS_EXISTS | HS_ARCHIVED));
    assert_eq!(s.work(1, ANY), [1]);
}

#[test]
fn what_runs_is_not_taken_from_its_mover() {
    // Kind, what its mover ends it with, and whether it is then looked into.
    let cases = [
        (Action::Archive, 0, false),
        (Action::Archive, ENOENT, true),
        // Its own error never reaches an MDT that has forgotten the request.
        (Action::Archive, 5, true),
        (Action::Archive, 125, false),
        (Action::Remove, ENOENT, true),
        (Action::Restore, 125, false),
    ];
    for (action, status, look) in cases {
        let mut s = Session::new(watched());
        s.mover(1, "m0");
        s.lustre(vec![item(action, 1, 1, "tag=a")]);
        assert_eq!(s.work(1, ANY), [1]);
        s.alive(1, ENOENT);
        s.alive(1, ENOENT);
        s.pass(60);
        assert_eq!(s.core.counters().running.iter().sum::<u64>(), 1, "it goes on");
        s.done(1, 1, 1, status);
        let effects = s.pass_ms(1);
        // Others may look at the file as well.
        assert!(!look || !looked(&effects).is_empty(), "{action} {status}");
        assert_eq!(s.waiting(), u64::from(look), "{action} {status}");
        assert_eq!(s.core.counters().done.iter().sum::<u64>(), 1);
        if look {
            assert!(s.store.contains(&StoreOp::Unassign { key: key(1) }));
            s.answer_state(1, Ok(if action == Action::Remove { HS_EXISTS | HS_ARCHIVED } else { HS_EXISTS }));
            assert_eq!(requested(&s.pass_ms(1)).len(), 1);
            s.answer_request(1, 0);
        }
        assert_eq!(s.waiting(), 0);
    }
}

/// A restore that was sent again while it ran is run again when it fails.
#[test]
fn a_running_restore_is_redelivered() {
    let mut s = Session::new(watched());
    s.mover(1, "m0");
    s.lustre(vec![restore(1, "")]);
    assert_eq!(s.work(1, ANY), [1]);
    s.alive(1, ENOENT);
    s.lustre(vec![restore(1, "")]);
    s.done(1, 1, 1, ENOENT);
    assert_eq!(s.work(1, ANY), [1]);
    s.done(1, 1, 1, 0);
    assert_eq!(s.core.counters().ended, 1);
}

/// The MDT restarted and the copy ended before a keepalive could tell.
#[test]
fn an_end_with_enoent_is_looked_into_once() {
    use Action::{Archive, Remove};
    let clean = HS_EXISTS | HS_ARCHIVED;
    let cases = [
        (Archive, Ok(HS_EXISTS), true),
        (Archive, Ok(0), true),
        (Archive, Ok(clean | HS_DIRTY), true),
        (Archive, Ok(clean), false),
        (Archive, Ok(clean | HS_RELEASED), false),
        (Archive, Err(ENOENT), false),
        (Remove, Ok(clean), true),
        (Remove, Ok(0), false),
        // The only copy there is.
        (Remove, Ok(clean | HS_RELEASED), false),
        (Remove, Err(ENOENT), true),
    ];
    for (action, state, again) in cases {
        let mut s = Session::new(watched());
        s.mover(1, "m0");
        s.lustre(vec![item(action, 1, 1, "")]);
        assert_eq!(s.work(1, ANY), [1]);
        s.done(1, 1, 1, ENOENT);
        assert_eq!(looked(&s.pass_ms(1)), [1]);
        s.answer_state(1, state);
        assert_eq!(requested(&s.pass_ms(1)).len(), usize::from(again), "{action} {state:?}");
        s.answer_request(1, 0);
        assert_eq!(s.waiting(), 0, "{action} {state:?}");
        // A copytool that always says so is believed the second time.
        s.lustre(vec![item(action, 1, 2, "")]);
        assert_eq!(s.work(1, ANY), [2]);
        s.done(1, 2, 1, ENOENT);
        assert_eq!(looked(&s.pass_ms(1)), [0; 0], "{action} {state:?}");
        assert_eq!(s.waiting(), 0);
    }
}

#[test]
fn what_cannot_be_looked_into_stays_ended() {
    // The answer, and after how many seconds it is given up.
    for (errno, patience) in [(38, 0), (107, 400)] {
        let mut s = Session::new(watched());
        s.mover(1, "m0");
        s.lustre(vec![archive(1, "")]);
        assert_eq!(s.work(1, ANY), [1]);
        s.done(1, 1, 1, ENOENT);
        for _ in 0..patience + 200 {
            for cookie in looked(&s.pass(1)) {
                s.answer_state(cookie as u32, Err(errno));
            }
        }
        assert_eq!(s.waiting(), 0, "{errno}");
        assert_eq!(requested(&s.visible), []);
    }
}

#[test]
fn a_doubtful_request_can_be_cancelled_and_claimed() {
    for cancel in [true, false] {
        let mut s = Session::new(watched());
        s.lustre(vec![archive(1, "")]);
        s.forget(1);
        if cancel {
            assert_eq!(endings(&s.lustre(vec![item(Action::Cancel, 1, 1, "")])), [(1, 125)]);
        } else {
            s.mover_with(1, "m0", vec![archive(1, "")]);
            assert_eq!(s.core.counters().running[2], 1);
        }
        // Whatever the MDT says now is too late.
        s.answer_request(1, 0);
        assert_eq!(s.core.counters().doubtful, 0);
        assert_eq!(s.core.counters().running[2], u64::from(!cancel));
    }
}

/// The one that was let go for a file is in doubt: the next one must not wait for it.
#[test]
fn a_doubtful_request_keeps_nobody_waiting() {
    let mut s = Session::new(watched());
    s.mover(1, "m0");
    s.lustre(vec![archive(1, ""), item(Action::Archive, 1, 2, ""), item(Action::Archive, 1, 3, "")]);
    assert_eq!(s.work(1, ANY), [1]);
    s.done(1, 1, 1, 0);
    let second = RequestKey { cookie: 2, fid: fid(1) };
    s.event(Event::LustreAnswered(LustreAnswer::KeptAlive { key: second, number: u64::MAX, errno: ENOENT }));
    assert_eq!(s.core.counters().doubtful, 1);
    assert_eq!(s.work(1, ANY), [3]);
}

/// New rules while a request is in doubt: it goes where it belongs by then.
#[test]
fn a_new_configuration_reaches_doubtful_requests() {
    let mut s = Session::new(watched());
    s.lustre(vec![archive(1, "tag=n0")]);
    s.suspect(1, Ok(HS_EXISTS));
    let new = HsmConfig { host_mappings: vec![any("tag=n0", &["m0"])], ..watched() };
    s.event(Event::Reconfigured(Box::new(new)));
    s.pass(30);
    s.alive(1, 0);
    s.mover(2, "m1");
    assert_eq!(s.work(2, ANY), [0; 0]);
    s.mover(1, "m0");
    assert_eq!(s.work(1, ANY), [1]);
}

/// The MDT has taken the end of a restore: it says twice that it does not know it.
fn is_heard(s: &mut Session) {
    assert!(!s.store.contains(&StoreOp::Remove { key: key(7) }));
    s.pass_ms(1);
    s.alive(7, ENOENT);
    s.pass(2);
    s.alive(7, ENOENT);
    assert_eq!(s.store.last(), Some(&StoreOp::Remove { key: key(7) }));
    assert_eq!((s.waiting(), endings(&s.visible)), (0, vec![]));
}

/// Found by the simulator: the MDT restarted and sent the restore again, we restarted and forgot that it had, and the end of
/// the attempt under way, which the MDT had refused, was taken for the end of the restore.
#[test]
fn a_recovered_restore_that_failed_is_asked_about() {
    for heard in [true, false] {
        let mut s = Session::new(HsmConfig { ask_lustre: true, ..watched() });
        let requests = vec![(ActionItem { timestamp: 1, ..restore(7, "") }, Some("m0".to_owned()))];
        s.event(Event::Recovered { requests, suspect: false });
        s.mover_with(1, "m0", vec![restore(7, "")]);
        s.done(1, 7, 7, 5);
        assert!(!s.store.contains(&StoreOp::Remove { key: key(7) }));
        assert_eq!(kept(&s.pass_ms(1)), [7]);
        s.alive(7, if heard { ENOENT } else { 0 });
        if heard {
            // Unless that was the answer to an earlier question.
            assert!(!s.store.contains(&StoreOp::Remove { key: key(7) }));
            assert_eq!(kept(&s.pass(2)), [7]);
            s.alive(7, ENOENT);
            assert_eq!(s.store.last(), Some(&StoreOp::Remove { key: key(7) }));
            assert_eq!(s.waiting(), 0);
        } else {
            assert_eq!(s.work(1, ANY), [7]);
            s.done(1, 7, 7, 5);
            is_heard(&mut s);
        }
    }
}

/// Found by the simulator: a restore failed, came again from its restarted MDT, and was claimed by the mover that had not
/// heard that its end was known. Its second word of the same end was taken for that of the new attempt.
#[test]
fn what_failed_after_a_claim_is_asked_about() {
    let mut s = Session::new(HsmConfig { ask_lustre: true, ..watched() });
    s.lustre(vec![restore(7, "")]);
    s.mover_with(1, "m0", vec![restore(7, "")]);
    s.done(1, 7, 7, 5);
    assert!(!s.store.contains(&StoreOp::Remove { key: key(7) }));
    assert_eq!(kept(&s.pass_ms(1)), [7]);
    s.alive(7, 0);
    assert_eq!(s.work(1, ANY), [7]);
    // This one was given out.
    s.done(1, 7, 7, 5);
    is_heard(&mut s);
}

/// Found by the simulator: the restore was given out again on the connection that its mover was about to lose, and with it the
/// answer to its first end. Its second word of that end was taken for that of the new attempt.
#[test]
fn what_failed_after_its_mover_came_back_is_asked_about() {
    let mut s = Session::new(HsmConfig { ask_lustre: true, ..watched() });
    s.lustre(vec![restore(7, "")]);
    s.mover_with(1, "m0", vec![restore(7, "")]);
    s.done(1, 7, 7, 5);
    s.pass_ms(1);
    s.alive(7, 0);
    assert_eq!(s.work(1, ANY), [7]);
    s.disconnect(1);
    s.mover_with(2, "m0", vec![restore(7, "")]);
    s.done(2, 7, 7, 5);
    assert!(!s.store.contains(&StoreOp::Remove { key: key(7) }));
    assert_eq!(kept(&s.pass_ms(1)), [7]);
    s.alive(7, 0);
    assert_eq!(s.work(2, ANY), [7]);
    s.done(2, 7, 7, 5);
    is_heard(&mut s);
}

/// An end with ENOENT is looked into once a day for each file and kind, but a mover that says that the MDT refused the end of
/// a copytool that succeeded is always believed.
#[test]
fn an_archive_that_the_mdt_forgot_twice_is_requested_twice() {
    for told in [true, false] {
        let mut s = Session::new(watched());
        s.mover(1, "m0");
        for cookie in [1, 2] {
            s.lustre(vec![ActionItem { fid: fid(1), dfid: fid(1), ..archive(cookie, "") }]);
            assert_eq!(s.work(1, ANY), [u64::from(cookie)]);
            let done = Done { cookie: cookie.into(), dfid: fid(1), status: ENOENT };
            s.message(1, if told { Message::Unheard(done) } else { Message::Done(done) });
            let asked = looked(&s.pass_ms(1)).len();
            assert_eq!(asked, usize::from(told || cookie == 1), "{told} {cookie}");
            if asked == 1 {
                let key = RequestKey { cookie: cookie.into(), fid: fid(1) };
                let state = Ok(FileState { states: HS_EXISTS, archive_id: 1 });
                s.event(Event::LustreAnswered(LustreAnswer::State { key, number: u64::MAX, state }));
                assert_eq!(requested(&s.pass_ms(1)).len(), 1);
                s.event(Event::LustreAnswered(LustreAnswer::Requested { key, number: u64::MAX, errno: 0 }));
            }
        }
    }
}

#[test]
fn an_older_answer_does_not_end_a_doubt() {
    let mut s = Session::new(watched());
    s.lustre(vec![archive(1, "")]);
    let mut first = None;
    for _ in 0..110 {
        first = first.or(s.pass(1).iter().find_map(|effect| match effect {
            Effect::AskLustre(LustreCall::KeepAlive { number, .. }) => Some(*number),
            _ => None,
        }));
    }
    let number = first.unwrap();
    // The MDT restarts meanwhile, and says to somebody else that it knows nothing.
    s.alive(1, ENOENT);
    assert_eq!(s.core.counters().doubtful, 1);
    s.event(Event::LustreAnswered(LustreAnswer::KeptAlive { key: key(1), number, errno: 0 }));
    assert_eq!(s.core.counters().doubtful, 1, "it knew it when it was asked, before that");
    s.alive(1, 0);
    assert_eq!(s.core.counters().doubtful, 0);
}

/// Found by the simulator: a mover told of the end of a REMOVE minutes after its MDT had taken it, and an archive that the user had
/// asked for since was taken for one of before, and dropped when the MDT had forgotten it.
#[test]
fn a_remove_ends_only_archives_of_before() {
    for (cookie, again) in [(4, false), (6, true)] {
        let mut s = Session::new(watched());
        s.mover(1, "m0");
        s.lustre(vec![item(Action::Remove, 1, 5, "")]);
        assert_eq!(s.work(1, ANY), [5]);
        s.lustre(vec![item(Action::Archive, 1, cookie, "")]);
        s.done(1, 5, 1, 0);
        let key = RequestKey { cookie, fid: fid(1) };
        let number = u64::MAX;
        for _ in 0..2 {
            s.event(Event::LustreAnswered(LustreAnswer::KeptAlive { key, number, errno: ENOENT }));
            s.pass_ms(1);
            let state = Ok(FileState { states: HS_EXISTS, archive_id: 1 });
            s.event(Event::LustreAnswered(LustreAnswer::State { key, number, state }));
            s.pass(30);
        }
        assert_eq!(requested(&s.visible).len(), usize::from(again), "{cookie}");
        assert_eq!(s.waiting(), u64::from(again), "{cookie}");
    }
}

/// Found by the simulator: a restore was ended with an error, came again from its restarted MDT, and was dropped when the MDT
/// restarted once more, though its file was released.
#[test]
fn a_restore_that_came_again_waits_for_its_mdt() {
    let mut s = Session::new(watched());
    s.mover(1, "m0");
    s.lustre(vec![restore(1, "")]);
    s.work(1, ANY);
    s.done(1, 1, 1, 5);
    s.lustre(vec![restore(1, "")]);
    s.suspect(1, Ok(HS_EXISTS | HS_ARCHIVED | HS_RELEASED));
    assert_eq!((s.waiting(), s.core.counters().doubtful), (1, 1));
    s.lustre(vec![restore(1, "")]);
    assert_eq!(s.work(1, ANY), [1]);
}

/// A copytool that works at the wrong MDT: the right one waits.
#[test]
fn a_restore_whose_end_was_refused_is_run_once_more_and_then_ended() {
    for (told, status) in [(true, ENOENT), (false, ENOENT), (false, 22)] {
        for knows in [true, false] {
            let mut s = Session::new(HsmConfig { ask_lustre: true, ..watched() });
            s.mover(1, "m0");
            s.lustre(vec![restore(7, "")]);
            let fail = |s: &mut Session| {
                assert_eq!(s.work(1, ANY), [7]);
                let done = Done { cookie: 7, dfid: fid(7), status };
                s.message(1, if told { Message::Unheard(done) } else { Message::Done(done) });
                assert_eq!(kept(&s.pass_ms(1)), [7]);
            };
            fail(&mut s);
            s.alive(7, 0);
            fail(&mut s);
            if knows {
                assert_eq!(endings(&s.alive(7, 0)), [(7, status)]);
            } else {
                s.alive(7, ENOENT);
                s.pass(2);
                assert_eq!(endings(&s.alive(7, ENOENT)), []);
            }
            assert!(s.store.contains(&StoreOp::Remove { key: key(7) }));
            assert_eq!(s.waiting(), 0);
            assert_eq!(notes(&s).keys().filter(|name| name.starts_with("owed/")).count(), usize::from(knows));
        }
    }
}

/// Its MDT has sent it again after its second end was refused: it is wanted.
#[test]
fn a_restore_that_comes_again_is_run_however_often_its_end_was_refused() {
    for (before, after) in [(true, false), (false, true)] {
        let mut s = Session::new(HsmConfig { ask_lustre: true, ..watched() });
        s.mover(1, "m0");
        s.lustre(vec![restore(7, "")]);
        for attempt in 0..3 {
            assert_eq!(s.work(1, ANY), [7], "{attempt}");
            if before {
                s.lustre(vec![restore(7, "")]);
            }
            s.message(1, Message::Unheard(Done { cookie: 7, dfid: fid(7), status: ENOENT }));
            s.pass_ms(1);
            if after {
                s.lustre(vec![restore(7, "")]);
            } else {
                s.alive(7, 0);
            }
        }
        assert_eq!((s.waiting(), endings(&s.visible)), (1, vec![]));
    }
}
