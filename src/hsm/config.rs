//! What an administrator decides about placement, batching and reporting.

use std::collections::BTreeMap;
use std::time::Duration;

pub use super::bucket::Rate;
pub use super::limits::{Limit, Limits};
pub use super::locations::{HostRule, Locating};
pub use super::priorities::{Lane, Priorities};
pub use super::quarantine::QuarantineConfig;
pub use super::shares::ShareBy;
pub use super::tapes::TapeRules;

/// Configuration of the coordinator's core, already checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HsmConfig {
    /// Name of the file system: goes into every list, and `queue` requests for another are refused.
    pub fsname: String,
    /// Archive ids that we registered for; empty for any.
    pub archive_ids: Vec<u32>,
    /// How long a mover that lost its connection keeps its work (`client_grace_ms`).
    pub client_grace: Duration,
    /// Lease granted to movers that understand leases, at most `client_grace`.
    pub lease: Duration,
    /// `archive_on_hosts` and `archive_on_hosts_ch` in the order of the file. The **last** one is tried first (C 0.4).
    pub host_mappings: Vec<HostMapping>,
    /// `batch_archives_slices_sec`; `None` turns batching off.
    pub batch: Option<BatchConfig>,
    /// `reporting_hint`, normalised to end in `=`; `None` when reporting is off.
    pub reporting_hint: Option<String>,
    /// `reporting_schedule_interval_ms`; zero writes no progress and removes no file.
    pub reporting_interval: Duration,
    /// How much later a remove may be served than a restore that came at the same time, and an archive than a remove.
    /// A request that has waited this much longer goes first, so nothing starves.
    pub ageing: Ageing,
    /// How long a request that was recovered without a mover is held so that its mover may claim it.
    pub settle: Duration,
    /// `priorities on`; `None` makes all restores alike.
    pub priorities: Option<Priorities>,
    /// `fair_share`: within a lane whose requests take turns.
    pub fair_share: Option<ShareBy>,
    /// `share_weight NAME N`: turns of a share for each turn of one that is not named.
    pub share_weights: BTreeMap<String, u32>,
    /// `locator`: how restores find the medium and the host of their data.
    pub locating: Option<Locating>,
    /// `archives_first_when_full`, in percent.
    pub archives_first_when_full: Option<u8>,
    /// Whether there is a Lustre to ask about requests before they are sent. Without one nobody could tell, so all are sent.
    pub ask_lustre: bool,
    /// `active_request_timeout` of the MDTs, unless the shell reads it from Lustre ([`super::Event::RequestTimeout`]). Each
    /// request is kept alive every quarter of it; zero keeps nothing alive.
    pub request_timeout: Duration,
    /// How long a request that runs is kept alive: what runs longer and reports no progress is timed out by the MDT.
    pub keepalive_running_max: Duration,
    /// Keepalives sent in a second at most, 0 for no limit.
    pub keepalive_rate: u32,
    /// How many requests of one class may wait although no mover can take them; 0 for any number.
    pub stranded_max: u32,
    /// After how long without a mover that can take it a request is ended with an error; zero for never.
    pub stranded_timeout: Duration,
    /// How many ended requests are remembered (`history_size`).
    pub history_size: usize,
    /// Whether the sizes of all files are looked up, to count bytes (`count_bytes`).
    pub count_bytes: bool,
    /// How many failed requests are kept for an operator (`dead_letters`); 0 keeps none and tries none again.
    pub dead_letters: usize,
    /// How often the MDT is asked again for a request that failed (`retry_limit`); 0 for never, as in C.
    pub retry_limit: u32,
    /// How long after the first failure that is; twice as long after each further one (`retry_backoff_ms`).
    pub retry_backoff: Duration,
    /// When movers that fail get nothing for a while.
    pub quarantine: QuarantineConfig,
    /// `limit_mover`, `limit_hint` and `limit_user`.
    pub limits: Limits,
}

/// Head start of the more urgent kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ageing {
    /// Of restores before removes.
    pub remove: Duration,
    /// Of restores before archives.
    pub archive: Duration,
}

impl Default for Ageing {
    fn default() -> Self {
        Self { remove: Duration::from_secs(600), archive: Duration::from_secs(3600) }
    }
}

/// Requests with a tag go to certain hosts only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostMapping {
    /// The tag to look for in the data: a whole hint (`tag=n0`), or one up to its `=` (`grouping=`).
    pub tag: String,
    /// Mover ids that may take the request; never empty.
    pub hosts: Vec<String>,
    /// How a host is chosen.
    pub choice: HostChoice,
}

/// How a mapping chooses among its hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostChoice {
    /// `archive_on_hosts`: any of them, online ones first.
    Any,
    /// `archive_on_hosts_ch`: always the same one, by the djb2 hash of the tag's value. With a modulus the value is first
    /// replaced by hash % modulus in what movers see.
    Hash {
        /// `None` (0 in the file) keeps the value.
        modulus: Option<u64>,
    },
}

/// Batching of archives with the same data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchConfig {
    /// A slot without work for this long is given to another tag.
    pub idle: Duration,
    /// A slot is given up after this long even if there is work; `None` for no such limit.
    pub max: Option<Duration>,
    /// Slots of each mover (`batch_archives_slots_per_client`), at least 1.
    pub slots: u32,
}

impl Default for HsmConfig {
    fn default() -> Self {
        Self {
            fsname: String::new(),
            archive_ids: Vec::new(),
            client_grace: Duration::from_secs(600),
            lease: Duration::from_secs(60),
            host_mappings: Vec::new(),
            batch: None,
            reporting_hint: None,
            reporting_interval: Duration::from_secs(60),
            ageing: Ageing::default(),
            settle: Duration::ZERO,
            priorities: None,
            fair_share: None,
            share_weights: BTreeMap::new(),
            locating: None,
            archives_first_when_full: None,
            ask_lustre: false,
            request_timeout: Duration::from_secs(3600),
            keepalive_running_max: Duration::from_secs(7 * 86_400),
            keepalive_rate: 2000,
            stranded_max: 100_000,
            // A mover that dies on Friday evening is back on Monday.
            stranded_timeout: Duration::from_secs(3 * 86_400),
            history_size: 10_000,
            count_bytes: false,
            dead_letters: 10_000,
            retry_limit: 0,
            retry_backoff: Duration::from_secs(60),
            quarantine: QuarantineConfig::default(),
            limits: Limits::default(),
        }
    }
}
