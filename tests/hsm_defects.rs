//! Defects of the C coordinatool (0.4, f6eaffc) that only show in a whole system, each with what was observed there.
//! `docs/c-differences.md` lists them all, with the tests of those that show in one part.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpStream;

use harness::ledger::Status;
use harness::{
    Daemon, FarNetwork, FileSet, Gate, Mover, MoverSettings, Peer, Request, Settings, Signal, Testbed,
    TestbedSettings, Value, json, known, skip,
};

fn count(mover: &Mover<'_>, step: &str, action: &str) -> usize {
    mover.journal().iter().filter(|entry| entry.step == step && entry.action == action).count()
}

/// The items of the answer to `recv`.
fn work_in(answer: &Value) -> Vec<Value> {
    answer["hsm_action_list"]["list"].as_array().cloned().unwrap_or_default()
}

/// Gives work to a peer until it has `wanted` items.
fn take(peer: &mut Peer, wanted: usize, max: i64) -> Vec<Value> {
    let mut taken = Vec::new();
    while taken.len() < wanted {
        peer.ask_for_work(max);
        taken.extend(work_in(&peer.receive()));
    }
    taken
}

/// An item for `queue` on an invented file.
fn item(number: u64, data: &str) -> Value {
    let fid = json!({"f_seq": 0x2_0000_0402_u64, "f_oid": number, "f_ver": 0});
    json!({
        "hai_action": 20, "hai_fid": fid, "hai_dfid": fid, "hai_extent_offset": 0, "hai_extent_length": -1,
        "hai_cookie": 0x6b00_0000_u64 + number, "hai_gid": 0, "hal_archive_id": 1, "hal_flags": 0, "hai_data": data,
    })
}

/// For invented requests that must outlive a restart: after one, the MDTs would be asked, and do not know them.
fn without_lustre<'bed>(bed: &'bed Testbed, settings: &Settings) -> Daemon<'bed> {
    Daemon::start_with(bed, settings, &["--lustre", "none", "--fsname", "testfs0"])
}

/// C 4.9 a and peer 33: "done cookie truncated to 32 bits by C movers (`si`): cookies >= 2^32, or >= 2^31 sign-extended:
/// request stays running for ever". C movers are still around, so the server must understand what they mean.
#[test]
fn truncated_cookies_of_c_movers() {
    let bed = TestbedSettings::new("c-cookies").first_cookie(0xffff_fffa).start();
    let daemon = Daemon::start(&bed, &Settings::new());
    let files = FileSet::create(&bed, 0..16);
    files.archive(&Request::default());
    daemon.wait_known(16);
    let mut mover = daemon.connect();
    mover.ehlo("c-mover");
    let taken = take(&mut mover, 16, -1);
    let mut long = 0;
    for item in &taken {
        let cookie = item["hai_cookie"].as_i64().expect("cookies fit into 63 bits here");
        long += usize::from(cookie > i64::from(u32::MAX));
        let truncated = cookie as i32;
        let answer = mover.ask(&json!({
            "command": "done", "hai_cookie": truncated, "hai_dfid": item["hai_dfid"], "status": 0,
        }));
        assert_eq!(answer, json!({"command": "done"}));
    }
    assert!(long > 0 && long < 16, "cookies on both sides of 2^32");
    assert_eq!(known(&daemon.status()), 0, "all of them have ended: {}", daemon.status());
}

