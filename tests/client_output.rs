//! Standard output of `coordinatool-client`, byte for byte, on pipes and terminals.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client_support;

use client_support::{Act, Run, Server, client, reply, run, run_on_terminal};
use serde_json::{Value, json};

const STATUS_REPLY: &str = include_str!("data/client/status_vv.reply.json");
const STATUS_PIPE: &str = include_str!("data/client/status_vv.pipe.txt");

fn pipe(json: &str, name: &str) -> String {
    format!("{json}Got {name} reply:\n\n")
}

fn terminal(json: &str, name: &str) -> String {
    format!("Got {name} reply:\n{json}\n")
}

fn ok(stdout: String) -> Run {
    Run { code: Some(0), stdout, stderr: String::new() }
}

/// Answers with the text of a recorded session, members in their order.
fn recorded() -> Server {
    Server::start(|message, _| match message["command"].as_str() {
        Some("status") => Act::Reply(STATUS_REPLY.trim_end().to_owned()),
        _ => reply(&json!({"command": "ehlo"})),
    })
}

#[test]
fn status_is_what_the_c_client_printed_into_a_file() {
    let server = recorded();
    let got = run(server.port, &["-v", "-v", "-q", "-v"], b"");
    assert_eq!(got.stdout, STATUS_PIPE);
    assert_eq!(got.code, Some(0));
    assert_eq!(server.received(), [json!({"command": "ehlo"}), json!({"command": "status", "verbose": 6})]);
}

#[test]
fn status_on_a_terminal_has_its_title_first() {
    let server = recorded();
    let json = STATUS_PIPE.strip_suffix("Got status reply:\n\n").unwrap();
    assert_eq!(run_on_terminal(server.port, &[], ""), ok(terminal(json, "status")));
    assert_eq!(server.received()[1], json!({"command": "status", "verbose": 4}));
}

#[test]
fn lock_says_ok_or_why_not_and_ends_well() {
    let cases = [("--unlock", 0), ("--lock", 1), ("--lock-quit", 2)];
    for (option, locked) in cases {
        let server = Server::answering(json!({"lock": {"command": "lock"}}));
        assert_eq!(run(server.port, &[option], b""), ok("ok\n".into()));
        assert_eq!(server.received()[1], json!({"command": "lock", "locked": locked}));
    }
    let refusal = json!({"command": "lock", "status": -22, "error": "invalid locked value"});
    let server = Server::answering(json!({"lock": refusal}));
    let want = "error locking: invalid locked value\n";
    assert_eq!(run(server.port, &["--lock"], b""), ok(want.into()));
    assert_eq!(run_on_terminal(server.port, &["--lock"], ""), ok(want.into()));
}

const LINE: &str = "fid=[0x200005223:0x1cce:0x0] dfid=[0x200005223:0x1cce:0x0] compound/cookie=0x0/0x617d23ef \
    action=ARCHIVE archive#=1 flags=0x0 extent=0x0-0xffffffffffffffff gid=0x0 data=[] canceled=0 uuid=u done=0\n";

#[test]
fn queue_shows_its_reply_as_c_does() {
    let server = Server::answering(json!({"queue": {"command": "queue", "enqueued": 1}}));
    let json = "{\n  \"command\": \"queue\",\n  \"enqueued\": 1\n}";
    assert_eq!(run(server.port, &["-Q"], LINE.as_bytes()), ok(pipe(json, "queue")));
    assert_eq!(run_on_terminal(server.port, &["-Q"], LINE), ok(terminal(json, "queue")));
}

#[test]
fn queue_that_does_not_add_up_fails_as_in_c() {
    let server = Server::answering(json!({"queue": {"command": "queue", "enqueued": 1, "skipped": 1}}));
    let input = LINE.repeat(3);
    let json = "{\n  \"command\": \"queue\",\n  \"enqueued\": 1,\n  \"skipped\": 1\n}";
    let complaint = "didn't process all records (expected 3, got 1+1)\n";
    let got = run(server.port, &["-Q"], input.as_bytes());
    assert_eq!((got.code, got.stdout), (Some(1), pipe(json, "queue") + complaint));
    let got = run_on_terminal(server.port, &["-Q"], &input);
    assert_eq!((got.code, got.stdout), (Some(1), terminal(json, "queue") + complaint));
}

const WORK: &str = r#"{"hsm_action_list": {"hal_version": 1, "hal_archive_id": 1, "hal_fsname": "testfs0", "list": [{"hai_cookie": 66189199606, "hai_dfid": {"f_seq": 8589935617, "f_oid": -2147483647, "f_ver": 0}, "hai_data": "x\u0000y"}]}, "command": "recv"}"#;
const WORK_SHOWN: &str = r#"{
  "hsm_action_list": {
    "hal_version": 1,
    "hal_archive_id": 1,
    "hal_fsname": "testfs0",
    "list": [
      {
        "hai_cookie": 66189199606,
        "hai_dfid": {
          "f_seq": 8589935617,
          "f_oid": -2147483647,
          "f_ver": 0
        },
        "hai_data": "x\u0000y"
      }
    ]
  },
  "command": "recv"
}"#;
const DONE_SHOWN: &str = "{\n  \"command\": \"done\"\n}";

