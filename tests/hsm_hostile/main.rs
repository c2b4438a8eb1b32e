//! Peers that mean harm, or behave as if they did. During each attack and after it the others are served as before, memory
//! stays within a stated bound, and the process stays up.
//!
//! `tests/daemon_hostile.rs` has what single peers may do and what they are answered, `tests/daemon_tls` the same behind TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../daemon_support/mod.rs"]
mod daemon_support;

mod api;
mod crowds;
mod memory;
mod movers;
mod rows;
mod witness;
