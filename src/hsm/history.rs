//! Requests that have ended.

use super::Coordinator;
use super::views::{Ended, HistoryQuery};

impl Coordinator {
    /// Requests that ended, the last first.
    pub fn history(&self, _query: &HistoryQuery) -> Vec<Ended> {
        Vec::new()
    }
}
