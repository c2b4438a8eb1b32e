//! One peer: its socket, what it sent so far, what it is still to be sent.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::inputs::{Holding, Inputs};
use super::names::Names;
use super::outbox::{Next, Outbox};
use super::security::{Access, Policy, Principal};
use super::shell::{Said, Shell};
use super::transport::Transport;
use crate::hsm::effect::Reply;
use crate::hsm::event::Message;
use crate::hsm::{ConnId, Event};
use crate::wire::decoder::{DecodeError, Found};
use crate::wire::{Decoder, Limits, next_known, parse_message_with};

/// A peer is not read while this much waits to be sent to it.
const PAUSE_BYTES: usize = 256 << 10;
/// Nor while it has this many answers to come.
const PAUSE_PARTS: usize = 64;
/// Messages of one peer that are handled before others have their turn.
const TURN: usize = 64;
/// Turns that a peer may have before it waits for all others: a turn ends as a rule because nothing more has come yet.
const TURNS: u32 = 8;
/// Slices of a long answer that are produced before others have their turn: about 2 ms.
const SLICES: u32 = 4;
/// Requests that cannot be read and that are logged one by one, for each message.
const BAD_ITEMS_LOGGED: u64 = 10;
/// How long a peer that has stopped sending, or that is sent away, may read nothing of its answers.
const LINGER: Duration = Duration::from_secs(5);
/// How long a peer may be silent below TCP before it counts as dead.
const DEAD_AFTER: Duration = Duration::from_secs(60);
/// The same while another claims its id.
const PROBE_DEAD_AFTER: Duration = Duration::from_millis(2000);
/// How long a probe lasts; the core waits 3 s for it.
const PROBE: Duration = Duration::from_secs(3);

/// Who a peer is, and what it may do.
#[derive(Debug)]
pub struct Badge {
    principal: Principal,
    access: Cell<Access>,
    policy: RefCell<Arc<Policy>>,
    /// Something was refused and logged: the rest only matters to whoever looks for it.
    refused: Cell<bool>,
}

impl Badge {
    /// For somebody with this access by this policy.
    pub fn new(principal: Principal, access: Access, policy: Arc<Policy>) -> Self {
        Self { principal, access: Cell::new(access), policy: RefCell::new(policy), refused: Cell::new(false) }
    }

    fn apply(&self, policy: &Arc<Policy>) -> Result<(), String> {
        *self.policy.borrow_mut() = Arc::clone(policy);
        self.access.set(policy.access(&self.principal)?);
        Ok(())
    }
}

/// Where a peer comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Another host, or this one by TCP.
    Inet(SocketAddr),
    /// A process of this host.
    Local(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(peer) => f.write_str(&address(*peer)),
            Self::Local(name) => f.write_str(name),
        }
    }
}

/// The part of a connection that others reach.
#[derive(Debug)]
pub struct Connection {
    /// Its number.
    pub id: ConnId,
    /// What it is to be sent.
    pub outbox: RefCell<Outbox>,
    /// Something for its task to do.
    pub wake: Notify,
    transport: Transport,
    badge: Badge,
    label: RefCell<String>,
    half_closed: Cell<bool>,
    gone: Cell<Option<&'static str>>,
    probe: Cell<bool>,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(id: ConnId, transport: Transport, label: String, badge: Badge) -> Self {
        let connection = Self {
            id,
            outbox: RefCell::default(),
            wake: Notify::new(),
            transport,
            badge,
            label: RefCell::new(label),
            half_closed: Cell::new(false),
            gone: Cell::new(None),
            probe: Cell::new(false),
        };
        if let Err(error) =
            connection.transport.tune(DEAD_AFTER, Duration::from_secs(30), Duration::from_secs(10))
        {
            tracing::debug!("Clients: {}: socket options: {error}", connection.label.borrow());
        }
        connection
    }

    /// Another policy holds: the peer goes on with what that allows, or is sent away.
    pub fn apply(&self, policy: &Arc<Policy>) {
        if let Err(why) = self.badge.apply(policy) {
            tracing::warn!("Clients: {}: {why}: closing", self.label.borrow());
            self.gone.set(Some("it is not allowed any more"));
            self.wake.notify_one();
        }
    }

    /// Whether nothing is left to be sent.
    pub fn all_sent(&self) -> bool {
        self.outbox.borrow().is_empty() && !self.transport.holds_output()
    }

