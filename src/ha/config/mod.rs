//! The configuration of high availability: HALO's YAML as it is, and optional keys.

pub mod model;

pub use model::*;
