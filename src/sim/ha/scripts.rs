//! Resource agents as scripts: how long they take, what they do and when, how they end, and what they leave behind.

use std::time::Duration;

use super::clock::{MILLI, SECOND};
use super::machines::{Cause, Thing};
use super::world::{HostTask, World};
use crate::ha::agent::Event;
use crate::ha::ids::{OrderId, ResourceId};
use crate::ha::ocf::Outcome;
use crate::ha::protocol::{Action, Operation};

/// What the meta-data of every script advises.
const ADVISED: Duration = Duration::from_secs(10);

/// The processes of one operation.
#[derive(Debug)]
pub(super) struct Cgroup {
    pub(super) action: Action,
    pub(super) thing: Thing,
    resource: ResourceId,
    /// Its own process lives.
    pub(super) main: bool,
    /// Others that it forked live.
    others: bool,
    /// Something in it is stuck in the kernel: no signal helps before that ends.
    stuck: bool,
    /// Something in it will still act.
    acts: bool,
    /// It was killed.
    killed: bool,
    /// Somebody wants to know when it is empty.
    watched: bool,
    began: u64,
    /// Which life of the agent began it.
    life: u64,
    pub(super) timed_out: bool,
}

impl Cgroup {
    fn is_empty(&self) -> bool {
        !self.main && !self.others
    }

    /// A start or stop whose own process lives.
    pub(super) fn is_changing(&self) -> bool {
        self.main && matches!(self.action, Action::Start | Action::Stop)
    }

    /// A start that is not over.
    pub(super) fn may_activate(&self) -> bool {
        self.action == Action::Start && (self.main || self.acts)
    }
}

/// A moment in the life of a script.
#[derive(Debug)]
pub(super) enum ScriptStep {
    /// It does what it is for.
    Act,
    /// Its own process ends. `None`: with what it sees.
    Exit(Option<i32>),
    /// The others end.
    OthersEnd,
    /// Its time is over.
    Timeout,
    /// The kernel lets go of it, and what it had asked for has happened or not.
    Unstick { acts: bool, exit: i32 },
}

/// How a script will behave.
struct Plan {
    steps: Vec<(u64, ScriptStep)>,
    others: bool,
    stuck: bool,
    acts: bool,
}

impl World {
    /// An agent runs an operation.
    pub(super) fn run_script(&mut self, host: usize, order: OrderId, operation: Operation) {
        let thing = operation.resource.parameters.get("target").cloned().unwrap_or_default();
        let resource = operation.resource.id.clone();
        if operation.action == Action::Start || operation.action == Action::Stop {
            self.tell(format_args!("h{host}: {:?} {resource} ({thing})", operation.action));
        }
        self.judge_run(host, order, &operation, &thing);
        let plan = match operation.action {
            Action::Start => self.plan_start(host, &thing),
            Action::Stop => self.plan_stop(host, &thing),
            Action::Probe | Action::Monitor { .. } => self.plan_monitor(host, &thing),
        };
        let timeout = operation.timeout_ms.map_or(ADVISED.as_nanos() as u64, |millis| millis * MILLI);
        let cgroup = Cgroup {
            action: operation.action,
            thing: thing.clone(),
            resource,
            main: true,
            others: plan.others,
            stuck: plan.stuck,
            acts: plan.acts,
            killed: false,
            watched: false,
            began: self.now,
            life: self.hosts[host].agents,
            timed_out: false,
        };
        self.hosts[host].cgroups.insert(order, cgroup);
        let ends = plan.steps.iter().any(|(at, step)| matches!(step, ScriptStep::Exit(_)) && *at < timeout);
        for (at, step) in plan.steps {
            self.on_host(host, at, HostTask::Script { order, step });
        }
        if !ends {
            self.on_host(host, timeout, HostTask::Script { order, step: ScriptStep::Timeout });
        }
        if operation.action == Action::Start {
            self.judge_presence(host, &thing, Cause::Order(order));
        }
    }

    /// Whether a script on a host shall misbehave now.
    fn misbehaves(&mut self, host: usize) -> bool {
        let faults = &self.scenario.faults;
        let possible = !self.calm && faults.scripts > 0 && faults.victims.contains(&host);
        let odds = faults.scripts;
        possible && self.rng.scripts.one_in(odds) && {
            self.hosts[host].touched = self.now;
            true
        }
    }

    fn usual_time(&mut self) -> u64 {
        let rng = &mut self.rng.scripts;
        if rng.one_in(3) { rng.between(500, 3000) * MILLI } else { rng.between(20, 400) * MILLI }
    }

