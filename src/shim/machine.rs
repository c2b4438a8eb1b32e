//! The state machine itself.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use lustreapi_sys::hal::{Item, ItemLength, ListBuilder};

use super::event::{Effect, Event, Level};
use super::flights::{Arrival, Flights};
use super::lease::Lease;
use super::link::{Attempt, Link, State};
use crate::hsm::event::{Ehlo, Features};
use crate::hsm::{Action, ActionItem, Mono, RequestKey};
use crate::wire::client::{self, Failure, ReceivedList, ServerMessage};
use crate::wire::{Decoder, Limits};

/// What a mover is configured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimConfig {
    /// Mover id.
    pub client_id: String,
    /// Name of the mounted file system, told to the daemon.
    pub fsname: String,
    /// Archive ids that the copytool registered for; empty for all.
    pub archive_ids: Vec<u32>,
    /// Archives that may run at the same time; `None` for no limit.
    pub max_archive: Option<u32>,
    /// Restores that may run at the same time.
    pub max_restore: Option<u32>,
    /// Removes that may run at the same time.
    pub max_remove: Option<u32>,
    /// The copytool's buffer, in bytes (`hal_size`).
    pub max_bytes: u32,
    /// How `hai_len` counts the data.
    pub item_length: ItemLength,
    /// Keep asking for work although the copytool is not in recv: it waits for the descriptor of get_fd to become readable.
    pub eager: bool,
    /// How long the daemon may take to answer `ehlo`, and a connection to stand.
    pub handshake_timeout: Duration,
    /// How long a copytool may sit on an action that it never began before the file is looked at; zero for ever.
    pub begin_timeout: Duration,
}

impl Default for ShimConfig {
    fn default() -> Self {
        Self {
            client_id: String::new(),
            fsname: String::new(),
            archive_ids: Vec::new(),
            max_archive: None,
            max_restore: None,
            max_remove: None,
            max_bytes: 1 << 20,
            item_length: ItemLength::Padded,
            eager: false,
            handshake_timeout: Duration::from_secs(30),
            begin_timeout: Duration::from_secs(60),
        }
    }
}

/// One mover's side of the protocol.
#[derive(Debug)]
pub struct Shim {
    config: ShimConfig,
    link: Link,
    decoder: Decoder,
    flights: Flights,
    /// Received, not yet read by the copytool.
    lists: VecDeque<ReceivedList>,
    lease: Lease,
    /// The copytool called recv and has got nothing yet.
    wanted: bool,
    /// A `recv` is not answered yet on this connection.
    asked: bool,
    /// Requests that were refused and not handed out again.
    refused: BTreeSet<RequestKey>,
    /// When to reconnect so that requests that were given up are seen to be free.
    give_back_at: Option<Mono>,
    /// Why the last attempt to connect failed, so that it is said once and not every few seconds.
    last_failure: String,
}

/// How long to gather abandoned requests before reconnecting without them.
const GIVE_BACK_DELAY: Duration = Duration::from_millis(500);

/// What the daemon and the MDT are told about the request of a file that is gone.
const ENOENT: i32 = 2;
/// What the daemon is told about a request that an idle copytool has dropped.
const EIO: i32 = 5;
/// What the MDT is told about an ARCHIVE of those.
const EALREADY: i32 = 114;
/// A copytool that begins and ends nothing for this many `begin_timeout`s has no queue of its own.
const IDLE_TIMES: u32 = 10;
/// What a copytool acknowledges a cancel with that it cannot carry out.
const ENOSYS: i32 = 38;

impl Shim {
    /// A mover that is not connected yet: the first [`Event::Tick`] starts it.
    pub fn new(config: ShimConfig) -> Self {
        // Up to a quarter of a second, by the mover's name, so that movers do not all come back at once.
        let hash = config.client_id.bytes().fold(5381u64, |h, b| h.wrapping_mul(33) ^ u64::from(b));
        Self {
            link: Link::new(Duration::from_millis(hash % 250)),
            decoder: Decoder::new(Self::limits(&config)),
            config,
            flights: Flights::default(),
            lists: VecDeque::new(),
            lease: Lease::default(),
            wanted: false,
            asked: false,
            refused: BTreeSet::new(),
            give_back_at: None,
            last_failure: String::new(),
        }
    }

