//! Connections of managers: who may give orders, and heartbeats.

use std::time::Duration;

use super::event::{Effect, IntentRecord};
use super::machine::{Agent, Seal, Storing};
use crate::ha::ids::LinkId;
use crate::ha::protocol::{self, FromAgent, Hello, OLDEST_VERSION, Rejected, ToAgent, VERSION, Welcome};
use crate::time::{Mono, Now};

/// A connection.
#[derive(Debug)]
pub(super) struct Session {
    hello: Option<Hello>,
    /// A seal is being stored.
    sealing: bool,
    pub(super) sealed: bool,
    next_heartbeat: Option<Mono>,
    /// When the newest heartbeat was sent that was acknowledged.
    acknowledged: Option<Mono>,
}

impl Session {
    pub(super) fn next_heartbeat(&self) -> Option<Mono> {
        self.next_heartbeat
    }

    pub(super) fn fresh(&self) -> Duration {
        self.hello.as_ref().map_or(Duration::ZERO, |hello| Duration::from_millis(hello.fresh_ms))
    }
}

impl Agent {
    pub(super) fn connected(&mut self, link: LinkId) {
        let session =
            Session { hello: None, sealing: false, sealed: false, next_heartbeat: None, acknowledged: None };
        self.sessions.insert(link, session);
    }

    pub(super) fn disconnected(&mut self, link: LinkId) {
        self.sessions.remove(&link);
        if self.obeyed == Some(link) {
            self.obeyed = None;
        }
    }

    /// Ends a connection from this side.
    fn close(&mut self, link: LinkId) {
        self.disconnected(link);
        self.out.push(Effect::Close { link });
    }

    pub(super) fn send(&mut self, link: LinkId, message: FromAgent) {
        self.out.push(Effect::Send { link, message });
    }

    fn reject(&mut self, link: LinkId, why: Rejected) {
        self.send(link, FromAgent::Rejected(why));
        self.close(link);
    }

