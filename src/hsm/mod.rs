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
pub mod feed;
pub mod listing;
pub mod lustre_call;
pub mod mover_views;
pub mod operator;
pub mod overview;
pub mod reason;
pub mod views;
pub use crate::time;

mod recent;
pub mod reconcile;

mod absence;
mod admission;
mod attempts;
mod attributes;
mod batches;
mod bound;
pub mod bucket;
mod by_file;
mod cancel;
mod check;
mod choice;
mod coordinator;
mod data;
mod doubts;
mod duty;
mod duty_notes;
mod ending;
mod explain;
mod forgotten;
mod hints;
mod history;
mod hosts;
pub(crate) mod index;
mod keepalive;
mod letter;
mod life;
pub mod limits;
mod locations;
mod movers;
mod owed;
mod placing;
mod priorities;
pub mod quarantine;
mod queues;
mod reading;
mod recovery;
mod removed;
mod replacing;
mod reporting;
mod requests;
mod running;
mod schedule;
mod select;
mod sessions;
mod shares;
mod shelving;
mod status;
mod stored;
mod stranded;
mod sweep;
mod tapes;
mod timers;
mod top;
mod unheard;
mod verdict;
mod vetting;
mod window;

pub use action::{Action, ActionItem, RequestKey};
pub use attributes::{Attributes, Wanted};
pub use config::HsmConfig;
pub use coordinator::Coordinator;
pub use counters::Counters;
pub use effect::{Effect, Effects};
pub use event::{ConnId, Event};
pub use locations::{Located, Location, Sought};
pub use lustre_call::{FileState, LustreAnswer, LustreCall};
pub use operator::{AskId, CancelReport, OperatorReply, Order};
pub use recovery::SETTLING;
pub use stranded::Stranded;
pub use time::{Mono, Now, Wall};
pub use top::TopWalk;

/// A running answer to `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusCursor(pub u64);

#[cfg(test)]
mod tests;
