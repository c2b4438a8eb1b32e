//! The judge: it knows the truth on every host and what went over every wire, and shares no rule with the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::clock::{MILLI, SECOND};
use super::machines::{Cause, Kernel, Thing};
use super::scenario::Scenario;
use super::world::World;
use crate::ha::command::{Accepted, Command, Denied};
use crate::ha::config::{Config, FenceAttempts};
use crate::ha::engine::LostState;
use crate::ha::fencing::DeviceAction;
use crate::ha::ids::{Epoch, FenceId, GroupId, HostId, ManagerId, ManagerRun, OrderId, ReplyToken};
use crate::ha::protocol::{Action, FromAgent, Operation, ToAgent};
use crate::ha::state::Record;
use crate::time::Mono;

/// What the judge knows.
#[derive(Debug)]
pub(super) struct Judge {
    /// What each thing depends on.
    pub(super) parents: BTreeMap<Thing, Thing>,
    /// Hosts whose devices said "off" although they were on: nobody could know better.
    pub(super) deceived: BTreeSet<usize>,
    pub(super) hosts: Vec<HostFacts>,
    pub(super) managers: Vec<ManagerFacts>,
    /// What each order promised, and who gave it.
    orders: BTreeMap<OrderId, Promise>,
    /// Commands whose answer is open.
    pub(super) asked: BTreeMap<ReplyToken, Command>,
    pub(super) well: bool,
    /// Managers whose state was replaced.
    pub(super) forget_decisions: BTreeSet<usize>,
    /// Managers that an operator let take over.
    takeovers: BTreeSet<ManagerId>,
    /// A host is named by its number.
    numbers: BTreeMap<HostId, usize>,
}

/// What is known of a host.
#[derive(Debug, Default)]
pub(super) struct HostFacts {
    /// The highest seal that its agent stored.
    sealed: Option<(Epoch, ManagerRun)>,
    /// The manager that its agent obeys.
    obeys: Option<ManagerId>,
    /// When each heartbeat of the present agent was sent, by its own clock.
    beats: BTreeMap<u64, Mono>,
    /// When a stop last went wrong.
    pub(super) stop_trouble: Option<u64>,
}

/// What is known of a manager.
#[derive(Debug, Default)]
pub(super) struct ManagerFacts {
    /// When it last heard anything of each host.
    heard: BTreeMap<usize, u64>,
    /// Since when it has heard the heartbeats of each host without a gap, and when the last one.
    beating: BTreeMap<usize, (u64, u64)>,
    /// Intents to change power: those that are certain, and those that are not yet.
    intents: Vec<Intent>,
    unsynced: Vec<Intent>,
    /// Automatic attempts since the last reset.
    automatic: BTreeMap<HostId, Vec<i64>>,
    /// Attempts whose end was not recorded.
    open: BTreeMap<FenceId, Attempt>,
    /// Those of earlier processes of it that are to be waited out.
    earlier: Vec<Attempt>,
    /// Decisions that were acknowledged.
    pub(super) decided: Decisions,
}

/// A change of power that is under way.
#[derive(Debug, Clone)]
struct Attempt {
    host: HostId,
    action: String,
    automatic: bool,
    /// True time at which its last call ends.
    until: u64,
    /// How the manager's wall clock was set then.
    wall_offset: i64,
}

#[derive(Debug, Clone)]
struct Intent {
    /// Where in the journal it begins.
    at: usize,
    host: HostId,
    action: String,
    /// True time at which it ends.
    until: u64,
}

/// What operators decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Decisions {
    pub(super) unmanaged: BTreeSet<GroupId>,
    pub(super) stopped: BTreeSet<GroupId>,
    pub(super) deactivated: BTreeSet<HostId>,
}

#[derive(Debug)]
struct Promise {
    heartbeat: u64,
    action: Action,
}

