//! The way to one MDT: queues with a bound, and the threads that empty them.
//!
//! Each call waits while the MDT is away and holds one of this client's places for changes there (`max_mod_rpcs_in_flight`,
//! 7 by default, which movers on this node need as well), so threads are few: two for ends and keepalives, one for
//! everything else, which cannot hold up an end that way.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::call::{Call, Kind};

/// Threads for ends and keepalives.
const END_THREADS: usize = 2;
/// Threads for states and requests.
const QUESTION_THREADS: usize = 1;

/// Most calls of each kind that wait. The core bounds what it has under way; this bounds it once more, so that an MDT that
/// is away for hours costs no memory.
const MOST_ENDS: usize = 65_536;
const MOST_KEEPALIVES: usize = 4_096;
const MOST_QUESTIONS: usize = 4_096;

/// From one keepalive to the next: 10,000 a second to one MDT, whatever `keepalive_rate` says.
const KEEPALIVE_GAP: Duration = Duration::from_micros(100);

/// Makes one call and tells what came of it.
pub(super) type Make = Arc<dyn Fn(&Call) + Send + Sync>;

/// The way to one MDT.
#[derive(Debug)]
pub(super) struct Lane(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queues: Mutex<Queues>,
    for_ends: Condvar,
    for_questions: Condvar,
}

#[derive(Debug, Default)]
struct Queues {
    ends: VecDeque<Call>,
    keepalives: VecDeque<Call>,
    /// When the next keepalive may go.
    keepalive_at: Option<Instant>,
    questions: VecDeque<Call>,
    closed: bool,
}

/// What a thread for ends is to do.
#[derive(Debug)]
enum Next {
    Make(Call),
    /// Nothing, for so long.
    Pause(Duration),
    Wait,
    Stop,
}

impl Lane {
    /// Starts its threads.
    pub(super) fn start(make: &Make) -> io::Result<Self> {
        let lane = Self(Arc::default());
        for (name, count, run) in [
            ("mdt", END_THREADS, Shared::serve_ends as fn(&Shared, &Make)),
            ("mdt-ask", QUESTION_THREADS, Shared::serve_questions),
        ] {
            for _ in 0..count {
                let (shared, make) = (Arc::clone(&lane.0), Arc::clone(make));
                // Those that were started end with the lane.
                std::thread::Builder::new().name(name.into()).spawn(move || run(&shared, &make))?;
            }
        }
        Ok(lane)
    }

    /// Queues a call. Hands it back if too many wait.
    pub(super) fn push(&self, call: Call) -> Result<(), Call> {
        let mut queues = self.0.lock();
        let (queue, most, wake) = match call.kind() {
            Kind::End => (&mut queues.ends, MOST_ENDS, &self.0.for_ends),
            Kind::KeepAlive => (&mut queues.keepalives, MOST_KEEPALIVES, &self.0.for_ends),
            Kind::Question => (&mut queues.questions, MOST_QUESTIONS, &self.0.for_questions),
        };
        if queue.len() >= most {
            return Err(call);
        }
        queue.push_back(call);
        wake.notify_one();
        Ok(())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.for_ends.notify_all();
        self.0.for_questions.notify_all();
    }
}

