//! Row 12: lock, unlock, lock and quit.

use harness::{Daemon, FileSet, Gate, MoverSettings, Request, Settings, Testbed};

use crate::{MOVER_1, steps};

/// 12: under a lock only what runs is finished; after unlocking the next three are handed out; lock-and-quit waits for
/// those and then stops the server, exactly six archives having been made.
#[test]
fn row_12_lock_and_quit() {
    let bed = Testbed::start("12");
    let mut daemon = Daemon::start(&bed, &Settings::three_at_a_time());
    let gate = Gate::closed_for_all(&bed, "1");
    let mover = MoverSettings::new(&bed, "agent_1", MOVER_1).behind(&gate).start(&bed);
    let files = FileSet::create(&bed, 1..11);
    files.archive(&Request::default());
    daemon.wait_known(10);
    let begun = |count| steps(&mover.journal(), "begun", "ARCHIVE").len() == count;
    bed.wait("three archives have begun", || begun(3));

    let output = bed.client(&["--lock"], "");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(0), "ok\n"));
    gate.open();
    bed.wait("three archives are made", || files.archived() == 3);
    daemon.wait_known(7);
    daemon.wait_mover("agent_1");
    assert_eq!((files.archived(), steps(&mover.journal(), "received", "ARCHIVE").len()), (3, 3));

    gate.close();
    assert!(bed.client(&["--unlock"], "").status.success());
    bed.wait("three more archives have begun", || begun(6));
    assert!(bed.client(&["--lock-quit"], "").status.success());
    assert_eq!(daemon.status()["locked"], 2, "it is still running, because requests are");
    assert!(daemon.is_running());

    gate.open();
    let status = daemon.wait_end();
    assert!(status.success(), "the server stops cleanly, not with {status}");
    assert_eq!((files.archived(), mover.copies()), (6, 6), "exactly six archives");

    // What was still queued is there when it starts again.
    daemon.start_again();
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
}
