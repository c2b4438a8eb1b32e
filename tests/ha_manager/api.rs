//! The API: what it answers to whom.

use harness::ha::{Cluster, Shape};
use harness::json;

#[test]
fn answers_have_honest_codes() {
    let cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    for (method, path, body, code) in [
        ("GET", "/api/v1/ha/status", "", 200),
        ("GET", "/api/v1/ha/events", "", 200),
        ("GET", "/api/v1/ha/events?limit=1&object=g0", "", 200),
        ("GET", "/api/v1/ha/events?limit=x", "", 400),
        ("GET", "/api/v1/ha/events?bogus=1", "", 400),
        ("GET", "/api/v1/ha/commands/999", "", 404),
        ("GET", "/api/v1/ha/commands/x", "", 400),
        ("GET", "/api/v1/nothing", "", 404),
        ("GET", "/", "", 404),
        ("DELETE", "/api/v1/ha/status", "", 405),
        ("POST", "/api/v1/ha/groups/none/manage", "{}", 404),
        ("POST", "/api/v1/ha/groups/g0c/unmanage", "{}", 404),
        ("POST", "/api/v1/ha/groups/g0/explode", "{}", 404),
        ("POST", "/api/v1/ha/hosts/h9/fence", "{}", 404),
        ("POST", "/api/v1/ha/hosts/h0/power", "{}", 400),
        ("POST", "/api/v1/ha/hosts/h0/power", r#"{"action":"explode"}"#, 422),
        ("POST", "/api/v1/ha/hosts/h0/reset", "{}", 409),
        ("POST", "/api/v1/ha/groups/g0/maintenance", "{}", 400),
        ("POST", "/api/v1/ha/groups/g0/move", r#"{"to":"h9"}"#, 404),
        ("POST", "/api/v1/ha/groups/g0/move", r#"{"typo":"h1"}"#, 422),
        ("POST", "/api/v1/ha/groups/g0/move", "nonsense", 422),
        ("POST", "/api/v1/ha/groups/g0/move", r#"{"to":"h1","dry_run":true}"#, 200),
        ("POST", "/api/v1/ha/start", "{}", 400),
        ("POST", "/api/v1/ha/start", r#"{"target":"none"}"#, 404),
        ("POST", "/api/v1/ha/maintenance", r#"{"seconds":99999999999}"#, 422),
        ("POST", "/api/v1/ha/reload", r#"{"dry_run":true}"#, 200),
        ("POST", "/api/v1/ha/groups/g0/unmanage", r#"{"reason":"a test"}"#, 202),
    ] {
        let answer = cluster.ask(method, path, body);
        assert_eq!(answer.code, code, "{method} {path} {body}: {}", answer.body);
        if path.starts_with("/api")
            && code != 405
            && !(code == 400 && path.contains("?"))
            && !path.ends_with("/x")
        {
            let json = answer.json();
            assert_eq!(json["success"], code < 300, "{path}: {json}");
            assert_eq!(json["errors"].as_array().unwrap().is_empty(), code < 300, "{path}: {json}");
        }
    }
    // Of all that, only the last did anything.
    let status = cluster.status();
    assert!(!status.group("g0").managed && status.group("g1").managed);
    assert!(status.runs_on("g0", "h0") && status.runs_on("g1", "h1"));
    let events = cluster.events();
    let unmanaged = events.iter().find(|event| event.event == "unmanage").unwrap();
    assert!(unmanaged.by.contains("uid "), "{unmanaged:?}");
    assert!(unmanaged.comment.as_deref().unwrap_or_default().contains("a test"), "{unmanaged:?}");
}

#[test]
fn bodies_are_limited() {
    let cluster = Cluster::start(Shape::pair());
    let body = format!("{{\"reason\":\"{}\"}}", "x".repeat(100_000));
    assert_eq!(cluster.ask("POST", "/api/v1/ha/takeover", &body).code, 413);
    let body = format!("{{\"reason\":\"{}\"}}", "x".repeat(2000));
    assert_eq!(cluster.ask("POST", "/api/v1/ha/clear", &body).code, 422);
}

#[test]
fn every_path_of_the_openapi_document_is_there() {
    let cluster = Cluster::start(Shape::pair());
    let document = cluster.ask("GET", "/api/v1/openapi.json", "").json();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 25);
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            if path.ends_with("/stream") {
                continue;
            }
            let real = path
                .replace("{id}", if path.contains("/hosts/") { "h0" } else { "g0" })
                .replace("{root}", "g0");
            // A dry run of everything that would act; HALO's paths know none, and get what they refuse.
            let body = match (method.as_str(), path.starts_with("/api")) {
                ("get", _) => String::new(),
                (_, true) => {
                    json!({"dry_run": true, "seconds": 1, "action": "status", "target": "g0"}).to_string()
                }
                (_, false) => "{}".to_owned(),
            };
            let answer = cluster.ask(&method.to_uppercase(), &real, &body);
            let known = !matches!(answer.code, 405 | 500) && !answer.body.contains("there is no");
            // There is no command g0, and its number is no number.
            assert!(known || real.contains("/commands/"), "{method} {path}: {} {}", answer.code, answer.body);
        }
    }
}

#[test]
fn a_client_that_hangs_up_changes_nothing() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    let cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    for half in
        ["", "GET", "POST /api/v1/ha/groups/g0/stop HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"]
    {
        let mut stream = UnixStream::connect(cluster.socket()).unwrap();
        stream.write_all(half.as_bytes()).unwrap();
    }
    // One that asked and did not wait for the answer: it is done all the same.
    let mut stream = UnixStream::connect(cluster.socket()).unwrap();
    let request = "POST /api/v1/ha/groups/g1/stop HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(request.as_bytes()).unwrap();
    cluster.wait("g1 is stopped", |status| status.group("g1").phase == "stopped");
    drop(stream);
    assert!(cluster.status().runs_on("g0", "h0"));
}

#[test]
fn events_come_as_a_stream() {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;

    let cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    let mut stream = UnixStream::connect(cluster.socket()).unwrap();
    stream.set_read_timeout(Some(harness::patience())).unwrap();
    stream.write_all(b"GET /api/v1/ha/events/stream?object=g0 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut next = |wanted: &str| {
        loop {
            let line = lines.next().unwrap().unwrap();
            if line.starts_with("data: ") && line.contains(wanted) {
                return;
            }
        }
    };
    next("\"running\"");
    cluster.command("groups/g0/unmanage").unwrap();
    next("\"unmanage\"");
}

#[test]
fn halos_paths_answer_as_halo_does() {
    let cluster = Cluster::start(Shape::pair());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
    let status = cluster.ask("GET", "/status", "").json();
    let g0 = status["resources"].as_array().unwrap().iter().find(|one| one["id"] == "g0").unwrap();
    assert_eq!(g0["status"]["h0"]["status"], "Running");
    assert_eq!(g0["status"]["h1"]["status"], "Stopped");
    assert_eq!(
        (&g0["managed"], &g0["home_host"], &g0["failover_host"]),
        (&json!(true), &json!("h0"), &json!("h1"))
    );
    assert_eq!(g0["dependents"], json!(["g0c"]));
    assert_eq!(status["hosts"][0], json!({"id": "h0", "active": true, "connected": true, "fenced": false}));
    for (method, path, body, code, text) in [
        ("PATCH", "/resources/g0", r#"{"managed":false,"comment":"why"}"#, 200, ""),
        ("PATCH", "/resources/g0", r#"{"managed":true,"comment":null}"#, 200, ""),
        ("PATCH", "/resources/g0c", r#"{"managed":true,"comment":null}"#, 404, "Specify root resource ID."),
        ("PATCH", "/resources/none", r#"{"managed":true,"comment":null}"#, 404, "Resource group not found."),
        ("POST", "/hosts/h0", r#"{"command":"explode"}"#, 400, "Unsupported command."),
        ("POST", "/hosts/h0", r#"{"command":"reset"}"#, 409, "Host has not been fenced."),
        ("POST", "/hosts/h0", r#"{"command":"deactivate","comment":"x"}"#, 200, ""),
        ("POST", "/hosts/h0", r#"{"command":"activate"}"#, 200, ""),
        ("POST", "/clear_events", "", 200, ""),
    ] {
        let answer = cluster.ask(method, path, body);
        assert_eq!(answer.code, code, "{method} {path} {body}: {}", answer.body);
        assert!(answer.body.contains(text), "{method} {path} {body}: {}", answer.body);
    }
    // HALO gives all events; its client shows those after the last of these. Groups still move, so more may follow.
    let all = cluster.ask("GET", "/status", "").json()["events"].take();
    let all = all.as_array().unwrap();
    let cleared =
        all.iter().rposition(|event| event["event"] == "clear" && event["obj_id"] == "events").unwrap();
    assert!(cleared > 0, "{all:?}");
    let shown = cluster.ask("GET", "/api/v1/ha/events", "").json()["response"].take();
    let old = |event: &harness::Value| event["event"] == "unmanage" || event["event"] == "deactivate";
    assert!(all[..cleared].iter().any(old), "{all:?}");
    assert!(!shown.as_array().unwrap().iter().any(old), "ours gives those after it: {shown}");
}
