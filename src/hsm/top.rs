//! What is going on, from counters.

use super::action::Action;
use super::mover_views::{DeadLetter, Flow, MoverView, Top};
use super::operator::{AskId, CancelReport};
use super::{Coordinator, Now};

impl Coordinator {
    /// What is going on, with at most so many tags.
    pub fn top(&self, _now: Now, _tags: usize) -> Top {
        Top::default()
    }

    /// All movers and peers, connected ones first.
    pub fn movers_view(&self) -> Vec<MoverView> {
        Vec::new()
    }

    /// Requests that failed and may be asked for again, the oldest failure first.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        Vec::new()
    }

    /// Orders that are being carried out, and how far they are.
    pub fn orders(&self) -> Vec<(AskId, CancelReport)> {
        Vec::new()
    }

    /// What went through, by action and archive id.
    pub fn flows(&self) -> Vec<(Action, u32, Flow)> {
        Vec::new()
    }

    /// Requests that failed on movers, by errno.
    pub fn errors(&self) -> Vec<(i32, u64)> {
        Vec::new()
    }
}
