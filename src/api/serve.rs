//! Connections of clients: so many at once, and none of them for ever without saying anything.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::caller::{self, Caller, Groups};
use super::envelope::Problem;
use super::stall::Stalling;
use crate::server::listener::Complaint;

/// Clients at once. Others wait until one of these is gone.
const MAX_CLIENTS: usize = 256;
/// Time for the head of a request, and between requests.
const HEAD: Duration = Duration::from_secs(10);
/// Time for a body.
const BODY: Duration = Duration::from_secs(10);
/// Largest body of a request, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// Has the bodies of requests read, and found to be short, before anything else happens.
pub fn with_whole_bodies<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.layer(middleware::from_fn(with_whole_body))
}

/// Where clients come in, so many at once.
struct Door {
    slots: Arc<Semaphore>,
    complaint: Complaint,
}

impl Door {
    fn new() -> Self {
        Self { slots: Arc::new(Semaphore::new(MAX_CLIENTS)), complaint: Complaint::default() }
    }

    /// The next client, as soon as there is room for one, with the slot that it has while it is here.
    async fn next<S, A, Accepted>(&self, accept: impl Fn() -> Accepted) -> Option<(S, OwnedSemaphorePermit)>
    where
        Accepted: Future<Output = io::Result<(S, A)>>,
    {
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        loop {
            match accept().await {
                Ok((stream, _)) => return Some((stream, slot)),
                Err(error) => {
                    self.complaint.log(format_args!("the API cannot accept a client: {error}"));
                    // Out of descriptors, for instance: it will not be better at once.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Answers requests for as long as the process runs, those that the caller may make.
pub async fn serve(socket: UnixListener, router: Router, groups: Groups) {
    let router = router.layer(middleware::from_fn(caller::guard));
    let door = Door::new();
    while let Some((stream, slot)) = door.next(|| socket.accept()).await {
        let router = router.clone();
        tokio::task::spawn_local(async move {
            let caller = Caller::of(&stream, groups).await;
            answer(stream, router.layer(Extension(ConnectInfo(caller)))).await;
            drop(slot);
        });
    }
}

/// The same over TCP, without a caller.
pub async fn serve_tcp(socket: TcpListener, router: Router) {
    let door = Door::new();
    while let Some((stream, slot)) = door.next(|| socket.accept()).await {
        let router = router.clone();
        tokio::task::spawn_local(async move {
            answer(stream, router).await;
            drop(slot);
        });
    }
}

async fn answer<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let connection =
        server.serve_connection(TokioIo::new(Stalling::new(stream)), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        tracing::debug!("a client of the API: {error}");
    }
}

/// Reads the body before anything else happens.
async fn with_whole_body(request: Request, next: Next) -> Result<Response, Infallible> {
    let (head, body) = request.into_parts();
    let read = tokio::time::timeout(BODY, axum::body::to_bytes(body, MAX_BODY)).await;
    Ok(match read {
        Ok(Ok(bytes)) => next.run(Request::from_parts(head, Body::from(bytes))).await,
        Ok(Err(_)) => {
            let error = format!("the body is longer than {MAX_BODY} bytes, or broken off");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error).into_response()
        }
        Err(_) => {
            let error = format!("the body did not come within {BODY:?}");
            Problem::new(StatusCode::REQUEST_TIMEOUT, error).into_response()
        }
    })
}
