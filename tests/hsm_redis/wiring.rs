//! Which store is used, and for which file system.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use harness::{Daemon, Redis, Settings, Testbed, Value, json};

use super::{queue, serve_all, small_bed, start_alone};

/// Runs a daemon that is expected to end by itself; its exit code and what it said.
fn fails(bed: &Testbed, settings: &Settings, arguments: &[&str]) -> (Option<i32>, String) {
    bed.configure(settings);
    let output = Command::new(bed.programs().path("coordinatool"))
        .arg("--config")
        .arg(bed.configuration())
        .args(["--lustre", "none"])
        .args(arguments)
        .env_remove("COORDINATOOL_REDIS_HOST")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn start_with<'bed>(bed: &'bed Testbed, settings: &Settings, arguments: &[&str]) -> Daemon<'bed> {
    let mut all = vec!["--lustre", "none"];
    all.extend(arguments);
    Daemon::start_with(bed, settings, &all)
}

#[test]
fn file_systems_do_not_mix() {
    let bed = small_bed("redis-two");
    let other = small_bed("redis-two-other");
    let redis = Redis::start(&bed);
    let first = start_alone(&bed, &redis, &Settings::new());
    queue(&first, 0..3);
    let host = redis.host();
    let (code, said) = fails(&other, &Settings::new(), &["--fsname", "scratch", "--redis-host", &host]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("`testfs0`, not of `scratch`") && said.contains("redis_namespace"), "{said}");

    let settings = Settings::new().line("redis_namespace scratch");
    let second = start_with(&other, &settings, &["--fsname", "scratch", "--redis-host", &host]);
    queue(&second, 0..5);
    assert_eq!((redis.requests().len(), redis.hash("scratch_requests").len()), (3, 5));
    assert_eq!(serve_all(&second, "mover1", 5).len(), 5);
    first.wait_known(3);
}

#[test]
fn a_redis_that_is_configured_and_not_there_is_an_error() {
    let bed = small_bed("redis-missing");
    let host = bed.address().ip().to_string();
    let settings = Settings::new().line(format!("redis_host {host}"));
    let (code, said) = fails(&bed, &settings, &["--fsname", "testfs0"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("redis at {host}:6379")) && said.contains("refused"), "{said}");
    assert!(said.contains("`redis_host` to nothing"), "{said}");
    let (code, said) =
        fails(&bed, &Settings::new(), &["--fsname", "testfs0", "--store", "redis", "--redis-host", ""]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("`store redis`"), "{said}");
}

