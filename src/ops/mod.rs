//! What the HSM role's API says, as it stands in JSON: written by the daemon, read by the command line.
//!
//! Members are added, never changed; readers ignore what they do not know and take what is missing for nothing.

mod status;

pub use status::{Counters, Counts, Lock, Status};