    /// Finds out whether the peer is still there: the kernel asks it every second, and the connection fails when no
    /// answer comes.
    pub fn probe(&self) {
        if self.half_closed.get() {
            self.gone.set(Some("it has closed the connection, and another claims its id"));
        }
        self.probe.set(true);
        self.wake.notify_one();
    }

    /// Ends a connection whose peer does not read.
    pub fn overflow(&self, bytes: usize, limit: usize) {
        if self.gone.get().is_none() {
            tracing::warn!(
                "Clients: {}: {bytes} bytes wait for it to read, more than max_client_buffer {limit}: closing",
                self.label.borrow()
            );
        }
        self.gone.set(Some("it does not read"));
        self.wake.notify_one();
    }

    /// Ends a connection that costs too much.
    pub fn send_away(&self, reason: &'static str) {
        self.gone.set(Some(reason));
        self.wake.notify_one();
    }

    /// Sends what need not wait any more, at once while `at_once` lasts; its task does what is left.
    pub fn send_soon(&self, durable: u64, at_once: &mut usize) {
        if *at_once > 0 && self.gone.get().is_none() {
            *at_once -= 1;
            let mut outbox = self.outbox.borrow_mut();
            while let Next::Write(bytes) = outbox.next(durable)
                // Its task meets the same error.
                && let Ok(written) = self.transport.try_write(bytes)
            {
                outbox.wrote(written);
            }
        }
        self.wake.notify_one();
    }

    /// What the log calls it.
    pub fn label(&self) -> String {
        self.label.borrow().clone()
    }

    fn paused(&self) -> bool {
        let outbox = self.outbox.borrow();
        outbox.bytes() > PAUSE_BYTES || outbox.parts() > PAUSE_PARTS
    }

    fn remember_id(&self, message: &Message) {
        if let Message::Ehlo(ehlo) = message
            && let Some(id) = &ehlo.id
        {
            let shown: String = id.chars().take(64).collect();
            let peer = self.label.borrow().clone();
            *self.label.borrow_mut() = format!("{shown} ({peer})");
        }
    }
}

/// A peer's address as `host:port`, the host in digits.
pub fn address(peer: SocketAddr) -> String {
    format!("{}:{}", peer.ip().to_canonical(), peer.port())
}

/// What became of what is to be sent.
enum Wrote {
    /// It was sent, as far as it may be sent yet.
    AllForNow,
    /// The socket has to become writable for more.
    Blocked,
    /// A part, and there is more to produce.
    Some,
}

/// Why a connection ended.
enum End {
    /// The peer closed it or the network failed.
    Peer,
    /// We close it.
    Closed(&'static str),
}

/// Serves one peer until it is gone.
pub async fn serve(
    shell: Rc<Shell>,
    connection: Rc<Connection>,
    peer: Address,
    names: Names,
    limits: Limits,
    handshake: Duration,
    inputs: Rc<Inputs>,
) {
    let conn = connection.id;
    let name = match peer {
        Address::Inet(peer) => names.of(peer).await,
        Address::Local(name) => name,
    };
    tracing::debug!("Clients: new connection {name}");
    if name != *connection.label.borrow() {
        connection.label.replace(name.clone());
        shell.handle(Event::PeerNamed { conn, peer: name });
    }
    let mut task = Task {
        shell: Rc::clone(&shell),
        connection: Rc::clone(&connection),
        decoder: Decoder::new(limits),
        holding: Holding::new(&inputs),
        inputs,
        more: false,
        held: None,
        turns: 0,
        eof: None,
        handshake: (!handshake.is_zero()).then(|| Instant::now() + handshake),
        probe_until: None,
    };
    let end = task.run().await;
    connection.transport.close();
    let label = connection.label.borrow().clone();
    match end {
        End::Peer => tracing::debug!("Clients: {label} has disconnected"),
        End::Closed(reason) => tracing::debug!("Clients: closing {label}: {reason}"),
    }
    shell.disconnected(conn);
}

struct Task {
    shell: Rc<Shell>,
    connection: Rc<Connection>,
    decoder: Decoder,
    holding: Holding,
    inputs: Rc<Inputs>,
    /// The decoder may hold a complete message.
    more: bool,
    /// A message that waits until the store was read; what comes after it is not read.
    held: Option<Message>,
    /// Turns since others had theirs.
    turns: u32,
    /// Nothing more is read; what is in the outbox is sent, and the peer must take some of it until then.
    eof: Option<Instant>,
    handshake: Option<Instant>,
    probe_until: Option<Instant>,
}

impl Task {
    async fn run(&mut self) -> End {
        let connection = Rc::clone(&self.connection);
        loop {
            if let Some(reason) = connection.gone.get() {
                return End::Closed(reason);
            }
            if connection.probe.take() {
                self.begin_probe();
            }
            let blocked = match self.write() {
                Ok(Wrote::AllForNow) => false,
                Ok(Wrote::Blocked) => true,
                // A fast reader of a long answer must not keep others waiting.
                Ok(Wrote::Some) => {
                    tokio::task::yield_now().await;
                    true
                }
                Err(end) => return end,
            };
            if let Some(until) = self.eof
                && (connection.all_sent() || Instant::now() >= until)
            {
                return End::Peer;
            }
            if let Some(message) = self.held.take_if(|message| self.shell.takes_now(message)) {
                self.shell.handle(Event::Message { conn: connection.id, message });
                continue;
            }
            if self.may_read() && self.more {
                self.messages();
                // What this caused is written; others have their turn.
                self.turns += 1;
                if self.more || self.turns >= TURNS {
                    self.turns = 0;
                    tokio::task::yield_now().await;
                }
                continue;
            }
            if self.shell.store_is_behind() && self.eof.is_none() && !self.shell.stopping() {
                // Bounded, because the store may catch up between the question and the wait.
                let _ = timeout(Duration::from_millis(50), self.shell.stored.notified()).await;
                continue;
            }
            if self.may_read() && connection.transport.holds_input() {
                if let Some(end) = self.read() {
                    return end;
                }
                continue;
            }
            let deadline = self.deadline();
            tokio::select! {
                ready = connection.transport.readable(), if self.may_read() => {
                    if let Err(error) = ready {
                        return self.failed(&error);
                    }
                    if let Some(end) = self.read() {
                        return end;
                    }
                }
                ready = connection.transport.writable(), if blocked => {
                    if let Err(error) = ready {
                        return self.failed(&error);
                    }
                }
                () = connection.wake.notified() => {}
                () = wait_until(deadline) => {
                    if let Some(end) = self.expired() {
                        return end;
                    }
                }
            }
        }
    }