#[test]
fn a_password_and_a_unix_socket_are_used() {
    let bed = small_bed("redis-password");
    let redis = Redis::start_with(&bed, 6379, &["--appendonly", "yes"]);
    // As docs/redis.md has it.
    let rights = "+@hash +@transaction +@keyspace +@connection +info +config|get";
    let mut acl = vec!["ACL", "SETUSER", "coordinatool", "on", ">top secret", "~coordinatool_*"];
    acl.extend(rights.split(' '));
    redis.ask::<()>(&acl);
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/redis.md")).unwrap();
    assert!(guide.contains(&format!("~coordinatool_* {rights}\n")));
    let password = bed.directory().join("password");
    std::fs::write(&password, "top secret\n").unwrap();
    std::fs::set_permissions(&password, PermissionsExt::from_mode(0o640)).unwrap();
    let settings = Settings::new()
        .line("redis_user coordinatool")
        .line(format!("redis_password_file {}", password.display()))
        .line(format!("redis_host {}", redis.socket().display()));
    let (code, said) = fails(&bed, &settings, &["--fsname", "testfs0"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("others may read it"), "{said}");

    std::fs::set_permissions(&password, PermissionsExt::from_mode(0o600)).unwrap();
    let socket = redis.socket().display().to_string();
    let mut daemon = start_with(&bed, &settings, &["--fsname", "testfs0", "--redis-host", &socket]);
    queue(&daemon, 0..3);
    assert_eq!(redis.requests().len(), 3);
    daemon.restart();
    daemon.wait_known(3);
    // All that is ever done there is permitted: writing it anew as well.
    redis.ask::<()>(&["FLUSHALL"]);
    bed.wait("it is written anew", || redis.requests().len() == 3);
    assert!(!daemon.log().contains("top secret") && !daemon.log().contains("cannot be looked at"));

    std::fs::write(&password, "wrong\n").unwrap();
    daemon.stop();
    let (code, said) = fails(&bed, &settings, &["--fsname", "testfs0"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&socket) && !said.contains("wrong\n"), "{said}");
}

#[test]
fn requests_of_the_embedded_store_move_to_redis() {
    let bed = small_bed("redis-adopts");
    let mut daemon = start_with(&bed, &Settings::new(), &["--fsname", "testfs0"]);
    queue(&daemon, 0..20);
    let mut mover = daemon.connect();
    mover.ehlo("mover1");
    mover.ask_for_work(1);
    mover.receive();
    daemon.stop();

    let redis = Redis::start(&bed);
    let mut daemon = start_alone(&bed, &redis, &Settings::new());
    daemon.wait_known(20);
    assert_eq!((redis.requests().len(), redis.assigned().len()), (20, 1));
    daemon.crash_and_restart();
    daemon.wait_known(20);
    daemon.stop();
    // Not there any more.
    let embedded = start_with(&bed, &Settings::new(), &["--fsname", "testfs0"]);
    embedded.wait_known(0);
    assert!(embedded.log().contains("an earlier run kept requests in redis at"));
}

#[test]
fn settings_that_lose_what_is_stored_are_warned_of() {
    let bed = small_bed("redis-warns");
    let options = ["--appendonly", "no", "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"];
    let redis = Redis::start_with(&bed, 6379, &options);
    let daemon = start_alone(&bed, &redis, &Settings::new());
    bed.wait("it warns", || {
        let log = daemon.log();
        log.contains("`appendonly` is off") && log.contains("`maxmemory-policy` is `allkeys-lru`")
    });
}

#[test]
fn an_operator_sees_how_the_store_is() {
    let bed = small_bed("redis-status");
    let mut redis = Redis::start_with(&bed, 6379, &["--appendonly", "no"]);
    redis.set(harness::REQUESTS, "bad", b"");
    let daemon = start_alone(&bed, &redis, &Settings::new());
    let mut odd = super::item(22, 1, "");
    odd["hal_archive_id"] = json!(0);
    daemon.connect().ask(&json!({"command": "queue", "hsm_action_items": [odd]}));
    let status = || {
        let output = bed.client(&["status", "--json"], "");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.parse::<Value>().unwrap_or_else(|error| panic!("{error}: {output:?}"))["store"].clone()
    };
    bed.wait("the status tells", || {
        let store = status();
        store["not_for_c"] == 1
            && store["set_aside"] == 1
            && store["trouble"].is_null()
            && store["warnings"][0].as_str().is_some_and(|text| text.contains("appendonly"))
    });
    redis.kill();
    queue(&daemon, [2]);
    bed.wait("it tells of the outage", || {
        let store = status();
        store["trouble"].as_str().is_some_and(|text| text.contains("redis at")) && store["spilled_bytes"] != 0
    });
    let output = bed.client(&["status"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("does not have all requests") && text.contains("the C version would not see"),
        "{text}"
    );
    redis.start_again();
    bed.wait("and of its end", || status()["trouble"].is_null());
}

/// Nothing is said about redis: it is used if it is there.
#[test]
fn without_a_word_about_redis_and_without_one_the_embedded_store_is_used() {
    let bed = small_bed("redis-unset");
    // Nobody listens at the port of a socket that is bound and does not listen.
    let reserved =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&reserved, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let bound = rustix::net::getsockname(&reserved).unwrap();
    let port = std::net::SocketAddrV4::try_from(bound).unwrap().port();
    let settings = Settings::new().line(format!("redis_port {port}"));
    bed.configure(&settings);
    let mut command = Command::new(bed.programs().path("coordinatool"));
    command.args(["-v", "--lustre", "none", "--fsname", "testfs0", "--config"]).arg(bed.configuration());
    command.env_remove("COORDINATOOL_REDIS_HOST");
    let mut process = harness::Process::spawn("daemon", command, &bed.log_path("daemon"));
    bed.wait("it serves", || process.log().contains("Starting main loop"));
    let warning = format!("no redis at localhost:{port}");
    assert!(process.log().contains(&warning), "{}", process.log());
    assert!(process.log().contains("requests are kept in the embedded store"));
    process.terminate(harness::patience());

    // Once an earlier run has kept requests there, they are not forgotten so easily.
    let spill = bed.directory().join("state/redis-spill");
    std::fs::create_dir_all(&spill).unwrap();
    std::fs::write(spill.join("used"), "redis at localhost\n").unwrap();
    let (code, said) = fails(&bed, &settings, &["--fsname", "testfs0"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("an earlier run kept requests there"), "{said}");
}
