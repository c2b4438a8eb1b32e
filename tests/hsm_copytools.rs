//! Habits of copytools that know nothing of us, each end to end: an embedded Lustre, the daemon, and the copytool under
//! the `LD_PRELOAD` library. Habits are those of lhsmtool_posix, lhsmtool_phobos, lhsmtool_cmd and lemur.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;

use harness::ledger::Status;
use harness::{
    Control, Daemon, Faults, FileSet, Gate, Mover, MoverSettings, RELEASED, Request, Settings, Signal, Step,
    Testbed, TestbedSettings, processes_of,
};

fn steps<'a>(journal: &'a [Step], step: &str, action: &str) -> Vec<&'a Step> {
    journal.iter().filter(|entry| entry.step == step && entry.action == action).collect()
}

fn count(mover: &Mover<'_>, step: &str, action: &str) -> usize {
    steps(&mover.journal(), step, action).len()
}

/// Archives, releases, restores by request and by reading, and removes; everything must end well, once.
fn all_kinds(bed: &Testbed, settings: &Settings, mover: impl Fn(MoverSettings) -> MoverSettings) {
    let daemon = Daemon::start(bed, settings);
    let mut mover = mover(MoverSettings::new(bed, "agent_1", 1)).start(bed);
    daemon.wait_mover("agent_1");
    let files = FileSet::create(bed, 0..24);
    files.archive(&Request::data("tag=foo"));
    files.wait_archived();
    files.wait_ended();
    files.release();
    let readers: Vec<_> = (20..24).map(|number| bed.lustre().read(&files.path(number))).collect();
    files.part(0..20).restore(&Request::default());
    for (number, reader) in (20..24).zip(readers) {
        assert_eq!(reader.finish_text(), Ok(format!("foo.{number}\n")), "a blocked reader gets the data");
    }
    files.wait_restored();
    files.wait_ended();
    files.remove(&Request::default());
    files.wait_removed();
    files.wait_ended();
    for action in ["ARCHIVE", "RESTORE", "REMOVE"] {
        files.check_each_done_once(action);
    }
    daemon.wait_known(0);
    if mover.is_running() {
        mover.stop();
    }
}

/// One thread for each item, like lhsmtool_posix and lhsmtool_phobos.
#[test]
fn threads() {
    let bed = Testbed::start("threads");
    all_kinds(&bed, &Settings::new(), |mover| mover.argument("--threads").argument("32"));
}

/// A single thread, which asks for work only between items.
#[test]
fn a_single_thread() {
    let bed = Testbed::start("single");
    all_kinds(&bed, &Settings::new(), |mover| mover.argument("--threads").argument("1"));
}

/// Actions end in forked children, whose memory the registered process does not see.
#[test]
fn ends_in_forked_children() {
    let bed = Testbed::start("fork");
    all_kinds(&bed, &Settings::three_at_a_time(), |mover| mover.argument("--fork-per-action"));
}

/// Registered non-blocking, polling the descriptor of `llapi_hsm_copytool_get_fd` edge-triggered, and receiving until
/// EAGAIN, like lemur.
///
/// The C library answers `get_fd` with EINVAL, so lemur cannot run under it.
#[test]
fn polled_and_non_blocking() {
    let bed = Testbed::start("nonblock");
    all_kinds(&bed, &Settings::three_at_a_time(), |mover| mover.argument("--nonblock"));
}

