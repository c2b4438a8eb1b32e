//! Maintenance: something is left alone for a time, then looked at anew.

use super::*;

/// What a maintenance covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::ha::engine) enum Covered {
    Cluster,
    Host(HostId),
    Group(GroupId),
}

impl std::fmt::Display for Covered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Host(host) => f.write_str(host.as_str()),
            Self::Group(group) => f.write_str(group.as_str()),
        }
    }
}

/// A time as operators write it: `1h30m`.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let text: String =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if text.is_empty() { "less than a second".to_owned() } else { text }
}

impl Engine {
    pub(super) fn plan_maintenance(
        &self,
        now: Now,
        target: Option<String>,
        time: Duration,
    ) -> Result<Plan, Denied> {
        self.acting()?;
        let covered = match &target {
            None => Covered::Cluster,
            Some(name) => {
                if let Some(group) = self.config.groups.get(name.as_str()) {
                    Covered::Group(group.id.clone())
                } else if let Some(host) = self.config.hosts.get(name.as_str()) {
                    Covered::Host(host.id.clone())
                } else {
                    return not_found(format!("There is no group or host '{name}'."));
                }
            }
        };
        let until = (!time.is_zero()).then(|| now.wall_at(now.mono + time).0);
        let (consequence, what, then) = match until {
            Some(_) => (
                format!("nothing is done to {covered} for {}, then it is looked at anew", in_words(time)),
                format!("maintenance of {covered}"),
                Then::Nothing,
            ),
            None => (
                format!("{covered} is looked at anew and kept running again"),
                format!("end the maintenance of {covered}"),
                Then::LookAnew(self.groups_covered(&covered)),
            ),
        };
        Ok(Plan {
            event: "maintenance",
            what,
            object: covered.to_string(),
            consequences: vec![consequence],
            records: vec![self.maintenance_record(&covered, until)],
            then,
            goal: Goal::Instant,
        })
    }

    fn maintenance_record(&self, covered: &Covered, until: Option<i64>) -> Record {
        match covered {
            Covered::Cluster => Record::Maintenance { until },
            Covered::Host(host) => Record::HostFlags {
                host: host.clone(),
                flags: HostFlags { maintenance_until: until, ..self.host_flags(host) },
            },
            Covered::Group(group) => Record::GroupFlags {
                group: group.clone(),
                flags: GroupFlags { maintenance_until: until, ..self.group_flags(group) },
            },
        }
    }

    fn groups_covered(&self, covered: &Covered) -> Vec<GroupId> {
        match covered {
            Covered::Cluster => self.config.groups.keys().cloned().collect(),
            Covered::Host(host) => self.groups_of.get(host).into_iter().flatten().cloned().collect(),
            Covered::Group(group) => vec![group.clone()],
        }
    }

    /// What is in maintenance, and until when (wall clock).
    fn maintained(&self) -> Vec<(Covered, i64)> {
        let hosts = self
            .state
            .hosts
            .iter()
            .filter_map(|(id, flags)| Some((Covered::Host(id.clone()), flags.maintenance_until?)));
        let groups = self
            .state
            .groups
            .iter()
            .filter_map(|(id, flags)| Some((Covered::Group(id.clone()), flags.maintenance_until?)));
        let cluster = self.state.maintenance_until.map(|until| (Covered::Cluster, until));
        cluster.into_iter().chain(hosts).chain(groups).collect()
    }

    /// A maintenance is over by itself: what it covered is looked at anew.
    pub(in crate::ha::engine) fn end_maintenance(&mut self, now: Now) {
        let ended: Vec<Covered> = self
            .maintenance_ends
            .iter()
            .filter(|(_, (_, at))| *at <= now.mono)
            .map(|(covered, _)| covered.clone())
            .collect();
        for covered in ended {
            let record = self.maintenance_record(&covered, None);
            self.record(record);
            self.note(now, "maintenance_over", &covered.to_string(), None, "manager", None);
            for group in self.groups_covered(&covered) {
                self.look_anew(now, &group);
            }
        }
        self.touch_all();
        self.schedule_maintenance(now);
    }

    /// Sets the alarm for the next end. The wall clock is asked once, when a maintenance begins or the manager starts:
    /// whoever sets it later does not end one early.
    pub(in crate::ha::engine) fn schedule_maintenance(&mut self, now: Now) {
        let maintained = self.maintained();
        let mut ends = std::mem::take(&mut self.maintenance_ends);
        for (covered, until) in maintained {
            let at = match ends.remove(&covered) {
                Some((same, at)) if same == until => at,
                _ => {
                    let rest = u64::try_from(until.saturating_sub(now.wall.0)).unwrap_or(0);
                    now.mono + Duration::from_nanos(rest)
                }
            };
            self.maintenance_ends.insert(covered, (until, at));
        }
        match self.maintenance_ends.values().map(|(_, at)| *at).min() {
            Some(first) => self.timers.set(Timer::Maintenance, first.max(now.mono + MOMENT)),
            None => self.timers.cancel(&Timer::Maintenance),
        }
    }
}

const MOMENT: Duration = Duration::from_millis(1);
