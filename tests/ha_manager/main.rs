//! The manager as a process: its start and stop, its files, its API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod beside_hsm;
mod clients;
mod process;
mod reload;
mod state;