/// lemur parses the data as JSON and so needs its exact length, which it gets because it registers non-blocking; others
/// get it padded with zeros to a multiple of 8, at least one, as they do from the C library.
#[test]
fn length_of_data() {
    let bed = Testbed::start("hai-len");
    let daemon = Daemon::start(&bed, &Settings::new());
    let exact = MoverSettings::new(&bed, "exact", 1).archives(&[1]).argument("--nonblock").start(&bed);
    let padded = MoverSettings::new(&bed, "padded", 2).archives(&[2]).start(&bed);
    daemon.wait_mover("exact");
    daemon.wait_mover("padded");
    let data = ["", "1", "1234567", "12345678", "123456789"];
    let files = FileSet::create(&bed, 0..10);
    for (number, data) in (0..).zip(data) {
        files.part(number..number + 1).archive(&Request { archive_id: Some(1), data: data.into() });
        files.part(number + 5..number + 6).archive(&Request { archive_id: Some(2), data: data.into() });
    }
    files.wait_archived();
    let lengths = |mover: &Mover<'_>| -> BTreeSet<(String, u32)> {
        steps(&mover.journal(), "received", "ARCHIVE")
            .iter()
            .map(|step| (step.text(), step.hai_len))
            .collect()
    };
    let expected = |lengths: [u32; 5]| -> BTreeSet<(String, u32)> {
        data.iter().map(|&text| text.to_owned()).zip(lengths).collect()
    };
    assert_eq!(lengths(&exact), expected([72, 73, 79, 80, 81]));
    let seen = lengths(&padded);
    for (text, length) in &seen {
        let bytes = 72 + text.len() as u32;
        assert!(length % 8 == 0 && *length >= bytes, "{text:?} has length {length}");
        assert!(text.is_empty() || *length > bytes, "{text:?} is followed by a zero: {length}");
    }
    assert_eq!(seen.len(), 5);
}

/// The copytool becomes a daemon before it registers: `fork`, `setsid`, parent gone.
#[test]
fn daemonised() {
    let bed = Testbed::start("daemon");
    let daemon = Daemon::start(&bed, &Settings::three_at_a_time());
    let mut mover = MoverSettings::new(&bed, "agent_1", 1).argument("--daemon").start(&bed);
    let status = mover.wait_end();
    assert!(status.success(), "the parent goes at once: {status}");
    daemon.wait_mover("agent_1");
    let files = FileSet::create(&bed, 0..10);
    files.archive(&Request::default());
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    assert!(processes_of(bed.directory()).len() >= 3, "daemon, embedded Lustre and the copytool are there");
}

/// A copytool that acknowledges the cancel itself and then ends the original as well, like lhsmtool_cmd.
///
/// The C library calls `abort()` when two ends arrive for one key: "SIGABRT, status 134; tree.c action_delete".
#[test]
fn double_acknowledgement() {
    let bed = Testbed::start("double");
    let daemon = Daemon::start(&bed, &Settings::new());
    let gate = Gate::closed_for_all(&bed, "1");
    let mut mover = MoverSettings::new(&bed, "agent_1", 1)
        .behind(&gate)
        .argument("--ack-cancel")
        .argument("--no-progress")
        .start(&bed);
    let files = FileSet::create(&bed, 0..6);
    files.archive(&Request::default());
    bed.wait("all have begun", || count(&mover, "begun", "ARCHIVE") == 6);
    files.part(0..3).cancel();
    bed.wait("the cancels were acknowledged", || count(&mover, "ended", "CANCEL") == 3);
    assert_eq!(files.archived(), 0, "that a cancel has succeeded makes no copy");
    gate.open();
    files.wait_ended();
    daemon.wait_known(0);
    daemon.wait_mover("agent_1");
    assert!(mover.is_running(), "it survived");
    assert_eq!(files.part(3..6).archived(), 3, "the others were archived");
    for entry in files.part(0..3).entries().iter().filter(|entry| entry.action == "ARCHIVE") {
        assert_eq!(entry.status, Status::Cancelled, "{entry:?}");
    }
    // And it goes on working.
    let more = FileSet::create(&bed, 10..14);
    more.archive(&Request::default());
    more.wait_archived();
}

