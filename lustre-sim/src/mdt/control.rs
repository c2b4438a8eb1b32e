//! Starting, stopping, disabling and purging the coordinator (`hsm_control`), and restarts of the MDT.

use serde::Serialize;

/// State of the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CdtState {
    /// Does nothing and refuses everything, after `shutdown`.
    Stopped,
    /// Works.
    Enabled,
    /// Takes requests and progress but sends nothing.
    Disabled,
}

impl CdtState {
    /// The name that `hsm_control` shows.
    pub const fn name(self) -> &'static str {
        match self {
            CdtState::Stopped => "stopped",
            CdtState::Enabled => "enabled",
            CdtState::Disabled => "disabled",
        }
    }
}
