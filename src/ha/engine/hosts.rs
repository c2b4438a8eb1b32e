//! Which hosts are alive.

use std::sync::Arc;
use std::time::Duration;

use super::knowledge::SubjectId;
use super::machine::Engine;
use super::timers::Timer;
use crate::ha::config::Host;
use crate::ha::ids::{AgentRun, BootId, HostId, LinkId};
use crate::ha::protocol::Isolation;
use crate::ha::status::HostState;
use crate::time::{Mono, Now, Wall};

/// A host, of the configuration or still a candidate of an earlier one.
#[derive(Debug)]
pub(super) struct HostEntry {
    /// `None`: no longer in the configuration.
    pub(super) config: Option<Arc<Host>>,
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) link: Option<(LinkId, Stage)>,
    pub(super) redials: u32,
    /// What its agent said of itself.
    pub(super) agent: Option<AgentFacts>,
    /// The last heartbeat's number.
    pub(super) heartbeat: u64,
    /// When anything was last heard from its agent in this run.
    pub(super) last_sign: Option<Mono>,
    /// When a heartbeat was last acknowledged, which prolongs its lease.
    pub(super) last_acknowledged: Option<Mono>,
    /// It was sealed in this run.
    pub(super) seen: bool,
    /// Since when its kernel answers, but not its agent.
    pub(super) refused_since: Option<Mono>,
    /// Why its agent cannot be used although it answers.
    pub(super) refused: Option<String>,
    /// Since when it has been lost.
    pub(super) lost_at: Option<Mono>,
    /// It is proven to be off.
    pub(super) off: Option<OffProof>,
    /// Its devices said "off" while it was still connected: it must fall silent before that is believed.
    pub(super) silence: Option<Silence>,
    /// What its devices said last.
    pub(super) power: Option<(String, Wall)>,
    /// Why its fence devices are not believed.
    pub(super) distrust: Option<String>,
    /// What on it cannot be stopped or does not end, and why it must be fenced for that although it is connected.
    pub(super) must_fence: Option<(SubjectId, String)>,
    pub(super) state: HostState,
    pub(super) detail: String,
    pub(super) since: Wall,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Dialling,
    Greeting,
    Sealing,
    Up,
}

/// What an agent said of itself.
#[derive(Debug, Clone)]
pub(super) struct AgentFacts {
    pub(super) boot: BootId,
    pub(super) run: AgentRun,
    pub(super) program: String,
    pub(super) isolation: Isolation,
    pub(super) system_uuid: Option<String>,
    pub(super) watchdog: Option<Duration>,
}

/// A host is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OffProof {
    /// When that was last read.
    pub(super) read: Mono,
    /// It need not be read again: an operator answers for it, or the host's own watchdog did it.
    pub(super) stands: bool,
    pub(super) how: &'static str,
}

/// Waiting for a host to fall silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silence {
    pub(super) told: Mono,
    /// What arrives until then may have been under way.
    pub(super) tolerate_until: Mono,
    pub(super) until: Mono,
}

impl HostEntry {
    pub(super) fn new(config: Option<Arc<Host>>, address: String, port: u16, now: Now) -> Self {
        Self {
            config,
            address,
            port,
            link: None,
            redials: 0,
            agent: None,
            heartbeat: 0,
            last_sign: None,
            last_acknowledged: None,
            seen: false,
            refused_since: None,
            refused: None,
            lost_at: None,
            off: None,
            silence: None,
            power: None,
            distrust: None,
            must_fence: None,
            state: HostState::Unseen,
            detail: "not reached yet".to_owned(),
            since: now.wall,
        }
    }

    /// Sealed by us, on a live connection.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.link, Some((_, Stage::Up)))
    }

    pub(super) fn link(&self) -> Option<LinkId> {
        self.link.map(|(link, _)| link)
    }

    /// Whether there is a device to fence it with.
    pub(super) fn can_be_fenced(&self) -> bool {
        self.config.as_ref().is_some_and(|host| !host.fencing.is_empty())
    }
}

