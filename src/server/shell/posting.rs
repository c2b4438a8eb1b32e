//! What follows from a step of the core, sorted to whom it concerns: the store, peers, others.

use std::rc::Rc;

use super::Inner;
use crate::hsm::effect::Reply;
use crate::hsm::{ConnId, Effect};
use crate::server::connection::Connection;
use crate::server::outbox::Outbox;
use crate::wire::{write_reply, write_work};

/// Peers that are sent their part within the step that it follows from; the tasks of the others do it, in turn.
pub(super) const SENT_AT_ONCE: usize = 16;

/// Where effects on connections go.
struct Posting {
    /// Whose message this all follows from.
    asker: Option<ConnId>,
    max_client_buffer: usize,
    /// How many more peers are sent their part in this step.
    at_once: usize,
    /// Whom the last effect went to.
    to: Option<Addressee>,
}

struct Addressee {
    connection: Rc<Connection>,
    /// The last commit that something waits for.
    last: u64,
    /// Something waits for no commit.
    some_ready: bool,
}

impl Inner {
    /// Sends the operations to the store and sorts the effects to whom they concern. The task of `asker` looks for itself
    /// what it has to send.
    pub(super) fn dispatch(&mut self, max_client_buffer: usize, asker: Option<ConnId>) {
        if self.effects.is_empty() {
            return;
        }
        let commit = self.begin_commit();
        let mut visible = std::mem::take(&mut self.effects.visible);
        let mut posting = Posting { asker, max_client_buffer, at_once: SENT_AT_ONCE, to: None };
        for effect in visible.drain(..) {
            match effect {
                // Also where nothing is to be stored: what a `queue` skips because another has just sent it must be durable
                // before it is acknowledged.
                Effect::Reply { conn, reply: reply @ Reply::Queue { .. } } => {
                    let commit = if self.last_commit > self.durable { self.last_commit } else { commit };
                    self.post(&mut posting, conn, commit, |outbox| outbox.push_queue(commit, reply));
                }
                Effect::Reply { conn, reply } => {
                    self.post(&mut posting, conn, commit, |outbox| {
                        outbox.push(commit, |out| write_reply(&reply, out));
                    });
                }
                Effect::Work { conn, list } => {
                    let fsname = std::mem::take(&mut self.fsname);
                    self.post(&mut posting, conn, commit, |outbox| {
                        outbox.push(commit, |out| write_work(&list, &fsname, out));
                    });
                    self.fsname = fsname;
                }
                Effect::Status { conn, cursor } => {
                    let there = self.post(&mut posting, conn, commit, |outbox| {
                        outbox.push_status(commit, cursor);
                    });
                    if !there {
                        self.core.status_drop(cursor);
                    }
                }
                Effect::Close { conn, reason } => {
                    self.post(&mut posting, conn, commit, |outbox| outbox.push_close(commit, reason));
                }
                Effect::Probe { conn } => {
                    if let Some(connection) = self.connections.get(&conn) {
                        connection.probe();
                    }
                }
                other => self.deferred.push_back((commit, other)),
            }
        }
        self.finish_post(&mut posting);
        // Keep the memory.
        self.effects.visible = visible;
    }

    /// Returns the number that effects have to wait for, 0 for none.
    fn begin_commit(&mut self) -> u64 {
        if self.effects.store.is_empty() {
            return 0;
        }
        let Some(committer) = &self.committer else {
            // Keep the memory.
            self.effects.store.clear();
            return 0;
        };
        let ops = std::mem::take(&mut self.effects.store);
        self.last_commit += 1;
        self.unstored.push_back((self.last_commit, ops.len()));
        self.unstored_ops += ops.len();
        committer.commit(self.last_commit, ops);
        self.last_commit
    }

    /// Adds something to what a peer is sent. Returns whether the peer is there.
    fn post(
        &mut self,
        posting: &mut Posting,
        conn: ConnId,
        commit: u64,
        push: impl FnOnce(&mut Outbox),
    ) -> bool {
        if posting.to.as_ref().is_none_or(|to| to.connection.id != conn) {
            self.finish_post(posting);
            let Some(connection) = self.connections.get(&conn) else { return false };
            let connection = Rc::clone(connection);
            posting.to = Some(Addressee { connection, last: 0, some_ready: false });
        }
        let Some(to) = &mut posting.to else { return false };
        push(&mut to.connection.outbox.borrow_mut());
        to.last = to.last.max(commit);
        to.some_ready |= commit <= self.durable;
        true
    }

    /// Everything for a peer was added that follows each other.
    fn finish_post(&mut self, posting: &mut Posting) {
        let Some(Addressee { connection, last, some_ready }) = posting.to.take() else { return };
        let bytes = connection.outbox.borrow().bytes();
        if bytes > posting.max_client_buffer {
            connection.overflow(bytes, posting.max_client_buffer);
        }
        if last > self.durable {
            self.waiting.entry(last).or_default().push(connection.id);
        }
        if some_ready && posting.asker != Some(connection.id) {
            connection.send_soon(self.durable, &mut posting.at_once);
        }
    }
}
