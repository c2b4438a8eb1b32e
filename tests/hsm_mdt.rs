//! Requests that wait for long, MDTs that restart or go away, and what a crash loses: nothing is lost, run twice or timed
//! out. The whole system on the embedded Lustre, judged by its MDTs' ledgers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use harness::ledger::{Entry, Status};
use harness::{
    Control, Daemon, FileSet, Gate, Mover, MoverSettings, Request, Settings, Signal, Testbed,
    TestbedSettings, write_program,
};

fn count(mover: &Mover<'_>, step: &str, action: &str) -> usize {
    mover.journal().iter().filter(|entry| entry.step == step && entry.action == action).count()
}

/// A `reconcile_command` that asks the MDTs for these parameters, as `ssh MDS lctl get_param` does.
fn asks_the_mdts(bed: &Testbed, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("mdt.*.hsm.{name}")).collect();
    let lustre_sim = bed.programs().path("lustre-sim");
    let mount = bed.mount(0).display();
    format!("reconcile_command {} -C {mount} get-param {}", lustre_sim.display(), names.join(" "))
}

/// The daemon keeps requests alive by the MDTs' own timeout.
fn kept_alive(bed: &Testbed) -> Settings {
    Settings::new()
        .line(asks_the_mdts(bed, &["active_request_timeout"]))
        .line("settle_ms 0")
        .line("archive_id 1")
}

/// A copytool that knows nothing of the daemon and neither ends nor reports anything: what it was given times out. It shows
/// that the MDTs' timeout has passed.
fn idler<'bed>(bed: &'bed Testbed, gate: &Gate) -> Mover<'bed> {
    let mover = MoverSettings::new(bed, "idler", 3).without_library().archives(&[9]).behind(gate);
    let mover = mover.argument("--no-progress").start(bed);
    bed.wait("it is registered", || bed.lustre().agents() == 2 * bed.mdts());
    mover
}

fn times_out(bed: &Testbed, files: &FileSet<'_>) {
    files.archive(&Request::archive(9));
    bed.wait("the MDT gives up on what nobody keeps alive", || {
        let entries = files.entries();
        !entries.is_empty() && entries.iter().all(|entry| entry.status == Status::Cancelled)
    });
}

/// The kernel keeps a registration for a moment after its process was killed. The C version ends then, and so does its unit
/// after five such starts.
#[test]
fn a_registration_that_is_in_the_way_is_waited_for() {
    let bed = TestbedSettings::new("mdt-registered").start();
    let before = MoverSettings::new(&bed, "before", 0).without_library().archives(&[9]).start(&bed);
    bed.wait("it is registered", || bed.lustre().agents() == bed.mdts());
    let mut daemon = Daemon::start(&bed, &Settings::new());
    let mover = MoverSettings::new(&bed, "m1", 1).archives(&[1]).start(&bed);
    bed.wait("movers are served meanwhile", || {
        bed.status().is_some_and(|status| status["clients"].to_string().contains("\"m1\""))
    });
    // A stop must leave alone what is not its own.
    daemon.stop();
    assert_eq!(bed.lustre().agents(), bed.mdts());
    daemon.start_again();
    let complaints = || daemon.log().matches("another copytool is registered through this mount").count();
    bed.wait("it waits again", || complaints() == 2);
    let files = FileSet::create(&bed, 0..2);
    files.archive(&Request::archive(1));
    drop(before);
    bed.wait("what waits at the MDTs comes once the other is gone", || {
        files.entries().iter().filter(|entry| entry.status == Status::Succeeded).count() == 2
    });
    assert_eq!(complaints(), 2, "once a start: {}", daemon.log());
    drop(mover);
}

/// One request of each file and action has ended well, and only one.
fn check_done_once(entries: &[Entry]) {
    let mut done: BTreeMap<(&str, &str), Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        done.entry((&entry.fid, &entry.action)).or_default().push(entry);
    }
    for (what, entries) in done {
        let well = entries.iter().filter(|entry| entry.status == Status::Succeeded).count();
        assert_eq!(well, 1, "{what:?}: {entries:?}");
        assert!(entries.iter().all(|entry| entry.accepted_ends <= 1), "{what:?}: {entries:?}");
    }
}

/// The pain of the C version: a request that waits longer than `active_request_timeout` is gone. A mover that never reports
/// progress (phobos) is no different.
#[test]
fn what_waits_or_runs_for_long_is_not_timed_out() {
    let bed = TestbedSettings::new("mdt-timeout").parameter("active_request_timeout=2").start();
    let daemon = Daemon::start(&bed, &kept_alive(&bed).line("max_archive 2"));
    let gate = Gate::closed_for_all(&bed, "1");
    let _idler = idler(&bed, &gate);
    let mover = MoverSettings::new(&bed, "agent_1", 1).behind(&gate).argument("--no-progress").start(&bed);
    daemon.wait_mover("agent_1");
    let files = FileSet::create(&bed, 0..10);
    files.archive(&Request::archive(1));
    bed.wait("two run, eight wait", || count(&mover, "begun", "ARCHIVE") == 2);
    for number in [20, 21] {
        times_out(&bed, &FileSet::create(&bed, number..number + 1));
    }
    for entry in files.entries() {
        assert_eq!(entry.status, Status::Started, "{entry:?}");
        assert!(entry.progress > 0, "{entry:?}");
    }
    gate.open();
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    daemon.wait_known(0);
}

