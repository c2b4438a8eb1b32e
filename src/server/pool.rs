//! Questions about files that may take long to answer: threads of their own ask, off the loop.
//!
//! A look at a file waits while its MDT is away, and whoever else is asked may hang. So each batch of questions has a
//! deadline, and what is not answered by then counts as unknown. Answers are remembered for a while.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lustreapi_sys::Fid;

use super::recent::Recent;
use crate::hsm::RequestKey;

/// One kind of questions, and who answers them.
pub trait Oracle: Send + Sync + 'static {
    /// What is asked.
    type Question: Clone + Send + 'static;
    /// What is answered.
    type Answer: Clone + Send + 'static;

    /// Said in the log when a deadline passes.
    const SILENT: &'static str;

    /// The request that is asked about.
    fn key(question: &Self::Question) -> RequestKey;

    /// Asks, in a thread of the pool, for as long as it takes. What could not be found out is missing.
    fn ask(&self, batch: &[Self::Question]) -> BTreeMap<Fid, Self::Answer>;

    /// Whether an answer still holds when the same file is asked about soon.
    fn lasts(_answer: &Self::Answer) -> bool {
        true
    }

    /// Takes the answers, `None` for what is not known. Every question is answered once.
    fn tell(&self, found: Vec<(RequestKey, Option<Self::Answer>)>);
}

/// When a batch counts as unanswered.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// So long after it was handed over, begun or not.
    SinceAsked(Duration),
    /// So long after a thread began with it.
    SinceBegun(Duration),
}

/// The sizes of a pool.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// What its threads are called.
    pub name: &'static str,
    /// How many there are.
    pub threads: usize,
    /// Questions that one thread takes at a time.
    pub batch: usize,
    /// When a batch counts as unanswered.
    pub patience: Patience,
    /// Answers that are remembered, and for how long.
    pub remembered: (usize, Duration),
}

/// The threads that ask.
pub struct Pool<O: Oracle> {
    shared: Arc<Shared<O>>,
}

struct Shared<O: Oracle> {
    oracle: O,
    sizes: Sizes,
    state: Mutex<State<O>>,
    work: Condvar,
    /// Something new may pass its deadline.
    watch: Condvar,
}

struct State<O: Oracle> {
    next: u64,
    queue: VecDeque<u64>,
    /// What was asked for and not answered.
    pending: BTreeMap<u64, Vec<O::Question>>,
    /// Deadlines, of batches that have one already.
    due: BTreeSet<(Instant, u64)>,
    known: Recent<O::Answer>,
}

impl<O: Oracle> Shared<O> {
    fn state(&self) -> MutexGuard<'_, State<O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O: Oracle> Pool<O> {
    /// Starts the threads.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(oracle: O, sizes: Sizes) -> io::Result<Self> {
        let (most, lifetime) = sizes.remembered;
        let state = State {
            next: 0,
            queue: VecDeque::new(),
            pending: BTreeMap::new(),
            due: BTreeSet::new(),
            known: Recent::new(most, lifetime),
        };
        let shared = Arc::new(Shared {
            oracle,
            sizes,
            state: Mutex::new(state),
            work: Condvar::new(),
            watch: Condvar::new(),
        });
        let spawn = |task: fn(&Shared<O>)| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(sizes.name.into()).spawn(move || task(&shared))
        };
        for _ in 0..sizes.threads {
            spawn(work)?;
        }
        spawn(watch)?;
        Ok(Self { shared })
    }

    /// Begins to ask. Never blocks for the oracle.
    pub fn ask(&self, questions: Vec<O::Question>) {
        let (sizes, now) = (&self.shared.sizes, Instant::now());
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        let mut state = self.shared.state();
        for question in questions {
            let key = O::key(&question);
            match state.known.get(key.fid, now) {
                Some(answer) => known.push((key, Some(answer))),
                None => unknown.push(question),
            }
        }
        for part in unknown.chunks(sizes.batch) {
            state.next += 1;
            let number = state.next;
            state.pending.insert(number, part.to_vec());
            state.queue.push_back(number);
            if let Patience::SinceAsked(patience) = sizes.patience {
                state.due.insert((now + patience, number));
            }
        }
        drop(state);
        self.shared.work.notify_all();
        self.shared.watch.notify_all();
        if !known.is_empty() {
            self.shared.oracle.tell(known);
        }
    }
}