/// C 4.9 d and peer 12: "one client sending half a JSON object freezes the whole server"; the same with one space, a
/// trailing newline, a top-level `3`, and a client that does not read its replies.
#[test]
fn one_peer_does_not_stop_the_others() {
    let bed = Testbed::start("half");
    let mut daemon = Daemon::start(&bed, &Settings::new());
    let mover = MoverSettings::new(&bed, "agent_1", 1).start(&bed);
    let mut hostile = Vec::new();
    for bytes in [&b"{\"command\":\"que"[..], b" ", b"{\"command\":\"status\"}\n", b"3", b"[", b"\""] {
        let mut peer = daemon.connect();
        // It may be closed while we write: that is allowed.
        let _ = peer.send_bytes(bytes);
        hostile.push(peer);
    }
    let mut deaf = TcpStream::connect(daemon.address()).expect("the daemon listens");
    for _ in 0..200 {
        deaf.write_all(b"{\"command\":\"status\",\"verbose\":6}").expect("the daemon takes small requests");
    }
    let files = FileSet::create(&bed, 0..10);
    files.archive(&Request::default());
    files.wait_archived();
    assert_eq!(count(&mover, "begun", "ARCHIVE"), 10);
    assert!(daemon.is_running());
    drop(hostile);
}

/// Peer 2: "SIGPIPE kills the server: client pipelines requests and closes; a client of verbose status that does not read
/// closes". The answers here wait for work, or are larger than socket buffers.
#[test]
fn peers_that_close_do_not_kill_the_server() {
    let bed = Testbed::start("pipe");
    let mut daemon = Daemon::start(&bed, &Settings::new());
    let items: Vec<Value> =
        (1..=2000).map(|number| item(number, "some data that makes the status longer")).collect();
    daemon.connect().ask(&json!({"command": "queue", "fsname": "testfs0", "hsm_action_items": items}));
    for _ in 0..20 {
        let mut peer = daemon.connect();
        for _ in 0..50 {
            if peer
                .send_bytes(b"{\"command\":\"status\",\"verbose\":6}{\"command\":\"lock\",\"locked\":0}")
                .is_err()
            {
                break;
            }
        }
    }
    assert_eq!(known(&daemon.status()), 2000);
    assert!(daemon.is_running());
    daemon.stop();
}

/// C 4.9 h and peer 20: "SIGTERM erases coordinatool_assigned: after a clean restart running requests may be given to
/// another mover before the first one reconnects".
#[test]
fn assignments_survive_a_clean_stop() {
    let bed = Testbed::start("assigned");
    assignments_survive(&bed, |daemon| daemon.stop());
}

/// The same after SIGKILL.
#[test]
fn assignments_survive_a_crash() {
    let bed = Testbed::start("assigned-k");
    assignments_survive(&bed, |daemon| daemon.kill());
}

fn assignments_survive(bed: &Testbed, end: impl Fn(&mut Daemon<'_>)) {
    let mut daemon = Daemon::start(bed, &Settings::three_at_a_time().line("client_grace_ms 600000"));
    let gate = Gate::closed_for_all(bed, "1");
    let mut first = MoverSettings::new(bed, "agent_1", 1).behind(&gate).start(bed);
    let files = FileSet::create(bed, 0..10);
    files.archive(&Request::default());
    bed.wait("three have begun", || count(&first, "begun", "ARCHIVE") == 3);
    // It cannot reconnect before the other mover has had everything else.
    first.signal(Signal::STOP);
    end(&mut daemon);
    daemon.start_again();
    let second = MoverSettings::new(bed, "agent_2", 2).start(bed);
    bed.wait("the second mover did the rest", || files.archived() == 7);
    daemon.wait_mover("agent_2");
    assert_eq!(known(&daemon.status()), 3);
    first.signal(Signal::CONT);
    gate.open();
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    let begun = |mover: &Mover<'_>| -> BTreeSet<String> {
        mover.journal().into_iter().filter(|step| step.step == "begun").map(|step| step.fid).collect()
    };
    assert_eq!((begun(&first).len(), begun(&second).len()), (3, 7));
    assert!(begun(&first).is_disjoint(&begun(&second)), "nothing was given out twice");
}

