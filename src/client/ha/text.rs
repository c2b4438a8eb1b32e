//! Times, names and tables for people.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nodeset::NodeSet;

/// More hosts than this are a mistake.
const MAX_HOSTS: usize = 100_000;

/// Reads `90`, `30s`, `1h30m`, `2d`: seconds without a unit.
///
/// # Errors
/// Says what is wrong with it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time; write it like 90s, 30m, 1h30m or 2d");
    let mut seconds: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at(letters);
        let factor = match unit {
            "" if digits == text.trim().len() => 1,
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(wrong()),
        };
        seconds = number.checked_mul(factor).and_then(|part| seconds.checked_add(part)).ok_or_else(wrong)?;
        rest = behind.trim_start();
    }
    Ok(Duration::from_secs(seconds))
}

/// All hosts of some nodesets (`oss1`, `oss[1-4]`), each once, in the order in which they were given.
///
/// # Errors
/// Says which one cannot be read, in HALO's words.
pub fn hosts(sets: &[String]) -> Result<Vec<String>, String> {
    let mut hosts: Vec<String> = Vec::new();
    let mut known = BTreeSet::new();
    for text in sets {
        let wrong = |why: &dyn std::fmt::Display| format!("nodeset syntax error: {why}");
        // The crate unfolds ranges while it reads them.
        if widest_range(text) > MAX_HOSTS as u64 {
            return Err(wrong(&format!("'{text}' names more than {MAX_HOSTS} hosts")));
        }
        let set: NodeSet = text.parse().map_err(|error: nodeset::NodeSetParseError| match error {
            nodeset::NodeSetParseError::Generic(_) => wrong(&error),
            other => wrong(&format!("unable to parse '{text}': {other}")),
        })?;
        if set.is_empty() {
            return Err(wrong(&format!("unable to parse '{text}': it names no host")));
        }
        if set.len() > MAX_HOSTS {
            return Err(wrong(&format!("'{text}' names more than {MAX_HOSTS} hosts")));
        }
        for host in set.iter() {
            if known.insert(host.clone()) {
                hosts.push(host);
            }
        }
    }
    Ok(hosts)
}

/// How many numbers the widest range (`1-4`) in a text has.
fn widest_range(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let number = |digits: &[u8]| {
        std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(u64::MAX)
    };
    let mut widest = 0;
    for dash in memchr::memchr_iter(b'-', bytes) {
        let before = bytes[..dash].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let behind = bytes[dash + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if before > 0 && behind > 0 {
            let (from, to) = (&bytes[dash - before..dash], &bytes[dash + 1..dash + 1 + behind]);
            widest = widest.max(number(to).saturating_sub(number(from)));
        }
    }
    widest
}

/// Names folded into a nodeset. Names that no nodeset can hold are listed as they are.
pub fn fold(names: &[&str]) -> String {
    let is_one = |name: &&str| name.parse::<NodeSet>().is_ok_and(|set| set.len() == 1);
    let joined = names.join(",");
    match joined.parse::<NodeSet>() {
        Ok(set) if names.iter().all(is_one) => set.to_string(),
        _ => joined,
    }
}

/// A moment in local time, to the second. Nanoseconds since the epoch.
pub fn moment(wall: i64) -> String {
    match Timestamp::from_nanosecond(wall.into()) {
        Ok(at) => at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => wall.to_string(),
    }
}

/// How long something is ago, or takes, in one or two units.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |big: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big} {unit}"),
        _ => format!("{big} {unit} {small} {small_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// ` for 3 min`, or nothing where it is not known since when (0).
pub fn lasting(now: i64, since: i64) -> String {
    if since <= 0 { String::new() } else { format!(" for {}", ago(now, since)) }
}

/// How long `wall` is ago; what is not over counts as now.
pub fn ago(now: i64, wall: i64) -> String {
    span(Duration::from_nanos(now.saturating_sub(wall).max(0).unsigned_abs()))
}

/// The wall clock, in nanoseconds since the epoch.
pub fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// A text of an agent on one line, without anything that a terminal obeys.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for part in text.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if !line.is_empty() {
            line.push_str("; ");
        }
        line.extend(part.chars().map(|c| if c.is_control() { ' ' } else { c }));
    }
    line
}

