//! How `coordinatool-client` finds a server, and what it says when it does not.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client_support;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::thread;

use client_support::{Act, Run, Server, client, finish, reply, run};
use serde_json::json;
use socket2::{Domain, Socket, Type};

fn failed(got: &Run, reason: &str) {
    assert_eq!((got.code, got.stdout.as_str()), (Some(1), ""), "{got:?}");
    assert!(got.stderr.starts_with("coordinatool-client: ") && got.stderr.contains(reason), "{}", got.stderr);
}

/// A socket with a port of its own on which it does not listen yet.
fn silent_socket() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let (_socket, port) = silent_socket();
    let got = run(port, &["--timeout", "0"], b"");
    failed(
        &got,
        &format!("gave up after 0 s: cannot connect to `127.0.0.1` port `{port}` (127.0.0.1:{port}: "),
    );
    let got = run(port, &["-H", "no.such.host.invalid", "--timeout", "0"], b"");
    failed(&got, "cannot find `no.such.host.invalid` port");
    let got = run(port, &["-p", "no-such-service"], b"");
    failed(&got, "cannot find `127.0.0.1` port `no-such-service`");
}

/// As the C client does: a request piped in while the server restarts is not lost.
#[test]
fn a_server_that_starts_later_is_waited_for() {
    let (socket, port) = silent_socket();
    let mut command = client(port, &["--lock"]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
    assert!(line.contains("cannot connect to") && line.contains("; trying again"), "{line}");
    socket.listen(1).unwrap();
    let listener = TcpListener::from(socket);
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"{\"command\": \"ehlo\"}{\"command\": \"lock\"}").unwrap();
        stream
    });
    let got = finish(child);
    assert_eq!((got.code, got.stdout.as_str()), (Some(0), "ok\n"));
    server.join().unwrap();
}

/// The name may have several addresses; the server listens on one of them only.
#[test]
fn names_are_looked_up_and_all_addresses_tried() {
    let server = Server::answering(json!({"lock": {"command": "lock"}}));
    let got = run(server.port, &["-H", "localhost", "--unlock", "--timeout", "5"], b"");
    assert_eq!(got, Run { code: Some(0), stdout: "ok\n".into(), stderr: String::new() });
}

/// The C client tries again for ever: it takes the answer with the wrong command for a broken connection.
#[test]
fn archive_ids_that_the_server_refuses_end_the_client() {
    let refusal = json!({"command": "done", "status": 22, "error": "Bad archive id in list"});
    let server = Server::answering(json!({"ehlo": refusal}));
    failed(&run(server.port, &["-R", "-A", "0"], b""), "Bad archive id in list");
    assert_eq!(server.received(), [json!({"command": "ehlo", "archive_ids": [0]})]);
}

#[test]
fn an_id_in_use_is_tried_again_until_the_timeout() {
    let refusal = json!({"command": "ehlo", "status": 17, "error": "id already used by another client"});
    let server = Server::answering(json!({"ehlo": refusal}));
    let got = run(server.port, &["-R", "-I", "m1", "--timeout", "0"], b"");
    failed(&got, "id already used by another client");
}

/// The C client waits for ever for a server that hangs, which one slow peer makes the C server do.
#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let server = Server::answering(json!({}));
    failed(&run(server.port, &["--timeout", "1"], b""), "no answer from 127.0.0.1");
}

#[test]
fn a_server_that_stops_in_the_middle_of_an_answer_is_reported() {
    for (answer, reason) in [
        ((|| Act::Close) as fn() -> Act, "closed the connection"),
        (|| Act::Reply("{\"command\": \"stat".into()), "no answer from"),
        (|| Act::Reply("{\"command\": \"status\", }".into()), "invalid JSON"),
        (|| Act::Reply("3".into()), "does not speak our protocol"),
        (|| reply(&json!({"command": "queue"})), "unexpected answer to status"),
        (|| reply(&json!({"clients": []})), "unknown command"),
    ] {
        let server = Server::start(move |message, _| match message["command"].as_str() {
            Some("ehlo") => reply(&json!({"command": "ehlo"})),
            _ => answer(),
        });
        failed(&run(server.port, &["--timeout", "1"], b""), reason);
    }
}

#[test]
fn something_else_on_the_port_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
        stream
    });
    failed(&run(port, &[], b""), "does not speak our protocol");
}

/// White space between answers blocks the C client.
#[test]
fn white_space_between_answers_does_no_harm() {
    let server = Server::start(|message, _| match message["command"].as_str() {
        Some("ehlo") => Act::Reply(" {\"command\": \"ehlo\"}\n".into()),
        _ => Act::Reply("\r\n {\"command\": \"lock\"}\n".into()),
    });
    let got = run(server.port, &["--lock"], b"");
    assert_eq!(got, Run { code: Some(0), stdout: "ok\n".into(), stderr: String::new() });
}
