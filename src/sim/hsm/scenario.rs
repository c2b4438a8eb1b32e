//! What is drawn for one run: the site, its movers' habits, its users, and what goes wrong.

use std::time::Duration;

use super::orders::OrderPlan;
use super::watch::WatchPlan;
use crate::hsm::HsmConfig;
use crate::hsm::config::{BatchConfig, HostChoice, HostMapping};
use crate::sim::rng::Rng;

/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;
/// Nanoseconds of a millisecond.
pub const MILLI: u64 = 1_000_000;

/// A whole run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The coordinator's configuration.
    pub config: HsmConfig,
    /// Whether the daemon has a store.
    pub store: bool,
    /// Whether that is a redis server.
    pub redis: bool,
    /// The movers.
    pub movers: Vec<MoverPlan>,
    /// Whether cookies, which begin with the time, do not fit into 31 bits.
    pub late: bool,
    /// How many MDTs.
    pub mdts: u32,
    /// `max_requests` of each MDT.
    pub max_requests: u64,
    /// How many files users work on.
    pub files: u64,
    /// For how long users and faults go on, in nanoseconds.
    pub busy: u64,
    /// Mean time between two faults, in nanoseconds; 0 for none.
    pub fault_every: u64,
    /// Longest delay of a chunk on the network, in nanoseconds.
    pub net_delay: u64,
    /// Longest time of a sync, in nanoseconds.
    pub sync_delay: u64,
    /// What operators order.
    pub orders: OrderPlan,
    /// Timeouts and comparisons.
    pub watch: WatchPlan,
}

/// One mover.
#[derive(Debug, Clone)]
pub struct MoverPlan {
    /// Its id.
    pub id: String,
    /// Archive ids it serves; empty for all.
    pub archives: Vec<u32>,
    /// Its limits: archives, restores, removes.
    pub limits: [Option<u32>; 3],
    /// What its copytool does with a cancel.
    pub cancels: CancelHabit,
    /// Whether it has the C version's library: no lease, and progress of a restore goes under the volatile file's FID.
    pub c: bool,
    /// Whether its copytool reports progress.
    pub progress: bool,
    /// Whether it drops the request of an unlinked file without a word (lhsmtool_posix when the MDT index cannot be found).
    pub silent_on_missing: bool,
    /// Whether its copies hang now and then.
    pub hangs: bool,
    /// Whether each of its copies has a process of its own.
    pub forks: bool,
    /// Whether it now and then makes the volatile file of a restore on another MDT than the file's.
    pub strays: bool,
    /// Longest time of one step of a copy, in nanoseconds.
    pub step: u64,
    /// Most steps of a copy.
    pub steps: u64,
}

/// What copytools do with a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelHabit {
    /// lhsmtool_posix, lhsmtool_phobos: nothing; the copy sees it at its next progress.
    Ignore,
    /// lhsmtool_cmd: acknowledges it; the copy goes on and ends as well.
    Acknowledge,
    /// lemur: says that it cannot (ENOSYS).
    Unsupported,
}

