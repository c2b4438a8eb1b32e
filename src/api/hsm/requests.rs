//! `GET /api/v1/hsm/requests`: all of them, at the reader's pace.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

use super::{Answer, Context, invalid};
use crate::hsm::listing::ListCursor;
use crate::hsm::views;
use crate::ops::{Request, Select};

/// Requests in one part.
const PART: usize = 512;
/// How long a reader may read nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which requests are wanted: as in a selection, and `state` by name.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    fid: Option<String>,
    cookie: Option<String>,
    hint: Option<String>,
    user: Option<u32>,
    mover: Option<String>,
    archive_id: Option<u32>,
    action: Option<String>,
    running: Option<bool>,
    state: Option<String>,
    limit: Option<u64>,
}

impl Wanted {
    fn select(&self) -> Result<views::Select, String> {
        let select = Select {
            fids: Select::fids(self.fid.as_deref())?,
            cookie: self.cookie.as_deref().map(str::parse).transpose()?,
            hint: self.hint.clone(),
            user: self.user,
            mover: self.mover.clone(),
            archive_id: self.archive_id,
            action: self.action.clone(),
            running: self.running,
            all: false,
        };
        select.to_core()
    }
}

/// `GET /api/v1/hsm/requests?...`: in no order, each at most once, one a line within the envelope.
pub async fn requests(State(context): State<Context>, Query(wanted): Query<Wanted>) -> Answer {
    let select = wanted.select().map_err(invalid)?;
    let known = ["queued", "oversized", "held", "limited", "settling", "running"];
    if let Some(state) = wanted.state.as_deref().filter(|state| !known.contains(state)) {
        return Err(invalid(format!("state: {state:?} is none of {}", known.join(", "))));
    }
    let (send, receive) = channel(2);
    tokio::spawn(async move {
        // Whoever asked is gone, or the daemon stops: then the answer is cut off, which HTTP tells.
        let _ = write(&context, &select, wanted.state.as_deref(), wanted.limit, &send).await;
    });
    let body = Body::from_stream(ReceiverStream::new(receive));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

type Chunk = Result<Bytes, std::io::Error>;

async fn write(
    context: &Context,
    select: &views::Select,
    state: Option<&str>,
    limit: Option<u64>,
    out: &Sender<Chunk>,
) -> Option<Infallible> {
    let send =
        async |chunk: Chunk| tokio::time::timeout(PATIENCE, out.send(chunk)).await.ok().and_then(Result::ok);
    send(Ok(Bytes::from_static(b"{\"errors\": [], \"response\": ["))).await?;
    let mut left = limit.unwrap_or(u64::MAX);
    let mut next = Some(ListCursor::default());
    let mut separator = "\n";
    while let Some(from) = next.take().filter(|_| left > 0) {
        let select = select.clone();
        let part =
            context.core.look(move |core, now| (core.list_requests(from, &select, PART), now.wall)).await;
        let Ok((part, now)) = part else {
            send(Err(std::io::Error::other("the daemon is stopping"))).await;
            return None;
        };
        let mut text = Vec::new();
        for request in part.requests.iter().map(|request| Request::new(request, now)) {
            if left == 0 || state.is_some_and(|state| state != request.state) {
                continue;
            }
            left -= 1;
            text.extend_from_slice(separator.as_bytes());
            separator = ",\n";
            // There are no maps with keys that are no text, which is all that could fail.
            serde_json::to_writer(&mut text, &request).ok()?;
        }
        if !text.is_empty() {
            send(Ok(Bytes::from(text))).await?;
        }
        next = part.next;
    }
    send(Ok(Bytes::from_static(b"\n], \"success\": true}"))).await?;
    None
}
