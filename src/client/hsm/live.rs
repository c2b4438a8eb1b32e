//! `status` and `top`: once, or again and again.

use std::io::{self, IsTerminal};
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User};
use serde_json::Value;

use super::options::{StatusOptions, TopOptions};
use super::{Outcome, Run, Stop, print, print_json, words};
use crate::client::ha::api::Api;
use crate::client::ha::text::{Table, moment, now, one_line, span};
use crate::ops::{Counts, Load, Lock, NamedLoad, OwnerLoad, Severity, Status, Top};

/// How often a watched status is shown anew.
const WATCH: Duration = Duration::from_secs(2);

/// `status`
pub async fn status(api: &Api, options: StatusOptions) -> Run {
    let path = "/api/v1/hsm/status";
    let terminal = io::stdout().is_terminal();
    loop {
        if options.plain.json {
            let all: Value = api.get(path).await?;
            print_json(&all)?;
        } else {
            let shown = api.get::<Status>(path).await.map(|status| overview(&status)).map_err(Stop::from);
            let text = match shown {
                // A daemon that restarts is waited for.
                Err(Stop::Failed(error) | Stop::Usage(error)) if options.watch => format!("{error}\n"),
                other => other?,
            };
            print(&if options.watch { screen(&text, terminal) } else { text });
        }
        if !options.watch {
            return Ok(Outcome::Done);
        }
        tokio::time::sleep(WATCH).await;
    }
}

/// `top`
pub async fn top(api: &Api, options: &TopOptions) -> Run {
    let path = format!("/api/v1/hsm/top?tags={}", options.tags);
    if options.plain.json {
        let all: Value = api.get(&path).await?;
        print_json(&all)?;
        return Ok(Outcome::Done);
    }
    if options.once || !io::stdout().is_terminal() {
        let top: Top = api.get(&path).await?;
        print(&loads(&top));
        return Ok(Outcome::Done);
    }
    loop {
        let shown = api.get::<Top>(&path).await.map(|top| loads(&top)).map_err(Stop::from);
        let text = match shown {
            Err(Stop::Failed(error) | Stop::Usage(error)) => format!("{error}\n"),
            Ok(text) => text,
        };
        print(&screen(&text, true));
        tokio::time::sleep(options.interval.max(Duration::from_millis(100))).await;
    }
}

/// Over what was shown before, on a terminal: as many lines and columns as it has.
fn screen(text: &str, terminal: bool) -> String {
    let text = format!("{}\n{text}", moment(now()));
    if !terminal {
        return text + "\n";
    }
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let (rows, columns) = size.map_or((0, 0), |size| (size.ws_row.into(), size.ws_col.into()));
    format!("\x1b[H\x1b[J{}", fitted(&text, rows, columns))
}

/// What fits on a terminal of this size; 0 where it is not known.
fn fitted(text: &str, rows: usize, columns: usize) -> String {
    let cut = |line: &str| match line.char_indices().nth(columns).filter(|_| columns > 0) {
        Some((end, _)) => line[..end].to_owned(),
        None => line.to_owned(),
    };
    let lines: Vec<String> = text.lines().map(cut).collect();
    // The cursor needs the last row.
    let most = if rows > 2 { rows - 1 } else { lines.len() };
    if lines.len() <= most {
        return lines.join("\n") + "\n";
    }
    let left = lines.len() + 1 - most;
    format!("{}\n({left} more lines)\n", lines[..most - 1].join("\n"))
}

fn counts(of: Counts) -> String {
    format!("{} restore, {} remove, {} archive", of.restore, of.remove, of.archive)
}

