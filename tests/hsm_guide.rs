//! The administrator guide's examples (`docs/admin.md`, "Four situations"), done on an embedded Lustre: what the guide shows
//! is what the commands print, but for names of files, cookies and times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::process::{Command, Stdio};

use harness::{Daemon, FileSet, Gate, MoverSettings, Request, Settings, Testbed};

/// One word, without what is different each time.
fn word(word: &str) -> String {
    let bare = word.trim_matches([',', ';', '(', ')', '"']);
    let digits = bare.chars().filter(char::is_ascii_digit).count();
    let of = |separator: char| bare.matches(separator).count();
    let changed = if bare.starts_with("[0x") {
        "FID"
    } else if bare.starts_with("0x") {
        "COOKIE"
    } else if bare.starts_with("/mnt/lustre/") {
        "FILE"
    } else if digits >= 6 && (of('-') == 2 || of(':') == 2) {
        "MOMENT"
    } else if of('.') == 1 && bare.parse::<f64>().is_ok() {
        "RATE"
    } else {
        return word.to_owned();
    };
    word.replace(bare, changed)
}

/// A line, without what is different each time.
fn normal(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut out: Vec<String> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let number = words[at].trim_start_matches('(').parse::<f64>().is_ok();
        let unit = words.get(at + 1).map(|unit| unit.trim_end_matches([',', ';', ')', ':', '.']));
        if number && matches!(unit, Some("s" | "min" | "h" | "d" | "ms")) {
            // A time may have two parts, one or the other.
            if out.last().is_none_or(|last| last != "TIME") {
                out.push("TIME".to_owned());
            }
            at += 2;
            continue;
        }
        out.push(word(words[at]));
        at += 1;
    }
    out.join(" ")
}

struct Guide<'bed> {
    bed: &'bed Testbed,
    lines: Vec<String>,
    missing: RefCell<Vec<String>>,
}

impl<'bed> Guide<'bed> {
    fn new(bed: &'bed Testbed) -> Self {
        let text = include_str!("../docs/admin.md");
        Self { bed, lines: text.lines().map(normal).collect(), missing: RefCell::default() }
    }

