//! What the coordinator asks the MDTs of its own accord, and what they answer.
//!
//! Ends of requests are [`super::Effect::EndAtLustre`]; these are questions and requests that may be asked again.

use lustreapi_sys::Fid;

use super::Coordinator;
use super::action::{ActionItem, RequestKey};
use super::effect::Effects;

/// A call on Lustre. Each blocks while its MDT is away, so the shell has threads for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LustreCall {
    /// `HSM_PROGRESS` of no bytes under the file's own FID: the MDT begins its timeout anew and tells whether it still
    /// knows the request. The answer is [`LustreAnswer::KeptAlive`].
    KeepAlive {
        /// Which request.
        key: RequestKey,
    },
    /// `HSM_STATE_GET`. The answer is [`LustreAnswer::State`].
    State {
        /// For which request.
        key: RequestKey,
    },
    /// `HSM_REQUEST` for one file: the MDT makes a new request with a cookie of its own and delivers it as any other. The
    /// answer is [`LustreAnswer::Requested`].
    Request {
        /// What to ask for: action, FID, extent, archive id, flags and data count; the cookie names the old request.
        item: Box<ActionItem>,
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
        /// 0 or a positive errno.
        errno: i32,
    },
    /// Of [`LustreCall::State`].
    State {
        /// For which request.
        key: RequestKey,
        /// ENOENT when the file is gone, or another positive errno.
        state: Result<FileState, i32>,
    },
    /// Of [`LustreCall::Request`].
    Requested {
        /// The old request.
        key: RequestKey,
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
            Self::KeepAlive { key } => LustreAnswer::KeptAlive { key: *key, errno },
            Self::State { key } => LustreAnswer::State { key: *key, state: Err(errno) },
            Self::Request { item } => LustreAnswer::Requested { key: item.key(), errno },
        }
    }

    /// The file's own FID: it decides which MDT gets the call.
    pub fn fid(&self) -> Fid {
        match self {
            Self::KeepAlive { key } | Self::State { key } => key.fid,
            Self::Request { item } => item.fid,
        }
    }
}

impl Coordinator {
    /// An answer goes to everyone who may have asked: two may have the same question about one request at the same time, so
    /// each takes what it can use and ignores the rest.
    pub(super) fn lustre_answered(&mut self, answer: LustreAnswer, effects: &mut Effects) {
        match answer {
            LustreAnswer::KeptAlive { key, errno } => {
                tracing::debug!(%key, errno, "keepalive answered");
                self.vetting_alive(key, errno, effects);
                self.kept_alive(key, errno, effects);
            }
            LustreAnswer::State { key, state } => {
                tracing::debug!(%key, ?state, "state answered");
                self.vetting_state(key, state, effects);
                self.doubt_looked(key, state, effects);
            }
            LustreAnswer::Requested { key, errno } => {
                tracing::debug!(%key, errno, "request answered");
                if !self.bound_requested(key, errno, effects) && !self.retry_answered(key, errno, effects) {
                    self.doubt_requested(key, errno, effects);
                }
            }
        }
    }
}
