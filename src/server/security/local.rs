//! The socket for administrators of this host.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::net::unix::UCred;

use super::settings::LocalSocket;
use crate::server::listener::Complaint;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A listening socket in the file system. The name goes with it.
#[derive(Debug)]
pub struct Local {
    path: PathBuf,
    inode: u64,
    group: Option<Gid>,
}

/// Whom a socket was made for.
#[derive(Debug, Clone)]
pub struct Gate {
    group: Option<Gid>,
}

impl Local {
    /// Listens at `path`, for root and a group.
    ///
    /// # Errors
    /// Says what is in the way; a daemon that listens there already is.
    pub fn listen(settings: &LocalSocket, path: &Path) -> io::Result<(UnixListener, Self)> {
        let group = match &settings.group {
            None => None,
            Some(name) => {
                let found = Group::from_name(name).map_err(io::Error::from)?;
                let found = found.ok_or_else(|| io::Error::other(format!("there is no group `{name}`")))?;
                Some(found.gid)
            }
        };
        if settings.path.is_none()
            && let Some(parent) = path.parent()
        {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        remove_stale(path)?;
        // Under another name until only those who may can use it.
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(name);
        let _ = fs::remove_file(&temporary);
        let listener = bind(&temporary, group).and_then(|listener| {
            fs::rename(&temporary, path)?;
            Ok((listener, fs::metadata(path)?.ino()))
        });
        let (listener, inode) = listener.inspect_err(|_| drop(fs::remove_file(&temporary)))?;
        Ok((listener, Self { path: path.to_owned(), inode, group }))
    }

    /// Who may come in.
    pub fn gate(&self) -> Gate {
        Gate { group: self.group }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // A daemon that has taken our place keeps its socket.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind(path: &Path, group: Option<Gid>) -> io::Result<UnixListener> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    if let Some(group) = group {
        std::os::unix::fs::chown(path, None, Some(group.as_raw()))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(if group.is_some() { 0o660 } else { 0o600 }))?;
    // Nobody can connect before this.
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Removes what an earlier daemon left.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => Err(io::Error::other("is there and is no socket")),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => Err(io::Error::other("a daemon listens there already")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) => Err(error),
        },
    }
}

impl Gate {
    /// Whether somebody may come in: root, whoever runs the daemon, and the members of the group.
    ///
    /// # Errors
    /// Says why not.
    pub fn admit(&self, peer: &UCred) -> Result<(), String> {
        let uid = Uid::from_raw(peer.uid());
        if uid.is_root() || uid == Uid::effective() {
            return Ok(());
        }
        let refused = || format!("user {uid} is neither root nor in the group of local_group");
        let group = self.group.ok_or_else(refused)?;
        if Gid::from_raw(peer.gid()) == group {
            return Ok(());
        }
        let user = User::from_uid(uid).ok().flatten().ok_or_else(refused)?;
        let name = std::ffi::CString::new(user.name).map_err(|_| refused())?;
        let groups = getgrouplist(&name, user.gid).map_err(|_| refused())?;
        if groups.contains(&group) { Ok(()) } else { Err(refused()) }
    }
}

/// Accepts local peers for ever.
pub async fn accept(
    listener: tokio::net::UnixListener,
    gate: Gate,
    mut welcome: impl FnMut(tokio::net::UnixStream, String) -> Result<(), String>,
) {
    let complaint = Complaint::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let admitted = stream.peer_cred().map_err(|error| error.to_string()).and_then(|peer| {
                    gate.admit(&peer)?;
                    Ok(format!("local:{}", peer.pid().unwrap_or(0)))
                });
                if let Err(why) = admitted.and_then(|name| welcome(stream, name)) {
                    complaint.log(format_args!("Clients: a local peer was refused: {why}"));
                }
            }
            Err(error) => {
                complaint.log(format_args!("Clients: Could not accept a local connection: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
