//! The configuration of high availability: HALO's YAML as it is, and optional keys.

mod check;
mod difference;
mod fencing;
mod groups;
pub mod halo_state;
mod host;
pub mod keys;
mod load;
pub mod model;
mod on_server;
mod problem;
mod read;
mod resource;
mod settings;
mod suggest;
mod yaml;

pub use difference::difference;
pub use load::{Loaded, load};
pub use model::*;
pub use on_server::{HostFiles, Installed, check_host, check_installed, check_mode};
pub use problem::Problem;
