//! The embedded Lustre: enough of a Lustre file system for its hierarchical storage management (HSM) to run without one.
//!
//! [`mdt`] is the model: the HSM coordinator of one or several metadata targets as a pure state machine, without input,
//! output or a clock of its own. Everything else is built around it.

pub mod client;
pub mod control;
pub mod library;
pub mod mdt;
pub mod protocol;
pub mod server;
