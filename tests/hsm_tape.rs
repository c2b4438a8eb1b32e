//! Restores that a locator places, with real processes on the embedded Lustre: a program, a web server, and a library that
//! stands in for phobos. Judged by the order in which copytools get them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Daemon, FileSet, Mover, MoverSettings, Request, Settings, Testbed, write_program};

/// The numbers of the restored files in the order in which the copytool got them.
fn restored(mover: &Mover<'_>, files: &FileSet<'_>) -> Vec<usize> {
    let fids = files.fids();
    let number = |fid: &str| {
        let same = |of: &String| of.trim_matches(['[', ']']) == fid.trim_matches(['[', ']']);
        fids.iter().position(same).expect("a file of the test")
    };
    let journal = mover.journal();
    let received = journal.iter().filter(|step| step.step == "received" && step.action == "RESTORE");
    received.map(|step| number(&step.fid)).collect()
}

/// How many answers of the locator the daemon's log tells of.
fn located(daemon: &Daemon<'_>) -> usize {
    let log = daemon.log();
    let counts = log.lines().filter(|line| line.contains(" located "));
    counts.filter_map(|line| line.rsplit_once("requests=")?.1.trim().parse::<usize>().ok()).sum()
}

/// Archives and releases files, and locks the daemon.
fn prepare<'bed>(bed: &'bed Testbed, daemon: &Daemon<'_>, count: u32) -> FileSet<'bed> {
    let files = FileSet::create(bed, 0..count);
    files.archive(&Request::default());
    files.wait_archived();
    files.release();
    daemon.lock(1);
    files
}

fn ask(daemon: &Daemon<'_>, files: &FileSet<'_>) {
    files.restore(&Request::default());
    daemon.wait_known(files.len() as u64);
}

fn settings() -> Settings {
    Settings::new().line("max_restore 1").line("tape_wait_ms 0")
}

/// Reads where files lie from a table, as a site's script would.
fn table_program(bed: &Testbed) -> (PathBuf, PathBuf) {
    let table = bed.directory().join("table");
    let program = bed.directory().join("locate");
    let script = format!(
        "#!/bin/sh\nwhile read fid rest; do grep -F \"$fid\" {} || echo \"$fid\"; done\n",
        table.display()
    );
    write_program(&program, &script);
    (program, table)
}

fn write_table(table: &Path, files: &FileSet<'_>, place: impl Fn(usize) -> String) {
    let mut text = String::new();
    for (number, fid) in files.fids().iter().enumerate() {
        let _ = writeln!(text, "[{}] {}", fid.trim_matches(['[', ']']), place(number));
    }
    std::fs::write(table, text).unwrap();
}

/// Two tapes, two movers: each gets one tape, from its begin to its end.
#[test]
fn tapes_are_read_in_order_by_one_mover_each() {
    let bed = Testbed::start("tape-command");
    let (program, table) = table_program(&bed);
    let daemon = Daemon::start(&bed, &settings().line(format!("locator command {}", program.display())));
    let movers: Vec<_> = (0..2)
        .map(|number| MoverSettings::new(&bed, &format!("agent_{number}"), number + 1).start(&bed))
        .collect();
    let files = prepare(&bed, &daemon, 12);
    // Even numbers on one tape, odd ones on the other, the last first.
    write_table(&table, &files, |number| format!("T{} - {}", number % 2, 100 - number));
    ask(&daemon, &files);
    for number in 0..2 {
        daemon.wait_mover(&format!("agent_{number}"));
    }
    bed.wait("all are located", || located(&daemon) >= 12);
    daemon.lock(0);
    files.wait_restored();
    let orders: Vec<Vec<usize>> = movers.iter().map(|mover| restored(mover, &files)).collect();
    for order in &orders {
        assert_eq!(order.len(), 6, "{orders:?}");
        assert!(order.iter().all(|number| number % 2 == order[0] % 2), "one tape each: {orders:?}");
        assert!(order.is_sorted_by(|a, b| a > b), "in the order of the tape: {orders:?}");
    }
}

/// A program that hangs or fails does not keep restores from being done.
#[test]
fn a_locator_that_fails_keeps_nobody_waiting() {
    for (name, script) in [("hangs", "sleep 1000"), ("fails", "exit 1"), ("babbles", "echo what?")] {
        let bed = Testbed::start(&format!("tape-{name}"));
        let program = bed.directory().join("locate");
        write_program(&program, &format!("#!/bin/sh\n{script}\n"));
        let settings =
            settings().line(format!("locator command {}", program.display())).line("locator_timeout_ms 200");
        let daemon = Daemon::start(&bed, &settings);
        let _mover = MoverSettings::new(&bed, "agent_0", 1).start(&bed);
        let files = prepare(&bed, &daemon, 2);
        daemon.lock(0);
        files.restore(&Request::default());
        files.wait_restored();
        assert!(daemon.log().contains("locator"), "{}", daemon.log());
    }
}

/// Answers POSTs from a table until it is dropped.
fn serve(table: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/locate", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let question: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let table = std::fs::read_to_string(&table).unwrap();
            let mut locations = Vec::new();
            for request in question["requests"].as_array().unwrap() {
                let fid = request["fid"].as_str().unwrap();
                let line = table.lines().find(|line| line.starts_with(fid)).unwrap();
                let host = line.rsplit_once(' ').unwrap().1;
                locations.push(serde_json::json!({"fid": fid, "host": host}));
            }
            let body = serde_json::json!({"locations": locations}).to_string();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}