/// The first screen: what needs somebody, what waits, who works.
pub fn overview(status: &Status) -> String {
    let mut out = String::new();
    let lock = match status.lock {
        Lock::Unlocked => "",
        Lock::Locked => ", LOCKED",
        Lock::Quit => ", LOCKED and ends when nothing runs",
    };
    let up = span(Duration::from_nanos(status.now.saturating_sub(status.started).max(0).unsigned_abs()));
    out.push_str(&format!("{}: coordinatool {}, up {up}{lock}\n", status.fsname, status.version));
    for alert in &status.alerts {
        let severity = match alert.severity {
            Severity::Critical => "CRITICAL",
            Severity::Warning => "WARNING",
        };
        out.push_str(&format!("{severity:<8}  {}\n", one_line(&alert.text)));
        if let Some(command) = &alert.command {
            out.push_str(&format!("          -> {}\n", one_line(command)));
        }
    }
    if status.alerts.is_empty() {
        out.push_str("nothing needs attention\n");
    }
    out.push_str(&format!("\nwaiting  {}\n", counts(status.queued)));
    out.push_str(&format!("running  {}\n", counts(status.running)));
    out.push_str(&format!("ended    {}\n", counts(status.done)));
    let more = [
        (status.counters.waiting_for_file, "waiting for another request of their file"),
        (status.counters.pending_cancel, "cancels waiting for their mover"),
        (status.counters.unpersisted, "not in the store"),
        (status.dead_letters, "failed ones that may be asked for again"),
        (status.store.not_for_c, "of a kind that the C version would not see"),
    ];
    for (count, what) in more.iter().filter(|(count, _)| *count > 0) {
        out.push_str(&format!("         {count} {what}\n"));
    }
    let since = [
        (status.counters.keepalives, "keepalives"),
        (status.counters.found_cancelled, "cancels found by them"),
        (status.counters.forgotten_at_mdt, "forgotten by an MDT"),
        (status.counters.requested_again, "of these requested again"),
        (status.counters.given_up, "of these given up"),
        (status.counters.adopted, "adopted"),
        (status.counters.retried, "failed ones tried again"),
    ];
    let now = [
        (status.counters.asking, "asked about before they are sent"),
        (status.counters.shares, "shares"),
        (status.counters.tapes, "tapes"),
    ];
    for (title, counts) in [("so far", &since[..]), ("now", &now[..])] {
        let some: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !some.is_empty() {
            out.push_str(&format!("{title:<8} {}\n", some.join(", ")));
        }
    }
    for order in &status.orders {
        let share = order.progress / 10;
        out.push_str(&format!(
            "a cancel of an operator is under way: {share} %, {} so far\n",
            order.selected
        ));
    }
    if status.store.kind.is_empty() {
        out.push_str("requests are kept in memory only: a restart forgets them\n");
    }
    let movers: Vec<_> = status.movers.iter().filter(|mover| mover.is_mover).cloned().collect();
    if !movers.is_empty() {
        out.push('\n');
        out.push_str(&words::movers(&movers, status.now));
    }
    out
}

fn cells(load: &Load) -> Vec<String> {
    let oldest = load.oldest_ms.map(|oldest| span(Duration::from_millis(oldest)));
    vec![
        load.waiting.to_string(),
        load.running.to_string(),
        oldest.unwrap_or_default(),
        load.done.to_string(),
        load.failed.to_string(),
        format!("{:.1}", load.rate),
    ]
}

const COLUMNS: [&str; 6] = ["WAITING", "RUNNING", "OLDEST", "DONE", "FAILED", "PER S"];

fn table(first: &str, rows: impl Iterator<Item = (String, Load)>, out: &mut String) {
    let header: Vec<&str> = std::iter::once(first).chain(COLUMNS).collect();
    let mut table = Table::new(&header);
    for (name, load) in rows {
        table.row(std::iter::once(name).chain(cells(&load)).collect());
    }
    if !table.is_empty() {
        if !out.is_empty() {
            out.push('\n');
        }
        table.print(out);
    }
}

fn tags(top: &Top, out: &mut String) {
    let mut table = Table::new(&["BATCH", "ARCHIVE", "WAITING", "RUNNING", "OLDEST", "SLOTS"]);
    for tag in &top.tags {
        table.row(vec![
            words::data(&tag.tag),
            tag.archive_id.to_string(),
            tag.waiting.to_string(),
            tag.running.to_string(),
            tag.oldest_ms.map(|oldest| span(Duration::from_millis(oldest))).unwrap_or_default(),
            one_line(&tag.movers.join(",")),
        ]);
    }
    if !table.is_empty() {
        out.push('\n');
        table.print(out);
    }
    if top.more_tags > 0 {
        out.push_str(&format!("and {} more\n", top.more_tags));
    }
}