impl Queues {
    fn next(&mut self, now: Instant) -> Next {
        if self.closed {
            return Next::Stop;
        }
        if let Some(end) = self.ends.pop_front() {
            return Next::Make(end);
        }
        match self.keepalive_at {
            Some(at) if at > now && !self.keepalives.is_empty() => return Next::Pause(at - now),
            _ => {}
        }
        match self.keepalives.pop_front() {
            Some(call) => {
                self.keepalive_at = Some(now + KEEPALIVE_GAP);
                Next::Make(call)
            }
            None => Next::Wait,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve_ends(&self, make: &Make) {
        let mut queues = self.lock();
        loop {
            match queues.next(Instant::now()) {
                Next::Make(call) => {
                    drop(queues);
                    make(&call);
                    queues = self.lock();
                }
                Next::Pause(gap) => {
                    let waited = self.for_ends.wait_timeout(queues, gap);
                    queues = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Next::Wait => {
                    queues = self.for_ends.wait(queues).unwrap_or_else(PoisonError::into_inner);
                }
                Next::Stop => return,
            }
        }
    }

    fn serve_questions(&self, make: &Make) {
        let mut queues = self.lock();
        loop {
            if queues.closed {
                return;
            }
            match queues.questions.pop_front() {
                Some(call) => {
                    drop(queues);
                    make(&call);
                    queues = self.lock();
                }
                None => {
                    queues = self.for_questions.wait(queues).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use lustreapi_sys::Fid;

    use super::*;
    use crate::hsm::{Action, ActionItem, LustreCall, RequestKey};

    fn key(cookie: u64) -> RequestKey {
        RequestKey { cookie, fid: Fid::new(0x2_0000_0401, 1, 0) }
    }

    fn keepalive(cookie: u64) -> Call {
        Call::Ask(LustreCall::KeepAlive { key: key(cookie), number: 0 })
    }

    fn state(cookie: u64) -> Call {
        Call::Ask(LustreCall::State { key: key(cookie), number: 0 })
    }

    fn end(cookie: u64) -> Call {
        let fid = key(cookie).fid;
        let item = ActionItem::new(Action::Archive, fid, cookie, 1);
        Call::End(Box::new(item), libc::ECANCELED)
    }

    fn cookie(call: &Call) -> u64 {
        match call {
            Call::End(item, _) => item.cookie,
            Call::Ask(LustreCall::Request { item, .. }) => item.cookie,
            Call::Ask(LustreCall::KeepAlive { key, .. } | LustreCall::State { key, .. }) => key.cookie,
        }
    }

    /// A lane whose calls say that they began and end when they are let.
    fn lane() -> (Lane, mpsc::Receiver<(Kind, u64)>, mpsc::Sender<()>) {
        let (began, calls) = mpsc::channel();
        let (release, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let make: Make = Arc::new(move |call| {
            let _ = began.send((call.kind(), cookie(call)));
            // One waits with the lock, the others for it: each is let by one message.
            let _ = gate.lock().unwrap().recv();
        });
        (Lane::start(&make).unwrap(), calls, release)
    }

    #[test]
    fn two_calls_are_under_way_and_questions_have_a_thread_of_their_own() {
        let (lane, calls, release) = lane();
        for number in 1..=5 {
            lane.push(keepalive(number)).unwrap();
        }
        let mut first = [calls.recv().unwrap(), calls.recv().unwrap()];
        first.sort_by_key(|(_, cookie)| *cookie);
        assert_eq!(first, [(Kind::KeepAlive, 1), (Kind::KeepAlive, 2)]);
        // Both threads are busy, as with an MDT that is away: a question is asked all the same, an end is next.
        lane.push(state(6)).unwrap();
        assert_eq!(calls.recv().unwrap(), (Kind::Question, 6));
        lane.push(state(7)).unwrap();
        lane.push(end(8)).unwrap();
        assert_eq!(calls.try_recv(), Err(mpsc::TryRecvError::Empty));
        for _ in 0..8 {
            release.send(()).unwrap();
        }
        let later: Vec<_> = (0..5).map(|_| calls.recv().unwrap()).collect();
        let place = |cookie| later.iter().position(|(_, other)| *other == cookie);
        assert!(place(8) < place(3), "an end goes before keepalives: {later:?}");
        assert!(place(7).is_some());
    }

    #[test]
    fn what_is_too_much_comes_back() {
        let (lane, calls, _release) = lane();
        let fill = |make: &dyn Fn(u64) -> Call, busy: u64| {
            for number in 0..busy {
                lane.push(make(number)).unwrap();
                calls.recv().unwrap();
            }
            let mut taken = 0;
            while lane.push(make(taken)).is_ok() {
                taken += 1;
            }
            taken as usize
        };
        assert_eq!(fill(&end, 2), MOST_ENDS);
        assert_eq!(fill(&state, 1), MOST_QUESTIONS);
        assert_eq!(fill(&keepalive, 0), MOST_KEEPALIVES);
    }

    #[test]
    fn keepalives_keep_a_distance_that_ends_do_not_wait_for() {
        let mut queues = Queues::default();
        queues.keepalives.extend([keepalive(1), keepalive(2)]);
        let now = Instant::now();
        assert!(matches!(queues.next(now), Next::Make(call) if cookie(&call) == 1));
        assert!(matches!(queues.next(now), Next::Pause(gap) if gap == KEEPALIVE_GAP));
        queues.ends.push_back(end(3));
        assert!(matches!(queues.next(now), Next::Make(call) if cookie(&call) == 3));
        let later = now + KEEPALIVE_GAP;
        assert!(matches!(queues.next(later), Next::Make(call) if cookie(&call) == 2));
        assert!(matches!(queues.next(later), Next::Wait));
    }
}
