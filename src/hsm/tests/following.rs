//! Explanations do not lie: whatever happened, somebody who knows nothing but what they say, and removes one named
//! obstacle after the other, brings every request to its end.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{Just, ProptestConfig, Strategy, prop};
use proptest::{prop_assert, prop_oneof, proptest};

use super::*;
use crate::hsm::config::{Limit, Limits, QuarantineConfig, Rate};
use crate::hsm::reason::Reason;

const MOVERS: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    Lustre(Vec<(u8, u8, u8, u8)>),
    Cancel(u8),
    Connect(u8, bool),
    Disconnect(u8),
    Recv(u8, u8, bool),
    Done(u8, u8),
    Pass(u32),
    Lock(bool),
    Drain(u8, bool),
    Operator(u8),
    Reconfigure(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let request = (0..3u8, 0..8u8, 0..8u8, 0..3u8);
    let mover = 0..MOVERS as u8;
    prop_oneof![
        6 => prop::collection::vec(request, 1..8).prop_map(Step::Lustre),
        1 => (0..40u8).prop_map(Step::Cancel),
        5 => (mover.clone(), proptest::bool::ANY).prop_map(|(mover, some)| Step::Connect(mover, some)),
        2 => mover.clone().prop_map(Step::Disconnect),
        8 => (mover.clone(), 0..4u8, proptest::bool::ANY).prop_map(|(mover, most, small)| Step::Recv(mover, most, small)),
        6 => (mover.clone(), prop_oneof![2 => Just(0u8), 2 => Just(5), 1 => Just(2)])
            .prop_map(|(mover, errno)| Step::Done(mover, errno)),
        3 => (0..20_000u32).prop_map(Step::Pass),
        1 => proptest::bool::ANY.prop_map(Step::Lock),
        2 => (mover, proptest::bool::ANY).prop_map(|(mover, on)| Step::Drain(mover, on)),
        1 => (0..6u8).prop_map(Step::Operator),
        1 => (0..6u8).prop_map(Step::Reconfigure),
    ]
}

fn configured(number: u8) -> HsmConfig {
    let limit = |max| Limit { max, ..Limit::default() };
    let rate = Rate { count: 1, per: Duration::from_secs(2) };
    let limits = match number % 3 {
        1 => Limits {
            movers: vec![("m1".into(), limit(Some(1)))],
            hints: vec![("p=".into(), None, limit(Some(1)))],
            ..Limits::default()
        },
        2 => Limits {
            movers: vec![("*".into(), Limit { rate: Some(rate), ..limit(Some(3)) })],
            hints: vec![("p=".into(), Some("a".into()), Limit { rate: Some(rate), ..limit(None) })],
            ..Limits::default()
        },
        _ => Limits::default(),
    };
    HsmConfig {
        client_grace: Duration::from_secs(5),
        host_mappings: vec![any("tag=n0", &["m0"]), any("tag=n1", &["m1", "m2"])],
        batch: if number >= 3 { batch(3, Some(10), 1) } else { None },
        ask_lustre: number % 2 == 1,
        retry_limit: 1,
        retry_backoff: Duration::from_secs(1),
        quarantine: QuarantineConfig {
            errors: if number.is_multiple_of(2) { 2 } else { 0 },
            window: Duration::from_secs(20),
            time: Duration::from_secs(10),
        },
        limits,
        ..config()
    }
}

struct World {
    s: Session,
    conns: [Option<u64>; MOVERS],
    next_conn: u64,
    /// What each runs: key and data FID.
    running: [BTreeMap<RequestKey, Fid>; MOVERS],
    known: BTreeSet<RequestKey>,
    cookie: u64,
    locked_by: u64,
}

impl World {
    fn new(number: u8) -> Self {
        let mut s = Session::new(configured(number));
        s.connect(1);
        Self {
            s,
            conns: [None; MOVERS],
            next_conn: 10,
            running: Default::default(),
            known: BTreeSet::new(),
            cookie: 100,
            locked_by: 1,
        }
    }