/// The host that a web server names gets the restore.
#[test]
fn a_web_server_says_which_host() {
    let bed = Testbed::start("tape-http");
    let table = bed.directory().join("table");
    let url = serve(table.clone());
    let daemon = Daemon::start(&bed, &settings().line(format!("locator http {url}")));
    let movers: Vec<_> = (0..2)
        .map(|number| MoverSettings::new(&bed, &format!("agent_{number}"), number + 1).start(&bed))
        .collect();
    let files = prepare(&bed, &daemon, 6);
    write_table(&table, &files, |number| format!("agent_{}", usize::from(number == 5)));
    daemon.lock(0);
    files.restore(&Request::default());
    files.wait_restored();
    let sorted = |mover: &Mover<'_>| {
        let mut numbers = restored(mover, &files);
        numbers.sort_unstable();
        numbers
    };
    assert_eq!((sorted(&movers[0]), sorted(&movers[1])), (vec![0, 1, 2, 3, 4], vec![5]));
}

/// A library with the functions of `libphobos_store`: an object `HOST/...` is on that host, `crash/...` ends the process.
fn build_phobos(bed: &Testbed, copies: bool) -> PathBuf {
    let source = bed.directory().join("phobos.c");
    let library = bed.directory().join("libphobos_store.so");
    let copy = if copies { "const char *copy, " } else { "" };
    let text = format!(
        r#"
        #include <errno.h>
        #include <stdlib.h>
        #include <string.h>
        static int ready;
        int phobos_init(void) {{ ready = 1; return 0; }}
        int phobos_locate(const char *oid, const char *uuid, int version, const char *focus,
                          {copy}char **host, int *locks)
        {{
            const char *end = strchr(oid, '/');
            if (!ready || uuid || version)
                return -EINVAL;
            if (!strncmp(oid, "crash/", 6))
                abort();
            if (!end)
                return -ENOENT;
            *host = strndup(oid, end - oid);
            *locks = 1;
            return 0;
        }}
        "#
    );
    std::fs::write(&source, text).unwrap();
    let status = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(status.expect("a C compiler is there").success());
    library
}

fn name_object(files: &FileSet<'_>, number: u32, oid: &str) {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(files.path(number), "user.oid", oid.as_bytes(), flags)
        .expect("extended attributes work");
}

/// Phobos names the host, by the name that the object has there; both signatures of the library.
#[test]
fn phobos_says_which_host() {
    for (means, copies) in [("phobos", true), ("phobos-1.95", false)] {
        let bed = Testbed::start("tape-phobos");
        let library = build_phobos(&bed, copies);
        let settings =
            settings().line(format!("locator {means} {}", library.display())).line("locator_xattr user.oid");
        let daemon = Daemon::start(&bed, &settings);
        let movers: Vec<_> = (0..2)
            .map(|number| MoverSettings::new(&bed, &format!("agent_{number}"), number + 1).start(&bed))
            .collect();
        let files = prepare(&bed, &daemon, 4);
        for number in 0..4 {
            name_object(&files, number, &format!("agent_{}/an object", number % 2));
        }
        daemon.lock(0);
        files.restore(&Request::default());
        files.wait_restored();
        for (number, mover) in movers.iter().enumerate() {
            let order = restored(mover, &files);
            assert_eq!(order.len(), 2);
            assert!(order.iter().all(|file| file % 2 == number), "{order:?} on mover {number}");
        }
    }
}

/// What crashes in the library is asked again after the grace; the daemon lives, and others go on. A restore for a mover
/// that is not there waits for it.
#[test]
fn phobos_may_crash_and_hosts_may_be_away() {
    let bed = Testbed::start("tape-crash");
    let library = build_phobos(&bed, true);
    let settings = settings()
        .line(format!("locator phobos {}", library.display()))
        .line("locator_xattr user.oid")
        .line("locator_batch 1")
        .line("locator_cache_ms 0")
        .line("client_grace_ms 500");
    let daemon = Daemon::start(&bed, &settings);
    let mover = MoverSettings::new(&bed, "agent_0", 1).start(&bed);
    let files = prepare(&bed, &daemon, 3);
    for (number, oid) in [(0, "crash/x"), (1, "agent_1/x"), (2, "agent_0/x")] {
        name_object(&files, number, oid);
    }
    daemon.lock(0);
    files.restore(&Request::default());
    files.part(2..3).wait_restored();
    bed.wait("the one for the absent mover is shown there", || daemon.mover_status("agent_1").is_some());
    assert_eq!(restored(&mover, &files), [2], "nobody else gets the others");
    name_object(&files, 0, "agent_0/y");
    files.part(0..1).wait_restored();
    let other = MoverSettings::new(&bed, "agent_1", 2).start(&bed);
    files.wait_restored();
    assert_eq!((restored(&mover, &files), restored(&other, &files)), (vec![2, 0], vec![1]));
}

/// Without the library restores go to any mover at once, and the log says why.
#[test]
fn without_the_library_restores_are_placed_as_ever() {
    let bed = Testbed::start("tape-none");
    let settings = settings().line("locator phobos /nonexistent/libphobos_store.so");
    let daemon = Daemon::start(&bed, &settings);
    let _mover = MoverSettings::new(&bed, "agent_0", 1).start(&bed);
    let files = prepare(&bed, &daemon, 1);
    daemon.lock(0);
    files.restore(&Request::default());
    files.wait_restored();
    assert!(daemon.log().contains("/nonexistent/libphobos_store.so"), "{}", daemon.log());
}
