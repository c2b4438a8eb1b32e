//! Operations from order to end: intents, results, and processes that stay behind.

use super::event::{Effect, Intent, IntentRecord};
use super::machine::{Agent, Storing};
use crate::ha::ids::{LinkId, OrderId, ResourceId};
use crate::ha::ocf::{Monitored, Outcome};
use crate::ha::protocol::{self, Action, Finished, FromAgent, Order, Refusal, Unfinished};
use crate::time::Now;

/// Operations that may be under way at the same time.
const MAX_OPERATIONS: usize = 256;

/// An operation that is not over.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) what: protocol::Operation,
    stage: OperationStage,
    /// What its order promised, to be checked again when it is executed.
    order: Option<Order>,
    /// Who gave it.
    link: Option<LinkId>,
    /// None of its own processes is left.
    empty: bool,
}

impl Operation {
    /// A start that an earlier run of this agent began, and whose end was not seen.
    fn is_found_start(&self) -> bool {
        self.stage == OperationStage::Found && self.what.action == Action::Start
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum OperationStage {
    /// Its intent is being stored.
    Intended,
    /// Its process runs.
    Running,
    /// An earlier run of the agent began it, and its processes are still there.
    Found,
    /// Its own process ended, others of it are left.
    Lingering(Outcome),
}

/// A start whose processes belong to the resource since it succeeded, or may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StartedBy(pub(super) OrderId);

fn changes(action: Action) -> bool {
    matches!(action, Action::Start | Action::Stop)
}

impl Agent {
    /// What an earlier run left.
    pub(super) fn recover(&mut self, _now: Now, records: Vec<IntentRecord>, alive: Vec<OrderId>) {
        self.recovered = true;
        let mut intents: std::collections::BTreeMap<OrderId, Intent> = Default::default();
        let mut over: std::collections::BTreeMap<OrderId, Option<Outcome>> = Default::default();
        for record in records {
            match record {
                IntentRecord::Sealed { epoch, manager, run, cluster } => {
                    let seal = super::machine::Seal { epoch, manager, run, cluster };
                    // Of two that were stored with one epoch, the second was rejected.
                    if self.seal.as_ref().is_none_or(|present| present.epoch < seal.epoch) {
                        self.seal = Some(seal);
                    }
                }
                IntentRecord::Intent(intent) => {
                    intents.insert(intent.order, intent);
                }
                IntentRecord::Over { order, outcome } => {
                    over.insert(order, outcome);
                }
                IntentRecord::Forgotten { order } => {
                    intents.remove(&order);
                }
            }
        }
        for (order, intent) in &intents {
            // What an earlier boot began is over.
            if intent.boot != self.identity.boot {
                continue;
            }
            let resource = intent.operation.resource.id.clone();
            let lives = alive.contains(order);
            match over.get(order) {
                Some(_) if !lives => {}
                Some(Some(Outcome::Exited(0) | Outcome::Lost))
                    if intent.operation.action == Action::Start =>
                {
                    self.started.entry(resource).or_default().push(StartedBy(*order));
                }
                // What it left was to be killed, and still is.
                Some(Some(outcome)) => {
                    let operation = Operation {
                        what: intent.operation.clone(),
                        stage: OperationStage::Lingering(outcome.clone()),
                        order: None,
                        link: None,
                        empty: false,
                    };
                    self.operations.insert(*order, operation);
                    self.out.push(Effect::Kill { order: *order });
                }
                // Its end was not seen. Its code is lost, its processes are not: wait for them, kill nothing.
                Some(None) | None => {
                    let operation = Operation {
                        what: intent.operation.clone(),
                        stage: OperationStage::Found,
                        order: None,
                        link: None,
                        empty: false,
                    };
                    self.operations.insert(*order, operation);
                    self.out.push(Effect::Watch { order: *order });
                }
            }
        }
        for order in alive {
            let known = intents.contains_key(&order)
                || self.started.values().flatten().any(|started| started.0 == order);
            if !known {
                // A monitor of an earlier run: it changes nothing, so it may go.
                self.out.push(Effect::Kill { order });
            }
        }
    }

    /// A manager wants something done.
    pub(super) fn ordered(&mut self, now: Now, link: LinkId, order: Order) {
        if let Err(reason) = self.may_execute(now, link, &order) {
            return self.refuse(link, order.id, reason);
        }
        let busy = self
            .operations
            .iter()
            .filter(|(_, operation)| operation.what.resource.id == order.operation.resource.id)
            .find(|(_, operation)| changes(order.operation.action) || !operation.is_found_start())
            .map(|(id, _)| *id);
        if let Some(busy) = busy {
            return self.refuse(link, order.id, Refusal::Busy(busy));
        }
        if self.operations.len() >= MAX_OPERATIONS {
            let reason = format!("more than {MAX_OPERATIONS} operations at once");
            return self.refuse(link, order.id, Refusal::Unacceptable(reason));
        }
        let id = order.id;
        let what = order.operation.clone();
        if changes(what.action) {
            let intent = Intent { order: id, boot: self.identity.boot.clone(), operation: what.clone() };
            let operation = Operation {
                what,
                stage: OperationStage::Intended,
                order: Some(order),
                link: Some(link),
                empty: false,
            };
            self.operations.insert(id, operation);
            self.store(IntentRecord::Intent(intent), Storing::Intent(id));
        } else {
            let operation = Operation {
                what: what.clone(),
                stage: OperationStage::Running,
                order: None,
                link: Some(link),
                empty: false,
            };
            self.operations.insert(id, operation);
            self.out.push(Effect::Run { order: id, operation: what });
        }
    }

    /// Whether an order may be executed at this moment.
    fn may_execute(&self, now: Now, link: LinkId, order: &Order) -> Result<(), Refusal> {
        let Some(seal) = &self.seal else { return Err(Refusal::NotSealed) };
        if order.id.epoch < seal.epoch || (order.id.epoch == seal.epoch && order.id.run != seal.run) {
            return Err(Refusal::Sealed(seal.epoch));
        }
        if self.obeyed != Some(link) || order.id.epoch != seal.epoch {
            return Err(Refusal::NotSealed);
        }
        if order.boot != self.identity.boot || order.agent != self.identity.run {
            return Err(Refusal::OtherRun);
        }
        if order.operation.action == Action::Start {
            let fresh = self.sessions.get(&link).map(super::sessions::Session::fresh).unwrap_or_default();
            let age = self.heartbeats.sent_at(order.heartbeat).map(|sent| now.mono.since(sent));
            if age.is_none_or(|age| age > fresh) {
                let age = age.map_or(u64::MAX, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
                return Err(Refusal::StaleHeartbeat(age));
            }
        }
        Ok(())
    }

    fn refuse(&mut self, link: LinkId, order: OrderId, reason: Refusal) {
        self.send(link, FromAgent::Refused { order, reason });
    }

    /// The intent is on disk: now, and only if everything still holds, it is executed.
    pub(super) fn intent_stored(&mut self, now: Now, id: OrderId, error: Option<&str>) {
        let Some(operation) = self.operations.get(&id) else { return };
        let (Some(order), Some(link)) = (operation.order.clone(), operation.link) else { return };
        let verdict = match error {
            Some(error) => Err(Refusal::NotStored(error.to_owned())),
            None => self.may_execute(now, link, &order),
        };
        if let Err(reason) = verdict {
            self.operations.remove(&id);
            if error.is_none() {
                self.store(IntentRecord::Over { order: id, outcome: None }, Storing::Other);
                self.store(IntentRecord::Forgotten { order: id }, Storing::Other);
            }
            if self.sessions.contains_key(&link) {
                self.refuse(link, id, reason);
            }
            return;
        }
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.stage = OperationStage::Running;
            operation.order = None;
        }
        self.results.remove(&order.operation.resource.id);
        self.out.push(Effect::Run { order: id, operation: order.operation });
    }

    /// The process of an operation ended.
    pub(super) fn exited(
        &mut self,
        id: OrderId,
        outcome: Outcome,
        reason: String,
        took_ms: u64,
        left_behind: bool,
        advised_interval_ms: Option<u64>,
    ) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let what = operation.what.clone();
        let (action, resource) = (what.action, what.resource.id.clone());
        // Of a start whose end nobody saw, others are left: they may be the resource. Who looks at it will know, and if it is
        // stopped they go.
        let lost = operation.is_found_start() && outcome == Outcome::Lost;
        let started = lost || (outcome.succeeded() && action == Action::Start);
        let mut lingering = Vec::new();
        // What a successful start leaves behind is the resource itself.
        if left_behind && !started {
            lingering.push(id);
        }
        let stopped = match action {
            Action::Start => false,
            Action::Stop => outcome.succeeded(),
            Action::Probe | Action::Monitor { .. } => {
                matches!(outcome.monitored(), Monitored::Stopped | Monitored::NotInstalled)
            }
        };
        if stopped {
            // Nothing of the resource may be left: neither of this operation nor of the starts before it. A start that said
            // yes may have a child that acts only later.
            lingering.extend(self.started.remove(&resource).unwrap_or_default().iter().map(|start| start.0));
        }
        let running = !changes(action) && matches!(outcome.monitored(), Monitored::Running { .. });
        operation.empty = !left_behind;
        let unfinished = !lingering.is_empty();
        if unfinished {
            operation.stage = OperationStage::Lingering(outcome.clone());
        } else {
            self.operations.remove(&id);
        }
        if running {
            self.adopt(&resource);
        }
        for order in lingering {
            if order != id {
                let what = protocol::Operation { action: Action::Start, ..what.clone() };
                let stage = OperationStage::Lingering(Outcome::Exited(0));
                self.operations
                    .insert(order, Operation { what, stage, order: None, link: None, empty: false });
            }
            self.out.push(Effect::Kill { order });
        }
        if changes(action) {
            self.store(IntentRecord::Over { order: id, outcome: Some(outcome.clone()) }, Storing::Other);
        }
        if started && left_behind {
            self.started.entry(resource.clone()).or_default().push(StartedBy(id));
        }
        let finished = Finished {
            order: id,
            resource: resource.clone(),
            action,
            outcome,
            unfinished,
            reason,
            took_ms,
            advised_interval_ms,
        };
        if changes(action) {
            self.results.insert(resource, finished.clone());
        }
        if let Some(link) = self.obeyed {
            self.send(link, FromAgent::Finished(finished));
        }
    }

    /// It runs: what an earlier run of this agent had started is the resource, and what it left belongs to it.
    fn adopt(&mut self, resource: &ResourceId) {
        let found: Vec<OrderId> = self
            .operations
            .iter()
            .filter(|(_, operation)| operation.what.resource.id == *resource && operation.is_found_start())
            .map(|(id, _)| *id)
            .collect();
        for id in found {
            self.operations.remove(&id);
            self.store(IntentRecord::Over { order: id, outcome: Some(Outcome::Exited(0)) }, Storing::Other);
            self.started.entry(resource.clone()).or_default().push(StartedBy(id));
            self.tell_emptied(id, resource);
        }
    }

    /// The last process of an operation is gone.
    pub(super) fn emptied(&mut self, id: OrderId) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let resource = operation.what.resource.id.clone();
        let action = operation.what.action;
        operation.empty = true;
        match operation.stage.clone() {
            OperationStage::Found => {
                self.operations.remove(&id);
                self.store(IntentRecord::Over { order: id, outcome: Some(Outcome::Lost) }, Storing::Other);
                let finished = Finished {
                    order: id,
                    resource: resource.clone(),
                    action,
                    outcome: Outcome::Lost,
                    unfinished: false,
                    reason: "the agent was restarted while it ran".to_owned(),
                    took_ms: 0,
                    advised_interval_ms: None,
                };
                self.results.insert(resource.clone(), finished.clone());
                if let Some(link) = self.obeyed {
                    self.send(link, FromAgent::Finished(finished));
                }
                self.tell_emptied(id, &resource);
            }
            OperationStage::Lingering(_) => {
                if action == Action::Start {
                    self.operations.remove(&id);
                    self.tell_emptied(id, &resource);
                }
                self.release(&resource);
            }
            // Its own process has not ended yet, so this is not the end.
            OperationStage::Intended | OperationStage::Running => {}
        }
    }

