//! The sessions that were recorded with the C server, as far as requests can come through `queue`.
//!
//! Ports, host names and times vary; answers that show a defect of C are given as they should have been.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod daemon_support;

use daemon_support::{EHLO, Setup, client, item, item_of, oids, without};

const BAD_RECV: &str = concat!(
    r#"{"command": "recv", "status": 22, "#,
    r#""error": "Client must send EHLO first and not already be in RECV"}"#
);

/// `t1-protocol-status-cancel-queue`, up to the cancels, which only Lustre can send.
#[test]
fn session_1_protocol_and_status() {
    let daemon = Setup::conf("client_grace_ms 3000\n").start();
    let mut c = daemon.peer();
    assert_eq!(c.ask(r#"{"command": "recv"}"#), BAD_RECV);
    assert_eq!(c.ask(r#"{"command": "ehlo", "fsname": "testfs0", "id": "m0", "archive_ids": [1, 2]}"#), EHLO);
    let twice = c.ask(r#"{"command": "ehlo", "id": "m0"}"#);
    assert_eq!(twice, r#"{"command": "ehlo", "status": 22, "error": "Client cannot send EHLO twice"}"#);
    let mut d = daemon.peer();
    let used = d.ask(r#"{"command": "ehlo", "id": "m0"}"#);
    assert_eq!(used, r#"{"command": "ehlo", "status": 17, "error": "id already used by another client"}"#);
    // C says `done` here, which its own clients take for an error of the protocol.
    let bad = d.ask(r#"{"command": "ehlo", "archive_ids": [0]}"#);
    assert_eq!(bad, r#"{"command": "ehlo", "status": 22, "error": "Bad archive id in list"}"#);
    let mut small = daemon.peer();
    assert_eq!(small.ask(r#"{"command": "ehlo"}"#), EHLO);
    let reply = small.ask(r#"{"command": "recv", "max_bytes": 171}"#);
    assert_eq!(reply, r#"{"command": "recv", "status": 22, "error": "Buffer too small"}"#);
    drop(small);

    let items = [
        item(20, 1, 0x692f_08f5, "tag=n0,cr=job1"),
        item(20, 0x8000_0001, 0xf_692f_08f6, "x\0y"),
        item(20, 3, 0x692f_08f7, ""),
        item(21, 4, 0x692f_08f8, "cr=job1"),
    ];
    assert_eq!(daemon.peer().queue(&items), r#"{"command": "queue", "enqueued": 4}"#);
    let work =
        r#"{"command": "recv", "max_archive": 2, "max_restore": -1, "max_remove": -1, "max_bytes": 1048576}"#;
    let want = concat!(
        r#"{"hsm_action_list": {"hal_version": 1, "hal_archive_id": 1, "hal_fsname": "testfs0", "list": ["#,
        r#"{"hai_action": 21, "hai_fid": {"f_seq": 8589935617, "f_oid": 4, "f_ver": 0}, "hai_dfid": {"f_seq": 8589935617, "f_oid": 4, "f_ver": 0}, "hai_extent_offset": 0, "hai_extent_length": -1, "hai_cookie": 1764690168, "hai_gid": 0, "hal_archive_id": 1, "hal_flags": 0, "hai_data": "cr=job1", "timestamp": 0}, "#,
        r#"{"hai_action": 20, "hai_fid": {"f_seq": 8589935617, "f_oid": 1, "f_ver": 0}, "hai_dfid": {"f_seq": 8589935617, "f_oid": 1, "f_ver": 0}, "hai_extent_offset": 0, "hai_extent_length": -1, "hai_cookie": 1764690165, "hai_gid": 0, "hal_archive_id": 1, "hal_flags": 0, "hai_data": "tag=n0,cr=job1", "timestamp": 0}, "#,
        r#"{"hai_action": 20, "hai_fid": {"f_seq": 8589935617, "f_oid": -2147483647, "f_ver": 0}, "hai_dfid": {"f_seq": 8589935617, "f_oid": -2147483647, "f_ver": 0}, "hai_extent_offset": 0, "hai_extent_length": -1, "hai_cookie": 66189199606, "hai_gid": 0, "hal_archive_id": 1, "hal_flags": 0, "hai_data": "x\u0000y", "timestamp": 0}"#,
        r#"]}, "command": "recv"}"#
    );
    assert_eq!(without(&c.ask(work), r#""timestamp": "#), want);

    let mut e = daemon.peer();
    assert_eq!(e.ask(r#"{"command": "ehlo"}"#), EHLO);
    daemon.wait_for_status("three peers and the asker", |status| status["clients_connected"] == 4);
    let status = without(&e.ask(r#"{"command": "status", "verbose": 6}"#), r#""client_id": "localhost:"#);
    let want = concat!(
        r#"{"command": "status", "running_restore": 1, "running_archive": 2, "pending_archive": 1, "clients_connected": 3, "clients": ["#,
        r#"{"client_id": "localhost:0", "status": "ready", "active_requests": [], "waiting_restore": [], "waiting_remove": [], "waiting_archive": [], "cancels": [], "batches": []}, "#,
        r#"{"client_id": "localhost:0", "status": "init", "active_requests": [], "waiting_restore": [], "waiting_remove": [], "waiting_archive": [], "cancels": [], "batches": []}, "#,
        r#"{"client_id": "m0", "current_restore": 1, "current_archive": 2, "status": "ready", "active_requests": ["#,
        r#"{"hai_fid": {"f_seq": 8589935617, "f_oid": 4, "f_ver": 0}, "hai_cookie": 1764690168, "hai_data": "cr=job1"}, "#,
        r#"{"hai_fid": {"f_seq": 8589935617, "f_oid": 1, "f_ver": 0}, "hai_cookie": 1764690165, "hai_data": "tag=n0,cr=job1"}, "#,
        r#"{"hai_fid": {"f_seq": 8589935617, "f_oid": -2147483647, "f_ver": 0}, "hai_cookie": 66189199606, "hai_data": "x"}], "#,
        r#""waiting_restore": [], "waiting_remove": [], "waiting_archive": [], "cancels": [], "batches": []}], "#,
        r#""waiting_restore": [], "waiting_remove": [], "waiting_archive": ["#,
        r#"{"hai_fid": {"f_seq": 8589935617, "f_oid": 3, "f_ver": 0}, "hai_cookie": 1764690167, "hai_data": ""}]}"#
    );
    assert_eq!(status, want);

    c.done(0x692f_08f8, 4, 0);
    c.done(12345, 4, 0);
    let incomplete = c.ask(r#"{"command": "done", "hai_cookie": 12345}"#);
    assert_eq!(
        incomplete,
        r#"{"command": "done", "status": 22, "error": "cookie or fid not set -- old client?"}"#
    );
    c.done(0x692f_08f5, 1, 125);

    let bad = d.ask(r#"{"command": "lock", "locked": 7}"#);
    assert_eq!(bad, r#"{"command": "lock", "status": -22, "error": "invalid locked value"}"#);
    assert_eq!(d.ask(r#"{"command": "lock", "locked": 1}"#), r#"{"command": "lock"}"#);
    let none = d.ask(r#"{"command": "queue"}"#);
    assert_eq!(none, r#"{"command": "queue", "status": 22, "error": "No hsm_action_items set"}"#);
    let it = item(20, 77, 77, "");
    let fs = d.ask(&format!(r#"{{"command": "queue", "fsname": "bad", "hsm_action_items": [{it}]}}"#));
    assert_eq!(fs, r#"{"command": "queue", "status": 22, "error": "Bad fsname"}"#);
    assert_eq!(d.queue(&[it.clone(), it.clone()]), r#"{"command": "queue", "enqueued": 1, "skipped": 1}"#);
    let bad = d.queue(&[it.replace(r#""hai_gid": 0, "#, "")]);
    assert_eq!(
        bad,
        r#"{"command": "queue", "status": -22, "error": "Error while parsing hsm action items"}"#
    );

    // The mover goes; it keeps its work for the grace time.
    drop(c);
    let gone =
        |status: &serde_json::Value| client(status, "m0").is_some_and(|c| c["status"] == "disconnected");
    let status = daemon.wait_for_status("disconnected", gone);
    let m0 = client(&status, "m0").unwrap();
    assert_eq!(m0["active_requests"].as_array().unwrap().len(), 1, "{status}");
    assert!(m0["disconnected_timestamp"].as_i64().unwrap() > 1_700_000_000_000_000_000);
    let status = daemon.wait_for_status("after grace", |status| client(status, "m0").is_none());
    assert_eq!(status["locked"], 1);
    assert_eq!(status["pending_cancel"], serde_json::Value::Null, "C leaks it");
}

/// `t2-nonutf8-dup-partial`: C drops the duplicate of a running request, then the mover's error ends it: it is lost until
/// the MDT gives up on it (4.9 b).
#[test]
fn session_2_a_request_that_comes_again_while_it_runs_is_not_lost() {
    let daemon = Setup::default().start();
    let mut c = daemon.mover("m0");
    let it = item(21, 21, 0x1001, "");
    assert_eq!(daemon.peer().queue(std::slice::from_ref(&it)), r#"{"command": "queue", "enqueued": 1}"#);
    assert_eq!(oids(&c.work("")), [21]);
    assert_eq!(daemon.peer().queue(&[it]), r#"{"command": "queue", "skipped": 1}"#);
    c.done(0x1001, 21, 5);
    assert_eq!(oids(&c.work("")), [21]);
    c.done(0x1001, 21, 0);
    assert_eq!(daemon.status()["running_restore"], serde_json::Value::Null);
}

/// C: a QUEUE does not wake movers that wait (defect 23).
#[test]
fn a_queue_command_wakes_a_waiting_mover() {
    let daemon = Setup::default().start();
    let mut c = daemon.mover("m0");
    c.send(r#"{"command": "recv", "max_bytes": 1048576}"#);
    daemon
        .wait_for_status("waiting", |status| client(status, "m0").is_some_and(|c| c["status"] == "waiting"));
    assert_eq!(daemon.peer().queue(&[item(20, 1, 1, "")]), r#"{"command": "queue", "enqueued": 1}"#);
    let reply: serde_json::Value = serde_json::from_str(&c.recv().unwrap()).unwrap();
    assert_eq!(oids(&reply), [1]);
}

/// `t7-batch-hostmapping`.
#[test]
fn session_7_batches_and_host_mapping() {
    let conf = "batch_archives_slices_sec 10 20\nbatch_archives_slots_per_client 2\n\
        archive_on_hosts tag=n0 m0\narchive_on_hosts_ch grouping= 10 m1\n";
    let daemon = Setup::conf(conf).start();
    let mut c = daemon.mover("m1");
    let items = [
        item(20, 1, 0x5000, "a,grouping=test0,b"),
        item(20, 2, 0x5001, "tag=n0"),
        item(20, 3, 0x5002, "x=1"),
        item(20, 4, 0x5003, "x=2"),
        item(20, 5, 0x5004, "x=3"),
    ];
    assert_eq!(daemon.peer().queue(&items), r#"{"command": "queue", "enqueued": 5}"#);
    let work = c.work(r#", "max_archive": 4"#);
    assert_eq!(oids(&work), [1, 3]);
    let data: Vec<_> =
        work["hsm_action_list"]["list"].as_array().unwrap().iter().map(|i| &i["hai_data"]).collect();
    assert_eq!(data, ["a,grouping=7,b", "x=1"]);
    let status = daemon.status();
    assert_eq!((&status["running_archive"], &status["pending_archive"]), (&2.into(), &3.into()), "{status}");
    let m1 = client(&status, "m1").unwrap();
    let batches = m1["batches"].as_array().unwrap();
    let hints: Vec<_> = batches.iter().map(|batch| (&batch["hint"], &batch["current_count"])).collect();
    assert_eq!(hints, [(&"a,grouping=7,b".into(), &1.into()), (&"x=1".into(), &1.into())]);
    let m0 = client(&status, "m0").unwrap();
    assert_eq!((&m0["status"], &m0["batches"][0]["hint"]), (&"disconnected".into(), &"tag=n0".into()));
    assert_eq!(m0["batches"][0]["waiting_archive"][0]["hai_cookie"], 0x5001);
}

/// C aborts on a mover of another archive id being starved, and `archive_ids` decide who gets what.
#[test]
fn movers_get_only_their_archive_ids() {
    let daemon = Setup::default().start();
    let items: Vec<_> = (1..=200).map(|n| item_of(20, n, u64::from(n), 1 + n / 200, "")).collect();
    assert_eq!(daemon.peer().queue(&items), r#"{"command": "queue", "enqueued": 200}"#);
    let mut two = daemon.peer();
    assert_eq!(two.ask(r#"{"command": "ehlo", "id": "two", "archive_ids": [2, 3]}"#), EHLO);
    assert_eq!(oids(&two.work("")), [200]);
    assert_eq!(
        two.ask(r#"{"command": "recv", "max_bytes": 1048576}{"command": "recv", "max_bytes": 1048576}"#),
        BAD_RECV
    );
}
