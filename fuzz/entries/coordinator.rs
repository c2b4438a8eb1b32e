//! The coordinator among peers and MDTs of no sense.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coordinatool::hsm::config::{BatchConfig, HostChoice, HostMapping, Priorities};
use coordinatool::hsm::effect::{Effect, Effects, StoreOp};
use coordinatool::hsm::{
    Action, AskId, ConnId, Coordinator, Event, FileState, HsmConfig, Located, Location, LustreAnswer,
    LustreCall, Mono, Now, Order, RequestKey, Sought, Wall,
};
use coordinatool::lustre::active_requests::{Line, parse_line};
use coordinatool::lustre::feed::Feed;
use coordinatool::ops::Select;
use coordinatool::wire::{Accept, parse_item, parse_message, parse_reply, write_reply, write_work};

/// Longest wait between two lines.
const MOST_MS: u64 = 1_000_000;

fn config(number: u64) -> HsmConfig {
    let mapping = |tag: &str, hosts: &[&str], choice| HostMapping {
        tag: tag.into(),
        hosts: hosts.iter().map(|&host| host.into()).collect(),
        choice,
    };
    let batch = BatchConfig { idle: Duration::from_secs(5), max: Some(Duration::from_secs(10)), slots: 1 };
    let hash = HostChoice::Hash { modulus: Some(10) };
    HsmConfig {
        fsname: "testfs0".into(),
        client_grace: Duration::from_millis(1500),
        settle: Duration::from_secs(4),
        reporting_hint: Some("cr=".into()),
        host_mappings: match number % 3 {
            1 => vec![mapping("tag=n0", &["m0"], HostChoice::Any), mapping("grouping=", &["m0", "m1"], hash)],
            _ => Vec::new(),
        },
        batch: (number % 4 > 1).then_some(batch),
        priorities: (number % 2 == 1).then(Priorities::default),
        ..HsmConfig::default()
    }
}

struct World {
    core: Coordinator,
    now: Now,
    peers: BTreeMap<u8, ConnId>,
    last: u64,
    stored: BTreeSet<RequestKey>,
    calls: Vec<LustreCall>,
    endings: Vec<RequestKey>,
    lookups: Vec<RequestKey>,
    sought: Vec<Sought>,
}

impl World {
    fn event(&mut self, event: Event) {
        let mut effects = Effects::default();
        self.core.handle(self.now, event, &mut effects);
        for op in effects.store {
            match op {
                StoreOp::Put(item) => assert!(self.stored.insert(item.key()), "put once"),
                StoreOp::Assign { key, .. } | StoreOp::Unassign { key } => {
                    assert!(self.stored.contains(&key), "assigned what is stored");
                }
                StoreOp::Remove { key } => assert!(self.stored.remove(&key), "removed what is stored"),
                StoreOp::Note { .. } => {}
            }
        }
        for effect in effects.visible {
            self.effect(effect);
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { reply, .. } => {
                let mut out = Vec::new();
                write_reply(&reply, &mut out);
                parse_reply(&out).unwrap();
            }
            Effect::Work { list, .. } => {
                let mut out = Vec::new();
                write_work(&list, "testfs0", &mut out);
                parse_reply(&out).unwrap();
                assert!(!list.items.is_empty());
            }
            Effect::Close { conn, .. } => {
                if let Some(peer) =
                    self.peers.iter().find(|(_, known)| **known == conn).map(|(peer, _)| *peer)
                {
                    self.peers.remove(&peer);
                    self.event(Event::Disconnected { conn });
                }
            }
            Effect::Status { cursor, .. } => {
                let mut text = Vec::new();
                while !self.core.status_chunk(self.now, cursor, 300, &mut text) {}
                serde_json::from_slice::<serde_json::Value>(&text).unwrap();
            }
            Effect::EndAtLustre { item, .. } => self.endings.push(item.key()),
            Effect::AskLustre(call) => self.calls.push(call),
            Effect::LookUp { keys, .. } => self.lookups.extend(keys),
            Effect::Locate(sought) => self.sought.extend(sought),
            Effect::Report { name, line } => assert!(!name.contains('/') && !line.contains('\n')),
            Effect::RemoveReport { name } => assert!(!name.contains('/')),
            Effect::Operator { .. } | Effect::Probe { .. } | Effect::Terminate => {}
        }
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now.mono + Duration::from_millis(ms.min(MOST_MS));
        let mut turns = 0;
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= end) {
            turns += 1;
            assert!(turns < 100_000, "it wants to be woken for ever");
            self.now.wall = self.now.wall_at(at.max(self.now.mono));
            self.now.mono = at.max(self.now.mono);
            self.event(Event::Tick);
        }
        self.now.wall = self.now.wall_at(end);
        self.now.mono = end;
    }

    /// Everything that was asked of the MDTs and others is answered with this.
    fn answer(&mut self, errno: i32) {
        for key in std::mem::take(&mut self.endings) {
            self.event(Event::LustreEnded { key, errno });
        }
        for call in std::mem::take(&mut self.calls) {
            let answer = match call {
                LustreCall::State { key, number } if errno == 0 => {
                    let state = Ok(FileState { states: 9, archive_id: 1 });
                    LustreAnswer::State { key, number, state }
                }
                call => call.answer(errno),
            };
            self.event(Event::LustreAnswered(answer));
        }
        let found = std::mem::take(&mut self.lookups).into_iter().map(|key| (key, None)).collect();
        self.event(Event::LookedUp(found));
        let place = Located::At(Location { tape: Some(format!("T{errno}")), ..Location::default() });
        let located = std::mem::take(&mut self.sought).into_iter();
        self.event(Event::Located(located.map(|sought| (sought.key, place.clone())).collect()));
    }

    fn ask(&mut self) -> AskId {
        self.last += 1;
        AskId(self.last)
    }

    fn line(&mut self, line: &[u8]) {
        let Some((&first, rest)) = line.split_first() else { return };
        let number = || std::str::from_utf8(rest).ok().and_then(|text| text.trim().parse::<u64>().ok());
        match first {
            b'a'..=b'd' => {
                let Ok(message) = parse_message(rest) else { return };
                if !self.peers.contains_key(&first) {
                    self.last += 1;
                    let conn = ConnId(self.last);
                    self.peers.insert(first, conn);
                    self.event(Event::Connected { conn, peer: format!("host:{}", self.last) });
                }
                if let Some(&conn) = self.peers.get(&first) {
                    self.event(Event::Message { conn, message });
                }
            }
            b'-' => {
                if let Some(conn) = rest.first().and_then(|peer| self.peers.remove(peer)) {
                    self.event(Event::Disconnected { conn });
                }
            }
            b'+' => self.pass(number().unwrap_or(1000)),
            b'=' => self.answer(number().map_or(0, |errno| (errno % 200) as i32)),
            b'L' | b'C' => {
                let Ok(Line::Record(record)) = parse_line(rest) else { return };
                let mut item = record.item;
                if first == b'C' {
                    item.action = Action::Cancel;
                }
                self.event(Event::Lustre { items: vec![item] });
            }
            b'O' => {
                let Ok(select) = serde_json::from_slice::<Select>(rest) else { return };
                let Ok(select) = select.to_core() else { return };
                let ask = self.ask();
                let who = "uid 0".to_owned();
                let order = Order::Cancel { select, preview: false, examples: 3 };
                self.event(Event::Operator { ask, who, order });
            }
            b'*' => {
                let config = config(number().unwrap_or(0));
                self.event(Event::Reconfigured(Box::new(config)));
            }
            _ => {}
        }
    }

    /// The lines that begin with `M` are a listing of the MDTs.
    fn reconcile(&mut self, lines: &[&[u8]]) {
        use coordinatool::hsm::reconcile::{Adopt, Listing, Reconcile};
        let ask = self.ask();
        let listing = Listing { source: "f".into(), all_mdts: true, adopt: Adopt::All };
        let mut feed = Feed::new("testfs0");
        let mut steps = vec![Reconcile::Begin(listing)];
        for line in lines {
            steps.extend(feed.push(&line[1..]));
            steps.extend(feed.push(b"\n"));
        }
        steps.extend(feed.finish().0);
        steps.into_iter().for_each(|step| self.event(Event::Reconcile { ask, step }));
    }
}

