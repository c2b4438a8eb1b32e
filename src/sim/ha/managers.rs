//! Managers' processes: what surrounds the engine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::clock::{Clock, MILLI, SECOND};
use super::devices::Call;
use super::disk::File;
use super::network::Side;
use super::scenario::{Scenario, number_of};
use super::world::{ManagerTask, Task, World};
use crate::ha::config::Config;
use crate::ha::engine::{ConnectError, Effect, Effects, Engine, Event, LostState, Start};
use crate::ha::ids::{CallId, LinkId, ManagerId, ManagerRun};
use crate::ha::protocol::frame;
use crate::ha::protocol::{FromAgent, ToAgent};
use crate::ha::state::{State, log};

/// The managers that there may be: the site's own, and a rival.
pub(super) const MANAGERS: usize = 2;

/// What reaches a manager's process.
#[derive(Debug, Clone)]
pub(super) enum ManagerInput {
    /// An event.
    Event(Event),
    /// A message, as it came out of the stream.
    Message { link: LinkId, message: FromAgent },
}

/// A manager: its node, its file, and its process if it runs.
#[derive(Debug)]
pub(super) struct Manager {
    pub(super) clock: Clock,
    pub(super) config: Config,
    pub(super) manage: bool,
    /// Its journal.
    pub(super) file: File,
    /// There was one: if it is gone now, it was lost.
    pub(super) copies: Vec<File>,
    pub(super) process: Option<Process>,
    /// Counts processes.
    pub(super) life: u64,
    /// Calls of fence agents that have not ended.
    pub(super) calls: BTreeMap<CallId, Call>,
    /// A start is planned.
    pub(super) coming: bool,
}

/// A manager's process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) engine: Engine,
    stopped: bool,
    stopped_at: u64,
    inbox: Vec<ManagerInput>,
    /// A sync ended while it was stopped.
    synced: Option<usize>,
    wake: Option<u64>,
    links: BTreeMap<LinkId, u64>,
    /// Connections that are being made.
    dialling: BTreeSet<LinkId>,
    /// Effects that wait for the journal: up to which length.
    waiting: VecDeque<(usize, Vec<Effect>)>,
    syncing: bool,
}

impl Process {
    /// Whether something waits for the journal.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }
}

impl Manager {
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self {
            clock: Clock { ppm: 0, ahead: 7 * SECOND, lost: 0, wall_offset: 0 },
            config: scenario.config.clone(),
            manage: scenario.manage,
            file: File::default(),
            copies: Vec::new(),
            process: None,
            life: 0,
            calls: BTreeMap::new(),
            coming: false,
        }
    }
}

impl World {
    pub(super) fn start_manager(&mut self, number: usize) {
        let now = self.now;
        let manager = &mut self.managers[number];
        manager.coming = false;
        if manager.process.is_some() {
            return;
        }
        manager.life += 1;
        let absent = manager.file.length() == 0;
        // As the shell does: what is found is written anew.
        let (state, lost) = match log::recover(manager.file.bytes()) {
            _ if absent => (State::default(), LostState::Absent),
            Ok(found) => (found.state, found.damage.map_or(LostState::No, LostState::Damaged)),
            Err(why) => return self.fail(format!("manager {number}: {why}")),
        };
        match log::file(&state) {
            Ok(bytes) => manager.file.replace(bytes),
            Err(why) => return self.fail(format!("manager {number}: {why}")),
        }
        let start = Start {
            config: manager.config.clone(),
            manage: manager.manage,
            state,
            lost: lost.clone(),
            new_manager: ManagerId(self.rng.managers.next_u64()),
            run: ManagerRun(self.rng.managers.next_u64()),
        };
        let mut effects = Effects::default();
        let engine = Engine::new(manager.clock.now(now), start, &mut effects);
        manager.process = Some(Process {
            engine,
            stopped: false,
            stopped_at: 0,
            inbox: Vec::new(),
            synced: None,
            wake: None,
            links: BTreeMap::new(),
            dialling: BTreeSet::new(),
            waiting: VecDeque::new(),
            syncing: false,
        });
        self.tell(format_args!("manager {number}: starts, state lost: {lost:?}"));
        self.judge_manager_start(number, &lost);
        self.take_effects(number, effects);
    }

    /// Its process dies.
    pub(super) fn kill_manager(&mut self, number: usize) {
        let Some(process) = self.managers[number].process.take() else { return };
        self.tell(format_args!("manager {number}: dies"));
        for key in process.links.into_values() {
            self.close_link(key, Side::Manager);
        }
        // Fence agents die with it, but what they have asked a device for may still happen.
        self.managers[number].calls.clear();
        if self.managers[number].file.crash(&mut self.rng.disks) {
            self.report.manager_unsynced += 1;
        }
    }

