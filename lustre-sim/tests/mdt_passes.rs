//! What the coordinator sends, to whom and when.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // In tests.

mod mdt_world;

use lustre_sim::mdt::{
    Action, Answer, Call, ClientId, Cred, Errno, FsConfig, FsEvent, NewFile, Outcome, RecordStatus,
    UserRequest,
};
use lustreapi_sys::Fid;
use mdt_world::{CLIENT, EPOCH, List, World};

const OTHER: ClientId = ClientId(2);

fn archive_to(archive_id: u32, fid: Fid, data: &[u8]) -> Call {
    Call::Request(UserRequest { archive_id, ..UserRequest::new(Action::Archive, [fid], data) })
}

/// A second client with a copytool for these archives.
fn with_other(world: &mut World, archives: &[u32]) {
    world.event(FsEvent::Mount { client: OTHER, uuid: "other".to_owned() });
    world.call_as(OTHER, &Cred::root(), Call::Register { archives: archives.to_vec() }).unwrap();
}

fn lists_of(world: &mut World, client: ClientId) -> Vec<List> {
    world.pipes.remove(&client).unwrap_or_default().iter().map(|frame| List::parse(frame)).collect()
}

/// The lists that a real Lustre put into lhsmtool_posix's pipe, byte for byte.
#[test]
fn frames_are_those_of_a_real_lustre() {
    let path = format!("{}/tests/data/real/frames.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let real: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let cookie = 0x6b00_d4d5;
    let mut world = World::new(FsConfig::default(), u64::try_from(cookie - 1 - EPOCH).unwrap() * 1000);
    let [a, b] = [0x1d, 0x1e].map(|oid| {
        let file = NewFile { fid: Some(Fid::new(0x2_0000_0402, oid, 0)), ..NewFile::default() };
        let Answer::Fid(fid) = world.ok(Call::Create { mdt: 0, file }) else { panic!() };
        fid
    });
    world.register(&[1]);
    let frame = |world: &mut World| {
        world.wait(1_000);
        let bytes = world.pipes.get_mut(&CLIENT).unwrap().pop_front().unwrap();
        for item in List::parse(&bytes).items {
            world.work(&item).unwrap();
        }
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    world.request(Action::Archive, &[a, b], b"tag=foo").unwrap();
    assert_eq!(frame(&mut world), real[0]);
    world.ok(Call::Release { fid: a });
    world.request(Action::Restore, &[a], b"r=1").unwrap();
    assert_eq!(frame(&mut world), real[1]);
    world.request(Action::Remove, &[b], b"").unwrap();
    assert_eq!(frame(&mut world), real[2]);
}

#[test]
fn nothing_is_sent_beyond_max_requests() {
    let mut world = World::single();
    world.register(&[]);
    let files: Vec<Fid> = (0..5).map(|_| world.create()).collect();
    world.request(Action::Archive, &files, b"").unwrap();
    world.to(1_000);
    let list = world.read_list();
    assert_eq!(list.items.len(), 3);
    // Cancels wait behind it as well.
    world.request(Action::Cancel, &files[..1], b"").unwrap();
    world.to(25_000);
    assert_eq!(world.lists(), 0);
    world.work(&list.items[0]).unwrap();
    assert_eq!(world.lists(), 0, "a free slot is used when the second is over");
    world.wait(1_000);
    assert_eq!(world.read_list().items.len(), 1);
    world.set("hsm.max_requests", "10");
    world.to(40_000);
    assert_eq!(world.read_list().oids().len(), 2);
}

/// LU-8324: "if there was room at the start of the pass, one RESTORE may displace others".
#[test]
fn one_restore_of_a_pass_takes_the_place_of_an_archive() {
    let mut world = World::single();
    world.register(&[]);
    let released = [world.released(), world.released()];
    world.to(15_000);
    let files: Vec<Fid> = (0..3).map(|_| world.create()).collect();
    world.request(Action::Archive, &files, b"").unwrap();
    world.request(Action::Restore, &released, b"").unwrap();
    world.wait(1_000);
    let sent = world.read_list();
    let oid = |fid: Fid| i64::from(fid.oid);
    assert_eq!(sent.oids(), [oid(files[0]), oid(files[1]), oid(released[0])]);
    // The displaced archive was passed by: short passes do not see it, housekeeping does.
    for item in &sent.items {
        world.work(item).unwrap();
    }
    assert_eq!(world.read_list().oids(), [oid(released[1])]);
    world.wait(11_000);
    assert_eq!(world.read_list().oids(), [oid(files[2])]);
}

#[test]
fn lists_hold_one_archive_each_and_at_most_five_kibibytes() {
    let mut world = World::single();
    world.set("hsm.max_requests", "1000");
    world.register(&[]);
    let files: Vec<Fid> = (0..150).map(|_| world.create()).collect();
    for chunk in files[..140].chunks(50) {
        world.request(Action::Archive, chunk, b"").unwrap();
    }
    for fid in &files[140..] {
        world.ok(archive_to(2, *fid, &[b'd'; 900]));
    }
    world.to(1_000);
    let mut lists = Vec::new();
    while world.lists() > 0 {
        let bytes = world.pipes[&CLIENT][0].len() - 8;
        let list = world.read_list();
        lists.push((list.archive_id, list.items.len(), bytes));
    }
    // 40 bytes and 72 an item: (5120 - 40) / 72 = 70. With data 976 an item: 5.
    assert_eq!(lists, [(1, 70, 5080), (1, 70, 5080), (2, 5, 4920), (2, 5, 4920)]);
}

#[test]
fn the_least_loaded_agent_of_the_archive_gets_the_list() {
    let mut world = World::single();
    world.set("hsm.max_requests", "100");
    world.register(&[1, 2]);
    with_other(&mut world, &[1]);
    let send = |world: &mut World, archive_id| {
        let fid = world.create();
        world.ok(archive_to(archive_id, fid, b""));
        world.wait(1_000);
        (lists_of(world, CLIENT).len(), lists_of(world, OTHER).len())
    };
    assert_eq!(send(&mut world, 1), (1, 0), "the first of two idle ones");
    assert_eq!(send(&mut world, 1), (0, 1), "the idle one");
    assert_eq!(send(&mut world, 2), (1, 0), "the only one that serves the archive");
    assert_eq!(send(&mut world, 1), (0, 1), "the one with fewer");
    assert_eq!(send(&mut world, 3), (0, 0), "nobody");
    assert_eq!(world.statuses().last(), Some(&RecordStatus::Waiting));
    let agents = world.fs.get_param("mdt.*.hsm.agents").unwrap();
    let lines: Vec<&str> = agents.lines().collect();
    assert_eq!(lines[0], "mdt.testfs0-MDT0000.hsm.agents=");
    assert_eq!(
        lines[1],
        format!("uuid={} archive_id=1,2 requests=[current:2 ok:0 errors:0]", mdt_world::UUID)
    );
    assert_eq!(lines[2], "uuid=other archive_id=1 requests=[current:2 ok:0 errors:0]");
}

/// sanity-hsm 29d: a remove by FID of a file that is gone has no archive id.
#[test]
fn a_remove_without_an_archive_goes_to_an_agent_of_all_or_to_each_archive() {
    let gone = Fid::new(0x2_0000_0402, 77, 0);
    let mut world = World::single();
    world.register(&[]);
    world.request(Action::Remove, &[gone], b"x").unwrap();
    world.wait(1_000);
    let list = world.read_list();
    assert_eq!((list.archive_id, list.items[0].action, list.items[0].data.as_slice()), (0, 22, &b"x"[..]));
    world.work(&list.items[0]).unwrap();
    assert_eq!(world.statuses(), [RecordStatus::Succeed]);

    let mut world = World::single();
    world.register(&[1, 3]);
    world.request(Action::Remove, &[gone], b"x").unwrap();
    world.wait(1_000);
    assert_eq!(world.statuses(), [RecordStatus::Succeed, RecordStatus::Waiting, RecordStatus::Waiting]);
    world.to(25_000);
    let lists = lists_of(&mut world, CLIENT);
    let sent: Vec<_> =
        lists.iter().map(|list| (list.archive_id, list.items[0].cookie, list.oids())).collect();
    let first = world.fs.mdts()[0].records().next().unwrap().cookie;
    assert_eq!(sent, [(1, first + 1, vec![77]), (3, first + 2, vec![77])]);
}

#[test]
fn requests_are_checked_again_when_they_are_sent() {
    let mut world = World::single();
    world.register(&[]);
    let released = world.released();
    world.ok(Call::Unregister);
    let (gone, copied) = (world.create(), world.create());
    world.request(Action::Archive, &[gone, copied], b"").unwrap();
    world.request(Action::Archive, &[copied], b"").unwrap();
    world.request(Action::Restore, &[released], b"").unwrap();
    let reader = world.begin(CLIENT, &Cred::root(), Call::Access { fid: released });
    world.ok(Call::Unlink { fid: gone });
    // Somebody decides that the archive has lost the file.
    let lost = lustre_sim::mdt::StateSet { set: 0x40, ..Default::default() };
    world.ok(Call::StateSet { fid: released, set: lost });
    world.set("hsm.max_requests", "10");
    world.register(&[]);
    world.wait(1_000);
    let list = world.read_list();
    // Two ARCHIVEs of one file at once: nothing prevents them (LU-13651).
    assert_eq!(list.oids(), [i64::from(copied.oid), i64::from(copied.oid)]);
    use RecordStatus::{Failed, Started, Succeed};
    assert_eq!(world.statuses(), [Succeed, Failed, Started, Started, Failed]);
    assert_eq!(world.replies[&reader], Err(Errno::NODATA));
    assert!(!world.fs.mdts()[0].restoring(released));
}

#[test]
fn the_same_list_may_arrive_twice_and_ends_count_once() {
    let mut world = World::single();
    world.register(&[]);
    let fid = world.create();
    world.accepting = false;
    world.request(Action::Archive, &[fid], b"").unwrap();
    world.to(1_000);
    world.outcome(Outcome::AnswerLost, true);
    assert_eq!(world.on_the_way.len(), 1);
    let early = world.read_list();
    // A report may come before the MDT knows that the list has arrived.
    assert_eq!(world.keepalive(fid, early.items[0].cookie), Ok(()));
    assert_eq!(world.statuses(), [RecordStatus::Waiting]);
    world.work(&early.items[0]).unwrap();
    assert_eq!(world.statuses(), [RecordStatus::Succeed]);
    world.outcome(Outcome::Accepted, true);
    assert_eq!(world.statuses(), [RecordStatus::Succeed]);
    let late = world.read_list();
    assert_eq!(early, late);
    assert_eq!(world.work(&late.items[0]), Err(Errno::NOENT));
    let entry = &world.ledger()[0];
    assert_eq!((entry.accepted_ends, entry.sent.len()), (1, 2));
    // The refused start of a copy is no end; nobody got as far as that.
    assert_eq!(world.fs.mdts()[0].ledger().strays.len(), 0);
    // What is not known is ignored.
    let delivery = lustre_sim::mdt::DeliveryId { mdt: 0, number: 1 };
    world.event(FsEvent::Delivered { delivery, outcome: Outcome::Failed(Errno::PIPE) });
    assert_eq!(world.fs.mdts()[0].agents().len(), 1);
}

#[test]
fn a_list_that_cannot_be_delivered_is_sent_again_to_whoever_is_there() {
    let mut world = World::single();
    world.register(&[]);
    let fid = world.create();
    world.accepting = false;
    world.request(Action::Archive, &[fid], b"").unwrap();
    world.to(1_000);
    world.outcome(Outcome::Failed(Errno::IO), false);
    assert_eq!(world.statuses(), [RecordStatus::Waiting]);
    assert_eq!((world.fs.mdts()[0].running().count(), world.fs.mdts()[0].agents().len()), (0, 1));
    // Nobody is told: housekeeping tries again. EPIPE unregisters the agent.
    world.to(11_000);
    world.outcome(Outcome::Failed(Errno::PIPE), false);
    assert_eq!(world.fs.mdts()[0].agents().len(), 0);
    world.accepting = true;
    with_other(&mut world, &[]);
    world.to(12_000);
    assert_eq!(lists_of(&mut world, OTHER).len(), 1);
    assert_eq!(world.statuses(), [RecordStatus::Started]);
}

#[test]
fn the_coordinator_waits_for_each_agent() {
    let mut world = World::single();
    world.set("hsm.max_requests", "100");
    world.register(&[1]);
    with_other(&mut world, &[2]);
    let (a, b) = (world.create(), world.create());
    world.ok(archive_to(1, a, b""));
    world.ok(archive_to(2, b, b""));
    world.accepting = false;
    world.to(30_000);
    assert_eq!(world.on_the_way.len(), 1, "a dead agent that is not evicted blocks all others");
    assert_eq!(world.fs.next_deadline(), None);
    world.event(FsEvent::Unmount { client: CLIENT });
    assert_eq!(world.on_the_way.len(), 2);
    assert_eq!(world.on_the_way[1].1, OTHER);
}

#[test]
fn flags_of_a_list_are_those_of_its_last_item() {
    let mut world = World::single();
    world.register(&[]);
    let released = [world.released(), world.released()];
    world.set("hsm.max_requests", "10");
    world.begin(CLIENT, &Cred::root(), Call::Access { fid: released[0] });
    world.wait(1_000);
    assert_eq!(world.read_list().flags, 4);
    let plain = world.create();
    world.begin(CLIENT, &Cred::root(), Call::Access { fid: released[1] });
    world.request(Action::Archive, &[plain], b"").unwrap();
    world.wait(1_000);
    let list = world.read_list();
    assert_eq!((list.flags, list.items.len()), (0, 2));
}

#[test]
fn records_that_have_ended_stay_for_grace_delay() {
    let mut world = World::single();
    world.register(&[]);
    world.archived();
    world.set("hsm.grace_delay", "20");
    world.to(20_000);
    assert_eq!(world.statuses().len(), 1);
    world.to(32_000);
    assert_eq!(world.statuses().len(), 0);
    assert!(world.ledger()[0].purged.is_some());
    // Numbers go on, as does the cookie.
    let fid = world.create();
    world.request(Action::Archive, &[fid], b"").unwrap();
    let record = world.fs.mdts()[0].records().next().unwrap();
    assert_eq!(record.index.record, 2);
    assert_eq!(record.cookie, world.ledger()[0].cookie + 1);
}
