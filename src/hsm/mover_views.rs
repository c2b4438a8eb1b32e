//! What operators are shown of movers, of the flow of work and of what failed.

use std::time::Duration;

use super::action::{Action, RequestKey};
use super::time::Wall;
use super::views::Attempt;

/// A mover, connected or awaited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MoverView {
    /// What it calls itself, or `host:port`.
    pub id: String,
    /// It has no name of its own: it loses its work when it disconnects.
    pub anonymous: bool,
    /// It identified itself or asked for work; others are peers like `coordinatool-client`.
    pub is_mover: bool,
    /// Whether it is connected.
    pub connected: bool,
    /// When it disconnected, and until when its work stays its own, for one that is away.
    pub away: Option<(Wall, Wall)>,
    /// It waits for work now.
    pub waiting: bool,
    /// What it serves; empty for all.
    pub archive_ids: Vec<u32>,
    /// Requests of each kind that it runs: restore, remove, archive.
    pub running: [u32; 3],
    /// The most of each kind that it asked for; `None` for no limit, or when it never asked.
    pub most: [Option<u32>; 3],
    /// Requests of each kind that it ended since it connected first.
    pub done: [u64; 3],
    /// Of those, how many failed.
    pub failed: u64,
    /// Errors that it told, by errno, also those that say nothing about it.
    pub errors: Vec<(i32, u64)>,
    /// Bytes of what it ended well, by action and archive id, as far as sizes are known.
    pub bytes: Vec<(Action, u32, u64)>,
    /// Errors and successes within the window of `quarantine_window_ms`.
    pub recent: (u32, u32),
    /// Requests that only it may take.
    pub own_queue: u64,
    /// Cancels to be sent to it.
    pub cancels: u64,
    /// Tags of its batch slots; `None` for a free one.
    pub slots: Vec<Option<Box<[u8]>>>,
    /// Gets nothing new, by an operator's order.
    pub drained: bool,
    /// Gets nothing new because it failed too often, until then.
    pub quarantined: Option<Wall>,
    /// One request is on trial after a quarantine.
    pub on_probation: bool,
    /// Limits keep it from getting more now.
    pub limited: bool,
    /// The most requests that it may run, by an operator's order.
    pub limit: Option<u32>,
    /// When its lease ends, for movers that have one.
    pub lease_until: Option<Wall>,
}

/// A request that failed and that nobody has asked for again, or not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The request that failed last.
    pub key: RequestKey,
    /// What was to be done.
    pub action: Action,
    /// Archive id.
    pub archive_id: u32,
    /// What the user passed with it.
    pub data: Box<[u8]>,
    /// When it failed last.
    pub failed: Wall,
    /// How often it failed.
    pub failures: u32,
    /// The last error: a positive errno.
    pub errno: i32,
    /// The mover on which it failed last; empty when it was given up before anybody had it.
    pub mover: String,
    /// When the MDT is asked for it again; `None` for one that is given up.
    pub retry: Option<Wall>,
    /// The MDT is being asked for it now.
    pub asking: bool,
    /// There is a request for it again, or soon will be.
    pub trying: bool,
    /// What came of asking the MDT last: a positive errno.
    pub refused: Option<i32>,
    /// The last attempts, as far as they are known, the oldest first.
    pub attempts: Vec<Attempt>,
}

/// One line of `top`: what has something in common.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Load {
    /// Requests that wait, for whatever reason.
    pub waiting: u64,
    /// Requests with movers.
    pub running: u64,
    /// How long the one at the head of a queue has waited; what is set aside does not count.
    pub oldest: Option<Duration>,
    /// Requests that ended well since the start.
    pub done: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Ends per second, over about the last minute.
    pub rate: f64,
}

/// A batch with work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TagLoad {
    /// What its requests have in common.
    pub tag: Box<[u8]>,
    /// Archive id.
    pub archive_id: u32,
    /// Requests in its queue.
    pub waiting: u64,
    /// Requests with movers.
    pub running: u64,
    /// How long the one at the head of its queue has waited.
    pub oldest: Option<Duration>,
    /// Movers with a slot for it.
    pub movers: Vec<String>,
}

/// What somebody has here: the shares of `fair_share`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OwnerLoad {
    /// `user`, `group`, `project`, `job`, `hint`, or `unknown` for those whose owner is not known, or not yet.
    pub kind: &'static str,
    /// A number, or the name of a job, or the value of a hint.
    pub name: String,
    /// How much. What ended is counted for the first 4096 owners only.
    pub load: Load,
}

/// What is going on, by several measures.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Top {
    /// By action and archive id.
    pub classes: Vec<(Action, u32, Load)>,
    /// By mover, without peers that never asked for work; `waiting` and `oldest` are of what only it may take.
    pub movers: Vec<(String, Load)>,
    /// By batch, those with the most work first.
    pub tags: Vec<TagLoad>,
    /// How many batches are left out.
    pub more_tags: usize,
    /// By owner where there are shares, those with the most work first.
    pub owners: Vec<OwnerLoad>,
    /// How many owners with work are left out.
    pub more_owners: usize,
}

/// Times of requests: how many took at most so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram {
    /// For each of [`Histogram::BOUNDS`], how many took at most that (not cumulative); the last for the rest.
    pub counts: [u64; 13],
    /// Their sum, in milliseconds.
    pub sum_ms: u64,
}

impl Histogram {
    /// Upper bounds in seconds.
    pub const BOUNDS: [f64; 12] =
        [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0];

    /// Counts one.
    pub fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let at = Self::BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(Self::BOUNDS.len());
        self.counts[at] += 1;
        self.sum_ms = self.sum_ms.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What went through, for one action and archive id, since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flow {
    /// Requests that wait, for whatever reason.
    pub waiting: u64,
    /// Requests with movers.
    pub running: u64,
    /// Requests that ended well.
    pub done: u64,
    /// Requests that failed on a mover.
    pub failed: u64,
    /// Requests that were cancelled.
    pub cancelled: u64,
    /// Requests that were dropped.
    pub dropped: u64,
    /// From admission to when it was sent to the mover that ended it.
    pub waited: Histogram,
    /// From then to the end.
    pub ran: Histogram,
}
