//! What the MDTs say in the end.

use std::collections::{BTreeMap, BTreeSet};

use harness::ledger::{Entry, Status};

use super::marks::{Key, Marks};
use super::tally::Tally;

/// No such file or directory.
pub const ENOENT: u16 = 2;

/// The request of an entry.
pub fn key(entry: &Entry) -> Key {
    (entry.cookie, entry.fid.clone(), entry.action.clone())
}

/// Checks each request and each file; says what is wrong.
pub fn judge(entries: &[Entry], marks: &Marks, tally: &mut Tally) -> Vec<String> {
    let mut wrong: Vec<String> = marks.wrong_so_far().to_vec();
    wrong.extend(marks.running().map(|(mover, key)| format!("{mover} still has {key:?}")));
    // Files whose copy went with a mover that was killed before it could say so.
    let interrupted = |entry: &&Entry| entry.action == "REMOVE" && marks.was_interrupted(&key(entry));
    let without_copy: BTreeSet<&str> =
        entries.iter().filter(interrupted).map(|entry| entry.fid.as_str()).collect();
    // Of each file and action: requests, and those that ended well.
    let mut files: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    for entry in entries {
        let key = key(entry);
        let times = marks.times_begun(&key);
        tally.begun_again += usize::from(times > 1);
        let (asked, done) = files.entry((&entry.fid, &entry.action)).or_default();
        *asked += 1;
        if !entry.has_ended() || entry.accepted_ends != 1 {
            wrong.push(format!("ended {} times: {entry:?}", entry.accepted_ends));
        } else if entry.status == Status::Succeeded {
            *done += 1;
        } else {
            tally.unlucky += 1;
            let excused = match entry.action.as_str() {
                // The daemon may ask for it once more: the error may have been the MDT's, which had forgotten it.
                "REMOVE" => entry.errno() == ENOENT && without_copy.contains(entry.fid.as_str()),
                // The mover before had bound it to its volatile file.
                "RESTORE" => marks.was_interrupted(&key),
                _ => false,
            };
            if !excused {
                wrong.push(format!("failed, begun {times} times: {entry:?}"));
            }
        }
    }
    for ((fid, action), (asked, done)) in files {
        let as_asked = match action {
            // Those that failed are asked for again, by the daemon itself.
            "RESTORE" => done == 1,
            "REMOVE" if without_copy.contains(fid) => done <= 1,
            _ => asked == 1,
        };
        if !as_asked {
            wrong.push(format!("{action} of {fid}: {asked} requests, {done} done"));
        }
    }
    tally.requests += entries.len();
    tally.most_at_once = tally.most_at_once.max(marks.most_at_once());
    wrong
}
