//! Feeds events to the coordinator's core and carries out its effects.
//!
//! Everything here runs on one thread; tasks of connections, timers and threads' messages call [`Shell::handle`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Notify, broadcast, oneshot};

use super::committer::{self, Committer};
use super::connection::Connection;
use super::outbox::{Outbox, SLICE};
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
use crate::store::{Health, Snapshot};
use crate::system::clock::Clock;
use crate::wire::{write_reply, write_work};

/// Operations that may wait for the store before peers are no longer read: what they would send next could only wait too.
const MAX_UNSTORED: usize = 100_000;

/// What happened and is kept for followers that are slower than it happens.
const HAPPENED: usize = 8192;

/// Requests in one part of a snapshot for the store.
const SNAPSHOT_PART: usize = 1000;

/// Peers that are sent their part within the step that it follows from; the tasks of the others do it, in turn.
const SENT_AT_ONCE: usize = 16;

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

/// How it goes with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreState {
    /// Operations that are not durable yet.
    pub unstored: usize,
    /// They are so many that peers are not read.
    pub behind: bool,
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
    fn release(&self) {
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

    /// Sends the operations to the store and sorts the effects to whom they concern. The task of `asker` looks for itself
    /// what it has to send.
    fn dispatch(&mut self, max_client_buffer: usize, asker: Option<ConnId>) {
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

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::sync::mpsc;

    use lustreapi_sys::Fid;

    use super::super::connection::Badge;
    use super::super::outbox::Next;
    use super::super::security::{Access, Principal};
    use super::super::transport::Transport;
    use super::*;
    use crate::hsm::event::{Done, Ehlo, Queue, Recv};
    use crate::hsm::{Action, HsmConfig};

    fn item() -> ActionItem {
        let fid = Fid::new(0x2_0000_0401, 1, 0);
        ActionItem::new(Action::Archive, fid, 1, 1)
    }

    async fn connection(number: u64) -> Rc<Connection> {
        connection_with(number).await.0
    }

    /// A connection, and its peer's side.
    async fn connection_with(number: u64) -> (Rc<Connection>, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let peer = listener.accept().unwrap().0;
        stream.writable().await.unwrap();
        let badge = Badge::new(Principal::Plain, Access::Admin, Arc::default());
        let connection = Connection::new(ConnId(number), Transport::plain(stream), "a:1".to_owned(), badge);
        (Rc::new(connection), peer)
    }

    fn queue(shell: &Shell, conn: u64) {
        let queue = Queue { fsname: None, items: Some(vec![item()]), bad_items: 0 };
        shell.handle(Event::Message { conn: ConnId(conn), message: Message::Queue(queue) });
    }

    /// The second peer's request is the first one's, whose commit is not durable: a crash now would lose it for both.
    #[tokio::test]
    async fn a_duplicate_is_not_acknowledged_before_what_it_repeats_is_durable() {
        let clock = Clock::new();
        let core =
            Coordinator::new(HsmConfig { fsname: "lus".into(), ..HsmConfig::default() }, 1, clock.now());
        let (send, _reports) = mpsc::channel();
        let store = Box::new(crate::store::NoStore);
        // What the store's thread reports does not reach the shell: nothing is durable until the test says so.
        let committer = Committer::start(store, move |report| drop(send.send(report))).unwrap();
        let shell = Shell::new(core, clock, "lus".into(), Some(committer), None, 1 << 20);
        let ((first, mut first_peer), (second, mut second_peer)) =
            (connection_with(1).await, connection_with(2).await);
        shell.connected(Rc::clone(&first), "a:1".into());
        shell.connected(Rc::clone(&second), "b:1".into());
        queue(&shell, 1);
        queue(&shell, 2);
        assert_eq!(first.outbox.borrow_mut().next(shell.durable()), Next::Wait);
        assert_eq!(second.outbox.borrow_mut().next(shell.durable()), Next::Wait);
        shell.store_report(committer::Report::Done { upto: 1, failed: Vec::new() });
        assert_eq!(received(&mut first_peer), "{\"command\": \"queue\", \"enqueued\": 1}");
        assert_eq!(received(&mut second_peer), "{\"command\": \"queue\", \"skipped\": 1}");
    }

    /// What a peer gets that has been sent something.
    fn received(peer: &mut TcpStream) -> String {
        peer.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        let mut buffer = [0; 4096];
        let read = peer.read(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    }

    fn hear(shell: &Shell, conn: u64, said: Vec<Said>) -> Option<Message> {
        let mut said = said.into_iter();
        shell.hear(ConnId(conn), || said.next())
    }

    fn mover_says() -> (Message, Message, Message) {
        let ehlo = Ehlo { id: Some("m".into()), ..Ehlo::default() };
        let recv = Recv { max_archive: None, max_restore: None, max_remove: None, max_bytes: 1 << 20 };
        let done = Done { cookie: 1, dfid: item().fid, status: 0 };
        (Message::Ehlo(ehlo), Message::Recv(recv), Message::Done(done))
    }

    /// Nothing runs between the event and this test's look at the socket: the mover's task has had no turn.
    #[tokio::test]
    async fn a_mover_that_waits_is_sent_its_work_before_the_queuer_its_answer() {
        let clock = Clock::new();
        let core =
            Coordinator::new(HsmConfig { fsname: "lus".into(), ..HsmConfig::default() }, 1, clock.now());
        let shell = Shell::new(core, clock, "lus".into(), None, None, 1 << 20);
        let ((mover, mut peer), queuer) = (connection_with(1).await, connection(2).await);
        shell.connected(Rc::clone(&mover), "a:1".into());
        shell.connected(Rc::clone(&queuer), "b:1".into());
        let (ehlo, recv, _) = mover_says();
        hear(&shell, 1, vec![Said::Message(ehlo), Said::Message(recv)]);
        let queue = Queue { fsname: None, items: Some(vec![item()]), bad_items: 0 };
        hear(&shell, 2, vec![Said::Message(Message::Queue(queue))]);
        let got = received(&mut peer);
        assert!(got.contains("hsm_action_list"), "{got}");
        assert!(mover.outbox.borrow().is_empty());
        assert!(!queuer.outbox.borrow().is_empty());
    }

    /// One event may be work for very many: whoever else is to be served must not wait until all of it is sent.
    #[tokio::test]
    async fn a_step_sends_to_few_and_leaves_the_others_to_their_tasks() {
        let clock = Clock::new();
        let core =
            Coordinator::new(HsmConfig { fsname: "lus".into(), ..HsmConfig::default() }, 1, clock.now());
        let shell = Shell::new(core, clock, "lus".into(), None, None, 1 << 20);
        let count = SENT_AT_ONCE as u32 + 4;
        let (mut movers, mut peers) = (Vec::new(), Vec::new());
        for number in 1..=count {
            let (mover, peer) = connection_with(number.into()).await;
            shell.connected(Rc::clone(&mover), "a:1".into());
            let recv =
                Recv { max_archive: Some(1), max_restore: Some(0), max_remove: Some(0), max_bytes: 1 << 20 };
            let ehlo = Ehlo { id: Some(format!("m{number}")), ..Ehlo::default() };
            hear(
                &shell,
                number.into(),
                vec![Said::Message(Message::Ehlo(ehlo)), Said::Message(Message::Recv(recv))],
            );
            mover.send_soon(0, &mut 1);
            assert!(mover.outbox.borrow().is_empty());
            movers.push(mover);
            peers.push(peer);
        }
        let items = (1..=count).map(|oid| {
            let fid = Fid::new(0x2_0000_0401, oid, 0);
            ActionItem { fid, dfid: fid, cookie: oid.into(), ..item() }
        });
        shell.handle(Event::Lustre { items: items.collect() });
        let left = movers.iter().filter(|mover| !mover.outbox.borrow().is_empty()).count();
        assert_eq!(left, 4);
    }

    #[tokio::test]
    async fn ends_in_a_bunch_are_one_commit_with_what_follows_them() {
        let clock = Clock::new();
        let core =
            Coordinator::new(HsmConfig { fsname: "lus".into(), ..HsmConfig::default() }, 1, clock.now());
        let (send, _reports) = mpsc::channel();
        let store = Box::new(crate::store::NoStore);
        let committer = Committer::start(store, move |report| drop(send.send(report))).unwrap();
        let shell = Shell::new(core, clock, "lus".into(), Some(committer), None, 1 << 20);
        let (mover, mut peer) = connection_with(1).await;
        shell.connected(mover, "a:1".into());
        queue(&shell, 1);
        let (ehlo, recv, done) = mover_says();
        let before = shell.inner.borrow().last_commit;
        let refusal = Reply::Error { command: "lock", status: 1, error: "no" };
        let other = Message::Done(Done { cookie: 2, dfid: item().fid, status: 0 });
        let said = vec![
            Said::Message(ehlo),
            Said::Message(recv.clone()),
            Said::Message(done),
            Said::Message(other),
            Said::Refused(refusal),
            Said::Message(recv),
        ];
        assert_eq!(hear(&shell, 1, said), None);
        // One for the assignment, one for the end.
        assert_eq!(shell.inner.borrow().last_commit, before + 2);
        shell.store_report(committer::Report::Done { upto: before + 2, failed: Vec::new() });
        let text = received(&mut peer);
        let places = ["queue", "ehlo", "hsm_action_list", "\"done\"", "\"done\"", "lock"];
        let mut rest = &text[..];
        for place in places {
            let at = rest.find(place).unwrap_or_else(|| panic!("{place} is not where it belongs: {text}"));
            rest = &rest[at + place.len()..];
        }
    }

    #[tokio::test]
    async fn nothing_is_acknowledged_once_the_store_is_handed_out() {
        let clock = Clock::new();
        let core =
            Coordinator::new(HsmConfig { fsname: "lus".into(), ..HsmConfig::default() }, 1, clock.now());
        let committer = Committer::start(Box::new(crate::store::NoStore), |_| ()).unwrap();
        let shell = Shell::new(core, clock, "lus".into(), Some(committer), None, 1 << 20);
        let peer = connection(1).await;
        shell.connected(Rc::clone(&peer), "a:1".into());
        let _outputs = shell.take_outputs();
        queue(&shell, 1);
        assert!(peer.outbox.borrow().is_empty());
    }
}
