//! The configuration of high availability: HALO's YAML as it is, and optional keys.

mod check;
mod fencing;
mod groups;
mod host;
pub mod keys;
mod load;
pub mod model;
mod problem;
mod read;
mod resource;
mod settings;
mod suggest;
mod yaml;

pub use load::{Loaded, load};
pub use model::*;
pub use problem::Problem;
