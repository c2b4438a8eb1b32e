//! Row 14: cancels.

use std::collections::BTreeSet;

use harness::ledger::Status;
use harness::{Daemon, FileSet, Gate, MoverSettings, Request, Settings, Testbed};

use crate::{MOVER_1, MOVER_2, steps};

/// 14: of ten archives three run on a mover that does not stop for cancels, three on a mover that has gone, four wait. All
/// are cancelled: the first mover finishes its three and is told of the three cancels, nothing else is processed, and
/// no active request is left on the MDTs.
#[test]
fn row_14_cancel() {
    let bed = Testbed::start("14");
    let daemon = Daemon::start(&bed, &Settings::three_at_a_time());
    let gate = Gate::closed_for_all(&bed, "both");
    let settings = |id, mount| {
        MoverSettings::new(&bed, id, mount)
            .own_archive(&bed)
            .behind(&gate)
            .argument("--ack-cancel")
            .argument("--no-progress")
    };
    let first = settings("agent_1", MOVER_1).start(&bed);
    let mut second = settings("agent_2", MOVER_2).start(&bed);
    daemon.wait_mover("agent_1");
    daemon.wait_mover("agent_2");

    let files = FileSet::create(&bed, 1..11);
    files.archive(&Request::default());
    bed.wait("each mover has begun three archives", || {
        [&first, &second].iter().all(|mover| steps(&mover.journal(), "begun", "ARCHIVE").len() == 3)
    });
    daemon.wait_known(10);
    second.stop();
    files.cancel();
    bed.wait("the first mover was told of three cancels", || {
        steps(&first.journal(), "received", "CANCEL").len() == 3
    });
    gate.open();
    bed.wait("no active request is left", || bed.lustre().no_active_requests());
    daemon.wait_known(0);
    daemon.wait_mover("agent_1");

    let journal = first.journal();
    let cancelled: BTreeSet<&str> =
        steps(&journal, "received", "CANCEL").iter().map(|s| s.fid.as_str()).collect();
    let begun: BTreeSet<&str> = steps(&journal, "begun", "ARCHIVE").iter().map(|s| s.fid.as_str()).collect();
    assert_eq!((begun.len(), &cancelled), (3, &begun), "three cancels, for what it ran");
    assert_eq!(first.copies(), 3, "nothing else was processed");
    assert_eq!(second.copies(), 0);
    for entry in files.wait_ended() {
        if entry.action == "ARCHIVE" {
            assert_eq!(entry.status, Status::Cancelled, "{entry:?}");
        }
    }
}
