//! What is asked at the MDTs before requests are sent, and what the answers do.

use lustreapi_sys::abi::{HS_ARCHIVED, HS_DIRTY, HS_EXISTS, HS_RELEASED, HSM_FORCE_ACTION};

use super::*;
use crate::hsm::{FileState, LustreAnswer, LustreCall};

const ENOENT: i32 = 2;
const EAGAIN: i32 = 11;
const EBUSY: i32 = 16;
const EALREADY: i32 = 114;
const ECANCELED: i32 = 125;

fn asking() -> Session {
    Session::new(HsmConfig { ask_lustre: true, ..config() })
}

/// What is asked: `alive` and `state` with the cookie.
fn asked(effects: &[Effect]) -> Vec<(&'static str, u64)> {
    let ask = |effect: &Effect| match effect {
        Effect::AskLustre(LustreCall::KeepAlive { key, .. }) => Some(("alive", key.cookie)),
        Effect::AskLustre(LustreCall::State { key, .. }) => Some(("state", key.cookie)),
        _ => None,
    };
    effects.iter().filter_map(ask).collect()
}

fn alive(s: &mut Session, oid: u32, errno: i32) -> Vec<Effect> {
    s.event(Event::LustreAnswered(LustreAnswer::KeptAlive { key: key(oid), number: u64::MAX, errno }))
}

fn state(s: &mut Session, oid: u32, states: u32) -> Vec<Effect> {
    let state = Ok(FileState { states: states | HS_EXISTS, archive_id: 1 });
    s.event(Event::LustreAnswered(LustreAnswer::State { key: key(oid), number: u64::MAX, state }))
}

fn no_state(s: &mut Session, oid: u32, errno: i32) -> Vec<Effect> {
    s.event(Event::LustreAnswered(LustreAnswer::State { key: key(oid), number: u64::MAX, state: Err(errno) }))
}

#[test]
fn a_remove_is_sent_once_the_mdt_has_confirmed_it() {
    let mut s = asking();
    s.mover(1, "m0");
    assert_eq!(asked(&s.lustre(vec![remove(1, "")])), [], "nobody wants it yet");
    let effects = s.recv(1, ANY);
    assert_eq!(asked(&effects), [("alive", 1), ("state", 1)]);
    assert_eq!(cookies(&effects, 1), [0; 0]);
    assert_eq!(cookies(&alive(&mut s, 1, 0), 1), [0; 0], "one answer is not enough");
    assert_eq!(cookies(&state(&mut s, 1, HS_ARCHIVED), 1), [1]);
    assert_eq!(s.core.counters().asking, 0);
}

#[test]
fn a_remove_of_a_released_file_ends_with_an_error() {
    let mut s = asking();
    s.mover(1, "m0");
    s.lustre(vec![remove(1, ""), remove(2, "")]);
    s.recv(1, ANY);
    state(&mut s, 1, HS_ARCHIVED | HS_RELEASED);
    let effects = alive(&mut s, 1, 0);
    assert_eq!(endings(&effects), [(1, EBUSY)]);
    assert_eq!(cookies(&effects, 1), [0; 0]);
    assert!(s.store.contains(&StoreOp::Remove { key: key(1) }), "it is over");
    alive(&mut s, 2, 0);
    assert_eq!(
        cookies(&no_state(&mut s, 2, ENOENT), 1),
        [2],
        "the other file is gone: only its copy is left"
    );
    s.event(Event::LustreEnded { key: key(1), errno: 0 });
    let counters = s.core.counters();
    assert_eq!((counters.refused_removes, counters.done_cancel), (1, 0));
}

#[test]
fn without_a_lustre_nobody_is_asked() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.lustre(vec![remove(1, "")]);
    let effects = s.recv(1, ANY);
    assert_eq!((asked(&effects), cookies(&effects, 1)), (vec![], vec![1]));
}

