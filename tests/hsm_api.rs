//! The HTTP API of the HSM role, asked as any client may ask it, while movers speak their own protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod daemon_support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use daemon_support::{Daemon, PATIENCE, Peer, Setup, item, item_of, oids};
use harness::ha::http::{Answer, ask, ask_on};
use serde_json::{Value, json};

fn socket(daemon: &Daemon) -> std::path::PathBuf {
    daemon.dir().join("hsm.sock")
}

fn get(daemon: &Daemon, path: &str) -> Answer {
    ask(&socket(daemon), "GET", path, "").unwrap()
}

/// What is in the envelope of a good answer.
fn good(daemon: &Daemon, path: &str) -> Value {
    let answer = get(daemon, path);
    assert_eq!(answer.code, 200, "{path}: {}", answer.body);
    let json = answer.json();
    assert_eq!((&json["success"], &json["errors"]), (&json!(true), &json!([])), "{json}");
    json["response"].clone()
}

fn post(daemon: &Daemon, path: &str, body: &Value) -> Answer {
    ask(&socket(daemon), "POST", path, &body.to_string()).unwrap()
}

fn fid(oid: u32) -> String {
    format!("[0x200000401:{oid:#x}:0x0]")
}

#[test]
fn the_socket_is_the_owners_and_goes_with_the_daemon() {
    let mut daemon = Setup::default().start();
    let path = socket(&daemon);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
    assert!(!path.exists());
}

