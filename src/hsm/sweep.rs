//! Cancels by operators: a walk over all requests, in slices.

use super::Coordinator;
use super::action::{Action, ActionItem};
use super::cancel::Cancel;
use super::effect::{Effect, Effects};
use super::operator::{AskId, CancelReport, OperatorReply};
use super::requests::{CANCELLING, Handle, State};
use super::views::Select;

/// How many cancels may go on at the same time, and examples that one may show.
const MOST_SWEEPS: usize = 16;
const MOST_EXAMPLES: usize = 1000;

/// Requests looked at count for that many of a slice's steps that change something.
const LOOKS: usize = 8;

/// A cancel that goes on.
#[derive(Debug)]
pub(super) struct Sweep {
    select: Select,
    examples: usize,
    /// What came later is not meant.
    up_to: i64,
    at: Handle,
    end: Handle,
    report: CancelReport,
}

impl Coordinator {
    /// Begins a cancel. The answer follows, at once or later.
    pub(super) fn start_sweep(
        &mut self,
        ask: AskId,
        select: Select,
        preview: bool,
        examples: usize,
        effects: &mut Effects,
    ) -> Option<OperatorReply> {
        if let Some(problem) = select.problem() {
            return Some(OperatorReply::Refused(problem.to_owned()));
        }
        if select.user.is_some() && !self.knows_users() {
            return Some(OperatorReply::Refused(
                "whose files requests are about is not known here".to_owned(),
            ));
        }
        if self.sweeps.len() >= MOST_SWEEPS {
            let text = format!("{MOST_SWEEPS} cancels are going on already: wait for one to end");
            return Some(OperatorReply::Refused(text));
        }
        let mut sweep = Sweep {
            examples: examples.min(MOST_EXAMPLES),
            up_to: self.last_timestamp(),
            at: 0,
            end: self.requests.slab.capacity(),
            report: CancelReport { preview, ..CancelReport::default() },
            select,
        };
        if sweep.select.fids.is_empty() {
            self.sweeps.insert(ask, sweep);
            self.slice_later();
            return None;
        }
        // Files are found without a walk.
        let mut fids = sweep.select.fids.clone();
        fids.sort_unstable();
        fids.dedup();
        for fid in fids {
            for handle in self.requests.of_file(fid, usize::MAX) {
                self.sweep_one(handle, &mut sweep, effects);
            }
        }
        sweep.report.progress = 1000;
        Some(OperatorReply::Cancel(sweep.report))
    }

    /// Goes on with the cancels of operators.
    pub(super) fn sweep_slice(&mut self, left: &mut usize, effects: &mut Effects) {
        while *left > 0 {
            let Some((ask, mut sweep)) = self.sweeps.pop_first() else {
                return;
            };
            while *left > 0 && sweep.at < sweep.end {
                let end = sweep.end.min(sweep.at.saturating_add(LOOKS as u32));
                *left -= 1;
                while sweep.at < end {
                    if self.requests.at(sweep.at).state != State::Free {
                        self.sweep_one(sweep.at, &mut sweep, effects);
                    }
                    sweep.at += 1;
                }
            }
            if sweep.at < sweep.end {
                sweep.report.progress = (u64::from(sweep.at) * 1000 / u64::from(sweep.end)) as u32;
                self.sweeps.insert(ask, sweep);
                continue;
            }
            sweep.report.progress = 1000;
            let report = &sweep.report;
            tracing::info!(
                selected = report.selected,
                waiting = report.waiting,
                running = report.running,
                preview = report.preview,
                "an operator's cancel is through"
            );
            effects.visible.push(Effect::Operator { ask, reply: OperatorReply::Cancel(sweep.report) });
        }
    }

    fn sweep_one(&mut self, handle: Handle, sweep: &mut Sweep, effects: &mut Effects) {
        let request = self.requests.at(handle);
        if request.timestamp > sweep.up_to || !self.selected(handle, &sweep.select) {
            return;
        }
        let running = request.state == State::Running;
        let report = &mut sweep.report;
        report.selected += 1;
        if report.examples.len() < sweep.examples {
            report.examples.push(self.request_view(handle));
        }
        if running {
            report.running += 1;
            report.cancelling += u64::from(self.cancels.contains_key(&handle));
        } else {
            report.waiting += 1;
        }
        if report.preview {
            return;
        }
        if running {
            self.cancel_running(handle);
        } else {
            self.cancel_waiting(handle, effects);
        }
    }

    /// An operator cancels what a mover runs: nobody else gets it, and the mover is told.
    fn cancel_running(&mut self, handle: Handle) {
        if self.cancels.contains_key(&handle) {
            return;
        }
        let timestamp = self.next_timestamp();
        let item = ActionItem {
            action: Action::Cancel,
            data: Box::default(),
            extra: Box::default(),
            timestamp,
            ..self.item(handle, true)
        };
        let owner = self.requests.at(handle).owner;
        tracing::info!(key = %item.key(), mover = %self.movers.at(owner).id, "an operator's cancel goes to the mover");
        self.requests.at_mut(handle).set(CANCELLING, true);
        self.cancels.insert(handle, Cancel { item, sent: false, by_operator: true });
        self.counts.pending_cancel += 1;
        self.movers.at_mut(owner).cancels.push_back(handle);
        self.fresh_movers.insert(owner);
    }

    /// An operator cancels what waits: the MDT is told at once.
    fn cancel_waiting(&mut self, handle: Handle, effects: &mut Effects) {
        let item = self.item(handle, true);
        tracing::info!(key = %item.key(), "an operator cancelled it while it waited");
        self.report_cancel(handle, effects);
        self.end_waiting(handle, item, true, effects);
    }

    /// Cancels that are going on, and how far they are.
    pub fn orders(&self) -> Vec<(AskId, CancelReport)> {
        self.sweeps.iter().map(|(&ask, sweep)| (ask, sweep.report.clone())).collect()
    }
}