impl Judge {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let mut judge = Self {
            parents: BTreeMap::new(),
            deceived: BTreeSet::new(),
            hosts: scenario.wiring.iter().map(|_| HostFacts::default()).collect(),
            managers: (0..super::managers::MANAGERS).map(|_| ManagerFacts::default()).collect(),
            orders: BTreeMap::new(),
            asked: BTreeMap::new(),
            well: false,
            forget_decisions: BTreeSet::new(),
            takeovers: BTreeSet::new(),
            numbers: scenario.config.hosts.keys().enumerate().map(|(n, id)| (id.clone(), n)).collect(),
        };
        judge.learn(&scenario.config);
        judge
    }

    /// Things and what they depend on, of another configuration.
    pub(super) fn learn(&mut self, config: &Config) {
        let thing = |id| -> Option<Thing> {
            let resource: &std::sync::Arc<crate::ha::config::Resource> = config.resources.get(id)?;
            resource.spec.parameters.get("target").cloned()
        };
        for (id, resource) in &config.resources {
            let parent = resource.parent.as_ref().and_then(thing);
            if let Some(own) = thing(id) {
                match parent {
                    Some(parent) => self.parents.insert(own, parent),
                    None => self.parents.remove(&own),
                };
            }
        }
    }
}

impl World {
    fn number_of(&self, host: &HostId) -> usize {
        self.judge.numbers.get(host).copied().unwrap_or(0)
    }

    /// Something is active on a host, or is being started there: then it must be nowhere else.
    pub(super) fn judge_presence(&mut self, host: usize, thing: &str, cause: Cause) {
        if cause == Cause::Hand || self.judge.deceived.contains(&host) {
            return;
        }
        for (other, machine) in self.hosts.iter().enumerate() {
            if other == host || self.judge.deceived.contains(&other) {
                continue;
            }
            let active = machine.active.get(thing);
            if matches!(active, Some((Cause::Hand, _))) {
                continue;
            }
            if active.is_some() || machine.is_starting(thing) {
                let how = if active.is_some() { "is active" } else { "is being started" };
                return self.fail(format!(
                    "double start: {thing} on h{host} by {cause:?}, while it {how} on h{other}"
                ));
            }
        }
    }

    /// An agent executes an order.
    pub(super) fn judge_run(&mut self, host: usize, order: OrderId, operation: &Operation, thing: &str) {
        let Some((epoch, run)) = self.judge.hosts[host].sealed else {
            return self.fail(format!("h{host} executes {order} although nobody sealed it"));
        };
        if order.epoch < epoch || (order.epoch == epoch && order.run != run) {
            return self.fail(format!("h{host} executes {order} below its seal {epoch}"));
        }
        let Some(promise) = self.judge.orders.get(&order) else {
            return self.fail(format!("h{host} executes {order}, which nobody gave"));
        };
        if operation.action == Action::Start {
            self.report.starts += 1;
            if let Some((cause, since)) = self.hosts[host].active.get(thing) {
                self.tell(format_args!("{thing} is active here already: {cause:?} since {since}"));
            }
            let fresh = self.scenario.config.settings.fresh_time + Duration::from_millis(20);
            let now = self.hosts[host].clock.mono(self.now);
            let sent = self.judge.hosts[host].beats.get(&promise.heartbeat).copied();
            if sent.is_none_or(|sent| now.since(sent) > fresh) {
                return self.fail(format!("h{host} starts {thing} by an order that quotes an old heartbeat"));
            }
        }
        if operation.action == Action::Stop {
            self.report.stops += 1;
            if self.is_steady(host) && self.hosts[host].active.contains_key(thing) {
                self.fail(format!(
                    "{thing} is stopped on h{host}, where nothing went wrong and nobody asked for it"
                ));
            }
        }
    }

    /// Whether there is no reason in this run to touch what runs on a host.
    fn is_steady(&self, host: usize) -> bool {
        let faults = &self.scenario.faults;
        let failback = self.scenario.config.groups.values().any(|group| group.auto_failback);
        faults.operator == 0
            && !self.calm
            && !faults.hands
            && !faults.reloads
            && !faults.rival
            && !failback
            && !faults.victims.contains(&host)
            && self.hosts[host].touched == 0
            // Its own watchdog may reset it when the manager is gone.
            && self.hosts[host].watchdog.is_none()
    }

    /// A manager tells an agent something.
    pub(super) fn judge_to_agent(&mut self, manager: usize, _key: u64, message: &ToAgent) {
        let ToAgent::Order(order) = message else { return };
        let changes = matches!(order.operation.action, Action::Start | Action::Stop);
        if changes && !self.managers[manager].manage {
            return self.fail(format!("manager {manager} only observes, but orders {:?}", order.operation));
        }
        self.judge
            .orders
            .insert(order.id, Promise { heartbeat: order.heartbeat, action: order.operation.action });
    }

