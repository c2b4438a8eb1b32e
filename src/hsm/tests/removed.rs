//! Copies that are gone although the MDT does not know it.

use lustreapi_sys::abi::{HS_ARCHIVED, HS_EXISTS, HS_RELEASED};

use super::keepalive::{looked, requested, watched};
use super::*;
use crate::hsm::FileState;

const ENOENT: i32 = 2;
const EAGAIN: i32 = 11;
const EBUSY: i32 = 16;
const ECANCELED: i32 = 125;
const ARCHIVED: u32 = HS_EXISTS | HS_ARCHIVED;

fn asking() -> HsmConfig {
    HsmConfig { ask_lustre: true, ..watched() }
}

/// A REMOVE of file 1 with this cookie.
fn again(cookie: u64) -> ActionItem {
    item(Action::Remove, 1, cookie, "")
}

impl Session {
    /// What the MDT says of the request of file 1 with this cookie.
    fn says(&mut self, cookie: u64, alive: i32, states: u32) -> Vec<Effect> {
        let key = RequestKey { cookie, fid: fid(1) };
        let mut all = self.event(Event::LustreAnswered(LustreAnswer::KeptAlive {
            key,
            number: u64::MAX,
            errno: alive,
        }));
        let state = Ok(FileState { states, archive_id: 1 });
        all.extend(self.event(Event::LustreAnswered(LustreAnswer::State { key, number: u64::MAX, state })));
        all.extend(self.pass_ms(1));
        all
    }

    fn unheard(&mut self, cookie: u64, errno: i32) -> Vec<Effect> {
        let mut all = self.message(1, Message::Unheard(Done { cookie, dfid: fid(1), status: errno }));
        all.extend(self.pass_ms(1));
        all
    }

    fn told(&mut self, cookie: u64, errno: i32) -> Vec<Effect> {
        let mut all = self.event(Event::LustreEnded { key: RequestKey { cookie, fid: fid(1) }, errno });
        all.extend(self.pass_ms(1));
        all
    }

    fn known(&self) -> u64 {
        let counters = self.core.counters();
        counters.pending.iter().chain(&counters.running).sum()
    }
}

/// A mover has removed the copy of file 1, and its MDT had restarted: it was asked for the REMOVE again.
fn removed_and_asked_again() -> Session {
    let mut s = Session::new(asking());
    s.mover(1, "m0");
    s.lustre(vec![remove(1, "")]);
    s.recv(1, ANY);
    assert_eq!(cookies(&s.says(1, 0, ARCHIVED), 1), [1]);
    assert_eq!(looked(&s.unheard(1, ENOENT)), [1]);
    assert_eq!(requested(&s.says(1, ENOENT, ARCHIVED)).len(), 1);
    assert_eq!(s.known(), 1, "until the MDT has taken it");
    s.answer_request(1, 0);
    assert_eq!((s.known(), notes(&s).len()), (0, 1), "what happened is durable");
    s
}

#[test]
fn a_remove_that_is_done_is_ended_without_a_mover() {
    let mut s = removed_and_asked_again();
    // Nobody waits for work.
    s.disconnect(1);
    let asked = s.lustre(vec![again(100)]);
    assert_eq!(looked(&asked), [100]);
    assert_eq!(endings(&s.says(100, 0, ARCHIVED)), [(100, 0)]);
    assert_eq!(s.known(), 1, "until the MDT has taken it");
    s.told(100, 0);
    assert_eq!((s.known(), notes(&s).len(), s.core.counters().removes_told), (0, 0, 1));
    // What comes later is about another copy.
    s.mover(2, "m1");
    s.lustre(vec![again(101)]);
    s.recv(2, ANY);
    assert_eq!(cookies(&s.says(101, 0, ARCHIVED), 2), [101]);
}

/// The daemon is killed at either of two moments: the next one knows what the last one knew.
#[test]
fn a_restart_remembers_it() {
    for arrived in [false, true] {
        let mut s = removed_and_asked_again();
        if arrived {
            s.lustre(vec![again(100)]);
        }
        let mut next = Session::new(asking());
        if arrived {
            let requests = vec![(ActionItem { timestamp: 1, ..again(100) }, None)];
            next.event(Event::Recovered { requests, suspect: false });
        }
        next.event(Event::RecoveredNotes(notes(&s).into_iter().collect()));
        next.store = s.store;
        next.mover(1, "m0");
        if !arrived {
            next.lustre(vec![again(100)]);
        }
        assert_eq!(next.work(1, ANY), [0; 0]);
        assert_eq!(endings(&next.says(100, 0, ARCHIVED)), [(100, 0)], "{arrived}");
        next.told(100, 0);
        assert_eq!((next.known(), notes(&next).len()), (0, 0));
    }
}

