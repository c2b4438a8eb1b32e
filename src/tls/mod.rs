//! Certificates, and TLS between managers and agents. TLS between movers and the daemon is in [`crate::security`]; its
//! certificates are made here as well.
//!
//! Both sides show a certificate of the same authority, and what a certificate may be used for is written in it: a URI among
//! its alternative names says whether it belongs to a manager or to an agent ([`Role`]). An agent talks to managers only, so
//! that a stolen agent's key commands nobody; a manager talks to the agent whose name is the one it wants, whatever address
//! it dialled. TLS 1.3 only, no resumption, every connection proves everything anew.
//!
//! A site's own authority issues certificates without our URIs. They are accepted where [`Trust`] names them.
//!
//! ```text
//! Authority ──issues──▶ NAME.crt, NAME.key ◀──reads── Endpoint ──accept──▶ agent's side
//!  ca.key                     ca.crt                           ──connect─▶ manager's side
//! ```

pub mod authority;
mod endpoint;
mod identity;
pub(crate) mod peer;
#[cfg(test)]
mod tests;
mod verify;

use std::path::{Path, PathBuf};

pub use authority::Authority;
pub use endpoint::Endpoint;
pub use identity::Identity;
pub(crate) use identity::no_resumption;
pub use peer::{Peer, Trust};

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// To obey, as the agent of the host that it names.
    Agent,
    /// To command.
    Manager,
    /// To be the HSM daemon on the host that it names.
    Server,
    /// To do everything at the HSM daemon.
    Admin,
    /// To take work from the HSM daemon, as the mover that it names.
    Mover,
    /// To look at the HSM daemon's status.
    ReadOnly,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 6] =
        [Role::Agent, Role::Manager, Role::Server, Role::Admin, Role::Mover, Role::ReadOnly];

    /// The URI among the alternative names of a certificate that gives it this role.
    pub fn uri(self) -> &'static str {
        match self {
            Role::Agent => "urn:coordinatool:agent",
            Role::Manager => "urn:coordinatool:manager",
            Role::Server => SERVER_URI,
            Role::Admin => "urn:coordinatool:admin",
            Role::Mover => "urn:coordinatool:mover",
            Role::ReadOnly => "urn:coordinatool:read-only",
        }
    }
}

// A certificate with one that is not known gives no role.
use crate::security::{FileError, OUR_URIS, SERVER_URI};

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Agent => "agent",
            Role::Manager => "manager",
            Role::Server => "server",
            Role::Admin => "admin",
            Role::Mover => "mover",
            Role::ReadOnly => "read_only",
        })
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let role = Self::ALL.into_iter().find(|role| role.to_string() == text);
        role.ok_or_else(|| {
            format!(
                "{text:?} is not a role; there are: {}",
                Self::ALL.map(|role| role.to_string()).join(", ")
            )
        })
    }
}

/// Where a certificate, its key and the authority's certificate are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Certificates of the authorities that the other side's certificate may come from (PEM).
    pub authority: PathBuf,
    /// Our own certificate, followed by intermediate ones if there are any (PEM).
    pub certificate: PathBuf,
    /// Its key (PEM). Nobody but its owner and its group may read it.
    pub key: PathBuf,
}

impl Paths {
    /// `ca.crt`, `NAME.crt` and `NAME.key` in a directory, as [`Authority`] writes them.
    pub fn in_directory(directory: &Path, name: &str) -> Self {
        Self {
            authority: directory.join("ca.crt"),
            certificate: directory.join(format!("{name}.crt")),
            key: directory.join(format!("{name}.key")),
        }
    }
}

/// What is wrong with a certificate, a key, or a file of them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file.
    #[error("{}: {what}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file is there that would have been overwritten.
    #[error("{} is there already; it is not overwritten", .0.display())]
    Exists(PathBuf),
    /// There is no certificate of that name.
    #[error("{} is not there: nothing to renew", .0.display())]
    NothingToRenew(PathBuf),
    /// A name that no certificate can be issued for.
    #[error("{0:?} is not a host's name")]
    Name(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Error {
    fn file(path: &Path, what: impl ToString) -> Self {
        Self::File { path: path.to_owned(), what: what.to_string() }
    }

    fn other(what: impl ToString) -> Self {
        Self::Other(what.to_string())
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Self::File { path: error.path, what: error.what }
    }
}

/// Whether an I/O error means that the other side cannot be trusted, or does not trust us: certificates, or no TLS at all.
///
/// A side that connects learns that its certificate was refused only when it first reads, since TLS 1.3 does not wait for
/// that.
pub fn is_distrust(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    inner.is_some()
}
