//! Rows 40, 41 and 42: archive ids are kept.

use harness::{Daemon, FileSet, MoverSettings, Request, Settings, Testbed};

use crate::store::{restart_forgetful, start, start_forgetful};
use crate::{MOVER_1, requeue_active_requests, steps};

/// 40: with all three kinds of requests.
#[test]
fn row_40_archive_id() {
    let bed = Testbed::start("40");
    let _daemon = start(&bed, &Settings::three_at_a_time());
    let mover = MoverSettings::new(&bed, "agent_1", MOVER_1).start(&bed);
    let files = FileSet::create(&bed, 1..2);
    files.archive(&Request::archive(2));
    files.wait_archived();
    files.wait_ended();
    assert_eq!(files.archive_ids(), [2]);
    files.release();
    files.restore(&Request::archive(2));
    files.wait_restored();
    files.wait_ended();
    files.remove(&Request::archive(2));
    files.wait_removed();
    files.wait_ended();
    for action in ["ARCHIVE", "RESTORE", "REMOVE"] {
        assert_eq!(steps(&mover.journal(), "begun", action)[0].archive_id, 2, "{action}");
    }
    assert_eq!(mover.copies(), 0, "the copy was removed");
}

/// 41: they survive a restart with a store.
#[test]
fn row_41_archive_id_and_restart() {
    let bed = Testbed::start("41");
    let mut daemon = start(&bed, &Settings::three_at_a_time());
    let (ones, twos) = archive_with_two_ids(&bed, &daemon);
    daemon.restart();
    daemon.wait_known(200);
    check_ids(&bed, &ones, &twos);
}

/// 42: they come back from what the MDTs list.
#[test]
fn row_42_archive_id_from_active_requests() {
    let bed = Testbed::start("42");
    let mut daemon = start_forgetful(&bed, Settings::three_at_a_time());
    let (ones, twos) = archive_with_two_ids(&bed, &daemon);
    restart_forgetful(&mut daemon);
    requeue_active_requests(&bed);
    daemon.wait_known(200);
    check_ids(&bed, &ones, &twos);
}

fn archive_with_two_ids<'bed>(bed: &'bed Testbed, daemon: &Daemon<'_>) -> (FileSet<'bed>, FileSet<'bed>) {
    let files = FileSet::create(bed, 100..300);
    let (ones, twos) = (files.part(100..200), files.part(200..300));
    twos.archive(&Request::archive(2));
    ones.archive(&Request::archive(1));
    daemon.wait_known(200);
    (ones, twos)
}

fn check_ids(bed: &Testbed, ones: &FileSet<'_>, twos: &FileSet<'_>) {
    let _mover = MoverSettings::new(bed, "agent_1", MOVER_1).start(bed);
    for files in [ones, twos] {
        files.wait_archived();
        files.wait_ended();
        files.check_each_done_once("ARCHIVE");
    }
    assert_eq!(ones.archive_ids(), [1; 100]);
    assert_eq!(twos.archive_ids(), [2; 100]);
}
