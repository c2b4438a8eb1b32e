//! What becomes of progress and ends that copytools report.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // In tests.

mod mdt_world;

use lustre_sim::mdt::{
    Action, Behaviour, Call, ClientId, Cred, Errno, Extent, FsConfig, FsEvent, HsmState, Progress,
    RecordStatus,
};
use lustreapi_sys::Fid;
use lustreapi_sys::abi::{HP_FLAG_COMPLETED, HP_FLAG_RETRY, HS_ARCHIVED, HS_DIRTY, HS_EXISTS};
use mdt_world::{CLIENT, Item, World};

const COPY: u32 = HS_EXISTS | HS_ARCHIVED;

/// A file of which an archive runs.
fn archiving(world: &mut World) -> (Fid, Item) {
    let fid = world.create();
    world.request(Action::Archive, &[fid], b"").unwrap();
    world.wait(1_000);
    (fid, world.read_list().items.remove(0))
}

/// A released file of which a restore runs.
fn restoring(world: &mut World) -> (Fid, Item) {
    let fid = world.released();
    world.request(Action::Restore, &[fid], b"").unwrap();
    world.wait(1_000);
    (fid, world.read_list().items.remove(0))
}

fn ready() -> World {
    let mut world = World::single();
    world.register(&[]);
    world
}

fn done(world: &World, cookie: u64) -> u64 {
    world.fs.mdts()[0].running().find(|running| running.record.cookie == cookie).unwrap().progress.total()
}

#[test]
fn progress_is_refused_where_it_makes_no_sense() {
    let mut world = ready();
    let (fid, item) = archiving(&mut world);
    let foreign = Fid::new(0x2_0000_0402, 0x999, 0);
    let report = |fid, cookie, errval, flags| Progress { errval, flags, ..Progress::keepalive(fid, cookie) };
    let cases = [
        (report(fid, item.cookie, 0, 0), Ok(())),
        (report(fid, item.cookie + 1, 0, 0), Err(Errno::NOENT)),
        (report(foreign, item.cookie, 0, 0), Err(Errno::INVAL)),
        (report(fid, item.cookie, 5, 0), Err(Errno::INVAL)),
        (report(fid, item.cookie, 5, HP_FLAG_RETRY), Err(Errno::INVAL)),
        (
            Progress { extent: Extent { offset: 2, length: u64::MAX }, ..report(fid, item.cookie, 0, 0) },
            Err(Errno::INVAL),
        ),
        (Progress { extent: Extent { offset: 1, length: 0 }, ..report(fid, item.cookie, 0, 0) }, Ok(())),
    ];
    for (progress, want) in cases {
        assert_eq!(world.call(Call::Progress(progress)).map(|_| ()), want, "{progress:?}");
    }
    let user = Call::Progress(report(fid, item.cookie, 0, 0));
    assert_eq!(world.call_as(CLIENT, &Cred::user(0, 0), user), Err(Errno::PERM));
    // Routed by FID: that of another MDT's file, or of none.
    let mut two = World::new(FsConfig::default(), 0);
    two.register(&[]);
    let (fid, item) = archiving(&mut two);
    let volatile_elsewhere = two.create_on(1);
    assert_eq!(two.keepalive(volatile_elsewhere, item.cookie), Err(Errno::NOENT));
    assert_eq!(two.keepalive(fid, item.cookie), Ok(()));
}

#[test]
fn overlapping_reports_count_once_and_keepalives_count_nothing() {
    let mut world = ready();
    let (fid, item) = archiving(&mut world);
    let steps = [
        (0, 100, 100),
        (0, 0, 100),
        (50, 100, 150),
        (200, 50, 200),
        (150, 50, 250),
        (1000, 1, 251),
        (0, 2000, 2000),
        (0, u64::MAX, u64::MAX),
    ];
    for (offset, length, want) in steps {
        world.progress(fid, item.cookie, offset, length).unwrap();
        assert_eq!(done(&world, item.cookie), want, "after {offset}+{length}");
    }
}

