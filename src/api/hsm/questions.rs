//! What changes nothing: why, when, who, how much.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::super::envelope::{Problem, good};
use super::{Answer, Context, invalid};
use crate::hsm::views::{Find, HistoryQuery};
use crate::hsm::{Coordinator, Now, RequestKey};
use crate::ops::{Cookie, DeadLetter, Ended, Explanation, FidText, FileReport, Mover, Select, Top};

/// Ended requests that are shown unless more are asked for.
const USUAL_HISTORY: usize = 100;
/// The most ended requests in one answer.
const MOST_HISTORY: usize = 10_000;
/// Ended requests of a file that are shown with what is there.
const FILE_HISTORY: usize = 20;
/// Tags that `top` shows unless told.
const USUAL_TAGS: usize = 20;
const MOST_TAGS: usize = 1000;

/// Which requests are to be explained.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    fid: String,
    cookie: Option<String>,
}

/// `GET /api/v1/hsm/explain?fid=&cookie=`: what is there of a file and why it is where it is, and what ended.
pub async fn explain(
    State(context): State<Context>,
    Query(query): Query<ExplainQuery>,
) -> Result<Response, Problem> {
    let fid: FidText = query.fid.parse().map_err(invalid)?;
    let cookie: Option<Cookie> = query.cookie.map(|cookie| cookie.parse()).transpose().map_err(invalid)?;
    let find = match cookie {
        Some(cookie) => Find::Request(RequestKey { cookie: cookie.0, fid: fid.0 }),
        None => Find::File(fid.0),
    };
    let of_file = HistoryQuery { fid: Some(fid.0), most: FILE_HISTORY, ..HistoryQuery::default() };
    let look = move |core: &Coordinator, now: Now| (core.explain(&find), core.history(&of_file), now);
    let (explanations, history, now) = context.core.look(look).await?;
    let report = FileReport {
        fid,
        now: now.wall.0,
        requests: explanations.iter().map(|of| Explanation::new(of, now.wall)).collect(),
        history: history.iter().map(Ended::from).collect(),
    };
    Ok(good(StatusCode::OK, report))
}

/// Which ended requests are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WantedHistory {
    fid: Option<String>,
    mover: Option<String>,
    status: Option<i32>,
    failed: bool,
    limit: Option<usize>,
}

/// `GET /api/v1/hsm/history?fid=&mover=&status=&failed=&limit=`: requests that ended, the last first.
pub async fn history(State(context): State<Context>, Query(wanted): Query<WantedHistory>) -> Answer {
    let fid = wanted.fid.map(|fid| fid.parse::<FidText>()).transpose().map_err(invalid)?;
    let most = wanted.limit.unwrap_or(USUAL_HISTORY);
    if most == 0 || most > MOST_HISTORY {
        return Err(invalid(format!("limit: 1 to {MOST_HISTORY}")));
    }
    let query = HistoryQuery {
        fid: fid.map(|fid| fid.0),
        mover: wanted.mover,
        status: wanted.status,
        failed: wanted.failed,
        most,
    };
    let ended = context.core.look(move |core, _| core.history(&query)).await?;
    let ended: Vec<Ended> = ended.iter().map(Ended::from).collect();
    Ok(good(StatusCode::OK, ended))
}

/// How much `top` shows.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WantedTop {
    tags: Option<usize>,
}

/// `GET /api/v1/hsm/top?tags=`: what is going on, by action and archive, mover, tag and
/// owner; at most so many tags and owners.
pub async fn top(State(context): State<Context>, Query(wanted): Query<WantedTop>) -> Answer {
    let tags = wanted.tags.unwrap_or(USUAL_TAGS).min(MOST_TAGS);
    let walk = context.walk(tags).await?;
    Ok(good(StatusCode::OK, Top::from(&walk.top)))
}

/// `GET /api/v1/hsm/movers`
pub async fn movers(State(context): State<Context>) -> Answer {
    let walk = context.walk(0).await?;
    let movers: Vec<Mover> = walk.movers.iter().map(Mover::from).collect();
    Ok(good(StatusCode::OK, movers))
}

/// Which failed requests are wanted: as in a selection. With `trying` also those for which there is a request again.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WantedLetters {
    fid: Option<String>,
    cookie: Option<String>,
    hint: Option<String>,
    mover: Option<String>,
    archive_id: Option<u32>,
    action: Option<String>,
    trying: bool,
}

/// `GET /api/v1/hsm/dead-letters?...`: requests that failed and may be asked for again, the oldest failure first.
pub async fn dead_letters(State(context): State<Context>, Query(wanted): Query<WantedLetters>) -> Answer {
    let select = Select {
        fids: Select::fids(wanted.fid.as_deref()).map_err(invalid)?,
        cookie: wanted.cookie.as_deref().map(str::parse).transpose().map_err(invalid)?,
        hint: wanted.hint,
        mover: wanted.mover,
        archive_id: wanted.archive_id,
        action: wanted.action,
        ..Select::default()
    };
    let select = select.to_core().map_err(invalid)?;
    let mut letters: Vec<DeadLetter> = Vec::new();
    let mut after = Some(0);
    while let Some(from) = after {
        let select = select.clone();
        let part = move |core: &Coordinator, _| core.letters_part(from, &select, wanted.trying);
        let (part, next) = context.core.look(part).await?;
        letters.extend(part.iter().map(DeadLetter::from));
        after = next;
    }
    Ok(good(StatusCode::OK, letters))
}
