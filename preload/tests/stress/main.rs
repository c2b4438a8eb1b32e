//! Copytools with every habit at once, under a bad network, signals and kills, judged by the embedded Lustre's ledger.
//!
//! `COORDINATOOL_STRESS_SEED` repeats a run's choices, `COORDINATOOL_STRESS_SECONDS` makes the bad part longer,
//! `COORDINATOOL_STRESS_WRAPPER` starts the copytools under another program (`valgrind -q`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod proxy;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::ledger::Status;
use harness::{
    Daemon, FileSet, Mover, MoverSettings, Random, Request, Settings, Signal, Testbed, patience, poll, seed,
};
use proxy::Proxy;

/// As many files as there are at most.
const FILES: u32 = 400;

/// Builds the copytool.
fn program(bed: &Testbed) -> PathBuf {
    let program = bed.directory().join("stress");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stress/stress.c");
    let status = Command::new(std::env::var_os("CC").unwrap_or("cc".into()))
        .args(["-Wall", "-Wextra", "-Werror", "-O1", "-g", "-o"])
        .arg(&program)
        .args([source.as_path(), bed.liblustreapi()])
        .arg("-lpthread")
        .status()
        .expect("a C compiler");
    assert!(status.success());
    program
}

fn steps(path: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

fn check_alive(movers: &mut [Mover<'_>]) {
    for mover in movers {
        if !mover.is_running() {
            let status = mover.wait_end();
            panic!("{} died: {status}\n{}", mover.id(), mover.log());
        }
    }
}

/// Each archive and restore is done, and each file's content is right, whatever the movers went through. An end that an MDT
/// accepted is the only one that it accepted, and an error that is a mover's own fault is none of a copy.
/// SIGTERM, and waits for the end: by the handler.
///
/// Memcheck (valgrind 3.19) now and then ends all threads of a program that calls `_exit` but one that waits for a lock which
/// another had, in `fork` for instance: the kernel itself cannot leave such a process behind, as it ends all of them at once.
fn stop(mover: &mut Mover<'_>, wrapped: bool, left_behind: &mut usize) {
    if !wrapped {
        let ended = mover.stop();
        assert!(ended.success(), "{} did not end by its handler: {ended}", mover.id());
        return;
    }
    mover.signal(Signal::TERM);
    let mut seen = 0;
    let over = poll(patience(), || {
        if !mover.is_running() {
            return Some(true);
        }
        // For a moment that is so of every process whose threads end one after the other.
        seen = if only_other_threads_are_left(mover.process_id()) { seen + 1 } else { 0 };
        (seen > 600).then_some(false)
    });
    match over {
        Some(true) => {
            let ended = mover.wait_end();
            // Before the program has a handler, which takes a while there.
            let early = ended.signal() == Some(15);
            assert!(ended.success() || early, "{} did not end by its handler: {ended}", mover.id());
        }
        Some(false) => {
            mover.kill();
            *left_behind += 1;
        }
        None => panic!("{} does not end after SIGTERM: {}", mover.id(), mover.log()),
    }
}

/// Whether the first thread of a process has ended and others have not.
fn only_other_threads_are_left(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let ended = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'));
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).map_or(0, Iterator::count);
    ended && threads > 1
}

#[test]
fn every_habit_under_a_bad_network() {
    let seed = seed("COORDINATOOL_STRESS_SEED");
    let seconds = std::env::var("COORDINATOOL_STRESS_SECONDS").map_or(8, |text| text.parse().unwrap());
    let mut random = Random::new(seed);
    let bed = Testbed::start("stress");
    let daemon = Daemon::start(&bed, &Settings::new().line("client_grace_ms 2000").line("lease_ms 1500"));
    let proxy = Proxy::start(daemon.address(), seed);
    let program = program(&bed);
    let wrapper = std::env::var("COORDINATOOL_STRESS_WRAPPER").ok();
    let done = bed.directory().join("steps");
    let mut movers: Vec<Mover<'_>> = (1..4)
        .map(|number| {
            let mut settings = MoverSettings::new(&bed, &format!("m{number}"), number)
                .program(&program)
                .journal(&done)
                .variable("COORDINATOOL_HOST", proxy.address().to_string())
                .variable("COORDINATOOL_MAX_ARCHIVE", "40")
                .variable("COORDINATOOL_VERBOSE", "warn")
                .argument("--seed")
                .argument((seed + number as u64).to_string());
            if number == 3 {
                settings = settings.argument("--nonblock");
            }
            if let Some(wrapper) = &wrapper {
                // A handler takes longer than the usual pause there.
                settings = settings.argument("--alarm").argument("100000");
                settings = settings.prefix(wrapper.split_whitespace().map(str::to_owned).collect());
            }
            settings.start(&bed)
        })
        .collect();
    let mut count = 0;
    let most = if wrapper.is_some() { FILES / 4 } else { FILES };
    let all = FileSet::create(&bed, 0..most);
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut lives, mut left_behind) = (0, 0);
    while Instant::now() < until || proxy.hits().iter().any(|(_, hits)| *hits == 0) {
        if count < most {
            all.part(count..count + 20).archive(&Request::default());
            count += 20;
        }
        std::thread::sleep(Duration::from_millis(random.below(600)));
        check_alive(&mut movers);
        let mover = &mut movers[random.below(3) as usize];
        match random.below(4) {
            0 => {
                stop(mover, wrapper.is_some(), &mut left_behind);
                mover.start_again();
                lives += 1;
            }
            1 => {
                mover.kill();
                mover.start_again();
                lives += 1;
            }
            _ => {}
        }
    }
    proxy.calm();
    let files = all.part(0..count);
    bed.wait("all files are archived", || {
        check_alive(&mut movers);
        files.archived() == count as usize
    });
    files.wait_ended();
    for entry in files.entries().iter().filter(|entry| entry.action == "ARCHIVE") {
        assert!(entry.accepted_ends <= 1, "{entry:?}");
        assert_eq!(entry.status, Status::Succeeded, "{entry:?}");
    }
    // Who begins and leaves the end to a child has the file open for ever: nothing frees the parent's copy of the handle.
    for mover in &mut movers {
        stop(mover, wrapper.is_some(), &mut left_behind);
        mover.start_again();
    }
    files.release();
    files.restore(&Request::default());
    files.wait_restored();
    files.wait_ended();
    files.check_contents();
    daemon.wait_known(0);
    for mover in &mut movers {
        assert!(mover.is_running(), "{} died: {}", mover.id(), mover.log());
        stop(mover, wrapper.is_some(), &mut left_behind);
        assert!(
            !mover.log().contains("panicked") && !mover.log().contains("internal error"),
            "{}",
            mover.log()
        );
    }
    let steps = steps(&done);
    println!("{count} files, {lives} new lives, {:?}\n{steps:?}", proxy.hits());
    if left_behind > 0 {
        println!("{left_behind} times the wrapper left a thread behind");
    }
    for step in [
        "thread",
        "inline",
        "fork-all",
        "fork-end",
        "exec",
        "child-unregisters",
        "child-exits",
        "child-asks",
        "close-fd",
    ] {
        assert!(steps.contains_key(step), "no copytool came to do this: {step}");
    }
    assert!(!steps.contains_key("recv-failed"), "{steps:?}");
}
