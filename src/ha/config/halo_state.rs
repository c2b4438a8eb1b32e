//! HALO's state file (a0fa0b9): what operators decided there goes on here.
//!
//! A line is `YYYY-mm-ddTHH:MM:SS.nnnnnnnnn`, the event, its object and a comment, with tabs between them. The time is local
//! and has no zone, so it is taken as UTC; nothing but the history shows it. The last line about an object counts, in the
//! order of the file: HALO sorts by time, which an hour set back at the end of summer puts out of order.

use std::collections::BTreeMap;

use crate::ha::ids::{FenceId, GroupId, HostId};
use crate::ha::state::record::{EVENTS, Event, GroupFlags, HostFlags, Record};

/// What was found in a state file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Imported {
    /// To be applied to an empty state: they say all that is known of the groups and hosts they name.
    pub records: Vec<Record>,
    /// What was damaged, with its line, and what to know.
    pub warnings: Vec<String>,
}

const KINDS: &[&str] = &["manage", "unmanage", "activate", "deactivate", "fence", "reset", "clear"];
/// Names and comments are not longer.
const MAX_FIELD: usize = 4096;
/// Damaged lines that are told one by one.
const MAX_WARNINGS: usize = 50;

struct Line<'a> {
    at: i64,
    event: &'a str,
    object: &'a str,
    comment: String,
}

/// Reads a state file, whatever its damage. `now` (wall clock, nanoseconds) bounds times from the future.
pub fn import(text: &[u8], now: i64) -> Imported {
    let mut imported = Imported::default();
    let text = String::from_utf8_lossy(text);
    let lines = lines(&text, now, &mut imported.warnings);
    if lines.is_empty() {
        return imported;
    }
    imported.warnings.insert(0, "times in HALO's state file have no zone; they are taken as UTC".to_owned());
    let mut unmanaged: BTreeMap<&str, bool> = BTreeMap::new();
    let mut deactivated: BTreeMap<&str, bool> = BTreeMap::new();
    let mut fenced: BTreeMap<&str, Option<&Line<'_>>> = BTreeMap::new();
    let mut history = Vec::new();
    for line in &lines {
        match line.event {
            "manage" | "unmanage" => {
                unmanaged.insert(line.object, line.event == "unmanage");
            }
            "activate" | "deactivate" => {
                deactivated.insert(line.object, line.event == "deactivate");
            }
            "fence" | "reset" => {
                fenced.insert(line.object, Some(line).filter(|_| line.event == "fence"));
            }
            _ => {}
        }
        history.push(match line.event {
            "clear" => Record::EventsCleared { at: line.at },
            event => Record::Event(Event {
                at: line.at,
                event: event.to_owned(),
                object: line.object.to_owned(),
                host: None,
                by: "HALO".to_owned(),
                comment: Some(line.comment.clone()).filter(|comment| !comment.is_empty()),
            }),
        });
    }
    imported.records.extend(history.drain(history.len().saturating_sub(EVENTS)..));
    for group in unmanaged.iter().filter(|(_, unmanaged)| **unmanaged).map(|(group, _)| GroupId::from(*group))
    {
        let flags = GroupFlags { unmanaged: true, ..GroupFlags::default() };
        imported.records.push(Record::GroupFlags { group, flags });
    }
    for host in
        deactivated.iter().filter(|(_, deactivated)| **deactivated).map(|(host, _)| HostId::from(*host))
    {
        let flags = HostFlags { deactivated: true, ..HostFlags::default() };
        imported.records.push(Record::HostFlags { host, flags });
    }
    let fences = fenced.iter().filter_map(|(host, line)| Some((*host, (*line)?)));
    for (number, (host, line)) in (1..).zip(fences) {
        let (id, host, at) = (FenceId(number), HostId::from(host), line.at);
        let reason = format!("HALO fenced it: {}", line.comment);
        let reason = reason.trim_end_matches(": ").to_owned();
        imported.records.push(Record::FenceIntent {
            id,
            host: host.clone(),
            action: "off".to_owned(),
            until: at,
            automatic: true,
            reason,
            at,
        });
        let result = "as HALO's state file says".to_owned();
        imported.records.push(Record::FenceResult { id, host, success: true, result, at });
    }
    imported
}

