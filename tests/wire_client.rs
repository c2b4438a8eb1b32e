//! The mover's side: the members and the order of the C client, and what it makes of both servers' answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use coordinatool::hsm::effect::{EhloReply, Reply, WorkList};
use coordinatool::hsm::event::{Done, Ehlo, Features, Lock, Message, Recv};
use coordinatool::hsm::{Action, ActionItem, RequestKey};
use coordinatool::wire::client::{
    LeaseReply, QueueWriter, write_done, write_ehlo, write_goes_on, write_lease, write_lock, write_recv,
    write_status, write_unheard,
};
use coordinatool::wire::{
    Failure, ReplyError, ServerMessage, parse_message, parse_reply, write_reply, write_work,
};
use lustreapi_sys::Fid;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

fn item(data: &[u8]) -> ActionItem {
    let fid = Fid::new(0x2_0000_0401, 0x8000_0001, 0);
    ActionItem { flags: 4, data: data.into(), ..ActionItem::new(Action::Archive, fid, 0xf_692f_08f6, 1) }
}

const ITEM: &str = concat!(
    r#"{"hai_action": 20, "hai_fid": {"f_seq": 8589935617, "f_oid": -2147483647, "f_ver": 0}, "#,
    r#""hai_dfid": {"f_seq": 8589935617, "f_oid": -2147483647, "f_ver": 0}, "hai_extent_offset": 0, "#,
    r#""hai_extent_length": -1, "hai_cookie": 66189199606, "hai_gid": 0, "hal_archive_id": 1, "hal_flags": 4, "#,
    r#""hai_data": "tag=a"}"#
);

