//! Redis goes away, and comes back as it was, emptied, or older.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use coordinatool::store::redis::spill::SpillFile;
use harness::{Random, Redis, Settings, Signal, json, patience};

use super::{c_reader, item, queue, serve_all, small_bed, start_alone};

#[test]
fn requests_keep_flowing_while_redis_is_away() {
    let bed = small_bed("redis-away");
    let mut redis = Redis::start(&bed);
    let daemon = start_alone(&bed, &redis, &Settings::new());
    queue(&daemon, 0..10);
    redis.kill();
    assert_eq!(queue(&daemon, 10..20)["enqueued"], 10, "acknowledged from the spill");
    assert_eq!(serve_all(&daemon, "mover1", 5).len(), 5);
    assert_eq!(queue(&daemon, 20..30)["enqueued"], 10);
    redis.start_again();
    bed.wait("redis has everything", || redis.requests().len() == 25);
    assert_eq!(c_reader::read(&redis).len(), 25);
    daemon.wait_known(25);
    queue(&daemon, [100]);
    assert_eq!(redis.requests().len(), 26, "and is written to again");
    assert!(!bed.directory().join("state/redis-spill/spill-00000001").exists());
}

#[test]
fn what_redis_missed_survives_a_crash_of_the_daemon() {
    let bed = small_bed("redis-spill-crash");
    let mut redis = Redis::start(&bed);
    let mut daemon = start_alone(&bed, &redis, &Settings::new().line("settle_ms 100"));
    queue(&daemon, 0..10);
    redis.kill();
    queue(&daemon, 10..20);
    assert_eq!(serve_all(&daemon, "mover1", 12).len(), 12);
    let mut mover = daemon.connect();
    mover.ehlo("mover2");
    mover.ask_for_work(1);
    let work = mover.receive()["hsm_action_list"]["list"][0].clone();
    daemon.kill();
    redis.start_again();
    daemon.start_again();
    daemon.wait_known(8);
    assert_eq!(c_reader::read(&redis).len(), 8);
    assert_eq!(redis.assigned().into_values().collect::<Vec<_>>(), ["mover2"]);
    let rest = serve_all(&daemon, "mover1", 7);
    assert_eq!(rest, [1013, 1014, 1015, 1016, 1017, 1018, 1019], "in order, without what mover2 has");
    let mut mover = daemon.connect();
    mover.ask(&json!({"command": "ehlo", "id": "mover2", "hai_list": [work]}));
    mover.done(&work, 0);
    daemon.wait_known(0);
}

/// Its memory is full when the daemon starts: what an earlier run could not give it is known all the same.
#[test]
fn a_start_with_a_full_redis_goes_on_beside_it() {
    let bed = small_bed("redis-full-start");
    let redis = Redis::start(&bed);
    let limit = |bytes: &str| redis.ask::<()>(&["CONFIG", "SET", "maxmemory", bytes]);
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let mut daemon = start_alone(&bed, &redis, &Settings::new().line("settle_ms 100"));
    queue(&daemon, 0..10);
    limit("1");
    assert_eq!(queue(&daemon, 10..20)["enqueued"], 10, "acknowledged from the spill");
    assert_eq!(serve_all(&daemon, "mover1", 3), [1000, 1001, 1002]);
    let mut mover = daemon.connect();
    mover.ehlo("mover2");
    mover.ask_for_work(1);
    let work = mover.receive()["hsm_action_list"]["list"][0].clone();
    for _ in 0..2 {
        daemon.kill();
        daemon.start_again();
        daemon.wait_known(17);
        assert!(daemon.mover_status("mover2").is_some(), "who has what is known");
        assert!(bed.directory().join("state/redis-spill/spill-00000001").exists());
        bed.wait("it says so", || daemon.log().contains("command not allowed"));
    }
    assert_eq!(serve_all(&daemon, "mover1", 3), [1004, 1005, 1006], "in order, without what mover2 has");
    assert_eq!(queue(&daemon, 30..33)["enqueued"], 3);
    assert_eq!(redis.requests().len(), 10, "redis has taken nothing");
    limit("0");
    bed.wait("redis has everything", || redis.requests().len() == 17);
    assert_eq!(c_reader::read(&redis).len(), 17);
    assert_eq!(redis.assigned().into_values().collect::<Vec<_>>(), ["mover2"]);
    mover = daemon.connect();
    mover.ask(&json!({"command": "ehlo", "id": "mover2", "hai_list": [work]}));
    mover.done(&work, 0);
    daemon.wait_known(16);
    daemon.restart();
    assert_eq!(serve_all(&daemon, "mover1", 16).len(), 16);
}

