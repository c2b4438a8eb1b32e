//! The loop around [`crate::ha::engine::Engine`]: events in; records to the journal, and once they are durable, effects out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::mpsc as threads;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::fence_agent;
use super::handle::{Ask, EventFilter, Manager, Order};
use super::journal::Report;
use super::links::{Call, Link};
use crate::ha::command::{Accepted, Denied, DeniedKind, Request};
use crate::ha::engine::{Effect, Effects, Engine, Event, Start};
use crate::ha::fencing::DeviceAction;
use crate::ha::ids::{LinkId, ReplyToken};
use crate::ha::protocol::{ToAgent, frame};
use crate::ha::state::{Event as Happened, Record};
use crate::ha::status::{Alert, Severity, Status};
use crate::system::clock::Clock;
use crate::system::fence_path::AgentPath;
use crate::time::Mono;
use crate::tls::Endpoint;

/// How many fence devices are checked at the same time. Each is a process or more; what is needed now must not wait for them.
const CHECKS_AT_ONCE: usize = 8;

/// Carries out what the engine says.
pub struct Shell {
    engine: Engine,
    clock: Clock,
    links: HashMap<LinkId, Link>,
    endpoint: Option<Endpoint>,
    agents: Rc<AgentPath>,
    /// Turns of calls that only check whether a device works: at a start, every device is checked.
    checks: Rc<Semaphore>,
    events: mpsc::Sender<Event>,
    journal: threads::Sender<(u64, Vec<Record>)>,
    /// The number of the last batch of records.
    batch: u64,
    /// The last batch that is durable.
    durable: u64,
    /// What waits for batches to be durable, in order.
    waiting: VecDeque<(u64, Vec<Effect>)>,
    /// Why nothing can be stored, and since when.
    failing: Option<(String, i64)>,
    replies: BTreeMap<ReplyToken, oneshot::Sender<Result<Accepted, Denied>>>,
    last_token: u64,
    changes: watch::Sender<u64>,
}

/// What a shell needs.
pub struct Parts {
    /// What the engine starts with.
    pub start: Start,
    /// How agents are called; without it, in plain text over loopback only.
    pub endpoint: Option<Endpoint>,
    /// Where fence agents are.
    pub agents: AgentPath,
    /// Makes records durable.
    pub journal: threads::Sender<(u64, Vec<Record>)>,
    /// What the journal says.
    pub reports: mpsc::UnboundedReceiver<Report>,
}

/// Starts the engine and returns the loop, to be run, and the way to it.
pub fn start(parts: Parts) -> (impl Future<Output = ()>, Manager) {
    let clock = Clock::new();
    let mut effects = Effects::default();
    let engine = Engine::new(clock.now(), parts.start, &mut effects);
    let (events, received) = mpsc::channel(1024);
    let (asks, asked) = mpsc::channel(64);
    let (changes, changed) = watch::channel(0);
    let mut shell = Shell {
        engine,
        clock,
        links: HashMap::new(),
        endpoint: parts.endpoint,
        agents: Rc::new(parts.agents),
        checks: Rc::new(Semaphore::new(CHECKS_AT_ONCE)),
        events,
        journal: parts.journal,
        batch: 0,
        durable: 0,
        waiting: VecDeque::new(),
        failing: None,
        replies: BTreeMap::new(),
        last_token: 0,
        changes,
    };
    let reports = parts.reports;
    let run = async move {
        shell.hand_out(effects);
        shell.run(received, asked, reports).await;
    };
    (run, Manager::new(asks, changed))
}

