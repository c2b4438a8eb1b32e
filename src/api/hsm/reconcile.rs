//! `POST /api/v1/hsm/reconcile`: a listing of the MDTs' requests, compared with what is here while it comes in.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tokio_stream::StreamExt;

use super::super::caller::Caller;
use super::super::envelope::Problem;
use super::{Answer, Context, invalid, orders};
use crate::hsm::reconcile::{Listing, Reconcile};
use crate::hsm::{AskId, OperatorReply, Wall};
use crate::server::api::{Loop, Stopping};
use crate::server::reconcile::{Feed, Whose};

/// How long nothing may come of a listing.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest listing, in bytes: ten million requests.
const MOST: u64 = 4 << 30;

/// What is known of the listing.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// Where it comes from.
    source: Option<String>,
    /// It shows all MDTs.
    all_mdts: bool,
    /// What may be adopted: `own`, `all`, `none`.
    adopt: Option<String>,
}

/// `POST /api/v1/hsm/reconcile?source=&all_mdts=&adopt=` with what `lctl get_param mdt.*.hsm.actions` (or `active_requests`)
/// prints as its body. The answer comes when the MDTs have been asked about all differences.
pub async fn reconcile(
    State(context): State<Context>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Query(wanted): Query<Wanted>,
    body: Body,
) -> Answer {
    let told = match wanted.adopt.as_deref() {
        None => None,
        Some("own") => Some(Whose::Own),
        Some("all") => Some(Whose::All),
        Some("none") => Some(Whose::None),
        Some(other) => return Err(invalid(format!("adopt: {other:?} is none of own, all, none"))),
    };
    let source: String = wanted.source.unwrap_or_default().chars().take(100).collect();
    let source = if source.is_empty() { caller.to_string() } else { format!("{source}, {caller}") };
    let intake = context.intake.clone();
    let begin = move || {
        let (mut listing, feed) = intake.begin(&source);
        listing.all_mdts = wanted.all_mdts;
        if let Some(whose) = told {
            listing.adopt = intake.adopt(whose);
        }
        (listing, feed)
    };
    let internal = |error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error);
    let (listing, reader) = tokio::task::spawn_blocking(begin).await.map_err(internal)?;
    // Of its own, so that it comes to an end also when whoever sends it goes away.
    let task = tokio::spawn(async move { feed(&context.core, reader, listing, body).await });
    let reply = task.await.map_err(internal)??;
    // Nothing in this answer has an age.
    orders::answer(reply, Wall(0))
}

async fn feed(core: &Loop, mut feed: Feed, listing: Listing, body: Body) -> Result<OperatorReply, Stopping> {
    let (ask, reply) = core.with(move |shell| shell.reconcile(listing)).await?;
    let mut stream = body.into_data_stream();
    let mut length: u64 = 0;
    loop {
        let part: Bytes = match tokio::time::timeout(PATIENCE, stream.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(part))) => part,
            Ok(Some(Err(error))) => {
                return abort(core, ask, format!("the listing is broken off: {error}"), reply).await;
            }
            Err(_) => {
                let why = format!("nothing of the listing came for {} s", PATIENCE.as_secs());
                return abort(core, ask, why, reply).await;
            }
        };
        length += part.len() as u64;
        if length > MOST {
            return abort(core, ask, format!("the listing is longer than {MOST} bytes"), reply).await;
        }
        for next in feed.push(&part) {
            step(core, ask, next).await?;
        }
    }
    let (last, _) = feed.finish();
    for next in last {
        step(core, ask, next).await?;
    }
    reply.await.map_err(|_| Stopping)
}

async fn step(core: &Loop, ask: AskId, step: Reconcile) -> Result<(), Stopping> {
    core.with(move |shell| shell.reconcile_step(ask, step)).await
}

async fn abort(
    core: &Loop,
    ask: AskId,
    why: String,
    reply: tokio::sync::oneshot::Receiver<OperatorReply>,
) -> Result<OperatorReply, Stopping> {
    step(core, ask, Reconcile::Abort(why)).await?;
    reply.await.map_err(|_| Stopping)
}
