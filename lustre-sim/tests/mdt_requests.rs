//! What the MDT takes up, refuses and ignores when it is asked for something.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // In tests.

mod mdt_world;

use lustre_sim::mdt::{
    Action, Answer, Call, ClientId, Cred, Errno, Extent, FsConfig, FsEvent, HsmState, NewFile, RecordStatus,
    StateSet, UserRequest,
};
use lustreapi_sys::Fid;
use lustreapi_sys::abi::{
    HS_ARCHIVED, HS_DIRTY, HS_EXISTS, HS_LOST, HS_NOARCHIVE, HS_NORELEASE, HS_RELEASED, HSM_FORCE_ACTION,
};
use mdt_world::{CLIENT, World};

/// A file in a state, whatever allows it.
fn file_with(world: &mut World, flags: u32, archive_id: u32) -> Fid {
    let fid = world.create();
    let set = StateSet { set: flags.into(), clear: 0, archive_id: (archive_id != 0).then_some(archive_id) };
    world.ok(Call::StateSet { fid, set });
    fid
}

#[test]
fn needed_and_possible_actions_are_logged_and_others_are_not() {
    use Action::{Archive, Remove, Restore};
    const COPY: u32 = HS_EXISTS | HS_ARCHIVED;
    let cases: &[(Action, u32, Result<bool, Errno>)] = &[
        (Archive, 0, Ok(true)),
        (Archive, HS_EXISTS, Ok(true)),
        (Archive, COPY, Ok(false)),
        (Archive, COPY | HS_DIRTY, Ok(true)),
        (Archive, COPY | HS_RELEASED, Ok(false)),
        (Archive, HS_NOARCHIVE, Err(Errno::PERM)),
        (Archive, COPY | HS_LOST, Ok(false)),
        (Restore, 0, Ok(false)),
        (Restore, COPY, Ok(false)),
        (Restore, COPY | HS_RELEASED, Ok(true)),
        (Restore, COPY | HS_DIRTY, Err(Errno::PERM)),
        (Restore, COPY | HS_RELEASED | HS_LOST, Err(Errno::PERM)),
        (Remove, 0, Ok(false)),
        (Remove, HS_EXISTS, Ok(true)),
        (Remove, COPY, Ok(true)),
        (Remove, COPY | HS_RELEASED, Err(Errno::PERM)),
    ];
    for (action, flags, want) in cases {
        let mut world = World::single();
        let fid = file_with(&mut world, *flags, 0);
        let result = world.request(*action, &[fid], b"");
        let logged = world.statuses().len();
        assert_eq!(result.map(|()| logged == 1), *want, "{action:?} with flags {flags:#x}");
        assert_eq!(logged, usize::from(*want == Ok(true)), "{action:?} with flags {flags:#x}");
    }
}

#[test]
fn force_asks_for_what_is_not_needed_but_not_for_what_is_impossible() {
    let mut world = World::single();
    let clean = file_with(&mut world, HS_EXISTS | HS_ARCHIVED, 0);
    let plain = file_with(&mut world, 0, 0);
    let force = |action, fid| {
        let request = UserRequest::new(action, [fid], b"");
        Call::Request(UserRequest { flags: HSM_FORCE_ACTION, ..request })
    };
    assert_eq!(world.call(force(Action::Archive, clean)), Err(Errno::PERM));
    assert_eq!(world.call(force(Action::Remove, plain)), Err(Errno::PERM));
    assert_eq!(world.call(force(Action::Remove, clean)), Ok(Answer::Done));
    assert!(
        world.fs.get_param("mdt.*.hsm.actions").unwrap().contains(" action=REMOVE archive#=1 flags=0x1 ")
    );
}

#[test]
fn the_archive_is_the_requests_the_files_or_the_default() {
    let cases = [(0, 0, Ok(7)), (0, 4, Ok(4)), (3, 0, Ok(3)), (4, 4, Ok(4)), (3, 4, Err(Errno::PERM))];
    for (asked, of_file, want) in cases {
        let mut world = World::single();
        world.set("hsm.default_archive_id", "7");
        let flags = if of_file == 0 { 0 } else { HS_EXISTS };
        let fid = file_with(&mut world, flags, of_file);
        let request = UserRequest { archive_id: asked, ..UserRequest::new(Action::Archive, [fid], b"") };
        let result = world.call(Call::Request(request));
        let archive = world.fs.mdts()[0].records().next().map(|record| record.archive_id);
        assert_eq!(result.map(|_| archive.unwrap()), want, "asked {asked}, file {of_file}");
    }
}

