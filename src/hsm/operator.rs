//! What operators order, and the facts of an earlier run that are not requests.

use super::Coordinator;
use super::effect::{Effect, Effects};
use super::views::{RequestView, Select};

/// One order of an operator. The shell never uses a number twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// What an operator wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// `lock`, as in the mover protocol.
    Lock(super::event::Lock),
    /// Cancel requests, those that wait at once and those that run through their movers. The answer is
    /// [`OperatorReply::Cancel`], once all requests that were there at the time of the order were looked at; until then
    /// [`Coordinator::orders`] shows how far it is.
    Cancel {
        /// Which requests.
        select: Select,
        /// Only count them and show some.
        preview: bool,
        /// How many to show at most.
        examples: usize,
    },
    /// A mover gets nothing new and finishes what it has, or gets work again. Survives restarts.
    Drain {
        /// The mover's id; it need not be connected.
        mover: String,
        /// Whether it is drained from now on.
        on: bool,
    },
    /// A mover runs at most so many requests at the same time, whatever it asks for. Survives restarts.
    Limit {
        /// The mover's id; it need not be connected.
        mover: String,
        /// How many; `None` for as many as it asks for, within the configuration's limits.
        most: Option<u32>,
    },
    /// A mover in quarantine gets work again at once.
    Release {
        /// The mover's id.
        mover: String,
    },
    /// Ask the MDT again for failed requests. The answer is [`OperatorReply::Letters`].
    Retry {
        /// Which of [`Coordinator::dead_letters`].
        select: Select,
    },
    /// Forget failed requests. The answer is [`OperatorReply::Letters`].
    Forget {
        /// Which of [`Coordinator::dead_letters`].
        select: Select,
    },
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorReply {
    /// It was done.
    Done,
    /// It was not, and why.
    Refused(String),
    /// What came of comparing a listing with what is here.
    Reconciled(Box<super::reconcile::Reconciled>),
    /// Of [`Order::Cancel`].
    Cancel(CancelReport),
    /// Of [`Order::Retry`] and [`Order::Forget`]: how many failed requests it was about.
    Letters(u64),
}

/// What a cancel by an operator hits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CancelReport {
    /// Nothing was done.
    pub preview: bool,
    /// Requests that were selected.
    pub selected: u64,
    /// Of those, waiting: ended at the MDT now.
    pub waiting: u64,
    /// Of those, running: a cancel goes to their movers. A mover that cannot cancel finishes them.
    pub running: u64,
    /// Of those running, how many had a cancel already.
    pub cancelling: u64,
    /// Parts of a thousand of all requests that were looked at; 1000 at the end.
    pub progress: u32,
    /// The first ones.
    pub examples: Vec<RequestView>,
}

fn answer(result: Result<(), String>) -> OperatorReply {
    result.map_or_else(OperatorReply::Refused, |()| OperatorReply::Done)
}

impl Coordinator {
    pub(super) fn operator(&mut self, ask: AskId, who: &str, order: Order, effects: &mut Effects) {
        tracing::info!(who, ?order, "order of an operator");
        let reply = match order {
            Order::Lock(lock) => {
                self.set_lock_to(lock);
                OperatorReply::Done
            }
            Order::Cancel { select, preview, examples } => {
                match self.start_sweep(ask, select, preview, examples, effects) {
                    Some(reply) => reply,
                    None => return,
                }
            }
            Order::Retry { select } | Order::Forget { select } if select.running.is_some() => {
                OperatorReply::Refused("failed requests neither wait nor run".to_owned())
            }
            Order::Retry { select } | Order::Forget { select } if select.user.is_some() => {
                OperatorReply::Refused("users of failed requests are not kept".to_owned())
            }
            Order::Retry { select } => OperatorReply::Letters(self.retry_letters(&select, effects)),
            Order::Forget { select } => OperatorReply::Letters(self.forget_letters(&select, effects)),
            Order::Drain { mover, on } => answer(self.drain(&mover, on, effects)),
            Order::Limit { mover, most } => answer(self.limit_by_order(&mover, most, effects)),
            Order::Release { mover } => answer(self.release(&mover)),
        };
        effects.visible.push(Effect::Operator { ask, reply });
    }

    /// Takes up what an earlier run noted. A note that nobody knows is of a newer version: it stays in the store.
    pub(super) fn recovered_notes(&mut self, notes: Vec<(String, String)>) {
        for (name, value) in notes {
            if self.recovered_letter(&name, &value)
                || self.recovered_drain(&name)
                || self.recovered_quarantine(&name, &value)
                || self.recovered_limit(&name, &value)
                || self.recovered_movable(&name)
                || self.recovered_removed(&name, &value)
                || self.recovered_owed(&name, &value)
                || name == super::recovery::SETTLING
            {
                continue;
            }
            tracing::warn!(name, value, "this note of an earlier run means nothing to this version");
        }
    }
}
