//! Maintenance: something is left alone for a time, then looked at anew.

use super::*;

impl Engine {
    pub(super) fn plan_maintenance(
        &self,
        now: Now,
        target: Option<String>,
        time: Duration,
    ) -> Result<Plan, Denied> {
        self.acting()?;
        let until = (!time.is_zero()).then(|| now.wall_at(now.mono + time).0);
        let record = match &target {
            None => Record::Maintenance { until },
            Some(name) => {
                if let Some(group) = self.config.groups.get(name.as_str()) {
                    let flags = GroupFlags { maintenance_until: until, ..self.group_flags(&group.id) };
                    Record::GroupFlags { group: group.id.clone(), flags }
                } else if let Some(host) = self.config.hosts.get(name.as_str()) {
                    let flags = HostFlags { maintenance_until: until, ..self.host_flags(&host.id) };
                    Record::HostFlags { host: host.id.clone(), flags }
                } else {
                    return not_found(format!("There is no group or host '{name}'."));
                }
            }
        };
        let object = target.unwrap_or_else(|| "cluster".to_owned());
        let consequence = match until {
            Some(_) => format!("nothing is done to {object} for {} s", time.as_secs()),
            None => format!("{object} is looked at anew and kept running again"),
        };
        Ok(Plan {
            event: "maintenance",
            what: if until.is_some() {
                format!("maintenance of {object}")
            } else {
                format!("end the maintenance of {object}")
            },
            object,
            consequences: vec![consequence],
            records: vec![record],
            then: Then::Nothing,
            goal: Goal::Instant,
        })
    }

    /// A maintenance is over by itself: what it covered is looked at anew.
    pub(in crate::ha::engine) fn end_maintenance(&mut self, now: Now) {
        let over = |until: Option<i64>| until.is_some_and(|until| until <= now.wall.0);
        let mut ended: Vec<String> = Vec::new();
        if over(self.state.maintenance_until) {
            self.record(Record::Maintenance { until: None });
            ended.push("cluster".to_owned());
        }
        let hosts: Vec<(HostId, HostFlags)> = self
            .state
            .hosts
            .iter()
            .filter(|(_, flags)| over(flags.maintenance_until))
            .map(|(id, flags)| (id.clone(), flags.clone()))
            .collect();
        for (host, flags) in hosts {
            ended.push(host.to_string());
            self.record(Record::HostFlags { host, flags: HostFlags { maintenance_until: None, ..flags } });
        }
        let groups: Vec<(GroupId, GroupFlags)> = self
            .state
            .groups
            .iter()
            .filter(|(_, flags)| over(flags.maintenance_until))
            .map(|(id, flags)| (id.clone(), flags.clone()))
            .collect();
        for (group, flags) in groups {
            ended.push(group.to_string());
            self.record(Record::GroupFlags { group, flags: GroupFlags { maintenance_until: None, ..flags } });
        }
        for object in ended {
            self.note(now, "maintenance_over", &object, None, "manager", None);
        }
        self.touch_all();
        self.schedule_maintenance(now);
    }

    pub(in crate::ha::engine) fn schedule_maintenance(&mut self, now: Now) {
        let ends = self
            .state
            .maintenance_until
            .into_iter()
            .chain(self.state.hosts.values().filter_map(|flags| flags.maintenance_until))
            .chain(self.state.groups.values().filter_map(|flags| flags.maintenance_until));
        if let Some(first) = ends.min() {
            let rest = Duration::from_nanos(u64::try_from(first.saturating_sub(now.wall.0)).unwrap_or(0));
            // Looked at once a minute at least, since the wall clock may be set.
            self.timers.set(
                Timer::Maintenance,
                now.mono + rest.min(Duration::from_secs(60)) + Duration::from_millis(1),
            );
        } else {
            self.timers.cancel(&Timer::Maintenance);
        }
    }
}
