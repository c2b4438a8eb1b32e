//! What the rows share.

use harness::{Step, Testbed};

/// What a mover of the original's suite serves when it is not told: everything.
pub const MOVER_1: usize = 1;
/// The mount of the second mover.
pub const MOVER_2: usize = 2;

/// The copytools' steps of one kind for one kind of action.
pub fn steps<'a>(journal: &'a [Step], step: &str, action: &str) -> Vec<&'a Step> {
    journal.iter().filter(|entry| entry.step == step && entry.action == action).collect()
}

/// What `lctl get_param -n mdt.MDT.hsm.active_requests` prints on each MDS, given to `coordinatool-client -Q`.
pub fn requeue_active_requests(bed: &Testbed) {
    for mdt in 0..bed.mdts() {
        let text = bed.lustre().active_requests(mdt);
        let output = bed.client(&["-Q"], &text);
        assert!(output.status.success(), "coordinatool-client -Q: {output:?}\n{text}");
    }
}
