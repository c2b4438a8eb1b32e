//! The socket for administrators of this host.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::net::UnixListener;
use tokio::net::unix::UCred;

use super::settings::LocalSocket;
use crate::server::listener::Complaint;
use crate::server::local_socket;

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
        let listener = local_socket::bind(path, group)?;
        let inode = fs::symlink_metadata(path)?.ino();
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
    listener: UnixListener,
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
