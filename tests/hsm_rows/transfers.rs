//! Rows 01, 04, 05, 06 and 09: what happens to transfers.

use std::collections::BTreeSet;

use harness::{Daemon, FileSet, Gate, Mover, MoverSettings, Request, Settings, Testbed, copies};

use crate::store::start;
use crate::{MOVER_1, MOVER_2, steps};

/// 01: a hundred files are archived, restored and removed over two movers; the archive is empty in the end.
#[test]
fn row_01_normal_requests() {
    let bed = Testbed::start("01");
    normal_requests(&bed, &Settings::three_at_a_time(), &Request::default());
}

/// Row 01, and with reporting row 61.
pub fn normal_requests(bed: &Testbed, settings: &Settings, request: &Request) {
    let mut daemon = start(bed, settings);
    let first = MoverSettings::new(bed, "agent_1", MOVER_1).start(bed);
    let second = MoverSettings::new(bed, "agent_2", MOVER_2).start(bed);

    let files = FileSet::create(bed, 0..100);
    files.archive(request);
    files.wait_archived();
    files.wait_ended();
    assert_eq!(copies(&bed.directory().join("archive")), 100);

    files.release();
    files.restore(request);
    files.wait_restored();
    files.wait_ended();

    files.remove(request);
    files.wait_removed();
    files.wait_ended();
    assert_eq!(copies(&bed.directory().join("archive")), 0, "the archive is empty");

    for action in ["ARCHIVE", "RESTORE", "REMOVE"] {
        files.check_each_done_once(action);
        let begun =
            steps(&first.journal(), "begun", action).len() + steps(&second.journal(), "begun", action).len();
        assert_eq!(begun, 100, "each {action} was begun once");
    }
    daemon.wait_known(0);
    daemon.stop();
}

/// 04: the server is restarted while two movers process data; everything is archived, nothing twice, and movers and
/// server are still alive. Here the transfers even end while there is no server, so that each `done` meets a dead socket.
#[test]
fn row_04_server_restart_while_busy() {
    let bed = Testbed::start("04");
    server_restart_while_busy(&bed, |daemon| daemon.stop());
}

/// 09: the original restarts redis during transfers. With the embedded store the store dies with the server: here it is
/// killed, and still everything is archived.
#[test]
fn row_09_server_crash_while_busy() {
    let bed = Testbed::start("09");
    server_restart_while_busy(&bed, |daemon| daemon.kill());
}

fn server_restart_while_busy(bed: &Testbed, end: impl Fn(&mut Daemon<'_>)) {
    let mut daemon = start(bed, &Settings::three_at_a_time());
    let gate = Gate::closed_for_all(bed, "both");
    let mut movers: Vec<Mover<'_>> = [("agent_1", MOVER_1), ("agent_2", MOVER_2)]
        .map(|(id, mount)| MoverSettings::new(bed, id, mount).behind(&gate).start(bed))
        .into();
    let files = FileSet::create(bed, 0..100);
    files.archive(&Request::default());
    daemon.wait_known(100);
    bed.wait("each mover has begun three archives", || {
        movers.iter().all(|mover| steps(&mover.journal(), "begun", "ARCHIVE").len() == 3)
    });

    end(&mut daemon);
    gate.open();
    bed.wait("the running archives have ended without a server", || files.archived() == 6);
    daemon.start_again();

    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    for mover in &mut movers {
        assert!(mover.is_running(), "{} is still alive", mover.id());
    }
    assert!(daemon.is_running(), "the server is still alive");
    let begun: Vec<String> = movers
        .iter()
        .flat_map(|mover| mover.journal())
        .filter(|step| step.step == "begun")
        .map(|step| step.fid)
        .collect();
    assert_eq!(
        (begun.len(), begun.iter().collect::<BTreeSet<_>>().len()),
        (100, 100),
        "nothing was begun twice"
    );
    daemon.wait_known(0);
}

/// 05: a mover is restarted, with the same id, while it processes data; everything is archived.
#[test]
fn row_05_mover_restart_while_busy() {
    let bed = Testbed::start("05");
    let daemon = start(&bed, &Settings::three_at_a_time());
    let gate = Gate::closed_for_all(&bed, "1");
    let mut mover = MoverSettings::new(&bed, "agent_1", MOVER_1).behind(&gate).start(&bed);
    let files = FileSet::create(&bed, 0..100);
    files.archive(&Request::default());
    bed.wait("the mover has begun three archives", || steps(&mover.journal(), "begun", "ARCHIVE").len() == 3);
    mover.stop();
    gate.open();
    mover.start_again();
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    daemon.wait_known(0);
}

/// 06: a mover is stopped while it processes data, and after the grace the other one finishes everything. The original
/// skips this row because it loses requests now and then.
#[test]
fn row_06_mover_stopped_while_busy() {
    let bed = Testbed::start("06");
    mover_gone_while_busy(&bed, |mover| {
        mover.stop();
    });
}

/// 06 with a mover that is killed.
#[test]
fn row_06_mover_killed_while_busy() {
    let bed = Testbed::start("06k");
    mover_gone_while_busy(&bed, |mover| mover.kill());
}

fn mover_gone_while_busy(bed: &Testbed, end: impl Fn(&mut Mover<'_>)) {
    let daemon = start(bed, &Settings::three_at_a_time().line("client_grace_ms 500"));
    let gate = Gate::closed_for_all(bed, "1");
    let mut first = MoverSettings::new(bed, "agent_1", MOVER_1).behind(&gate).start(bed);
    daemon.wait_mover("agent_1");
    let files = FileSet::create(bed, 0..100);
    files.archive(&Request::default());
    bed.wait("the first mover has begun three archives", || {
        steps(&first.journal(), "begun", "ARCHIVE").len() == 3
    });
    let second = MoverSettings::new(bed, "agent_2", MOVER_2).start(bed);
    bed.wait("the second mover is at work", || !steps(&second.journal(), "ended", "ARCHIVE").is_empty());

    end(&mut first);
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    assert_eq!(steps(&second.journal(), "begun", "ARCHIVE").len(), 100, "the second mover did all of it");
    assert!(steps(&first.journal(), "ended", "ARCHIVE").is_empty(), "the first mover ended nothing");
    daemon.wait_known(0);
}
