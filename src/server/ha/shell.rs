//! The loop around [`crate::ha::engine::Engine`]: events in; records to the journal, and once they are durable, effects out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc as threads;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::fence_agent;
use super::handle::{Ask, EventFilter, Manager, Order, Snapshot};
use super::journal::Report;
use super::links::{Call, Link};
use crate::ha::command::{Accepted, Denied, DeniedKind, Request};
use crate::ha::engine::{ConnectError, Effect, Effects, Engine, Event, Start};
use crate::ha::fencing::{DeviceAction, DeviceAnswer};
use crate::ha::ids::{LinkId, ReplyToken};
use crate::ha::protocol::{ToAgent, frame};
use crate::ha::state::{Event as Happened, Record};
use crate::ha::status::{Alert, Severity, Status};
use crate::system::clock::Clock;
use crate::system::fence_path::AgentPath;
use crate::time::{Mono, Now};
use crate::tls::Endpoint;

/// How many fence devices are checked at the same time. Each is a process or more; what is needed now must not wait for them.
const CHECKS_AT_ONCE: usize = 8;
/// Questions that wait. They are answered together, so that many who ask cost little more than one.
const ASKS: usize = 256;
/// Longest reason that is kept, in letters.
const WORDS: usize = 1000;
/// How long the disk may take until nothing is done any more of what was decided before: things may have changed since. A
/// fence device is not called then, and an agent that was to get an order is called anew.
const LATE: Duration = Duration::from_secs(5);

/// Decisions that may wait for the disk. With more it is better to begin anew, with nothing but what is on the disk.
const MOST_WAITING: usize = 200_000;

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
    /// What waits for batches to be durable, in order, and since when.
    waiting: VecDeque<(u64, Mono, Vec<Effect>)>,
    /// Since when the disk has owed an answer.
    asked: Option<Now>,
    /// Why nothing can be stored, and since when.
    failing: Option<(String, i64)>,
    replies: BTreeMap<ReplyToken, oneshot::Sender<Result<Accepted, Denied>>>,
    last_token: u64,
    /// Events that were recorded since this began.
    recorded: u64,
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
    let (events, received) = mpsc::channel(1024);
    let (asks, asked) = mpsc::channel(ASKS);
    let (mut shell, effects, reports) = Shell::new(parts, events);
    let changed = shell.changes.subscribe();
    let run = async move {
        shell.hand_out(effects);
        shell.run(received, asked, reports).await;
    };
    (run, Manager::new(asks, changed))
}

impl Shell {
    fn new(parts: Parts, events: mpsc::Sender<Event>) -> (Self, Effects, mpsc::UnboundedReceiver<Report>) {
        let clock = Clock::new();
        let mut effects = Effects::default();
        let engine = Engine::new(clock.now(), parts.start, &mut effects);
        let shell = Self {
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
            asked: None,
            failing: None,
            replies: BTreeMap::new(),
            last_token: 0,
            recorded: 0,
            changes: watch::channel(0).0,
        };
        (shell, effects, parts.reports)
    }