/// The same with nothing left over, and with a redis that never was ours.
#[test]
fn a_first_start_with_a_full_redis_goes_on_beside_it() {
    let bed = small_bed("redis-full-first");
    let redis = Redis::start(&bed);
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let limit = |bytes: &str| redis.ask::<()>(&["CONFIG", "SET", "maxmemory", bytes]);
    limit("1");
    let mut daemon = start_alone(&bed, &redis, &Settings::new().line("settle_ms 100"));
    assert_eq!(queue(&daemon, 0..5)["enqueued"], 5);
    limit("0");
    bed.wait("redis has everything", || redis.requests().len() == 5);
    bed.wait("and says whose it is", || redis.hash("coordinatool_rs_meta").contains_key("stamp"));
    daemon.stop();
    limit("1");
    daemon.start_again();
    daemon.wait_known(5);
    assert_eq!(queue(&daemon, 5..8)["enqueued"], 3);
    daemon.kill();
    limit("0");
    daemon.start_again();
    assert_eq!(serve_all(&daemon, "mover1", 8).len(), 8);
}

#[test]
fn a_clean_stop_without_redis_loses_nothing() {
    let bed = small_bed("redis-spill-stop");
    let mut redis = Redis::start(&bed);
    let mut daemon = start_alone(&bed, &redis, &Settings::new().line("settle_ms 100"));
    redis.kill();
    queue(&daemon, 0..10);
    daemon.stop();
    redis.start_again();
    daemon.start_again();
    assert_eq!(serve_all(&daemon, "mover1", 10).len(), 10);
}

/// A request that C cannot read, one that runs, and others.
fn fill(daemon: &harness::Daemon<'_>) -> harness::Peer {
    queue(daemon, 0..3000);
    let mut mover = daemon.connect();
    mover.ehlo("mover1");
    mover.ask_for_work(1);
    mover.receive();
    let mut odd = item(22, 5000, "");
    odd["hal_archive_id"] = json!(0);
    daemon.connect().ask(&json!({"command": "queue", "hsm_action_items": [odd]}));
    mover
}

#[test]
fn a_redis_that_was_emptied_is_written_anew() {
    let bed = small_bed("redis-emptied");
    let mut redis = Redis::start(&bed);
    let mut daemon = start_alone(&bed, &redis, &Settings::new().line("settle_ms 100"));
    let _mover = fill(&daemon);
    let before = c_reader::read(&redis);
    let odd = redis.hash("coordinatool_rs_requests");
    assert_eq!((before.len(), odd.len()), (3000, 1));

    // While we are connected: the next change shows it.
    redis.ask::<()>(&["FLUSHALL"]);
    queue(&daemon, [4000]);
    bed.wait("redis has everything again", || redis.requests().len() == 3001);
    bed.wait("the other hashes too", || {
        redis.hash("coordinatool_rs_requests") == odd && redis.assigned().len() == 1
    });
    let now = c_reader::read(&redis);
    assert!(before.iter().all(|(field, request)| now.get(field) == Some(request)));

    // While it is away, with its disk.
    redis.kill();
    redis.forget();
    queue(&daemon, [4001]);
    redis.start_again();
    bed.wait("redis has everything again", || redis.requests().len() == 3002);
    bed.wait("and nothing else", || redis.keys().iter().all(|key| !key.contains("_new_")));
    assert_eq!(redis.hash("coordinatool_rs_meta")["fsname"], "testfs0");
    daemon.restart();
    daemon.wait_known(3003);
}