#[test]
fn what_an_mdt_does_not_answer_waits_alone() {
    let mut s = asking();
    s.mover(1, "m0");
    s.lustre(vec![remove(1, ""), remove(2, ""), archive(3, ""), restore(4, "")]);
    assert_eq!(s.work(1, ANY), [4, 3], "restores and archives are not asked about");
    assert_eq!(asked(&s.recv(1, ANY)), [], "the questions are under way");
    alive(&mut s, 1, EAGAIN);
    no_state(&mut s, 1, EAGAIN);
    alive(&mut s, 2, 0);
    assert_eq!(cookies(&state(&mut s, 2, 0), 1), [2], "the other one went on");
    s.recv(1, ANY);
    assert_eq!(asked(&s.pass(1)), [("alive", 1), ("state", 1)], "asked again");
    alive(&mut s, 1, EAGAIN);
    state(&mut s, 1, 0);
    assert_eq!(asked(&s.pass_ms(1900)), [], "with a longer pause");
    assert_eq!(asked(&s.pass_ms(200)), [("alive", 1), ("state", 1)]);
    alive(&mut s, 1, 0);
    assert_eq!(cookies(&state(&mut s, 1, 0), 1), [1]);
}

#[test]
fn lost_answers_are_asked_for_again() {
    let mut s = asking();
    s.mover(1, "m0");
    s.lustre(vec![remove(1, "")]);
    s.recv(1, ANY);
    state(&mut s, 1, 0);
    assert_eq!(asked(&s.pass(599)), []);
    assert_eq!(asked(&s.pass(2)), [("alive", 1), ("state", 1)]);
    assert_eq!(cookies(&alive(&mut s, 1, 0), 1), [0; 0], "the state is too old");
    assert_eq!(cookies(&state(&mut s, 1, 0), 1), [1]);
}

#[test]
fn answers_count_for_a_short_time_only() {
    for (seconds, sent) in [(9, true), (11, false)] {
        let mut s = asking();
        s.mover(1, "m0");
        s.lustre(vec![remove(1, ""), remove(2, "")]);
        s.recv(1, limits(0, 0, 1));
        for oid in [1, 2] {
            alive(&mut s, oid, 0);
            state(&mut s, oid, 0);
        }
        s.pass(seconds);
        s.done(1, 1, 1, 0);
        let effects = s.recv(1, limits(0, 0, 1));
        assert_eq!(cookies(&effects, 1), if sent { vec![2] } else { vec![] }, "after {seconds} s");
        assert_eq!(asked(&effects).is_empty(), sent);
        if !sent {
            state(&mut s, 2, HS_RELEASED);
            assert_eq!(endings(&alive(&mut s, 2, 0)), [(2, EBUSY)]);
        }
    }
}

/// What the next mover needs is known when it asks, so that throughput does not hang on answers.
#[test]
fn removes_are_asked_about_ahead() {
    let mut s = asking();
    s.mover(1, "m0");
    s.lustre((1..=200).map(|oid| remove(oid, "")).collect());
    let effects = s.recv(1, limits(0, 0, 4));
    assert_eq!(asked(&effects).len(), 2 * 64, "not all of the queue");
    for oid in 1..=64 {
        alive(&mut s, oid, 0);
        state(&mut s, oid, 0);
    }
    let mut sent = vec![1];
    sent.extend(s.work(1, limits(0, 0, 4)));
    for done in 1..=60 {
        s.done(1, done, done as u32, 0);
        let work = s.work(1, limits(0, 0, 4));
        assert!(!work.is_empty(), "the remove after {done} had to wait");
        sent.extend(work);
    }
    assert_eq!(sent, (1..=64).collect::<Vec<u64>>(), "in order");
    assert!(asked(&s.visible).len() > 2 * 100, "and so on");
}

