//! The world around the coordinator, with a ledger of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coordinatool::hsm::effect::{Effect, Effects, Reply, StoreOp};
use coordinatool::hsm::event::{Done, Ehlo, Features, Lock, Message, Queue, Recv};
use coordinatool::hsm::{
    Action, ActionItem, Attributes, ConnId, Coordinator, Event, FileState, Located, Location, LustreAnswer,
    LustreCall, Mono, Now, RequestKey, StatusCursor, Wall,
};
use lustreapi_sys::Fid;

use super::configs::config;
use super::steps::{Claim, DATA, Item, Step};

/// Movers that there are.
pub const MOVERS: u8 = 5;

pub fn name(mover: u8) -> Option<String> {
    // The last one has no name.
    (mover + 1 < MOVERS).then(|| format!("m{mover}"))
}

/// A mover as it sees itself.
#[derive(Debug, Default)]
pub struct Mover {
    conn: Option<ConnId>,
    greeted: bool,
    waiting: bool,
    recv: Option<Recv>,
    pub running: BTreeMap<RequestKey, ActionItem>,
    /// What of it came over this connection: what it claimed may have been refused, which a C mover is not told.
    given: BTreeSet<RequestKey>,
    /// Told to cancel these.
    told: BTreeSet<RequestKey>,
}

/// The world around the coordinator, with a ledger of its own.
pub struct World {
    pub core: Coordinator,
    pub now: Now,
    next_conn: u64,
    pub movers: Vec<Mover>,
    /// What the store holds.
    pub stored: BTreeMap<RequestKey, (ActionItem, Option<String>)>,
    /// Ends that the MDT was asked for.
    endings: Vec<RequestKey>,
    /// Calls that the MDT has not answered.
    asked: Vec<LustreCall>,
    /// Files whose owner was asked for.
    lookups: Vec<RequestKey>,
    /// Requests that are to be located.
    sought: Vec<RequestKey>,
    cursor: Option<StatusCursor>,
    text: Vec<u8>,
    locked: bool,
    /// A mover of few archives serves all at last: what is mapped to it must not wait for ever.
    draining: bool,
    pub trace: Vec<String>,
}

pub fn fid(oid: u8) -> Fid {
    Fid::new(0x2_0000_0401, u32::from(oid), 0)
}

impl World {
    pub fn new(number: u8) -> Self {
        let now = Now { mono: Mono(50_000_000_000_000), wall: Wall(1_795_217_766_000_000_000) };
        Self {
            core: Coordinator::new(config(number), 7, now),
            now,
            next_conn: 1,
            movers: (0..MOVERS).map(|_| Mover::default()).collect(),
            stored: BTreeMap::new(),
            endings: Vec::new(),
            asked: Vec::new(),
            lookups: Vec::new(),
            sought: Vec::new(),
            cursor: None,
            text: Vec::new(),
            locked: false,
            draining: false,
            trace: Vec::new(),
        }
    }

    pub fn event(&mut self, event: Event) {
        let mut effects = Effects::default();
        self.core.handle(self.now, event, &mut effects);
        self.core.check();
        self.trace.push(format!("{effects:?}"));
        for op in effects.store {
            match op {
                StoreOp::Put(item) => {
                    assert!(item.timestamp > 0);
                    assert!(self.stored.insert(item.key(), (item, None)).is_none(), "put once");
                }
                StoreOp::Assign { key, mover } => {
                    self.stored.get_mut(&key).expect("assigned what is stored").1 = Some(mover);
                }
                StoreOp::Unassign { key } => {
                    self.stored.get_mut(&key).expect("unassigned what is stored").1 = None
                }
                StoreOp::Remove { key } => {
                    self.stored.remove(&key).expect("removed what is stored");
                }
                StoreOp::Note { .. } => {}
            }
        }
        for effect in effects.visible {
            self.effect(effect);
        }
    }

