//! A busy system, whose parts are killed at random moments.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::ledger::Entry;
use harness::{Daemon, Mover, MoverSettings, Random, Redis, Settings, Testbed, TestbedSettings, Value, poll};

use super::hand::{HandMover, Place};
use super::judge::{judge, key};
use super::marks::{Key, Marks};
use super::operator::Operator;
use super::tally::{Moment, Tally};
use super::users::Users;

/// Most requests of each kind on a mover.
const MOST: usize = 3;
/// Files in use at the same time: more than movers can take.
const FILES: u32 = 60;
/// Longest time between two kills.
const GAP: Duration = Duration::from_millis(2500);
/// The mover that is spoken by hand.
const HAND: &str = "hand";

/// Where requests are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Embedded,
    Redis,
    None,
}

impl Store {
    fn name(self) -> &'static str {
        match self {
            Store::Embedded => "embedded",
            Store::Redis => "redis",
            Store::None => "none",
        }
    }

    /// What the daemon and movers are told.
    pub fn settings(self, bed: &Testbed) -> Settings {
        let settings = Settings::new()
            .line(format!("max_archive {MOST}"))
            .line(format!("max_restore {MOST}"))
            .line(format!("max_remove {MOST}"))
            .line("client_grace_ms 12000")
            // The MDTs are asked every three seconds what they still know.
            .line("request_timeout_sec 12");
        if self != Store::None {
            return settings.line("settle_ms 500");
        }
        // Nothing else remembers: what a new daemon does not know is read from the MDTs once movers are back.
        let lustre_sim = bed.programs().path("lustre-sim");
        let mount = bed.mount(0).display();
        settings.line("settle_ms 6000").line("reconcile_interval_sec 10").line("reconcile_adopt all").line(
            format!(
                "reconcile_command {} -C {mount} get-param mdt.*.hsm.active_requests",
                lustre_sim.display()
            ),
        )
    }
}

/// Says what is wrong in the end.
pub type Judge = fn(&[Entry], &Marks, &mut Tally) -> Vec<String>;

/// Who is killed at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Victims {
    daemon: bool,
    redis: bool,
    /// Index of a mover; the one after the last is spoken by hand.
    mover: Option<usize>,
}

/// A busy system.
pub struct Run<'bed> {
    bed: &'bed Testbed,
    store: Store,
    random: Random,
    marks: Marks,
    users: Users<'bed>,
    /// Who queues what the MDTs list.
    pub operator: Operator,
    /// The server, with [`Store::Redis`].
    pub redis: Option<Redis<'bed>>,
    /// The daemon.
    pub daemon: Daemon<'bed>,
    movers: Vec<Mover<'bed>>,
    hand: HandMover,
    /// Movers that are down, and for how many kills they stay so.
    down: Vec<(usize, u64)>,
    tally: Tally,
    kills: usize,
}

/// So many kills from this seed.
pub fn round(store: Store, seed: u64, kills: usize) -> Tally {
    let bed = TestbedSettings::new(&format!("kill-{}", store.name())).start();
    let mut run = Run::start(&bed, store, seed);
    while run.kills < kills {
        run.be_busy();
        run.kill_somebody();
    }
    run.finish(judge)
}

fn lustre_client(bed: &Testbed, mount: usize) -> harness::Client {
    harness::Client::of(bed.mount(mount)).expect("an embedded Lustre")
}

impl<'bed> Run<'bed> {
    /// Starts everything.
    pub fn start(bed: &'bed Testbed, store: Store, seed: u64) -> Self {
        Self::start_with(bed, store, seed, store.settings(bed))
    }

