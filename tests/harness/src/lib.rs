//! Whole systems for tests and the demo: an embedded Lustre, the daemon, movers and the client as real processes.
//!
//! Everything lives in one directory per test ([`Testbed`]), nothing uses a fixed port or a global path, so tests run in
//! parallel. Tests wait for states ([`Testbed::wait`]) and judge by the embedded MDT's ledger ([`ledger`]) and by the
//! content of files, never by the daemon's counters.
//!
//! This is test code: what should not happen panics, with an explanation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod captured;
mod daemon;
mod directory;
mod files;
pub mod ha;
mod journal;
pub mod ledger;
mod lustre;
mod mover;
mod network;
mod peer;
mod process;
mod programs;
mod random;
mod redis;
mod testbed;
mod wait;

pub use daemon::{Daemon, Settings, known};
pub use directory::TestDirectory;
pub use files::{ARCHIVED, EXISTS, FileSet, RELEASED, Request, write_program};
pub use journal::Step;
pub use lustre::{Ask, FSNAME, Lustre, Reader};
pub use lustre_sim::client::{Client, FileState};
pub use lustre_sim::control::{Command as Control, Faults};
pub use mover::{Gate, Mover, MoverSettings, copies};
pub use network::{FarNetwork, skip};
pub use peer::Peer;
pub use process::{Process, TEST_VARIABLE, kill_processes_of, processes_of, send};
pub use programs::Programs;
pub use random::{Random, seed};
pub use redis::{ASSIGNED, Backup, REQUESTS, Redis};
pub use rustix::process::Signal;
pub use serde_json::{Value, json};
pub use testbed::{Testbed, TestbedSettings};
pub use wait::{patience, poll};
