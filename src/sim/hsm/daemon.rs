//! The daemon's process: the coordinator, its connections and its store, until it crashes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lustreapi_sys::hal::ActionList;
use lustreapi_sys::kuc::{self, Frame};

use super::redis::{Keeper, Left, Redis};
use crate::hsm::effect::{Reply, StoreOp};
use crate::hsm::event::Message;
use crate::hsm::reconcile::Reconcile;
use crate::hsm::{
    Action, ActionItem, AskId, Attributes, ConnId, Coordinator, Effect, Effects, Event, HsmConfig, Located,
    LustreAnswer, LustreCall, Now, OperatorReply, Order, RequestKey, Sought, Wanted,
};
use crate::sim::network::LinkId;
use crate::store::{Snapshot, Store};
use crate::wire::decoder::{Decoder, Limits};
use crate::wire::outbox::{Next, Outbox};
use crate::wire::reply::{write_reply, write_work};
use crate::wire::request::parse_message;

#[derive(Debug)]
struct Conn {
    decoder: Decoder,
    outbox: Outbox,
}

/// What the process wants of the world.
#[derive(Debug)]
pub enum Wish {
    /// Send bytes.
    Send(LinkId, Vec<u8>),
    /// Close a connection.
    Close(LinkId),
    /// Find out whether the peer of a connection still answers.
    Probe(LinkId),
    /// `HSM_COPY_END`.
    EndAtLustre(Box<ActionItem>, i32),
    /// Any other call on an MDT.
    AskLustre(LustreCall),
    /// Find out whose files these are.
    LookUp(Vec<RequestKey>, Wanted),
    /// Find out where these lie.
    Locate(Vec<Sought>),
    /// Tell an operator what came of an order.
    Answer(OperatorReply),
    /// Exit.
    Terminate,
}

/// A running daemon.
pub struct Daemon {
    /// Which life this is.
    pub boot: u64,
    /// The machine.
    pub core: Coordinator,
    fsname: String,
    conns: BTreeMap<LinkId, Conn>,
    effects: Effects,
    store: Option<Keeper>,
    /// Where the snapshot that the store wants goes on.
    snapshot: Option<(u64, u32)>,
    /// Commits handed to the store, and those that are durable.
    commits: u64,
    durable: u64,
    /// Effects that belong to no connection, with their commit.
    others: VecDeque<(u64, Effect)>,
    /// Requests that the store was given, and in which commit.
    put: BTreeMap<RequestKey, u64>,
    /// What peers queued, and the commit in which the store was given what was there of it then.
    queued: BTreeMap<LinkId, Vec<(RequestKey, u64)>>,
    /// Bytes read from the pipe that are not a whole frame yet.
    pipe: Vec<u8>,
    /// What to carry out.
    pub wishes: VecDeque<Wish>,
    /// Events handled.
    fed: u64,
    asks: u64,
    /// Requests that their movers said were done, by cookie and data FID.
    pub done: BTreeSet<(u64, lustreapi_sys::Fid)>,
    /// Requests that it has ended since the world looked last.
    pub ended: Vec<RequestKey>,
    /// Work that was decided on since the world looked last.
    pub given: Vec<ActionItem>,
    /// Names of reporting files that exist.
    pub reports: BTreeSet<String>,
}

fn conn_id(link: LinkId) -> ConnId {
    ConnId(link.0)
}

impl Daemon {
    /// Starts: recovers what the store holds before anything else happens.
    pub fn start(
        boot: u64,
        config: &HsmConfig,
        seed: u64,
        now: Now,
        mut store: Option<Keeper>,
    ) -> Result<Self, String> {
        let mut core = Coordinator::new(config.clone(), seed, now);
        let mut effects = Effects::default();
        let mut put = BTreeMap::new();
        let mut reports = BTreeSet::new();
        if let Some(store) = store.as_mut().map(Keeper::store) {
            let mut found = Vec::new();
            let recovery = store
                .recover(&mut |item, mover| found.push((item, mover)))
                .map_err(|error| format!("recovery failed: {error}"))?;
            if !recovery.quarantined.is_empty() {
                return Err(format!(
                    "records were set aside after a plain crash: {:?}",
                    recovery.quarantined
                ));
            }
            put.extend(found.iter().map(|(item, _)| (item.key(), 0)));
            // Their files are there from before.
            let hints = found.iter().filter_map(|(item, _)| item.data.strip_prefix(b"cr="));
            reports.extend(hints.map(|name| String::from_utf8_lossy(name).into_owned()));
            core.handle(now, Event::Recovered { requests: found, suspect: recovery.suspect }, &mut effects);
            let notes = store.take_notes();
            if !notes.is_empty() {
                core.handle(now, Event::RecoveredNotes(notes), &mut effects);
            }
        }
        let mut daemon = Self {
            boot,
            core,
            fsname: config.fsname.clone(),
            conns: BTreeMap::new(),
            effects,
            store,
            snapshot: None,
            commits: 0,
            durable: 0,
            others: VecDeque::new(),
            put,
            queued: BTreeMap::new(),
            pipe: Vec::new(),
            wishes: VecDeque::new(),
            fed: 0,
            asks: 0,
            done: BTreeSet::new(),
            ended: Vec::new(),
            given: Vec::new(),
            reports,
        };
        daemon.settle(now)?;
        Ok(daemon)
    }

