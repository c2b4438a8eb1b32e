//! What changes something. Every answer comes when what was decided is durable.

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::super::caller::Caller;
use super::super::envelope::{Problem, good};
use super::{Answer, Context, body, invalid};
use crate::hsm::{OperatorReply, Order, Wall};
use crate::ops::{CancelReport, Lock, Select};

/// Requests that a cancel shows unless told.
const USUAL_EXAMPLES: usize = 20;
const MOST_EXAMPLES: usize = 1000;
/// Longest id of a mover in an order, in bytes.
const MAX_ID: usize = 255;

/// Gives an order and puts what came of it into an answer.
async fn order(context: &Context, caller: &Caller, order: Order) -> Answer {
    let reply = context.core.order(caller.to_string(), order).await?;
    let now = context.core.look(|_, now| now.wall).await?;
    answer(reply, now)
}

/// What came of an order, as an answer.
pub(super) fn answer(reply: OperatorReply, now: Wall) -> Answer {
    match reply {
        OperatorReply::Done => Ok(good(StatusCode::OK, ())),
        OperatorReply::Refused(why) => Err(Problem::new(StatusCode::CONFLICT, why)),
        OperatorReply::Cancel(report) => Ok(good(StatusCode::OK, CancelReport::new(&report, now))),
        OperatorReply::Letters(count) => Ok(good(StatusCode::OK, json!({"selected": count}))),
        OperatorReply::Reconciled(report) => Ok(good(StatusCode::OK, report)),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockBody {
    lock: Lock,
}

/// `POST /api/v1/hsm/lock`: `{"lock": "unlocked"|"locked"|"quit"}`.
pub async fn lock(
    State(context): State<Context>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    bytes: Bytes,
) -> Answer {
    let lock = body::parse::<LockBody>(&bytes)?.lock;
    order(&context, &caller, Order::Lock(lock.into())).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CancelBody {
    select: Select,
    preview: bool,
    examples: Option<usize>,
}

/// `POST /api/v1/hsm/cancel`: `{"select": {...}, "preview": true, "examples": 20}`.
pub async fn cancel(
    State(context): State<Context>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    bytes: Bytes,
) -> Answer {
    let body: CancelBody = body::parse(&bytes)?;
    let select = selection(&body.select, body.preview)?;
    let examples = body.examples.unwrap_or(USUAL_EXAMPLES).min(MOST_EXAMPLES);
    order(&context, &caller, Order::Cancel { select, preview: body.preview, examples }).await
}

/// What is meant; everything only where that was said, or nothing is done.
fn selection(select: &Select, harmless: bool) -> Result<crate::hsm::views::Select, Problem> {
    if select.all && !select.is_everything() {
        return Err(invalid("all: cannot be with anything that leaves something out"));
    }
    if select.is_everything() && !select.all && !harmless {
        return Err(invalid("select: nothing is selected; {\"all\": true} means all requests"));
    }
    select.to_core().map_err(invalid)
}

/// How much a mover may run at the same time; `null` ends the limit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitBody {
    // So that it has to be said.
    #[serde(deserialize_with = "Option::deserialize")]
    max: Option<u32>,
}

/// `POST /api/v1/hsm/movers/{id}/{verb}`: `drain`, `undrain`, `release`, and `limit` with `{"max": N}`.
pub async fn mover(
    State(context): State<Context>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path((mover, verb)): Path<(String, String)>,
    bytes: Bytes,
) -> Answer {
    let most = if verb == "limit" {
        body::parse::<LimitBody>(&bytes)?.max
    } else {
        body::nothing(&bytes)?;
        None
    };
    if mover.is_empty() || mover.len() > MAX_ID {
        return Err(invalid(format!("the id of a mover has 1 to {MAX_ID} bytes")));
    }
    let wanted = match verb.as_str() {
        "drain" => Order::Drain { mover, on: true },
        "undrain" => Order::Drain { mover, on: false },
        "limit" => Order::Limit { mover, most },
        "release" => Order::Release { mover },
        other => {
            let error = format!("there is no {other:?} here, but drain, undrain, limit, release");
            return Err(Problem::new(StatusCode::NOT_FOUND, error));
        }
    };
    order(&context, &caller, wanted).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LettersBody {
    select: Select,
}

/// `POST /api/v1/hsm/dead-letters/{verb}`: `retry`, `forget`; `{"select": {...}}`.
pub async fn letters(
    State(context): State<Context>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(verb): Path<String>,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let body: LettersBody = body::parse(&bytes)?;
    let select = selection(&body.select, false)?;
    let wanted = match verb.as_str() {
        "retry" => Order::Retry { select },
        "forget" => Order::Forget { select },
        other => {
            let error = format!("there is no {other:?} here, but retry, forget");
            return Err(Problem::new(StatusCode::NOT_FOUND, error));
        }
    };
    order(&context, &caller, wanted).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_must_be_said() {
        let nothing = Select::default();
        let all = Select { all: true, ..Select::default() };
        let some = Select { archive_id: Some(2), ..Select::default() };
        let both = Select { all: true, ..some.clone() };
        assert!(selection(&nothing, false).unwrap_err().errors[0].contains("all"));
        assert!(selection(&nothing, true).is_ok() && selection(&all, false).is_ok());
        assert_eq!(selection(&some, false).unwrap().archive_id, Some(2));
        assert!(selection(&both, true).is_err());
    }
}
