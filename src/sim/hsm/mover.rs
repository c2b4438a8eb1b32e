//! A mover: the shipped state machine of `libcoordinatool_client.so` and a copytool with habits.

use std::collections::BTreeMap;

use lustre_sim::mdt::ClientId;
use lustreapi_sys::Fid;

use super::scenario::MoverPlan;
use crate::hsm::{Action, ActionItem, Mono, RequestKey};
use crate::shim::{Shim, ShimConfig};
use crate::sim::network::LinkId;

/// One mover.
pub struct Mover {
    /// What was drawn for it.
    pub plan: MoverPlan,
    /// Which life this is; everything of an earlier one is void.
    pub life: u64,
    /// Its client mount in this life.
    pub client: ClientId,
    /// The machine, while the process lives.
    pub shim: Option<Shim>,
    /// Its connections, by the machine's number.
    pub links: BTreeMap<u64, LinkId>,
    /// Copies under way.
    pub attempts: BTreeMap<u64, Attempt>,
    /// Number of the last attempt.
    pub last_attempt: u64,
    /// The daemon's life in which the connection was made that it last heard from.
    pub heard: u64,
    /// The process is stopped until then: it does nothing, and its connections stand.
    pub paused_until: u64,
}

/// One thread of the copytool.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What it works on.
    pub item: ActionItem,
    /// The daemon refused it: nothing of it may reach the MDT.
    pub dead: bool,
    /// Whether the real begin succeeded.
    pub begun: bool,
    /// Which life of the daemon gave it out.
    pub boot: u64,
    /// Whether a cancel was acknowledged for it, so that the daemon does not count it any more.
    pub cancel_acked: bool,
    /// Whether it was said for it that a cancel is not possible. A daemon that starts anew takes that for its end, as the
    /// MDT does.
    pub cannot_cancel: bool,
    /// Steps of the copy that are left.
    pub steps: u64,
    /// Where a restore writes.
    pub volatile: Option<Fid>,
    /// The data version that begin sampled.
    pub data_version: u64,
    /// Its error so far, a positive errno.
    pub error: i32,
    /// What an archive reads is in the file, not in the archive only.
    pub readable: bool,
}

impl Mover {
    /// A mover that has not started yet.
    pub fn new(plan: MoverPlan) -> Self {
        Self {
            plan,
            life: 0,
            client: ClientId(0),
            shim: None,
            links: BTreeMap::new(),
            attempts: BTreeMap::new(),
            last_attempt: 0,
            heard: 0,
            paused_until: 0,
        }
    }

    /// Starts its process.
    pub fn start(&mut self, client: ClientId, fsname: &str) {
        self.life += 1;
        self.client = client;
        let [max_archive, max_restore, max_remove] = self.plan.limits;
        self.shim = Some(Shim::new(ShimConfig {
            client_id: self.plan.id.clone(),
            fsname: fsname.to_owned(),
            archive_ids: self.plan.archives.clone(),
            max_archive,
            max_restore,
            max_remove,
            ..ShimConfig::default()
        }));
    }

    /// When its machine wants to be called.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.shim.as_ref().and_then(Shim::next_deadline)
    }

    /// The process is gone.
    pub fn crash(&mut self) {
        self.life += 1;
        self.paused_until = 0;
        self.shim = None;
        self.links.clear();
        self.attempts.clear();
    }

    /// Whether an attempt at this request may go on: the daemon gave it to us, did not take it back, and the lease holds.
    pub fn may_go_on(&self, now: Mono, attempt: &Attempt) -> bool {
        let Some(shim) = &self.shim else { return false };
        !attempt.dead && shim.holds(&attempt.item.key()) && self.lease_holds(now)
    }

    /// Whether the lease holds, or there is none.
    pub fn lease_holds(&self, now: Mono) -> bool {
        self.shim.as_ref().is_some_and(|shim| shim.lease_until().is_none_or(|until| until > now))
    }

    /// Whether the mover works on the same request, or on the same file in a way that does not go together with `item`.
    ///
    /// Only what was given out by the daemon's life `since` or later counts.
    pub fn conflicts_with(&self, item: &ActionItem, since: u64) -> Option<RequestKey> {
        let clash = |other: &ActionItem| {
            other.key() == item.key()
                || (other.fid == item.fid
                    // An archive may be blocked reading the released file, so a restore never waits for it.
                    && !(other.action == Action::Archive && item.action == Action::Restore))
        };
        self.attempts
            .values()
            .find(|a| a.begun && !a.dead && !a.cancel_acked && a.boot >= since && clash(&a.item))
            .map(|a| a.item.key())
    }

    /// How many requests of a kind the copytool holds that the daemon counts: those that it was given by the daemon's life
    /// `since` or a later one.
    pub fn holding(&self, action: Action, since: u64) -> usize {
        let counts = |a: &&Attempt| a.item.action == action && !a.dead && !a.cancel_acked && a.boot >= since;
        self.attempts.values().filter(counts).count()
    }
}