    /// SIGSTOP.
    pub(super) fn stop_manager(&mut self, number: usize, time: u64) {
        let now = self.now;
        let Some(process) = self.managers[number].process.as_mut().filter(|process| !process.stopped) else {
            return;
        };
        process.stopped = true;
        process.stopped_at = now;
        self.tell(format_args!("manager {number}: is stopped"));
        self.on_manager(number, time, ManagerTask::Continue);
    }

    pub(super) fn manager_task(&mut self, number: usize, life: u64, what: ManagerTask) {
        if self.managers[number].life != life {
            return;
        }
        let now = self.now;
        let Some(process) = &mut self.managers[number].process else { return };
        match what {
            ManagerTask::Input(input) => self.manager_input(number, input),
            ManagerTask::Wake => {
                if process.wake.is_some_and(|at| at <= now) {
                    process.wake = None;
                }
                if !process.stopped {
                    self.manager_event(number, Event::Tick);
                }
            }
            ManagerTask::Synced { length } if process.stopped => process.synced = Some(length),
            ManagerTask::Synced { length } => self.journal_synced(number, length),
            ManagerTask::Continue => self.continue_manager(number),
        }
    }

    fn continue_manager(&mut self, number: usize) {
        let tick_first = self.rng.managers.one_in(2);
        let now = self.now;
        let Some(process) = &mut self.managers[number].process else { return };
        let paused = if process.stopped { now - process.stopped_at } else { 0 };
        process.stopped = false;
        let inbox = std::mem::take(&mut process.inbox);
        let synced = process.synced.take();
        self.judge_pause(number, paused);
        self.tell(format_args!("manager {number}: goes on, {} inputs wait", inbox.len()));
        if let Some(length) = synced {
            self.journal_synced(number, length);
        }
        if tick_first {
            self.manager_event(number, Event::Tick);
        }
        for input in inbox {
            self.manager_input(number, input);
        }
        self.manager_event(number, Event::Tick);
    }

    pub(super) fn manager_input(&mut self, number: usize, input: ManagerInput) {
        let Some(process) = &mut self.managers[number].process else { return };
        if process.stopped {
            process.inbox.push(input);
            return;
        }
        match input {
            ManagerInput::Event(event) => {
                if let Event::Disconnected { link, .. } = &event {
                    process.links.remove(link);
                }
                self.manager_event(number, event);
            }
            ManagerInput::Message { link, message } => {
                if process.links.contains_key(&link) {
                    self.manager_event(number, Event::Received { link, message });
                }
            }
        }
    }

    pub(super) fn manager_lost_link(&mut self, number: usize, life: u64, link: LinkId, why: &str) {
        let error = match why {
            "no acknowledgement of what was sent" => ConnectError::TimedOut,
            _ => ConnectError::Refused(why.to_owned()),
        };
        if self.managers[number].life == life {
            let input = ManagerInput::Event(Event::Disconnected { link, error });
            self.on_manager(number, 0, ManagerTask::Input(input));
        }
    }

