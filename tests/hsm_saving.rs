//! Rules that save data, with real processes: the daemon, unmodified copytools under our library, the embedded Lustre. Judged
//! by its MDTs' ledgers, what copytools wrote down, and what is in files and copies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use harness::ledger::{Entry, Status};
use harness::{
    ARCHIVED, Daemon, FileSet, Gate, Mover, MoverSettings, RELEASED, Request, Settings, Testbed,
    TestbedSettings, Value,
};
use lustreapi_sys::abi::HS_DIRTY;

const EIO: u16 = 5;
const EBUSY: u16 = 16;
const ETIMEDOUT: u16 = 110;
const EALREADY: u16 = 114;
const ECANCELED: u16 = 125;

fn count(mover: &Mover<'_>, step: &str, action: &str) -> usize {
    mover.journal().iter().filter(|entry| entry.step == step && entry.action == action).count()
}

/// Only the entries of this action.
fn of(files: &FileSet<'_>, action: &str) -> Vec<Entry> {
    files.entries().into_iter().filter(|entry| entry.action == action).collect()
}

/// How each ended, in order of cookies.
fn ends(mut entries: Vec<Entry>) -> Vec<(Status, u16)> {
    entries.sort_by_key(|entry| entry.cookie);
    entries.iter().map(|entry| (entry.status, entry.errno())).collect()
}

/// Archived, and all requests ended.
fn archived(files: &FileSet<'_>) {
    files.archive(&Request::archive(1));
    files.wait_archived();
    files.wait_ended();
}

/// MDTs time requests out soon, so that the daemon asks often about what they forgot.
fn forgetful(name: &str) -> (Testbed, Settings) {
    let bed = TestbedSettings::new(name).parameter("active_request_timeout=20").start();
    (bed, Settings::new().line("request_timeout_sec 20").line("settle_ms 0").line("archive_id 1"))
}

/// The REMOVE waits, and the user releases the file, which Lustre allows: the copy is all there is.
#[test]
fn a_remove_of_a_released_file_is_never_sent() {
    let bed = Testbed::start("saving-remove");
    let daemon = Daemon::start(&bed, &Settings::new());
    let mover = MoverSettings::new(&bed, "agent_1", 1).start(&bed);
    daemon.wait_mover("agent_1");
    let files = FileSet::create(&bed, 0..6);
    archived(&files);
    daemon.lock(1);
    files.remove(&Request::default());
    daemon.wait_known(6);
    files.part(0..4).release();
    daemon.lock(0);
    files.wait_ended();
    assert!(ends(of(&files.part(0..4), "REMOVE")).iter().all(|end| *end == (Status::Failed, EBUSY)));
    assert!(ends(of(&files.part(4..6), "REMOVE")).iter().all(|end| *end == (Status::Succeeded, 0)));
    assert_eq!((count(&mover, "received", "REMOVE"), mover.copies()), (2, 4));
    for number in 0..4 {
        let read = bed.lustre().read(&files.path(number)).finish_text();
        assert_eq!(read, Ok(format!("foo.{number}\n")), "its data is still there");
    }
}

/// The MDT restarts while REMOVEs wait: what it does not know any more is no mover's, only what it hands out anew.
#[test]
fn a_remove_that_its_mdt_forgot_is_not_sent() {
    let (bed, settings) = forgetful("saving-forgotten");
    let daemon = Daemon::start(&bed, &settings);
    let mover = MoverSettings::new(&bed, "agent_1", 1).start(&bed);
    daemon.wait_mover("agent_1");
    let files = FileSet::create(&bed, 0..4);
    archived(&files);
    daemon.lock(1);
    files.remove(&Request::default());
    daemon.wait_known(4);
    let forgotten: Vec<u64> = of(&files, "REMOVE").iter().map(|entry| entry.cookie).collect();
    bed.lustre().restart_mdt(0);
    bed.lustre().restart_mdt(1);
    daemon.lock(0);
    files.wait_removed();
    daemon.wait_known(0);
    let removes: Vec<_> = mover.journal().into_iter().filter(|step| step.action == "REMOVE").collect();
    assert!(removes.iter().all(|step| !forgotten.contains(&step.cookie)), "{forgotten:?} {removes:?}");
    assert_eq!(count(&mover, "begun", "REMOVE"), 4);
}

