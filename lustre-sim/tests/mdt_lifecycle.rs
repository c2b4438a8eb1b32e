//! Timeouts, restarts, evictions, `hsm_control` and parameters.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // In tests.

mod mdt_world;

use lustre_sim::mdt::{
    Action, Answer, Call, ClientId, Cred, Effect, Errno, FileSystem, FsConfig, FsEvent, Params, RecordStatus,
    Time,
};
use lustreapi_sys::Fid;
use mdt_world::{CLIENT, EPOCH, Item, World};

fn ready() -> World {
    let mut world = World::single();
    world.register(&[]);
    world
}

fn sent(world: &mut World, action: Action, fid: Fid) -> Item {
    world.request(action, &[fid], b"").unwrap();
    world.wait(1_000);
    world.read_list().items.remove(0)
}

#[test]
fn requests_without_progress_are_cancelled_and_their_readers_answered() {
    let mut world = ready();
    let released = world.released();
    world.set("hsm.active_request_timeout", "100");
    let plain = world.create();
    let restore = sent(&mut world, Action::Restore, released);
    let reader = world.begin(CLIENT, &Cred::root(), Call::Access { fid: released });
    let archive = sent(&mut world, Action::Archive, plain);
    // A keepalive every minute is enough, whoever sends it.
    for _ in 0..10 {
        world.wait(60_000);
        world.keepalive(plain, archive.cookie).unwrap();
    }
    assert_eq!(world.replies[&reader], Err(Errno::NODATA));
    assert_eq!(world.keepalive(released, restore.cookie), Err(Errno::NOENT));
    let entry = world.ledger()[1].clone();
    let end = entry.end.unwrap();
    assert_eq!((end.status, end.errno, end.by), (RecordStatus::Canceled, Some(Errno::CANCELED), None));
    // Found by the housekeeping pass after the timeout, not before.
    let after = end.at.wall - entry.sent[0].0.wall;
    assert!((101..=112).contains(&after), "cancelled after {after} s");
    assert_eq!(world.fs.mdts()[0].agents()[0].errors, 1);
    assert_eq!(world.fs.mdts()[0].running().count(), 1);
    assert!(world.ledger()[2].longest_silence <= 61_000_000_000);
    // Never sent again.
    assert_eq!(world.lists(), 0);
    world.work(&archive).unwrap();
}

#[test]
fn a_cancel_that_nobody_acknowledges_lives_until_the_timeout() {
    let mut world = ready();
    world.set("hsm.active_request_timeout", "100");
    let fid = world.create();
    let archive = sent(&mut world, Action::Archive, fid);
    sent(&mut world, Action::Cancel, fid);
    world.to(50_000);
    assert_eq!(world.statuses(), [RecordStatus::Canceled, RecordStatus::Started]);
    world.to(130_000);
    assert!(world.fs.mdts()[0].running().next().is_none());
    assert_eq!(world.ledger()[1].status, RecordStatus::Canceled);
    assert_eq!(world.keepalive(fid, archive.cookie), Err(Errno::NOENT));
}

/// What times out is the cancel, whose action is not RESTORE (`mdt_cdt_started_cb`): the victim leaves memory, its layout
/// lock stays. On a real Lustre only `shutdown` helped ("If a mover dies after a cancel, `purge` alone does not clear the
/// request").
#[test]
fn readers_of_a_cancelled_restore_that_nobody_ends_wait_until_the_coordinator_stops() {
    let mut world = ready();
    world.set("hsm.active_request_timeout", "100");
    let fid = world.released();
    let restore = sent(&mut world, Action::Restore, fid);
    let reader = world.begin(CLIENT, &Cred::root(), Call::Access { fid });
    sent(&mut world, Action::Cancel, fid);
    world.wait(200_000);
    assert_eq!(world.keepalive(fid, restore.cookie), Err(Errno::NOENT));
    world.set("hsm_control", "purge");
    assert!(world.fs.mdts()[0].restoring(fid) && !world.replies.contains_key(&reader));
    world.set("hsm_control", "shutdown");
    assert_eq!(world.replies[&reader], Err(Errno::NODATA));
}

