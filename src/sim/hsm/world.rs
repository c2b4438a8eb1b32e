//! The world of one run: time, network, disk, MDTs, daemon, movers, users.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use lustre_sim::mdt::{self, Call, CallId, ClientId, Cred, FileSystem, FsConfig, FsEvent, Params, Time};
use lustreapi_sys::Fid;

use super::daemon::Daemon;
use super::durable::Promised;
use super::exclusive::Began;
use super::mover::Mover;
use super::operator::{Errand, Operator};
use super::orphans::Orphan;
use super::redis::{Loss, Redis};
use super::report::Report;
use super::scenario::{SECOND, Scenario};
use super::users::UserFile;
use crate::hsm::{ActionItem, Attributes, Located, LustreCall, Mono, Now, RequestKey, Wall};
use crate::sim::network::{Arrival, End, LinkId, Network};
use crate::sim::rng::Rng;
use crate::store::memory_disk::MemoryDisk;

/// Wall-clock second at which every run starts.
const EPOCH: i64 = 1_795_216_572;
/// The same for runs of the day after tomorrow, when cookies do not fit into 31 bits any more.
const LATE_EPOCH: i64 = 2_200_000_000;
/// The client mount of everybody who is no mover and not the daemon.
pub(super) const USERS: ClientId = ClientId(1);
/// The client mount of the daemon.
pub(super) const DAEMON: ClientId = ClientId(2);

/// Something that is going to happen.
#[derive(Debug)]
pub(super) enum Task {
    /// A call reaches the MDT.
    Call { client: ClientId, call: Call, then: Then },
    /// An answer reaches its caller.
    Answer { then: Then, result: Result<mdt::Answer, mdt::Errno> },
    /// Bytes reach the daemon's end of the pipe.
    Pipe { boot: u64, bytes: Vec<u8> },
    /// The disk has synced.
    Sync { boot: u64 },
    /// The daemon dies, with changes that wait for the disk.
    Crash { boot: u64 },
    /// The daemon starts.
    DaemonStart,
    /// The daemon registers again.
    Register { boot: u64 },
    /// The daemon has found out about a silent peer.
    Probed { boot: u64, link: LinkId },
    /// A mover starts.
    MoverStart { mover: usize },
    /// A mover's name lookup or connection attempt ends.
    Resolved { mover: usize, life: u64 },
    /// A mover's connection attempt ends.
    Connecting { mover: usize, life: u64, conn: u64 },
    /// A copytool's thread goes on.
    Step { mover: usize, life: u64, attempt: u64 },
    /// A child of a copytool that is dead goes on.
    Orphan { number: u64 },
    /// A user does something to a file.
    User { file: usize },
    /// The operator does something.
    Operator(Errand),
    /// An operator gives an order.
    Orders,
    /// What the MDTs list is compared with what the daemon has.
    Compare,
    /// Something goes wrong.
    Fault,
    /// An MDT is up again.
    MdtStart { mdt: u32 },
    /// Movers that have work of an MDT are stopped for a while.
    StopMovers { mdt: u32 },
    /// The host of the daemon and its redis loses its power.
    LoseHost,
    /// A connection breaks.
    Cut { link: LinkId },
    /// A mover is stopped until then: this is what comes to it meanwhile.
    Frozen { link: LinkId, arrival: Arrival },
    /// The redis server is back.
    RedisBack { loss: Loss },
    /// The store on the redis server is looked after.
    Tend,
    /// The daemon learns whose file it is.
    LookedUp { boot: u64, found: (RequestKey, Option<Attributes>) },
    /// The daemon learns where something lies.
    Located { boot: u64, found: (RequestKey, Located) },
    /// The daemon learns how full the file system is.
    Space,
    /// From now on nothing goes wrong any more.
    Calm,
}

