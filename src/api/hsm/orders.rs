//! What changes something.

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::super::caller::Caller;
use super::super::envelope::{Problem, good};
use super::{Context, body};
use crate::hsm::event::Lock;
use crate::hsm::{OperatorReply, Order};

type Answer = Result<Response, Problem>;

/// What came of an order that has nothing more to say.
fn plain(reply: OperatorReply) -> Answer {
    match reply {
        OperatorReply::Done => Ok(good(StatusCode::OK, ())),
        OperatorReply::Refused(why) => Err(Problem::new(StatusCode::CONFLICT, why)),
    }
}

/// `lock`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockBody {
    lock: LockWord,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LockWord {
    Unlocked,
    Locked,
    Quit,
}

/// `POST /api/v1/hsm/lock`: `{"lock": "unlocked"|"locked"|"quit"}`.
pub async fn lock(
    State(context): State<Context>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    bytes: Bytes,
) -> Answer {
    let lock = match body::parse::<LockBody>(&bytes)?.lock {
        LockWord::Unlocked => Lock::Unlocked,
        LockWord::Locked => Lock::Locked,
        LockWord::Quit => Lock::LockedQuit,
    };
    plain(context.core.order(caller.to_string(), Order::Lock(lock)).await?)
}