/// Facts 2.2: "MDT restart: RESTOREs that were STARTED go back to WAITING and are RE-SENT (same cookie, same FID);
/// ARCHIVE/REMOVE stay STARTED in the llog but are unknown in memory: every progress/end returns -ENOENT".
#[test]
fn a_restart_forgets_all_but_restores() {
    let mut world = ready();
    world.set("hsm.active_request_timeout", "100");
    let released = world.released();
    let plain = world.create();
    let archive = sent(&mut world, Action::Archive, plain);
    let restore = sent(&mut world, Action::Restore, released);
    let reader = world.begin(CLIENT, &Cred::root(), Call::Access { fid: released });
    let volatile = world.volatile();
    world.keepalive(volatile, restore.cookie).unwrap();
    let late = world.create();
    world.event(FsEvent::StopMdt(0));
    assert!(!world.fs.mdts()[0].is_up());
    // Calls wait for the MDT.
    let waiting = world.begin(
        CLIENT,
        &Cred::root(),
        Call::Progress(lustre_sim::mdt::Progress::keepalive(plain, archive.cookie)),
    );
    let asking = Call::Request(lustre_sim::mdt::UserRequest::new(Action::Archive, [late], b""));
    let asking = world.begin(CLIENT, &Cred::root(), asking);
    world.wait(5_000);
    assert!(!world.replies.contains_key(&waiting) && !world.replies.contains_key(&asking));
    world.event(FsEvent::StartMdt(0));
    assert_eq!(world.replies[&waiting], Err(Errno::NOENT));
    assert_eq!(world.replies[&asking], Ok(Answer::Done));
    use RecordStatus::{Started, Succeed, Waiting};
    assert_eq!(world.statuses(), [Succeed, Started, Waiting, Waiting]);
    assert_eq!(world.keepalive(released, restore.cookie), Err(Errno::NOENT));
    // The kernel has registered the copytool again, and parameters are those of the start.
    assert_eq!(world.fs.mdts()[0].agents().len(), 1);
    assert_eq!(world.fs.mdts()[0].params(), &Params::default());
    assert!(!world.replies.contains_key(&reader));
    world.wait(1_000);
    let list = world.read_list();
    assert_eq!(list.oids(), [i64::from(released.oid), i64::from(late.oid)]);
    let again = list.items[0].clone();
    // The binding was only in memory.
    assert_eq!((again.cookie, again.dfid), (restore.cookie, released));
    world.work(&again).unwrap();
    assert!(world.replies[&reader].is_ok());
    // The archive's record lingers until the timeout; meanwhile the file may be archived again.
    let second = sent(&mut world, Action::Archive, plain);
    assert!(second.cookie > archive.cookie);
    world.work(&second).unwrap();
    world.set("hsm.active_request_timeout", "100");
    world.wait(120_000);
    let ends: Vec<_> = world.ledger().iter().map(|entry| (entry.status, entry.accepted_ends)).collect();
    assert_eq!(ends[1], (RecordStatus::Canceled, 0));
    assert_eq!(ends[2], (Succeed, 1));
}

#[test]
fn a_restart_with_an_empty_log_begins_new_cookies_from_the_clock() {
    let mut world = ready();
    let fid = world.archived();
    assert_eq!(world.ledger()[0].cookie, u64::try_from(EPOCH).unwrap() + 1);
    world.event(FsEvent::StopMdt(0));
    world.event(FsEvent::StartMdt(0));
    world.request(Action::Remove, &[fid], b"").unwrap();
    assert_eq!(world.ledger()[1].cookie, u64::try_from(EPOCH).unwrap() + 2, "goes on from the log");
    world.work_off(2);
    world.to(100_000);
    assert!(world.statuses().is_empty());
    world.event(FsEvent::StopMdt(0));
    // A clock that was set back: cookies come again.
    let mut effects = Vec::new();
    let now = Time { mono: world.now().mono, wall: EPOCH };
    world.fs.handle(now, FsEvent::StartMdt(0), &mut effects);
    let call = Call::Request(lustre_sim::mdt::UserRequest::new(Action::Archive, [fid], b""));
    assert_eq!(world.fs.call(now, CLIENT, &Cred::root(), call, &mut effects), Some(Ok(Answer::Done)));
    assert_eq!(world.ledger()[2].cookie, world.ledger()[0].cookie);
}

#[test]
fn a_list_on_its_way_when_the_mdt_dies_is_sent_again() {
    let mut world = ready();
    let fid = world.create();
    world.accepting = false;
    world.request(Action::Archive, &[fid], b"").unwrap();
    world.wait(1_000);
    world.event(FsEvent::StopMdt(0));
    world.event(FsEvent::StartMdt(0));
    world.outcome(lustre_sim::mdt::Outcome::Accepted, true);
    let first = world.read_list();
    assert_eq!(world.work(&first.items[0]), Err(Errno::NOENT));
    world.accepting = true;
    world.wait(1_000);
    let second = world.read_list();
    assert_eq!(first, second);
    world.work(&second.items[0]).unwrap();
    assert_eq!(world.ledger()[0].sent.len(), 2);
}

