//! Movers, what goes through, what failed.

use serde::{Deserialize, Serialize};

use super::Counts;
use super::request::{Attempt, Request};
use super::text::{Cookie, Data, FidText};
use crate::hsm::mover_views as core;
use crate::hsm::operator::CancelReport as CoreReport;
use crate::hsm::time::Wall;

/// How often there was an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorCount {
    /// A positive errno.
    pub errno: i32,
    /// How often.
    pub count: u64,
}

/// How much was moved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ByteCount {
    /// `ARCHIVE`, `RESTORE`.
    pub action: String,
    /// Archive id.
    pub archive_id: u32,
    /// Bytes.
    pub bytes: u64,
}

impl From<&(crate::hsm::Action, u32, u64)> for ByteCount {
    fn from(&(action, archive_id, bytes): &(crate::hsm::Action, u32, u64)) -> Self {
        Self { action: action.name().to_owned(), archive_id, bytes }
    }
}

/// A mover, connected or awaited.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Mover {
    /// What it calls itself, or `host:port`.
    pub id: String,
    /// It has no name of its own: it loses its work when it disconnects.
    pub anonymous: bool,
    /// It said who it is or asked for work; others only look.
    pub is_mover: bool,
    /// Whether it is connected.
    pub connected: bool,
    /// When it disconnected, in nanoseconds since the epoch.
    pub away_since: Option<i64>,
    /// Until when its work stays its own.
    pub away_until: Option<i64>,
    /// It waits for work now.
    pub waiting: bool,
    /// What it serves; empty for all.
    pub archive_ids: Vec<u32>,
    /// Requests that it runs.
    pub running: Counts,
    /// The most restores, removes and archives that it asked for; `null` for no limit, or when it never asked.
    pub most: [Option<u32>; 3],
    /// Requests that it ended since it connected first.
    pub done: Counts,
    /// Of those, how many failed.
    pub failed: u64,
    /// Errors that it told, by errno.
    pub errors: Vec<ErrorCount>,
    /// Bytes of what it ended well, as far as sizes are known.
    pub bytes: Vec<ByteCount>,
    /// Errors within the window of quarantine.
    pub recent_errors: u32,
    /// Successes within it.
    pub recent_successes: u32,
    /// Requests that only it may take.
    pub own_queue: u64,
    /// Cancels to be sent to it.
    pub cancels: u64,
    /// Tags of its batch slots; `null` for a free one.
    pub slots: Vec<Option<Data>>,
    /// Gets nothing new, by an operator's order.
    pub drained: bool,
    /// Gets nothing new because it failed too often, until then.
    pub quarantined: Option<i64>,
    /// One request is on trial after a quarantine.
    pub on_probation: bool,
    /// Limits keep it from getting more now.
    pub limited: bool,
    /// The most requests that it may run, by an operator's order.
    pub limit: Option<u32>,
    /// When its lease ends, for movers that have one.
    pub lease_until: Option<i64>,
}

impl From<&core::MoverView> for Mover {
    fn from(of: &core::MoverView) -> Self {
        Self {
            id: of.id.clone(),
            anonymous: of.anonymous,
            is_mover: of.is_mover,
            connected: of.connected,
            away_since: of.away.map(|(since, _)| since.0),
            away_until: of.away.map(|(_, until)| until.0),
            waiting: of.waiting,
            archive_ids: of.archive_ids.clone(),
            running: Counts::from(of.running.map(u64::from)),
            most: of.most,
            done: Counts::from(of.done),
            failed: of.failed,
            errors: of.errors.iter().map(|&(errno, count)| ErrorCount { errno, count }).collect(),
            bytes: of.bytes.iter().map(ByteCount::from).collect(),
            recent_errors: of.recent.0,
            recent_successes: of.recent.1,
            own_queue: of.own_queue,
            cancels: of.cancels,
            slots: of.slots.iter().map(|slot| slot.as_deref().map(Data::from)).collect(),
            drained: of.drained,
            quarantined: of.quarantined.map(|until| until.0),
            on_probation: of.on_probation,
            limited: of.limited,
            limit: of.limit,
            lease_until: of.lease_until.map(|until| until.0),
        }
    }
}

