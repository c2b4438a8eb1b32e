//! The OCF resource agent API, as far as it needs no process: what exit codes mean, what meta-data says, what the
//! environment holds.

pub mod environment;
pub mod metadata;
pub mod outcome;

pub use outcome::{Monitored, Outcome, Recovery};