#[test]
fn a_user_may_cancel_it_while_it_is_asked_about() {
    let mut s = asking();
    s.mover(1, "m0");
    s.lustre(vec![remove(1, "")]);
    s.recv(1, ANY);
    state(&mut s, 1, 0);
    assert_eq!(endings(&alive(&mut s, 1, ECANCELED)), [(1, ECANCELED)]);

    s.lustre(vec![remove(2, "")]);
    s.lustre(vec![item(Action::Cancel, 2, 2, "")]);
    assert_eq!(cookies(&alive(&mut s, 2, 0), 1), [0; 0]);
    state(&mut s, 2, 0);
    assert_eq!(s.core.counters().pending, [0; 3]);
}

/// Whether it is asked for anew is decided elsewhere; this one is not sent.
#[test]
fn a_remove_that_its_mdt_does_not_know_is_not_sent() {
    let mut s = asking();
    s.mover(1, "m0");
    s.lustre(vec![remove(1, "")]);
    s.recv(1, ANY);
    state(&mut s, 1, 0);
    let effects = alive(&mut s, 1, ENOENT);
    assert_eq!(cookies(&effects, 1), [0; 0]);
    assert_eq!(endings(&effects), []);
    assert_eq!(s.core.counters().doubtful, 1);
}

/// Nobody wants it yet, and a keepalive finds that the MDT does not know it.
#[test]
fn what_ended_before_is_never_asked_for_again() {
    let mut s = asking();
    s.mover(1, "m0");
    s.lustre(vec![archive(1, "")]);
    assert_eq!(s.work(1, ANY), [1]);
    s.done(1, 1, 1, 0);
    s.lustre(vec![archive(1, ""), archive(2, "")]);
    alive(&mut s, 1, ENOENT);
    alive(&mut s, 2, ENOENT);
    let counters = s.core.counters();
    assert_eq!((counters.late_deliveries, counters.doubtful), (1, 1), "the other one is another matter");
}

/// An archive whose end was lost is held by the remove that came after it: it must not be done after that unless the MDT
/// still wants it.
#[test]
fn an_archive_from_before_a_remove_is_done_only_when_the_mdt_wants_it() {
    for known in [true, false] {
        let mut s = asking();
        s.mover(1, "m0");
        s.lustre(vec![item(Action::Remove, 1, 3, "")]);
        assert_eq!(s.work(1, ANY), [0; 0]);
        let (number, errno) = (u64::MAX, 0);
        let key = RequestKey { cookie: 3, fid: fid(1) };
        s.event(Event::LustreAnswered(LustreAnswer::KeptAlive { key, number, errno }));
        let state = Ok(FileState { states: HS_EXISTS | HS_ARCHIVED, archive_id: 1 });
        assert_eq!(
            cookies(&s.event(Event::LustreAnswered(LustreAnswer::State { key, number, state })), 1),
            [3]
        );
        s.lustre(vec![item(Action::Archive, 1, 2, "")]);
        s.done(1, 3, 1, 0);
        assert_eq!(s.work(1, ANY), [0; 0], "{known}");
        let key = RequestKey { cookie: 2, fid: fid(1) };
        let errno = if known { 0 } else { ENOENT };
        let answer = Event::LustreAnswered(LustreAnswer::KeptAlive { key, number: u64::MAX, errno });
        assert_eq!(cookies(&s.event(answer), 1), if known { vec![2] } else { vec![] });
        assert_eq!(s.core.counters().pending.iter().sum::<u64>(), 0, "{known}");
        assert_eq!(s.core.counters().doubtful, 0, "{known}");
    }
}

