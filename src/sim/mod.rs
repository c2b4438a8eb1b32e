//! The deterministic simulator: whole systems in one process on virtual time, one seed for each run.

pub mod network;
pub mod rng;
