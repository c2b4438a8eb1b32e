//! The coordinator: which request goes to which mover, and when.
//!
//! [`Coordinator`] is a pure state machine. The shell hands it [`Event`]s with the time and carries out the
//! [`Effect`]s it answers with; the simulator does the same with a virtual clock. Nothing here reads a socket, a file or a
//! clock.

pub mod action;
pub mod config;
pub mod effect;
pub mod event;
pub mod time;

pub use action::{Action, ActionItem, RequestKey};
pub use config::HsmConfig;
pub use effect::{Effect, Effects};
pub use event::{ConnId, Event};
pub use time::{Mono, Now, Wall};

/// A running answer to `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusCursor(pub u64);

/// The state machine.
#[derive(Debug)]
pub struct Coordinator {}

impl Coordinator {
    /// A coordinator that knows nothing yet. `seed` feeds its only randomness, the choice among equal hosts.
    pub fn new(config: HsmConfig, seed: u64, now: Now) -> Self {
        let _ = (config, seed, now);
        todo!()
    }

    /// Takes one event and appends to `effects` what follows from it.
    pub fn handle(&mut self, now: Now, event: Event, effects: &mut Effects) {
        let _ = (now, event, effects);
        todo!()
    }

    /// When [`Event::Tick`] is wanted at the latest; `None` when nothing is pending.
    pub fn next_deadline(&self) -> Option<Mono> {
        todo!()
    }

    /// Appends the next part of a running answer to `status`, about `limit` bytes of it. Returns whether the answer is
    /// complete; the cursor is gone then.
    pub fn status_chunk(&mut self, now: Now, cursor: StatusCursor, limit: usize, out: &mut Vec<u8>) -> bool {
        let _ = (now, cursor, limit, out);
        todo!()
    }

    /// Forgets a running answer whose reader is gone.
    pub fn status_drop(&mut self, cursor: StatusCursor) {
        let _ = cursor;
        todo!()
    }
}
