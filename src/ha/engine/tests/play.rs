//! Agents, hosts and fence devices played by hand, on virtual time. Everything answers at once unless a test says otherwise.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub(super) use super::configs::{add_group, add_host, pair};
pub(super) use super::played::{Played, finished};
use crate::ha::command::{Accepted, Command, Denied, Request};
use crate::ha::config::Config;
use crate::ha::engine::{ConnectError, Effect, Effects, Engine, Event, LostState, Start};
use crate::ha::fencing::{DeviceAction, DeviceAnswer};
use crate::ha::ids::{CallId, HostId, LinkId, ManagerId, ManagerRun, ReplyToken, ResourceId};
use crate::ha::protocol::{Action, FromAgent};
use crate::ha::state::State;
use crate::ha::status::{GroupStatus, HostStatus, Phase, Status};
use crate::time::{Mono, Now, Wall};

/// A cluster around an engine.
#[derive(Debug)]
pub(super) struct Play {
    pub(super) engine: Engine,
    pub(super) now: Now,
    pub(super) hosts: BTreeMap<HostId, Played>,
    /// Starts and stops in order: `start ost0 h1`.
    pub(super) log: Vec<String>,
    /// Calls of fence devices: `off h1`.
    pub(super) calls: Vec<String>,
    /// Devices that do not do what they say, by host: they answer this to everything.
    pub(super) device_says: BTreeMap<HostId, DeviceAnswer>,
    /// Devices that say "done" and "off" and do nothing.
    pub(super) liars: BTreeSet<HostId>,
    /// Devices that act on another host than the one they are configured for.
    pub(super) plugs: BTreeMap<HostId, HostId>,
    /// What devices answer when a host joins; otherwise they have nothing to undo.
    pub(super) unfencing: BTreeMap<HostId, DeviceAnswer>,
    /// Calls of these kinds are not answered before [`Play::answer`].
    pub(super) hold: BTreeSet<DeviceAction>,
    pub(super) held: Vec<(CallId, HostId, DeviceAction)>,
    pub(super) replies: VecDeque<Result<Accepted, Denied>>,
    dials: BTreeMap<LinkId, HostId>,
    config: Config,
    manage: bool,
    beat: Mono,
    /// The sum of all records.
    pub(super) stored: State,
}

impl Play {
    pub(super) fn new(config: Config) -> Self {
        Self::with(config, true, State::default(), LostState::Absent)
    }

    pub(super) fn with(config: Config, manage: bool, state: State, lost: LostState) -> Self {
        let now = Now { mono: Mono(1_000_000_000), wall: Wall(1_700_000_000_000_000_000) };
        let hosts = config.hosts.keys().map(|id| (id.clone(), Played::new())).collect();
        let mut effects = Effects::default();
        let stored = state.clone();
        let engine = begin(now, &config, manage, state, lost, 1, &mut effects);
        let mut play = Self {
            engine,
            now,
            hosts,
            log: Vec::new(),
            calls: Vec::new(),
            device_says: BTreeMap::new(),
            liars: BTreeSet::new(),
            plugs: BTreeMap::new(),
            unfencing: BTreeMap::new(),
            hold: BTreeSet::new(),
            held: Vec::new(),
            replies: VecDeque::new(),
            dials: BTreeMap::new(),
            config,
            manage,
            beat: now.mono,
            stored,
        };
        play.stored(&effects);
        play.carry_out(effects);
        play
    }

    /// The manager dies and comes back with what it had stored.
    pub(super) fn restart(&mut self, state: State, lost: LostState) {
        for host in self.hosts.values_mut() {
            host.link = None;
        }
        self.dials.clear();
        let mut effects = Effects::default();
        let run = self.now.mono.0;
        self.stored = state.clone();
        self.engine = begin(self.now, &self.config, self.manage, state, lost, run, &mut effects);
        self.stored(&effects);
        self.carry_out(effects);
    }

    pub(super) fn host(&mut self, id: &str) -> &mut Played {
        self.hosts.get_mut(id).expect("a host of the test")
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while self.now.mono < end {
            let next = self.engine.next_deadline().min(self.beat).max(self.now.mono).min(end);
            let step = next.since(self.now.mono);
            self.now.mono = next;
            self.now.wall.0 += step.as_nanos() as i64;
            if self.now.mono >= self.beat {
                self.beat = self.now.mono + Duration::from_secs(1);
                let live: Vec<(LinkId, u64)> = self
                    .hosts
                    .values_mut()
                    .filter(|host| host.alive && !host.silent && !host.mute)
                    .filter_map(|host| {
                        host.heartbeat += 1;
                        Some((host.link?, host.heartbeat))
                    })
                    .collect();
                for (link, number) in live {
                    self.event(Event::Received { link, message: FromAgent::Heartbeat { number } });
                }
            }
            self.event(Event::Tick);
        }
    }

