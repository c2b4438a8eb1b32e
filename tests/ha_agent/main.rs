//! The agent as a real process, with managers played by hand that speak its protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod epochs;
mod exits;
mod operations;
mod player;
mod restarts;
mod strangers;