/// One line for each thing that happens. `aJSON` to `dJSON` are messages of peers, who connect with their first; `-a`
/// disconnects, `+MS` lets time pass, `=ERRNO` answers what the MDTs were asked, `LRECORD` is a request of theirs as
/// `active_requests` prints it and `CRECORD` its cancel, `MRECORD` a line of a listing, `OSELECT` a cancel by an operator, `*N`
/// another configuration. `NNAME VALUE` and `RITEM` at the beginning are what a store still has.
pub fn anything(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let now = Now { mono: Mono(50_000_000_000_000), wall: Wall(1_795_217_766_000_000_000) };
    let mut world = World {
        core: Coordinator::new(config(u64::from(data.first().copied().unwrap_or(0))), 7, now),
        now,
        peers: BTreeMap::new(),
        last: 0,
        stored: BTreeSet::new(),
        calls: Vec::new(),
        endings: Vec::new(),
        lookups: Vec::new(),
        sought: Vec::new(),
    };
    let begins = |with: u8| move |line: &&&[u8]| line.first() == Some(&with);
    let mut requests = Vec::new();
    for line in lines.iter().filter(begins(b'R')) {
        if let Ok(Ok(item)) = parse_item(&line[1..], Accept::Anything)
            && item.action != Action::Cancel
            && item.timestamp > 0
            && world.stored.insert(item.key())
        {
            let mover = (item.gid % 2 == 1).then(|| "m0".to_owned());
            requests.push((item, mover));
        }
    }
    if !requests.is_empty() {
        world.event(Event::Recovered { requests, suspect: data.len() % 2 == 1 });
    }
    let text = |line: &&[u8]| String::from_utf8_lossy(&line[1..]).into_owned();
    let notes = lines.iter().filter(begins(b'N')).map(text);
    let notes =
        notes.filter_map(|line| line.split_once(' ').map(|(name, value)| (name.into(), value.into())));
    world.event(Event::RecoveredNotes(notes.collect()));
    for (at, line) in lines.iter().enumerate() {
        if line.first() != Some(&b'M') {
            world.line(line);
            world.core.check();
        } else if at == 0 || lines[at - 1].first() != Some(&b'M') {
            let end = lines[at..].iter().position(|line| line.first() != Some(&b'M'));
            world.reconcile(&lines[at..end.map_or(lines.len(), |end| at + end)]);
        }
    }
    world.pass(100_000);
    world.answer(0);
    world.core.check();
}