/// All records of the file that can be understood.
fn lines<'a>(text: &'a str, now: i64, warnings: &mut Vec<String>) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'a>> = Vec::new();
    let mut damaged = 0_usize;
    let mut warn = |number: usize, what: &str| {
        damaged += 1;
        if damaged <= MAX_WARNINGS {
            warnings.push(format!("line {number}: {what}"));
        }
    };
    for (number, text) in (1..).zip(text.split('\n')) {
        let mut rest = text.strip_suffix('\r').unwrap_or(text);
        if rest.trim().is_empty() {
            continue;
        }
        if rest.contains('\u{fffd}') {
            warn(number, "bytes that are no UTF-8 are replaced");
        }
        // A record that was cut has the next one on its line.
        loop {
            let next = (1..rest.len()).find(|at| rest.is_char_boundary(*at) && begins(&rest[*at..]));
            let (one, after) = rest.split_at(next.unwrap_or(rest.len()));
            match record(one, now) {
                Ok(line) => lines.push(line),
                // HALO writes a comment as it is, also one of several lines.
                Err(_) if !lines.is_empty() && time(one).is_none() && !is_cut(one) => {
                    warn(number, "taken as a part of the comment before it");
                    if let Some(last) =
                        lines.last_mut().filter(|last| last.comment.len() + one.len() < MAX_FIELD)
                    {
                        last.comment.push(' ');
                        last.comment.push_str(one.trim());
                    }
                }
                Err(message) => warn(number, &message),
            }
            if next.is_some() {
                warn(number, "two records are on this line");
            }
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
    }
    if damaged > MAX_WARNINGS {
        warnings.push(format!("and {} more", damaged - MAX_WARNINGS));
    }
    lines
}

/// Whether a record begins here: a time and a known event.
fn begins(text: &str) -> bool {
    // Cheap for the many places where none does.
    text.as_bytes().get(4) == Some(&b'-')
        && time(text).is_some_and(|(_, rest)| {
            rest.strip_prefix('\t')
                .and_then(|rest| rest.split_once('\t'))
                .is_some_and(|(event, _)| KINDS.contains(&event))
        })
}

fn record(text: &str, now: i64) -> Result<Line<'_>, String> {
    if is_cut(text) {
        return Err("a record that was cut".to_owned());
    }
    let (at, rest) = time(text).ok_or("no record: it does not begin with a time")?;
    let mut fields = rest.strip_prefix('\t').ok_or("no record: no tab after the time")?.splitn(3, '\t');
    let event = fields.next().unwrap_or_default();
    let object = fields.next().unwrap_or_default().trim();
    if !KINDS.contains(&event) {
        let event: String = event.chars().take(40).collect();
        return Err(format!("unknown event {event:?}"));
    }
    if object.is_empty() || object.len() > MAX_FIELD {
        return Err(format!("{event} of nothing"));
    }
    let comment = fields.next().unwrap_or_default().trim().chars().take(MAX_FIELD).collect();
    Ok(Line { at: at.min(now), event, object, comment })
}

const TIME: &str = "0000-00-00T00:00:00";

/// Whether a byte may be at this place of a time.
fn fits_time((place, byte): (usize, u8)) -> bool {
    match TIME.as_bytes().get(place) {
        Some(b'0') => byte.is_ascii_digit(),
        Some(b'T') => byte == b'T' || byte == b' ',
        Some(other) => byte == *other,
        None => false,
    }
}

/// The first part of a time and nothing more.
fn is_cut(text: &str) -> bool {
    text.len() < TIME.len() && text.bytes().enumerate().all(fits_time)
}

/// A time at the beginning of a text, in nanoseconds since the epoch, and what follows it.
fn time(text: &str) -> Option<(i64, &str)> {
    let (date, mut rest) = (text.get(..TIME.len())?, text.get(TIME.len()..)?);
    if !date.bytes().enumerate().all(fits_time) {
        return None;
    }
    let number = |from: usize, to: usize| date.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut nanos = 0;
    if let Some(part) = rest.strip_prefix('.') {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        nanos = format!("{:0<9.9}", &part[..digits]).parse().ok()?;
        rest = &part[digits..];
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?, rest))
}