#[test]
fn registration_is_all_or_nothing() {
    let mut world = World::new(FsConfig { mdts: 3, ..FsConfig::default() }, 0);
    let agents = |world: &World| world.fs.mdts().iter().map(|mdt| mdt.agents().len()).collect::<Vec<_>>();
    let register = Call::Register { archives: vec![3, 0] };
    world.fs.set_param(world.now(), "mdt.*MDT0001.hsm_control", "shutdown", &mut Vec::new()).unwrap();
    assert_eq!(world.call(register.clone()), Err(Errno::NXIO));
    assert_eq!(agents(&world), [0, 0, 0]);
    world.fs.set_param(world.now(), "mdt.*MDT0001.hsm_control", "enabled", &mut Vec::new()).unwrap();
    // An MDT that is down is registered with later, by the kernel.
    world.event(FsEvent::StopMdt(2));
    assert_eq!(world.call(register.clone()), Ok(Answer::Done));
    assert_eq!(agents(&world), [1, 1, 0]);
    world.event(FsEvent::StartMdt(2));
    assert_eq!(agents(&world), [1, 1, 1]);
    assert!(world.fs.mdts()[2].agents()[0].archives.is_empty(), "0 among the ids means all");
    assert_eq!(world.call(register.clone()), Err(Errno::EXIST));
    assert_eq!(agents(&world), [1, 1, 1]);
    assert_eq!(world.call_as(CLIENT, &Cred::user(1, 1), register.clone()), Err(Errno::PERM));
    assert_eq!(world.call(Call::Unregister), Ok(Answer::Done));
    assert_eq!(agents(&world), [0, 0, 0]);
    assert_eq!(world.call(Call::Unregister), Ok(Answer::Done));
    (0..3).for_each(|mdt| world.event(FsEvent::StopMdt(mdt)));
    assert_eq!(world.call(register), Err(Errno::NOTCONN));
}

#[test]
fn an_evicted_client_is_an_agent_again_and_a_dead_one_is_not() {
    let mut world = ready();
    let released = world.released();
    let fid = world.create();
    let item = sent(&mut world, Action::Archive, fid);
    world.ok(Call::Open { fid });
    let volatile = world.volatile();
    let reader = world.begin(CLIENT, &Cred::root(), Call::Access { fid: released });
    world.event(FsEvent::Evict { client: CLIENT, mdt: Some(0) });
    assert_eq!(world.replies[&reader], Err(Errno::IO));
    assert!(world.fs.file(volatile).is_none());
    let agent = &world.fs.mdts()[0].agents()[0];
    assert_eq!((agent.client, agent.current, agent.ok), (CLIENT, 0, 0), "counted from the start again");
    // What it ran goes on.
    world.work(&item).unwrap();
    // Death: anybody may end what it ran.
    let other = sent(&mut world, Action::Remove, fid);
    world.others.clear();
    world.event(FsEvent::Unmount { client: CLIENT });
    assert!(matches!(world.others[0], Effect::Shutdown { client: CLIENT, .. }));
    assert!(world.fs.mdts()[0].agents().is_empty());
    let heir = ClientId(2);
    world.event(FsEvent::Mount { client: heir, uuid: "heir".to_owned() });
    let text = world.fs.get_param("mdt.*.hsm.active_requests").unwrap();
    assert!(text.contains(&format!("uuid={} ", mdt_world::UUID)), "{text}");
    let progress =
        lustre_sim::mdt::Progress { flags: 1, ..lustre_sim::mdt::Progress::keepalive(fid, other.cookie) };
    assert_eq!(world.call_as(heir, &Cred::root(), Call::Progress(progress)), Ok(Answer::Done));
}

