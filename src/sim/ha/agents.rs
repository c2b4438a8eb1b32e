//! Agents' processes: what surrounds the agent's machine on a host.

use std::collections::BTreeSet;

use super::clock::{MILLI, SECOND};
use super::machines::Kernel;
use super::network::Side;
use super::world::{HostTask, World};
use crate::ha::agent::{Agent, Effect, Event, Identity, IntentRecord};
use crate::ha::ids::{Epoch, LinkId, ManagerId, ManagerRun};
use crate::ha::protocol::frame::{self, Decoder};
use crate::ha::protocol::{FromAgent, Isolation, ToAgent};
use crate::time::Mono;

/// What reaches an agent's process.
#[derive(Debug, Clone)]
pub(super) enum AgentInput {
    /// An event.
    Event(Event),
    /// A record was written: the file was so long then.
    Stored { count: u64, length: usize, error: Option<String> },
    /// A message, as it came out of the stream.
    Message { link: u64, message: ToAgent },
}

/// A running agent.
#[derive(Debug)]
pub(super) struct AgentProcess {
    pub(super) life: u64,
    machine: Agent,
    /// Stopped by a signal.
    stopped: bool,
    inbox: Vec<AgentInput>,
    /// Records handed to the disk.
    stores: u64,
    /// When the last of them is done.
    stored_at: u64,
    wake: Option<u64>,
    links: BTreeSet<u64>,
    /// The watchdog may be fed until then.
    lease: Mono,
    /// Seals that are being written: with which record.
    seals: Vec<(u64, Epoch, ManagerRun, ManagerId)>,
}

impl World {
    pub(super) fn start_agent(&mut self, host: usize) {
        if self.hosts[host].agent.is_some() || self.hosts[host].kernel != Kernel::Up {
            return;
        }
        let run = self.agent_run();
        let machine = &mut self.hosts[host];
        machine.agents += 1;
        let identity = Identity {
            host: machine.id.clone(),
            boot: format!("boot-{host}-{}", machine.boot).into(),
            run,
            program: "sim".to_owned(),
            system_uuid: machine.tells_uuid.then(|| machine.uuid.clone()),
            isolation: Isolation::Cgroup,
            watchdog_ms: machine.watchdog.map(|time| time / MILLI),
        };
        let found = machine.file.read::<IntentRecord>();
        if found.damaged.is_some() {
            self.fail("the simulated disk damaged what was synced".to_owned());
        }
        let alive = self.hosts[host].cgroups.keys().copied().collect();
        let life = self.hosts[host].agents;
        self.hosts[host].agent = Some(AgentProcess {
            life,
            machine: Agent::new(identity),
            stopped: false,
            inbox: Vec::new(),
            stores: 0,
            stored_at: 0,
            wake: None,
            links: BTreeSet::new(),
            lease: Mono(0),
            seals: Vec::new(),
        });
        for record in &found.records {
            if let IntentRecord::Sealed { epoch, run, manager, .. } = record {
                self.judge_sealed(host, *epoch, *run, *manager);
            }
        }
        self.tell(format_args!("h{host}: agent starts, life {life}"));
        self.agent_event(host, Event::Recovered { records: found.records, alive });
    }

    /// The agent's process dies; everything else on the host goes on.
    pub(super) fn kill_agent(&mut self, host: usize) {
        let Some(agent) = self.hosts[host].agent.take() else { return };
        self.tell(format_args!("h{host}: agent dies"));
        if self.hosts[host].cgroups.values().any(|cgroup| cgroup.main) {
            self.report.agent_with_script += 1;
        }
        for key in agent.links {
            self.close_link(key, Side::Agent);
        }
        // What it had not written yet was never written.
        if self.hosts[host].file.crash(&mut self.rng.disks) {
            self.report.agent_unsynced += 1;
        }
    }

    /// SIGSTOP.
    pub(super) fn stop_agent(&mut self, host: usize, time: u64) {
        let Some(agent) = self.hosts[host].agent.as_mut().filter(|agent| !agent.stopped) else { return };
        agent.stopped = true;
        let life = agent.life;
        self.tell(format_args!("h{host}: agent is stopped"));
        self.on_host(host, time, HostTask::ContinueAgent { life });
    }