/// A copytool that never answers a cancel, but sees ECANCELED at its next progress and gives up, like lhsmtool_posix.
#[test]
fn cancel_seen_at_progress() {
    let bed = Testbed::start("posix-cancel");
    let daemon = Daemon::start(&bed, &Settings::new());
    let gate = Gate::closed_for_all(&bed, "1");
    let mover = MoverSettings::new(&bed, "agent_1", 1)
        .behind(&gate)
        .argument("--progress-interval")
        .argument("1")
        .start(&bed);
    let files = FileSet::create(&bed, 0..2);
    files.archive(&Request::default());
    bed.wait("both have begun", || count(&mover, "begun", "ARCHIVE") == 2);
    files.part(0..1).cancel();
    bed.wait("the daemon passed the cancel on", || count(&mover, "received", "CANCEL") == 1);
    gate.open();
    files.wait_ended();
    daemon.wait_known(0);
    assert_eq!(files.archived(), 1, "the other one was archived");
    let status = daemon.status();
    assert_eq!(status["done_archive"], 1, "a cancelled archive is not a done one: {status}");
}

/// A copytool that neither answers a cancel nor reports progress, like lhsmtool_phobos: its end arrives in the end.
#[test]
fn cancel_ignored() {
    let bed = Testbed::start("phobos-cancel");
    let daemon = Daemon::start(&bed, &Settings::three_at_a_time());
    let gate = Gate::closed_for_all(&bed, "1");
    let mover = MoverSettings::new(&bed, "agent_1", 1).behind(&gate).argument("--no-progress").start(&bed);
    let files = FileSet::create(&bed, 0..8);
    files.archive(&Request::default());
    bed.wait("three have begun", || count(&mover, "begun", "ARCHIVE") == 3);
    files.cancel();
    bed.wait("the daemon knows what it cancelled", || count(&mover, "received", "CANCEL") == 3);
    gate.open();
    files.wait_ended();
    daemon.wait_known(0);
    assert_eq!(count(&mover, "begun", "ARCHIVE"), 3, "what waited was never handed out");
    // Its places are free again.
    let more = FileSet::create(&bed, 10..16);
    more.archive(&Request::default());
    more.wait_archived();
}

/// A copytool that drops an item without begin or end, because the file was unlinked while it was queued, like
/// lhsmtool_posix and lhsmtool_phobos on a failing `llapi_get_mdt_index_by_fid`. The place must not be lost for ever.
#[test]
fn early_return_without_an_end() {
    let bed = Testbed::start("early");
    let mut daemon = Daemon::start(&bed, &Settings::new().line("max_restore 1").line("begin_timeout_ms 300"));
    let mover = MoverSettings::new(&bed, "agent_1", 1).argument("--early-return-on-missing").start(&bed);
    let files = FileSet::create(&bed, 0..2);
    files.archive(&Request::default());
    files.wait_archived();
    files.wait_ended();
    files.release();
    daemon.lock(1);
    files.part(0..1).restore(&Request::default());
    daemon.wait_known(1);
    fs::remove_file(files.path(0)).unwrap();
    daemon.lock(0);
    bed.wait("the copytool dropped it", || count(&mover, "dropped", "RESTORE") == 1);
    // The library sees that it was never begun and that its file is gone, and reports it.
    let kept = files.part(1..2);
    kept.restore(&Request::default());
    kept.wait_restored();
    assert!(daemon.is_running());
}

/// A mover that is killed in the middle of a copy: its work is done by the one that takes its id, and no half-made copy is
/// left as if it were whole.
#[test]
fn killed_in_the_middle() {
    let bed = Testbed::start("killed");
    let daemon = Daemon::start(&bed, &Settings::three_at_a_time());
    let gate = Gate::closed_for_all(&bed, "1");
    let mut mover = MoverSettings::new(&bed, "agent_1", 1).behind(&gate).start(&bed);
    let files = FileSet::create(&bed, 0..20);
    files.archive(&Request::default());
    bed.wait("three have begun", || count(&mover, "begun", "ARCHIVE") == 3);
    for _ in 0..3 {
        let begun = count(&mover, "begun", "ARCHIVE");
        mover.kill();
        mover.start_again();
        bed.wait("three more have begun", || count(&mover, "begun", "ARCHIVE") >= begun + 3);
    }
    gate.open();
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    files.release();
    files.restore(&Request::default());
    files.wait_restored();
    daemon.wait_known(0);
}