impl Engine {
    /// Finds out how a host looks now, and sets the timer for when that may change by itself.
    pub(super) fn judge_host(&mut self, now: Now, id: &HostId) {
        let settings = &self.config.settings;
        let (detection, grace, heartbeat) =
            (settings.detection_time, settings.agent_grace, settings.heartbeat_interval);
        let startup_fencing = settings.startup_fencing;
        let fencing = self.power.get(id).is_some_and(|change| change.is_fence());
        let begun = self.begun;
        let Some(host) = self.hosts.get_mut(id) else { return };
        let mut wake = None;
        if host.is_up() {
            let silent = host.last_sign.map_or(Duration::ZERO, |sign| now.mono.since(sign));
            if silent >= detection {
                let seconds = silent.as_secs_f64();
                self.lose_link(now, id, &format!("no heartbeat for {seconds:.1} s"));
                return self.judge_host(now, id);
            }
            let suspect = silent > heartbeat * 3;
            let sign = host.last_sign.unwrap_or(now.mono);
            wake = Some(if suspect {
                sign + detection
            } else {
                (sign + heartbeat * 3 + Duration::from_millis(1)).min(sign + detection)
            });
            let state = if fencing {
                (HostState::Fencing, "being powered off".to_owned())
            } else if suspect {
                (HostState::Suspect, "heartbeats are missing".to_owned())
            } else {
                (HostState::Connected, "heartbeats arrive".to_owned())
            };
            self.set_host_state(now, id, state.0, state.1);
        } else if let Some(off) = &host.off {
            let how = off.how.to_owned();
            self.set_host_state(now, id, HostState::Off, how);
        } else if fencing {
            self.set_host_state(now, id, HostState::Fencing, "being powered off".to_owned());
        } else if let Some(reason) = &host.refused {
            let reason = reason.clone();
            self.set_host_state(now, id, HostState::Refused, reason);
        } else if host.lost_at.is_some() {
            // Until it is connected again, or known to be off.
        } else if !host.seen && !startup_fencing {
            let detail = if host.refused_since.is_some() {
                "its kernel answers, but no agent listens"
            } else {
                "this manager has not reached it yet"
            };
            self.set_host_state(now, id, HostState::Unseen, detail.to_owned());
        } else {
            let sign = host.last_sign.unwrap_or(begun);
            let (deadline, state, detail) = match host.refused_since {
                Some(since) => (
                    (since + grace).max(sign + detection.min(grace)),
                    HostState::AgentDown,
                    "its kernel answers, but no agent listens",
                ),
                None => (sign + detection, HostState::Suspect, "not connected"),
            };
            if now.mono >= deadline {
                host.lost_at = Some(now.mono);
                let detail = if host.refused_since.is_some() {
                    format!("no agent for {} s, although its kernel answers", grace.as_secs_f64())
                } else {
                    format!("silent for {:.1} s", now.mono.since(sign).as_secs_f64())
                };
                self.set_host_state(now, id, HostState::Lost, detail);
                // Others may be lost at the same moment: decide a little later.
                wake = Some(now.mono + heartbeat + Duration::from_millis(1));
                self.touch_all();
            } else {
                self.set_host_state(now, id, state, detail.to_owned());
                wake = Some(deadline);
            }
        }
        if let Some(wake) = wake {
            self.timers.set(Timer::Host(id.clone()), wake.max(now.mono + Duration::from_millis(1)));
        }
    }

    fn set_host_state(&mut self, now: Now, id: &HostId, state: HostState, detail: String) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        if host.state == state {
            host.detail = detail;
            return;
        }
        let was = std::mem::replace(&mut host.state, state);
        host.since = now.wall;
        host.detail = detail.clone();
        let event = match state {
            HostState::Connected if was != HostState::Suspect => Some("connected"),
            HostState::Lost => Some("lost"),
            HostState::AgentDown => Some("agent_down"),
            HostState::Refused => Some("refused"),
            _ => None,
        };
        if let Some(event) = event {
            self.note(now, event, id.as_str(), None, "manager", Some(detail));
        }
        self.touch_groups_of(id);
    }

    /// This process did not run for some time (stopped, swapped out, a machine that was paused): what hosts said meanwhile
    /// still waits to be read, so what did not come in that time counts for nothing.
    pub(super) fn excuse_silence(&mut self, now: Now, slept: Duration) {
        for host in self.hosts.values_mut() {
            for at in [&mut host.last_sign, &mut host.refused_since].into_iter().flatten() {
                *at = (*at + slept).min(now.mono);
            }
            if let Some(silence) = &mut host.silence {
                silence.tolerate_until += slept;
                silence.until += slept;
            }
        }
        let known = self.subjects.values_mut().flat_map(|subject| subject.on.values_mut());
        for since in known.flat_map(|known| known.unfinished.values_mut()) {
            *since = (*since + slept).min(now.mono);
        }
        if let Some(at) = &mut self.cut_off_at {
            *at = (*at + slept).min(now.mono);
        }
    }

    /// Something was heard of a host's agent.
    pub(super) fn sign_of_life(&mut self, now: Now, id: &HostId) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        host.last_sign = Some(now.mono);
        host.refused_since = None;
        if let Some(silence) = host.silence
            && now.mono > silence.tolerate_until
        {
            host.silence = None;
            host.distrust =
                Some("a fence device said that it is off, and its agent was heard after that".to_owned());
            let text = format!("{id}: a fence device says that it is off, but it lives");
            self.note(now, "fence_failed", id.as_str(), None, "manager", Some(text));
            self.touch_groups_of(id);
        }
    }
}
