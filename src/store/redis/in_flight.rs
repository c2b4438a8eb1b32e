//! Transactions that redis was sent and has not answered. It answers them in order, so that several can be on their way: while
//! it carries out one, the next is put together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::RedisError;

use super::link::{ANSWER, Answer};
use super::meta::{self, Stamp};
use super::recovery::not_connected;
use super::resp::too_late;
use super::store::{Found, RedisStore};
use crate::hsm::effect::StoreOp;
use crate::store::{StoreError, UnderWay};

/// Operations of one transaction: enough that what comes with each does not count, and few enough that whoever waits for
/// them need not wait for many others.
pub(super) const OPERATIONS: usize = 1000;
/// Transactions that are sent before the first one is answered.
const MOST: usize = 8;
/// Operations of a transaction from which on many come at a time.
const MANY: usize = 64;
/// How long one that is smaller than the one before then waits for others, when nothing is on its way.
const GATHER: Duration = Duration::from_micros(300);

/// What was begun together.
#[derive(Debug)]
struct Sync {
    ops: Vec<Arc<Vec<StoreOp>>>,
    /// Transactions that are not answered.
    left: usize,
}

/// One transaction.
#[derive(Debug)]
struct Sent {
    /// What it leaves.
    stamp: Stamp,
    /// Where requests are after it, by [`super::batch::Places::now`].
    places: u64,
    answer: Answer,
}

/// All that is under way.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    syncs: VecDeque<Sync>,
    sent: VecDeque<Sent>,
    /// When redis was last heard, or was sent something that it has not answered.
    heard: Option<Instant>,
    /// Operations that were begun together last.
    last: usize,
    /// Whether an answer showed that redis lost something.
    lost: bool,
}

impl InFlight {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.syncs.is_empty()
    }

    /// Whether nothing should be added.
    pub fn is_full(&self) -> bool {
        self.sent.len() >= MOST || self.lost
    }

    /// How many syncs there are.
    pub fn begun(&self) -> usize {
        self.syncs.len()
    }

    /// These operations are being sent.
    pub fn begin(&mut self, ops: Vec<Arc<Vec<StoreOp>>>) {
        if self.sent.is_empty() {
            self.heard = Some(Instant::now());
        }
        self.last = ops.iter().map(|ops| ops.len()).sum();
        self.syncs.push_back(Sync { ops, left: 0 });
    }

    /// A transaction with some of them was sent.
    pub fn add(&mut self, stamp: Stamp, places: u64, commands: usize) {
        self.sent.push_back(Sent { stamp, places, answer: Answer::of_transaction(commands) });
        if let Some(sync) = self.syncs.back_mut() {
            sync.left += 1;
        }
    }

    /// The first transaction was answered.
    fn answered(&mut self) {
        self.sent.pop_front();
        if let Some(sync) = self.syncs.front_mut() {
            sync.left -= 1;
        }
        while self.syncs.front().is_some_and(|sync| sync.left == 0) {
            self.syncs.pop_front();
        }
    }

    /// Gives up all of it.
    fn take(&mut self) -> Vec<Arc<Vec<StoreOp>>> {
        let Self { syncs, .. } = std::mem::take(self);
        syncs.into_iter().flat_map(|sync| sync.ops).collect()
    }
}

impl RedisStore {
    /// Whether a transaction may be sent now: redis is looked at only when nothing is on its way.
    pub(super) fn may_send(&self) -> bool {
        self.in_flight.is_empty() || !self.in_flight.is_full() && !self.watch_is_due()
    }

    /// While many operations come, a transaction is better as large as the one before it: each costs redis and us the same
    /// again. Says how many operations it still waits for, and until when at most.
    pub(super) fn gathers(&self) -> Option<(usize, Instant)> {
        let InFlight { heard, last, .. } = self.in_flight;
        let missing = last.min(OPERATIONS).saturating_sub(self.pending_ops);
        if !self.in_flight.is_empty() || last < MANY || self.pending_ops == 0 || missing == 0 {
            return None;
        }
        let until = heard? + GATHER;
        (Instant::now() < until).then_some((missing, until))
    }