    /// Items cost more as JSON than in a list: names of fields, and six bytes for some characters.
    fn limits(config: &ShimConfig) -> Limits {
        Limits {
            message_bytes: (config.max_bytes as usize).saturating_mul(8).max(8 << 20),
            ..Limits::default()
        }
    }

    /// Takes one event and appends to `effects` what follows from it.
    pub fn handle(&mut self, now: Mono, event: Event<'_>, effects: &mut Vec<Effect>) {
        match event {
            Event::Resolved { servers } => {
                if servers == 0 {
                    self.complain("cannot resolve the name of the server", effects);
                }
                let attempt = self.link.resolved(now, servers, self.config.handshake_timeout);
                self.carry_out(attempt, effects);
            }
            Event::Connected { conn } => self.connected(now, conn, effects),
            Event::Disconnected { conn, reason } => {
                if self.link.conn() == Some(conn) {
                    self.drop_connection(now, reason, effects);
                }
            }
            Event::Received { conn, bytes } => self.received(now, conn, bytes, effects),
            Event::WorkWanted => self.wanted = true,
            Event::Begun { key } => self.flights.begun(&key),
            Event::Ended(end) => {
                // The end of an attempt that was refused after it ended is of no interest to the daemon.
                if !self.refused.contains(&end.key) {
                    self.flights.ended(end);
                }
            }
            Event::Abandoned { key } => {
                if self.flights.forget(&key).is_some() {
                    self.refused.insert(key);
                    // An `ehlo` that is yet to be sent says it; one that was sent has claimed the request.
                    if matches!(self.link.state, State::Handshake { .. } | State::Ready { .. }) {
                        self.give_back_at = self.give_back_at.or(Some(now + GIVE_BACK_DELAY));
                    }
                }
            }
            Event::Probed { key, gone } => {
                if self.was_dropped(&key, gone) {
                    self.end_dropped(&key, gone, effects);
                }
            }
            Event::Tick => {}
        }
        self.advance(now, effects);
    }

    /// What time and state ask for, after every event.
    fn advance(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        match self.link.state {
            State::Connecting { conn, deadline } if deadline <= now => {
                effects.push(Effect::Close { conn });
                self.drop_connection(now, "connecting takes too long", effects);
            }
            State::Handshake { conn, deadline, .. } if deadline <= now => {
                effects.push(Effect::Close { conn });
                self.drop_connection(now, "no answer to ehlo", effects);
            }
            State::Ready { conn, .. } if self.lease.silent_at().is_some_and(|at| at <= now) => {
                effects.push(Effect::Close { conn });
                self.drop_connection(now, "no answer to a renewal of the lease", effects);
            }
            State::Ready { conn, .. } if self.give_back_at.is_some_and(|at| at <= now) => {
                effects.push(Effect::Close { conn });
                self.drop_connection(now, "reconnecting to give requests back", effects);
            }
            _ => {}
        }
        let attempt = self.link.attempt(now, self.config.handshake_timeout);
        self.carry_out(attempt, effects);
        if let Some(conn) = self.link.ready_conn() {
            let mut bytes = Vec::new();
            while let Some(end) = self.flights.next_unsent() {
                let write = if end.cancel && end.status == ENOSYS {
                    client::write_goes_on
                } else if end.unheard && !end.cancel {
                    client::write_unheard
                } else {
                    client::write_done
                };
                write(end.key.cookie, end.dfid, end.status, &mut bytes);
            }
            if let Some(serial) = self.lease.renewal(now) {
                client::write_lease(serial, &mut bytes);
            }
            if (self.wanted || self.config.eager) && !self.asked && self.lists.is_empty() {
                let limit = |max: Option<u32>| max.map_or(-1, |max| i32::try_from(max).unwrap_or(i32::MAX));
                let ShimConfig { max_archive, max_restore, max_remove, max_bytes, .. } = self.config;
                let (archive, restore, remove) = (limit(max_archive), limit(max_restore), limit(max_remove));
                client::write_recv(archive, restore, remove, max_bytes, &mut bytes);
                self.asked = true;
            }
            if !bytes.is_empty() {
                effects.push(Effect::Send { conn, bytes });
            }
        }
        if !self.config.begin_timeout.is_zero() {
            let overdue = self.flights.overdue(now, self.config.begin_timeout);
            effects.extend(overdue.into_iter().map(|key| Effect::Probe { key }));
        }
    }

