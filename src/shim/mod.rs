//! The mover's side of the protocol, as a pure state machine: what `libcoordinatool_client.so` does between a copytool
//! and the daemon.
//!
//! [`Shim`] is handed [`Event`]s with the time and answers with [`Effect`]s. It keeps the connection, the actions that the
//! copytool holds, the ends that the daemon has not acknowledged, and the lease. Sockets, pipes, clocks and the real
//! liblustreapi are the shell's (the `preload` crate) or the simulator's.

pub mod event;
mod flights;
mod lease;
mod link;
mod machine;
#[cfg(test)]
mod tests;

pub use event::{Effect, End, Event, Level};
pub use machine::{Shim, ShimConfig};