    /// Lets time pass until a condition holds; fails after five minutes.
    pub(super) fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        for _ in 0..3000 {
            if condition(self) {
                return;
            }
            self.run(Duration::from_millis(100));
        }
        panic!("{what} never came about: {:#?}\n{:?}\n{:?}", self.status(), self.log, self.calls);
    }

    pub(super) fn status(&self) -> Status {
        self.engine.status(self.now)
    }

    pub(super) fn group(&self, id: &str) -> GroupStatus {
        self.status().groups.into_iter().find(|group| group.id.as_str() == id).expect("a group of the test")
    }

    pub(super) fn host_status(&self, id: &str) -> HostStatus {
        self.status().hosts.into_iter().find(|host| host.id.as_str() == id).expect("a host of the test")
    }

    pub(super) fn is_on(&self, group: &str, host: &str) -> bool {
        let group = self.group(group);
        group.phase == Phase::Running && group.location.is_some_and(|at| at.as_str() == host)
    }

    /// Both groups run on these hosts.
    pub(super) fn runs_on(&mut self, first: &str, second: &str) {
        let (first, second) = (first.to_owned(), second.to_owned());
        self.until(&format!("pool0 on {first}, pool1 on {second}"), |play| {
            play.is_on("pool0", &first) && play.is_on("pool1", &second)
        });
    }

    pub(super) fn ask(&mut self, command: Command) -> Result<Accepted, Denied> {
        self.ask_for(command, false)
    }

    pub(super) fn ask_for(&mut self, command: Command, dry_run: bool) -> Result<Accepted, Denied> {
        if let (Command::Reload { config }, false) = (&command, dry_run) {
            self.config = (**config).clone();
        }
        let request = Request {
            token: ReplyToken(1),
            command,
            by: "tester".to_owned(),
            reason: Some("test".to_owned()),
            dry_run,
        };
        self.event(Event::Request(request));
        self.replies.pop_front().expect("every request is answered at once")
    }

    /// The manager does not run for a while.
    pub(super) fn pause(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall.0 += time.as_nanos() as i64;
        self.event(Event::Tick);
    }

    /// The connection to a host breaks.
    pub(super) fn cut(&mut self, id: &str) {
        if let Some(link) = self.host(id).link.take() {
            self.event(Event::Disconnected { link, error: ConnectError::Refused("reset".to_owned()) });
        }
    }

    /// The agent of a host is restarted, what it had begun goes on.
    pub(super) fn restart_agent(&mut self, id: &str) {
        self.host(id).run += 1;
        self.host(id).heartbeat = 0;
        self.cut(id);
    }

    /// An agent says something.
    pub(super) fn says(&mut self, id: &str, message: FromAgent) {
        let link = self.host(id).link.expect("a connection");
        self.event(Event::Received { link, message });
    }

    /// The oldest operation that hangs on a host ends.
    pub(super) fn end(&mut self, id: &str, code: i32) {
        let left = self.host(id).unfinished.remove(0);
        self.host(id).hung.clear();
        if code == 0 {
            match left.action {
                Action::Start => self.host(id).active.insert(left.resource.id.clone()),
                Action::Stop => self.host(id).active.remove(&left.resource.id),
                _ => false,
            };
        }
        self.says(id, finished(left.order, left.resource.id, left.action, code));
    }

    /// The oldest call that is held is answered.
    pub(super) fn answer(&mut self, answer: DeviceAnswer) {
        let (call, ..) = self.held.remove(0);
        self.event(Event::Fenced { call, answer });
    }

    /// A host dies: nothing of it is left, and its network does not answer.
    pub(super) fn crash(&mut self, id: &str) {
        let host = self.host(id);
        host.alive = false;
        host.active.clear();
        host.link = None;
    }

    /// A host boots.
    pub(super) fn boot(&mut self, id: &str) {
        let host = self.host(id);
        host.alive = true;
        host.silent = false;
        host.refuses = false;
        host.boot += 1;
        host.heartbeat = 0;
        host.active.clear();
        host.unfinished.clear();
    }

    pub(super) fn event(&mut self, event: Event) {
        let mut effects = Effects::default();
        self.engine.handle(self.now, event, &mut effects);
        self.stored(&effects);
        self.carry_out(effects);
    }

    /// What the engine says it stored is its state, and its invariants hold.
    fn stored(&mut self, effects: &Effects) {
        self.engine.check_records(&mut self.stored, &effects.records);
        self.engine.check();
    }

    fn carry_out(&mut self, effects: Effects) {
        let mut queue: VecDeque<Effect> = effects.effects.into();
        while let Some(effect) = queue.pop_front() {
            for event in self.effect(effect) {
                let mut effects = Effects::default();
                self.engine.handle(self.now, event, &mut effects);
                self.stored(&effects);
                queue.extend(effects.effects);
            }
            self.no_resource_is_active_twice();
        }
    }

    fn no_resource_is_active_twice(&self) {
        let mut seen: BTreeMap<&ResourceId, &HostId> = BTreeMap::new();
        for (id, host) in &self.hosts {
            for resource in &host.active {
                if let Some(other) = seen.insert(resource, id)
                    && self.log.iter().any(|line| {
                        *line == format!("start {resource} {id}")
                            || *line == format!("start {resource} {other}")
                    })
                    && !self.log.iter().any(|line| line == "by hand")
                {
                    panic!("{resource} is active on {other} and {id}: {:?}", self.log);
                }
            }
        }
    }

    fn effect(&mut self, effect: Effect) -> Vec<Event> {
        match effect {
            Effect::Connect { link, host: id, .. } => {
                let Some(host) = self.hosts.get_mut(&id) else {
                    return vec![Event::ConnectFailed {
                        link,
                        error: ConnectError::Unreachable("gone".into()),
                    }];
                };
                if host.refuses {
                    let error = ConnectError::Refused("refused".to_owned());
                    return vec![Event::ConnectFailed { link, error }];
                }
                if !host.alive || host.silent {
                    return vec![Event::ConnectFailed { link, error: ConnectError::TimedOut }];
                }
                host.link = Some(link);
                self.dials.insert(link, id);
                vec![Event::Connected { link }]
            }
            Effect::Close { link } => {
                for host in self.hosts.values_mut().filter(|host| host.link == Some(link)) {
                    host.link = None;
                }
                Vec::new()
            }
            Effect::Send { link, message } => {
                let Some(id) = self.dials.get(&link).cloned() else { return Vec::new() };
                let host = self.hosts.get_mut(&id).expect("dialled");
                if !host.alive || host.silent || host.mute || host.link != Some(link) {
                    return Vec::new();
                }
                let answers = host.receive(&id, message, &mut self.log);
                answers.into_iter().map(|message| Event::Received { link, message }).collect()
            }
            Effect::CallDevice { call, host: id, action, .. } => {
                let quiet = action == DeviceAction::Monitor
                    || action == DeviceAction::Unfence && !self.unfencing.contains_key(&id);
                if !quiet {
                    self.calls.push(format!("{action:?} {id}").to_lowercase());
                }
                if self.hold.contains(&action) {
                    self.held.push((call, id, action));
                    return Vec::new();
                }
                let plug = self.plugs.get(&id).unwrap_or(&id);
                let host = self.hosts.get_mut(plug).expect("a host of the test");
                let answer = match (self.device_says.get(&id), action) {
                    (_, DeviceAction::Unfence) => {
                        self.unfencing.get(&id).cloned().unwrap_or(DeviceAnswer::Unsupported)
                    }
                    (Some(answer), _) => answer.clone(),
                    (None, DeviceAction::Status) if self.liars.contains(&id) => DeviceAnswer::Off,
                    (None, DeviceAction::Status) if host.alive => DeviceAnswer::On,
                    (None, DeviceAction::Status) => DeviceAnswer::Off,
                    (None, DeviceAction::Off) => {
                        if !self.liars.contains(&id) {
                            host.alive = false;
                            host.active.clear();
                        }
                        DeviceAnswer::Done
                    }
                    (None, DeviceAction::On) => {
                        host.alive = true;
                        host.boot += 1;
                        DeviceAnswer::Done
                    }
                    (None, DeviceAction::Monitor) => DeviceAnswer::Done,
                    (None, _) => DeviceAnswer::Unsupported,
                };
                vec![Event::Fenced { call, answer }]
            }
            Effect::Reply { answer, .. } => {
                self.replies.push_back(answer);
                Vec::new()
            }
        }
    }
}

fn begin(
    now: Now,
    config: &Config,
    manage: bool,
    state: State,
    lost: LostState,
    run: u64,
    effects: &mut Effects,
) -> Engine {
    let start = Start {
        config: config.clone(),
        manage,
        state,
        lost,
        new_manager: ManagerId(7 + run),
        run: ManagerRun(run),
    };
    Engine::new(now, start, effects)
}
