//! The mover's lease: how long it may go on working without hearing from the daemon.

use std::collections::VecDeque;
use std::time::Duration;

use crate::hsm::Mono;

/// The shortest pause between renewals, however short the lease: a server that grants a millisecond must not keep us busy.
const MIN_PAUSE: Duration = Duration::from_millis(100);

/// A lease is counted from when the message that the daemon answered was *sent*, so that it never ends later here than
/// there, whatever the network does.
#[derive(Debug, Default)]
pub(super) struct Lease {
    /// Until when it holds; `None` when the daemon grants none.
    until: Option<Mono>,
    /// What the daemon last granted.
    granted: Duration,
    /// Next renewal, on a connection whose `ehlo` was answered with a lease.
    renew_at: Option<Mono>,
    serial: u64,
    /// Renewals not answered on this connection, oldest first: serial, and when it was sent.
    pending: VecDeque<(u64, Mono)>,
}

impl Lease {
    /// `ehlo`, sent at `sent`, was answered with a lease (zero for none).
    pub(super) fn granted(&mut self, sent: Mono, granted: Duration) {
        self.pending.clear();
        self.granted = granted;
        if granted.is_zero() {
            self.until = None;
            self.renew_at = None;
        } else {
            self.until = Some(sent + granted);
            self.renew_at = Some(sent + self.pause());
        }
    }

    /// Whether to send a renewal now: its serial number.
    pub(super) fn renewal(&mut self, now: Mono) -> Option<u64> {
        self.renew_at.filter(|at| *at <= now)?;
        self.serial += 1;
        self.pending.push_back((self.serial, now));
        self.renew_at = Some(now + self.pause());
        Some(self.serial)
    }

    fn pause(&self) -> Duration {
        (self.granted / 3).max(MIN_PAUSE)
    }

    /// The daemon answered the renewal with this number.
    pub(super) fn renewed(&mut self, serial: u64, granted: Duration) {
        let Some(position) = self.pending.iter().position(|(number, _)| *number == serial) else { return };
        let (_, sent) = self.pending[position];
        self.pending.drain(..=position);
        self.granted = granted;
        self.until = Some(self.until.map_or(sent + granted, |until| until.max(sent + granted)));
    }

    /// When a connection that does not answer renewals is given up: a third of the lease is left then to find another.
    pub(super) fn silent_at(&self) -> Option<Mono> {
        self.pending.front().map(|(_, sent)| *sent + self.granted / 3)
    }

    /// The connection is gone; the lease runs on until it lapses.
    pub(super) fn disconnected(&mut self) {
        self.pending.clear();
        self.renew_at = None;
    }

    /// Until when the lease holds.
    pub(super) fn until(&self) -> Option<Mono> {
        self.until
    }

    /// When there is something to do.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        [self.renew_at, self.silent_at()].into_iter().flatten().min()
    }
}
