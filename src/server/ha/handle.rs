//! How others talk to the running manager: the API, signals.

use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot, watch};

use crate::ha::command::{Accepted, Command, Denied};
use crate::ha::config::Config;
use crate::ha::ids::CommandId;
use crate::ha::state::Event;
use crate::ha::status::{CommandStatus, Status};

/// The manager does not answer any more: it is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the manager is stopping")]
pub struct Stopping;

/// Which events are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Later than this (wall clock, nanoseconds). `None`: since the list was last cleared.
    pub since: Option<i64>,
    /// Of this object, or on this host.
    pub object: Option<String>,
    /// Recorded after the loop had recorded so many. Clocks may be set back; this number only grows.
    pub after: Option<u64>,
    /// The newest so many.
    pub limit: usize,
}

/// Everything at one moment, and the same as it goes to clients: made once for all who ask at that moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Everything.
    pub status: Status,
    written: OnceLock<Vec<u8>>,
}

impl Snapshot {
    pub(super) fn new(status: Status) -> Self {
        Self { status, written: OnceLock::new() }
    }

    /// What `write` makes of it, which must be the same for all.
    pub fn written(&self, write: impl FnOnce(&Status) -> Vec<u8>) -> &[u8] {
        self.written.get_or_init(|| write(&self.status))
    }
}

/// A question to the loop.
#[derive(Debug)]
pub(super) enum Ask {
    Status(oneshot::Sender<Arc<Snapshot>>),
    Events(EventFilter, oneshot::Sender<(Vec<Event>, u64)>),
    Command(CommandId, oneshot::Sender<Option<CommandStatus>>),
    Config(oneshot::Sender<Box<Config>>),
    Do(Order, oneshot::Sender<Result<Accepted, Denied>>),
}

/// What an operator wants done.
#[derive(Debug)]
pub struct Order {
    /// What.
    pub command: Command,
    /// Who wants it.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// A way to the running manager. Clones are the same way.
#[derive(Debug, Clone)]
pub struct Manager {
    asks: mpsc::Sender<Ask>,
    changes: watch::Receiver<u64>,
}

impl Manager {
    pub(super) fn new(asks: mpsc::Sender<Ask>, changes: watch::Receiver<u64>) -> Self {
        Self { asks, changes }
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Stopping> {
        let (sender, answer) = oneshot::channel();
        self.asks.send(question(sender)).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }

    /// Everything at this moment.
    ///
    /// # Errors
    /// When the manager is stopping; so for all of these.
    pub async fn status(&self) -> Result<Arc<Snapshot>, Stopping> {
        self.ask(Ask::Status).await
    }

    /// Events, oldest first, and how many the loop has recorded.
    ///
    /// # Errors
    /// See [`Manager::status`].
    pub async fn events(&self, filter: EventFilter) -> Result<(Vec<Event>, u64), Stopping> {
        self.ask(|answer| Ask::Events(filter, answer)).await
    }

    /// How far a command is.
    ///
    /// # Errors
    /// See [`Manager::status`].
    pub async fn command(&self, id: CommandId) -> Result<Option<CommandStatus>, Stopping> {
        self.ask(|answer| Ask::Command(id, answer)).await
    }

    /// The configuration in force.
    ///
    /// # Errors
    /// See [`Manager::status`].
    pub async fn config(&self) -> Result<Config, Stopping> {
        self.ask(Ask::Config).await.map(|config| *config)
    }

    /// Has something done. The answer comes when what was decided is durable; the command goes on whether anybody waits
    /// for it or not.
    ///
    /// # Errors
    /// See [`Manager::status`].
    pub async fn order(&self, order: Order) -> Result<Result<Accepted, Denied>, Stopping> {
        self.ask(|answer| Ask::Do(order, answer)).await
    }

    /// Counts what happens, for those who wait for something.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}
