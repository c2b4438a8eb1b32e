//! Commands that move groups: deactivate, failback, move.

use super::*;
use crate::ha::status::Phase;

impl Engine {
    pub(super) fn plan_deactivate(&self, now: Now, host: HostId, force: bool) -> Result<Plan, Denied> {
        self.acting()?;
        self.host(&host)?;
        let partners = self.partners(&host);
        if !force && !partners.is_empty() && partners.iter().all(|partner| !self.is_active(partner)) {
            return conflict(format!(
                "Could not deactivate '{host}': Partner host is already deactivated. You cannot deactivate both hosts in a pair."
            ));
        }
        let mut consequences = Vec::new();
        for id in self.groups_on(&host) {
            let Some(group) = self.config.groups.get(&id) else { continue };
            if !self.is_managed(&id) {
                consequences.push(format!("{id} is left alone: it is not managed"));
                continue;
            }
            match self.choose(now, group, Some(&host)) {
                Ok(destination) => consequences.push(format!("{id} moves from {host} to {destination}")),
                Err(reasons) if force => consequences.push(format!("{id} stays: {}", reasons.join(", "))),
                Err(reasons) => {
                    let why = reasons.join(", ");
                    return conflict(format!(
                        "Could not deactivate '{host}': {id} has nowhere to run: {why}"
                    ));
                }
            }
        }
        for group in self.groups_bound_for(now, &host).filter(|_| !force) {
            if let Err(reasons) = self.choose(now, group, Some(&host)) {
                let why = reasons.join(", ");
                return conflict(format!(
                    "Could not deactivate '{host}': {} is about to start there and has nowhere else to run: {why}",
                    group.id
                ));
            }
        }
        if consequences.is_empty() {
            consequences.push(format!("{host} is kept free of groups; none is there now"));
        }
        let flags = HostFlags { deactivated: true, ..self.host_flags(&host) };
        Ok(Plan {
            event: "deactivate",
            object: host.to_string(),
            what: format!("deactivate {host}"),
            consequences,
            records: vec![Record::HostFlags { host: host.clone(), flags }],
            then: Then::Nothing,
            goal: Goal::Empty(host),
        })
    }

    /// Groups that have to leave their host, or run nowhere, and would be started on this one.
    fn groups_bound_for<'a>(&'a self, now: Now, host: &'a HostId) -> impl Iterator<Item = &'a Group> {
        let groups = self.groups_of.get(host).into_iter().flatten();
        groups.filter_map(|id| self.config.groups.get(id)).map(AsRef::as_ref).filter(move |group| {
            self.is_managed(&group.id)
                && !self.is_stopped_by_operator(group)
                && match self.location(group) {
                    Some(at) => at != *host && !self.is_active(&at),
                    None => true,
                }
                && self.choose(now, group, None).is_ok_and(|destination| destination == *host)
        })
    }

    /// What keeps a frozen group from being touched: nothing would come of a move.
    fn why_frozen(&self, id: &GroupId) -> Option<String> {
        let frozen = self.groups.get(id).is_some_and(|entry| entry.phase == Phase::Frozen);
        frozen.then(|| format!("{id} is frozen: {}", self.waits_of(id)))
    }

    fn is_stopped_by_operator(&self, group: &Group) -> bool {
        self.group_flags(&group.id).stopped || self.is_to_be_down(&group.root)
    }

    pub(super) fn plan_failback(&self, now: Now, host: HostId) -> Result<Plan, Denied> {
        self.acting()?;
        self.host(&host)?;
        let refuse = |why: &str| conflict(format!("Could not perform failback onto '{host}': {why}"));
        if self.partners(&host).is_empty() {
            return Err(Denied {
                kind: DeniedKind::Invalid,
                message: "Host does not have a failover partner.".to_owned(),
            });
        }
        if !self.is_active(&host) {
            return refuse("Host is deactivated. Please activate it before running resources on it.");
        }
        if !self.hosts.get(&host).is_some_and(|host| host.is_up()) {
            return refuse("Host is not connected.");
        }
        let mut records = Vec::new();
        let mut groups = Vec::new();
        let mut consequences = Vec::new();
        for group in
            self.config.groups.values().filter(|group| group.home == host && self.is_managed(&group.id))
        {
            if self.location(group).as_ref() == Some(&host) {
                continue;
            }
            if let Some(why) = self.why_frozen(&group.id) {
                return refuse(&why);
            }
            if let Err(why) = self.can_run_on(now, group, &host) {
                return refuse(&why);
            }
            consequences.push(format!("{} moves from {} to {host}", group.id, self.located(group)));
            let flags = GroupFlags { wanted_on: Some(host.clone()), ..self.group_flags(&group.id) };
            records.push(Record::GroupFlags { group: group.id.clone(), flags });
            groups.push(group.id.clone());
        }
        Ok(Plan {
            event: "failback",
            object: host.to_string(),
            what: format!("failback onto {host}"),
            consequences,
            records,
            then: Then::Nothing,
            goal: Goal::On { groups, host },
        })
    }

    pub(super) fn plan_move(&self, now: Now, id: &GroupId, to: Option<HostId>) -> Result<Plan, Denied> {
        self.acting()?;
        let group = self.group(id)?;
        if !self.is_managed(id) {
            return conflict(format!("Could not move '{id}': it is not managed, or in maintenance."));
        }
        if let Some(why) = self.why_frozen(id) {
            return conflict(format!("Could not move '{id}': {why}."));
        }
        let location = self.location(group);
        let to = match to {
            Some(to) => {
                self.host(&to)?;
                if !group.hosts().any(|host| *host == to) {
                    let hosts: Vec<&str> = group.hosts().map(HostId::as_str).collect();
                    return conflict(format!(
                        "Could not move '{id}' to '{to}': it may run on {}.",
                        hosts.join(", ")
                    ));
                }
                if let Err(why) = self.can_run_on(now, group, &to) {
                    return conflict(format!("Could not move '{id}' to '{to}': {why}."));
                }
                to
            }
            None => match self.choose(now, group, location.as_ref()) {
                Ok(to) => to,
                Err(reasons) => return conflict(format!("Could not move '{id}': {}.", reasons.join(", "))),
            },
        };
        let consequence = match &location {
            Some(from) if *from == to => format!("{id} is on {to} already"),
            Some(from) => format!("{id} is stopped on {from} and started on {to}"),
            None => format!("{id} is started on {to}"),
        };
        let flags = GroupFlags { wanted_on: Some(to.clone()), ..self.group_flags(id) };
        Ok(Plan {
            event: "move",
            object: id.to_string(),
            what: format!("move {id} to {to}"),
            consequences: vec![consequence],
            records: vec![Record::GroupFlags { group: id.clone(), flags }],
            then: Then::Nothing,
            goal: Goal::On { groups: vec![id.clone()], host: to },
        })
    }
}
