//! The engine itself: what it keeps, and how events find their way.

use std::collections::{BTreeMap, BTreeSet};

use super::commands::Covered;
use super::devices::DeviceCheck;
use super::event::{Effect, Effects, Event, LostState, Start};
use super::fences::{Need, PowerRun};
use super::goals::Goal;
use super::groups::GroupEntry;
use super::hosts::HostEntry;
use super::knowledge::{Subject, SubjectId};
use super::orders::Given;
use super::timers::{Timer, Timers};
use super::wishes::Wishes;
use crate::ha::config::Config;
use crate::ha::fencing::DeviceAnswer;
use crate::ha::ids::{
    CallId, CommandId, Epoch, GroupId, HostId, Identity, LinkId, ManagerId, ManagerRun, OrderId, ResourceId,
};
use crate::ha::state::{Event as HistoryEvent, Record, State};
use crate::time::{Mono, Now};

/// Decides what is started, stopped, moved and fenced.
#[derive(Debug)]
pub struct Engine {
    pub(super) config: Config,
    pub(super) manage: bool,
    pub(super) manage_by_default: bool,
    pub(super) state: State,
    pub(super) lost: LostState,
    pub(super) manager: ManagerId,
    pub(super) run: ManagerRun,
    /// Another manager reigns: with this epoch.
    pub(super) superseded: Option<Epoch>,
    /// Hosts whose agents obey others until they are sealed once more: an operator confirmed that this manager replaces
    /// these. Once only, lest two managers take over from each other for ever.
    pub(super) takeover: BTreeSet<HostId>,
    pub(super) begun: Mono,
    /// When this run began, for people.
    pub(super) begun_at: i64,
    pub(super) hosts: BTreeMap<HostId, HostEntry>,
    pub(super) links: BTreeMap<LinkId, HostId>,
    pub(super) subjects: BTreeMap<SubjectId, Subject>,
    pub(super) current: BTreeMap<ResourceId, SubjectId>,
    pub(super) by_name: BTreeMap<ResourceId, BTreeSet<SubjectId>>,
    pub(super) by_identity: BTreeMap<Identity, BTreeSet<SubjectId>>,
    pub(super) groups: BTreeMap<GroupId, GroupEntry>,
    pub(super) groups_of: BTreeMap<HostId, BTreeSet<GroupId>>,
    pub(super) orders: BTreeMap<OrderId, Given>,
    /// Every operation that some resource on a host counts as unfinished, so that it need not be looked for among all of
    /// them each time that an order is done. May name some that no resource counts any more.
    pub(super) unfinished: BTreeMap<HostId, BTreeSet<OrderId>>,
    pub(super) power: BTreeMap<HostId, PowerRun>,
    pub(super) calls: BTreeMap<CallId, Caller>,
    /// Which fence agents have something to undo when a host joins.
    pub(super) unfencing_needs: BTreeMap<String, Need>,
    /// Fenced hosts that are powered on again when nothing needs them to be off.
    pub(super) to_power_on: BTreeSet<HostId>,
    pub(super) checks: BTreeMap<HostId, DeviceCheck>,
    pub(super) goals: BTreeMap<CommandId, Goal>,
    /// Moves that an earlier run of the manager began.
    pub(super) wishes: Wishes,
    /// When so many hosts were gone last that nothing was fenced.
    pub(super) cut_off_at: Option<Mono>,
    /// When a resource that failed on a host may be tried there again.
    pub(super) retries: BTreeMap<(ResourceId, HostId), Mono>,
    /// When each maintenance ends: as stored (wall clock), and by the clock that nobody sets.
    pub(super) maintenance_ends: BTreeMap<Covered, (i64, Mono)>,
    pub(super) timers: Timers,
    pub(super) touched: BTreeSet<GroupId>,
    /// What goes out with this call. Its records are applied to the state already.
    pub(super) out: Effects,
    pub(super) next_link: u64,
    pub(super) next_order: u64,
    pub(super) next_call: u64,
    pub(super) next_subject: u32,
    pub(super) next_power: u64,
}

/// Who waits for a fence agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// The change of a host's power, and which one.
    Power(HostId, u64),
    /// A check whether the device works: level and device.
    Check(HostId, usize, usize),
    /// Which machine is behind it: level and device.
    Identify(HostId, usize, usize),
}

impl Engine {
    /// Begins a reign. The effects hold the record of its epoch and the first connections.
    pub fn new(now: Now, start: Start, effects: &mut Effects) -> Self {
        let manager = start.state.manager.unwrap_or(start.new_manager);
        let epoch = Epoch(start.state.epoch.0.saturating_add(1));
        let mut engine = Self {
            manage: start.config.settings.manage.unwrap_or(start.manage),
            manage_by_default: start.manage,
            config: start.config,
            state: start.state,
            lost: start.lost,
            manager,
            run: start.run,
            superseded: None,
            takeover: BTreeSet::new(),
            begun: now.mono,
            begun_at: now.wall.0,
            hosts: BTreeMap::new(),
            links: BTreeMap::new(),
            subjects: BTreeMap::new(),
            current: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_identity: BTreeMap::new(),
            groups: BTreeMap::new(),
            groups_of: BTreeMap::new(),
            orders: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            power: BTreeMap::new(),
            calls: BTreeMap::new(),
            unfencing_needs: BTreeMap::new(),
            to_power_on: BTreeSet::new(),
            checks: BTreeMap::new(),
            goals: BTreeMap::new(),
            wishes: BTreeMap::new(),
            cut_off_at: None,
            retries: BTreeMap::new(),
            maintenance_ends: BTreeMap::new(),
            timers: Timers::default(),
            touched: BTreeSet::new(),
            out: Effects::default(),
            next_link: 1,
            next_order: 1,
            next_call: 1,
            next_subject: 1,
            next_power: 0,
        };
        engine.reign(epoch);
        let mode = if engine.manage { "manages" } else { "observes" };
        engine.note(
            now,
            "manager_started",
            "cluster",
            None,
            "manager",
            Some(format!("epoch {epoch}, {mode}")),
        );
        engine.take_groups(now);
        engine.take_configuration(now);
        engine.recover_intents(now);
        engine.end_interrupted_commands(now);
        engine.take_up_wishes();
        engine.schedule_maintenance(now);
        engine.settle(now);
        engine.hand_out(effects);
        engine
    }