    fn may_read(&self) -> bool {
        self.eof.is_none() && self.held.is_none() && !self.shell.stopping() && !self.connection.paused()
    }

    fn deadline(&self) -> Option<Instant> {
        [self.eof, self.handshake, self.probe_until].into_iter().flatten().min()
    }

    fn expired(&mut self) -> Option<End> {
        let now = Instant::now();
        if self.handshake.is_some_and(|at| at <= now) {
            let label = self.connection.label.borrow();
            let bytes = self.decoder.pending_bytes();
            self.inputs.nonsense.log(format_args!(
                "Clients: {label}: no complete message within handshake_timeout_ms ({bytes} bytes so far): closing"
            ));
            return Some(End::Closed("no message"));
        }
        if self.probe_until.is_some_and(|at| at <= now) {
            self.probe_until = None;
            let tuned =
                self.connection.transport.tune(DEAD_AFTER, Duration::from_secs(30), Duration::from_secs(10));
            if let Err(error) = tuned {
                return Some(self.failed(&error));
            }
        }
        None
    }

    fn begin_probe(&mut self) {
        let second = Duration::from_secs(1);
        if let Err(error) = self.connection.transport.tune(PROBE_DEAD_AFTER, second, second) {
            tracing::debug!("Clients: {}: cannot probe: {error}", self.connection.label.borrow());
        }
        self.probe_until = Some(Instant::now() + PROBE);
    }

    fn failed(&self, error: &io::Error) -> End {
        tracing::debug!("Clients: {}: {error}", self.connection.label.borrow());
        End::Peer
    }

