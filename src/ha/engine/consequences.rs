//! What a new configuration would change for what runs.

use super::machine::Engine;
use crate::ha::config::Config;

impl Engine {
    pub(super) fn consequences_of_reload(&self, new: &Config) -> Vec<String> {
        let mut consequences = Vec::new();
        for (id, group) in &self.config.groups {
            let location = self.location(group);
            match (new.groups.get(id), location) {
                (None, Some(host)) => {
                    consequences.push(format!("{id} is forgotten; it goes on running on {host}"))
                }
                (Some(new), Some(host)) if !new.hosts().any(|other| *other == host) => {
                    consequences
                        .push(format!("{id} moves away from {host}, which is not one of its hosts any more"));
                }
                _ => {}
            }
        }
        for id in new.groups.keys().filter(|id| !self.config.groups.contains_key(*id)) {
            consequences
                .push(format!("{id} is looked for on all its hosts, then started if it runs nowhere"));
        }
        for (id, resource) in &new.resources {
            if self.config.resources.get(id).is_some_and(|old| old.spec != resource.spec) {
                consequences.push(format!(
                    "{id} is defined anew: it is not started as such before its old definition is proven stopped everywhere"
                ));
            }
        }
        consequences
    }
}
