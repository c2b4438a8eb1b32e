//! Who reigns: epochs, seals that others gave, and takeovers.

use super::event::LostState;
use super::machine::Engine;
use crate::ha::ids::{Epoch, HostId};
use crate::ha::protocol::{Rejected, VERSION, Welcome};
use crate::ha::state::Record;
use crate::time::Now;

impl Engine {
    /// The agent has seen a higher epoch than ours. Whether it may be sealed all the same, with a higher one still.
    pub(super) fn raise_epoch(&mut self, now: Now, id: &HostId, welcome: &Welcome) -> bool {
        let takeover = self.takeover.contains(id);
        let ours = welcome.obeys.is_none_or(|manager| manager == self.manager);
        if !ours && !takeover {
            // The agent decides; it will reject the seal and say whom it obeys.
            return true;
        }
        if self.lost == LostState::No && !takeover {
            self.superseded_by(now, id, welcome.sealed);
            self.refuse_host(now, id, "another manager has taken over".to_owned());
            return false;
        }
        self.reign(Epoch(welcome.sealed.0.saturating_add(1)));
        let others: Vec<HostId> = self.hosts.keys().filter(|other| *other != id).cloned().collect();
        for other in others {
            // They are sealed with the old epoch, so what they told proves nothing.
            self.lose_link(now, &other, "to be sealed with a higher epoch");
        }
        true
    }

    /// Another manager reigns from now on. What was confirmed before concerned others.
    pub(super) fn superseded_by(&mut self, now: Now, host: &HostId, epoch: Epoch) {
        self.takeover.clear();
        if self.superseded.is_none() {
            self.superseded = Some(epoch);
            let text = format!("agent of {host} obeys epoch {epoch}, this manager has {}", self.state.epoch);
            self.note(now, "superseded", "cluster", Some(host), "manager", Some(text));
            self.touch_all();
        }
    }

    /// Begins an epoch.
    pub(super) fn reign(&mut self, epoch: Epoch) {
        self.record(Record::Reign { manager: self.manager, epoch });
    }

    pub(super) fn rejected(&mut self, now: Now, id: &HostId, why: &Rejected) {
        let why = match why {
            Rejected::Version { agent } => {
                format!("its agent speaks version {agent} of the protocol, this manager {VERSION}")
            }
            Rejected::Cluster { cluster } => format!("its agent belongs to the cluster {cluster:?}"),
            Rejected::Host { host } => format!("the agent at this address is that of host {host}"),
            Rejected::Manager { .. } => {
                "its agent obeys another manager: stop that one before this one takes over".to_owned()
            }
            Rejected::Epoch { sealed } => {
                if self.lost == LostState::No && *sealed > self.state.epoch && !self.takeover.contains(id) {
                    self.superseded_by(now, id, *sealed);
                }
                format!("its agent was sealed with epoch {sealed} meanwhile")
            }
            Rejected::NotStored(why) => format!("its agent cannot store the seal: {why}"),
        };
        self.refuse_host(now, id, why);
    }
}
