//! The embedded Lustre's `liblustreapi.so.1`: what copytools import, served by [`lustre_sim::server`].
//!
//! Names, structures and results are those of liblustreapi 2.17; unmodified copytools load it in place of the real one,
//! and make the same system calls through it in the same order. It also stands before libc's `ioctl`, so that a program
//! which makes Lustre's ioctls itself reaches the embedded Lustre when this library is preloaded.

pub mod action;
pub mod bridge;
pub mod copytool;
pub mod events;
pub mod files;
pub mod interpose;
pub mod json;
pub mod layout;
pub mod messages;
pub mod mounts;
pub mod user;
pub mod util;