/// What another request did to the file makes earlier answers worthless.
#[test]
fn an_archive_that_stopped_since_makes_answers_old() {
    let mut s = asking();
    s.mover(1, "m0");
    let again = ActionItem { fid: fid(2), dfid: fid(2), ..archive(3, "") };
    s.lustre(vec![remove(1, ""), remove(2, "")]);
    s.recv(1, limits(1, 0, 1));
    for oid in [1, 2] {
        alive(&mut s, oid, 0);
        state(&mut s, oid, 0);
    }
    s.lustre(vec![again]);
    assert_eq!(s.work(1, limits(1, 0, 1)), [3], "the archive of the file of 2 is first");
    s.pass(1);
    s.done(1, 3, 2, 0);
    s.done(1, 1, 1, 0);
    let effects = s.recv(1, limits(1, 0, 1));
    assert_eq!(cookies(&effects, 1), [0; 0]);
    assert_eq!(asked(&effects), [("alive", 2), ("state", 2)]);
}

fn duplicate() -> (Session, ActionItem) {
    let mut s = asking();
    s.mover(1, "m0");
    let second = ActionItem { cookie: 100, ..archive(1, "") };
    s.lustre(vec![archive(1, ""), second.clone()]);
    assert_eq!(s.work(1, ANY), [1]);
    s.recv(1, ANY);
    (s, second)
}

fn state_of_second(s: &mut Session, states: u32, archive_id: u32) -> Vec<Effect> {
    let key = RequestKey { cookie: 100, fid: fid(1) };
    let state = Ok(FileState { states: states | HS_EXISTS, archive_id });
    s.event(Event::LustreAnswered(LustreAnswer::State { key, number: u64::MAX, state }))
}

#[test]
fn a_held_archive_is_sent_only_when_there_is_something_to_archive() {
    for (states, archive_id, status, sent) in [
        (HS_ARCHIVED, 1, 0, false),
        (HS_ARCHIVED, 1, 5, false),
        (HS_ARCHIVED | HS_DIRTY, 1, 0, true),
        (HS_ARCHIVED, 2, 0, true),
        (0, 0, 16, true),
    ] {
        let (mut s, _) = duplicate();
        let effects = s.done(1, 1, 1, status);
        assert_eq!(asked(&effects), [("state", 100)]);
        assert_eq!(cookies(&effects, 1), [0; 0]);
        let effects = state_of_second(&mut s, states, archive_id);
        assert_eq!(cookies(&effects, 1), if sent { vec![100] } else { vec![] }, "{states:#x} {archive_id}");
        assert_eq!(endings(&effects), if sent { vec![] } else { vec![(100, EALREADY)] });
    }
}

#[test]
fn a_forced_archive_is_sent() {
    let mut s = asking();
    s.mover(1, "m0");
    let second = ActionItem { cookie: 100, flags: HSM_FORCE_ACTION, ..archive(1, "") };
    s.lustre(vec![archive(1, ""), second]);
    assert_eq!(s.work(1, ANY), [1]);
    s.recv(1, ANY);
    assert_eq!(asked(&s.done(1, 1, 1, 0)), [("state", 100)]);
    assert_eq!(cookies(&state_of_second(&mut s, HS_ARCHIVED, 1), 1), [100]);
}

/// Another may have archived the file before the restart.
#[test]
fn a_recovered_archive_is_asked_about() {
    let mut s = asking();
    s.event(Event::Recovered {
        requests: vec![(archive(1, ""), None), (archive(2, ""), None)],
        suspect: false,
    });
    s.mover(1, "m0");
    assert_eq!(asked(&s.recv(1, ANY)), [("state", 1), ("state", 2)]);
    assert_eq!(endings(&state(&mut s, 1, HS_ARCHIVED | HS_RELEASED)), [(1, EALREADY)]);
    assert_eq!(cookies(&state(&mut s, 2, 0), 1), [2]);
}

/// Its mover died after the MDT had taken its end, before we heard of it.
#[test]
fn an_archive_that_lost_its_mover_is_not_repeated_when_it_was_done() {
    let mut s = asking();
    s.mover(1, "m0");
    s.mover(2, "m1");
    s.lustre(vec![archive(1, "")]);
    assert_eq!(s.work(1, ANY), [1]);
    s.recv(2, ANY);
    s.disconnect(1);
    assert_eq!(asked(&s.pass(601)), [("state", 1)]);
    assert_eq!(endings(&state(&mut s, 1, HS_ARCHIVED)), [(1, EALREADY)]);
}

