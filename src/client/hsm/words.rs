//! What is known of requests, in words and tables.

use std::time::Duration;

use crate::client::ha::text::{Table, ago, moment, one_line, span};
use crate::ops::{Attempt, Data, DeadLetter, Ended, Explanation, FileReport, History, Mover, Request};

/// Longest data in a table, in characters.
const DATA: usize = 40;

/// An error by its name and meaning.
pub fn errno(number: i32) -> String {
    match number {
        0 => "ok".to_owned(),
        _ => nix::errno::Errno::from_raw(number).to_string(),
    }
}

/// A number of things: `1 request`, `2 requests`.
pub fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// Data on one line, cut where it is long.
pub fn data(data: &Data) -> String {
    let line = one_line(&data.text);
    match line.char_indices().nth(DATA) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

fn milliseconds(time: u64) -> String {
    span(Duration::from_millis(time))
}

/// How long something took, more exactly when it was short.
fn took(from: i64, to: i64) -> String {
    let time = Duration::from_nanos(to.saturating_sub(from).max(0).unsigned_abs());
    if time.as_secs() < 10 { format!("{:.1} s", time.as_secs_f64()) } else { span(time) }
}

/// Requests, one a row.
pub fn requests(requests: &[Request]) -> String {
    let mut table = Table::new(&["FID", "COOKIE", "ACTION", "ARCHIVE", "STATE", "MOVER", "AGE", "DATA"]);
    for request in requests {
        table.row(request_row(request));
    }
    let mut out = String::new();
    table.print(&mut out);
    out
}

fn request_row(request: &Request) -> Vec<String> {
    vec![
        request.fid.to_string(),
        request.cookie.to_string(),
        one_line(&request.action),
        request.archive_id.to_string(),
        one_line(&request.state),
        one_line(request.mover.as_deref().unwrap_or("")),
        milliseconds(request.age_ms),
        data(&request.data),
    ]
}

/// A request on one line of its own, with fixed columns: there may be too many to measure all of them.
pub fn request_line(request: &Request) -> String {
    let [fid, cookie, action, archive, state, mover, age, data] =
        request_row(request).try_into().unwrap_or_else(|_| std::array::from_fn(|_| String::new()));
    let line =
        format!("{fid:<30} {cookie:<12} {action:<8} {archive:>3}  {state:<9} {mover:<12} {age:>12}  {data}");
    line.trim_end().to_owned()
}

/// What [`request_line`] has over its columns.
pub fn request_header() -> String {
    format!(
        "{:<30} {:<12} {:<8} {:>3}  {:<9} {:<12} {:>12}  {}",
        "FID", "COOKIE", "ACTION", "ID", "STATE", "MOVER", "AGE", "DATA"
    )
}

/// Why the requests of a file are where they are.
pub fn report(report: &FileReport, name: &str) -> String {
    let mut out = String::new();
    let fid = report.fid.to_string();
    let title = if name.parse() == Ok(report.fid) { fid } else { format!("{} {fid}", one_line(name)) };
    if report.requests.is_empty() {
        out.push_str(&format!("{title}: no request is here\n"));
    }
    for explanation in &report.requests {
        explain(explanation, &title, report.now, &mut out);
    }
    if !report.history.is_empty() {
        out.push_str("  ended before:\n");
        for ended in &report.history {
            out.push_str(&format!("    {}\n", ended_line(ended, report.now)));
        }
    }
    out
}

fn explain(of: &Explanation, title: &str, now: i64, out: &mut String) {
    let request = &of.request;
    out.push_str(&format!(
        "{title}: {} for archive {}, cookie {}, {} for {}\n",
        one_line(&request.action),
        request.archive_id,
        request.cookie,
        one_line(&request.state),
        milliseconds(request.age_ms)
    ));
    for (index, reason) in of.reasons.iter().enumerate() {
        let what = if index > 0 {
            "also"
        } else if request.state == "running" {
            "now"
        } else {
            "waits"
        };
        let until = reason.until.filter(|until| *until > now);
        let until = until.map(|until| format!(" (until {})", moment(until))).unwrap_or_default();
        out.push_str(&format!("  {what}: {}{until}\n", one_line(&reason.text)));
    }
    if let Some(at) = of.position {
        let about = if at.exact { "" } else { "about " };
        out.push_str(&format!("  position: {about}{} before it, of {} in its queue\n", at.ahead, at.of));
    }
    if let Some(tag) = &of.tag {
        out.push_str(&format!("  batch: {}\n", data(tag)));
    }
    if !request.data.text.is_empty() {
        out.push_str(&format!("  data: {}\n", one_line(&request.data.text)));
    }
    match of.cancel.as_str() {
        "waiting" => out.push_str("  a cancel waits for its mover to ask for work\n"),
        "sent" => out.push_str("  a cancel was sent to its mover\n"),
        _ => {}
    }
    if of.redelivered {
        out.push_str("  the MDT sent it again while it ran: it runs again if its mover fails\n");
    }
    if !of.durable {
        out.push_str("  the store does not have it: a crash of the daemon forgets it\n");
    }
    for attempt in &of.attempts {
        out.push_str(&format!("  tried: {}\n", attempt_line(attempt, now)));
    }
}

fn attempt_line(attempt: &Attempt, now: i64) -> String {
    format!(
        "{} ago on {}, {} after {}",
        ago(now, attempt.failed),
        one_line(&attempt.mover),
        errno(attempt.errno),
        took(attempt.sent, attempt.failed)
    )
}

fn result(ended: &Ended) -> String {
    match (ended.outcome.as_str(), ended.status) {
        ("done", 0) => "done".to_owned(),
        ("done", status) => format!("failed with {}", errno(status)),
        (outcome, 0) => one_line(outcome),
        (outcome, status) => format!("{} ({})", one_line(outcome), errno(status)),
    }
}

fn ended_line(ended: &Ended, now: i64) -> String {
    let mover = ended.mover.as_deref().map(|mover| format!(" on {}", one_line(mover))).unwrap_or_default();
    format!(
        "{} ago: {} for archive {}, {}{mover}",
        ago(now, ended.ended),
        one_line(&ended.action),
        ended.archive_id,
        result(ended)
    )
}

/// Requests that ended, one a row.
pub fn history(history: &[Ended]) -> String {
    let mut table = Table::new(&[
        "ENDED", "FID", "COOKIE", "ACTION", "ARCHIVE", "MOVER", "WAITED", "RAN", "RESULT", "DATA",
    ]);
    for ended in history {
        let sent = ended.sent.unwrap_or(ended.ended);
        table.row(vec![
            moment(ended.ended),
            ended.fid.to_string(),
            ended.cookie.to_string(),
            one_line(&ended.action),
            ended.archive_id.to_string(),
            one_line(ended.mover.as_deref().unwrap_or("")),
            took(ended.queued, sent),
            ended.sent.map(|sent| took(sent, ended.ended)).unwrap_or_default(),
            result(ended),
            data(&ended.data),
        ]);
    }
    let mut out = String::new();
    table.print(&mut out);
    out
}

/// What there is to be found in a history, and what not.
pub fn remembered(history: History, started: i64) -> String {
    let since = moment(started);
    format!("({} of at most {} remembered, in memory, since {since})\n", history.kept, history.most)
}

/// Movers, one a row.
pub fn movers(movers: &[Mover], now: i64) -> String {
    let mut table = Table::new(&[
        "MOVER",
        "STATE",
        "ARCHIVES",
        "RESTORE",
        "REMOVE",
        "ARCHIVE",
        "WAIT FOR IT",
        "DONE",
        "FAILED",
        "BATCHES",
        "NOTE",
    ]);
    for mover in movers {
        let archives: Vec<String> = mover.archive_ids.iter().map(ToString::to_string).collect();
        let slots: Vec<String> =
            mover.slots.iter().map(|slot| slot.as_ref().map_or_else(|| "-".to_owned(), data)).collect();
        let running = [mover.running.restore, mover.running.remove, mover.running.archive];
        let used = |kind: usize| match mover.most[kind] {
            Some(most) => format!("{}/{most}", running[kind]),
            None => running[kind].to_string(),
        };
        table.row(vec![
            one_line(&mover.id),
            mover.state().to_owned(),
            if archives.is_empty() { "any".to_owned() } else { archives.join(",") },
            used(0),
            used(1),
            used(2),
            if mover.own_queue > 0 { mover.own_queue.to_string() } else { String::new() },
            mover.done.sum().to_string(),
            mover.failed.to_string(),
            slots.join(" "),
            note(mover, now),
        ]);
    }
    let mut out = String::new();
    table.print(&mut out);
    out
}

fn note(mover: &Mover, now: i64) -> String {
    let mut notes = Vec::new();
    if let Some(since) = mover.away_since.filter(|_| !mover.connected) {
        let until = mover.away_until.filter(|until| *until > now && mover.running.sum() > 0);
        let keeps =
            until.map(|until| format!(", keeps its work for {}", ago(until, now))).unwrap_or_default();
        notes.push(format!("away for {}{keeps}", ago(now, since)));
    }
    if let Some(until) = mover.quarantined {
        notes.push(format!("in quarantine for {}", ago(until, now)));
    }
    if mover.drained && mover.state() != "drained" {
        notes.push("drained".to_owned());
    }
    if let Some(limit) = mover.limit {
        notes.push(format!("at most {}", count(u64::from(limit), "request")));
    }
    if mover.cancels > 0 {
        notes.push(format!("{} to be sent", count(mover.cancels, "cancel")));
    }
    if let Some(most) = mover.errors.iter().max_by_key(|error| error.count).filter(|_| mover.failed > 0) {
        notes.push(format!("{} ended with {}", most.count, errno(most.errno)));
    }
    if mover.recent_errors > 0 {
        notes.push(format!("{} lately", count(u64::from(mover.recent_errors), "error")));
    }
    notes.join("; ")
}

/// Requests that failed, one a row.
pub fn letters(letters: &[DeadLetter], now: i64) -> String {
    let mut table = Table::new(&[
        "FAILED", "FID", "COOKIE", "ACTION", "ARCHIVE", "MOVER", "TIMES", "ERROR", "NEXT", "DATA",
    ]);
    for letter in letters {
        let next = match (letter.asking, letter.retry, letter.refused) {
            (true, _, _) => "the MDT is being asked".to_owned(),
            (_, Some(retry), _) => format!("in {}", ago(retry, now)),
            (_, None, Some(refused)) => format!("the MDT refused: {}", errno(refused)),
            (_, None, None) => "given up".to_owned(),
        };
        table.row(vec![
            format!("{} ago", ago(now, letter.failed)),
            letter.fid.to_string(),
            letter.cookie.to_string(),
            one_line(&letter.action),
            letter.archive_id.to_string(),
            one_line(&letter.mover),
            letter.failures.to_string(),
            errno(letter.errno),
            next,
            data(&letter.data),
        ]);
    }
    let mut out = String::new();
    table.print(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Position, Reason};

    #[test]
    fn an_explanation_says_why_first() {
        let request = Request {
            fid: "0x1:0x2:0x0".parse().unwrap(),
            cookie: "0x10".parse().unwrap(),
            action: "ARCHIVE".into(),
            archive_id: 2,
            state: "queued".into(),
            age_ms: 90_000,
            data: Data { text: "tag=a\u{1b}[2J".into(), base64: None },
            ..Request::default()
        };
        let reason = Reason { kind: "no_mover".into(), text: "no mover".into(), ..Reason::default() };
        let explanation = Explanation {
            request,
            position: Some(Position { ahead: 3, of: 9, exact: false }),
            reasons: vec![reason],
            cancel: "none".into(),
            durable: true,
            ..Explanation::default()
        };
        let fid = "0x1:0x2:0x0".parse().unwrap();
        let file = FileReport { fid, now: 0, requests: vec![explanation], history: Vec::new() };
        let want = "/mnt/f [0x1:0x2:0x0]: ARCHIVE for archive 2, cookie 0x10, queued for 1 min 30 s\n\
            \x20 waits: no mover\n  position: about 3 before it, of 9 in its queue\n  data: tag=a [2J\n";
        assert_eq!(report(&file, "/mnt/f"), want);
        let nothing = FileReport { fid, ..FileReport::default() };
        assert_eq!(report(&nothing, "[0x1:0x2:0x0]"), "[0x1:0x2:0x0]: no request is here\n");
    }

    #[test]
    fn results_name_errors() {
        let of =
            |outcome: &str, status| result(&Ended { outcome: outcome.into(), status, ..Ended::default() });
        assert_eq!(of("done", 0), "done");
        assert!(of("done", 5).starts_with("failed with EIO"), "{}", of("done", 5));
        assert!(of("cancelled", 125).starts_with("cancelled (ECANCELED"));
    }

    #[test]
    fn long_data_is_cut_between_characters() {
        let long = Data { text: "é".repeat(50), base64: None };
        assert_eq!(data(&long), format!("{}...", "é".repeat(40)));
    }
}
