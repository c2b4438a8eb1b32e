//! `GET /api/v1/hsm/status`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::super::envelope::{Problem, good};
use super::Context;
use crate::ops::{Counts, Status};

/// Everything at this moment, requests themselves left out.
pub async fn status(State(context): State<Context>) -> Result<Response, Problem> {
    let (counters, overview) = context.core.look(|core, now| (core.counters(), core.overview(now))).await?;
    let status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        fsname: context.fsname.to_string(),
        now: overview.now,
        lock: overview.lock.into(),
        queued: Counts::from(counters.pending),
        running: Counts::from(counters.running),
        done: Counts::from(counters.done),
        counters: counters.into(),
    };
    Ok(good(StatusCode::OK, status))
}
