//! Feeds events to the coordinator's core and carries out its effects.
//!
//! Everything here runs on one thread; tasks of connections, timers and threads' messages call [`Shell::handle`].

mod posting;
mod storing;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Notify, broadcast, oneshot};

pub use self::storing::StoreState;
use super::committer::Committer;
use super::connection::Connection;
use super::outbox::SLICE;
use super::reporting::Reporting;
use super::security::Policy;
use crate::hsm::effect::Reply;
use crate::hsm::event::Message;
use crate::hsm::feed::Happening;
use crate::hsm::reconcile::{Listing, Reconcile};
use crate::hsm::{
    ActionItem, AskId, ConnId, Coordinator, Effect, Effects, Event, LustreCall, Now, OperatorReply, Order,
    RequestKey, Sought, StatusCursor, Wanted,
};
use crate::store::Health;
use crate::system::clock::Clock;

/// What happened and is kept for followers that are slower than it happens.
const HAPPENED: usize = 8192;

/// What a peer has said.
#[derive(Debug)]
pub enum Said {
    /// For the core.
    Message(Message),
    /// What it may not say, with the answer to that.
    Refused(Reply),
}

/// Carries out what the core wants of the MDTs. Nothing here blocks.
pub trait LustreCalls {
    /// Begins to end a request; [`Event::LustreEnded`] must follow.
    fn end(&self, item: ActionItem, errno: i32);

    /// Begins any other call; [`Event::LustreAnswered`] must follow.
    fn ask(&self, call: LustreCall);
}

/// Looks at files. Nothing here blocks.
pub trait FileCalls {
    /// Begins to find out whose files these are; [`Event::LookedUp`] must follow.
    fn look_up(&self, keys: Vec<RequestKey>, wanted: Wanted);

    /// Begins to ask the locator; [`Event::Located`] must follow.
    fn locate(&self, sought: Vec<Sought>);
}

/// The core and what its effects reach.
pub struct Shell {
    clock: Clock,
    inner: RefCell<Inner>,
    /// The next deadline has changed.
    pub timer: Notify,
    /// The store has caught up, or the daemon stops.
    pub stored: Notify,
    /// Nothing runs any more after `lock` 2.
    pub terminate: Notify,
    /// The registration at Lustre has ended.
    pub lustre_stopped: Notify,
    stopping: Cell<bool>,
    /// The outputs are gone: nothing that happens now could be stored first.
    closed: Cell<bool>,
    max_client_buffer: usize,
}

struct Inner {
    core: Coordinator,
    effects: Effects,
    fsname: String,
    connections: BTreeMap<ConnId, Rc<Connection>>,
    committer: Option<Committer>,
    last_commit: u64,
    durable: u64,
    /// Operations of commits that are not durable, by commit.
    unstored: VecDeque<(u64, usize)>,
    unstored_ops: usize,
    /// Connections that have something to send once a commit is durable, by commit.
    waiting: BTreeMap<u64, Vec<ConnId>>,
    /// Effects on others than connections, in order.
    deferred: VecDeque<(u64, Effect)>,
    lustre: Option<Rc<dyn LustreCalls>>,
    files: Option<Rc<dyn FileCalls>>,
    /// Who waits for what became of an order.
    operators: BTreeMap<AskId, oneshot::Sender<OperatorReply>>,
    asks: u64,
    reporting: Option<Reporting>,
    terminate: bool,
    /// The snapshot that the store wants, and where its next part begins.
    snapshot: Option<(u64, u32)>,
    store_health: Health,
    /// To those who follow what happens, while there are any.
    followers: Option<broadcast::Sender<Happening>>,
}

impl std::fmt::Debug for Shell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shell").finish_non_exhaustive()
    }
}

