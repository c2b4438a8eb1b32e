//! Queues that a C version left, and queues that it would find.

use std::collections::BTreeSet;

use harness::{ASSIGNED, Daemon, REQUESTS, Redis, Settings, Testbed, Value, json};

use super::c_reader::{self, Request};
use super::{item, queue, serve_all, small_bed, start_alone};

/// What C 0.4 wrote on a real Lustre, with another file, cookie, action and data in some.
fn c_text(action: u32, oid: i64, cookie: u64, data: &str, timestamp: u64) -> String {
    format!(
        r#"{{"hai_action":{action},"hai_fid":{{"f_seq":8589935618,"f_oid":{oid},"f_ver":0}},"hai_dfid":{{"f_seq":8589935618,"f_oid":{oid},"f_ver":0}},"hai_extent_offset":0,"hai_extent_length":-1,"hai_cookie":{cookie},"hai_gid":0,"hal_archive_id":1,"hal_flags":0,"hai_data":"{data}","timestamp":{timestamp}}}"#
    )
}

const REMOVE: &str = "000000006b00d66600000002000004020000000600000000";
const RESTORE: &str = "000000006b00d66500000002000004020000000500000000";
const HIGH_OID: &str = "0000000f692f08f600000002000004028000000100000000";

/// The queue of the recorded session, and a request of a recorded protocol session.
fn fill_as_c(redis: &Redis<'_>) {
    redis.set(REQUESTS, REMOVE, c_text(22, 6, 1_795_216_998, "", 1_795_217_070_090_059_667).as_bytes());
    redis.set(REQUESTS, RESTORE, c_text(21, 5, 1_795_216_997, "", 1_795_217_070_090_059_667).as_bytes());
    let high = c_text(20, -2_147_483_647, 66_189_199_606, "x\\u0000y", 1_795_217_060_000_000_000);
    redis.set(REQUESTS, HIGH_OID, high.as_bytes());
}

fn waiting(status: &Value) -> u64 {
    ["restore", "archive", "remove"]
        .iter()
        .filter_map(|kind| status[format!("pending_{kind}")].as_u64())
        .sum()
}

/// Waits for work, with a mover that has room for everything, and says what is given out: nothing, if all is held back.
fn is_held_back(bed: &Testbed, daemon: &Daemon<'_>, requests: u64) {
    let mut mover = daemon.connect();
    mover.ehlo("eager");
    mover.ask_for_work(1000);
    daemon.wait_mover("eager");
    let status = daemon.status();
    assert_eq!(waiting(&status), requests, "{status}");
    bed.wait("it is shown as waiting", || daemon.mover_status("eager").is_some());
}

#[test]
fn what_a_c_version_left_is_taken_over() {
    let bed = small_bed("redis-from-c");
    let redis = Redis::start(&bed);
    fill_as_c(&redis);
    redis.set(ASSIGNED, HIGH_OID, b"mover1");
    let orphan = RESTORE.replace('5', "7");
    redis.set(ASSIGNED, &orphan, b"mover2");

    // Nothing says that the C version stopped in order: movers may have more than it noted.
    let daemon = start_alone(&bed, &redis, &Settings::new().line("settle_ms 2000"));
    assert_eq!(redis.assigned().into_iter().collect::<Vec<_>>(), [(HIGH_OID.into(), "mover1".into())]);
    let status = daemon.status();
    assert_eq!((status["running_archive"].as_u64(), waiting(&status)), (Some(1), 2), "{status}");
    let mover = daemon.mover_status("mover1").expect("it is known");
    assert_eq!((&mover["status"], &mover["current_archive"]), (&json!("disconnected"), &json!(1)));

    // A mover of C's that runs one of them although the store does not say so: it keeps it.
    let mut claims = daemon.connect();
    let running: Value = c_text(21, 5, 1_795_216_997, "", 0).parse().unwrap();
    claims.ask(&json!({"command": "ehlo", "id": "mover2", "hai_list": [running]}));
    bed.wait("it is assigned now", || redis.assigned().get(RESTORE).is_some_and(|mover| mover == "mover2"));

    // The other one is given to whoever asks, once the time for claims is over.
    assert_eq!(serve_all(&daemon, "mover3", 1), [1_795_216_998]);
    claims.done(&running, 0);
    let mut owner = daemon.connect();
    let archive: Value = c_text(20, -2_147_483_647, 66_189_199_606, "x\\u0000y", 0).parse().unwrap();
    owner.ask(&json!({"command": "ehlo", "id": "mover1", "hai_list": [archive]}));
    // As C's library sends it: the cookie cut to 32 bits.
    let short = 66_189_199_606_u64 as u32 as i32;
    owner.ask(&json!({"command": "done", "hai_cookie": short, "hai_dfid": archive["hai_dfid"], "status": 0}));
    daemon.wait_known(0);
    assert!(redis.requests().is_empty() && redis.assigned().is_empty());
}

