//! The state machine itself.

use std::time::Duration;

use lustreapi_sys::hal::ItemLength;

use super::event::{Effect, Event};
use crate::hsm::{Mono, RequestKey};

/// What a mover is configured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimConfig {
    /// Mover id.
    pub client_id: String,
    /// Name of the mounted file system, told to the daemon.
    pub fsname: String,
    /// Archive ids that the copytool registered for; empty for all.
    pub archive_ids: Vec<u32>,
    /// Archives that may run at the same time; `None` for no limit.
    pub max_archive: Option<u32>,
    /// Restores that may run at the same time.
    pub max_restore: Option<u32>,
    /// Removes that may run at the same time.
    pub max_remove: Option<u32>,
    /// The copytool's buffer, in bytes (`hal_size`).
    pub max_bytes: u32,
    /// How `hai_len` counts the data.
    pub item_length: ItemLength,
    /// Keep asking for work although the copytool is not in recv: it waits for the descriptor of get_fd to become readable.
    pub eager: bool,
    /// How long the daemon may take to answer `ehlo`, and a connection to stand.
    pub handshake_timeout: Duration,
    /// How long a copytool may sit on an action that it never began before the file is looked at.
    pub begin_timeout: Duration,
}

impl Default for ShimConfig {
    fn default() -> Self {
        Self {
            client_id: String::new(),
            fsname: String::new(),
            archive_ids: Vec::new(),
            max_archive: None,
            max_restore: None,
            max_remove: None,
            max_bytes: 1 << 20,
            item_length: ItemLength::Padded,
            eager: false,
            handshake_timeout: Duration::from_secs(30),
            begin_timeout: Duration::from_secs(60),
        }
    }
}

/// One mover's side of the protocol.
#[derive(Debug)]
pub struct Shim {}

impl Shim {
    /// A mover that is not connected yet: the first [`Event::Tick`] starts it.
    pub fn new(config: ShimConfig) -> Self {
        let _ = config;
        todo!()
    }

    /// Takes one event and appends to `effects` what follows from it.
    pub fn handle(&mut self, now: Mono, event: Event<'_>, effects: &mut Vec<Effect>) {
        let _ = (now, event, effects);
        todo!()
    }

    /// When [`Event::Tick`] is wanted at the latest.
    pub fn next_deadline(&self) -> Option<Mono> {
        todo!()
    }

    /// The next action list for the copytool, ready for it to read. Call [`Event::WorkWanted`] when there is none.
    pub fn take_list(&mut self, now: Mono) -> Option<Vec<u8>> {
        let _ = now;
        todo!()
    }

    /// Whether [`Self::take_list`] has something to give.
    pub fn has_list(&self) -> bool {
        todo!()
    }

    /// Until when the lease holds. `None` when the daemon grants no leases, and work need not stop.
    pub fn lease_until(&self) -> Option<Mono> {
        todo!()
    }

    /// Whether the daemon has answered `ehlo` on the present connection.
    pub fn is_ready(&self) -> bool {
        todo!()
    }

    /// Whether an attempt at this request may go on, or begin: it is among those that the daemon gave to this mover and has
    /// not been refused.
    pub fn holds(&self, key: &RequestKey) -> bool {
        let _ = key;
        todo!()
    }

    /// Actions handed to the copytool or about to be, not ended.
    pub fn in_flight(&self) -> usize {
        todo!()
    }

    /// Ends that the daemon has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        todo!()
    }
}
