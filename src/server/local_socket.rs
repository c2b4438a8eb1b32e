//! Unix sockets for the local administrator.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::unistd::Gid;
use tokio::net::UnixListener;

/// The longest path of a unix socket, in bytes (`sun_path`, its NUL left out).
const MAX_PATH: usize = 107;

/// A socket for its owner, and for `group` if there is one. A socket that nobody listens on any more is replaced.
///
/// # Errors
/// `AddrInUse` when somebody listens there, `AlreadyExists` when something else than a socket is there, and what the system
/// says.
pub fn bind(path: &Path, group: Option<Gid>) -> io::Result<UnixListener> {
    if path.as_os_str().len() > MAX_PATH {
        let text = format!("the path of a socket has {MAX_PATH} bytes at most");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => match UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it")),
            Err(_) => std::fs::remove_file(path)?,
        },
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "this is there, and is no socket")),
        Err(_) => {}
    }
    // Nobody else may connect between bind and chmod.
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(mask);
    let bound = bound?;
    let mode = match group {
        Some(group) => {
            chown(path, None, Some(group.as_raw()))?;
            0o660
        }
        None => 0o600,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_its_owners_and_replaces_what_nobody_listens_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below/hsm.sock");
        let first = bind(&path, None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind(&path, None).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        drop(bind(&path, Some(Gid::current())).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "kept").unwrap();
        assert_eq!(bind(&path, None).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"kept");
        let long = dir.path().join("x".repeat(MAX_PATH));
        assert!(bind(&long, None).unwrap_err().to_string().contains("107 bytes"));
    }
}
