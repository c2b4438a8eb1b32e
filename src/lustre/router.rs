//! Finds out which MDT a call is for, and hands it to that MDT's threads.
//!
//! Where a sequence of FIDs is must be asked of the kernel, which may have to ask an MDT that is away. So calls wait for their
//! own sequence only, and several sequences are looked up at a time.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use lustreapi_sys::Fid;

use super::call::Call;
use super::lane::{Lane, Make};
use super::link::Tell;

/// Sequences that are looked up at a time.
const FIND_THREADS: usize = 4;
/// Sequences remembered with their MDT. One sequence is some 100,000 files of one client.
const MAX_KNOWN: usize = 100_000;
/// Calls that wait until it is known which MDT they are for.
const MOST_WAITING: usize = 8_192;
/// Stands for files whose MDT cannot be told: the kernel finds the way, but they share threads.
const ANY_MDT: u32 = u32::MAX;

/// Finds the index of the MDT that holds a file; none if the kernel cannot tell. May block.
pub(super) type Find = Arc<dyn Fn(Fid) -> Option<u32> + Send + Sync>;

/// The way to all MDTs.
pub(super) struct Router(Arc<Shared>);

struct Shared {
    find: Find,
    make: Make,
    tell: Tell,
    state: Mutex<State>,
    wanted: Condvar,
}

#[derive(Default)]
struct State {
    /// MDT of each sequence.
    known: BTreeMap<u64, u32>,
    /// Counts how often everything was forgotten, so that what was asked before is not taken for new.
    forgotten: u64,
    /// Calls by the sequence that is being looked up.
    waiting: BTreeMap<u64, Vec<Call>>,
    waiting_calls: usize,
    /// A file of each sequence that nobody looks up yet.
    unknown: VecDeque<Fid>,
    lanes: BTreeMap<u32, Lane>,
    closed: bool,
}

impl Router {
    /// Starts the threads that look up sequences. Those of MDTs start when they are needed.
    pub(super) fn start(find: Find, make: Make, tell: Tell) -> io::Result<Self> {
        let state = Mutex::default();
        let router = Self(Arc::new(Shared { find, make, tell, state, wanted: Condvar::new() }));
        for _ in 0..FIND_THREADS {
            let shared = Arc::clone(&router.0);
            // Those that were started end with the router.
            std::thread::Builder::new().name("mdt-find".into()).spawn(move || shared.serve())?;
        }
        Ok(router)
    }

    /// Hands over a call. It is answered with EAGAIN if too much waits.
    pub(super) fn route(&self, call: Call) {
        let seq = call.fid().seq;
        let refused = {
            let mut state = self.0.lock();
            match state.known.get(&seq).copied() {
                Some(mdt) => state.send(mdt, call, &self.0.make).err(),
                None if state.waiting_calls >= MOST_WAITING => Some(call),
                None => {
                    state.waiting_calls += 1;
                    match state.waiting.entry(seq) {
                        Entry::Occupied(mut calls) => calls.get_mut().push(call),
                        Entry::Vacant(place) => {
                            let fid = call.fid();
                            place.insert(vec![call]);
                            state.unknown.push_back(fid);
                            self.0.wanted.notify_one();
                        }
                    }
                    None
                }
            }
        };
        self.0.refuse(refused);
    }

    /// Forgets where sequences are: the file system was mounted anew, perhaps even made anew.
    pub(super) fn forget(&self) {
        let mut state = self.0.lock();
        state.known.clear();
        state.forgotten += 1;
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.wanted.notify_all();
    }
}

impl State {
    /// Hands the call back if too much waits for that MDT.
    fn send(&mut self, mdt: u32, call: Call, make: &Make) -> Result<(), Call> {
        let lane = match self.lanes.entry(mdt) {
            Entry::Occupied(lane) => lane.into_mut(),
            Entry::Vacant(place) => match Lane::start(make) {
                Ok(lane) => place.insert(lane),
                Err(error) => {
                    tracing::error!("cannot start threads for MDT {mdt}: {error}");
                    return Err(call);
                }
            },
        };
        lane.push(call)
    }