    /// Whether changes wait for the disk.
    pub fn unsynced(&self) -> bool {
        self.durable < self.commits
    }

    /// The disk has everything that was handed over so far.
    pub fn sync(&mut self, now: Now) -> Result<(), String> {
        if let Some(store) = self.store.as_mut().map(Keeper::store) {
            store.sync().map_err(|error| format!("sync failed: {error}"))?;
        }
        self.durable = self.commits;
        self.flush(now)
    }

    /// Gives the store what it wants between commits. Returns whether it wants more.
    pub fn tend(&mut self) -> Result<bool, String> {
        let Some(Keeper::Redis(redis)) = &mut self.store else { return Ok(false) };
        redis.look_after();
        let from = match (redis.wants_snapshot(), self.snapshot) {
            (Some(number), _) => Some((number, 0)),
            (None, begun) => begun,
        };
        if let Some((number, from)) = from {
            let mut requests = Vec::new();
            let next = self.core.stored_slice(from, 3, &mut requests);
            self.snapshot = next.map(|next| (number, next));
            let part = Snapshot { number, requests, last: next.is_none() };
            redis.snapshot(&part).map_err(|error| error.to_string())?;
        }
        Ok(redis.is_behind())
    }

    /// The redis server, if that is the store.
    pub fn redis(&mut self) -> Option<&mut Redis> {
        match &mut self.store {
            Some(Keeper::Redis(redis)) => Some(redis),
            _ => None,
        }
    }

    /// Stops cleanly: what was decided is made durable. Returns what is left of the store.
    pub fn stop(mut self, now: Now) -> Result<Option<Left>, String> {
        self.sync(now)?;
        if let Some(store) = self.store.as_mut().map(Keeper::store) {
            store.close().map_err(|error| format!("close failed: {error}"))?;
        }
        Ok(self.leave())
    }

    /// What is left of the store, synced or not.
    pub fn leave(self) -> Option<Left> {
        self.store.map(Keeper::leave)
    }

    /// A peer connected.
    pub fn accept(&mut self, now: Now, link: LinkId, peer: String) -> Result<(), String> {
        self.conns.insert(link, Conn { decoder: Decoder::new(Limits::default()), outbox: Outbox::default() });
        self.feed(now, Event::Connected { conn: conn_id(link), peer })
    }

    /// A connection is gone.
    pub fn gone(&mut self, now: Now, link: LinkId) -> Result<(), String> {
        let Some(conn) = self.conns.remove(&link) else { return Ok(()) };
        for cursor in conn.outbox.statuses() {
            self.core.status_drop(cursor);
        }
        self.feed(now, Event::Disconnected { conn: conn_id(link) })
    }

    /// Whether a connection is known.
    pub fn knows(&self, link: LinkId) -> bool {
        self.conns.contains_key(&link)
    }

    /// Bytes from a peer.
    pub fn receive(&mut self, now: Now, link: LinkId, bytes: &[u8]) -> Result<(), String> {
        let Some(conn) = self.conns.get_mut(&link) else { return Ok(()) };
        conn.decoder.push(bytes);
        loop {
            let Some(conn) = self.conns.get_mut(&link) else { return Ok(()) };
            let object =
                conn.decoder.next_object().map_err(|error| format!("a mover sent rubbish: {error}"))?;
            let Some(object) = object else { return Ok(()) };
            let message = parse_message(object).map_err(|error| {
                format!("a mover's message was refused: {error}: {}", String::from_utf8_lossy(object))
            })?;
            let done = match &message {
                Message::Done(done) => Some((done.cookie, done.dfid)),
                _ => None,
            };
            let queued: Vec<RequestKey> = match &message {
                Message::Queue(queue) => queue.items.iter().flatten().map(ActionItem::key).collect(),
                _ => Vec::new(),
            };
            let foreign = self.core.counters().foreign_dones;
            self.feed(now, Event::Message { conn: conn_id(link), message })?;
            self.done.extend(done.filter(|_| self.core.counters().foreign_dones == foreign));
            let stored = queued.into_iter().filter_map(|key| Some((key, *self.put.get(&key)?)));
            self.queued.entry(link).or_default().extend(stored);
        }
    }

