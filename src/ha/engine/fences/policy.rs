//! When a host may be fenced without an operator, and why not.

use super::*;

impl Engine {
    /// A group needs to know that a host is off. Fences it if that is allowed; says what is waited for.
    pub(in crate::ha::engine) fn consider_fence(
        &mut self,
        now: Now,
        id: &HostId,
        group: &Arc<Group>,
    ) -> String {
        if let Some(until) = self.watchdog_fired(id)
            && self.hosts.get(id).is_some_and(|host| host.lost_at.is_some() && host.off.is_none())
        {
            if now.mono >= until {
                if let Some(host) = self.hosts.get_mut(id) {
                    host.off =
                        Some(OffProof { read: now.mono, stands: true, how: "its own watchdog has reset it" });
                }
                self.note(
                    now,
                    "fence",
                    id.as_str(),
                    None,
                    "manager",
                    Some("its own watchdog has reset it".to_owned()),
                );
                self.host_is_off(now, id);
                return format!("{id} was reset by its watchdog");
            }
            self.timers.by(Timer::Group(group.id.clone()), until);
        }
        if self.hosts.get(id).is_some_and(|host| host.silence.is_some()) {
            return format!("{id} shall be off: it must fall silent");
        }
        if let Some(run) = self.power.get(id) {
            return match run.kind {
                PowerKind::Fence { .. } if matches!(run.course, Course::Listen) => {
                    format!("{id} was powered off; the other hosts are listened to")
                }
                PowerKind::Fence { .. } if run.pause_until.is_some() => {
                    format!("fencing {id} failed and is tried again: {}", run.failed)
                }
                PowerKind::Fence { .. } => format!("{id} is being powered off"),
                PowerKind::WaitOut => format!(
                    "an attempt of an earlier manager to fence {id} is waited out; once you have seen that it is off: coordinatool-client ha confirm-off {id}"
                ),
                PowerKind::On => format!("{id} is being powered on"),
                PowerKind::Unfence => format!("{id} is being let in by its fence devices"),
                // It is asked again and again; what keeps it from being fenced is what an operator must know.
                PowerKind::Look => match self.may_fence(now, id, group) {
                    Err(Hold::Until(_, text) | Hold::Look(text) | Hold::Operator(text)) => text,
                    Ok(_) => format!("the fence device of {id} is being asked"),
                },
            };
        }
        match self.may_fence(now, id, group) {
            Ok(why) => {
                self.begin_power(now, id, PowerKind::Fence { automatic: true }, "manager", &why, None);
                format!("{id} is being powered off")
            }
            Err(Hold::Until(at, text)) => {
                self.timers.by(Timer::Group(group.id.clone()), at);
                text
            }
            Err(Hold::Look(text)) => {
                self.cut_off_at = Some(now.mono);
                // Those that are off already need no action: a rack without power.
                self.ask_power_regularly(now, id, group);
                text
            }
            Err(Hold::Operator(text)) => {
                // What is off already needs neither a fencing nor an operator.
                if self.may_be_asked(id) {
                    self.ask_power_regularly(now, id, group);
                }
                text
            }
        }
    }

    /// Whether its devices may be asked whether a host is off: it is out of reach, and it was a part of this cluster.
    fn may_be_asked(&self, id: &HostId) -> bool {
        let known = self.state.seen.contains(id) || self.state.fences.contains_key(id);
        known
            && self.hosts.get(id).is_some_and(|host| {
                host.distrust.is_none() && matches!(host.state, HostState::Lost | HostState::Unseen)
            })
    }

    fn ask_power_regularly(&mut self, now: Now, id: &HostId, group: &Group) {
        let every = self.config.settings.detection_time;
        let Some(host) = self.hosts.get(id) else { return };
        if !host.can_be_fenced() {
            return;
        }
        let due = host.power_read.map_or(now.mono, |read| read + every);
        if due <= now.mono {
            self.read_power(now, id);
        }
        self.timers.by(Timer::Group(group.id.clone()), due.max(now.mono) + every);
    }

