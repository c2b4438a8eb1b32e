//! When to use the socket of this host's daemon.
//!
//! Whoever names a host gets that host. Where neither host nor port is set anywhere, the C client connects to `coordinatool`;
//! so does this one, unless that is this very host (or no name at all) and exactly one daemon of ours runs here that lets us
//! in. Its socket is then the same daemon by a shorter way, where root is always an administrator.

use std::net::{IpAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use dns_lookup::LookupErrorKind;

use crate::security::{PREFIX, SOCKETS};

/// What is configured about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LocalSocket {
    /// Nothing.
    #[default]
    Unset,
    /// Never to be used.
    Off,
    /// Where it is.
    At(PathBuf),
}

/// The socket to use, if one is, where neither host nor port is set.
pub fn find(configured: &LocalSocket, default_host: &str) -> Option<PathBuf> {
    let socket = match configured {
        LocalSocket::Off => return None,
        LocalSocket::At(path) => path.clone(),
        LocalSocket::Unset => the_only(Path::new(SOCKETS))?,
    };
    // One that does not let us in, or that nobody listens at, is not for us.
    UnixStream::connect(&socket).ok()?;
    is_here(default_host).then_some(socket)
}

/// The only socket of a daemon in a directory.
fn the_only(directory: &Path) -> Option<PathBuf> {
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(PREFIX) && name.ends_with(".sock")
    };
    let entries = std::fs::read_dir(directory).ok()?.filter_map(Result::ok);
    let mut sockets = entries.map(|entry| entry.path()).filter(is_ours);
    let first = sockets.next()?;
    sockets.next().is_none().then_some(first)
}

/// Whether a name is this host's, or nobody's.
fn is_here(host: &str) -> bool {
    let hints =
        dns_lookup::AddrInfoHints { socktype: dns_lookup::SockType::Stream.into(), ..Default::default() };
    match dns_lookup::getaddrinfo(Some(host), None, Some(hints)) {
        Ok(found) => found.filter_map(Result::ok).any(|info| is_own(&info.sockaddr.ip())),
        // A name server that is away says nothing about the name.
        Err(error) => matches!(error.kind(), LookupErrorKind::NoName | LookupErrorKind::NoData),
    }
}

/// Whether an address is this host's: only those can be bound.
fn is_own(address: &IpAddr) -> bool {
    UdpSocket::bind((*address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_one_socket_that_answers_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        assert_eq!(the_only(directory.path()), None);
        assert_eq!(the_only(&at("none")), None);
        let _api = UnixListener::bind(at("hsm-a.sock")).unwrap();
        assert_eq!(the_only(directory.path()), None, "the API speaks another language");
        let listener = UnixListener::bind(at("mover-a.sock")).unwrap();
        assert_eq!(the_only(directory.path()), Some(at("mover-a.sock")));
        let told = LocalSocket::At(at("mover-a.sock"));
        assert_eq!(find(&told, "127.0.0.1"), Some(at("mover-a.sock")));
        assert_eq!(find(&told, "192.0.2.1"), None, "another host's daemon is meant");
        assert_eq!(find(&LocalSocket::Off, "127.0.0.1"), None);
        let _other = UnixListener::bind(at("mover-b.sock")).unwrap();
        assert_eq!(the_only(directory.path()), None, "which of them?");
        drop(listener);
        assert_eq!(find(&told, "127.0.0.1"), None, "nobody listens");
    }
}
