//! Which hosts are alive.

use std::sync::Arc;
use std::time::Duration;

use super::knowledge::SubjectId;
use super::machine::Engine;
use super::timers::Timer;
use crate::ha::config::Host;
use crate::ha::ids::{AgentRun, BootId, CommandId, HostId, LinkId};
use crate::ha::protocol::Isolation;
use crate::ha::status::HostState;
use crate::time::{Mono, Now, Wall};

/// How long a host that an earlier run of the manager knew may take to be reached by this one, before it counts as lost:
/// both may have been started at the same time, and servers boot slowly.
const PATIENCE: Duration = Duration::from_secs(300);

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
    /// How long its agent lets it live without an acknowledgement, for all that it was told in this boot.
    pub(super) lease: Option<Duration>,
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
    /// It counted as off, for this, until something answered there; its agent has not been heard since.
    pub(super) counted_as_off: Option<&'static str>,
    /// Its devices said "off" while it was still connected: it must fall silent before that is believed.
    pub(super) silence: Option<Silence>,
    /// What its devices said last.
    pub(super) power: Option<(String, Wall)>,
    /// When they said it.
    pub(super) power_read: Option<Mono>,
    /// They did not answer: not to be asked again before this.
    pub(super) ask_power_at: Option<Mono>,
    /// It was switched on, by whomever: until then its agent need not be heard.
    pub(super) booting: Option<Mono>,
    /// An earlier run of the manager was about to fence it, and did not come to the end of it.
    pub(super) resumed: bool,
    /// The boot in which its fence devices let it in.
    pub(super) unfenced: Option<BootId>,
    /// They did not: why, and when that is tried again.
    pub(super) unfencing_failed: Option<(String, Mono)>,
    /// When it was dialled last.
    pub(super) dialled: Mono,
    /// Why its fence devices are not believed.
    pub(super) distrust: Option<String>,
    /// Why it must be fenced although it is connected.
    pub(super) must_fence: Option<MustFence>,
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

/// Why a host must be fenced although it is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MustFence {
    /// For this.
    pub(super) subject: SubjectId,
    pub(super) why: String,
}

/// Waiting for a host to fall silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silence {
    pub(super) told: Mono,
    /// What arrives until then may have been under way.
    pub(super) tolerate_until: Mono,
    pub(super) until: Mono,
    /// Ends with that.
    pub(super) command: Option<CommandId>,
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
            lease: None,
            seen: false,
            refused_since: None,
            refused: None,
            lost_at: None,
            off: None,
            counted_as_off: None,
            silence: None,
            power: None,
            power_read: None,
            ask_power_at: None,
            booting: None,
            resumed: false,
            unfenced: None,
            unfencing_failed: None,
            dialled: now.mono,
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

    /// Why it does not count as seen.
    fn unreached(&self) -> &'static str {
        if self.refused_since.is_some() {
            "its kernel answers, but no agent listens"
        } else {
            "this manager has not reached it yet"
        }
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
        let known = self.state.seen.contains(id);
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
            // Until it is connected again, or known to be off. An attempt to fence it may have come to nothing.
            if host.state != HostState::Lost {
                self.set_host_state(now, id, HostState::Lost, "it does not answer".to_owned());
            }
        } else if let Some(until) = host.booting.filter(|until| now.mono < *until) {
            wake = Some(until);
            let detail = "it was switched on, its agent has not been heard yet";
            self.set_host_state(now, id, HostState::Unseen, detail.to_owned());
        } else if !host.seen && !startup_fencing && !host.resumed && !known {
            let detail = host.unreached().to_owned();
            self.set_host_state(now, id, HostState::Unseen, detail);
        } else if let Some(until) = (!host.seen && !startup_fencing && !host.resumed)
            .then_some(begun + PATIENCE)
            .filter(|until| now.mono < *until)
        {
            wake = Some(until);
            let detail = host.unreached().to_owned();
            self.set_host_state(now, id, HostState::Unseen, detail);
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
            } else {
                self.set_host_state(now, id, state, detail.to_owned());
                wake = Some(deadline);
            }
        }
        if let Some(host) = self.hosts.get(id)
            && matches!(host.link, Some((_, Stage::Greeting | Stage::Sealing)))
        {
            let end = host.dialled + detection;
            if now.mono >= end {
                return self.lose_link(now, id, "its agent does not answer");
            }
            wake = Some(wake.map_or(end, |wake| wake.min(end)));
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

    /// Something was heard of a host's agent.
    pub(super) fn sign_of_life(&mut self, now: Now, id: &HostId) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        host.last_sign = Some(now.mono);
        host.refused_since = None;
        if host.silence.is_some_and(|silence| now.mono > silence.tolerate_until) {
            self.silence_broken(now, id);
        }
        self.witness(now, id);
    }
}
