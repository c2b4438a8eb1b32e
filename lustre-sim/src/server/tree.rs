//! The directory behind the embedded Lustre: which inode has which FID, and what happens to its data.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lustreapi_sys::Fid;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, Timespec, Timestamps};

use crate::protocol;

/// FID of the root directory.
pub const ROOT_FID: Fid = Fid::new(0x2_0000_0007, 1, 0);
/// Sequence from which directories get their FIDs. The model does not know them.
const DIRECTORY_SEQUENCE: u64 = 0x2_0000_0401;
/// Directories below the root that are looked into for the path of a FID.
const MAX_DEPTH: usize = 64;

/// What tells whether data was changed since it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    size: u64,
    mtime: (i64, i64),
}

impl Sample {
    fn of(metadata: &fs::Metadata) -> Self {
        Self { size: metadata.size(), mtime: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}

/// A file with a FID.
#[derive(Debug)]
pub struct Known {
    inode: (u64, u64),
    /// Created without a name.
    pub volatile: bool,
    /// When its data was last looked at.
    pub sample: Sample,
    /// Where it was last seen, relative to the root.
    path: PathBuf,
    /// The layout that was set.
    pub layout: Option<Vec<u8>>,
}

/// What a file's inode says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// As before.
    Same,
    /// Its data was changed.
    Changed,
    /// Its last name is gone.
    Unlinked,
}

/// The directory.
pub struct Tree {
    root: PathBuf,
    /// The directories under which the file system is seen, the root first.
    mounts: Vec<PathBuf>,
    files: BTreeMap<Fid, Known>,
    by_inode: BTreeMap<(u64, u64), Fid>,
    directories: BTreeMap<(u64, u64), Fid>,
    directory_mdts: BTreeMap<(u64, u64), u32>,
}

impl Tree {
    /// Prepares `root`, which must exist: makes `.lustre`, drops what an earlier server left there.
    pub fn new(root: &Path, fsname: &str) -> io::Result<Self> {
        let root = root.canonicalize()?;
        let fid_dir = root.join(".lustre/fid");
        if fid_dir.exists() {
            fs::remove_dir_all(&fid_dir)?;
        }
        fs::create_dir_all(&fid_dir)?;
        fs::write(root.join(protocol::FSNAME_FILE), format!("{fsname}\n"))?;
        Ok(Self {
            mounts: vec![root.clone()],
            root,
            files: BTreeMap::new(),
            by_inode: BTreeMap::new(),
            directories: BTreeMap::new(),
            directory_mdts: BTreeMap::new(),
        })
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Another directory under which the file system is seen.
    pub fn add_mount(&mut self, dir: PathBuf) {
        self.mounts.push(dir);
    }

    /// All FIDs of files, with whether they are volatile.
    pub fn fids(&self) -> Vec<(Fid, bool)> {
        self.files.iter().map(|(fid, known)| (*fid, known.volatile)).collect()
    }

    /// How many files have a FID.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// A file with a FID.
    pub fn known(&self, fid: Fid) -> Option<&Known> {
        self.files.get(&fid)
    }

    /// A file with a FID, to be changed.
    pub fn known_mut(&mut self, fid: Fid) -> Option<&mut Known> {
        self.files.get_mut(&fid)
    }

    /// The FID of the file behind a descriptor, if it has one.
    pub fn fid_of(&self, metadata: &fs::Metadata) -> Option<Fid> {
        self.by_inode.get(&(metadata.dev(), metadata.ino())).copied()
    }

    /// The FID of a directory, given at the first question.
    pub fn directory_fid(&mut self, metadata: &fs::Metadata) -> Fid {
        let key = (metadata.dev(), metadata.ino());
        if fs::metadata(&self.root).is_ok_and(|root| (root.dev(), root.ino()) == key) {
            return ROOT_FID;
        }
        let next = Fid::new(DIRECTORY_SEQUENCE, self.directories.len() as u32 + 1, 0);
        *self.directories.entry(key).or_insert(next)
    }

    /// Where a descriptor's file is, relative to the root.
    pub fn relative_path(&self, fd: BorrowedFd<'_>) -> Option<PathBuf> {
        let mut name = [0; 32];
        let len = protocol::proc_fd(fd, &mut name);
        let link = fs::read_link(Path::new(std::ffi::OsStr::from_bytes(&name[..len]))).ok()?;
        self.mounts.iter().rev().find_map(|mount| link.strip_prefix(mount).ok().map(Path::to_path_buf))
    }

    /// The MDT on which a new file at this path is.
    pub fn mdt_of_path(&self, path: &Path) -> u32 {
        let mut dir = path.parent();
        while let Some(at) = dir {
            if let Ok(m) = fs::metadata(self.root.join(at))
                && let Some(mdt) = self.directory_mdts.get(&(m.dev(), m.ino()))
            {
                return *mdt;
            }
            dir = at.parent();
        }
        0
    }

    /// New files below this directory are on that MDT.
    pub fn set_directory_mdt(&mut self, metadata: &fs::Metadata, mdt: u32) {
        self.directory_mdts.insert((metadata.dev(), metadata.ino()), mdt);
    }

    /// The path of a file in `.lustre/fid`.
    pub fn by_fid(&self, fid: Fid) -> PathBuf {
        self.root.join(".lustre/fid").join(fid.file_name())
    }

    /// Records a file under a FID and links it into `.lustre/fid`.
    pub fn insert(&mut self, fid: Fid, path: PathBuf, fd: BorrowedFd<'_>, volatile: bool) -> io::Result<()> {
        let metadata = metadata_of(fd)?;
        let named = self.root.join(&path);
        let same = fs::symlink_metadata(&named)
            .is_ok_and(|m| (m.dev(), m.ino()) == (metadata.dev(), metadata.ino()));
        if same {
            fs::hard_link(&named, self.by_fid(fid))?;
        } else {
            let mut name = [0; 32];
            let len = protocol::proc_fd(fd, &mut name);
            rustix::fs::linkat(
                rustix::fs::CWD,
                &name[..len],
                rustix::fs::CWD,
                self.by_fid(fid),
                AtFlags::SYMLINK_FOLLOW,
            )?;
        }
        let inode = (metadata.dev(), metadata.ino());
        self.by_inode.insert(inode, fid);
        self.files.insert(fid, Known { inode, volatile, sample: Sample::of(&metadata), path, layout: None });
        Ok(())
    }

    /// Forgets a file and takes it out of `.lustre/fid`.
    pub fn remove(&mut self, fid: Fid) {
        if let Some(known) = self.files.remove(&fid) {
            self.by_inode.remove(&known.inode);
        }
        if let Err(error) = fs::remove_file(self.by_fid(fid))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%fid, %error, "cannot remove the link in .lustre/fid");
        }
    }

