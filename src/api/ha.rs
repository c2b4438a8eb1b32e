//! `/api/v1/ha`: status, commands and how far they are.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::Context;
use super::caller::Caller;
use super::envelope::{Problem, envelope, good, written};
use crate::ha::command::{Command, PowerCommand, Progress};
use crate::ha::ids::CommandId;
use crate::server::ha::handle::Order;
use crate::server::ha::reload;

type Answer = Result<Response, Problem>;

/// What may be said with a command. All of it is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Body {
    /// Why, for the history.
    pub reason: Option<String>,
    /// Only say what would happen.
    pub dry_run: bool,
    /// Although something speaks against it (`deactivate`, `fence`).
    pub force: bool,
    /// Where to (`move`).
    pub to: Option<String>,
    /// For how long; 0 ends it (`maintenance`).
    pub seconds: Option<u64>,
    /// What to do with the power (`power`).
    pub action: Option<PowerCommand>,
    /// A group or resource (`start`, `stop`, `clear`), or a host (`clear`).
    pub target: Option<String>,
}

/// Longest reason that is kept, in bytes.
const MAX_REASON: usize = 1000;
/// Longest maintenance: a year.
const MAX_MAINTENANCE: u64 = 366 * 24 * 3600;

impl Body {
    fn parse(bytes: &Bytes) -> Result<Self, Problem> {
        let wrong =
            |error: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the body: {error}"));
        let body: Self = if bytes.is_empty() {
            Self::default()
        } else {
            serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?
        };
        if body.reason.as_ref().is_some_and(|reason| reason.len() > MAX_REASON) {
            return Err(wrong(format!("reason: more than {MAX_REASON} bytes")));
        }
        if body.seconds.is_some_and(|seconds| seconds > MAX_MAINTENANCE) {
            return Err(wrong(format!("seconds: more than {MAX_MAINTENANCE}")));
        }
        Ok(body)
    }

    fn time(&self) -> Result<Duration, Problem> {
        let missing = || Problem::new(StatusCode::BAD_REQUEST, "seconds: for how long? (0 ends it)");
        self.seconds.map(Duration::from_secs).ok_or_else(missing)
    }

    fn target(&self, verb: &str) -> Result<String, Problem> {
        let missing = || Problem::new(StatusCode::BAD_REQUEST, format!("target: {verb} what?"));
        self.target.clone().ok_or_else(missing)
    }
}

fn no_such_verb(verb: &str, known: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no {verb:?} here, but {known}"))
}

async fn order(context: &Context, caller: &Caller, body: Body, command: Command) -> Answer {
    let Body { reason, dry_run, .. } = body;
    let order = Order { command, by: caller.to_string(), reason, dry_run };
    let accepted = context.manager.order(order).await??;
    Ok(good(if dry_run { StatusCode::OK } else { StatusCode::ACCEPTED }, accepted))
}

/// `GET /api/v1/ha/status`
pub async fn status(State(context): State<Context>) -> Answer {
    let snapshot = context.manager.status().await?;
    Ok(written(snapshot.written(|status| envelope(status))))
}

/// How long to wait for a change.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Waiting {
    wait: Option<u64>,
}

/// `GET /api/v1/ha/commands/{id}`: with `wait`, as soon as it has changed or ended, at the latest after that many seconds.
pub async fn command(
    State(context): State<Context>,
    Path(id): Path<u64>,
    Query(waiting): Query<Waiting>,
) -> Answer {
    let id = CommandId(id);
    let missing =
        || Problem::new(StatusCode::NOT_FOUND, format!("there is no command {id}, or it ended long ago"));
    let mut changes = context.manager.changes();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(waiting.wait.unwrap_or(0).min(60));
    let first = context.manager.command(id).await?.ok_or_else(missing)?;
    let mut present = first.clone();
    while matches!(present.progress, Progress::Running { .. }) && present.progress == first.progress {
        // What a command waits for may change without any record of it.
        let look = (tokio::time::Instant::now() + Duration::from_millis(250)).min(deadline);
        match tokio::time::timeout_at(look, changes.changed()).await {
            Ok(Err(_)) => break,
            Err(_) if look >= deadline => break,
            Ok(Ok(())) | Err(_) => {}
        }
        present = context.manager.command(id).await?.ok_or_else(missing)?;
    }
    Ok(good(StatusCode::OK, present))
}

