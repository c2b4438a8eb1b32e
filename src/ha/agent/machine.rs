//! What an agent keeps, and how events find their way.

use std::collections::{BTreeMap, VecDeque};

use super::event::{Effect, Effects, Event, Identity, IntentRecord};
use super::operations::{Operation, StartedBy};
use super::sessions::Session;
use crate::ha::ids::{Epoch, LinkId, ManagerId, ManagerRun, OrderId, ResourceId};
use crate::time::{Mono, Now};

/// Decides which orders are obeyed, and remembers what is unfinished.
#[derive(Debug)]
pub struct Agent {
    pub(super) identity: Identity,
    /// The highest seal: stored.
    pub(super) seal: Option<Seal>,
    /// The connection that sealed last: the only one that is obeyed.
    pub(super) obeyed: Option<LinkId>,
    pub(super) sessions: BTreeMap<LinkId, Session>,
    /// Everything that is not over, by order.
    pub(super) operations: BTreeMap<OrderId, Operation>,
    /// Starts whose processes may still be there, since the resource is what they left.
    pub(super) started: BTreeMap<ResourceId, Vec<StartedBy>>,
    /// Results of starts and stops that no manager has confirmed to have. One for each resource at most.
    pub(super) results: BTreeMap<ResourceId, crate::ha::protocol::Finished>,
    /// What waits for the disk, in the order in which it was given to it.
    pub(super) storing: VecDeque<Storing>,
    pub(super) stored: u64,
    pub(super) heartbeats: Heartbeats,
    pub(super) recovered: bool,
    pub(super) out: Effects,
}

/// A stored promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) epoch: Epoch,
    pub(super) manager: ManagerId,
    pub(super) run: ManagerRun,
    pub(super) cluster: String,
}

/// What shall happen once a record is stored.
#[derive(Debug)]
pub(super) enum Storing {
    /// A seal that a connection asked for.
    Seal(LinkId, Seal),
    /// An intent: then it may be executed.
    Intent(OrderId),
    /// Nothing waits for it.
    Other,
}

/// Heartbeats sent, to tell how old a quoted one is.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    pub(super) last: u64,
    /// When the latest were sent, newest last.
    pub(super) sent: VecDeque<(u64, Mono)>,
}

impl Heartbeats {
    /// Remembered: more than any quoted one may be old.
    const KEPT: usize = 1024;

    pub(super) fn send(&mut self, now: Mono) -> u64 {
        self.last += 1;
        self.sent.push_back((self.last, now));
        if self.sent.len() > Self::KEPT {
            self.sent.pop_front();
        }
        self.last
    }

    pub(super) fn sent_at(&self, number: u64) -> Option<Mono> {
        let index = self.sent.binary_search_by_key(&number, |(sent, _)| *sent).ok()?;
        self.sent.get(index).map(|(_, at)| *at)
    }
}

impl Agent {
    /// A new run of the agent on a host. The first event must be [`Event::Recovered`].
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            seal: None,
            obeyed: None,
            sessions: BTreeMap::new(),
            operations: BTreeMap::new(),
            started: BTreeMap::new(),
            results: BTreeMap::new(),
            storing: VecDeque::new(),
            stored: 0,
            heartbeats: Heartbeats::default(),
            recovered: false,
            out: Effects::new(),
        }
    }

    /// Takes one event and adds what must be done to `effects`.
    pub fn handle(&mut self, now: Now, event: Event, effects: &mut Effects) {
        assert!(
            self.recovered || matches!(event, Event::Recovered { .. }),
            "an agent first learns what was before it"
        );
        match event {
            Event::Recovered { records, alive } => self.recover(now, records, alive),
            Event::Connected { link } => self.connected(link),
            Event::Received { link, message } => self.received(now, link, message),
            Event::Disconnected { link } => self.disconnected(link),
            Event::Exited { order, outcome, reason, took_ms, left_behind, advised_interval_ms } => {
                self.exited(order, outcome, reason, took_ms, left_behind, advised_interval_ms);
            }
            Event::Emptied { order } => self.emptied(order),
            Event::Stored { count, error } => self.stored(now, count, error.as_deref()),
            Event::Tick => {}
        }
        self.beat(now);
        effects.append(&mut self.out);
    }

    /// When [`Event::Tick`] must come at the latest.
    pub fn next_deadline(&self) -> Mono {
        self.sessions.values().filter_map(Session::next_heartbeat).min().unwrap_or(Mono::MAX)
    }

    /// The epoch that it was sealed with last, for tests and simulators.
    pub fn sealed(&self) -> Epoch {
        self.seal.as_ref().map(|seal| seal.epoch).unwrap_or_default()
    }

    pub(super) fn store(&mut self, record: IntentRecord, then: Storing) {
        self.storing.push_back(then);
        self.out.push(Effect::Store(record));
    }

    fn stored(&mut self, now: Now, count: u64, error: Option<&str>) {
        while self.stored < count {
            let Some(waiting) = self.storing.pop_front() else { return };
            self.stored += 1;
            // Only the last one of a report can have failed.
            let error = error.filter(|_| self.stored == count);
            match waiting {
                Storing::Seal(link, seal) => self.seal_stored(now, link, seal, error),
                Storing::Intent(order) => self.intent_stored(now, order, error),
                Storing::Other => {}
            }
        }
    }
}
