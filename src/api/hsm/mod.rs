//! The HTTP API of the HSM role: `/api/v1/hsm` and `/metrics`.
//!
//! It runs on a thread of its own and asks the daemon's loop for small pieces of work ([`Loop`]), so that no client of it
//! can delay a mover. `status` and `questions` show, `orders` act, `metrics` is for Prometheus.

mod body;
pub mod events;
mod metrics;
mod openapi;
mod orders;
mod page;
mod questions;
mod reconcile;
mod requests;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};

use super::caller::Groups;
use super::envelope::{self, Problem};
use super::serve;
use crate::hsm::{Coordinator, TopWalk};
use crate::server::api::{Loop, Stopping};
use crate::server::reconcile::Intake;

/// What every request may need.
#[derive(Debug, Clone)]
pub struct Context {
    /// Takes listings of the MDTs.
    pub intake: Intake,
    /// The way to the coordinator.
    pub core: Loop,
    /// Name of the file system.
    pub fsname: Arc<str>,
    /// What keeps the requests; empty for nothing.
    pub store: Arc<str>,
    /// When the daemon started, in nanoseconds since the epoch.
    pub started: i64,
    /// Those who follow what happens.
    pub follow: Arc<events::Follow>,
}

type Answer = Result<Response, Problem>;

/// What was asked for cannot be.
fn invalid(error: impl ToString) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, error)
}

impl Context {
    /// Goes through queues and movers, in pieces small enough for the loop. At most so many batches and owners are shown.
    async fn walk(&self, most: usize) -> Result<TopWalk, Stopping> {
        let mut walk = TopWalk::new(most);
        loop {
            let step = move |core: &Coordinator, now| {
                let over = core.top_step(&mut walk, now);
                (walk, over)
            };
            let (gone_on, over) = self.core.look(step).await?;
            if over {
                return Ok(gone_on);
            }
            walk = gone_on;
        }
    }
}

impl From<Stopping> for Problem {
    fn from(stopping: Stopping) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, stopping)
    }
}

/// All paths of the administrator's socket.
fn router(context: Context) -> Router {
    let ours = Router::new()
        .route("/hsm/status", get(status::status))
        .route("/hsm/requests", get(requests::requests))
        .route("/hsm/explain", get(questions::explain))
        .route("/hsm/history", get(questions::history))
        .route("/hsm/top", get(questions::top))
        .route("/hsm/movers", get(questions::movers))
        .route("/hsm/dead-letters", get(questions::dead_letters))
        .route("/hsm/events", get(events::events))
        .route("/hsm/lock", post(orders::lock))
        .route("/hsm/cancel", post(orders::cancel))
        .route("/hsm/movers/{id}/{verb}", post(orders::mover))
        .route("/hsm/dead-letters/{verb}", post(orders::letters))
        .route("/openapi.json", get(openapi::document));
    // A listing is read while it comes, and may be longer than other bodies.
    let streamed = Router::new().route("/api/v1/hsm/reconcile", post(reconcile::reconcile));
    let streamed = streamed.method_not_allowed_fallback(envelope::no_such_method);
    let all = Router::new()
        .nest("/api/v1", ours)
        .route("/metrics", get(metrics::metrics))
        .fallback(envelope::no_such_path)
        .method_not_allowed_fallback(envelope::no_such_method);
    serve::with_whole_bodies(all).merge(streamed).with_state(context)
}

/// What is there over TCP: nothing that could change anything, or tells what files are called.
fn metrics_router(context: Context) -> Router {
    let all = Router::new().route("/metrics", get(metrics::metrics)).fallback(envelope::no_such_path);
    serve::with_whole_bodies(all).with_state(context)
}

/// Answers requests for as long as the daemon runs.
pub async fn run(
    socket: Option<std::os::unix::net::UnixListener>,
    metrics: Option<std::net::TcpListener>,
    groups: Groups,
    context: Context,
) {
    tokio::task::spawn_local(events::watch_alerts(context.clone()));
    let local = async {
        let Some(socket) = socket else { return };
        match tokio::net::UnixListener::from_std(socket) {
            Ok(socket) => serve::serve(socket, router(context.clone()), groups).await,
            Err(error) => tracing::error!("the API cannot be served: {error}"),
        }
    };
    let far = async {
        let Some(socket) = metrics else { return };
        match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => serve::serve_tcp(socket, metrics_router(context.clone())).await,
            Err(error) => tracing::error!("metrics cannot be served: {error}"),
        }
    };
    tokio::join!(local, far);
}
