//! The store itself against a redis that fails at any byte, with starts in between, and a model of what it must know.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use coordinatool::hsm::effect::StoreOp;
use coordinatool::hsm::{Action, ActionItem, RequestKey};
use coordinatool::store::redis::values::{Place, item_text, place_of};
use coordinatool::store::redis::{Options, RedisStore, Server};
use coordinatool::store::{Snapshot, Store};
use harness::{Random, Redis, patience, poll};
use lustreapi_sys::Fid;

use super::faulty::{FaultyWay, Plan};
use super::small_bed;

/// Requests there may be.
const REQUESTS: u64 = 8;

/// What is to be known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    requests: BTreeMap<RequestKey, (ActionItem, Option<String>)>,
    notes: BTreeMap<String, String>,
}

impl Known {
    fn apply(&mut self, op: &StoreOp) {
        match op {
            StoreOp::Put(item) => {
                let mover = self.requests.get(&item.key()).and_then(|(_, mover)| mover.clone());
                self.requests.insert(item.key(), (item.clone(), mover));
            }
            StoreOp::Assign { key, mover } => {
                self.requests.entry(*key).and_modify(|(_, of)| *of = Some(mover.to_string()));
            }
            StoreOp::Unassign { key } => drop(self.requests.entry(*key).and_modify(|(_, of)| *of = None)),
            StoreOp::Remove { key } => drop(self.requests.remove(key)),
            StoreOp::Note { name, value: Some(value) } => {
                drop(self.notes.insert(name.clone(), value.clone()))
            }
            StoreOp::Note { name, value: None } => drop(self.notes.remove(name)),
        }
    }
}

/// A request in one of its shapes: in the usual place, under another data FID, or where C does not look.
fn item(number: u64, shape: u64, random: &mut Random) -> ActionItem {
    let fid = Fid::new(0x2_0000_0401, number as u32, 0);
    let dfid =
        if shape.is_multiple_of(3) { fid } else { Fid::new(0x2_0000_0500, (10 * number + shape) as u32, 0) };
    // Some are long, so that one sync has several transactions.
    let long = if random.chance(20) { 60_000 } else { 4 };
    let data: Vec<u8> = if shape == 2 { b"\xff".to_vec() } else { vec![b'x'; random.below(long) as usize] };
    ActionItem {
        action: Action::Remove,
        fid,
        dfid,
        extent_offset: 0,
        extent_length: u64::MAX,
        cookie: 1000 + number,
        gid: 0,
        archive_id: u32::from(shape != 5),
        flags: 0,
        data: data.into(),
        timestamp: 1 + number as i64,
        extra: "".into(),
    }
}

/// The next change that a coordinator may make.
fn next_op(known: &Known, random: &mut Random) -> StoreOp {
    let number = random.below(REQUESTS);
    let put = item(number, random.below(7), random);
    let key = put.key();
    match (random.below(10), known.requests.get(&key)) {
        (0, _) => {
            let value = random.chance(60).then(|| format!("v{}", random.below(1000)));
            StoreOp::Note { name: format!("note/{}", random.below(3)), value }
        }
        (_, None) | (1, Some((_, None))) => StoreOp::Put(put),
        (1..6, Some((_, None))) => {
            let mover = ["mover1", "mover2", "odd\0mover"][random.below(3) as usize];
            StoreOp::Assign { key, mover: mover.into() }
        }
        (1..6, Some(_)) => StoreOp::Unassign { key },
        _ => StoreOp::Remove { key },
    }
}

/// A store, and what it was told.
struct Run<'bed> {
    redis: &'bed Redis<'bed>,
    way: FaultyWay,
    spill: PathBuf,
    store: Option<RedisStore>,
    runs: u64,
    /// What is known after each group of changes, the first one after none; and the groups.
    states: Vec<Known>,
    groups: Vec<Vec<StoreOp>>,
    /// Groups that were reported durable, and those that were given to the store.
    durable: usize,
    appended: usize,
    /// Syncs under way: how many groups are durable after each.
    begun: VecDeque<usize>,
    random: Random,
    what: String,
}

impl<'bed> Run<'bed> {
    fn new(redis: &'bed Redis<'bed>, spill: PathBuf, seed: u64) -> Self {
        let mut run = Self {
            redis,
            way: FaultyWay::start(redis),
            spill,
            store: None,
            runs: 0,
            states: vec![Known::default()],
            groups: Vec::new(),
            durable: 0,
            appended: 0,
            begun: VecDeque::new(),
            random: Random::new(seed),
            what: format!("seed {seed}"),
        };
        run.start();
        run
    }

