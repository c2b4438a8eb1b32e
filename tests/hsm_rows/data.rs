//! Rows 30, 31 and 32: what the user passed with a request reaches the copytool.

use harness::{FileSet, Mover, MoverSettings, Request, Settings, Testbed};

use crate::store::{restart_forgetful, start, start_forgetful};
use crate::{MOVER_1, requeue_active_requests, steps};

fn check_data(mover: &Mover<'_>, action: &str, count: usize, data: &str) {
    let journal = mover.journal();
    let begun = steps(&journal, "begun", action);
    assert_eq!(begun.len(), count);
    for step in begun {
        assert_eq!(step.text(), data, "{step:?}");
    }
}

/// 30: with all three kinds of requests.
#[test]
fn row_30_data() {
    let bed = Testbed::start("30");
    let _daemon = start(&bed, &Settings::three_at_a_time());
    let mover = MoverSettings::new(&bed, "agent_1", MOVER_1).start(&bed);
    let files = FileSet::create(&bed, 1..2);
    let request = Request::data("some data");
    files.archive(&request);
    files.wait_archived();
    files.wait_ended();
    files.release();
    files.restore(&request);
    files.wait_restored();
    files.wait_ended();
    files.remove(&request);
    files.wait_removed();
    files.wait_ended();
    for action in ["ARCHIVE", "RESTORE", "REMOVE"] {
        check_data(&mover, action, 1, "some data");
    }
    assert_eq!(mover.copies(), 0, "the copy was removed");
}

/// 31: it survives a restart with a store, all of it.
#[test]
fn row_31_data_and_restart() {
    let bed = Testbed::start("31");
    let mut daemon = start(&bed, &Settings::three_at_a_time());
    let files = FileSet::create(&bed, 0..100);
    files.archive(&Request::data("some data"));
    daemon.wait_known(100);
    daemon.restart();
    let mover = MoverSettings::new(&bed, "agent_1", MOVER_1).start(&bed);
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    check_data(&mover, "ARCHIVE", 100, "some data");
}

/// 32: without a store, what the MDT lists is all that is left: five bytes.
#[test]
fn row_32_data_from_active_requests() {
    let bed = Testbed::start("32");
    let mut daemon = start_forgetful(&bed, Settings::three_at_a_time());
    let files = FileSet::create(&bed, 0..100);
    files.archive(&Request::data("da ta_anything longer is lost"));
    daemon.wait_known(100);
    restart_forgetful(&mut daemon);
    requeue_active_requests(&bed);
    daemon.wait_known(100);
    let mover = MoverSettings::new(&bed, "agent_1", MOVER_1).start(&bed);
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    check_data(&mover, "ARCHIVE", 100, "da ta");
}

/// 32 with a store: the full data is known, and the five bytes do not replace it.
#[test]
fn row_32_five_bytes_do_not_replace_what_is_known() {
    let bed = Testbed::start("32s");
    let mut daemon = start(&bed, &Settings::three_at_a_time());
    let files = FileSet::create(&bed, 0..10);
    files.archive(&Request::data("da ta_anything longer is kept"));
    daemon.wait_known(10);
    daemon.restart();
    requeue_active_requests(&bed);
    daemon.wait_known(10);
    let mover = MoverSettings::new(&bed, "agent_1", MOVER_1).start(&bed);
    files.wait_archived();
    files.wait_ended();
    check_data(&mover, "ARCHIVE", 10, "da ta_anything longer is kept");
}