/// Peer 3: "reconnect with running batch requests writes to a freed client", and peer 7: "SIGABRT: mover reconnects while
/// a cancel is pending".
#[test]
fn reconnects_with_batches_and_cancels() {
    let bed = Testbed::start("reconnect");
    let mut daemon = Daemon::start(
        &bed,
        &Settings::new()
            .line("max_archive 3")
            .line("client_grace_ms 600000")
            .line("batch_archives_slices_sec 1 600"),
    );
    let gate = Gate::closed_for_all(&bed, "1");
    let mut mover = MoverSettings::new(&bed, "agent_1", 1).behind(&gate).start(&bed);
    let files = FileSet::create(&bed, 0..9);
    files.archive(&Request::data("tag=n0"));
    bed.wait("three have begun", || count(&mover, "begun", "ARCHIVE") == 3);
    let begun: BTreeSet<String> =
        mover.journal().into_iter().filter(|s| s.step == "begun").map(|s| s.fid).collect();

    // The mover is away, its running requests are cancelled, and it comes back without them.
    mover.signal(Signal::STOP);
    mover.kill();
    files.cancel();
    bed.wait("the daemon has the cancels", || {
        bed.lustre()
            .ledger()
            .iter()
            .filter(|entry| entry.action == "CANCEL")
            .all(|entry| entry.deliveries > 0)
    });
    mover.start_again();
    daemon.wait_mover("agent_1");
    files.wait_ended();
    // The same over a lost connection: the server goes, the mover stays.
    let more = FileSet::create(&bed, 20..29);
    more.archive(&Request::data("tag=n1"));
    bed.wait("the next three have begun", || count(&mover, "begun", "ARCHIVE") == 6);
    // What is still in the pipe would die with the daemon.
    daemon.wait_known(9);
    daemon.crash_and_restart();
    daemon.wait_mover("agent_1");
    gate.open();
    more.wait_archived();
    more.wait_ended();
    more.check_each_done_once("ARCHIVE");
    assert!(daemon.is_running());
    daemon.wait_known(0);
    for entry in
        files.entries().iter().filter(|entry| entry.action == "ARCHIVE" && begun.contains(&entry.fid))
    {
        assert_eq!(entry.status, Status::Cancelled, "{entry:?}");
    }
}

/// Peer 18: "QUEUE is acknowledged before redis has it: kill -9 at once leaves 0 of 1000, 0 of 10000".
#[test]
fn queue_is_durable_when_it_is_acknowledged() {
    let bed = Testbed::start("durable");
    let mut daemon = without_lustre(&bed, &Settings::new());
    let mut acknowledged = 0;
    for round in 0..5 {
        let items: Vec<Value> = (1..=1000).map(|number| item(round * 1000 + number, "tag=foo")).collect();
        let answer = daemon
            .connect()
            .ask(&json!({"command": "queue", "fsname": "testfs0", "hsm_action_items": items}));
        daemon.kill();
        assert_eq!(answer["enqueued"], 1000, "{answer}");
        acknowledged += 1000;
        daemon.start_again();
        assert_eq!(known(&daemon.status()), acknowledged);
    }
}

/// Peer 21: "order lost at restart".
#[test]
fn order_survives_a_restart() {
    let bed = Testbed::start("order");
    let mut daemon = without_lustre(&bed, &Settings::new());
    let numbers: Vec<u64> = (1..=200).map(|number| number * 7919 % 1009 + 1).collect();
    let items: Vec<Value> = numbers.iter().map(|&number| item(number, "")).collect();
    daemon.connect().ask(&json!({"command": "queue", "fsname": "testfs0", "hsm_action_items": items}));
    daemon.crash_and_restart();
    let mut mover = daemon.connect();
    mover.ehlo("m");
    let given: Vec<u64> =
        take(&mut mover, 200, -1).iter().map(|item| item["hai_fid"]["f_oid"].as_u64().unwrap()).collect();
    assert_eq!(given, numbers);
}