    fn store(&mut self) -> &mut RedisStore {
        self.store.as_mut().expect("it was started")
    }

    fn known(&self) -> Known {
        self.states.last().cloned().unwrap_or_default()
    }

    /// Starts the store and checks that it knows what it must.
    fn start(&mut self) {
        let address = self.way.address();
        let (host, port) = (address.ip().to_string(), address.port());
        let found = poll(patience(), || {
            self.runs += 1;
            let server = Server { host: host.clone(), port, user: None, password: None };
            let (namespace, fsname) = ("coordinatool".to_owned(), "lus".to_owned());
            let options = Options { server, namespace, fsname, run: self.runs };
            let mut store = RedisStore::open(options, &self.spill).unwrap().ok()?;
            let mut found = Known::default();
            let mut take = |item: ActionItem, mover| {
                let twice = found.requests.insert(item.key(), (item, mover));
                assert_eq!(twice, None, "a request that is found twice");
            };
            let recovery = store.recover(&mut take).ok()?;
            assert_eq!(recovery.quarantined, Vec::<String>::new());
            found.notes = store.take_notes().into_iter().collect();
            self.store = Some(store);
            Some(found)
        });
        let found = found.unwrap_or_else(|| panic!("{}: it does not start", self.what));
        self.check(&found);
        self.states = vec![found];
        self.groups.clear();
        (self.durable, self.appended) = (0, 0);
        self.begun.clear();
    }

    /// Each thing is as it was when that was durable, or as it became later.
    fn check(&self, found: &Known) {
        let may = &self.states[self.durable..];
        let what = &self.what;
        for number in 0..REQUESTS {
            let key = item(number, 0, &mut Random::new(0)).key();
            let items: Vec<_> =
                may.iter().map(|known| known.requests.get(&key).map(|(item, _)| item)).collect();
            let movers: Vec<_> = may.iter().map(|known| known.requests.get(&key).map(|(_, of)| of)).collect();
            let at = found.requests.get(&key);
            let got = at.map(|(item, _)| item);
            assert!(items.contains(&got), "{what}: request {number} is {got:?}, and may be one of {items:?}");
            let changed = items.iter().any(|other| *other != items[0]);
            let none = changed && at.is_some_and(|(_, mover)| mover.is_none());
            let mover = at.map(|(_, mover)| mover);
            let some_mover = changed && mover.is_some_and(|mover| movers.contains(&Some(mover)));
            let fits = none || some_mover || movers.contains(&mover);
            assert!(fits, "{what}: request {number} is with {mover:?}, and may be with one of {movers:?}");
        }
        for name in (0..3).map(|name| format!("note/{name}")) {
            let may: Vec<_> = may.iter().map(|known| known.notes.get(&name)).collect();
            let got = found.notes.get(&name);
            assert!(may.contains(&got), "{what}: note {name} is {got:?}, and may be one of {may:?}");
        }
    }

    /// A group of changes.
    fn change(&mut self) {
        let mut known = self.known();
        let mut group = Vec::new();
        let many = if self.random.chance(10) { 80 } else { 6 };
        for _ in 0..=self.random.below(many) {
            let op = next_op(&known, &mut self.random);
            known.apply(&op);
            println!("  {}: {op:?}", self.groups.len() + 1);
            group.push(op);
        }
        self.states.push(known);
        self.groups.push(group);
        if self.appended + 1 == self.groups.len() {
            self.append();
        }
    }

    fn append(&mut self) {
        while let Some(group) = self.groups.get(self.appended).cloned() {
            self.store().append(&group).unwrap();
            self.appended += 1;
        }
    }

    /// Begins a sync, if there is something to be synced.
    fn begin(&mut self) {
        if self.begun.back().copied().unwrap_or(self.durable) < self.appended {
            self.begun.push_back(self.appended);
            let done = self.store().begin_sync();
            self.done(done);
        }
    }

    fn go_on(&mut self) {
        let done = self.store().go_on();
        self.done(done);
    }

    /// For those who look at a failure.
    fn note(&self, what: &str) {
        let health = self.store.as_ref().and_then(|store| store.health().trouble);
        println!(
            "{} {what}: durable {} of {} ({} given) {health:?}",
            self.what,
            self.durable,
            self.groups.len(),
            self.appended
        );
    }