    /// An agent tells something.
    pub(super) fn judge_from_agent(&mut self, host: usize, message: &FromAgent) {
        let mono = self.hosts[host].clock.mono(self.now);
        let facts = &mut self.judge.hosts[host];
        match message {
            FromAgent::Heartbeat { number } => {
                if *number == 1 {
                    facts.beats.clear();
                }
                facts.beats.insert(*number, mono);
                if facts.beats.len() > 64 {
                    facts.beats.pop_first();
                }
            }
            FromAgent::Sealed { unfinished, .. } => {
                let told = |order: &OrderId| unfinished.iter().any(|left| left.order == *order);
                let hidden = self.hosts[host]
                    .cgroups
                    .iter()
                    .find(|(order, cgroup)| cgroup.is_changing() && !told(order))
                    .map(|(order, _)| *order);
                if let Some(order) = hidden {
                    self.fail(format!("h{host} answers a seal without {order}, whose script still runs"));
                }
            }
            FromAgent::Finished(finished)
                if finished.action == Action::Stop && !finished.outcome.succeeded() =>
            {
                facts.stop_trouble = Some(self.now);
            }
            // Its disk is full, for instance.
            FromAgent::Refused { order, .. }
                if self.judge.orders.get(order).is_some_and(|promise| promise.action == Action::Stop) =>
            {
                facts.stop_trouble = Some(self.now);
            }
            _ => {}
        }
    }

    /// An agent stored a seal.
    pub(super) fn judge_sealed(&mut self, host: usize, epoch: Epoch, run: ManagerRun, manager: ManagerId) {
        let facts = &mut self.judge.hosts[host];
        if facts.sealed.is_none_or(|(present, _)| present < epoch) {
            facts.sealed = Some((epoch, run));
            let before = facts.obeys.replace(manager);
            if before.is_some_and(|before| before != manager) && !self.judge.takeovers.contains(&manager) {
                self.fail(format!("h{host} obeys another manager although nobody confirmed a takeover"));
            }
        }
    }

    /// A manager's kernel has a message of an agent.
    pub(super) fn judge_heard(&mut self, manager: usize, host: usize, heartbeat: bool) {
        let now = self.now;
        let facts = &mut self.judge.managers[manager];
        facts.heard.insert(host, now);
        if heartbeat {
            let beat =
                u64::try_from(self.scenario.config.settings.heartbeat_interval.as_nanos()).unwrap_or(0);
            let (since, last) = facts.beating.entry(host).or_insert((now, now));
            if now - *last > 2 * beat + SECOND {
                *since = now;
            }
            *last = now;
        }
    }

    /// A manager's process was stopped for some time: it could not hear anything.
    pub(super) fn judge_pause(&mut self, manager: usize, time: u64) {
        let facts = &mut self.judge.managers[manager];
        for at in facts.heard.values_mut() {
            *at = (*at + time).min(self.now);
        }
    }

    /// A manager's process begins.
    pub(super) fn judge_manager_start(&mut self, manager: usize, lost: &LostState) {
        let facts = &mut self.judge.managers[manager];
        facts.heard.clear();
        facts.beating.clear();
        // What was interrupted may be done again, after its time. What was not synced was never begun.
        for (_, attempt) in std::mem::take(&mut facts.open) {
            if attempt.automatic
                && let Some(times) = facts.automatic.get_mut(&attempt.host)
            {
                times.pop();
            }
            if facts.intents.iter().any(|i| i.host == attempt.host && i.until == attempt.until) {
                facts.earlier.push(attempt);
            }
        }
        facts.unsynced.clear();
        if self.judge.forget_decisions.remove(&manager) | (*lost != LostState::No) {
            self.judge_state_replaced(manager);
        } else {
            self.judge_decisions(manager);
        }
    }

    /// Its state is another one than before: what was decided is what it says.
    pub(super) fn judge_state_replaced(&mut self, manager: usize) {
        let decided = self.decisions_in_force(manager);
        let facts = &mut self.judge.managers[manager];
        facts.decided = decided;
        facts.earlier.clear();
        facts.intents.clear();
        facts.automatic.clear();
    }

    fn decisions_in_force(&self, manager: usize) -> Decisions {
        let mut found = Decisions::default();
        let Some(process) = &self.managers[manager].process else { return found };
        let state = process.engine.state();
        for (group, flags) in &state.groups {
            if flags.unmanaged {
                found.unmanaged.insert(group.clone());
            }
            if flags.stopped {
                found.stopped.insert(group.clone());
            }
        }
        let hosts = state.hosts.iter().filter(|(_, flags)| flags.deactivated);
        found.deactivated = hosts.map(|(host, _)| host.clone()).collect();
        found
    }