    fn carry_out(&mut self, attempt: Option<Attempt>, effects: &mut Vec<Effect>) {
        match attempt {
            None => {}
            Some(Attempt::Resolve) => effects.push(Effect::Resolve),
            Some(Attempt::Connect { conn, server }) => effects.push(Effect::Connect { conn, server }),
        }
    }

    fn connected(&mut self, now: Mono, conn: u64, effects: &mut Vec<Effect>) {
        let State::Connecting { conn: present, .. } = self.link.state else { return };
        if present != conn {
            return;
        }
        self.decoder = Decoder::new(Self::limits(&self.config));
        let mut bytes = Vec::new();
        let claims: Vec<ActionItem> = self.flights.claims().cloned().collect();
        if !claims.is_empty() {
            log(effects, Level::Info, format!("claiming {} requests from before", claims.len()));
        }
        let ehlo = Ehlo {
            id: Some(self.config.client_id.clone()),
            fsname: Some(self.config.fsname.clone()),
            archive_ids: self.config.archive_ids.clone(),
            hai_list: Some(claims),
            features: Features { binary_data: true, lease: true },
        };
        client::write_ehlo(&ehlo, &mut bytes);
        effects.push(Effect::Send { conn, bytes });
        self.give_back_at = None;
        self.link.state = State::Handshake { conn, sent: now, deadline: now + self.config.handshake_timeout };
    }

