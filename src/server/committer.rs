//! The store on a thread of its own: many commits, one sync.
//!
//! What cannot be written is kept in memory in order and tried again, so that the store is never left with a hole: once
//! an operation had to wait, all later ones wait behind it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::hsm::RequestKey;
use crate::hsm::effect::StoreOp;
use crate::store::{Health, Snapshot, Store, StoreError};

/// How often a store without room is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// Ends that a full store is given at a time: it keeps little room for them.
const ENDS: usize = 256;

/// What happened to commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Every commit up to this one has been dealt with.
    Done {
        /// The last of them.
        upto: u64,
        /// Those that are not durable, with a positive errno: they are kept in memory and tried again.
        failed: Vec<(u64, i32)>,
    },
    /// The store cannot take more, or can again.
    Full(bool),
    /// The store wants all requests, from [`Store::wants_snapshot`]: parts of them to [`Committer::snapshot`].
    WantsSnapshot(u64),
    /// A part of them was taken: the next one may come.
    SnapshotTaken(u64),
    /// The store is not as it was before.
    Health(Health),
    /// The store was closed, or could not be.
    Closed(Result<(), String>),
}

enum Job {
    Commit(u64, Vec<StoreOp>),
    Snapshot(Snapshot),
    Close,
}

/// Hands commits to the store's thread.
#[derive(Debug)]
pub struct Committer {
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread. `report` is called on it.
    pub fn start(
        store: Box<dyn Store>,
        report: impl FnMut(Report) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let worker = Worker::new(store, Box::new(report));
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || worker.run(&queue))?;
        Ok(Self { jobs, thread: Some(thread) })
    }

    /// Hands over a commit. Numbers must increase.
    pub fn commit(&self, number: u64, ops: Vec<StoreOp>) {
        // The thread only goes away after `close`, or with the whole process.
        let _ = self.jobs.send(Job::Commit(number, ops));
    }

    /// Hands over a part of the snapshot that the store wants. It must be as it is after the commits handed over so far.
    pub fn snapshot(&self, part: Snapshot) {
        let _ = self.jobs.send(Job::Snapshot(part));
    }

    /// Makes everything durable, marks the store as cleanly closed and ends the thread. [`Report::Closed`] follows.
    pub fn close(&self) {
        let _ = self.jobs.send(Job::Close);
    }

    /// Waits for the thread to end after [`Committer::close`].
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    store: Box<dyn Store>,
    report: Box<dyn FnMut(Report) + Send>,
    backlog: Backlog,
    full: bool,
    /// The last snapshot that was asked for.
    wanted: u64,
    health: Health,
}

impl Worker {
    fn new(store: Box<dyn Store>, report: Box<dyn FnMut(Report) + Send>) -> Self {
        Self { store, report, backlog: Backlog::default(), full: false, wanted: 0, health: Health::default() }
    }