#[test]
fn an_archive_that_ends_well_makes_an_archived_file() {
    let mut world = ready();
    let (fid, item) = archiving(&mut world);
    assert_eq!(world.state(fid), HsmState { flags: HS_EXISTS, archive_id: 1 });
    world.work(&item).unwrap();
    assert_eq!(world.state(fid), HsmState { flags: COPY, archive_id: 1 });
    assert_eq!(world.work(&item), Err(Errno::NOENT));
    let entry = &world.ledger()[0];
    let end = entry.end.as_ref().unwrap();
    assert_eq!(
        (end.status, end.errno, end.by, entry.accepted_ends),
        (RecordStatus::Succeed, None, Some(CLIENT), 1)
    );
}

#[test]
fn a_file_that_changed_while_it_was_archived_is_busy() {
    let mut world = ready();
    let (fid, item) = archiving(&mut world);
    let version = world.copy_start(Action::Archive, &item).unwrap();
    world.ok(Call::Write { fid, version: None });
    // RETRY is dropped, whatever the policy.
    world.set("hsm.policy", "-NRA");
    let result = world.copy_end(Action::Archive, fid, item.cookie, version, None, HP_FLAG_RETRY);
    assert_eq!(result, Err(Errno::BUSY));
    assert_eq!(world.statuses(), [RecordStatus::Failed]);
    assert_eq!(world.state(fid).flags, HS_EXISTS | HS_DIRTY);
    assert_eq!(world.ledger()[0].end.as_ref().unwrap().errno, Some(Errno::BUSY));
}

/// LU-19829: "failed dup archive now sets DIRTY".
#[test]
fn a_failed_duplicate_archive_makes_the_file_dirty() {
    let cases = [
        (Behaviour::V2_17, Errno::IO, COPY | HS_DIRTY),
        (Behaviour::V2_17, Errno::CANCELED, COPY | HS_DIRTY),
        (Behaviour::V2_17, Errno::ALREADY, COPY),
        (Behaviour::V2_16, Errno::IO, COPY),
    ];
    for (behaviour, errno, want) in cases {
        let mut world = World::new(FsConfig { mdts: 1, behaviour, ..FsConfig::default() }, 0);
        world.register(&[]);
        let fid = world.create();
        world.request(Action::Archive, &[fid], b"").unwrap();
        world.request(Action::Archive, &[fid], b"").unwrap();
        world.wait(1_000);
        let items = world.read_list().items;
        world.work(&items[0]).unwrap();
        world.copy_end(Action::Archive, fid, items[1].cookie, 0, Some(errno), 0).unwrap();
        assert_eq!(world.state(fid).flags, want, "{errno:?}");
    }
}

/// The same rule takes no notice of RELEASED: the file then is released and dirty, and no restore is allowed any more
/// (`hsm_cdt_request_completed`, `mdt_hsm_is_action_compat`).
#[test]
fn a_failed_duplicate_archive_of_a_released_file_locks_its_data_away() {
    let mut world = ready();
    let fid = world.create();
    world.request(Action::Archive, &[fid], b"").unwrap();
    world.request(Action::Archive, &[fid], b"").unwrap();
    world.wait(1_000);
    let items = world.read_list().items;
    world.work(&items[0]).unwrap();
    world.ok(Call::Release { fid });
    world.copy_end(Action::Archive, fid, items[1].cookie, 0, Some(Errno::IO), 0).unwrap();
    assert_eq!(world.state(fid).flags, COPY | HS_DIRTY | 4);
    assert_eq!(world.call(Call::Access { fid }), Err(Errno::PERM));
    assert_eq!(world.request(Action::Restore, &[fid], b""), Err(Errno::PERM));
}

