//! The same busy run while something else goes wrong: no room, no redis, another time, an MDT that restarts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use harness::ledger::{Entry, Status};
use harness::{Peer, Testbed, TestbedSettings, Value, json};

use super::judge::{ENOENT, judge};
use super::marks::Marks;
use super::operator::NO_ROOM;
use super::run::{Run, Store};
use super::tally::Tally;

/// Steps of copytools in which much happens: some five requests.
const SOME: usize = 20;

fn bed(name: &str) -> Testbed {
    TestbedSettings::new(name).start()
}

fn start<'bed>(bed: &'bed Testbed, store: Store) -> Run<'bed> {
    let mut run = Run::start(bed, store, harness::seed("COORDINATOOL_KILL_SEED"));
    run.go_on(SOME);
    run
}

/// Queues large requests that no mover takes until there is no room for more.
fn fill(bed: &Testbed, next: &mut u64) {
    let mut peer = Peer::connect(bed.address()).unwrap();
    let data = "x".repeat(200_000);
    let mut some = false;
    bed.wait("large requests are taken, and then refused", || {
        let item = |number: u64| {
            let fid = json!({"f_seq": 0x2_0000_0499_u64, "f_oid": number, "f_ver": 0});
            json!({
                "hai_action": 20, "hai_fid": fid, "hai_dfid": fid, "hai_extent_offset": 0, "hai_extent_length": -1,
                "hai_cookie": number, "hai_gid": 0, "hal_archive_id": 99, "hal_flags": 0, "hai_data": data
            })
        };
        let items: Vec<Value> = (*next..*next + 20).map(item).collect();
        *next += 20;
        let answer = peer.ask(&json!({"command": "queue", "hsm_action_items": items}));
        assert!(answer["status"].is_null() || answer["status"] == NO_ROOM, "{answer}");
        some |= answer["status"].is_null();
        some && answer["status"] == NO_ROOM
    });
}

/// Whether the status says that the store is full.
fn is_full(bed: &Testbed) -> bool {
    let output = bed.client(&["status", "--json"], "");
    let status: Value = serde_json::from_slice(&output.stdout).expect("the status is JSON");
    status["store"]["full"].as_bool().expect("a flag")
}

/// These end, which makes room. A daemon that was started since has asked their MDT and dropped them.
fn cancel_fillers(bed: &Testbed) {
    let output = bed.client(&["cancel", "--archive", "99", "-y"], "");
    assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
}

/// The disk of the embedded store fills up, the daemon goes on or dies like that, and there is room again.
#[test]
fn a_full_disk_of_the_embedded_store_refuses_and_loses_nothing() {
    let bed = bed("kill-full");
    let state = bed.directory().join("state");
    fs::create_dir_all(&state).unwrap();
    let mut mount = Command::new("mount");
    let mounted = mount.args(["-t", "tmpfs", "-o", "size=32m,mode=0700", "none"]).arg(&state).status();
    if !mounted.is_ok_and(|status| status.success()) {
        let name = "a_full_disk_of_the_embedded_store_refuses_and_loses_nothing";
        return harness::skip(name, "needs to mount a small tmpfs");
    }
    // Nobody asks the MDT what it knows of those.
    let settings = Store::Embedded.settings(&bed).line("request_timeout_sec 0");
    let mut run = Run::start_with(&bed, Store::Embedded, harness::seed("COORDINATOOL_KILL_SEED"), settings);
    run.go_on(SOME);
    let (mut next, mut seen_full) = (1, 0);
    for round in 0..5 {
        fill(&bed, &mut next);
        match round {
            0 => {
                run.go_on(SOME);
                cancel_fillers(&bed);
            }
            // It comes up without room, knows everything, and serves it.
            1..4 => {
                run.crash(|_| {});
                seen_full += usize::from(is_full(&bed));
                run.go_on(SOME);
                cancel_fillers(&bed);
            }
            // An administrator makes room before it starts again.
            _ => run.crash(|_| {
                let mut more = Command::new("mount");
                let more = more.args(["-o", "remount,size=64m"]).arg(&state).status().unwrap();
                assert!(more.success());
            }),
        }
        let before = run.operator.acknowledged().len();
        run.go_on_until("queues are taken again", |run| run.operator.acknowledged().len() > before);
        run.go_on(SOME);
    }
    cancel_fillers(&bed);
    assert!(seen_full > 0, "no daemon started on a full disk, or the status does not show it");
    run.finish(judge);
}