    /// Sends what can be sent now.
    fn write(&mut self) -> Result<Wrote, End> {
        let connection = &self.connection;
        let mut slices = 0;
        loop {
            let durable = self.shell.durable();
            let mut outbox = connection.outbox.borrow_mut();
            match outbox.next(durable) {
                Next::Write(bytes) => match connection.transport.try_write(bytes) {
                    Ok(written) => {
                        outbox.wrote(written);
                        if self.eof.is_some() {
                            self.eof = Some(Instant::now() + LINGER);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Wrote::Blocked),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(self.failed(&error)),
                },
                Next::Produce(cursor) => {
                    if slices == SLICES {
                        return Ok(Wrote::Some);
                    }
                    slices += 1;
                    outbox.feed(|out| self.shell.status_chunk(cursor, out));
                }
                Next::Wait => {
                    drop(outbox);
                    let blocked = connection.transport.flush().map_err(|error| self.failed(&error))?;
                    return Ok(if blocked { Wrote::Blocked } else { Wrote::AllForNow });
                }
                Next::Close(reason) => return Err(End::Closed(reason)),
            }
        }
    }

    /// Reads what has come. Returns the end if this was it.
    fn read(&mut self) -> Option<End> {
        let inputs = Rc::clone(&self.inputs);
        let mut buffer = inputs.buffer.borrow_mut();
        match self.connection.transport.try_read(&mut buffer) {
            Ok(0) => {
                self.stop_reading();
                self.connection.half_closed.set(true);
                None
            }
            Ok(len) => {
                self.decoder.push(&buffer[..len]);
                self.more = true;
                None
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                None
            }
            Err(error) => Some(self.failed(&error)),
        }
    }

    fn stop_reading(&mut self) {
        self.more = false;
        self.handshake = None;
        self.eof = Some(Instant::now() + LINGER);
    }

    /// What the peer is told if it may not send this.
    fn refusal(&self, message: &Message) -> Option<Reply> {
        let Badge { principal, access, policy, refused } = &self.connection.badge;
        if access.get() == Access::Admin {
            return None;
        }
        let refusal = policy.borrow().may(principal, access.get(), message).err()?;
        let label = self.connection.label.borrow();
        match message {
            _ if refused.replace(true) => {
                tracing::debug!("Clients: {label}: {} refused: {}", refusal.command, refusal.why);
            }
            Message::Ehlo(ehlo) if ehlo.id.is_some() => {
                let id: String = ehlo.id.iter().flat_map(|id| id.chars()).take(64).collect();
                tracing::warn!("Clients: {label}: ehlo as {id:?} refused: {} ({principal})", refusal.why);
            }
            _ => {
                tracing::warn!("Clients: {label}: {} refused: {} ({principal})", refusal.command, refusal.why)
            }
        }
        Some(refusal.reply())
    }

    /// Handles some of the complete messages.
    fn messages(&mut self) {
        let shell = Rc::clone(&self.shell);
        let mut left = TURN;
        self.held = shell.hear(self.connection.id, || {
            left = left.checked_sub(1)?;
            self.next_message()
        });
    }

    /// The next complete message, if it is to be taken now.
    fn next_message(&mut self) -> Option<Said> {
        if self.connection.paused() {
            return None;
        }
        let message = next_known(&mut self.decoder).or_else(|| self.read_message())?;
        self.handshake = None;
        if let Some(reply) = self.refusal(&message) {
            return Some(Said::Refused(reply));
        }
        self.connection.remember_id(&message);
        Some(Said::Message(message))
    }

    fn read_message(&mut self) -> Option<Message> {
        let label = &self.connection.label;
        let object = match self.decoder.next_object() {
            Ok(Some(object)) => object,
            Ok(None) => {
                self.more = false;
                self.holding.set(&self.connection, self.decoder.capacity());
                return None;
            }
            Err(error) => {
                let hint = if is_tls(&error) { "it speaks TLS to the plain port: " } else { "" };
                self.inputs.nonsense.log(format_args!("Clients: {}: {hint}{error}: closing", label.borrow()));
                self.stop_reading();
                return None;
            }
        };
        let nonsense = &self.inputs.nonsense;
        let mut bad = 0u64;
        let bad_item = |member: &'static str, index: usize, error: &_| {
            bad += 1;
            if bad <= BAD_ITEMS_LOGGED {
                nonsense.log(format_args!(
                    "{}: Could not process invalid hai: skipping {member}[{index}]: {error}",
                    label.borrow()
                ));
            }
        };
        let parsed = parse_message_with(object, bad_item);
        if bad > BAD_ITEMS_LOGGED {
            let more = bad - BAD_ITEMS_LOGGED;
            nonsense
                .log(format_args!("{}: {more} more invalid hai skipped in the same message", label.borrow()));
        }
        match parsed {
            Ok(message) => Some(message),
            Err(error) => {
                nonsense.log(format_args!("{}: {error}: closing", label.borrow()));
                self.stop_reading();
                None
            }
        }
    }
}

/// Whether a stream that cannot be read begins as TLS does (RFC 8446, 5.1: a handshake record).
fn is_tls(error: &DecodeError) -> bool {
    const HANDSHAKE: Found = Found(22);
    match error {
        DecodeError::NotAnObject { found, at: 0 } | DecodeError::Unexpected { found, at: 0 } => {
            *found == HANDSHAKE
        }
        _ => false,
    }
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
