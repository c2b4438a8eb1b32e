//! What the daemon asks of MDTs, each ioctl as it makes it, answered by the embedded Lustre and judged by its ledger.
//!
//! The ioctls reach the embedded Lustre through its preloaded library, so each test runs itself again with that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use coordinatool::hsm::{Action, ActionItem, FileState, LustreAnswer, LustreCall, RequestKey};
use coordinatool::lustre::calls::Calls;
use coordinatool::lustre::kuc::Copytool;
use coordinatool::lustre::link::{CurrentMount, FromLustre, Tell};
use coordinatool::lustre::list;
use coordinatool::lustre::mount::Mount;
use harness::ledger::Status;
use harness::{Control, FSNAME, FileSet, Programs, RELEASED, Request, TestDirectory, Testbed, patience};
use lustreapi_sys::Fid;

const CHILD: &str = "COORDINATOOL_TEST_PRELOADED";

/// Runs the test of this name again with the embedded Lustre's library. Returns whether this is already there.
fn preloaded(test: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let libraries = TestDirectory::new("preload");
    let library = Programs::find().provide_liblustreapi(libraries.path());
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("LD_PRELOAD", library)
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} with the library preloaded: {status}");
    false
}

/// What the daemon has of Lustre: a copytool that is registered and the calls.
struct Side {
    calls: Calls,
    copytool: Copytool,
    told: Receiver<FromLustre>,
    items: VecDeque<ActionItem>,
    answers: Vec<FromLustre>,
}

impl Side {
    fn start(bed: &Testbed) -> Self {
        let (send, told) = channel();
        let tell: Tell = Arc::new(move |message| drop(send.send(message)));
        let mount = CurrentMount::new(Mount::open(bed.mount(0), None).unwrap());
        let calls = Calls::start(mount.clone(), Arc::clone(&tell)).unwrap();
        let copytool = Copytool::start(mount, Vec::new(), tell).unwrap();
        Self { calls, copytool, told, items: VecDeque::new(), answers: Vec::new() }
    }

    fn take(&mut self) {
        match self.told.recv_timeout(patience()).expect("Lustre says something") {
            FromLustre::List(bytes) => self.items.extend(list::read(&bytes, FSNAME)),
            other => self.answers.push(other),
        }
    }

    /// The next request that an MDT hands over.
    fn item(&mut self) -> ActionItem {
        loop {
            if let Some(item) = self.items.pop_front() {
                return item;
            }
            self.take();
        }
    }

    fn answer(&mut self, wanted: impl Fn(&FromLustre) -> bool) -> FromLustre {
        loop {
            if let Some(at) = self.answers.iter().position(&wanted) {
                return self.answers.remove(at);
            }
            self.take();
        }
    }

    fn keep_alive(&mut self, key: RequestKey) -> i32 {
        self.calls.ask(LustreCall::KeepAlive { key, number: 0 });
        self.kept_alive(key)
    }

    fn kept_alive(&mut self, wanted: RequestKey) -> i32 {
        let is = |told: &FromLustre| matches!(told, FromLustre::Answered(LustreAnswer::KeptAlive { key, .. }) if *key == wanted);
        match self.answer(is) {
            FromLustre::Answered(LustreAnswer::KeptAlive { errno, .. }) => errno,
            other => panic!("{other:?}"),
        }
    }

    fn state(&mut self, key: RequestKey) -> Result<FileState, i32> {
        self.calls.ask(LustreCall::State { key, number: 0 });
        let is = |told: &FromLustre| matches!(told, FromLustre::Answered(LustreAnswer::State { key: other, .. }) if *other == key);
        match self.answer(is) {
            FromLustre::Answered(LustreAnswer::State { state, .. }) => state,
            other => panic!("{other:?}"),
        }
    }

    fn request(&mut self, item: &ActionItem) -> i32 {
        self.calls.ask(LustreCall::Request { item: Box::new(item.clone()), number: 0 });
        let is = |told: &FromLustre| matches!(told, FromLustre::Answered(LustreAnswer::Requested { key, .. }) if *key == item.key());
        match self.answer(is) {
            FromLustre::Answered(LustreAnswer::Requested { errno, .. }) => errno,
            other => panic!("{other:?}"),
        }
    }

    fn end(&mut self, item: &ActionItem, with: i32) -> i32 {
        self.calls.end(item.clone(), with);
        self.ended(item.key())
    }

