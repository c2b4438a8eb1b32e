//! A listing of requests as it comes in, in parts of any size: what `lctl get_param mdt.*.hsm.actions` prints, or
//! `active_requests`, of one MDT or of several, perhaps with some of their settings.
//!
//! Only what is not a whole line yet is kept, so a listing may be of any length.

use super::active_requests::{Line, Record, parse_line};
use super::tunables::Tunables;

/// Longest line. A record has about 400 bytes, whatever the user passed along.
pub const MAX_LINE: usize = 64 << 10;
/// Bad lines that are remembered with what was wrong.
const MOST_COMPLAINTS: usize = 5;

/// Reads a listing.
#[derive(Debug)]
pub struct Reader {
    fsname: String,
    /// A line that is not whole yet.
    rest: Vec<u8>,
    /// The line is too long: it is skipped up to its end.
    skipping: bool,
    summary: Summary,
}

/// What was in a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines, blank ones included.
    pub lines: u64,
    /// Requests.
    pub records: u64,
    /// Lines that could not be read.
    pub bad: u64,
    /// The first of these: number of the line and what is wrong with it.
    pub complaints: Vec<(u64, String)>,
    /// Settings that were among the lines.
    pub tunables: Tunables,
}

impl Reader {
    /// Of the MDTs of this file system.
    pub fn new(fsname: &str) -> Self {
        let summary = Summary::default();
        Self { fsname: fsname.to_owned(), rest: Vec::new(), skipping: false, summary }
    }

    /// Takes the next bytes and appends the requests of the lines that are whole now.
    pub fn push(&mut self, bytes: &[u8], records: &mut Vec<Record>) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, tail) = (&rest[..end], &rest[end + 1..]);
            rest = tail;
            if self.skipping {
                self.skipping = false;
            } else if self.rest.is_empty() {
                self.line(line, records);
            } else {
                let mut whole = std::mem::take(&mut self.rest);
                whole.extend_from_slice(line);
                self.line(&whole, records);
                // Keep the memory.
                whole.clear();
                self.rest = whole;
            }
        }
        if self.skipping {
            return;
        }
        self.rest.extend_from_slice(rest);
        if self.rest.len() > MAX_LINE {
            self.rest = Vec::new();
            self.skipping = true;
            self.summary.lines += 1;
            self.complain(format!("longer than {MAX_LINE} bytes"));
        }
    }

    /// The last line may lack its end, but not more than that. Returns what was in the listing, and whether it was whole.
    pub fn finish(mut self, records: &mut Vec<Record>) -> (Summary, bool) {
        let last = std::mem::take(&mut self.rest);
        let before = self.summary.bad;
        if !last.is_empty() {
            self.line(&last, records);
        }
        // All versions of Lustre end a line of `active_requests` with what is done of it.
        let has = |word: &str| memchr::memmem::find(&last, word.as_bytes()).is_some();
        let cut = (has(" canceled=") || has(" uuid=")) && !has(" done=");
        let whole = !self.skipping && self.summary.bad == before && !cut;
        (self.summary, whole)
    }

    fn line(&mut self, line: &[u8], records: &mut Vec<Record>) {
        self.summary.lines += 1;
        if line.len() > MAX_LINE {
            return self.complain(format!("longer than {MAX_LINE} bytes"));
        }
        if line.starts_with(b"mdt.")
            && let Ok(text) = std::str::from_utf8(line)
            && self.summary.tunables.line(text, &self.fsname)
        {
            return;
        }
        match parse_line(line) {
            Ok(Line::Empty) => {}
            Ok(Line::Record(record)) => {
                self.summary.records += 1;
                records.push(*record);
            }
            Err(error) => self.complain(error.to_string()),
        }
    }

    fn complain(&mut self, what: String) {
        self.summary.bad += 1;
        if self.summary.complaints.len() < MOST_COMPLAINTS {
            self.summary.complaints.push((self.summary.lines, what));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RECORD: &str = "lrh=[type=10680000 len=136 idx=1/3] fid=[0x200000401:0x1:0x0] dfid=[0x200000401:0x1:0x0] \
        compound/cookie=0x0/0x617d23ef action=ARCHIVE archive#=1 flags=0x0 extent=0x0-0xffffffffffffffff gid=0x0 \
        datalen=7 status=WAITING data=[7461673D61]";

    fn read(text: &str, part: usize) -> (Vec<Record>, Summary, bool) {
        let (mut listing, mut records) = (Reader::new("lus"), Vec::new());
        for bytes in text.as_bytes().chunks(part) {
            listing.push(bytes, &mut records);
        }
        let (summary, whole) = listing.finish(&mut records);
        (records, summary, whole)
    }

    #[test]
    fn a_listing_may_come_in_any_parts() {
        let text = format!(
            "mdt.lus-MDT0000.hsm.actions=\n{RECORD}\nmdt.lus-MDT0000.hsm.active_request_timeout=60\n\n\
             mdt.lus-MDT0001.hsm.actions={RECORD}\n{RECORD}"
        );
        for part in [1, 7, 4096] {
            let (records, summary, whole) = read(&text, part);
            assert_eq!((records.len(), summary.records, summary.lines), (3, 3, 6), "parts of {part}");
            assert_eq!((summary.bad, whole), (0, true));
            assert_eq!(summary.tunables.shortest_timeout(), Some(Duration::from_secs(60)));
        }
    }

    #[test]
    fn what_is_cut_off_is_not_whole() {
        let text = format!("{RECORD}\n{}", &RECORD[..100]);
        let (records, summary, whole) = read(&text, 4096);
        assert_eq!((records.len(), summary.bad, whole), (1, 1, false));
        assert_eq!(summary.complaints.len(), 1);
        assert_eq!(summary.complaints[0].0, 2);
    }

    /// A name cut short is a name as well: only what follows it shows that there is more.
    #[test]
    fn an_active_request_is_whole_with_what_is_done_of_it() {
        const ACTIVE: &str = "fid=[0x200000401:0x1:0x0] dfid=[0x200000401:0x1:0x0] compound/cookie=0x0/0x617d23ef \
            action=ARCHIVE archive#=1 flags=0x0 extent=0x0-0xffffffffffffffff gid=0x0 data=[] canceled=0 \
            uuid=3185ca0b-2d34-47f6-b156-d6f9ee127a08 done=0";
        for (end, whole) in [(ACTIVE.len(), true), (ACTIVE.len() - 7, false), (ACTIVE.len() - 20, false)] {
            assert_eq!(read(&ACTIVE[..end], 4096).2, whole, "{}", &ACTIVE[..end]);
        }
    }

    #[test]
    fn bad_lines_cost_nothing_else() {
        let mut text = format!("ssh: hello\n{RECORD}\n");
        text.push_str(&"x".repeat(3 * MAX_LINE));
        text.push_str("\nWarning\n");
        text.push_str(RECORD);
        text.push('\n');
        for part in [1000, MAX_LINE, 1 << 20] {
            let (records, summary, whole) = read(&text, part);
            assert_eq!((records.len(), summary.bad, summary.lines, whole), (2, 3, 5, true), "{summary:?}");
            let lines: Vec<u64> = summary.complaints.iter().map(|(line, _)| *line).collect();
            assert_eq!(lines, [1, 3, 4]);
        }
        let long = "x".repeat(2 * MAX_LINE);
        assert!(!read(&long, 1000).2, "it has no end");
    }
}
