//! A mounted Lustre file system.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use lustreapi_sys::Fid;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::sys;

/// The pipe is made this large, so that the kernel blocks as late as possible.
const PIPE_SIZE: usize = 1 << 20;

/// A mount point that is known to be a Lustre's.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    fsname: String,
    root: OwnedFd,
}

/// Path of a file below the mount point, by its FID.
pub fn by_fid(fid: Fid) -> String {
    format!(".lustre/fid/{}", fid.file_name())
}

/// Why a mount point cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// It cannot be opened.
    #[error("cannot open the mount point {path}: {source}")]
    Open {
        /// The mount point.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else is mounted there.
    #[error("cannot find a Lustre file system mounted at {path}: {source}")]
    NotLustre {
        /// The mount point.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another file system than the one that was named.
    #[error("{path} is file system `{found}`, not `{told}` as fsname says")]
    OtherName {
        /// The mount point.
        path: PathBuf,
        /// The name of the file system there.
        found: String,
        /// The name in the configuration.
        told: String,
    },
    /// The file system does not take our registration.
    #[error("cannot register as copytool of {path}: {source}{}", explain(.source))]
    Register {
        /// The mount point.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn explain(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EEXIST | libc::EBUSY) => {
            " (another copytool is registered through this mount: only one can be)"
        }
        Some(libc::EPERM) => " (CAP_SYS_ADMIN is needed, and the nodemap must allow hsm_ops)",
        Some(libc::ENXIO) => " (the HSM coordinator of an MDT is stopped: set mdt.*.hsm_control to enabled)",
        Some(libc::ENOTCONN) => " (no MDT is connected)",
        _ => "",
    }
}

impl MountError {
    /// Whether another copytool is registered through the mount, or was until a moment ago: the kernel ends a registration
    /// when the last descriptor of its root is closed (`ll_file_release`), which may be after its process is gone.
    pub fn is_registered_twice(&self) -> bool {
        matches!(self, Self::Register { source, .. } if matches!(source.raw_os_error(), Some(libc::EEXIST | libc::EBUSY)))
    }
}

