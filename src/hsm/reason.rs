//! What a request waits for, with the facts, and in words.

use std::fmt;
use std::time::Duration;

use super::action::{Action, RequestKey};
use super::time::Wall;

/// What keeps a request where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A mover runs it.
    Running {
        /// Which.
        mover: String,
        /// Since when.
        since: Wall,
    },
    /// A mover that is away runs it, or did.
    MoverAway {
        /// Which.
        mover: String,
        /// Since when.
        since: Wall,
        /// When others may have its work.
        until: Wall,
    },
    /// The coordinator is locked.
    Locked {
        /// It stops when nothing runs any more.
        quitting: bool,
    },
    /// No connected mover serves the archive.
    NoMover {
        /// Which; 0 for any.
        archive_id: u32,
    },
    /// It may go to one mover only, by `archive_on_hosts`, and that is not connected.
    HostAbsent {
        /// Which.
        mover: String,
        /// Since when, if it was there.
        since: Option<Wall>,
    },
    /// It may go to some movers only, by `archive_on_hosts`, and none of them is connected.
    HostsAbsent {
        /// Which.
        movers: Vec<String>,
    },
    /// The mover does not serve the archive.
    NotServed {
        /// Which.
        mover: String,
        /// The archive.
        archive_id: u32,
    },
    /// Another request of the same file runs.
    FileBusy {
        /// Which.
        key: RequestKey,
        /// What it does.
        action: Action,
        /// On which mover.
        mover: String,
    },
    /// Another request of the same file is before it.
    FileTurn {
        /// Which.
        key: RequestKey,
    },
    /// It was recovered without a mover: movers may still claim it.
    Settling {
        /// Until then.
        until: Wall,
    },
    /// The MDT does not seem to know it any more: it is asked.
    Doubtful,
    /// A mover waits for it, and the MDT is asked first whether it may still be done.
    Asking,
    /// It was bound to a mover that is gone: the MDT is told that it has ended, and asked for it again.
    Bound,
    /// A limit of the configuration is reached.
    Limit {
        /// As in the configuration: `limit_hint project=a`.
        name: String,
        /// Requests that run under it.
        running: u32,
        /// When there is room again, where only time is needed.
        until: Option<Wall>,
    },
    /// No mover that could take it has a buffer for it.
    TooLarge {
        /// Bytes that it needs.
        bytes: u64,
        /// The largest buffer of those movers.
        largest: u64,
    },
    /// An operator drains the mover.
    Draining {
        /// Which.
        mover: String,
    },
    /// The mover failed too often.
    Quarantined {
        /// Which.
        mover: String,
        /// When it is tried again.
        until: Wall,
    },
    /// The mover failed too often and has one request on trial.
    OnTrial {
        /// Which.
        mover: String,
    },
    /// The mover has no room for more of this kind.
    MoverFull {
        /// Which.
        mover: String,
        /// What it runs of this kind.
        running: u32,
        /// The most that it wants.
        most: u32,
    },
    /// A limit for this mover is reached, of the configuration or of an operator.
    MoverLimit {
        /// Which.
        mover: String,
        /// What it runs of all kinds.
        running: u32,
        /// When it has room again, where only time is needed.
        until: Option<Wall>,
    },
    /// The mover is connected but has not asked for work since it was last given some.
    MoverNotAsking {
        /// Which.
        mover: String,
    },
    /// Its batch waits for a slot: this one is held by another.
    SlotHeld {
        /// The mover.
        mover: String,
        /// The tag that has the slot.
        tag: Box<[u8]>,
        /// When that tag may lose it.
        until: Option<Wall>,
    },
    /// Its batch waits for a slot, and these movers have none at all.
    NoSlot,
    /// Its batch has all that it may run on the mover.
    BatchFull {
        /// The mover.
        mover: String,
        /// What it runs of the batch.
        running: u32,
        /// The most of one batch.
        most: u32,
    },
    /// It is being found out on which tape it is.
    Locating,
    /// Its tape is not mounted yet, so that more requests for it come together.
    TapeGathers {
        /// Which tape.
        tape: String,
        /// Until then at most.
        until: Option<Wall>,
    },
    /// Its tape is with a mover.
    TapeMounted {
        /// Which tape.
        tape: String,
        /// The mover.
        mover: String,
        /// The mover gives it back, since others wait.
        leaving: bool,
    },
    /// The mover has all the tapes that it may have at a time (`tapes_per_mover`).
    TapesBusy {
        /// Which mover.
        mover: String,
    },
    /// Others are before it, and their turn has not come.
    Behind {
        /// How many are before it in its own queue.
        ahead: u64,
    },
    /// The coordinator is busy and comes to it in its next step.
    NextStep,
}

