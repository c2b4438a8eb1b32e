//! Parameters: `lctl get_param mdt.*.hsm.*`.

/// Parameters of one MDT's coordinator, with Lustre's names and defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// Requests in memory beyond which nothing is sent. At least 1.
    pub max_requests: u64,
    /// Seconds between housekeeping passes. At least 1.
    pub loop_period: u32,
    /// Seconds for which ended records stay in the log. At least 1.
    pub grace_delay: u32,
    /// Seconds without progress after which a started request is cancelled. At least 1.
    pub active_request_timeout: u32,
    /// Archive of files that name none. At least 1.
    pub default_archive_id: u32,
    /// Whether the last unlink of an archived file asks for the copy's removal.
    pub remove_archive_on_last_unlink: bool,
    /// Policy; the start of the coordinator sets it to its default.
    pub policy: Policy,
    /// What a file's owner may request, as `1 << HSMA_*`; the start of the coordinator sets the masks to RESTORE.
    pub user_request_mask: u64,
    /// What a member of a file's group may request.
    pub group_request_mask: u64,
    /// What others may request.
    pub other_request_mask: u64,
}

/// The mask that allows restores only.
pub(super) const RESTORE_ONLY: u64 = 1 << lustreapi_sys::abi::HSMA_RESTORE;

impl Default for Params {
    fn default() -> Self {
        Self {
            max_requests: 3,
            loop_period: 10,
            grace_delay: 60,
            active_request_timeout: 3600,
            default_archive_id: 1,
            remove_archive_on_last_unlink: false,
            policy: Policy::default(),
            user_request_mask: RESTORE_ONLY,
            group_request_mask: RESTORE_ONLY,
            other_request_mask: RESTORE_ONLY,
        }
    }
}

/// `hsm/policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// A read of a released file returns ENODATA instead of blocking (NBR).
    pub non_blocking_restore: bool,
    /// `HP_FLAG_RETRY` is ignored (NRA). The default.
    pub no_retry_action: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { non_blocking_restore: false, no_retry_action: true }
    }
}
