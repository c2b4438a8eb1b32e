//! The HA role: a process of its own around [`crate::ha::engine`].
//!
//! ```text
//! api ──asks──▶ shell ──▶ ha::engine::Engine ──records──▶ journal (a thread)
//!                 ▲                                          │ durable
//!                 │                        effects ◀─────────┘
//!                 ├──── links ◀── Connect, Send, Close
//!                 └──── fence_agent ◀── CallDevice
//! ```

pub mod child;
pub mod fence_agent;
pub mod handle;
mod journal;
mod links;
mod names;
pub mod options;
pub mod process;
pub mod reload;
mod shell;