/// Who waits for an answer of an MDT.
#[derive(Debug, Clone)]
pub(super) enum Then {
    /// The daemon, for the end of a request that it gave.
    DaemonEnd { boot: u64, key: RequestKey },
    /// The daemon, for another call.
    DaemonAsk { boot: u64, call: LustreCall },
    /// The daemon, for its registration.
    Registered { boot: u64 },
    /// A mover's begin.
    Begun { mover: usize, life: u64, attempt: u64 },
    /// A mover's volatile file.
    Volatile { mover: usize, life: u64, attempt: u64 },
    /// A mover's read of a file that it archives.
    Readable { mover: usize, life: u64, attempt: u64 },
    /// A mover's progress.
    Progress { mover: usize, life: u64, attempt: u64 },
    /// A mover's end.
    Ended { mover: usize, life: u64, attempt: u64 },
    /// The end of a child whose copytool is dead.
    OrphanEnded { key: RequestKey, failed: bool },
    /// A mover's end of a cancel.
    CancelEnded { mover: usize, life: u64, item: Box<ActionItem> },
    /// A user's new file.
    Created { file: usize },
    /// A user's blocked read.
    Read { file: usize, fid: Fid },
    /// A user's write.
    Wrote { fid: Fid },
    /// Nobody cares.
    Nobody,
}

/// One run.
pub(super) struct World {
    pub now: u64,
    pub scenario: Scenario,
    pub seed: u64,
    agenda: BTreeMap<(u64, u64), Task>,
    tasks: u64,
    pub net: Network,
    /// Whose connection it is, and the mover's life and number for it.
    pub link_owner: BTreeMap<LinkId, Owner>,
    /// In which life of the daemon a mover's connection was made.
    pub link_boot: BTreeMap<LinkId, u64>,
    pub fs: FileSystem,
    pub fs_effects: Vec<mdt::Effect>,
    calls: u64,
    pub waiting: BTreeMap<CallId, Then>,
    pub daemon: Option<Daemon>,
    pub boots: u64,
    /// The daemon's disk while it is not running.
    pub disk: MemoryDisk,
    /// The redis server while the daemon is not running.
    pub redis: Option<Box<Redis>>,
    /// The daemon's life that began without knowing what movers have.
    pub amnesia: u64,
    /// What the daemon's present life began with.
    pub began: Began,
    pub pipe_at: u64,
    pub sync_planned: bool,
    /// Deliver the next list twice.
    pub deliver_twice: bool,
    /// Crash when changes next wait for the disk.
    pub crash_unsynced: bool,
    /// Cut the power of the daemon and its redis when a mover next gets something.
    pub lose_host_soon: bool,
    /// Stop the next busy mover that asks for its lease.
    pub stop_at_renewal: bool,
    /// Until when MDTs are slow to answer the daemon.
    pub slow_until: u64,
    /// How far the daemon's wall clock is off, in nanoseconds.
    pub wall_offset: i64,
    pub movers: Vec<Mover>,
    /// Children of copytools that are dead.
    pub orphans: BTreeMap<u64, Orphan>,
    pub last_orphan: u64,
    pub clients: u32,
    pub users: Vec<UserFile>,
    pub operator: Operator,
    /// What must survive crashes of the daemon.
    pub promised: Promised,
    /// What is in each file: a number for each content there ever was.
    pub contents: BTreeMap<Fid, u64>,
    pub last_content: u64,
    /// What was in a file when it was released.
    pub released: BTreeMap<Fid, u64>,
    /// When each file was released.
    pub released_at: BTreeMap<Fid, u64>,
    /// When the daemon last decided to give a request to a mover.
    pub given_at: BTreeMap<RequestKey, u64>,
    /// Files whose copy a mover has removed.
    pub removed: BTreeSet<Fid>,
    /// Files that Lustre made dirty although they are released, after an end that a mover gave.
    pub locked: BTreeSet<Fid>,
    /// What the back end holds.
    pub backend: BTreeMap<Fid, u64>,
    /// Restores that are bound to a mover of which the daemon has forgotten that it had them.
    pub bound_unknown: BTreeSet<RequestKey>,
    /// MDTs that restarted while they had these requests in memory.
    pub forgotten: BTreeSet<(u32, u64)>,
    /// Requests that the daemon cannot know of any more, or need not.
    pub given_up: BTreeSet<RequestKey>,
    /// Requests whose end an MDT refused, and whose mover could not say so.
    pub unsaid: BTreeSet<RequestKey>,
    pub calm: bool,
    pub rng: Rng,
    /// For comparisons with what the MDTs list.
    pub watch_rng: Rng,
    /// For the redis server.
    pub outage_rng: Rng,
    /// For habits of copytools and what processes suffer.
    pub habit_rng: Rng,
    /// For owners and tapes.
    pub site_rng: Rng,
    /// For orders and what leads to them.
    pub order_rng: Rng,
    pub report: Report,
    pub trace: bool,
}

