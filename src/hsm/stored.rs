//! What the store should hold, for one that lost it.

use super::Coordinator;
use super::action::ActionItem;
use super::index::NIL;
use super::requests::{ASSIGNED, Handle, STORED, State};

/// The most entries looked at in one slice.
const LOOK: u32 = 8192;

impl Coordinator {
    /// Appends some of the requests that the store should hold after all operations given out so far, with the mover each is
    /// assigned to, and returns where to go on; `None` when that was all. Begins at 0.
    ///
    /// A request that is there all the time is given once, however much changes between the calls.
    pub fn stored_slice(
        &self,
        from: u32,
        limit: usize,
        out: &mut Vec<(ActionItem, Option<String>)>,
    ) -> Option<u32> {
        let end = self.requests.slab.capacity();
        let last = end.min(from.saturating_add(LOOK));
        let full = out.len().saturating_add(limit.max(1));
        for handle in from..last {
            if out.len() >= full {
                return Some(handle);
            }
            self.push_stored(handle, out);
        }
        (last < end).then_some(last)
    }

    fn push_stored(&self, handle: Handle, out: &mut Vec<(ActionItem, Option<String>)>) {
        let request = self.requests.at(handle);
        if request.state == State::Free || !request.has(STORED) {
            return;
        }
        let mover = match request.owner {
            _ if !request.has(ASSIGNED) => None,
            NIL => self.mover_of_bound(handle),
            owner => Some(self.movers.at(owner).id.to_string()),
        };
        out.push((self.item(handle, true), mover));
    }
}