impl Reason {
    /// A short name for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running { .. } => "running",
            Self::MoverAway { .. } => "mover_away",
            Self::Locked { .. } => "locked",
            Self::NoMover { .. } => "no_mover",
            Self::HostAbsent { .. } => "host_absent",
            Self::HostsAbsent { .. } => "hosts_absent",
            Self::NotServed { .. } => "not_served",
            Self::FileBusy { .. } => "file_busy",
            Self::FileTurn { .. } => "file_turn",
            Self::Settling { .. } => "settling",
            Self::Doubtful => "doubtful",
            Self::Asking => "asking",
            Self::Bound => "bound",
            Self::Limit { .. } => "limit",
            Self::TooLarge { .. } => "too_large",
            Self::Draining { .. } => "draining",
            Self::Quarantined { .. } => "quarantined",
            Self::OnTrial { .. } => "on_trial",
            Self::MoverFull { .. } => "mover_full",
            Self::MoverLimit { .. } => "mover_limit",
            Self::MoverNotAsking { .. } => "mover_not_asking",
            Self::SlotHeld { .. } => "slot_held",
            Self::NoSlot => "no_slot",
            Self::BatchFull { .. } => "batch_full",
            Self::Locating => "locating",
            Self::TapeGathers { .. } => "tape_gathers",
            Self::TapeMounted { .. } => "tape_mounted",
            Self::TapesBusy { .. } => "tapes_busy",
            Self::Behind { .. } => "behind",
            Self::NextStep => "next_step",
        }
    }

    /// The mover that it is about.
    pub fn mover(&self) -> Option<&str> {
        match self {
            Self::Running { mover, .. }
            | Self::MoverAway { mover, .. }
            | Self::HostAbsent { mover, .. }
            | Self::OnTrial { mover }
            | Self::NotServed { mover, .. }
            | Self::FileBusy { mover, .. }
            | Self::Draining { mover }
            | Self::Quarantined { mover, .. }
            | Self::MoverFull { mover, .. }
            | Self::MoverLimit { mover, .. }
            | Self::MoverNotAsking { mover }
            | Self::SlotHeld { mover, .. }
            | Self::TapeMounted { mover, .. }
            | Self::TapesBusy { mover }
            | Self::BatchFull { mover, .. } => Some(mover),
            _ => None,
        }
    }

    /// When it ends by itself, where that is known.
    pub fn until(&self) -> Option<Wall> {
        match self {
            Self::MoverAway { until, .. } | Self::Settling { until } | Self::Quarantined { until, .. } => {
                Some(*until)
            }
            Self::Limit { until, .. } | Self::MoverLimit { until, .. } | Self::SlotHeld { until, .. } => {
                *until
            }
            _ => None,
        }
    }

    /// In words, with times as so long ago or from now.
    pub fn text(&self, now: Wall) -> String {
        Text { reason: self, now }.to_string()
    }
}

struct Text<'a> {
    reason: &'a Reason,
    now: Wall,
}

