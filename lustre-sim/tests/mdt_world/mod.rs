//! A file system on virtual time, and copytools as tests want them: what the shells around the model do, in a few lines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // In tests.
#![allow(dead_code)] // Each test file uses a part of it.

use std::collections::{BTreeMap, VecDeque};

use lustre_sim::mdt::{
    Action, Answer, Call, CallId, ClientId, CopyEnd, CopyStart, Cred, DeliveryId, Effect, Errno, Extent,
    FileSystem, FsConfig, FsEvent, HsmState, LedgerEntry, NewFile, Outcome, Progress, RecordStatus, Time,
    UserRequest,
};
use lustreapi_sys::Fid;
use lustreapi_sys::hal::ActionList;
use lustreapi_sys::kuc::{Frame, next_frame};

/// The uuid of the client on the real Lustre.
pub const UUID: &str = "2acc20bf-3866-45cf-b6e2-5a48cd83123a";
/// A client without anything special.
pub const CLIENT: ClientId = ClientId(1);
/// Wall-clock seconds of which the tests count milliseconds.
pub const EPOCH: i64 = 1_795_216_000;

/// A list as a copytool read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    pub archive_id: u32,
    pub flags: u64,
    pub items: Vec<Item>,
}

/// An item of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub action: u32,
    pub fid: Fid,
    pub dfid: Fid,
    pub cookie: u64,
    pub data: Vec<u8>,
}

impl List {
    pub fn parse(bytes: &[u8]) -> List {
        let (frame, used) = next_frame(bytes).unwrap().unwrap();
        assert_eq!(used, bytes.len());
        let Frame::ActionList(payload) = frame else { panic!("{frame:?} is not a list") };
        let list = ActionList::parse(payload).unwrap();
        let items = list.items.iter().map(|item| Item {
            action: item.action,
            fid: item.fid,
            dfid: item.dfid,
            cookie: item.cookie,
            data: item.data.to_vec(),
        });
        List { archive_id: list.archive_id, flags: list.flags, items: items.collect() }
    }

    /// The object ids of its files, with `-` before those to cancel.
    pub fn oids(&self) -> Vec<i64> {
        let sign = |item: &Item| if item.action == Action::Cancel.hsma() { -1 } else { 1 };
        self.items.iter().map(|item| sign(item) * i64::from(item.fid.oid)).collect()
    }
}

pub struct World {
    pub fs: FileSystem,
    /// Milliseconds since [`EPOCH`].
    pub ms: u64,
    start: u64,
    /// Whether lists are accepted at once.
    pub accepting: bool,
    /// Lists that wait for the test to say how it went.
    pub on_the_way: VecDeque<(DeliveryId, ClientId, Vec<u8>)>,
    pub pipes: BTreeMap<ClientId, VecDeque<Vec<u8>>>,
    pub replies: BTreeMap<CallId, Result<Answer, Errno>>,
    /// Everything but replies and lists.
    pub others: Vec<Effect>,
}

impl World {
    /// A file system whose MDTs start at that time, with one client.
    pub fn new(config: FsConfig, ms: u64) -> World {
        let mut world = World {
            fs: FileSystem::new(config, time(ms, ms)),
            ms,
            start: ms,
            accepting: true,
            on_the_way: VecDeque::new(),
            pipes: BTreeMap::new(),
            replies: BTreeMap::new(),
            others: Vec::new(),
        };
        world.event(FsEvent::Mount { client: CLIENT, uuid: UUID.to_owned() });
        world
    }

    /// One MDT with default parameters.
    pub fn single() -> World {
        World::new(FsConfig { mdts: 1, ..FsConfig::default() }, 0)
    }

    pub fn now(&self) -> Time {
        time(self.start, self.ms)
    }

    pub fn event(&mut self, event: FsEvent) {
        let mut effects = Vec::new();
        self.fs.handle(self.now(), event, &mut effects);
        self.absorb(effects);
    }