    /// Compares a file with what was last seen.
    pub fn look(&mut self, fid: Fid) -> Look {
        let path = self.by_fid(fid);
        let Some(known) = self.files.get_mut(&fid) else { return Look::Unlinked };
        let Ok(metadata) = fs::symlink_metadata(path) else { return Look::Unlinked };
        if metadata.nlink() <= 1 && !known.volatile {
            return Look::Unlinked;
        }
        let sample = Sample::of(&metadata);
        if sample == known.sample {
            return Look::Same;
        }
        known.sample = sample;
        Look::Changed
    }

    /// Whether another process than this has the file open.
    pub fn is_open(&self, fid: Fid) -> bool {
        // A write lease is granted only to the sole opener.
        let path = self.by_fid(fid);
        let Ok(file) = File::options().read(true).write(true).open(&path) else {
            return File::open(&path).is_ok();
        };
        !super::lease::is_sole_opener(file.as_fd())
    }

    fn open_rw(&self, fid: Fid) -> io::Result<(File, fs::Metadata)> {
        let file = File::options().read(true).write(true).open(self.by_fid(fid))?;
        let metadata = file.metadata()?;
        Ok((file, metadata))
    }

    /// Puts a file's times back and remembers how it looks now.
    fn settle(&mut self, fid: Fid, file: &File, times: &fs::Metadata) -> io::Result<()> {
        set_times(file.as_fd(), (times.atime(), times.atime_nsec()), (times.mtime(), times.mtime_nsec()))?;
        self.resample(fid, &file.metadata()?);
        Ok(())
    }

    fn resample(&mut self, fid: Fid, metadata: &fs::Metadata) {
        if let Some(known) = self.files.get_mut(&fid) {
            known.sample = Sample::of(metadata);
        }
    }

    /// Frees a file's blocks and leaves its size and times: it was released.
    pub fn drop_data(&mut self, fid: Fid) -> io::Result<()> {
        let (file, metadata) = self.open_rw(fid)?;
        file.set_len(0)?;
        file.set_len(metadata.len())?;
        self.settle(fid, &file, &metadata)
    }

