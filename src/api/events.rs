//! `/api/v1/ha/events`: what happened, as a list and as a stream.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::Context;
use super::envelope::{Problem, good};
use crate::ha::state::record::EVENTS;
use crate::server::ha::handle::EventFilter;

/// Which events are wanted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    object: Option<String>,
    since: Option<i64>,
    limit: Option<usize>,
}

impl Wanted {
    fn filter(self) -> EventFilter {
        EventFilter {
            since: self.since,
            object: self.object,
            after: None,
            limit: self.limit.unwrap_or(EVENTS),
        }
    }
}

/// `GET /api/v1/ha/events?object=&since=&limit=`: oldest first; `since` in nanoseconds since the epoch.
pub async fn list(State(context): State<Context>, Query(wanted): Query<Wanted>) -> Result<Response, Problem> {
    Ok(good(StatusCode::OK, context.manager.events(wanted.filter()).await?.0))
}

/// `GET /api/v1/ha/events/stream`: the same as server-sent events, and all later ones as they happen.
pub async fn stream(State(context): State<Context>, Query(wanted): Query<Wanted>) -> Response {
    let mut filter = wanted.filter();
    let manager = context.manager;
    context.followers.answer(|follower| async move {
        let mut changes = manager.changes();
        loop {
            let Ok((events, recorded)) = manager.events(filter.clone()).await else { return };
            (filter.after, filter.since, filter.limit) = (Some(recorded), None, usize::MAX);
            for event in &events {
                // Whoever listened is gone.
                if !follower.tell(event).await {
                    return;
                }
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = follower.gone() => return,
            }
        }
    })
}