/// Whose connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner {
    Mover { mover: usize, life: u64, conn: u64 },
    Operator,
}

fn epoch(scenario: &Scenario) -> i64 {
    if scenario.late { LATE_EPOCH } else { EPOCH }
}

impl World {
    pub(super) fn new(seed: u64, trace: bool) -> Self {
        let scenario = Scenario::draw(seed);
        let params = Params {
            max_requests: scenario.max_requests,
            loop_period: 1,
            active_request_timeout: scenario.config.request_timeout.as_secs() as u32,
            ..Params::default()
        };
        let config = FsConfig { mdts: scenario.mdts, params, ..FsConfig::default() };
        let fs = FileSystem::new(config, Time { mono: 0, wall: epoch(&scenario) });
        let movers = scenario.movers.iter().cloned().map(Mover::new).collect();
        let mut world = Self {
            now: 0,
            net: Network::new(Rng::stream(seed, "network"), scenario.net_delay),
            users: (0..scenario.files).map(|_| UserFile::default()).collect(),
            disk: MemoryDisk::default(),
            redis: scenario.redis.then(Box::default),
            amnesia: 0,
            rng: Rng::stream(seed, "world"),
            watch_rng: Rng::stream(seed, "watch, later"),
            outage_rng: Rng::stream(seed, "outages, later"),
            habit_rng: Rng::stream(seed, "habits"),
            site_rng: Rng::stream(seed, "site, later"),
            order_rng: Rng::stream(seed, "operators"),
            scenario,
            seed,
            agenda: BTreeMap::new(),
            tasks: 0,
            link_owner: BTreeMap::new(),
            link_boot: BTreeMap::new(),
            fs,
            fs_effects: Vec::new(),
            calls: 0,
            waiting: BTreeMap::new(),
            daemon: None,
            boots: 0,
            began: Began::default(),
            pipe_at: 0,
            sync_planned: false,
            deliver_twice: false,
            crash_unsynced: false,
            lose_host_soon: false,
            stop_at_renewal: false,
            slow_until: 0,
            wall_offset: 0,
            movers,
            orphans: BTreeMap::new(),
            last_orphan: 0,
            clients: 10,
            operator: Operator::default(),
            promised: Promised::default(),
            contents: BTreeMap::new(),
            last_content: 0,
            released: BTreeMap::new(),
            released_at: BTreeMap::new(),
            given_at: BTreeMap::new(),
            removed: BTreeSet::new(),
            locked: BTreeSet::new(),
            backend: BTreeMap::new(),
            bound_unknown: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            given_up: BTreeSet::new(),
            unsaid: BTreeSet::new(),
            calm: false,
            report: Report { fingerprint: 0xcbf2_9ce4_8422_2325, ..Report::default() },
            trace,
        };
        if trace {
            println!("{:#?}", world.scenario);
        }
        for (client, uuid) in [(USERS, "users"), (DAEMON, "daemon")] {
            let time = world.time();
            world.fs.handle(time, FsEvent::Mount { client, uuid: uuid.to_owned() }, &mut world.fs_effects);
        }
        world.after(0, Task::DaemonStart);
        for mover in 0..world.movers.len() {
            let delay = world.rng.below(5 * SECOND);
            world.after(delay, Task::MoverStart { mover });
        }
        for file in 0..world.users.len() {
            let delay = world.rng.below(10 * SECOND);
            world.after(delay, Task::User { file });
        }
        if world.scenario.fault_every > 0 {
            world.after(world.scenario.fault_every, Task::Fault);
        }
        if world.scenario.orders.every > 0 {
            world.after(world.scenario.orders.every, Task::Orders);
        }
        if world.scenario.config.archives_first_when_full.is_some() {
            world.after(SECOND, Task::Space);
        }
        if world.scenario.redis {
            world.after(SECOND, Task::Tend);
        }
        world.after(world.scenario.busy, Task::Calm);
        world
    }

