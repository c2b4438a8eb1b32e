//! Where each resource may be active, over all configurations since it was last proven stopped there.

use std::collections::BTreeSet;

use super::hosts::HostEntry;
use super::knowledge::{Known, Subject, SubjectId};
use super::machine::Engine;
use crate::ha::ids::{HostId, Identity, ResourceId};
use crate::ha::protocol::ResourceSpec;
use crate::ha::state::Record;
use crate::time::Now;

impl Engine {
    /// Brings hosts, subjects and candidates in line with the configuration and the state. What is known stays known.
    pub(super) fn take_configuration(&mut self, now: Now) {
        self.take_hosts(now);
        for subject in self.subjects.values_mut() {
            subject.current = false;
        }
        let mut wanted: Vec<(ResourceSpec, Identity, Vec<HostId>)> = Vec::new();
        for resource in self.config.resources.values() {
            let hosts = self.config.groups.get(&resource.group).map(|group| group.hosts().cloned().collect());
            wanted.push((resource.spec.clone(), resource.identity.clone(), hosts.unwrap_or_default()));
        }
        self.current.clear();
        for (spec, identity, hosts) in wanted {
            let id = self.subject(&spec, &identity);
            self.current.insert(spec.id.clone(), id);
            if let Some(subject) = self.subjects.get_mut(&id) {
                subject.current = true;
                for host in &hosts {
                    subject.on.entry(host.clone()).or_insert_with(|| Known::new(false)).former = false;
                }
                for (host, known) in &mut subject.on {
                    known.former = !hosts.contains(host);
                }
            }
            for host in &hosts {
                self.add_candidate(&spec, &identity, host);
            }
        }
        // What the state knows beyond that: other hosts, other definitions.
        let stored: Vec<(Identity, HostId, ResourceSpec)> = self
            .state
            .candidates
            .iter()
            .flat_map(|(identity, hosts)| {
                hosts.iter().map(move |(host, at)| (identity.clone(), host.clone(), at.spec.clone()))
            })
            .collect();
        for (identity, host, spec) in stored {
            let id = self.subject(&spec, &identity);
            if let Some(subject) = self.subjects.get_mut(&id) {
                subject.on.entry(host).or_insert_with(|| Known::new(true));
            }
        }
        for subject in self.subjects.values_mut().filter(|subject| !subject.current) {
            subject.on.values_mut().for_each(|known| known.former = true);
        }
        self.index_groups();
        let all: Vec<(SubjectId, HostId)> = self
            .subjects
            .iter()
            .flat_map(|(id, subject)| subject.on.keys().map(move |host| (*id, host.clone())))
            .collect();
        for (subject, host) in all {
            self.schedule_first_look(now, subject, &host);
        }
        self.touch_all();
    }

    fn take_hosts(&mut self, now: Now) {
        for host in self.hosts.values_mut() {
            host.config = None;
        }
        let configured: Vec<_> = self.config.hosts.values().cloned().collect();
        for host in configured {
            match self.hosts.get_mut(&host.id) {
                Some(entry) => {
                    let moved = entry.address != host.address || entry.port != host.port;
                    entry.address.clone_from(&host.address);
                    entry.port = host.port;
                    entry.config = Some(host.clone());
                    if moved {
                        self.lose_link(now, &host.id, "it has another address now");
                    }
                }
                None => {
                    let entry = HostEntry::new(Some(host.clone()), host.address.clone(), host.port, now);
                    self.hosts.insert(host.id.clone(), entry);
                    self.schedule_dial(now, &host.id, true);
                }
            }
            self.schedule_devices(now, &host.id);
        }
        let former: Vec<_> = self
            .state
            .candidates
            .values()
            .flatten()
            .filter(|(host, _)| !self.hosts.contains_key(*host))
            .map(|(host, at)| (host.clone(), at.address.clone(), at.port))
            .collect();
        for (id, address, port) in former {
            if !self.hosts.contains_key(&id) {
                self.hosts.insert(id.clone(), HostEntry::new(None, address, port, now));
                self.schedule_dial(now, &id, true);
            }
        }
        self.drop_unneeded_hosts();
    }

