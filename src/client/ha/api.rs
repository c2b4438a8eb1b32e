//! HTTP with the manager, over its unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// No answer is longer: thousands of hosts with all that is known of them are a few MiB.
const MAX_ANSWER: usize = 256 << 20;
/// No event is longer.
const MAX_EVENT: usize = 1 << 20;
/// How long an answer may take that does not wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// What went wrong with a request.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody to ask.
    #[error("no manager listens on {}: {why}", socket.display())]
    NoManager {
        /// Where.
        socket: PathBuf,
        /// Why not.
        why: io::Error,
    },
    /// This user may not ask.
    #[error("cannot reach the manager on {}: {why}; the socket is for its owner, root as a rule", socket.display())]
    Forbidden {
        /// Where.
        socket: PathBuf,
        /// What the system says.
        why: io::Error,
    },
    /// The connection broke, or took too long.
    #[error("lost the manager: {0}")]
    Lost(String),
    /// The manager said no.
    #[error("{}", errors.join("\n"))]
    Refused {
        /// With this code.
        status: StatusCode,
        /// For these reasons, at least one.
        errors: Vec<String>,
    },
    /// The answer makes no sense.
    #[error("the manager's answer cannot be read: {0}")]
    Strange(String),
}

#[derive(serde::Deserialize)]
struct Envelope {
    #[serde(default)]
    errors: Vec<String>,
    #[serde(default)]
    response: Value,
}

/// The manager.
#[derive(Debug, Clone)]
pub struct Api {
    socket: PathBuf,
}

impl Api {
    /// The manager that listens there.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// `GET`, and what is in the envelope.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.envelope(Method::GET, path, None, PATIENCE).await
    }

    /// `GET` of something that is answered after `time` at the latest.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn get_waiting<T: DeserializeOwned>(&self, path: &str, time: Duration) -> Result<T, ApiError> {
        self.envelope(Method::GET, path, None, PATIENCE + time).await
    }

    /// `POST`, and what is in the envelope.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, ApiError> {
        self.envelope(Method::POST, path, Some(body), PATIENCE).await
    }

    /// `POST` of something that is answered after `time` at the latest.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn post_waiting<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
        time: Duration,
    ) -> Result<T, ApiError> {
        self.envelope(Method::POST, path, Some(body), PATIENCE + time).await
    }

    /// `GET` of an answer without an envelope: HALO's.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn get_plain<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let (status, body) = self.whole(Method::GET, path, None, PATIENCE).await?;
        if !status.is_success() {
            return Err(refusal(status, &body));
        }
        serde_json::from_slice(&body).map_err(|error| ApiError::Strange(error.to_string()))
    }

    async fn envelope<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<T, ApiError> {
        let (status, body) = self.whole(method, path, body, patience).await?;
        read(status, &body)
    }

    async fn whole(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<(StatusCode, Bytes), ApiError> {
        let whole = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    ApiError::Strange(format!("it is longer than {MAX_ANSWER} bytes"))
                } else {
                    ApiError::Lost(error.to_string())
                }
            })?;
            Ok((status, body.to_bytes()))
        };
        tokio::time::timeout(patience, whole)
            .await
            .unwrap_or_else(|_| Err(ApiError::Lost(format!("no answer for {} s", patience.as_secs()))))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, ApiError> {
        let kind = body.map(|_| "application/json");
        let body = body.map_or_else(Full::default, |body| Full::new(Bytes::from(body.to_string())));
        self.send_body(method, path, kind, body).await
    }

    async fn send_body<B>(
        &self,
        method: Method,
        path: &str,
        kind: Option<&str>,
        body: B,
    ) -> Result<Response<Incoming>, ApiError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let no_manager = |why: io::Error| {
            let socket = self.socket.clone();
            match why.kind() {
                io::ErrorKind::PermissionDenied => ApiError::Forbidden { socket, why },
                _ => ApiError::NoManager { socket, why },
            }
        };
        let stream = UnixStream::connect(&self.socket).await.map_err(no_manager)?;
        let lost = |error: hyper::Error| ApiError::Lost(error.to_string());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        // What it fails with is told to the request and the body as well.
        tokio::spawn(async move { drop(connection.await) });
        let mut request = Request::builder().method(method).uri(path).header("host", "coordinatool");
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let request = request.body(body).map_err(|error| ApiError::Strange(error.to_string()))?;
        sender.send_request(request).await.map_err(lost)
    }

    /// `POST` of a long text as it comes: an error in `parts` breaks it off.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn post_text<T: DeserializeOwned>(
        &self,
        path: &str,
        parts: mpsc::Receiver<io::Result<Bytes>>,
    ) -> Result<T, ApiError> {
        let response = self.send_body(Method::POST, path, Some("text/plain"), Parts(parts)).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| ApiError::Lost(error.to_string()))?.to_bytes();
        read(status, &body)
    }

    /// A stream of events (`text/event-stream`): calls `each` with the data of each of them, until the manager ends it.
    ///
    /// # Errors
    /// See [`ApiError`]; what `each` returns ends the stream as well.
    pub async fn follow(
        &self,
        path: &str,
        mut each: impl FnMut(&str) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let mut data = |line: &str| match line.strip_prefix("data:") {
            Some(data) => each(data.trim_start()),
            None => Ok(()),
        };
        self.lines(path, &mut data).await
    }

    /// A long answer: calls `each` with each of its lines as they come.
    ///
    /// # Errors
    /// See [`ApiError`]; what `each` returns ends it as well. An answer that is cut off is [`ApiError::Lost`].
    pub async fn lines(
        &self,
        path: &str,
        each: &mut dyn FnMut(&str) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let response = self.send(Method::GET, path, None).await?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            let text = Limited::new(body, MAX_EVENT).collect().await;
            return Err(refusal(status, &text.map(|text| text.to_bytes()).unwrap_or_default()));
        }
        let mut rest: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| ApiError::Lost(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            rest.extend_from_slice(&data);
            let mut begin = 0;
            while let Some(length) = memchr::memchr(b'\n', &rest[begin..]) {
                let line = String::from_utf8_lossy(&rest[begin..begin + length]);
                begin += length + 1;
                each(line.trim_end_matches('\r'))?;
            }
            rest.drain(..begin);
            if rest.len() > MAX_EVENT {
                return Err(ApiError::Strange(format!("a line is longer than {MAX_EVENT} bytes")));
            }
        }
        if rest.is_empty() { Ok(()) } else { each(&String::from_utf8_lossy(&rest)) }
    }
}

