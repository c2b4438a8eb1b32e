//! The sessions recorded with the C server, as far as they show the core; the codec has its own tests.

use super::*;

/// What a text says that was recorded with other times and ports: `TIME` stands for any number.
fn assert_like(got: &str, want: &str) {
    let mut got_rest = got;
    for (number, part) in want.split("TIME").enumerate() {
        if number > 0 {
            let digits = got_rest.chars().take_while(char::is_ascii_digit).count();
            assert!(digits > 0, "a time is missing at `{got_rest}` in {got}");
            got_rest = &got_rest[digits..];
        }
        let Some(rest) = got_rest.strip_prefix(part) else {
            panic!("got  {got}\nwant {want}\nfrom {got_rest}");
        };
        got_rest = rest;
    }
    assert_eq!(got_rest, "", "too much in {got}");
}

fn archive2(oid: u32, data: &str) -> ActionItem {
    ActionItem { archive_id: 2, ..archive(oid, data) }
}

/// t0: batching with two slots. In C `tag=b` got a slot of the asker's own connection, a status client that can run
/// nothing (defect 25); here it gets the mover's second slot.
#[test]
fn t0_both_sides() {
    let mut s = Session::new(HsmConfig { batch: batch(5, Some(60), 2), ..config() });
    s.connect(53308);
    assert_eq!(
        s.status(53308, 4),
        "{\"command\": \"status\", \"clients_connected\": 1, \"clients\": [{\"client_id\": \"localhost:53308\", \
         \"status\": \"init\", \"batches\": [{}, {}]}]}"
    );
    s.mover_for(1, "mover1", &[1, 2]);
    let items = vec![
        archive2(1, "tag=a"),
        archive2(2, "tag=a"),
        archive2(3, "tag=b"),
        ActionItem { archive_id: 2, ..restore(4, "") },
        ActionItem { archive_id: 2, ..remove(5, "") },
    ];
    let effects = s.queue(53308, items);
    assert_eq!(*replies(&effects, 53308)[0], Reply::Queue { enqueued: 5, skipped: 0, status: 0, error: "" });
    let effects = s.queue(53308, vec![archive2(1, "tag=a")]);
    assert_eq!(*replies(&effects, 53308)[0], Reply::Queue { enqueued: 0, skipped: 1, status: 0, error: "" });

    let effects = s.recv(1, limits(1, 1, 0));
    let work = list(&effects, 1).unwrap();
    assert_eq!((work.archive_id, work.flags), (2, 0));
    assert_eq!(cookies(&effects, 1), [4, 1]);
    assert!(work.items.iter().all(|item| item.timestamp > 0));

    assert_like(
        &s.status(53308, 6),
        "{\"command\": \"status\", \"running_restore\": 1, \"running_archive\": 1, \"pending_archive\": 2, \
         \"pending_remove\": 1, \"clients_connected\": 2, \"clients\": [{\"client_id\": \"mover1\", \
         \"current_restore\": 1, \"current_archive\": 1, \"status\": \"ready\", \"active_requests\": \
         [{\"hai_fid\": {\"f_seq\": 8589935617, \"f_oid\": 4, \"f_ver\": 0}, \"hai_cookie\": 4, \"hai_data\": \"\"}, \
         {\"hai_fid\": {\"f_seq\": 8589935617, \"f_oid\": 1, \"f_ver\": 0}, \"hai_cookie\": 1, \"hai_data\": \
         \"tag=a\"}], \"waiting_restore\": [], \"waiting_remove\": [], \"waiting_archive\": [], \"cancels\": [], \
         \"batches\": [{\"hint\": \"tag=a\", \"current_count\": 1, \"expire_idle_s\": TIME, \"expire_max_s\": \
         TIME, \"waiting_archive\": [{\"hai_fid\": {\"f_seq\": 8589935617, \"f_oid\": 2, \"f_ver\": 0}, \
         \"hai_cookie\": 2, \"hai_data\": \"tag=a\"}]}, {\"hint\": \"tag=b\", \"expire_idle_s\": TIME, \
         \"expire_max_s\": TIME, \"waiting_archive\": [{\"hai_fid\": {\"f_seq\": 8589935617, \"f_oid\": 3, \
         \"f_ver\": 0}, \"hai_cookie\": 3, \"hai_data\": \"tag=b\"}]}]}, {\"client_id\": \"localhost:53308\", \
         \"status\": \"init\", \"active_requests\": [], \"waiting_restore\": [], \"waiting_remove\": [], \
         \"waiting_archive\": [], \"cancels\": [], \"batches\": [{\"waiting_archive\": []}, \
         {\"waiting_archive\": []}]}], \"waiting_restore\": [], \"waiting_remove\": [{\"hai_fid\": {\"f_seq\": \
         8589935617, \"f_oid\": 5, \"f_ver\": 0}, \"hai_cookie\": 5, \"hai_data\": \"\"}], \"waiting_archive\": []}",
    );

    let effects = s.done(1, 1, 1, 0);
    assert_eq!(replies(&effects, 1), [&Reply::Done]);
    s.lock(53308, Lock::Locked);
    assert_like(
        &s.status(53308, 4),
        "{\"command\": \"status\", \"running_restore\": 1, \"pending_archive\": 2, \"pending_remove\": 1, \
         \"done_archive\": 1, \"clients_connected\": 2, \"locked\": 1, \"clients\": [{\"client_id\": \"mover1\", \
         \"current_restore\": 1, \"done_archive\": 1, \"status\": \"ready\", \"batches\": [{\"hint\": \"tag=a\", \
         \"expire_idle_s\": TIME, \"expire_max_s\": TIME}, {\"hint\": \"tag=b\", \"expire_idle_s\": TIME, \
         \"expire_max_s\": TIME}]}, {\"client_id\": \"localhost:53308\", \"status\": \"init\", \"batches\": [{}, {}]}]}",
    );
    s.disconnect(1);
    s.lock(53308, Lock::Unlocked);
    assert_like(
        &s.status(53308, 4),
        "{\"command\": \"status\", \"running_restore\": 1, \"pending_archive\": 2, \"pending_remove\": 1, \
         \"done_archive\": 1, \"clients_connected\": 1, \"clients\": [{\"client_id\": \"localhost:53308\", \
         \"status\": \"init\", \"batches\": [{}, {}]}, {\"client_id\": \"mover1\", \"current_restore\": 1, \
         \"done_archive\": 1, \"status\": \"disconnected\", \"batches\": [{\"hint\": \"tag=a\", \"expire_idle_s\": \
         TIME, \"expire_max_s\": TIME}, {\"hint\": \"tag=b\", \"expire_idle_s\": TIME, \"expire_max_s\": TIME}], \
         \"disconnected_timestamp\": TIME}]}",
    );
    let effects = s.recv(53308, ANY);
    let text = "Client must send EHLO first and not already be in RECV";
    assert_eq!(error(&effects, 53308), Some(("recv", 22, text)));
    // The restore still runs, so there is no end yet.
    assert!(!s.lock(53308, Lock::LockedQuit).contains(&Effect::Terminate));
}

