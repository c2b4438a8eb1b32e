//! Without cgroups: all processes that have the order in their environment.

use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{AGENT, ORDER};
use crate::ha::ids::OrderId;

/// Finds processes by their environment.
#[derive(Debug, Clone)]
pub struct Scan {
    agent: String,
}

impl Scan {
    /// Of this agent.
    pub fn new(agent: &str) -> Self {
        Self { agent: agent.to_owned() }
    }

    /// Whose.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// Whether there are any of an order. One that executes a program at this moment has no environment for an instant, so
    /// that no process is believed only the second time.
    pub fn is_populated(&self, order: OrderId) -> bool {
        !self.processes(order).is_empty() || !self.processes(order).is_empty()
    }

    /// Those of an order.
    fn processes(&self, order: OrderId) -> Vec<Pid> {
        all().into_iter().filter(|pid| self.order_of(*pid) == Some(order)).collect()
    }

    /// Kills those of an order.
    pub fn kill(&self, order: OrderId) {
        for pid in self.processes(order) {
            let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            // The number may have gone to another process before it was opened.
            if self.order_of(pid) == Some(order) {
                let _ = pidfd_send_signal(&process, Signal::KILL);
            }
        }
    }

    /// All orders that have processes.
    pub fn populated(&self) -> Vec<OrderId> {
        // Twice: see above.
        let mut orders: Vec<OrderId> =
            all().into_iter().chain(all()).filter_map(|pid| self.order_of(pid)).collect();
        orders.sort_unstable();
        orders.dedup();
        orders
    }

    fn order_of(&self, pid: Pid) -> Option<OrderId> {
        let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).ok()?;
        order_in(&environment, &self.agent)
    }
}

fn all() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn order_in(environment: &[u8], agent: &str) -> Option<OrderId> {
    let value = |name: &str| {
        let mut variables = environment.split(|byte| *byte == 0);
        let found = variables.find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        found.and_then(|value| std::str::from_utf8(value).ok())
    };
    if value(AGENT)? != agent {
        return None;
    }
    value(ORDER)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_tells_whose_a_process_is() {
        let environment = b"PATH=/bin\0COORDINATOOL_ORDER=7-00000000000000ff-3\0COORDINATOOL_AGENT=a\0";
        assert_eq!(order_in(environment, "a").unwrap().to_string(), "7-00000000000000ff-3");
        assert_eq!(order_in(environment, "b"), None);
        assert_eq!(order_in(b"COORDINATOOL_AGENT=a\0", "a"), None);
        assert_eq!(order_in(b"", "a"), None);
    }
}
