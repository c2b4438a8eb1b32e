//! The rows of the original's integration suite in which the store matters, with a real redis server: those of `hsm_rows`,
//! word by word.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../hsm_rows/archive_ids.rs"]
mod archive_ids;
#[path = "../hsm_rows/common.rs"]
mod common;
#[path = "../hsm_rows/data.rs"]
mod data;
#[path = "../hsm_rows/restarts.rs"]
mod restarts;
mod store;
#[path = "../hsm_rows/transfers.rs"]
mod transfers;

use common::{MOVER_1, MOVER_2, requeue_active_requests, steps};
