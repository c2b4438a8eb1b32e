//! The form of all our answers: `{"errors": [], "response": ..., "success": true}`.

use axum::Json;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::ha::command::{Denied, DeniedKind};
use crate::server::ha::handle::Stopping;

/// An answer that is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP code.
    pub code: StatusCode,
    /// What is wrong.
    pub errors: Vec<String>,
}

#[derive(Serialize)]
struct Envelope<T> {
    errors: Vec<String>,
    response: Option<T>,
    success: bool,
}

/// A good answer.
pub fn good<T: Serialize>(code: StatusCode, response: T) -> Response {
    (code, Json(Envelope { errors: Vec::new(), response: Some(response), success: true })).into_response()
}

/// A good answer as it is written.
pub fn envelope<T: Serialize>(response: T) -> Vec<u8> {
    // What is asked for has no maps with keys that are no text, which is all that could fail.
    serde_json::to_vec(&Envelope { errors: Vec::new(), response: Some(response), success: true })
        .unwrap_or_default()
}

/// The same once it is written.
pub fn written(envelope: &[u8]) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], envelope.to_vec()).into_response()
}

impl Problem {
    /// With one error.
    pub fn new(code: StatusCode, error: impl ToString) -> Self {
        Self { code, errors: vec![error.to_string()] }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let envelope = Envelope::<()> { errors: self.errors, response: None, success: false };
        (self.code, Json(envelope)).into_response()
    }
}

impl From<Stopping> for Problem {
    fn from(stopping: Stopping) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, stopping)
    }
}

/// The code for a refusal.
pub fn code(kind: DeniedKind) -> StatusCode {
    match kind {
        DeniedKind::NotFound => StatusCode::NOT_FOUND,
        DeniedKind::Conflict => StatusCode::CONFLICT,
        DeniedKind::Invalid => StatusCode::BAD_REQUEST,
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        Self::new(code(denied.kind), denied.message)
    }
}

/// For methods that a path does not know.
pub async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let error =
        format!("{} does not take {method} (GET reads, POST acts; see GET /api/v1/openapi.json)", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, error)
}

/// For paths that are nobody's.
pub async fn no_such_path(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("there is no {} (GET /api/v1/openapi.json lists what there is)", uri.path()),
    )
}
