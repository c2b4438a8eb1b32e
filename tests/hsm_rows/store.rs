//! The rows with the embedded store, or with none.

use harness::{Daemon, Settings, Testbed};

/// Starts the daemon with a store.
pub fn start<'bed>(bed: &'bed Testbed, settings: &Settings) -> Daemon<'bed> {
    Daemon::start(bed, settings)
}

/// Starts one that will have forgotten everything after [`restart_forgetful`].
pub fn start_forgetful(bed: &Testbed, settings: Settings) -> Daemon<'_> {
    Daemon::start(bed, &settings.line("store none"))
}

/// Restarts it.
pub fn restart_forgetful(daemon: &mut Daemon<'_>) {
    daemon.restart();
}
