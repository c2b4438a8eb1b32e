//! Which server to connect to, and when to try again.

use std::time::Duration;

use crate::hsm::Mono;

/// Pause after the first round of failures; each further round adds as much, up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two rounds, the C library's only one.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Addresses older than this are resolved again after a failed round.
const ADDRESS_AGE: Duration = Duration::from_secs(30);

/// State of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not connected; the next attempt starts then.
    Idle { retry_at: Mono },
    /// Names are being resolved.
    Resolving,
    /// A connection was asked for.
    Connecting { conn: u64, deadline: Mono },
    /// `ehlo` was sent.
    Handshake { conn: u64, sent: Mono, deadline: Mono },
    /// `ehlo` was answered.
    Ready { conn: u64, since: Mono },
}

/// What to do next to get connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    Resolve,
    Connect { conn: u64, server: usize },
}

/// The connection and the order in which servers are tried.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) state: State,
    servers: usize,
    resolved_at: Mono,
    /// Server of the present or next attempt.
    current: usize,
    /// Attempts that failed since one last succeeded.
    failures: u32,
    conns: u64,
    /// Spreads movers that lost the same server.
    spread: Duration,
}

impl Link {
    pub(super) fn new(spread: Duration) -> Self {
        Self {
            state: State::Idle { retry_at: Mono(0) },
            servers: 0,
            resolved_at: Mono(0),
            current: 0,
            failures: 0,
            conns: 0,
            spread,
        }
    }

    /// Starts an attempt if one is due.
    pub(super) fn attempt(&mut self, now: Mono, timeout: Duration) -> Option<Attempt> {
        let State::Idle { retry_at } = self.state else { return None };
        if retry_at > now {
            return None;
        }
        let round_failed =
            self.servers > 0 && self.failures > 0 && (self.failures as usize).is_multiple_of(self.servers);
        if self.servers == 0 || (round_failed && now.since(self.resolved_at) >= ADDRESS_AGE) {
            self.state = State::Resolving;
            return Some(Attempt::Resolve);
        }
        Some(self.connect(now, timeout))
    }

    fn connect(&mut self, now: Mono, timeout: Duration) -> Attempt {
        self.conns += 1;
        let conn = self.conns;
        self.state = State::Connecting { conn, deadline: now + timeout };
        Attempt::Connect { conn, server: self.current }
    }

    /// Names were resolved to so many addresses.
    pub(super) fn resolved(&mut self, now: Mono, servers: usize, timeout: Duration) -> Option<Attempt> {
        if self.state != State::Resolving {
            return None;
        }
        self.resolved_at = now;
        if servers == 0 {
            // Keep what was known before: a name server that is away need not stop us.
            self.failures = self.failures.saturating_add(1);
            if self.servers == 0 {
                self.state = State::Idle { retry_at: now + self.pause(self.failures) };
                return None;
            }
        } else {
            self.servers = servers;
            self.current %= servers;
        }
        Some(self.connect(now, timeout))
    }

    /// The present connection or attempt has failed: when to try again.
    pub(super) fn failed(&mut self, now: Mono) {
        let ready_since = match self.state {
            State::Ready { since, .. } => Some(since),
            _ => None,
        };
        let retry_at = if ready_since.is_some_and(|since| now.since(since) >= MAX_PAUSE) {
            self.failures = 0;
            now + self.spread
        } else if ready_since.is_some() {
            // It knew us and failed at once: perhaps it always will.
            self.failures = 0;
            now + self.pause(1)
        } else {
            self.failures = self.failures.saturating_add(1);
            if self.servers > 1 {
                self.current = (self.current + 1) % self.servers;
            }
            let rounds = self.failures / u32::try_from(self.servers.max(1)).unwrap_or(u32::MAX);
            let mid_round = self.servers > 1 && !(self.failures as usize).is_multiple_of(self.servers);
            if mid_round { now } else { now + self.pause(rounds) }
        };
        self.state = State::Idle { retry_at };
    }

    /// `ehlo` was answered.
    pub(super) fn ready(&mut self, now: Mono, conn: u64) {
        self.state = State::Ready { conn, since: now };
    }

    /// Number of the present connection, whatever its state.
    pub(super) fn conn(&self) -> Option<u64> {
        match self.state {
            State::Idle { .. } | State::Resolving => None,
            State::Connecting { conn, .. } | State::Handshake { conn, .. } | State::Ready { conn, .. } => {
                Some(conn)
            }
        }
    }

    /// Number of the connection on which requests may be sent.
    pub(super) fn ready_conn(&self) -> Option<u64> {
        match self.state {
            State::Ready { conn, .. } => Some(conn),
            _ => None,
        }
    }

    /// When there is something to do.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        match self.state {
            State::Idle { retry_at } => Some(retry_at),
            State::Connecting { deadline, .. } | State::Handshake { deadline, .. } => Some(deadline),
            State::Resolving | State::Ready { .. } => None,
        }
    }

    fn pause(&self, rounds: u32) -> Duration {
        (PAUSE * rounds.clamp(1, 5)).min(MAX_PAUSE) + self.spread
    }
}