/// Facts: "`lfs hsm_archive` with 100 files in one call gives E2BIG, 50 work (seen)"; the limit is a third of 5 KiB.
#[test]
fn long_requests_are_refused_as_a_whole() {
    let mut world = World::single();
    let files: Vec<Fid> = (0..100).map(|_| world.create()).collect();
    let cases =
        [(100, 0, false), (53, 0, false), (52, 17, true), (52, 18, false), (1, 1649, true), (1, 1650, false)];
    for (count, data, works) in cases {
        let before = world.statuses().len();
        let result = world.request(Action::Archive, &files[..count], &vec![b'x'; data]);
        assert_eq!(result, if works { Ok(()) } else { Err(Errno::TOO_BIG) }, "{count} files, {data} bytes");
        assert_eq!(world.statuses().len() - before, if works { count } else { 0 });
    }
    assert_eq!(world.request(Action::Archive, &files[..50], b""), Ok(()));
    assert_eq!(world.request(Action::Archive, &[], b""), Ok(()));
}

#[test]
fn duplicates_are_dropped_within_a_request_only() {
    let mut world = World::single();
    let (a, b) = (world.create(), world.create());
    world.request(Action::Archive, &[a, b, a, a], b"").unwrap();
    assert_eq!(world.statuses().len(), 2);
    // Since 2.14 another ARCHIVE of the same file is another record (LU-13651).
    world.request(Action::Archive, &[a], b"").unwrap();
    assert_eq!(world.statuses().len(), 3);
}

#[test]
fn a_second_restore_of_a_file_is_merged_silently() {
    let mut world = World::single();
    let fid = file_with(&mut world, HS_EXISTS | HS_ARCHIVED | HS_RELEASED, 1);
    world.request(Action::Restore, &[fid], b"one").unwrap();
    world.request(Action::Restore, &[fid], b"two").unwrap();
    let reader = world.begin(CLIENT, &Cred::user(1000, 1000), Call::Access { fid });
    assert!(!world.replies.contains_key(&reader));
    assert_eq!(world.statuses(), [RecordStatus::Waiting]);
    assert!(world.fs.mdts()[0].restoring(fid));
}

#[test]
fn part_of_a_file_cannot_be_restored() {
    let mut world = World::single();
    let fid = file_with(&mut world, HS_EXISTS | HS_ARCHIVED | HS_RELEASED, 1);
    let mut request = UserRequest::new(Action::Restore, [fid], b"");
    request.items[0].1 = Extent { offset: 4096, length: 4096 };
    assert_eq!(world.call(Call::Request(request)), Err(Errno::PROTO));
    assert!(world.statuses().is_empty());
}

#[test]
fn what_users_may_request_depends_on_masks() {
    let owner = Cred::user(1000, 500);
    let member = Cred::user(1001, 500);
    let other = Cred::user(1002, 501);
    let cases: &[(&Cred, &str, Action, bool)] = &[
        (&owner, "", Action::Archive, false),
        (&owner, "", Action::Restore, true),
        (&other, "", Action::Restore, true),
        (&owner, "user_request_mask=ARCHIVE", Action::Archive, true),
        (&owner, "user_request_mask=ARCHIVE", Action::Restore, false),
        (&owner, "group_request_mask=ARCHIVE", Action::Archive, false),
        (&member, "group_request_mask=ARCHIVE", Action::Archive, true),
        (&member, "other_request_mask=ARCHIVE", Action::Archive, false),
        (&other, "other_request_mask=archive\tRemove", Action::Archive, true),
        (&Cred::root(), "user_request_mask=", Action::Archive, true),
    ];
    for (cred, mask, action, allowed) in cases {
        let mut world = World::single();
        if let Some((name, value)) = mask.split_once('=') {
            world.set(&format!("hsm.{name}"), value);
        }
        let file = NewFile { uid: 1000, gid: 500, ..NewFile::default() };
        let Answer::Fid(fid) = world.ok(Call::Create { mdt: 0, file }) else { panic!() };
        if *action == Action::Restore {
            let set = (HS_EXISTS | HS_ARCHIVED | HS_RELEASED).into();
            world.ok(Call::StateSet { fid, set: StateSet { set, ..StateSet::default() } });
        }
        let request = Call::Request(UserRequest::new(*action, [fid], b""));
        let want = if *allowed { Ok(Answer::Done) } else { Err(Errno::PERM) };
        assert_eq!(world.call_as(CLIENT, cred, request), want, "{cred:?} {mask} {action:?}");
    }
}