/// Days since 1970-01-01 in the Gregorian calendar. The year begins in March here, so that a leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (month * 153 + 2) / 5
        + day
        - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::state::record::State;

    const NOW: i64 = 1_800_000_000_000_000_000;

    fn state(text: &[u8]) -> (State, Vec<String>) {
        let imported = import(text, NOW);
        let mut state = State::default();
        imported.records.iter().for_each(|record| state.apply(record));
        (state, imported.warnings)
    }

    #[test]
    fn times_are_taken_as_utc() {
        let table = [
            ("1970-01-01T00:00:00", Some(0)),
            ("1970-01-01T00:00:01.5", Some(1_500_000_000)),
            ("2026-11-20T23:20:49.698872423", Some(1_795_216_849_698_872_423)),
            ("2024-02-29 12:00:00", Some(1_709_208_000_000_000_000)),
            ("2026-13-01T00:00:00", None),
            ("2026-11-20", None),
            ("éééééééééééééé", None),
        ];
        for (text, at) in table {
            assert_eq!(time(text).map(|(at, _)| at), at, "{text}");
        }
        assert_eq!(time("9999-12-31T23:59:59"), None, "too late for nanoseconds");
    }

    #[test]
    fn the_last_decision_counts_in_the_order_of_the_file() {
        let text = b"2026-10-25T02:30:00.1\tunmanage\tpool1\tmaintenance\n\
            2026-10-25T02:10:00.1\tmanage\tpool1\t\n\
            2026-10-25T02:11:00\tunmanage\tpool2\twith\ttab\n\
            2026-10-25T02:12:00\tdeactivate\tb\t\n\
            2026-10-25T02:13:00\tdeactivate\ta\t\n\
            2026-10-25T02:14:00\tactivate\ta\n\
            2026-10-25T02:15:00\tfence\ta\tit was silent\n\
            2026-10-25T02:16:00\tfence\tb\t\n\
            2026-10-25T02:17:00\treset\tb\t\n";
        let (state, warnings) = state(text);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(!state.groups.contains_key("pool1") && state.groups["pool2"].unmanaged);
        assert!(!state.hosts.contains_key("a") && state.hosts["b"].deactivated);
        let fences = &state.fences["a"];
        assert!(!state.fences.contains_key("b") && fences.len() == 1);
        assert!(
            fences[0].automatic && fences[0].result.as_ref().is_some_and(|result| result.0),
            "{fences:?}"
        );
        assert_eq!(state.events.len(), 9);
        let said = |number: usize| state.events[number].comment.as_deref();
        assert_eq!((said(0), said(1), said(2)), (Some("maintenance"), None, Some("with\ttab")));
    }

    #[test]
    fn damage_costs_only_what_is_damaged() {
        let good = "2026-11-20T10:00:00\tunmanage\tpool1\tx\n";
        let table: &[(&str, &str, usize)] = &[
            ("2026-11-20T10:00:00\tunmana", "line 2: unknown event", 1),
            ("2026-11-20T10:00:00", "line 2: no record", 1),
            ("2026-1", "line 2: a record that was cut", 1),
            ("20 disks\n", "line 2: taken as a part of the comment", 1),
            ("\n\n2026-11-20T10:00:00\tfence\n", "line 4: fence of nothing", 1),
            ("second line of a comment\n", "line 2: taken as a part of the comment", 1),
            ("2026-11-20T10:00:00\texplode\th1\t\n", "line 2: unknown event \"explode\"", 1),
            (
                "2026-11-20T10:00:00\tfence\th1\tcu2026-11-20T10:00:01\tfence\th2\t\n",
                "line 2: two records",
                3,
            ),
            ("2026-11-20T10:00:00\tfe2026-11-20T10:00:01\tfence\th2\t\n", "line 2: unknown event", 2),
        ];
        for (damage, warning, events) in table {
            let (state, warnings) = state(format!("{good}{damage}").as_bytes());
            assert!(warnings.iter().any(|line| line.starts_with(warning)), "{damage:?}: {warnings:?}");
            assert!(state.groups["pool1"].unmanaged, "{damage:?}");
            assert_eq!(state.events.len(), *events, "{damage:?}");
        }
        let (bad, warnings) = state(b"\xff\xfe\n2026-11-20T10:00:00\tdeactivate\th\xff\t\n");
        assert!(warnings.iter().any(|line| line.contains("UTF-8")) && bad.hosts.len() == 1, "{warnings:?}");
        assert_eq!(import(b"", NOW), Imported::default());
    }

    #[test]
    fn what_was_cleared_is_not_shown() {
        let text = b"2026-11-20T10:00:00\tfence\ta\t\n2026-11-20T10:00:01\tclear\tevents\t\n";
        let (state, _) = state(text);
        assert_eq!(state.events_cleared, state.events[0].at + 1_000_000_000);
        // A clock that was ahead must not hide what is to come.
        let imported = import(b"2100-01-01T00:00:00\tclear\tevents\t\n", NOW);
        assert_eq!(imported.records, [Record::EventsCleared { at: NOW }]);
    }
}
