//! `coordinatool-client -Q`: what becomes of each kind of input.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client_support;

use std::io::{Read, Write};
use std::thread;

use client_support::{Act, Run, Server, finish, items, reply, run, spawn};
use serde_json::{Value, json};

const LINE: &str = "fid=[0x200005223:0x1cce:0x0] dfid=[0x200005223:0x1cce:0x0] compound/cookie=0x0/0x617d23ef \
    action=ARCHIVE archive#=1 flags=0x0 extent=0x0-0xffffffffffffffff gid=0x0 data=[] canceled=0 uuid=u done=0";
const LOGGED: &str = "lrh=[type=10680000 len=144 idx=1/7] fid=[0x200000402:0xc:0x0] \
    dfid=[0x200000402:0xc:0x0] compound/cookie=0x0/0x6b00d4c3 action=ARCHIVE archive#=1 flags=0x0 \
    extent=0x0-0xffffffffffffffff gid=0x0 datalen=7 status=WAITING data=[7461673D66]";

fn queued(count: usize) -> String {
    format!("{{\n  \"command\": \"queue\",\n  \"enqueued\": {count}\n}}Got queue reply:\n\n")
}

/// Runs `-Q` against a server that queues everything; returns the run and the items.
fn queue(input: &[u8]) -> (Run, Vec<Value>) {
    let server = Server::counting();
    let got = run(server.port, &["-Q"], input);
    let items = server.items();
    (got, items)
}

#[test]
fn an_item_carries_every_field() {
    let (got, items) = queue(format!("{LINE}\n").as_bytes());
    assert_eq!(got, Run { code: Some(0), stdout: queued(1), stderr: String::new() });
    let fid = json!({"f_seq": 8589955619u64, "f_oid": 7374, "f_ver": 0});
    let item = json!({
        "hai_action": 20, "hai_fid": fid, "hai_dfid": fid, "hai_extent_offset": 0, "hai_extent_length": -1,
        "hai_cookie": 1635591151, "hai_gid": 0, "hal_archive_id": 1, "hal_flags": 0, "hai_data": "",
    });
    assert_eq!(items, [item]);
}

/// C 0.4 refuses all of these inputs, the whole batch with them: "trailing text at end of file" for a missing last newline,
/// "Keyword fid=[ not found in "mdt.x.hsm.active_requests=fid=[..." for a header on the record's line, "Keyword data=[ not
/// found" for a blank line.
#[test]
fn whatever_lctl_prints_is_taken() {
    let header = "mdt.x.hsm.active_requests=";
    for (input, count) in [
        (LINE.to_owned(), 1),
        (format!("{header}\n{LINE}\n{LINE}\n"), 2),
        (format!("{header}{LINE}\n"), 1),
        (format!("{header}{LINE}\n{header}\n{LINE}\n{header}\n"), 2),
        (format!("\n{LINE}\n\n{LINE}\n\n"), 2),
        (format!("{header}\r\n{LINE}\r\n{LINE}\r\n"), 2),
    ] {
        let (got, items) = queue(input.as_bytes());
        let want = Run { code: Some(0), stdout: queued(count), stderr: String::new() };
        assert_eq!(got, want, "{input}");
        assert_eq!(items.len(), count);
    }
}

#[test]
fn nothing_to_queue_needs_no_server() {
    for (input, notes) in [
        (String::new(), ""),
        ("mdt.x.hsm.active_requests=\n".to_owned(), ""),
        (LINE.replace("canceled=0", "canceled=1"), " WARN 1 cancelled request not queued\n"),
    ] {
        let server = Server::counting();
        let got = run(server.port, &["-Q"], input.as_bytes());
        assert_eq!(got, Run { code: Some(0), stdout: String::new(), stderr: notes.into() }, "{input}");
        assert_eq!(server.received(), [] as [Value; 0]);
    }
}

/// C 0.4: `Unknown action CANCEL archive#=1 ...`, and nothing at all is queued.
#[test]
fn cancels_are_counted_and_not_queued() {
    let cancel = LINE.replace("action=ARCHIVE", "action=CANCEL");
    let canceled = LINE.replace("canceled=0", "canceled=1");
    let (got, items) = queue(format!("{cancel}\n{LINE}\n{canceled}\n{canceled}\n").as_bytes());
    assert_eq!((got.code, got.stdout), (Some(0), queued(1)));
    assert_eq!(got.stderr, " WARN 2 cancelled requests not queued\n WARN 1 cancel record not queued\n");
    assert_eq!(items.len(), 1);
}

