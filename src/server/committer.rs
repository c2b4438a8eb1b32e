//! The store on a thread of its own: many commits, one sync. Where a store answers later, more syncs are begun meanwhile.
//!
//! What cannot be written is kept in memory in order and tried again, so that the store is never left with a hole: once
//! an operation had to wait, all later ones wait behind it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::backlog::Backlog;
use super::jobs::{self, Next, Reader, Writer};
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

#[derive(Debug)]
enum Job {
    Commit(u64, Vec<StoreOp>),
    Snapshot(Snapshot),
    Close,
}

/// Hands commits to the store's thread.
#[derive(Debug)]
pub struct Committer {
    jobs: Writer<Job>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread. `report` is called on it.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(
        store: Box<dyn Store>,
        report: impl FnMut(Report) + Send + 'static,
    ) -> std::io::Result<Self> {
        Self::start_reading(store, |_| true, report)
    }

    /// Starts the thread, which first reads the store; commits wait so long. It ends when `read` says that it cannot be used.
    /// `report` is called on it as well.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start_reading(
        mut store: Box<dyn Store>,
        read: impl FnOnce(&mut dyn Store) -> bool + Send + 'static,
        report: impl FnMut(Report) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = jobs::queue()?;
        let work = move || {
            if read(store.as_mut()) {
                Worker::new(store, Box::new(report)).run(&queue);
            }
        };
        let thread = std::thread::Builder::new().name("store".into()).spawn(work)?;
        Ok(Self { jobs, thread: Some(thread) })
    }

    /// Hands over a commit. Numbers must increase.
    pub fn commit(&self, number: u64, ops: Vec<StoreOp>) {
        // The thread only goes away after `close`, or with the whole process.
        self.jobs.send(ops.len().max(1), Job::Commit(number, ops));
    }

    /// Hands over a part of the snapshot that the store wants. It must be as it is after the commits handed over so far.
    pub fn snapshot(&self, part: Snapshot) {
        self.jobs.send(jobs::URGENT, Job::Snapshot(part));
    }

    /// Makes everything durable, marks the store as cleanly closed and ends the thread. [`Report::Closed`] follows.
    pub fn close(&self) {
        self.jobs.send(jobs::URGENT, Job::Close);
    }

    /// Waits for the thread to end after [`Committer::close`].
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Commits that become durable together.
#[derive(Default)]
struct Group {
    /// The last of them.
    upto: u64,
    /// Those that are not, with a positive errno.
    failed: Vec<(u64, i32)>,
    /// What was appended.
    written: Vec<(u64, Arc<Vec<StoreOp>>)>,
}

struct Worker {
    store: Box<dyn Store>,
    report: Box<dyn FnMut(Report) + Send>,
    /// What was appended since the last sync was begun.
    open: Group,
    /// What the syncs under way make durable.
    under_way: VecDeque<Group>,
    backlog: Backlog,
    full: bool,
    /// The last snapshot that was asked for.
    wanted: u64,
    health: Health,
}

impl Worker {
    fn new(store: Box<dyn Store>, report: Box<dyn FnMut(Report) + Send>) -> Self {
        Self {
            store,
            report,
            open: Group::default(),
            under_way: VecDeque::new(),
            backlog: Backlog::default(),
            full: false,
            wanted: 0,
            health: Health::default(),
        }
    }

    fn run(mut self, queue: &Reader<Job>) {
        // When to try again, while something waits: also when commits never cease to come.
        let mut retry_at: Option<Instant> = None;
        if !self.store.has_room() {
            // What an earlier run filled.
            self.becomes_full(&format!("{}: no room left", self.store.describe()));
        }
        loop {
            let tend_at = self.tend().map(|wait| Instant::now() + wait);
            self.begin_sync(false);
            if self.backlog.is_empty() && !self.full {
                retry_at = None;
            } else {
                let at = *retry_at.get_or_insert_with(|| Instant::now() + RETRY);
                if at <= Instant::now() {
                    self.retry();
                    retry_at = None;
                    continue;
                }
            }
            match self.next(queue, retry_at.into_iter().chain(tend_at).min()) {
                Next::Job(job) => {
                    if self.take(job, queue) {
                        return;
                    }
                }
                Next::Readable => self.go_on(),
                Next::Time => {}
                Next::Gone => return,
            }
        }
    }

