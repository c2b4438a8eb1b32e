//! Commits that reach a store, or do not.

use std::io;
use std::sync::{Arc, Mutex, mpsc};

use lustreapi_sys::Fid;

use super::*;
use crate::hsm::{Action, ActionItem, RequestKey};
use crate::store::Recovery;

#[derive(Debug, Default)]
struct Disk {
    durable: Vec<StoreOp>,
    appended: Vec<StoreOp>,
    full: bool,
    /// When it is full it has some room for these left, and the rest again when the last one has ended.
    takes_ends: bool,
    sync_fails: u32,
    syncs: u32,
    closed: bool,
    poison: Option<u64>,
    held: std::collections::BTreeSet<RequestKey>,
}

#[derive(Debug, Default, Clone)]
struct FakeStore(Arc<Mutex<Disk>>);

fn full() -> StoreError {
    StoreError::Full { store: "fake".into(), source: io::Error::from_raw_os_error(libc::ENOSPC) }
}

/// Wants a snapshot once, and keeps in order what it is given.
#[derive(Debug, Default, Clone)]
struct LostStore(Arc<Mutex<(Option<u64>, Vec<String>)>>);

impl Store for LostStore {
    fn recover(&mut self, _: &mut dyn FnMut(ActionItem, Option<String>)) -> Result<Recovery, StoreError> {
        Ok(Recovery::default())
    }

    fn append(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        self.0.lock().unwrap().1.push(format!("{} ops", ops.len()));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.0.lock().unwrap().1.push("sync".into());
        Ok(())
    }

    fn has_room(&mut self) -> bool {
        true
    }

    fn tend(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(5))
    }

    fn wants_snapshot(&self) -> Option<u64> {
        self.0.lock().unwrap().0
    }

    fn snapshot(&mut self, part: &Snapshot) -> Result<(), StoreError> {
        let mut state = self.0.lock().unwrap();
        state.1.push(format!("part {} of {}", part.requests.len(), part.number));
        if part.last {
            state.0 = None;
        }
        Ok(())
    }

    fn health(&self) -> Health {
        Health { trouble: self.0.lock().unwrap().0.map(|_| "lost".into()), ..Health::default() }
    }

    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn describe(&self) -> String {
        "lost".into()
    }
}

/// A part says how things are after the commits before it: these must have been appended, and none of those behind it.
#[test]
fn a_snapshot_stands_between_the_commits_where_it_was_taken() {
    let store = LostStore::default();
    let state = Arc::clone(&store.0);
    let (send, reports) = mpsc::channel();
    let committer = Committer::start(Box::new(store), move |report| send.send(report).unwrap()).unwrap();
    committer.commit(1, vec![put(1)]);
    assert_eq!(reports.recv().unwrap(), Report::Done { upto: 1, failed: vec![] });
    state.lock().unwrap().0 = Some(7);
    assert_eq!(reports.recv().unwrap(), Report::WantsSnapshot(7));
    assert!(matches!(reports.recv().unwrap(), Report::Health(Health { trouble: Some(_), .. })));
    committer.commit(2, vec![put(2), put(3)]);
    committer.snapshot(Snapshot { number: 7, requests: vec![(item(1), None)], last: false });
    committer.commit(3, vec![put(4), put(5), put(6)]);
    committer.snapshot(Snapshot { number: 7, requests: vec![], last: true });
    committer.close();
    let rest: Vec<Report> = reports.iter().collect();
    let taken = rest.iter().filter(|report| **report == Report::SnapshotTaken(7)).count();
    let asked = rest.iter().filter(|report| matches!(report, Report::WantsSnapshot(_))).count();
    assert_eq!((taken, asked), (2, 0), "{rest:?}");
    assert!(rest.contains(&Report::Health(Health::default())), "{rest:?}");
    let mut steps = state.lock().unwrap().1.clone();
    steps.retain(|step| step != "sync");
    assert_eq!(steps, ["1 ops", "2 ops", "part 1 of 7", "3 ops", "part 0 of 7"]);
}

impl Store for FakeStore {
    fn recover(&mut self, _: &mut dyn FnMut(ActionItem, Option<String>)) -> Result<Recovery, StoreError> {
        Ok(Recovery::default())
    }

    fn append(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        let mut disk = self.0.lock().unwrap();
        if disk.full && !(disk.takes_ends && ops.iter().all(|op| matches!(op, StoreOp::Remove { .. }))) {
            return Err(full());
        }
        for op in ops {
            if let StoreOp::Put(item) = op
                && Some(item.cookie) == disk.poison
            {
                let (store, key, reason) = ("fake".into(), item.key(), "poison".into());
                return Err(StoreError::Unstorable { store, key, reason });
            }
        }
        for op in ops {
            match op {
                StoreOp::Put(item) => disk.held.insert(item.key()),
                StoreOp::Remove { key } => disk.held.remove(key),
                _ => false,
            };
        }
        disk.appended.extend_from_slice(ops);
        Ok(())
    }

