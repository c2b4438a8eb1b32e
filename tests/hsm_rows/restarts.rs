//! Rows 02 and 03: the server is restarted while requests are queued and no mover is there.

use harness::{FileSet, MoverSettings, Request, Settings, Testbed};

use crate::store::{restart_forgetful, start, start_forgetful};
use crate::{MOVER_1, requeue_active_requests};

/// 02: without a store the server forgets its queue; what the MDTs list as active requests is queued again.
#[test]
fn row_02_server_restart_and_active_requests() {
    let bed = Testbed::start("02");
    let mut daemon = start_forgetful(&bed, Settings::three_at_a_time());
    let files = FileSet::create(&bed, 0..100);
    files.archive(&Request::default());
    daemon.wait_known(100);

    restart_forgetful(&mut daemon);
    daemon.wait_known(0);
    requeue_active_requests(&bed);
    daemon.wait_known(100);
    // Once more: they are known by now.
    requeue_active_requests(&bed);
    daemon.wait_known(100);

    let _mover = MoverSettings::new(&bed, "agent_1", MOVER_1).start(&bed);
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
}

/// 03: with a store the queue survives, here both a clean stop and a crash.
#[test]
fn row_03_server_restart_with_queued_requests() {
    let bed = Testbed::start("03");
    let mut daemon = start(&bed, &Settings::three_at_a_time());
    let files = FileSet::create(&bed, 0..100);
    files.archive(&Request::default());
    daemon.wait_known(100);

    daemon.restart();
    daemon.wait_known(100);
    daemon.crash_and_restart();
    daemon.wait_known(100);

    let _mover = MoverSettings::new(&bed, "agent_1", MOVER_1).start(&bed);
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
}
