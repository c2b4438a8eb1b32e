//! Everything that touches Lustre.
//!
//! The daemon makes plain ioctls on the mount's root and parses the kernel's pipe itself, so that nothing links to
//! liblustreapi and one build serves all versions.

pub mod active_requests;
#[cfg(feature = "daemon")]
mod call;
#[cfg(feature = "daemon")]
pub mod calls;
#[cfg(any(feature = "daemon", feature = "sim"))]
pub mod feed;
#[cfg(feature = "daemon")]
pub mod kuc;
#[cfg(feature = "daemon")]
mod lane;
#[cfg(feature = "daemon")]
pub mod link;
#[cfg(feature = "daemon")]
pub mod list;
#[cfg(any(feature = "daemon", feature = "sim"))]
pub mod listing;
#[cfg(feature = "daemon")]
pub mod mount;
#[cfg(any(feature = "daemon", feature = "client"))]
pub mod path;
#[cfg(feature = "daemon")]
mod router;
#[cfg(any(feature = "daemon", feature = "client"))]
#[cfg_attr(not(feature = "daemon"), allow(dead_code))]
pub(crate) mod sys;
#[cfg(any(feature = "daemon", feature = "sim"))]
pub mod tunables;
