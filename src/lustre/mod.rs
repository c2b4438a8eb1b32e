//! Everything that touches Lustre.

pub mod active_requests;