    /// SIGCONT.
    pub(super) fn continue_agent(&mut self, host: usize, life: u64) {
        let tick_first = self.rng.hosts.one_in(2);
        let Some(agent) = self.hosts[host].agent.as_mut().filter(|agent| agent.life == life) else { return };
        agent.stopped = false;
        let inbox = std::mem::take(&mut agent.inbox);
        self.tell(format_args!("h{host}: agent goes on, {} inputs wait", inbox.len()));
        if tick_first {
            self.agent_event(host, Event::Tick);
        }
        for input in inbox {
            self.agent_input(host, life, input);
        }
        if self.hosts[host].agent.as_ref().is_some_and(|agent| agent.life == life) {
            self.agent_event(host, Event::Tick);
        }
    }

    /// A connection stands, as far as the host's kernel is concerned.
    pub(super) fn agent_connected(&mut self, host: usize, key: u64) {
        let Some(agent) = &mut self.hosts[host].agent else { return };
        agent.links.insert(key);
        let life = agent.life;
        self.agent_input(host, life, AgentInput::Event(Event::Connected { link: LinkId(key) }));
    }

    pub(super) fn agent_lost_link(&mut self, host: usize, boot: u64, life: u64, link: LinkId) {
        if self.hosts[host].boot == boot {
            let input = AgentInput::Event(Event::Disconnected { link });
            self.on_host(host, 0, HostTask::Agent { life, input });
        }
    }