/// It may have made a copy, which somebody has to remove.
#[test]
fn an_archive_in_between_makes_the_next_remove_a_mover_s() {
    let mut s = removed_and_asked_again();
    s.lustre(vec![item(Action::Archive, 1, 50, "")]);
    assert_eq!(s.work(1, ANY), [50]);
    assert_eq!(notes(&s).len(), 0);
    s.lustre(vec![again(100)]);
    s.done(1, 50, 1, 0);
    s.recv(1, ANY);
    let effects = s.says(100, 0, ARCHIVED);
    assert_eq!((cookies(&effects, 1), endings(&effects)), (vec![100], vec![]));
}

#[test]
fn another_archive_s_copy_is_still_there() {
    let mut s = removed_and_asked_again();
    s.lustre(vec![ActionItem { archive_id: 2, ..again(100) }]);
    s.recv(1, ANY);
    let effects = s.says(100, 0, ARCHIVED);
    assert_eq!((cookies(&effects, 1), endings(&effects)), (vec![100], vec![]));
}

/// The MDT cannot take the end now, or has restarted once more.
#[test]
fn the_mdt_is_told_until_it_has_taken_it() {
    // What it said to the mover, and to the first try of ours.
    for (first, second) in [(EAGAIN, EAGAIN), (107, ENOENT), (EAGAIN, 0)] {
        let mut s = Session::new(asking());
        s.mover(1, "m0");
        s.lustre(vec![remove(1, "")]);
        s.recv(1, ANY);
        s.says(1, 0, ARCHIVED);
        assert_eq!(endings(&s.unheard(1, first)), [(1, 0)], "the same request is ended");
        let mut then = s.told(1, second);
        then.extend(s.pass(2));
        match second {
            0 => assert_eq!((s.known(), notes(&s).len()), (0, 0)),
            ENOENT => {
                assert_eq!(looked(&then), [1]);
                assert_eq!(requested(&s.says(1, ENOENT, ARCHIVED)).len(), 1);
                s.answer_request(1, 0);
                s.lustre(vec![again(100)]);
                assert_eq!(endings(&s.says(100, 0, ARCHIVED)), [(100, 0)]);
            }
            _ => {
                assert_eq!(endings(&then), [(1, 0)]);
                s.told(1, 0);
                assert_eq!((s.known(), notes(&s).len()), (0, 0));
            }
        }
    }
}

/// The data is lost then. Nobody may say that all is well.
#[test]
fn a_file_that_was_released_meanwhile_is_not_ended_with_success() {
    let mut s = removed_and_asked_again();
    s.lustre(vec![again(100)]);
    assert_eq!(endings(&s.says(100, 0, ARCHIVED | HS_RELEASED)), [(100, EBUSY)]);

    let mut s = Session::new(asking());
    s.mover(1, "m0");
    s.lustre(vec![remove(1, "")]);
    s.recv(1, ANY);
    s.says(1, 0, ARCHIVED);
    s.unheard(1, ENOENT);
    assert_eq!(requested(&s.says(1, ENOENT, ARCHIVED | HS_RELEASED)), []);
    assert_eq!((s.known(), notes(&s).len()), (0, 0));
}

/// The file must not stay archived for the MDT, whatever the user or the operator wanted.
#[test]
fn a_cancel_comes_too_late() {
    for operator in [false, true] {
        let mut s = removed_and_asked_again();
        s.lustre(vec![again(100)]);
        if operator {
            let (_, effects) = s.cancel(Select::default(), false);
            assert_eq!(endings(&effects), []);
        } else {
            assert_eq!(endings(&s.lustre(vec![item(Action::Cancel, 1, 100, "")])), []);
        }
        assert_eq!(endings(&s.says(100, ECANCELED, ARCHIVED)), [(100, 0)]);
        s.told(100, 0);
        assert_eq!(s.known(), 0);
    }
}

#[test]
fn what_nobody_asks_for_again_is_forgotten_in_the_end() {
    let mut s = removed_and_asked_again();
    s.pass(8 * 86_400);
    s.lustre(vec![again(100)]);
    s.recv(1, ANY);
    assert_eq!(cookies(&s.says(100, 0, ARCHIVED), 1), [100]);
    // The next one that is noted clears it away.
    s.unheard(100, ENOENT);
    assert_eq!(notes(&s).len(), 1);
}

/// C movers cannot say it: for them an ENOENT may be their copytool's own.
#[test]
fn a_plain_error_says_nothing_about_the_copy() {
    let mut s = Session::new(asking());
    s.mover(1, "m0");
    s.lustre(vec![remove(1, "")]);
    s.recv(1, ANY);
    s.says(1, 0, ARCHIVED);
    s.done(1, 1, 1, ENOENT);
    s.pass_ms(1);
    s.says(1, ENOENT, ARCHIVED);
    s.answer_request(1, 0);
    assert_eq!(notes(&s).len(), 0);
    s.lustre(vec![again(100)]);
    s.recv(1, ANY);
    let effects = s.says(100, 0, ARCHIVED);
    assert_eq!((cookies(&effects, 1), endings(&effects)), (vec![100], vec![]));
}