#[test]
fn a_restore_asks_nothing_and_waits_for_no_archive() {
    let mut s = asking();
    s.mover(1, "m0");
    let restore = ActionItem { fid: fid(1), dfid: fid(1), ..restore(2, "") };
    s.lustre(vec![archive(1, "")]);
    assert_eq!(s.work(1, ANY), [1]);
    s.lustre(vec![restore]);
    let effects = s.recv(1, ANY);
    assert_eq!((asked(&effects), cookies(&effects, 1)), (vec![], vec![2]));
}

#[test]
fn what_comes_again_after_its_end_runs_only_when_the_mdt_wants_it() {
    type Make = fn(u32, &str) -> ActionItem;
    for (make, released, errno, sent) in [
        (remove as Make, false, ENOENT, false),
        (archive, false, ENOENT, false),
        (archive, false, 0, true),
        (restore, true, 0, true),
        (restore, true, ENOENT, false),
        (restore, false, ENOENT, false),
    ] {
        let mut s = asking();
        s.mover(1, "m0");
        s.lustre(vec![make(1, "")]);
        s.recv(1, ANY);
        alive(&mut s, 1, 0);
        state(&mut s, 1, 0);
        s.done(1, 1, 1, 0);
        s.recv(1, ANY);
        let effects = s.lustre(vec![make(1, "")]);
        assert_eq!(cookies(&effects, 1), [0; 0]);
        assert!(asked(&effects).contains(&("alive", 1)));
        state(&mut s, 1, if released { HS_RELEASED } else { 0 });
        let effects = alive(&mut s, 1, errno);
        assert_eq!(cookies(&effects, 1), if sent { vec![1] } else { vec![] });
        let waits = released && !sent;
        let counters = s.core.counters();
        assert_eq!(counters.pending.iter().sum::<u64>(), u64::from(waits));
        assert_eq!(counters.late_deliveries, u64::from(!sent && !waits));
    }
}

#[test]
fn requests_set_aside_are_shown() {
    let mut s = asking();
    s.mover(1, "m0");
    s.lustre(vec![remove(1, "")]);
    s.recv(1, ANY);
    s.connect(9);
    let status: serde_json::Value = serde_json::from_str(&s.status(9, 6)).unwrap();
    assert_eq!(status["waiting_remove"][0]["hai_cookie"], 1);
    assert_eq!(status["pending_remove"], 1);
}

/// An MDT that is away is not asked about everything that is queued.
#[test]
fn a_limit_on_what_is_asked_about() {
    let mut s = asking();
    s.mover(1, "m0");
    s.lustre((1..=5000).map(|oid| remove(oid, "")).collect());
    s.lustre(vec![archive(6000, "")]);
    s.recv(1, limits(0, 0, 100));
    // Not through the session, which checks everything each time.
    let mut effects = Effects::default();
    for oid in 1..=5000 {
        let key = key(oid);
        for answer in [
            LustreAnswer::KeptAlive { key, number: u64::MAX, errno: EAGAIN },
            LustreAnswer::State { key, number: u64::MAX, state: Err(EAGAIN) },
        ] {
            s.core.handle(s.now, Event::LustreAnswered(answer), &mut effects);
        }
    }
    s.core.check();
    let asking = s.core.counters().asking;
    assert!((64..=4096).contains(&asking), "{asking}");
    assert_eq!(s.core.counters().pending, [0, 5000, 1]);
}

