//! What `lustre-sim` and tests ask of a server.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use lustreapi_sys::Fid;
use lustreapi_sys::ioctl as num;
use serde_json::Value;

use crate::control::{CallRecord, Command, Status, Until};
use crate::protocol;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The path is in no embedded file system whose server runs.
    #[error("{}: not in an embedded Lustre", .0.display())]
    NotThere(PathBuf),
    /// The server cannot be reached, or a file cannot be opened.
    #[error("{what}: {error}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        error: io::Error,
    },
    /// The server refused.
    #[error("{what}: {text}")]
    Refused {
        /// What was being done.
        what: String,
        /// A positive errno.
        errno: i32,
        /// What the server said, or the errno's meaning.
        text: String,
    },
}

impl ClientError {
    /// The errno, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            ClientError::NotThere(_) => Some(libc::ENOTTY),
            ClientError::Io { error, .. } => error.raw_os_error(),
            ClientError::Refused { errno, .. } => Some(*errno),
        }
    }
}

/// HSM state and current action of a file, as `HSM_STATE_GET` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    /// `HS_*`.
    pub flags: u32,
    /// Archive id.
    pub archive_id: u32,
}

/// A connection's worth of knowledge: where the file system is. Every question is a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    root: PathBuf,
    number: u32,
}

impl Client {
    /// A client of the embedded Lustre that holds `path`.
    pub fn of(path: &Path) -> Result<Self, ClientError> {
        let root = protocol::root_of(path).ok_or_else(|| ClientError::NotThere(path.to_path_buf()))?;
        Ok(Self { root, number: protocol::client_from_environment() })
    }

    /// The file system's root as this client sees it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Says that this is the client node of that number.
    pub fn numbered(mut self, number: u32) -> Self {
        self.number = number;
        self
    }

