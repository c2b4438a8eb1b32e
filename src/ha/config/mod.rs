//! The configuration of high availability: HALO's YAML as it is, and optional keys.

pub mod model;
mod problem;
mod suggest;
mod yaml;

pub use model::*;
pub use problem::Problem;