    /// Runs a command, which ends with this code, and finds it in the guide with what it prints.
    fn shows(&self, arguments: &[&str], code: i32) -> String {
        let output = Command::new(self.bed.programs().path("coordinatool-client"))
            .args(arguments)
            .env("COORDINATOOL_CONF", self.bed.configuration())
            .env("LD_PRELOAD", self.bed.liblustreapi())
            .env_remove("COORDINATOOL_API_SOCKET")
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let mount = self.bed.mount(0).to_str().unwrap();
        let text = format!(
            "# coordinatool-client {}\n{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stdout)
        );
        let text = text.replace(mount, "/mnt/lustre");
        // So that the guide can be written from it.
        println!("{text}");
        assert_eq!(output.status.code(), Some(code), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let want: Vec<String> = text.lines().map(normal).collect();
        let found = self.lines.windows(want.len()).any(|lines| lines == want);
        if !found {
            self.missing.borrow_mut().push(format!("{text}as it is compared:\n{}\n", want.join("\n")));
        }
        text
    }

    fn end(self) {
        let missing = self.missing.into_inner();
        assert!(missing.is_empty(), "docs/admin.md does not show this:\n{}", missing.join("\n"));
    }
}

fn mover(bed: &Testbed, id: &str, mount: usize) -> MoverSettings {
    MoverSettings::new(bed, id, mount)
}

#[test]
fn why_does_my_restore_wait() {
    let bed = Testbed::start("guide-wait");
    let daemon = Daemon::start(&bed, &Settings::new().line("client_grace_ms 1000"));
    let guide = Guide::new(&bed);
    let mut first = mover(&bed, "mover0", 1).archives(&[2]).start(&bed);
    daemon.wait_mover("mover0");
    let files = FileSet::create(&bed, 0..1);
    files.archive(&Request { archive_id: Some(2), data: b"tag=run7".to_vec() });
    files.wait_archived();
    files.release();
    first.stop();
    bed.wait("it is forgotten", || daemon.mover_status("mover0").is_none());
    let reader = bed.lustre().read(&files.path(0));
    daemon.wait_known(1);
    let path = files.path(0);
    let path = path.to_str().unwrap();
    guide.shows(&["explain", path], 0);
    guide.shows(&["status"], 0);
    let _second = mover(&bed, "mover1", 2).archives(&[2]).start(&bed);
    assert_eq!(reader.finish_text().unwrap(), "foo.0\n");
    bed.wait("it is over", || daemon.status()["done_restore"] == 1);
    guide.shows(&["history", path], 0);
    guide.end();
}

#[test]
fn a_mover_fails_everything() {
    let bed = Testbed::start("guide-fails");
    let settings = Settings::new().line("quarantine_errors 3").line("max_archive 1");
    let daemon = Daemon::start(&bed, &settings);
    let guide = Guide::new(&bed);
    let mut bad = mover(&bed, "mover0", 1).argument("--fail").argument("28").start(&bed);
    daemon.wait_mover("mover0");
    let gate = Gate::closed_for_all(&bed, "all");
    let _good = mover(&bed, "mover1", 2).behind(&gate).start(&bed);
    daemon.wait_mover("mover1");
    let files = FileSet::create(&bed, 0..5);
    files.archive(&Request::default());
    bed.wait("three have failed", || daemon.status()["done_archive"] == 3);
    guide.shows(&["status"], 0);
    guide.shows(&["dead-letters"], 0);
    bad.stop();
    gate.open();
    bed.wait("the rest is done", || daemon.status()["done_archive"] == 5);
    let _mended = mover(&bed, "mover0", 1).start(&bed);
    bed.wait("it is back", || daemon.mover_status("mover0").is_some_and(|of| of["status"] != "disconnected"));
    daemon.wait_mover("mover0");
    guide.shows(&["release", "mover0"], 0);
    guide.shows(&["retry", "--all", "--wait"], 0);
    files.wait_archived();
    guide.end();
}

#[test]
fn drain_a_node() {
    let bed = Testbed::start("guide-drain");
    let daemon = Daemon::start(&bed, &Settings::new().line("max_archive 2"));
    let guide = Guide::new(&bed);
    let gate = Gate::closed_for_all(&bed, "all");
    let _one = mover(&bed, "mover0", 1).behind(&gate).start(&bed);
    daemon.wait_mover("mover0");
    let files = FileSet::create(&bed, 0..3);
    files.archive(&Request::default());
    bed.wait("two run", || daemon.status()["running_archive"] == 2);
    guide.shows(&["drain", "mover0"], 0);
    guide.shows(&["movers"], 0);
    let left = files.paths().into_iter().find(|path| {
        let path = path.to_str().unwrap();
        let run = Command::new(bed.programs().path("coordinatool-client"))
            .args(["explain", path])
            .env("COORDINATOOL_CONF", bed.configuration())
            .env("LD_PRELOAD", bed.liblustreapi())
            .output()
            .unwrap();
        String::from_utf8_lossy(&run.stdout).contains("queued")
    });
    let left = left.unwrap();
    // Which file it is depends on the MDTs.
    let text = guide.shows(&["explain", left.to_str().unwrap()], 0);
    assert!(text.contains("drained"), "{text}");
    gate.open();
    guide.shows(&["drain", "mover0", "--wait"], 0);
    guide.shows(&["undrain", "mover0"], 0);
    files.wait_archived();
    guide.end();
}

#[test]
fn cancel_what_somebody_asked_for() {
    if !rustix::process::geteuid().is_root() {
        return harness::skip("cancel_what_somebody_asked_for", "needs root, to give files to somebody else");
    }
    let bed = Testbed::start("guide-cancel");
    let daemon = Daemon::start(&bed, &Settings::new().line("fair_share uid"));
    let guide = Guide::new(&bed);
    let files = FileSet::create(&bed, 0..5);
    for path in files.part(1..5).paths() {
        std::os::unix::fs::chown(path, Some(1), Some(1)).unwrap();
    }
    files.archive(&Request::default());
    daemon.wait_known(5);
    bed.wait("owners are known", || {
        let run = Command::new(bed.programs().path("coordinatool-client"))
            .args(["requests", "--user", "daemon", "--json"])
            .env("COORDINATOOL_CONF", bed.configuration())
            .output()
            .unwrap();
        String::from_utf8_lossy(&run.stdout).lines().count() == 4
    });
    guide.shows(&["top"], 0);
    guide.shows(&["cancel", "--user", "daemon", "--dry-run", "-n", "0"], 0);
    guide.shows(&["cancel", "--user", "daemon", "-y", "-n", "0"], 0);
    daemon.wait_known(1);
    guide.end();
}
