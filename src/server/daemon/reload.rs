//! The configuration, read again.

use std::rc::Rc;

use super::{Daemon, say};
use crate::hsm::{Event, HsmConfig};
use crate::server::config::{self, Lustre, Problems, Settings, System};
use crate::server::shell::Shell;
use crate::system::logging::NOTICE;

impl Daemon<'_> {
    /// Takes up what can be taken up while running, and says what cannot. A configuration with an error changes nothing.
    pub(super) fn reload(&mut self, shell: &Rc<Shell>) {
        let loaded = match config::load(self.options, &System) {
            Ok(loaded) => loaded,
            Err(Problems(problems)) => {
                for problem in problems {
                    tracing::error!("{problem}");
                }
                tracing::error!("the configuration was not loaded again: the old one stays");
                return;
            }
        };
        self.logging.set(loaded.settings.verbose);
        say(&loaded.notes);
        let new = loaded.settings;
        for key in needs_restart(&self.settings, &new) {
            tracing::warn!("{key} has changed: that takes a restart");
        }
        let hsm = HsmConfig {
            fsname: self.fsname.clone(),
            // Without its threads a locator would only fail.
            locating: new.hsm.locating.clone().filter(|_| self.settings.locator.is_some()),
            ask_lustre: matches!(self.settings.lustre, Lustre::Mount(_)),
            archive_ids: self.settings.hsm.archive_ids.clone(),
            reporting_hint: new.hsm.reporting_hint.clone().filter(|_| self.settings.reporting_dir.is_some()),
            ..new.hsm.clone()
        };
        shell.handle(Event::Reconfigured(Box::new(hsm.clone())));
        self.settings.hsm = hsm;
        // Which ports there are takes a restart; what is behind them does not.
        let mut security = new.security;
        security.tls = self.settings.security.tls;
        if let Some(credentials) = &self.credentials {
            match credentials.reconfigure(security.sources(), security.policy) {
                Ok(()) => shell.apply(&credentials.policy()),
                Err(error) => tracing::error!("TLS: roles, certificates and keys stay as they were: {error}"),
            }
        }
        self.settings.reconcile = new.reconcile;
        tracing::info!(target: NOTICE, "configuration loaded again");
    }
}

/// Keys whose new value is not taken up while running.
fn needs_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let changed = [
        ("host", old.host != new.host),
        ("port", old.port != new.port),
        ("lustre", old.lustre != new.lustre),
        ("fsname", old.fsname != new.fsname),
        ("store", old.store != new.store),
        ("state_dir", old.state_dir != new.state_dir),
        ("redis_host", old.redis != new.redis),
        ("a key of redis", old.redis_server != new.redis_server),
        ("archive_id", old.hsm.archive_ids != new.hsm.archive_ids),
        ("reporting_dir", old.reporting_dir != new.reporting_dir),
        ("locator", old.locator != new.locator),
        (
            "archives_first_when_full",
            old.hsm.archives_first_when_full.is_none() && new.hsm.archives_first_when_full.is_some(),
        ),
        ("api_socket", old.api != new.api),
        ("api_group", old.api_group != new.api_group),
        ("api_read_group", old.api_read_group != new.api_read_group),
        ("metrics_listen", old.metrics_listen != new.metrics_listen),
        ("a limit on peers", old.limits != new.limits),
        ("tls", old.security.tls != new.security.tls),
        ("tls_port", old.security.tls_port != new.security.tls_port),
        ("plain", old.security.plain != new.security.plain),
        ("local_socket or local_group", old.security.local != new.security.local),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}