    /// Notes something that happened: it becomes part of the run's fingerprint.
    pub(super) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        struct Hash(u64);
        impl std::fmt::Write for Hash {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                for byte in text.bytes() {
                    self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
                Ok(())
            }
        }
        let mut hash = Hash(self.report.fingerprint);
        let _ = write!(hash, "{} {what}", self.now);
        self.report.fingerprint = hash.0;
        self.report.events += 1;
        if self.trace {
            println!("{:>14.6} {what}", self.now as f64 / 1e9);
        }
    }

    pub(super) fn clock(&self) -> Now {
        let wall = i64::try_from(self.now).unwrap_or(i64::MAX).saturating_add(self.wall_offset);
        let epoch = epoch(&self.scenario).saturating_mul(1_000_000_000);
        Now { mono: Mono(self.now), wall: Wall(epoch.saturating_add(wall)) }
    }

    pub(super) fn time(&self) -> Time {
        Time { mono: self.now, wall: epoch(&self.scenario) + (self.now / SECOND) as i64 }
    }

    /// Plans something.
    pub(super) fn after(&mut self, delay: u64, task: Task) {
        self.tasks += 1;
        self.agenda.insert((self.now + delay, self.tasks), task);
    }

    /// Runs to the end.
    pub(super) fn run(mut self) -> Result<Report, String> {
        loop {
            self.settle()?;
            if self.calm && self.finished() {
                break;
            }
            let next = [
                self.agenda.keys().next().map(|(at, _)| *at),
                self.net.next_arrival(),
                self.fs.next_deadline(),
                self.daemon.as_ref().and_then(|d| d.core.next_deadline()).map(|at| at.0),
                self.movers.iter().filter_map(|m| Some(m.next_deadline()?.0.max(m.paused_until))).min(),
            ];
            let Some(next) = next.into_iter().flatten().min() else {
                return Err(format!("nothing will ever happen again:\n{}", self.outstanding()));
            };
            self.now = self.now.max(next);
            if self.now > self.scenario.busy + 4 * 3600 * SECOND {
                return Err(format!("not finished four hours after the last fault:\n{}", self.outstanding()));
            }
            if self.report.events > 3_000_000 {
                return Err(format!("too much happens:\n{}", self.outstanding()));
            }
            self.advance()?;
        }
        if let Some(counters) = self.daemon.as_ref().map(|daemon| daemon.core.counters()) {
            self.count(&counters);
        }
        self.judge()?;
        self.report.seconds = self.now / SECOND;
        Ok(self.report)
    }

    /// Does one thing that is due.
    fn advance(&mut self) -> Result<(), String> {
        if self.net.next_arrival().is_some_and(|at| at <= self.now) {
            while let Some((link, end, arrival)) = self.net.take(self.now) {
                self.arrival(link, end, arrival)?;
                self.settle()?;
            }
            return Ok(());
        }
        if let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= self.now
        {
            let task = entry.remove();
            return self.perform(task);
        }
        let clock = self.clock();
        if let Some(daemon) = &mut self.daemon
            && daemon.core.next_deadline().is_some_and(|at| at <= clock.mono)
        {
            daemon.tick(clock)?;
            if daemon.core.next_deadline().is_some_and(|at| at <= clock.mono) {
                // A slice of longer work: the clock moves on a little.
                self.now += 1000;
            }
            self.note(format_args!("daemon: timer"));
            return Ok(());
        }
        for mover in 0..self.movers.len() {
            let now = self.now;
            let due =
                |m: &Mover| m.paused_until <= now && m.next_deadline().is_some_and(|at| at <= clock.mono);
            if self.movers.get(mover).is_some_and(due) {
                self.note(format_args!("mover{mover}: timer"));
                self.shim(mover, crate::shim::Event::Tick)?;
                if self.movers.get(mover).is_some_and(due) {
                    return Err(format!("mover{mover}: the timer does not go away"));
                }
                return Ok(());
            }
        }
        let time = self.time();
        self.fs.handle(time, FsEvent::Tick, &mut self.fs_effects);
        Ok(())
    }

    /// When the mover's process runs again that a task is for, if it is stopped.
    fn frozen_until(&self, task: &Task) -> Option<u64> {
        let mover = match task {
            Task::Resolved { mover, .. }
            | Task::Connecting { mover, .. }
            | Task::Step { mover, .. }
            | Task::Answer {
                then:
                    Then::Begun { mover, .. }
                    | Then::Volatile { mover, .. }
                    | Then::Readable { mover, .. }
                    | Then::Progress { mover, .. }
                    | Then::Ended { mover, .. }
                    | Then::CancelEnded { mover, .. },
                ..
            } => *mover,
            _ => return None,
        };
        self.movers.get(mover).map(|mover| mover.paused_until).filter(|until| *until > self.now)
    }

    fn perform(&mut self, task: Task) -> Result<(), String> {
        if let Some(until) = self.frozen_until(&task) {
            self.after(until - self.now, task);
            return Ok(());
        }
        match task {
            Task::Frozen { link, arrival } => return self.arrival(link, End::Peer, arrival),
            // Whoever wanted to register is dead: the kernel would end that registration, not make it after its end.
            Task::Call { then: Then::Registered { boot }, .. } if !self.is_daemon(boot) => {}
            // The call died with its process: it waited for the MDT, which may be down.
            Task::Call { then: Then::DaemonEnd { boot, .. }, .. } if !self.is_daemon(boot) => {
                self.report.ends_died += 1;
            }
            Task::Call { client, call, then: then @ Then::DaemonEnd { key, .. } } if !self.is_up(key.fid) => {
                self.after(SECOND / 4, Task::Call { client, call, then });
            }
            Task::Call { client, call, then } => {
                self.calls += 1;
                let id = CallId(self.calls);
                self.note(format_args!("client {}: {call:?}", client.0));
                self.waiting.insert(id, then);
                let time = self.time();
                let event = FsEvent::Call { id, client, cred: Cred::root(), call };
                self.fs.handle(time, event, &mut self.fs_effects);
            }
            Task::Answer { then, result } => return self.answer(then, result),
            Task::Pipe { boot, bytes } => {
                let clock = self.clock();
                match &mut self.daemon {
                    Some(daemon) if daemon.boot == boot => {
                        daemon.read_pipe(clock, &bytes)?;
                        self.note(format_args!("daemon: {} bytes from the pipe", bytes.len()));
                    }
                    _ => self.lost_in_the_pipe(&bytes),
                }
            }
            Task::Sync { boot } => {
                let clock = self.clock();
                self.sync_planned = false;
                if let Some(daemon) = self.daemon.as_mut().filter(|d| d.boot == boot) {
                    daemon.sync(clock)?;
                    self.note(format_args!("daemon: synced"));
                }
            }
            Task::Crash { boot } => {
                if self.daemon.as_ref().is_some_and(|d| d.boot == boot) {
                    return self.end_daemon(false);
                }
            }
            Task::DaemonStart => return self.start_daemon(),
            Task::Register { boot } => self.register(boot),
            Task::Probed { boot, link } => {
                let clock = self.clock();
                if let Some(daemon) = self.daemon.as_mut().filter(|d| d.boot == boot && d.knows(link))
                    && self.net.is_cut(link)
                {
                    daemon.gone(clock, link)?;
                    self.note(format_args!("daemon: the peer of {link:?} is dead"));
                }
            }
            Task::MoverStart { mover } => return self.start_mover(mover),
            Task::Resolved { mover, life } => {
                if self.lives(mover, life) {
                    return self.shim(mover, crate::shim::Event::Resolved { servers: 1 });
                }
            }
            Task::Connecting { mover, life, conn } => return self.connecting(mover, life, conn),
            Task::Step { mover, life, attempt } => {
                if self.lives(mover, life) {
                    return self.step(mover, attempt);
                }
            }
            Task::Orphan { number } => return self.orphan_step(number),
            Task::User { file } => self.user(file),
            Task::Operator(errand) => return self.run_errand(errand),
            Task::Compare => return self.compare(),
            Task::Orders => return self.run_orders(),
            Task::Fault => return self.fault(),
            Task::MdtStart { mdt } => {
                self.note(format_args!("MDT{mdt} is up"));
                let time = self.time();
                self.fs.handle(time, FsEvent::StartMdt(mdt), &mut self.fs_effects);
            }
            Task::LoseHost => return self.lose_host(),
            Task::StopMovers { mdt } => self.stop_movers_of(mdt),
            Task::Cut { link } => {
                let notice = self.habit_rng.below(SECOND / 10);
                self.report.late_pieces += self.net.cut(self.now, link, notice, notice);
            }
            Task::LookedUp { boot, found } => {
                let clock = self.clock();
                if let Some(daemon) = self.daemon.as_mut().filter(|d| d.boot == boot) {
                    daemon.looked_up(clock, vec![found])?;
                }
            }
            Task::Located { boot, found } => {
                let clock = self.clock();
                if let Some(daemon) = self.daemon.as_mut().filter(|d| d.boot == boot) {
                    daemon.located(clock, vec![found])?;
                }
            }
            Task::RedisBack { loss } => self.redis_back(loss),
            Task::Tend => return self.tend_redis(),
            Task::Space => return self.measure_space(),
            Task::Calm => return self.calm_down(),
        }
        Ok(())
    }

    /// Whether this life of the daemon goes on.
    fn is_daemon(&self, boot: u64) -> bool {
        self.daemon.as_ref().is_some_and(|daemon| daemon.boot == boot)
    }

    /// Whether a file's MDT is up.
    fn is_up(&self, fid: Fid) -> bool {
        let index = mdt::mdt_index_of(fid).unwrap_or(0) as usize;
        self.fs.mdts().get(index).is_none_or(|mdt| mdt.is_up())
    }

    fn answer(&mut self, then: Then, result: Result<mdt::Answer, mdt::Errno>) -> Result<(), String> {
        let errno = result.as_ref().err().map_or(0, |errno| i32::from(errno.0));
        match then {
            Then::DaemonEnd { boot, key } => {
                let clock = self.clock();
                if let Some(daemon) = self.daemon.as_mut().filter(|d| d.boot == boot) {
                    daemon.ended_at_lustre(clock, key, errno)?;
                }
            }
            Then::DaemonAsk { boot, call } => {
                if let (LustreCall::Request { item, .. }, Err(_)) = (&call, &result) {
                    // Whether the MDT takes it again is not the daemon's decision.
                    self.given_up.insert(item.key());
                }
                let answer = super::service::answer_of(&call, result);
                let clock = self.clock();
                if let Some(daemon) = self.daemon.as_mut().filter(|d| d.boot == boot) {
                    daemon.lustre_answered(clock, answer)?;
                }
            }
            // No MDT was up, or the old registration was still there: the daemon tries again.
            Then::Registered { boot } if errno != 0 => {
                self.after(SECOND, Task::Register { boot });
            }
            Then::Begun { mover, life, attempt } if self.lives(mover, life) => {
                let version = match result {
                    Ok(mdt::Answer::DataVersion(version)) => version,
                    _ => 0,
                };
                return self.begun(mover, attempt, errno, version);
            }
            Then::Volatile { mover, life, attempt } if self.lives(mover, life) => {
                let fid = match result {
                    Ok(mdt::Answer::Fid(fid)) => Some(fid),
                    _ => None,
                };
                return self.volatile(mover, attempt, fid);
            }
            Then::Readable { mover, life, attempt } if self.lives(mover, life) => {
                return self.readable(mover, attempt, errno);
            }
            Then::Progress { mover, life, attempt } if self.lives(mover, life) => {
                return self.progressed(mover, attempt, errno);
            }
            Then::Ended { mover, life, attempt } if self.lives(mover, life) => {
                return self.ended(mover, attempt, errno);
            }
            Then::CancelEnded { mover, life, item } if self.lives(mover, life) => {
                return self.cancel_ended(mover, &item, errno);
            }
            Then::Created { file } => {
                if let Ok(mdt::Answer::Fid(fid)) = result {
                    self.created(file, fid);
                }
            }
            Then::OrphanEnded { key, failed } => self.orphan_ended(key, failed, &result),
            Then::Read { file, fid } => self.has_read(file, fid, errno)?,
            _ => {}
        }
        Ok(())
    }

    fn arrival(&mut self, link: LinkId, end: End, arrival: Arrival) -> Result<(), String> {
        let clock = self.clock();
        match (end, arrival) {
            (End::Daemon, Arrival::Bytes(bytes)) => {
                self.note(format_args!("daemon: {} bytes from {link:?}", bytes.len()));
                if self.trace {
                    println!("{:>14} {}", "", String::from_utf8_lossy(&bytes));
                }
                if let Some(daemon) = &mut self.daemon {
                    daemon.receive(clock, link, &bytes)?;
                }
            }
            (End::Daemon, Arrival::Broken) => {
                self.note(format_args!("daemon: {link:?} is gone"));
                if let Some(daemon) = &mut self.daemon {
                    daemon.gone(clock, link)?;
                }
            }
            (End::Peer, arrival) => match self.link_owner.get(&link).copied() {
                Some(Owner::Mover { mover, life, .. })
                    if self.lives(mover, life)
                        && self.movers.get(mover).is_some_and(|m| m.paused_until > self.now) =>
                {
                    let until = self.movers.get(mover).map_or(0, |m| m.paused_until);
                    self.after(until - self.now, Task::Frozen { link, arrival });
                }
                Some(Owner::Mover { mover, life, conn }) if self.lives(mover, life) => match arrival {
                    Arrival::Bytes(bytes) => {
                        self.note(format_args!("mover{mover}: {} bytes", bytes.len()));
                        if self.trace {
                            println!("{:>14} {}", "", String::from_utf8_lossy(&bytes));
                        }
                        // What was under way when the daemon died is the dead one's, whenever it is read.
                        let boot = self.link_boot.get(&link).copied().unwrap_or(0);
                        if let Some(state) = self.movers.get_mut(mover) {
                            state.heard = boot;
                        }
                        return self.shim(mover, crate::shim::Event::Received { conn, bytes: &bytes });
                    }
                    Arrival::Broken => {
                        self.note(format_args!("mover{mover}: connection {conn} is gone"));
                        let reason = "reset";
                        return self.shim(mover, crate::shim::Event::Disconnected { conn, reason });
                    }
                },
                Some(Owner::Operator) => return self.operator_arrival(link, arrival),
                _ => {}
            },
        }
        Ok(())
    }

    /// Carries out everything that the machines want, until they want nothing more.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        loop {
            if !self.fs_effects.is_empty() {
                for effect in std::mem::take(&mut self.fs_effects) {
                    self.mdt_effect(effect)?;
                }
                continue;
            }
            if let Some(daemon) = &mut self.daemon {
                let (given, ended) = (std::mem::take(&mut daemon.given), std::mem::take(&mut daemon.ended));
                self.no_longer_promised(ended);
                for item in given {
                    self.given(&item)?;
                }
            }
            let Some(wish) = self.daemon.as_mut().and_then(|d| d.wishes.pop_front()) else { break };
            self.daemon_wish(wish)?;
        }
        if let Some(daemon) = &self.daemon
            && daemon.unsynced()
            && !self.sync_planned
        {
            self.sync_planned = true;
            let boot = daemon.boot;
            if std::mem::take(&mut self.crash_unsynced) {
                self.after(1000, Task::Crash { boot });
            }
            let delay = self.rng.between(100_000, self.scenario.sync_delay.max(100_000));
            self.after(delay, Task::Sync { boot });
        }
        Ok(())
    }

    pub(super) fn lives(&self, mover: usize, life: u64) -> bool {
        self.movers.get(mover).is_some_and(|m| m.life == life && m.shim.is_some())
    }
}
