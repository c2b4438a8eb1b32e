//! What holds in any order of events.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // In tests.

mod mdt_world;

use std::collections::BTreeSet;

use lustre_sim::mdt::{
    Action, Call, CallId, ClientId, Cred, Errno, FsConfig, FsEvent, Outcome, RecordStatus, UserRequest,
};
use lustreapi_sys::Fid;
use mdt_world::{CLIENT, Item, List, World};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const OTHER: ClientId = ClientId(2);

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Create(u32),
    Request(u8, Vec<u8>),
    Read(u8),
    Write(u8),
    Release(u8),
    Unlink(u8),
    Register(bool, Vec<u32>),
    Unregister(bool),
    /// The oldest list on the way: accepted, answer lost, failed, broken pipe; whether it arrived.
    Deliver(u8, bool),
    /// Ends the item of that number: how, and with which error.
    End(u8, u16, bool),
    Keepalive(u8, bool),
    Evict(bool),
    Restart(u32),
    Control(&'static str),
}

fn step() -> impl Strategy<Value = Step> {
    let file = || any::<u8>();
    prop_oneof![
        6 => (100u64..3_000).prop_map(Step::Wait),
        1 => (5_000u64..30_000).prop_map(Step::Wait),
        3 => (0u32..2).prop_map(Step::Create),
        8 => (0u8..4, prop::collection::vec(file(), 1..4)).prop_map(|(action, files)| Step::Request(action, files)),
        4 => file().prop_map(Step::Read),
        2 => file().prop_map(Step::Write),
        4 => file().prop_map(Step::Release),
        1 => file().prop_map(Step::Unlink),
        3 => (any::<bool>(), prop::collection::vec(0u32..3, 0..3)).prop_map(|(who, ids)| Step::Register(who, ids)),
        1 => any::<bool>().prop_map(Step::Unregister),
        10 => (0u8..8, any::<bool>()).prop_map(|(how, arrived)| Step::Deliver(how, arrived)),
        10 => (any::<u8>(), prop_oneof![4 => Just(0u16), 1 => Just(5), 1 => Just(125), 1 => Just(38)], any::<bool>())
            .prop_map(|(item, errno, retry)| Step::End(item, errno, retry)),
        3 => (any::<u8>(), any::<bool>()).prop_map(|(item, volatile)| Step::Keepalive(item, volatile)),
        1 => any::<bool>().prop_map(Step::Evict),
        1 => (0u32..2).prop_map(Step::Restart),
        1 => prop_oneof![Just("purge"), Just("disabled"), Just("enabled"), Just("shutdown"), Just("policy")]
            .prop_map(Step::Control),
    ]
}

struct Run {
    world: World,
    files: Vec<Fid>,
    items: Vec<Item>,
    readers: Vec<(CallId, Fid)>,
}

impl Run {
    fn new() -> Run {
        let mut world = World::new(FsConfig::default(), 0);
        world.accepting = false;
        world.event(FsEvent::Mount { client: OTHER, uuid: "other".to_owned() });
        Run { world, files: Vec::new(), items: Vec::new(), readers: Vec::new() }
    }

    fn file(&self, number: u8) -> Option<Fid> {
        self.files.get(usize::from(number) % self.files.len().max(1)).copied()
    }

    fn drain(&mut self) {
        for pipe in self.world.pipes.values_mut() {
            for frame in pipe.drain(..) {
                self.items.extend(List::parse(&frame).items);
            }
        }
    }