#[test]
fn a_c_version_reads_all_that_we_write() {
    let bed = small_bed("redis-to-c");
    let redis = Redis::start(&bed);
    let mut daemon = start_alone(&bed, &redis, &Settings::new().line("settle_ms 100"));
    let mut items: Vec<Value> =
        (0..50).map(|number| item(20 + (number % 3) as u32, number, "tag=a")).collect();
    items[7]["hai_data"] = json!("x\u{0}y \"quoted\" \\ \u{e9}\u{1f600}\n");
    items[8]["hai_fid"]["f_oid"] = json!(-2_147_483_647);
    items[8]["hai_dfid"]["f_oid"] = json!(-2_147_483_647);
    items[9]["hai_dfid"]["f_seq"] = json!(8589935999_u64);
    items[10]["unknown"] = json!({"a": [1, -9_223_372_036_854_775_808_i64, "x"]});
    items[11]["hai_cookie"] = json!(-5);
    // What C cannot represent: no archive id, and bytes that are no text.
    items[14]["hal_archive_id"] = json!(0);
    items[15]["hai_data_b64"] = json!("//4A");
    let mut peer = daemon.connect();
    let reply = peer.ask(&json!({"command": "queue", "hsm_action_items": items}));
    assert_eq!(reply["enqueued"], 50, "{reply}");

    let found = c_reader::read(&redis);
    assert_eq!(found.len(), 48);
    let timestamps: BTreeSet<i64> = found.values().map(|request| request.timestamp).collect();
    assert_eq!(timestamps.len(), 48, "each has its own, so that the order survives");
    let by_cookie = |cookie: u64| found.values().find(|request| request.cookie == cookie).cloned();
    assert_eq!(by_cookie(1007).map(|request| request.data), items[7]["hai_data"].as_str().map(str::to_owned));
    assert!(by_cookie(-5_i64 as u64).is_some() && by_cookie(1014).is_none() && by_cookie(1015).is_none());
    assert_eq!(redis.hash("coordinatool_rs_requests").len(), 2);

    // Assigned: C finds the same movers.
    let mut mover = daemon.connect();
    mover.ehlo("mover1");
    mover.ask_for_work(2);
    let work = mover.receive()["hsm_action_list"]["list"].clone();
    let given: Vec<u64> =
        work.as_array().unwrap().iter().filter_map(|item| item["hai_cookie"].as_u64()).collect();
    assert!(!given.is_empty());
    let assigned = |request: &&Request| request.mover.as_deref() == Some("mover1");
    let found = c_reader::read(&redis);
    let mut shown: Vec<u64> = found.values().filter(assigned).map(|request| request.cookie).collect();
    shown.sort_unstable();
    let mut want = given.clone();
    want.sort_unstable();
    assert_eq!(shown, want);

    // A clean stop keeps the assignments, and all of it comes back, in order.
    daemon.stop();
    assert_eq!(c_reader::read(&redis), found);
    daemon.start_again();
    assert!(daemon.log().contains("2 requests are of kinds that the C version cannot read"));
    daemon.wait_known(50);
    let rest: BTreeSet<u64> = serve_all(&daemon, "mover2", 50 - given.len()).into_iter().collect();
    assert_eq!(rest.len(), 50 - given.len());
    assert!(given.iter().all(|cookie| !rest.contains(cookie)), "what mover1 has is not given out again");
}

#[test]
fn order_survives_in_a_hash_without_order() {
    let bed = small_bed("redis-order");
    let redis = Redis::start(&bed);
    let mut daemon = start_alone(&bed, &redis, &Settings::new());
    // Backwards, so that no other order is right by chance.
    let numbers: Vec<u64> = (0..3000).rev().collect();
    assert_eq!(queue(&daemon, numbers.clone())["enqueued"], 3000);
    daemon.restart();
    let want: Vec<u64> = numbers.iter().map(|number| 1000 + number).collect();
    assert_eq!(serve_all(&daemon, "mover1", 3000), want);
}

