//! Everything that touches Lustre.
//!
//! The daemon makes plain ioctls on the mount's root and parses the kernel's pipe itself, so that nothing links to
//! liblustreapi and one build serves all versions.

pub mod active_requests;
#[cfg(feature = "daemon")]
pub mod ender;
#[cfg(feature = "daemon")]
pub mod kuc;
#[cfg(feature = "daemon")]
pub mod link;
#[cfg(feature = "daemon")]
pub mod list;
#[cfg(feature = "daemon")]
pub mod mount;
#[cfg(feature = "daemon")]
pub(crate) mod sys;