/// Facts 2.5: "purge: CANCELs to all running requests, all records CANCELED, restore locks freed"; and 2.7: "`purge` alone
/// does not clear the request; `purge`, then `shutdown`, then `enabled` does (seen)".
#[test]
fn a_purge_cancels_records_but_not_memory() {
    let mut world = ready();
    let released = world.released();
    let (plain, waiting) = (world.create(), world.create());
    let archive = sent(&mut world, Action::Archive, plain);
    let restore = sent(&mut world, Action::Restore, released);
    let reader = world.begin(CLIENT, &Cred::root(), Call::Access { fid: released });
    world.request(Action::Archive, &[waiting], b"").unwrap();
    world.set("hsm_control", "purge");
    assert_eq!(world.replies[&reader], Err(Errno::NODATA));
    assert!(world.statuses()[1..].iter().all(|status| *status == RecordStatus::Canceled));
    // A list for each, with the request's own archive and data.
    let lists = [world.read_list(), world.read_list()];
    assert_eq!(lists.map(|list| list.oids()), [vec![-i64::from(plain.oid)], vec![-i64::from(released.oid)]]);
    assert_eq!(world.lists(), 0);
    assert_eq!(world.fs.mdts()[0].running().count(), 2);
    assert_eq!(world.fs.get_param("mdt.*.hsm_control").unwrap(), "mdt.testfs0-MDT0000.hsm_control=enabled\n");
    // Not even progress tells: there is no cancel record.
    assert_eq!(world.keepalive(plain, archive.cookie), Ok(()));
    world.work(&archive).unwrap();
    assert_eq!(world.ledger()[1].status, RecordStatus::Succeed);
    world.set("hsm_control", "shutdown");
    assert_eq!(world.keepalive(released, restore.cookie), Err(Errno::AGAIN));
    world.set("hsm_control", "enabled");
    assert_eq!(world.keepalive(released, restore.cookie), Err(Errno::NOENT));
    assert_eq!(world.fs.mdts()[0].running().count(), 0);
    assert_eq!(
        world.fs.set_param(world.now(), "mdt.*.hsm_control", "sleep", &mut Vec::new()),
        Err(Errno::INVAL)
    );
}

#[test]
fn a_shutdown_waits_for_the_list_on_its_way() {
    let mut world = ready();
    let fid = world.create();
    world.accepting = false;
    world.request(Action::Archive, &[fid], b"").unwrap();
    world.wait(1_000);
    let set =
        |value: &str| Call::ParamSet { mdt: 0, name: "hsm_control".to_owned(), value: value.to_owned() };
    let stop = world.begin(CLIENT, &Cred::root(), set("shutdown"));
    assert!(!world.replies.contains_key(&stop));
    world.outcome(lustre_sim::mdt::Outcome::Accepted, true);
    assert_eq!(world.replies[&stop], Ok(Answer::Done));
    assert_eq!(world.statuses(), [RecordStatus::Started]);
    assert_eq!(world.fs.mdts()[0].cdt_state().name(), "stopped");
    world.set("hsm_control", "enabled");
    assert_eq!(world.statuses(), [RecordStatus::Started], "an archive is lost until it times out");
}

#[test]
fn parameters_that_are_kept_outlive_a_restart() {
    let mut world = World::single();
    let set = |world: &mut World, max| {
        world.fs.set_param(world.now(), "mdt.*.hsm.max_requests", max, &mut Vec::new()).unwrap();
    };
    set(&mut world, "7");
    world.fs.keep_params();
    set(&mut world, "8");
    world.event(FsEvent::StopMdt(0));
    world.event(FsEvent::StartMdt(0));
    assert_eq!(world.fs.mdts()[0].params().max_requests, 7);
}

