//! All requests, part by part, for whoever wants to see them.
//!
//! A request keeps its place in the slab from admission to its end, so a walk over the places shows each request at most
//! once, and every one that is there all the time. Nothing is kept here between two parts.

use super::Coordinator;
use super::requests::{Handle, State};
use super::views::{RequestView, Select};

/// Where a walk over all requests stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListCursor(Handle);

/// A part of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPart {
    /// What was found, in no order.
    pub requests: Vec<RequestView>,
    /// Where to go on; `None` at the end.
    pub next: Option<ListCursor>,
}

/// Places looked at for one part.
const LOOK: u32 = 8192;

impl Coordinator {
    /// The next part of all requests that are selected: at most `most` of them.
    pub fn list_requests(&self, from: ListCursor, select: &Select, most: usize) -> ListPart {
        let end = self.requests.slab.capacity();
        let stop = end.min(from.0.saturating_add(LOOK));
        let mut requests = Vec::new();
        let mut at = from.0;
        while at < stop && requests.len() < most {
            if self.requests.at(at).state != State::Free && self.selected(at, select) {
                requests.push(self.request_view(at));
            }
            at += 1;
        }
        ListPart { requests, next: (at < end).then_some(ListCursor(at)) }
    }
}