/// Peer 26: "reconnect loses `current_*` (mover gets twice its max, counter -16)".
#[test]
fn limits_hold_across_reconnects() {
    let bed = Testbed::start("limits");
    let mut daemon = Daemon::start(&bed, &Settings::three_at_a_time().line("client_grace_ms 600000"));
    let gate = Gate::closed_for_all(&bed, "1");
    let mover = MoverSettings::new(&bed, "agent_1", 1).behind(&gate).start(&bed);
    let files = FileSet::create(&bed, 0..20);
    files.archive(&Request::default());
    bed.wait("three have begun", || count(&mover, "begun", "ARCHIVE") == 3);
    daemon.wait_known(20);
    for _ in 0..3 {
        daemon.crash_and_restart();
        daemon.wait_mover("agent_1");
        let status = daemon.status();
        assert_eq!(
            (status["running_archive"].as_u64(), status["pending_archive"].as_u64()),
            (Some(3), Some(17)),
            "{status}"
        );
        assert_eq!(count(&mover, "received", "ARCHIVE"), 3);
    }
    gate.open();
    files.wait_archived();
    files.check_each_done_once("ARCHIVE");
}

/// Peer 27: "`done` without ownership check closes others' work, counter 4294967295, lock-and-quit never quits".
#[test]
fn done_counts_from_the_owner_only() {
    let bed = Testbed::start("owner");
    let mut daemon = Daemon::start(&bed, &Settings::new());
    let items: Vec<Value> = (1..=4).map(|number| item(number, "")).collect();
    daemon.connect().ask(&json!({"command": "queue", "fsname": "testfs0", "hsm_action_items": items}));
    let mut owner = daemon.connect();
    owner.ehlo("owner");
    let taken = take(&mut owner, 4, -1);
    let mut stranger = daemon.connect();
    stranger.ehlo("stranger");
    let mut nobody = daemon.connect();
    for peer in [&mut stranger, &mut nobody] {
        for item in &taken {
            peer.done(item, 0);
            assert_eq!(peer.receive(), json!({"command": "done"}), "answered as any other");
        }
    }
    let status = daemon.status();
    assert_eq!(
        (status["running_archive"].as_u64(), status["done_archive"].as_u64()),
        (Some(4), None),
        "{status}"
    );
    assert_eq!(daemon.lock(2), json!({"command": "lock"}));
    for item in &taken {
        assert!(daemon.is_running(), "it waits for the owner");
        owner.done(item, 0);
    }
    assert!(daemon.wait_end().success());
}

/// Peer 23: "QUEUE and disconnects wake nobody"; c) "through QUEUE: never delivered: QUEUE does not wake waiting movers".
#[test]
fn everything_wakes_waiting_movers() {
    let bed = Testbed::start("wake");
    let daemon = Daemon::start(&bed, &Settings::new().line("client_grace_ms 600000"));
    let mut waiting = daemon.connect();
    waiting.ehlo("waiting");
    waiting.ask_for_work(-1);
    daemon
        .connect()
        .ask(&json!({"command": "queue", "fsname": "testfs0", "hsm_action_items": [item(1, "")]}));
    assert_eq!(work_in(&waiting.receive()).len(), 1, "QUEUE wakes it");

    // A mover without an id takes one and goes: the other one gets it.
    let mut anonymous = daemon.connect();
    anonymous.ask(&json!({"command": "ehlo", "fsname": "testfs0"}));
    daemon
        .connect()
        .ask(&json!({"command": "queue", "fsname": "testfs0", "hsm_action_items": [item(2, "")]}));
    let taken = take(&mut anonymous, 1, -1);
    waiting.ask_for_work(-1);
    drop(anonymous);
    assert_eq!(work_in(&waiting.receive())[0]["hai_fid"], taken[0]["hai_fid"], "a disconnect wakes it");

    daemon.lock(1);
    daemon
        .connect()
        .ask(&json!({"command": "queue", "fsname": "testfs0", "hsm_action_items": [item(3, "")]}));
    waiting.ask_for_work(-1);
    daemon.lock(0);
    assert_eq!(work_in(&waiting.receive()).len(), 1, "unlocking wakes it");
}