    /// The subject of this definition, made if there is none yet.
    fn subject(&mut self, spec: &ResourceSpec, identity: &Identity) -> SubjectId {
        let named = self.by_name.get(&spec.id).into_iter().flatten();
        if let Some(id) =
            named.copied().find(|id| self.subjects.get(id).is_some_and(|subject| subject.spec == *spec))
        {
            return id;
        }
        let id = SubjectId(self.next_subject);
        self.next_subject += 1;
        let subject = Subject {
            spec: spec.clone(),
            identity: identity.clone(),
            current: false,
            on: std::collections::BTreeMap::new(),
            wanted_since: None,
        };
        self.subjects.insert(id, subject);
        self.by_name.entry(spec.id.clone()).or_default().insert(id);
        self.by_identity.entry(identity.clone()).or_default().insert(id);
        id
    }

    /// From now on it may be active there: recorded before anything is ordered.
    fn add_candidate(&mut self, spec: &ResourceSpec, identity: &Identity, host: &HostId) {
        // A host where an older definition of it may be active stays recorded with that one until it is proven stopped.
        if self.state.candidates.get(identity).is_some_and(|hosts| hosts.contains_key(host)) {
            return;
        }
        let Some(entry) = self.hosts.get(host) else { return };
        self.record(Record::Candidate {
            identity: identity.clone(),
            spec: spec.clone(),
            host: host.clone(),
            address: entry.address.clone(),
            port: entry.port,
        });
    }

    /// A definition that is in force no more was proven stopped on a host: it is no candidate any longer.
    pub(super) fn settle_former(&mut self, subject: SubjectId, host: &HostId) {
        let Some(entry) = self.subjects.get_mut(&subject) else { return };
        let former =
            entry.on.get(host).is_some_and(|known| known.former && known.is_stopped() && known.is_quiet());
        if !former {
            return;
        }
        entry.on.remove(host);
        let (identity, spec, gone) =
            (entry.identity.clone(), entry.spec.clone(), entry.on.is_empty() && !entry.current);
        if gone {
            self.subjects.remove(&subject);
            self.by_name.entry(spec.id.clone()).or_default().remove(&subject);
            self.by_identity.entry(identity.clone()).or_default().remove(&subject);
        }
        self.timers.cancel(&super::timers::Timer::Monitor(subject, host.clone()));
        let stored = self.state.candidates.get(&identity).and_then(|hosts| hosts.get(host));
        if stored.is_some_and(|stored| stored.spec == spec) {
            self.record(Record::NoCandidate { identity: identity.clone(), host: host.clone() });
            // The present definition of the same device takes its place.
            let present = self
                .subjects
                .values()
                .find(|other| other.current && other.identity == identity && other.on.contains_key(host))
                .map(|other| other.spec.clone());
            if let Some(spec) = present {
                self.add_candidate(&spec, &identity, host);
            }
        }
        self.drop_unneeded_hosts();
        self.index_groups();
        self.touch_all();
    }

    /// A host that is in no configuration is dialled only while something may be active on it.
    fn drop_unneeded_hosts(&mut self) {
        let needed: BTreeSet<HostId> = self
            .state
            .candidates
            .values()
            .flat_map(|hosts| hosts.keys().cloned())
            .chain(self.subjects.values().flat_map(|subject| subject.on.keys().cloned()))
            .collect();
        let gone: Vec<HostId> = self
            .hosts
            .iter()
            .filter(|(id, host)| {
                host.config.is_none() && !needed.contains(*id) && !self.power.contains_key(*id)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.forget_host(&id);
        }
    }

    /// Which groups care about which host.
    fn index_groups(&mut self) {
        self.groups_of.clear();
        for (id, resource) in self
            .config
            .resources
            .iter()
            .filter_map(|(name, resource)| Some((self.current.get(name)?, resource)))
        {
            let hosts: BTreeSet<HostId> =
                self.same_resource(*id).flat_map(|(_, subject)| subject.on.keys().cloned()).collect();
            for host in hosts {
                self.groups_of.entry(host).or_default().insert(resource.group.clone());
            }
        }
    }

    /// The subject of a resource of the configuration.
    pub(super) fn subject_of(&self, resource: &ResourceId) -> Option<(SubjectId, &Subject)> {
        let id = *self.current.get(resource)?;
        self.subjects.get(&id).map(|subject| (id, subject))
    }

    /// What is known of a resource of the configuration on a host.
    pub(super) fn known(&self, resource: &ResourceId, host: &HostId) -> Option<&Known> {
        self.subject_of(resource)?.1.on.get(host)
    }
}