#[test]
fn only_administrators_remove_and_cancel_what_has_no_file() {
    let gone = Fid::new(0x2_0000_0402, 99, 0);
    let mut world = World::single();
    world.set("hsm.other_request_mask", "ARCHIVE RESTORE REMOVE CANCEL");
    let ask = |action| Call::Request(UserRequest::new(action, [gone], b""));
    let user = Cred::user(1000, 1000);
    assert_eq!(world.call_as(CLIENT, &user, ask(Action::Remove)), Err(Errno::NOENT));
    for action in [Action::Archive, Action::Restore] {
        assert_eq!(world.call(ask(action)), Err(Errno::NOENT));
    }
    assert!(world.statuses().is_empty());
    assert_eq!(world.call(ask(Action::Remove)), Ok(Answer::Done));
    let record = world.fs.mdts()[0].records().next().unwrap();
    assert_eq!((record.archive_id, record.action), (0, Action::Remove));
    assert_eq!(world.call(ask(Action::Cancel)), Ok(Answer::Done));
    let cookies: Vec<u64> = world.fs.mdts()[0].records().map(|record| record.cookie).collect();
    assert_eq!(cookies[0], cookies[1]);
}

#[test]
fn a_stopped_coordinator_refuses_and_a_disabled_one_does_not() {
    let mut world = World::single();
    let fid = world.create();
    world.set("hsm_control", "disabled");
    assert_eq!(world.request(Action::Archive, &[fid], b""), Ok(()));
    assert_eq!(world.call(Call::Register { archives: vec![] }), Ok(Answer::Done));
    world.to(5_000);
    assert_eq!((world.lists(), world.statuses()), (0, vec![RecordStatus::Waiting]));
    world.set("hsm_control", "shutdown");
    assert_eq!(world.request(Action::Archive, &[fid], b""), Err(Errno::AGAIN));
    assert_eq!(world.call(Call::Register { archives: vec![] }), Err(Errno::NXIO));
    assert_eq!(world.keepalive(fid, 1), Err(Errno::AGAIN));
    world.set("hsm_control", "enabled");
    // The agent has to register again: a stop forgets it.
    world.register(&[]);
    world.to(10_000);
    assert_eq!(world.lists(), 1);
}

#[test]
fn items_before_the_one_that_is_refused_stay_requested_but_wake_nobody() {
    let mut world = World::single();
    world.register(&[]);
    world.to(3_000);
    let good = world.create();
    let bad = file_with(&mut world, HS_NOARCHIVE, 0);
    let after = world.create();
    assert_eq!(world.request(Action::Archive, &[good, bad, after], b""), Err(Errno::PERM));
    assert_eq!(world.statuses(), [RecordStatus::Waiting]);
    world.to(9_000);
    assert_eq!(world.lists(), 0);
    world.to(13_000);
    assert_eq!(world.read_list().oids(), [i64::from(good.oid)]);
}

#[test]
fn cancels_find_the_last_request_of_a_file_and_nothing_to_cancel_is_no_error() {
    let mut world = World::single();
    let fid = world.create();
    assert_eq!(world.request(Action::Cancel, &[fid], b""), Ok(()));
    assert!(world.statuses().is_empty());
    let archive = UserRequest { archive_id: 5, ..UserRequest::new(Action::Archive, [fid], b"") };
    world.ok(Call::Request(archive.clone()));
    world.ok(Call::Request(archive));
    world.request(Action::Cancel, &[fid], b"").unwrap();
    let records: Vec<_> = world.fs.mdts()[0].records().cloned().collect();
    assert_eq!(
        (records[2].action, records[2].cookie, records[2].archive_id),
        (Action::Cancel, records[1].cookie, 5)
    );
}

#[test]
fn two_mdts_started_in_the_same_second_give_the_same_cookies() {
    let mut world = World::new(FsConfig::default(), 572_000);
    let files = [world.create_on(0), world.create_on(1), world.create_on(1)];
    assert_eq!(files.map(|fid| fid.seq), [0x2_0000_0402, 0x2_4000_0402, 0x2_4000_0402]);
    world.request(Action::Archive, &files, b"").unwrap();
    let cookies: Vec<u64> = world.ledger().iter().map(|entry| entry.cookie).collect();
    assert_eq!(cookies, [0x6b00_d4bd, 0x6b00_d4bd, 0x6b00_d4be]);
}