    fn absorb(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply { id, result, .. } => {
                    assert!(self.replies.insert(id, result).is_none(), "{id:?} was answered twice");
                }
                Effect::Deliver { delivery, client, frame } if self.accepting => {
                    self.pipes.entry(client).or_default().push_back(frame.to_vec());
                    self.event(FsEvent::Delivered { delivery, outcome: Outcome::Accepted });
                }
                Effect::Deliver { delivery, client, frame } => {
                    self.on_the_way.push_back((delivery, client, frame.to_vec()));
                }
                other => self.others.push(other),
            }
        }
    }

    /// Tells how the oldest list on the way went, and puts it into the pipe if it arrived.
    pub fn outcome(&mut self, outcome: Outcome, arrived: bool) {
        let (delivery, client, frame) = self.on_the_way.pop_front().expect("a list is on the way");
        if arrived {
            self.pipes.entry(client).or_default().push_back(frame);
        }
        self.event(FsEvent::Delivered { delivery, outcome });
    }

    /// Lets time pass up to that moment, with all deadlines met in time.
    pub fn to(&mut self, ms: u64) {
        assert!(ms >= self.ms, "time does not go back");
        while let Some(deadline) = self.fs.next_deadline() {
            let at = self.start + deadline.div_ceil(1_000_000);
            if at > ms {
                break;
            }
            let before = (self.ms, deadline);
            self.ms = self.ms.max(at);
            self.event(FsEvent::Tick);
            assert!((self.ms, self.fs.next_deadline().unwrap_or(0)) != before, "stuck at {before:?}");
        }
        self.ms = ms;
        self.event(FsEvent::Tick);
    }

    /// When MDT0000 wakes next. Without events it does that for housekeeping.
    pub fn next_wake(&self) -> u64 {
        let deadline = self.fs.mdts()[0].next_deadline().expect("something to do");
        self.start + deadline / 1_000_000
    }

    pub fn wait(&mut self, ms: u64) {
        self.to(self.ms + ms);
    }

    /// A call that is answered later.
    pub fn begin(&mut self, client: ClientId, cred: &Cred, call: Call) -> CallId {
        let mut effects = Vec::new();
        let answer = self.fs.call(self.now(), client, cred, call, &mut effects);
        let id = self.fs.last_call_id();
        if let Some(answer) = answer {
            self.replies.insert(id, answer);
        }
        self.absorb(effects);
        id
    }

    pub fn call_as(&mut self, client: ClientId, cred: &Cred, call: Call) -> Result<Answer, Errno> {
        let id = self.begin(client, cred, call.clone());
        self.replies.remove(&id).unwrap_or_else(|| panic!("{call:?} was not answered at once"))
    }

    pub fn call(&mut self, call: Call) -> Result<Answer, Errno> {
        self.call_as(CLIENT, &Cred::root(), call)
    }

    /// A call that succeeds.
    pub fn ok(&mut self, call: Call) -> Answer {
        self.call(call.clone()).unwrap_or_else(|errno| panic!("{call:?}: {errno:?}"))
    }

    pub fn create_on(&mut self, mdt: u32) -> Fid {
        match self.ok(Call::Create { mdt, file: NewFile::default() }) {
            Answer::Fid(fid) => fid,
            other => panic!("{other:?}"),
        }
    }

    pub fn create(&mut self) -> Fid {
        self.create_on(0)
    }

    pub fn volatile(&mut self) -> Fid {
        let file = NewFile { volatile: true, ..NewFile::default() };
        match self.ok(Call::Create { mdt: 0, file }) {
            Answer::Fid(fid) => fid,
            other => panic!("{other:?}"),
        }
    }

    pub fn register(&mut self, archives: &[u32]) {
        self.ok(Call::Register { archives: archives.to_vec() });
    }

    pub fn request(&mut self, action: Action, files: &[Fid], data: &[u8]) -> Result<(), Errno> {
        self.call(Call::Request(UserRequest::new(action, files.iter().copied(), data))).map(|_| ())
    }

    pub fn state(&mut self, fid: Fid) -> HsmState {
        match self.ok(Call::StateGet { fid }) {
            Answer::State(state) => state,
            other => panic!("{other:?}"),
        }
    }

    /// What the client's copytool reads next.
    pub fn read_list(&mut self) -> List {
        let frame = self.pipes.entry(CLIENT).or_default().pop_front();
        List::parse(&frame.expect("a list is in the pipe"))
    }

    /// How many lists are in the client's pipe.
    pub fn lists(&self) -> usize {
        self.pipes.get(&CLIENT).map_or(0, VecDeque::len)
    }

    pub fn progress(&mut self, fid: Fid, cookie: u64, offset: u64, length: u64) -> Result<(), Errno> {
        let progress = Progress { extent: Extent { offset, length }, ..Progress::keepalive(fid, cookie) };
        self.call(Call::Progress(progress)).map(|_| ())
    }

    pub fn keepalive(&mut self, fid: Fid, cookie: u64) -> Result<(), Errno> {
        self.progress(fid, cookie, 0, 0)
    }

    /// `HSM_COPY_START`; returns the data version.
    pub fn copy_start(&mut self, action: Action, item: &Item) -> Result<u64, Errno> {
        let (fid, cookie, extent) = (item.fid, item.cookie, Extent::WHOLE);
        match self.call(Call::CopyStart(CopyStart { action, fid, cookie, extent }))? {
            Answer::DataVersion(version) => Ok(version),
            other => panic!("{other:?}"),
        }
    }

    /// `HSM_COPY_END` of an item whose data is in `fid`.
    pub fn copy_end(
        &mut self,
        action: Action,
        fid: Fid,
        cookie: u64,
        data_version: u64,
        error: Option<Errno>,
        flags: u16,
    ) -> Result<(), Errno> {
        let errval = error.map_or(0, |errno| errno.0);
        let copy = CopyEnd { action, fid, cookie, extent: Extent::WHOLE, flags, errval, data_version };
        self.call(Call::CopyEnd(copy)).map(|_| ())
    }

    /// Ends an item at once, as a copytool without data would: archives, removes, restores into a volatile file.
    pub fn work(&mut self, item: &Item) -> Result<(), Errno> {
        let action = [Action::Archive, Action::Restore, Action::Remove, Action::Cancel]
            .into_iter()
            .find(|action| action.hsma() == item.action)
            .expect("a known action");
        match action {
            Action::Archive => {
                let version = self.copy_start(action, item)?;
                self.copy_end(action, item.fid, item.cookie, version, None, 0)
            }
            Action::Restore => {
                let volatile = self.volatile();
                self.restore_into(item, volatile)
            }
            Action::Remove | Action::Cancel => self.copy_end(action, item.fid, item.cookie, 0, None, 0),
        }
    }

    pub fn restore_into(&mut self, item: &Item, volatile: Fid) -> Result<(), Errno> {
        self.copy_start(Action::Restore, item)?;
        self.ok(Call::Write { fid: volatile, version: None });
        let result = self.copy_end(Action::Restore, volatile, item.cookie, 0, None, 0);
        self.ok(Call::Close { fid: volatile });
        result
    }

    /// Reads and works off all lists there are and come, for at most so many seconds.
    pub fn work_off(&mut self, seconds: u64) {
        for _ in 0..seconds {
            while self.lists() > 0 {
                for item in self.read_list().items {
                    if item.action != Action::Cancel.hsma() {
                        self.work(&item).unwrap();
                    }
                }
            }
            self.wait(1000);
        }
    }

    /// An archived file. Needs a registered copytool that is idle.
    pub fn archived(&mut self) -> Fid {
        let fid = self.create();
        self.request(Action::Archive, &[fid], b"").unwrap();
        self.work_off(2);
        assert_eq!(self.state(fid).flags, 9);
        fid
    }

    pub fn released(&mut self) -> Fid {
        let fid = self.archived();
        self.ok(Call::Release { fid });
        fid
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.try_set(name, value).unwrap();
    }

    pub fn try_set(&mut self, name: &str, value: &str) -> Result<(), Errno> {
        let mut effects = Vec::new();
        let result = self.fs.set_param(self.now(), &format!("mdt.*.{name}"), value, &mut effects);
        self.absorb(effects);
        result
    }

    /// The statuses of the log's records, in order.
    pub fn statuses(&self) -> Vec<RecordStatus> {
        self.fs.mdts()[0].records().map(|record| record.status).collect()
    }

    pub fn ledger(&self) -> Vec<&LedgerEntry> {
        self.fs.ledger().collect()
    }
}

/// The time at `ms` of a machine that was started at `start`.
fn time(start: u64, ms: u64) -> Time {
    Time { mono: (ms - start) * 1_000_000, wall: EPOCH + i64::try_from(ms / 1000).unwrap() }
}
