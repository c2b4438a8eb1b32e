//! Another configuration takes effect.

use super::groups::GroupEntry;
use super::machine::Engine;
use crate::ha::config::Config;
use crate::time::Now;

impl Engine {
    pub(super) fn reload(&mut self, now: Now, config: Config) {
        self.manage = config.settings.manage.unwrap_or(self.manage_by_default);
        self.config = config;
        self.take_groups();
        // A fence agent may have been replaced with the configuration.
        self.unfencing_needs.retain(|_, need| *need == super::fences::Need::Asking);
        self.take_configuration(now);
        self.unfence_all(now);
    }

    /// Keeps what is remembered of groups in line with the configuration.
    pub(super) fn take_groups(&mut self) {
        let config = &self.config;
        self.groups.retain(|id, _| config.groups.contains_key(id));
        for id in config.groups.keys() {
            self.groups.entry(id.clone()).or_insert_with(GroupEntry::new);
        }
    }
}