    /// Gives a file the data of a volatile file, which then has none. The file's times stay.
    pub fn swap(&mut self, fid: Fid, volatile: Fid) -> io::Result<()> {
        let (mut to, metadata) = self.open_rw(fid)?;
        let (mut from, _) = self.open_rw(volatile)?;
        to.set_len(0)?;
        io::copy(&mut from, &mut to)?;
        from.set_len(0)?;
        self.settle(fid, &to, &metadata)?;
        self.resample(volatile, &from.metadata()?);
        let layout = self.files.get_mut(&volatile).and_then(|known| known.layout.take());
        if let (Some(layout), Some(known)) = (layout, self.files.get_mut(&fid)) {
            known.layout = Some(layout);
        }
        Ok(())
    }

    /// Gives an imported file its size, owner, mode and times.
    pub fn import(&mut self, fid: Fid, import: &lustreapi_sys::abi::hsm_user_import) -> io::Result<()> {
        let (file, _) = self.open_rw(fid)?;
        file.set_len(import.hui_size)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(import.hui_mode & 0o7777))?;
        std::os::unix::fs::fchown(&file, Some(import.hui_uid), Some(import.hui_gid))?;
        let atime = (import.hui_atime as i64, i64::from(import.hui_atime_ns));
        let mtime = (import.hui_mtime as i64, i64::from(import.hui_mtime_ns));
        set_times(file.as_fd(), atime, mtime)?;
        self.resample(fid, &file.metadata()?);
        Ok(())
    }

    /// A file's path number `link`, relative to the root, and whether there are more.
    pub fn path_of(&mut self, fid: Fid, link: usize) -> Option<(PathBuf, bool)> {
        if fid == ROOT_FID {
            return Some((PathBuf::new(), false));
        }
        let inode = match self.files.get(&fid) {
            Some(known) => {
                let here = fs::symlink_metadata(self.root.join(&known.path));
                let still = here.is_ok_and(|m| (m.dev(), m.ino()) == known.inode && m.nlink() == 2);
                if link == 0 && still {
                    return Some((known.path.clone(), false));
                }
                known.inode
            }
            None => *self.directories.iter().find(|(_, known)| **known == fid)?.0,
        };
        let mut found = Vec::new();
        find_inode(&self.root, Path::new(""), inode, MAX_DEPTH, &mut found);
        found.sort();
        let path = found.get(link)?.clone();
        if link == 0
            && let Some(known) = self.files.get_mut(&fid)
        {
            known.path.clone_from(&path);
        }
        Some((path, link + 1 < found.len()))
    }

    /// `struct statx` of a file, for `llapi_hsm_action_begin`.
    pub fn statx(&self, fid: Fid) -> io::Result<rustix::fs::Statx> {
        let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        Ok(rustix::fs::statx(rustix::fs::CWD, self.by_fid(fid), AtFlags::SYMLINK_NOFOLLOW, flags)?)
    }
}

fn find_inode(root: &Path, dir: &Path, inode: (u64, u64), depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(root.join(dir)) else { return };
    for entry in entries.flatten() {
        let path = dir.join(entry.file_name());
        if path == Path::new(".lustre") {
            continue;
        }
        let Ok(metadata) = fs::symlink_metadata(root.join(&path)) else { continue };
        if (metadata.dev(), metadata.ino()) == inode {
            found.push(path.clone());
        }
        if metadata.is_dir() && depth > 0 {
            find_inode(root, &path, inode, depth - 1, found);
        }
    }
}

/// Metadata of an open file.
pub fn metadata_of(fd: BorrowedFd<'_>) -> io::Result<fs::Metadata> {
    let copy: OwnedFd = fd.try_clone_to_owned()?;
    File::from(copy).metadata()
}

/// Sets access and modification time, each in seconds and nanoseconds.
pub fn set_times(fd: BorrowedFd<'_>, atime: (i64, i64), mtime: (i64, i64)) -> io::Result<()> {
    let stamp = |t: (i64, i64)| Timespec { tv_sec: t.0, tv_nsec: t.1 };
    let times = Timestamps { last_access: stamp(atime), last_modification: stamp(mtime) };
    Ok(rustix::fs::futimens(fd, &times)?)
}

/// Opens a directory.
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
