//! High availability: what keeps MDTs and OSTs running on exactly one server each.
//!
//! Everything here is pure: no I/O, clock, threads or randomness. The manager's [`engine`] decides, the [`agent`]'s machine
//! on each server obeys or refuses, [`fencing`] powers a server off and does not believe it before its device says so,
//! [`state`] is what must survive a restart. The shells around them are `server::ha` and `agent` at the crate's root.
//!
//! The one rule that may never break: a resource may be started on a host only if that host has no unfinished operation on
//! it, and every other candidate host has a stopped-proof or an off-proof. `docs/ha-safety.md` says what these are.

pub mod agent;
pub mod command;
pub mod config;
pub mod engine;
pub mod fencing;
pub mod ids;
pub mod ocf;
pub mod protocol;
pub mod records;
pub mod state;
pub mod status;
