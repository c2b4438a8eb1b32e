//! The coordinator: which request goes to which mover, and when.
//!
//! [`Coordinator`] is a pure state machine. The shell hands it [`Event`]s with the time and carries out the
//! [`Effect`]s it answers with; the simulator does the same with a virtual clock. Nothing here reads a socket, a file or a
//! clock.

pub mod action;
pub mod config;
pub mod counters;
pub mod effect;
pub mod event;
pub mod lustre_call;
pub mod operator;
pub use crate::time;

mod absence;
mod admission;
mod attributes;
mod batches;
mod cancel;
mod check;
mod coordinator;
mod data;
mod ending;
mod hints;
mod hosts;
mod index;
mod movers;
mod placing;
mod priorities;
mod queues;
mod recovery;
mod reporting;
mod requests;
mod schedule;
mod sessions;
mod shares;
mod status;
mod timers;

pub use action::{Action, ActionItem, RequestKey};
pub use attributes::{Attributes, Wanted};
pub use config::HsmConfig;
pub use coordinator::Coordinator;
pub use counters::Counters;
pub use effect::{Effect, Effects};
pub use event::{ConnId, Event};
pub use lustre_call::{FileState, LustreAnswer, LustreCall};
pub use operator::{AskId, OperatorReply, Order};
pub use time::{Mono, Now, Wall};

/// A running answer to `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusCursor(pub u64);

#[cfg(test)]
mod tests;