fn queued_t1() -> Vec<ActionItem> {
    vec![
        item(Action::Archive, 1, 0x692f_08f5, "tag=n0,cr=job1"),
        item(Action::Archive, 0x8000_0001, 0xf_692f_08f6, "x\0y"),
        item(Action::Archive, 3, 0x692f_08f7, ""),
        item(Action::Restore, 4, 0x692f_08f8, "cr=job1"),
    ]
}

/// t1: the protocol, status, cancels and `queue`, with C's leaks of `pending_cancel` and of the line end left out.
#[test]
fn t1_protocol_status_cancel_queue() {
    let mut s = Session::new(HsmConfig {
        reporting_hint: Some("cr=".into()),
        reporting_interval: Duration::from_secs(1),
        client_grace: Duration::from_secs(3),
        ..config()
    });
    s.connect(1);
    let text = "Client must send EHLO first and not already be in RECV";
    assert_eq!(error(&s.recv(1, ANY), 1), Some(("recv", 22, text)));
    let m0 = || Ehlo { id: Some("m0".into()), archive_ids: vec![1, 2], ..Ehlo::default() };
    assert!(matches!(replies(&s.ehlo(1, m0()), 1)[..], [Reply::Ehlo(_)]));
    assert_eq!(error(&s.ehlo(1, m0()), 1), Some(("ehlo", 22, "Client cannot send EHLO twice")));
    s.connect(2);
    assert_eq!(s.ehlo(2, m0()), [Effect::Probe { conn: ConnId(1) }]);
    assert_eq!(error(&s.pass(3), 2), Some(("ehlo", 17, "id already used by another client")));
    // C answers with command "done".
    let effects = s.message(2, Message::EhloBadArchiveId);
    assert_eq!(error(&effects, 2), Some(("ehlo", 22, "Bad archive id in list")));

    assert_eq!(s.recv(1, Recv { max_archive: Some(2), ..ANY }), []);
    let effects = s.lustre(queued_t1());
    assert_eq!(cookies(&effects, 1), [0x692f_08f8, 0x692f_08f5, 0xf_692f_08f6]);
    assert_eq!(&*list(&effects, 1).unwrap().items[2].data, b"x\0y");
    assert_eq!(
        reports(&effects),
        [
            "job1: new [0x200000401:0x1:0x0]",
            "job1: new [0x200000401:0x4:0x0]",
            "job1: sent [0x200000401:0x4:0x0] m0",
            "job1: sent [0x200000401:0x1:0x0] m0",
        ]
    );
    s.lustre(vec![queued_t1().swap_remove(0)]);
    assert_eq!(
        s.status(2, 6),
        "{\"command\": \"status\", \"running_restore\": 1, \"running_archive\": 2, \"pending_archive\": 1, \
         \"clients_connected\": 2, \"clients\": [{\"client_id\": \"localhost:2\", \"status\": \"init\", \
         \"active_requests\": [], \"waiting_restore\": [], \"waiting_remove\": [], \"waiting_archive\": [], \
         \"cancels\": [], \"batches\": []}, {\"client_id\": \"m0\", \"current_restore\": 1, \"current_archive\": 2, \
         \"status\": \"ready\", \"active_requests\": [{\"hai_fid\": {\"f_seq\": 8589935617, \"f_oid\": 4, \"f_ver\": \
         0}, \"hai_cookie\": 1764690168, \"hai_data\": \"cr=job1\"}, {\"hai_fid\": {\"f_seq\": 8589935617, \
         \"f_oid\": 1, \"f_ver\": 0}, \"hai_cookie\": 1764690165, \"hai_data\": \"tag=n0,cr=job1\"}, {\"hai_fid\": \
         {\"f_seq\": 8589935617, \"f_oid\": -2147483647, \"f_ver\": 0}, \"hai_cookie\": 66189199606, \"hai_data\": \
         \"x\"}], \"waiting_restore\": [], \"waiting_remove\": [], \"waiting_archive\": [], \"cancels\": [], \
         \"batches\": []}], \"waiting_restore\": [], \"waiting_remove\": [], \"waiting_archive\": [{\"hai_fid\": \
         {\"f_seq\": 8589935617, \"f_oid\": 3, \"f_ver\": 0}, \"hai_cookie\": 1764690167, \"hai_data\": \"\"}]}"
    );

    assert_eq!(replies(&s.done(1, 0x692f_08f8, 4, 0), 1), [&Reply::Done]);
    assert_eq!(replies(&s.done(1, 12345, 4, 0), 1), [&Reply::Done]);
    let effects = s.message(1, Message::DoneIncomplete);
    assert_eq!(error(&effects, 1), Some(("done", 22, "cookie or fid not set -- old client?")));

    let cancel = |oid, cookie| item(Action::Cancel, oid, cookie, "");
    let effects = s.lustre(vec![cancel(1, 0x692f_08f5), cancel(3, 0x692f_08f7), cancel(9, 0x99)]);
    assert_eq!(endings(&effects), [(0x692f_08f7, 125), (0x99, 125)]);
    assert_eq!(reports(&effects), ["job1: cancel [0x200000401:0x1:0x0]"]);
    let effects = s.recv(1, Recv { max_archive: Some(2), ..ANY });
    let work = list(&effects, 1).unwrap();
    assert_eq!(work.items.len(), 1);
    let sent = &work.items[0];
    assert_eq!((sent.action, sent.cookie, sent.fid), (Action::Cancel, 0x692f_08f5, fid(1)));
    assert_eq!((sent.archive_id, sent.flags, sent.data.len()), (1, 0, 0));
    assert!(sent.timestamp > 0);
    let effects = s.done(1, 0x692f_08f5, 1, 125);
    assert_eq!(reports(&effects), ["job1: done [0x200000401:0x1:0x0] 125"]);

    let effects = s.message(2, Message::Lock(None));
    assert_eq!(error(&effects, 2), Some(("lock", -22, "invalid locked value")));
    s.lock(2, Lock::Locked);
    let queue = |queue| Message::Queue(queue);
    let reply = |effects: Vec<Effect>| replies(&effects, 2)[0].clone();
    let answer = |enqueued, skipped, status, error| Reply::Queue { enqueued, skipped, status, error };
    assert_eq!(reply(s.message(2, queue(Queue::default()))), answer(0, 0, 22, "No hsm_action_items set"));
    let it = ActionItem { fid: Fid::new(1, 2, 0), dfid: Fid::new(1, 2, 0), ..archive(77, "") };
    let bad = Queue { fsname: Some("bad".into()), items: Some(vec![it.clone()]), bad_items: 0 };
    assert_eq!(reply(s.message(2, queue(bad))), answer(0, 0, 22, "Bad fsname"));
    assert_eq!(reply(s.queue(2, vec![it.clone(), it])), answer(1, 1, 0, ""));
    let bad = Queue { items: Some(Vec::new()), bad_items: 1, ..Queue::default() };
    assert_eq!(reply(s.message(2, queue(bad))), answer(0, 0, -22, "Error while parsing hsm action items"));
    s.event(Event::LustreEnded { key: RequestKey { cookie: 0x692f_08f7, fid: fid(3) }, errno: 0 });
    assert_eq!(
        s.status(2, 4),
        "{\"command\": \"status\", \"running_archive\": 1, \"pending_archive\": 1, \"done_restore\": 1, \
         \"done_cancel\": 2, \"clients_connected\": 2, \"locked\": 1, \"clients\": [{\"client_id\": \"localhost:2\", \
         \"status\": \"init\", \"batches\": []}, {\"client_id\": \"m0\", \"current_archive\": 1, \"done_restore\": 1, \
         \"status\": \"waiting\", \"batches\": []}]}"
            .replace("waiting", "ready")
    );
    s.disconnect(1);
    let status = s.status(2, 6);
    assert!(status.contains(
        "\"client_id\": \"m0\", \"current_archive\": 1, \"done_restore\": 1, \"status\": \"disconnected\""
    ));
    s.pass(4);
    assert_eq!(
        s.status(2, 6),
        "{\"command\": \"status\", \"pending_archive\": 2, \"done_restore\": 1, \"done_cancel\": 2, \
         \"clients_connected\": 1, \"locked\": 1, \"clients\": [{\"client_id\": \"localhost:2\", \"status\": \"init\", \
         \"active_requests\": [], \"waiting_restore\": [], \"waiting_remove\": [], \"waiting_archive\": [], \"cancels\": \
         [], \"batches\": []}], \"waiting_restore\": [], \"waiting_remove\": [], \"waiting_archive\": [{\"hai_fid\": \
         {\"f_seq\": 1, \"f_oid\": 2, \"f_ver\": 0}, \"hai_cookie\": 77, \"hai_data\": \"\"}, {\"hai_fid\": \
         {\"f_seq\": 8589935617, \"f_oid\": -2147483647, \"f_ver\": 0}, \"hai_cookie\": 66189199606, \"hai_data\": \
         \"x\"}]}"
    );
}

