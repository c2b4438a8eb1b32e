//! Rows 60 to 63: reporting files.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use harness::{Daemon, FileSet, Gate, MoverSettings, Request, Settings, Testbed};

use crate::transfers::normal_requests;
use crate::{MOVER_1, MOVER_2};

fn settings() -> Settings {
    Settings::new()
        .line("max_archive 3")
        .line("max_restore 3")
        .line("max_remove 3")
        .line("reporting_dir .reporting")
        .line("reporting_hint cr")
        .line("reporting_schedule_interval_ms 300")
}

fn report_path(bed: &Testbed, name: &str) -> PathBuf {
    bed.mount(0).join(".reporting").join(name)
}

/// How many lines of a report contain a word.
fn count(bed: &Testbed, name: &str, word: &str) -> usize {
    let text = std::fs::read_to_string(report_path(bed, name)).unwrap_or_default();
    text.lines().filter(|line| line.contains(word)).count()
}

/// 60: what is new and what was sent where is reported; the file stays while requests with its name are there, and goes
/// when the last one has ended.
#[test]
fn row_60_reporting() {
    let bed = Testbed::start("60");
    let daemon = Daemon::start(&bed, &settings());
    let (gate_1, gate_2) = (Gate::closed_for_all(&bed, "1"), Gate::closed_for_all(&bed, "2"));
    let _first = MoverSettings::new(&bed, "agent_1", MOVER_1).behind(&gate_1).start(&bed);
    daemon.wait_mover("agent_1");
    let files = FileSet::create(&bed, 0..13);
    let (early, late) = (files.part(0..5), files.part(10..13));
    early.archive(&Request::data("cr=report00"));
    bed.wait("three requests are sent to agent_1", || count(&bed, "report00", "agent_1") == 3);
    let _second = MoverSettings::new(&bed, "agent_2", MOVER_2).behind(&gate_2).start(&bed);
    bed.wait("the others are sent to agent_2", || count(&bed, "report00", "agent_2") == 2);
    late.archive(&Request::data("foo,cr=report01,bar"));
    bed.wait("one of three more is sent to agent_2", || {
        count(&bed, "report01", "new") == 3 && count(&bed, "report01", "agent_2") == 1
    });
    daemon.wait_known(8);
    assert_eq!(count(&bed, "report00", "new"), 5);
    assert_eq!((count(&bed, "report00", "agent_1"), count(&bed, "report00", "agent_2")), (3, 2));
    assert_eq!((count(&bed, "report01", "agent_1"), count(&bed, "report01", "agent_2")), (0, 1));

    gate_2.open();
    late.wait_archived();
    bed.wait("the second report is removed", || !report_path(&bed, "report01").exists());
    assert!(report_path(&bed, "report00").exists(), "agent_1 is still at work");

    gate_1.open();
    early.wait_archived();
    bed.wait("the first report is removed", || !report_path(&bed, "report00").exists());
}

/// 61: row 01 with reporting.
#[test]
fn row_61_normal_requests_with_reporting() {
    let bed = Testbed::start("61");
    normal_requests(&bed, &settings(), &Request::data("cr=report01"));
}

/// 62: a name may be used again while its report is there, and each goes in the end.
#[test]
fn row_62_names_are_used_again() {
    let bed = Testbed::start("62");
    let daemon = Daemon::start(&bed, &settings());
    let _first = MoverSettings::new(&bed, "agent_1", MOVER_1).start(&bed);
    let _second = MoverSettings::new(&bed, "agent_2", MOVER_2).start(&bed);
    let files = FileSet::create(&bed, 0..40);
    files.part(0..10).archive(&Request::data("cr=report01"));
    files.part(10..20).archive(&Request::data("cr=report02,foo"));
    files.part(20..30).archive(&Request::data("foo,cr=report01,test"));
    files.part(0..30).wait_archived();
    files.part(30..40).archive(&Request::data("bar,cr=report01"));
    files.wait_archived();
    files.wait_ended();
    daemon.wait_known(0);
    bed.wait("both reports are removed", || {
        !report_path(&bed, "report01").exists() && !report_path(&bed, "report02").exists()
    });
}

/// 63: while restores wait their progress is reported again and again; in the end each is reported as done.
#[test]
fn row_63_progress_of_restores() {
    let bed = Testbed::start("63");
    let _daemon = Daemon::start(&bed, &settings());
    let gate = Gate::open_for_all(&bed, "1");
    let _mover = MoverSettings::new(&bed, "agent_1", MOVER_1).behind(&gate).start(&bed);
    let files = FileSet::create(&bed, 0..10);
    files.archive(&Request::default());
    files.wait_archived();
    files.wait_ended();

    gate.close();
    files.release();
    files.restore(&Request::data("foo,cr=report00,bar"));
    bed.wait("three are sent, and more lines of progress than requests", || {
        count(&bed, "report00", "sent") == 3 && count(&bed, "report00", "progress") > 10
    });
    assert_eq!((count(&bed, "report00", "new"), count(&bed, "report00", "sent")), (10, 3));

    // Held open it can be read after it was removed.
    let mut report = File::open(report_path(&bed, "report00")).unwrap();
    gate.open();
    files.wait_restored();
    bed.wait("the report is removed", || !report_path(&bed, "report00").exists());
    let mut text = String::new();
    report.seek(SeekFrom::Start(0)).unwrap();
    report.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("done ")).count(), 10, "{text}");
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(words[1].starts_with("[0x") && words[1].ends_with(']'), "{line}");
        match words[..] {
            ["new", _] => {}
            ["sent", _, mover] | ["assign", _, mover] => assert_eq!(mover, "agent_1"),
            ["done", _, status] => assert_eq!(status, "0"),
            ["progress", _, queue, place] => {
                assert!(["agent_1", "global_queue"].contains(&queue), "{line}");
                let (position, total) = place.split_once('/').expect("a position of a total");
                assert!(position.parse::<u32>().unwrap() <= total.parse::<u32>().unwrap(), "{line}");
            }
            _ => panic!("a line that the original does not write: {line}"),
        }
    }
}
