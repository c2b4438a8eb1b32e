//! FIDs of paths, as `lfs path2fid` finds them.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use lustreapi_sys::Fid;
use rustix::fs::{Mode, OFlags};

use super::sys;

/// Why a path has no FID.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// It cannot be opened.
    #[error("cannot open {}: {source}{}", path.display(), hint(source))]
    Open {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is on something else.
    #[error("{} is not in a Lustre file system; where that is not mounted, give the FID: [0x200000401:0x1:0x0]", path.display())]
    NotLustre {
        /// The path.
        path: PathBuf,
    },
    /// Lustre refused.
    #[error("cannot find the FID of {}: {source}", path.display())]
    Ask {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ELOOP) => " (a symbolic link: requests are for what it points to)",
        _ => "",
    }
}

/// The FID of a file or directory. Opening does not restore a released file.
///
/// # Errors
/// See [`PathError`].
pub fn fid_of(path: &Path) -> Result<Fid, PathError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| PathError::Open { path: path.to_owned(), source: errno.into() })?;
    sys::fid_of(file.as_fd()).map_err(|source| match source.raw_os_error() {
        Some(libc::ENOTTY | libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => {
            PathError::NotLustre { path: path.to_owned() }
        }
        _ => PathError::Ask { path: path.to_owned(), source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_lustre_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let text = |path: &Path| fid_of(path).unwrap_err().to_string();
        assert!(text(&file).contains("is not in a Lustre file system"), "{}", text(&file));
        assert!(text(&dir.path().join("none")).contains("No such file"));
        assert!(text(&link).contains("symbolic link"));
    }
}