/// t2: C dropped the second delivery of a running request and then forgot it when the first attempt failed; it could not
/// take data that is not UTF-8 at all.
#[test]
fn t2_redelivery_and_odd_bytes() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    let mut odd = archive(20, "");
    odd.data = (*b"\xff\xfe").into();
    s.lustre(vec![odd]);
    assert_eq!(s.work(1, limits(1, 0, 0)), [20]);
    s.done(1, 20, 20, 0);
    s.lustre(vec![item(Action::Restore, 21, 0x1001, "")]);
    assert_eq!(s.work(1, ANY), [0x1001]);
    s.lustre(vec![item(Action::Restore, 21, 0x1001, "")]);
    assert_eq!(replies(&s.done(1, 0x1001, 21, 5), 1), [&Reply::Done]);
    assert_eq!(s.work(1, ANY), [0x1001], "it is run again");
    s.done(1, 0x1001, 21, 5);
    assert_eq!(s.work(1, ANY), [0; 0], "but not for ever");
    assert_eq!(s.core.counters().redeliveries, 1);
}

/// t6: `protocol_reply_recv: Assertion "archive_id != 0" failed` in C.
#[test]
fn t6_archive_id_zero() {
    let mut s = Session::new(config());
    s.mover(1, "m9");
    s.lustre(vec![ActionItem { archive_id: 0, ..item(Action::Remove, 1, 0x4000, "") }]);
    let effects = s.recv(1, ANY);
    assert_eq!(list(&effects, 1).unwrap().archive_id, 0);
    assert_eq!(cookies(&effects, 1), [0x4000]);
}