    fn mover_at(&mut self, conn: ConnId) -> Option<&mut Mover> {
        self.movers.iter_mut().find(|mover| mover.conn == Some(conn))
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Work { conn, list } => {
                let locked = self.locked;
                let Some(mover) = self.mover_at(conn) else { return };
                assert!(std::mem::take(&mut mover.waiting), "one answer for one recv");
                let recv = mover.recv.unwrap();
                assert!(!list.items.is_empty());
                let mut bytes = 0;
                let given: Vec<Action> = list.items.iter().map(|item| item.action).collect();
                for item in list.items {
                    assert_eq!((item.archive_id, item.flags), (list.archive_id, list.flags));
                    bytes += 144 + item.data.len() as u64;
                    if item.action == Action::Cancel {
                        mover.told.insert(item.key());
                    } else {
                        assert!(!locked, "nothing but cancels while locked");
                        mover.told.remove(&item.key());
                        mover.given.insert(item.key());
                        assert!(mover.running.insert(item.key(), item).is_none(), "given twice");
                    }
                }
                assert!(bytes <= recv.max_bytes, "{bytes} for a buffer of {}", recv.max_bytes);
                for (action, max) in
                    [(Action::Archive, recv.max_archive), (Action::Restore, recv.max_restore)]
                {
                    let counts =
                        |item: &&ActionItem| item.action == action && mover.given.contains(&item.key());
                    let running = mover.running.values().filter(counts).count() as u32;
                    // It may have more from before it lowered its limit.
                    assert!(
                        !given.contains(&action) || max.is_none_or(|max| running <= max),
                        "over the limit"
                    );
                }
            }
            Effect::Reply { conn, reply } => {
                if let (Reply::Ehlo(ehlo), Some(mover)) = (&reply, self.mover_at(conn)) {
                    mover.greeted = true;
                    // Another request of the file runs: it stops this one, and may be given it again later.
                    mover.running.retain(|key, _| !ehlo.refused.contains(key));
                }
            }
            Effect::EndAtLustre { item, .. } => self.endings.push(item.key()),
            Effect::AskLustre(call) => self.asked.push(call),
            Effect::Close { .. }
            | Effect::Probe { .. }
            | Effect::Report { .. }
            | Effect::RemoveReport { .. }
            | Effect::Operator { .. } => {}
            Effect::LookUp { keys, .. } => self.lookups.extend(keys),
            Effect::Locate(sought) => self.sought.extend(sought.into_iter().map(|sought| sought.key)),
            Effect::Status { cursor, .. } => self.cursor = Some(cursor),
            Effect::Terminate => {}
        }
    }

    fn item(item: &Item) -> ActionItem {
        let action = [Action::Archive, Action::Restore, Action::Remove][usize::from(item.action)];
        ActionItem {
            action,
            fid: fid(item.oid),
            dfid: if item.dfid { fid(item.oid + 100) } else { fid(item.oid) },
            extent_offset: 0,
            extent_length: u64::MAX,
            // A key never changes its action.
            cookie: 1000 * u64::from(item.action)
                + u64::from(item.cookie)
                + if item.cookie.is_multiple_of(3) { 1 << 33 } else { 0 },
            gid: u64::from(item.cookie % 2),
            archive_id: if action == Action::Remove {
                item.archive_id.into()
            } else {
                u32::from(item.archive_id.max(1))
            },
            flags: u64::from(item.flags) * 4,
            data: DATA[usize::from(item.data)].as_bytes().into(),
            timestamp: 0,
            extra: Box::default(),
        }
    }

    fn message(&mut self, mover: u8, message: Message) {
        if let Some(conn) = self.movers[usize::from(mover)].conn {
            self.event(Event::Message { conn, message });
        }
    }

    fn connect(&mut self, mover: u8, claim: Claim) {
        let entry = &mut self.movers[usize::from(mover)];
        if entry.conn.is_some() {
            return;
        }
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let hai_list = match claim {
            Claim::Nothing => None,
            Claim::All => Some(entry.running.values().cloned().collect()),
            Claim::Some => Some(entry.running.values().step_by(2).cloned().collect()),
            Claim::Stranger => Some(vec![Self::item(&Item {
                action: 0,
                oid: mover,
                cookie: 200 + mover,
                data: 1,
                archive_id: 1,
                flags: false,
                dfid: false,
            })]),
        };
        entry.running =
            hai_list.iter().flatten().map(|item: &ActionItem| (item.key(), item.clone())).collect();
        *entry = Mover { conn: Some(conn), running: std::mem::take(&mut entry.running), ..Mover::default() };
        self.event(Event::Connected { conn, peer: format!("host:{}", conn.0) });
        let ehlo = Ehlo {
            id: name(mover),
            archive_ids: if mover == 1 && !self.draining { vec![1, 2] } else { Vec::new() },
            hai_list,
            features: Features { binary_data: false, lease: mover == 2 },
            ..Ehlo::default()
        };
        self.message(mover, Message::Ehlo(ehlo));
    }

    fn disconnect(&mut self, mover: u8) {
        let entry = &mut self.movers[usize::from(mover)];
        if let Some(conn) = entry.conn.take() {
            entry.waiting = false;
            self.event(Event::Disconnected { conn });
        }
    }

    fn recv(&mut self, mover: u8, recv: Recv) {
        let entry = &mut self.movers[usize::from(mover)];
        if entry.conn.is_none() || !entry.greeted || entry.waiting || recv.max_bytes < 172 {
            self.message(mover, Message::Recv(recv));
            return;
        }
        entry.waiting = true;
        entry.recv = Some(recv);
        self.message(mover, Message::Recv(recv));
    }

    fn done(&mut self, mover: u8, which: u8, status: i32, truncated: bool) {
        let entry = &mut self.movers[usize::from(mover)];
        if entry.conn.is_none() || !entry.greeted || entry.running.is_empty() {
            return;
        }
        let at = usize::from(which) % entry.running.len();
        let (key, item) = entry.running.iter().nth(at).map(|(key, item)| (*key, item.clone())).unwrap();
        // ENOSYS says that the mover goes on, if it was told to cancel; it never ends twice here.
        let goes_on = status == 38 && entry.told.contains(&key);
        if !goes_on {
            entry.running.remove(&key);
        }
        let cookie = if truncated { item.cookie as u32 as i32 as i64 as u64 } else { item.cookie };
        let done = Done { cookie, dfid: item.dfid, status };
        // A mover of ours whose copytool succeeded; some of each kind, so that it matters for removes only.
        let unheard = status == 2 && which.is_multiple_of(2) && !truncated;
        self.message(mover, if unheard { Message::Unheard(done) } else { Message::Done(done) });
        if goes_on {
            let entry = &mut self.movers[usize::from(mover)];
            entry.running.remove(&key);
            self.message(mover, Message::Done(Done { cookie, dfid: item.dfid, status: 0 }));
        }
    }

    fn pass(&mut self, ms: u32) {
        let end = self.now.mono + Duration::from_millis(ms.into());
        let mut turns = 0;
        while let Some(at) = self.core.next_deadline().filter(|&at| at <= end) {
            turns += 1;
            assert!(turns < 10_000, "the coordinator wants to be woken for ever");
            self.now.wall = self.now.wall_at(at.max(self.now.mono));
            self.now.mono = at.max(self.now.mono);
            self.event(Event::Tick);
        }
        self.now.wall = self.now.wall_at(end);
        self.now.mono = end;
    }

    fn status(&mut self, chunk: u16) {
        if let Some(cursor) = self.cursor
            && self.core.status_chunk(self.now, cursor, chunk.into(), &mut self.text)
        {
            self.check_status();
            self.cursor = None;
        }
    }

    /// Every entry is there at most once.
    fn check_status(&mut self) {
        let text = String::from_utf8(std::mem::take(&mut self.text)).unwrap();
        let status: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let mut seen = BTreeSet::new();
        let mut entries = Vec::new();
        collect(&status, &mut entries);
        for entry in entries {
            assert!(seen.insert(entry.clone()), "shown twice: {entry}");
        }
    }

    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Lustre(items) => {
                self.event(Event::Lustre { items: items.iter().map(Self::item).collect() })
            }
            Step::Queue(items) => {
                let items = Some(items.iter().map(Self::item).collect());
                self.message(0, Message::Queue(Queue { fsname: None, items, bad_items: 0 }));
            }
            Step::Cancel(cookie, oid) => {
                let like = Item {
                    action: oid % 3,
                    oid: *oid,
                    cookie: *cookie,
                    data: 0,
                    archive_id: 1,
                    flags: false,
                    dfid: false,
                };
                let item = ActionItem { action: Action::Cancel, ..Self::item(&like) };
                self.event(Event::Lustre { items: vec![item] });
            }
            Step::Connect { mover, claim } => self.connect(*mover, *claim),
            Step::Disconnect(mover) => self.disconnect(*mover),
            Step::Recv { mover, archive, restore, bytes } => {
                let max = |max: &Option<u8>| max.map(u32::from);
                let recv = Recv {
                    max_archive: max(archive),
                    max_restore: max(restore),
                    max_remove: None,
                    max_bytes: (*bytes).into(),
                };
                self.recv(*mover, recv);
            }
            Step::Done { mover, which, status, truncated } => {
                self.done(*mover, *which, i32::from(*status), *truncated);
            }
            Step::ForeignDone { mover, cookie, oid } => {
                let key = RequestKey { cookie: u64::from(*cookie), fid: fid(*oid) };
                if !self.movers[usize::from(*mover)].running.contains_key(&key) {
                    let done = Done { cookie: key.cookie, dfid: key.fid, status: 0 };
                    // What it truly runs under a truncated cookie would be ended.
                    let like = |item: &ActionItem| item.cookie as u32 == key.cookie as u32;
                    if !self.movers[usize::from(*mover)].running.values().any(like) {
                        self.message(*mover, Message::Done(done));
                    }
                }
            }
            Step::Lease(mover) => self.message(*mover, Message::Lease { serial: 1 }),
            Step::Pass(ms) => self.pass(*ms),
            Step::Lock(lock) => {
                self.locked = *lock == 1 && self.movers[0].conn.is_some();
                let lock = if *lock == 1 { Lock::Locked } else { Lock::Unlocked };
                self.message(0, Message::Lock(Some(lock)));
                if self.movers[0].conn.is_none() {
                    self.locked = self.core_locked();
                }
            }
            Step::StoreFull(full) => self.event(Event::StoreFull(*full)),
            Step::Reconfigure(number) => self.event(Event::Reconfigured(Box::new(config(*number)))),
            Step::Status { chunk, drop } => {
                if let Some(cursor) = self.cursor.take() {
                    if *drop {
                        self.core.status_drop(cursor);
                        self.text.clear();
                    } else {
                        self.cursor = Some(cursor);
                        return;
                    }
                }
                self.message(0, Message::Status { verbose: 6 });
                self.status(*chunk);
            }
            Step::StatusOn(chunk) => self.status(*chunk),
            Step::EndAtLustre { errno } => {
                if let Some(key) = self.endings.pop() {
                    self.event(Event::LustreEnded { key, errno: (*errno).into() });
                }
            }
            Step::Answer { which, errno } => self.answer(*which, (*errno).into()),
            Step::LookUp { most, known } => {
                let most = self.lookups.len().min((*most).into());
                let owner = |key: &RequestKey| Attributes {
                    uid: key.fid.oid % 3,
                    project: key.fid.oid % 2,
                    ..Attributes::default()
                };
                let found = self.lookups.drain(..most).map(|key| (key, known.then(|| owner(&key)))).collect();
                self.event(Event::LookedUp(found));
            }
            Step::Locate { most, tape, host } => {
                let most = self.sought.len().min((*most).into());
                let located = |key: &RequestKey| match tape {
                    0 => Located::Failed,
                    1 => Located::At(Location::default()),
                    tape => Located::At(Location {
                        tape: Some(format!("T{tape}")),
                        host: (*host < 4).then(|| format!("m{host}")),
                        position: (*host > 1).then_some(u64::from(key.fid.oid)),
                    }),
                };
                let found = self.sought.drain(..most).map(|key| (key, located(&key))).collect();
                self.event(Event::Located(found));
            }
            Step::SpaceUsed(percent) => self.event(Event::SpaceUsed(*percent)),
        }
    }

    /// The MDT answers one of the calls that wait for it.
    fn answer(&mut self, which: u8, errno: i32) {
        if self.asked.is_empty() {
            return;
        }
        let call = self.asked.swap_remove(usize::from(which) % self.asked.len());
        let answer = match call {
            // 9: the file exists and is archived, 11: and has changed since.
            LustreCall::State { key, number } if errno == 0 => {
                let states = if which.is_multiple_of(2) { 9 } else { 11 };
                LustreAnswer::State { key, number, state: Ok(FileState { states, archive_id: 1 }) }
            }
            call => call.answer(errno),
        };
        self.event(Event::LustreAnswered(answer));
    }

    fn core_locked(&mut self) -> bool {
        let mut out = Vec::new();
        let mut effects = Effects::default();
        let conn = ConnId(u64::MAX);
        self.core.handle(self.now, Event::Connected { conn, peer: "x:1".into() }, &mut effects);
        let status = Event::Message { conn, message: Message::Status { verbose: 0 } };
        self.core.handle(self.now, status, &mut effects);
        for effect in &effects.visible {
            if let Effect::Status { cursor, .. } = effect {
                while !self.core.status_chunk(self.now, *cursor, 1 << 20, &mut out) {}
            }
        }
        self.core.handle(self.now, Event::Disconnected { conn }, &mut effects);
        String::from_utf8(out).unwrap().contains("\"locked\"")
    }

    /// All movers come, work and finish: nothing may be left.
    pub fn drain(&mut self) {
        self.draining = true;
        self.event(Event::StoreFull(false));
        for mover in 0..MOVERS {
            self.disconnect(mover);
            self.connect(mover, Claim::All);
        }
        self.locked = false;
        self.message(0, Message::Lock(Some(Lock::Unlocked)));
        for _ in 0..400 {
            while let Some(key) = self.endings.pop() {
                self.event(Event::LustreEnded { key, errno: 0 });
            }
            while !self.asked.is_empty() {
                self.answer(0, 0);
            }
            let found = std::mem::take(&mut self.sought).into_iter();
            let found = found.map(|key| (key, Located::At(Location::default()))).collect();
            self.event(Event::Located(found));
            self.pass(1000);
            for mover in 0..MOVERS {
                if !self.movers[usize::from(mover)].waiting {
                    self.recv(
                        mover,
                        Recv { max_archive: None, max_restore: None, max_remove: None, max_bytes: 4096 },
                    );
                }
                while !self.movers[usize::from(mover)].running.is_empty() {
                    self.done(mover, 0, 0, mover == 3);
                }
            }
            let counters = self.core.counters();
            if counters.pending == [0; 3] && counters.running == [0; 3] && counters.ending == 0 {
                break;
            }
        }
        let counters = self.core.counters();
        assert_eq!((counters.pending, counters.running), ([0; 3], [0; 3]), "everything drains: {counters:?}");
        assert_eq!(counters.admitted, counters.ended);
        assert_eq!((counters.pending_cancel, counters.waiting_for_file, counters.unpersisted), (0, 0, 0));
        assert!(self.stored.is_empty(), "the store forgets what has ended: {:?}", self.stored.keys());
    }
}

pub fn collect(value: &serde_json::Value, entries: &mut Vec<String>) {
    match value {
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, entries)),
        serde_json::Value::Object(members) => {
            if let (Some(fid), Some(cookie)) = (members.get("hai_fid"), members.get("hai_cookie")) {
                entries.push(format!("{fid} {cookie}"));
            } else {
                // A cancel to be sent stands beside its victim.
                members
                    .iter()
                    .filter(|(name, _)| *name != "cancels")
                    .for_each(|(_, value)| collect(value, entries));
            }
        }
        _ => {}
    }
}
