//! The HTTP APIs of both roles, each on a unix socket for the local administrator.
//!
//! The HSM role's is in [`hsm`], what follows is the HA role's.
//!
//! Ours is below `/api/v1` (`ha`): GET reads, POST acts, every answer is in an `envelope`. HALO's own paths are answered
//! as HALO answers them (`halo`). `openapi` describes both.

pub mod caller;
mod document;
mod envelope;
mod events;
mod ha;
mod halo;
pub mod hsm;
mod openapi;
mod serve;
mod stall;
mod stream;

use std::path::PathBuf;

use axum::Router;
use axum::routing::{get, patch, post};
use tokio::net::UnixListener;

use crate::server::ha::handle::Manager;

/// What every request may need.
#[derive(Debug, Clone)]
pub struct Context {
    /// The way to the manager.
    pub manager: Manager,
    /// Which file `reload` reads.
    pub config_file: PathBuf,
    followers: stream::Followers,
}

impl Context {
    /// For the clients of this manager.
    pub fn new(manager: Manager, config_file: PathBuf) -> Self {
        Self { manager, config_file, followers: stream::Followers::default() }
    }
}

/// All paths.
pub fn router(context: Context) -> Router {
    let ours = Router::new()
        .route("/ha/status", get(ha::status))
        .route("/ha/events", get(events::list))
        .route("/ha/events/stream", get(events::stream))
        .route("/ha/commands/{id}", get(ha::command))
        .route("/ha/groups/{id}/{verb}", post(ha::group))
        .route("/ha/hosts/{id}/{verb}", post(ha::host))
        .route("/ha/{verb}", post(ha::cluster))
        .route("/openapi.json", get(openapi::document));
    Router::new()
        .nest("/api/v1", ours)
        .route("/status", get(halo::status))
        .route("/resources/{root}", patch(halo::resource))
        .route("/hosts/{id}", post(halo::host))
        .route("/clear_events", post(halo::clear_events))
        .fallback(envelope::no_such_path)
        .with_state(context)
}

/// Answers requests for as long as the manager runs.
pub async fn serve(socket: UnixListener, context: Context) {
    // Its socket is its owner's alone.
    serve::serve(socket, serve::with_whole_bodies(router(context)), caller::Groups::default()).await;
}
