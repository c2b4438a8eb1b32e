//! Who may do what at the daemon: TLS, roles, the socket of the local administrator.

pub mod credentials;
pub mod door;
pub mod entrances;
pub mod local;
pub mod policy;
pub mod settings;

pub use credentials::Credentials;
pub use policy::{Access, Policy, Principal};
