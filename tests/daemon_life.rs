//! Start, stop and restart of the daemon, judged by what peers get afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod daemon_support;

use daemon_support::{Daemon, EHLO, Setup, client, item, oids};
use rustix::process::{Resource, Rlimit, Signal, prlimit};

const ENQUEUED_1: &str = r#"{"command": "queue", "enqueued": 1}"#;

#[test]
fn what_cannot_start_says_why_and_exits_with_1() {
    let failing = |conf: &str, args: &[&str]| {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Daemon::run_to_end(&Setup { conf: conf.to_owned(), args, ..Setup::default() })
    };
    let (code, text) = failing("port x y\nredis_port z\n", &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("coordinatool.conf:2: redis_port: `z` is not a whole number"), "{text}");
    let (code, text) = failing("", &["-H", "256.0.0.1"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("cannot listen on 256.0.0.1"), "{text}");
    let (code, text) = failing("", &["/mnt/x"]);
    assert_eq!((code, text.contains("contradict")), (Some(1), true), "{text}");
    let stored =
        Setup { stored: true, args: vec!["--state-dir".into(), "/proc/nothing".into()], ..Setup::default() };
    let (code, text) = Daemon::run_to_end(&stored);
    assert_eq!((code, text.contains("--state-dir DIR")), (Some(1), true), "{text}");
}

#[test]
fn signals_stop_it_cleanly() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let mut daemon = Setup::stored().start();
        let mut mover = daemon.mover("m0");
        mover.send(r#"{"command": "recv", "max_bytes": 1048576}"#);
        daemon.wait_for_status("waiting", |status| {
            client(status, "m0").is_some_and(|c| c["status"] == "waiting")
        });
        daemon.signal(signal);
        assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
        assert_eq!(mover.recv(), None);
    }
}

