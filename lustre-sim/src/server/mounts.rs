//! Further mount points of the embedded Lustre: bind mounts, or symbolic links for who may not mount.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{AtFlags, StatxFlags};

/// The mount that a descriptor was opened through.
pub fn mount_id(fd: BorrowedFd<'_>) -> u64 {
    /// `STATX_MNT_ID`.
    const MNT_ID: StatxFlags = StatxFlags::from_bits_retain(0x1000);
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, MNT_ID).map_or(0, |s| s.stx_mnt_id)
}

/// One further mount point, undone when dropped, or when the process dies.
#[derive(Debug)]
pub struct Mount {
    dir: PathBuf,
    bound: bool,
    /// A shell that waits for the end of its standard input and then unmounts: also after SIGKILL.
    guard: Option<Child>,
}

impl Mount {
    /// Shows `root` at `dir`. An existing `dir` must be an empty directory.
    pub fn new(root: &Path, dir: &Path) -> io::Result<Self> {
        let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
            Command::new(program).args(arguments).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
        };
        if rustix::process::geteuid().is_root() {
            std::fs::create_dir_all(dir)?;
            if run("mount", &["--bind".as_ref(), root.as_os_str(), dir.as_os_str()]) {
                let guard = Command::new("sh")
                    .args(["-c", "trap '' INT TERM HUP; read -r _; umount -l \"$1\" 2>/dev/null", "sh"])
                    .arg(dir)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .ok();
                return Ok(Self { dir: dir.canonicalize()?, bound: true, guard });
            }
        }
        match std::fs::remove_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::os::unix::fs::symlink(root, dir)?;
        tracing::info!(dir = %dir.display(), "cannot mount here: a symbolic link instead, set LUSTRE_SIM_CLIENT to tell clients apart");
        Ok(Self { dir: dir.to_path_buf(), bound: false, guard: None })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it is a mount and not a link.
    pub fn bound(&self) -> bool {
        self.bound
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.bound {
            // The guard unmounts when its input ends.
            if let Some(mut guard) = self.guard.take() {
                drop(guard.stdin.take());
                let _ = guard.wait();
            }
        } else {
            let _ = std::fs::remove_file(&self.dir);
        }
    }
}

/// The mount id of a directory.
pub fn id_of_dir(dir: &Path) -> io::Result<u64> {
    let fd: OwnedFd = super::tree::open_dir(dir)?;
    Ok(mount_id(fd.as_fd()))
}