/// Gives work once, then closes the connection when it is asked for more and everything given is done.
fn one_list(items: usize) -> Server {
    Server::start(move |message, before| match (message["command"].as_str(), before) {
        (Some("recv"), 1) => Act::Reply(WORK.to_owned()),
        (Some("recv"), _) if items == 0 => Act::Close,
        (Some("recv"), _) => Act::Silent,
        (Some("done"), _) => reply(&json!({"command": "done"})),
        _ => reply(&json!({"command": "ehlo"})),
    })
}

fn recv(limit: i64) -> Value {
    json!({"command": "recv", "max_archive": limit, "max_restore": -1, "max_remove": -1, "max_bytes": 1048576})
}

#[test]
fn recv_shows_work_and_asks_again_until_the_server_goes() {
    let server = one_list(0);
    let args = ["-R", "-I", "m1", "-A", "1", "-A", "2"];
    let got = run(server.port, &args, b"");
    assert_eq!((got.code, got.stdout), (Some(1), pipe(WORK_SHOWN, "recv")));
    assert!(got.stderr.contains("closed the connection"), "{}", got.stderr);
    let ehlo = json!({"command": "ehlo", "archive_ids": [1, 2], "id": "m1"});
    assert_eq!(server.received(), [ehlo, recv(-1), recv(-1)]);
    let got = run_on_terminal(server.port, &args, "");
    assert_eq!((got.code, got.stdout), (Some(1), terminal(WORK_SHOWN, "recv")));
}

#[test]
fn iterations_count_answers() {
    let server = one_list(1);
    assert_eq!(run(server.port, &["-R", "-i", "1"], b""), ok(pipe(WORK_SHOWN, "recv")));
    assert_eq!(run(server.port, &["-R", "-i", "0"], b""), ok(String::new()));
    assert_eq!(run(server.port, &["-i", "0"], b""), ok(String::new()));
    assert_eq!(run(server.port, &["--lock", "-i", "0"], b""), ok(String::new()));
}

/// C movers cut the cookie of `done` to 32 bits, so that such a request stays "running" for ever.
#[test]
fn drain_reports_everything_done_with_the_whole_cookie() {
    let server = one_list(1);
    let got = run(server.port, &["--drain", "-i", "2"], b"");
    let want = format!("{WORK_SHOWN}{DONE_SHOWN}Got recv reply:\n\nGot done reply:\n\n");
    assert_eq!(got, ok(want));
    let dfid = json!({"f_seq": 8589935617u64, "f_oid": -2147483647, "f_ver": 0});
    let done = json!({"command": "done", "hai_cookie": 66189199606u64, "hai_dfid": dfid, "status": 0});
    let messages: Vec<Value> = (0..4).map(|_| server.next()).collect();
    assert_eq!(messages, [json!({"command": "ehlo"}), recv(-1), done, recv(-1)]);
    let got = run_on_terminal(server.port, &["--drain", "-i", "2"], "");
    assert_eq!(got, ok(terminal(WORK_SHOWN, "recv") + &terminal(DONE_SHOWN, "done")));
}

#[test]
fn work_that_cannot_be_used_is_named_as_in_c() {
    let cases = [
        (json!({"command": "recv", "status": 22, "error": "Buffer too small"}), "no hal\n"),
        (json!({"command": "recv", "hsm_action_list": {"hal_version": 1}}), "no hal->list\n"),
        (
            json!({"command": "recv", "hsm_action_list": {"list": [{"hai_cookie": 1}]}}),
            "cookie/dfid not set - version mismatch?\n",
        ),
    ];
    for (answer, complaint) in cases {
        let server = Server::answering(json!({"recv": answer}));
        let got = run(server.port, &["-R"], b"");
        assert_eq!(got.code, Some(1));
        assert!(got.stdout.ends_with(&format!("}}Got recv reply:\n\n{complaint}")), "{}", got.stdout);
    }
}

#[test]
fn limits_come_from_the_environment_and_the_file() {
    let server = one_list(1);
    let conf = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(conf.path(), "max_archive 7\nhal_size 1M\nclient_id nobody\nredis_host x\n").unwrap();
    let output = client(server.port, &["-R", "-i", "1"])
        .args(["-c", conf.path().to_str().unwrap()])
        .env("COORDINATOOL_MAX_ARCHIVE", "2k")
        .env("COORDINATOOL_CLIENT_ID", "mover")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let messages: Vec<Value> = (0..2).map(|_| server.next()).collect();
    assert_eq!(messages, [json!({"command": "ehlo"}), recv(2048)], "this client has an id only with -I");
}

#[test]
fn version_and_help_need_no_server_and_no_configuration() {
    let version = format!("Coordinatool client version {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(1, &["-c", "/none", "-V"], b""), ok(version));
    let help = run(1, &["-c", "/none", "--help"], b"");
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    for option in ["--queue", "--fsname", "--lock-quit", "--drain", "--recv", "--iters", "--client-id"] {
        assert!(help.stdout.contains(option), "{option}");
    }
    assert_eq!(run(1, &["help"], b""), help);
    for args in [&["--nonsense"][..], &["word"], &["-H"], &["--fsname", "f"], &["-c", "/none"]] {
        let got = run(1, args, b"");
        assert_eq!((got.code, got.stdout.as_str()), (Some(1), ""), "{args:?}");
        assert!(got.stderr.starts_with("coordinatool-client: "), "{}", got.stderr);
    }
}