/// Peer 24: "batch timer not armed": with slices of 1 s and more tags than slots, "84,000 of 100,000 never received".
#[test]
fn slots_go_on_to_waiting_tags() {
    let bed = Testbed::start("slots");
    let daemon = Daemon::start(&bed, &Settings::new().line("batch_archives_slices_sec 1 30"));
    let items: Vec<Value> = (1..=40).map(|number| item(number, &format!("tag={}", number % 4))).collect();
    daemon.connect().ask(&json!({"command": "queue", "fsname": "testfs0", "hsm_action_items": items}));
    let mut mover = daemon.connect();
    mover.ehlo("m");
    let mut order = Vec::new();
    while order.len() < 40 {
        mover.ask_for_work(-1);
        for item in work_in(&mover.receive()) {
            order.push(item["hai_data"].as_str().unwrap().to_owned());
            mover.done(&item, 0);
            mover.receive();
        }
    }
    order.dedup();
    assert_eq!(order.len(), 4, "one tag after the other: {order:?}");
}

/// Peer 28: "a mover of archive 2 starves behind 150 requests of archive 1".
#[test]
fn other_archives_do_not_block_a_mover() {
    let bed = Testbed::start("archives");
    let daemon = Daemon::start(&bed, &Settings::new());
    let files = FileSet::create(&bed, 0..154);
    files.part(0..150).archive(&Request::archive(1));
    files.part(150..154).archive(&Request::archive(2));
    daemon.wait_known(154);
    let _mover = MoverSettings::new(&bed, "agent_1", 1).archives(&[2]).start(&bed);
    files.part(150..154).wait_archived();
    assert_eq!(files.archived(), 4);
    daemon.wait_known(150);
}

/// C 4.9 k: "same cookie with another dfid is queued twice": an MDT restart sends a bound restore again with its volatile
/// file as dfid. And two MDTs hand out the same cookies, so that the cookie alone is not the key.
#[test]
fn requests_are_told_apart_by_cookie_and_file() {
    let bed = Testbed::start("keys");
    let daemon = Daemon::start(&bed, &Settings::new());
    let mut again = item(1, "");
    again["hai_dfid"] = json!({"f_seq": 0x2_0000_0405_u64, "f_oid": 9, "f_ver": 0});
    let mut other = item(2, "");
    other["hai_cookie"] = item(1, "")["hai_cookie"].clone();
    let answer = daemon.connect().ask(
        &json!({"command": "queue", "fsname": "testfs0", "hsm_action_items": [item(1, ""), again, other]}),
    );
    assert_eq!((&answer["enqueued"], &answer["skipped"]), (&json!(2), &json!(1)), "{answer}");
}

/// One running request per file. Two archives of one file share a temporary name in the back end, so
/// the second waits for the first.
#[test]
fn one_running_request_per_file() {
    let bed = Testbed::start("per-file");
    let daemon = Daemon::start(&bed, &Settings::new());
    let mut second = item(1, "second");
    second["hai_cookie"] = json!(0x6c00_0000_u64);
    daemon.connect().ask(
        &json!({"command": "queue", "fsname": "testfs0", "hsm_action_items": [item(1, "first"), second]}),
    );
    let mut mover = daemon.connect();
    mover.ehlo("m");
    let first = take(&mut mover, 1, -1);
    assert_eq!((first.len(), &first[0]["hai_data"]), (1, &json!("first")));
    mover.ask_for_work(-1);
    mover.done(&first[0], 0);
    let mut answers = [mover.receive(), mover.receive()];
    answers.sort_by_key(|answer| answer["command"] == "recv");
    assert_eq!(work_in(&answers[1])[0]["hai_data"], "second");
}

