//! What really happened, as the resource agents of the tests wrote it down.

use std::fs;
use std::path::Path;

/// Something that a resource agent did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where.
    pub host: String,
    /// `start`, `stop`, `monitor` or `probe`; `DOUBLE` when it was active elsewhere at a start, `GHOST` when a host did
    /// something after it was powered off.
    pub what: String,
    /// Which resource.
    pub resource: String,
    /// `begin` or the exit code; of `DOUBLE`, the other host.
    pub code: String,
}

/// All that happened.
pub(super) fn history(directory: &Path) -> Vec<Record> {
    let text = fs::read_to_string(directory.join("history")).unwrap_or_default();
    let record = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        match (words.next(), words.next(), words.next(), words.next(), words.next()) {
            (Some(host), Some(what), Some(resource), Some(code), None) => {
                Record { host, what, resource, code }
            }
            _ => panic!("a strange line in the history: {line}"),
        }
    };
    text.lines().map(record).collect()
}

/// Where resources are active: `(resource, host)`, sorted.
pub(super) fn active(directory: &Path) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = fs::read_dir(directory.join("active"))
        .expect("the directory of a test is there")
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (resource, host) = name.rsplit_once('.')?;
            Some((resource.to_owned(), host.to_owned()))
        })
        .collect();
    found.sort();
    found
}

/// What must never happen.
pub(super) fn violations(directory: &Path) -> Vec<Record> {
    let mut found = history(directory);
    found.retain(|record| matches!(record.what.as_str(), "DOUBLE" | "GHOST"));
    found
}