/// A time as people say it: `42 s`, `5 min`, `3 h`, `2 d`.
fn spoken(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

impl Text<'_> {
    fn ago(&self, then: Wall) -> String {
        spoken(Duration::from_nanos(self.now.0.saturating_sub(then.0).max(0) as u64))
    }

    fn left(&self, then: Wall) -> String {
        spoken(Duration::from_nanos(then.0.saturating_sub(self.now.0).max(0) as u64))
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::Running { mover, since } => {
                write!(f, "mover {mover} has been running it for {}", self.ago(*since))
            }
            Reason::MoverAway { mover, since, until } => write!(
                f,
                "mover {mover} has been offline for {}; it keeps its requests for another {}",
                self.ago(*since),
                self.left(*until)
            ),
            Reason::Locked { quitting: false } => {
                f.write_str("the coordinator is locked: nothing is handed out")
            }
            Reason::Locked { quitting: true } => {
                f.write_str("the coordinator is locked and stops once nothing runs")
            }
            Reason::NoMover { archive_id: 0 } => f.write_str("no mover is connected"),
            Reason::NoMover { archive_id } => write!(f, "no connected mover serves archive {archive_id}"),
            Reason::HostAbsent { mover, since } => {
                write!(f, "it goes to mover {mover} only (archive_on_hosts), which is not connected")?;
                since.map_or(Ok(()), |since| write!(f, " since {} ago", self.ago(since)))
            }
            Reason::HostsAbsent { movers } => write!(
                f,
                "it goes to {} only (archive_on_hosts), and none of them is connected",
                movers.join(", ")
            ),
            Reason::NotServed { mover, archive_id } => {
                write!(f, "mover {mover} does not serve archive {archive_id}")
            }
            Reason::FileBusy { key, action, mover } => {
                write!(f, "its file is busy: {action} {:#x} runs on mover {mover}", key.cookie)
            }
            Reason::FileTurn { key } => {
                write!(f, "request {:#x} of the same file is before it", key.cookie)
            }
            Reason::Settling { until } => write!(
                f,
                "it is from before the restart; movers may claim it for another {}",
                self.left(*until)
            ),
            Reason::Doubtful => f.write_str(
                "the MDT does not seem to know it any more (a restart, a purge or a timeout): it is asked, and asked for it \
                 again if so",
            ),
            Reason::Asking => f.write_str(
                "its MDT is asked whether it may still be done: a copy is not removed while its file is released, and a file \
                 that is archived is not archived again",
            ),
            Reason::Bound => f.write_str(
                "its mover is gone and Lustre takes this restore from no other: its MDT is to end it and to make a new one",
            ),
            Reason::Limit { name, running, until } => {
                write!(f, "`{name}` is reached with {running} running")?;
                until.map_or(Ok(()), |until| write!(f, "; there is room in {}", self.left(until)))
            }
            Reason::TooLarge { bytes, largest } => {
                write!(f, "it needs {bytes} bytes and the largest buffer of a mover is {largest} (hal_size)")
            }
            Reason::Draining { mover } => write!(f, "mover {mover} is drained and gets nothing new"),
            Reason::Quarantined { mover, until } => {
                write!(f, "mover {mover} failed too often and gets nothing for another {}", self.left(*until))
            }
            Reason::OnTrial { mover } => {
                write!(f, "mover {mover} failed too often and has one request on trial")
            }
            Reason::MoverFull { mover, running, most } => {
                write!(f, "mover {mover} runs {running} of at most {most} of this kind")
            }
            Reason::MoverLimit { mover, running, until } => {
                write!(f, "the limit of mover {mover} (limit_mover, or an order) is reached with {running} running")?;
                until.map_or(Ok(()), |until| write!(f, "; there is room in {}", self.left(until)))
            }
            Reason::MoverNotAsking { mover } => {
                write!(f, "mover {mover} has not asked for more since it was last given work")
            }
            Reason::SlotHeld { mover, tag, until } => {
                let tag = String::from_utf8_lossy(tag);
                write!(f, "a slot of mover {mover} is held by tag `{tag}`")?;
                until.map_or(Ok(()), |until| write!(f, " for at least another {}", self.left(until)))
            }
            Reason::NoSlot => f.write_str("its batch waits for a slot"),
            Reason::BatchFull { mover, running, most } => {
                write!(f, "mover {mover} runs {running} of at most {most} of its batch")
            }
            Reason::Locating => f.write_str("it is being found out on which tape it is"),
            Reason::TapeGathers { tape, until } => {
                write!(f, "tape {tape} waits for more requests before it is mounted")?;
                until.map_or(Ok(()), |until| write!(f, ", for another {} at most", self.left(until)))
            }
            Reason::TapeMounted { tape, mover, leaving: false } => {
                write!(f, "tape {tape} is with mover {mover}")
            }
            Reason::TapeMounted { tape, mover, leaving: true } => {
                write!(f, "tape {tape} is with mover {mover}, which finishes what it has begun")
            }
            Reason::TapesBusy { mover } => {
                write!(f, "mover {mover} has all the tapes that it may have (tapes_per_mover)")
            }
            Reason::Behind { ahead } => write!(f, "others go first: {ahead} are before it in its queue"),
            Reason::NextStep => f.write_str("its turn has come: it goes out with the next step"),
        }
    }
}