/// The server goes away while the copytool copies, many times. SIGPIPE must not kill it.
///
/// The C library uses plain `write()`: "a server restart can kill the mover".
#[test]
fn server_restarts_in_transfers() {
    let bed = Testbed::start("restarts");
    let mut daemon = Daemon::start(&bed, &Settings::three_at_a_time());
    let mut movers: Vec<Mover<'_>> = [("agent_1", 1), ("agent_2", 2)]
        .map(|(id, mount)| {
            MoverSettings::new(&bed, id, mount).argument("--delay-ms").argument("20").start(&bed)
        })
        .into();
    let files = FileSet::create(&bed, 0..120);
    files.archive(&Request::default());
    // What is still in the pipe would die with the daemon.
    bed.wait("the daemon has them all", || {
        let status = daemon.status();
        let count = |key: &str| status[key].as_u64().unwrap_or(0);
        count("pending_archive") + count("running_archive") + count("done_archive") == 120
    });
    daemon.wait_stored();
    for part in 1..=4 {
        bed.wait("a part is archived", || files.archived() >= part * 20);
        if part % 2 == 0 {
            daemon.crash_and_restart();
        } else {
            daemon.restart();
        }
    }
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    for mover in &mut movers {
        assert!(mover.is_running(), "{} is still alive", mover.id());
    }
}

/// Cookies of 2^31 and more, and of 2^32 and more.
///
/// The C library packs the cookie of `done` as an int: such requests "never finish with C movers" (Lustre seeds cookies
/// from the seconds since 1970: this bites in 2038).
#[test]
fn long_cookies() {
    for first in [0x7fff_fffa, 0xffff_fffa, 0x1234_5678_9abc_def0] {
        let bed = TestbedSettings::new("cookies").first_cookie(first).start();
        let daemon = Daemon::start(&bed, &Settings::new());
        let _mover = MoverSettings::new(&bed, "agent_1", 1).start(&bed);
        let files = FileSet::create(&bed, 0..24);
        files.archive(&Request::default());
        files.wait_archived();
        files.wait_ended();
        files.check_each_done_once("ARCHIVE");
        files.release();
        files.restore(&Request::default());
        files.wait_restored();
        files.wait_ended();
        daemon.wait_known(0);
        let largest = files.entries().iter().map(|entry| entry.cookie).max().unwrap();
        assert!(largest > 0x8000_0000, "{largest:#x}");
    }
}

/// `lfs hsm_remove` of an unlinked file by FID has archive id 0: the MDT does not know where the copy is.
///
/// The C server dies of it ("assert abort, then redis recovery refuses to start").
#[test]
fn remove_of_an_unlinked_file() {
    let bed = TestbedSettings::new("unlinked").parameter("remove_archive_on_last_unlink=1").start();
    let mut daemon = Daemon::start(&bed, &Settings::new());
    let mover = MoverSettings::new(&bed, "agent_1", 1).start(&bed);
    let files = FileSet::create(&bed, 0..2);
    files.archive(&Request::default());
    files.wait_archived();
    files.wait_ended();
    let fids = files.fids();
    assert_eq!(mover.copies(), 2);
    // Queued while no work is handed out, so that it is seen in a store as well.
    daemon.lock(1);
    fs::remove_file(files.path(0)).unwrap();
    bed.lustre().remove_by_fid(&fids[0]);
    bed.wait("the daemon has the removes", || {
        let ledger = bed.lustre().ledger();
        let open =
            ledger.iter().filter(|entry| entry.action == "REMOVE" && !entry.has_ended()).count() as u64;
        open > 0 && daemon.status()["pending_remove"].as_u64() == Some(open)
    });
    daemon.wait_stored();
    daemon.crash_and_restart();
    bed.wait("the copy is removed", || mover.copies() == 1);
    bed.wait("all removes have ended", || {
        bed.lustre().ledger().iter().filter(|entry| entry.action == "REMOVE").all(|entry| entry.has_ended())
    });
    assert!(daemon.is_running());
}