#[test]
fn errors_fail_a_request_unless_retry_is_asked_and_allowed() {
    let cases = [
        ("", 0, Errno::IO, RecordStatus::Failed),
        ("", HP_FLAG_RETRY, Errno::IO, RecordStatus::Failed),
        ("-NRA", 0, Errno::IO, RecordStatus::Failed),
        ("-NRA", HP_FLAG_RETRY, Errno::IO, RecordStatus::Waiting),
        ("-NRA", HP_FLAG_RETRY, Errno::NOSYS, RecordStatus::Failed),
        // An end with ECANCELED that nobody asked for counts as done, though nothing was.
        ("-NRA", HP_FLAG_RETRY, Errno::CANCELED, RecordStatus::Succeed),
    ];
    for (policy, flags, errno, want) in cases {
        let mut world = ready();
        if !policy.is_empty() {
            world.set("hsm.policy", policy);
        }
        let (fid, item) = archiving(&mut world);
        world.accepting = false;
        world.copy_end(Action::Archive, fid, item.cookie, 0, Some(errno), flags).unwrap();
        assert_eq!(world.statuses(), [want], "{policy} {flags} {errno:?}");
        assert_eq!(world.state(fid).flags, HS_EXISTS);
        assert_eq!(world.fs.mdts()[0].running().count(), 0);
        assert_eq!(world.fs.mdts()[0].agents()[0].errors, 1);
        world.accepting = true;
        world.wait(12_000);
        // Tried again under the same cookie.
        let again = usize::from(want == RecordStatus::Waiting);
        assert_eq!(world.lists() + world.on_the_way.len(), again);
    }
}

#[test]
fn a_restore_swaps_the_layouts_and_answers_its_readers() {
    let mut world = ready();
    let (fid, item) = restoring(&mut world);
    let readers = [(); 2].map(|()| world.begin(CLIENT, &Cred::root(), Call::Access { fid }));
    let volatile = world.volatile();
    world.others.clear();
    world.restore_into(&item, volatile).unwrap();
    let swap = lustre_sim::mdt::Effect::SwapLayouts { fid, volatile };
    assert_eq!(world.others, [swap, lustre_sim::mdt::Effect::Destroyed { fid: volatile }]);
    for reader in readers {
        assert!(world.replies[&reader].is_ok());
    }
    assert_eq!(world.state(fid).flags, COPY);
    assert_eq!(world.fs.mdts()[0].records().last().unwrap().dfid, volatile);
    world.ok(Call::Release { fid });
}

/// Facts: "the first progress under the volatile FID binds ... a second mover's volatile then gets EINVAL for ever".
#[test]
fn a_restore_belongs_to_the_first_volatile_file_that_reports() {
    let mut world = ready();
    let (fid, item) = restoring(&mut world);
    let reader = world.begin(CLIENT, &Cred::root(), Call::Access { fid });
    let (first, second) = (world.volatile(), world.volatile());
    world.keepalive(fid, item.cookie).unwrap();
    let dfid = |world: &World| world.fs.mdts()[0].running().next().unwrap().record.dfid;
    assert_eq!(dfid(&world), fid, "progress under the file's own FID does not bind");
    world.keepalive(first, item.cookie).unwrap();
    assert_eq!(dfid(&world), first);
    assert_eq!(world.keepalive(second, item.cookie), Err(Errno::INVAL));
    assert_eq!(world.copy_end(Action::Restore, second, item.cookie, 0, None, 0), Err(Errno::INVAL));
    world.keepalive(fid, item.cookie).unwrap();
    // Any client may end it, with an error too, under the file's FID.
    let other = ClientId(7);
    world.event(FsEvent::Mount { client: other, uuid: "seven".to_owned() });
    let flags = HP_FLAG_COMPLETED;
    let end = Progress { flags, errval: Errno::IO.0, ..Progress::keepalive(fid, item.cookie) };
    world.call_as(other, &Cred::root(), Call::Progress(end)).unwrap();
    assert_eq!(world.replies[&reader], Err(Errno::NODATA));
    assert_eq!(world.state(fid).flags, COPY | 4);
    assert!(!world.fs.mdts()[0].restoring(fid));
    let ledger = world.fs.mdts()[0].ledger();
    let entry = ledger.entries.last().unwrap();
    assert_eq!(entry.reporters, [CLIENT, other]);
    assert_eq!(entry.end.as_ref().unwrap().by, Some(other));
    assert_eq!(ledger.strays.len(), 1);
    assert_eq!((ledger.strays[0].refused, ledger.strays[0].fid), (Errno::INVAL, second));
}