/// C: SIGTERM erases the assignments, so that running requests are given to another mover (4.9 h).
#[test]
fn a_clean_restart_keeps_the_queue_in_order_and_who_runs_what() {
    let daemon = Setup::stored().start();
    let items: Vec<_> = (1..=50).map(|n| item(20, n, u64::from(n), "")).collect();
    assert_eq!(daemon.peer().queue(&items), r#"{"command": "queue", "enqueued": 50}"#);
    let mut m0 = daemon.mover("m0");
    assert_eq!(oids(&m0.work(r#", "max_archive": 2"#)), [1, 2]);
    let daemon = daemon.restart(Signal::TERM);
    let status = daemon.status();
    assert_eq!((&status["running_archive"], &status["pending_archive"]), (&2.into(), &48.into()), "{status}");
    assert_eq!(client(&status, "m0").unwrap()["status"], "disconnected");
    // Another mover gets only what is nobody's.
    let mut m1 = daemon.mover("m1");
    assert_eq!(oids(&m1.work(r#", "max_archive": 3"#)), [3, 4, 5]);
    // The first one claims what it has.
    let mut m0 = daemon.peer();
    let claim = format!(r#"{{"command": "ehlo", "id": "m0", "hai_list": [{}]}}"#, item(20, 1, 1, ""));
    assert_eq!(m0.ask(&claim), EHLO);
    m0.done(1, 1, 0);
    let status = daemon.status();
    assert_eq!(status["done_archive"], 1, "{status}");
}

/// C acknowledges QUEUE before redis has it: after kill -9 at once, 0 of 1000 requests are left, 23046 of 100000.
#[test]
fn what_was_acknowledged_survives_kill_9() {
    let mut daemon = Setup::stored().start();
    let mut next = 1u32;
    for round in 1..=3u32 {
        let mut peer = daemon.peer();
        let items: Vec<_> = (next..next + 1000).map(|n| item(20, n, u64::from(n), "")).collect();
        next += 1000;
        assert_eq!(peer.queue(&items), r#"{"command": "queue", "enqueued": 1000}"#);
        daemon = daemon.restart(Signal::KILL);
        assert_eq!(daemon.status()["pending_archive"], round * 1000);
    }
    let mut mover = daemon.mover("m0");
    let work = mover.work("");
    assert_eq!(oids(&work)[..3], [1, 2, 3]);
    let sent = oids(&work).len();
    drop(mover);
    let daemon = daemon.restart(Signal::KILL);
    let status = daemon.status();
    assert_eq!(status["running_archive"], sent);
    assert_eq!(client(&status, "m0").unwrap()["status"], "disconnected");
}

#[test]
fn without_a_store_a_restart_forgets() {
    let daemon = Setup::default().start();
    assert_eq!(daemon.peer().queue(&[item(20, 1, 1, "")]), ENQUEUED_1);
    let daemon = daemon.restart(Signal::TERM);
    assert_eq!(daemon.status()["pending_archive"], serde_json::Value::Null);
}

/// A full disk stands for one in which no file may grow.
#[test]
fn a_full_disk_refuses_queue_with_28_and_takes_it_again_when_there_is_room() {
    let shell = Some("trap '' XFSZ".to_owned());
    let daemon = Setup { shell, ..Setup::stored() }.start();
    let mut peer = daemon.peer();
    assert_eq!(peer.queue(&[item(20, 1, 1, "")]), ENQUEUED_1);
    let limit = Rlimit { current: Some(4096), maximum: None };
    prlimit(Some(daemon.pid()), Resource::Fsize, limit).unwrap();
    // What is left of the segment may still be filled.
    let data = "d".repeat(3000);
    let mut acknowledged = 1;
    let mut n = 2;
    let refused = loop {
        let items: Vec<_> = (n..n + 500).map(|n| item(20, n, u64::from(n), &data)).collect();
        n += 500;
        let reply = peer.queue(&items);
        if reply != r#"{"command": "queue", "enqueued": 500}"# {
            break reply;
        }
        acknowledged += 500;
        assert!(n < 100_000, "the disk is never full");
    };
    assert_eq!(refused, r#"{"command": "queue", "status": -28, "error": "No space left on device"}"#);
    let again = peer.queue(&[item(20, 200_000, 200_000, "")]);
    assert_eq!(again, r#"{"command": "queue", "status": -28, "error": "No space left on device"}"#);
    // Movers are served meanwhile.
    let mut mover = daemon.mover("m0");
    assert_eq!(oids(&mover.work(r#", "max_archive": 1"#)), [1]);
    mover.done(1, 1, 0);
    let room = Rlimit { current: None, maximum: None };
    prlimit(Some(daemon.pid()), Resource::Fsize, room).unwrap();
    daemon.wait_for_log("stored again");
    let end = std::time::Instant::now() + daemon_support::PATIENCE;
    while peer.queue(&[item(20, 200_001, 200_001, "")]) != ENQUEUED_1 {
        assert!(std::time::Instant::now() < end);
    }
    let daemon = daemon.restart(Signal::KILL);
    let pending = daemon.status()["pending_archive"].as_u64().unwrap();
    // All that was acknowledged, without the one that is done.
    assert!(pending >= acknowledged, "{pending} of {acknowledged}");
}

#[test]
fn lock_and_quit_ends_it_when_nothing_runs() {
    let mut daemon = Setup::stored().start();
    assert_eq!(
        daemon.peer().queue(&[item(20, 1, 1, ""), item(20, 2, 2, "")]),
        r#"{"command": "queue", "enqueued": 2}"#
    );
    let mut mover = daemon.mover("m0");
    assert_eq!(oids(&mover.work(r#", "max_archive": 1"#)), [1]);
    assert_eq!(daemon.peer().ask(r#"{"command": "lock", "locked": 2}"#), r#"{"command": "lock"}"#);
    assert_eq!(daemon.status()["locked"], 2);
    mover.done(1, 1, 0);
    assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
}

#[test]
fn hangup_loads_the_configuration_again() {
    let daemon = Setup::conf("client_grace_ms 600000\n").start();
    let conf = daemon.dir().join("coordinatool.conf");
    std::fs::write(&conf, "client_grace_ms oops\n").unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("the old one stays");
    std::fs::write(&conf, "client_grace_ms 100\nport 1\n").unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("configuration loaded again");
    // The new grace counts.
    let mover = daemon.mover("m0");
    drop(mover);
    daemon.wait_for_status("forgotten", |status| client(status, "m0").is_none());
}

/// C writes no newline after `cancel`, and nothing at all for `reporting_hint cr=`.
#[test]
fn reporting_files_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let reports = dir.path().join("reports");
    let conf = format!("reporting_dir {}\nreporting_hint cr=\n", reports.display());
    let daemon = Setup::conf(&conf).start();
    assert_eq!(daemon.peer().queue(&[item(20, 1, 1, "tag=a,cr=job1")]), ENQUEUED_1);
    let mut mover = daemon.mover("m0");
    assert_eq!(oids(&mover.work("")), [1]);
    mover.done(1, 1, 0);
    let fid = "[0x200000401:0x1:0x0]";
    let want = format!("new {fid}\nsent {fid} m0\ndone {fid} 0\n");
    let end = std::time::Instant::now() + daemon_support::PATIENCE;
    loop {
        let got = std::fs::read_to_string(reports.join("job1")).unwrap_or_default();
        if got == want {
            break;
        }
        assert!(want.starts_with(&got), "{got}");
        assert!(std::time::Instant::now() < end, "{got}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn the_service_manager_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(daemon_support::PATIENCE)).unwrap();
    let next = || {
        let mut buffer = [0; 4096];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    let env = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "20000")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mut daemon = Setup { env, ..Setup::default() }.start();
    let first = next();
    assert!(first.lines().any(|line| line == "READY=1"), "{first}");
    for _ in 0..3 {
        assert_eq!(next().trim(), "WATCHDOG=1");
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0));
    let last = std::iter::from_fn(|| Some(next())).find(|text| !text.contains("WATCHDOG")).unwrap();
    assert_eq!(last.trim(), "STOPPING=1");
}

#[test]
fn the_configuration_can_be_checked() {
    let args = vec!["--check-config".to_owned()];
    let good = Setup { conf: "client_grace_ms 5\nblah 1\n".into(), args: args.clone(), ..Setup::default() };
    assert_eq!(Daemon::run_to_end(&good).0, Some(0));
    let bad = Setup { conf: "client_grace_ms x\n".into(), args, ..Setup::default() };
    let (code, text) = Daemon::run_to_end(&bad);
    assert_eq!((code, text.contains(":1: client_grace_ms: `x`")), (Some(1), true), "{text}");
}

#[test]
fn two_daemons_do_not_share_a_store() {
    let daemon = Setup::stored().start();
    let state = daemon.dir().join("state");
    let args = vec!["--state-dir".to_owned(), state.to_str().unwrap().to_owned()];
    let (code, text) = Daemon::run_to_end(&Setup { stored: true, args, ..Setup::default() });
    assert_eq!((code, text.contains("embedded store")), (Some(1), true), "{text}");
}