/// The MDT restarts while a mover removes copies, and the daemon is killed before it hears of the end. The copies are gone:
/// no file may go on being called archived, and no mover is asked to remove a copy twice.
#[test]
fn a_copy_that_was_removed_behind_the_mdt_s_back_is_not_removed_twice() {
    let (bed, settings) = forgetful("saving-gone");
    let mut daemon = Daemon::start(&bed, &settings);
    let gate = Gate::open_for_all(&bed, "1");
    let mover = MoverSettings::new(&bed, "agent_1", 1).behind(&gate).start(&bed);
    daemon.wait_mover("agent_1");
    let files = FileSet::create(&bed, 0..4);
    archived(&files);
    gate.close();
    files.remove(&Request::default());
    bed.wait("all have begun", || count(&mover, "begun", "REMOVE") == 4);
    daemon.kill();
    bed.lustre().restart_mdt(0);
    bed.lustre().restart_mdt(1);
    gate.open();
    bed.wait("the copies are gone", || mover.copies() == 0 && count(&mover, "ended", "REMOVE") == 4);
    assert_eq!(files.archived(), 4, "the MDTs do not know");
    daemon.start_again();
    files.wait_removed();
    daemon.wait_known(0);
    assert_eq!(count(&mover, "received", "REMOVE"), 4, "once for each");
    let well = of(&files, "REMOVE").into_iter().filter(|entry| entry.status == Status::Succeeded);
    assert_eq!(well.count(), 4);
}

/// A restore of a mover that speaks C's protocol may be bound to it for ever: what it had is ended with an error, so that its
/// reader learns of it, and requested again, so that the data comes back.
#[test]
fn a_restore_bound_to_a_dead_mover_is_requested_again() {
    let bed = Testbed::start("saving-bound");
    let daemon = Daemon::start(&bed, &Settings::new().line("client_grace_ms 100"));
    let mut mover = MoverSettings::new(&bed, "agent_1", 1).start(&bed);
    daemon.wait_mover("agent_1");
    let files = FileSet::create(&bed, 0..1);
    archived(&files);
    files.release();
    mover.stop();
    bed.wait("it is gone", || daemon.mover_status("agent_1").is_none());
    let mut c_mover = daemon.connect();
    c_mover.ehlo("c-mover");
    c_mover.ask_for_work(1);
    let reader = bed.lustre().read(&files.path(0));
    let work = c_mover.receive();
    assert_eq!(work["hsm_action_list"]["list"].as_array().map(Vec::len), Some(1), "{work}");
    drop(c_mover);
    assert!(reader.finish_text().is_err(), "the reader is told, and does not wait for ever");
    mover.start_again();
    files.wait_restored();
    files.wait_ended();
    assert_eq!(ends(of(&files, "RESTORE")), [(Status::Failed, ETIMEDOUT), (Status::Succeeded, 0)]);
    assert_eq!(bed.lustre().read(&files.path(0)).finish_text(), Ok("foo.0\n".to_owned()));
    daemon.wait_known(0);
}

/// A mover with our library binds nothing before its end: another one finishes what it began, and the reader who waited all
/// the time gets the data.
#[test]
fn a_restore_of_a_dead_mover_of_ours_moves() {
    let bed = Testbed::start("saving-moves");
    let settings = Settings::new().line("client_grace_ms 500").line("lease_ms 500");
    let daemon = Daemon::start(&bed, &settings);
    let mut other = MoverSettings::new(&bed, "agent_2", 2).start(&bed);
    daemon.wait_mover("agent_2");
    let files = FileSet::create(&bed, 0..2);
    archived(&files);
    other.stop();
    bed.wait("it is gone", || daemon.mover_status("agent_2").is_none());
    let slow = MoverSettings::new(&bed, "agent_1", 1).argument("--delay-ms=600000");
    let mut slow = slow.argument("--progress-interval=20").start(&bed);
    daemon.wait_mover("agent_1");
    files.release();
    let readers: Vec<_> = (0..2).map(|number| bed.lustre().read(&files.path(number))).collect();
    bed.wait("both have begun, and report progress", || {
        let restores = of(&files, "RESTORE");
        restores.len() == 2 && restores.iter().all(|entry| entry.progress > 0)
    });
    slow.kill();
    other.start_again();
    for (number, reader) in (0..2).zip(readers) {
        assert_eq!(reader.finish_text(), Ok(format!("foo.{number}\n")));
    }
    files.wait_ended();
    assert_eq!(ends(of(&files, "RESTORE")), [(Status::Succeeded, 0); 2], "the same requests");
    assert_eq!(count(&slow, "begun", "RESTORE"), 2);
}