    fn ended(&mut self, wanted: RequestKey) -> i32 {
        let is = |told: &FromLustre| matches!(told, FromLustre::Ended { key, .. } if *key == wanted);
        match self.answer(is) {
            FromLustre::Ended { errno, .. } => errno,
            other => panic!("{other:?}"),
        }
    }
}

/// A request for a file that nobody asked for.
fn invented(cookie: u64, fid: Fid) -> ActionItem {
    ActionItem::new(Action::Archive, fid, cookie, 0)
}

fn fid_of(files: &FileSet<'_>) -> Fid {
    files.fids()[0].parse().unwrap()
}

#[test]
fn a_keepalive_tells_what_the_mdt_knows() {
    if !preloaded("a_keepalive_tells_what_the_mdt_knows") {
        return;
    }
    let bed = Testbed::start("calls-alive");
    let mut side = Side::start(&bed);
    let files = FileSet::create(&bed, 0..2);
    files.archive(&Request::data("tag=a"));
    let (first, second) = (side.item(), side.item());
    assert_eq!((side.keep_alive(first.key()), side.keep_alive(second.key())), (0, 0));
    let unknown = RequestKey { cookie: first.cookie + 1000, ..first.key() };
    assert_eq!(side.keep_alive(unknown), libc::ENOENT);

    // A user cancels: the cancel comes through the pipe, and the keepalive tells it as well.
    files.part(0..1).cancel();
    let cancel = side.item();
    assert_eq!((cancel.action, cancel.fid), (Action::Cancel, fid_of(&files.part(0..1))));
    assert_eq!(side.keep_alive(cancel.key()), libc::ECANCELED);
    assert_eq!(side.end(&cancel, libc::ECANCELED), 0);
    assert_eq!(side.keep_alive(cancel.key()), libc::ENOENT);

    bed.lustre().set_parameter("hsm_control", "shutdown");
    assert_eq!(side.keep_alive(second.key()), libc::EAGAIN);
    assert_eq!(side.request(&invented(7, second.fid)), libc::EAGAIN);
}

/// What shows no progress for `active_request_timeout` is cancelled by the MDT; a keepalive is progress.
#[test]
fn a_keepalive_begins_the_timeout_anew() {
    if !preloaded("a_keepalive_begins_the_timeout_anew") {
        return;
    }
    let bed = harness::TestbedSettings::new("calls-timeout").parameter("active_request_timeout=100").start();
    let mut side = Side::start(&bed);
    let files = FileSet::create(&bed, 0..2);
    files.archive(&Request::default());
    let (kept, left) = (side.item(), side.item());
    bed.lustre().client().command(&Control::Advance { seconds: 60 }, &[]).unwrap();
    assert_eq!(side.keep_alive(kept.key()), 0);
    bed.lustre().client().command(&Control::Advance { seconds: 60 }, &[]).unwrap();
    let status = |item: &ActionItem| {
        let fid = item.fid.file_name();
        bed.lustre().ledger().into_iter().find(|entry| entry.fid == fid).unwrap().status
    };
    bed.wait("the one without a keepalive is cancelled", || status(&left) == Status::Cancelled);
    assert_eq!(status(&kept), Status::Started);
    assert_eq!(side.keep_alive(kept.key()), 0);
    assert_eq!(side.keep_alive(left.key()), libc::ENOENT);
}

#[test]
fn asking_for_the_state_of_a_released_file_does_not_restore_it() {
    if !preloaded("asking_for_the_state_of_a_released_file_does_not_restore_it") {
        return;
    }
    let bed = Testbed::start("calls-state");
    let mut side = Side::start(&bed);
    let files = FileSet::create(&bed, 0..1);
    let key = RequestKey { cookie: 1, fid: fid_of(&files) };
    assert_eq!(side.state(key), Ok(FileState::default()));
    let path = files.path(0);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(side.state(key), Err(libc::ENOENT));
    std::fs::write(&path, "").unwrap();
    let imported = bed.lustre().run(&["import", "--archive", "3", "--size", "7", path.to_str().unwrap()]);
    assert!(imported.status.success(), "{imported:?}");
    let key = RequestKey { cookie: 2, fid: fid_of(&files) };
    let state = side.state(key).unwrap();
    assert!(state.is_released() && state.archive_id == 3, "{state:?}");
    assert_eq!(files.states()[0] & RELEASED, RELEASED, "it still is");
    assert!(files.entries().is_empty(), "nothing was asked for: {:?}", files.entries());
}