    /// Plays the movers and the MDT.
    fn absorb(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Work { conn, list } => {
                    let Some(mover) = self.conns.iter().position(|of| *of == Some(conn.0)) else { continue };
                    for item in list.items {
                        if item.action == Action::Cancel {
                            if self.running[mover].remove(&item.key()).is_some() {
                                let (cookie, dfid) = (item.cookie, item.dfid);
                                let done = Message::Done(Done { cookie, dfid, status: 125 });
                                let more = self.s.message(conn.0, done);
                                self.absorb(more);
                            }
                        } else {
                            self.running[mover].insert(item.key(), item.dfid);
                        }
                    }
                }
                Effect::EndAtLustre { item, .. } => {
                    let more = self.s.event(Event::LustreEnded { key: item.key(), errno: 0 });
                    self.absorb(more);
                }
                Effect::AskLustre(call) => {
                    let more = match &call {
                        LustreCall::Request { item, .. } => {
                            self.cookie += 1;
                            let again = ActionItem { cookie: self.cookie, ..(**item).clone() };
                            self.known.insert(again.key());
                            let more = self.s.event(Event::LustreAnswered(call.answer(0)));
                            self.absorb(more);
                            self.s.lustre(vec![again])
                        }
                        LustreCall::State { key, number } => {
                            let state = Ok(super::super::FileState::default());
                            self.s.event(Event::LustreAnswered(LustreAnswer::State {
                                key: *key,
                                number: *number,
                                state,
                            }))
                        }
                        _ => self.s.event(Event::LustreAnswered(call.answer(0))),
                    };
                    self.absorb(more);
                }
                _ => {}
            }
        }
    }

    fn connect(&mut self, mover: usize, some: bool) {
        if self.conns[mover].is_some() {
            return;
        }
        self.next_conn += 1;
        self.conns[mover] = Some(self.next_conn);
        self.running[mover].clear();
        let ids: &[u32] = if some { &[1, 2] } else { &[] };
        let effects = self.s.mover_for(self.next_conn, &format!("m{mover}"), ids);
        self.absorb(effects);
    }

    fn disconnect(&mut self, mover: usize) {
        if let Some(conn) = self.conns[mover].take() {
            let effects = self.s.disconnect(conn);
            self.absorb(effects);
        }
    }

    fn recv(&mut self, mover: usize, recv: Recv) {
        if let Some(conn) = self.conns[mover] {
            let effects = self.s.recv(conn, recv);
            self.absorb(effects);
        }
    }

    fn done(&mut self, mover: usize, status: i32) {
        let Some(conn) = self.conns[mover] else { return };
        if let Some((key, dfid)) = self.running[mover].pop_first() {
            let done = Message::Done(Done { cookie: key.cookie, dfid, status });
            let effects = self.s.message(conn, done);
            self.absorb(effects);
        }
    }

    fn pass_ms(&mut self, ms: u64) {
        // In parts, so that what is asked meanwhile is answered.
        for _ in 0..ms.div_ceil(500) {
            let effects = self.s.pass_ms(500);
            self.absorb(effects);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Lustre(requests) => {
                let mut items = Vec::new();
                for &(action, oid, data, archive_id) in requests {
                    let action = [Action::Archive, Action::Restore, Action::Remove][usize::from(action)];
                    self.cookie += 1;
                    let long = format!("x,{}", "y".repeat(60));
                    let data =
                        ["", "tag=n0", "tag=n1", "p=a", "p=b", "tag=n1,p=a", "t=1", &long][usize::from(data)];
                    let archive_id = if action == Action::Remove { archive_id } else { archive_id.max(1) };
                    let new = item(action, u32::from(oid), self.cookie, data);
                    items.push(ActionItem { archive_id: archive_id.into(), ..new });
                }
                self.known.extend(items.iter().map(ActionItem::key));
                let effects = self.s.lustre(items);
                self.absorb(effects);
            }
            Step::Cancel(at) => {
                let key = self.known.iter().nth(usize::from(*at)).copied();
                if let Some(key) = key {
                    let cancel = ActionItem { fid: key.fid, ..item(Action::Cancel, 0, key.cookie, "") };
                    let effects = self.s.lustre(vec![ActionItem { dfid: key.fid, ..cancel }]);
                    self.absorb(effects);
                }
            }
            Step::Connect(mover, some) => self.connect(usize::from(*mover), *some),
            Step::Disconnect(mover) => self.disconnect(usize::from(*mover)),
            Step::Recv(mover, most, small) => {
                let most = Some(u32::from(*most));
                let max_bytes = if *small { 180 } else { 4096 };
                let recv = Recv { max_archive: most, max_restore: most, max_remove: most, max_bytes };
                self.recv(usize::from(*mover), recv);
            }
            Step::Done(mover, errno) => self.done(usize::from(*mover), i32::from(*errno)),
            Step::Pass(ms) => self.pass_ms((*ms).into()),
            Step::Lock(on) => {
                let effects = self.s.lock(self.locked_by, if *on { Lock::Locked } else { Lock::Unlocked });
                self.absorb(effects);
            }
            Step::Drain(mover, on) => {
                let order = Order::Drain { mover: format!("m{mover}"), on: *on };
                let (_, effects) = self.s.order(order);
                self.absorb(effects);
            }
            Step::Operator(what) => {
                let mover = Some(format!("m{what}"));
                let order = match what {
                    0..=1 => Order::Cancel {
                        select: Select { mover, ..Select::default() },
                        preview: false,
                        examples: 1,
                    },
                    2 => Order::Cancel {
                        select: Select { hint: Some("p=a".into()), ..Select::default() },
                        preview: false,
                        examples: 1,
                    },
                    3 => Order::Retry { select: Select::default() },
                    4 => Order::Forget { select: Select { mover, ..Select::default() } },
                    _ => Order::Release { mover: "m0".into() },
                };
                let (_, effects) = self.s.order(order);
                self.absorb(effects);
            }
            Step::Reconfigure(number) => {
                let effects = self.s.event(Event::Reconfigured(Box::new(configured(*number))));
                self.absorb(effects);
            }
        }
    }

    fn mover(&self, name: &str) -> usize {
        name.strip_prefix('m').and_then(|number| number.parse().ok()).unwrap()
    }

    /// Removes one obstacle, knowing nothing but its name.
    fn remove(&mut self, reason: &Reason) {
        let wide = |world: &mut Self, mover: usize| {
            world.recv(mover, Recv { max_bytes: 1 << 16, ..ANY });
        };
        match reason {
            Reason::Locked { .. } => self.step(&Step::Lock(false)),
            Reason::NoMover { .. } => {
                // Whoever is there serves the wrong archives.
                let mover = self.conns.iter().position(Option::is_none).unwrap_or(3);
                self.disconnect(mover);
                self.connect(mover, false);
            }
            Reason::HostAbsent { mover, .. } | Reason::MoverAway { mover, .. } => {
                self.connect(self.mover(mover), false);
            }
            Reason::HostsAbsent { movers } => self.connect(self.mover(&movers[0]), false),
            Reason::NotServed { mover, .. } => {
                let mover = self.mover(mover);
                self.disconnect(mover);
                self.connect(mover, false);
            }
            Reason::Running { mover, .. }
            | Reason::FileBusy { mover, .. }
            | Reason::MoverFull { mover, .. }
            | Reason::OnTrial { mover }
            | Reason::BatchFull { mover, .. } => {
                let mover = self.mover(mover);
                if self.conns[mover].is_none() || self.running[mover].is_empty() {
                    // It asked for less than it could do.
                    self.disconnect(mover);
                    self.connect(mover, false);
                    return wide(self, mover);
                }
                // A cancel may have to reach it first.
                wide(self, mover);
                self.done(mover, 0);
                wide(self, mover);
            }
            Reason::MoverLimit { mover, until, .. } => match until {
                Some(until) => self.until(*until),
                None => self.done(self.mover(mover), 0),
            },
            Reason::Limit { until, .. } => match until {
                Some(until) => self.until(*until),
                None => {
                    (0..MOVERS).for_each(|mover| {
                        self.connect(mover, false);
                        self.done(mover, 0);
                    });
                    // Somebody was let in who cannot run: the next one is, a little later.
                    self.pass_ms(1000);
                }
            },
            Reason::Settling { until } | Reason::Quarantined { until, .. } => self.until(*until),
            Reason::TooLarge { .. } => {
                for mover in 0..MOVERS {
                    self.disconnect(mover);
                    self.connect(mover, false);
                    wide(self, mover);
                }
            }
            Reason::Draining { mover } => {
                self.step(&Step::Drain(self.mover(mover) as u8, false));
            }
            Reason::MoverNotAsking { mover } => wide(self, self.mover(mover)),
            Reason::SlotHeld { mover, until, .. } => {
                let mover = self.mover(mover);
                wide(self, mover);
                self.done(mover, 0);
                match until {
                    Some(until) => self.until(*until),
                    None => self.pass_ms(1000),
                }
            }
            Reason::FileTurn { key } => {
                let next = self.s.core.explain(&Find::Request(*key)).remove(0);
                self.remove(&next.reasons[0]);
            }
            _ => self.pass_ms(1000),
        }
    }

    fn until(&mut self, until: Wall) {
        let left = until.0.saturating_sub(self.s.now.wall.0).max(0) as u64;
        self.pass_ms(left / 1_000_000 + 1);
    }

    fn follow(&mut self) {
        while let Some(key) = self.known.first().copied() {
            let mut path = Vec::new();
            while let Some(explanation) = self.s.core.explain(&Find::Request(key)).first().cloned() {
                assert!(!explanation.reasons.is_empty());
                path.push(format!("{:?} {:?}", explanation.request.state, explanation.reasons));
                assert!(path.len() < 200, "{key} does not end:\n{}", path[path.len() - 8..].join("\n"));
                // One that is named is as good as another; not always the same one.
                let at = path.len() % explanation.reasons.len();
                let reason = explanation.reasons[at].clone();
                self.remove(&reason);
            }
            self.known.remove(&key);
        }
        let counters = self.s.core.counters();
        assert_eq!((counters.pending, counters.running), ([0; 3], [0; 3]), "nothing else is left");
    }
}

/// More of them with `PROPTEST_CASES`.
fn cases() -> ProptestConfig {
    let usual = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { usual.cases } else { 40 };
    ProptestConfig { cases, max_shrink_iters: 300, failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn who_follows_explanations_gets_everything_done(
        number in 0..6u8,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(number);
        for step in &steps {
            world.step(step);
            for key in &world.known {
                for explanation in world.s.core.explain(&Find::Request(*key)) {
                    prop_assert!(!explanation.reasons.is_empty());
                    prop_assert!(explanation.reasons != [Reason::NextStep], "{:?}", explanation);
                }
            }
        }
        world.follow();
    }
}