    /// Bytes from the KUC pipe.
    pub fn read_pipe(&mut self, now: Now, bytes: &[u8]) -> Result<(), String> {
        self.pipe.extend_from_slice(bytes);
        let pipe = std::mem::take(&mut self.pipe);
        let mut rest = &pipe[..];
        while let Some((frame, len)) = kuc::next_frame(rest).map_err(|error| error.to_string())? {
            if let Frame::ActionList(list) = frame {
                let list = ActionList::parse(list).map_err(|error| error.to_string())?;
                let items = list.items.iter().filter_map(|item| ActionItem::from_list(&list, item)).collect();
                self.feed(now, Event::Lustre { items })?;
            }
            rest = &rest[len..];
        }
        self.pipe = rest.to_vec();
        Ok(())
    }

    /// The MDT answered an end of ours.
    pub fn ended_at_lustre(&mut self, now: Now, key: RequestKey, errno: i32) -> Result<(), String> {
        self.feed(now, Event::LustreEnded { key, errno })
    }

    /// An MDT answered a call of ours.
    pub fn lustre_answered(&mut self, now: Now, answer: LustreAnswer) -> Result<(), String> {
        self.feed(now, Event::LustreAnswered(answer))
    }

    /// Whose files they are.
    pub fn looked_up(
        &mut self,
        now: Now,
        found: Vec<(RequestKey, Option<Attributes>)>,
    ) -> Result<(), String> {
        self.feed(now, Event::LookedUp(found))
    }

    /// Where they lie.
    pub fn located(&mut self, now: Now, found: Vec<(RequestKey, Located)>) -> Result<(), String> {
        self.feed(now, Event::Located(found))
    }

    /// How full the file system is.
    pub fn space_used(&mut self, now: Now, percent: u8) -> Result<(), String> {
        self.feed(now, Event::SpaceUsed(percent))
    }

    /// An operator gives an order.
    pub fn order(&mut self, now: Now, order: Order) -> Result<(), String> {
        self.asks += 1;
        let ask = AskId(self.asks);
        self.feed(now, Event::Operator { ask, who: "operator".to_owned(), order })
    }

    /// A listing of the MDTs.
    pub fn reconcile(&mut self, now: Now, steps: Vec<Reconcile>) -> Result<(), String> {
        self.asks += 1;
        let ask = AskId(self.asks);
        for step in steps {
            self.feed(now, Event::Reconcile { ask, step })?;
        }
        Ok(())
    }

    /// A deadline has come.
    pub fn tick(&mut self, now: Now) -> Result<(), String> {
        self.feed(now, Event::Tick)
    }

    fn feed(&mut self, now: Now, event: Event) -> Result<(), String> {
        self.core.handle(now, event, &mut self.effects);
        // The check looks at everything, so not every time.
        self.fed += 1;
        if self.fed.is_multiple_of(64) {
            self.core.check();
        }
        self.settle(now)
    }

    /// Hands changes to the store, and queues what may be seen once they are durable.
    fn settle(&mut self, now: Now) -> Result<(), String> {
        let commit = if self.effects.store.is_empty() { 0 } else { self.commits + 1 };
        if commit > 0 {
            self.commits = commit;
            if let Some(store) = self.store.as_mut().map(Keeper::store) {
                store.append(&self.effects.store).map_err(|error| format!("append failed: {error}"))?;
            } else {
                self.durable = commit;
            }
            for op in self.effects.store.drain(..) {
                match op {
                    StoreOp::Put(item) => drop(self.put.insert(item.key(), commit)),
                    StoreOp::Remove { key } => {
                        self.put.remove(&key);
                        self.ended.push(key);
                    }
                    StoreOp::Assign { .. } | StoreOp::Unassign { .. } | StoreOp::Note { .. } => {}
                }
            }
        }
        let effects: Vec<Effect> = self.effects.visible.drain(..).collect();
        for effect in effects {
            self.take_effect(commit, effect)?;
        }
        self.flush(now)
    }