/// A redis that refuses to write is as good as away: changes wait in files, also those of a daemon that dies meanwhile.
#[test]
fn a_redis_without_memory_loses_nothing() {
    let bed = bed("kill-oom");
    let mut run = start(&bed, Store::Redis);
    let limit = |run: &mut Run<'_>, bytes: &str| {
        let redis = run.redis.as_ref().unwrap();
        redis.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        redis.ask::<()>(&["CONFIG", "SET", "maxmemory", bytes]);
    };
    for crash in [false, true] {
        limit(&mut run, "1");
        run.go_on(2 * SOME);
        assert!(run.daemon.log().contains("OOM"), "the daemon says why: {}", run.daemon.log());
        if crash {
            // It starts with what waits beside redis, and goes on there.
            run.crash(|_| {});
            run.go_on(SOME);
        }
        limit(&mut run, "0");
        run.go_on(SOME);
    }
    run.finish(judge);
}

/// It answers late, or not for longer than a server counts as there.
#[test]
fn a_slow_redis_loses_nothing() {
    let bed = bed("kill-slow");
    let mut run = start(&bed, Store::Redis);
    for pause in ["200", "1000", "7000"] {
        for crash in [false, true] {
            run.redis.as_ref().unwrap().ask::<()>(&["CLIENT", "PAUSE", pause, "ALL"]);
            run.go_on(SOME);
            if crash && pause != "7000" {
                run.crash(|_| {});
            }
        }
    }
    run.finish(judge);
}

/// It is away for a while, and when it comes back it has forgotten everything; so has it when the daemon dies after that.
#[test]
fn a_redis_that_comes_back_empty_loses_nothing() {
    let bed = bed("kill-empty");
    let mut run = start(&bed, Store::Redis);
    for crash in [false, true] {
        let redis = run.redis.as_mut().unwrap();
        redis.kill();
        redis.forget();
        run.go_on(3 * SOME);
        run.redis.as_mut().unwrap().start_again();
        let count = |run: &Run<'_>| run.daemon.log().matches("has all requests again").count();
        let before = count(&run);
        run.go_on_until("it is written anew", |run| count(run) > before);
        if crash {
            run.crash(|_| {});
        }
        run.go_on(SOME);
    }
    run.finish(judge);
}

/// Both MDTs restart, one after the other: archives and removes are forgotten there, restores are sent again.
#[test]
fn mdts_that_restart_lose_nothing() {
    let bed = TestbedSettings::new("kill-mdt").parameter("active_request_timeout=20").start();
    let mut run = start(&bed, Store::Embedded);
    for mdt in [0, 1] {
        bed.lustre().restart_mdt(mdt);
        run.go_on(SOME);
    }
    run.finish(judge_after_restart);
}

/// As [`judge`], but what an MDT had before its restart ends there when its time is over, and what a mover did for that did
/// not count.
fn judge_after_restart(entries: &[Entry], marks: &Marks, _: &mut Tally) -> Vec<String> {
    let mut wrong: Vec<String> = marks.wrong_so_far().to_vec();
    wrong.extend(marks.running().map(|(mover, key)| format!("{mover} still has {key:?}")));
    let mut done: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for entry in entries {
        let well = match entry.action.as_str() {
            // The copy went with the attempt that did not count.
            "REMOVE" => entry.status == Status::Succeeded || entry.errno() == ENOENT,
            _ => entry.status == Status::Succeeded,
        };
        *done.entry((&entry.fid, &entry.action)).or_default() += usize::from(well);
        if entry.accepted_ends > 1 {
            wrong.push(format!("ended {} times: {entry:?}", entry.accepted_ends));
        }
    }
    let not_once = done.iter().filter(|(_, count)| **count != 1);
    wrong.extend(not_once.map(|((fid, action), count)| format!("{action} of {fid}: done {count} times")));
    wrong
}

/// The wall clock goes forward by years and back again, for daemon and movers; also while the daemon is dead. Time that
/// passes is what counts.
#[test]
fn clocks_that_jump_change_nothing() {
    const YEAR: i64 = 365 * 86_400;
    let mut bed = bed("kill-clock");
    let (library, clock) = (bed.directory().join("clock.so"), bed.directory().join("clock"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hsm_kill/clock.c");
    let made = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    assert!(made.is_ok_and(|status| status.success()), "{source} can be compiled");
    let set = |seconds: i64| {
        let file = File::options().write(true).create(true).truncate(false).open(&clock).unwrap();
        file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    };
    set(0);
    bed.preload(&library, "COORDINATOOL_TEST_CLOCK", &clock);
    let mut run = start(&bed, Store::Embedded);
    for (jump, year) in [(30 * YEAR, "205"), (-20 * YEAR, "200"), (3600, ""), (-3600, "")] {
        set(jump);
        run.go_on(SOME);
        assert!(run.daemon.log().contains(&format!("\n{year}")), "the daemon sees another time");
        run.crash(|_| set(jump / 2));
        run.go_on(SOME);
    }
    run.finish(judge);
}