/// An owner by name, as this host knows users and groups.
fn owner(of: &OwnerLoad) -> String {
    let number = of.name.parse::<u32>().ok();
    let name = match (&*of.kind, number) {
        ("unknown", _) => return "unknown".to_owned(),
        ("user", Some(uid)) => User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name),
        ("group", Some(gid)) => Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name),
        _ => None,
    };
    format!("{} {}", of.kind, one_line(&name.unwrap_or_else(|| of.name.clone())))
}

/// All tables of `top`.
fn loads(top: &Top) -> String {
    let mut out = String::new();
    let classes = top.classes.iter().map(|class| {
        let name = format!("{} {}", class.action, class.archive_id);
        (name, class.load.clone())
    });
    table("ACTION, ARCHIVE", classes, &mut out);
    let named = |list: &[NamedLoad]| -> Vec<(String, Load)> {
        list.iter().map(|one| (one_line(&one.name), one.load.clone())).collect()
    };
    table("MOVER", named(&top.movers).into_iter(), &mut out);
    table("OWNER", top.owners.iter().map(|one| (owner(one), one.load.clone())), &mut out);
    if top.more_owners > 0 {
        out.push_str(&format!("and {} more\n", top.more_owners));
    }
    tags(top, &mut out);
    if out.is_empty() {
        out.push_str("nothing is here, and nothing has been\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Alert, ClassLoad};

    #[test]
    fn alerts_come_first() {
        let alert = Alert {
            severity: Severity::Critical,
            kind: "no_mover".into(),
            about: "ARCHIVE 1".into(),
            text: "3 requests wait".into(),
            command: Some("coordinatool-client movers".into()),
        };
        let status =
            Status { fsname: "fs".into(), version: "1".into(), alerts: vec![alert], ..Status::default() };
        let text = overview(&status);
        let lines: Vec<&str> = text.lines().take(3).collect();
        let want = [
            "fs: coordinatool 1, up 0 s",
            "CRITICAL  3 requests wait",
            "          -> coordinatool-client movers",
        ];
        assert_eq!(lines, want);
    }

    #[test]
    fn counters_are_shown_where_something_was_counted() {
        let counters =
            crate::ops::Counters { keepalives: 7, requested_again: 1, shares: 2, ..Default::default() };
        let text = overview(&Status { counters, ..Status::default() });
        let counts: Vec<&str> =
            text.lines().filter(|line| line.starts_with("so far") || line.starts_with("now")).collect();
        assert_eq!(counts, ["so far   7 keepalives, 1 of these requested again", "now      2 shares"]);
        assert!(!overview(&Status::default()).contains("keepalives"));
    }

    #[test]
    fn a_screen_is_not_scrolled() {
        let text = "one\ntwo\nthree is long\nfour\n";
        assert_eq!(fitted(text, 0, 0), text);
        assert_eq!(fitted(text, 5, 80), text);
        assert_eq!(fitted(text, 4, 5), "one\ntwo\n(2 more lines)\n");
        assert_eq!(fitted(text, 9, 5), "one\ntwo\nthree\nfour\n");
    }

    #[test]
    fn owners_have_names_where_there_are_some() {
        let of = |kind: &str, name: &str| {
            owner(&OwnerLoad { kind: kind.into(), name: name.into(), ..OwnerLoad::default() })
        };
        assert_eq!((of("user", "0"), of("group", "0")), ("user root".into(), "group root".into()));
        assert_eq!(
            (of("user", "3999999999"), of("project", "0")),
            ("user 3999999999".into(), "project 0".into())
        );
        assert_eq!(
            (of("unknown", "unknown"), of("job", "a\u{1b}[2J")),
            ("unknown".into(), "job a [2J".into())
        );
    }

    #[test]
    fn top_shows_what_there_is() {
        assert_eq!(loads(&Top::default()), "nothing is here, and nothing has been\n");
        let load = Load { waiting: 2, oldest_ms: Some(61_000), rate: 0.25, ..Load::default() };
        let class = ClassLoad { action: "ARCHIVE".into(), archive_id: 1, load };
        let text = loads(&Top { classes: vec![class], ..Top::default() });
        assert_eq!(
            text,
            "ACTION, ARCHIVE  WAITING  RUNNING  OLDEST     DONE  FAILED  PER S\n\
             ARCHIVE 1        2        0        1 min 1 s  0     0       0.2\n"
        );
    }
}