    /// What was acknowledged to operators is in force.
    pub(super) fn judge_decisions(&mut self, manager: usize) {
        let found = self.decisions_in_force(manager);
        let decided = &self.judge.managers[manager].decided;
        // What was not acknowledged yet may be in force as well.
        let kept = decided.unmanaged.is_subset(&found.unmanaged)
            && decided.stopped.is_subset(&found.stopped)
            && decided.deactivated.is_subset(&found.deactivated);
        if !kept && self.judge.asked.is_empty() {
            let why = format!("manager {manager} forgot decisions: {decided:?} became {found:?}");
            self.fail(why);
        }
    }

    /// A manager wants to remember something.
    pub(super) fn judge_record(&mut self, manager: usize, record: &Record) {
        match record {
            Record::FenceIntent { id, host, action, until, automatic, reason, .. } if action != "confirm" => {
                let at = self.managers[manager].file.length();
                // The wall clock may be set later: what counts is how long it shall last.
                let lasts = until - self.managers[manager].clock.now(self.now).wall.0;
                let until = self.now + u64::try_from(lasts).unwrap_or(0);
                let intent = Intent { at, host: host.clone(), action: action.clone(), until };
                let wall_offset = self.managers[manager].clock.wall_offset;
                let (host_of, action_of) = (host.clone(), action.clone());
                let attempt =
                    Attempt { host: host_of, action: action_of, automatic: *automatic, until, wall_offset };
                let facts = &mut self.judge.managers[manager];
                facts.unsynced.push(intent);
                facts.open.insert(*id, attempt);
                if action == "off" && reason.starts_with("manager:") {
                    self.judge_automatic_fence(manager, host, *automatic, reason);
                }
            }
            Record::FenceCall { id, host, until } => {
                let at = self.managers[manager].file.length();
                let lasts = until - self.managers[manager].clock.now(self.now).wall.0;
                let until = self.now + u64::try_from(lasts).unwrap_or(0);
                let facts = &mut self.judge.managers[manager];
                if let Some(attempt) = facts.open.get_mut(id) {
                    attempt.until = until;
                    let action = attempt.action.clone();
                    facts.unsynced.push(Intent { at, host: host.clone(), action, until });
                }
            }
            Record::Event(event) => self.tell(format_args!(
                "manager {manager}: {} {} {:?} {}",
                event.event,
                event.object,
                event.host,
                event.comment.as_deref().unwrap_or("")
            )),
            Record::FenceResult { id, .. } => {
                self.judge.managers[manager].open.remove(id);
            }
            Record::Reset { host } => {
                self.judge.managers[manager].automatic.remove(host);
            }
            _ => {}
        }
    }

    /// The manager's journal was synced.
    pub(super) fn judge_synced(&mut self, manager: usize, length: usize) {
        let facts = &mut self.judge.managers[manager];
        while facts.unsynced.first().is_some_and(|intent| intent.at < length) {
            facts.intents.push(facts.unsynced.remove(0));
        }
    }