/// A user's cancel of what waits here comes through the pipe and ends both.
#[test]
fn a_user_cancels_what_waits() {
    let bed = Testbed::start("mdt-cancel");
    let daemon = Daemon::start(&bed, &Settings::new());
    let files = FileSet::create(&bed, 0..6);
    files.archive(&Request::default());
    daemon.wait_known(6);
    files.part(0..4).cancel();
    daemon.wait_known(2);
    let entries = files.part(0..4).wait_ended();
    assert_eq!(entries.len(), 8, "four requests and their cancels: {entries:?}");
    let mover = MoverSettings::new(&bed, "agent_1", 1).start(&bed);
    files.part(4..6).wait_archived();
    files.wait_ended();
    assert_eq!((files.archived(), count(&mover, "begun", "ARCHIVE")), (2, 2));
}

/// Both MDTs restart while archives, removes and restores wait, two of the restores with somebody who reads. Archives and
/// removes are forgotten there, restores are sent again.
#[test]
fn what_waited_while_mdts_restarted_is_done_once() {
    let bed = TestbedSettings::new("mdt-restart").parameter("active_request_timeout=20").start();
    let daemon = Daemon::start(&bed, &kept_alive(&bed));
    let _mover = MoverSettings::new(&bed, "agent_1", 1).start(&bed);
    daemon.wait_mover("agent_1");
    let (old, new) = (FileSet::create(&bed, 0..12), FileSet::create(&bed, 12..18));
    old.archive(&Request::archive(1));
    old.wait_archived();
    old.wait_ended();
    let (restored, removed) = (old.part(0..6), old.part(6..12));
    restored.release();
    daemon.lock(1);
    let readers: Vec<_> = (0..2).map(|number| bed.lustre().read(&restored.path(number))).collect();
    old.part(2..6).restore(&Request::default());
    removed.remove(&Request::default());
    new.archive(&Request { archive_id: Some(1), data: b"tag=a long one".to_vec() });
    daemon.wait_known(18);
    bed.lustre().restart_mdt(0);
    bed.lustre().restart_mdt(1);
    bed.wait("the MDTs have them again, with all of their data", || {
        let entries = new.entries();
        let again = entries.iter().filter(|entry| entry.status == Status::Started).count();
        again >= 12 && entries.iter().all(|entry| entry.data == b"tag=a long one")
    });
    daemon.wait_known(18);
    daemon.lock(0);
    for (number, reader) in (0..2).zip(readers) {
        assert_eq!(reader.finish_text(), Ok(format!("foo.{number}\n")), "who waits gets the data");
    }
    restored.wait_restored();
    removed.wait_removed();
    new.wait_archived();
    daemon.wait_known(0);
    check_done_once(&old.entries());
    check_done_once(&new.entries());
}

/// They restart while requests run: the movers' ends come to nothing, and the work is asked for again.
#[test]
fn what_ran_while_mdts_restarted_is_done_in_the_end() {
    let bed = TestbedSettings::new("mdt-running").parameter("active_request_timeout=20").start();
    let daemon = Daemon::start(&bed, &kept_alive(&bed));
    let gate = Gate::open_for_all(&bed, "1");
    let mover = MoverSettings::new(&bed, "agent_1", 1).behind(&gate).start(&bed);
    daemon.wait_mover("agent_1");
    let (old, new) = (FileSet::create(&bed, 0..8), FileSet::create(&bed, 8..12));
    old.archive(&Request::archive(1));
    old.wait_archived();
    old.wait_ended();
    let (restored, removed) = (old.part(0..4), old.part(4..8));
    restored.release();
    gate.close();
    let reader = bed.lustre().read(&restored.path(0));
    restored.part(1..4).restore(&Request::default());
    removed.remove(&Request::default());
    new.archive(&Request::archive(1));
    let begun = |action| count(&mover, "begun", action);
    bed.wait("all have begun", || (begun("RESTORE"), begun("REMOVE"), begun("ARCHIVE")) == (4, 4, 12));
    bed.lustre().restart_mdt(0);
    bed.lustre().restart_mdt(1);
    gate.open();
    assert_eq!(reader.finish_text(), Ok("foo.0\n".to_owned()), "who waits gets the data");
    restored.wait_restored();
    new.wait_archived();
    daemon.wait_known(0);
    check_done_once(&restored.entries());
    check_done_once(&new.entries());
    // The copies went with the first attempt: the daemon ends the second without a mover, and no file is called archived
    // that has no copy, which a release would destroy.
    assert_eq!(mover.copies(), restored.len() + new.len());
    assert_eq!(count(&mover, "begun", "REMOVE"), removed.len());
    removed.wait_removed();
    check_done_once(&removed.entries());
}

