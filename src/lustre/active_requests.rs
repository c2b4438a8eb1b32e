//! The text of `hsm/active_requests` and `hsm/actions` on an MDS, line by line.
//!
//! Both are lists of `key=value` words (Lustre mdt_coordinator.c, the same from 2.10 to master). `active_requests` shows
//! what was handed to a copytool, `actions` everything in the log. Of the data a user passed, both print at most the first
//! [`PRINTED_DATA`] bytes; only `actions` says how many there were. `lctl get_param` puts `mdt.NAME.hsm.PARAMETER=` in
//! front: on a line of its own, or before the only record.
//!
//! Pure and without state: a line is read at a time, so that any number of them fits in memory.

use std::fmt;

use lustreapi_sys::Fid;

use crate::hsm::{Action, ActionItem};

/// How many bytes of a request's data Lustre prints at most.
pub const PRINTED_DATA: usize = 5;

const ACTIONS: [Action; 4] = [Action::Archive, Action::Restore, Action::Remove, Action::Cancel];

/// How much of a bad value an error quotes.
const QUOTED: usize = 80;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Nothing: blank, or the name of a parameter alone.
    Empty,
    /// A request.
    Record(Box<Record>),
}

/// A request as the MDT shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The request. Its data is what was printed, see [`Record::data`]; its timestamp is 0.
    pub item: ActionItem,
    /// Whether that is all of the data.
    pub data: Data,
    /// How far the request is.
    pub state: State,
}

/// Whether the printed data is all there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// All of it.
    Whole,
    /// As many bytes as Lustre prints at most, from a list that does not say how many there were.
    MaybeCut,
    /// There were this many bytes.
    CutFrom(u32),
}

/// How far a request is, according to the list it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// `active_requests`: given to a copytool and not ended.
    Active {
        /// A user wants it stopped.
        canceled: bool,
        /// The client mount that runs the copytool; empty if it was not printed.
        uuid: Box<str>,
        /// Bytes done so far.
        done: u64,
    },
    /// `actions`: the status of the record in the log.
    Logged(LogStatus),
}

/// Status of a record in the log (`ARS_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStatus {
    /// Not yet given to a copytool.
    Waiting,
    /// Given to a copytool.
    Started,
    /// Ended with an error.
    Failed,
    /// Ended by a user or by a timeout.
    Canceled,
    /// Ended well.
    Succeed,
}

