//! Bodies of requests.

use axum::body::Bytes;
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::super::envelope::Problem;

/// Reads a body of JSON; an empty one is an object without members.
pub fn parse<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Problem> {
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(text)
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the body: {error}")))
}

/// For orders that have all they need in their path.
pub fn nothing(bytes: &Bytes) -> Result<(), Problem> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    parse::<Nothing>(bytes).map(|_| ())
}
