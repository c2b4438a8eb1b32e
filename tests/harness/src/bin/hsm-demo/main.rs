//! The main job on one machine, without Lustre: an embedded Lustre with two MDTs hands requests to the daemon, two
//! movers run a copytool that knows nothing of us under the `LD_PRELOAD` library, and requests captured from a real
//! Lustre are queued and dispatched. Ends with a summary that proves each file's content and each request's end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod progress;
mod summary;

use std::path::PathBuf;
use std::process::ExitCode;

use harness::captured::{self, Captured};
use harness::{Ask, Daemon, Gate, MoverSettings, RELEASED, Request, Settings, Testbed, patience, poll};
use progress::Phase;
use summary::{Expected, Row, digests};

/// Files of the demo itself, half of them on each MDT.
const FILES: usize = 36;

fn main() -> ExitCode {
    if std::env::args().len() > 1 {
        eprintln!(
            "Usage: hsm-demo\nTakes no arguments. Set COORDINATOOL_KEEP_LOGS=1 to keep its files and logs."
        );
        return ExitCode::from(2);
    }
    let phase = Phase::begin("Embedded Lustre with two MDTs and three mounts", 1);
    let bed = Captured::testbed("demo").mounts(3).start();
    phase.end(&format!("in {}", bed.directory().display()));

    let rows = run(&bed);

    let wrong = summary::print(bed.mount(0), &rows, &bed.lustre().ledger());
    let requests: usize = rows.iter().map(|row| row.requests).sum();
    if wrong.is_empty() {
        println!(
            "\nAll right: {} files have the content they were written with, {requests} requests have ended as they should.",
            rows.len()
        );
        ExitCode::SUCCESS
    } else {
        println!("\n{} things are wrong:", wrong.len());
        for line in wrong {
            println!("  {line}");
        }
        ExitCode::FAILURE
    }
}

fn run(bed: &Testbed) -> Vec<Row> {
    let mut rows = Vec::new();
    let mover = |number: usize| MoverSettings::new(bed, &format!("mover{number}"), number).archives(&[1, 2]);

    let mut phase = Phase::begin("The requests of a real Lustre, made again", 8);
    let captured = Captured::rebuild(bed, &mover(1));
    phase.show(8);
    phase.end("8 handed to a daemon without a store, which was killed");
    let written: Vec<PathBuf> = captured.paths().to_vec();
    let fids = bed.lustre().fids(&written);

    let phase = Phase::begin("The daemon with its store", 1);
    let daemon = Daemon::start(bed, &Settings::three_at_a_time());
    phase.end(&format!("listens on {}", daemon.address()));

    let mut phase = Phase::begin("coordinatool-client -Q on what it had printed", 8);
    let output = bed.client(&["-Q"], captured::ACTIONS);
    assert!(output.status.success(), "coordinatool-client -Q: {output:?}");
    daemon.wait_known(8);
    phase.show(8);
    phase.end("8 queued");

    let phase = Phase::begin("Two movers", 2);
    let gate = Gate::open_for_all(bed, "2");
    let first = mover(1).start(bed);
    let second = mover(2).behind(&gate).start(bed);
    daemon.wait_mover(first.id());
    daemon.wait_mover(second.id());
    phase.end("wait for work");

    let mut phase = Phase::begin("The captured requests, dispatched", 14);
    wait_ended(bed, &mut phase, 14);
    phase.end("all ended");
    // f: archived and restored; r1, r2: archived and restored; r3: archived; m1: archived and removed; a1..a4, b1: archived.
    for ((path, fid), requests) in written.iter().zip(fids).zip([2, 2, 2, 1, 2, 1, 1, 1, 1, 1]) {
        let content = Captured::content(path);
        let copy = bed.directory().join("expected");
        std::fs::write(&copy, content).expect("a file can be written");
        let before = digests(&[copy]).remove(0);
        rows.push(Row { path: path.clone(), fid, before, expected: Expected::Success, requests });
    }

    main_job(bed, &daemon, &mut rows);
    cancel_one(bed, &daemon, &mut rows);

    let phase = Phase::begin("Stopping the movers and the daemon", 1);
    drop((first, second));
    let mut daemon = daemon;
    daemon.stop();
    phase.end("stopped");
    rows
}