impl Mount {
    /// Opens a mount point. `told` is the name the file system must have, if it was told.
    pub fn open(path: &Path, told: Option<&str>) -> Result<Self, MountError> {
        let open = |source: io::Error| MountError::Open { path: path.to_owned(), source };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| open(errno.into()))?;
        let found = match mounted_name(path) {
            Some(name) => name,
            None => {
                let source = |source| MountError::NotLustre { path: path.to_owned(), source };
                let device = sys::metadata_device(root.as_fd()).map_err(source)?;
                name_of_device(&device).ok_or_else(|| {
                    let text = format!("`{device}` is not the name of a metadata device");
                    source(io::Error::new(io::ErrorKind::InvalidData, text))
                })?
            }
        };
        if let Some(told) = told
            && told != found
        {
            return Err(MountError::OtherName { path: path.to_owned(), found, told: told.to_owned() });
        }
        Ok(Self { path: path.to_owned(), fsname: found, root })
    }

    /// The mount whose root an earlier run had open, if that is still what is mounted at the same place.
    pub fn adopt(self, root: OwnedFd) -> Result<Self, (Self, OwnedFd)> {
        let id = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
        match (id(self.root()), id(root.as_fd())) {
            (Some(now), Some(then)) if now == then => Ok(Self { root, ..self }),
            _ => Err((self, root)),
        }
    }

    /// The open root, which keeps the registration.
    pub fn clone_root(&self) -> io::Result<OwnedFd> {
        self.root.try_clone()
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name of the file system.
    pub fn fsname(&self) -> &str {
        &self.fsname
    }

    /// The open root.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens a regular file by its FID, to be asked about. Nothing else is opened, since opening a device or a FIFO does
    /// something. No data is touched: a released file stays released (`lfs hsm_state` opens it the same way).
    ///
    /// ENOENT only if there is no such file; not if `.lustre/fid` cannot be reached (EOPNOTSUPP, as below a subdirectory
    /// mount) or the file goes away meanwhile (EAGAIN). EINVAL for what is no regular file.
    pub fn open_file(&self, fid: Fid) -> io::Result<OwnedFd> {
        const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
        let other = |errno: i32| io::Error::from_raw_os_error(errno);
        let by_fid = rustix::fs::openat(&self.root, ".lustre/fid", LOOK | OFlags::DIRECTORY, Mode::empty())
            .map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::ACCESS => other(libc::EOPNOTSUPP),
            errno => errno.into(),
        })?;
        let found = rustix::fs::openat(&by_fid, fid.file_name(), LOOK, Mode::empty())?;
        // The type alone: sizes would ask the OSTs, which may be away.
        let about = rustix::fs::statx(&found, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE)?;
        if FileType::from_raw_mode(about.stx_mode.into()) != FileType::RegularFile {
            return Err(other(libc::EINVAL));
        }
        let again = format!("/proc/self/fd/{}", found.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::open(again, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT | Errno::STALE => other(libc::EAGAIN),
            errno => errno.into(),
        })
    }

    /// Uuid of this client mount, as MDTs show it in `hsm/agents` and `hsm/active_requests`.
    pub fn uuid(&self) -> io::Result<String> {
        let device = sys::metadata_device(self.root())?;
        let client = device.replacen("-clilmv-", "-", 1);
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        // The second is where Lustre 2.10 has it.
        for top in ["/sys/fs/lustre", "/proc/fs/lustre"] {
            let path = format!("{top}/llite/{client}/uuid");
            match std::fs::read_to_string(&path) {
                Ok(uuid) => return Ok(uuid.trim().to_owned()),
                Err(error) => last = io::Error::new(error.kind(), format!("{path}: {error}")),
            }
        }
        Err(last)
    }

    /// Registers for these archive ids, all if there is none. Returns the read end of the pipe, which does not block.
    pub fn register(&self, archive_ids: &[u32]) -> Result<OwnedFd, MountError> {
        let error = |source: io::Error| MountError::Register { path: self.path.clone(), source };
        let (read_end, write_end) =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|errno| error(errno.into()))?;
        rustix::fs::fcntl_setfl(&read_end, OFlags::NONBLOCK).map_err(|errno| error(errno.into()))?;
        if let Err(errno) = rustix::pipe::fcntl_setpipe_size(&read_end, PIPE_SIZE) {
            tracing::debug!("the pipe keeps its size: {errno}");
        }
        sys::register(self.root(), read_end.as_fd(), write_end.as_fd(), archive_ids).map_err(error)?;
        Ok(read_end)
    }

    /// Ends the registration. Blocks while an MDT is away; the pipe must be drained meanwhile.
    pub fn unregister(&self) -> io::Result<()> {
        sys::unregister(self.root())
    }
}

/// Name of the file system mounted at `path` according to the kernel's list of mounts.
fn mounted_name(path: &Path) -> Option<String> {
    let path = std::fs::canonicalize(path).ok()?;
    let list = std::fs::read("/proc/self/mountinfo").ok()?;
    name_in_mountinfo(&list, &path)
}

/// Finds the innermost mount that `path` is in; the name if it is a Lustre.
fn name_in_mountinfo(list: &[u8], path: &Path) -> Option<String> {
    use std::os::unix::ffi::OsStringExt;
    let mut best: Option<(usize, Option<String>)> = None;
    for line in list.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ');
        let Some(point) = fields.by_ref().nth(4) else { continue };
        let point = PathBuf::from(std::ffi::OsString::from_vec(unescape(point)));
        if !path.starts_with(&point) {
            continue;
        }
        // Optional fields end with a lone `-`; then come the type and the source.
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        let (Some(kind), Some(source)) = (rest.next(), rest.next()) else { continue };
        let depth = point.components().count();
        // Of several mounts on one point, the last one is on top.
        if best.as_ref().is_none_or(|(known, _)| depth >= *known) {
            let name = if kind == b"lustre" { name_of_source(&unescape(source)) } else { None };
            best = Some((depth, name));
        }
    }
    best?.1
}