    pub(super) fn manager_bytes(&mut self, number: usize, key: u64, bytes: &[u8]) {
        let Some(link) = self.net.links.get_mut(&key) else { return };
        let (id, decoder) = (link.manager_link, &mut link.towards(Side::Manager).decoder);
        decoder.push(bytes);
        let mut messages = Vec::new();
        loop {
            match decoder.pop::<FromAgent>() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return self.fail(format!("manager {number}: a broken stream: {error}")),
            }
        }
        let host = self.net.links.get(&key).map_or(0, |link| link.host);
        for message in messages {
            self.judge_heard(number, host, matches!(message, FromAgent::Heartbeat { .. }));
            self.manager_input(number, ManagerInput::Message { link: id, message });
        }
    }

    /// The engine takes an event, and what it wants is done.
    pub(super) fn manager_event(&mut self, number: usize, event: Event) {
        let now = self.managers[number].clock.now(self.now);
        let Some(process) = &mut self.managers[number].process else { return };
        let mut effects = Effects::default();
        process.engine.handle(now, event, &mut effects);
        process.engine.check();
        self.take_effects(number, effects);
    }

    fn take_effects(&mut self, number: usize, effects: Effects) {
        let now = self.now;
        for record in &effects.records {
            self.judge_record(number, record);
            match log::lines(std::slice::from_ref(record)) {
                Ok(lines) => self.managers[number].file.append_bytes(&lines),
                Err(why) => self.fail(format!("manager {number}: {why}")),
            }
        }
        let length = self.managers[number].file.length();
        let must_wait = self.managers[number].file.durable() < length;
        let mut late = Vec::new();
        for effect in effects.effects {
            // An acknowledgement may overtake: nothing depends on it.
            let overtakes = matches!(&effect, Effect::Send { message: ToAgent::Acknowledge { .. }, .. });
            if must_wait && !overtakes { late.push(effect) } else { self.manager_effect(number, effect) }
        }
        let Some(process) = &mut self.managers[number].process else { return };
        if must_wait {
            process.waiting.push_back((length, late));
            self.begin_sync(number);
        }
        let manager = &mut self.managers[number];
        let Some(process) = &mut manager.process else { return };
        let deadline = process.engine.next_deadline();
        let Some(due) = manager.clock.reaches(deadline) else { return };
        if process.wake.is_none_or(|wake| due < wake) {
            process.wake = Some(due.max(now));
            self.on_manager(number, due.saturating_sub(now), ManagerTask::Wake);
        }
    }

    fn begin_sync(&mut self, number: usize) {
        let longest = self.scenario.sync_delay;
        let length = self.managers[number].file.length();
        let Some(process) = self.managers[number].process.as_mut().filter(|process| !process.syncing) else {
            return;
        };
        process.syncing = true;
        let rng = &mut self.rng.disks;
        let delay = if rng.one_in(100) { rng.below(5 * SECOND) } else { rng.below(longest) };
        self.on_manager(number, delay, ManagerTask::Synced { length });
    }

    fn journal_synced(&mut self, number: usize, length: usize) {
        self.managers[number].file.synced(length);
        self.judge_synced(number, length);
        let Some(process) = &mut self.managers[number].process else { return };
        process.syncing = false;
        let mut ready = Vec::new();
        while process.waiting.front().is_some_and(|(needs, _)| *needs <= length) {
            ready.extend(process.waiting.pop_front().into_iter().flat_map(|(_, effects)| effects));
        }
        let more = !process.waiting.is_empty();
        for effect in ready {
            self.manager_effect(number, effect);
        }
        if more {
            self.begin_sync(number);
        }
    }

    fn manager_effect(&mut self, number: usize, effect: Effect) {
        let Some(process) = &mut self.managers[number].process else { return };
        match effect {
            Effect::Connect { link, address, timeout, .. } => {
                let give_up =
                    self.now + u64::try_from(timeout.min(Duration::from_secs(60)).as_nanos()).unwrap_or(0);
                process.dialling.insert(link);
                let life = self.managers[number].life;
                let host = number_of(&address);
                let delay = self.net_delay();
                self.after(delay, Task::Connect { manager: number, life, link, host, give_up });
            }
            Effect::Send { link, message } => {
                let Some(key) = process.links.get(&link).copied() else { return };
                if self.trace && !matches!(message, ToAgent::Acknowledge { .. }) {
                    self.tell(format_args!("manager {number} -> {key}: {message:?}"));
                }
                self.judge_to_agent(number, key, &message);
                match frame::encode(&message) {
                    Ok(bytes) => self.send_bytes(key, Side::Agent, bytes),
                    Err(error) => self.fail(format!("manager {number}: {error}")),
                }
            }
            Effect::Close { link } => {
                process.dialling.remove(&link);
                if let Some(key) = process.links.remove(&link) {
                    self.close_link(key, Side::Manager);
                }
            }
            Effect::CallDevice { call, host, device, action, .. } => {
                self.call_device(number, call, &host, &device, action);
            }
            Effect::Reply { token, answer } => self.judge_reply(number, token, answer),
        }
    }

    /// A connection is tried.
    pub(super) fn try_connection(
        &mut self,
        number: usize,
        life: u64,
        link: LinkId,
        host: usize,
        give_up: u64,
    ) {
        let dials = |process: &Process| process.dialling.contains(&link);
        if self.managers[number].life != life || !self.managers[number].process.as_ref().is_some_and(dials) {
            return;
        }
        let node = MANAGERS + host;
        let passes = !self.net.is_blocked(number, node) && !self.net.is_blocked(node, number);
        let answers = self.hosts.get(host).is_some_and(|machine| machine.answers());
        if !passes || !answers {
            if self.now >= give_up {
                let unreachable = self.rng.network.one_in(3);
                let error = if unreachable {
                    ConnectError::Unreachable("no route to host".to_owned())
                } else {
                    ConnectError::TimedOut
                };
                self.dialled(number, Event::ConnectFailed { link, error }, link);
            } else {
                // SYN is sent again.
                let wait = (give_up - self.now).clamp(MILLI, SECOND);
                self.after(wait, Task::Connect { manager: number, life, link, host, give_up });
            }
            return;
        }
        let Some(key) = self.open_link(number, link, host) else {
            let error = ConnectError::Refused("connection refused".to_owned());
            return self.dialled(number, Event::ConnectFailed { link, error }, link);
        };
        if let Some(process) = &mut self.managers[number].process {
            process.links.insert(link, key);
        }
        self.agent_connected(host, key);
        self.dialled(number, Event::Connected { link }, link);
    }

    fn dialled(&mut self, number: usize, event: Event, link: LinkId) {
        if let Some(process) = &mut self.managers[number].process {
            process.dialling.remove(&link);
        }
        self.manager_input(number, ManagerInput::Event(event));
    }
}
