//! The manager's engine: a pure machine that keeps each group running on exactly one host.

pub mod event;

pub use event::{ConnectError, Effect, Effects, Event, LostState, Start};

use super::state::State;
use super::status::Status;
use crate::time::{Mono, Now};

/// Decides what is started, stopped, moved and fenced.
#[derive(Debug)]
pub struct Engine {
    state: State,
}

impl Engine {
    /// Begins a reign. The effects hold the record of its epoch and the first connections.
    pub fn new(now: Now, start: Start, effects: &mut Effects) -> Self {
        let _ = (now, effects);
        Self { state: start.state }
    }

    /// Takes one event and adds records and effects.
    pub fn handle(&mut self, now: Now, event: Event, effects: &mut Effects) {
        let _ = (now, event, effects);
    }

    /// When [`Event::Tick`] must come at the latest.
    pub fn next_deadline(&self) -> Mono {
        Mono::MAX
    }

    /// Everything as it is now.
    pub fn status(&self, now: Now) -> Status {
        let _ = now;
        Status {
            cluster: String::new(),
            managed: false,
            epoch: self.state.epoch,
            superseded: false,
            maintenance_until: None,
            hosts: Vec::new(),
            groups: Vec::new(),
            alerts: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// What is stored: with all records of the effects that were handed out.
    pub fn state(&self) -> &State {
        &self.state
    }
}