    /// Puts an effect where it waits until `commit` is durable, as `server::shell` does.
    fn take_effect(&mut self, commit: u64, effect: Effect) -> Result<(), String> {
        let (conn, effect) = match effect {
            Effect::Reply { conn, .. }
            | Effect::Work { conn, .. }
            | Effect::Status { conn, .. }
            | Effect::Close { conn, .. } => (self.conns.get_mut(&LinkId(conn.0)), effect),
            other => {
                self.others.push_back((commit, other));
                return Ok(());
            }
        };
        let Some(Conn { outbox, .. }) = conn else {
            if let Effect::Status { cursor, .. } = effect {
                self.core.status_drop(cursor);
            }
            return Ok(());
        };
        match effect {
            Effect::Reply { reply: reply @ Reply::Queue { .. }, .. } => {
                let commit = if self.commits > self.durable { self.commits } else { commit };
                outbox.push_queue(commit, reply);
            }
            Effect::Reply { reply, .. } => outbox.push(commit, |out| write_reply(&reply, out)),
            Effect::Work { list, .. } => {
                for item in list.items.iter().filter(|item| item.action != Action::Cancel) {
                    if !self.put.contains_key(&item.key()) {
                        return Err(format!("{} is sent but was never stored", item.key()));
                    }
                    self.given.push(item.clone());
                }
                outbox.push(commit, |out| write_work(&list, &self.fsname, out));
            }
            Effect::Status { cursor, .. } => outbox.push_status(commit, cursor),
            Effect::Close { reason, .. } => outbox.push_close(commit, reason),
            _ => {}
        }
        Ok(())
    }

    /// Whether the store was given a request that has not ended.
    pub fn has_stored(&self, key: &RequestKey) -> bool {
        self.put.contains_key(key)
    }

    /// Requests that a crash now might lose.
    pub fn not_durable(&self) -> Vec<RequestKey> {
        let late = |(_, commit): &(&RequestKey, &u64)| **commit > self.durable;
        self.put.iter().filter(late).map(|(key, _)| *key).collect()
    }

    /// All of these.
    pub fn keys(&self) -> BTreeSet<RequestKey> {
        self.put.keys().copied().collect()
    }

    /// How many these are.
    pub fn stored(&self) -> usize {
        self.put.len()
    }

    /// What a peer had queued that is acknowledged now, and since which commit it was there: a request that has ended since
    /// may be there for a second time.
    pub fn acknowledges(&mut self, link: LinkId) -> Vec<(RequestKey, u64)> {
        self.queued.remove(&link).unwrap_or_default()
    }

    /// Whether a crash now would leave what was stored with this commit.
    pub fn has_synced(&self, commit: u64) -> bool {
        self.store.is_none() || commit <= self.durable
    }

    /// Whether the request is there since this commit.
    pub fn has_stored_since(&self, key: &RequestKey, commit: u64) -> bool {
        self.put.get(key) == Some(&commit)
    }

    /// Whether a crash now would leave the request, or it has ended.
    pub fn is_durable(&self, key: &RequestKey) -> bool {
        self.store.is_none() || self.put.get(key).is_none_or(|commit| *commit <= self.durable)
    }

    /// Lets out what may be seen.
    fn flush(&mut self, now: Now) -> Result<(), String> {
        for (link, conn) in &mut self.conns {
            loop {
                match conn.outbox.next(self.durable) {
                    Next::Write(bytes) => {
                        let bytes = bytes.to_vec();
                        conn.outbox.wrote(bytes.len());
                        self.wishes.push_back(Wish::Send(*link, bytes));
                    }
                    Next::Produce(cursor) => {
                        conn.outbox.feed(|out| self.core.status_chunk(now, cursor, 256, out));
                    }
                    Next::Close(_) => {
                        self.wishes.push_back(Wish::Close(*link));
                        break;
                    }
                    Next::Wait => break,
                }
            }
        }
        while self.others.front().is_some_and(|(commit, _)| *commit <= self.durable) {
            let Some((_, effect)) = self.others.pop_front() else { break };
            match effect {
                Effect::Probe { conn } => self.wishes.push_back(Wish::Probe(LinkId(conn.0))),
                Effect::EndAtLustre { item, errno } => {
                    self.wishes.push_back(Wish::EndAtLustre(item, errno));
                }
                Effect::AskLustre(call) => self.wishes.push_back(Wish::AskLustre(call)),
                Effect::LookUp { keys, wanted } => self.wishes.push_back(Wish::LookUp(keys, wanted)),
                Effect::Locate(sought) => self.wishes.push_back(Wish::Locate(sought)),
                Effect::Operator { reply, .. } => self.wishes.push_back(Wish::Answer(reply)),
                Effect::Report { name, .. } => {
                    self.reports.insert(name);
                }
                Effect::RemoveReport { name } => {
                    if !self.reports.remove(&name) {
                        return Err(format!("report {name} is removed but does not exist"));
                    }
                }
                Effect::Terminate => self.wishes.push_back(Wish::Terminate),
                // The others go to connections.
                Effect::Reply { .. } | Effect::Work { .. } | Effect::Status { .. } | Effect::Close { .. } => {
                }
            }
        }
        Ok(())
    }
}
