//! Rows 07, 10, 11, 13 and 15: which mover gets what.

use std::collections::BTreeSet;

use harness::{Daemon, FileSet, Gate, Mover, MoverSettings, Request, Settings, Testbed};

use crate::{MOVER_1, MOVER_2, steps};

/// The mappings of the original's rows 10, 11 and 13.
fn mappings() -> Settings {
    Settings::new()
        .line("client_grace_ms 1000")
        .line("archive_on_hosts tag=n0 agent_0")
        .line("archive_on_hosts tag=n1 agent_1 agent_2")
        .line("archive_on_hosts tag=n2 agent_3 agent_4")
        .line("archive_on_hosts_ch grouping= 0 agent_0 agent_1 agent_2")
}

fn start<'bed>(
    bed: &'bed Testbed,
    daemon: &Daemon<'_>,
    numbers: &[usize],
    gate: Option<&Gate>,
) -> Vec<Mover<'bed>> {
    let movers = numbers
        .iter()
        .map(|&number| {
            let mut settings = MoverSettings::new(bed, &format!("agent_{number}"), number).own_archive(bed);
            if let Some(gate) = gate {
                settings = settings.behind(gate);
            }
            settings.start(bed)
        })
        .collect();
    for number in numbers {
        daemon.wait_mover(&format!("agent_{number}"));
    }
    movers
}

/// The distinct data of what a mover has begun to archive.
fn tags(mover: &Mover<'_>) -> BTreeSet<String> {
    steps(&mover.journal(), "begun", "ARCHIVE").iter().map(|step| step.text()).collect()
}

/// 07: a mover of archives 2 and 3 gets nothing of archive 1, one of archive 1 does.
#[test]
fn row_07_movers_get_their_archives_only() {
    let bed = Testbed::start("07");
    let daemon = Daemon::start(&bed, &Settings::three_at_a_time());
    let first = MoverSettings::new(&bed, "agent_1", MOVER_1).archives(&[2, 3]).start(&bed);
    daemon.wait_mover("agent_1");
    let files = FileSet::create(&bed, 1..6);
    files.archive(&Request::default());
    daemon.wait_known(5);
    // A request that it may have passes the others by.
    let other = FileSet::create(&bed, 6..7);
    other.archive(&Request::archive(3));
    other.wait_archived();
    daemon.wait_mover("agent_1");
    assert_eq!(files.states(), [1; 5], "they exist, and that is all");

    let _second = MoverSettings::new(&bed, "agent_2", MOVER_2).archives(&[1]).start(&bed);
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    assert_eq!(steps(&first.journal(), "received", "ARCHIVE").len(), 1);
}

/// 10: `archive_on_hosts` sends tagged archives to their hosts.
#[test]
fn row_10_archive_on_hosts() {
    let bed = Testbed::start("10");
    let daemon = Daemon::start(&bed, &mappings());
    let movers = start(&bed, &daemon, &[0, 1, 2, 3], None);
    let files = FileSet::create(&bed, 0..60);
    files.part(0..20).archive(&Request::data("tag=n0"));
    files.part(20..40).archive(&Request::data("ignored,tag=n1"));
    files.part(40..60).archive(&Request::data("tag=n2,ignored"));
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    assert_eq!(movers[0].copies(), 20);
    assert_eq!(movers[1].copies() + movers[2].copies(), 20);
    assert_eq!(movers[3].copies(), 20);
}

/// 11: of three busy movers one stops and one is restarted: the work of the first moves to the other host of its mapping
/// after the grace, that of the second stays, and what is mapped to a host that never came is held.
#[test]
fn row_11_restarts_with_pending_work() {
    let bed = Testbed::start("11");
    let daemon = Daemon::start(&bed, &mappings());
    let gate = Gate::closed_for_all(&bed, "all");
    let mut movers = start(&bed, &daemon, &[1, 2, 3], Some(&gate));
    let files = FileSet::create(&bed, 100..160);
    let (held, moved, kept) = (files.part(100..120), files.part(120..140), files.part(140..160));
    held.archive(&Request::data("tag=n0"));
    moved.archive(&Request::data("ignored,tag=n1"));
    kept.archive(&Request::data("tag=n2,ignored"));
    daemon.wait_known(60);
    bed.wait("both mappings with movers have begun", || {
        steps(&movers[2].journal(), "begun", "ARCHIVE").len() == 20
            && movers[..2]
                .iter()
                .map(|mover| steps(&mover.journal(), "begun", "ARCHIVE").len())
                .sum::<usize>()
                == 20
    });

    movers[0].stop();
    movers[2].restart();
    gate.open();
    moved.wait_archived();
    kept.wait_archived();
    moved.wait_ended();
    kept.wait_ended();
    moved.check_each_done_once("ARCHIVE");
    kept.check_each_done_once("ARCHIVE");
    assert_eq!(held.archived(), 0, "held until agent_0 comes");
    daemon.wait_known(20);
    assert_eq!(movers[0].copies(), 0);
    assert_eq!(movers[1].copies(), 20);
    assert_eq!(movers[2].copies(), 20);
}

/// 13: `archive_on_hosts_ch` with 0 keeps the value and always gives it to the same host, present or not.
#[test]
fn row_13_archive_on_hosts_ch() {
    let bed = Testbed::start("13");
    let daemon = Daemon::start(&bed, &mappings());
    let mut movers = start(&bed, &daemon, &[1, 2], None);
    let files = FileSet::create(&bed, 0..60);
    for test in 0..3 {
        files.part(test * 20..test * 20 + 20).archive(&Request::data(format!("grouping=test{test}")));
    }
    movers[0].restart();
    files.part(20..60).wait_archived();
    daemon.wait_known(20);
    assert_eq!(files.part(0..20).archived(), 0, "the first value is agent_0's, which is not there");
    assert_eq!(tags(&movers[0]), BTreeSet::from(["grouping=test1".to_owned()]));
    assert_eq!(tags(&movers[1]), BTreeSet::from(["grouping=test2".to_owned()]));

    let late = start(&bed, &daemon, &[0], None);
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    assert_eq!(tags(&late[0]), BTreeSet::from(["grouping=test0".to_owned()]));
    assert_eq!(late[0].copies(), 20);
}

/// 15: `archive_on_hosts_ch` with 10 replaces the value by its hash modulo 10, in what the mover sees, and chooses the
/// host by the hash of that.
#[test]
fn row_15_archive_on_hosts_ch_rewrites_the_value() {
    let bed = Testbed::start("15");
    let daemon = Daemon::start(
        &bed,
        &Settings::new().line("archive_on_hosts_ch grouping= 10 agent_0 agent_1 agent_2"),
    );
    let movers = start(&bed, &daemon, &[0, 1, 2], None);
    let files = FileSet::create(&bed, 0..60);
    for test in 0..3 {
        files.part(test * 20..test * 20 + 20).archive(&Request::data(format!("grouping=test{test}")));
    }
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    // djb2: test0, test1, test2 are 7, 8, 9 modulo 10, and those are 1, 2, 0 modulo 3.
    for (host, value) in [(1, 7), (2, 8), (0, 9)] {
        assert_eq!(tags(&movers[host]), BTreeSet::from([format!("grouping={value}")]), "agent_{host}");
        assert_eq!(movers[host].copies(), 20);
    }
}