    async fn run(
        &mut self,
        mut events: mpsc::Receiver<Event>,
        mut asks: mpsc::Receiver<Ask>,
        mut reports: mpsc::UnboundedReceiver<Report>,
    ) {
        let mut asked = Vec::new();
        loop {
            let at = self.engine.next_deadline();
            let at = (at != Mono::MAX).then(|| self.clock.instant(at)).flatten();
            let wait = async {
                match at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            if self.waiting.len() > MOST_WAITING {
                tracing::error!("{MOST_WAITING} decisions wait for the disk: giving up");
                return;
            }
            tokio::select! {
                biased;
                Some(report) = reports.recv() => self.reported(report),
                // What agents say comes before what time says: their messages may be older.
                Some(event) = events.recv() => self.handle(event),
                () = wait => self.handle(Event::Tick),
                many = asks.recv_many(&mut asked, ASKS) => {
                    if many == 0 {
                        return;
                    }
                    self.answer_all(&mut asked);
                }
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
                self.recorded += 1;
                log(event);
            }
        }
        if !records.is_empty() {
            self.batch += 1;
            // The thread only ends with the process.
            let _ = self.journal.send((self.batch, records));
            self.asked.get_or_insert_with(|| self.clock.now());
            self.changes.send_modify(|count| *count += 1);
        }
        let mut later = Vec::new();
        for effect in effects {
            if matches!(&effect, Effect::Send { message: ToAgent::Acknowledge { .. }, .. }) {
                // A slow disk must not make agents believe that they are cut off.
                self.carry_out(effect, Duration::ZERO);
            } else {
                later.push(effect);
            }
        }
        if self.batch == self.durable {
            later.into_iter().for_each(|effect| self.carry_out(effect, Duration::ZERO));
        } else if !later.is_empty() {
            self.waiting.push_back((self.batch, self.clock.now().mono, later));
        }
    }

    fn reported(&mut self, report: Report) {
        match report {
            Report::Durable(batch) => {
                if self.failing.take().is_some() {
                    tracing::warn!("the state can be stored again");
                }
                self.durable = batch;
                self.asked = (batch < self.batch).then(|| self.clock.now());
                while self.waiting.front().is_some_and(|(batch, ..)| *batch <= self.durable) {
                    let Some((_, since, effects)) = self.waiting.pop_front() else { return };
                    let waited = self.clock.now().mono.since(since);
                    effects.into_iter().for_each(|effect| self.carry_out(effect, waited));
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

    /// Carries out what was decided so long ago.
    fn carry_out(&mut self, effect: Effect, waited: Duration) {
        match effect {
            Effect::CallDevice { call, host, device, timeout, .. } if waited > LATE.min(timeout / 2) => {
                tracing::warn!(%host, device = device.name, "not called: the state was stored too late");
                self.later(Event::Fenced { call, answer: DeviceAnswer::TimedOut });
            }
            Effect::Send { link, message: ToAgent::Order(_) } if waited > LATE => {
                tracing::warn!(%link, "an order is not given: the state was stored too late");
                if self.links.remove(&link).is_some() {
                    self.later(Event::Disconnected { link, error: ConnectError::TimedOut });
                }
            }
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
                // What is recorded says until when it may go on.
                let timeout = timeout.saturating_sub(waited);
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
            self.later(Event::Disconnected { link, error: ConnectError::TimedOut });
        }
    }

    /// Tells the engine when it has done what it does.
    fn later(&self, event: Event) {
        let events = self.events.clone();
        tokio::task::spawn_local(async move {
            let _ = events.send(event).await;
        });
    }

    /// Why nothing can be stored, and since when, if so.
    fn not_stored(&self) -> Option<(String, i64)> {
        let hangs = || {
            let asked = self.asked?;
            let waited = self.clock.now().mono.since(asked.mono);
            let why = || format!("the disk has not answered for {} s", waited.as_secs());
            (waited > LATE).then(|| (why(), asked.wall.0))
        };
        self.failing.clone().or_else(hangs)
    }

    fn answer_all(&mut self, asked: &mut Vec<Ask>) {
        // What they all see, until something is done.
        let mut now: Option<Arc<Snapshot>> = None;
        for ask in asked.drain(..) {
            if matches!(ask, Ask::Do(..)) {
                now = None;
            }
            self.answer(ask, &mut now);
        }
    }

    fn answer(&mut self, ask: Ask, now: &mut Option<Arc<Snapshot>>) {
        let mut snapshot = || Arc::clone(now.get_or_insert_with(|| Arc::new(Snapshot::new(self.status()))));
        match ask {
            Ask::Status(reply) => {
                let _ = reply.send(snapshot());
            }
            Ask::Events(filter, reply) => {
                let _ = reply.send((self.select(&filter), self.recorded));
            }
            Ask::Command(id, reply) => {
                let _ = reply.send(self.engine.command_status(id));
            }
            Ask::Config(reply) => {
                let _ = reply.send(Box::new(self.engine.config().clone()));
            }
            Ask::Do(Order { command, by, reason, dry_run }, reply) => {
                if let Some((why, _)) = self.not_stored() {
                    let message = format!("the state cannot be stored, so nothing is done: {why}");
                    let _ = reply.send(Err(Denied { kind: DeniedKind::Conflict, message }));
                    return;
                }
                self.last_token += 1;
                let token = ReplyToken(self.last_token);
                self.replies.insert(token, reply);
                let reason = reason.as_deref().map(one_line);
                self.handle(Event::Request(Request { token, command, by, reason, dry_run }));
            }
        }
    }

    fn status(&self) -> Status {
        let mut status = self.engine.status(self.clock.now());
        if let Some((why, since)) = self.not_stored() {
            status.alerts.insert(
                0,
                Alert {
                    severity: Severity::Critical,
                    object: "cluster".to_owned(),
                    text: format!("the state cannot be stored, so nothing is done: {why}"),
                    command: None,
                    since,
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
        let since = match (filter.since, filter.after) {
            (Some(since), _) => since,
            (None, Some(_)) => i64::MIN,
            (None, None) => state.events_cleared,
        };
        let new = filter.after.map_or(usize::MAX, |after| {
            usize::try_from(self.recorded.saturating_sub(after)).unwrap_or(usize::MAX)
        });
        let wanted = |event: &&Happened| {
            let about = |object: &String| {
                event.object == *object || event.host.as_ref().is_some_and(|host| host.as_str() == object)
            };
            event.at > since && filter.object.as_ref().is_none_or(about)
        };
        let mut found: Vec<Happened> =
            state.events.iter().rev().take(new).filter(wanted).take(filter.limit).cloned().collect();
        found.reverse();
        found
    }
}

/// What somebody wrote, to be kept and shown: without what would break lines or change terminals, and not too long.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(WORDS).collect()
}

fn log(event: &Happened) {
    let Happened { event, object, host, by, comment, .. } = event;
    let host = host.as_ref().map(tracing::field::display);
    let comment = comment.as_deref().unwrap_or_default();
    tracing::info!(target: crate::system::logging::NOTICE, event, object, host, by, "{comment}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::config::{self, FenceDevice};
    use crate::ha::engine::LostState;
    use crate::ha::fencing::DeviceAction;
    use crate::ha::ids::{CallId, Epoch, ManagerId, ManagerRun, OrderId};
    use crate::ha::protocol::{self, Action, ResourceSpec};
    use crate::ha::state::State;

    const CONFIG: &str = "\
hosts:
- hostname: h
resources:
- {name: r, kind: heartbeat/Dummy, parameters: {state: /run/r}}
resource_groups:
- {root: r, home_host: h}
";

    /// A shell whose disk never answers, and what it tells its engine.
    fn shell() -> (Shell, mpsc::Receiver<Event>) {
        let config = config::load(CONFIG, "test").unwrap().config;
        let (state, lost) = (State::default(), LostState::Absent);
        let start =
            Start { config, manage: true, state, lost, new_manager: ManagerId(1), run: ManagerRun(1) };
        let (journal, received) = threads::channel();
        std::mem::forget(received);
        let (events, told) = mpsc::channel(16);
        let (_, reports) = mpsc::unbounded_channel();
        let agents = AgentPath::new("".as_ref(), "".as_ref());
        let mut shell = Shell::new(Parts { start, endpoint: None, agents, journal, reports }, events).0;
        shell.batch = 7;
        (shell, told)
    }

    fn call(call: u64, timeout: u64) -> Effect {
        let device = FenceDevice {
            name: "none".to_owned(),
            agent: "fence_none".to_owned(),
            parameters: BTreeMap::new(),
            timeout: Duration::from_secs(timeout),
            delay: Duration::ZERO,
            attempts: 1,
        };
        let (device, timeout) = (Arc::new(device), Duration::from_secs(timeout));
        Effect::CallDevice {
            call: CallId(call),
            host: "h".into(),
            device,
            action: DeviceAction::Off,
            timeout,
        }
    }

    fn order(link: u64) -> Effect {
        let resource = ResourceSpec { id: "r".into(), kind: "a/b".into(), parameters: BTreeMap::new() };
        let order = protocol::Order {
            id: OrderId { epoch: Epoch(1), run: ManagerRun(1), number: 1 },
            boot: "b".into(),
            agent: crate::ha::ids::AgentRun(1),
            heartbeat: 1,
            operation: protocol::Operation { resource, action: Action::Stop, timeout_ms: None },
        };
        Effect::Send { link: LinkId(link), message: ToAgent::Order(order) }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_was_decided_long_ago_is_not_done() {
        let local = tokio::task::LocalSet::new();
        let work = async {
            let (mut shell, mut told) = shell();
            let connect = |link| {
                let (host, address) = ("h".into(), "127.0.0.1".to_owned());
                Effect::Connect {
                    link: LinkId(link),
                    host,
                    address,
                    port: 1,
                    timeout: Duration::from_secs(60),
                }
            };
            // The first has waited for a minute, the second for no time.
            let now = shell.clock.now().mono;
            shell.clock = Clock::starting(Duration::from_secs(60));
            shell.waiting.push_back((6, now, vec![connect(1), call(1, 60), order(1)]));
            shell.waiting.push_back((7, shell.clock.now().mono, vec![connect(2), call(2, 60), order(2)]));
            shell.asked = Some(Now { mono: now, ..shell.clock.now() });
            assert!(
                shell.status().alerts.iter().any(|alert| alert.text.contains("the disk has not answered"))
            );
            shell.reported(Report::Durable(7));
            let mut answers = BTreeMap::new();
            while answers.len() < 2 {
                match told.recv().await.unwrap() {
                    Event::Fenced { call, answer } => drop(answers.insert(call.0, answer)),
                    Event::Disconnected { link, .. } => assert_eq!(link, LinkId(1)),
                    other => assert!(matches!(other, Event::ConnectFailed { .. }), "{other:?}"),
                }
            }
            assert_eq!(answers[&1], DeviceAnswer::TimedOut);
            assert!(matches!(&answers[&2], DeviceAnswer::Failed(why) if why.contains("not installed")));
            assert!(!shell.links.contains_key(&LinkId(1)) && shell.links.contains_key(&LinkId(2)));
            assert_eq!(shell.not_stored(), None);
        };
        local.run_until(work).await;
    }
}