    /// What comes next, at most until some time.
    fn next(&self, queue: &Reader<Job>, until: Option<Instant>) -> Next<Job> {
        let Some(syncs) = self.store.under_way() else { return queue.next(until) };
        let at = until.map_or(syncs.until, |until| until.min(syncs.until));
        // It is not woken for each commit: few would have to wait anyhow.
        let next = queue.next_or_readable(syncs.descriptor, syncs.enough, Some(at));
        // It may have waited too long.
        if matches!(next, Next::Time) && Instant::now() >= syncs.until { Next::Readable } else { next }
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

    /// Appends what waits now, as much as is to be synced together. Returns whether it was the end.
    fn take(&mut self, first: Job, queue: &Reader<Job>) -> bool {
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Commit(number, ops) => {
                    self.open.upto = number;
                    let mut ops = Arc::new(ops);
                    if let Err((errno, from)) = self.append(&ops) {
                        self.open.failed.push((number, errno));
                        let mut all = Arc::unwrap_or_clone(ops);
                        self.backlog.push(all.split_off(from), self.store.as_ref());
                        ops = Arc::new(all);
                    }
                    if !ops.is_empty() {
                        self.open.written.push((number, ops));
                    }
                }
                Job::Snapshot(part) => {
                    // It follows the commits before it.
                    self.settle();
                    self.snapshot(&part);
                    return false;
                }
                Job::Close => {
                    self.settle();
                    self.close();
                    return true;
                }
            }
            if self.begin_sync(true) {
                return false;
            }
            next = queue.try_next();
        }
        false
    }

    /// Begins to make durable what was appended, if the store wants to now: `more` may come at once. Returns whether it did.
    fn begin_sync(&mut self, more: bool) -> bool {
        let begin = self.open.upto > 0 && self.store.wants_sync(more);
        if begin {
            let group = std::mem::take(&mut self.open);
            let done = if group.written.is_empty() { Ok(0) } else { self.store.begin_sync() };
            self.under_way.push_back(group);
            self.report_done(done);
        }
        begin
    }

    /// Goes on with the syncs under way.
    fn go_on(&mut self) {
        let done = self.store.go_on();
        self.report_done(done);
    }

    /// Waits until everything that was appended is durable, or will not be.
    fn settle(&mut self) {
        loop {
            self.begin_sync(false);
            match self.store.under_way() {
                Some(syncs) => drop(jobs::readable(syncs.descriptor, Some(syncs.until))),
                None => return,
            }
            self.go_on();
        }
    }

    /// Reports so many of the groups under way, and those that no sync stands for.
    fn report_done(&mut self, done: Result<usize, StoreError>) {
        let mut done = match done {
            Ok(done) => done,
            Err(error) => {
                self.give_up(&error);
                0
            }
        };
        while let Some(group) = self.under_way.front() {
            if !group.written.is_empty() {
                if done == 0 {
                    return;
                }
                done -= 1;
            }
            if let Some(Group { upto, failed, .. }) = self.under_way.pop_front() {
                (self.report)(Report::Done { upto, failed });
            }
        }
    }

    /// Keeps what no sync under way made durable. Whether it reached the disk is unknown: it is written again, which changes
    /// nothing if it did.
    fn give_up(&mut self, error: &StoreError) {
        let errno = self.complain(error);
        let mut again = Backlog::default();
        for group in self.under_way.iter_mut().chain([&mut self.open]) {
            for (number, ops) in group.written.drain(..) {
                group.failed.push((number, errno));
                again.push(Arc::unwrap_or_clone(ops), self.store.as_ref());
            }
            group.failed.sort_unstable();
            group.failed.dedup_by_key(|(number, _)| *number);
        }
        again.append(std::mem::take(&mut self.backlog), self.store.as_ref());
        self.backlog = again;
    }

    /// Appends all of `ops`, or says with which errno and from where on they could not be appended.
    fn append(&mut self, ops: &Arc<Vec<StoreOp>>) -> Result<(), (i32, usize)> {
        if !self.backlog.is_empty() {
            return Err((if self.full { libc::ENOSPC } else { libc::EIO }, 0));
        }
        match self.store.append_shared(ops) {
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
        self.settle();
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
                self.becomes_full(&error.to_string());
                libc::ENOSPC
            }
            other => {
                tracing::error!("{other}: requests are served, but a restart may forget them");
                libc::EIO
            }
        }
    }

    fn becomes_full(&mut self, why: &str) {
        if !self.full {
            tracing::error!(
                "{why}: `queue` requests are refused; requests of Lustre are served but a restart would forget them until \
                 there is room"
            );
        }
        self.full = true;
        (self.report)(Report::Full(true));
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

#[cfg(test)]
#[path = "committer_tests.rs"]
mod tests;