/// t7: batching with host mapping. `xtag=n0` is no `tag=n0` here, so it waits for a slot of m1 instead of m0's.
#[test]
fn t7_batch_and_host_mapping() {
    let mut s = Session::new(HsmConfig {
        batch: batch(10, Some(20), 2),
        host_mappings: vec![any("tag=n0", &["m0"]), hash("grouping=", Some(10), &["x", "m1", "y"])],
        client_grace: Duration::from_secs(3),
        ..config()
    });
    s.mover(1, "m1");
    let data = ["a,grouping=test0,b", "tag=n0", "x=1", "x=2", "x=3", "xtag=n0"];
    let items =
        (1u32..).zip(data).map(|(oid, data)| item(Action::Archive, oid, 0x5000 + u64::from(oid) - 1, data));
    s.lustre(items.collect());
    let effects = s.recv(1, Recv { max_archive: Some(4), ..ANY });
    assert_eq!(cookies(&effects, 1), [0x5000, 0x5002]);
    assert_eq!(&*list(&effects, 1).unwrap().items[0].data, b"a,grouping=7,b");
    assert!(
        s.store.iter().any(|op| matches!(op, StoreOp::Put(item) if &*item.data == b"a,grouping=test0,b"))
    );
    let status: serde_json::Value = serde_json::from_str(&s.status(1, 6)).unwrap();
    let entry = |cookie: u64, data: &str| {
        serde_json::json!({
            "hai_fid": {"f_seq": 0x2_0000_0401u64, "f_oid": cookie - 0x5000 + 1, "f_ver": 0},
            "hai_cookie": cookie, "hai_data": data,
        })
    };
    assert_eq!(status["running_archive"], 2);
    assert_eq!(status["pending_archive"], 4);
    let m1 = &status["clients"][0];
    assert_eq!(m1["client_id"], "m1");
    assert_eq!(
        m1["active_requests"],
        serde_json::json!([entry(0x5000, "a,grouping=7,b"), entry(0x5002, "x=1")])
    );
    assert_eq!(m1["batches"][0]["hint"], "a,grouping=7,b");
    assert_eq!(m1["batches"][0]["current_count"], 1);
    assert_eq!(m1["batches"][1]["hint"], "x=1");
    let m0 = &status["clients"][1];
    assert_eq!(m0["client_id"], "m0");
    assert_eq!(m0["status"], "disconnected");
    assert_eq!(m0["batches"][0]["hint"], "tag=n0");
    assert_eq!(m0["batches"][0]["waiting_archive"], serde_json::json!([entry(0x5001, "tag=n0")]));
    assert_eq!(m0["batches"][1], serde_json::json!({"waiting_archive": []}));
    let waiting = [entry(0x5003, "x=2"), entry(0x5004, "x=3"), entry(0x5005, "xtag=n0")];
    assert_eq!(status["waiting_archive"], serde_json::json!(waiting));
}
