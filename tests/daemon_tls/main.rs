//! TLS, roles and the socket of the local administrator, with real processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../daemon_support/mod.rs"]
mod daemon_support;

mod attacks;
mod roles;
mod site;
