//! What must survive a restart of the manager: records, and the state that they add up to.

pub mod log;
pub mod record;

pub use record::{Event, Record, State};
