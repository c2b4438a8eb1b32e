//! Row 09 of the original's suite, as it is there: redis is restarted.

use harness::{FileSet, Gate, MoverSettings, Redis, Request, Settings, Testbed};

use super::start;

const MOVER: usize = 1;

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