    /// Whether a host may be fenced without an operator, and why.
    pub(super) fn may_fence(&self, now: Now, id: &HostId, group: &Group) -> Result<String, Hold> {
        let operator = |text: String| Err(Hold::Operator(text));
        let by_hand = format!("coordinatool-client ha fence {id}");
        let confirm = format!("once you have seen that it is off: coordinatool-client ha confirm-off {id}");
        let Some(host) = self.hosts.get(id) else { return operator(format!("{id} is unknown")) };
        if host.config.is_none() {
            return operator(format!(
                "{id} is not in the configuration any more, but {} may be active there; {confirm}",
                group.id
            ));
        }
        let why = match (&host.must_fence, host.state) {
            (Some(cause), _) => cause.why.clone(),
            (None, HostState::Lost | HostState::Fencing) => host.detail.clone(),
            (None, HostState::Unseen) => {
                return operator(format!("{id} may run it ({}); if it is dead: {by_hand}", host.detail));
            }
            (None, HostState::Refused) => return operator(format!("{id} cannot be used: {}", host.detail)),
            (None, _) => return operator(format!("{id}: {}", host.detail)),
        };
        if let Some(lost) = host.lost_at {
            let settled = lost + self.config.settings.heartbeat_interval;
            if now.mono < settled && host.must_fence.is_none() {
                return Err(Hold::Until(settled, format!("{id} is lost")));
            }
        }
        if !host.can_be_fenced() {
            return operator(format!("{id} is lost ({why}) and has no fence device; {confirm}"));
        }
        if let Some(distrust) = &host.distrust {
            return operator(format!("the fence devices of {id} are not believed: {distrust}; {confirm}"));
        }
        if let Some(unmanaged) = self.unmanaged_group_on(id) {
            return operator(format!(
                "{id} is lost ({why}), but is not fenced because {unmanaged} is unmanaged and was there; {by_hand}"
            ));
        }
        let active = group.hosts().any(|other| other != id && self.can_run_on(now, group, other).is_ok());
        if !active {
            return operator(format!("{id} is lost ({why}), and no other host can run it"));
        }
        if !host.resumed
            && let Some(text) = self.fence_limit(now, id)
        {
            return operator(format!("{id} is lost ({why}), but {text}"));
        }
        if self.power.values().filter(|run| run.is_fence()).count() >= AT_ONCE {
            return Err(Hold::Until(
                now.mono + Duration::from_secs(1),
                format!("{AT_ONCE} hosts are being fenced already"),
            ));
        }
        if let Some(text) = self.outside_blast_radius(now) {
            return Err(Hold::Look(format!("{id} is lost ({why}), but {text}; {by_hand}")));
        }
        // Hosts come back one after the other: the first must not have the others fenced.
        let settled = self.cut_off_at.map(|at| at + self.config.settings.detection_time * 2);
        if let Some(settled) = settled.filter(|settled| now.mono < *settled) {
            return Err(Hold::Until(
                settled,
                format!("{id} is lost ({why}); others that were lost have time to come back"),
            ));
        }
        Ok(why)
    }

    /// A group that was on a host and may not be touched.
    pub(super) fn unmanaged_group_on(&self, host: &HostId) -> Option<&GroupId> {
        let was_there = |id: &&GroupId| {
            self.config.groups.get(*id).is_some_and(|group| {
                group
                    .members
                    .iter()
                    .any(|member| self.known(member, host).is_some_and(|known| known.last_active))
            })
        };
        self.groups_of.get(host)?.iter().filter(|id| !self.is_managed(id)).find(was_there)
    }

    /// Why a host may not be fenced automatically once more.
    pub(super) fn fence_limit(&self, now: Now, host: &HostId) -> Option<String> {
        let attempts = self.state.fences.get(host)?;
        let automatic = |attempt: &&crate::ha::state::record::FenceAttempt| attempt.automatic;
        match self.config.settings.fence_attempts {
            FenceAttempts::OnceUntilReset => self.is_fenced(host).then(|| {
                format!("was fenced before and not reset since: coordinatool-client ha reset {host}")
            }),
            FenceAttempts::Within { count, window } => {
                let window = i64::try_from(window.as_nanos()).unwrap_or(i64::MAX);
                let recent = attempts
                    .iter()
                    .filter(automatic)
                    .filter(|attempt| now.wall.0.saturating_sub(attempt.at) < window);
                (recent.count() >= usize::try_from(count).unwrap_or(usize::MAX))
                    .then(|| format!("was fenced {count} times lately: coordinatool-client ha reset {host}"))
            }
        }
    }

    /// HALO's "fenced" flag: it was fenced, by whomever, or that was tried, and was not reset since.
    pub(in crate::ha::engine) fn is_fenced(&self, host: &HostId) -> bool {
        self.state.fences.get(host).is_some_and(|all| {
            all.iter().any(|attempt| {
                attempt.action == "off" && (attempt.automatic || matches!(attempt.result, Some((true, _))))
            })
        })
    }

    /// Whether so many hosts are gone that rather this manager is cut off.
    pub(in crate::ha::engine) fn outside_blast_radius(&self, now: Now) -> Option<String> {
        let all: Vec<_> = self.hosts.values().filter(|host| host.config.is_some()).collect();
        let visible = all.iter().filter(|host| host.is_up() || host.off.is_some()).count();
        if visible * 2 < all.len() {
            return Some(format!(
                "only {visible} of {} hosts are visible: this manager may be the one that is cut off",
                all.len()
            ));
        }
        let settings = &self.config.settings;
        let window = settings.detection_time + settings.heartbeat_interval * 2;
        let newest = all.iter().filter(|host| host.off.is_none()).filter_map(|host| host.lost_at).max()?;
        let lost = all
            .iter()
            .filter(|host| host.off.is_none())
            .filter_map(|host| host.lost_at)
            .filter(|at| newest.since(*at) <= window && now.mono.since(*at) < window * 1000)
            .count();
        let limit = (all.len() * usize::from(settings.blast_radius_percent) / 100).max(1);
        (lost > limit).then(|| {
            format!("{lost} hosts were lost at the same time (more than {limit}): nothing is fenced")
        })
    }
}

/// Why a host is not fenced now.
pub(super) enum Hold {
    /// Look again at this time.
    Until(Mono, String),
    /// Ask its devices whether it is off already.
    Look(String),
    /// An operator is needed, or something must change.
    Operator(String),
}