    /// Whether what it depends on is there.
    fn can_be_active(&self, host: usize, thing: &str) -> bool {
        let parent = self.judge.parents.get(thing);
        parent.is_none_or(|parent| self.hosts[host].active.contains_key(parent))
    }

    /// Whether something depends on it here.
    fn is_in_use(&self, host: usize, thing: &str) -> bool {
        let used = |other: &Thing| self.judge.parents.get(other).is_some_and(|parent| parent == thing);
        self.hosts[host].active.keys().any(used)
    }

    fn plan_start(&mut self, host: usize, thing: &str) -> Plan {
        let time = self.usual_time();
        let keeps = self.hosts[host].keeps_processes;
        let at = |at, step| (at, step);
        if !self.misbehaves(host) {
            let act = self.rng.scripts.below(time);
            let steps = vec![at(act, ScriptStep::Act), at(time, ScriptStep::Exit(None))];
            return Plan { steps, others: keeps, stuck: false, acts: true };
        }
        let kind = self.rng.scripts.below(6);
        self.report.script_faults[kind as usize] += 1;
        self.tell(format_args!("h{host}: the start of {thing} misbehaves: {kind}"));
        let rng = &mut self.rng.scripts;
        let (mut others, mut stuck, mut acts) = (false, false, true);
        let steps = match kind {
            // Too slow.
            0 => {
                let time = rng.between(3, 40) * SECOND;
                vec![at(rng.below(time), ScriptStep::Act), at(time, ScriptStep::Exit(None))]
            }
            // It fails, and has done nothing, or everything.
            1 => {
                let code = *rng.pick(&[1, 1, 1, 2, 4, 5, 6, 9]).unwrap_or(&1);
                let mut steps = vec![at(time, ScriptStep::Exit(Some(code)))];
                acts = code == 1 && rng.one_in(3);
                if acts {
                    steps.push(at(rng.below(time), ScriptStep::Act));
                }
                steps
            }
            // It says that it succeeded.
            2 => {
                acts = false;
                vec![at(time, ScriptStep::Exit(Some(0)))]
            }
            // Stuck in the kernel.
            3 => {
                stuck = true;
                let exit = i32::from(rng.one_in(2));
                vec![at(rng.between(1, 60) * SECOND, ScriptStep::Unstick { acts: rng.one_in(2), exit })]
            }
            // It leaves a child behind that acts later.
            _ => {
                others = true;
                let code = i32::from(kind == 4);
                let later = time + rng.between(1, 30) * SECOND;
                let end = later + rng.below(5 * SECOND);
                vec![
                    at(time, ScriptStep::Exit(Some(code))),
                    at(later, ScriptStep::Act),
                    at(end, ScriptStep::OthersEnd),
                ]
            }
        };
        Plan { steps, others, stuck, acts }
    }

    fn plan_stop(&mut self, host: usize, thing: &str) -> Plan {
        let time = self.usual_time();
        let at = |at, step| (at, step);
        if self.is_in_use(host, thing) {
            let steps = vec![at(time, ScriptStep::Exit(Some(1)))];
            return Plan { steps, others: false, stuck: false, acts: false };
        }
        if !self.misbehaves(host) {
            let act = self.rng.scripts.below(time);
            let steps = vec![at(act, ScriptStep::Act), at(time, ScriptStep::Exit(None))];
            return Plan { steps, others: false, stuck: false, acts: true };
        }
        let kind = self.rng.scripts.below(5);
        self.report.script_faults[6 + kind as usize] += 1;
        self.judge.hosts[host].stop_trouble = Some(self.now);
        self.tell(format_args!("h{host}: the stop of {thing} misbehaves: {kind}"));
        let rng = &mut self.rng.scripts;
        let (mut others, mut stuck, mut acts) = (false, false, true);
        let steps = match kind {
            0 => {
                let time = rng.between(3, 40) * SECOND;
                vec![at(rng.below(time), ScriptStep::Act), at(time, ScriptStep::Exit(None))]
            }
            // It fails and did nothing, or says that it succeeded and did nothing.
            1 | 2 => {
                acts = false;
                vec![at(time, ScriptStep::Exit(Some(i32::from(kind == 1))))]
            }
            3 => {
                stuck = true;
                vec![at(rng.between(1, 60) * SECOND, ScriptStep::Unstick { acts: rng.one_in(2), exit: 0 })]
            }
            _ => {
                others = true;
                let later = time + rng.between(1, 30) * SECOND;
                vec![
                    at(time, ScriptStep::Exit(Some(0))),
                    at(later, ScriptStep::Act),
                    at(later, ScriptStep::OthersEnd),
                ]
            }
        };
        Plan { steps, others, stuck, acts }
    }

