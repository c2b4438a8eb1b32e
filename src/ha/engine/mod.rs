//! The manager's engine: a pure machine that keeps each group running on exactly one host.
//!
//! It is level-triggered: every event only updates what is known, and each group that this concerns is then looked at as a
//! whole (`groups`, `steps`) to find the next orders. There are no scripts that could be left half done, and nothing is forgotten.
//! Whether a resource may be started is decided in one place, `proofs`.

mod alerts;
mod candidates;
mod check;
mod commands;
mod consequences;
mod devices;
pub mod event;
mod failures;
mod fences;
mod goals;
mod groups;
mod hosts;
mod knowledge;
mod leases;
mod links;
mod machine;
mod monitors;
mod orders;
mod pauses;
mod placement;
mod proofs;
mod reigns;
mod reload;
mod status;
mod steps;
mod timers;
mod wishes;

#[cfg(test)]
mod tests;

pub use event::{ConnectError, Effect, Effects, Event, LostState, Start};
pub use machine::Engine;