impl Shell {
    /// A shell around `core`. Without a committer nothing is stored and everything is visible at once.
    pub fn new(
        core: Coordinator,
        clock: Clock,
        fsname: String,
        committer: Option<Committer>,
        reporting: Option<Reporting>,
        max_client_buffer: usize,
    ) -> Self {
        let inner = Inner {
            core,
            effects: Effects::default(),
            fsname,
            connections: BTreeMap::new(),
            committer,
            last_commit: 0,
            durable: 0,
            unstored: VecDeque::new(),
            unstored_ops: 0,
            waiting: BTreeMap::new(),
            deferred: VecDeque::new(),
            lustre: None,
            files: None,
            operators: BTreeMap::new(),
            asks: 0,
            reporting,
            terminate: false,
            snapshot: None,
            store_health: Health::default(),
            followers: None,
        };
        Self {
            clock,
            inner: RefCell::new(inner),
            timer: Notify::new(),
            stored: Notify::new(),
            terminate: Notify::new(),
            lustre_stopped: Notify::new(),
            stopping: Cell::new(false),
            closed: Cell::new(false),
            max_client_buffer,
        }
    }

    /// From now on requests can be ended at Lustre and files looked at; what had to wait is done.
    pub fn connect_lustre(&self, lustre: Rc<dyn LustreCalls>, files: Rc<dyn FileCalls>) {
        {
            let mut inner = self.inner.borrow_mut();
            inner.lustre = Some(lustre);
            inner.files = Some(files);
        }
        self.release();
    }

    /// Gives the core an event and carries out what follows; nothing after [`Shell::take_outputs`].
    pub fn handle(&self, event: Event) {
        if self.closed.get() {
            return;
        }
        let now = self.clock.now();
        {
            let mut inner = self.inner.borrow_mut();
            let before = inner.core.next_deadline();
            let Inner { core, effects, .. } = &mut *inner;
            core.handle(now, event, effects);
            inner.tell_followers();
            inner.dispatch(self.max_client_buffer, None);
            if inner.core.next_deadline() != before {
                self.timer.notify_one();
            }
        }
        self.release();
    }

    /// Gives the core what a peer says, until `next` has no more. Returns a message that has to wait until the store was
    /// read. The peer's own task calls this, and sends it what follows.
    ///
    /// Movers end their requests in bunches: what follows from ends is carried out together with what follows from the
    /// message behind them.
    pub fn hear(&self, conn: ConnId, mut next: impl FnMut() -> Option<Said>) -> Option<Message> {
        while let Some(said) = next() {
            if self.closed.get() {
                continue;
            }
            let now = self.clock.now();
            let held = {
                let mut inner = self.inner.borrow_mut();
                let before = inner.core.next_deadline();
                let held = inner.hear_bunch(now, conn, said, &mut next);
                inner.tell_followers();
                inner.dispatch(self.max_client_buffer, Some(conn));
                if inner.core.next_deadline() != before {
                    self.timer.notify_one();
                }
                held
            };
            self.release();
            if held.is_some() {
                return held;
            }
        }
        None
    }

    /// Whether a message would be dealt with now. While the store is read most have to wait.
    pub fn takes_now(&self, message: &Message) -> bool {
        self.inner.borrow().core.takes_now(message)
    }

    /// The store was read: whoever had to wait goes on.
    pub fn recovered(&self) {
        self.handle(Event::RecoveryEnded);
        for connection in self.inner.borrow().connections.values() {
            connection.wake.notify_one();
        }
    }

    /// Gives the core an operator's order. What came of it is known once it is durable.
    pub fn operator(&self, who: String, order: Order) -> oneshot::Receiver<OperatorReply> {
        let (ask, reply) = self.inner.borrow_mut().new_ask();
        self.handle(Event::Operator { ask, who, order });
        reply
    }

    /// Begins a comparison with what the MDTs list. What came of it is known some time after the last step.
    pub fn reconcile(&self, listing: Listing) -> (AskId, oneshot::Receiver<OperatorReply>) {
        let (ask, reply) = self.inner.borrow_mut().new_ask();
        self.reconcile_step(ask, Reconcile::Begin(listing));
        (ask, reply)
    }

    /// Goes on with it.
    pub fn reconcile_step(&self, ask: AskId, step: Reconcile) {
        self.handle(Event::Reconcile { ask, step });
    }

    /// Looks at the core, for answers that change nothing.
    pub fn look<R>(&self, look: impl FnOnce(&Coordinator, Now) -> R) -> R {
        let now = self.clock.now();
        look(&self.inner.borrow().core, now)
    }