    /// What is to be waited for.
    pub(super) fn waits_for(&self) -> Option<UnderWay<'_>> {
        let link = self.link.as_ref()?;
        if let Some((enough, until)) = self.gathers() {
            return Some(UnderWay { descriptor: link.descriptor(), until, enough });
        }
        if self.in_flight.is_empty() {
            return None;
        }
        let until = self.in_flight.heard.unwrap_or_else(Instant::now) + ANSWER;
        let enough = if self.may_send() { OPERATIONS.saturating_sub(self.pending_ops) } else { usize::MAX };
        Some(UnderWay { descriptor: link.descriptor(), until, enough })
    }

    /// Takes the answers that have come, or waits for some. Returns how many syncs are done with them.
    pub(super) fn take_answers(&mut self, wait: bool) -> Result<usize, StoreError> {
        let before = self.in_flight.begun();
        if before == 0 {
            return Ok(0);
        }
        match self.try_take_answers(wait) {
            Ok(Found::Intact) => {}
            Ok(found @ Found::Other) => self.fall_behind(found.as_reason(), true),
            Ok(found @ Found::Stranger) => self.give_up(found.as_reason())?,
            Err(error) => self.give_up(&error.to_string())?,
        }
        Ok(before - self.in_flight.begun())
    }

    /// Redis may lack what is under way, and what follows: it goes to the spill.
    pub(super) fn give_up(&mut self, reason: &str) -> Result<(), StoreError> {
        let lost = self.in_flight.lost;
        let all = self.in_flight.take();
        self.places.take_back();
        if let Some(link) = self.link.take() {
            link.abandon();
        }
        self.fall_behind(reason, lost);
        // What of it redis has got nevertheless is written again, which changes nothing.
        let spilled = self.sync_to_spill(&all);
        if spilled.is_err() {
            // It comes again, with all that was not durable.
            self.pending.clear();
            self.pending_ops = 0;
        }
        spilled
    }

    fn try_take_answers(&mut self, wait: bool) -> Result<Found, RedisError> {
        let Some(link) = &mut self.link else { return Err(not_connected()) };
        let in_flight = &mut self.in_flight;
        if wait {
            link.wait()?;
        } else {
            link.read_what_is_there()?;
        }
        while let Some(sent) = in_flight.sent.front_mut() {
            let (stamp, places, left) = (sent.stamp, sent.places, sent.answer.left());
            let results = link.next_of(&mut sent.answer)?;
            // Single bytes are no answer.
            if sent.answer.left() < left {
                in_flight.heard = Some(Instant::now());
            }
            let Some(results) = results else {
                let late = in_flight.heard.is_some_and(|heard| heard.elapsed() >= ANSWER);
                return if late { Err(too_late().into()) } else { Ok(Found::Intact) };
            };
            let found = meta::stamp_read(results);
            let ours = self.confirmed;
            if let Some(stranger) = found.filter(|found| found.is_strange_to(ours)) {
                // It finds our stamp now, and will write all that it knows anew.
                self.stranger = Some(stranger);
                return Ok(Found::Stranger);
            }
            in_flight.lost |= found != Some(ours);
            self.confirmed = stamp;
            self.places.confirm(places);
            in_flight.answered();
        }
        // Only now: redis has all that was on its way as well.
        Ok(if std::mem::take(&mut in_flight.lost) { Found::Other } else { Found::Intact })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::thread::JoinHandle;

    use lustreapi_sys::Fid;
    use redis::Value;

    use super::super::link::Server;
    use super::super::resp::Reader;
    use super::super::store::Options;
    use super::*;
    use crate::hsm::{Action, ActionItem};
    use crate::store::Store;

    /// What a played server does with a transaction.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Play {
        Run,
        Refuse,
        HangUp,
    }
    use Play::{HangUp, Refuse, Run};

    /// Plays these transactions to whoever comes first. Returns which of them were carried out, and the last stamp.
    fn play(
        listener: UnixListener,
        mut stamp: String,
        script: Vec<Play>,
    ) -> JoinHandle<(Vec<usize>, String)> {
        let word = |value: &Value| match value {
            Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{other:?}"),
        };
        // Whoever has sent all this may be gone: what it sent is carried out all the same.
        let answer = |input: &mut Reader<UnixStream>, text: &[u8]| drop(input.stream().write_all(text));
        std::thread::spawn(move || {
            let mut input = Reader::new(listener.accept().unwrap().0);
            let mut run = Vec::new();
            for (number, play) in script.into_iter().enumerate() {
                let (mut commands, mut new) = (0, String::new());
                loop {
                    let Ok(Value::Array(command)) = input.value() else { return (run, stamp) };
                    match (word(&command[0]).as_str(), command.last().map(word)) {
                        ("MULTI", _) => answer(&mut input, b"+OK\r\n"),
                        ("EXEC", _) => break,
                        (_, last) => {
                            (commands, new) = (commands + 1, last.unwrap());
                            answer(&mut input, b"+QUEUED\r\n");
                        }
                    }
                }
                match play {
                    Run => {
                        run.push(number + 1);
                        let (others, len) = (":1\r\n".repeat(commands - 1), stamp.len());
                        let text = format!("*{commands}\r\n${len}\r\n{stamp}\r\n{others}");
                        answer(&mut input, text.as_bytes());
                        stamp = new;
                    }
                    Refuse => answer(&mut input, b"-EXECABORT out of memory\r\n"),
                    HangUp => break,
                }
            }
            (run, stamp)
        })
    }

    fn put(cookie: u64) -> StoreOp {
        let fid = Fid::new(1, cookie as u32, 0);
        StoreOp::Put(ActionItem { timestamp: 1, ..ActionItem::new(Action::Archive, fid, cookie, 1) })
    }

    /// Few operations wait for others: while something is on its way, and for a moment after many.
    #[test]
    fn a_transaction_is_sent_when_that_is_worth_it() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let host = socket.to_str().unwrap().to_owned();
        let server = Server { host, port: 0, user: None, password: None };
        let options = Options { server, namespace: "n".into(), fsname: "lus".into(), run: 7 };
        let mut store = RedisStore::open(options, &directory.path().join("spill")).unwrap().unwrap();
        // Redis was just looked at, which would come first otherwise.
        store.watched = Some(Instant::now() + Duration::from_secs(3600));
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(3600));
        let earlier = now.checked_sub(Duration::from_secs(1)).unwrap();
        // How many are on their way, when redis answered, how many operations were begun last, how many there are; whether
        // they are sent, also if more is coming; how many more are awaited otherwise.
        let cases = [
            (0, None, 0, 1, true, false, None),
            (0, None, 0, OPERATIONS, true, true, None),
            (1, Some(later), 1, 1, false, false, Some(OPERATIONS - 1)),
            (1, Some(later), 1, OPERATIONS, true, true, Some(0)),
            (MOST, Some(later), 1, OPERATIONS, false, false, Some(usize::MAX)),
            (0, Some(later), MANY, MANY - 1, false, false, Some(1)),
            (0, Some(later), MANY, MANY, true, false, None),
            (0, Some(later), 5 * OPERATIONS, 1, false, false, Some(OPERATIONS - 1)),
            (0, Some(later), MANY - 1, 1, true, false, None),
            (0, Some(earlier), MANY, 1, true, false, None),
        ];
        for case @ (sent, heard, last, pending, alone, with_more, enough) in cases {
            store.in_flight = InFlight::default();
            for _ in 0..sent {
                store.in_flight.begin(Vec::new());
                store.in_flight.add(store.confirmed, 0, 1);
            }
            (store.in_flight.heard, store.in_flight.last, store.pending_ops) = (heard, last, pending);
            assert_eq!((store.wants_sync(false), store.wants_sync(true)), (alone, with_more), "{case:?}");
            assert_eq!(store.under_way().map(|waits| waits.enough), enough, "{case:?}");
        }
    }

    /// Five syncs are begun before the first is answered. Whatever becomes of them: what redis has not confirmed is in the
    /// spill, in order and without a gap, before it is said to be durable; and whether redis can just be given that is known.
    #[test]
    fn what_redis_did_not_confirm_is_spilled_in_order() {
        /// What redis does and holds, what it runs, what it confirms, whether it is written anew.
        type Case = (&'static [Play], &'static str, &'static [usize], u64, bool);
        let ours = "0 0000000000000007 0";
        let cases: [Case; 6] = [
            (&[Run, Run, Run, Run, Run], ours, &[1, 2, 3, 4, 5], 5, false),
            (&[Run, Run, Refuse, Run, Run], ours, &[1, 2, 4, 5], 2, false),
            (&[Run, HangUp], ours, &[1], 1, false),
            (&[HangUp], ours, &[], 0, false),
            // It was emptied before: all five are in it, and it is written anew.
            (&[Run, Run, Run, Run, Run], "nothing", &[1, 2, 3, 4, 5], 5, true),
            (&[Run, Run, HangUp], "nothing", &[1, 2], 2, true),
        ];
        for (script, stamp, run, confirms, anew) in cases {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("socket");
            let listener = UnixListener::bind(&socket).unwrap();
            let server = play(listener, stamp.to_owned(), script.to_vec());
            let host = socket.to_str().unwrap().to_owned();
            let server_at = Server { host, port: 0, user: None, password: None };
            let (namespace, fsname) = ("n".to_owned(), "lus".to_owned());
            let options = Options { server: server_at, namespace, fsname, run: 7 };
            let mut store = RedisStore::open(options, &directory.path().join("spill")).unwrap().unwrap();
            let mut done = 0;
            for cookie in 1..=5 {
                store.append(&[put(cookie)]).unwrap();
                done += store.begin_sync().unwrap();
            }
            while !store.in_flight.is_empty() {
                assert!(store.under_way().is_some());
                done += store.take_answers(true).unwrap();
                // None is said to be durable before redis has it, but for what is spilled.
                assert!(store.behind.is_some() || done as u64 == store.confirmed.sequence);
            }
            assert_eq!(done, 5, "{script:?}");
            let last = store.confirmed.sequence;
            store.link = None;
            let (was_run, stamp) = server.join().unwrap();
            // What was confirmed was run. Of what came after, it may not have got all.
            assert!(run.starts_with(&was_run) && was_run.len() as u64 >= last, "{script:?} {was_run:?}");
            // That it hung up may be noticed before its last answers are read.
            assert!(last == confirms || last < confirms && script.contains(&HangUp), "{script:?} {last}");
            let ops = store.spill.files().into_iter().flat_map(|number| {
                let file = store.spill.read(number).unwrap();
                (0..file.len()).filter_map(|frame| file.op(frame)).collect::<Vec<_>>()
            });
            assert_eq!(ops.collect::<Vec<_>>(), (last + 1..6).map(put).collect::<Vec<_>>(), "{script:?}");
            assert_eq!(store.behind.is_some(), last < 5 || anew, "{script:?}");
            assert!(store.spill_head().follows(Stamp::parse(&stamp)), "{script:?} {stamp}");
            store.tend();
            assert_eq!(store.wants_snapshot().is_some(), anew && last > 0, "{script:?}");
        }
    }
}