/// Data that is not UTF-8 travels exactly.
///
/// The C server drops such a request: "non-UTF-8 data: request dropped (ENOMEM)".
#[test]
fn data_that_is_not_text() {
    let bed = Testbed::start("binary");
    let mut daemon = Daemon::start(&bed, &Settings::new());
    let files = FileSet::create(&bed, 0..3);
    let data: [&[u8]; 3] = [b"tag=\xff\xfe", b"\x80", "tag=\u{e9}".as_bytes()];
    for (number, data) in (0..).zip(data) {
        files.part(number..number + 1).archive(&Request::data(data));
    }
    daemon.wait_known(3);
    daemon.restart();
    let mover = MoverSettings::new(&bed, "agent_1", 1).argument("--nonblock").start(&bed);
    files.wait_archived();
    let seen: BTreeSet<Vec<u8>> =
        steps(&mover.journal(), "begun", "ARCHIVE").iter().map(|step| step.bytes()).collect();
    assert_eq!(seen, data.map(<[u8]>::to_vec).into());
}

/// A file that changes while it is archived: the MDT refuses the end with EBUSY, the mover's `done` says so, the place is
/// free, and a second request archives it.
#[test]
fn file_changed_while_archived() {
    let bed = Testbed::start("busy");
    let daemon = Daemon::start(&bed, &Settings::new().line("max_archive 1"));
    let gate = Gate::closed_for_all(&bed, "1");
    let mover = MoverSettings::new(&bed, "agent_1", 1).behind(&gate).start(&bed);
    let files = FileSet::create(&bed, 0..1);
    files.archive(&Request::default());
    bed.wait("it has begun", || count(&mover, "begun", "ARCHIVE") == 1);
    fs::OpenOptions::new().append(true).open(files.path(0)).unwrap().write_all(b"more\n").unwrap();
    gate.open();
    let entries = files.wait_ended();
    assert_eq!((entries.len(), entries[0].status), (1, Status::Failed), "{entries:?}");
    assert_eq!(entries[0].errno(), 16, "EBUSY: {entries:?}");
    assert_eq!(files.archived(), 0);
    daemon.wait_known(0);

    files.archive(&Request::default());
    files.wait_archived();
    let entries = files.wait_ended();
    assert_eq!(entries.iter().filter(|entry| entry.status == Status::Succeeded).count(), 1);
}

/// An MDT restarts while a restore runs: it sends the same request again, with the same cookie. The mover's end counts, the
/// reader gets the data, and nothing runs twice at the same time.
#[test]
fn mdt_restart_with_a_running_restore() {
    let bed = Testbed::start("mdt-restart");
    let daemon = Daemon::start(&bed, &Settings::three_at_a_time());
    let gate = Gate::open_for_all(&bed, "1");
    let first = MoverSettings::new(&bed, "agent_1", 1).behind(&gate).start(&bed);
    let files = FileSet::create(&bed, 0..4);
    files.archive(&Request::default());
    files.wait_archived();
    files.wait_ended();
    files.release();

    gate.close();
    let mut readers: Vec<_> = (0..4).map(|number| bed.lustre().read(&files.path(number))).collect();
    bed.wait("three restores have begun", || count(&first, "begun", "RESTORE") == 3);
    let delivered =
        || files.entries().iter().filter(|e| e.action == "RESTORE").map(|e| e.deliveries).sum::<usize>();
    let before = delivered();
    bed.lustre().restart_mdt(0);
    bed.lustre().restart_mdt(1);
    bed.wait("the restores were sent again", || delivered() >= before + 3);
    assert!(readers[0].is_blocked());
    gate.open();
    for (number, reader) in (0..4).zip(readers.drain(..)) {
        assert_eq!(reader.finish_text(), Ok(format!("foo.{number}\n")));
    }
    files.wait_restored();
    files.wait_ended();
    daemon.wait_known(0);
    assert!(files.states().iter().all(|state| state & RELEASED == 0));
}

