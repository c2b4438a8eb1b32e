//! What came of comparing a listing of the MDTs with what is here.

use serde::{Deserialize, Serialize};

use crate::hsm::reconcile as core;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reconciled {
    /// Where the listing came from.
    pub source: String,
    /// Records in it.
    pub listed: u64,
    /// Of these: known here.
    pub known: u64,
    /// Of these: not given to an agent yet, so not expected here.
    pub waiting: u64,
    /// Of these: another agent's.
    pub elsewhere: u64,
    /// Of these: known here, but with another action or archive id. What is here stays.
    pub different: u64,
    /// Started there, unknown here, and adopted.
    pub adopted: u64,
    /// Started there and unknown here, but the MDT does not know it any more.
    pub stale: u64,
    /// Here and not listed, but the MDT knows it.
    pub alive: u64,
    /// Here, and neither listed nor known to the MDT: sent or requested again.
    pub forgotten: u64,
    /// Here, listed as ended and unknown to the MDT: dropped.
    pub dropped: u64,
    /// The MDT could not be asked.
    pub undecided: u64,
    /// Left to the next reconciliation, since there were too many.
    pub left: u64,
    /// The first differences, in words.
    pub examples: Vec<String>,
}

impl From<&core::Reconciled> for Reconciled {
    fn from(of: &core::Reconciled) -> Self {
        Self {
            source: of.source.clone(),
            listed: of.listed,
            known: of.known,
            waiting: of.waiting,
            elsewhere: of.elsewhere,
            different: of.different,
            adopted: of.adopted,
            stale: of.stale,
            alive: of.alive,
            forgotten: of.forgotten,
            dropped: of.dropped,
            undecided: of.undecided,
            left: of.left,
            examples: of.examples.clone(),
        }
    }
}
