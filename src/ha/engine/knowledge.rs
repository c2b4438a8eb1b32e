//! What is known of each resource on each host, and how fresh that is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ha::ids::{HostId, Identity, OrderId};
use crate::ha::ocf::{Monitored, Recovery};
use crate::ha::protocol::{Action, ResourceSpec};
use crate::time::{Mono, Wall};

/// One definition of a resource. A resource whose parameters change is another subject; the old one is kept until it is
/// proven stopped wherever it may be active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SubjectId(pub(super) u32);

/// What is known of one definition of a resource.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) spec: ResourceSpec,
    pub(super) identity: Identity,
    /// It is defined like this in the present configuration.
    pub(super) current: bool,
    /// Hosts on which it may be active: of the configuration, or of an earlier one.
    pub(super) on: BTreeMap<HostId, Known>,
    /// Since when proofs are wanted: only what was asked later counts.
    pub(super) wanted_since: Option<Mono>,
}

/// What is known on one host.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) state: KnownState,
    /// When the order was given that told this.
    pub(super) asked: Mono,
    /// When its result came.
    pub(super) told: Mono,
    /// What the resource agent said.
    pub(super) comment: Option<Arc<str>>,
    /// Since when it is in this state.
    pub(super) since: Wall,
    /// An order on it that has no result yet. There is at most one.
    pub(super) pending: Option<(OrderId, Action)>,
    /// Operations whose processes are not all gone, whoever ordered them, and how long that is waited for.
    pub(super) unfinished: BTreeMap<OrderId, Mono>,
    /// An order whose result did not come in time: if it turns out to be unfinished, no more time is granted.
    pub(super) overdue: Option<OrderId>,
    /// It was active there when something was last known. Kept when the host is lost.
    pub(super) last_active: bool,
    /// Its agent refuses to stop it: why, since when, and when it is asked again.
    pub(super) stop_refused: Option<RefusedStop>,
    /// A stop said that it succeeded, and it was not looked at since.
    pub(super) stop_claimed: bool,
    /// It was asked to stop, without success so far: how often.
    pub(super) failed_stops: u32,
    /// The interval that the agent's meta-data advises, in milliseconds.
    pub(super) advised_interval_ms: Option<u64>,
    /// The host is a candidate of an earlier configuration only.
    pub(super) former: bool,
}

/// An order to stop was not executed at all.
#[derive(Debug, Clone)]
pub(super) struct RefusedStop {
    pub(super) why: Arc<str>,
    pub(super) since: Mono,
    pub(super) again: Mono,
}

/// What a look at a resource told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KnownState {
    Unknown,
    Running { degraded: bool },
    Stopped,
    NotInstalled,
    Failed(Recovery),
}

impl From<Monitored> for KnownState {
    fn from(monitored: Monitored) -> Self {
        match monitored {
            Monitored::Running { degraded, .. } => Self::Running { degraded },
            Monitored::Stopped => Self::Stopped,
            Monitored::NotInstalled => Self::NotInstalled,
            Monitored::Failed(recovery) => Self::Failed(recovery),
        }
    }
}

impl Known {
    pub(super) fn new(former: bool) -> Self {
        Self {
            state: KnownState::Unknown,
            asked: Mono(0),
            told: Mono(0),
            comment: None,
            since: Wall(0),
            pending: None,
            unfinished: BTreeMap::new(),
            overdue: None,
            last_active: false,
            stop_refused: None,
            stop_claimed: false,
            failed_stops: 0,
            advised_interval_ms: None,
            former,
        }
    }

    /// Nothing is known any more: the host is out of reach, or was switched off.
    pub(super) fn forget(&mut self, now: Wall) {
        if self.state != KnownState::Unknown {
            self.since = now;
        }
        self.state = KnownState::Unknown;
        self.comment = None;
        self.pending = None;
        self.unfinished.clear();
        self.failed_stops = 0;
        self.stop_claimed = false;
        self.stop_refused = None;
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, KnownState::Running { .. })
    }

    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.state, KnownState::Stopped | KnownState::NotInstalled)
    }

    pub(super) fn is_failed(&self) -> bool {
        matches!(self.state, KnownState::Failed(_))
    }

    /// A start or stop of it has no result yet.
    pub(super) fn is_changing(&self) -> bool {
        matches!(self.pending, Some((_, Action::Start | Action::Stop)))
    }

    /// It is here for sure: it runs, or is being started or stopped here.
    pub(super) fn is_here(&self) -> bool {
        self.is_running() || self.is_changing()
    }

    /// Nothing is under way here: no order without result, no process left of one.
    pub(super) fn is_quiet(&self) -> bool {
        self.pending.is_none() && self.unfinished.is_empty()
    }
}

impl Subject {
    /// The hosts where it is for sure.
    pub(super) fn here(&self) -> BTreeSet<&HostId> {
        self.on.iter().filter(|(_, known)| known.is_here()).map(|(host, _)| host).collect()
    }
}