/// Peer 15: "no keepalive: a half-open mover blocks its own id". A mover whose machine is cut off does not answer any more;
/// when it comes back under the same id, within seconds it must not be told 17 for ever.
#[test]
fn a_cut_off_mover_does_not_block_its_id() {
    let mut bed = Testbed::start("half-open");
    let network = match FarNetwork::start(&bed) {
        Ok(network) => network,
        Err(reason) => return skip("a_cut_off_mover_does_not_block_its_id", &reason),
    };
    bed.listen_on(network.near().into());
    let bed = bed;
    let daemon = Daemon::start(&bed, &Settings::three_at_a_time().line("client_grace_ms 600000"));
    let gate = Gate::closed_for_all(&bed, "1");
    let mover = |settings: MoverSettings| settings.behind(&gate);
    let far = mover(MoverSettings::new(&bed, "agent_1", 1)).prefix(network.prefix()).start(&bed);
    let files = FileSet::create(&bed, 0..10);
    files.archive(&Request::default());
    bed.wait("three have begun", || count(&far, "begun", "ARCHIVE") == 3);
    let ehlo = json!({"command": "ehlo", "fsname": "testfs0", "id": "agent_1", "archive_ids": []});
    let refused = daemon.connect().ask(&ehlo);
    assert_eq!(refused["status"], 17, "while it lives its id is taken: {refused}");

    network.cut();
    let mut second = daemon.connect();
    assert_eq!(second.ask(&ehlo), json!({"command": "ehlo"}), "it is dead, so its id is free");
    // What it held was not claimed by the second one: it is handed out again.
    let taken = take(&mut second, 3, 3);
    assert_eq!(taken.len(), 3);
    drop(far);
}

/// `queue` of these items over a connection of its own; all must be new.
fn queue(daemon: &Daemon<'_>, items: &[Value]) {
    let answer =
        daemon.connect().ask(&json!({"command": "queue", "fsname": "testfs0", "hsm_action_items": items}));
    assert_eq!(answer, json!({"command": "queue", "enqueued": items.len()}));
}

/// Peer 25: "batch slots given to any connection, even a status client". Here such a client is there first, and the only
/// one; the tag must wait for a mover, and another status client must not get the second tag.
#[test]
fn slots_are_for_movers() {
    let bed = Testbed::start("status-slot");
    let daemon = Daemon::start(&bed, &Settings::new().line("batch_archives_slices_sec 600"));
    let mut onlooker = daemon.connect();
    onlooker.ask(&json!({"command": "status", "verbose": 0}));
    queue(&daemon, &[item(1, "tag=a"), item(2, "tag=b")]);
    onlooker.ask(&json!({"command": "status", "verbose": 0}));
    for (id, others) in [("m1", 1), ("m2", 0)] {
        let mut mover = daemon.connect();
        mover.ehlo(id);
        assert_eq!(take(&mut mover, 1, -1).len(), 1, "{id} gets a tag");
        assert_eq!(daemon.status()["pending_archive"].as_u64().unwrap_or(0), others);
        // It stays connected and keeps its slot.
        std::mem::forget(mover);
    }
}

/// Peer 29: "an item larger than max_bytes blocks its mover".
#[test]
fn a_large_item_does_not_block_small_ones() {
    let bed = Testbed::start("large");
    let daemon = Daemon::start(&bed, &Settings::new());
    queue(&daemon, &[item(1, &"x".repeat(4000)), item(2, "small")]);
    let mut mover = daemon.connect();
    mover.ehlo("m");
    mover.send(&json!({"command": "recv", "max_archive": -1, "max_restore": -1, "max_remove": -1, "max_bytes": 1000}));
    let taken = work_in(&mover.receive());
    assert_eq!((taken.len(), &taken[0]["hai_data"]), (1, &json!("small")));
    let larger = take(&mut mover, 1, -1);
    assert_eq!(larger[0]["hai_fid"], item(1, "")["hai_fid"], "a larger buffer gets it");
}