/// Rows of cells, printed with a width for each column.
#[derive(Debug)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug)]
enum Row {
    Cells(Vec<String>),
    Line(String),
}

impl Table {
    /// With these words over the columns.
    pub fn new(header: &[&str]) -> Self {
        Self { header: header.iter().map(ToString::to_string).collect(), rows: Vec::new() }
    }

    /// Appends a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(Row::Cells(cells));
    }

    /// Appends a line that is no row: no column is as wide as it.
    pub fn line(&mut self, line: String) {
        self.rows.push(Row::Line(line));
    }

    /// Whether there is nothing under the header.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows, two blanks between the columns. Columns without anything under the header are left out.
    pub fn print(&self, out: &mut String) {
        // The width of each column, `None` if it is empty.
        let mut widths: Vec<Option<usize>> = vec![None; self.header.len()];
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            for (width, cell) in widths.iter_mut().zip(cells).filter(|(_, cell)| !cell.is_empty()) {
                *width = Some(width.unwrap_or(0).max(cell.chars().count()));
            }
        }
        for (width, cell) in widths.iter_mut().zip(&self.header) {
            *width = width.map(|width| width.max(cell.chars().count()));
        }
        let put = |cells: &[String], out: &mut String| {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                if let Some(width) = *width {
                    line.push_str(&format!("{cell:<width$}  "));
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        };
        put(&self.header, out);
        for row in &self.rows {
            match row {
                Row::Cells(cells) => put(cells, out),
                Row::Line(line) => {
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, seconds) in [
            ("90", 90),
            ("30s", 30),
            ("5m", 300),
            ("5min", 300),
            ("1h30m", 5400),
            ("1h 30m", 5400),
            ("2d", 172_800),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "1y", "-1s", "1.5h", "5 5", "1h30", "18446744073709551615d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nodesets_are_unfolded_and_folded() {
        let sets = |texts: &[&str]| hosts(&texts.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(sets(&["oss[1-3]"]).unwrap(), ["oss1", "oss2", "oss3"]);
        assert_eq!(sets(&["oss2", "oss[1-2]", "mds1"]).unwrap(), ["oss2", "oss1", "mds1"]);
        for wrong in ["oss[1-", "oss]1", "oss[a-b]", "oss[1-3", "", "oss[1-999999999]"] {
            let error = sets(&[wrong]).unwrap_err();
            assert!(error.starts_with("nodeset syntax error: "), "{wrong}: {error}");
        }
        assert_eq!(fold(&["h0", "h1", "mds"]), "h[0-1],mds");
        assert_eq!(fold(&["[::1]", "h1"]), "[::1],h1");
        assert_eq!(fold(&[]), "");
    }

    #[test]
    fn spans_have_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (3600, "1 h"),
            (5400, "1 h 30 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn texts_cannot_steer_the_terminal() {
        assert_eq!(one_line("a\n\n  b\x1b[2J\r\nc\td\n"), "a; b [2J; c d");
    }

    #[test]
    fn empty_columns_are_left_out() {
        let mut table = Table::new(&["A", "B", "C"]);
        table.row(vec!["long".into(), String::new(), "x".into()]);
        table.line("a line that is longer than all".into());
        table.row(vec!["s".into()]);
        let mut out = String::new();
        table.print(&mut out);
        assert_eq!(out, "A     C\nlong  x\na line that is longer than all\ns\n");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(3000))]

        /// Whatever is typed is read or refused, and what is read can be folded again.
        #[test]
        fn no_text_breaks_the_readers(text in "[a-c0-9\\[\\],/!^&@*{}: -]{0,16}", any in ".{0,40}") {
            for text in [text, any] {
                let _ = duration(&text);
                if let Ok(names) = hosts(std::slice::from_ref(&text)) {
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    let _ = fold(&names);
                }
            }
        }
    }
}