#[test]
fn requests_are_held_back_unless_we_stopped_cleanly_and_no_c_version_ran_since() {
    let bed = small_bed("redis-clean");
    let redis = Redis::start(&bed);
    // For ever, as far as this test goes.
    let mut daemon = start_alone(&bed, &redis, &Settings::new().line("settle_ms 3600000"));
    queue(&daemon, [1]);
    daemon.restart();
    assert_eq!(serve_all(&daemon, "mover1", 1), [1001], "at once after a clean stop");
    queue(&daemon, [2]);
    daemon.crash_and_restart();
    is_held_back(&bed, &daemon, 1);
    // Movers have still had no time to say what they have.
    daemon.restart();
    is_held_back(&bed, &daemon, 1);
    assert_eq!(redis.ask::<u64>(&["HDEL", "coordinatool_rs_notes", "settling"]), 1);
    daemon.restart();
    assert_eq!(serve_all(&daemon, "mover1", 1), [1002], "and at once after the next clean one");

    queue(&daemon, [3]);
    daemon.stop();
    // What C 0.4 does when it starts: assignments without a request are removed. It then takes the request, gives it to a
    // mover, and at its SIGTERM forgets that.
    let canary: Vec<String> = redis.hash(ASSIGNED).into_keys().collect();
    assert_eq!(canary, ["f".repeat(48)]);
    redis.ask::<u64>(&["HDEL", ASSIGNED, &canary[0]]);
    daemon.start_again();
    is_held_back(&bed, &daemon, 1);
}

/// A redis that loses its last seconds may forget that a daemon began since the clean stop, and what it gave out.
#[test]
fn requests_are_held_back_when_redis_was_started_since_the_clean_stop() {
    let bed = small_bed("redis-started");
    let mut redis = Redis::start(&bed);
    let mut daemon = start_alone(&bed, &redis, &Settings::new().line("settle_ms 3600000"));
    queue(&daemon, [1]);
    daemon.stop();
    redis.ask::<String>(&["SAVE"]);
    redis.kill();
    redis.start_again();
    assert_eq!(redis.requests().len(), 1, "it has lost nothing, but who knows");
    daemon.start_again();
    is_held_back(&bed, &daemon, 1);
}

#[test]
fn assignments_survive_a_clean_stop() {
    let bed = small_bed("redis-sigterm");
    let redis = Redis::start(&bed);
    let mut daemon = start_alone(&bed, &redis, &Settings::new());
    queue(&daemon, [1]);
    let mut mover = daemon.connect();
    mover.ehlo("mover1");
    mover.ask_for_work(1);
    let work = mover.receive()["hsm_action_list"]["list"][0].clone();
    daemon.stop();
    assert_eq!(redis.assigned().into_values().collect::<Vec<_>>(), ["mover1"]);
    daemon.start_again();
    let mut mover = daemon.connect();
    mover.ask(&json!({"command": "ehlo", "id": "mover1", "hai_list": [work]}));
    mover.done(&work, 0);
    daemon.wait_known(0);
}

#[test]
fn what_cannot_be_read_is_set_aside_and_prevents_no_start() {
    let bed = small_bed("redis-malformed");
    let redis = Redis::start(&bed);
    fill_as_c(&redis);
    redis.set(ASSIGNED, REMOVE, b"mover1");
    let good = c_text(22, 6, 1_795_216_998, "", 1);
    let bad: [(&str, &str, &[u8]); 8] = [
        (REQUESTS, "not a field", good.as_bytes()),
        (REQUESTS, &REMOVE.replace('6', "1"), good.as_bytes()),
        (REQUESTS, &REMOVE.replace('6', "2"), b""),
        (REQUESTS, &REMOVE.replace('6', "3"), b"{\"hai_action\":22"),
        (REQUESTS, &REMOVE.replace('6', "4"), b"\xff\xfe"),
        (REQUESTS, &REMOVE.replace('6', "5"), b"[]"),
        (ASSIGNED, "short", b"mover1"),
        (ASSIGNED, RESTORE, b"\xff"),
    ];
    for (hash, field, value) in bad {
        redis.set(hash, field, value);
    }
    let mut daemon = start_alone(&bed, &redis, &Settings::new().line("settle_ms 100"));
    daemon.wait_known(3);
    assert_eq!(c_reader::read(&redis).len(), 3, "C can start as well");
    let kept: u64 = redis.ask(&["HLEN", "coordinatool_rs_quarantine"]);
    assert_eq!(kept, 8);
    let value: Vec<u8> =
        redis.ask(&["HGET", "coordinatool_rs_quarantine", "coordinatool_requests:not a field"]);
    assert_eq!(value, good.as_bytes());
    assert_eq!(daemon.log().matches("was set aside").count(), 8);
    assert_eq!(serve_all(&daemon, "mover2", 2).len(), 2, "all but what mover1 has");
    daemon.restart();
    assert_eq!(daemon.log().matches("was set aside").count(), 8, "not again");
}
