//! HALO's own paths, with its JSON, its texts and its codes, for scripts that were written for it (HALO a0fa0b9).

use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Context;
use super::caller::Caller;
use super::envelope::code;
use crate::ha::command::{Command, Progress};
use crate::ha::state::Event;
use crate::ha::status::{GroupStatus, HostState, ResourceStatus, SeenState, Status};
use crate::server::ha::handle::{EventFilter, Order};

/// HALO's texts.
const NO_GROUP: &str = "Resource group not found.";
const OBSERVES: &str = "The specified command can only be used when running in managed mode.";
const NO_COMMAND: &str = "Unsupported command.";

/// What HALO answers: a code and a text, or nothing.
type Answer = Result<(), (StatusCode, String)>;

/// `GET /status` as HALO has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HaloStatus {
    resources: Vec<serde_json::Value>,
    hosts: Vec<serde_json::Value>,
    events: Vec<serde_json::Value>,
}

/// `GET /status`
pub async fn status(State(context): State<Context>) -> Response {
    // HALO gives all events, and leaves it to the reader to begin after the last `clear`.
    let filter = EventFilter { since: Some(i64::MIN), limit: usize::MAX, ..EventFilter::default() };
    let (status, events) = match (context.manager.status().await, context.manager.events(filter).await) {
        (Ok(status), Ok((events, _))) => (status, events),
        (Err(stopping), _) | (_, Err(stopping)) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, stopping.to_string()).into_response();
        }
    };
    Json(project(&status.status, &events)).into_response()
}

/// Our status in HALO's words.
pub fn project(status: &Status, events: &[Event]) -> HaloStatus {
    let resources =
        status.groups.iter().flat_map(|group| group.resources.iter().map(|one| projected(group, one)));
    let hosts = status.hosts.iter().map(|host| {
        let connected = host.state == HostState::Connected;
        json!({"id": host.id, "active": host.active, "connected": connected, "fenced": host.fenced})
    });
    let events = events.iter().map(|event| {
        json!({"timestamp": timestamp(event.at), "event": event.event, "obj_id": event.object, "comment": event.comment})
    });
    HaloStatus { resources: resources.collect(), hosts: hosts.collect(), events: events.collect() }
}

fn projected(group: &GroupStatus, resource: &ResourceStatus) -> serde_json::Value {
    let children = group.resources.iter().filter(|other| other.parent.as_ref() == Some(&resource.id));
    let seen = resource.on.iter().map(|(host, seen)| {
        let status = match seen.state {
            SeenState::Running | SeenState::Degraded | SeenState::Stopping => "Running",
            SeenState::Stopped | SeenState::Starting => "Stopped",
            SeenState::Error => "Error",
            SeenState::Unknown => "Unknown",
        };
        (host.to_string(), json!({"status": status, "comment": seen.comment}))
    });
    json!({
        "id": resource.id,
        "kind": resource.kind,
        "parameters": resource.parameters,
        "status": seen.collect::<serde_json::Map<_, _>>(),
        "managed": group.managed,
        "home_host": group.home,
        "failover_host": group.failover.first(),
        "dependents": children.map(|child| &child.id).collect::<Vec<_>>(),
        "exclusive": true,
    })
}

/// `2026-11-20 23:20:45.494048554`, in local time.
fn timestamp(nanos: i64) -> String {
    timestamp_in(nanos, jiff::tz::TimeZone::system())
}

fn timestamp_in(nanos: i64, zone: jiff::tz::TimeZone) -> String {
    let Ok(at) = jiff::Timestamp::from_nanosecond(i128::from(nanos)) else { return String::new() };
    at.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S.%9N").to_string()
}

/// The body of `PATCH /resources/{root}`.
#[derive(Debug, Clone, Deserialize)]
pub struct Managed {
    managed: bool,
    comment: Option<String>,
}

/// `PATCH /resources/{root}`
pub async fn resource(
    State(context): State<Context>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(root): Path<String>,
    Json(body): Json<Managed>,
) -> Answer {
    let snapshot = context.manager.status().await.map_err(internal)?;
    let status = &snapshot.status;
    let groups = &status.groups;
    if !groups.iter().any(|group| group.id.as_str() == root) {
        let is_child = groups.iter().flat_map(|group| &group.resources).any(|one| one.id.as_str() == root);
        let text = if is_child { "Specify root resource ID." } else { NO_GROUP };
        return Err((StatusCode::NOT_FOUND, text.to_owned()));
    }
    if !status.managed {
        return Err((StatusCode::CONFLICT, OBSERVES.to_owned()));
    }
    let group = root.as_str().into();
    let command = if body.managed { Command::Manage { group } } else { Command::Unmanage { group } };
    order(&context, &caller, command, body.comment, false).await
}

/// The body of `POST /hosts/{id}`.
#[derive(Debug, Clone, Deserialize)]
pub struct HostCommand {
    command: String,
    force: Option<bool>,
    comment: Option<String>,
}

/// `POST /hosts/{id}`
pub async fn host(
    State(context): State<Context>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(id): Path<String>,
    Json(body): Json<HostCommand>,
) -> Answer {
    let snapshot = context.manager.status().await.map_err(internal)?;
    let status = &snapshot.status;
    if !status.hosts.iter().any(|host| host.id.as_str() == id) {
        return Err((StatusCode::NOT_FOUND, "Host not found.".to_owned()));
    }
    let host = id.as_str().into();
    let force = body.force.unwrap_or(false);
    let (command, wait) = match body.command.as_str() {
        "failback" => (Command::Failback { host }, false),
        // HALO answers when the host is off.
        "fence" => (Command::Fence { host, force }, true),
        "activate" => (Command::Activate { host }, false),
        "deactivate" => (Command::Deactivate { host, force }, false),
        "reset" => (Command::Reset { host }, false),
        _ => return Err((StatusCode::BAD_REQUEST, NO_COMMAND.to_owned())),
    };
    if !status.managed {
        return Err((StatusCode::CONFLICT, OBSERVES.to_owned()));
    }
    order(&context, &caller, command, body.comment, wait).await
}

/// `POST /clear_events`
pub async fn clear_events(
    State(context): State<Context>,
    ConnectInfo(caller): ConnectInfo<Caller>,
) -> Answer {
    order(&context, &caller, Command::ClearEvents, None, false).await
}

fn internal(error: impl ToString) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

async fn order(
    context: &Context,
    caller: &Caller,
    command: Command,
    reason: Option<String>,
    wait: bool,
) -> Answer {
    let order = Order { command, by: caller.to_string(), reason, dry_run: false };
    let answer = context.manager.order(order).await.map_err(internal)?;
    let accepted = answer.map_err(|denied| (code(denied.kind), denied.message))?;
    let Some(id) = accepted.command.filter(|_| wait) else { return Ok(()) };
    let mut changes = context.manager.changes();
    loop {
        let Some(command) = context.manager.command(id).await.map_err(internal)? else { return Ok(()) };
        match command.progress {
            Progress::Running { .. } => {}
            Progress::Done { .. } => return Ok(()),
            Progress::Failed { reason } => return Err((StatusCode::CONFLICT, reason)),
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), changes.changed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_halo_does() {
        for (nanos, text) in [
            (0, "1970-01-01 00:00:00.000000000"),
            (1_763_680_845_494_048_554, "2025-11-20 23:20:45.494048554"),
            (951_782_400_000_000_001, "2000-02-29 00:00:00.000000001"),
            (-1, "1969-12-31 23:59:59.999999999"),
        ] {
            assert_eq!(timestamp_in(nanos, jiff::tz::TimeZone::UTC), text);
        }
    }
}
