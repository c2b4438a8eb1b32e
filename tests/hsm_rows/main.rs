//! The rows of the original's integration suite (`tests/run_tests.sh` of coordinatool C 0.4), with the same behaviour
//! asserted, on an embedded Lustre with two MDTs and with the embedded store. `hsm_rows_redis` runs those in which the store
//! matters with redis. Judged by the MDTs' ledger, the copytools' journals and the files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod archive_ids;
mod batches;
mod cancel;
mod common;
mod data;
mod environment;
mod lock;
mod placement;
mod reporting;
mod restarts;
mod store;
mod transfers;

use common::{MOVER_1, MOVER_2, requeue_active_requests, steps};