/// Since 2.14 an MDT takes a second ARCHIVE while the first one runs. When its turn comes there is nothing left to do, and
/// an error other than this one would make the file dirty.
#[test]
fn a_second_archive_is_looked_at_again_before_it_is_sent() {
    let bed = Testbed::start("saving-twice");
    let daemon = Daemon::start(&bed, &Settings::new());
    let gate = Gate::closed_for_all(&bed, "1");
    let mover = MoverSettings::new(&bed, "agent_1", 1).behind(&gate).start(&bed);
    daemon.wait_mover("agent_1");
    let files = FileSet::create(&bed, 0..4);
    files.archive(&Request::archive(1));
    bed.wait("the first of each has begun", || count(&mover, "begun", "ARCHIVE") == 4);
    files.archive(&Request::archive(1));
    daemon.wait_known(8);
    assert_eq!(daemon.status()["pending_archive"], Value::from(4), "the second ones wait");
    gate.open();
    let entries = files.wait_ended();
    assert_eq!(entries.len(), 8);
    for number in 0..4 {
        let ends = ends(of(&files.part(number..number + 1), "ARCHIVE"));
        assert_eq!(ends, [(Status::Succeeded, 0), (Status::Failed, EALREADY)]);
    }
    assert_eq!(count(&mover, "received", "ARCHIVE"), 4);
    assert!(files.states().iter().all(|state| state & (ARCHIVED | HS_DIRTY) == ARCHIVED));
    daemon.wait_known(0);
}

/// An ARCHIVE may take hours on a tape; who reads the file meanwhile does not wait for it.
#[test]
fn a_restore_does_not_wait_for_an_archive_of_its_file() {
    let bed = Testbed::start("saving-reader");
    let daemon = Daemon::start(&bed, &Settings::new());
    let files = FileSet::create(&bed, 0..1);
    let path = files.path(0);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    let fid = files.fids().remove(0);
    // Somebody queues an ARCHIVE that no MDT knows, and a mover works on it and does not end it.
    let (seq, rest) = fid.trim_start_matches("0x").split_once(":0x").unwrap();
    let oid = u64::from_str_radix(rest.split_once(':').unwrap().0, 16).unwrap();
    let fid_value =
        harness::json!({"f_seq": u64::from_str_radix(seq, 16).unwrap(), "f_oid": oid, "f_ver": 0});
    let mut busy = daemon.connect();
    busy.ehlo("busy");
    let queued = busy.ask(&harness::json!({"command": "queue", "fsname": "testfs0", "hsm_action_items": [{
        "hai_action": 20, "hai_fid": fid_value, "hai_dfid": fid_value, "hai_extent_offset": 0,
        "hai_extent_length": -1, "hai_cookie": 7, "hai_gid": 0, "hal_archive_id": 1, "hal_flags": 0, "hai_data": "",
    }]}));
    assert_eq!(queued["enqueued"], Value::from(1), "{queued}");
    busy.ask_for_work(1);
    let work = busy.receive();
    assert_eq!(work["hsm_action_list"]["list"][0]["hai_cookie"], Value::from(7), "{work}");
    // Meanwhile its data are on tape only.
    let imported = bed.lustre().run(&["import", "--archive", "1", "--size", "6", path.to_str().unwrap()]);
    assert!(imported.status.success(), "{imported:?}");
    let mover = MoverSettings::new(&bed, "agent_1", 1).start(&bed);
    daemon.wait_mover("agent_1");
    fs::write(mover.archive().join(&fid), "tape.\n").unwrap();
    assert_eq!(bed.lustre().read(&path).finish_text(), Ok("tape.\n".to_owned()));
    daemon.wait_known(1);
    assert_eq!(files.states()[0] & RELEASED, 0);
}

