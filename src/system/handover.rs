//! What one run of the daemon hands to the next through the service manager's store of descriptors, so that an upgrade
//! closes nothing: the listening socket, the read end of the kernel's pipe, and the root of the mount that registered.
//!
//! Names carry a version: what is not understood is closed, and the daemon starts as after any other stop. Descriptors are
//! stored at a clean stop only, behind everything that was read. After a crash a frame may be half read, so then there is
//! nothing to take over and reconciliation closes the gap.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::FileType;
use rustix::io::FdFlags;
use sd_notify::NotifyState;

const LISTENER: &str = "coordinatool.1.listener";
const PIPE: &str = "coordinatool.1.pipe";

/// The registration is for certain archive ids; another set needs another registration.
fn root_name(archive_ids: &[u32]) -> String {
    let bytes: Vec<u8> = archive_ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    format!("coordinatool.1.root.{:08x}", crc32fast::hash(&bytes))
}

/// What the last run left.
#[derive(Debug, Default)]
pub struct Inherited {
    listeners: VecDeque<OwnedFd>,
    registration: Option<Registration>,
}

/// A copytool that is registered at Lustre already.
#[derive(Debug)]
pub struct Registration {
    /// Read end of the kernel's pipe; a frame begins at what is read first.
    pub pipe: OwnedFd,
    /// The root of the mount: the registration lasts as long as this open file does (Lustre ll_file_release).
    pub root: OwnedFd,
}

impl Inherited {
    /// Takes what the service manager passed to this process. To be called once, before any other descriptor is opened.
    /// A registration for other archive ids is given up.
    pub fn take(archive_ids: &[u32]) -> Self {
        let found = match sd_listen_fds::get() {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("descriptors that the service manager passed cannot be used: {error}");
                return Self::default();
            }
        };
        let named: Vec<_> =
            found.into_iter().map(|(name, fd)| (name.unwrap_or_default(), fd.into_std())).collect();
        // The store must not keep them beyond us: it would pin the mount and the port.
        for (name, _) in &named {
            forget(name);
        }
        Self::sort(named, &root_name(archive_ids))
    }

    fn sort(found: impl IntoIterator<Item = (String, OwnedFd)>, root: &str) -> Self {
        let (mut listeners, mut pipes, mut roots) = (VecDeque::new(), Vec::new(), Vec::new());
        let mut others = Vec::new();
        for (name, fd) in found {
            // Agents, scripts and fence agents must not get them.
            if rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC).is_err() {
                tracing::warn!("descriptor `{name}` of the service manager is not open");
                continue;
            }
            match (name.as_str(), kind_of(&fd)) {
                (LISTENER, Some(FileType::Socket)) => listeners.push_back(fd),
                (PIPE, Some(FileType::Fifo)) => pipes.push(fd),
                (name, Some(FileType::Directory)) if name == root => roots.push(fd),
                (name, kind) => {
                    tracing::warn!(
                        "descriptor `{name}` of the service manager is not one of ours ({kind:?}): closed"
                    );
                    // Pipes first: a kernel that waits for room in one lets go then.
                    if kind == Some(FileType::Fifo) { drop(fd) } else { others.push(fd) }
                }
            }
        }
        let registration = match (pipes.len(), roots.len()) {
            (1, 1) => pipes.pop().zip(roots.pop()).map(|(pipe, root)| Registration { pipe, root }),
            _ => None,
        };
        drop(pipes);
        drop((roots, others));
        Self { listeners, registration }
    }

    /// The next listening socket.
    pub fn listener(&mut self) -> Option<OwnedFd> {
        self.listeners.pop_front()
    }

    /// Puts back a listening socket that may be meant for another purpose.
    pub fn put_back(&mut self, listener: OwnedFd) {
        self.listeners.push_back(listener);
    }

    /// The registration at Lustre.
    pub fn registration(&mut self) -> Option<Registration> {
        self.registration.take()
    }
}

fn kind_of(fd: &OwnedFd) -> Option<FileType> {
    rustix::fs::fstat(fd).ok().map(|stat| FileType::from_raw_mode(stat.st_mode))
}

/// Whether somebody may keep descriptors for the next run.
pub fn possible() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty())
}

/// Gives the service manager descriptors to keep. It closes the last ones first when nobody comes back for them, so the
/// pipe is last: a kernel that waits for room in it lets go before the registration is ended.
pub fn keep(
    listeners: &[BorrowedFd<'_>],
    registration: Option<&Registration>,
    archive_ids: &[u32],
) -> io::Result<()> {
    for listener in listeners {
        store(LISTENER, *listener)?;
    }
    if let Some(Registration { pipe, root }) = registration {
        store(&root_name(archive_ids), root.as_fd())?;
        store(PIPE, pipe.as_fd())?;
    }
    Ok(())
}

fn store(name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
    // FDPOLL stays on: the service manager drops the pipe when the file system is unmounted.
    sd_notify::notify_with_fds(false, &[NotifyState::FdStore, NotifyState::FdName(name)], &[fd])
}

fn forget(name: &str) {
    let state = [NotifyState::FdStoreRemove, NotifyState::FdName(name)];
    if let Err(error) = sd_notify::notify(false, &state) {
        tracing::warn!("the service manager cannot be told to forget `{name}`: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::TcpListener;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn socket() -> OwnedFd {
        TcpListener::bind("127.0.0.1:0").unwrap().into()
    }

    fn pipe() -> OwnedFd {
        pipe_with(PipeFlags::CLOEXEC).unwrap().0
    }

    fn root() -> OwnedFd {
        File::open("/").unwrap().into()
    }

    #[test]
    fn only_a_whole_registration_is_taken_over() {
        type Given<'a> = &'a [(&'a str, fn() -> OwnedFd)];
        let (one, two) = (root_name(&[1]), root_name(&[2]));
        let cases: [(Given<'_>, usize, bool); 8] = [
            (&[(LISTENER, socket), (&one, root), (PIPE, pipe)], 1, true),
            (&[(PIPE, pipe), (&one, root)], 0, true),
            (&[(PIPE, pipe)], 0, false),
            (&[(&one, root), (LISTENER, socket), (LISTENER, socket)], 2, false),
            // For other archives, another version's, or not what the name says.
            (&[(PIPE, pipe), (&two, root)], 0, false),
            (&[("coordinatool.2.pipe", pipe), ("coordinatool.2.root", root), (LISTENER, socket)], 1, false),
            (&[(PIPE, socket), (&one, root)], 0, false),
            (&[(LISTENER, pipe), ("", socket)], 0, false),
        ];
        for (number, (given, listeners, registration)) in cases.into_iter().enumerate() {
            let fds = given.iter().map(|(name, make)| ((*name).to_owned(), make()));
            let found = Inherited::sort(fds, &one);
            let got = (found.listeners.len(), found.registration.is_some());
            assert_eq!(got, (listeners, registration), "case {number}");
        }
    }
}