    fn plan_monitor(&mut self, host: usize, thing: &str) -> Plan {
        let time = self.rng.scripts.between(5, 200) * MILLI;
        let mut plan =
            Plan { steps: vec![(time, ScriptStep::Exit(None))], others: false, stuck: false, acts: false };
        if !self.misbehaves(host) || self.rng.scripts.one_in(2) {
            return plan;
        }
        let kind = self.rng.scripts.below(3);
        self.report.script_faults[11 + kind as usize] += 1;
        self.tell(format_args!("h{host}: a look at {thing} misbehaves: {kind}"));
        let rng = &mut self.rng.scripts;
        match kind {
            0 => plan.steps = vec![(rng.between(1, 20) * SECOND, ScriptStep::Exit(None))],
            // An error, whatever is true.
            1 => plan.steps = vec![(time, ScriptStep::Exit(Some(*rng.pick(&[1, 9, 2, 190]).unwrap_or(&1))))],
            _ => {
                plan.stuck = true;
                plan.steps =
                    vec![(rng.between(1, 60) * SECOND, ScriptStep::Unstick { acts: false, exit: 1 })];
            }
        }
        // A code that says "running" must be true, or nobody could ever know.
        if matches!(plan.steps.first(), Some((_, ScriptStep::Exit(Some(190)))))
            && !self.hosts[host].active.contains_key(thing)
        {
            plan.steps = vec![(time, ScriptStep::Exit(Some(1)))];
        }
        plan
    }

    /// A moment in the life of a script.
    pub(super) fn script_step(&mut self, host: usize, order: OrderId, step: ScriptStep) {
        let Some(cgroup) = self.hosts[host].cgroups.get_mut(&order) else { return };
        match step {
            ScriptStep::Act => {
                if cgroup.stuck || cgroup.is_empty() {
                    return;
                }
                cgroup.acts = false;
                self.act(host, order);
            }
            ScriptStep::Exit(code) => {
                if !cgroup.main || cgroup.stuck {
                    return;
                }
                let code = code.unwrap_or_else(|| self.what_it_sees(host, order));
                self.main_ends(host, order, Outcome::Exited(code));
            }
            ScriptStep::OthersEnd => {
                cgroup.others = false;
                self.look_at_cgroup(host, order);
            }
            ScriptStep::Timeout => {
                if !cgroup.main {
                    return;
                }
                cgroup.timed_out = true;
                // Its own process is killed; what is stuck stays, and so may its children.
                if cgroup.stuck {
                    cgroup.others = true;
                    cgroup.killed = true;
                } else if !cgroup.others || self.rng.scripts.one_in(2) {
                    cgroup.others = false;
                    cgroup.acts = false;
                }
                self.report.timeouts += 1;
                self.main_ends(host, order, Outcome::TimedOut);
            }
            ScriptStep::Unstick { acts, exit } => {
                cgroup.stuck = false;
                cgroup.acts = false;
                let (alive, killed) = (cgroup.main, cgroup.killed);
                if acts {
                    self.report.acted_after_kill += u64::from(killed);
                    self.act(host, order);
                }
                if killed {
                    if let Some(cgroup) = self.hosts[host].cgroups.get_mut(&order) {
                        (cgroup.main, cgroup.others) = (false, false);
                    }
                    self.look_at_cgroup(host, order);
                } else if alive {
                    self.main_ends(host, order, Outcome::Exited(exit));
                }
            }
        }
    }

    /// It does what it is for.
    fn act(&mut self, host: usize, order: OrderId) {
        let Some(cgroup) = self.hosts[host].cgroups.get(&order) else { return };
        let thing = cgroup.thing.clone();
        match cgroup.action {
            Action::Start if self.can_be_active(host, &thing) => {
                self.activate(host, &thing, Cause::Order(order))
            }
            Action::Stop if !self.is_in_use(host, &thing) => self.end_thing(host, &thing),
            _ => {}
        }
    }