    /// Bytes arrive: they are put together even if the process is stopped, which changes nothing.
    pub(super) fn agent_bytes(&mut self, host: usize, key: u64, bytes: &[u8]) {
        let Some(link) = self.net.links.get_mut(&key) else { return };
        let (life, decoder): (u64, &mut Decoder) = (link.agent_life, &mut link.towards(Side::Agent).decoder);
        decoder.push(bytes);
        let mut messages = Vec::new();
        loop {
            match decoder.pop::<ToAgent>() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return self.fail(format!("h{host}: a broken stream: {error}")),
            }
        }
        for message in messages {
            self.agent_input(host, life, AgentInput::Message { link: key, message });
        }
    }

    pub(super) fn agent_input(&mut self, host: usize, life: u64, input: AgentInput) {
        let Some(agent) = self.hosts[host].agent.as_mut().filter(|agent| agent.life == life) else { return };
        if agent.stopped {
            agent.inbox.push(input);
            return;
        }
        match input {
            AgentInput::Event(event) => {
                if let Event::Disconnected { link } = &event {
                    agent.links.remove(&link.0);
                }
                self.agent_event(host, event);
            }
            AgentInput::Stored { count, length, error } => {
                let seal =
                    agent.seals.iter().position(|(at, ..)| *at == count).map(|at| agent.seals.remove(at));
                self.hosts[host].file.synced(length);
                if let Some((_, epoch, run, manager)) = seal.filter(|_| error.is_none()) {
                    self.judge_sealed(host, epoch, run, manager);
                }
                self.agent_event(host, Event::Stored { count, error });
            }
            AgentInput::Message { link, message } => {
                if agent.links.contains(&link) {
                    if self.trace && !matches!(message, ToAgent::Acknowledge { .. }) {
                        self.tell(format_args!("h{host} <- {message:?}"));
                    }
                    self.agent_event(host, Event::Received { link: LinkId(link), message });
                }
            }
        }
    }

    pub(super) fn wake_agent(&mut self, host: usize, life: u64) {
        let now = self.now;
        let Some(agent) = self.hosts[host].agent.as_mut().filter(|agent| agent.life == life) else { return };
        if agent.wake.is_some_and(|at| at <= now) {
            agent.wake = None;
        }
        if !agent.stopped {
            self.agent_event(host, Event::Tick);
        }
    }

    /// The machine takes an event, and what it wants is done.
    fn agent_event(&mut self, host: usize, event: Event) {
        let now = self.hosts[host].clock.now(self.now);
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let mut effects = Vec::new();
        agent.machine.handle(now, event, &mut effects);
        self.feed_watchdog(host);
        for effect in effects {
            self.agent_effect(host, effect);
        }
        let at = self.now;
        let machine = &mut self.hosts[host];
        let Some(agent) = &mut machine.agent else { return };
        let Some(due) = machine.clock.reaches(agent.machine.next_deadline()) else { return };
        if due <= at && agent.machine.next_deadline() <= now.mono {
            return self.fail(format!("h{host}: the agent's timer does not go away"));
        }
        if agent.wake.is_none_or(|wake| due < wake) {
            agent.wake = Some(due.max(at));
            let life = agent.life;
            self.on_host(host, due.saturating_sub(at), HostTask::WakeAgent { life });
        }
    }

    fn agent_effect(&mut self, host: usize, effect: Effect) {
        match effect {
            Effect::Store(record) => self.agent_store(host, &record),
            Effect::Send { link, message } => {
                if self.trace && !matches!(message, FromAgent::Heartbeat { .. }) {
                    self.tell(format_args!("h{host} -> {message:?}"));
                }
                self.judge_from_agent(host, &message);
                match frame::encode(&message) {
                    Ok(bytes) => self.send_bytes(link.0, Side::Manager, bytes),
                    Err(error) => self.fail(format!("h{host}: {error}")),
                }
            }
            Effect::Close { link } => {
                if let Some(agent) = &mut self.hosts[host].agent {
                    agent.links.remove(&link.0);
                }
                self.close_link(link.0, Side::Agent);
            }
            Effect::Run { order, operation } => self.run_script(host, order, operation),
            Effect::Kill { order } => self.kill_cgroup(host, order),
            Effect::Watch { order } => self.watch_cgroup(host, order),
            Effect::FeedWatchdogUntil(until) => {
                if let Some(agent) = &mut self.hosts[host].agent {
                    agent.lease = agent.lease.max(until);
                }
                if self.hosts[host].watchdog.is_some() && self.hosts[host].fires_at.is_none() {
                    self.hosts[host].fires_at = Some(self.now);
                }
                self.feed_watchdog(host);
            }
            Effect::ReleaseWatchdog => {
                if let Some(agent) = &mut self.hosts[host].agent {
                    agent.lease = Mono(0);
                }
                self.hosts[host].fires_at = None;
            }
        }
    }

    /// An armed watchdog is fed while the lease holds. The hardware counts from the last time.
    fn feed_watchdog(&mut self, host: usize) {
        let now = self.now;
        let machine = &mut self.hosts[host];
        let Some(agent) = machine.agent.as_ref().filter(|agent| !agent.stopped) else { return };
        let (Some(timeout), Some(_)) = (machine.watchdog, machine.fires_at) else { return };
        if machine.clock.mono(now) < agent.lease {
            machine.fires_at = Some(now + timeout);
            if !std::mem::replace(&mut machine.watched, true) {
                self.on_host(host, timeout, HostTask::Watchdog);
            }
        }
    }

    fn agent_store(&mut self, host: usize, record: &IntentRecord) {
        let full = self.hosts[host].disk_full;
        let machine = &mut self.hosts[host];
        if !full {
            machine.file.append(record);
        }
        let length = machine.file.length();
        let longest = self.scenario.sync_delay;
        let slow = !self.calm && self.scenario.faults.victims.contains(&host);
        let delay = if slow && self.rng.disks.one_in(60) {
            self.rng.disks.below(8 * SECOND)
        } else {
            self.rng.disks.below(longest)
        };
        let now = self.now;
        let Some(agent) = &mut self.hosts[host].agent else { return };
        agent.stores += 1;
        if let IntentRecord::Sealed { epoch, run, manager, .. } = record {
            agent.seals.push((agent.stores, *epoch, *run, *manager));
        }
        agent.stored_at = agent.stored_at.max(now + delay);
        let (life, count, wait) = (agent.life, agent.stores, agent.stored_at - now);
        let error = full.then(|| "no space left on device".to_owned());
        if full {
            self.report.disk_full += 1;
        }
        let input = AgentInput::Stored { count, length, error };
        self.on_host(host, wait, HostTask::Agent { life, input });
    }

    /// A cgroup or its main process ended: the agent that began it, or watches it, is told.
    pub(super) fn tell_agent(&mut self, host: usize, event: Event) {
        if let Some(life) = self.hosts[host].agent.as_ref().map(|agent| agent.life) {
            self.on_host(host, 1000, HostTask::Agent { life, input: AgentInput::Event(event) });
        }
    }
}