/// `POST /api/v1/ha/groups/{id}/{verb}`
pub async fn group(
    State(context): State<Context>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path((id, verb)): Path<(String, String)>,
    bytes: Bytes,
) -> Answer {
    let body = Body::parse(&bytes)?;
    let group = id.as_str().into();
    let command = match verb.as_str() {
        "manage" => Command::Manage { group },
        "unmanage" => Command::Unmanage { group },
        "move" => Command::Move { group, to: body.to.as_deref().map(Into::into) },
        "start" => Command::Start { target: id },
        "stop" => Command::Stop { target: id },
        "clear" => Command::Clear { target: Some(id) },
        "maintenance" => Command::Maintenance { target: Some(id), time: body.time()? },
        other => return Err(no_such_verb(other, "manage, unmanage, move, start, stop, clear, maintenance")),
    };
    order(&context, &caller, body, command).await
}

/// `POST /api/v1/ha/hosts/{id}/{verb}`
pub async fn host(
    State(context): State<Context>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path((id, verb)): Path<(String, String)>,
    bytes: Bytes,
) -> Answer {
    let body = Body::parse(&bytes)?;
    let host = id.as_str().into();
    let command = match verb.as_str() {
        "activate" => Command::Activate { host },
        "deactivate" => Command::Deactivate { host, force: body.force },
        "failback" => Command::Failback { host },
        "fence" => Command::Fence { host, force: body.force },
        "reset" => Command::Reset { host },
        "power" => {
            let missing = || Problem::new(StatusCode::BAD_REQUEST, "action: \"on\", \"off\" or \"status\"?");
            Command::Power { host, action: body.action.ok_or_else(missing)? }
        }
        "confirm_off" => Command::ConfirmOff { host },
        "clear" => Command::Clear { target: Some(id) },
        "maintenance" => Command::Maintenance { target: Some(id), time: body.time()? },
        other => {
            let known =
                "activate, deactivate, failback, fence, reset, power, confirm_off, clear, maintenance";
            return Err(no_such_verb(other, known));
        }
    };
    order(&context, &caller, body, command).await
}

/// `POST /api/v1/ha/{verb}`
pub async fn cluster(
    State(context): State<Context>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(verb): Path<String>,
    bytes: Bytes,
) -> Answer {
    let body = Body::parse(&bytes)?;
    let command = match verb.as_str() {
        "start" => Command::Start { target: body.target("start")? },
        "stop" => Command::Stop { target: body.target("stop")? },
        "clear" => Command::Clear { target: body.target.clone() },
        "maintenance" => Command::Maintenance { target: body.target.clone(), time: body.time()? },
        "takeover" => Command::Takeover,
        "clear_events" => Command::ClearEvents,
        "reload" => return load_again(&context, &caller, body).await,
        other => {
            let known = "start, stop, clear, maintenance, takeover, clear_events, reload";
            return Err(no_such_verb(other, known));
        }
    };
    order(&context, &caller, body, command).await
}

async fn load_again(context: &Context, caller: &Caller, body: Body) -> Answer {
    let Body { reason, dry_run, .. } = body;
    let (manager, file) = (&context.manager, &context.config_file);
    match reload::reload(manager, file, caller.to_string(), reason, dry_run).await {
        Ok(reloaded) => Ok(good(if dry_run { StatusCode::OK } else { StatusCode::ACCEPTED }, reloaded)),
        Err(errors) => Err(Problem { code: StatusCode::UNPROCESSABLE_ENTITY, errors }),
    }
}