#[test]
fn all_mdts_are_asked_even_when_one_refuses() {
    let mut world = World::new(FsConfig::default(), 0);
    let refused = world.create_on(0);
    world.ok(Call::StateSet {
        fid: refused,
        set: StateSet { set: HS_NOARCHIVE.into(), ..StateSet::default() },
    });
    let accepted = world.create_on(1);
    assert_eq!(world.request(Action::Archive, &[refused, accepted], b""), Err(Errno::PERM));
    assert_eq!(world.ledger().iter().map(|entry| entry.fid).collect::<Vec<_>>(), [accepted]);
    let nowhere = Fid::new(0x2_8000_0402, 1, 0);
    assert_eq!(world.request(Action::Archive, &[nowhere], b""), Err(Errno::NOENT));
}

#[test]
fn release_wants_a_clean_archived_file_that_nobody_has_open() {
    const COPY: u32 = HS_EXISTS | HS_ARCHIVED;
    let cases = [
        (0, Err(Errno::PERM)),
        (HS_EXISTS, Err(Errno::PERM)),
        (COPY | HS_DIRTY, Err(Errno::PERM)),
        (COPY | HS_NORELEASE, Err(Errno::PERM)),
        (COPY | HS_LOST, Err(Errno::PERM)),
        (COPY | HS_RELEASED, Ok(Answer::Done)),
        // The data was never archived in this version.
        (COPY, Err(Errno::PERM)),
    ];
    for (flags, want) in cases {
        let mut world = World::single();
        let fid = file_with(&mut world, flags, 0);
        assert_eq!(world.call(Call::Release { fid }), want, "{flags:#x}");
    }
    let mut world = World::single();
    world.register(&[]);
    let fid = world.archived();
    world.ok(Call::Open { fid });
    assert_eq!(world.call(Call::Release { fid }), Err(Errno::BUSY));
    world.ok(Call::Close { fid });
    let user = Cred::user(5, 5);
    assert_eq!(world.call_as(CLIENT, &user, Call::Release { fid }), Err(Errno::ACCES));
    assert_eq!(world.call(Call::Release { fid }), Ok(Answer::Done));
    assert_eq!(world.state(fid), HsmState { flags: COPY | HS_RELEASED, archive_id: 1 });
    assert_eq!(world.call(Call::Write { fid, version: None }), Err(Errno::NODATA));
    // A write to an archived file makes it dirty, to another it does not.
    let fid = world.archived();
    world.ok(Call::Write { fid, version: None });
    assert_eq!(world.state(fid).flags, COPY | HS_DIRTY);
    assert_eq!(world.call(Call::Release { fid }), Err(Errno::PERM));
    let plain = world.create();
    world.ok(Call::Write { fid: plain, version: None });
    assert_eq!(world.state(plain).flags, 0);
}

#[test]
fn state_set_keeps_masks_and_sense() {
    let root = Cred::root();
    let owner = Cred::user(1000, 1000);
    let other = Cred::user(1001, 1001);
    let cases: &[(&Cred, u32, u32, Result<u32, Errno>)] = &[
        (&root, 0, HS_EXISTS | HS_ARCHIVED | HS_RELEASED, Ok(13)),
        (&root, 0, HS_DIRTY, Err(Errno::INVAL)),
        (&root, HS_EXISTS | HS_ARCHIVED, HS_DIRTY | HS_RELEASED, Err(Errno::INVAL)),
        (&root, HS_EXISTS, HS_RELEASED, Err(Errno::INVAL)),
        (&root, HS_EXISTS, HS_LOST, Err(Errno::INVAL)),
        (&root, 0, 0x200, Err(Errno::INVAL)),
        (&owner, 0, HS_EXISTS, Err(Errno::PERM)),
        (&owner, HS_EXISTS, HS_DIRTY | HS_NORELEASE | HS_NOARCHIVE, Ok(0x33)),
        (&other, HS_EXISTS, HS_NORELEASE, Err(Errno::PERM)),
    ];
    for (cred, before, set, want) in cases {
        let mut world = World::single();
        let file = NewFile { uid: 1000, gid: 1000, ..NewFile::default() };
        let Answer::Fid(fid) = world.ok(Call::Create { mdt: 0, file }) else { panic!() };
        let change = |set: u32| StateSet { set: set.into(), ..StateSet::default() };
        world.ok(Call::StateSet { fid, set: change(*before) });
        let result = world.call_as(CLIENT, cred, Call::StateSet { fid, set: change(*set) });
        let after = world.state(fid).flags;
        assert_eq!(result.map(|_| after), *want, "{before:#x} and {set:#x}");
        assert_eq!(after, want.unwrap_or(*before));
    }
    let mut world = World::single();
    let fid = world.create();
    let set = StateSet { set: HS_NORELEASE.into(), clear: 0, archive_id: Some(3) };
    assert_eq!(world.call(Call::StateSet { fid, set }), Ok(Answer::Done));
    assert_eq!(
        world.state(fid),
        HsmState::default(),
        "without EXISTS nothing is changed, and success is reported"
    );
}

