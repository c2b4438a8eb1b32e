//! Transactions that redis was sent and has not answered. It answers them in order, so that several can be on their way: while
//! it carries out one, the next is put together.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use redis::RedisError;

use super::link::{ANSWER, Answer};
use super::meta::{self, Stamp};
use super::recovery::not_connected;
use super::store::{Found, RedisStore};
use crate::hsm::effect::StoreOp;
use crate::store::{StoreError, UnderWay};

/// Operations of one transaction: enough that what comes with each does not count, and few enough that whoever waits for
/// them need not wait for many others.
pub(super) const OPERATIONS: usize = 1000;
/// Transactions that are sent before the first one is answered.
const MOST: usize = 8;

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

    /// What is to be waited for.
    pub(super) fn waits_for(&self) -> Option<UnderWay<'_>> {
        let link = self.link.as_ref().filter(|_| !self.in_flight.is_empty())?;
        let until = self.in_flight.heard.unwrap_or_else(Instant::now) + ANSWER;
        let full = self.pending_ops >= OPERATIONS && !self.may_send();
        Some(UnderWay { descriptor: link.descriptor(), until, full })
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
        self.fall_behind(reason, lost);
        self.link = None;
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
        } else if link.read_what_is_there()? {
            in_flight.heard = Some(Instant::now());
        } else if in_flight.heard.is_some_and(|heard| heard.elapsed() >= ANSWER) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer").into());
        }
        while let Some(sent) = in_flight.sent.front_mut() {
            let (stamp, places) = (sent.stamp, sent.places);
            let Some(results) = link.next_of(&mut sent.answer)? else { return Ok(Found::Intact) };
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