    fn judge_automatic_fence(&mut self, manager: usize, host: &HostId, first: bool, reason: &str) {
        let number = self.number_of(host);
        let settings = &self.scenario.config.settings;
        let detection = u64::try_from(settings.detection_time.as_nanos()).unwrap_or(0);
        let beat = u64::try_from(settings.heartbeat_interval.as_nanos()).unwrap_or(0);
        self.report.automatic_fences += u64::from(first);
        if first {
            let wall = self.managers[manager].clock.now(self.now).wall.0;
            let times = self.judge.managers[manager].automatic.entry(host.clone()).or_default();
            times.push(wall);
            let (limit, window) = match settings.fence_attempts {
                FenceAttempts::OnceUntilReset => (1, i64::MAX),
                FenceAttempts::Within { count, window } => (count as usize, window.as_nanos() as i64),
            };
            let count = times.iter().filter(|at| wall.saturating_sub(**at) < window).count();
            if count > limit {
                return self.fail(format!("{host} is fenced automatically {count} times without a reset"));
            }
        }
        self.tell(format_args!("automatic fence of {host}: {reason}"));
        if self.is_steady(number) {
            return self.fail(format!("{host} is fenced although nothing went wrong there: {reason}"));
        }
        let facts = &self.judge.managers[manager];
        let heard = |number: usize| facts.heard.get(&number).map(|at| self.now - at);
        let trouble = self.judge.hosts[number].stop_trouble.is_some()
            || self.hosts[number].cgroups.values().any(|cgroup| cgroup.timed_out || !cgroup.main)
            || self.scenario.faults.scripts > 0;
        let must = reason.contains("could not be stopped") || reason.contains("does not end");
        // One that came back a moment ago may have been given up just before.
        let beats = facts
            .beating
            .get(&number)
            .is_some_and(|(since, last)| self.now - last < 2 * beat && last - since > detection + 5 * SECOND);
        if beats && first && !(must && trouble) {
            return self.fail(format!("{host} is fenced although its heartbeats arrive: {reason}"));
        }
        let all = self.managers[manager].config.hosts.len();
        let visible = (0..self.hosts.len())
            .filter(|number| {
                let off = self.hosts[*number].kernel == Kernel::Off
                    || self.hosts[*number].kernel == Kernel::Booting;
                off || heard(*number).is_some_and(|age| age < detection + 2 * beat + 2 * SECOND)
                    || self.judge.deceived.contains(number)
            })
            .count();
        if visible * 2 < all && first {
            self.fail(format!("{host} is fenced while only {visible} of {all} hosts are visible: {reason}"));
        }
    }

    /// A manager calls a fence device.
    pub(super) fn judge_device_call(&mut self, manager: usize, host: &HostId, action: DeviceAction) {
        let word = match action {
            DeviceAction::Off => "off",
            DeviceAction::On => "on",
            _ => return,
        };
        self.report.power_calls += 1;
        // A clock that was set forward meanwhile makes an intent look older than it is.
        let offset = self.managers[manager].clock.wall_offset;
        let earlier = self.judge.managers[manager].earlier.iter().any(|attempt| {
            attempt.host == *host && attempt.until > self.now + SECOND && attempt.wall_offset >= offset
        });
        if earlier {
            return self.fail(format!("{host} is powered {word} while an earlier attempt may still act"));
        }
        if !self.managers[manager].manage {
            return self.fail(format!("manager {manager} only observes, but powers {host} {word}"));
        }
        let certain =
            |intent: &Intent| intent.host == *host && intent.action == word && intent.until >= self.now;
        if !self.judge.managers[manager].intents.iter().any(certain) {
            self.fail(format!("{host} is powered {word} without an intent that is certain"));
        }
    }

    /// An operator has an answer.
    pub(super) fn judge_reply(
        &mut self,
        manager: usize,
        token: ReplyToken,
        answer: Result<Accepted, Denied>,
    ) {
        let Some(command) = self.judge.asked.remove(&token) else { return };
        match &answer {
            Ok(_) => self.report.commands += 1,
            Err(denied) => {
                self.report.denied += 1;
                self.tell(format_args!("denied: {denied}"));
                return;
            }
        }
        let decided = &mut self.judge.managers[manager].decided;
        match command {
            Command::Takeover => {
                let state = self.managers[manager].process.as_ref().map(|process| process.engine.state());
                self.judge.takeovers.extend(state.and_then(|state| state.manager));
            }
            Command::Manage { group } => {
                decided.unmanaged.remove(&group);
            }
            Command::Unmanage { group } => {
                decided.unmanaged.insert(group);
            }
            Command::Activate { host } => {
                decided.deactivated.remove(&host);
            }
            Command::Deactivate { host, .. } => {
                decided.deactivated.insert(host);
            }
            Command::Stop { target } => {
                let group = GroupId::from(target);
                if self.managers[manager].config.groups.contains_key(&group) {
                    self.judge.managers[manager].decided.stopped.insert(group);
                }
            }
            Command::Start { target } => {
                let group = self.managers[manager]
                    .config
                    .resources
                    .get(target.as_str())
                    .map(|resource| resource.group.clone());
                if let Some(group) = group {
                    self.judge.managers[manager].decided.stopped.remove(&group);
                }
            }
            _ => {}
        }
    }

    /// How long after the last fault the judge looks whether all is well, in nanoseconds.
    pub(super) fn look_interval(&self) -> u64 {
        if self.calm { 3 * SECOND } else { 11 * SECOND + MILLI }
    }
}
