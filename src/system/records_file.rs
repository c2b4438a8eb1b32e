//! A file that grows by whole records, and is written anew when it has grown too long. What was reported as stored is still
//! there after a crash at any moment, and after any error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The open file.
#[derive(Debug)]
pub struct RecordsFile {
    path: PathBuf,
    /// For the names in it. Open all the time: there may be no descriptor left when one is needed.
    directory: File,
    file: File,
    /// Length of what is stored, in bytes.
    good: u64,
    /// The file has its name, but a crash may still give that back to the file before it.
    unsettled: bool,
}

impl RecordsFile {
    /// Writes the file anew with these bytes, and keeps it open.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub fn create(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        let directory =
            File::open(path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")))?;
        let file = write_beside(path, bytes)?;
        fs::rename(beside(path), path)?;
        directory.sync_all()?;
        Ok(Self { path: path.to_owned(), directory, file, good: bytes.len() as u64, unsettled: false })
    }

    /// Appends and syncs.
    ///
    /// # Errors
    /// When that fails. Then nothing was appended, and it may be tried again.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.unsettled {
            self.directory.sync_all()?;
            self.unsettled = false;
        }
        // What an earlier failure left behind. This also forgets pages that the kernel counts as written since it told of
        // the failure, so that the next attempt writes them again.
        self.file.set_len(self.good)?;
        let written = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            let _ = self.file.set_len(self.good);
            return Err(error);
        }
        self.good += bytes.len() as u64;
        Ok(())
    }

    /// Replaces all of it: the old one or the new one is there, never half of one.
    ///
    /// # Errors
    /// When that fails. Appending goes on with whichever of both has the name.
    pub fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = write_beside(&self.path, bytes)?;
        fs::rename(beside(&self.path), &self.path)?;
        (self.file, self.good, self.unsettled) = (file, bytes.len() as u64, true);
        self.directory.sync_all()?;
        self.unsettled = false;
        Ok(())
    }

    /// Its length, in bytes.
    pub fn length(&self) -> u64 {
        self.good
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let new = beside(path);
    // One that a crash left.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something that is open for writing and cannot be synced.
    fn unsyncable() -> File {
        let (reader, writer) = std::io::pipe().unwrap();
        std::mem::forget(reader);
        File::from(std::os::fd::OwnedFd::from(writer))
    }

    #[test]
    fn it_grows_and_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = RecordsFile::create(&path, b"a").unwrap();
        file.append(b"b").unwrap();
        file.replace(b"c").unwrap();
        file.append(b"d").unwrap();
        assert_eq!((fs::read(&path).unwrap(), file.length()), (b"cd".to_vec(), 2));
    }

    #[test]
    fn an_append_that_fails_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = RecordsFile::create(&path, b"a").unwrap();
        let good = std::mem::replace(&mut file.file, unsyncable());
        assert!(file.append(b"lost").is_err());
        file.file = good;
        // As a write would leave it that was cut short.
        fs::write(&path, b"alo").unwrap();
        file.append(b"b").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ab");
    }

    #[test]
    fn nothing_is_appended_to_a_file_that_lost_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = RecordsFile::create(&path, b"old").unwrap();
        let good = std::mem::replace(&mut file.directory, unsyncable());
        assert!(file.replace(b"new").is_err());
        assert!(file.append(b"!").is_err(), "a crash could bring the old file back, without it");
        file.directory = good;
        file.append(b"!").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new!");
    }
}