    fn may_hold(&self, key: &RequestKey) -> bool {
        self.0.lock().unwrap().held.contains(key)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let mut disk = self.0.lock().unwrap();
        disk.syncs += 1;
        let appended = std::mem::take(&mut disk.appended);
        if disk.sync_fails > 0 {
            disk.sync_fails -= 1;
            let source = io::Error::from_raw_os_error(libc::EIO);
            return Err(StoreError::Io { store: "fake".into(), context: "sync".into(), source });
        }
        disk.durable.extend(appended);
        Ok(())
    }

    fn has_room(&mut self) -> bool {
        let mut disk = self.0.lock().unwrap();
        disk.full &= !(disk.takes_ends && disk.held.is_empty());
        !disk.full
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.0.lock().unwrap().closed = true;
        Ok(())
    }

    fn describe(&self) -> String {
        "fake".into()
    }
}

fn item(cookie: u64) -> ActionItem {
    let fid = Fid::new(1, cookie as u32, 0);
    ActionItem { timestamp: 1, ..ActionItem::new(Action::Archive, fid, cookie, 1) }
}

fn put(cookie: u64) -> StoreOp {
    StoreOp::Put(item(cookie))
}

fn remove(cookie: u64) -> StoreOp {
    StoreOp::Remove { key: item(cookie).key() }
}

struct Bench {
    disk: Arc<Mutex<Disk>>,
    committer: Committer,
    reports: mpsc::Receiver<Report>,
}

fn bench() -> Bench {
    let store = FakeStore::default();
    let disk = Arc::clone(&store.0);
    let (send, reports) = mpsc::channel();
    let committer = Committer::start(Box::new(store), move |report| send.send(report).unwrap()).unwrap();
    Bench { disk, committer, reports }
}

impl Bench {
    /// What failed, once commit `number` was reported.
    fn done(&self, number: u64) -> Vec<(u64, i32)> {
        let mut all = Vec::new();
        loop {
            match self.reports.recv().unwrap() {
                Report::Done { upto, failed } => {
                    all.extend(failed);
                    if upto == number {
                        return all;
                    }
                }
                Report::Full(_) | Report::WantsSnapshot(_) | Report::SnapshotTaken(_) | Report::Health(_) => {
                }
                Report::Closed(result) => panic!("closed: {result:?}"),
            }
        }
    }

    fn wait_until_stored(&self, ops: &[StoreOp]) {
        loop {
            if let Report::Full(false) = self.reports.recv().unwrap() {
                break;
            }
        }
        assert_eq!(self.disk.lock().unwrap().durable, ops);
    }
}

#[test]
fn commits_are_durable_when_they_are_reported_and_share_syncs() {
    let bench = bench();
    for number in 1..=1000 {
        bench.committer.commit(number, vec![put(number)]);
    }
    assert_eq!(bench.done(1000), []);
    let disk = bench.disk.lock().unwrap();
    assert_eq!(disk.durable, (1..=1000).map(put).collect::<Vec<_>>());
    assert!(disk.syncs <= 1000);
}

#[test]
fn a_full_store_fails_commits_and_writes_them_in_order_when_there_is_room() {
    let bench = bench();
    bench.committer.commit(1, vec![put(1)]);
    assert_eq!(bench.done(1), []);
    bench.disk.lock().unwrap().full = true;
    bench.committer.commit(2, vec![put(2)]);
    assert_eq!(bench.done(2), [(2, libc::ENOSPC)]);
    bench.committer.commit(3, vec![remove(1), put(3)]);
    assert_eq!(bench.done(3), [(3, libc::ENOSPC)]);
    bench.disk.lock().unwrap().full = false;
    bench.wait_until_stored(&[put(1), put(2), remove(1), put(3)]);
    bench.committer.commit(4, vec![put(4)]);
    assert_eq!(bench.done(4), []);
}

/// A daemon that starts on the disk that an earlier one filled: nobody has to ask for room for it to be seen.
#[test]
fn a_store_that_is_full_from_the_start_is_reported_and_takes_ends_and_then_more() {
    let store = FakeStore::default();
    let disk = Arc::clone(&store.0);
    {
        let mut disk = disk.lock().unwrap();
        (disk.full, disk.takes_ends) = (true, true);
        disk.held.insert(item(1).key());
    }
    let (send, reports) = mpsc::channel();
    let committer = Committer::start(Box::new(store), move |report| send.send(report).unwrap()).unwrap();
    assert_eq!(reports.recv().unwrap(), Report::Full(true));
    let bench = Bench { disk, committer, reports };
    bench.committer.commit(1, vec![remove(1)]);
    assert_eq!(bench.done(1), []);
    bench.wait_until_stored(&[remove(1)]);
}