    /// What happens from now on. Whoever reads it more slowly than it happens misses some, and is told how much.
    pub fn follow(&self) -> broadcast::Receiver<Happening> {
        let mut inner = self.inner.borrow_mut();
        inner.core.watch(true);
        inner.followers.get_or_insert_with(|| broadcast::channel(HAPPENED).0).subscribe()
    }

    /// When the core wants to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadline = self.inner.borrow().core.next_deadline()?;
        self.clock.instant(deadline)
    }

    /// Adds a connection and tells the core.
    pub fn connected(&self, connection: Rc<Connection>, peer: String) {
        let conn = connection.id;
        self.inner.borrow_mut().connections.insert(conn, connection);
        self.handle(Event::Connected { conn, peer });
    }

    /// Forgets a connection and tells the core, unless the daemon stops: then movers keep what they have.
    pub fn disconnected(&self, conn: ConnId) {
        {
            let mut inner = self.inner.borrow_mut();
            if let Some(connection) = inner.connections.remove(&conn) {
                let cursors: Vec<_> = connection.outbox.borrow().statuses().collect();
                for cursor in cursors {
                    inner.core.status_drop(cursor);
                }
            }
        }
        if !self.stopping.get() {
            self.handle(Event::Disconnected { conn });
        }
    }

    /// Produces the next part of a running answer. Returns whether that was the last.
    pub fn status_chunk(&self, cursor: StatusCursor, out: &mut Vec<u8>) -> bool {
        let now = self.clock.now();
        self.inner.borrow_mut().core.status_chunk(now, cursor, SLICE, out)
    }

    /// How many peers are connected.
    pub fn connections(&self) -> usize {
        self.inner.borrow().connections.len()
    }

    /// Whether every peer has been sent everything.
    pub fn all_sent(&self) -> bool {
        self.inner.borrow().connections.values().all(|connection| connection.all_sent())
    }

    /// Another policy holds for everybody who is connected.
    pub fn apply(&self, policy: &Arc<Policy>) {
        for connection in self.inner.borrow().connections.values() {
            connection.apply(policy);
        }
    }

    /// Whether peers are no longer read.
    pub fn stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Stops reading peers.
    pub fn stop(&self) {
        self.stopping.set(true);
        let inner = self.inner.borrow();
        for connection in inner.connections.values() {
            connection.wake.notify_one();
        }
        self.stored.notify_waiters();
    }

    /// Hands out the store and the reporting files, to be closed. Events are ignored from now on: a mover would see work
    /// that no store knows it has.
    pub fn take_outputs(&self) -> (Option<Committer>, Option<Reporting>) {
        self.closed.set(true);
        let mut inner = self.inner.borrow_mut();
        // So that followers are told the end.
        inner.followers = None;
        (inner.committer.take(), inner.reporting.take())
    }
}

impl Inner {
    fn new_ask(&mut self) -> (AskId, oneshot::Receiver<OperatorReply>) {
        let (send, reply) = oneshot::channel();
        self.asks += 1;
        let ask = AskId(self.asks);
        self.operators.insert(ask, send);
        (ask, reply)
    }

    /// Tells those who follow what happened; nobody collects it when there is nobody left.
    fn tell_followers(&mut self) {
        let Some(followers) = &self.followers else { return };
        if followers.receiver_count() == 0 {
            self.core.watch(false);
            self.followers = None;
            return;
        }
        for happening in self.core.take_happened() {
            // It fails when the last of them has just gone.
            let _ = followers.send(happening);
        }
    }

    /// Takes ends up to the first message that is none, and this one. Returns a message that has to wait.
    fn hear_bunch(
        &mut self,
        now: Now,
        conn: ConnId,
        first: Said,
        next: &mut impl FnMut() -> Option<Said>,
    ) -> Option<Message> {
        let mut said = Some(first);
        while let Some(one) = said {
            let message = match one {
                Said::Message(message) if self.core.takes_now(&message) => message,
                Said::Message(message) => return Some(message),
                Said::Refused(reply) => {
                    self.effects.visible.push(Effect::Reply { conn, reply });
                    return None;
                }
            };
            let is_end = matches!(message, Message::Done(_));
            self.core.handle(now, Event::Message { conn, message }, &mut self.effects);
            said = if is_end { next() } else { None };
        }
        None
    }
}