    fn done(&mut self, done: Result<usize, coordinatool::store::StoreError>) {
        match done {
            Ok(done) => {
                for _ in 0..done {
                    self.durable = self.begun.pop_front().expect("no more than was begun");
                }
            }
            Err(_) => {
                self.begun.clear();
                self.appended = self.durable;
            }
        }
    }

    /// Does what the store wants between changes.
    fn tend(&mut self) {
        self.store().tend();
        let Some(number) = self.store().wants_snapshot() else { return };
        self.settle();
        let all: Vec<_> = self.known().requests.into_values().collect();
        let (first, rest) = all.split_at(self.random.below(all.len() as u64 + 1) as usize);
        for (requests, last) in [(first, false), (rest, true)] {
            // It may fail: then it is asked for again.
            let _ = self.store().snapshot(&Snapshot { number, requests: requests.to_vec(), last });
        }
    }

    /// Waits for what is under way.
    fn settle(&mut self) {
        loop {
            self.begin();
            let Some(under_way) = self.store().under_way() else { return };
            let mut waiting =
                [rustix::event::PollFd::from_borrowed_fd(under_way.descriptor, rustix::event::PollFlags::IN)];
            let wait = Duration::from_millis(100).try_into().unwrap();
            rustix::event::poll(&mut waiting, Some(&wait)).unwrap();
            self.go_on();
        }
    }

    /// Something goes wrong, or is mended.
    fn fault(&mut self) {
        let near = if self.random.chance(50) { 300 } else { 20_000 };
        let bytes = self.random.below(near) as usize;
        let fault = self.random.below(9);
        self.note(&format!("fault {fault} {bytes}"));
        match fault {
            0 | 1 => self.way.plan().asked = Some(bytes),
            2 | 3 => self.way.plan().answered = Some((bytes / 4, Vec::new())),
            4 => {
                let nonsense: [&[u8]; 5] =
                    [b"\r\n", b"$99999999999\r\n", b"*1\r\n%", b"-ERR no\r\n*-1\r\n", b"+OK\r\n:1\r\n*0\r\n"];
                let nonsense = nonsense[self.random.below(5) as usize].to_vec();
                self.way.plan().answered = Some((bytes / 4, nonsense));
            }
            5 => self.way.plan().trickles = self.random.chance(50),
            6 => self.redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]),
            7 => self.redis.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]),
            _ => self.mend_server(),
        }
    }

    fn mend_server(&self) {
        self.redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
        self.redis.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    }

    /// There is no room on the disk for another file, or there is again.
    fn disk(&self, works: bool) {
        let away = self.spill.with_extension("away");
        let (from, to) = if works { (&away, &self.spill) } else { (&self.spill, &away) };
        if from.exists() {
            std::fs::rename(from, to).unwrap();
        }
    }

    fn mend(&mut self) {
        self.disk(true);
        self.mend_server();
        *self.way.plan() = Plan::default();
    }

    /// Nothing fails any more: redis gets everything.
    fn heal(&mut self) {
        self.note("heal");
        self.mend();
        let healed = poll(patience(), || {
            self.append();
            self.settle();
            self.tend();
            let all = self.durable == self.groups.len() && self.store().health().trouble.is_none();
            all.then_some(())
        });
        let health = self.store().health();
        assert!(healed.is_some(), "{}: {health:?}", self.what);
    }

    /// The process dies.
    fn die(&mut self) {
        self.note("dies");
        self.store = None;
        self.mend();
        self.way.wait_empty();
    }

    /// What is in redis is what is known, and nothing more.
    fn check_redis(&self) {
        let fields = |hash: &str| self.redis.ask::<usize>(&["HLEN", &format!("coordinatool_{hash}")]);
        let known = self.known();
        let movers = known.requests.values().filter(|(_, mover)| mover.is_some()).count();
        assert_eq!(fields("requests") + fields("rs_requests"), known.requests.len(), "{}", self.what);
        assert_eq!(self.redis.assigned().len() + fields("rs_assigned"), movers, "{}", self.what);
    }

    /// Changes and faults, and a start after them.
    fn round(&mut self, round: u64) {
        for _ in 0..4 + self.random.below(24) {
            self.note("step");
            match self.random.below(12) {
                0..4 => self.change(),
                4..7 => self.begin(),
                7 | 8 => self.go_on(),
                9 => self.tend(),
                10 => self.fault(),
                _ => {
                    let works = self.random.chance(60);
                    self.disk(works);
                }
            }
        }
        match self.random.below(4) {
            // Redis forgets everything, at some moment: it is given all of it again.
            0 => {
                self.mend_server();
                self.redis.ask::<()>(&["FLUSHALL"]);
                self.note("flushed");
                self.change();
                self.heal();
            }
            1 | 2 => self.heal(),
            _ => {}
        }
        self.what = format!("{}, {round}", self.what.split(',').next().unwrap_or_default());
        let whole = self.durable == self.groups.len();
        self.die();
        self.start();
        if whole {
            self.check_redis();
        }
    }
}