/// What is in the envelope.
fn read<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, ApiError> {
    if !status.is_success() {
        return Err(refusal(status, body));
    }
    let envelope: Envelope =
        serde_json::from_slice(body).map_err(|error| ApiError::Strange(error.to_string()))?;
    serde_json::from_value(envelope.response).map_err(|error| ApiError::Strange(error.to_string()))
}

/// A body that comes in parts.
#[derive(Debug)]
struct Parts(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Parts {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(cx).map(|part| part.map(|part| part.map(Frame::data)))
    }
}

/// The reasons in a refusal, whatever form they have.
fn refusal(status: StatusCode, body: &[u8]) -> ApiError {
    let mut errors = match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) => envelope.errors,
        Err(_) => {
            let text = String::from_utf8_lossy(&body[..body.len().min(4096)]);
            let text = text.trim();
            if text.is_empty() { Vec::new() } else { vec![text.to_owned()] }
        }
    };
    if errors.is_empty() {
        errors.push(format!("the manager answered {status}"));
    }
    ApiError::Refused { status, errors }
}

/// A name as a part of a path.
pub fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte))
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        assert_eq!(segment("tank/ost 1"), "tank%2Fost%201");
        assert_eq!(segment("ost-0.a_b~"), "ost-0.a_b~");
        assert_eq!(segment("ä?#"), "%C3%A4%3F%23");
    }

    #[test]
    fn reasons_are_found() {
        let errors = |body: &str| match refusal(StatusCode::CONFLICT, body.as_bytes()) {
            ApiError::Refused { errors, .. } => errors,
            other => panic!("{other}"),
        };
        assert_eq!(errors(r#"{"errors":["a","b"],"success":false}"#), ["a", "b"]);
        assert_eq!(errors("Partner is deactivated.\n"), ["Partner is deactivated."]);
        assert_eq!(errors(""), ["the manager answered 409 Conflict"]);
        assert_eq!(errors("{}"), ["the manager answered 409 Conflict"]);
    }
}