/// `testfs0` of `10.0.0.1@tcp:10.0.0.2@tcp:/testfs0/sub`.
fn name_of_source(source: &[u8]) -> Option<String> {
    let source = std::str::from_utf8(source).ok()?;
    let (_, path) = source.rsplit_once(":/")?;
    let name = path.split('/').next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// `testfs0` of `testfs0-clilmv-ffff8800deadbeef`. The name itself may hold dashes.
fn name_of_device(device: &str) -> Option<String> {
    let (name, _) = device.split_once("-clilmv").or_else(|| device.split_once("-MDT"))?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Undoes the octal escapes of mountinfo (`\040` for a blank).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match (first, digits) {
            (b'\\', Some(digits)) => {
                let value = digits.iter().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0'));
                out.push(value as u8);
                rest = &tail[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
        40 22 0:35 / /mnt/lustre rw shared:5 - lustre 10.0.2.15@tcp:/testfs0 rw,checksum\n\
        41 22 0:36 /sub /mnt/with\\040blank rw - lustre mgs1@o2ib:mgs2@o2ib:/fs-2/sub rw\n\
        42 40 0:37 / /mnt/lustre/inner rw master:1 shared:2 - tmpfs tmpfs rw\n\
        43 22 0:38 / /mnt/over rw - lustre m@tcp:/old rw\n44 43 0:39 / /mnt/over rw - lustre m@tcp:/new rw\n";

    #[test]
    fn the_name_comes_from_the_innermost_mount() {
        let cases = [
            ("/mnt/lustre", Some("testfs0")),
            ("/mnt/lustre/dir", Some("testfs0")),
            ("/mnt/lustre/inner", None),
            ("/mnt/lustre2", None),
            ("/mnt/with blank", Some("fs-2")),
            ("/mnt/over", Some("new")),
            ("/", None),
        ];
        for (path, want) in cases {
            assert_eq!(name_in_mountinfo(MOUNTS, Path::new(path)).as_deref(), want, "{path}");
        }
    }

    #[test]
    fn the_name_comes_from_the_metadata_device_otherwise() {
        let cases = [
            ("testfs0-clilmv-ffff8800deadbeef", Some("testfs0")),
            ("my-fs-clilmv-ffff8800deadbeef", Some("my-fs")),
            ("testfs0-MDT0000-mdc-ffff8800deadbeef", Some("testfs0")),
            ("-clilmv-1", None),
            ("testfs0", None),
        ];
        for (device, want) in cases {
            assert_eq!(name_of_device(device).as_deref(), want, "{device}");
        }
    }

    #[test]
    fn something_else_than_lustre_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Mount::open(dir.path(), None), Err(MountError::NotLustre { .. })));
        assert!(matches!(Mount::open(&dir.path().join("missing"), None), Err(MountError::Open { .. })));
    }

    /// "No such file" lets a REMOVE go ahead, so nothing else may look like it.
    #[test]
    fn only_regular_files_are_opened_and_only_missing_ones_are_missing() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(dir.path()).unwrap().into();
        let mount = Mount { path: dir.path().to_owned(), fsname: "lus".into(), root };
        let open =
            |oid| mount.open_file(Fid::new(0x400, oid, 0)).map_err(|error| error.raw_os_error().unwrap());
        assert_eq!(open(1).map(drop), Err(libc::EOPNOTSUPP), "no .lustre/fid, as in a subdirectory mount");
        let by_fid = dir.path().join(".lustre/fid");
        std::fs::create_dir_all(&by_fid).unwrap();
        std::fs::write(by_fid.join("0x400:0x1:0x0"), "x").unwrap();
        std::fs::create_dir(by_fid.join("0x400:0x2:0x0")).unwrap();
        std::os::unix::fs::symlink("0x400:0x1:0x0", by_fid.join("0x400:0x3:0x0")).unwrap();
        std::os::unix::net::UnixListener::bind(by_fid.join("0x400:0x4:0x0")).unwrap();
        assert!(open(1).is_ok());
        for oid in [2, 3, 4] {
            assert_eq!(open(oid).map(drop), Err(libc::EINVAL), "{oid}");
        }
        assert_eq!(open(5).map(drop), Err(libc::ENOENT));
    }
}
