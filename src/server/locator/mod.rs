//! Locators: what says on which medium and behind which host the data of a request lies.
//!
//! A few threads ask, each question has a deadline, answers are remembered for a while, and whatever fails is told the core as
//! a failure: it places the request without.

pub mod command;
pub mod http;
pub mod lines;
pub mod phobos;
mod phobos_sys;
pub mod settings;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lustreapi_sys::Fid;

use self::lines::{Answers, Question};
use self::settings::{LocatorSettings, Means};
use super::recent::Recent;
use crate::hsm::{Located, Location, RequestKey, Sought};
use crate::lustre::link::CurrentMount;
use crate::lustre::mount::by_fid;

/// Answers that are remembered.
const REMEMBERED: usize = 100_000;
/// What one says in the log about answers that cannot be read: this many examples.
const EXAMPLES: usize = 3;
/// The longest name of an object.
const MAX_OID: usize = 4096;

/// What was found.
pub type Found = Vec<(RequestKey, Located)>;

type Tell = Arc<dyn Fn(Found) + Send + Sync>;

/// The threads that ask.
pub struct Locator {
    shared: Arc<Shared>,
}

struct Shared {
    settings: LocatorSettings,
    /// For the names of objects.
    mount: Option<CurrentMount>,
    tell: Tell,
    state: Mutex<State>,
    work: Condvar,
    watch: Condvar,
}

struct State {
    next: u64,
    queue: VecDeque<u64>,
    /// What was asked for and not answered.
    pending: BTreeMap<u64, Batch>,
    /// Batches that are being asked, by their deadline.
    running: BTreeSet<(Instant, u64)>,
    known: Recent<Location>,
}

type Batch = Vec<Sought>;

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A question that hangs in spite of its own timeout is given up on after this.
    fn patience(&self) -> Duration {
        self.settings.timeout + Duration::from_secs(5)
    }
}

impl Locator {
    /// Starts the threads. `mount` is where the names of objects are read.
    pub fn start(
        settings: LocatorSettings,
        mount: Option<CurrentMount>,
        tell: impl Fn(Found) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (threads, known) = (settings.threads, Recent::new(REMEMBERED, settings.cache));
        tracing::info!(means = ?settings.means, "restores are placed by a locator");
        let shared = Arc::new(Shared {
            settings,
            mount,
            tell: Arc::new(tell),
            state: Mutex::new(State {
                next: 0,
                queue: VecDeque::new(),
                pending: BTreeMap::new(),
                running: BTreeSet::new(),
                known,
            }),
            work: Condvar::new(),
            watch: Condvar::new(),
        });
        for _ in 0..threads {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("locator".into()).spawn(move || work(&shared))?;
        }
        let watched = Arc::clone(&shared);
        std::thread::Builder::new().name("locator".into()).spawn(move || watch(&watched))?;
        Ok(Self { shared })
    }