    fn found(&mut self, seq: u64, mdt: Option<u32>, forgotten: u64, make: &Make) -> Vec<Call> {
        if let Some(mdt) = mdt.filter(|_| forgotten == self.forgotten) {
            if self.known.len() >= MAX_KNOWN {
                self.known.clear();
            }
            self.known.insert(seq, mdt);
        }
        let calls = self.waiting.remove(&seq).unwrap_or_default();
        self.waiting_calls -= calls.len();
        calls.into_iter().filter_map(|call| self.send(mdt.unwrap_or(ANY_MDT), call, make).err()).collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        let mut state = self.lock();
        while !state.closed {
            let Some(fid) = state.unknown.pop_front() else {
                state = self.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let forgotten = state.forgotten;
            drop(state);
            let mdt = (self.find)(fid);
            let refused = self.lock().found(fid.seq, mdt, forgotten, &self.make);
            self.refuse(refused);
            state = self.lock();
        }
    }

    fn refuse(&self, calls: impl IntoIterator<Item = Call>) {
        for call in calls {
            tracing::debug!(fid = %call.fid(), "too much waits for the MDT of this file");
            (self.tell)(call.failed(libc::EAGAIN));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;
    use crate::hsm::{LustreCall, RequestKey};
    use crate::lustre::link::FromLustre;

    fn state_of(seq: u64, cookie: u64) -> Call {
        Call::Ask(LustreCall::State { key: RequestKey { cookie, fid: Fid::new(seq, 1, 0) }, number: 0 })
    }

    /// A router whose calls are told with ESTALE when they are made.
    fn router(find: Find) -> (Router, Receiver<FromLustre>) {
        let (send, told) = channel();
        let made = send.clone();
        let make: Make = Arc::new(move |call| drop(made.send(call.failed(libc::ESTALE))));
        let tell: Tell = Arc::new(move |message| drop(send.send(message)));
        (Router::start(find, make, tell).unwrap(), told)
    }

    fn next(told: &Receiver<FromLustre>) -> FromLustre {
        told.recv_timeout(Duration::from_secs(60)).unwrap()
    }

    #[test]
    fn a_sequence_that_cannot_be_looked_up_holds_up_no_other() {
        let (release, gate) = channel::<()>();
        let gate = Mutex::new(gate);
        let looked_up = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&looked_up);
        let find: Find = Arc::new(move |fid| {
            count.fetch_add(1, Ordering::SeqCst);
            if fid.seq == 0x400 {
                let _ = gate.lock().unwrap().recv();
            }
            Some(0)
        });
        let (router, told) = router(find);
        router.route(state_of(0x400, 1));
        router.route(state_of(0x400, 2));
        for cookie in 3..20 {
            router.route(state_of(0x500, cookie));
            assert_eq!(next(&told), state_of(0x500, cookie).failed(libc::ESTALE));
        }
        release.send(()).unwrap();
        for cookie in [1, 2] {
            assert_eq!(next(&told), state_of(0x400, cookie).failed(libc::ESTALE));
        }
        assert_eq!(looked_up.load(Ordering::SeqCst), 2, "each was looked up once");
        router.forget();
        router.route(state_of(0x500, 20));
        next(&told);
        assert_eq!(looked_up.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn what_is_too_much_is_refused_and_what_cannot_be_told_goes_all_the_same() {
        let (release, gate) = channel::<()>();
        let gate = Mutex::new(gate);
        let find: Find = Arc::new(move |_| {
            let _ = gate.lock().unwrap().recv();
            None
        });
        let (router, told) = router(find);
        for cookie in 0..=MOST_WAITING as u64 {
            router.route(state_of(0x400, cookie));
        }
        assert_eq!(next(&told), state_of(0x400, MOST_WAITING as u64).failed(libc::EAGAIN));
        release.send(()).unwrap();
        // All of them are made, or refused because there are too many for one MDT.
        let answers: Vec<_> = (0..MOST_WAITING).map(|_| next(&told)).collect();
        assert!(answers.contains(&state_of(0x400, 0).failed(libc::ESTALE)));
    }
}
