//! The deterministic simulator: whole systems in one process on virtual time, one seed for each run.
//!
//! The machines are the shipped ones, with no test-only branch: the coordinator, the codec, the mover's state machine, the
//! store's recovery and the MDT model. What surrounds them here are a network of bytes, a disk that tears what was not
//! synced, and processes that die. An oracle that shares no code with the coordinator judges every run.

pub mod cli;
pub mod ha;
pub mod hsm;
pub mod network;
pub mod rng;
pub mod seeds;
