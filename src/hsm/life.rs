//! A request's life in the log: admitted, sent, ended. Each line has all that is needed to follow one request by its FID or
//! cookie; what users pass with their requests is theirs and is not there.

use super::Coordinator;
use super::requests::Handle;
use super::views::Outcome;

/// How a request ended, for the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct End<'a> {
    /// The mover that had it last.
    pub(super) mover: Option<&'a str>,
    /// How.
    pub(super) outcome: Outcome,
    /// 0 or a positive errno.
    pub(super) errno: i32,
    /// How long that mover had it, in milliseconds.
    pub(super) ran_ms: Option<u64>,
}

impl Coordinator {
    pub(super) fn log_admitted(&self, handle: Handle) {
        let request = self.requests.at(handle);
        tracing::info!(
            fid = %request.fid,
            cookie = %format_args!("{:#x}", request.cookie),
            action = %request.kind.action(),
            archive_id = self.classes.at(request.class).key.archive_id,
            "admitted"
        );
    }

    /// It has just been given to its mover.
    pub(super) fn log_sent(&self, handle: Handle) {
        let request = self.requests.at(handle);
        tracing::info!(
            fid = %request.fid,
            cookie = %format_args!("{:#x}", request.cookie),
            action = %request.kind.action(),
            archive_id = self.classes.at(request.class).key.archive_id,
            mover = %self.movers.at(request.owner).id,
            waited_ms = self.now.mono.0.saturating_sub(request.queued.0) / 1_000_000,
            "sent"
        );
    }

    /// It is about to be forgotten.
    pub(super) fn log_ended(&self, handle: Handle, end: End<'_>) {
        let request = self.requests.at(handle);
        let age_ms = self.now.mono.0.saturating_sub(request.queued.0) / 1_000_000;
        tracing::info!(
            fid = %request.fid,
            cookie = %format_args!("{:#x}", request.cookie),
            action = %request.kind.action(),
            archive_id = self.classes.at(request.class).key.archive_id,
            mover = end.mover,
            errno = end.errno,
            waited_ms = age_ms.saturating_sub(end.ran_ms.unwrap_or(0)),
            ran_ms = end.ran_ms,
            "ended: {}",
            end.outcome.name()
        );
    }
}
