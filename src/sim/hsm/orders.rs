//! Orders of operators beyond locking: drains, cancels, retries; and a mover whose work fails, so that they have reasons.
//!
//! All of it has random streams of its own, so that runs without orders are what they were.

use std::time::Duration;

use super::scenario::{SECOND, Scenario};
use super::world::{Task, World};
use crate::hsm::config::{Limit, QuarantineConfig, Rate};
use crate::hsm::views::Select;
use crate::hsm::{Action, OperatorReply, Order};
use crate::sim::rng::Rng;

/// What is drawn for the operators of a run.
#[derive(Debug, Clone, Default)]
pub struct OrderPlan {
    /// Mean time between two orders, in nanoseconds; 0 for none.
    pub every: u64,
    /// The mover whose copies fail every third time.
    pub sick: Option<usize>,
}

/// Draws the operators' part of a run, and what the configuration says of failures and limits.
pub(super) fn draw(seed: u64, scenario: &mut Scenario) {
    let mut rng = Rng::stream(seed, "orders");
    if rng.one_in(2) {
        return;
    }
    scenario.orders.every = rng.between(1, 20) * SECOND;
    // The first mover serves everything, so that everything can end.
    let movers = scenario.movers.len() as u64;
    if movers > 1 {
        scenario.orders.sick = Some(rng.between(1, movers - 1) as usize);
    }
    let config = &mut scenario.config;
    config.retry_limit = rng.below(3) as u32;
    config.retry_backoff = Duration::from_secs(rng.between(1, 30));
    config.dead_letters = *rng.pick(&[2, 1000]).unwrap_or(&1000);
    if rng.one_in(2) {
        config.quarantine = QuarantineConfig {
            errors: rng.between(1, 3) as u32,
            window: Duration::from_secs(rng.between(10, 100)),
            time: Duration::from_secs(rng.between(5, 50)),
        };
    }
    if rng.one_in(2) {
        let max = Limit { max: Some(rng.between(1, 3) as u32), ..Limit::default() };
        let rate = Rate { count: rng.between(1, 5) as u32, per: Duration::from_secs(2) };
        config.limits.movers = vec![("*".to_owned(), max)];
        config.limits.hints = vec![
            ("t=".to_owned(), Some("a".to_owned()), Limit { max: Some(1), ..Limit::default() }),
            ("t=".to_owned(), None, Limit { rate: Some(rate), ..Limit::default() }),
        ];
    }
}

impl World {
    /// Whether this copy fails for its mover's sake.
    pub(super) fn copy_fails(&mut self, mover: usize) -> bool {
        let fails = !self.calm && self.scenario.orders.sick == Some(mover) && self.order_rng.one_in(3);
        self.report.sick += u64::from(fails);
        fails
    }

    /// An operator gives an order; the next one comes later.
    pub(super) fn run_orders(&mut self) -> Result<(), String> {
        if self.calm {
            return self.undo_orders();
        }
        let delay = 1 + self.order_rng.below(2 * self.scenario.orders.every);
        self.after(delay, Task::Orders);
        let movers = self.movers.len() as u64;
        let mover = format!("mover{}", self.order_rng.below(movers));
        let select = match self.order_rng.below(5) {
            0 => Select { mover: Some(mover.clone()), ..Select::default() },
            1 => Select { action: Some(Action::Archive), running: Some(true), ..Select::default() },
            2 => Select { hint: Some("t=".to_owned()), running: Some(false), ..Select::default() },
            _ => {
                let fids = self.users.iter().filter_map(|user| user.fid).collect::<Vec<_>>();
                let fid = self.order_rng.pick(&fids).copied();
                match fid {
                    Some(fid) => Select { fids: vec![fid], ..Select::default() },
                    None => return Ok(()),
                }
            }
        };
        let failed = Select { running: None, ..select.clone() };
        let order = match self.order_rng.below(10) {
            0..=2 => Order::Drain { mover, on: true },
            3..=4 => Order::Drain { mover, on: false },
            5 => Order::Release { mover },
            6 => Order::Retry { select: failed },
            7 => Order::Forget { select: failed },
            8 => Order::Cancel { select, preview: true, examples: 3 },
            // All of them are to be named.
            _ => Order::Cancel { select, preview: false, examples: 1000 },
        };
        self.order(order)
    }

    fn order(&mut self, order: Order) -> Result<(), String> {
        let clock = self.clock();
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        self.report.orders += 1;
        daemon.order(clock, order.clone())?;
        self.note(format_args!("operator: {order:?}"));
        Ok(())
    }

    /// What came of an order.
    pub(super) fn order_answered(&mut self, reply: &OperatorReply) {
        match reply {
            OperatorReply::Cancel(report) if !report.preview => {
                self.report.cancelled_by_operator += report.selected;
                self.given_up.extend(report.examples.iter().map(|request| request.key));
            }
            OperatorReply::Reconciled(report) => self.report.adopted += report.adopted,
            OperatorReply::Letters(count) => self.report.letters += count,
            _ => {}
        }
        self.note(format_args!("operator: {reply:?}"));
    }

    /// Nobody is drained any more.
    pub(super) fn undo_orders(&mut self) -> Result<(), String> {
        let drained = self.daemon.as_ref().map(|daemon| daemon.core.drained()).unwrap_or_default();
        for mover in drained {
            self.order(Order::Drain { mover, on: false })?;
        }
        Ok(())
    }
}
