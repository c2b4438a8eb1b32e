//! Processes that operations left behind: killed or only watched, until none is left.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::isolation::Isolation;
use crate::ha::agent::Event;
use crate::ha::ids::OrderId;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_millis(50);

/// What shall happen to an operation's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: tell when they are gone.
    Watch,
    /// Kill them, and tell when they are gone.
    Kill,
}

/// Looks after leftovers for as long as the agent runs.
pub async fn look_after(
    isolation: Isolation,
    mut wanted: UnboundedReceiver<(OrderId, Wanted)>,
    inputs: UnboundedSender<Event>,
) {
    let mut orders: BTreeMap<OrderId, Wanted> = BTreeMap::new();
    loop {
        let next = if orders.is_empty() {
            wanted.recv().await
        } else {
            match tokio::time::timeout(INTERVAL, wanted.recv()).await {
                Ok(next) => next,
                Err(_) => {
                    orders.retain(|order, what| !is_over(&isolation, *order, *what, &inputs));
                    continue;
                }
            }
        };
        let Some((order, what)) = next else { return };
        // A wish to kill is not taken back.
        let what = if orders.get(&order) == Some(&Wanted::Kill) { Wanted::Kill } else { what };
        if !is_over(&isolation, order, what, &inputs) {
            orders.insert(order, what);
        }
    }
}

fn is_over(isolation: &Isolation, order: OrderId, what: Wanted, inputs: &UnboundedSender<Event>) -> bool {
    if isolation.is_populated(order) {
        if what == Wanted::Kill {
            isolation.kill(order);
        }
        return false;
    }
    isolation.remove(order);
    // The shell only goes away with the process.
    let _ = inputs.send(Event::Emptied { order });
    true
}