    fn run(mut self, queue: &Receiver<Job>) {
        // When to try again, while something waits: also when commits never cease to come.
        let mut retry_at: Option<Instant> = None;
        loop {
            let tend_at = self.tend().map(|wait| Instant::now() + wait);
            if self.backlog.is_empty() {
                retry_at = None;
            } else {
                let at = *retry_at.get_or_insert_with(|| Instant::now() + RETRY);
                if at <= Instant::now() {
                    self.retry();
                    retry_at = None;
                    continue;
                }
            }
            let first = match retry_at.into_iter().chain(tend_at).min() {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => queue.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match first {
                Ok(job) => {
                    if self.group(job, queue) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Has the store do what it does between commits; returns when it wants to again.
    fn tend(&mut self) -> Option<Duration> {
        let wait = self.store.tend();
        if let Some(number) = self.store.wants_snapshot().filter(|number| *number != self.wanted) {
            self.wanted = number;
            (self.report)(Report::WantsSnapshot(number));
        }
        let health = self.store.health();
        if health != self.health {
            self.health = health.clone();
            (self.report)(Report::Health(health));
        }
        wait
    }

    fn snapshot(&mut self, part: &Snapshot) {
        if let Err(error) = self.store.snapshot(part) {
            tracing::error!("{error}: all requests are written later");
            return;
        }
        (self.report)(Report::SnapshotTaken(part.number));
    }

    /// Writes everything that waits now and syncs once. Returns whether it was the end.
    fn group(&mut self, first: Job, queue: &Receiver<Job>) -> bool {
        let mut failed = Vec::new();
        let mut written: Vec<(u64, Vec<StoreOp>)> = Vec::new();
        let mut upto = 0;
        let mut close = false;
        // What follows the commits of this group.
        let mut part = None;
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Commit(number, mut ops) => {
                    upto = number;
                    if let Err((errno, from)) = self.append(&ops) {
                        failed.push((number, errno));
                        self.backlog.push(ops.split_off(from), self.store.as_ref());
                    }
                    if !ops.is_empty() {
                        written.push((number, ops));
                    }
                }
                Job::Snapshot(snapshot) => {
                    part = Some(snapshot);
                    break;
                }
                Job::Close => {
                    close = true;
                    break;
                }
            }
            next = queue.try_recv().ok();
        }
        if !written.is_empty()
            && let Err(error) = self.store.sync()
        {
            let errno = self.complain(&error);
            // Whether they reached the disk is unknown: they are written again, which changes nothing if they did.
            let mut again = Backlog::default();
            for (number, ops) in written {
                failed.push((number, errno));
                again.push(ops, self.store.as_ref());
            }
            again.append(std::mem::take(&mut self.backlog), self.store.as_ref());
            self.backlog = again;
            failed.sort_unstable();
            failed.dedup_by_key(|(number, _)| *number);
        }
        if upto > 0 {
            (self.report)(Report::Done { upto, failed });
        }
        if let Some(part) = part {
            self.snapshot(&part);
        }
        if close {
            self.close();
        }
        close
    }

    /// Appends all of `ops`, or says with which errno and from where on they could not be appended.
    fn append(&mut self, ops: &[StoreOp]) -> Result<(), (i32, usize)> {
        if !self.backlog.is_empty() {
            return Err((if self.full { libc::ENOSPC } else { libc::EIO }, 0));
        }
        match self.store.append(ops) {
            Ok(()) => Ok(()),
            Err(StoreError::Unstorable { .. }) => self.append_one_by_one(ops),
            Err(error) => Err((self.complain(&error), 0)),
        }
    }

    /// Leaves out only what can never be stored.
    fn append_one_by_one(&mut self, ops: &[StoreOp]) -> Result<(), (i32, usize)> {
        for (index, op) in ops.iter().enumerate() {
            match self.store.append(std::slice::from_ref(op)) {
                Ok(()) => {}
                Err(error @ StoreError::Unstorable { .. }) => {
                    tracing::error!("{error}; it is served all the same, but a restart will forget it");
                }
                Err(error) => return Err((self.complain(&error), index)),
            }
        }
        Ok(())
    }

    /// Tries to write what waits.
    fn retry(&mut self) {
        if self.full && !self.store.has_room() {
            self.write_ends();
            if !self.store.has_room() {
                return;
            }
        }
        let mut appended = 0;
        while let Some(ops) = self.backlog.groups.get(appended) {
            let result = self.store.append(ops);
            match result {
                Ok(()) => appended += 1,
                Err(StoreError::Unstorable { .. }) => {
                    let ops = ops.clone();
                    if self.append_one_by_one(&ops).is_err() {
                        break;
                    }
                    appended += 1;
                }
                Err(error) => {
                    self.complain(&error);
                    break;
                }
            }
        }
        match self.store.sync() {
            Ok(()) => self.backlog.drop_first(appended),
            // All of it is written again: that changes nothing if it did reach the disk.
            Err(error) => {
                self.complain(&error);
            }
        }
        if self.backlog.is_empty() {
            tracing::warn!("{}: all requests are stored again", self.store.describe());
            if self.full {
                self.full = false;
                (self.report)(Report::Full(false));
            }
        }
    }

    /// Writes first that requests which the store holds have ended: nothing else makes room in it. They would wait for ever
    /// behind a new request that it cannot take.
    fn write_ends(&mut self) {
        let ended = self.backlog.ended(&|key| self.store.may_hold(key));
        let mut written = BTreeSet::new();
        for part in ended.chunks(ENDS) {
            let ops: Vec<StoreOp> = part.iter().map(|&key| StoreOp::Remove { key }).collect();
            if let Err(error) = self.store.append(&ops) {
                self.complain(&error);
                break;
            }
            written.extend(part.iter().copied());
        }
        if written.is_empty() {
            return;
        }
        match self.store.sync() {
            Ok(()) => self.backlog.forget(&written),
            // All of it is written again: that changes nothing if it did reach the disk.
            Err(error) => {
                self.complain(&error);
            }
        }
    }

    fn complain(&mut self, error: &StoreError) -> i32 {
        match error {
            StoreError::Full { .. } => {
                if !self.full {
                    tracing::error!(
                        "{error}: `queue` requests are refused; requests of Lustre are served but a restart would \
                         forget them until there is room"
                    );
                }
                self.full = true;
                (self.report)(Report::Full(true));
                libc::ENOSPC
            }
            other => {
                tracing::error!("{other}: requests are served, but a restart may forget them");
                libc::EIO
            }
        }
    }

    fn close(&mut self) {
        if !self.backlog.is_empty() {
            self.retry();
        }
        let lost = self.backlog.len();
        let result = self.store.close().map_err(|error| error.to_string());
        let result = match (result, lost) {
            (Ok(()), 0) => Ok(()),
            (Ok(()), lost) => Err(format!("{lost} changes could not be stored")),
            (error, _) => error,
        };
        (self.report)(Report::Closed(result));
    }
}

/// Operations that wait for room, in order.
#[derive(Debug, Default)]
struct Backlog {
    groups: VecDeque<Vec<StoreOp>>,
    ops: usize,
    compacted: usize,
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    fn len(&self) -> usize {
        self.ops
    }

    fn push(&mut self, ops: Vec<StoreOp>, store: &dyn Store) {
        if ops.is_empty() {
            return;
        }
        self.ops += ops.len();
        self.groups.push_back(ops);
        if self.ops > 2 * self.compacted + 10_000 {
            self.compact(&|key| store.may_hold(key));
        }
    }

    fn append(&mut self, other: Backlog, store: &dyn Store) {
        for ops in other.groups {
            self.push(ops, store);
        }
    }

    fn drop_first(&mut self, groups: usize) {
        for ops in self.groups.drain(..groups) {
            self.ops -= ops.len();
        }
    }

    /// Forgets requests that came and went while nothing could be written. Those that the store may hold (they were
    /// appended before a sync failed, or are put again with other data) are not: their removal must get there.
    fn compact(&mut self, held: &dyn Fn(&RequestKey) -> bool) {
        #[derive(PartialEq)]
        enum Life {
            /// Perhaps in the store already.
            Stored,
            /// First put in here.
            Born,
            /// Put and removed in here.
            Gone,
        }
        let mut lives: BTreeMap<RequestKey, Life> = BTreeMap::new();
        for op in self.groups.iter().flatten() {
            let key = key_of(op);
            let life = lives.entry(key).or_insert_with(|| {
                if matches!(op, StoreOp::Put(_)) && !held(&key) { Life::Born } else { Life::Stored }
            });
            match op {
                StoreOp::Remove { .. } if *life == Life::Born => *life = Life::Gone,
                StoreOp::Put(_) if *life == Life::Gone => *life = Life::Born,
                _ => {}
            }
        }
        self.retain(|key| lives.get(key) != Some(&Life::Gone));
        self.compacted = self.ops;
    }

    /// Requests that the store may hold and that have ended.
    fn ended(&self, held: &dyn Fn(&RequestKey) -> bool) -> Vec<RequestKey> {
        let last: BTreeMap<RequestKey, &StoreOp> =
            self.groups.iter().flatten().map(|op| (key_of(op), op)).collect();
        let ended = last.into_iter().filter(|(key, op)| matches!(op, StoreOp::Remove { .. }) && held(key));
        ended.map(|(key, _)| key).collect()
    }

    /// Drops what waits for these requests.
    fn forget(&mut self, keys: &BTreeSet<RequestKey>) {
        self.retain(|key| !keys.contains(key));
        self.compacted = self.compacted.min(self.ops);
    }

    fn retain(&mut self, keep: impl Fn(&RequestKey) -> bool) {
        for ops in &mut self.groups {
            ops.retain(|op| keep(&key_of(op)));
        }
        self.groups.retain(|ops| !ops.is_empty());
        self.ops = self.groups.iter().map(Vec::len).sum();
    }
}

/// What an operation is about.
fn key_of(op: &StoreOp) -> RequestKey {
    match op {
        StoreOp::Put(item) => item.key(),
        StoreOp::Assign { key, .. } | StoreOp::Unassign { key } | StoreOp::Remove { key } => *key,
        StoreOp::Note { name, .. } => crate::store::notes::key(name),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use lustreapi_sys::Fid;

    use super::*;
    use crate::hsm::{Action, ActionItem};
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
        ActionItem {
            action: Action::Archive,
            fid,
            dfid: fid,
            extent_offset: 0,
            extent_length: u64::MAX,
            cookie,
            gid: 0,
            archive_id: 1,
            flags: 0,
            data: [].into(),
            timestamp: 1,
            extra: "".into(),
        }
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
        reports: Receiver<Report>,
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
                    Report::Full(_)
                    | Report::WantsSnapshot(_)
                    | Report::SnapshotTaken(_)
                    | Report::Health(_) => {}
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
        let (_jobs, queue) = mpsc::channel();
        worker.group(Job::Commit(1, vec![put(1)]), &queue);
        worker.group(Job::Commit(2, vec![remove(1), put(2), remove(2)]), &queue);
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
}