    /// The same with other settings.
    pub fn start_with(bed: &'bed Testbed, store: Store, seed: u64, settings: Settings) -> Self {
        let mut random = Random::new(seed);
        let redis = (store == Store::Redis).then(|| Redis::start(bed));
        let mut arguments = vec!["--store".to_owned(), store.name().to_owned()];
        arguments.extend(redis.iter().flat_map(Redis::arguments));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let daemon = Daemon::start_with(bed, &settings, &arguments);
        let limits = ["ARCHIVE", "RESTORE", "REMOVE"].map(|action| (action, MOST));
        let path = bed.directory().join("marks");
        let marks = Marks::new(&path, &limits);
        let mover = |id: &str, mount| {
            let mover = MoverSettings::new(bed, id, mount).journal(&path).archives(&[1]);
            mover.argument("--delay-ms").argument("150").argument("--progress-interval").argument("40")
        };
        let movers =
            vec![mover("threads", 1).start(bed), mover("forks", 2).argument("--fork-per-action").start(bed)];
        let place = Place {
            id: HAND.to_owned(),
            address: bed.address(),
            client: lustre_client(bed, 3),
            archive: movers[0].archive().to_owned(),
            marker: marks.marker(),
            most: MOST as i64,
        };
        let hand = HandMover::start(place, random.below(u64::MAX));
        let operator = Operator::start(lustre_client(bed, 0), bed.address(), random.below(u64::MAX));
        let users = Users::start(bed, FILES, random.below(u64::MAX));
        let (down, tally) = (Vec::new(), Tally::default());
        Self {
            bed,
            store,
            random,
            marks,
            users,
            operator,
            redis,
            daemon,
            movers,
            hand,
            down,
            tally,
            kills: 0,
        }
    }

    /// Goes on for some time: until copytools have done some random number of things.
    pub fn be_busy(&mut self) {
        let most = if self.random.chance(25) { 4 } else { 60 };
        let until = self.marks.done_by_copytools() + self.random.below(most) as usize;
        let deadline = Instant::now() + GAP;
        while self.marks.done_by_copytools() < until && Instant::now() < deadline {
            self.step(&[]);
        }
        // Not always just after one of those things.
        std::thread::sleep(Duration::from_micros(self.random.below(20_000)));
    }

    /// Goes on until copytools have done so many more things.
    ///
    /// # Panics
    /// When they do not.
    pub fn go_on(&mut self, things: usize) {
        let until = self.marks.done_by_copytools() + things;
        let deadline = Instant::now() + harness::patience();
        while self.marks.done_by_copytools() < until {
            self.step(&[]);
            if Instant::now() > deadline {
                self.bed.fail("nothing is done any more");
            }
        }
    }