#[test]
fn a_retried_restore_keeps_its_readers_and_its_volatile_file() {
    let mut world = ready();
    world.set("hsm.policy", "-NRA");
    let (fid, item) = restoring(&mut world);
    let reader = world.begin(CLIENT, &Cred::root(), Call::Access { fid });
    let volatile = world.volatile();
    world.keepalive(volatile, item.cookie).unwrap();
    let flags = HP_FLAG_RETRY;
    world.copy_end(Action::Restore, volatile, item.cookie, 0, Some(Errno::IO), flags).unwrap();
    assert!(!world.replies.contains_key(&reader));
    world.wait(11_000);
    let again = world.read_list().items.remove(0);
    assert_eq!((again.cookie, again.fid, again.dfid), (item.cookie, fid, volatile));
    let new = world.volatile();
    assert_eq!(world.keepalive(new, item.cookie), Err(Errno::INVAL));
    world.restore_into(&again, volatile).unwrap();
    assert!(world.replies[&reader].is_ok());
}

#[test]
fn a_restore_into_a_file_that_was_closed_fails() {
    let cases = [("+NRA", RecordStatus::Failed), ("-NRA", RecordStatus::Succeed)];
    for (policy, status) in cases {
        let mut world = ready();
        world.set("hsm.policy", policy);
        let (fid, item) = restoring(&mut world);
        let volatile = world.volatile();
        world.keepalive(volatile, item.cookie).unwrap();
        world.ok(Call::Close { fid: volatile });
        let flags = HP_FLAG_COMPLETED;
        let end = Progress { flags, data_version: 5, ..Progress::keepalive(volatile, item.cookie) };
        assert_eq!(world.call(Call::Progress(end)), Err(Errno::NOENT));
        // Lustre leaves the status as it was unless NoRetryAction is on.
        assert_eq!(world.statuses().last(), Some(&status), "{policy}");
        assert!(world.fs.file(fid).unwrap().released());
    }
}

#[test]
fn a_restore_that_succeeds_without_a_volatile_file_is_an_error() {
    let mut world = ready();
    let (fid, item) = restoring(&mut world);
    let end = Progress { flags: HP_FLAG_COMPLETED, ..Progress::keepalive(fid, item.cookie) };
    assert_eq!(world.call(Call::Progress(end)), Err(Errno::DEADLK));
    assert!(world.fs.file(fid).unwrap().released());
}

#[test]
fn a_remove_takes_the_copy_but_not_the_archive_id() {
    let mut world = ready();
    let fid = world.archived();
    world.request(Action::Remove, &[fid], b"").unwrap();
    world.wait(1_000);
    let item = world.read_list().items.remove(0);
    // The facts' pitfall: released between being sent and being removed, the only copy is lost.
    world.ok(Call::Release { fid });
    world.work(&item).unwrap();
    assert_eq!(world.state(fid), HsmState { flags: 4, archive_id: 1 });
}

#[test]
fn ends_of_files_that_are_gone_count() {
    let mut world = ready();
    let (fid, item) = archiving(&mut world);
    let version = world.copy_start(Action::Archive, &item).unwrap();
    world.ok(Call::Unlink { fid });
    // The client finds no file and reports that.
    assert_eq!(world.copy_end(Action::Archive, fid, item.cookie, version, None, 0), Err(Errno::NOENT));
    assert_eq!(world.statuses(), [RecordStatus::Failed]);
    let (fid, item) = archiving(&mut world);
    world.ok(Call::Unlink { fid });
    let gone = world.copy_start(Action::Archive, &item);
    assert_eq!(gone, Err(Errno::NOENT));
    assert_eq!(world.statuses(), [RecordStatus::Failed; 2]);
}

/// "A completion is matched by cookie to the original, whichever of the two the copytool is acking."
#[test]
fn the_acknowledgement_of_a_cancel_ends_the_request() {
    let cases = [
        (Some(Errno::CANCELED), RecordStatus::Succeed),
        (Some(Errno::NOSYS), RecordStatus::Failed),
        (Some(Errno::IO), RecordStatus::Failed),
        (None, RecordStatus::Succeed),
    ];
    for (errno, want) in cases {
        let mut world = ready();
        let (fid, item) = archiving(&mut world);
        let version = world.copy_start(Action::Archive, &item).unwrap();
        world.request(Action::Cancel, &[fid], b"").unwrap();
        world.wait(1_000);
        let cancel = world.read_list().items.remove(0);
        assert_eq!((cancel.action, cancel.cookie, cancel.data.len()), (23, item.cookie, 0));
        assert_eq!(world.statuses(), [RecordStatus::Canceled, RecordStatus::Started]);
        assert_eq!(world.keepalive(fid, item.cookie), Err(Errno::CANCELED));
        world.copy_end(Action::Cancel, fid, item.cookie, 0, errno, 0).unwrap();
        assert_eq!(world.statuses(), [RecordStatus::Canceled, want], "{errno:?}");
        // The copy that goes on has nobody to report to, whatever it has achieved.
        assert_eq!(world.copy_end(Action::Archive, fid, item.cookie, version, None, 0), Err(Errno::NOENT));
    }
}

