//! What the store's thread reports, and what waits until it does.

use super::Shell;
use super::posting::SENT_AT_ONCE;
use crate::hsm::{Effect, Event};
use crate::server::committer;
use crate::store::{Health, Snapshot};

/// Operations that may wait for the store before peers are no longer read: what they would send next could only wait too.
const MAX_UNSTORED: usize = 100_000;

/// Requests in one part of a snapshot for the store.
const SNAPSHOT_PART: usize = 1000;

/// How it goes with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreState {
    /// Operations that are not durable yet.
    pub unstored: usize,
    /// They are so many that peers are not read.
    pub behind: bool,
}

impl Shell {
    /// The last commit that is durable, or given up on.
    pub fn durable(&self) -> u64 {
        self.inner.borrow().durable
    }

    /// Whether so much waits for the store that peers should not be read.
    pub fn store_is_behind(&self) -> bool {
        self.inner.borrow().unstored_ops > MAX_UNSTORED
    }

    /// How it goes with the store.
    pub fn store_state(&self) -> StoreState {
        StoreState { unstored: self.inner.borrow().unstored_ops, behind: self.store_is_behind() }
    }

    /// Whether all that was to be stored is, or was given up on.
    pub fn all_stored(&self) -> bool {
        let inner = self.inner.borrow();
        inner.durable == inner.last_commit
    }

    /// Takes what the store's thread reports.
    pub fn store_report(&self, report: committer::Report) {
        match report {
            committer::Report::Done { upto, failed } => {
                let mut inner = self.inner.borrow_mut();
                inner.durable = inner.durable.max(upto);
                while inner.unstored.front().is_some_and(|(commit, _)| *commit <= upto) {
                    let ops = inner.unstored.pop_front().map_or(0, |(_, ops)| ops);
                    inner.unstored_ops -= ops;
                }
                let later = inner.waiting.split_off(&(upto + 1));
                let ready = std::mem::replace(&mut inner.waiting, later);
                let mut at_once = SENT_AT_ONCE;
                for (commit, conns) in ready {
                    let errno = failed.iter().find(|(number, _)| *number == commit).map(|(_, errno)| *errno);
                    // Whoever gets work before whoever asked for it: that answer came first.
                    for conn in conns.into_iter().rev() {
                        let Some(connection) = inner.connections.get(&conn) else { continue };
                        if let Some(errno) = errno {
                            connection.outbox.borrow_mut().fail(commit, errno);
                        }
                        connection.send_soon(inner.durable, &mut at_once);
                    }
                }
                drop(inner);
                if !self.store_is_behind() {
                    self.stored.notify_waiters();
                }
                self.release();
            }
            committer::Report::Full(full) => self.handle(Event::StoreFull(full)),
            committer::Report::WantsSnapshot(number) => {
                self.inner.borrow_mut().snapshot = Some((number, 0));
                self.send_snapshot_part(number);
            }
            committer::Report::SnapshotTaken(number) => self.send_snapshot_part(number),
            committer::Report::Health(health) => self.inner.borrow_mut().store_health = health,
            committer::Report::Closed(_) => {}
        }
    }

    /// How the store is.
    pub fn store_health(&self) -> Health {
        self.inner.borrow().store_health.clone()
    }

    /// Gives the store the next part of all requests, as they are after the commits that it was given so far.
    fn send_snapshot_part(&self, number: u64) {
        let mut inner = self.inner.borrow_mut();
        let Some((_, from)) = inner.snapshot.filter(|(wanted, _)| *wanted == number) else { return };
        let mut requests = Vec::new();
        let next = inner.core.stored_slice(from, SNAPSHOT_PART, &mut requests);
        inner.snapshot = next.map(|next| (number, next));
        if let Some(committer) = &inner.committer {
            committer.snapshot(Snapshot { number, requests, last: next.is_none() });
        }
    }

    /// Carries out the effects whose commits are durable.
    pub(super) fn release(&self) {
        loop {
            let mut inner = self.inner.borrow_mut();
            let durable = inner.durable;
            match inner.deferred.front() {
                Some((commit, _)) if *commit <= durable => {}
                _ => break,
            }
            // A request that was recovered may have to be ended before the mount is ready.
            if matches!(
                inner.deferred.front(),
                Some((
                    _,
                    Effect::EndAtLustre { .. }
                        | Effect::AskLustre(_)
                        | Effect::LookUp { .. }
                        | Effect::Locate(_)
                ))
            ) && inner.lustre.is_none()
            {
                break;
            }
            let Some((_, effect)) = inner.deferred.pop_front() else { break };
            match effect {
                Effect::EndAtLustre { item, errno } => {
                    if let Some(lustre) = inner.lustre.clone() {
                        drop(inner);
                        lustre.end(*item, errno);
                    }
                }
                Effect::AskLustre(call) => {
                    if let Some(lustre) = inner.lustre.clone() {
                        drop(inner);
                        lustre.ask(call);
                    }
                }
                Effect::Locate(sought) => {
                    if let Some(files) = inner.files.clone() {
                        drop(inner);
                        files.locate(sought);
                    }
                }
                Effect::LookUp { keys, wanted } => {
                    if let Some(files) = inner.files.clone() {
                        drop(inner);
                        files.look_up(keys, wanted);
                    }
                }
                Effect::Operator { ask, reply } => {
                    // Whoever asked may have gone away meanwhile.
                    if let Some(waiting) = inner.operators.remove(&ask) {
                        let _ = waiting.send(reply);
                    }
                }
                Effect::Report { name, line } => {
                    if let Some(reporting) = &mut inner.reporting {
                        reporting.line(name, line);
                    }
                }
                Effect::RemoveReport { name } => {
                    if let Some(reporting) = &mut inner.reporting {
                        reporting.remove(name);
                    }
                }
                Effect::Terminate => {
                    inner.terminate = true;
                    self.terminate.notify_one();
                }
                // The others go to connections.
                Effect::Reply { .. }
                | Effect::Work { .. }
                | Effect::Status { .. }
                | Effect::Close { .. }
                | Effect::Probe { .. } => {}
            }
        }
    }
}
