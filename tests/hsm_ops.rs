//! The subcommands of `coordinatool-client`, used as an administrator uses them, on an embedded Lustre with unmodified
//! copytools. Judged by the MDTs' ledger and by what the commands print.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use harness::ledger::{Entry, Status};
use harness::{Daemon, FileSet, Gate, MoverSettings, Request, Settings, Step, Testbed, Value};

/// What a command came to.
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Run {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

fn command(bed: &Testbed, arguments: &[&str]) -> Command {
    let mut command = Command::new(bed.programs().path("coordinatool-client"));
    command.args(arguments).env("COORDINATOOL_CONF", bed.configuration());
    // Paths become FIDs through ioctls.
    command.env("LD_PRELOAD", bed.liblustreapi()).env_remove("COORDINATOOL_API_SOCKET").env("TZ", "UTC");
    command
}

fn read(output: Output) -> Run {
    Run {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn client(bed: &Testbed, arguments: &[&str]) -> Run {
    read(command(bed, arguments).stdin(Stdio::null()).output().unwrap())
}

/// One that must succeed.
fn good(bed: &Testbed, arguments: &[&str]) -> String {
    let run = client(bed, arguments);
    assert_eq!(run.code, 0, "{arguments:?}: {}{}", run.out, run.err);
    run.out
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn mover(bed: &Testbed, id: &str, mount: usize) -> MoverSettings {
    MoverSettings::new(bed, id, mount).own_archive(bed)
}

/// What waits says what for, by path and by FID; when that comes, it goes, and then says how it ended.
#[test]
fn explain_says_what_a_file_waits_for_and_how_it_ended() {
    let bed = Testbed::start("explain");
    let daemon = Daemon::start(&bed, &Settings::new());
    let files = FileSet::create(&bed, 1..3);
    files.archive(&Request { archive_id: Some(2), data: b"tag=a".to_vec() });
    daemon.wait_known(2);
    let (path, fid) = (files.path(1), files.fids()[0].clone());
    let said = good(&bed, &["explain", text(&path)]);
    assert!(said.contains("ARCHIVE for archive 2") && said.contains("queued"), "{said}");
    assert!(said.contains("no connected mover serves archive 2"), "{said}");
    assert_eq!(said.replace(text(&path), "").trim(), good(&bed, &["explain", &fid]).trim());
    let status = good(&bed, &["status"]);
    assert!(status.contains("CRITICAL") && status.contains("no connected mover serves it"), "{status}");

    // A mover of another archive helps nobody.
    let _other = mover(&bed, "other", 1).archives(&[1]).start(&bed);
    daemon.wait_mover("other");
    assert!(good(&bed, &["explain", text(&path)]).contains("no connected mover serves archive 2"));
    let gate = Gate::closed_for_all(&bed, "two");
    let _two = mover(&bed, "two", 2).archives(&[2]).behind(&gate).start(&bed);
    bed.wait("the mover runs it", || {
        good(&bed, &["explain", text(&path)]).contains("mover two has been running it")
    });
    gate.open();
    files.wait_archived();
    let after = bed.wait_for("it is forgotten", || {
        let run = client(&bed, &["explain", text(&path)]);
        (run.code == 3).then_some(run.out)
    });
    assert!(
        after.contains("no request is here") && after.contains("ARCHIVE for archive 2, done on two"),
        "{after}"
    );
    let history = client(&bed, &["history", text(&path), "--json"]).json();
    assert_eq!((&history[0]["outcome"], &history[0]["status"]), (&"done".into(), &0.into()), "{history}");
    assert_eq!(history[0]["mover"], "two");
    let told = good(&bed, &["history", "--mover", "two"]);
    assert!(
        told.contains(&fid) && told.contains("(2 of at most 10000 remembered, in memory, since "),
        "{told}"
    );
    assert_eq!(client(&bed, &["history", "--failed"]).code, 3);
}

/// It was ended while it waited: not a success, and with the error that leaves the file as it is.
fn ended_waiting(entry: &Entry) -> bool {
    entry.status == Status::Failed && entry.errno() == 114
}

/// `cancel` ends requests at the MDT: what waits at once, what runs through its mover.
#[test]
fn cancel_ends_what_waits_and_what_runs() {
    let bed = Testbed::start("cancel");
    let daemon = Daemon::start(&bed, &Settings::three_at_a_time());
    let gate = Gate::closed_for_all(&bed, "all");
    let mover = mover(&bed, "m1", 1).behind(&gate).argument("--ack-cancel").start(&bed);
    daemon.wait_mover("m1");
    let files = FileSet::create(&bed, 1..9);
    files.archive(&Request::data("tag=a"));
    bed.wait("three run", || {
        daemon.status()["running_archive"] == 3 && daemon.status()["pending_archive"] == 5
    });

    // Nobody can be asked: nothing is done.
    let asked = client(&bed, &["cancel", "--hint", "tag=a"]);
    assert_eq!(asked.code, 2, "{}", asked.err);
    assert!(
        asked.out.contains("8 requests: 5 waiting, 3 running") && asked.err.contains("-y"),
        "{}",
        asked.out
    );
    let preview = client(&bed, &["cancel", "--hint", "tag=a", "--dry-run", "--json"]).json();
    assert_eq!((&preview["selected"], &preview["waiting"]), (&8.into(), &5.into()), "{preview}");
    assert_eq!(daemon.status()["pending_archive"], 5);
    assert_eq!(client(&bed, &["cancel", "--hint", "tag=b", "-y"]).code, 3);
    assert_eq!(client(&bed, &["cancel", "-y"]).code, 2);

    // By path.
    let waiting: Vec<Value> =
        serde_json::Deserializer::from_str(&good(&bed, &["requests", "--state", "queued", "--json"]))
            .into_iter()
            .map(Result::unwrap)
            .collect();
    assert_eq!(waiting.len(), 5);
    let fid = waiting[0]["fid"].as_str().unwrap();
    let at = files
        .fids()
        .iter()
        .position(|known| known.trim_matches(['[', ']']) == fid.trim_matches(['[', ']']))
        .unwrap();
    let path = files.paths()[at].clone();
    good(&bed, &["cancel", text(&path), "-y", "--wait"]);
    let of_file = || {
        files
            .entries()
            .into_iter()
            .find(|entry| entry.action == "ARCHIVE" && format!("[{}]", entry.fid) == fid)
    };
    bed.wait("it is cancelled at the MDT", || of_file().is_some_and(|entry| ended_waiting(&entry)));

    // All that is left; the mover acknowledges what it runs.
    let wait = command(&bed, &["cancel", "--all", "-y", "--wait"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let mut wait = wait.unwrap();
    bed.wait("nothing waits", || daemon.status()["pending_archive"].is_null());
    let told = |step: &Step| step.action == "CANCEL" && step.step == "ended";
    bed.wait("the mover has acknowledged", || mover.journal().iter().filter(|step| told(step)).count() == 3);
    gate.open();
    assert!(wait.wait().unwrap().success());
    daemon.wait_known(0);
    let ended = files.wait_ended();
    let archives: Vec<&Entry> = ended.iter().filter(|entry| entry.action == "ARCHIVE").collect();
    assert!(archives.iter().all(|entry| entry.accepted_ends == 1), "{archives:?}");
    // What ran was ended by its mover, which acknowledges cancels.
    assert_eq!(archives.iter().filter(|entry| ended_waiting(entry)).count(), 5, "{archives:?}");
    assert_eq!(archives.iter().filter(|entry| entry.errno() == 125).count(), 3, "{archives:?}");
    assert!(good(&bed, &["history", "-n", "20"]).matches("cancelled").count() >= 5);
}

/// What failed is tried again, and what comes of it is waited for.
#[test]
fn retry_waits_for_what_comes_of_it() {
    let bed = Testbed::start("retry");
    let daemon = Daemon::start(&bed, &Settings::new());
    let bad = mover(&bed, "bad", 1).argument("--fail").argument("28").start(&bed);
    daemon.wait_mover("bad");
    let files = FileSet::create(&bed, 1..4);
    files.archive(&Request::data("tag=a"));
    bed.wait("all have failed", || daemon.status()["done_archive"] == 3);
    assert_eq!(client(&bed, &["retry", "--hint", "tag=b", "--wait"]).code, 3);
    // It is the only mover: they fail again.
    let run = client(&bed, &["retry", "--all", "--wait", "--json"]);
    let report = run.json();
    assert_eq!((run.code, &report["selected"], &report["ended"]), (1, &3.into(), &0.into()), "{report}");
    assert_eq!(report["failed"][0]["failures"], 2, "{report}");
    let page = good(&bed, &["movers", "--json"]);
    let movers: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(movers[0]["errors"], serde_json::json!([{"errno": 28, "count": 6}]), "{page}");
    drop(bad);
    let _good = mover(&bed, "good", 2).start(&bed);
    daemon.wait_mover("good");
    good(&bed, &["drain", "bad"]);
    let said = good(&bed, &["retry", "--all", "--wait"]);
    assert!(said.contains("asked for 3 requests again") && said.contains("3 requests ended well"), "{said}");
    files.wait_archived();
    assert_eq!(client(&bed, &["dead-letters"]).code, 3);
}

/// A limit of an operator holds over a restart, and is shown.
#[test]
fn a_mover_is_limited_by_an_operator() {
    let bed = Testbed::start("limit");
    let mut daemon = Daemon::start(&bed, &Settings::new());
    assert!(good(&bed, &["limit", "m1", "2"]).contains("at most 2 requests"));
    daemon.wait_stored();
    daemon.crash_and_restart();
    let gate = Gate::closed_for_all(&bed, "all");
    let _mover = mover(&bed, "m1", 1).behind(&gate).start(&bed);
    daemon.wait_mover("m1");
    let files = FileSet::create(&bed, 1..6);
    files.archive(&Request::default());
    bed.wait("two run", || {
        daemon.status()["running_archive"] == 2 && daemon.status()["pending_archive"] == 3
    });
    let said = good(&bed, &["explain", &waiting_fid(&bed)]);
    assert!(said.contains("the limit of mover m1") && said.contains("is reached with 2 running"), "{said}");
    assert!(good(&bed, &["movers"]).contains("at most 2 requests"));
    good(&bed, &["limit", "m1", "off"]);
    bed.wait("all run", || daemon.status()["running_archive"] == 5);
    gate.open();
    files.wait_archived();
    assert_eq!(client(&bed, &["limit", "m1", "some"]).code, 2);
}

/// Somebody follows from a terminal, and sees the life of a request.
#[test]
fn events_follow_what_happens() {
    let bed = Testbed::start("events");
    let daemon = Daemon::start(&bed, &Settings::new());
    let _mover = mover(&bed, "m1", 1).start(&bed);
    daemon.wait_mover("m1");
    // The alert says that it follows.
    good(&bed, &["drain", "other"]);
    let mut child =
        command(&bed, &["events", "-n", "4"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    std::io::BufRead::read_line(&mut out, &mut first).unwrap();
    assert!(first.contains("raised      WARNING drained: mover other is drained"), "{first}");
    let files = FileSet::create(&bed, 1..2);
    files.archive(&Request::default());
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let want = ["admitted    ARCHIVE", "sent        ARCHIVE", "done        ARCHIVE"];
    let lines: Vec<&str> = rest.lines().collect();
    assert_eq!(lines.len(), 3, "{rest}");
    for (line, want) in lines.iter().zip(want) {
        assert!(line.contains(want) && line.contains(&files.fids()[0]), "{line}");
    }
    assert!(lines[1].ends_with("to m1") && lines[2].ends_with("on m1"), "{rest}");
    assert!(child.wait().unwrap().success());
}

/// On a terminal the question is asked, and only a yes cancels.
#[test]
fn cancel_asks_on_a_terminal() {
    let bed = Testbed::start("ask");
    let daemon = Daemon::start(&bed, &Settings::new());
    let files = FileSet::create(&bed, 1..3);
    files.archive(&Request::default());
    daemon.wait_known(2);
    let answer = |word: &str| {
        let line = "\"$CLIENT\" cancel --all";
        let mut script = Command::new("script")
            .args(["--quiet", "--return", "--command", line, "/dev/null"])
            .env("CLIENT", bed.programs().path("coordinatool-client"))
            .env("COORDINATOOL_CONF", bed.configuration())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`script` of util-linux");
        let mut out = script.stdout.take().unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"[y/N] ") {
            let mut byte = [0];
            out.read_exact(&mut byte).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&seen)));
            seen.push(byte[0]);
        }
        script.stdin.take().unwrap().write_all(format!("{word}\n").as_bytes()).unwrap();
        out.read_to_end(&mut seen).unwrap();
        let text = String::from_utf8_lossy(&seen).into_owned();
        assert!(text.contains("2 requests: 2 waiting, 0 running"), "{text}");
        script.wait().unwrap().code()
    };
    assert_eq!(answer("n"), Some(2));
    assert_eq!(answer(""), Some(2));
    daemon.wait_known(2);
    assert_eq!(answer("y"), Some(0));
    daemon.wait_known(0);
}

/// A drained mover finishes what it has and gets nothing new, also after a crash of the daemon.
#[test]
fn a_drained_mover_gets_nothing_new() {
    let bed = Testbed::start("drain");
    let mut daemon = Daemon::start(&bed, &Settings::three_at_a_time());
    let gate = Gate::closed_for_all(&bed, "all");
    let one = mover(&bed, "m1", 1).behind(&gate).start(&bed);
    daemon.wait_mover("m1");
    let files = FileSet::create(&bed, 1..6);
    files.archive(&Request::default());
    bed.wait("three run", || daemon.status()["running_archive"] == 3);
    assert!(good(&bed, &["drain", "m1"]).contains("it still runs 3 requests"));
    // A slip of the pen is told.
    assert!(good(&bed, &["drain", "m9"]).contains("m9 is not known now"));
    let mut wait =
        command(&bed, &["drain", "m1", "--wait"]).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    daemon.wait_stored();
    daemon.crash_and_restart();
    daemon.wait_mover("m1");
    gate.open();
    // It waited for the daemon as well.
    assert!(wait.wait().unwrap().success());
    bed.wait("three copies", || one.copies() == 3);
    let movers = client(&bed, &["movers", "--json"]).json();
    assert_eq!(movers[0]["drained"], true, "{movers}");
    assert!(good(&bed, &["movers"]).contains("drained"));
    let said = good(&bed, &["explain", &waiting_fid(&bed)]);
    assert!(said.contains("drained") || said.contains("m1 is drained"), "{said}");
    assert!(good(&bed, &["status"]).contains("undrain m1"));
    good(&bed, &["undrain", "m1"]);
    files.wait_archived();
    assert_eq!(one.copies(), 5);
}

fn waiting_fid(bed: &Testbed) -> String {
    let line = good(bed, &["requests", "--state", "queued", "--json", "-n", "1"]);
    let request: Value = serde_json::from_str(&line).unwrap();
    request["fid"].as_str().unwrap().to_owned()
}

#[test]
fn top_movers_and_requests_are_tables_and_json() {
    let bed = Testbed::start("top");
    let daemon = Daemon::start(&bed, &Settings::new());
    let files = FileSet::create(&bed, 1..5);
    files.archive(&Request { archive_id: Some(3), data: b"tag=a".to_vec() });
    daemon.wait_known(4);
    let top = good(&bed, &["top"]);
    let line = top.lines().find(|line| line.starts_with("ARCHIVE 3")).unwrap_or_else(|| panic!("{top}"));
    assert_eq!(line.split_whitespace().nth(2), Some("4"), "{top}");
    assert_eq!(client(&bed, &["top", "--json"]).json()["classes"][0]["waiting"], 4);
    assert_eq!(client(&bed, &["movers"]).code, 3);
    let requests = good(&bed, &["requests", "-A", "3"]);
    assert_eq!(requests.lines().count(), 5, "{requests}");
    assert!(files.fids().iter().all(|fid| requests.contains(fid)), "{requests}");
    assert_eq!(client(&bed, &["requests", "-A", "4"]).code, 3);
    assert_eq!(client(&bed, &["status", "--json"]).json()["queued"]["archive"], 4);
}

/// What is wrong is said, with what to do.
#[test]
fn mistakes_are_explained() {
    let bed = Testbed::start("mistakes");
    let daemon = Daemon::start(&bed, &Settings::new());
    let says = |arguments: &[&str], code: i32, text: &str| {
        let run = client(&bed, arguments);
        assert_eq!(run.code, code, "{arguments:?}: {}{}", run.out, run.err);
        assert!(run.err.contains(text), "{arguments:?}: {}", run.err);
    };
    says(&["explain", "[0x200000401:0x1]"], 2, "FID");
    says(&["explain", "/etc/passwd"], 1, "is not in a Lustre file system");
    says(&["explain", "/no/such/file"], 1, "No such file");
    says(&["release", "m9"], 1, "m9");
    says(&["retry"], 2, "retry what?");
    says(&["explain"], 2, "Usage");
    says(&["status", "--socket", "/no/such.sock"], 1, "no coordinatool daemon listens on /no/such.sock");
    says(&["status", "--fs", "nosuchfs"], 1, "hsm-nosuchfs.sock");
    says(&["-v", "status"], 1, "a subcommand comes first");
    drop(daemon);
    says(&["status"], 1, "no coordinatool daemon listens on");
}

/// What the daemon lost between the kernel's pipe and its store comes back from a listing.
#[test]
fn reconcile_takes_a_listing() {
    let bed = Testbed::start("reconcile");
    let mut daemon =
        Daemon::start_with(&bed, &Settings::new().line("reconcile_adopt all"), &["--store", "none"]);
    let files = FileSet::create(&bed, 1..7);
    files.archive(&Request::data("tag=a"));
    daemon.wait_known(6);
    // It keeps nothing.
    daemon.crash_and_restart();
    let listing: String = (0..bed.mdts()).map(|mdt| bed.lustre().active_requests(mdt)).collect();
    let feed = |text: &str, more: &[&str]| {
        let arguments: Vec<&str> = ["reconcile"].iter().chain(more).copied().collect();
        let mut child = command(&bed, &arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        read(child.wait_with_output().unwrap())
    };
    // Cut off: nothing comes of it.
    let cut = feed(&listing[..listing.rfind("archive#").unwrap()], &[]);
    assert_eq!(cut.code, 1, "{}{}", cut.out, cut.err);
    assert!(cut.err.contains("cut off"), "{}", cut.err);
    assert_eq!(harness::known(&daemon.status()), 0);
    let none = feed(&listing, &["--adopt", "none", "--json"]).json();
    assert_eq!((&none["listed"], &none["adopted"]), (&6.into(), &0.into()), "{none}");
    let run = feed(&listing, &[]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    assert!(
        run.out.contains("6 requests listed") && run.out.contains("6 unknown here, and adopted"),
        "{}",
        run.out
    );
    daemon.wait_known(6);
    let _mover = mover(&bed, "m1", 1).start(&bed);
    files.wait_archived();
    files.check_each_done_once("ARCHIVE");
}

/// Nothing that was there for C is taken: an option of C's still is what it was, and help lists all.
#[test]
fn help_lists_everything_and_completion_knows_it() {
    let bed = Testbed::start("help");
    let help = good(&bed, &["help"]);
    for word in [
        "explain",
        "history",
        "top",
        "cancel",
        "drain",
        "limit",
        "events",
        "reconcile",
        "dead-letters",
        "ha",
        "--queue",
    ] {
        assert!(help.contains(word), "{word}: {help}");
    }
    let script = good(&bed, &["completion", "bash"]);
    for word in ["explain", "--dry-run", "failback"] {
        assert!(script.contains(word), "{word}");
    }
    let syntax = Command::new("bash").arg("-nc").arg(&script).output().unwrap();
    assert!(syntax.status.success(), "{}", String::from_utf8_lossy(&syntax.stderr));
    assert!(
        good(&bed, &["cancel", "--help"]).contains("Exit codes")
            || good(&bed, &["explain", "--help"]).contains("FID")
    );
}
