//! Rows 00 and 08: the environment, and a daemon without redis.

use std::collections::BTreeSet;

use harness::{Daemon, FileSet, MoverSettings, Request, Settings, Testbed};

use crate::MOVER_1;

/// 00: the environment is sane: every mount shows the same files, the coordinators are enabled and nobody is registered.
/// Both MDTs hand out the same cookies, as real ones do when they started in the same second.
#[test]
fn row_00_the_environment_is_sane() {
    let bed = Testbed::start("00");
    for mdt in 0..bed.mdts() {
        assert_eq!(bed.lustre().parameter(mdt, "hsm_control"), "enabled");
    }
    assert_eq!(bed.lustre().agents(), 0);
    let files = FileSet::create(&bed, 0..4);
    for mount in 0..5 {
        let seen = std::fs::read_to_string(bed.mount(mount).join("tests1/file.3")).unwrap();
        assert_eq!(seen, "foo.3\n");
    }
    assert_eq!(files.states(), [0, 0, 0, 0]);
    files.archive(&Request::default());
    let entries = files.entries();
    let cookies: BTreeSet<u64> = entries.iter().map(|entry| entry.cookie).collect();
    assert_eq!(
        (entries.len(), cookies.len()),
        (4, 2),
        "two requests on each MDT, with the same cookies: {entries:?}"
    );
}

/// 08: an empty redis host means that there is no redis.
#[test]
fn row_08_no_redis() {
    let bed = Testbed::start("08");
    // The test bed gives `COORDINATOOL_REDIS_HOST=` to every daemon; the file says otherwise, and the variable wins.
    let _daemon = Daemon::start(&bed, &Settings::three_at_a_time().line("redis_host 127.0.0.1"));
    let _mover = MoverSettings::new(&bed, "agent_1", MOVER_1).start(&bed);
    let files = FileSet::create(&bed, 1..6);
    files.archive(&Request::default());
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
}
