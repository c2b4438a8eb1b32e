//! `events` and `history`.

use std::time::Duration;

use super::api::{Api, ApiError, segment};
use super::options::EventsOptions;
use super::text::{moment, now, one_line};
use super::{Outcome, complain, say};
use crate::ha::state::Event;
use crate::ha::status::Status;

/// How long to wait before a stream that broke is asked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// An event on a line: when, what, about what, and why.
fn line(event: &Event) -> String {
    let mut line = format!("{}  {:<15} {}", moment(event.at), event.event, event.object);
    if let Some(host) = &event.host {
        line.push_str(&format!(" on {host}"));
    }
    if let Some(comment) = &event.comment {
        line.push_str(&format!(": {}", one_line(comment)));
    }
    if event.by != "manager" && !event.by.is_empty() {
        line.push_str(&format!(" (by {})", one_line(&event.by)));
    }
    line
}

fn show(event: &Event, json: bool) {
    if json {
        if let Ok(text) = serde_json::to_string(event) {
            say(&text);
        }
    } else {
        say(&line(event));
    }
}

fn path(object: Option<&str>, since: Option<i64>, limit: Option<u64>) -> String {
    let mut parts = Vec::new();
    if let Some(object) = object {
        parts.push(format!("object={}", segment(object)));
    }
    if let Some(since) = since {
        parts.push(format!("since={since}"));
    }
    if let Some(limit) = limit {
        parts.push(format!("limit={limit}"));
    }
    if parts.is_empty() {
        "/api/v1/ha/events".to_owned()
    } else {
        format!("/api/v1/ha/events?{}", parts.join("&"))
    }
}

/// Shows events, and goes on if that is wanted.
pub async fn run(api: &Api, options: &EventsOptions) -> Outcome {
    // The manager gives what is later than `since`.
    let since = options.since.map(|time| now().saturating_sub(nanoseconds(time)));
    let object = options.object.as_deref();
    let mut last = since.unwrap_or_else(now);
    match api.get::<Vec<Event>>(&path(object, since, options.limit)).await {
        Ok(events) => {
            for event in &events {
                show(event, options.json);
                last = last.max(event.at);
            }
        }
        Err(error) => {
            complain(&error.to_string());
            return Outcome::Failed;
        }
    }
    if !options.follow {
        return Outcome::Done;
    }
    follow(api, object, last, options.json).await
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Shows events as they come; a manager that restarts is waited for.
async fn follow(api: &Api, object: Option<&str>, mut last: i64, json: bool) -> Outcome {
    let mut told = false;
    loop {
        let path = format!("/api/v1/ha/events/stream?since={last}");
        let result = api
            .follow(&path, |data| {
                let event: Event =
                    serde_json::from_str(data).map_err(|error| ApiError::Strange(error.to_string()))?;
                last = last.max(event.at);
                let about = |name: &str| {
                    event.object == name || event.host.as_ref().is_some_and(|host| host.as_str() == name)
                };
                if object.is_none_or(about) {
                    show(&event, json);
                }
                told = false;
                Ok(())
            })
            .await;
        match result {
            Ok(()) | Err(ApiError::Lost(_) | ApiError::NoManager { .. }) => {
                if !told {
                    complain("lost the manager; waiting for it to come back");
                    told = true;
                }
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => {
                complain(&error.to_string());
                return Outcome::Failed;
            }
        }
    }
}

/// Shows all that is kept of one thing.
pub async fn history(api: &Api, object: &str, json: bool) -> Outcome {
    let events = api.get::<Vec<Event>>(&path(Some(object), Some(0), None)).await;
    let status = api.get::<Status>("/api/v1/ha/status").await;
    let (events, status) = match (events, status) {
        (Ok(events), Ok(status)) => (events, status),
        (Err(error), _) | (_, Err(error)) => {
            complain(&error.to_string());
            return Outcome::Failed;
        }
    };
    for event in &events {
        show(event, json);
    }
    if json {
        return Outcome::Done;
    }
    let resources = || status.groups.iter().flat_map(|group| &group.resources);
    let known = resources().any(|resource| resource.id.as_str() == object)
        || status.groups.iter().any(|group| group.id.as_str() == object)
        || status.hosts.iter().any(|host| host.id.as_str() == object);
    if events.is_empty() && !known {
        complain(&format!("'{object}' is no resource, group or host, and nothing is known of it"));
        return Outcome::Failed;
    }
    let about = |resource: &&crate::ha::status::ResourceStatus| {
        resource.id.as_str() == object
            || resource.failures.iter().any(|failure| failure.host.as_str() == object)
    };
    let mut first = true;
    for resource in resources().filter(about) {
        for failure in &resource.failures {
            if resource.id.as_str() != object && failure.host.as_str() != object {
                continue;
            }
            if first {
                say("\nFailures that still count:");
                first = false;
            }
            say(&format!(
                "{}  {} of {} on {}: {}",
                moment(failure.at),
                failure.action,
                resource.id,
                failure.host,
                one_line(&failure.what)
            ));
        }
    }
    if !first {
        say(&format!("`coordinatool-client ha clear {object}` forgets them"));
    }
    Outcome::Done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines() {
        let event = Event {
            at: 0,
            event: "failed".into(),
            object: "ost1".into(),
            host: Some("oss1".into()),
            by: "manager".into(),
            comment: Some("start: mount\nfailed".into()),
        };
        assert!(
            line(&event).ends_with("  failed          ost1 on oss1: start: mount; failed"),
            "{}",
            line(&event)
        );
        let event = Event { by: "root (uid 0)".into(), comment: None, host: None, ..event };
        assert!(line(&event).ends_with("  failed          ost1 (by root (uid 0))"), "{}", line(&event));
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(path(None, None, None), "/api/v1/ha/events");
        assert_eq!(path(Some("a&b"), Some(5), Some(2)), "/api/v1/ha/events?object=a%26b&since=5&limit=2");
    }
}