/// C 0.4: one bad line, and nothing at all is queued.
#[test]
fn bad_lines_are_numbered_and_the_good_ones_queued() {
    let torn = &LINE[..LINE.len() / 2];
    let long = "x=y ".repeat(100_000);
    let input = format!("{LINE}\ngarbage\n\n{LINE}\n{torn}\n{long}\n{LINE}");
    let (got, items) = queue(input.as_bytes());
    assert_eq!((got.code, got.stdout), (Some(1), queued(3)));
    let want = "ERROR line 2: expected words of `key=value`, found `garbage`\n\
                ERROR line 5: `action=A`: expected ARCHIVE, RESTORE, REMOVE or CANCEL\n\
                ERROR line 6: longer than 16384 bytes\n \
                WARN 3 bad lines not queued\n";
    assert_eq!(got.stderr, want);
    assert_eq!(items.len(), 3);

    let (got, items) = queue("\u{0}\n".repeat(5000).as_bytes());
    assert_eq!((got.code, got.stdout.as_str(), items.len()), (Some(1), "", 0));
    assert_eq!(got.stderr.lines().count(), 101, "only the first hundred are shown");
    assert!(got.stderr.ends_with("WARN 5000 bad lines not queued\n"));
}

/// C 0.4 queues `data=[6461207461]` as `da ta\0\0\0`, as if that were all of the data.
#[test]
fn data_that_may_be_cut_is_marked_and_not_padded() {
    let mark = json!(true);
    let with = |data: &str| LINE.replace("data=[]", &format!("data=[{data}]"));
    let cases = [
        (with("6461207461"), "da ta", Some(&mark)),
        (with("64612074"), "da t", None),
        (with("7400"), "t\0", None),
        (LOGGED.to_owned(), "tag=f", Some(&mark)),
        (LOGGED.replace("datalen=7", "datalen=5"), "tag=f", None),
    ];
    let input: String = cases.iter().map(|(line, ..)| format!("{line}\n")).collect();
    let (got, items) = queue(input.as_bytes());
    assert_eq!(got, Run { code: Some(0), stdout: queued(cases.len()), stderr: String::new() });
    for ((line, data, truncated), item) in cases.iter().zip(&items) {
        assert_eq!(item["hai_data"], *data, "{line}");
        assert_eq!(item.get("hai_data_truncated"), *truncated, "{line}");
    }
}

/// C 0.4: "Could not pack hai to json", and nothing at all is queued.
#[test]
fn data_that_is_no_text_is_sent_exactly_beside() {
    let (got, items) = queue(LINE.replace("data=[]", "data=[74FF80]").as_bytes());
    assert_eq!((got.code, got.stdout), (Some(0), queued(1)));
    assert_eq!(items[0]["hai_data"], "t\u{fffd}\u{fffd}");
    assert_eq!(items[0]["hai_data_b64"], "dP+A");
}

#[test]
fn what_a_real_lustre_printed_is_queued() {
    let cases = [
        (include_str!("data/lustre/running_t5.active_requests.txt"), 3, ""),
        (
            include_str!("data/lustre/canceled.active_requests.txt"),
            6,
            " WARN 1 cancelled request not queued\n",
        ),
        (
            include_str!("data/lustre/queued_no_copytool_after_cancel_a3.actions.txt"),
            8,
            " WARN 1 cancel record not queued\n WARN 6 ended requests not queued\n",
        ),
        (
            include_str!("data/lustre/canceled.actions.txt"),
            6,
            " WARN 4 cancel records not queued\n WARN 2 ended requests not queued\n",
        ),
    ];
    for (input, count, notes) in cases {
        let (got, items) = queue(input.as_bytes());
        assert_eq!(got, Run { code: Some(0), stdout: queued(count), stderr: notes.into() });
        assert_eq!(items.len(), count);
    }
}

/// The C client sends the name as `hal_fsname`, which no server reads, and aborts when it ends.
#[test]
fn the_file_system_is_sent_where_servers_look_for_it() {
    let refusal = json!({"command": "queue", "status": 22, "error": "Bad fsname"});
    let server = Server::answering(json!({"queue": refusal}));
    let got = run(server.port, &["-Q", "--fsname", "other"], LINE.as_bytes());
    let shown = "{\n  \"command\": \"queue\",\n  \"status\": 22,\n  \"error\": \"Bad fsname\"\n}";
    assert_eq!((got.code, got.stdout), (Some(1), format!("{shown}Got queue reply:\n\n")));
    assert!(got.stderr.contains("Bad fsname"), "{}", got.stderr);
    assert_eq!(server.received()[1]["fsname"], "other");
}

/// A line with another cookie each time.
fn numbered(number: usize) -> String {
    format!("{}\n", LINE.replace("0x617d23ef", &format!("{number:#x}")))
}