/// The MDT's server sends a list again because the answer was lost: meanwhile the REMOVE in it has ended, and there is a new
/// copy.
#[test]
fn a_remove_that_comes_again_after_its_end_is_not_run() {
    let (bed, settings) = forgetful("saving-late");
    let daemon = Daemon::start(&bed, &settings);
    let mover = MoverSettings::new(&bed, "agent_1", 1).start(&bed);
    daemon.wait_mover("agent_1");
    // Another copytool, which makes copies without the daemon.
    let other = MoverSettings::new(&bed, "other", 2).without_library().archives(&[2]).own_archive(&bed);
    let other = other.start(&bed);
    bed.wait("it is registered", || bed.lustre().agents() == 2 * bed.mdts());
    let files = FileSet::create(&bed, 0..1);
    archived(&files);
    files.remove(&Request::default());
    files.wait_removed();
    files.wait_ended();
    daemon.wait_known(0);
    files.archive(&Request::archive(2));
    files.wait_archived();
    files.wait_ended();
    files.release();
    bed.lustre().redeliver();
    bed.wait("the daemon has dropped it", || daemon.log().contains("delivered again after its end: dropped"));
    daemon.wait_known(0);
    assert_eq!((of(&files, "REMOVE").len(), count(&mover, "received", "REMOVE")), (1, 1));
    assert_eq!(other.copies(), 1);
    assert_eq!(bed.lustre().read(&files.path(0)).finish_text(), Ok("foo.0\n".to_owned()));
}

/// No user has cancelled it, so there is no cancel that could succeed: the requests have failed, and the files are as before.
#[test]
fn what_an_operator_cancels_while_it_waits_is_no_success() {
    let bed = Testbed::start("saving-cancel");
    let daemon = Daemon::start(&bed, &Settings::new());
    let mover = MoverSettings::new(&bed, "agent_1", 1).start(&bed);
    daemon.wait_mover("agent_1");
    let files = FileSet::create(&bed, 0..3);
    let (restored, removed, new) = (files.part(0..1), files.part(1..2), files.part(2..3));
    archived(&files.part(0..2));
    restored.release();
    daemon.lock(1);
    let reader = bed.lustre().read(&files.path(0));
    removed.remove(&Request::default());
    new.archive(&Request::archive(1));
    daemon.wait_known(3);
    let before = files.states();
    let output = bed.client(&["cancel", "--all", "-y", "--wait"], "");
    assert!(output.status.success(), "{output:?}");
    assert!(reader.finish_text().is_err(), "who waits for the data is told");
    files.wait_ended();
    assert_eq!(ends(of(&restored, "RESTORE")), [(Status::Failed, ECANCELED)]);
    assert_eq!(ends(of(&removed, "REMOVE")), [(Status::Failed, ECANCELED)]);
    assert_eq!(ends(of(&new, "ARCHIVE")), [(Status::Failed, EALREADY)]);
    assert_eq!((files.states(), mover.copies()), (before, 2));
}

/// A copytool loses REMOVEs: nobody is told, and the MDT is told every quarter of its timeout that all is well. Once it has
/// done nothing at all for long enough they have failed, and what runs is counted right.
#[test]
fn what_a_copytool_drops_is_ended_in_the_end() {
    let bed = Testbed::start("saving-dropped");
    let daemon = Daemon::start(&bed, &Settings::new().line("max_remove 1"));
    let mover = MoverSettings::new(&bed, "agent_1", 1).argument("--drop-removes");
    let mover = mover.variable("COORDINATOOL_BEGIN_TIMEOUT", "50").start(&bed);
    daemon.wait_mover("agent_1");
    let files = FileSet::create(&bed, 0..2);
    archived(&files);
    files.remove(&Request::default());
    files.wait_ended();
    assert_eq!(ends(of(&files, "REMOVE")), [(Status::Failed, EIO); 2]);
    assert_eq!(count(&mover, "dropped", "REMOVE"), 2);
    assert_eq!((files.archived(), mover.copies()), (2, 2));
    daemon.wait_known(0);
}