impl Mover {
    /// Its state in one word: what keeps it from work comes first.
    pub fn state(&self) -> &'static str {
        if !self.connected {
            "away"
        } else if self.quarantined.is_some() {
            "quarantined"
        } else if self.drained {
            "drained"
        } else if self.on_probation {
            "probation"
        } else if self.limited {
            "limited"
        } else if self.waiting {
            "waiting"
        } else {
            "ready"
        }
    }
}

/// A request that failed and that nobody has asked for again, or not yet.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeadLetter {
    /// The file.
    pub fid: FidText,
    /// Cookie of the request that failed last.
    pub cookie: Cookie,
    /// `ARCHIVE`, `RESTORE`, `REMOVE`.
    pub action: String,
    /// Archive id.
    pub archive_id: u32,
    /// What the user passed with it.
    pub data: Data,
    /// When it failed last, in nanoseconds since the epoch.
    pub failed: i64,
    /// How often it failed.
    pub failures: u32,
    /// The last error: a positive errno.
    pub errno: i32,
    /// The mover on which it failed last.
    pub mover: String,
    /// When the MDT is asked for it again; `null` for one that is given up.
    pub retry: Option<i64>,
    /// The MDT is being asked for it now.
    pub asking: bool,
    /// There is a request for it again, or soon will be.
    pub trying: bool,
    /// What came of asking the MDT last: a positive errno.
    pub refused: Option<i32>,
    /// The last attempts, the oldest first.
    pub attempts: Vec<Attempt>,
}

impl From<&core::DeadLetter> for DeadLetter {
    fn from(of: &core::DeadLetter) -> Self {
        Self {
            fid: FidText(of.key.fid),
            cookie: Cookie(of.key.cookie),
            action: of.action.name().to_owned(),
            archive_id: of.archive_id,
            data: Data::from(&*of.data),
            failed: of.failed.0,
            failures: of.failures,
            errno: of.errno,
            mover: of.mover.clone(),
            retry: of.retry.map(|at| at.0),
            asking: of.asking,
            trying: of.trying,
            refused: of.refused,
            attempts: of.attempts.iter().map(Attempt::from).collect(),
        }
    }
}

/// One line of `top`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Requests that wait, for whatever reason.
    pub waiting: u64,
    /// Requests with movers.
    pub running: u64,
    /// How long the one at the head of a queue has waited, in milliseconds.
    pub oldest_ms: Option<u64>,
    /// Requests that ended well since the start.
    pub done: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Ends per second, over about the last minute.
    pub rate: f64,
}

impl From<&core::Load> for Load {
    fn from(of: &core::Load) -> Self {
        Self {
            waiting: of.waiting,
            running: of.running,
            oldest_ms: of.oldest.map(milliseconds),
            done: of.done,
            failed: of.failed,
            rate: of.rate,
        }
    }
}

/// The load of an action and archive.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClassLoad {
    /// `ARCHIVE`, `RESTORE`, `REMOVE`.
    pub action: String,
    /// Archive id.
    pub archive_id: u32,
    /// How much.
    #[serde(flatten)]
    pub load: Load,
}

/// The load of something with a name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NamedLoad {
    /// The mover's id.
    pub name: String,
    /// How much.
    #[serde(flatten)]
    pub load: Load,
}

/// The load of one owner.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OwnerLoad {
    /// `user`, `group`, `project`, `job`, `hint` or `unknown`.
    pub kind: String,
    /// A number, or the name of a job, or the value of a hint.
    pub name: String,
    /// How much.
    #[serde(flatten)]
    pub load: Load,
}