#[test]
fn a_redis_that_comes_back_older_is_written_anew() {
    let bed = small_bed("redis-older");
    let mut redis = Redis::start(&bed);
    let daemon = start_alone(&bed, &redis, &Settings::new());
    queue(&daemon, 0..20);
    redis.kill();
    let backup = redis.backup();
    redis.start_again();
    // These end, and others come, which an older redis does not know.
    assert_eq!(serve_all(&daemon, "mover1", 15).len(), 15);
    queue(&daemon, 30..40);
    bed.wait("redis has it", || redis.requests().len() == 15);
    let want = c_reader::read(&redis);
    redis.kill();
    redis.restore(&backup);
    redis.start_again();
    assert_eq!(redis.requests().len(), 20);
    bed.wait("redis has what is true", || redis.requests().len() == 15);
    assert_eq!(c_reader::read(&redis), want);
}

#[test]
fn a_redis_that_does_not_answer_is_as_good_as_away() {
    let bed = small_bed("redis-hangs");
    let mut redis = Redis::start(&bed);
    let daemon = start_alone(&bed, &redis, &Settings::new());
    redis.signal(Signal::STOP);
    assert_eq!(queue(&daemon, 0..10)["enqueued"], 10);
    redis.signal(Signal::CONT);
    bed.wait("redis has everything", || redis.requests().len() == 10);
    assert_eq!(serve_all(&daemon, "mover1", 10).len(), 10);
    bed.wait("redis has everything", || redis.requests().is_empty());
}

/// The second one is started by mistake, or by whoever thought that the first one was gone.
#[test]
fn a_second_daemon_takes_the_keys_and_the_first_one_leaves_them_alone() {
    let bed = small_bed("redis-second");
    let other_bed = small_bed("redis-second-other");
    let redis = Redis::start(&bed);
    let first = start_alone(&bed, &redis, &Settings::new());
    queue(&first, 0..5);
    let second = start_alone(&other_bed, &redis, &Settings::new().line("settle_ms 100"));
    second.wait_known(5);
    assert_eq!(queue(&first, 10..12)["enqueued"], 2, "acknowledged: it is in the spill");
    bed.wait("the first one notices", || first.log().contains("another coordinatool uses the keys"));
    queue(&second, 20..23);
    other_bed.wait("what the second one knows is in redis", || {
        let found = c_reader::read(&redis);
        found.values().filter(|request| request.cookie >= 1020).count() == 3
    });
    assert_eq!(serve_all(&second, "mover1", 8).len(), 8);
    other_bed.wait("and nothing else", || redis.requests().is_empty());
}