/// The ends wait behind a request that the store has no room for, and are what makes room.
#[test]
fn a_full_store_has_room_again_when_its_requests_have_ended() {
    let bench = bench();
    bench.committer.commit(1, vec![put(1), put(2)]);
    assert_eq!(bench.done(1), []);
    {
        let mut disk = bench.disk.lock().unwrap();
        (disk.full, disk.takes_ends) = (true, true);
    }
    bench.committer.commit(2, vec![put(3)]);
    let assign = StoreOp::Assign { key: item(1).key(), mover: "m".into() };
    bench.committer.commit(3, vec![assign, put(4), remove(1), remove(4)]);
    bench.committer.commit(4, vec![remove(2), put(2), remove(2)]);
    assert_eq!(bench.done(4), [(2, libc::ENOSPC), (3, libc::ENOSPC), (4, libc::ENOSPC)]);
    bench.wait_until_stored(&[put(1), put(2), remove(1), remove(2), put(3), put(4), remove(4)]);
}

#[test]
fn a_failed_sync_fails_its_commits_and_they_are_written_again() {
    let bench = bench();
    bench.disk.lock().unwrap().sync_fails = 1;
    bench.committer.commit(1, vec![put(1)]);
    assert_eq!(bench.done(1), [(1, libc::EIO)]);
    bench.committer.commit(2, vec![put(2)]);
    assert_eq!(bench.done(2), [(2, libc::EIO)], "it waits behind the first");
    bench.committer.close();
    assert_eq!(bench.reports.recv().unwrap(), Report::Closed(Ok(())));
    let disk = bench.disk.lock().unwrap();
    assert_eq!((&disk.durable[..], disk.closed), (&[put(1), put(2)][..], true));
}

#[test]
fn a_request_that_cannot_be_stored_costs_only_itself() {
    let bench = bench();
    bench.disk.lock().unwrap().poison = Some(2);
    bench.committer.commit(1, vec![put(1), put(2), put(3)]);
    assert_eq!(bench.done(1), []);
    assert_eq!(bench.disk.lock().unwrap().durable, [put(1), put(3)]);
}

#[test]
fn closing_says_what_was_lost() {
    let bench = bench();
    bench.disk.lock().unwrap().full = true;
    bench.committer.commit(1, vec![put(1)]);
    assert_eq!(bench.done(1), [(1, libc::ENOSPC)]);
    bench.committer.close();
    let closed = bench.reports.iter().find(|report| matches!(report, Report::Closed(_)));
    assert_eq!(closed, Some(Report::Closed(Err("1 changes could not be stored".into()))));
}

/// Every new commit used to start the wait anew: a busy daemon never tried again.
#[test]
fn what_could_not_be_written_is_tried_again_while_commits_keep_coming() {
    let bench = bench();
    bench.disk.lock().unwrap().sync_fails = 1;
    let end = Instant::now() + Duration::from_secs(60);
    bench.committer.commit(1, vec![put(1)]);
    assert_eq!(bench.done(1), [(1, libc::EIO)]);
    for number in 2.. {
        bench.committer.commit(number, vec![put(number)]);
        if bench.done(number).is_empty() {
            break;
        }
        assert!(Instant::now() < end, "the store works again, and nobody has noticed");
    }
    bench.committer.close();
    while bench.reports.recv().unwrap() != Report::Closed(Ok(())) {}
}

/// The first `put` may be on the disk although its sync failed: only its removal keeps a restart from serving it again.
#[test]
fn the_backlog_keeps_removals_of_what_may_be_on_the_disk() {
    let store = FakeStore::default();
    store.0.lock().unwrap().sync_fails = 1;
    let report = Box::new(|_| ());
    let mut worker = Worker::new(Box::new(store), report);
    let (_jobs, queue) = jobs::queue().unwrap();
    for (number, ops) in [(1, vec![put(1)]), (2, vec![remove(1), put(2), remove(2)])] {
        worker.take(Job::Commit(number, ops), &queue);
        worker.settle();
    }
    let Worker { store, backlog, .. } = &mut worker;
    backlog.compact(&|key| store.may_hold(key));
    let left: Vec<_> = worker.backlog.groups.iter().flatten().cloned().collect();
    assert_eq!(left, [put(1), remove(1)]);
}