    pub(super) fn received(&mut self, now: Now, link: LinkId, message: ToAgent) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        match message {
            ToAgent::Hello(hello) if session.hello.is_none() => self.greeted(link, hello),
            // Nothing is accepted from who did not introduce itself, and nobody does so twice.
            ToAgent::Hello(_) => self.close(link),
            _ if session.hello.is_none() => self.close(link),
            ToAgent::Seal(seal) => self.seal_wanted(link, &seal),
            ToAgent::Acknowledge { number } => self.acknowledged(now, link, number),
            ToAgent::Order(order) => self.ordered(now, link, order),
            ToAgent::Abandon { order } if self.obeyed == Some(link) => self.abandon(order),
            ToAgent::Forget { orders } if self.obeyed == Some(link) => self.forget(&orders),
            ToAgent::Abandon { .. } | ToAgent::Forget { .. } => {}
        }
    }

    fn greeted(&mut self, link: LinkId, hello: Hello) {
        if hello.version < OLDEST_VERSION {
            return self.reject(link, Rejected::Version { agent: VERSION });
        }
        if hello.host != self.identity.host {
            let host = self.identity.host.clone();
            return self.reject(link, Rejected::Host { host });
        }
        if let Some(seal) = &self.seal
            && seal.cluster != hello.cluster
        {
            let cluster = seal.cluster.clone();
            return self.reject(link, Rejected::Cluster { cluster });
        }
        let welcome = Welcome {
            version: VERSION.min(hello.version),
            program: self.identity.program.clone(),
            host: self.identity.host.clone(),
            boot: self.identity.boot.clone(),
            agent: self.identity.run,
            sealed: self.sealed(),
            obeys: self.seal.as_ref().map(|seal| seal.manager),
            sealed_by: self.seal.as_ref().map(|seal| seal.run),
            system_uuid: self.identity.system_uuid.clone(),
            isolation: self.identity.isolation,
            watchdog_ms: self.identity.watchdog_ms,
        };
        if let Some(session) = self.sessions.get_mut(&link) {
            session.hello = Some(hello);
        }
        self.send(link, FromAgent::Welcome(welcome));
    }

    fn seal_wanted(&mut self, link: LinkId, wanted: &protocol::Seal) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let Some(hello) = &session.hello else { return };
        if session.sealing {
            return;
        }
        let seal = Seal {
            epoch: wanted.epoch,
            manager: hello.manager,
            run: hello.run,
            cluster: hello.cluster.clone(),
        };
        if let Err(why) = self.may_seal(&seal, wanted.takeover) {
            return self.reject(link, why);
        }
        if let Some(session) = self.sessions.get_mut(&link) {
            session.sealing = true;
        }
        let record = IntentRecord::Sealed {
            epoch: seal.epoch,
            manager: seal.manager,
            run: seal.run,
            cluster: seal.cluster.clone(),
        };
        self.store(record, Storing::Seal(link, seal));
    }

    /// Lower epochs never; this one only from the process that sealed with it; other managers only after a takeover was
    /// confirmed.
    fn may_seal(&self, wanted: &Seal, takeover: bool) -> Result<(), Rejected> {
        // One that is being stored counts as well: the other order would be on the disk.
        let pending = self.storing.iter().rev().find_map(|waiting| match waiting {
            Storing::Seal(_, seal) => Some(seal),
            _ => None,
        });
        let Some(seal) = pending.or(self.seal.as_ref()) else { return Ok(()) };
        if seal.cluster != wanted.cluster {
            return Err(Rejected::Cluster { cluster: seal.cluster.clone() });
        }
        if seal.manager != wanted.manager && !takeover {
            return Err(Rejected::Manager { obeys: seal.manager });
        }
        if wanted.epoch < seal.epoch || (wanted.epoch == seal.epoch && wanted.run != seal.run) {
            return Err(Rejected::Epoch { sealed: seal.epoch });
        }
        Ok(())
    }

    pub(super) fn seal_stored(&mut self, now: Now, link: LinkId, seal: Seal, error: Option<&str>) {
        if let Some(session) = self.sessions.get_mut(&link) {
            session.sealing = false;
        }
        if let Some(error) = error {
            if self.sessions.contains_key(&link) {
                self.reject(link, Rejected::NotStored(error.to_owned()));
            }
            return;
        }
        // Another connection may have sealed higher while this was being written.
        if let Some(present) = &self.seal
            && (seal.epoch < present.epoch || (seal.epoch == present.epoch && seal.run != present.run))
        {
            let sealed = present.epoch;
            if self.sessions.contains_key(&link) {
                self.reject(link, Rejected::Epoch { sealed });
            }
            return;
        }
        let epoch = seal.epoch;
        self.seal = Some(seal);
        // From this moment on nobody else is obeyed, even if this connection is gone already.
        self.obeyed = None;
        let others: Vec<LinkId> = self
            .sessions
            .iter()
            .filter(|(other, session)| **other != link && session.sealed)
            .map(|(other, _)| *other)
            .collect();
        for other in others {
            self.close(other);
        }
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.sealed = true;
        session.next_heartbeat = Some(now.mono);
        let lease = session.hello.as_ref().and_then(|hello| hello.lease_ms);
        self.obeyed = Some(link);
        let unfinished = self.unfinished();
        self.send(link, FromAgent::Sealed { epoch, unfinished });
        self.send_results(link);
        if lease.is_none() {
            self.out.push(Effect::ReleaseWatchdog);
        }
    }

    fn acknowledged(&mut self, now: Now, link: LinkId, number: u64) {
        let sent = self.heartbeats.sent_at(number);
        let watchdog = self.identity.watchdog_ms.is_some();
        let Some(session) = self.sessions.get_mut(&link).filter(|session| session.sealed) else { return };
        let Some(sent) = sent.filter(|sent| *sent <= now.mono) else { return };
        if session.acknowledged.is_some_and(|newer| newer >= sent) {
            return;
        }
        session.acknowledged = Some(sent);
        let lease = session.hello.as_ref().and_then(|hello| hello.lease_ms);
        if let (Some(lease), true) = (lease, watchdog) {
            // Counted from when it was sent: the manager counts from when it acknowledged, which is later.
            self.out.push(Effect::FeedWatchdogUntil(sent + Duration::from_millis(lease)));
        }
    }

    /// Sends the heartbeats that are due.
    pub(super) fn beat(&mut self, now: Now) {
        let due: Vec<LinkId> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.next_heartbeat.is_some_and(|at| at <= now.mono))
            .map(|(link, _)| *link)
            .collect();
        for link in due {
            let Some(session) = self.sessions.get_mut(&link) else { continue };
            let interval = session.hello.as_ref().map_or(1000, |hello| hello.heartbeat_ms.max(10));
            session.next_heartbeat = Some(now.mono + Duration::from_millis(interval));
            let number = self.heartbeats.send(now.mono);
            self.send(link, FromAgent::Heartbeat { number });
        }
    }
}