/// C 4.9, peer 30: "re-hash of an already hashed `_ch` value when a request is rescheduled (grouping=7 -> 8, another
/// mover)", and "trailing NUL (robinhood) changes the hash".
#[test]
fn values_are_hashed_once_and_without_their_padding() {
    let bed = Testbed::start("rehash");
    let settings =
        Settings::new().line("archive_on_hosts_ch grouping= 10 m0 m1 m2").line("client_grace_ms 1");
    let mut daemon = without_lustre(&bed, &settings);
    queue(&daemon, &[item(1, "grouping=test0"), item(2, "grouping=test0\0")]);
    // test0 is 7, and 7 is host m1.
    for round in 0..3 {
        let mut mover = daemon.connect();
        mover.ehlo("m1");
        for item in take(&mut mover, 2, -1) {
            let data = item["hai_data"].as_str().unwrap().trim_end_matches('\0');
            assert_eq!(data, "grouping=7", "round {round}: {item}");
        }
        drop(mover);
        if round == 1 {
            daemon.crash_and_restart();
        }
        bed.wait("they are queued again", || daemon.status()["pending_archive"] == 2);
    }
}

/// C 4.9 i, peer 31: "cancel of a queued request leaks pending_* and pending_cancel/done_cancel never move"; and "`cancel
/// [fid]` (no newline)" in reporting files.
#[test]
fn cancels_of_queued_requests_are_counted_and_reported() {
    let bed = Testbed::start("cancels");
    let settings = Settings::new()
        .line("reporting_dir .reporting")
        .line("reporting_hint cr")
        .line("reporting_schedule_interval_ms 0");
    let daemon = Daemon::start(&bed, &settings);
    let files = FileSet::create(&bed, 0..4);
    files.archive(&Request::data("cr=x"));
    daemon.wait_known(4);
    files.part(0..3).cancel();
    bed.wait("the cancels have ended", || {
        bed.lustre().ledger().iter().filter(|entry| entry.action == "CANCEL" && entry.has_ended()).count()
            == 3
    });
    bed.wait("they are counted", || daemon.status()["done_cancel"] == 3);
    let status = daemon.status();
    assert_eq!(
        (&status["pending_archive"], &status["pending_cancel"]),
        (&json!(1), &Value::Null),
        "{status}"
    );
    assert_eq!(status["done_archive"], Value::Null, "{status}");
    let report = bed.mount(0).join(".reporting/x");
    let mut cancels: Vec<String> =
        files.part(0..3).fids().iter().map(|fid| format!("cancel [{fid}]")).collect();
    cancels.sort();
    bed.wait("each has a line", || {
        let text = std::fs::read_to_string(&report).unwrap_or_default();
        let mut lines: Vec<&str> = text.lines().filter(|line| line.starts_with("cancel")).collect();
        lines.sort_unstable();
        lines == cancels
    });
}

/// C 4.9 l: "duplicates are logged enqueued"; and `ehlo` with a bad archive id is "answered with `\"command\": \"done\"`", so
/// that C clients loop.
#[test]
fn answers_and_logs_say_what_happened() {
    let bed = Testbed::start("says");
    let daemon = Daemon::start(&bed, &Settings::new());
    queue(&daemon, &[item(1, "")]);
    let again = daemon
        .connect()
        .ask(&json!({"command": "queue", "fsname": "testfs0", "hsm_action_items": [item(1, "")]}));
    assert_eq!(again, json!({"command": "queue", "skipped": 1}));
    let logged = |word: &str| {
        let log = daemon.log();
        log.lines().filter(|line| line.contains("[0x200000402:0x1:0x0]") && line.contains(word)).count()
    };
    // The log may be a moment behind the answers.
    bed.wait("the duplicate is logged", || logged("duplicate") > 0);
    assert_eq!((logged("admitted"), logged("duplicate")), (1, 1), "{}", daemon.log());

    let refused = daemon.connect().ask(&json!({"command": "ehlo", "id": "m", "archive_ids": [1, 0]}));
    assert_eq!(refused, json!({"command": "ehlo", "status": 22, "error": "Bad archive id in list"}));
}
