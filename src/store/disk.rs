//! Segments as files of a directory that one daemon has for itself.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation};

use super::segments::{Segments, is_full};

const PREFIX: &str = "journal-";
const UNFINISHED: &str = "unfinished";

/// The directory, locked for as long as this lives.
#[derive(Debug)]
pub struct DirSegments {
    path: PathBuf,
    directory: File,
    files: BTreeMap<u32, File>,
    /// Held for its lock.
    _lock: File,
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Opens a directory for one daemon alone, and makes it if it is missing. Only its owner may look into it. The second file
/// is the lock, which is held as long as it is open.
///
/// # Errors
/// With [`io::ErrorKind::WouldBlock`] if another process has it.
pub fn open_private(path: &Path) -> io::Result<(File, File)> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let directory = File::open(path)?;
    let mode = directory.metadata()?.permissions().mode();
    if mode & 0o777 != 0o700 {
        directory.set_permissions(fs::Permissions::from_mode(0o700))?;
    }
    Ok((directory, lock(&path.join("lock"))?))
}

fn lock(path: &Path) -> io::Result<File> {
    let mut lock = private_file().create(true).truncate(false).open(path)?;
    if let Err(error) = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        let mut holder = String::new();
        Read::by_ref(&mut lock).take(20).read_to_string(&mut holder)?;
        let error = io::Error::from(error);
        return Err(if error.kind() == io::ErrorKind::WouldBlock {
            let holder = holder.trim();
            io::Error::new(error.kind(), format!("in use by process {holder}; two daemons cannot share it"))
        } else {
            error
        });
    }
    lock.set_len(0)?;
    match writeln!(lock, "{}", std::process::id()) {
        // Only for people to read: a full disk is no reason not to start.
        Err(error) if !is_full(&error) => Err(error),
        _ => Ok(lock),
    }
}

impl DirSegments {
    /// Whether there are segments in a directory.
    pub fn is_at(path: &Path) -> bool {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries
            .into_iter()
            .any(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)))
    }

    /// Opens a directory, and makes it if it is missing. Only its owner may look into it (0700, files 0600).
    ///
    /// Fails with [`io::ErrorKind::WouldBlock`] if another process has it open.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (directory, lock) = open_private(path)?;
        match fs::remove_file(path.join(UNFINISHED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            let id = name
                .to_str()
                .and_then(|name| name.strip_prefix(PREFIX))
                .and_then(|hex| (hex.len() == 8).then(|| u32::from_str_radix(hex, 16).ok()).flatten());
            if let Some(id) = id {
                files.insert(id, private_file().open(entry.path())?);
            }
        }
        Ok(Self { path: path.to_owned(), directory, files, _lock: lock })
    }

    fn file(&self, id: u32) -> io::Result<&File> {
        self.files.get(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn name(&self, id: u32) -> PathBuf {
        self.path.join(format!("{PREFIX}{id:08x}"))
    }
}

/// Reserves room. Where the file system cannot (ZFS, NFS before 4.2), zeros are written, which is as good unless it
/// copies on write.
fn reserve(file: &File, size: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            let zeros = vec![0; 64 << 10];
            let mut at = 0;
            while at < size {
                let count = zeros.len().min(usize::try_from(size - at).unwrap_or(zeros.len()));
                file.write_all_at(&zeros[..count], at)?;
                at += count as u64;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

impl Segments for DirSegments {
    fn list(&mut self) -> io::Result<Vec<u32>> {
        Ok(self.files.keys().copied().collect())
    }

    fn create(&mut self, id: u32, size: u32, head: &[u8]) -> io::Result<()> {
        let unfinished = self.path.join(UNFINISHED);
        let made = (|| {
            let file = private_file().create(true).truncate(true).open(&unfinished)?;
            reserve(&file, u64::from(size))?;
            file.write_all_at(head, 0)?;
            file.sync_all()?;
            fs::rename(&unfinished, self.name(id))?;
            self.directory.sync_all()?;
            Ok(file)
        })();
        match made {
            Ok(file) => {
                self.files.insert(id, file);
                Ok(())
            }
            Err(error) => {
                // Nothing to be done about a failure here: the next start tries again.
                let _ = fs::remove_file(&unfinished);
                Err(error)
            }
        }
    }

    fn size(&mut self, id: u32) -> io::Result<u32> {
        let size = self.file(id)?.metadata()?.len();
        u32::try_from(size)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "segment of 4 GiB or more"))
    }

    fn read(&mut self, id: u32, offset: u32, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.file(id)?;
        let mut done = 0;
        while done < buffer.len() {
            match file.read_at(&mut buffer[done..], u64::from(offset) + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write(&mut self, id: u32, offset: u32, bytes: &[u8]) -> io::Result<()> {
        self.file(id)?.write_all_at(bytes, u64::from(offset))
    }

    fn sync(&mut self, id: u32) -> io::Result<()> {
        self.file(id)?.sync_data()
    }

    fn remove(&mut self, id: u32) -> io::Result<()> {
        self.files.remove(&id);
        fs::remove_file(self.name(id))?;
        self.directory.sync_all()
    }

    fn quarantine(&mut self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        let path = self.path.join(name);
        let mut file = match private_file().create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            file => file?,
        };
        if let Err(error) = file.write_all(bytes).and_then(|()| file.sync_all()) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.directory.sync_all()?;
        Ok(true)
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}