/// A socket that was told must be there; without `api_socket` the daemon does its work all the same.
#[test]
fn a_socket_that_cannot_be_is_told() {
    let args = |socket: &str| vec!["--api-socket".to_owned(), socket.to_owned()];
    let (code, text) = Daemon::run_to_end(&Setup { args: args("/proc/no/s.sock"), ..Setup::default() });
    assert_eq!((code, text.contains("api_socket /proc/no/s.sock")), (Some(1), true), "{text}");
    let daemon = Setup { args: args("none"), ..Setup::default() }.start();
    assert_eq!(daemon.peer().queue(&[item(20, 1, 1, "")]), r#"{"command": "queue", "enqueued": 1}"#);
    assert!(!socket(&daemon).exists());
}

#[test]
fn mistakes_are_told_in_the_envelope() {
    let daemon = Setup::default().start();
    let cases: [(&str, &str, &str, u16, &str); 15] = [
        ("GET", "/api/v1/hsm/nothing", "", 404, "openapi.json"),
        ("POST", "/api/v1/hsm/status", "", 405, "does not take POST"),
        ("GET", "/api/v1/hsm/cancel", "", 405, "does not take GET"),
        ("GET", "/api/v1/hsm/explain?fid=x", "", 400, "FID"),
        ("GET", "/api/v1/hsm/requests?action=move", "", 400, "archive, restore, remove"),
        ("GET", "/api/v1/hsm/requests?state=lost", "", 400, "queued"),
        ("GET", "/api/v1/hsm/history?limit=0", "", 400, "limit"),
        ("POST", "/api/v1/hsm/cancel", "{}", 400, "nothing is selected"),
        ("POST", "/api/v1/hsm/cancel", r#"{"select": {"all": true, "archive_id": 1}}"#, 400, "all"),
        ("POST", "/api/v1/hsm/cancel", r#"{"select": {"colour": "red"}}"#, 422, "colour"),
        ("POST", "/api/v1/hsm/cancel", "{", 422, "the body"),
        ("POST", "/api/v1/hsm/lock", r#"{"lock": "open"}"#, 422, "open"),
        ("POST", "/api/v1/hsm/movers/m1/shoot", "", 404, "drain"),
        ("POST", "/api/v1/hsm/movers/m1/release", "", 409, "m1"),
        ("POST", "/api/v1/hsm/dead-letters/retry", "{}", 400, "nothing is selected"),
    ];
    for (method, path, body, code, text) in cases {
        let answer = ask(&socket(&daemon), method, path, body).unwrap();
        assert_eq!(answer.code, code, "{method} {path} {body}: {}", answer.body);
        assert_eq!(answer.json()["success"], json!(false));
        assert!(answer.errors().contains(text), "{method} {path} {body}: {}", answer.body);
    }
}

/// Every path of the document is there, under its method.
#[test]
fn the_document_describes_what_there_is() {
    let daemon = Setup::default().start();
    let document = get(&daemon, "/api/v1/openapi.json").json();
    let mut seen = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            // A body that no order takes: nothing happens.
            let body = if method == "post" { r#"{"no such member": 1}"# } else { "" };
            let path = path.replace("{id}", "m1");
            // It never ends, unless it is asked for what is not there.
            let path = if path.ends_with("/events") { format!("{path}?kind=none") } else { path };
            let answer = ask(&socket(&daemon), &method.to_uppercase(), &path, body).unwrap();
            let known = !matches!(answer.code, 404 | 405);
            assert!(known, "{method} {path}: {} {}", answer.code, answer.body);
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn requests_are_listed_once_each_and_filtered() {
    let daemon = Setup::default().start();
    const COUNT: u32 = 3000;
    let items: Vec<String> = (1..=COUNT)
        .map(|n| {
            item_of(if n % 3 == 0 { 21 } else { 20 }, n, u64::from(n), n % 2 + 1, &format!("tag=t{}", n % 5))
        })
        .collect();
    daemon.peer().queue(&items);
    let mut mover = daemon.mover("m1");
    let running = oids(&mover.work(r#", "max_archive": 4, "max_restore": 0"#));
    let list = |query: &str| -> Vec<Value> {
        good(&daemon, &format!("/api/v1/hsm/requests{query}")).as_array().unwrap().clone()
    };
    let all = list("");
    let fids: BTreeSet<&str> = all.iter().map(|request| request["fid"].as_str().unwrap()).collect();
    assert_eq!((all.len(), fids.len()), (COUNT as usize, COUNT as usize));
    let count = |query: &str| list(query).len() as u32;
    assert_eq!(count("?action=restore"), COUNT / 3);
    assert_eq!(count("?archive_id=2"), COUNT / 2);
    assert_eq!(count("?hint=tag%3Dt0"), COUNT / 5);
    assert_eq!(count("?hint=tag%3D&limit=7"), 7);
    assert_eq!(count("?state=running"), running.len() as u32);
    assert_eq!(count("?running=false"), COUNT - running.len() as u32);
    assert_eq!(count(&format!("?fid={},{}", fid(1), fid(2)).replace(['[', ']'], "")), 2);
    let one = &list("?cookie=0x7")[0];
    let want = (json!(fid(7)), json!("ARCHIVE"), json!(2), json!({"text": "tag=t2"}));
    assert_eq!(
        (&one["fid"], &one["action"], &one["archive_id"], &one["data"]),
        (&want.0, &want.1, &want.2, &want.3)
    );
    let at_mover = list("?mover=m1");
    assert_eq!(at_mover.len(), running.len());
    assert!(at_mover.iter().all(|request| request["state"] == "running" && request["mover"] == "m1"));
}

#[test]
fn a_cancel_is_previewed_and_done() {
    let daemon = Setup::default().start();
    let items: Vec<String> =
        (1..=2500).map(|n| item(20, n, u64::from(n), if n % 2 == 0 { "tag=a" } else { "" })).collect();
    daemon.peer().queue(&items);
    let mut mover = daemon.mover("m1");
    let running = oids(&mover.work(r#", "max_archive": 2"#));
    let body = |preview: bool| json!({"select": {"hint": "tag=a"}, "preview": preview, "examples": 3});
    let preview = post(&daemon, "/api/v1/hsm/cancel", &body(true)).json()["response"].take();
    assert_eq!((&preview["preview"], &preview["selected"]), (&json!(true), &json!(1250)), "{preview}");
    assert_eq!(preview["examples"].as_array().unwrap().len(), 3);
    assert_eq!(good(&daemon, "/api/v1/hsm/status")["queued"]["archive"], 2498);
    let done = post(&daemon, "/api/v1/hsm/cancel", &body(false)).json()["response"].take();
    assert_eq!(
        (&done["selected"], &done["waiting"], &done["running"]),
        (&json!(1250), &json!(1249), &json!(1)),
        "{done}"
    );
    assert_eq!(good(&daemon, "/api/v1/hsm/status")["queued"]["archive"], 1249);
    // What ran was told to the mover, before anything else.
    let cancels = mover.work(r#", "max_archive": 2"#);
    assert_eq!(oids(&cancels), [running[1]]);
    assert_eq!(cancels["hsm_action_list"]["list"][0]["hai_action"], 23, "{cancels}");
    let history = good(&daemon, "/api/v1/hsm/history?failed=true&limit=2000");
    let history = history.as_array().unwrap();
    assert!(history.iter().all(|ended| ended["outcome"] == "cancelled"), "{:?}", history.first());
    assert_eq!(history.len(), 1249);
}

#[test]
fn a_lock_is_shown_as_an_alert() {
    let daemon = Setup::default().start();
    daemon.peer().queue(&[item(20, 1, 1, "")]);
    assert_eq!(post(&daemon, "/api/v1/hsm/lock", &json!({"lock": "locked"})).code, 200);
    let status = good(&daemon, "/api/v1/hsm/status");
    assert_eq!(status["lock"], "locked");
    let kinds: Vec<&str> =
        status["alerts"].as_array().unwrap().iter().map(|alert| alert["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["no_mover", "locked"], "{status}");
    assert_eq!(daemon.status()["locked"], 1);
    post(&daemon, "/api/v1/hsm/lock", &json!({"lock": "unlocked"}));
    assert_eq!(oids(&daemon.mover("m1").work("")), [1]);
}

/// A line of a page of metrics, with the sum of the values of all lines that begin with `what`.
fn metric(page: &str, what: &str) -> f64 {
    let lines = page.lines().filter(|line| line.starts_with(what));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn metrics_count_what_happens_and_are_well_formed() {
    let setup = Setup::conf("metrics_listen 127.0.0.1:0\n");
    // Port 0 is nobody's choice, but then the log must say which it became: the test asks the socket instead.
    let daemon = setup.start();
    let items: Vec<String> = (1..=10).map(|n| item_of(20, n, u64::from(n), 1 + n % 2, "")).collect();
    daemon.peer().queue(&items);
    let mut mover = daemon.mover("m1");
    let given = oids(&mover.work(r#", "max_archive": 3"#));
    for (at, oid) in given.iter().enumerate() {
        mover.done(*oid as u64, *oid as u32, if at == 0 { 5 } else { 0 });
    }
    let page = get(&daemon, "/metrics").body;
    let ended = given.len() as f64;
    assert_eq!(metric(&page, "lustre_hsm_admitted_total"), 10.0);
    assert_eq!(metric(&page, "lustre_hsm_requests{action=\"ARCHIVE\""), 10.0 - ended);
    assert_eq!(metric(&page, "lustre_hsm_errors_total{errno=\"5\"}"), 1.0);
    assert_eq!(metric(&page, "lustre_hsm_mover_failed_total{mover=\"m1\"}"), 1.0);
    let counts = page.lines().filter(|line| line.starts_with("lustre_hsm_request_seconds_count"));
    let counts: f64 = counts.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
    assert_eq!(counts, 2.0 * ended, "each was queued and sent:\n{page}");
    // Every line belongs to the family before it, and every family is there once.
    let mut families = BTreeSet::new();
    let mut family = String::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "{family} comes twice");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = name.split('{').next().unwrap();
            let suffix = name.strip_prefix(&family).unwrap_or("?");
            assert!(["", "_bucket", "_sum", "_count"].contains(&suffix), "{line} in {family}");
        }
    }
}

#[test]
fn over_tcp_there_are_metrics_and_nothing_else() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let daemon = Setup::conf(&format!("metrics_listen {port}\n")).start();
    let far = |method: &str, path: &str| {
        ask_on(TcpStream::connect(("127.0.0.1", port)).unwrap(), method, path, "").unwrap()
    };
    assert_eq!(far("GET", "/metrics").body, get(&daemon, "/metrics").body);
    for (method, path) in
        [("GET", "/api/v1/hsm/status"), ("POST", "/api/v1/hsm/lock"), ("GET", "/api/v1/hsm/requests")]
    {
        assert_eq!(far(method, path).code, 404, "{method} {path}");
    }
}

/// Movers are served while clients of the API do what they like.
#[test]
fn hostile_clients_delay_nobody() {
    let daemon = Setup::default().start();
    let items: Vec<String> =
        (1..=20_000).map(|n| item(20, n, u64::from(n), "tag=some-data-to-fill-the-answer")).collect();
    for part in items.chunks(5000) {
        daemon.peer().queue(part);
    }
    let connect = || UnixStream::connect(socket(&daemon)).unwrap();
    // Heads and bodies that never end, and answers that nobody reads.
    let mut idle = Vec::new();
    for number in 0..60 {
        let mut stream = connect();
        let text = match number % 3 {
            0 => "GET /api/v1/hsm/sta",
            1 => "POST /api/v1/hsm/cancel HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
            _ => "GET /api/v1/hsm/requests HTTP/1.1\r\nhost: x\r\n\r\n",
        };
        stream.write_all(text.as_bytes()).unwrap();
        idle.push(stream);
    }
    // A body that is too long.
    let mut long = connect();
    let head = "POST /api/v1/hsm/cancel HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 10000000\r\n\r\n";
    long.write_all(head.as_bytes()).unwrap();
    let writer = std::thread::spawn({
        let mut stream = long.try_clone().unwrap();
        // It is not read to its end.
        move || drop(stream.write_all(&vec![b' '; 10_000_000]))
    });
    let mut answer = [0; 12];
    long.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    drop(long);
    writer.join().unwrap();
    // A thousand at once, more than there are places for.
    let mut many: Vec<UnixStream> = Vec::new();
    for number in 0..1000 {
        let path = ["status", "top", "movers", "history"][number % 4];
        let mut stream = connect();
        write!(stream, "GET /api/v1/hsm/{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        many.push(stream);
    }
    let mut mover = daemon.mover("m1");
    for oid in 1..=200 {
        assert_eq!(oids(&mover.work(r#", "max_archive": 1"#)), [oid]);
        mover.done(oid as u64, oid as u32, 0);
    }
    for stream in &mut many {
        let mut text = String::new();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
    assert_eq!(good(&daemon, "/api/v1/hsm/status")["done"]["archive"], 200);
    drop(idle);
    let memory = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid().as_raw_nonzero())).unwrap();
    let resident = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let kilobytes: u64 = resident.trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 400 << 10, "{resident}");
}

const RECV: &str =
    r#"{"command": "recv", "max_archive": 1, "max_restore": 1, "max_remove": 1, "max_bytes": 1048576}"#;

/// Whoever does what `explain` says gets every request served: the reasons are the scheduler's own.
#[test]
fn doing_what_explain_says_serves_everything() {
    let conf = "archive_on_hosts tag=h0 h0\narchive_on_hosts tag=h1 h1 h2\n";
    let daemon = Setup::conf(conf).start();
    let items = [
        item_of(20, 1, 1, 1, "tag=h0"),
        item_of(20, 2, 2, 2, "tag=h1"),
        item_of(21, 3, 3, 3, ""),
        item_of(22, 4, 4, 1, "tag=h0"),
        item_of(20, 5, 5, 1, "other"),
        // The same file again: it has to wait for the first.
        item_of(20, 5, 6, 1, "other"),
    ];
    daemon.peer().queue(&items);
    post(&daemon, "/api/v1/hsm/lock", &json!({"lock": "locked"}));
    post(&daemon, "/api/v1/hsm/movers/h0/drain", &json!({}));
    let mut movers: BTreeMap<String, Peer> = BTreeMap::new();
    let comes = |id: &str, archives: &str, movers: &mut BTreeMap<String, Peer>| {
        let mut peer = daemon.peer();
        let text =
            format!(r#"{{"command": "ehlo", "fsname": "testfs0", "id": "{id}", "archive_ids": {archives}}}"#);
        assert_eq!(peer.ask(&text), daemon_support::EHLO);
        peer.send(RECV);
        assert!(movers.insert(id.to_owned(), peer).is_none(), "{id} is there already");
    };
    let (mut served, mut reasons) = (BTreeSet::new(), BTreeSet::new());
    // The last request of the first file that has any.
    let next = || {
        (1..=5).find_map(|oid| {
            let fid = fid(oid);
            let report = good(&daemon, &format!("/api/v1/hsm/explain?fid={}", fid.trim_matches(['[', ']'])));
            report["requests"].as_array().unwrap().last().cloned()
        })
    };
    while let Some(request) = next() {
        let reason = &request["reasons"][0];
        let kind = reason["kind"].as_str().unwrap().to_owned();
        let mover = reason["mover"].as_str().unwrap_or("?").to_owned();
        match kind.as_str() {
            "locked" => {
                assert_eq!(post(&daemon, "/api/v1/hsm/lock", &json!({"lock": "unlocked"})).code, 200);
            }
            "draining" => {
                assert_eq!(
                    post(&daemon, &format!("/api/v1/hsm/movers/{mover}/undrain"), &json!({})).code,
                    200
                );
            }
            "no_mover" => comes("any", "[]", &mut movers),
            "host_absent" => comes(&mover, "[1, 2]", &mut movers),
            "hosts_absent" => comes("h1", "[1, 2]", &mut movers),
            // It runs, or the mover or the file is busy with something else: that ends.
            "running" | "mover_full" | "mover_not_asking" | "file_busy" => {
                let peer = movers.get_mut(&mover).unwrap();
                let work: Value = serde_json::from_str(&peer.recv().unwrap()).unwrap();
                for item in work["hsm_action_list"]["list"].as_array().unwrap() {
                    let cookie = item["hai_cookie"].as_u64().unwrap();
                    assert!(served.insert(cookie), "{cookie:#x} was served twice");
                    peer.done(cookie, item["hai_fid"]["f_oid"].as_u64().unwrap() as u32, 0);
                }
                peer.send(RECV);
            }
            other => panic!("what to do about {other}? {request}"),
        }
        reasons.insert(kind);
        // What was sent has been read before an answer to this; `recv` is not answered while there is nothing.
        daemon.status();
    }
    assert_eq!(served, BTreeSet::from([1, 2, 3, 4, 5, 6]), "{reasons:?}");
    for kind in ["locked", "draining", "no_mover", "host_absent", "hosts_absent", "running", "file_busy"] {
        assert!(reasons.contains(kind), "{kind} was never a reason: {reasons:?}");
    }
}

/// The life of a request can be followed by its FID or cookie; what users passed with it is not in the log.
#[test]
fn the_log_tells_a_requests_life() {
    let daemon = Setup::default().start();
    daemon.peer().queue(&[item_of(20, 7, 0xabc, 3, "secret=x")]);
    let mut mover = daemon.mover("m1");
    assert_eq!(oids(&mover.work("")), [7]);
    mover.done(0xabc, 7, 5);
    daemon.wait_for_log("ended: done");
    let log = daemon.log();
    let life: Vec<&str> = log.lines().filter(|line| line.contains("cookie=0xabc")).collect();
    assert_eq!(life.len(), 3, "{log}");
    let fid = format!("fid={}", fid(7));
    for (line, what) in life.iter().zip(["admitted", "sent", "ended: done"]) {
        let fields = [&*fid, what, "action=ARCHIVE", "archive_id=3"];
        assert!(fields.iter().all(|field| line.contains(field)), "{line}");
    }
    assert!(life[1].contains("mover=m1") && life[1].contains("waited_ms="), "{}", life[1]);
    let last = ["mover=\"m1\"", "errno=5", "waited_ms=", "ran_ms="];
    assert!(last.iter().all(|field| life[2].contains(field)), "{}", life[2]);
    assert!(!log.contains("secret"), "{log}");
}

/// Asks as another user of the host: what the kernel says of a peer is what its thread was when it connected.
fn ask_as(path: std::path::PathBuf, uid: u32, gid: u32, method: &'static str, what: &'static str) -> Answer {
    let asks = move || {
        use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
        let (gid, uid) = (rustix::fs::Gid::from_raw(gid), rustix::fs::Uid::from_raw(uid));
        set_thread_groups(&[]).unwrap();
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
        let body = if method == "GET" { "" } else { r#"{"lock": "locked"}"# };
        ask(&path, method, what, body).unwrap()
    };
    std::thread::spawn(asks).join().unwrap()
}

/// Members of `api_read_group` read; what changes something is refused them, and others are refused everything.
#[test]
fn who_may_only_look_reads() {
    if !rustix::process::geteuid().is_root() {
        return harness::skip("who_may_only_look_reads", "needs root, to be somebody else");
    }
    // Users and groups that need no entry anywhere.
    let daemon = Setup::conf("api_group 54321\napi_read_group 54322\n").start();
    std::fs::set_permissions(daemon.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let code = |gid, method, what| ask_as(socket(&daemon), 54000, gid, method, what).code;
    let (status, lock) = ("/api/v1/hsm/status", "/api/v1/hsm/lock");
    assert_eq!((code(54321, "GET", status), code(54321, "POST", lock)), (200, 200));
    assert_eq!(good(&daemon, status)["lock"], "locked");
    post(&daemon, lock, &json!({"lock": "unlocked"}));
    assert_eq!((code(54322, "GET", status), code(54322, "GET", "/metrics")), (200, 200));
    let refused = ask_as(socket(&daemon), 54000, 54322, "POST", lock);
    assert_eq!((refused.code, refused.errors()), (403, "uid 54000 may only look".to_owned()));
    assert_eq!((code(54323, "GET", status), code(54323, "POST", lock)), (403, 403));
    assert_eq!(good(&daemon, status)["lock"], "unlocked");
    assert!(daemon.wait_for_log("may only look").contains("/api/v1/hsm/lock"));
    // Without that group the socket is as it was.
    let daemon = Setup::conf("api_group 54321\n").start();
    assert_eq!(std::fs::metadata(socket(&daemon)).unwrap().permissions().mode() & 0o777, 0o660);
}
