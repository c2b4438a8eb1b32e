//! The agent on a server, as a pure machine: seals, orders, intents, heartbeats.

pub mod event;

pub use event::{Effect, Effects, Event, Identity, Intent, IntentRecord};

use crate::time::{Mono, Now};

/// Decides which orders are obeyed, and remembers what is unfinished.
#[derive(Debug)]
pub struct Agent {}

impl Agent {
    /// A new run of the agent on a host. The first event must be [`Event::Recovered`].
    pub fn new(identity: Identity) -> Self {
        let _ = identity;
        Self {}
    }

    /// Takes one event and adds what must be done to `effects`.
    pub fn handle(&mut self, now: Now, event: Event, effects: &mut Effects) {
        let _ = (now, event, effects);
    }

    /// When [`Event::Tick`] must come at the latest.
    pub fn next_deadline(&self) -> Mono {
        Mono::MAX
    }
}
