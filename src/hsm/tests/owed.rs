//! Ends that are owed to the MDTs.

use lustreapi_sys::abi::{HS_ARCHIVED, HS_EXISTS, HS_RELEASED};

use super::keepalive::watched;
use super::*;
use crate::hsm::FileState;

const EAGAIN: i32 = 11;
const EBUSY: i32 = 16;

fn asking() -> HsmConfig {
    HsmConfig { ask_lustre: true, ..watched() }
}

fn cancel(oid: u32) -> ActionItem {
    item(Action::Cancel, oid, u64::from(oid), "")
}

/// Names of the ends that the store says are owed.
fn owed(s: &Session) -> Vec<String> {
    notes(s).into_keys().filter(|name| name.starts_with("owed/")).collect()
}

/// A daemon that starts with what the store of this one holds; with the notes come these requests.
fn restarted(s: &Session, requests: Vec<ActionItem>) -> Session {
    let mut next = Session::new(asking());
    let requests = requests.into_iter().map(|item| (item, None)).collect();
    next.event(Event::Recovered { requests, suspect: false });
    next.event(Event::RecoveredNotes(notes(s).into_iter().collect()));
    // It is the same store.
    next.store = s.store.clone();
    next
}

/// Each way in which a request ends without a mover, and what its MDT is to be told of file 1.
fn ended(how: &str) -> (Session, Action, i32) {
    let mut s = Session::new(asking());
    let (action, errno) = match how {
        "cancel of what waits" => {
            s.lustre(vec![archive(1, ""), cancel(1)]);
            (Action::Cancel, 125)
        }
        "cancel of what is not here" => {
            s.lustre(vec![cancel(1)]);
            // It may be an archive that has succeeded.
            (Action::Cancel, 114)
        }
        "an operator's cancel" => {
            s.lustre(vec![restore(1, "")]);
            s.cancel(Select::default(), false);
            (Action::Restore, 38)
        }
        "refused" => {
            s.mover(1, "m0");
            s.lustre(vec![remove(1, "")]);
            s.work(1, ANY);
            let state = FileState { states: HS_EXISTS | HS_ARCHIVED | HS_RELEASED, archive_id: 1 };
            let (key, number) = (key(1), u64::MAX);
            s.event(Event::LustreAnswered(LustreAnswer::KeptAlive { key, number, errno: 0 }));
            s.event(Event::LustreAnswered(LustreAnswer::State { key, number, state: Ok(state) }));
            (Action::Remove, EBUSY)
        }
        _ => {
            s.event(Event::Reconfigured(Box::new(HsmConfig {
                stranded_timeout: Duration::from_secs(60),
                ..asking()
            })));
            s.lustre(vec![restore(1, "")]);
            s.pass(120);
            (Action::Restore, 110)
        }
    };
    (s, action, errno)
}

const WAYS: [&str; 5] =
    ["cancel of what waits", "cancel of what is not here", "an operator's cancel", "refused", "stranded"];

#[test]
fn an_end_is_owed_until_the_mdt_has_it_over_restarts() {
    for how in WAYS {
        let (mut s, action, errno) = ended(how);
        assert_eq!(endings(&s.visible), [(1, errno)], "{how}");
        assert_eq!(owed(&s), ["owed/[0x200000401:0x1:0x0]/0x1"], "{how}");
        // No crash comes between the two.
        let note = s
            .store
            .iter()
            .position(|op| matches!(op, StoreOp::Note { name, .. } if name.starts_with("owed")));
        let gone = s.store.iter().position(|op| *op == StoreOp::Remove { key: key(1) });
        assert!(gone.is_none_or(|gone| note.unwrap() < gone), "{how}");
        s.event(Event::LustreEnded { key: key(1), errno: EAGAIN });
        assert_eq!(owed(&s).len(), 1, "{how}");

        // What a cancel was about is not known any more.
        let errno = if action == Action::Cancel { 114 } else { errno };
        let mut next = restarted(&s, Vec::new());
        let given = next.event(Event::Tick);
        let told: Vec<_> = given
            .iter()
            .filter_map(|effect| match effect {
                Effect::EndAtLustre { item, errno } => Some((item.key(), item.action, *errno)),
                _ => None,
            })
            .collect();
        assert_eq!(told, [(key(1), action, errno)], "{how}");
        next.event(Event::LustreEnded { key: key(1), errno: EAGAIN });
        assert_eq!(endings(&next.pass(5)), [(1, errno)], "{how}");
        assert_eq!(owed(&next).len(), 1, "{how}");
        next.event(Event::LustreEnded { key: key(1), errno: 0 });
        assert_eq!(owed(&next), [""; 0], "{how}");
        assert_eq!((next.core.counters().ending, endings(&next.pass(20))), (0, vec![]), "{how}");
    }
}