/// A batch with work.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TagLoad {
    /// What its requests have in common.
    pub tag: Data,
    /// Archive id.
    pub archive_id: u32,
    /// Requests in its queue.
    pub waiting: u64,
    /// Requests with movers.
    pub running: u64,
    /// How long the one at the head of its queue has waited, in milliseconds.
    pub oldest_ms: Option<u64>,
    /// Movers with a slot for it.
    pub movers: Vec<String>,
}

fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What is going on, by several measures.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Top {
    /// By action and archive id.
    pub classes: Vec<ClassLoad>,
    /// By mover.
    pub movers: Vec<NamedLoad>,
    /// By batch, those with the most work first.
    pub tags: Vec<TagLoad>,
    /// How many batches are left out.
    pub more_tags: usize,
    /// By owner, where requests are shared out (`fair_share`), those with the most work first.
    pub owners: Vec<OwnerLoad>,
    /// How many owners with work are left out.
    pub more_owners: usize,
}

impl From<&core::TagLoad> for TagLoad {
    fn from(of: &core::TagLoad) -> Self {
        Self {
            tag: Data::from(&*of.tag),
            archive_id: of.archive_id,
            waiting: of.waiting,
            running: of.running,
            oldest_ms: of.oldest.map(milliseconds),
            movers: of.movers.clone(),
        }
    }
}

impl From<&core::OwnerLoad> for OwnerLoad {
    fn from(of: &core::OwnerLoad) -> Self {
        Self { kind: of.kind.to_owned(), name: of.name.clone(), load: Load::from(&of.load) }
    }
}

impl From<&core::Top> for Top {
    fn from(of: &core::Top) -> Self {
        let class = |(action, archive_id, load): &(crate::hsm::Action, u32, core::Load)| ClassLoad {
            action: action.name().to_owned(),
            archive_id: *archive_id,
            load: Load::from(load),
        };
        let named = |name: String, load: &core::Load| NamedLoad { name, load: Load::from(load) };
        Self {
            classes: of.classes.iter().map(class).collect(),
            movers: of.movers.iter().map(|(id, load)| named(id.clone(), load)).collect(),
            tags: of.tags.iter().map(TagLoad::from).collect(),
            more_tags: of.more_tags,
            owners: of.owners.iter().map(OwnerLoad::from).collect(),
            more_owners: of.more_owners,
        }
    }
}

/// What a cancel by an operator hits.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CancelReport {
    /// Nothing was done.
    pub preview: bool,
    /// Requests that were selected.
    pub selected: u64,
    /// Of those, waiting: ended at the MDT at once.
    pub waiting: u64,
    /// Of those, running: a cancel goes to their movers.
    pub running: u64,
    /// Of those running, how many had a cancel already.
    pub cancelling: u64,
    /// Parts of a thousand of all requests that were looked at.
    pub progress: u32,
    /// The first ones.
    pub examples: Vec<Request>,
}

impl CancelReport {
    /// As of now.
    pub fn new(of: &CoreReport, now: Wall) -> Self {
        Self {
            preview: of.preview,
            selected: of.selected,
            waiting: of.waiting,
            running: of.running,
            cancelling: of.cancelling,
            progress: of.progress,
            examples: of.examples.iter().map(|request| Request::new(request, now)).collect(),
        }
    }
}

/// Requests that no connected mover can take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stranded {
    /// `ARCHIVE`, `RESTORE`, `REMOVE`.
    pub action: String,
    /// Archive id.
    pub archive_id: u32,
    /// The movers that could take them; empty for any that serves the archive.
    pub movers: Vec<String>,
    /// How many are queued.
    pub requests: u64,
    /// For how long there has been no mover for them, in milliseconds.
    pub lasted_ms: u64,
}

impl From<&crate::hsm::Stranded> for Stranded {
    fn from(of: &crate::hsm::Stranded) -> Self {
        Self {
            action: of.action.name().to_owned(),
            archive_id: of.archive_id,
            movers: of.hosts.clone(),
            requests: of.requests,
            lasted_ms: milliseconds(of.lasted),
        }
    }
}
