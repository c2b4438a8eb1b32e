//! What must hold after every event, whatever happened: for tests and simulators, cheap enough to be asked each time.

use std::collections::BTreeMap;

use super::hosts::Stage;
use super::machine::Engine;
use crate::ha::ids::{HostId, Identity};
use crate::ha::protocol::Action;
use crate::ha::state::Record;
use crate::ha::status::Phase;

impl Engine {
    /// Checks the engine's own invariants. A failure is a bug of the engine, never of what it is told.
    ///
    /// # Panics
    ///
    /// When one does not hold: that is its purpose.
    pub fn check(&self) {
        self.check_starts();
        self.check_orders();
        self.check_hosts();
        self.check_power();
        self.check_alerts();
    }

    /// What is one thing is ordered to start on one host at most, and that one is a recorded candidate.
    fn check_starts(&self) {
        let mut starting: BTreeMap<&Identity, &HostId> = BTreeMap::new();
        for subject in self.subjects.values() {
            for (host, known) in &subject.on {
                if !matches!(known.pending, Some((_, Action::Start))) {
                    continue;
                }
                let other = starting.insert(&subject.identity, host);
                assert!(
                    other.is_none_or(|other| other == host),
                    "{} is ordered to start on {host} and {other:?}",
                    subject.spec.id
                );
                let recorded = self
                    .state
                    .candidates
                    .get(&subject.identity)
                    .is_some_and(|hosts| hosts.contains_key(host));
                assert!(recorded, "{} is started on {host}, which is no recorded candidate", subject.spec.id);
            }
        }
    }

    /// Each order without a result is known in both places, and was given on a connection that stands.
    fn check_orders(&self) {
        for (id, given) in &self.orders {
            let known = self.subjects.get(&given.subject).and_then(|subject| subject.on.get(&given.host));
            if let Some(known) = known {
                assert_eq!(known.pending.map(|(id, _)| id), Some(*id), "an order that nobody waits for");
            }
            let up = self.hosts.get(&given.host).is_some_and(|host| host.is_up());
            assert!(up, "an order waits for a result of {}, which is not connected", given.host);
        }
        for subject in self.subjects.values() {
            for (host, known) in &subject.on {
                if let Some((id, _)) = known.pending {
                    let name = &subject.spec.id;
                    assert!(self.orders.contains_key(&id), "{name} on {host} waits for an unknown order");
                }
            }
        }
    }

    /// Connections are known in both places; what counts as off is not connected, and is woken up for.
    fn check_hosts(&self) {
        for (id, host) in &self.hosts {
            if let Some((link, stage)) = host.link {
                assert_eq!(self.links.get(&link), Some(id), "a connection of {id} that leads elsewhere");
                if stage == Stage::Up {
                    assert!(host.agent.is_some(), "{id} is sealed, but never introduced itself");
                    assert!(host.off.is_none(), "{id} counts as off and is connected");
                }
            }
        }
        assert!(
            self.links
                .iter()
                .all(|(link, host)| { self.hosts.get(host).is_some_and(|host| host.link() == Some(*link)) }),
            "a connection without a host"
        );
    }

    /// Nothing changes a host's power without an intent that a successor would find.
    fn check_power(&self) {
        for (host, run) in &self.power {
            let Some(id) = run.intent() else { continue };
            let open = self.state.fences.get(host).into_iter().flatten();
            assert!(
                open.clone().any(|attempt| attempt.id == id && attempt.result.is_none()),
                "the power of {host} is being changed without a recorded intent"
            );
        }
    }

    /// Whatever is down or in doubt tells the operator.
    fn check_alerts(&self) {
        let down = |phase| matches!(phase, Phase::Frozen | Phase::Failed);
        if !self.groups.values().any(|group| down(group.phase)) {
            return;
        }
        let alerts = self.alerts();
        for (id, group) in self.groups.iter().filter(|(_, group)| down(group.phase)) {
            let alert = alerts.iter().find(|alert| alert.object == id.as_str());
            assert!(
                alert.is_some_and(|alert| !alert.text.is_empty()),
                "{id} is {:?} without an alert",
                group.phase
            );
        }
    }

    /// Checks that what is stored is what was handed out: `stored` is the sum of all records so far.
    ///
    /// # Panics
    ///
    /// When they differ.
    pub fn check_records(&self, stored: &mut crate::ha::state::State, records: &[Record]) {
        records.iter().for_each(|record| stored.apply(record));
        assert_eq!(*stored, self.state, "the engine's state differs from its records");
    }
}