/// An MDT that is away blocks each call on it; the others' requests flow, and its own are there when it is back.
#[test]
fn an_mdt_that_is_away_blocks_nothing_else() {
    let bed = TestbedSettings::new("mdt-away").parameter("active_request_timeout=2").start();
    let daemon = Daemon::start(&bed, &kept_alive(&bed));
    let away = FileSet::create(&bed, 0..20);
    let odd: Vec<FileSet<'_>> = (0..20).filter(|n| n % 2 == 1).map(|n| away.part(n..n + 1)).collect();
    odd.iter().for_each(|file| file.archive(&Request::archive(1)));
    daemon.wait_known(10);
    let client = bed.lustre().client();
    client.command(&Control::StopMdt { index: 1 }, &[]).unwrap();
    bed.wait("keepalives wait for the MDT", || client.status().unwrap().blocked_calls >= 2);
    let _mover = MoverSettings::new(&bed, "agent_1", 1).argument("--threads").argument("64").start(&bed);
    for number in [30, 32, 34] {
        let file = FileSet::create(&bed, number..number + 1);
        file.archive(&Request::archive(1));
        file.wait_archived();
    }
    assert!(client.status().unwrap().mdts.iter().any(|mdt| !mdt.up), "it still is away");
    client.command(&Control::StartMdt { index: 1 }, &[]).unwrap();
    odd.iter().for_each(FileSet::wait_archived);
    daemon.wait_known(0);
    odd.iter().for_each(|file| check_done_once(&file.entries()));
}

/// A daemon that stands still does not read the pipe; killed then, it has lost what the MDTs handed over.
fn lose(bed: &Testbed, daemon: &mut Daemon<'_>, files: &FileSet<'_>) {
    daemon.signal(Signal::STOP);
    files.archive(&Request { archive_id: Some(1), data: b"tag=a".to_vec() });
    bed.wait("the MDTs have handed them over", || {
        let entries = files.entries();
        entries.len() == files.len() && entries.iter().all(|entry| entry.status == Status::Started)
    });
    daemon.kill();
}

/// What dies between the pipe and the store is found when the daemon starts again.
#[test]
fn what_a_crash_loses_between_pipe_and_store_is_found() {
    let bed = Testbed::start("mdt-gap");
    let lists = asks_the_mdts(&bed, &["active_requests"]);
    let mut daemon =
        Daemon::start(&bed, &Settings::new().line(lists).line("settle_ms 0").line("reconcile_adopt all"));
    let files = FileSet::create(&bed, 0..40);
    lose(&bed, &mut daemon, &files);
    let _mover = MoverSettings::new(&bed, "agent_1", 1).start(&bed);
    daemon.start_again();
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    daemon.wait_known(0);
}

/// The same from a file of `hsm/actions`, once SIGHUP has told of it; and nothing comes of a listing that is cut off.
#[test]
fn a_listing_in_a_file_is_taken_up_if_it_is_whole() {
    let bed = Testbed::start("mdt-file");
    let mut daemon = Daemon::start(&bed, &Settings::new());
    let files = FileSet::create(&bed, 0..40);
    lose(&bed, &mut daemon, &files);
    let _mover = MoverSettings::new(&bed, "agent_1", 1).start(&bed);
    daemon.start_again();
    daemon.wait_mover("agent_1");
    let listing = bed.lustre().parameter_text("hsm.actions");
    let path: PathBuf = bed.directory().join("actions.txt");
    let settings =
        Settings::new().line("reconcile_adopt all").line(format!("reconcile_command cat {}", path.display()));
    std::fs::write(&path, &listing[..listing.len() - 40]).unwrap();
    bed.configure(&settings);
    daemon.signal(Signal::HUP);
    bed.wait("the daemon says why not", || daemon.log().contains("cut off"));

    // A command that fails has printed nothing that counts.
    let failing = bed.directory().join("failing.sh");
    write_program(
        &failing,
        &format!("#!/bin/sh\ncat {}\necho no route to host >&2\nexit 255\n", path.display()),
    );
    std::fs::write(&path, &listing).unwrap();
    bed.configure(
        &Settings::new().line("reconcile_adopt all").line(format!("reconcile_command {}", failing.display())),
    );
    daemon.signal(Signal::HUP);
    bed.wait("it ran", || daemon.log().matches("exit status: 255").count() > 0);
    assert_eq!(files.archived(), 0);

    bed.configure(&settings);
    daemon.signal(Signal::HUP);
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
}