    /// Begins to ask; every request is answered. Never blocks for the locator. What waits for a thread waits as long as the
    /// core lets it.
    pub fn locate(&self, sought: Vec<Sought>) {
        let now = Instant::now();
        let (settings, mut found) = (&self.shared.settings, Found::new());
        let mut unknown = Vec::new();
        let mut state = self.shared.state();
        for sought in sought {
            match state.known.get(sought.key.fid, now) {
                Some(location) => found.push((sought.key, Located::At(location))),
                None => unknown.push(sought),
            }
        }
        for part in unknown.chunks(settings.batch) {
            state.next += 1;
            let number = state.next;
            state.pending.insert(number, part.to_vec());
            state.queue.push_back(number);
        }
        drop(state);
        self.shared.work.notify_all();
        if !found.is_empty() {
            (self.shared.tell)(found);
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
        let Some(batch) = state.pending.get(&number).cloned() else { continue };
        let deadline = Instant::now() + shared.patience();
        state.running.insert((deadline, number));
        drop(state);
        shared.watch.notify_all();
        let mut answers = ask(shared, &batch);
        let now = Instant::now();
        state = shared.state();
        state.running.remove(&(deadline, number));
        for (fid, located) in &answers {
            if let Located::At(location) = located {
                state.known.add(*fid, location.clone(), now);
            }
        }
        if state.pending.remove(&number).is_some() {
            drop(state);
            let found = batch.into_iter().map(|sought| {
                // A file may be sought twice.
                let located = answers.entry(sought.key.fid).or_insert(Located::Failed);
                (sought.key, located.clone())
            });
            (shared.tell)(found.collect());
            state = shared.state();
        }
    }
}

/// Answers what hangs although it should not, as a look at a file does while its MDT is away.
fn watch(shared: &Shared) {
    let mut state = shared.state();
    loop {
        let Some(&(deadline, number)) = state.running.first() else {
            state = shared.watch.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            state = shared.watch.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        state.running.remove(&(deadline, number));
        let Some(batch) = state.pending.remove(&number) else { continue };
        drop(state);
        tracing::warn!(requests = batch.len(), "the locator hangs");
        (shared.tell)(batch.into_iter().map(|sought| (sought.key, Located::Failed)).collect());
        state = shared.state();
    }
}

/// Asks for a batch. What could not be found out is missing.
fn ask(shared: &Shared, batch: &[Sought]) -> Answers {
    let questions: Vec<Question> = batch.iter().map(|sought| question(shared, sought)).collect();
    let (settings, timeout) = (&shared.settings, shared.settings.timeout);
    let run = |argv: &[String]| command::run(argv, lines::write(&questions), timeout);
    let read = |(text, _): (String, Option<i32>)| lines::read(&text);
    let answer: io::Result<(Answers, Vec<String>)> = match &settings.means {
        Means::Command(argv) => run(argv).map(read),
        Means::Phobos { library, copies } => {
            match phobos::command(library, *copies).and_then(|argv| run(&argv)) {
                Ok((_, Some(code))) if code == i32::from(phobos::NO_LIBRARY) => {
                    tracing::warn!(library, "there is no phobos to ask: restores go to any mover");
                    let nowhere = Located::At(Location::default());
                    return questions.iter().map(|question| (question.fid, nowhere.clone())).collect();
                }
                answer => answer.map(read),
            }
        }
        Means::Http(url) => lines::write_json(&questions)
            .map_err(io::Error::other)
            .and_then(|body| http::post(url, body, timeout))
            .and_then(|body| lines::read_json(&body).map_err(io::Error::other)),
    };
    match answer {
        Ok((answers, bad)) => {
            if !bad.is_empty() {
                let examples = bad[..bad.len().min(EXAMPLES)].join("; ");
                tracing::warn!(lines = bad.len(), "answers of the locator cannot be read: {examples}");
            }
            let missing = questions.iter().filter(|question| !answers.contains_key(&question.fid)).count();
            if missing > 0 {
                tracing::warn!(requests = missing, "the locator does not say where these lie");
            }
            answers
        }
        Err(error) => {
            tracing::warn!(requests = batch.len(), "the locator failed: {error}");
            Answers::new()
        }
    }
}

fn question(shared: &Shared, sought: &Sought) -> Question {
    let xattr = shared.settings.xattr.as_deref();
    let oid = xattr.zip(shared.mount.as_ref()).and_then(|(name, mount)| oid_of(mount, sought.key.fid, name));
    Question {
        fid: sought.key.fid,
        action: sought.action.name(),
        archive_id: sought.archive_id,
        focus: sought.focus.clone(),
        oid,
        data: String::from_utf8_lossy(&sought.data).trim_end_matches('\0').to_owned(),
    }
}

fn oid_of(mount: &CurrentMount, fid: Fid, name: &str) -> Option<String> {
    let path = mount.get().path().join(by_fid(fid));
    let mut buffer = vec![0u8; MAX_OID];
    match rustix::fs::lgetxattr(&path, name, &mut buffer[..]) {
        Ok(len) => {
            buffer.truncate(len);
            let text = String::from_utf8(buffer).ok()?;
            Some(text.trim_end_matches('\0').to_owned())
        }
        Err(error) => {
            tracing::debug!(%fid, "no {name}: {error}");
            None
        }
    }
}
