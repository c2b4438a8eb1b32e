//! The store in a redis server: the two hashes of the C version, and keys of our own for what C does not know.

pub mod batch;
mod beside;
mod catch_up;
mod commands;
pub mod durability;
mod in_flight;
pub mod link;
pub mod meta;
pub mod names;
mod quick;
mod recovery;
mod replay;
mod requests;
pub mod resp;
mod scan;
pub mod spill;
mod store;
pub mod transaction;
pub mod values;

pub use link::{Server, nobody_listens};
pub use names::{C_NAMESPACE, check_namespace};
pub use store::{Options, RedisStore};
