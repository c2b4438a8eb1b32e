//! What a real C server said, byte for byte: `tests/data/golden/` holds recorded sessions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use coordinatool::hsm::effect::{Reply, WorkList};
use coordinatool::hsm::event::Message;
use coordinatool::wire::{
    Accept, Decoder, ItemStyle, Limits, ServerMessage, layout, parse_item, parse_message, parse_message_with,
    parse_reply, write_item, write_reply, write_work,
};

const T0: &str = include_str!("data/golden/t0-both-sides.txt");
const T1: &str = include_str!("data/golden/t1-protocol-status-cancel-queue.txt");
const T2: &str = include_str!("data/golden/t2-nonutf8-dup-partial.txt");
const T7: &str = include_str!("data/golden/t7-batch-hostmapping.txt");
/// What the C server and the C library said to each other over a real Lustre (2.17), as the server logged it.
const REAL: &str = include_str!("data/golden/real-lustre-journal.txt");

/// The answers in a session: in t0 after `S> `, in the others after a label.
fn answers(session: &str) -> impl Iterator<Item = &str> {
    session.lines().filter_map(|line| {
        let at = line.find("{\"")?;
        let (label, answer) = line.split_at(at);
        let ours = label.is_empty() || label == "S> " || label.ends_with(": ") && !label.starts_with("C>");
        // Redis keeps items without spaces.
        (ours && answer.contains("\"command\": ")).then(|| answer.trim_end())
    })
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Writes with our server what we understood of an answer.
fn rewritten(answer: &str) -> Option<String> {
    let mut out = Vec::new();
    let failed = |command, failure: &coordinatool::wire::Failure| {
        let error: &'static str = Box::leak(failure.error.clone().into_boxed_str());
        Reply::Error { command, status: failure.status as i32, error }
    };
    let reply = match parse_reply(answer.as_bytes()).unwrap() {
        ServerMessage::Status(_) => return None,
        ServerMessage::Recv(Ok(list)) => {
            let work = WorkList {
                archive_id: list.archive_id,
                flags: list.flags,
                items: list.items,
                binary_data: false,
            };
            write_work(&work, &list.fsname, &mut out);
            return Some(text(out));
        }
        ServerMessage::Ehlo(Ok(ehlo)) => Reply::Ehlo(ehlo),
        ServerMessage::Done(Ok(())) => Reply::Done,
        ServerMessage::Lock(Ok(())) => Reply::Lock,
        ServerMessage::Queue { enqueued, skipped, failure } => {
            let (status, error) = failure.map_or((0, ""), |f| (f.status as i32, &*f.error.leak()));
            Reply::Queue { enqueued, skipped, status, error }
        }
        ServerMessage::Ehlo(Err(failure)) => failed("ehlo", &failure),
        ServerMessage::Recv(Err(failure)) => failed("recv", &failure),
        ServerMessage::Done(Err(failure)) => failed("done", &failure),
        ServerMessage::Lock(Err(failure)) => failed("lock", &failure),
        ServerMessage::Lease(lease) => panic!("C knows no leases: {lease:?}"),
    };
    write_reply(&reply, &mut out);
    Some(text(out))
}

#[test]
fn our_answers_are_the_c_servers_bytes() {
    let mut seen = 0;
    for answer in answers(T1).chain(answers(T7)).chain(answers(T2)).filter(|a| a.ends_with('}')) {
        if let Some(ours) = rewritten(answer) {
            assert_eq!(ours, answer);
            seen += 1;
        }
    }
    assert_eq!(seen, 19, "the sessions hold this many answers other than status");
}

#[test]
fn what_the_c_server_and_its_movers_said_over_a_real_lustre() {
    let (mut answered, mut asked) = (0, std::collections::BTreeMap::new());
    for line in REAL.lines() {
        if let Some(answer) = line.strip_prefix("S> ") {
            if let Some(ours) = rewritten(answer) {
                assert_eq!(ours, answer);
                answered += 1;
            }
            continue;
        }
        let bytes = line.strip_prefix("C> ").unwrap().as_bytes();
        let kind = match parse_message_with(bytes, |list, index, error| panic!("{list}[{index}]: {error}")) {
            Ok(Message::Ehlo(ehlo)) => match ehlo.hai_list {
                Some(items) if !items.is_empty() => "ehlo with work",
                _ => "ehlo",
            },
            Ok(Message::Recv(recv)) => {
                assert_eq!(recv.max_bytes, 1 << 20);
                "recv"
            }
            Ok(Message::Done(done)) => {
                assert_ne!(done.cookie, 0);
                "done"
            }
            Ok(Message::Queue(queue)) => {
                assert!(queue.items.is_some_and(|items| !items.is_empty()));
                "queue"
            }
            Ok(Message::Status { .. }) => "status",
            Ok(Message::Lock(Some(_))) => "lock",
            other => panic!("{line}: {other:?}"),
        };
        *asked.entry(kind).or_insert(0) += 1;
    }
    assert_eq!(answered, 30, "answers other than status");
    let asked: Vec<_> = asked.into_iter().collect();
    assert_eq!(asked, [("done", 13), ("ehlo", 10), ("recv", 11), ("status", 6)]);
}

/// In t0 the items came through `queue` with `hai_data` before `hal_archive_id`, and C kept the order of its sender. We
/// always write the order of the items that C made itself (t1, t7).
#[test]
fn queued_items_are_answered_in_the_order_of_c_s_own_items() {
    let mut seen = 0;
    for answer in answers(T0) {
        let Some(ours) = rewritten(answer) else { continue };
        let tail = "\"hal_archive_id\": 2, \"hal_flags\": 0, ";
        let mut want = answer.to_owned();
        for data in ["\"hai_data\": \"\", ", "\"hai_data\": \"tag=a\", "] {
            want = want.replace(&format!("{data}{tail}"), &format!("{tail}{data}"));
        }
        assert_eq!(ours, want);
        seen += 1;
    }
    assert_eq!(seen, 9, "t0 holds this many answers other than status");
}

#[test]
fn what_the_client_of_t0_sent_is_understood() {
    let mut kinds = Vec::new();
    for line in T0.lines().filter_map(|line| line.strip_prefix("C> ")) {
        if !line.ends_with('}') {
            continue; // The transcript cut the long one.
        }
        kinds.push(match parse_message(line.as_bytes()).unwrap() {
            Message::Ehlo(ehlo) => {
                assert_eq!((ehlo.id.as_deref(), ehlo.fsname.as_deref()), (Some("mover1"), Some("testfs")));
                assert_eq!(ehlo.archive_ids, [1, 2]);
                "ehlo"
            }
            Message::Queue(queue) => {
                let items = queue.items.unwrap();
                assert_eq!((items.len(), queue.bad_items), (1, 0));
                assert_eq!((&*items[0].data, items[0].extent_length), (&b"tag=a"[..], u64::MAX));
                "queue"
            }
            Message::Recv(_) => "recv",
            Message::Done(_) => "done",
            Message::Lock(Some(_)) => "lock",
            Message::Status { .. } => "status",
            other => panic!("{other:?}"),
        });
    }
    let want = "status ehlo queue recv status done lock status lock status recv lock";
    assert_eq!(kinds.join(" "), want);
}

/// `hgetall coordinatool_requests` of the C server.
#[test]
fn items_in_redis_keep_their_bytes() {
    let items: Vec<&str> = T1.lines().filter(|line| line.starts_with("{\"hai_action\":")).collect();
    assert_eq!(items.len(), 7);
    for json in items {
        let item = parse_item(json.as_bytes(), Accept::Requests).unwrap().unwrap();
        let mut out = Vec::new();
        write_item(&item, ItemStyle::STORED, &mut out);
        assert_eq!(text(out), json);
    }
}

/// `coordinatool-client -v -v` on a pipe: indented by jansson.
#[test]
fn indentation_is_jansson_s() {
    let start = T1.find("{\n  \"command\": \"status\"").unwrap();
    let end = start + T1[start..].find("\n}Got status reply").unwrap() + 2;
    let shown = &T1[start..end];
    let (mut wire, mut again) = (Vec::new(), Vec::new());
    layout::compact(shown.as_bytes(), &mut wire);
    layout::indented(&wire, &mut again);
    assert_eq!(text(again), shown);
}

#[test]
fn a_whole_session_comes_apart_however_it_is_cut() {
    let stream: String = answers(T1).chain(answers(T7)).collect();
    let want: Vec<&str> = answers(T1).chain(answers(T7)).collect();
    for size in [1, 2, 3, 7, 64, 1000, stream.len()] {
        let mut decoder = Decoder::new(Limits::default());
        let mut got = Vec::new();
        for piece in stream.as_bytes().chunks(size) {
            decoder.push(piece);
            while let Some(object) = decoder.next_object().unwrap() {
                got.push(text(object.to_vec()));
            }
        }
        assert_eq!(got, want, "in pieces of {size} bytes");
        assert_eq!(decoder.pending_bytes(), 0);
    }
}