/// Daemon and redis are killed at any moment while requests come in. Whatever was acknowledged is given out once in the end.
#[test]
fn nothing_that_was_acknowledged_is_lost_whoever_is_killed_when() {
    let seed = harness::seed("COORDINATOOL_REDIS_SEED");
    let mut random = Random::new(seed);
    let bed = small_bed("redis-kills");
    let mut redis = Redis::start(&bed);
    let mut daemon = start_alone(&bed, &redis, &Settings::new().line("settle_ms 100"));
    let next = AtomicU64::new(0);
    let mut acknowledged = BTreeSet::new();
    for _ in 0..8 {
        let victim = random.below(3);
        let after = random.below(40);
        let address = bed.address();
        let stop = AtomicBool::new(false);
        let (sent, received) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let Ok(mut peer) = harness::Peer::connect(address) else {
                        std::thread::yield_now();
                        continue;
                    };
                    loop {
                        let first = next.fetch_add(5, Ordering::Relaxed);
                        let items: Vec<_> = (first..first + 5).map(|number| item(20, number, "")).collect();
                        let queue = json!({"command": "queue", "hsm_action_items": items});
                        let said = peer.send_bytes(queue.to_string().as_bytes()).is_ok()
                            && peer
                                .receive_within(Duration::from_secs(10))
                                .is_some_and(|r| r["enqueued"] == 5);
                        if !said {
                            break;
                        }
                        let _ = sent.send(first..first + 5);
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                }
            });
            // So many acknowledgements, then somebody dies, at whatever they are just doing.
            for _ in 0..after {
                acknowledged.extend(received.recv_timeout(patience()).expect("queueing goes on"));
            }
            if victim != 0 {
                redis.kill();
            }
            if victim != 1 {
                daemon.kill();
            }
            if victim != 0 {
                redis.start_again();
            }
            if victim != 1 {
                daemon.start_again();
            }
            stop.store(true, Ordering::Relaxed);
        });
        acknowledged.extend(received.try_iter().flatten());
    }
    let known = || harness::known(&daemon.status());
    bed.wait("all is in redis", || redis.requests().len() as u64 == known());
    let mut given = serve_all(&daemon, "mover1", usize::try_from(known()).unwrap());
    given.sort_unstable();
    let once: BTreeSet<u64> = given.iter().map(|cookie| cookie - 1000).collect();
    assert_eq!(once.len(), given.len(), "each once");
    let lost: Vec<_> = acknowledged.difference(&once).collect();
    assert!(lost.is_empty(), "acknowledged, and lost (COORDINATOOL_REDIS_SEED={seed}): {lost:?}");
    bed.wait("redis is empty", || redis.requests().is_empty() && redis.assigned().is_empty());
}

#[test]
fn a_full_disk_while_redis_is_away_refuses_queues_and_loses_nothing() {
    let name = "a_full_disk_while_redis_is_away_refuses_queues_and_loses_nothing";
    let bed = small_bed("redis-full");
    let state = bed.directory().join("state");
    std::fs::create_dir_all(&state).unwrap();
    let mut mount = std::process::Command::new("mount");
    let mounted = mount.args(["-t", "tmpfs", "-o", "size=512k,mode=0700", "none"]).arg(&state).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return harness::skip(name, "needs to mount a small tmpfs");
    }
    let mut redis = Redis::start(&bed);
    let daemon = start_alone(&bed, &redis, &Settings::new());
    redis.kill();
    let mut acknowledged = Vec::new();
    let refused = bed.wait_for("the disk is full", || {
        let first = acknowledged.len() as u64;
        let answer = queue(&daemon, first..first + 500);
        if answer["enqueued"] == 500 {
            acknowledged.extend(first..first + 500);
            return None;
        }
        Some(answer)
    });
    assert_eq!((&refused["status"], &refused["error"]), (&json!(-28), &json!("No space left on device")));
    assert!(acknowledged.len() >= 500, "some were taken before");
    // Meanwhile work goes on.
    assert_eq!(serve_all(&daemon, "mover1", 10).len(), 10);
    redis.start_again();
    bed.wait("queues are taken again", || queue(&daemon, [1_000_000])["status"].is_null());
    let known = || harness::known(&daemon.status());
    bed.wait("redis has everything", || redis.requests().len() as u64 == known());
    let given: BTreeSet<u64> =
        serve_all(&daemon, "mover1", usize::try_from(known()).unwrap()).into_iter().collect();
    assert!(acknowledged[10..].iter().all(|number| given.contains(&(1000 + number))));
}

/// Whether the files that wait beside redis hold all requests.
fn snapshot_is_complete(spill: &std::path::Path) -> bool {
    let file = |path: std::path::PathBuf| {
        let number = path.file_name()?.to_str()?.strip_prefix("spill-")?;
        let number = u32::from_str_radix(number, 16).ok()?;
        SpillFile::parse(number, std::fs::read(path).ok()?).ok()
    };
    let entries = std::fs::read_dir(spill).into_iter().flatten().flatten();
    entries.into_iter().filter_map(|entry| file(entry.path())).any(|file| file.snapshot_end)
}