/// Archives, releases, restores (half by reading, half by request) and removes.
fn main_job(bed: &Testbed, daemon: &Daemon<'_>, rows: &mut Vec<Row>) {
    let lustre = bed.lustre();
    let mut phase = Phase::begin("Files on both MDTs", FILES);
    let mut paths = Vec::new();
    for mdt in 0..bed.mdts() {
        lustre.make_directory(&format!("data{mdt}"), mdt);
    }
    for number in 0..FILES {
        let path = bed.mount(0).join(format!("data{}/file{number:02}", number % bed.mdts()));
        std::fs::write(&path, content(number)).expect("a file can be written");
        paths.push(path);
        phase.show(number + 1);
    }
    let before = digests(&paths);
    phase.end(&format!("{FILES} written"));

    let states = || lustre.hsm_states(&paths);
    let ended = lustre.ledger().len();
    let mut phase = Phase::begin("Archive", FILES);
    lustre.request(Ask::Archive, &paths, &Request::data("tag=demo"));
    wait_ended(bed, &mut phase, ended + FILES);
    phase.end("all copied by the movers");

    let phase = Phase::begin("Release", FILES);
    lustre.request(Ask::Release, &paths, &Request::default());
    let released = states().iter().filter(|state| state.flags & RELEASED != 0).count();
    assert_eq!(released, FILES, "all files are released");
    phase.end("their data is in the archive only");

    let (by_reading, by_request) = paths.split_at(FILES / 3);
    let mut phase = Phase::begin("Restore by blocked readers", by_reading.len());
    let readers: Vec<_> = by_reading.iter().map(|path| lustre.read(path)).collect();
    for (number, reader) in readers.into_iter().enumerate() {
        let read = reader.finish().unwrap_or_else(|error| panic!("a reader failed: {error}"));
        assert_eq!(read, content(number), "a reader got other data than was written");
        phase.show(number + 1);
    }
    phase.end("they have read what was written");

    let mut phase = Phase::begin("Restore by request", by_request.len());
    let ended = lustre.ledger().iter().filter(|entry| entry.has_ended()).count();
    lustre.request(Ask::Restore, by_request, &Request::default());
    wait_ended(bed, &mut phase, ended + by_request.len());
    phase.end("all restored");

    let removed = &paths[..FILES / 4];
    let mut phase = Phase::begin("Remove", removed.len());
    let ended = lustre.ledger().len();
    lustre.request(Ask::Remove, removed, &Request::default());
    wait_ended(bed, &mut phase, ended + removed.len());
    phase.end("their copies are gone");
    daemon.wait_known(0);

    let fids = lustre.fids(&paths);
    for (number, ((path, fid), before)) in paths.into_iter().zip(fids).zip(before).enumerate() {
        let requests = if number < FILES / 4 { 3 } else { 2 };
        rows.push(Row { path, fid, before, expected: Expected::Success, requests });
    }
}

/// Cancels an archive that waits in the daemon.
fn cancel_one(bed: &Testbed, daemon: &Daemon<'_>, rows: &mut Vec<Row>) {
    let lustre = bed.lustre();
    let phase = Phase::begin("Cancel", 1);
    let path = bed.mount(0).join("data0/cancelled");
    std::fs::write(&path, content(99)).expect("a file can be written");
    let before = digests(std::slice::from_ref(&path)).remove(0);
    let ended = lustre.ledger().len();
    daemon.lock(1);
    lustre.request(Ask::Archive, std::slice::from_ref(&path), &Request::default());
    daemon.wait_known(1);
    lustre.request(Ask::Cancel, std::slice::from_ref(&path), &Request::default());
    bed.wait("both requests have ended", || {
        lustre.ledger().iter().filter(|entry| entry.has_ended()).count() == ended + 2
    });
    daemon.lock(0);
    daemon.wait_known(0);
    phase.end("ended without a mover");
    let fid = lustre.fids(std::slice::from_ref(&path)).remove(0);
    rows.push(Row { path, fid, before, expected: Expected::Cancelled, requests: 2 });
}

/// Waits until so many requests have ended in all, showing how many of the last ones have.
fn wait_ended(bed: &Testbed, phase: &mut Phase, wanted: usize) {
    let total = phase.total();
    let done = poll(patience(), || {
        let ended = bed.lustre().ledger().iter().filter(|entry| entry.has_ended()).count();
        phase.show((ended + total).saturating_sub(wanted));
        (ended >= wanted).then_some(())
    });
    if done.is_none() {
        bed.fail(&format!("not all of {wanted} requests have ended"));
    }
}

/// Bytes that differ from file to file, up to 100 KiB of them.
fn content(number: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1);
    (0..1000 + number * 2777)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}