    fn received(&mut self, now: Mono, conn: u64, bytes: &[u8], effects: &mut Vec<Effect>) {
        if self.link.conn() != Some(conn) {
            return;
        }
        self.decoder.push(bytes);
        loop {
            let message = match self.decoder.next_object() {
                Ok(None) => return,
                Ok(Some(object)) => client::parse_reply(object).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = message.and_then(|message| self.message(now, message, effects)) {
                effects.push(Effect::Close { conn });
                self.drop_connection(now, &reason, effects);
                return;
            }
        }
    }

    /// Takes one message of the daemon. An error ends the connection.
    fn message(
        &mut self,
        now: Mono,
        message: ServerMessage,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        match (self.link.state, message) {
            (State::Handshake { conn, sent, .. }, ServerMessage::Ehlo(Ok(reply))) => {
                log(effects, Level::Info, "the server knows us".to_owned());
                self.last_failure.clear();
                self.link.ready(now, conn);
                self.lease.granted(sent, Duration::from_millis(reply.lease_ms));
                for key in reply.refused {
                    self.refuse(&key, effects);
                }
            }
            // C answers an ehlo with bad archive ids as if it were a done.
            (
                State::Handshake { .. },
                ServerMessage::Ehlo(Err(failure)) | ServerMessage::Done(Err(failure)),
            ) => {
                return Err(format!("the server refuses us: {failure}"));
            }
            (State::Ready { .. }, ServerMessage::Recv(Ok(list))) => {
                if !self.asked {
                    // Whoever sends lists unasked could fill our memory with them.
                    return Err("the server sends work that was not asked for".to_owned());
                }
                if *list.fsname != *self.config.fsname {
                    let ReceivedList { fsname, .. } = list;
                    let ours = &self.config.fsname;
                    return Err(format!("the server sends work for file system {fsname}, not {ours}"));
                }
                self.asked = false;
                self.arrived(list, effects);
            }
            (State::Ready { .. }, ServerMessage::Recv(Err(failure))) => {
                return Err(format!("the server gives no work: {failure}"));
            }
            (State::Ready { .. }, ServerMessage::Done(outcome)) => self.acknowledged(outcome, effects),
            (State::Ready { .. }, ServerMessage::Lease(Ok(reply))) => {
                self.lease.renewed(reply.serial, Duration::from_millis(reply.lease_ms));
            }
            (State::Ready { .. }, ServerMessage::Lease(Err(failure))) => {
                return Err(format!("the server does not prolong the lease: {failure}"));
            }
            (_, message) => return Err(unexpected(&message)),
        }
        Ok(())
    }

    fn acknowledged(&mut self, outcome: Result<(), Failure>, effects: &mut Vec<Effect>) {
        let (level, text) = match (self.flights.acknowledged(), outcome) {
            (Some(end), Ok(())) => (Level::Debug, format!("the server knows that {} has ended", end.key)),
            // Sending it again would get the same answer.
            (Some(end), Err(failure)) => {
                (Level::Error, format!("the server does not take the end of {}: {failure}", end.key))
            }
            (None, _) => (Level::Warn, "the server acknowledges an end that was not sent".to_owned()),
        };
        log(effects, level, text);
    }

    /// Takes a list: what the copytool has already is not given to it twice.
    fn arrived(&mut self, mut work: ReceivedList, effects: &mut Vec<Effect>) {
        work.items.retain(|item| {
            if item.action == Action::Cancel {
                return true;
            }
            let key = item.key();
            match self.flights.arrive(item) {
                Arrival::New => {
                    if self.refused.remove(&key) {
                        effects.push(Effect::Revived { key });
                    }
                    true
                }
                Arrival::Known => {
                    log(
                        effects,
                        Level::Warn,
                        format!("{} was sent again while it is running: ignored", item.fid),
                    );
                    false
                }
            }
        });
        log(effects, Level::Info, format!("received {} requests", work.items.len()));
        if !work.items.is_empty() {
            self.lists.push_back(work);
        }
    }

    fn refuse(&mut self, key: &RequestKey, effects: &mut Vec<Effect>) {
        self.flights.forget_ends(key);
        if self.flights.forget(key).is_some() {
            log(effects, Level::Warn, format!("{key} is not ours any more: its attempt is stopped"));
            self.refused.insert(*key);
            effects.push(Effect::Refused { key: *key });
        }
    }

    /// Whether the copytool took a request and returned silently: its file is gone, which is nothing unusual for a REMOVE, or
    /// the copytool does nothing at all, for so long that the request is not in a queue of its own.
    fn was_dropped(&self, key: &RequestKey, gone: bool) -> bool {
        let Some(item) = self.flights.dropped(key) else { return false };
        gone && item.action != Action::Remove || self.flights.idle_times(key) >= IDLE_TIMES
    }

    /// A request that the copytool has dropped: nobody else will end it.
    fn end_dropped(&mut self, key: &RequestKey, gone: bool, effects: &mut Vec<Effect>) {
        let Some(item) = self.flights.dropped(key) else { return };
        let item = Box::new(item.clone());
        let status = if gone && item.action != Action::Remove { ENOENT } else { EIO };
        // An ARCHIVE that fails may make a file dirty that somebody archived meanwhile, unless it fails with this.
        let errno = if status == EIO && item.action == Action::Archive { EALREADY } else { status };
        let why = if status == ENOENT { "its file is gone" } else { "the copytool is idle" };
        log(effects, Level::Warn, format!("{key} was taken but never begun, and {why}: ended"));
        let end = super::End { key: *key, dfid: item.dfid, status, unheard: false, cancel: false };
        self.flights.ended(end);
        self.refused.insert(*key);
        effects.push(Effect::Refused { key: *key });
        effects.push(Effect::EndAtLustre { item, errno });
    }

    fn drop_connection(&mut self, now: Mono, reason: &str, effects: &mut Vec<Effect>) {
        if self.link.ready_conn().is_some() {
            log(effects, Level::Warn, format!("lost the server: {reason}; reconnecting"));
        } else {
            self.complain(reason, effects);
        }
        self.link.failed(now);
        self.flights.disconnected();
        self.lease.disconnected();
        self.asked = false;
    }

    fn complain(&mut self, reason: &str, effects: &mut Vec<Effect>) {
        let level = if self.last_failure == reason { Level::Debug } else { Level::Warn };
        log(effects, level, format!("cannot connect: {reason}; trying again"));
        reason.clone_into(&mut self.last_failure);
    }

    /// When [`Event::Tick`] is wanted at the latest.
    pub fn next_deadline(&self) -> Option<Mono> {
        let overdue = if self.config.begin_timeout.is_zero() { None } else { self.flights.next_overdue() };
        let give_back = self.link.ready_conn().and(self.give_back_at);
        [self.link.next_deadline(), self.lease.next_deadline(), overdue, give_back]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next action list for the copytool, ready for it to read. Call [`Event::WorkWanted`] when there is none.
    pub fn take_list(&mut self, now: Mono) -> Option<Vec<u8>> {
        while let Some(mut work) = self.lists.pop_front() {
            // What was refused meanwhile is not handed out.
            work.items.retain(|item| item.action == Action::Cancel || self.flights.holds(&item.key()));
            if work.items.is_empty() {
                continue;
            }
            let mut list = ListBuilder::new(
                work.fsname.as_bytes(),
                work.archive_id,
                work.flags,
                self.config.item_length,
            );
            for item in &work.items {
                list.push(&Item {
                    action: item.action.hsma(),
                    fid: item.fid,
                    dfid: item.dfid,
                    extent_offset: item.extent_offset,
                    extent_length: item.extent_length,
                    cookie: item.cookie,
                    gid: item.gid,
                    data: &item.data,
                });
            }
            let keys: Vec<RequestKey> = work
                .items
                .iter()
                .filter(|item| item.action != Action::Cancel)
                .map(|item| item.key())
                .collect();
            self.flights.taken(now, self.config.begin_timeout, &keys);
            self.wanted = false;
            return Some(list.finish());
        }
        None
    }

    /// Whether [`Self::take_list`] has something to give.
    pub fn has_list(&self) -> bool {
        !self.lists.is_empty()
    }

    /// Asks for work from now on whether or not the copytool is in recv: it polls a descriptor instead.
    pub fn set_eager(&mut self) {
        self.config.eager = true;
    }

    /// Until when the lease holds. `None` when the daemon grants no leases, and work need not stop.
    pub fn lease_until(&self) -> Option<Mono> {
        self.lease.until()
    }

    /// Whether the daemon has answered `ehlo` on the present connection.
    pub fn is_ready(&self) -> bool {
        self.link.ready_conn().is_some()
    }

    /// Number of the present connection, whatever its state.
    pub fn conn(&self) -> Option<u64> {
        self.link.conn()
    }

    /// Whether an attempt at this request may go on, or begin: it is among those that the daemon gave to this mover and has
    /// not been refused.
    pub fn holds(&self, key: &RequestKey) -> bool {
        self.flights.holds(key)
    }

    /// Actions handed to the copytool or about to be, not ended.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Ends that the daemon has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.flights.unacknowledged()
    }
}

fn log(effects: &mut Vec<Effect>, level: Level, text: String) {
    effects.push(Effect::Log { level, text });
}

fn unexpected(message: &ServerMessage) -> String {
    let name = match message {
        ServerMessage::Ehlo(_) => "ehlo",
        ServerMessage::Recv(_) => "recv",
        ServerMessage::Done(_) => "done",
        ServerMessage::Queue { .. } => "queue",
        ServerMessage::Lock(_) => "lock",
        ServerMessage::Status(_) => "status",
        ServerMessage::Lease(_) => "lease",
    };
    format!("unexpected answer to {name} from the server")
}
