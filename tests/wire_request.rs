//! What peers may send to the daemon, and what it makes of it: as sloppy as C, except where that loses data.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use coordinatool::hsm::Action;
use coordinatool::hsm::event::{Done, Ehlo, Features, Lock, Message, Queue, Recv};
use coordinatool::wire::{ItemError, RequestError, parse_message, parse_message_with};
use lustreapi_sys::Fid;

fn parse(json: &str) -> Message {
    parse_message(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// An item as the C server writes it, with `{}` replaced.
fn item(changes: &[(&str, &str)]) -> String {
    let fid = r#"{"f_seq": 8589935617, "f_oid": 1, "f_ver": 0}"#;
    let mut members = vec![
        ("hai_action", "20"),
        ("hai_fid", fid),
        ("hai_dfid", fid),
        ("hai_extent_offset", "0"),
        ("hai_extent_length", "-1"),
        ("hai_cookie", "1764690165"),
        ("hai_gid", "0"),
        ("hal_archive_id", "1"),
        ("hal_flags", "0"),
        ("hai_data", "\"tag=n0\""),
    ];
    for (key, value) in changes {
        members.retain(|(k, _)| k != key);
        if !value.is_empty() {
            members.push((key, value));
        }
    }
    let members: Vec<String> = members.iter().map(|(k, v)| format!("\"{k}\": {v}")).collect();
    format!("{{{}}}", members.join(", "))
}

fn queue(items: &[String]) -> Queue {
    let json = format!("{{\"hsm_action_items\": [{}], \"command\": \"queue\"}}", items.join(", "));
    match parse(&json) {
        Message::Queue(queue) => queue,
        other => panic!("{other:?}"),
    }
}

#[test]
fn absent_and_odd_members_count_as_c_counts_them() {
    let all = Recv { max_archive: None, max_restore: None, max_remove: None, max_bytes: 1 << 20 };
    let done = |cookie, status| Message::Done(Done { cookie, dfid: Fid::new(1, 4, 0), status });
    let unheard = |cookie, status| Message::Unheard(Done { cookie, dfid: Fid::new(1, 4, 0), status });
    let key = r#""hai_dfid":{"f_seq":1,"f_oid":4,"f_ver":0}"#;
    let cases = [
        (r#"{"command":"recv"}"#.to_owned(), Message::Recv(all)),
        (r#"{"command":"recv","max_archive":2}"#.into(), Message::Recv(Recv { max_archive: Some(2), ..all })),
        (
            r#"{"max_archive":-1,"max_restore":0,"max_remove":3,"max_bytes":172,"command":"recv"}"#.into(),
            Message::Recv(Recv {
                max_archive: None,
                max_restore: Some(0),
                max_remove: Some(3),
                max_bytes: 172,
            }),
        ),
        (r#"{"command":"recv","max_archive":"2","max_bytes":null}"#.into(), Message::Recv(all)),
        (r#"{"command":"recv","max_archive":2.5,"unknown":[{"a":[1,2]}]}"#.into(), Message::Recv(all)),
        (format!(r#"{{"command":"done","hai_cookie":12345,{key},"status":0}}"#), done(12345, 0)),
        (format!(r#"{{"command":"done","archive_id":2,"hai_cookie":1,{key},"status":16}}"#), done(1, 16)),
        (format!(r#"{{"command":"done","hai_cookie":1,{key},"status":-1}}"#), done(1, -1)),
        (format!(r#"{{"command":"done","hai_cookie":1,{key},"status":4294967296}}"#), done(1, i32::MAX)),
        // A C mover sends the lower half of cookie 0x80000001, sign and all.
        (format!(r#"{{"command":"done","hai_cookie":-2147483647,{key}}}"#), done(0xffff_ffff_8000_0001, 0)),
        (format!(r#"{{"command":"done",{key},"hai_cookie":18446744073709551615}}"#), done(u64::MAX, 0)),
        (format!(r#"{{"command":"done","hai_cookie":1,{key},"status":38,"goes_on":1}}"#), Message::GoesOn),
        (format!(r#"{{"command":"done","hai_cookie":1,{key},"status":2,"unheard":1}}"#), unheard(1, 2)),
        (format!(r#"{{"command":"done","hai_cookie":1,{key},"status":2,"unheard":0}}"#), done(1, 2)),
        // A success that the MDT did not take is none.
        (format!(r#"{{"command":"done","hai_cookie":1,{key},"status":0,"unheard":1}}"#), done(1, 0)),
        (r#"{"command":"done","hai_cookie":12345}"#.into(), Message::DoneIncomplete),
        (format!(r#"{{"command":"done","hai_cookie":"1",{key}}}"#), Message::DoneIncomplete),
        (r#"{"command":"done","hai_cookie":1,"hai_dfid":[1,4,0]}"#.into(), Message::DoneIncomplete),
        (
            r#"{"command":"done","hai_cookie":1,"hai_dfid":{"f_seq":1,"f_oid":4}}"#.into(),
            Message::DoneIncomplete,
        ),
        (r#"{"command":"lock"}"#.into(), Message::Lock(Some(Lock::Unlocked))),
        (r#"{"command":"lock","locked":"1"}"#.into(), Message::Lock(Some(Lock::Unlocked))),
        (r#"{"command":"lock","locked":1}"#.into(), Message::Lock(Some(Lock::Locked))),
        (r#"{"command":"lock","locked":2}"#.into(), Message::Lock(Some(Lock::LockedQuit))),
        (r#"{"command":"lock","locked":7}"#.into(), Message::Lock(None)),
        (r#"{"command":"lock","locked":-1}"#.into(), Message::Lock(None)),
        (r#"{"command":"status"}"#.into(), Message::Status { verbose: 4 }),
        (r#"{"command":"status","verbose":6}"#.into(), Message::Status { verbose: 6 }),
        (r#"{"command":"lease","serial":7}"#.into(), Message::Lease { serial: 7 }),
        (r#"{"command":"queue"}"#.into(), Message::Queue(Queue::default())),
        (
            r#"{"command":"queue","fsname":"a\u0000b","hsm_action_items":[]}"#.into(),
            Message::Queue(Queue { fsname: Some("a".into()), items: Some(vec![]), bad_items: 0 }),
        ),
        // Of a member that comes twice the last one counts, as with jansson.
        (
            r#"{"command":"recv","command":"lock","locked":1,"locked":0}"#.into(),
            Message::Lock(Some(Lock::Unlocked)),
        ),
    ];
    for (json, want) in cases {
        assert_eq!(parse(&json), want, "{json}");
    }
}

#[test]
fn ehlo_says_who_and_what() {
    let features = Features { binary_data: true, lease: true };
    let cases = [
        (r#"{"command":"ehlo"}"#, Ehlo::default()),
        (r#"{"command":"ehlo","id":"","archive_ids":{},"coordinatool":3}"#, Ehlo::default()),
        (r#"{"command":"ehlo","id":5,"fsname":null}"#, Ehlo::default()),
        (
            r#"{"command":"ehlo","fsname":"testfs0","id":"m0","archive_ids":[1,2],"hai_list":[]}"#,
            Ehlo {
                id: Some("m0".into()),
                fsname: Some("testfs0".into()),
                archive_ids: vec![1, 2],
                hai_list: Some(vec![]),
                features: Features::default(),
            },
        ),
        (
            r#"{"command":"ehlo","coordinatool":{"version":1,"binary_data":true,"lease":true,"later":[]}}"#,
            Ehlo { features, ..Ehlo::default() },
        ),
        (
            r#"{"command":"ehlo","coordinatool":{"binary_data":1,"lease":false}}"#,
            Ehlo { features: Features::default(), ..Ehlo::default() },
        ),
    ];
    for (json, want) in cases {
        assert_eq!(parse(json), Message::Ehlo(want), "{json}");
    }
    for bad in ["0", "-1", "\"1\"", "null", "2147483648", "1.5", "[]", "18446744073709551615"] {
        let json = format!("{{\"command\":\"ehlo\",\"archive_ids\":[1,{bad}]}}");
        assert_eq!(parse(&json), Message::EhloBadArchiveId, "{json}");
    }
}

#[test]
fn what_c_answers_by_closing_is_an_error() {
    let long = format!("{{\"command\":\"ehlo\",\"id\":\"{}\"}}", "x".repeat(1025));
    let many = format!("{{\"command\":\"ehlo\",\"archive_ids\":[{}1]}}", "1,".repeat(1024));
    let cases = [
        (r#"{"command":"nope"}"#, "unknown command `nope`"),
        (r#"{"command":"Recv"}"#, "unknown command `Recv`"),
        (r#"{"command":3}"#, "`command` is not a string"),
        (r#"{}"#, "the message has no `command`"),
        (r#"{"command":"recv",}"#, "invalid JSON"),
        (r#"{"command":"recv"} {"#, "invalid JSON"),
        (r#"{"command":"re"#, "invalid JSON"),
        ("{\"command\":\"recv\",\"id\":\"\\ud800\"}", "invalid JSON"),
        (r#"[{"command":"recv"}]"#, "not a JSON object"),
        ("", "invalid JSON"),
        (&long, "`id` is longer than 1024 bytes"),
        (&many, "`archive_ids` has more than 1024 elements"),
    ];
    for (json, want) in cases {
        let error = parse_message(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(want), "{json}: {error}");
    }
    let not_utf8 = b"{\"command\":\"ehlo\",\"id\":\"\xff\"}";
    assert!(matches!(parse_message(not_utf8), Err(RequestError::Json(_))));
}

#[test]
fn bad_items_are_named_and_good_ones_are_kept() {
    let fid = |text: &str| [("hai_fid", text.to_owned())];
    let mut cases: Vec<(String, ItemError)> = Vec::new();
    let wrong = |field, expected| ItemError::WrongType { field, expected };
    let int = "an integer";
    let whole = "an object of f_seq, f_oid and f_ver";
    for field in [
        "hai_action",
        "hai_fid",
        "hai_dfid",
        "hai_extent_offset",
        "hai_extent_length",
        "hai_cookie",
        "hai_gid",
        "hai_data",
    ] {
        cases.push((item(&[(field, "")]), ItemError::Missing(field)));
        let expected = if field.ends_with("fid") { whole } else { int };
        let expected = if field == "hai_data" { "a string" } else { expected };
        cases.push((item(&[(field, "true")]), wrong(field, expected)));
        cases.push((item(&[(field, "1.5")]), wrong(field, expected)));
    }
    for text in [
        r#"{"f_seq": 1, "f_oid": 2}"#,
        r#"{"f_seq": 1, "f_oid": 2, "f_ver": 0, "more": 1}"#,
        r#"{"f_seq": 1, "f_oid": 4294967296, "f_ver": 0}"#,
        r#"{"f_seq": 1, "f_oid": -2147483649, "f_ver": 0}"#,
        r#"{"f_seq": "1", "f_oid": 2, "f_ver": 0}"#,
        r#"{"f_seq": 18446744073709551616, "f_oid": 2, "f_ver": 0}"#,
        "[1, 2, 0]",
    ] {
        let [(key, value)] = fid(text);
        cases.push((item(&[(key, &value)]), wrong("hai_fid", whole)));
    }
    cases.extend([
        (item(&[("hai_action", "23")]), ItemError::BadAction(23)),
        (item(&[("hai_action", "10")]), ItemError::BadAction(10)),
        (item(&[("hal_archive_id", "")]), ItemError::NoArchiveId),
        (item(&[("hal_archive_id", "0")]), ItemError::NoArchiveId),
        (item(&[("hal_archive_id", "\"1\"")]), ItemError::NoArchiveId),
        (item(&[("hai_action", "22"), ("hal_archive_id", "")]), ItemError::NoArchiveId),
        (item(&[("hal_archive_id", "-1")]), wrong("hal_archive_id", "an archive id")),
        (item(&[("hai_data_b64", "\"?\"")]), wrong("hai_data_b64", "base64")),
        (item(&[("x", "[18446744073709551616]")]), ItemError::Unreadable("x".into())),
        ("7".to_owned(), ItemError::NotAnObject),
        ("[]".to_owned(), ItemError::NotAnObject),
    ]);
    for (bad, want) in cases {
        let json =
            format!("{{\"command\":\"queue\",\"hsm_action_items\":[{}, {bad}, {}]}}", item(&[]), item(&[]));
        let mut seen = Vec::new();
        let message = parse_message_with(json.as_bytes(), |member, index, error| {
            seen.push((member, index, error.clone()))
        });
        let Ok(Message::Queue(queue)) = message else { panic!("{json}: {message:?}") };
        assert_eq!(seen, [("hsm_action_items", 1, want)], "{bad}");
        assert_eq!((queue.items.unwrap().len(), queue.bad_items), (2, 1), "{bad}");
    }
}

/// C: `REMOVE` with archive id 0 aborted the server, and its redis recovery refused to start ("hai did not contain
/// archive_id").
#[test]
fn a_remove_may_have_archive_id_zero() {
    let queue = queue(&[item(&[("hai_action", "22"), ("hal_archive_id", "0")])]);
    let items = queue.items.unwrap();
    assert_eq!((items[0].action, items[0].archive_id), (Action::Remove, 0));
}

#[test]
fn numbers_of_either_sign_are_the_same_bits() {
    let fid = |oid| format!(r#"{{"f_seq": -1, "f_oid": {oid}, "f_ver": 4294967295}}"#);
    for (oid, length, cookie) in
        [("-2147483647", "-1", "-2"), ("2147483649", "18446744073709551615", "18446744073709551614")]
    {
        let json = item(&[
            ("hai_fid", &fid(oid)),
            ("hai_extent_length", length),
            ("hai_cookie", cookie),
            ("hai_gid", "-0"),
        ]);
        let items = queue(&[json]).items.unwrap();
        assert_eq!(items[0].fid, Fid::new(u64::MAX, 0x8000_0001, u32::MAX));
        assert_eq!((items[0].extent_length, items[0].cookie, items[0].gid), (u64::MAX, u64::MAX - 1, 0));
    }
}

#[test]
fn members_that_nobody_knows_travel_with_the_item() {
    let json = item(&[("x", r#"{ "b" : [1, 2.50, "c , d"] }"#), ("y\\u0041\\n", "null"), ("timestamp", "7")]);
    let items = queue(&[json]).items.unwrap();
    assert_eq!(&*items[0].extra, r#""x":{"b":[1,2.50,"c , d"]},"yA\n":null"#);
    let mut out = Vec::new();
    coordinatool::wire::write_item(&items[0], coordinatool::wire::ItemStyle::WIRE, &mut out);
    let text = String::from_utf8(out).unwrap();
    let tail = r#""hai_data": "tag=n0", "x": {"b": [1, 2.50, "c , d"]}, "yA\n": null, "timestamp": 7}"#;
    assert!(text.ends_with(tail), "{text}");
}

/// C: "non-UTF-8 data: request dropped (ENOMEM)".
#[test]
fn data_of_any_bytes_travels_exactly_between_our_programs() {
    use coordinatool::wire::{Accept, ItemStyle, parse_item, write_item};
    let mut item = queue(&[item(&[])]).items.unwrap().remove(0);
    let cases: [(&[u8], &str, &str); 3] = [
        (b"a\0b", "\"a\\u0000b\"", ""),
        ("é".as_bytes(), "\"é\"", ""),
        (b"\xff\xfe=1", "\"\u{fffd}\u{fffd}=1\"", ", \"hai_data_b64\": \"//49MQ==\""),
    ];
    for (data, text, exact) in cases {
        item.data = data.into();
        for (style, extra) in [(ItemStyle::WIRE, ""), (ItemStyle::WIRE_EXACT, exact)] {
            let mut out = Vec::new();
            write_item(&item, style, &mut out);
            let json = String::from_utf8(out).unwrap();
            assert!(json.contains(&format!("\"hai_data\": {text}{extra}}}")), "{json}");
            let again = parse_item(json.as_bytes(), Accept::Requests).unwrap().unwrap();
            if style == ItemStyle::WIRE_EXACT || exact.is_empty() {
                assert_eq!(again, item);
            }
        }
    }
}

/// C: "non-array hsm_action_items -> success with nothing queued".
#[test]
fn items_that_are_no_array_are_an_empty_list() {
    for items in ["3", "{}", "\"x\"", "null", r#"{"hai_action": 20}"#] {
        let json = format!("{{\"command\":\"queue\",\"hsm_action_items\":{items}}}");
        let want = Queue { fsname: None, items: Some(vec![]), bad_items: 0 };
        assert_eq!(parse(&json), Message::Queue(want), "{json}");
    }
}

/// C: "100 MB array of ints as hsm_action_items: hang + 2 GB memory". Here each is one bad item and nothing is kept.
#[test]
fn a_long_array_of_integers_is_only_counted() {
    let n = 300_000;
    let json = format!("{{\"command\":\"queue\",\"hsm_action_items\":[{}1]}}", "1,".repeat(n - 1));
    let Message::Queue(queue) = parse(&json) else { panic!("not a queue") };
    assert_eq!((queue.items.unwrap().capacity(), queue.bad_items), (0, n));
}

#[test]
fn deep_values_of_unknown_members_are_skipped() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let json = format!("{{\"x\":{deep},\"command\":\"status\",\"hsm_action_items\":{deep}}}");
    assert_eq!(parse(&json), Message::Status { verbose: 4 });
}
