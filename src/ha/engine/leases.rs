//! Hosts that reset themselves by a hardware watchdog when they are cut off.

use std::time::Duration;

use super::hosts::Stage;
use super::machine::Engine;
use crate::ha::ids::HostId;
use crate::time::Mono;

impl Engine {
    /// How long an agent shall let its host live without an acknowledgement.
    pub(super) fn lease(&self, host: &HostId) -> Option<Duration> {
        self.config.hosts.get(host).and_then(|host| host.self_protection).filter(|_| self.manage)
    }

    /// Whether a lease of a host that its own watchdog guards is over for sure, by the inequality of the design:
    /// (L + 2W)(1 + 2 rho) + margin since the last acknowledgement.
    pub(super) fn watchdog_fired(&self, id: &HostId) -> Option<Mono> {
        const MARGIN: Duration = Duration::from_secs(1);
        let host = self.hosts.get(id)?;
        let lease = host.lease?;
        let watchdog = host.agent.as_ref()?.watchdog?;
        if host.link.is_some_and(|(_, stage)| stage != Stage::Dialling) {
            return None;
        }
        let last = host.last_acknowledged?;
        // rho: clocks of servers drift by less than 500 ppm against each other.
        let bound = (lease + watchdog * 2).mul_f64(1.001);
        Some(last + bound + MARGIN)
    }
}
