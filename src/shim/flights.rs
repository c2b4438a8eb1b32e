//! The actions that the copytool holds, and the ends that the daemon has not acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::event::End;
use crate::hsm::{ActionItem, Mono, RequestKey};

/// An action that the daemon handed out and that has not ended.
#[derive(Debug)]
struct Flight {
    item: ActionItem,
    stage: Stage,
    /// How often it was due since the copytool last did anything, and what [`Flights::moves`] was then.
    idle: (u32, u64),
}

/// How far the copytool has come with an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Received, not read by the copytool yet.
    Waiting,
    /// Read by the copytool; looked at again at this time if it has not begun by then.
    Taken(Mono),
    /// Begun.
    Begun,
}

/// What became of an item that the daemon sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Hand it to the copytool.
    New,
    /// The copytool has it already.
    Known,
}

/// An end on its way to the daemon.
#[derive(Debug)]
struct Unacked {
    end: End,
    /// What to claim it with at the next `ehlo`; `None` when the copytool still runs the request (a cancel was
    /// acknowledged) or the daemon never told us about it.
    item: Option<ActionItem>,
}

/// The table of actions and the queue of ends.
#[derive(Debug, Default)]
pub(super) struct Flights {
    flights: BTreeMap<RequestKey, Flight>,
    unacked: VecDeque<Unacked>,
    /// How many of `unacked`, from the front, were sent on the present connection.
    sent: usize,
    /// How often the copytool took, began or ended something.
    moves: u64,
}

impl Flights {
    /// Takes an item that the daemon sent.
    pub(super) fn arrive(&mut self, item: &ActionItem) -> Arrival {
        match self.flights.get(&item.key()).map(|flight| flight.stage) {
            None | Some(Stage::Taken(_)) => {
                // A second hand-out of something that was taken and never begun replaces the first: the copytool dropped it.
                let flight = Flight { item: item.clone(), stage: Stage::Waiting, idle: (0, 0) };
                self.flights.insert(item.key(), flight);
                Arrival::New
            }
            Some(Stage::Waiting | Stage::Begun) => Arrival::Known,
        }
    }

    /// The copytool has read the list with these requests.
    pub(super) fn taken(&mut self, now: Mono, begin_timeout: Duration, keys: &[RequestKey]) {
        self.moves += 1;
        for key in keys {
            if let Some(flight) = self.flights.get_mut(key)
                && flight.stage == Stage::Waiting
            {
                flight.stage = Stage::Taken(now + begin_timeout);
            }
        }
    }

    /// The copytool has begun.
    pub(super) fn begun(&mut self, key: &RequestKey) {
        self.moves += 1;
        if let Some(flight) = self.flights.get_mut(key) {
            flight.stage = Stage::Begun;
        }
    }

    /// How often in a row this request was due while the copytool did nothing at all. Not a time: a process that was stopped
    /// finds it all gone when it goes on.
    pub(super) fn idle_times(&self, key: &RequestKey) -> u32 {
        let begun = || self.flights.values().any(|flight| flight.stage == Stage::Begun);
        match self.flights.get(key) {
            Some(Flight { idle: (times, moves), .. }) if *moves == self.moves && !begun() => *times,
            _ => 0,
        }
    }

    /// The copytool has ended: the end waits to be sent.
    pub(super) fn ended(&mut self, end: End) {
        self.moves += 1;
        let item = if end.cancel { None } else { self.flights.remove(&end.key).map(|flight| flight.item) };
        self.unacked.push_back(Unacked { end, item });
    }

    /// Forgets a request without an end. Returns its item.
    pub(super) fn forget(&mut self, key: &RequestKey) -> Option<ActionItem> {
        self.flights.remove(key).map(|flight| flight.item)
    }

    /// Forgets the ends of a request that is not ours any more.
    pub(super) fn forget_ends(&mut self, key: &RequestKey) {
        let mut sent = 0;
        let mut position = 0;
        let limit = self.sent;
        self.unacked.retain(|unacked| {
            let keep = unacked.end.key != *key;
            sent += usize::from(keep && position < limit);
            position += 1;
            keep
        });
        self.sent = sent;
    }

    /// The next end that is to be sent on this connection; it counts as sent.
    pub(super) fn next_unsent(&mut self) -> Option<End> {
        let unacked = self.unacked.get(self.sent)?;
        self.sent += 1;
        Some(unacked.end)
    }

    /// The daemon answered the oldest end that was sent.
    pub(super) fn acknowledged(&mut self) -> Option<End> {
        if self.sent == 0 {
            return None;
        }
        self.sent -= 1;
        self.unacked.pop_front().map(|unacked| unacked.end)
    }

    /// The connection is gone: all ends are to be sent again.
    pub(super) fn disconnected(&mut self) {
        self.sent = 0;
    }

    /// What to claim at the next `ehlo`: all that the copytool holds, and what has ended without the daemon knowing.
    pub(super) fn claims(&self) -> impl Iterator<Item = &ActionItem> {
        let ended = self.unacked.iter().filter_map(|unacked| unacked.item.as_ref());
        let ended = ended.filter(|item| !self.flights.contains_key(&item.key()));
        self.flights.values().map(|flight| &flight.item).chain(ended)
    }

    /// Whether the copytool holds this request.
    pub(super) fn holds(&self, key: &RequestKey) -> bool {
        self.flights.contains_key(key)
    }

    /// The item of a request that was taken and never begun.
    pub(super) fn dropped(&self, key: &RequestKey) -> Option<&ActionItem> {
        self.flights
            .get(key)
            .filter(|flight| matches!(flight.stage, Stage::Taken(_)))
            .map(|flight| &flight.item)
    }

    /// The requests that were taken and not begun by now; each is due again after `begin_timeout`.
    pub(super) fn overdue(&mut self, now: Mono, begin_timeout: Duration) -> Vec<RequestKey> {
        let mut due = Vec::new();
        for (key, flight) in &mut self.flights {
            if let Stage::Taken(at) = &mut flight.stage
                && *at <= now
            {
                *at = now + begin_timeout;
                let (times, moves) = flight.idle;
                flight.idle = if moves == self.moves { (times + 1, moves) } else { (1, self.moves) };
                due.push(*key);
            }
        }
        due
    }

    /// When the next request that was taken should have begun.
    pub(super) fn next_overdue(&self) -> Option<Mono> {
        self.flights
            .values()
            .filter_map(|flight| match flight.stage {
                Stage::Taken(at) => Some(at),
                Stage::Waiting | Stage::Begun => None,
            })
            .min()
    }

    /// How many requests the copytool holds.
    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// How many ends are not acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        self.unacked.len()
    }
}
