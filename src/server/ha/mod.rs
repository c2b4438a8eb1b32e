//! The HA role: a process of its own around [`crate::ha::engine`].

pub mod fence_agent;