#[test]
fn a_request_that_the_mdt_forgot_is_asked_for_again_with_all_its_data() {
    if !preloaded("a_request_that_the_mdt_forgot_is_asked_for_again_with_all_its_data") {
        return;
    }
    let bed = Testbed::start("calls-request");
    let mut side = Side::start(&bed);
    let files = FileSet::create(&bed, 0..1);
    let data = "x".repeat(1000);
    files.archive(&Request { archive_id: Some(5), data: data.clone().into_bytes() });
    let old = side.item();
    bed.lustre().restart_mdt(0);
    assert_eq!(side.keep_alive(old.key()), libc::ENOENT);
    assert_eq!(side.request(&old), 0);
    let new = side.item();
    assert_ne!(new.cookie, old.cookie);
    assert_eq!((new.fid, new.archive_id, new.action), (old.fid, 5, Action::Archive));
    assert_eq!(&*new.data, data.as_bytes());

    // What cannot be done is said, not lost.
    let long = ActionItem { data: vec![b'x'; 5000].into(), ..old.clone() };
    assert_eq!(side.request(&long), libc::E2BIG);
    std::fs::remove_file(files.path(0)).unwrap();
    assert_eq!(side.request(&ActionItem { cookie: 9, ..old }), libc::ENOENT);
}

/// Each call waits while its MDT is down: it must not keep calls on others waiting, nor a question an end.
#[test]
fn an_mdt_that_is_away_holds_up_no_other() {
    if !preloaded("an_mdt_that_is_away_holds_up_no_other") {
        return;
    }
    let bed = Testbed::start("calls-away");
    let mut side = Side::start(&bed);
    let files = FileSet::create(&bed, 0..12);
    files.archive(&Request::default());
    let items: Vec<ActionItem> = (0..12).map(|_| side.item()).collect();
    let on_second: Vec<Fid> = (0..12).filter(|n| n % 2 == 1).map(|n| fid_of(&files.part(n..n + 1))).collect();
    let (away, here): (Vec<_>, Vec<_>) = items.iter().partition(|item| on_second.contains(&item.fid));
    assert_eq!((away.len(), here.len()), (6, 6));
    // Both sequences are known; one that is new would have to be asked for.
    assert_eq!((side.keep_alive(away[0].key()), side.keep_alive(here[0].key())), (0, 0));
    bed.lustre().client().command(&Control::StopMdt { index: 1 }, &[]).unwrap();
    for item in &away[..3] {
        side.calls.ask(LustreCall::KeepAlive { key: item.key(), number: 0 });
    }
    side.calls.ask(LustreCall::State { key: away[3].key(), number: 0 });
    side.calls.end((*away[4]).clone(), libc::ECANCELED);
    bed.wait("three calls wait for the MDT", || bed.lustre().client().status().unwrap().blocked_calls == 3);
    for item in &here {
        assert_eq!(side.keep_alive(item.key()), 0);
    }
    assert!(side.state(here[0].key()).is_ok());
    assert_eq!(side.end(here[1], libc::EIO), 0);
    assert!(side.answers.is_empty(), "nothing of the MDT that is away: {:?}", side.answers);
    // It has lost what it knew, and answers everything that waited.
    bed.lustre().client().command(&Control::StartMdt { index: 1 }, &[]).unwrap();
    for item in &away[..3] {
        assert_eq!(side.kept_alive(item.key()), libc::ENOENT);
    }
    assert_eq!(side.ended(away[4].key()), libc::ENOENT);
    let is = |told: &FromLustre| matches!(told, FromLustre::Answered(LustreAnswer::State { .. }));
    assert!(matches!(side.answer(is), FromLustre::Answered(LustreAnswer::State { state: Ok(_), .. })));
}

/// The mount goes away and comes back: calls go to the new one.
#[test]
fn calls_outlive_the_mount() {
    if !preloaded("calls_outlive_the_mount") {
        return;
    }
    let bed = Testbed::start("calls-mount");
    let mut side = Side::start(&bed);
    let files = FileSet::create(&bed, 0..1);
    files.archive(&Request::default());
    let item = side.item();
    let uuid =
        bed.lustre().client().status().unwrap().clients.into_iter().find(|c| c.registered).unwrap().uuid;
    bed.lustre().client().command(&Control::Unmount { uuid }, &[]).unwrap();
    bed.wait("it is registered again", || bed.lustre().agents() == bed.mdts());
    assert_eq!(side.keep_alive(item.key()), 0);
    assert_eq!(side.end(&item, libc::EIO), 0);
    let entries = files.wait_ended();
    assert_eq!((entries.len(), entries[0].errno()), (1, libc::EIO as u16));
    side.copytool.stop();
}
