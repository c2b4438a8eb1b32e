//! Connections to agents: dialling, greeting, sealing, and who reigns.

use std::time::Duration;

use super::event::{ConnectError, Effect};
use super::hosts::{AgentFacts, Stage};
use super::machine::Engine;
use super::monitors::spread;
use super::timers::Timer;
use crate::ha::ids::{HostId, LinkId};
use crate::ha::protocol::{FromAgent, Hello, Seal, ToAgent, Unfinished, VERSION, Welcome};
use crate::ha::state::Record;
use crate::time::Now;

/// How long a connection may take to be made, at most.
const CONNECT: Duration = Duration::from_secs(3);
const FIRST_REDIAL: Duration = Duration::from_millis(100);
const LAST_REDIAL: Duration = Duration::from_secs(2);
/// An agent may have been sealed with an epoch so far above ours. Each start of a manager takes one.
const FARTHEST_EPOCH: u64 = 1 << 32;

impl Engine {
    /// Dials a host soon; the more often it failed, the later.
    pub(super) fn schedule_dial(&mut self, now: Now, id: &HostId, at_once: bool) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        let pause = if at_once {
            host.redials = 0;
            // Not all hosts in the same moment.
            spread(id.as_str(), FIRST_REDIAL)
        } else {
            host.redials = host.redials.saturating_add(1);
            let pause = (FIRST_REDIAL * 2_u32.saturating_pow(host.redials.min(8))).min(LAST_REDIAL);
            pause + spread(id.as_str(), pause / 4)
        };
        self.timers.set(Timer::Dial(id.clone()), now.mono + pause);
    }

    pub(super) fn dial(&mut self, now: Now, id: &HostId) {
        let detection = self.config.settings.detection_time;
        let Some(host) = self.hosts.get_mut(id) else { return };
        if host.link.is_some() {
            return;
        }
        let link = LinkId(self.next_link);
        self.next_link += 1;
        host.link = Some((link, Stage::Dialling));
        host.dialled = now.mono;
        let (address, port) = (host.address.clone(), host.port);
        self.links.insert(link, id.clone());
        let timeout = CONNECT.min(detection);
        self.effect(Effect::Connect { link, host: id.clone(), address, port, timeout });
        self.judge_host(now, id);
    }

    pub(super) fn connected(&mut self, now: Now, link: LinkId) {
        let Some(id) = self.links.get(&link).cloned() else { return };
        self.kernel_answered(now, &id);
        let hello = self.hello(&id);
        if let Some(host) = self.hosts.get_mut(&id) {
            host.link = Some((link, Stage::Greeting));
            host.dialled = now.mono;
        }
        // Who accepts a connection need not be able to say anything.
        self.judge_host(now, &id);
        self.effect(Effect::Send { link, message: ToAgent::Hello(hello) });
    }

    /// How this manager introduces itself to an agent.
    pub(super) fn hello(&self, host: &HostId) -> Hello {
        let settings = &self.config.settings;
        Hello {
            version: VERSION,
            cluster: settings.cluster.clone(),
            host: host.clone(),
            manager: self.manager,
            run: self.run,
            heartbeat_ms: millis(settings.heartbeat_interval),
            fresh_ms: millis(settings.fresh_time),
            lease_ms: self.lease(host).map(millis),
        }
    }

    pub(super) fn connect_failed(&mut self, now: Now, link: LinkId, error: &ConnectError) {
        let Some(id) = self.links.remove(&link) else { return };
        if let Some(host) = self.hosts.get_mut(&id) {
            host.link = None;
        }
        self.note_no_connection(now, &id, error);
        self.schedule_dial(now, &id, false);
        self.judge_host(now, &id);
    }

    pub(super) fn disconnected(&mut self, now: Now, link: LinkId, error: &ConnectError) {
        let Some(id) = self.links.get(&link).cloned() else { return };
        let quick = self.hosts.get(&id).is_some_and(|host| host.is_up());
        self.drop_link(now, &id, false);
        if let ConnectError::Untrusted(_) = error {
            self.note_no_connection(now, &id, error);
        }
        self.schedule_dial(now, &id, quick);
        self.believe_silence(now, &id, true);
        self.judge_host(now, &id);
    }

    /// Somebody answered at a host's address. Who was dialled after its devices had said "off" is not off.
    fn kernel_answered(&mut self, now: Now, id: &HostId) {
        let later =
            |host: &super::hosts::HostEntry| host.off.as_ref().is_some_and(|off| host.dialled > off.read);
        if self.hosts.get(id).is_some_and(later) {
            self.seen_on(now, id, "but somebody answers at its address");
        }
    }

    fn note_no_connection(&mut self, now: Now, id: &HostId, error: &ConnectError) {
        if matches!(error, ConnectError::Refused(_) | ConnectError::Untrusted(_)) {
            self.kernel_answered(now, id);
        }
        let Some(host) = self.hosts.get_mut(id) else { return };
        match error {
            ConnectError::Refused(_) => {
                host.refused = None;
                host.refused_since.get_or_insert(now.mono);
            }
            ConnectError::TimedOut | ConnectError::Unreachable(_) => {
                host.refused = None;
                host.refused_since = None;
            }
            ConnectError::Untrusted(why) => {
                host.refused = Some(format!("its agent cannot be trusted: {why}"))
            }
            // Our own trouble is no evidence of anything.
            ConnectError::Local(why) => {
                if let Some(sign) = host.last_sign {
                    host.last_sign = Some(sign.max(now.mono - self.config.settings.detection_time / 2));
                }
                host.detail = format!("cannot dial: {why}");
            }
        }
    }

    /// Gives a connection up from this side.
    pub(super) fn lose_link(&mut self, now: Now, id: &HostId, why: &str) {
        if self.hosts.get(id).is_none_or(|host| host.link.is_none()) {
            return;
        }
        if let Some(host) = self.hosts.get_mut(id) {
            host.detail = why.to_owned();
        }
        self.drop_link(now, id, true);
        self.schedule_dial(now, id, true);
    }

    /// All that a connection stood for ends with it: proofs, orders under way, knowledge.
    fn drop_link(&mut self, now: Now, id: &HostId, close: bool) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        let Some((link, _)) = host.link.take() else { return };
        host.heartbeat = 0;
        self.links.remove(&link);
        if close {
            self.effect(Effect::Close { link });
        }
        self.forget_knowledge(now, id);
        self.touch_groups_of(id);
    }

    /// Nothing is known any more of what runs on a host.
    pub(super) fn forget_knowledge(&mut self, now: Now, id: &HostId) {
        self.orders.retain(|_, order| order.host != *id);
        self.unfinished.remove(id);
        for subject in self.subjects.values_mut() {
            if let Some(known) = subject.on.get_mut(id) {
                known.forget(now.wall);
            }
        }
    }

    /// What an agent says.
    pub(super) fn received(&mut self, now: Now, link: LinkId, message: FromAgent) {
        let Some(id) = self.links.get(&link).cloned() else { return };
        let Some(stage) = self.hosts.get(&id).and_then(|host| host.link).map(|(_, stage)| stage) else {
            return;
        };
        match (stage, message) {
            (Stage::Greeting, FromAgent::Welcome(welcome)) => self.welcomed(now, &id, link, welcome),
            (Stage::Greeting | Stage::Sealing, FromAgent::Rejected(why)) => self.rejected(now, &id, &why),
            (Stage::Sealing, FromAgent::Sealed { epoch, unfinished }) if epoch == self.state.epoch => {
                self.sealed(now, &id, link, unfinished);
            }
            (_, FromAgent::Heartbeat { number }) => {
                if let Some(host) = self.hosts.get_mut(&id) {
                    host.heartbeat = number;
                    host.last_acknowledged = Some(now.mono);
                }
                self.sign_of_life(now, &id);
                self.effect(Effect::Send { link, message: ToAgent::Acknowledge { number } });
                let settled = self.hosts.get(&id).is_some_and(|host| {
                    host.state == crate::ha::status::HostState::Connected
                        && self.timers.is_set(&Timer::Host(id.clone()))
                });
                if !settled {
                    self.judge_host(now, &id);
                }
            }
            (Stage::Up, FromAgent::Finished(finished)) => {
                self.sign_of_life(now, &id);
                self.finished(now, &id, link, finished);
            }
            (Stage::Up, FromAgent::Emptied { order, .. }) => {
                self.sign_of_life(now, &id);
                self.emptied(now, &id, order);
            }
            (Stage::Up, FromAgent::Refused { order, reason }) => {
                self.sign_of_life(now, &id);
                self.order_refused(now, &id, order, &reason);
            }
            // Leftovers of an earlier stage, or nonsense: they change nothing.
            _ => {}
        }
    }

    fn welcomed(&mut self, now: Now, id: &HostId, link: LinkId, welcome: Welcome) {
        if welcome.host != *id {
            let why = format!("the agent at this address is that of host {}", welcome.host);
            return self.refuse_host(now, id, why);
        }
        if welcome.sealed.0 > self.state.epoch.0.saturating_add(FARTHEST_EPOCH) {
            let why = format!("its agent claims epoch {}, which no manager has reached", welcome.sealed);
            return self.refuse_host(now, id, why);
        }
        let other = welcome.obeys.is_some_and(|manager| manager != self.manager);
        if other && self.hosts.get(id).is_some_and(|host| host.seen) && !self.takeover.contains(id) {
            // It obeyed this one before: somebody confirmed that the other replaces it.
            self.superseded_by(now, id, welcome.sealed);
        }
        if welcome.sealed >= self.state.epoch
            && welcome.sealed_by != Some(self.run)
            && !self.raise_epoch(now, id, &welcome)
        {
            return;
        }
        self.back_from_the_dead(now, id, &welcome);
        let lease = self.lease(id);
        let Some(host) = self.hosts.get_mut(id) else { return };
        let same_boot = host.agent.as_ref().is_some_and(|agent| agent.boot == welcome.boot);
        // A lease that is not wanted any more is over with the seal; of two, the longer one counts.
        host.lease = lease.map(|new| host.lease.filter(|_| same_boot).unwrap_or(new).max(new));
        host.agent = Some(AgentFacts {
            boot: welcome.boot,
            run: welcome.agent,
            program: welcome.program,
            isolation: welcome.isolation,
            system_uuid: welcome.system_uuid,
            watchdog: welcome.watchdog_ms.map(Duration::from_millis),
        });
        host.refused = None;
        // It lives: no lease that ended before proves anything any more.
        host.last_acknowledged = None;
        host.link = Some((link, Stage::Sealing));
        self.sign_of_life(now, id);
        let seal = Seal { epoch: self.state.epoch, takeover: self.takeover.contains(id) };
        self.effect(Effect::Send { link, message: ToAgent::Seal(seal) });
    }

    pub(super) fn refuse_host(&mut self, now: Now, id: &HostId, why: String) {
        self.drop_link(now, id, true);
        self.schedule_dial(now, id, false);
        if let Some(host) = self.hosts.get_mut(id) {
            host.refused = Some(why);
            // Somebody answers there, so the host is not silent.
            host.last_sign = Some(now.mono);
            host.lost_at = None;
        }
        self.judge_host(now, id);
        self.touch_groups_of(id);
    }

    fn sealed(&mut self, now: Now, id: &HostId, link: LinkId, unfinished: Vec<Unfinished>) {
        let lost = self.hosts.values().any(|host| host.lost_at.is_some() && host.off.is_none());
        if lost && self.outside_blast_radius(now).is_some() {
            self.cut_off_at = Some(now.mono);
        }
        let Some(host) = self.hosts.get_mut(id) else { return };
        host.link = Some((link, Stage::Up));
        host.redials = 0;
        host.seen = true;
        host.lost_at = None;
        host.booting = None;
        host.resumed = false;
        self.takeover.remove(id);
        host.refused_since = None;
        host.last_sign = Some(now.mono);
        if !self.state.seen.contains(id) {
            self.record(Record::HostSeen { host: id.clone() });
        }
        self.spare(now, id);
        self.forget_knowledge(now, id);
        for left in unfinished {
            self.note_unfinished(now, id, &left);
        }
        self.judge_host(now, id);
        self.unfence_if_needed(now, id);
        self.identify_machine(now, id);
        let subjects: Vec<_> = self
            .subjects
            .iter()
            .filter(|(_, subject)| subject.on.contains_key(id))
            .map(|(subject, _)| *subject)
            .collect();
        for subject in subjects {
            self.look(now, subject, id);
        }
        self.touch_groups_of(id);
    }

    /// A host that counted as off, or was confirmed to be, talks again.
    fn back_from_the_dead(&mut self, now: Now, id: &HostId, welcome: &Welcome) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        let same_boot = host.agent.as_ref().is_some_and(|agent| agent.boot == welcome.boot);
        if host.agent.as_ref().is_some_and(|agent| agent.boot != welcome.boot) {
            // What could not be stopped, or did not end, is gone with the boot that it was in.
            host.must_fence = None;
        }
        // Its kernel may have answered before its agent, as after a boot: only now it is known which boot that was.
        let answered = host.counted_as_off.take();
        if let Some(how) = host.off.take().map(|off| off.how).or(answered) {
            if same_boot {
                let text = format!("it counted as off ({how}), but it was never rebooted");
                self.distrust(now, id, text);
            }
            self.touch_groups_of(id);
        }
        self.heard_again(id);
    }

    /// The host is out of the configuration and nothing can be active on it.
    pub(super) fn forget_host(&mut self, id: &HostId) {
        if let Some(host) = self.hosts.remove(id)
            && let Some((link, _)) = host.link
        {
            self.links.remove(&link);
            self.effect(Effect::Close { link });
        }
        self.orders.retain(|_, order| order.host != *id);
        self.unfinished.remove(id);
        for timer in [
            Timer::Dial(id.clone()),
            Timer::Host(id.clone()),
            Timer::Devices(id.clone()),
            Timer::Power(id.clone()),
        ] {
            self.timers.cancel(&timer);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