#[test]
fn writing_it_anew_starts_over_when_it_is_interrupted() {
    let bed = small_bed("redis-interrupted");
    let mut redis = Redis::start(&bed);
    let mut daemon = start_alone(&bed, &redis, &Settings::new().line("settle_ms 100"));
    let _mover = fill(&daemon);
    let want = c_reader::read(&redis);
    for round in 0..2 {
        redis.ask::<()>(&["FLUSHALL"]);
        bed.wait("it is noticed", || {
            daemon.log().matches("it lost what it had").count() > round
                || daemon.log().matches("written anew").count() > round
        });
        redis.kill();
        redis.start_again();
        bed.wait("redis has everything again", || redis.requests().len() == want.len());
        bed.wait("in one piece", || redis.hash("coordinatool_rs_requests").len() == 1);
        assert_eq!(c_reader::read(&redis), want);
    }
    // And where the daemon dies with a snapshot in its spill, the next one goes on with it.
    redis.kill();
    redis.forget();
    queue(&daemon, [9000]);
    let done = |daemon: &harness::Daemon<'_>| daemon.log().matches("has all requests again").count();
    // The rounds may have left the same words.
    let noticed = || daemon.log().matches("without what it had confirmed").count();
    let before = (done(&daemon), noticed());
    redis.start_again();
    bed.wait("it is noticed", || noticed() > before.1);
    redis.kill();
    bed.wait("the snapshot is complete, or even replayed", || {
        snapshot_is_complete(&bed.directory().join("state/redis-spill")) || done(&daemon) > before.0
    });
    daemon.kill();
    redis.start_again();
    daemon.start_again();
    daemon.wait_known(want.len() as u64 + 2);
    assert_eq!(c_reader::read(&redis).len(), want.len() + 1);
}

/// A node that was cut off from redis died; the coordinator went on elsewhere, and comes back now.
#[test]
fn what_waits_beside_a_redis_that_others_have_used_since_is_merged() {
    let bed = small_bed("redis-merge");
    let other_bed = small_bed("redis-merge-other");
    let mut redis = Redis::start(&bed);
    let mut first = start_alone(&bed, &redis, &Settings::new().line("settle_ms 100"));
    queue(&first, 0..10);
    redis.kill();
    queue(&first, 10..15);
    assert_eq!(serve_all(&first, "mover1", 3), [1000, 1001, 1002]);
    first.kill();
    redis.start_again();
    let mut second = start_alone(&other_bed, &redis, &Settings::new().line("settle_ms 100"));
    queue(&second, 20..23);
    second.wait_known(13);
    second.stop();
    first.start_again();
    assert!(first.log().contains("merged with what it holds"));
    // 3 to 9 from before, 10 to 14 from the spill, 20 to 22 of the other one; what had ended stays so.
    assert_eq!(serve_all(&first, "mover1", 15).len(), 15);
    bed.wait("redis is empty", || redis.requests().is_empty());
}

#[test]
fn what_waits_beside_a_redis_that_was_emptied_is_served_and_the_loss_is_told() {
    let bed = small_bed("redis-emptied-start");
    let mut redis = Redis::start(&bed);
    let mut daemon = start_alone(&bed, &redis, &Settings::new().line("settle_ms 100"));
    queue(&daemon, 0..10);
    redis.kill();
    queue(&daemon, 10..15);
    daemon.kill();
    redis.forget();
    redis.start_again();
    daemon.start_again();
    assert!(daemon.log().contains("not what it was when"));
    assert_eq!(serve_all(&daemon, "mover1", 5), [1010, 1011, 1012, 1013, 1014]);
}