#[test]
fn parameters_have_lustres_names_order_values_and_limits() {
    let mut world = World::new(FsConfig::default(), 0);
    let path = format!("{}/tests/data/real/hsm_param_list.txt", env!("CARGO_MANIFEST_DIR"));
    let real = std::fs::read_to_string(path).unwrap();
    let names = |text: &str| {
        let lines = text.lines().map(|line| line.split('=').next().unwrap().to_owned());
        lines.collect::<Vec<_>>()
    };
    let ours = world.fs.get_param("mdt.*.hsm.*").unwrap() + &world.fs.get_param("mdt.*.hsm_control").unwrap();
    assert_eq!(names(&ours), names(&real));

    let cases = [
        ("hsm.max_requests", "0", Err(Errno::INVAL)),
        ("hsm.max_requests", "0x10", Ok("16")),
        ("hsm.max_requests", "010\n", Ok("8")),
        ("hsm.max_requests", "ten", Err(Errno::INVAL)),
        ("hsm.loop_period", "0", Err(Errno::INVAL)),
        ("hsm.loop_period", "4294967296", Err(Errno::RANGE)),
        ("hsm.loop_period", "1", Ok("1")),
        ("hsm.grace_delay", "5", Ok("5")),
        ("hsm.active_request_timeout", "2678400", Ok("2678400")),
        ("hsm.remove_archive_on_last_unlink", "on", Ok("1")),
        ("hsm.remove_archive_on_last_unlink", "No", Ok("0")),
        ("hsm.remove_archive_on_last_unlink", "2", Err(Errno::INVAL)),
        ("hsm.archive_count", "1", Err(Errno::ACCES)),
        ("hsm.agents", "", Err(Errno::ACCES)),
        ("hsm.policy", "NBR", Ok("[NonBlockingRestore] NoRetryAction")),
        ("hsm.policy", "+NoRetryAction -NBR", Ok("NonBlockingRestore [NoRetryAction]")),
        ("hsm.policy", "NBR -NRA", Ok("[NonBlockingRestore] NoRetryAction")),
        ("hsm.policy", "", Ok("NonBlockingRestore NoRetryAction")),
        ("hsm.policy", "+XYZ", Err(Errno::INVAL)),
        ("hsm.user_request_mask", "remove ARCHIVE", Ok("ARCHIVE REMOVE")),
        ("hsm.user_request_mask", "", Ok("")),
        ("hsm.user_request_mask", "DELETE", Err(Errno::INVAL)),
        ("hsm.nothing", "1", Err(Errno::NOENT)),
    ];
    for (name, value, want) in cases {
        let pattern = format!("mdt.testfs0-MDT0001.{name}");
        let result = world.fs.set_param(world.now(), &pattern, value, &mut Vec::new());
        assert_eq!(result, want.map(|_| ()), "{name}={value}");
        if let Ok(text) = want {
            assert_eq!(world.fs.get_param(&pattern).unwrap(), format!("{pattern}={text}\n"));
        }
    }
    assert_eq!(world.fs.mdts()[0].params(), &Params::default());
    assert_eq!(world.fs.get_param("mdt.other*.hsm.agents"), Err(Errno::NOENT));
}

#[test]
fn agents_are_printed_as_a_real_lustre_does() {
    let path = format!("{}/tests/data/real/agents_two_archive_ids.txt", env!("CARGO_MANIFEST_DIR"));
    let mut world = World::new(FsConfig::default(), 0);
    world.register(&[1, 2]);
    assert_eq!(world.fs.get_param("mdt.*.hsm.agents").unwrap(), std::fs::read_to_string(path).unwrap());
    world.ok(Call::Unregister);
    world.register(&[]);
    let any = world.fs.get_param("mdt.*MDT0001.hsm.agents").unwrap();
    assert!(any.ends_with(" archive_id=ANY requests=[current:0 ok:0 errors:0]\n"), "{any}");
}

#[test]
fn an_idle_file_system_plans_nothing() {
    let mut world = ready();
    world.to(3_000);
    assert_eq!(world.fs.next_deadline(), None);
    world.to(1_000_000);
    // The phase of housekeeping is kept without waking for it.
    let fid = world.create();
    let start = world.ms;
    world.request(Action::Archive, &[fid], b"").unwrap();
    world.wait(1_000);
    assert_eq!(world.lists(), 1);
    assert!(world.next_wake() > start && world.next_wake() <= start + 11_000);
}

#[test]
fn the_ledger_is_data() {
    let mut world = ready();
    world.archived();
    let json = serde_json::to_value(world.fs.mdts()[0].ledger()).unwrap();
    let entry = &json["entries"][0];
    assert_eq!(entry["fid"], "[0x200000402:0x1:0x0]");
    assert_eq!((&entry["status"], &entry["action"]), (&"SUCCEED".into(), &"ARCHIVE".into()));
    assert_eq!(entry["accepted_ends"], 1);
}

#[test]
fn the_same_events_give_the_same_effects() {
    let run = || {
        let mut effects = Vec::new();
        let mut fs = FileSystem::new(FsConfig::default(), Time { mono: 0, wall: EPOCH });
        let now = |second: u64| Time { mono: 0, wall: EPOCH }.after(second * 1_000_000_000);
        fs.handle(now(0), FsEvent::Mount { client: CLIENT, uuid: "x".to_owned() }, &mut effects);
        fs.call(now(0), CLIENT, &Cred::root(), Call::Register { archives: vec![] }, &mut effects);
        for second in 0..30 {
            let file = lustre_sim::mdt::NewFile::default();
            let create = Call::Create { mdt: u32::try_from(second % 2).unwrap(), file };
            let answer = fs.call(now(second), CLIENT, &Cred::root(), create, &mut effects);
            let Some(Ok(Answer::Fid(fid))) = answer else { panic!() };
            let request = lustre_sim::mdt::UserRequest::new(Action::Archive, [fid], b"");
            fs.call(now(second), CLIENT, &Cred::root(), Call::Request(request), &mut effects);
        }
        effects
    };
    assert_eq!(run(), run());
}