fn work<O: Oracle>(shared: &Shared<O>) {
    let mut state = shared.state();
    loop {
        let Some(number) = state.queue.pop_front() else {
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        // It may have been given up on while all threads were waiting for an MDT.
        let Some(batch) = state.pending.get(&number).cloned() else { continue };
        if let Patience::SinceBegun(patience) = shared.sizes.patience {
            state.due.insert((Instant::now() + patience, number));
        }
        drop(state);
        shared.watch.notify_all();
        let answers = shared.oracle.ask(&batch);
        let now = Instant::now();
        state = shared.state();
        for (fid, answer) in answers.iter().filter(|(_, answer)| O::lasts(answer)) {
            state.known.add(*fid, answer.clone(), now);
        }
        if state.pending.remove(&number).is_some() {
            drop(state);
            let answer = |key: RequestKey| (key, answers.get(&key.fid).cloned());
            shared.oracle.tell(batch.iter().map(|question| answer(O::key(question))).collect());
            state = shared.state();
        }
    }
}

/// Answers what has passed its deadline.
fn watch<O: Oracle>(shared: &Shared<O>) {
    let mut state = shared.state();
    loop {
        let Some(&(deadline, number)) = state.due.first() else {
            state = shared.watch.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if state.pending.contains_key(&number) && !left.is_zero() {
            state = shared.watch.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        state.due.remove(&(deadline, number));
        let Some(batch) = state.pending.remove(&number) else { continue };
        drop(state);
        tracing::warn!(requests = batch.len(), "{}", O::SILENT);
        shared.oracle.tell(batch.iter().map(|question| (O::key(question), None)).collect());
        state = shared.state();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    type Found = Vec<(RequestKey, Option<u32>)>;

    /// Knows the numbers of files below 100, and hangs for ever at file 666.
    struct Numbers {
        found: Sender<Found>,
        asked: Sender<usize>,
    }

    impl Oracle for Numbers {
        type Question = RequestKey;
        type Answer = u32;
        const SILENT: &'static str = "nobody knows";

        fn key(question: &RequestKey) -> RequestKey {
            *question
        }

        fn ask(&self, batch: &[RequestKey]) -> BTreeMap<Fid, u32> {
            self.asked.send(batch.len()).unwrap();
            while batch.iter().any(|key| key.fid.oid == 666) {
                std::thread::park();
            }
            let known = batch.iter().filter(|key| key.fid.oid < 100);
            known.map(|key| (key.fid, key.fid.oid)).collect()
        }

        fn tell(&self, found: Found) {
            self.found.send(found).unwrap();
        }
    }

    fn key(cookie: u64, oid: u32) -> RequestKey {
        RequestKey { cookie, fid: Fid::new(1, oid, 0) }
    }

    fn pool(patience: Patience, lifetime: Duration) -> (Pool<Numbers>, Receiver<Found>, Receiver<usize>) {
        let ((found, finds), (asked, asks)) = (mpsc::channel(), mpsc::channel());
        let sizes = Sizes { name: "numbers", threads: 1, batch: 2, patience, remembered: (10, lifetime) };
        (Pool::start(Numbers { found, asked }, sizes).unwrap(), finds, asks)
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn every_question_is_answered_in_batches_and_known_files_are_not_asked_again() {
        let (pool, finds, asks) = pool(Patience::SinceBegun(LONG), LONG);
        // Two requests may be about one file.
        pool.ask(vec![key(1, 7), key(2, 7), key(3, 200)]);
        assert_eq!(finds.recv().unwrap(), [(key(1, 7), Some(7)), (key(2, 7), Some(7))]);
        assert_eq!(finds.recv().unwrap(), [(key(3, 200), None)]);
        pool.ask(vec![key(4, 7)]);
        assert_eq!(finds.recv().unwrap(), [(key(4, 7), Some(7))]);
        assert_eq!(asks.try_iter().collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn what_hangs_is_unknown_after_its_deadline_and_what_waits_behind_it_only_if_that_counts() {
        let short = Duration::from_millis(20);
        let (pool, finds, _asks) = self::pool(Patience::SinceAsked(short), LONG);
        pool.ask(vec![key(1, 666), key(2, 3), key(3, 4)]);
        assert_eq!(finds.recv().unwrap(), [(key(1, 666), None), (key(2, 3), None)]);
        assert_eq!(finds.recv().unwrap(), [(key(3, 4), None)]);

        let (pool, finds, _asks) = self::pool(Patience::SinceBegun(short), LONG);
        pool.ask(vec![key(1, 666), key(2, 3), key(3, 4)]);
        assert_eq!(finds.recv().unwrap(), [(key(1, 666), None), (key(2, 3), None)]);
        let behind = &pool.shared.state().pending;
        assert_eq!(behind.values().flatten().copied().collect::<Vec<_>>(), [key(3, 4)]);
    }
}