/// Nothing that was reported durable is forgotten, and nothing comes back.
#[test]
fn the_store_keeps_its_word_whatever_happens_on_the_way() {
    let bed = small_bed("redis-store");
    let redis = Redis::start_with(&bed, 6379, &[]);
    let seed = harness::seed("COORDINATOOL_REDIS_SEED");
    let rounds = std::env::var("COORDINATOOL_REDIS_ROUNDS").map_or(12, |text| text.parse().unwrap());
    let mut run = Run::new(&redis, bed.directory().join("spill"), seed);
    for round in 0..rounds {
        run.round(round);
    }
}

/// What a daemon sent before it was killed can come after the next one has read everything.
#[test]
fn a_transaction_that_comes_late_leaves_nothing() {
    let bed = small_bed("redis-late");
    let redis = Redis::start_with(&bed, 6379, &[]);
    let mut run = Run::new(&redis, bed.directory().join("spill"), 1);
    let late = item(1, 0, &mut Random::new(1));
    for item in [item(0, 0, &mut Random::new(1)), late.clone()] {
        run.store().append(&[StoreOp::Put(item)]).unwrap();
    }
    run.store().sync().unwrap();
    let stamp = |at: u64| format!("1 {:016x} {at}", 1);
    assert_eq!(redis.hash("coordinatool_rs_meta")["stamp"], stamp(1));
    run.die();

    let server = Server { host: redis.host(), port: 6379, user: None, password: None };
    let (namespace, fsname) = ("coordinatool".to_owned(), "lus".to_owned());
    let options = Options { server, namespace, fsname, run: 2 };
    let mut store = RedisStore::open(options, &run.spill).unwrap().unwrap();
    let mut known = Vec::new();
    let field = Place::usual(&late.key()).field(&late.key());
    let mut found = |item: ActionItem, mover| {
        known.push((item, mover));
        redis.ask::<()>(&["HDEL", harness::REQUESTS, &field]);
        redis.ask::<()>(&["HSET", "coordinatool_rs_meta", "stamp", &stamp(2)]);
    };
    store.recover(&mut found).unwrap();
    assert_eq!((known.len(), redis.requests().len()), (2, 1));
    let healed = poll(patience(), || {
        store.tend();
        if let Some(number) = store.wants_snapshot() {
            store.snapshot(&Snapshot { number, requests: known.clone(), last: true }).unwrap();
        }
        store.health().trouble.is_none().then_some(())
    });
    assert!(healed.is_some() && redis.requests().len() == 2, "what is known is there again");
}

/// As when redis refused to take it away from one place, and then put it elsewhere.
#[test]
fn a_request_in_two_places_ends_in_both() {
    let bed = small_bed("redis-twice");
    let redis = Redis::start_with(&bed, 6379, &[]);
    let random = &mut Random::new(1);
    let shapes = [item(0, 0, random), item(0, 1, random), item(0, 4, random), item(0, 5, random)];
    let texts = shapes.map(|item| (place_of(&item), item.key(), item_text(&item)));
    for (first, second) in [(0, 1), (1, 2), (1, 3), (0, 3)] {
        for (place, key, text) in [&texts[first], &texts[second]] {
            let hash = if *place == Place::Own { "coordinatool_rs_requests" } else { harness::REQUESTS };
            redis.set(hash, &place.field(key), text);
        }
        let server = Server { host: redis.host(), port: 6379, user: None, password: None };
        let (namespace, fsname) = ("coordinatool".to_owned(), "lus".to_owned());
        let options = Options { server, namespace, fsname, run: 2 };
        let mut store = RedisStore::open(options, &bed.directory().join("spill")).unwrap().unwrap();
        store.recover(&mut |_, _| ()).unwrap();
        store.append(&[StoreOp::Remove { key: texts[0].1 }]).unwrap();
        store.sync().unwrap();
        let left: [usize; 2] =
            [harness::REQUESTS, "coordinatool_rs_requests"].map(|hash| redis.ask(&["HLEN", hash]));
        assert_eq!(left, [0, 0], "{first} and {second}");
    }
}