    /// Goes on until `condition` holds.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn go_on_until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + harness::patience();
        while !condition(self) {
            self.step(&[]);
            if Instant::now() > deadline {
                self.bed.fail(&format!("waited in vain: {what}"));
            }
        }
    }

    /// Kills the daemon and starts it again; it knows what it acknowledged.
    pub fn crash(&mut self, meanwhile: impl FnOnce(&mut Self)) {
        let before = self.kill(Victims { daemon: true, ..Victims::default() });
        meanwhile(self);
        self.start_daemon();
        self.look_for(&before);
    }

    fn step(&mut self, ledger: &[Entry]) {
        self.users.step(ledger);
        self.marks.read();
        if self.operator.is_held() && self.movers_are_back() {
            self.operator.hold(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }

    /// Whether the daemon knows all movers that are not down.
    fn movers_are_back(&self) -> bool {
        let names = self.movers.iter().map(Mover::id).chain([HAND]).enumerate();
        let mut up = names.filter(|(index, _)| self.down.iter().all(|(down, _)| down != index));
        let Some(status) = self.bed.status() else { return false };
        let clients = status["clients"].as_array().map_or(&[][..], Vec::as_slice);
        up.all(|(_, name)| {
            let mut of_name = clients.iter().filter(|client| client["client_id"] == name);
            of_name.any(|client| matches!(client["status"].as_str(), Some("ready" | "waiting")))
        })
    }

    fn choose(&mut self) -> Victims {
        let redis = self.store == Store::Redis;
        let mut victims = Victims::default();
        match self.random.below(100) {
            0..25 => victims.daemon = true,
            25..50 if redis => victims.redis = true,
            25..80 => victims.mover = Some(self.a_mover()),
            80..90 => {
                victims.daemon = true;
                victims.mover = Some(self.a_mover());
            }
            _ => {
                victims.daemon = true;
                victims.redis = redis;
                victims.mover = self.random.chance(30).then(|| self.a_mover());
            }
        }
        victims
    }

    fn a_mover(&mut self) -> usize {
        self.random.below(self.movers.len() as u64 + 1) as usize
    }

    fn kill_somebody(&mut self) {
        let mut victims = self.choose();
        victims.mover = victims.mover.filter(|mover| self.down.iter().all(|(down, _)| down != mover));
        if victims == Victims::default() {
            return;
        }
        let before = self.kill(victims);
        if let Some(mover) = victims.mover {
            let stay = if self.random.chance(60) { 0 } else { self.random.below(5) };
            self.down.push((mover, stay));
        }
        if victims.redis && !victims.daemon && self.random.chance(60) {
            // It is away for a while.
            self.be_busy();
        }
        if let Some(redis) = self.redis.as_mut().filter(|_| victims.redis) {
            redis.start_again();
        }
        if victims.daemon {
            while self.random.chance(25) {
                // And once more before it has come up.
                self.daemon.start_unready();
                std::thread::sleep(Duration::from_millis(self.random.below(150)));
                self.kill(Victims { daemon: true, ..Victims::default() });
            }
            self.start_daemon();
            self.look_for(&before);
        }
        let back: Vec<usize> =
            self.down.iter().filter(|(_, stay)| *stay == 0).map(|(mover, _)| *mover).collect();
        self.down.retain(|(_, stay)| *stay > 0);
        self.down.iter_mut().for_each(|(_, stay)| *stay -= 1);
        back.into_iter().for_each(|mover| self.revive(mover));
    }

    fn revive(&mut self, mover: usize) {
        match self.movers.get_mut(mover) {
            Some(mover) => mover.start_again(),
            None => self.hand.start_again(),
        }
    }

    /// Starts the daemon. Lustre may not have noticed yet that the one before is gone.
    fn start_daemon(&mut self) {
        self.daemon.start_unready();
        let (bed, daemon) = (self.bed, &mut self.daemon);
        bed.wait("the daemon is ready", || {
            assert!(daemon.is_running(), "the daemon ended: {}", daemon.log());
            bed.is_serving() && bed.lustre().agents() == bed.mdts()
        });
    }

    /// Stops them, looks at what they were doing, and kills them. Returns what was acknowledged and has not ended.
    fn kill(&mut self, victims: Victims) -> BTreeSet<Key> {
        let Victims { daemon, redis, mover } = victims;
        if daemon {
            self.daemon.freeze();
            // Without a store nothing tells a new daemon what movers run before they are back.
            self.operator.hold(self.store == Store::None);
        }
        if let Some(redis) = self.redis.as_mut().filter(|_| redis) {
            redis.freeze();
        }
        match mover.map(|index| self.movers.get_mut(index)) {
            Some(Some(mover)) => mover.freeze(),
            Some(None) => self.hand.freeze(),
            None => {}
        }
        let acknowledged = self.operator.acknowledged();
        let ledger = self.bed.lustre().ledger();
        self.marks.read();
        let open: BTreeSet<Key> = ledger.iter().filter(|entry| !entry.has_ended()).map(key).collect();
        let handed_over: BTreeSet<Key> =
            ledger.iter().filter(|entry| !entry.has_ended() && entry.deliveries > 0).map(key).collect();
        let on_movers: BTreeSet<&Key> = self.marks.running().map(|(_, key)| key).collect();
        let unended: BTreeSet<Key> = acknowledged.intersection(&open).cloned().collect();
        let moment = Moment {
            queued: handed_over.iter().filter(|key| !on_movers.contains(key)).count(),
            running: on_movers.len(),
            unsent: unended.iter().filter(|key| !self.marks.was_received(key)).count(),
        };
        let mut killed = Vec::new();
        if let Some(index) = mover {
            let id = self.movers.get(index).map_or(HAND, |mover| mover.id()).to_owned();
            let running = self.marks.running().filter(|(of, _)| *of == id).count();
            let name = if index < self.movers.len() { "mover" } else { "C mover" };
            killed.push((name, Moment { running, ..moment }));
            match self.movers.get_mut(index) {
                Some(mover) => {
                    self.marks.marker().killed(&id);
                    mover.kill_all();
                }
                None => self.hand.kill(),
            }
        }
        if let Some(store) = self.redis.as_mut().filter(|_| redis) {
            store.kill();
            killed.push(("redis", moment));
        }
        if daemon {
            self.daemon.kill();
            killed.push(("daemon", moment));
        }
        for (who, moment) in killed {
            self.kills += 1;
            self.tally.killed(who, moment);
            let Moment { queued, running, unsent } = moment;
            super::log(&format!(
                "{} {}: {who}: {queued} queued, {running} running, {unsent} acknowledged and unsent",
                self.store.name(),
                self.kills
            ));
        }
        unended
    }

    /// Whether the new daemon knows what the one before acknowledged.
    fn look_for(&mut self, before: &BTreeSet<Key>) {
        let bed = self.bed;
        let lost = || {
            let known = known_requests(bed);
            let ledger = bed.lustre().ledger();
            let ended: BTreeSet<Key> = ledger.iter().filter(|entry| entry.has_ended()).map(key).collect();
            let lost = before.iter().filter(|key| !known.contains(*key) && !ended.contains(*key));
            lost.cloned().collect::<Vec<Key>>()
        };
        if self.store == Store::None {
            self.tally.forgotten += lost().len();
            return;
        }
        // A request that moves on while they are listed may be missed once.
        if poll(Duration::from_secs(10), || lost().is_empty().then_some(())).is_none() {
            self.bed.fail(&format!("acknowledged, and unknown to the new daemon: {:?}", lost()));
        }
    }

    /// Everything ends, and is judged.
    pub fn finish(mut self, judge: Judge) -> Tally {
        // One may stay away until its work is given to others.
        let last = self.random.chance(30).then(|| self.down.pop()).flatten();
        for (mover, _) in std::mem::take(&mut self.down) {
            self.revive(mover);
        }
        self.users.wind_down();
        let deadline = Instant::now() + 2 * harness::patience();
        loop {
            let ledger = self.bed.lustre().ledger();
            self.step(&ledger);
            if self.users.are_content() && ledger.iter().all(Entry::has_ended) {
                break;
            }
            if Instant::now() > deadline {
                let text = format!("these are not served: {}\n{}", self.users.wishes(), self.what_is_open());
                self.bed.fail(&text);
            }
        }
        self.daemon.wait_known(0);
        if let Some(redis) = &self.redis {
            self.bed.wait("redis is empty", || redis.requests().is_empty() && redis.assigned().is_empty());
        }
        if let Some((mover, _)) = last {
            self.revive(mover);
        }
        self.marks.read();
        self.tally.files = self.users.finished();
        self.tally.strays = self.bed.lustre().strays().len();
        let wrong = judge(&self.bed.lustre().ledger(), &self.marks, &mut self.tally);
        if !wrong.is_empty() {
            self.bed.fail(&format!("{} things went wrong:\n{}", wrong.len(), wrong.join("\n")));
        }
        self.tally
    }

    fn what_is_open(&self) -> String {
        let acknowledged = self.operator.acknowledged();
        let open = self.bed.lustre().ledger().into_iter().filter(|entry| !entry.has_ended());
        let lines = open.map(|entry| {
            let key = key(&entry);
            let (known, begun) = (acknowledged.contains(&key), self.marks.times_begun(&key));
            format!("acknowledged {known}, begun {begun} times: {entry:?}")
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// All requests that the daemon knows.
fn known_requests(bed: &Testbed) -> BTreeSet<Key> {
    // 3: there is none.
    let output = bed.wait_for("the daemon's API answers", || {
        Some(bed.client(&["requests", "--json", "--limit", "100000"], ""))
            .filter(|o| matches!(o.status.code(), Some(0 | 3)))
    });
    let lines = String::from_utf8(output.stdout).expect("text");
    let requests = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a request is JSON"));
    let text = |value: &Value| value.as_str().expect("text").trim_matches(['[', ']']).to_owned();
    requests
        .map(|request| {
            let cookie = u64::from_str_radix(text(&request["cookie"]).trim_start_matches("0x"), 16);
            (cookie.expect("a cookie"), text(&request["fid"]), text(&request["action"]).to_uppercase())
        })
        .collect()
}
