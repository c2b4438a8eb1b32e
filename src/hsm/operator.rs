//! What operators order, and the facts of an earlier run that are not requests.

use super::Coordinator;
use super::effect::{Effect, Effects};

/// One order of an operator. The shell never uses a number twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// What an operator wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// `lock`, as in the mover protocol.
    Lock(super::event::Lock),
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorReply {
    /// It was done.
    Done,
    /// It was not, and why.
    Refused(String),
}

impl Coordinator {
    pub(super) fn operator(&mut self, ask: AskId, who: &str, order: Order, effects: &mut Effects) {
        tracing::info!(who, ?order, "order of an operator");
        let reply = match order {
            Order::Lock(lock) => {
                self.set_lock_to(lock);
                OperatorReply::Done
            }
        };
        effects.visible.push(Effect::Operator { ask, reply });
    }

    /// Takes up what an earlier run noted. A note that nobody knows is of a newer version: it stays in the store.
    pub(super) fn recovered_notes(&mut self, notes: Vec<(String, String)>) {
        for (name, value) in notes {
            tracing::warn!(name, value, "this note of an earlier run means nothing to this version");
        }
    }
}
