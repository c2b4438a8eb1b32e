//! `events`: what happens, as it happens.

use std::io::{self, Write};
use std::num::NonZeroU64;
use std::time::Duration;

use super::options::EventsOptions;
use super::selection::{file, query};
use super::words::{count, errno};
use super::{Run, Stop, complain};
use crate::client::ha::api::{Api, ApiError};
use crate::client::ha::text::{moment, one_line};
use crate::ops::{Event, EventKind, Select, Severity};

/// How long to wait before a stream that broke is asked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// An event on a line: when, what, to whom.
fn line(event: &Event) -> String {
    let mover = event.mover.as_deref().map(one_line).unwrap_or_default();
    let what = &event.what;
    let words = match event.kind {
        EventKind::Request => {
            let fid = event.fid.unwrap_or_default();
            let cookie = event.cookie.unwrap_or_default();
            let action = event.action.as_deref().unwrap_or("");
            let archive = event.archive_id.unwrap_or_default();
            let place = match (&**what, mover.is_empty()) {
                (_, true) => String::new(),
                ("sent", _) => format!(" to {mover}"),
                ("requeued", _) => format!(" from {mover}"),
                ("claimed", _) => format!(" by {mover}"),
                _ => format!(" on {mover}"),
            };
            let status = event.status.filter(|status| *status != 0);
            let status = status.map(|status| format!(", {}", errno(status))).unwrap_or_default();
            format!("{what:<11} {action} {fid} for archive {archive}, cookie {cookie}{place}{status}")
        }
        EventKind::Mover => {
            let more = match (&**what, event.until, event.limit) {
                (_, Some(until), _) => format!(" until {}", moment(until)),
                (_, _, Some(limit)) => format!(" to {}", count(u64::from(limit), "request")),
                ("limited", _, None) => " no more".to_owned(),
                _ => String::new(),
            };
            format!("{what:<11} mover {mover}{more}")
        }
        EventKind::Alert => {
            let alert = event.alert.clone().unwrap_or_default();
            let severity = if alert.severity == Severity::Critical { "CRITICAL" } else { "WARNING" };
            format!("{what:<11} {severity} {}: {}", alert.kind, one_line(&alert.text))
        }
        EventKind::End => format!("{:<11} {}", "end", one_line(event.text.as_deref().unwrap_or(""))),
    };
    format!("{}  {words}\n", moment(event.at))
}

/// Prints at once; whoever reads it may be gone.
fn show(text: &str) -> Result<(), ApiError> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| ApiError::Strange(format!("standard output: {error}")))
}

/// Shows events as they come; a daemon that restarts is waited for.
pub async fn events(api: &Api, options: &EventsOptions) -> Run {
    let mut more = Vec::new();
    let mut add = |name, value: Option<String>| more.extend(value.map(|value| (name, value)));
    add("kind", (!options.kind.is_empty()).then(|| options.kind.join(",")));
    add("fid", options.file.as_deref().map(file).transpose()?.map(|fid| fid.to_string()));
    add("mover", options.mover.clone());
    add("failed", options.failed.then(|| "true".to_owned()));
    let path = format!("/api/v1/hsm/events{}", query(&Select::default(), &more));
    let (mut met, mut told) = (false, false);
    let mut left = options.count.map_or(u64::MAX, NonZeroU64::get);
    loop {
        let each = |data: &str| {
            let event: Event =
                serde_json::from_str(data).map_err(|error| ApiError::Strange(error.to_string()))?;
            (met, told) = (true, false);
            if event.kind == EventKind::End {
                complain(event.text.as_deref().unwrap_or("the daemon ended the stream"));
            }
            if options.plain.json {
                show(&format!("{data}\n"))?
            } else {
                show(&line(&event))?
            }
            left -= 1;
            if left == 0 {
                std::process::exit(0);
            }
            Ok(())
        };
        match api.follow(&path, each).await {
            Ok(()) | Err(ApiError::Lost(_)) => {}
            // It was there before.
            Err(ApiError::NoManager { .. }) if met => {}
            Err(error) => return Err(Stop::from(error)),
        }
        met = true;
        if !std::mem::replace(&mut told, true) {
            complain("lost the daemon; waiting for it to come back");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Alert;

    #[test]
    fn events_are_lines() {
        let words = |event: Event| line(&event).trim_end().split_once("  ").unwrap().1.to_owned();
        let request = Event {
            what: "sent".into(),
            fid: Some("0x1:0x2:0x0".parse().unwrap()),
            cookie: Some("0x10".parse().unwrap()),
            action: Some("ARCHIVE".into()),
            archive_id: Some(2),
            mover: Some("m0".into()),
            ..Event::default()
        };
        let want = "sent        ARCHIVE [0x1:0x2:0x0] for archive 2, cookie 0x10 to m0";
        assert_eq!(words(request.clone()), want);
        let failed = words(Event { what: "done".into(), status: Some(5), ..request.clone() });
        assert!(failed.ends_with("cookie 0x10 on m0, EIO: I/O error"), "{failed}");
        assert!(words(Event { what: "done".into(), status: Some(0), ..request }).ends_with("on m0"));
        let mover = Event {
            kind: EventKind::Mover,
            what: "limited".into(),
            mover: Some("m0".into()),
            ..Event::default()
        };
        assert_eq!(words(mover.clone()), "limited     mover m0 no more");
        assert_eq!(words(Event { limit: Some(1), ..mover }), "limited     mover m0 to 1 request");
        let alert = Alert { kind: "locked".into(), text: "a\nb".into(), ..Alert::default() };
        assert_eq!(words(Event::of_alert(0, &alert, false)), "cleared     CRITICAL locked: a; b");
        assert_eq!(words(Event::of_end(0, "slow", "missed".into())), "end         missed");
    }
}