/// More requests than fit into one message of C's go through in bounded messages, and their answers come as one. The first
/// messages are sent while the input is still being written: nothing waits for its end.
#[test]
fn a_large_input_streams() {
    const COUNT: usize = 100_000;
    let server = Server::start(|message, before| match message["command"].as_str() {
        Some("queue") if before % 2 == 0 => {
            reply(&json!({"command": "queue", "enqueued": items(message).len() - 1, "skipped": 1}))
        }
        Some("queue") => reply(&json!({"command": "queue", "enqueued": items(message).len()})),
        _ => reply(&json!({"command": "ehlo"})),
    });
    let mut child = spawn(server.port, &["-Q"]);
    let mut stdin = child.stdin.take().unwrap();
    let mut write = |range: std::ops::Range<usize>| {
        let text: String = range.map(numbered).collect();
        stdin.write_all(text.as_bytes()).unwrap();
    };
    write(0..5000);
    let mut cookies = Vec::new();
    let mut take = |message: Value| {
        if message["command"] == "queue" {
            assert!((1..=1000).contains(&items(&message).len()));
            cookies.extend(items(&message).iter().map(|item| item["hai_cookie"].as_u64().unwrap()));
        }
        cookies.len()
    };
    // Whole messages' worth of these lines is on its way although the input has not ended.
    while take(server.next()) < 4000 {}
    write(5000..COUNT);
    drop(stdin);
    let got = finish(child);
    for message in server.received() {
        take(message);
    }
    assert_eq!(cookies, (0..COUNT as u64).collect::<Vec<_>>());
    let shown =
        "{\n  \"command\": \"queue\",\n  \"enqueued\": 99950,\n  \"skipped\": 50\n}Got queue reply:\n\n";
    assert_eq!(got, Run { code: Some(0), stdout: shown.into(), stderr: String::new() });
}

#[test]
fn a_server_that_goes_away_midway_is_reported_with_what_it_acknowledged() {
    let server = Server::start(|message, before| match (message["command"].as_str(), before) {
        (Some("queue"), 1) => {
            reply(&json!({"command": "queue", "enqueued": items(message).len() - 10, "skipped": 10}))
        }
        (Some("queue"), 2) => reply(&json!({"command": "queue", "enqueued": items(message).len()})),
        (Some("queue"), _) => Act::Close,
        _ => reply(&json!({"command": "ehlo"})),
    });
    let mut child = spawn(server.port, &["-Q"]);
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || (0..20_000).all(|n| stdin.write_all(numbered(n).as_bytes()).is_ok()));
    let got = finish(child);
    writer.join().unwrap();
    assert_eq!((got.code, got.stdout.as_str()), (Some(1), ""));
    let acknowledged = "2000 requests were acknowledged (1990 queued, 10 known already)";
    assert!(got.stderr.contains(acknowledged), "{}", got.stderr);
}

/// After -22 (items that it cannot read) a server has taken the other ones, and the C client ends with 0. After any
/// other failure the rest is kept back.
#[test]
fn failures_of_the_server_end_in_a_failure() {
    let cases = [
        (-22, "Error while parsing hsm action items", 3, "the server could not take all requests"),
        (-28, "No space left", 1, "the server took no more requests"),
    ];
    for (status, error, least, complaint) in cases {
        let server = Server::start(move |message, before| match (message["command"].as_str(), before) {
            (Some("queue"), 1) => {
                reply(&json!({"command": "queue", "status": status, "error": error, "enqueued": 900}))
            }
            (Some("queue"), _) => reply(&json!({"command": "queue", "enqueued": items(message).len()})),
            _ => reply(&json!({"command": "ehlo"})),
        });
        let input: String = (0..3000).map(numbered).collect();
        let got = run(server.port, &["-Q"], input.as_bytes());
        let messages = server.received().len() - 1;
        assert!((least..=3).contains(&messages), "{messages}");
        let enqueued = 900 + 1000 * (messages - 1);
        let shown = format!(
            "{{\n  \"command\": \"queue\",\n  \"status\": {status},\n  \"error\": \"{error}\",\n  \"enqueued\": \
             {enqueued}\n}}Got queue reply:\n\n"
        );
        assert_eq!((got.code, got.stdout), (Some(1), shown));
        assert!(got.stderr.contains(complaint), "{}", got.stderr);
    }
}

/// A reader of standard output that goes away is no reason to lose requests.
#[test]
fn requests_are_queued_even_if_nobody_reads_the_reply() {
    let server = Server::counting();
    let mut child = spawn(server.port, &["-Q"]);
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(LINE.as_bytes()).unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(server.items().len(), 1);
}