/// The same, but the mover dies after the MDT sent the restore again: another mover does it.
///
/// The C server drops the duplicate of a running request and then forgets the running one: "request lost until the MDT
/// timeout".
#[test]
fn redelivered_restore_of_a_mover_that_dies() {
    let bed = Testbed::start("redelivery");
    let daemon = Daemon::start(&bed, &Settings::three_at_a_time());
    let gate = Gate::open_for_all(&bed, "1");
    let mut first = MoverSettings::new(&bed, "agent_1", 1).behind(&gate).start(&bed);
    let files = FileSet::create(&bed, 0..2);
    files.archive(&Request::default());
    files.wait_archived();
    files.wait_ended();
    files.release();
    gate.close();
    files.restore(&Request::default());
    bed.wait("the restores have begun", || count(&first, "begun", "RESTORE") == 2);
    bed.lustre().restart_mdt(0);
    bed.lustre().restart_mdt(1);
    bed.wait("the restores were sent again", || {
        files.entries().iter().filter(|entry| entry.action == "RESTORE").all(|entry| entry.deliveries >= 2)
    });
    let _second = MoverSettings::new(&bed, "agent_2", 2).start(&bed);
    daemon.wait_mover("agent_2");
    first.kill();
    files.wait_restored();
    files.wait_ended();
    daemon.wait_known(0);
}

/// A mover that is stopped (SIGSTOP) for longer than its grace and then goes on: what it held was given to another one,
/// and its late ends must not spoil that.
#[test]
fn a_mover_that_slept_through_its_grace() {
    let bed = Testbed::start("slept");
    let mut daemon = Daemon::start(&bed, &Settings::three_at_a_time());
    let gate = Gate::closed_for_all(&bed, "1");
    let mut first = MoverSettings::new(&bed, "agent_1", 1).behind(&gate).start(&bed);
    let files = FileSet::create(&bed, 0..12);
    files.archive(&Request::default());
    bed.wait("three have begun", || count(&first, "begun", "ARCHIVE") == 3);
    first.signal(Signal::STOP);
    // Its connection ends with the server, and it cannot make another one.
    daemon.restart();
    let _second = MoverSettings::new(&bed, "agent_2", 2).start(&bed);
    files.wait_archived();
    files.wait_ended();
    gate.open();
    first.signal(Signal::CONT);
    bed.wait("its late ends are over", || count(&first, "ended", "ARCHIVE") == 3);
    daemon.wait_mover("agent_1");
    files.check_each_done_once("ARCHIVE");
    files.release();
    files.restore(&Request::default());
    files.wait_restored();
    daemon.wait_known(0);
}

/// The MDT does not get the answer to a list and sends it again, as a resent RPC is: each request is done once.
#[test]
fn lists_that_come_twice() {
    let bed = Testbed::start("twice");
    let daemon = Daemon::start(&bed, &Settings::three_at_a_time());
    let faults = Faults { deliver_twice: 1000, ..Faults::default() };
    bed.lustre().client().command(&Control::Faults(faults), &[]).expect("faults can be set");
    let mover = MoverSettings::new(&bed, "agent_1", 1).start(&bed);
    let files = FileSet::create(&bed, 0..40);
    files.archive(&Request::default());
    files.wait_archived();
    files.wait_ended();
    bed.lustre().redeliver();
    let more = FileSet::create(&bed, 40..42);
    more.archive(&Request::default());
    more.wait_archived();
    files.check_each_done_once("ARCHIVE");
    daemon.wait_known(0);
    assert_eq!(count(&mover, "begun", "ARCHIVE"), 42, "each was begun once");
}