    fn apply(&mut self, step: &Step) {
        let who = |other: bool| if other { OTHER } else { CLIENT };
        let root = Cred::root();
        let world = &mut self.world;
        match step {
            Step::Wait(ms) => world.wait(*ms),
            Step::Create(mdt) => {
                let fid = world.create_on(*mdt);
                self.files.push(fid);
            }
            Step::Request(action, numbers) => {
                let actions = [Action::Archive, Action::Restore, Action::Remove, Action::Cancel];
                let files: Vec<Fid> = numbers.iter().filter_map(|number| self.file(*number)).collect();
                let request = UserRequest::new(actions[usize::from(*action)], files, b"tag=x");
                self.world.begin(CLIENT, &root, Call::Request(request));
            }
            Step::Read(number) => {
                if let Some(fid) = self.file(*number) {
                    let reader = self.world.begin(CLIENT, &root, Call::Access { fid });
                    self.readers.push((reader, fid));
                }
            }
            Step::Write(number) | Step::Release(number) | Step::Unlink(number) => {
                if let Some(fid) = self.file(*number) {
                    let call = match step {
                        Step::Write(_) => Call::Write { fid, version: None },
                        Step::Release(_) => Call::Release { fid },
                        _ => Call::Unlink { fid },
                    };
                    self.world.begin(CLIENT, &root, call);
                }
            }
            Step::Register(other, archives) => {
                world.begin(who(*other), &root, Call::Register { archives: archives.clone() });
            }
            Step::Unregister(other) => {
                world.begin(who(*other), &root, Call::Unregister);
            }
            Step::Deliver(how, arrived) => {
                if !world.on_the_way.is_empty() {
                    match how {
                        0 => world.outcome(Outcome::AnswerLost, *arrived),
                        1 => world.outcome(Outcome::Failed(Errno::IO), *arrived),
                        2 => world.outcome(Outcome::Failed(Errno::PIPE), *arrived),
                        _ => world.outcome(Outcome::Accepted, true),
                    }
                }
            }
            Step::End(number, errno, retry) => {
                if let Some(item) = self.items.get(usize::from(*number) % self.items.len().max(1)).cloned() {
                    self.end(&item, *errno, u16::from(*retry) * 2);
                }
            }
            Step::Keepalive(number, volatile) => {
                if let Some(item) = self.items.get(usize::from(*number) % self.items.len().max(1)).cloned() {
                    let fid =
                        if *volatile { Fid { oid: item.fid.oid + 0x1000, ..item.fid } } else { item.fid };
                    let progress = lustre_sim::mdt::Progress::keepalive(fid, item.cookie);
                    self.world.begin(CLIENT, &root, Call::Progress(progress));
                }
            }
            Step::Evict(other) => world.event(FsEvent::Evict { client: who(*other), mdt: None }),
            Step::Restart(mdt) => {
                world.event(FsEvent::StopMdt(*mdt));
                world.wait(300);
                world.event(FsEvent::StartMdt(*mdt));
            }
            Step::Control("policy") => world.set("hsm.policy", "-NRA"),
            Step::Control(value) => {
                // A purge of what is stopped is refused.
                let _ = world.try_set("hsm_control", value);
            }
        }
        self.drain();
    }

    fn end(&mut self, item: &Item, errno: u16, flags: u16) {
        let root = Cred::root();
        let actions = [Action::Archive, Action::Restore, Action::Remove, Action::Cancel];
        let action = *actions.iter().find(|action| action.hsma() == item.action).unwrap();
        let mut fid = item.fid;
        let mut version = self.world.fs.file(fid).map_or(0, |file| file.data_version);
        if action == Action::Restore {
            let mdt = lustre_sim::mdt::mdt_index_of(fid).unwrap();
            let file = lustre_sim::mdt::NewFile { volatile: true, ..Default::default() };
            let Ok(lustre_sim::mdt::Answer::Fid(volatile)) = self.world.call(Call::Create { mdt, file })
            else {
                return;
            };
            fid = volatile;
            version = 0;
        }
        let copy = lustre_sim::mdt::CopyEnd {
            action,
            fid,
            cookie: item.cookie,
            extent: lustre_sim::mdt::Extent::WHOLE,
            flags,
            errval: errno,
            data_version: version,
        };
        self.world.begin(CLIENT, &root, Call::CopyEnd(copy));
        if action == Action::Restore {
            self.world.begin(CLIENT, &root, Call::Close { fid });
        }
    }

    fn check(&self) {
        for mdt in self.world.fs.mdts() {
            let name = mdt.name();
            let running: Vec<_> = mdt.running().collect();
            assert!(running.len() <= 3, "{name} runs more than max_requests");
            let cookies: BTreeSet<u64> = running.iter().map(|running| running.record.cookie).collect();
            assert_eq!(cookies.len(), running.len());
            for record in mdt.records() {
                let entry = &mdt.ledger().entries[record.entry];
                assert_eq!(
                    (entry.status, entry.cookie, entry.index),
                    (record.status, record.cookie, record.index)
                );
                assert_eq!(entry.end.is_some(), record.status.is_final());
                assert!(record.status != RecordStatus::Started || entry.started > 0);
            }
            let mut last = None;
            for record in mdt.records() {
                assert!(last < Some(record.index));
                last = Some(record.index);
            }
            for entry in &mdt.ledger().entries {
                let chances = entry.sent.len();
                assert!(usize::try_from(entry.accepted_ends).unwrap() <= chances, "{entry:?}");
                let ended_by_copytool = entry.end.as_ref().is_some_and(|end| end.by.is_some());
                assert!(!ended_by_copytool || entry.action == Action::Cancel || entry.accepted_ends > 0);
            }
            for (fid, file) in mdt.files() {
                assert!(!file.released() || file.data_version == 0, "{fid} is released and has data");
            }
        }
        for (id, fid) in &self.readers {
            let blocked = !self.world.replies.contains_key(id);
            let mdt = self.world.fs.mdt_of(*fid).unwrap();
            assert!(!blocked || mdt.restoring(*fid), "a reader of {fid} waits for nothing");
            assert!(!blocked || mdt.file(*fid).is_some_and(|file| file.released()));
        }
    }