impl Scenario {
    /// Draws a run.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::stream(seed, "scenario");
        let grace = Duration::from_millis(*rng.pick(&[500, 5_000, 60_000, 600_000]).unwrap_or(&5_000));
        let mut config = HsmConfig {
            fsname: "testfs0".to_owned(),
            client_grace: grace,
            lease: Duration::from_secs(*rng.pick(&[5, 60]).unwrap_or(&60)),
            ask_lustre: true,
            ..HsmConfig::default()
        };
        let calm = grace >= Duration::from_secs(60);
        let movers: Vec<MoverPlan> =
            (0..rng.between(1, 4)).map(|n| MoverPlan::draw(n, calm, &mut rng)).collect();
        if rng.one_in(2) {
            config.host_mappings = mappings(&movers, &mut rng);
        }
        if rng.one_in(2) {
            config.batch = Some(BatchConfig {
                idle: Duration::from_secs(rng.between(1, 20)),
                max: rng.one_in(2).then(|| Duration::from_secs(rng.between(20, 60))),
                slots: rng.between(1, 3) as u32,
            });
        }
        if rng.one_in(3) {
            config.reporting_hint = Some("cr=".to_owned());
            config.reporting_interval = Duration::from_secs(rng.between(0, 5));
        }
        let mut scenario = Self {
            orders: OrderPlan::default(),
            watch: WatchPlan::default(),
            config,
            late: seed.is_multiple_of(8),
            store: !rng.one_in(5),
            redis: false,
            movers,
            mdts: rng.between(1, 3) as u32,
            max_requests: *rng.pick(&[3, 20, 1000]).unwrap_or(&20),
            files: rng.between(1, 12),
            busy: rng.between(30, 240) * SECOND,
            fault_every: if rng.one_in(10) { 0 } else { rng.between(1, 20) * SECOND },
            net_delay: *rng.pick(&[1, MILLI, 50 * MILLI]).unwrap_or(&MILLI),
            sync_delay: *rng.pick(&[MILLI, 20 * MILLI, 500 * MILLI]).unwrap_or(&MILLI),
        };
        super::orders::draw(seed, &mut scenario);
        super::watch::draw(seed, &mut scenario);
        super::site::draw(seed, &mut scenario);
        super::outages::draw(seed, &mut scenario);
        super::orphans::draw(seed, &mut scenario.movers);
        super::habits::draw(seed, &mut scenario);
        scenario
    }

    /// What a user passes along with a request, so that mappings, batches and reports have something to do. At most five
    /// bytes matter to an operator who queues `active_requests`.
    pub fn data(rng: &mut Rng) -> &'static [u8] {
        rng.pick::<&[u8]>(&[b"", b"", b"t=a", b"t=b", b"t=c\0", b"g=ab", b"cr=x", b"\xff\xfe"])
            .copied()
            .unwrap_or(b"")
    }
}

/// Mappings only to movers that exist, so that everything can end.
fn mappings(movers: &[MoverPlan], rng: &mut Rng) -> Vec<HostMapping> {
    // Only movers for all archives, or work for another archive would wait for ever.
    let all: Vec<String> = movers.iter().filter(|m| m.archives.is_empty()).map(|m| m.id.clone()).collect();
    if all.is_empty() {
        return Vec::new();
    }
    let some = |rng: &mut Rng| {
        let skip = rng.below(all.len() as u64) as usize;
        all[skip..].to_vec()
    };
    vec![
        HostMapping { tag: "t=a".to_owned(), hosts: some(rng), choice: HostChoice::Any },
        HostMapping { tag: "t=b".to_owned(), hosts: some(rng), choice: HostChoice::Any },
        HostMapping {
            tag: "g=".to_owned(),
            hosts: some(rng),
            choice: HostChoice::Hash { modulus: rng.one_in(2).then_some(10) },
        },
    ]
}

impl MoverPlan {
    /// `calm`: a mover without a lease is back before its grace ends, unless it has died.
    fn draw(number: u64, calm: bool, rng: &mut Rng) -> Self {
        let limit = |rng: &mut Rng| (!rng.one_in(3)).then(|| rng.between(1, 4) as u32);
        let c = calm && rng.one_in(3);
        Self {
            id: format!("mover{number}"),
            // The first one serves everything, so that everything can end.
            archives: if number > 0 && rng.one_in(3) { vec![rng.between(1, 2) as u32] } else { Vec::new() },
            limits: [limit(rng), limit(rng), limit(rng)],
            cancels: *rng
                .pick(&[CancelHabit::Ignore, CancelHabit::Acknowledge, CancelHabit::Unsupported])
                .unwrap_or(&CancelHabit::Ignore),
            c,
            progress: !rng.one_in(3),
            // The C version's library never notices, and its place is taken for good.
            silent_on_missing: !c && rng.one_in(3),
            hangs: number > 0 && rng.one_in(4),
            forks: false,
            strays: false,
            step: rng.between(1, 4000) * MILLI,
            steps: rng.between(1, 6),
        }
    }
}
