//! Rows 03, 09, 31 and 41 of the original's suite, as they are there: with redis.

use harness::{Daemon, FileSet, Gate, MoverSettings, Redis, Request, Settings, Testbed};

use super::start;

const MOVER: usize = 1;

/// 03: the server is restarted, cleanly and by a crash, with queued requests.
#[test]
fn row_03_server_restart_with_queued_requests() {
    let bed = Testbed::start("redis03");
    let redis = Redis::start(&bed);
    let mut daemon = start(&bed, &redis, &Settings::three_at_a_time().line("settle_ms 200"));
    let files = FileSet::create(&bed, 0..100);
    files.archive(&Request::default());
    daemon.wait_known(100);
    assert_eq!(super::c_reader::read(&redis).len(), 100);

    daemon.restart();
    daemon.wait_known(100);
    daemon.crash_and_restart();
    daemon.wait_known(100);

    let _mover = MoverSettings::new(&bed, "agent_1", MOVER).start(&bed);
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    daemon.wait_known(0);
    daemon.wait_stored();
    assert!(redis.requests().is_empty() && redis.assigned().is_empty());
}

/// 09: redis is restarted during transfers, and here it is also away while they end.
#[test]
fn row_09_redis_restart_while_busy() {
    let bed = Testbed::start("redis09");
    let mut redis = Redis::start(&bed);
    let daemon = start(&bed, &redis, &Settings::three_at_a_time());
    let gate = Gate::closed_for_all(&bed, "gate");
    let mover = MoverSettings::new(&bed, "agent_1", MOVER).behind(&gate).start(&bed);
    let files = FileSet::create(&bed, 0..100);
    files.archive(&Request::default());
    daemon.wait_known(100);
    bed.wait("three run", || mover.journal().iter().filter(|step| step.step == "begun").count() == 3);

    redis.kill();
    gate.open();
    bed.wait("half of it ends without redis", || files.archived() >= 50);
    redis.start_again();
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    bed.wait("redis knows that all has ended", || redis.requests().is_empty() && redis.assigned().is_empty());
}

/// 31: what the user passed survives.
#[test]
fn row_31_data_and_restart() {
    let bed = Testbed::start("redis31");
    let redis = Redis::start(&bed);
    let mut daemon = start(&bed, &redis, &Settings::three_at_a_time());
    let files = FileSet::create(&bed, 1..11);
    files.archive(&Request::data("some data that is longer than five bytes"));
    daemon.wait_known(10);
    daemon.restart();
    daemon.wait_known(10);
    let mover = MoverSettings::new(&bed, "agent_1", MOVER).start(&bed);
    files.wait_archived();
    files.wait_ended();
    let journal = mover.journal();
    let begun: Vec<_> = journal.iter().filter(|step| step.step == "begun").collect();
    assert_eq!(begun.len(), 10);
    assert!(begun.iter().all(|step| step.text() == "some data that is longer than five bytes"));
}

/// 41: archive ids survive.
#[test]
fn row_41_archive_id_and_restart() {
    let bed = Testbed::start("redis41");
    let redis = Redis::start(&bed);
    let mut daemon: Daemon<'_> = start(&bed, &redis, &Settings::three_at_a_time());
    let files = FileSet::create(&bed, 100..300);
    let (ones, twos) = (files.part(100..200), files.part(200..300));
    twos.archive(&Request::archive(2));
    ones.archive(&Request::archive(1));
    daemon.wait_known(200);
    daemon.restart();
    daemon.wait_known(200);
    let _mover = MoverSettings::new(&bed, "agent_1", MOVER).start(&bed);
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    assert_eq!(ones.archive_ids(), [1; 100]);
    assert_eq!(twos.archive_ids(), [2; 100]);
}