/// The error of an ARCHIVE makes an archived file dirty, and a released one unreadable.
#[test]
fn a_cancel_of_what_may_be_archived_does_not_make_the_file_dirty() {
    let (mut s, second) = duplicate();
    s.done(1, 1, 1, 0);
    let cancel = |item: &ActionItem| ActionItem { action: Action::Cancel, ..item.clone() };
    assert_eq!(endings(&s.lustre(vec![cancel(&second)])), [(100, EALREADY)]);
    let other = archive(2, "");
    s.lock(1, Lock::Locked);
    s.lustre(vec![other.clone()]);
    assert_eq!(endings(&s.lustre(vec![cancel(&other)])), [(2, ECANCELED)]);
}

/// Found by the simulator: an operator queued an archive that the MDT had handed to who we were before; the file had been
/// archived and released since, and the end of its cancel locked the data away.
#[test]
fn the_cancel_of_a_queued_archive_is_harmless() {
    for queued in [true, false] {
        let mut s = Session::new(HsmConfig { ask_lustre: true, ..config() });
        s.connect(1);
        if queued {
            s.queue(1, vec![archive(1, "")]);
        } else {
            s.lustre(vec![archive(1, "")]);
        }
        let effects = s.lustre(vec![ActionItem { action: Action::Cancel, ..archive(1, "") }]);
        let ends = effects.iter().filter_map(|effect| match effect {
            Effect::EndAtLustre { errno, .. } => Some(*errno),
            _ => None,
        });
        // EALREADY leaves the file as it is.
        assert_eq!(ends.collect::<Vec<_>>(), [if queued { 114 } else { 125 }]);
    }
}

/// Found by the simulator: the mover that had an earlier archive had ended it, and was cut off before it could say so.
#[test]
fn the_cancel_of_an_archive_is_harmless_while_a_mover_has_another_one() {
    for (other, errno) in [(Action::Archive, 114), (Action::Remove, 125)] {
        let mut s = Session::new(HsmConfig { ask_lustre: true, ..config() });
        s.mover(1, "m0");
        s.lustre(vec![item(other, 1, 1, "")]);
        s.work(1, ANY);
        if other == Action::Remove {
            alive(&mut s, 1, 0);
            state(&mut s, 1, HS_ARCHIVED);
        }
        assert_eq!(s.core.counters().running.iter().sum::<u64>(), 1);
        s.lustre(vec![item(Action::Archive, 1, 2, "")]);
        assert_eq!(endings(&s.lustre(vec![item(Action::Cancel, 1, 2, "")])), [(2, errno)]);
    }
}

/// The number of the questions among these effects.
fn number(effects: &[Effect]) -> u64 {
    let of = |effect: &Effect| match effect {
        Effect::AskLustre(LustreCall::KeepAlive { number, .. }) => Some(*number),
        _ => None,
    };
    effects.iter().find_map(of).unwrap()
}

#[test]
fn an_answer_to_an_older_question_does_not_count_for_a_younger_one() {
    let mut s = asking();
    s.mover(1, "m0");
    s.recv(1, ANY);
    let first = number(&s.lustre(vec![remove(1, "")]));
    // It ends, comes again, and is asked about anew; only then the MDT answers the first question.
    s.lustre(vec![item(Action::Cancel, 1, 1, "")]);
    s.event(Event::LustreEnded { key: key(1), errno: 0 });
    let second = number(&s.lustre(vec![remove(1, "")]));
    assert!(second > first);
    let clean = Ok(FileState { states: HS_ARCHIVED | HS_EXISTS, archive_id: 1 });
    let answer = |s: &mut Session, number| {
        let mut effects =
            s.event(Event::LustreAnswered(LustreAnswer::KeptAlive { key: key(1), number, errno: 0 }));
        effects.extend(s.event(Event::LustreAnswered(LustreAnswer::State {
            key: key(1),
            number,
            state: clean,
        })));
        effects.iter().filter(|effect| matches!(effect, Effect::Work { .. })).count()
    };
    assert_eq!(answer(&mut s, first), 0, "that was said of the one that has ended");
    assert_eq!(answer(&mut s, second), 1);
}
