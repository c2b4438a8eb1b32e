//! The agent on a server, as a pure machine: seals, orders, intents, heartbeats.
//!
//! It decides nothing but whether it obeys. Three things are compared at the moment an order is *executed*, not when it
//! arrives: the epoch with the seal, the connection with the one that sealed last, and for a start the age of the heartbeat
//! that the order quotes. So an order that waited in the socket of a dead or paused manager does nothing.

pub mod event;
mod machine;
mod operations;
mod sessions;
#[cfg(test)]
mod tests;

pub use event::{Effect, Effects, Event, Identity, Intent, IntentRecord};
pub use machine::Agent;