#[test]
fn a_copy_that_ends_well_in_spite_of_its_cancel_counts() {
    let mut world = ready();
    let (fid, item) = archiving(&mut world);
    let version = world.copy_start(Action::Archive, &item).unwrap();
    world.request(Action::Cancel, &[fid], b"").unwrap();
    world.wait(1_000);
    world.read_list();
    world.copy_end(Action::Archive, fid, item.cookie, version, None, 0).unwrap();
    assert_eq!(world.statuses(), [RecordStatus::Canceled, RecordStatus::Succeed]);
    assert_eq!(world.state(fid).flags, COPY);
    assert_eq!(
        world.copy_end(Action::Cancel, fid, item.cookie, 0, Some(Errno::CANCELED), 0),
        Err(Errno::NOENT)
    );
}

#[test]
fn a_cancel_of_what_waits_is_sent_after_it() {
    let cases = [(Behaviour::V2_17, RecordStatus::Waiting), (Behaviour::V2_16, RecordStatus::Canceled)];
    for (behaviour, victim) in cases {
        let mut world = World::new(FsConfig { mdts: 1, behaviour, ..FsConfig::default() }, 0);
        world.register(&[1]);
        let (fid, archive_id) = (world.create(), 2);
        let request = lustre_sim::mdt::UserRequest::new(Action::Archive, [fid], b"");
        world.ok(Call::Request(lustre_sim::mdt::UserRequest { archive_id, ..request.clone() }));
        world.request(Action::Cancel, &[fid], b"").unwrap();
        world.wait(2_000);
        // Nobody serves archive 2, so neither can be sent.
        assert_eq!((world.lists(), world.statuses()), (0, vec![RecordStatus::Waiting; 2]));
        // A cancel that names another archive reaches an agent; its victim was never sent.
        let cancel = lustre_sim::mdt::UserRequest { action: Action::Cancel, archive_id: 1, ..request };
        world.ok(Call::Request(cancel));
        world.wait(12_000);
        assert_eq!(world.read_list().oids(), [-i64::from(fid.oid)]);
        assert_eq!(world.statuses(), [victim, RecordStatus::Waiting, RecordStatus::Started]);
        // "Ending an unknown cancel with ECANCELED gets ENOENT when the victim is not in the MDT's memory."
        let end = world.copy_end(Action::Cancel, fid, world.ledger()[0].cookie, 0, Some(Errno::CANCELED), 0);
        assert_eq!(end, Err(Errno::NOENT));
    }
}

#[test]
fn cancels_go_to_the_agent_that_runs_the_victim() {
    let mut world = World::single();
    world.set("hsm.max_requests", "10");
    let other = ClientId(2);
    world.register(&[]);
    world.event(FsEvent::Mount { client: other, uuid: "other".to_owned() });
    world.call_as(other, &Cred::root(), Call::Register { archives: vec![] }).unwrap();
    let (_, _) = archiving(&mut world);
    let fid = world.create();
    world.request(Action::Archive, &[fid], b"").unwrap();
    world.wait(1_000);
    let theirs = world.pipes[&other].len();
    assert_eq!(theirs, 1);
    // Another request in the same list follows the cancel.
    let third = world.create();
    world.request(Action::Cancel, &[fid], b"").unwrap();
    world.request(Action::Archive, &[third], b"").unwrap();
    world.wait(1_000);
    let list = mdt_world::List::parse(&world.pipes[&other][1]);
    assert_eq!(list.oids(), [-i64::from(fid.oid), i64::from(third.oid)]);
    assert_eq!(world.lists(), 0);
}
