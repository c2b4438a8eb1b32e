//! Processes that operations left behind: killed or only watched, until none is left.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::isolation::Isolation;
use super::leaders::Leaders;
use crate::ha::agent::Event;
use crate::ha::ids::OrderId;
use crate::ha::ocf::Outcome;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_millis(50);

/// What shall happen to an operation's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: tell when they are gone, or when the operation's own process is.
    Watch,
    /// Kill them, and tell when they are gone.
    Kill,
}

/// Looks after leftovers for as long as the agent runs.
pub async fn look_after(
    isolation: Isolation,
    leaders: Leaders,
    mut wanted: UnboundedReceiver<(OrderId, Wanted)>,
    events: UnboundedSender<Event>,
) {
    let leftovers = Leftovers { isolation, leaders, events };
    let mut orders: BTreeMap<OrderId, Wanted> = BTreeMap::new();
    let mut look = tokio::time::interval(INTERVAL);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = look.tick(), if !orders.is_empty() => {
                let looked: Vec<(OrderId, Wanted)> = orders.iter().map(|(order, what)| (*order, *what)).collect();
                for (order, what) in looked {
                    if leftovers.is_over(order, what).await {
                        orders.remove(&order);
                    }
                }
            }
            next = wanted.recv() => {
                let Some((order, what)) = next else { return };
                // A wish to kill is not taken back.
                let what = if orders.get(&order) == Some(&Wanted::Kill) { Wanted::Kill } else { what };
                if leftovers.is_over(order, what).await {
                    orders.remove(&order);
                } else {
                    orders.insert(order, what);
                }
            }
        }
    }
}

struct Leftovers {
    isolation: Isolation,
    leaders: Leaders,
    events: UnboundedSender<Event>,
}

impl Leftovers {
    /// Whether there is nothing more to be done about an order: then that was told. The shell only goes away with the
    /// process.
    async fn is_over(&self, order: OrderId, what: Wanted) -> bool {
        if !self.isolation.is_populated(order).await && self.isolation.remove(order) {
            self.leaders.forget(order);
            let _ = self.events.send(Event::Emptied { order });
            return true;
        }
        match what {
            Wanted::Kill => {
                self.isolation.kill(order).await;
                false
            }
            // Looked again: it may have been the last.
            Wanted::Watch if self.leaders.is_gone(order) && self.isolation.is_populated(order).await => {
                let _ = self.events.send(Event::Exited {
                    order,
                    outcome: Outcome::Lost,
                    reason: "the agent was restarted while it ran".to_owned(),
                    took_ms: 0,
                    left_behind: true,
                    advised_interval_ms: None,
                });
                true
            }
            Wanted::Watch => false,
        }
    }
}
