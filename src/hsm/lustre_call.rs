//! What the coordinator asks the MDTs of its own accord, and what they answer.
//!
//! Ends of requests are [`super::Effect::EndAtLustre`]; these are questions and requests that may be asked again.

use lustreapi_sys::Fid;

use super::Coordinator;
use super::action::{ActionItem, RequestKey};
use super::effect::Effects;

/// A call on Lustre. Each blocks while its MDT is away, so the shell has threads for them.
///
/// Each has a number, which its answer carries: later questions have higher ones. An answer may come so late that somebody
/// else has asked the same since; what it says is as old as its own question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LustreCall {
    /// `HSM_PROGRESS` of no bytes under the file's own FID: the MDT begins its timeout anew and tells whether it still
    /// knows the request. The answer is [`LustreAnswer::KeptAlive`].
    KeepAlive {
        /// Which request.
        key: RequestKey,
        /// Of the question.
        number: u64,
    },
    /// `HSM_STATE_GET`. The answer is [`LustreAnswer::State`].
    State {
        /// For which request.
        key: RequestKey,
        /// Of the question.
        number: u64,
    },
    /// `HSM_REQUEST` for one file: the MDT makes a new request with a cookie of its own and delivers it as any other. The
    /// answer is [`LustreAnswer::Requested`].
    Request {
        /// What to ask for: action, FID, extent, archive id, flags and data count; the cookie names the old request.
        item: Box<ActionItem>,
        /// Of the question.
        number: u64,
    },
}

/// What came of a [`LustreCall`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LustreAnswer {
    /// Of [`LustreCall::KeepAlive`]: 0 (known), ECANCELED (a user cancelled it), ENOENT (the MDT has forgotten it), EAGAIN
    /// (its coordinator does not run), or another positive errno (Lustre mdt_hsm_update_request_state).
    KeptAlive {
        /// Which request.
        key: RequestKey,
        /// Of the question.
        number: u64,
        /// 0 or a positive errno.
        errno: i32,
    },
    /// Of [`LustreCall::State`].
    State {
        /// For which request.
        key: RequestKey,
        /// Of the question.
        number: u64,
        /// ENOENT when the file is gone, or another positive errno.
        state: Result<FileState, i32>,
    },
    /// Of [`LustreCall::Request`].
    Requested {
        /// The old request.
        key: RequestKey,
        /// Of the question.
        number: u64,
        /// 0 when the MDT has taken it, or a positive errno.
        errno: i32,
    },
}

/// HSM state of a file, as the MDT has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileState {
    /// `HS_*` bits.
    pub states: u32,
    /// Archive that holds its copy; 0 for none.
    pub archive_id: u32,
}

impl FileState {
    /// The data is in the archive only.
    pub fn is_released(self) -> bool {
        self.states & lustreapi_sys::abi::HS_RELEASED != 0
    }
}

impl LustreCall {
    /// The answer that says that it failed with this errno.
    pub fn answer(&self, errno: i32) -> LustreAnswer {
        match self {
            Self::KeepAlive { key, number } => LustreAnswer::KeptAlive { key: *key, number: *number, errno },
            Self::State { key, number } => {
                LustreAnswer::State { key: *key, number: *number, state: Err(errno) }
            }
            Self::Request { item, number } => {
                LustreAnswer::Requested { key: item.key(), number: *number, errno }
            }
        }
    }

    /// The file's own FID: it decides which MDT gets the call.
    pub fn fid(&self) -> Fid {
        match self {
            Self::KeepAlive { key, .. } | Self::State { key, .. } => key.fid,
            Self::Request { item, .. } => item.fid,
        }
    }
}

impl Coordinator {
    /// An answer goes to everyone who may have asked: two may have the same question about one request at the same time, so
    /// each takes what it can use, if it is not older than its own question, and ignores the rest.
    pub(super) fn lustre_answered(&mut self, answer: LustreAnswer, effects: &mut Effects) {
        match answer {
            LustreAnswer::KeptAlive { key, number, errno } => {
                tracing::debug!(%key, number, errno, "keepalive answered");
                self.vetting_alive(key, number, errno, effects);
                self.kept_alive(key, number, errno, effects);
            }
            LustreAnswer::State { key, number, state } => {
                tracing::debug!(%key, number, ?state, "state answered");
                self.vetting_state(key, number, state, effects);
                self.doubt_looked(key, number, state, effects);
            }
            LustreAnswer::Requested { key, number, errno } => {
                tracing::debug!(%key, number, errno, "request answered");
                if !self.bound_requested(key, number, errno, effects)
                    && !self.retry_answered(key, number, errno, effects)
                {
                    self.doubt_requested(key, number, errno, effects);
                }
            }
        }
    }
}
