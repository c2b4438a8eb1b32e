//! What the service manager is told: ready, alive, stopping.

use std::time::Duration;

use sd_notify::NotifyState;

/// Says that the daemon serves.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that the daemon stops.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Says that the daemon is alive.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`alive`] is to be called; `None` when nobody asks.
pub fn watchdog_interval() -> Option<Duration> {
    let mut micros = 0;
    // Half of the time allowed, as sd_watchdog_enabled(3) advises.
    (sd_notify::watchdog_enabled(false, &mut micros) && micros > 1).then(|| Duration::from_micros(micros / 2))
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::debug!("cannot notify the service manager: {error}");
    }
}
