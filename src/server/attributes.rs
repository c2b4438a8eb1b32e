//! Looks up whose files requests are for.
//!
//! A look at a file waits while its MDT is away, so threads of their own do it, and what takes too long is answered as
//! unknown.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::AtFlags;

use super::recent::Recent;
use crate::hsm::{Attributes, RequestKey, Wanted};
use crate::lustre::link::CurrentMount;
use crate::lustre::mount::by_fid;
use crate::lustre::sys;

const THREADS: usize = 4;
/// Files that one thread takes at a time.
const TOGETHER: usize = 32;
/// After this long a file's owner is given up on.
const DEADLINE: Duration = Duration::from_secs(10);
/// Answers that are remembered, and for how long: a file that is archived is often released and restored soon.
const REMEMBERED: usize = 65_536;
const REMEMBER: Duration = Duration::from_secs(60);
/// The longest name of a job that is taken (`LUSTRE_JOBID_SIZE` is 32, NUL included).
const MAX_JOB: usize = 256;

/// What came of lookups.
pub type Found = Vec<(RequestKey, Option<Attributes>)>;

type Tell = Arc<dyn Fn(Found) + Send + Sync>;

/// The threads that look at files.
pub struct Lookups {
    shared: Arc<Shared>,
}

struct Shared {
    mount: CurrentMount,
    tell: Tell,
    state: Mutex<State>,
    work: Condvar,
    /// Something new may pass its deadline.
    watch: Condvar,
}

struct State {
    next: u64,
    queue: VecDeque<u64>,
    /// What was asked for and not answered.
    pending: BTreeMap<u64, Batch>,
    known: Recent<Attributes>,
}

struct Batch {
    keys: Vec<RequestKey>,
    wanted: Wanted,
    deadline: Instant,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lookups {
    /// Starts the threads.
    pub fn start(mount: CurrentMount, tell: impl Fn(Found) + Send + Sync + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            mount,
            tell: Arc::new(tell),
            state: Mutex::new(State {
                next: 0,
                queue: VecDeque::new(),
                pending: BTreeMap::new(),
                known: Recent::new(REMEMBERED, REMEMBER),
            }),
            work: Condvar::new(),
            watch: Condvar::new(),
        });
        for _ in 0..THREADS {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("attributes".into()).spawn(move || work(&shared))?;
        }
        let watched = Arc::clone(&shared);
        std::thread::Builder::new().name("attributes".into()).spawn(move || watch(&watched))?;
        Ok(Self { shared })
    }

    /// Begins to look; every key is answered within a bounded time. Never blocks for a file.
    pub fn look_up(&self, keys: Vec<RequestKey>, wanted: Wanted) {
        let now = Instant::now();
        let mut state = self.shared.state();
        let (mut known, mut unknown) = (Found::new(), Vec::new());
        for key in keys {
            match state.known.get(key.fid, now) {
                Some(attributes) => known.push((key, Some(attributes))),
                None => unknown.push(key),
            }
        }
        for part in unknown.chunks(TOGETHER) {
            state.next += 1;
            let number = state.next;
            let batch = Batch { keys: part.to_vec(), wanted, deadline: now + DEADLINE };
            state.pending.insert(number, batch);
            state.queue.push_back(number);
        }
        drop(state);
        self.shared.work.notify_all();
        self.shared.watch.notify_all();
        if !known.is_empty() {
            (self.shared.tell)(known);
        }
    }
}

fn work(shared: &Shared) {
    let mut state = shared.state();
    loop {
        let Some(number) = state.queue.pop_front() else {
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        // It may have been given up on while all threads were waiting for an MDT.
        let Some(batch) = state.pending.get(&number) else { continue };
        let (keys, wanted) = (batch.keys.clone(), batch.wanted);
        drop(state);
        let found: Found = keys.into_iter().map(|key| (key, look(shared, key, wanted))).collect();
        let now = Instant::now();
        state = shared.state();
        for (key, attributes) in &found {
            if let Some(attributes) = attributes {
                state.known.add(key.fid, attributes.clone(), now);
            }
        }
        if state.pending.remove(&number).is_some() {
            drop(state);
            (shared.tell)(found);
            state = shared.state();
        }
    }
}

/// Answers what has passed its deadline.
fn watch(shared: &Shared) {
    let mut state = shared.state();
    loop {
        // All have the same time, so the first asked for is the first due.
        let Some((&number, batch)) = state.pending.first_key_value() else {
            state = shared.watch.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let left = batch.deadline.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            state = shared.watch.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        let Some(batch) = state.pending.remove(&number) else { continue };
        drop(state);
        tracing::warn!(
            files = batch.keys.len(),
            "nothing is heard of whose files these are: they count as unknown"
        );
        (shared.tell)(batch.keys.into_iter().map(|key| (key, None)).collect());
        state = shared.state();
    }
}

fn look(shared: &Shared, key: RequestKey, wanted: Wanted) -> Option<Attributes> {
    let attributes = attributes_of(&shared.mount, key, wanted);
    attributes.map_err(|error| tracing::debug!(%key, "cannot see whose file it is: {error}")).ok()
}

fn attributes_of(mount: &CurrentMount, key: RequestKey, wanted: Wanted) -> io::Result<Attributes> {
    let mount = mount.get();
    let path = by_fid(key.fid);
    let stat = rustix::fs::statat(mount.root(), path.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
    let mut attributes = Attributes {
        uid: stat.st_uid,
        gid: stat.st_gid,
        project: 0,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        job: None,
    };
    if wanted.job {
        attributes.job = job_of(&mount.path().join(&path));
    }
    if wanted.project {
        attributes.project = sys::project_of(mount.open_file(key.fid)?.as_fd())?;
    }
    Ok(attributes)
}

fn job_of(path: &std::path::Path) -> Option<Box<str>> {
    let mut buffer = [0u8; MAX_JOB];
    let len = rustix::fs::lgetxattr(path, "user.job", &mut buffer).ok()?;
    let name = buffer.get(..len)?;
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(len);
    let name = std::str::from_utf8(&name[..end]).ok()?;
    (!name.is_empty()).then(|| name.into())
}