#[test]
fn an_imported_file_is_restored_by_its_first_reader() {
    let mut world = World::single();
    world.register(&[2]);
    let fid = world.create();
    world.ok(Call::Import { fid, archive_id: 2, uid: 1000, gid: 1000 });
    assert_eq!(world.state(fid), HsmState { flags: 13, archive_id: 2 });
    let reader = world.begin(CLIENT, &Cred::user(1000, 1000), Call::Access { fid });
    world.to(2_000);
    let list = world.read_list();
    assert_eq!((list.archive_id, list.flags, list.oids()), (2, 4, vec![i64::from(fid.oid)]));
    world.work(&list.items[0]).unwrap();
    assert_eq!(world.replies[&reader], Ok(Answer::Done));
    assert_eq!(world.state(fid).flags, 9);
    // The restore has set the archived version: the file may be released again.
    assert_eq!(world.call(Call::Release { fid }), Ok(Answer::Done));
}

#[test]
fn readers_do_not_block_under_non_blocking_restore() {
    let mut world = World::single();
    world.register(&[]);
    let fid = world.released();
    world.set("hsm.policy", "+NBR");
    assert_eq!(world.call(Call::Access { fid }), Err(Errno::NODATA));
    assert_eq!(
        world.fs.get_param("mdt.*.hsm.policy").unwrap(),
        "mdt.testfs0-MDT0000.hsm.policy=[NonBlockingRestore] [NoRetryAction]\n"
    );
    world.wait(1_500);
    let list = world.read_list();
    assert_eq!(list.oids(), [i64::from(fid.oid)]);
    assert_eq!(world.call(Call::Access { fid }), Err(Errno::NODATA), "the restore that runs is not repeated");
    world.work(&list.items[0]).unwrap();
    assert_eq!(world.call(Call::Access { fid }), Ok(Answer::Done));
    assert_eq!(world.statuses().len(), 2);
}

#[test]
fn the_last_unlink_asks_for_removal_if_wanted() {
    let mut world = World::single();
    world.register(&[1]);
    let (kept, removed, open) = (world.archived(), world.archived(), world.archived());
    world.ok(Call::Unlink { fid: kept });
    world.set("hsm.remove_archive_on_last_unlink", "1");
    world.ok(Call::Open { fid: open });
    world.ok(Call::Unlink { fid: open });
    world.ok(Call::Unlink { fid: removed });
    let last = |world: &World| {
        let record = world.fs.mdts()[0].records().last().unwrap();
        (record.action, record.fid, record.archive_id)
    };
    assert_eq!(last(&world), (Action::Remove, removed, 1));
    world.ok(Call::Close { fid: open });
    assert_eq!(last(&world), (Action::Remove, open, 1));
    assert_eq!(world.statuses().len(), 5);
    // No event: housekeeping finds them.
    world.wait(11_000);
    let list = world.read_list();
    assert_eq!(list.items.len(), 2);
    for item in &list.items {
        world.work(item).unwrap();
    }
    assert!(world.statuses().iter().all(|status| *status == RecordStatus::Succeed));
}

#[test]
fn calls_of_clients_that_are_not_mounted_fail() {
    let mut world = World::single();
    let stranger = ClientId(9);
    let create = Call::Create { mdt: 0, file: NewFile::default() };
    assert_eq!(world.call_as(stranger, &Cred::root(), create.clone()), Err(Errno::NOTCONN));
    world.event(FsEvent::Mount { client: stranger, uuid: "nine".to_owned() });
    let Ok(Answer::Fid(fid)) = world.call_as(stranger, &Cred::root(), create) else { panic!() };
    // Each client has a sequence of its own.
    assert_eq!((world.create().seq, fid.seq), (0x2_0000_0403, 0x2_0000_0402));
}
