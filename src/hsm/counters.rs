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
    /// Times that a request was too large for a mover's buffer.
    pub oversized: u64,
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
    /// Different data in use.
    pub different_data: u64,
    /// Queues in use.
    pub classes: u64,
    /// Shares that are remembered.
    pub shares: u64,
}
