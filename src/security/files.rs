//! Files with certificates and secrets.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Larger files are not read.
const LONGEST: u64 = 1 << 20;

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct FileError {
    /// Which.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

impl FileError {
    /// Something wrong with a file.
    pub fn new(path: &Path, what: impl ToString) -> Self {
        Self { path: path.to_owned(), what: what.to_string() }
    }
}

/// Reads a file of text.
///
/// # Errors
/// Names the file.
pub fn read(path: &Path) -> Result<String, FileError> {
    let failed = |error: std::io::Error| FileError::new(path, error);
    read_open(path, File::open(path).map_err(failed)?)
}

fn read_open(path: &Path, file: File) -> Result<String, FileError> {
    let mut text = String::new();
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(|error| FileError::new(path, error))?;
    if u64::try_from(text.len()).is_ok_and(|length| length > LONGEST) {
        return Err(FileError::new(path, format!("is longer than {LONGEST} bytes")));
    }
    Ok(text)
}

/// Reads the key of a certificate, unless others than its owner and its group may read it, or others than its owner change
/// it.
///
/// # Errors
/// Names the file.
pub fn read_key(path: &Path) -> Result<String, FileError> {
    // What is checked is what is read, even if the name is given to another file meanwhile.
    let file = File::open(path).map_err(|error| FileError::new(path, error))?;
    let found = file.metadata().map_err(|error| FileError::new(path, error))?;
    let mode = found.mode() & 0o7777;
    if mode & 0o037 != 0 {
        let what = format!("others may use this key (mode {mode:04o}); chmod 600 {}", path.display());
        return Err(FileError::new(path, what));
    }
    read_open(path, file)
}

/// Reads a secret that nobody but root, or whoever runs this, may read or have written.
///
/// # Errors
/// Names the file.
pub fn read_secret(path: &Path) -> Result<String, FileError> {
    let file = File::open(path).map_err(|error| FileError::new(path, error))?;
    let found = file.metadata().map_err(|error| FileError::new(path, error))?;
    let mode = found.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let what = format!("others may use this key (mode {mode:04o}); chmod 600 {}", path.display());
        return Err(FileError::new(path, what));
    }
    let us = effective_user();
    if found.uid() != 0 && us.is_some_and(|us| us != found.uid()) {
        let what =
            format!("belongs to user {}, who can change it; chown root {}", found.uid(), path.display());
        return Err(FileError::new(path, what));
    }
    read_open(path, file)
}

/// Whoever runs this, as far as the system says: the owner of `/proc/self`.
fn effective_user() -> Option<u32> {
    std::fs::metadata("/proc/self").ok().map(|found| found.uid())
}

/// Reads all certificates of a file (PEM).
///
/// # Errors
/// Names the file; one without certificates is an error.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let all = all.map_err(|error| FileError::new(path, format!("is not a file of certificates: {error}")))?;
    if all.is_empty() {
        return Err(FileError::new(path, "holds no certificate"));
    }
    Ok(all)
}

/// What a file looks like from outside: modification time, inode and size; `None` for one that is not there. Different when
/// its content has changed.
pub type Stamp = Option<(SystemTime, u64, u64)>;

/// The stamp of a file now.
pub fn stamp(path: &Path) -> Stamp {
    let found = path.metadata().ok()?;
    Some((found.modified().ok()?, found.ino(), found.len()))
}
