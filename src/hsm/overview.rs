//! The state as a whole, for status and metrics.

use super::Coordinator;
use super::event::Lock;
use super::time::Now;

/// The state as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// The wall clock, in nanoseconds since the epoch.
    pub now: i64,
    /// Whether work is handed out.
    pub lock: Lock,
    /// The store takes no more.
    pub store_full: bool,
    /// How often a configuration was loaded.
    pub configurations: u32,
}

impl Coordinator {
    /// The state as a whole.
    pub fn overview(&self, now: Now) -> Overview {
        Overview {
            now: now.wall.0,
            lock: self.lock,
            store_full: self.store_full,
            configurations: self.config_version,
        }
    }
}