impl Shell {
    async fn run(
        &mut self,
        mut events: mpsc::Receiver<Event>,
        mut asks: mpsc::Receiver<Ask>,
        mut reports: mpsc::UnboundedReceiver<Report>,
    ) {
        loop {
            let at = self.engine.next_deadline();
            let at = (at != Mono::MAX).then(|| self.clock.instant(at)).flatten();
            let wait = async {
                match at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(report) = reports.recv() => self.reported(report),
                // What agents say comes before what time says: their messages may be older.
                Some(event) = events.recv() => self.handle(event),
                () = wait => self.handle(Event::Tick),
                Some(ask) = asks.recv() => self.answer(ask),
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let mut effects = Effects::default();
        self.engine.handle(self.clock.now(), event, &mut effects);
        self.hand_out(effects);
    }

    fn hand_out(&mut self, effects: Effects) {
        let Effects { records, effects } = effects;
        for record in &records {
            if let Record::Event(event) = record {
                log(event);
            }
        }
        if !records.is_empty() {
            self.batch += 1;
            // The thread only ends with the process.
            let _ = self.journal.send((self.batch, records));
            self.changes.send_modify(|count| *count += 1);
        }
        let mut later = Vec::new();
        for effect in effects {
            if matches!(&effect, Effect::Send { message: ToAgent::Acknowledge { .. }, .. }) {
                // A slow disk must not make agents believe that they are cut off.
                self.carry_out(effect);
            } else {
                later.push(effect);
            }
        }
        if self.batch == self.durable {
            later.into_iter().for_each(|effect| self.carry_out(effect));
        } else if !later.is_empty() {
            self.waiting.push_back((self.batch, later));
        }
    }

    fn reported(&mut self, report: Report) {
        match report {
            Report::Durable(batch) => {
                if self.failing.take().is_some() {
                    tracing::warn!("the state can be stored again");
                }
                self.durable = batch;
                while self.waiting.front().is_some_and(|(batch, _)| *batch <= self.durable) {
                    let Some((_, effects)) = self.waiting.pop_front() else { return };
                    effects.into_iter().for_each(|effect| self.carry_out(effect));
                }
            }
            Report::Failing(why) => {
                if self.failing.is_none() {
                    tracing::error!("the state cannot be stored, so nothing is done until it can: {why}");
                    self.failing = Some((why, self.clock.now().wall.0));
                }
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Connect { link, host, address, port, timeout } => {
                let call = Call { link, host, address, port, timeout };
                self.links.insert(link, Link::open(call, self.endpoint.clone(), self.events.clone()));
            }
            Effect::Send { link, message } => self.send(link, &message),
            Effect::Close { link } => {
                self.links.remove(&link);
            }
            Effect::CallDevice { call, host, device, action, timeout } => {
                let (agents, events) = (Rc::clone(&self.agents), self.events.clone());
                let checks = matches!(action, DeviceAction::Monitor | DeviceAction::Identify);
                let turns = checks.then(|| Rc::clone(&self.checks));
                tokio::task::spawn_local(async move {
                    let _turn = match &turns {
                        Some(turns) => turns.acquire().await.ok(),
                        None => None,
                    };
                    let answer = fence_agent::call(&agents, &device, &host, action, timeout).await;
                    let _ = events.send(Event::Fenced { call, answer }).await;
                });
            }
            Effect::Reply { token, answer } => {
                if let Some(reply) = self.replies.remove(&token) {
                    // Whoever asked may have gone: what was decided stays.
                    let _ = reply.send(answer);
                }
            }
        }
    }

    fn send(&mut self, link: LinkId, message: &ToAgent) {
        let Some(connection) = self.links.get(&link) else { return };
        let sent = match frame::encode(message) {
            Ok(frame) => connection.send(frame),
            Err(error) => {
                tracing::error!("a message cannot be sent: {error}");
                false
            }
        };
        if !sent {
            self.links.remove(&link);
            let error = crate::ha::engine::ConnectError::TimedOut;
            let events = self.events.clone();
            tokio::task::spawn_local(async move {
                let _ = events.send(Event::Disconnected { link, error }).await;
            });
        }
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Ask::Events(filter, reply) => {
                let _ = reply.send(self.select(&filter));
            }
            Ask::Command(id, reply) => {
                let status = self.engine.status(self.clock.now());
                let _ = reply.send(status.commands.into_iter().find(|command| command.id == id));
            }
            Ask::Config(reply) => {
                let _ = reply.send(Box::new(self.engine.config().clone()));
            }
            Ask::Do(_, reply) if self.failing.is_some() => {
                let why = self.failing.as_ref().map_or("", |(why, _)| why);
                let message = format!("the state cannot be stored, so nothing is done: {why}");
                let _ = reply.send(Err(Denied { kind: DeniedKind::Conflict, message }));
            }
            Ask::Do(Order { command, by, reason, dry_run }, reply) => {
                self.last_token += 1;
                let token = ReplyToken(self.last_token);
                self.replies.insert(token, reply);
                self.handle(Event::Request(Request { token, command, by, reason, dry_run }));
            }
        }
    }

    fn status(&self) -> Status {
        let mut status = self.engine.status(self.clock.now());
        if let Some((why, since)) = &self.failing {
            status.alerts.insert(
                0,
                Alert {
                    severity: Severity::Critical,
                    object: "cluster".to_owned(),
                    text: format!("the state cannot be stored, so nothing is done: {why}"),
                    command: None,
                    since: *since,
                },
            );
        }
        for warning in self.endpoint.iter().flat_map(Endpoint::warnings) {
            status.alerts.push(Alert {
                severity: Severity::Warning,
                object: "cluster".to_owned(),
                text: format!("certificate: {warning}"),
                command: None,
                since: self.clock.now().wall.0,
            });
        }
        status
    }

    fn select(&self, filter: &EventFilter) -> Vec<Happened> {
        let state = self.engine.state();
        let since = filter.since.unwrap_or(state.events_cleared);
        let wanted = |event: &&Happened| {
            let about = |object: &String| {
                event.object == *object || event.host.as_ref().is_some_and(|host| host.as_str() == object)
            };
            event.at > since && filter.object.as_ref().is_none_or(about)
        };
        let mut found: Vec<Happened> =
            state.events.iter().rev().filter(wanted).take(filter.limit).cloned().collect();
        found.reverse();
        found
    }
}

fn log(event: &Happened) {
    let Happened { event, object, host, by, comment, .. } = event;
    let host = host.as_ref().map(tracing::field::display);
    let comment = comment.as_deref().unwrap_or_default();
    tracing::info!(target: crate::system::logging::NOTICE, event, object, host, by, "{comment}");
}
