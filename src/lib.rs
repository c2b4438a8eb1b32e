//! coordinatool: a Lustre HSM coordinator in user space.
//!
//! The parts that decide ([`hsm`], [`shim`], [`wire`]'s codec and [`store`]'s recovery) are state machines without I/O,
//! clocks or threads; the parts that touch the world ([`mod@server`], [`lustre`], [`client`]) carry out what they say. `docs/development.md`
//! draws the picture.

pub mod config;
pub mod hsm;
pub mod shim;
pub mod time;
pub mod wire;

#[cfg(feature = "ha")]
pub mod ha;
#[cfg(feature = "secure")]
pub mod security;
#[cfg(feature = "tls")]
pub mod tls;

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "daemon")]
pub mod api;
#[cfg(any(feature = "daemon", feature = "client", feature = "sim"))]
pub mod lustre;
#[cfg(any(feature = "daemon", feature = "client"))]
pub mod ops;
#[cfg(feature = "daemon")]
pub mod server;
#[cfg(any(feature = "daemon", feature = "sim"))]
pub mod store;
#[cfg(any(feature = "daemon", feature = "agent", feature = "client"))]
pub mod system;

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "sim")]
pub mod sim;
