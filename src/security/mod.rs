//! TLS between movers or clients and the daemon: the parts that both ends need, without a runtime, since the `LD_PRELOAD`
//! library carries them too.
//!
//! Both ends prove who they are, in one of two ways. With **certificates** each shows one that the other's authority signed
//! ([`crate::tls`] makes them); what the daemon allows depends on the names and the role in it. With a **pre-shared key**
//! ([`psk`]) both show that they hold the same key file. The client says in its hello which of the two it wants (the ALPN
//! name), and with which key. TLS 1.3 only, no resumption, no early data: every connection proves everything anew.
//!
//! ```text
//! files ──▶ Keys (read again when they change) ──▶ ClientConfig ──▶ Session ──▶ bytes to and from the socket
//! ```

mod client;
pub mod files;
pub(crate) mod handshake;
mod keys;
pub mod psk;
mod session;
mod settings;
#[cfg(test)]
mod tests;

pub use client::{Credentials, explain, server_name};
pub use files::FileError;
pub use keys::Keys;
pub use psk::Psk;
pub use session::Session;
pub use settings::{Asking, ClientSettings};

/// Where the daemon listens for TLS, unless told otherwise.
pub const DEFAULT_TLS_PORT: &str = "5124";

/// The ALPN name of the mover protocol with certificates.
pub const ALPN_CERTIFICATE: &[u8] = b"coordinatool/1";
/// The beginning of the ALPN name with a pre-shared key; the key's [`Psk::id`] follows.
pub const ALPN_PSK: &str = "coordinatool-psk/1:";

/// The URI among the alternative names of the daemon's certificate. The authority gives it to certificates of the role
/// `server`; a site's own authority may leave it out.
pub const SERVER_URI: &str = "urn:coordinatool:server";
/// URIs that begin like this are ours. A certificate with another one of them belongs to no daemon.
pub const OUR_URIS: &str = "urn:coordinatool:";

/// Where the socket of the local administrator is by default: `mover-FSNAME.sock` in here. Clients look for it.
pub const SOCKETS: &str = "/run/coordinatool";
/// Sockets of this name speak the mover protocol; those of the API and of high availability are beside them.
pub const PREFIX: &str = "mover-";
