//! The store in a redis server: the two hashes of the C version, and keys of our own for what C does not know.

pub mod batch;
pub mod link;
pub mod meta;
pub mod names;
pub mod spill;
pub mod values;