#[test]
fn requests_are_the_c_client_s_bytes() {
    assert_eq!(written(|out| write_ehlo(&Ehlo::default(), out)), r#"{"command": "ehlo"}"#);
    let ehlo = Ehlo {
        id: Some("m0".into()),
        fsname: Some("testfs0".into()),
        archive_ids: vec![1, 2],
        hai_list: Some(vec![item(b"tag=a")]),
        features: Features::default(),
    };
    let want = format!(
        r#"{{"command": "ehlo", "fsname": "testfs0", "hai_list": [{ITEM}], "archive_ids": [1, 2], "id": "m0"}}"#
    );
    assert_eq!(written(|out| write_ehlo(&ehlo, out)), want);
    assert_eq!(
        written(|out| write_recv(-1, 2, 0, 1 << 20, out)),
        r#"{"command": "recv", "max_archive": -1, "max_restore": 2, "max_remove": 0, "max_bytes": 1048576}"#
    );
    assert_eq!(
        written(|out| write_done(0xf_692f_08f6, Fid::new(1, 0x8000_0001, 0), 5, out)),
        concat!(
            r#"{"command": "done", "hai_cookie": 66189199606, "#,
            r#""hai_dfid": {"f_seq": 1, "f_oid": -2147483647, "f_ver": 0}, "status": 5}"#
        )
    );
    assert_eq!(
        written(|out| write_goes_on(7, Fid::new(1, 2, 0), 38, out)),
        concat!(
            r#"{"command": "done", "hai_cookie": 7, "hai_dfid": {"f_seq": 1, "f_oid": 2, "f_ver": 0}, "#,
            r#""status": 38, "goes_on": 1}"#
        )
    );
    assert_eq!(
        written(|out| write_unheard(7, Fid::new(1, 2, 0), 2, out)),
        concat!(
            r#"{"command": "done", "hai_cookie": 7, "hai_dfid": {"f_seq": 1, "f_oid": 2, "f_ver": 0}, "#,
            r#""status": 2, "unheard": 1}"#
        )
    );
    assert_eq!(written(|out| write_lock(Lock::LockedQuit, out)), r#"{"command": "lock", "locked": 2}"#);
    assert_eq!(written(|out| write_status(6, out)), r#"{"command": "status", "verbose": 6}"#);
    assert_eq!(written(|out| write_lease(3, out)), r#"{"command": "lease", "serial": 3}"#);
    let queue = written(|out| {
        let mut queue = QueueWriter::begin(Some("testfs0"), out);
        queue.item(&item(b"tag=a"), out);
        queue.item(&item(b"tag=a"), out);
        assert_eq!(queue.len(), 2);
        queue.end(out);
    });
    let want =
        format!(r#"{{"fsname": "testfs0", "hsm_action_items": [{ITEM}, {ITEM}], "command": "queue"}}"#);
    assert_eq!(queue, want);
    let empty = written(|out| QueueWriter::begin(None, out).end(out));
    assert_eq!(empty, r#"{"hsm_action_items": [], "command": "queue"}"#);
}

#[test]
fn the_daemon_reads_what_the_client_writes() {
    let ehlo = Ehlo {
        id: Some("m\"0\"".into()),
        fsname: Some("testfs0".into()),
        archive_ids: vec![1, i32::MAX as u32],
        hai_list: Some(vec![item(b"\xff"), ActionItem { action: Action::Cancel, ..item(b"") }]),
        features: Features { binary_data: true, lease: true },
    };
    let dfid = Fid::new(u64::MAX, u32::MAX, 7);
    let cases = [
        (written(|out| write_ehlo(&ehlo, out)), Message::Ehlo(ehlo)),
        (
            written(|out| write_recv(-1, 2, 0, u32::MAX, out)),
            Message::Recv(Recv {
                max_archive: None,
                max_restore: Some(2),
                max_remove: Some(0),
                max_bytes: u64::from(u32::MAX),
            }),
        ),
        (
            written(|out| write_done(u64::MAX - 1, dfid, -1, out)),
            Message::Done(Done { cookie: u64::MAX - 1, dfid, status: -1 }),
        ),
        (written(|out| write_lease(u64::MAX, out)), Message::Lease { serial: u64::MAX }),
        (written(|out| write_lock(Lock::Locked, out)), Message::Lock(Some(Lock::Locked))),
        (written(|out| write_status(5, out)), Message::Status { verbose: 5 }),
    ];
    for (json, want) in cases {
        assert_eq!(parse_message(json.as_bytes()).unwrap(), want, "{json}");
    }
}

#[test]
fn the_client_reads_what_the_daemon_writes() {
    let refused = vec![RequestKey { cookie: u64::MAX, fid: Fid::new(1, u32::MAX, 0) }];
    let ehlo = EhloReply { lease_ms: 60_000, refused };
    let failure = |status, error: &str| Failure { status, error: error.into() };
    let cases = [
        (Reply::Ehlo(ehlo.clone()), ServerMessage::Ehlo(Ok(ehlo))),
        (Reply::Ehlo(EhloReply::default()), ServerMessage::Ehlo(Ok(EhloReply::default()))),
        (Reply::Done, ServerMessage::Done(Ok(()))),
        (Reply::Lock, ServerMessage::Lock(Ok(()))),
        (
            Reply::Lease { serial: 9, lease_ms: 1000 },
            ServerMessage::Lease(Ok(LeaseReply { serial: 9, lease_ms: 1000 })),
        ),
        (
            Reply::Queue { enqueued: 1, skipped: 0, status: -28, error: "No space left" },
            ServerMessage::Queue { enqueued: 1, skipped: 0, failure: Some(failure(-28, "No space left")) },
        ),
        (
            Reply::Error { command: "lock", status: -22, error: "invalid locked value" },
            ServerMessage::Lock(Err(failure(-22, "invalid locked value"))),
        ),
    ];
    for (reply, want) in cases {
        let json = written(|out| write_reply(&reply, out));
        assert_eq!(parse_reply(json.as_bytes()).unwrap(), want, "{json}");
    }
    assert_eq!(written(|out| write_reply(&Reply::Ehlo(EhloReply::default()), out)), r#"{"command": "ehlo"}"#);
}

#[test]
fn work_travels_whole_and_exactly_to_those_who_announced_it() {
    let items = vec![item(b"tag=a"), item(b"\xff\0"), ActionItem { action: Action::Cancel, ..item(b"") }];
    let mut work = WorkList { archive_id: 0, flags: 4, items: items.clone(), binary_data: true };
    let json = written(|out| write_work(&work, "testfs0", out));
    assert!(
        json.starts_with(
            r#"{"hsm_action_list": {"hal_version": 1, "hal_flags": 4, "hal_fsname": "testfs0", "#
        )
    );
    let Ok(ServerMessage::Recv(Ok(list))) = parse_reply(json.as_bytes()) else { panic!("{json}") };
    assert_eq!((list.archive_id, list.flags, &*list.fsname), (0, 4, "testfs0"));
    assert_eq!(list.items, items);
    work.binary_data = false;
    let json = written(|out| write_work(&work, "testfs0", out));
    assert!(!json.contains("b64"), "{json}");
    assert!(json.contains("\"hai_data\": \"\u{fffd}\\u0000\""), "{json}");
}

#[test]
fn answers_that_are_none_say_why() {
    let cases = [
        (r#"{"command": "recv"}"#, "answer to recv without `hsm_action_list`"),
        (r#"{"command": "recv", "hsm_action_list": 3}"#, "answer to recv without `hsm_action_list`"),
        (r#"{"hsm_action_list": {"list": []}, "command": "recv"}"#, "list of version 0, only 1 is known"),
        (
            r#"{"hsm_action_list": {"hal_version": 1, "list": []}, "command": "recv"}"#,
            "answer to recv without `hal_fsname`",
        ),
        (
            r#"{"hsm_action_list": {"hal_version": 1, "hal_fsname": "a", "list": 1}, "command": "recv"}"#,
            "answer to recv without `list`",
        ),
        (
            r#"{"hsm_action_list": {"hal_version": 1, "hal_fsname": "a", "list": [{}]}, "command": "recv"}"#,
            "item 0 of the list: `hai_action` is missing",
        ),
        (r#"{"command": "hello"}"#, "unknown command `hello`"),
        (r#"{"status": 22}"#, "unknown command ``"),
        ("nonsense", "invalid JSON from the server"),
    ];
    for (json, want) in cases {
        let error = parse_reply(json.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(want), "{json}: {error}");
    }
    let bad =
        parse_reply(br#"{"command": "ehlo", "status": 17, "error": "id already used by another client"}"#);
    let Ok(ServerMessage::Ehlo(Err(failure))) = bad else { panic!("{bad:?}") };
    assert_eq!(failure.to_string(), "id already used by another client (status 17)");
    assert!(matches!(parse_reply(b"[]"), Err(ReplyError::UnknownCommand(_))));
}