impl LogStatus {
    const NAMES: [(&'static str, Self); 5] = [
        ("WAITING", Self::Waiting),
        ("STARTED", Self::Started),
        ("FAILED", Self::Failed),
        ("CANCELED", Self::Canceled),
        ("SUCCEED", Self::Succeed),
    ];
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Bytes that are no text.
    #[error("not text")]
    NotText,
    /// Not the format at all: no word with `=`.
    #[error("expected words of `key=value`, found `{0}`")]
    NoWords(String),
    /// A word is missing that every record has.
    #[error("`{0}=` is missing")]
    Missing(&'static str),
    /// Two records in one line, or something else that is not one record.
    #[error("`{0}=` appears twice")]
    Twice(&'static str),
    /// A value cannot be read.
    #[error("`{key}={value}`: expected {expected}")]
    Bad {
        /// The word's key.
        key: &'static str,
        /// Its value, cut if it is long.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// Less was passed than is printed.
    #[error("`datalen={datalen}`, but {printed} bytes of data are there")]
    DataLength {
        /// What the line says.
        datalen: u32,
        /// What it prints.
        printed: usize,
    },
}

/// Where each value that matters is in a line.
#[derive(Default)]
struct Words<'a> {
    found: [Option<&'a str>; KEYS.len()],
}

/// The words that are read; others are skipped.
const KEYS: [&str; 15] = [
    "fid",
    "dfid",
    "compound/cookie",
    "action",
    "archive#",
    "flags",
    "extent",
    "gid",
    "data",
    "datalen",
    "status",
    "canceled",
    "uuid",
    "done",
    "lrh",
];

impl<'a> Words<'a> {
    /// Splits a line at blanks, except inside brackets.
    fn split(line: &'a str) -> Result<Self, LineError> {
        let mut words = Self::default();
        let mut rest = line.trim_start();
        let mut any = false;
        while !rest.is_empty() {
            let end = rest.find([' ', '\t', '=']).unwrap_or(rest.len());
            if !rest[end..].starts_with('=') {
                rest = rest[end..].trim_start();
                continue;
            }
            any = true;
            let (key, value) = (&rest[..end], &rest[end + 1..]);
            let length = match value.strip_prefix('[') {
                Some(inside) => inside.find(']').map(|close| close + 2),
                None => None,
            };
            let length = length.unwrap_or_else(|| value.find([' ', '\t']).unwrap_or(value.len()));
            if let Some(index) = KEYS.iter().position(|known| *known == key) {
                if words.found[index].is_some() {
                    return Err(LineError::Twice(KEYS[index]));
                }
                words.found[index] = Some(&value[..length]);
            }
            rest = value[length..].trim_start();
        }
        if any { Ok(words) } else { Err(LineError::NoWords(quote(line))) }
    }

    fn get(&self, key: &'static str) -> Option<&'a str> {
        KEYS.iter().position(|known| *known == key).and_then(|index| self.found[index])
    }

    fn need(&self, key: &'static str) -> Result<&'a str, LineError> {
        self.get(key).ok_or(LineError::Missing(key))
    }

    /// A value in brackets, without them.
    fn bracketed(&self, key: &'static str, expected: &'static str) -> Result<&'a str, LineError> {
        let value = self.need(key)?;
        let inside = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
        inside.ok_or_else(|| bad(key, value, expected))
    }

    fn fid(&self, key: &'static str) -> Result<Fid, LineError> {
        let expected = "a FID such as [0x200000402:0x1:0x0]";
        let value = self.bracketed(key, expected)?;
        value.parse().map_err(|_| bad(key, value, expected))
    }

    fn hex(&self, key: &'static str) -> Result<u64, LineError> {
        let value = self.need(key)?;
        hex(value).ok_or_else(|| bad(key, value, "a number such as 0x0"))
    }

    fn decimal<N: std::str::FromStr>(&self, key: &'static str, default: Option<N>) -> Result<N, LineError> {
        match (self.get(key), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => Err(LineError::Missing(key)),
            (Some(value), _) => {
                let digits = !value.starts_with('+');
                let number = value.parse().ok().filter(|_| digits);
                number.ok_or_else(|| bad(key, value, "a decimal number"))
            }
        }
    }
}

fn quote(value: &str) -> String {
    let mut quoted: String = value.chars().take(QUOTED).collect();
    if quoted.len() < value.len() {
        quoted.push_str("...");
    }
    quoted
}

fn bad(key: &'static str, value: &str, expected: &'static str) -> LineError {
    LineError::Bad { key, value: quote(value), expected }
}

/// A number as `%#llx` prints it: zero is `0x0` in the kernel and `0` in glibc.
fn hex(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
        None if text == "0" => Some(0),
        _ => None,
    }
}

/// Pairs of hexadecimal digits.
fn hex_bytes(text: &str) -> Option<Box<[u8]>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok();
    digits.chunks_exact(2).map(pair).collect()
}

/// Takes the name of the parameter off the front of what `lctl get_param` printed.
fn without_header(line: &str) -> &str {
    let Some(equals) = line.find('=').filter(|_| line.starts_with("mdt.")) else { return line };
    if line[..equals].contains([' ', '\t']) { line } else { &line[equals + 1..] }
}

/// Reads one line, with or without what ends it.
///
/// # Errors
/// Says which word is missing or cannot be read. A line with an error holds no request that could be used.
pub fn parse_line(line: &[u8]) -> Result<Line, LineError> {
    let line = std::str::from_utf8(line).map_err(|_| LineError::NotText)?;
    let line = without_header(line.trim()).trim_start();
    if line.is_empty() {
        return Ok(Line::Empty);
    }
    let words = Words::split(line)?;

    let action = words.need("action")?;
    let action = ACTIONS
        .into_iter()
        .find(|known| known.name() == action)
        .ok_or_else(|| bad("action", action, "ARCHIVE, RESTORE, REMOVE or CANCEL"))?;
    let cookie = words.need("compound/cookie")?;
    let cookie = cookie
        .split_once('/')
        .and_then(|(compound, cookie)| hex(compound).and(hex(cookie)))
        .ok_or_else(|| bad("compound/cookie", cookie, "two numbers such as 0x0/0x617d23ef"))?;
    let extent = words.need("extent")?;
    let (extent_offset, extent_length) = extent
        .split_once('-')
        .and_then(|(offset, length)| Some((hex(offset)?, hex(length)?)))
        .ok_or_else(|| bad("extent", extent, "offset and length such as 0x0-0xffffffffffffffff"))?;
    let expected = "hexadecimal digits in brackets";
    let printed = words.bracketed("data", expected)?;
    let printed = hex_bytes(printed).ok_or_else(|| bad("data", printed, expected))?;

    let data = match words.get("datalen") {
        Some(_) => {
            let datalen: u32 = words.decimal("datalen", None)?;
            let length = usize::try_from(datalen).unwrap_or(usize::MAX);
            match printed.len().cmp(&length) {
                std::cmp::Ordering::Less => Data::CutFrom(datalen),
                std::cmp::Ordering::Equal => Data::Whole,
                std::cmp::Ordering::Greater => {
                    return Err(LineError::DataLength { datalen, printed: printed.len() });
                }
            }
        }
        None if printed.len() == PRINTED_DATA => Data::MaybeCut,
        None => Data::Whole,
    };

    let logged = ["lrh", "datalen", "status"].into_iter().any(|key| words.get(key).is_some());
    let state = if logged {
        let status = words.need("status")?;
        let found = LogStatus::NAMES.iter().find(|(name, _)| *name == status);
        let expected = "WAITING, STARTED, FAILED, CANCELED or SUCCEED";
        State::Logged(found.map(|(_, status)| *status).ok_or_else(|| bad("status", status, expected))?)
    } else {
        State::Active {
            canceled: words.decimal::<u32>("canceled", Some(0))? != 0,
            uuid: words.get("uuid").unwrap_or_default().into(),
            done: words.decimal("done", Some(0))?,
        }
    };

    let item = ActionItem {
        action,
        fid: words.fid("fid")?,
        dfid: words.fid("dfid")?,
        extent_offset,
        extent_length,
        cookie,
        gid: words.hex("gid")?,
        archive_id: words.decimal("archive#", None)?,
        flags: words.hex("flags")?,
        data: printed,
        timestamp: 0,
        extra: "".into(),
    };
    Ok(Line::Record(Box::new(Record { item, data, state })))
}

impl fmt::Display for LogStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, status)| status == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVE: &str = "fid=[0x200005223:0x1cce:0x0] dfid=[0x200005223:0x1ccf:0x0] \
        compound/cookie=0x0/0x617d23ef action=ARCHIVE archive#=1 flags=0x0 extent=0x0-0xffffffffffffffff gid=0x0 \
        data=[] canceled=0 uuid=3185ca0b-2d34-47f6-b156-d6f9ee127a08 done=0";
    const LOGGED: &str = "lrh=[type=10680000 len=144 idx=1/7] fid=[0x200000402:0xc:0x0] \
        dfid=[0x200000402:0xc:0x0] compound/cookie=0x0/0x6b00d4c3 action=ARCHIVE archive#=1 flags=0x0 \
        extent=0x0-0xffffffffffffffff gid=0x0 datalen=7 status=WAITING data=[7461673D66]";

    fn record(line: &str) -> Record {
        match parse_line(line.as_bytes()) {
            Ok(Line::Record(record)) => *record,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_record_of_active_requests_is_read_whole() {
        let got = record(ACTIVE);
        let item = ActionItem {
            dfid: Fid::new(0x2_0000_5223, 0x1ccf, 0),
            ..ActionItem::new(Action::Archive, Fid::new(0x2_0000_5223, 0x1cce, 0), 0x617d_23ef, 1)
        };
        assert_eq!(got.item, item);
        assert_eq!(got.data, Data::Whole);
        let uuid = "3185ca0b-2d34-47f6-b156-d6f9ee127a08".into();
        assert_eq!(got.state, State::Active { canceled: false, uuid, done: 0 });
    }

    #[test]
    fn values_are_read_as_lustre_prints_them() {
        type Check = fn(&Record) -> bool;
        let cases: [(&str, &str, Check); 15] = [
            ("flags=0x0", "flags=0x4", |r| r.item.flags == 4),
            ("flags=0x0", "flags=0", |r| r.item.flags == 0),
            ("gid=0x0", "gid=0xffffffffffffffff", |r| r.item.gid == u64::MAX),
            ("archive#=1", "archive#=0", |r| r.item.archive_id == 0),
            ("archive#=1", "archive#=1024", |r| r.item.archive_id == 1024),
            ("extent=0x0-", "extent=0x1000-", |r| r.item.extent_offset == 4096),
            ("extent=0x0-0xffffffffffffffff", "extent=0-0", |r| r.item.extent_length == 0),
            ("0x0/0x617d23ef", "0/0xffffffff617d23ef", |r| r.item.cookie == 0xffff_ffff_617d_23ef),
            ("action=ARCHIVE", "action=CANCEL", |r| r.item.action == Action::Cancel),
            ("action=ARCHIVE", "action=REMOVE", |r| r.item.action == Action::Remove),
            (":0x1cce:0x0]", ":0x80000001:0]", |r| r.item.fid == Fid::new(0x2_0000_5223, 0x8000_0001, 0)),
            ("canceled=0", "canceled=1", |r| matches!(r.state, State::Active { canceled: true, .. })),
            ("done=0", "done=13631488", |r| matches!(r.state, State::Active { done: 13_631_488, .. })),
            ("data=[]", "data=[6D647431]", |r| *r.item.data == *b"mdt1" && r.data == Data::Whole),
            ("data=[]", "data=[00ff]", |r| *r.item.data == [0, 255] && r.data == Data::Whole),
        ];
        for (from, to, check) in cases {
            assert!(ACTIVE.contains(from), "{from}");
            let got = record(&ACTIVE.replace(from, to));
            assert!(check(&got), "{to}: {got:?}");
        }
    }

    /// C 0.4 takes five bytes for all there is and pads them with zeros, so that `tag=foo` becomes `tag=f\0\0\0`.
    #[test]
    fn data_that_may_be_cut_is_marked() {
        let cases = [
            (ACTIVE.replace("data=[]", "data=[6461207461]"), &b"da ta"[..], Data::MaybeCut),
            (ACTIVE.replace("data=[]", "data=[64612074]"), b"da t", Data::Whole),
            (ACTIVE.replace("data=[]", "data=[646120746161]"), b"da taa", Data::Whole),
            (LOGGED.to_owned(), b"tag=f", Data::CutFrom(7)),
            (LOGGED.replace("datalen=7", "datalen=5"), b"tag=f", Data::Whole),
            (LOGGED.replace("datalen=7", "datalen=0").replace("7461673D66", ""), b"", Data::Whole),
        ];
        for (line, data, cut) in cases {
            let got = record(&line);
            assert_eq!((&*got.item.data, got.data), (data, cut), "{line}");
        }
    }

    #[test]
    fn every_status_of_the_log_is_known() {
        for (name, status) in LogStatus::NAMES {
            let line = LOGGED.replace("status=WAITING", &format!("status={name}"));
            assert_eq!(record(&line).state, State::Logged(status));
            assert_eq!(status.to_string(), name);
        }
    }

    /// C 0.4 refuses the whole input for a header on the line of the only record, which is how `lctl get_param` prints it
    /// ("Keyword fid=[ not found in "mdt.x.hsm.active_requests=fid=[..."), and for a blank line.
    #[test]
    fn headers_blank_lines_and_line_ends_are_nothing() {
        let want = record(ACTIVE);
        for line in [
            format!("{ACTIVE}\n"),
            format!("{ACTIVE}\r\n"),
            format!("  {ACTIVE}  "),
            format!("mdt.testfs0-MDT0001.hsm.active_requests={ACTIVE}"),
            format!("mdt.testfs0-MDT0001.hsm.active_requests= {ACTIVE}\r\n"),
            ACTIVE.replace(" gid", "\t gid"),
        ] {
            assert_eq!(record(&line), want, "{line}");
        }
        for line in ["", "\n", " \r\n", "mdt.testfs0-MDT0000.hsm.active_requests=\n", "mdt.x.hsm.actions="] {
            assert_eq!(parse_line(line.as_bytes()), Ok(Line::Empty), "{line:?}");
        }
    }

    #[test]
    fn errors_name_the_word() {
        let cases = [
            ("garbage".to_owned(), "expected words of `key=value`, found `garbage`"),
            ("a=b".to_owned(), "`action=` is missing"),
            (ACTIVE.replace("fid=[0x200005223:0x1cce:0x0] d", "d"), "`fid=` is missing"),
            (ACTIVE.replace(" dfid=[0x200005223:0x1ccf:0x0]", ""), "`dfid=` is missing"),
            (ACTIVE.replace("compound/cookie=0x0/0x617d23ef ", ""), "`compound/cookie=` is missing"),
            (ACTIVE.replace("data=[] ", ""), "`data=` is missing"),
            (ACTIVE.replace("archive#=1", ""), "`archive#=` is missing"),
            (ACTIVE.replace("gid=0x0", ""), "`gid=` is missing"),
            (ACTIVE.replace("flags=0x0", ""), "`flags=` is missing"),
            (ACTIVE.replace("extent=0x0-0xffffffffffffffff", ""), "`extent=` is missing"),
            (
                ACTIVE.replace("action=ARCHIVE", "action=NOOP"),
                "`action=NOOP`: expected ARCHIVE, RESTORE, REMOVE or CANCEL",
            ),
            (ACTIVE.replace("gid=0x0", "gid=7"), "`gid=7`: expected a number such as 0x0"),
            (
                ACTIVE.replace("0x0/0x617d23ef", "0x617d23ef"),
                "`compound/cookie=0x617d23ef`: expected two numbers such as 0x0/0x617d23ef",
            ),
            (
                ACTIVE.replace("0x617d23ef", "0x1617d23ef617d23ef"),
                "`compound/cookie=0x0/0x1617d23ef617d23ef`: expected two numbers such as 0x0/0x617d23ef",
            ),
            (ACTIVE.replace("archive#=1", "archive#=-1"), "`archive#=-1`: expected a decimal number"),
            (ACTIVE.replace("archive#=1", "archive#=+1"), "`archive#=+1`: expected a decimal number"),
            (ACTIVE.replace("canceled=0", "canceled="), "`canceled=`: expected a decimal number"),
            (ACTIVE.replace("data=[]", "data=[7]"), "`data=7`: expected hexadecimal digits in brackets"),
            (ACTIVE.replace("data=[]", "data=[7g]"), "`data=7g`: expected hexadecimal digits in brackets"),
            (
                ACTIVE.replace("data=[]", "data=[\u{e9}]"),
                "`data=\u{e9}`: expected hexadecimal digits in brackets",
            ),
            (ACTIVE.replace("data=[]", "data=[74"), "`data=[74`: expected hexadecimal digits in brackets"),
            (
                ACTIVE.replace("fid=[0x200005223:0x1cce:0x0] d", "fid=[0x200005223:0x1cce] d"),
                "`fid=0x200005223:0x1cce`: expected a FID such as [0x200000402:0x1:0x0]",
            ),
            // Two writers on one pipe.
            (format!("{ACTIVE}{ACTIVE}"), "`dfid=` appears twice"),
            (format!("{ACTIVE} {ACTIVE}"), "`fid=` appears twice"),
            (LOGGED.replace("status=WAITING ", ""), "`status=` is missing"),
            (
                LOGGED.replace("WAITING", "PAUSED"),
                "`status=PAUSED`: expected WAITING, STARTED, FAILED, CANCELED or SUCCEED",
            ),
            (LOGGED.replace("datalen=7", "datalen=4"), "`datalen=4`, but 5 bytes of data are there"),
            (LOGGED.replace("datalen=7", "datalen=x"), "`datalen=x`: expected a decimal number"),
        ];
        for (line, want) in cases {
            match parse_line(line.as_bytes()) {
                Err(error) => assert_eq!(error.to_string(), want, "{line}"),
                Ok(got) => panic!("{line}: {got:?}"),
            }
        }
        assert_eq!(parse_line(b"fid=\xff"), Err(LineError::NotText));
        let long = format!("fid=[{}", "x".repeat(4000));
        let line = ACTIVE.replace("fid=[0x200005223:0x1cce:0x0]", &long).replace(" d", " ");
        assert!(parse_line(line.as_bytes()).unwrap_err().to_string().len() < 200);
    }

    /// However a line is torn, it is an error, or nothing is missing but what is not needed.
    #[test]
    fn torn_lines_never_give_another_request() {
        for whole in [ACTIVE, LOGGED] {
            let want = record(whole).item;
            for length in 1..whole.len() {
                if let Ok(Line::Record(got)) = parse_line(&whole.as_bytes()[..length]) {
                    assert_eq!(got.item, want, "{}", &whole[..length]);
                }
                // The tail may be without its first letters, as after a partial read.
                if let Ok(Line::Record(got)) = parse_line(&whole.as_bytes()[length..]) {
                    assert_eq!(got.item, want, "{}", &whole[length..]);
                }
            }
        }
    }

    /// Records of one real file: how many, of which kind, and how much of their data is known.
    fn census(text: &str) -> Vec<(Action, String, Data)> {
        let mut seen = Vec::new();
        for line in text.lines() {
            match parse_line(line.as_bytes()) {
                Ok(Line::Empty) => {}
                Ok(Line::Record(record)) => {
                    let state = match record.state {
                        State::Active { canceled, .. } => format!("canceled={}", u8::from(canceled)),
                        State::Logged(status) => status.to_string(),
                    };
                    seen.push((record.item.action, state, record.data));
                }
                Err(error) => panic!("{line}: {error}"),
            }
        }
        seen
    }

    #[test]
    fn what_a_real_lustre_printed_is_read_without_an_error() {
        macro_rules! real {
            ($name:literal) => {
                (include_str!(concat!("../../tests/data/lustre/", $name, ".txt")))
            };
        }
        let files = [
            (real!("running_t0.active_requests"), 1, 0),
            (real!("running_t5.active_requests"), 3, 2),
            (real!("after_cont.active_requests"), 1, 0),
            (real!("canceled.active_requests"), 7, 3),
            (real!("queued_no_copytool_after_cancel_a3.actions"), 15, 2),
            (real!("running_after_cancel_a2_t6.actions"), 16, 2),
            (real!("sent_to_stopped_after_cancel_s2.actions"), 20, 5),
            (real!("after_cont.actions"), 20, 5),
            (real!("canceled.actions"), 12, 3),
        ];
        for (index, (text, records, cut)) in files.into_iter().enumerate() {
            let seen = census(text);
            let is_cut = seen.iter().filter(|(_, _, data)| *data != Data::Whole).count();
            assert_eq!((seen.len(), is_cut), (records, cut), "file {index}: {seen:?}");
        }
        let canceled = census(real!("canceled.active_requests"));
        assert_eq!(canceled.iter().filter(|(_, state, _)| state == "canceled=1").count(), 1);
        let restore = real!("after_cont.active_requests").lines().next().map(record).unwrap();
        assert_eq!(restore.item.fid, Fid::new(0x2_0000_0402, 0xc, 0));
        assert_eq!(restore.item.dfid, Fid::new(0x2_0000_0402, 0x16, 0));
    }

    proptest::proptest! {
        #[test]
        fn no_line_does_harm(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            at in 0..300usize,
            cut in 0..20usize,
        ) {
            let _ = parse_line(&bytes);
            for whole in [ACTIVE, LOGGED] {
                let mut line = whole.as_bytes().to_vec();
                let at = at.min(line.len());
                let end = (at + cut).min(line.len());
                line.splice(at..end, bytes.iter().copied());
                let _ = parse_line(&line);
                let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
                let _ = parse_line(format!("{}{text}{}", &whole[..at], &whole[end..]).as_bytes());
            }
        }
    }
}