    /// Faults end; everything has to come to rest.
    fn settle(&mut self) {
        for (delivery, ..) in std::mem::take(&mut self.world.on_the_way) {
            self.world.event(FsEvent::Delivered { delivery, outcome: Outcome::Failed(Errno::IO) });
        }
        self.world.accepting = true;
        while let Some((delivery, ..)) = self.world.on_the_way.pop_front() {
            self.world.event(FsEvent::Delivered { delivery, outcome: Outcome::Failed(Errno::IO) });
        }
        self.world.set("hsm_control", "enabled");
        for client in [CLIENT, OTHER] {
            self.world.begin(client, &Cred::root(), Call::Unregister);
        }
        self.world.begin(CLIENT, &Cred::root(), Call::Register { archives: vec![] });
        self.items.clear();
        for _ in 0..60 {
            self.world.wait(1_000);
            self.drain();
            for item in std::mem::take(&mut self.items) {
                if item.action != Action::Cancel.hsma() {
                    self.end(&item, 0, 0);
                }
            }
        }
        // What an earlier agent was given times out; then what waited behind it is sent, and cancels time out as well.
        self.time_out();
        self.check();
        for mdt in self.world.fs.mdts() {
            // A purge leaves in memory what nobody ends, as a real Lustre does; that keeps others waiting.
            for running in mdt.running() {
                let entry = &mdt.ledger().entries[running.record.entry];
                assert_eq!((entry.status, entry.accepted_ends), (RecordStatus::Canceled, 0));
            }
            let full = mdt.running().count() == 3;
            let rest = mdt.records().all(|record| record.status.is_final());
            assert!(full || rest, "{}", mdt.param("actions").unwrap());
        }
        // The layout lock of a restore that was cancelled, and that nobody ended, is never given back: the record that times
        // out is the cancel's. Only a stop of the coordinator frees such readers.
        for (_, fid) in self.readers.iter().filter(|(id, _)| !self.world.replies.contains_key(id)) {
            let abandoned = self.world.fs.ledger().any(|entry| {
                let Some(end) = &entry.end else { return false };
                entry.fid == *fid && entry.action == Action::Restore && end.status == RecordStatus::Canceled
            });
            let full = self.world.fs.mdt_of(*fid).is_some_and(|mdt| mdt.running().count() == 3);
            assert!(abandoned || full, "a reader of {fid} was never answered");
        }
        self.world.set("hsm_control", "shutdown");
        assert!(self.readers.iter().all(|(id, _)| self.world.replies.contains_key(id)));
        self.world.set("hsm_control", "enabled");
        self.world.begin(CLIENT, &Cred::root(), Call::Unregister);
        self.world.begin(CLIENT, &Cred::root(), Call::Register { archives: vec![] });
        self.time_out();
        self.check();
        for mdt in self.world.fs.mdts() {
            assert_eq!(mdt.running().count(), 0, "{}", mdt.param("active_requests").unwrap());
            assert!(
                mdt.records().all(|record| record.status.is_final()),
                "{}",
                mdt.param("actions").unwrap()
            );
        }
    }

    /// Works off what comes, for several timeouts.
    fn time_out(&mut self) {
        for _ in 0..3 {
            for _ in 0..20 {
                self.world.wait(1_000);
                self.drain();
                for item in std::mem::take(&mut self.items) {
                    self.end(&item, 0, 0);
                }
            }
            self.world.wait(3_700_000);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, rng_seed: RngSeed::Fixed(2_017), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_keeps_the_books(steps in prop::collection::vec(step(), 0..120)) {
        let mut run = Run::new();
        for step in &steps {
            run.apply(step);
            run.check();
        }
        run.settle();
    }
}
