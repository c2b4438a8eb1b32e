//! Whose requests go first, with real processes on the embedded Lustre. Judged by the order in which a copytool gets them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use harness::{Daemon, FileSet, Mover, MoverSettings, Request, Settings, Testbed};

/// The numbers of the files in the order in which the copytool got them.
fn order(mover: &Mover<'_>, files: &FileSet<'_>, first: u32) -> Vec<u32> {
    let fids = files.fids();
    let number = |fid: &str| {
        let at = fids.iter().position(|of| of.trim_matches(['[', ']']) == fid.trim_matches(['[', ']']));
        first + u32::try_from(at.expect("a file of the test")).unwrap()
    };
    mover.journal().iter().filter(|step| step.step == "received").map(|step| number(&step.fid)).collect()
}

/// How many owners the daemon's log says were looked up.
fn looked_up(daemon: &Daemon<'_>) -> usize {
    let log = daemon.log();
    let counts = log.lines().filter(|line| line.contains("owners looked up"));
    counts.filter_map(|line| line.rsplit_once("files=")?.1.trim().parse::<usize>().ok()).sum()
}

fn one_at_a_time() -> Settings {
    Settings::new().line("max_archive 1").line("max_restore 1").line("max_remove 1")
}

/// A job that has archived ten files does not delay the one file of another by more than a turn. The job is found in the
/// file.
#[test]
fn a_job_waits_for_one_turn_of_another() {
    let bed = Testbed::start("fair-job");
    let daemon = Daemon::start(&bed, &one_at_a_time().line("fair_share job"));
    daemon.lock(1);
    let files = FileSet::create(&bed, 0..11);
    for number in 0..11 {
        let job: &[u8] = if number < 10 { b"crowd.1" } else { b"single.2" };
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(files.path(number), "user.job", job, flags).expect("extended attributes work");
    }
    files.part(0..10).archive(&Request::default());
    daemon.wait_known(10);
    files.part(10..11).archive(&Request::default());
    daemon.wait_known(11);
    bed.wait("all owners are known", || looked_up(&daemon) >= 11);
    let mover = MoverSettings::new(&bed, "agent_0", 1).start(&bed);
    daemon.wait_mover("agent_0");
    daemon.lock(0);
    files.wait_archived();
    let order = order(&mover, &files, 0);
    assert_eq!(order.len(), 11);
    assert!(order[..2].contains(&10), "{order:?}");
}

/// The same by a hint, with a weight, and with restores of many behind others.
#[test]
fn hints_have_weights_and_bulk_restores_wait() {
    let bed = Testbed::start("fair-hint");
    let settings = one_at_a_time()
        .line("fair_share hint:owner")
        .line("share_weight big 3")
        .line("priorities on")
        .line("bulk_hint class=bulk");
    let daemon = Daemon::start(&bed, &settings);
    let files = FileSet::create(&bed, 0..12);
    let mover = MoverSettings::new(&bed, "agent_0", 1).start(&bed);
    daemon.wait_mover("agent_0");
    daemon.lock(1);
    files.part(0..6).archive(&Request::data("owner=big"));
    daemon.wait_known(6);
    files.part(6..12).archive(&Request::data("owner=small"));
    daemon.wait_known(12);
    daemon.lock(0);
    files.wait_archived();
    let archived = order(&mover, &files, 0);
    // Six of big to two of small, with whatever tie at the start.
    let of_small = archived[..8].iter().filter(|&&number| number >= 6).count();
    assert!((2..=3).contains(&of_small), "{archived:?}");

    files.release();
    daemon.lock(1);
    files.part(0..4).restore(&Request::data("class=bulk"));
    daemon.wait_known(4);
    files.part(4..6).restore(&Request::data("owner=big"));
    daemon.wait_known(6);
    daemon.lock(0);
    files.part(0..6).wait_restored();
    let restored = order(&mover, &files, 0)[12..].to_vec();
    assert!(restored[..2].iter().all(|&number| number >= 4), "{restored:?}");
}