#[test]
fn the_backlog_forgets_what_came_and_went() {
    let mut backlog = Backlog::default();
    let key = |cookie| item(cookie).key();
    let store = FakeStore::default();
    let assign = StoreOp::Assign { key: key(1), mover: "m".into() };
    backlog.push(vec![put(1), assign], &store);
    backlog.push(vec![remove(2), put(3)], &store);
    backlog.push(vec![remove(1), put(2), remove(2), put(4), remove(4), put(4)], &store);
    backlog.compact(&|key| store.may_hold(key));
    let left: Vec<_> = backlog.groups.iter().flatten().cloned().collect();
    assert_eq!(left, [remove(2), put(3), put(2), remove(2), put(4), remove(4), put(4)]);
    assert_eq!(backlog.len(), left.len());
}

/// A store that answers later.
#[derive(Debug)]
struct LateStore {
    state: Arc<Mutex<Late>>,
    readable: std::os::fd::OwnedFd,
}

#[derive(Debug, Default)]
struct Late {
    appended: Vec<StoreOp>,
    begun: Vec<Vec<StoreOp>>,
    /// What comes of those that were begun: so many are done, or none ever will be.
    answers: Vec<Option<usize>>,
    durable: Vec<StoreOp>,
}

impl Store for LateStore {
    fn recover(&mut self, _: &mut dyn FnMut(ActionItem, Option<String>)) -> Result<Recovery, StoreError> {
        Ok(Recovery::default())
    }

    fn append(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        self.state.lock().unwrap().appended.extend_from_slice(ops);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap();
        assert!(state.begun.is_empty());
        let ops = std::mem::take(&mut state.appended);
        state.durable.extend(ops);
        Ok(())
    }

    fn begin_sync(&mut self) -> Result<usize, StoreError> {
        let mut state = self.state.lock().unwrap();
        let ops = std::mem::take(&mut state.appended);
        state.begun.push(ops);
        Ok(0)
    }

    fn wants_sync(&self, more: bool) -> bool {
        !more && self.state.lock().unwrap().begun.len() < 3
    }

    fn under_way(&self) -> Option<crate::store::UnderWay<'_>> {
        use std::os::fd::AsFd;

        let under_way = !self.state.lock().unwrap().begun.is_empty();
        under_way.then(|| crate::store::UnderWay {
            descriptor: self.readable.as_fd(),
            until: Instant::now() + Duration::from_secs(60),
            enough: 1,
        })
    }

    fn go_on(&mut self) -> Result<usize, StoreError> {
        let mut state = self.state.lock().unwrap();
        match state.answers.remove(0) {
            Some(done) => {
                let ops: Vec<_> = state.begun.drain(..done).flatten().collect();
                state.durable.extend(ops);
                Ok(done)
            }
            None => {
                state.begun.clear();
                state.appended.clear();
                let source = io::Error::from_raw_os_error(libc::EIO);
                Err(StoreError::Io { store: "late".into(), context: "sync".into(), source })
            }
        }
    }

    fn has_room(&mut self) -> bool {
        true
    }

    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn describe(&self) -> String {
        "late".into()
    }
}

/// Each commit is reported when its own sync is done. One that fails takes with it all that were begun after it, and what was
/// only appended: they are written again, in order, and what comes later waits behind them.
#[test]
fn commits_are_durable_one_by_one_and_fail_together() {
    let state = Arc::<Mutex<Late>>::default();
    let (readable, _writer) = rustix::pipe::pipe().unwrap();
    let (send, reports) = mpsc::channel();
    let store = LateStore { state: Arc::clone(&state), readable };
    let mut worker = Worker::new(Box::new(store), Box::new(move |report| send.send(report).unwrap()));
    let (_jobs, queue) = jobs::queue().unwrap();
    let all = || reports.try_iter().collect::<Vec<_>>();
    for number in 1..=5 {
        worker.take(Job::Commit(number, vec![put(number)]), &queue);
        worker.begin_sync(false);
    }
    assert_eq!(all(), []);
    state.lock().unwrap().answers = vec![Some(0), Some(1), None];
    worker.go_on();
    assert_eq!(all(), []);
    worker.go_on();
    assert_eq!(all(), [Report::Done { upto: 1, failed: vec![] }]);
    worker.go_on();
    let failed = |number| vec![(number, libc::EIO)];
    let two = Report::Done { upto: 2, failed: failed(2) };
    assert_eq!(all(), [two, Report::Done { upto: 3, failed: failed(3) }]);
    // These were not begun, and one of them came after the failure.
    worker.take(Job::Commit(6, vec![put(6)]), &queue);
    worker.begin_sync(false);
    let failed = (4..=6).flat_map(failed).collect();
    assert_eq!(all(), [Report::Done { upto: 6, failed }]);
    worker.retry();
    assert_eq!(state.lock().unwrap().durable, (1..=6).map(put).collect::<Vec<_>>());
    worker.take(Job::Commit(7, vec![put(7)]), &queue);
    state.lock().unwrap().answers = vec![Some(1)];
    drop(_writer);
    worker.settle();
    assert_eq!(all(), [Report::Done { upto: 7, failed: vec![] }]);
}