#[test]
fn an_end_that_the_mdt_refuses_is_owed_no_longer() {
    for errno in [2, 22] {
        let (mut s, ..) = ended(WAYS[0]);
        s.event(Event::LustreEnded { key: key(1), errno });
        assert_eq!(owed(&s), [""; 0], "{errno}");
    }
}

/// The mover that had it when it was cancelled comes back.
#[test]
fn what_is_owed_its_end_cannot_be_claimed() {
    let (s, ..) = ended(WAYS[0]);
    let mut next = restarted(&s, Vec::new());
    let features = crate::hsm::event::Features { lease: true, ..Default::default() };
    next.connect(1);
    let hai_list = Some(vec![archive(1, "")]);
    let effects = next.ehlo(1, Ehlo { id: Some("m0".into()), hai_list, features, ..Ehlo::default() });
    let refused = replies(&effects, 1).into_iter().any(|reply| match reply {
        Reply::Ehlo(reply) => reply.refused == [key(1)],
        _ => false,
    });
    assert!(refused, "{effects:?}");
}

/// The error of an archive would lock a file that was archived and released since.
#[test]
fn an_archive_is_ended_harmlessly_after_a_restart() {
    let mut s =
        Session::new(HsmConfig { ask_lustre: true, stranded_timeout: Duration::from_secs(60), ..watched() });
    s.lustre(vec![archive(1, "")]);
    s.pass(120);
    assert_eq!(endings(&s.visible), [(1, 110)]);
    assert_eq!(endings(&restarted(&s, Vec::new()).event(Event::Tick)), [(1, 114)]);
}

/// Found by the simulator: an MDT was slow to take the error of a cancelled archive. The file was archived and released meanwhile,
/// and the error made it dirty.
#[test]
fn no_archive_is_given_out_while_the_end_of_another_is_owed() {
    for (next, waits) in [(Action::Archive, true), (Action::Restore, false)] {
        let mut s = Session::new(asking());
        s.mover(1, "m0");
        s.lustre(vec![archive(1, ""), cancel(1)]);
        assert_eq!(endings(&s.visible), [(1, 125)]);
        s.lustre(vec![item(next, 1, 2, "")]);
        let key = RequestKey { cookie: 2, fid: fid(1) };
        let state = Ok(FileState { states: HS_EXISTS, archive_id: 1 });
        let answer = || Event::LustreAnswered(LustreAnswer::State { key, number: u64::MAX, state });
        assert_eq!(s.work(1, ANY), if waits { vec![] } else { vec![2] });
        assert_eq!(cookies(&s.event(answer()), 1), [0; 0]);
        s.event(Event::LustreEnded { key: super::key(1), errno: EAGAIN });
        s.pass(40);
        assert_eq!(cookies(&s.event(answer()), 1), [0; 0], "it is still owed");
        s.event(Event::LustreEnded { key: super::key(1), errno: 0 });
        assert_eq!(cookies(&s.pass(40), 1), if waits { vec![2] } else { vec![] });
    }
}

/// A store that lost something may have the request and the note.
#[test]
fn a_note_whose_request_is_there_means_nothing() {
    let (s, ..) = ended(WAYS[2]);
    let mut next = restarted(&s, vec![ActionItem { timestamp: 1, ..restore(1, "") }]);
    assert_eq!(endings(&next.event(Event::Tick)), []);
    assert_eq!(owed(&next), [""; 0]);
    assert_eq!(next.core.counters().pending[0], 1);
}

#[test]
fn notes_that_cannot_be_read_do_no_harm() {
    let mut s = Session::new(asking());
    let good = "1 23 125 0 1";
    for (name, value) in [
        ("owed/[0x200000401:0x1:0x0]/0x1", "2 23 125 0 1"),
        ("owed/[0x200000401:0x1:0x0]/0x1", "1 23 0 0 1"),
        ("owed/[0x200000401:0x1:0x0]/0x1", "1 23 -5 0 1"),
        ("owed/[0x200000401:0x1:0x0]/0x1", "1 10 125 0 1"),
        ("owed/[0x200000401:0x1:0x0]/0x1", "1 23 125 0"),
        ("owed/[0x200000401:0x1:0x0]/0x1", "1 23 125 0 1 2"),
        ("owed/[0x200000401:0x1:0x0]/0x1", ""),
        ("owed/[0x200000401:0x1:0x0]/1", good),
        ("owed/0x1", good),
        ("owed/", good),
    ] {
        s.event(Event::RecoveredNotes(vec![(name.into(), value.into())]));
    }
    assert_eq!(endings(&s.event(Event::Tick)), []);
    assert_eq!(s.core.counters().ending, 0);
}