    fn tell_emptied(&mut self, order: OrderId, resource: &ResourceId) {
        if let Some(result) = self.results.get_mut(resource).filter(|result| result.order == order) {
            result.unfinished = false;
        }
        if let Some(link) = self.obeyed {
            self.send(link, FromAgent::Emptied { order, resource: resource.clone() });
        }
    }

    /// Ends what has nothing left. What proves a stop also waits for what the starts before it had left.
    fn release(&mut self, resource: &ResourceId) {
        let lingering = |operation: &Operation| {
            operation.what.resource.id == *resource && matches!(operation.stage, OperationStage::Lingering(_))
        };
        let starts = self
            .operations
            .values()
            .any(|operation| lingering(operation) && operation.what.action == Action::Start);
        let over: Vec<OrderId> = self
            .operations
            .iter()
            .filter(|(_, operation)| lingering(operation) && operation.empty)
            .filter(|(_, operation)| !starts || operation.what.action == Action::Start)
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.operations.remove(&id);
            self.tell_emptied(id, resource);
        }
    }

    /// Everything that is not over, for a manager that seals.
    pub(super) fn unfinished(&self) -> Vec<Unfinished> {
        self.operations
            .iter()
            .map(|(order, operation)| Unfinished {
                order: *order,
                resource: operation.what.resource.clone(),
                action: operation.what.action,
                outcome: match &operation.stage {
                    OperationStage::Lingering(outcome) => Some(outcome.clone()),
                    _ => None,
                },
            })
            .collect()
    }

    /// Results that no manager has confirmed.
    pub(super) fn send_results(&mut self, link: LinkId) {
        let results: Vec<Finished> = self.results.values().cloned().collect();
        for finished in results {
            self.send(link, FromAgent::Finished(finished));
        }
    }

    pub(super) fn abandon(&mut self, order: OrderId) {
        let running = |operation: &Operation| operation.stage == OperationStage::Running;
        if self.operations.get(&order).is_some_and(running) {
            self.out.push(Effect::Kill { order });
        }
    }

    pub(super) fn forget(&mut self, orders: &[OrderId]) {
        for order in orders {
            let had = self.results.values().any(|result| result.order == *order);
            self.results.retain(|_, result| result.order != *order);
            // A start that succeeded stays recorded: its processes are the resource.
            let started = self.started.values().flatten().any(|started| started.0 == *order);
            if had && !started && !self.operations.contains_key(order) {
                self.store(IntentRecord::Forgotten { order: *order }, Storing::Other);
            }
        }
    }
}
