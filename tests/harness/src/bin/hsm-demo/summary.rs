//! The summary: for each file its content before and after, and for each of its requests how it ended at the MDT.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::ledger::{Entry, Status};

/// What a file's requests must have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// All succeeded.
    Success,
    /// The archive was cancelled, the cancel acknowledged.
    Cancelled,
}

/// One file of the demo.
pub struct Row {
    /// Where it is.
    pub path: PathBuf,
    /// `0x200000402:0x1:0x0`.
    pub fid: String,
    /// Digest of the content when it was written.
    pub before: String,
    /// What its requests must have come to.
    pub expected: Expected,
    /// How many requests there must be.
    pub requests: usize,
}

/// SHA-256 of files, by `sha256sum`.
pub fn digests(paths: &[PathBuf]) -> Vec<String> {
    let output = Command::new("sha256sum").arg("--").args(paths).output().expect("sha256sum can be run");
    assert!(output.status.success(), "sha256sum: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| line.trim_start_matches('\\')[..64].to_owned()).collect()
}

/// Prints the table and gives what is wrong.
pub fn print(root: &Path, rows: &[Row], ledger: &[Entry]) -> Vec<String> {
    let mut wrong = Vec::new();
    let paths: Vec<PathBuf> = rows.iter().map(|row| row.path.clone()).collect();
    let after = digests(&paths);
    println!(
        "\n{:<20} {:<22} {:<12}   {:<12} {:<7} requests and their ends at the MDT",
        "file", "FID", "before", "after", "content"
    );
    for (row, after) in rows.iter().zip(&after) {
        let name = row.path.strip_prefix(root).unwrap_or(&row.path).display().to_string();
        let same = *after == row.before;
        if !same {
            wrong.push(format!("{name}: the content is not what was written"));
        }
        let entries: Vec<&Entry> = ledger.iter().filter(|entry| entry.fid == row.fid).collect();
        if entries.len() != row.requests {
            wrong.push(format!("{name}: {} requests instead of {}", entries.len(), row.requests));
        }
        let ends: Vec<String> = entries.iter().map(|entry| end(entry)).collect();
        for entry in entries {
            if !is_right(entry, row.expected) {
                wrong.push(format!("{name}: {}", end(entry)));
            }
        }
        println!(
            "{name:<20} {:<22} {:<12} {} {:<12} {:<7} {}",
            row.fid,
            &row.before[..12],
            if same { "=" } else { "!" },
            &after[..12],
            if same { "equal" } else { "DIFFERS" },
            ends.join(", ")
        );
    }
    wrong
}

fn end(entry: &Entry) -> String {
    let status = match entry.status {
        Status::Waiting => "WAITING",
        Status::Started => "STARTED",
        Status::Failed => "FAILED",
        Status::Cancelled => "CANCELED",
        Status::Succeeded => "SUCCEED",
    };
    match entry.errno() {
        0 => format!("{} {status}", entry.action),
        errno => format!("{} {status} (errno {errno})", entry.action),
    }
}

fn is_right(entry: &Entry, expected: Expected) -> bool {
    match (expected, entry.action.as_str()) {
        (Expected::Cancelled, "ARCHIVE") => entry.status == Status::Cancelled,
        (Expected::Cancelled, "CANCEL") => entry.has_ended(),
        _ => entry.status == Status::Succeeded && entry.accepted_ends == 1,
    }
}
