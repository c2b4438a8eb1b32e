//! The rows with redis.

use std::ops::{Deref, DerefMut};

use harness::{Daemon, Redis, Settings, Testbed};

/// A daemon and its redis.
pub struct Served<'bed> {
    daemon: Daemon<'bed>,
    redis: Redis<'bed>,
}

impl<'bed> Deref for Served<'bed> {
    type Target = Daemon<'bed>;

    fn deref(&self) -> &Daemon<'bed> {
        &self.daemon
    }
}

impl<'bed> DerefMut for Served<'bed> {
    fn deref_mut(&mut self) -> &mut Daemon<'bed> {
        &mut self.daemon
    }
}

/// Starts both. What nobody ran before a crash is given out soon after it: the movers here come back at once.
pub fn start<'bed>(bed: &'bed Testbed, settings: &Settings) -> Served<'bed> {
    let redis = Redis::start(bed);
    let arguments = redis.arguments();
    let settings = settings.clone().line("settle_ms 200");
    let daemon = Daemon::start_with(bed, &settings, &arguments.each_ref().map(String::as_str));
    Served { daemon, redis }
}

/// The same.
pub fn start_forgetful(bed: &Testbed, settings: Settings) -> Served<'_> {
    start(bed, &settings)
}

/// Restarts the daemon with a redis that holds nothing, as the original's suite clears it.
pub fn restart_forgetful(served: &mut Served<'_>) {
    served.daemon.stop();
    served.redis.kill();
    served.redis.forget();
    served.redis.start_again();
    served.daemon.start_again();
}
