//! What can happen.

use proptest::prelude::*;

use super::configs::CONFIGS;
use super::world::MOVERS;

/// One thing that happens. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
pub enum Step {
    Lustre(Vec<Item>),
    Queue(Vec<Item>),
    Cancel(u8, u8),
    Connect {
        mover: u8,
        claim: Claim,
    },
    Disconnect(u8),
    Recv {
        mover: u8,
        archive: Option<u8>,
        restore: Option<u8>,
        bytes: u16,
    },
    Done {
        mover: u8,
        which: u8,
        status: u8,
        truncated: bool,
    },
    ForeignDone {
        mover: u8,
        cookie: u8,
        oid: u8,
    },
    Lease(u8),
    Pass(u32),
    Lock(u8),
    StoreFull(bool),
    Reconfigure(u8),
    Status {
        chunk: u16,
        drop: bool,
    },
    StatusOn(u16),
    EndAtLustre {
        errno: u8,
    },
    /// The MDT answers one of the calls that it was asked.
    Answer {
        which: u8,
        errno: u8,
    },
    LookUp {
        most: u8,
        known: bool,
    },
    SpaceUsed(u8),
    Locate {
        most: u8,
        tape: u8,
        host: u8,
    },
}

/// What a mover says of its work when it comes back.
#[derive(Debug, Clone, Copy)]
pub enum Claim {
    Nothing,
    All,
    Some,
    Stranger,
}

#[derive(Debug, Clone)]
pub struct Item {
    pub action: u8,
    pub oid: u8,
    pub cookie: u8,
    pub data: u8,
    pub archive_id: u8,
    pub flags: bool,
    pub dfid: bool,
}

pub const DATA: [&str; 10] = [
    "",
    "tag=a",
    "tag=b",
    "tag=n0",
    "tag=n1,x",
    "grouping=one,cr=job",
    "grouping=two",
    "cr=job",
    "tag=n1",
    "long long long long long long long long long long long long long long long long long long long data",
];

pub fn item() -> impl Strategy<Value = Item> {
    (0..3u8, 0..12u8, 0..30u8, 0..DATA.len() as u8, 0..4u8, any::<bool>(), any::<bool>()).prop_map(
        |(action, oid, cookie, data, archive_id, flags, dfid)| Item {
            action,
            oid,
            cookie,
            data,
            archive_id,
            flags,
            dfid,
        },
    )
}

pub fn step() -> impl Strategy<Value = Step> {
    let claim = prop_oneof![Just(Claim::Nothing), Just(Claim::All), Just(Claim::Some), Just(Claim::Stranger)];
    let mover = 0..MOVERS;
    prop_oneof![
        6 => prop::collection::vec(item(), 1..8).prop_map(Step::Lustre),
        3 => prop::collection::vec(item(), 1..8).prop_map(Step::Queue),
        3 => (0..30u8, 0..12u8).prop_map(|(cookie, oid)| Step::Cancel(cookie, oid)),
        5 => (mover.clone(), claim).prop_map(|(mover, claim)| Step::Connect { mover, claim }),
        2 => mover.clone().prop_map(Step::Disconnect),
        12 => (mover.clone(), prop::option::of(0..3u8), prop::option::of(0..3u8), 100..600u16)
            .prop_map(|(mover, archive, restore, bytes)| Step::Recv { mover, archive, restore, bytes }),
        12 => (mover.clone(), any::<u8>(), prop_oneof![3 => Just(0u8), 1 => Just(2), 1 => Just(5), 1 => Just(125), 1 => Just(38)],
               any::<bool>())
            .prop_map(|(mover, which, status, truncated)| Step::Done { mover, which, status, truncated }),
        1 => (mover.clone(), 0..30u8, 0..12u8)
            .prop_map(|(mover, cookie, oid)| Step::ForeignDone { mover, cookie, oid }),
        1 => mover.prop_map(Step::Lease),
        5 => prop_oneof![0..200u32, 0..5_000u32, 0..40_000u32].prop_map(Step::Pass),
        1 => (0..2u8).prop_map(Step::Lock),
        1 => any::<bool>().prop_map(Step::StoreFull),
        1 => (0..CONFIGS).prop_map(Step::Reconfigure),
        2 => (1..400u16, any::<bool>()).prop_map(|(chunk, drop)| Step::Status { chunk, drop }),
        2 => (1..400u16).prop_map(Step::StatusOn),
        2 => prop_oneof![Just(0u8), Just(2), Just(11), Just(22)].prop_map(|errno| Step::EndAtLustre { errno }),
        4 => (any::<u8>(), prop_oneof![3 => Just(0u8), 3 => Just(2), 1 => Just(11), 1 => Just(125), 1 => Just(1)])
            .prop_map(|(which, errno)| Step::Answer { which, errno }),
        4 => (1..20u8, any::<bool>()).prop_map(|(most, known)| Step::LookUp { most, known }),
        1 => (80..100u8).prop_map(Step::SpaceUsed),
        6 => (1..20u8, 0..5u8, 0..6u8).prop_map(|(most, tape, host)| Step::Locate { most, tape, host }),
    ]
}