    fn open(&self, path: &Path) -> Result<File, ClientError> {
        use std::os::unix::fs::OpenOptionsExt;
        let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path);
        opened.map_err(|error| ClientError::Io { what: path.display().to_string(), error })
    }

    /// Sends a command, with descriptors if it needs some.
    pub fn command(&self, command: &Command, fds: &[BorrowedFd<'_>]) -> Result<Value, ClientError> {
        let what =
            || format!("{}: {}", self.root.display(), serde_json::to_string(command).unwrap_or_default());
        let io_error = |error| ClientError::Io { what: what(), error };
        let body = serde_json::to_vec(command).map_err(|e| io_error(e.into()))?;
        let root = protocol::path_bytes(&self.root);
        let (rc, answer) =
            protocol::call_vec(root, protocol::OP_CONTROL, self.number, &body, fds).map_err(io_error)?;
        if rc < 0 {
            let text = String::from_utf8_lossy(&answer).into_owned();
            return Err(ClientError::Refused { what: self.root.display().to_string(), errno: -rc, text });
        }
        serde_json::from_slice(&answer).map_err(|e| io_error(e.into()))
    }

    /// Makes an ioctl on `fd`.
    pub fn ioctl(
        &self,
        what: &str,
        number: u64,
        body: &[u8],
        fd: BorrowedFd<'_>,
    ) -> Result<(i32, Vec<u8>), ClientError> {
        let root = protocol::path_bytes(&self.root);
        let (rc, answer) = protocol::call_vec(root, number, self.number, body, &[fd])
            .map_err(|error| ClientError::Io { what: what.to_owned(), error })?;
        if rc < 0 {
            let text = io::Error::from_raw_os_error(-rc).to_string();
            return Err(ClientError::Refused { what: what.to_owned(), errno: -rc, text });
        }
        Ok((rc, answer))
    }

    fn words(&self, path: &Path, number: u64, len: usize) -> Result<Vec<u32>, ClientError> {
        let file = self.open(path)?;
        let what = path.display().to_string();
        let (_, answer) = self.ioctl(&what, number, &[], file.as_fd())?;
        if answer.len() < len {
            let error = io::ErrorKind::UnexpectedEof.into();
            return Err(ClientError::Io { what, error });
        }
        Ok(answer.chunks_exact(4).map(|c| u32::from_ne_bytes([c[0], c[1], c[2], c[3]])).collect())
    }

    /// The FID of a file; it gets one at the first question.
    pub fn fid(&self, path: &Path) -> Result<Fid, ClientError> {
        let w = self.words(path, protocol::ioctl::PATH2FID, 16)?;
        Ok(Fid::new(u64::from(w[0]) | (u64::from(w[1]) << 32), w[2], w[3]))
    }

    /// Gives a new file a chosen FID.
    pub fn adopt(&self, path: &Path, fid: Fid) -> Result<(), ClientError> {
        let file = self.open(path)?;
        self.command(&Command::Adopt { fid: Some(fid.to_string()) }, &[file.as_fd()]).map(drop)
    }

    /// Makes a directory whose files are on an MDT.
    pub fn mkdir(&self, path: &Path, mdt: u32) -> Result<(), ClientError> {
        std::fs::create_dir(path)
            .map_err(|error| ClientError::Io { what: path.display().to_string(), error })?;
        let dir = self.open(path)?;
        self.command(&Command::DirectoryMdt { index: mdt }, &[dir.as_fd()]).map(drop)
    }

    /// `HSM_STATE_GET`.
    pub fn state(&self, path: &Path) -> Result<FileState, ClientError> {
        let w = self.words(path, num::HSM_STATE_GET, 32)?;
        Ok(FileState { flags: w[0], archive_id: w[1] })
    }

    /// `HSM_ACTION`: state (`HPS_*`), action (`HUA_*`), offset, length.
    pub fn action(&self, path: &Path) -> Result<(u32, u32, u64, u64), ClientError> {
        let w = self.words(path, num::HSM_ACTION, 24)?;
        let long = |at: usize| u64::from(w[at]) | (u64::from(w[at + 1]) << 32);
        Ok((w[0], w[1], long(2), long(4)))
    }

    /// `HSM_STATE_SET`.
    pub fn set_state(&self, path: &Path, set: u64, clear: u64, archive_id: u32) -> Result<(), ClientError> {
        let file = self.open(path)?;
        let valid: u32 = 3 | if archive_id > 0 { 4 } else { 0 };
        let mut body = Vec::with_capacity(24);
        body.extend_from_slice(&valid.to_ne_bytes());
        body.extend_from_slice(&archive_id.to_ne_bytes());
        body.extend_from_slice(&set.to_ne_bytes());
        body.extend_from_slice(&clear.to_ne_bytes());
        self.ioctl(&path.display().to_string(), num::HSM_STATE_SET, &body, file.as_fd()).map(drop)
    }

    /// `HSM_REQUEST` (`HUA_*`) for whole files, in one request.
    pub fn request(
        &self,
        hua: u32,
        archive_id: u32,
        flags: u64,
        files: &[&Path],
        data: &[u8],
    ) -> Result<(), ClientError> {
        let mut fids = Vec::new();
        for file in files {
            fids.push(self.fid(file)?);
        }
        self.request_fids(hua, archive_id, flags, &fids, data)
    }

    /// [`Client::request`] by FID.
    pub fn request_fids(
        &self,
        hua: u32,
        archive_id: u32,
        flags: u64,
        fids: &[Fid],
        data: &[u8],
    ) -> Result<(), ClientError> {
        let mut body = Vec::new();
        body.extend_from_slice(&hua.to_ne_bytes());
        body.extend_from_slice(&archive_id.to_ne_bytes());
        body.extend_from_slice(&flags.to_ne_bytes());
        body.extend_from_slice(&(fids.len() as u32).to_ne_bytes());
        body.extend_from_slice(&(data.len() as u32).to_ne_bytes());
        for fid in fids {
            body.extend_from_slice(&fid.seq.to_ne_bytes());
            body.extend_from_slice(&fid.oid.to_ne_bytes());
            body.extend_from_slice(&fid.ver.to_ne_bytes());
            body.extend_from_slice(&0u64.to_ne_bytes());
            body.extend_from_slice(&u64::MAX.to_ne_bytes());
        }
        body.extend_from_slice(data);
        if body.len() > protocol::MAX_REQUEST {
            return Err(ClientError::Refused {
                what: "request".to_owned(),
                errno: libc::E2BIG,
                text: io::Error::from_raw_os_error(libc::E2BIG).to_string(),
            });
        }
        let root = self.open(&self.root)?;
        self.ioctl("request", num::HSM_REQUEST, &body, root.as_fd()).map(drop)
    }

    /// Reads a file as a process on a Lustre would: a released one is restored first, which blocks.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, ClientError> {
        let file = self.open(path)?;
        self.command(&Command::Access, &[file.as_fd()])?;
        std::fs::read(path).map_err(|error| ClientError::Io { what: path.display().to_string(), error })
    }

    /// Waits for a condition.
    pub fn wait(&self, until: Until, timeout: std::time::Duration) -> Result<(), ClientError> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.command(&Command::Wait { until, timeout_ms }, &[]).map(drop)
    }

    /// What `lctl get_param` prints.
    pub fn get_param(&self, pattern: &str) -> Result<String, ClientError> {
        let answer = self.command(&Command::GetParam { pattern: pattern.to_owned() }, &[])?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// What `lctl set_param` does.
    pub fn set_param(&self, pattern: &str, value: &str) -> Result<(), ClientError> {
        self.command(&Command::SetParam { pattern: pattern.to_owned(), value: value.to_owned() }, &[])
            .map(drop)
    }

    /// The server's state.
    pub fn status(&self) -> Result<Status, ClientError> {
        self.typed(&Command::Status)
    }

    /// The calls that were made.
    pub fn calls(&self) -> Result<Vec<CallRecord>, ClientError> {
        self.typed(&Command::Calls)
    }

    /// What happened to every request: `entries` and `strays`.
    pub fn ledger(&self) -> Result<Value, ClientError> {
        self.command(&Command::Ledger, &[])
    }

    fn typed<T: serde::de::DeserializeOwned>(&self, command: &Command) -> Result<T, ClientError> {
        let answer = self.command(command, &[])?;
        serde_json::from_value(answer)
            .map_err(|e| ClientError::Io { what: self.root.display().to_string(), error: e.into() })
    }
}
