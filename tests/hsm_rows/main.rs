//! The rows of the original's integration suite that need no redis (`tests/run_tests.sh` of coordinatool C 0.4), with the
//! same behaviour asserted, on an embedded Lustre with two MDTs. Rows that restart redis run in the form they have with
//! the embedded store. Judged by the MDTs' ledger, the copytools' journals and the files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod archive_ids;
mod batches;
mod cancel;
mod data;
mod lock;
mod placement;
mod reporting;
mod restarts;
mod transfers;

use harness::{Step, Testbed};

/// What a mover of the original's suite serves when it is not told: everything.
const MOVER_1: usize = 1;
/// The mount of the second mover.
const MOVER_2: usize = 2;

/// The copytools' steps of one kind for one kind of action.
fn steps<'a>(journal: &'a [Step], step: &str, action: &str) -> Vec<&'a Step> {
    journal.iter().filter(|entry| entry.step == step && entry.action == action).collect()
}

/// What `lctl get_param -n mdt.MDT.hsm.active_requests` prints on each MDS, given to `coordinatool-client -Q`.
fn requeue_active_requests(bed: &Testbed) {
    for mdt in 0..bed.mdts() {
        let text = bed.lustre().active_requests(mdt);
        let output = bed.client(&["-Q"], &text);
        assert!(output.status.success(), "coordinatool-client -Q: {output:?}\n{text}");
    }
}
