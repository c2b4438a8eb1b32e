//! A host and its agent, played by hand.

use std::collections::{BTreeMap, BTreeSet};

use crate::ha::ids::{AgentRun, Epoch, HostId, LinkId, ManagerId, ManagerRun, OrderId, ResourceId};
use crate::ha::ocf::Outcome;
use crate::ha::protocol::{
    Action, Finished, FromAgent, Isolation, Order, Refusal, Rejected, ToAgent, Unfinished, Welcome,
};

/// What a host does.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) alive: bool,
    /// Nothing answers at all, but what runs goes on.
    pub(super) silent: bool,
    /// Connections are accepted, but nobody ever says anything.
    pub(super) mute: bool,
    /// Its kernel answers, but no agent listens.
    pub(super) refuses: bool,
    pub(super) boot: u64,
    /// Which run of its agent.
    pub(super) run: u64,
    /// The manager that it talks to, and the highest takeover it was asked for.
    asked_by: Option<(ManagerId, ManagerRun)>,
    pub(super) sealed: Epoch,
    pub(super) sealed_by: Option<ManagerRun>,
    pub(super) obeys: Option<ManagerId>,
    pub(super) active: BTreeSet<ResourceId>,
    pub(super) watchdog_ms: Option<u64>,
    /// The lease that it was told of last.
    pub(super) lease_ms: Option<u64>,
    /// Outcomes in place of the usual ones, by action and resource.
    pub(super) codes: BTreeMap<(&'static str, ResourceId), i32>,
    /// Its agent cannot store intents.
    pub(super) full: bool,
    /// What a monitor says of these until they are stopped.
    pub(super) sick: BTreeMap<ResourceId, i32>,
    /// Orders on these are not answered.
    pub(super) hung: BTreeSet<(&'static str, ResourceId)>,
    pub(super) unfinished: Vec<Unfinished>,
    /// Orders that were given, by number of the order.
    pub(super) orders: Vec<Order>,
    pub(super) link: Option<LinkId>,
    pub(super) heartbeat: u64,
}

impl Played {
    pub(super) fn new() -> Self {
        Self {
            alive: true,
            silent: false,
            refuses: false,
            mute: false,
            boot: 1,
            run: 1,
            asked_by: None,
            sealed: Epoch(0),
            sealed_by: None,
            obeys: None,
            active: BTreeSet::new(),
            watchdog_ms: None,
            lease_ms: None,
            codes: BTreeMap::new(),
            full: false,
            sick: BTreeMap::new(),
            hung: BTreeSet::new(),
            unfinished: Vec::new(),
            orders: Vec::new(),
            link: None,
            heartbeat: 0,
        }
    }

    pub(super) fn receive(&mut self, id: &HostId, message: ToAgent, log: &mut Vec<String>) -> Vec<FromAgent> {
        match message {
            ToAgent::Hello(hello) => {
                let welcome = Welcome {
                    version: 1,
                    program: "played".to_owned(),
                    host: id.clone(),
                    boot: format!("boot {}", self.boot).into(),
                    agent: AgentRun(self.boot * 1000 + self.run),
                    sealed: self.sealed,
                    obeys: self.obeys,
                    sealed_by: self.sealed_by,
                    system_uuid: None,
                    isolation: Isolation::Cgroup,
                    watchdog_ms: self.watchdog_ms,
                };
                self.asked_by = Some((hello.manager, hello.run));
                self.lease_ms = hello.lease_ms;
                vec![FromAgent::Welcome(welcome)]
            }
            ToAgent::Seal(seal) => {
                let (manager, run) = self.asked_by.expect("Hello comes first");
                if let Some(obeys) = self.obeys.filter(|obeys| *obeys != manager && !seal.takeover) {
                    return vec![FromAgent::Rejected(Rejected::Manager { obeys })];
                }
                if seal.epoch < self.sealed || (seal.epoch == self.sealed && self.sealed_by != Some(run)) {
                    return vec![FromAgent::Rejected(Rejected::Epoch { sealed: self.sealed })];
                }
                (self.obeys, self.sealed_by, self.sealed) = (Some(manager), Some(run), seal.epoch);
                vec![FromAgent::Sealed { epoch: seal.epoch, unfinished: self.unfinished.clone() }]
            }
            ToAgent::Order(order) => self.execute(id, order, log).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn execute(&mut self, id: &HostId, order: Order, log: &mut Vec<String>) -> Option<FromAgent> {
        let operation = &order.operation;
        let resource = operation.resource.id.clone();
        let action = match operation.action {
            Action::Start => "start",
            Action::Stop => "stop",
            Action::Probe | Action::Monitor { .. } => "monitor",
        };
        if action != "monitor" && self.full {
            let reason = Refusal::NotStored("no space left on device".to_owned());
            return Some(FromAgent::Refused { order: order.id, reason });
        }
        if action != "monitor" {
            log.push(format!("{action} {resource} {id}"));
        }
        self.orders.push(order.clone());
        let Order { id: number, operation, .. } = order;
        let resource = operation.resource.id.clone();
        if self.hung.contains(&(action, resource.clone())) {
            let (order, action, resource) = (number, operation.action, operation.resource);
            self.unfinished.push(Unfinished { order, resource, action, outcome: None });
            return None;
        }
        let forced = self.codes.get(&(action, resource.clone())).copied();
        let code = forced.unwrap_or_else(|| match operation.action {
            Action::Start => {
                self.active.insert(resource.clone());
                0
            }
            Action::Stop => {
                self.active.remove(&resource);
                self.sick.remove(&resource);
                0
            }
            Action::Probe | Action::Monitor { .. } if self.sick.contains_key(&resource) => {
                self.sick[&resource]
            }
            _ if self.active.contains(&resource) => 0,
            _ => 7,
        });
        Some(finished(number, resource, operation.action, code))
    }
}

pub(super) fn finished(order: OrderId, resource: ResourceId, action: Action, code: i32) -> FromAgent {
    FromAgent::Finished(Finished {
        order,
        resource,
        action,
        outcome: Outcome::Exited(code),
        unfinished: false,
        reason: String::new(),
        took_ms: 1,
        advised_interval_ms: None,
    })
}
