//! What is going on, from counters.

use super::mover_views::{MoverView, Top};
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
}
