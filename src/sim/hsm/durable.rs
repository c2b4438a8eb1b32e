//! The oracle for durability: what others have seen must survive a crash.

use std::collections::BTreeSet;

use super::daemon::Daemon;
use super::world::World;
use crate::hsm::{Action, ActionItem, RequestKey};
use crate::sim::network::LinkId;

/// What must be there when the daemon starts again.
#[derive(Debug, Default)]
pub(super) struct Promised {
    /// Requests whose queueing was acknowledged, or that a mover was given, and that the daemon has not ended since.
    pub keys: BTreeSet<RequestKey>,
}

impl World {
    /// An operator learns that requests were queued: those that were there when he queued them. What has ended since and was
    /// queued once more by somebody else is not what he is told of.
    pub(super) fn acknowledged(&mut self, link: LinkId) -> Result<(), String> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        for (key, commit) in daemon.acknowledges(link) {
            if !daemon.has_synced(commit) {
                return Err(format!("{key} is acknowledged before it is durable"));
            }
            // It may be over by now.
            if daemon.has_stored_since(&key, commit) {
                self.report.acknowledged += 1;
                self.promised.keys.insert(key);
            }
        }
        Ok(())
    }

    /// A mover got a request.
    pub(super) fn is_durable(&mut self, item: &ActionItem) -> Result<(), String> {
        let Some(daemon) = self.daemon.as_ref().filter(|_| item.action != Action::Cancel) else {
            return Ok(());
        };
        let key = item.key();
        if !daemon.is_durable(&key) {
            return Err(format!("{key} is handed out before it is durable"));
        }
        if daemon.has_stored(&key) {
            self.promised.keys.insert(key);
        }
        Ok(())
    }

    /// The daemon is gone. What nobody had seen yet may be lost with it.
    pub(super) fn forget_unseen(&mut self, daemon: &Daemon) {
        let unseen = daemon.not_durable();
        self.report.lost_unseen += unseen.len() as u64;
        self.given_up.extend(unseen);
    }

    /// The daemon has ended requests: they need not be there any more.
    pub(super) fn no_longer_promised(&mut self, ended: Vec<RequestKey>) {
        for key in ended {
            self.promised.keys.remove(&key);
        }
    }

    /// The daemon has read its store.
    pub(super) fn judge_recovery(&mut self, daemon: &Daemon) -> Result<(), String> {
        for key in std::mem::take(&mut self.promised.keys) {
            if !daemon.has_stored(&key) {
                return Err(format!("{key} was acknowledged, and is gone after a crash"));
            }
            self.report.kept_over_crashes += 1;
            self.promised.keys.insert(key);
        }
        let counters = daemon.core.counters();
        let known: u64 = counters.pending.iter().chain(&counters.running).sum();
        if known != daemon.stored() as u64 {
            return Err(format!("the store held {} requests, the daemon knows {known}", daemon.stored()));
        }
        Ok(())
    }
}