    /// Takes one event and adds records and effects. A shell gives all messages that have arrived before it gives
    /// [`Event::Tick`].
    pub fn handle(&mut self, now: Now, event: Event, effects: &mut Effects) {
        let paused = self.notice_pause(now);
        // Nobody is silent whose messages wait to be read: what they say comes before what time says.
        let time = paused || event == Event::Tick;
        match event {
            Event::Connected { link } => self.connected(now, link),
            Event::ConnectFailed { link, error } => self.connect_failed(now, link, &error),
            Event::Disconnected { link, error } => self.disconnected(now, link, &error),
            Event::Received { link, message } => self.received(now, link, message),
            Event::Fenced { call, answer } => self.device_answered(now, call, answer),
            Event::Request(request) => self.requested(now, request),
            Event::Tick => {}
        }
        while time && let Some(timer) = self.timers.due(now.mono) {
            self.timer_fired(now, timer);
        }
        self.settle(now);
        self.hand_out(effects);
    }

    /// When [`Event::Tick`] must come at the latest.
    pub fn next_deadline(&self) -> Mono {
        self.timers.next()
    }

    /// What is stored: with all records of the effects that were handed out.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn timer_fired(&mut self, now: Now, timer: Timer) {
        match timer {
            Timer::Dial(host) => self.dial(now, &host),
            Timer::Host(host) => {
                self.believe_silence(now, &host, false);
                self.judge_host(now, &host);
                self.unfence_if_needed(now, &host);
                self.touch_groups_of(&host);
            }
            Timer::Monitor(subject, host) => self.monitor_due(now, subject, &host),
            Timer::Group(group) => {
                self.touched.insert(group);
            }
            Timer::Power(host) => self.drive_power(now, &host, None),
            Timer::Devices(host) => self.check_devices(now, &host),
            Timer::Maintenance => self.end_maintenance(now),
        }
    }

    fn device_answered(&mut self, now: Now, call: CallId, answer: DeviceAnswer) {
        match self.calls.remove(&call) {
            Some(Caller::Power(host, number)) => self.power_answered(now, &host, number, answer),
            Some(Caller::Check(host, level, device)) => {
                self.device_checked(now, &host, level, device, &answer)
            }
            Some(Caller::Identify(host, level, device)) => {
                self.machine_identified(now, &host, level, device, &answer)
            }
            None => {}
        }
    }

    /// Looks at every group that something happened to, until nothing more follows from it.
    fn settle(&mut self, now: Now) {
        // A group that is looked at may touch others (a host of theirs is fenced for it), hardly ever itself again.
        for _ in 0..8 {
            let touched = std::mem::take(&mut self.touched);
            if touched.is_empty() {
                break;
            }
            for group in touched {
                self.reconcile(now, &group);
            }
        }
        self.power_on_fenced(now);
        self.follow_goals(now);
        self.follow_wishes(now);
    }

    fn hand_out(&mut self, effects: &mut Effects) {
        effects.records.append(&mut self.out.records);
        effects.effects.append(&mut self.out.effects);
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.out.effects.push(effect);
    }

    /// Changes the durable state.
    pub(super) fn record(&mut self, record: Record) {
        self.state.apply(&record);
        self.out.records.push(record);
    }

    /// Adds to the history.
    pub(super) fn note(
        &mut self,
        now: Now,
        event: &str,
        object: &str,
        host: Option<&HostId>,
        by: &str,
        comment: Option<String>,
    ) {
        self.record(Record::Event(HistoryEvent {
            at: now.wall.0,
            event: event.to_owned(),
            object: object.to_owned(),
            host: host.cloned(),
            by: by.to_owned(),
            comment,
        }));
    }

    pub(super) fn touch_groups_of(&mut self, host: &HostId) {
        if let Some(groups) = self.groups_of.get(host) {
            self.touched.extend(groups.iter().cloned());
        }
    }

    /// Groups with a host that is out of reach: how it goes with one such host may decide what is done about the others.
    pub(super) fn touch_groups_of_the_lost(&mut self) {
        let lost = self.hosts.iter().filter(|(_, host)| !host.is_up());
        let groups = lost.filter_map(|(id, _)| self.groups_of.get(id)).flatten();
        self.touched.extend(groups.cloned());
    }

    pub(super) fn touch_all(&mut self) {
        self.touched.extend(self.groups.keys().cloned());
    }

    /// Whether anything may be started, stopped or fenced without being told to.
    pub(super) fn acts(&self) -> bool {
        self.manage && self.superseded.is_none()
    }
}
