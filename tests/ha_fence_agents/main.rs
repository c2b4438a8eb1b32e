//! Fence agents called for real: our own ones that misbehave, and those of the distribution.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod distribution;
mod misbehaving;
mod support;
