//! Requests captured from a real Lustre: the situation in which it printed them is rebuilt in the embedded one, with the
//! same FIDs and cookies, what it printed is queued with `coordinatool-client -Q`, a mover does the work, and the ends
//! count at the MDTs.

use harness::captured::{ACTIONS, ACTIVE_REQUESTS, Captured};
use harness::ledger::Status;
use harness::{Daemon, MoverSettings, Settings, json};

#[test]
fn requests_of_a_real_lustre_are_queued_and_done() {
    let bed = Captured::testbed("captured").start();
    let captured = Captured::rebuild(&bed, &MoverSettings::new(&bed, "agent_1", 1));
    let daemon = Daemon::start(&bed, &Settings::three_at_a_time());

    let output = bed.client(&["-Q"], ACTIONS);
    assert!(output.status.success(), "{output:?}");
    daemon.wait_known(8);
    // Three of them again, with data cut to five bytes: they are known.
    let output = bed.client(&["-Q"], ACTIVE_REQUESTS);
    assert!(output.status.success(), "{output:?}");
    daemon.wait_known(8);
    let status = daemon.status();
    let pending =
        ["pending_archive", "pending_restore", "pending_remove"].map(|counter| status[counter].clone());
    assert_eq!(pending, [json!(5), json!(2), json!(1)], "{status}");

    let mover = MoverSettings::new(&bed, "agent_2", 2).start(&bed);
    bed.wait("all fourteen requests have ended", || {
        bed.lustre().ledger().iter().all(|entry| entry.has_ended())
    });
    let ledger = bed.lustre().ledger();
    assert_eq!(ledger.len(), 14);
    for entry in &ledger {
        assert_eq!((entry.status, entry.accepted_ends), (Status::Succeeded, 1), "{entry:?}");
    }
    for path in captured.paths() {
        assert_eq!(std::fs::read_to_string(path).unwrap(), Captured::content(path));
    }
    // a4 was asked for archive 2 with one byte of data; a1 and a2 had more than five.
    let seen: Vec<(String, u32, String)> = mover
        .journal()
        .into_iter()
        .filter(|step| step.step == "begun")
        .map(|step| (step.fid.clone(), step.archive_id, step.text()))
        .collect();
    assert_eq!(seen.len(), 8);
    for (fid, archive, data) in [
        ("0x200000402:0xc:0x0", 1, "tag=f"),
        ("0x200000402:0xd:0x0", 1, "tag=f"),
        ("0x200000402:0xf:0x0", 2, "x"),
        ("0x240000402:0x2:0x0", 1, "mdt1"),
    ] {
        assert!(seen.contains(&(fid.to_owned(), archive, data.to_owned())), "{fid} in {seen:?}");
    }
    daemon.wait_known(0);
}
