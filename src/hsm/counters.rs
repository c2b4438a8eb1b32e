//! What the coordinator has counted since it started.

/// A snapshot of the counters. Per-kind arrays are in the order restore, remove, archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Requests taken: from Lustre, `queue`, movers' `hai_list` and the store.
    pub admitted: u64,
    /// Requests that were known already.
    pub duplicates: u64,
    /// Requests forgotten, for whatever reason.
    pub ended: u64,
    /// Requests of each kind that movers ended, cancelled ones excepted.
    pub done: [u64; 3],
    /// Cancels that were acknowledged, by a mover or by the MDT.
    pub done_cancel: u64,
    /// Cancels for requests that nobody knows.
    pub unknown_cancels: u64,
    /// `done` for what the sender does not run.
    pub foreign_dones: u64,
    /// Deliveries of what a mover was running.
    pub redeliveries: u64,
    /// Requests that went back to the queue from a mover.
    pub requeued: u64,
    /// Requests that the store does not have because it was full.
    pub unpersisted: u64,
    /// Times that a request had to wait for another of the same file.
    pub held: u64,
    /// Times that a request was set aside because a limit was reached.
    pub limited: u64,
    /// Times that a mover was put into quarantine.
    pub quarantines: u64,
    /// Times that a request was too large for a mover's buffer.
    pub oversized: u64,
    /// Keepalives sent.
    pub keepalives: u64,
    /// Requests that users had cancelled, as keepalives found out.
    pub found_cancelled: u64,
    /// Requests that the MDT had forgotten: once for each time that this was certain.
    pub forgotten_at_mdt: u64,
    /// Of these, those that the MDT took again under a new cookie.
    pub requested_again: u64,
    /// Of these, those that were given up: it does not want them any more, or did not hand them over again.
    pub given_up: u64,
    /// Requests that an MDT listed and that were not known here.
    pub adopted: u64,
    /// Requests that were ended because no mover could take them.
    pub stranded_ended: u64,
    /// Keepalives, and other questions about what it may have forgotten, that the MDT could not answer.
    pub unanswered: u64,
    /// Failed requests for which another attempt was planned.
    pub retries_planned: u64,
    /// Failed requests that the MDT took once more.
    pub retried: u64,
    /// Failed requests that are kept for an operator or for another attempt.
    pub letters: u64,
    /// Failed requests that were given up because there were too many.
    pub letters_dropped: u64,
    /// Requests of each kind that wait, for whatever reason.
    pub pending: [u64; 3],
    /// Requests of each kind that movers have.
    pub running: [u64; 3],
    /// Cancels that wait for their mover.
    pub pending_cancel: u64,
    /// Ends that the MDT has not taken yet.
    pub ending: u64,
    /// Connections.
    pub connected: u64,
    /// Of `pending`: waiting for another request of the same file.
    pub waiting_for_file: u64,
    /// Of `pending`: not handed out because the MDT may have forgotten them.
    pub doubtful: u64,
    /// Of `pending`: queued, and nobody who is connected can take them, when this was last looked at.
    pub stranded: u64,
    /// Different data in use.
    pub different_data: u64,
    /// Queues in use.
    pub classes: u64,
    /// Shares that are remembered.
    pub shares: u64,
    /// Tapes that are known.
    pub tapes: u64,
    /// Requests about which an MDT is asked before they are sent.
    pub asking: u64,
    /// REMOVEs ended because their file was released since.
    pub refused_removes: u64,
    /// REMOVEs that were ended with success here because a mover had removed the copy before.
    pub removes_told: u64,
    /// ARCHIVEs ended because another had archived the file.
    pub needless_archives: u64,
    /// Restores ended and requested again because they were bound to a mover that was gone.
    pub unbound: u64,
    /// Requests dropped because they were delivered again after their end.
    pub late_deliveries: u64,
}