    /// Something stops being active, with its processes; now and then one stays.
    pub(super) fn end_thing(&mut self, host: usize, thing: &str) {
        self.deactivate(host, thing);
        let left = self.rng.scripts.one_in(8);
        let machine = &mut self.hosts[host];
        let mut over = Vec::new();
        for (order, cgroup) in &mut machine.cgroups {
            if cgroup.action == Action::Start
                && cgroup.thing == thing
                && !cgroup.main
                && !cgroup.acts
                && !left
            {
                cgroup.others = false;
                over.push(*order);
            }
        }
        for order in over {
            self.look_at_cgroup(host, order);
        }
    }

    /// The code of a script that tells the truth.
    fn what_it_sees(&self, host: usize, order: OrderId) -> i32 {
        let Some(cgroup) = self.hosts[host].cgroups.get(&order) else { return 1 };
        let active = self.hosts[host].active.contains_key(&cgroup.thing);
        match (cgroup.action, active) {
            (Action::Start, true) | (Action::Stop, false) => 0,
            (Action::Start, false) | (Action::Stop, true) => 1,
            (_, true) => 0,
            (_, false) => 7,
        }
    }

    fn main_ends(&mut self, host: usize, order: OrderId, outcome: Outcome) {
        let now = self.now;
        let machine = &mut self.hosts[host];
        let Some(cgroup) = machine.cgroups.get_mut(&order) else { return };
        cgroup.main = false;
        // Processes of the resource are only there if it is, or still may be.
        if cgroup.action == Action::Start && !cgroup.acts && !cgroup.stuck {
            cgroup.others &= machine.active.contains_key(&cgroup.thing);
        }
        let event = Event::Exited {
            order,
            outcome,
            reason: String::new(),
            took_ms: (now - cgroup.began) / MILLI,
            left_behind: cgroup.others,
            advised_interval_ms: None,
        };
        if cgroup.life == machine.agents {
            self.tell_agent(host, event);
        }
        self.look_at_cgroup(host, order);
        self.tell_lost(host, order);
    }

    /// An agent that did not begin an operation, and watches it, learns no more than that its own process is gone.
    fn tell_lost(&mut self, host: usize, order: OrderId) {
        let agents = self.hosts[host].agents;
        let Some(cgroup) = self.hosts[host].cgroups.get(&order) else { return };
        if cgroup.life != agents && cgroup.watched && !cgroup.killed && !cgroup.main && cgroup.others {
            self.report.lost_ends += 1;
            let event = Event::Exited {
                order,
                outcome: Outcome::Lost,
                reason: String::new(),
                took_ms: 0,
                left_behind: true,
                advised_interval_ms: None,
            };
            self.tell_agent(host, event);
        }
    }

    /// Removes a cgroup that is empty, and tells who watches it.
    fn look_at_cgroup(&mut self, host: usize, order: OrderId) {
        let Some(cgroup) = self.hosts[host].cgroups.get(&order) else { return };
        if !cgroup.is_empty() {
            return;
        }
        if cgroup.watched {
            self.tell_agent(host, Event::Emptied { order });
        }
        self.hosts[host].cgroups.remove(&order);
    }

    /// SIGKILL to all of it.
    pub(super) fn kill_cgroup(&mut self, host: usize, order: OrderId) {
        let Some(cgroup) = self.hosts[host].cgroups.get_mut(&order) else {
            return self.tell_agent(host, Event::Emptied { order });
        };
        cgroup.watched = true;
        cgroup.killed = true;
        if cgroup.stuck {
            return;
        }
        let (main, others) = (cgroup.main, std::mem::replace(&mut cgroup.others, false));
        cgroup.acts = false;
        let (thing, start) = (cgroup.thing.clone(), cgroup.action == Action::Start);
        if start && others {
            // Those were the resource itself.
            self.deactivate(host, &thing);
        }
        if main {
            self.main_ends(host, order, Outcome::Signaled(9));
        } else {
            self.look_at_cgroup(host, order);
        }
    }

    pub(super) fn watch_cgroup(&mut self, host: usize, order: OrderId) {
        match self.hosts[host].cgroups.get_mut(&order) {
            Some(cgroup) => cgroup.watched = true,
            None => self.tell_agent(host, Event::Emptied { order }),
        }
        self.tell_lost(host, order);
    }

    /// A resource that is active dies by itself.
    pub(super) fn crash_thing(&mut self, host: usize, thing: &str) {
        let names: Vec<ResourceId> = self.hosts[host]
            .cgroups
            .values()
            .filter(|cgroup| cgroup.thing == thing)
            .map(|cgroup| cgroup.resource.clone())
            .collect();
        self.tell(format_args!("h{host}: {thing} dies ({names:?})"));
        self.end_thing(host, thing);
    }
}
