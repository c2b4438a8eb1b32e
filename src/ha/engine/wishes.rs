//! Moves that a restart of the manager interrupted. The wish is durable and goes on, but no command follows it any more: when
//! its host cannot have the group, somebody has to be told, and the group must not be drawn there much later.

use std::collections::BTreeMap;
use std::time::Duration;

use super::machine::Engine;
use crate::ha::ids::{GroupId, HostId};
use crate::ha::status::HostState;
use crate::time::Now;

/// How long a manager that begins waits for a host that it has not seen.
const NOT_SEEN: Duration = Duration::from_secs(60);

/// A move that nobody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// It is under way.
    Open(HostId),
    /// It was given up, for this reason, then (wall clock).
    GivenUp(HostId, String, i64),
}

/// All of them.
pub(super) type Wishes = BTreeMap<GroupId, Wish>;

impl Engine {
    /// Takes up what an earlier run of the manager began.
    pub(super) fn take_up_wishes(&mut self) {
        let wanted = self.state.groups.iter();
        let open = wanted.filter_map(|(id, flags)| Some((id.clone(), Wish::Open(flags.wanted_on.clone()?))));
        self.wishes = open.collect();
    }

    /// Ends those that cannot be fulfilled, and forgets those that are, or that a newer decision replaced.
    pub(super) fn follow_wishes(&mut self, now: Now) {
        if self.wishes.is_empty() || !self.acts() {
            return;
        }
        for (id, wish) in self.wishes.clone() {
            let wanted = self.state.groups.get(&id).and_then(|flags| flags.wanted_on.as_ref());
            let group = self.config.groups.get(&id).cloned();
            let is_there =
                |host: &HostId| group.as_ref().and_then(|group| self.location(group)).as_ref() == Some(host);
            match wish {
                Wish::Open(host) if wanted != Some(&host) => {
                    self.wishes.remove(&id);
                }
                Wish::Open(host) => {
                    let Some(group) = group.as_ref().filter(|_| self.is_managed(&id) && !is_there(&host))
                    else {
                        continue;
                    };
                    let Err(why) = self.can_run_on(now, group, &host) else { continue };
                    if self.may_change_soon(now, &host) {
                        continue;
                    }
                    self.forget_wish(&id, &host);
                    let comment = format!("a restart of the manager interrupted it, and now {why}");
                    self.note(now, "move_given_up", id.as_str(), Some(&host), "manager", Some(comment));
                    self.wishes.insert(id, Wish::GivenUp(host, why, now.wall.0));
                }
                Wish::GivenUp(host, ..) if wanted.is_some() || group.is_none() || is_there(&host) => {
                    self.wishes.remove(&id);
                }
                Wish::GivenUp(..) => {}
            }
        }
    }

    /// Whether a host that cannot have a group now may have it in a moment.
    fn may_change_soon(&self, now: Now, id: &HostId) -> bool {
        let Some(host) = self.hosts.get(id) else { return false };
        match host.state {
            HostState::Connected => !host.is_up() || self.is_being_let_in(id).is_some(),
            HostState::Suspect | HostState::AgentDown => true,
            HostState::Unseen => now.mono.since(self.begun) < NOT_SEEN,
            HostState::Lost | HostState::Fencing | HostState::Off | HostState::Refused => false,
        }
    }

    /// Moves that were given up and that nobody has decided about since: group, host, why, since when.
    pub(super) fn given_up_moves(&self) -> impl Iterator<Item = (&GroupId, &HostId, &str, i64)> {
        self.wishes.iter().filter_map(|(id, wish)| match wish {
            Wish::GivenUp(host, why, since) => Some((id, host, &**why, *since)),
            Wish::Open(_) => None,
        })
    }
}
