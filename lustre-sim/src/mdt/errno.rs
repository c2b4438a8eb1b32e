//! Error numbers, as Lustre returns them.

use std::fmt;

use serde::Serialize;

/// A positive errno.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, thiserror::Error)]
#[error("{self:?}")]
pub struct Errno(pub u16);

impl Errno {
    /// Not allowed, or the file's state does not allow it.
    pub const PERM: Errno = Errno(1);
    /// No such file, request or agent.
    pub const NOENT: Errno = Errno(2);
    /// Input/output error.
    pub const IO: Errno = Errno(5);
    /// The coordinator is stopped (copytool registration).
    pub const NXIO: Errno = Errno(6);
    /// The list is too long for one request.
    pub const TOO_BIG: Errno = Errno(7);
    /// The coordinator is stopped, or no agent serves the archive.
    pub const AGAIN: Errno = Errno(11);
    /// The caller may not do this.
    pub const ACCES: Errno = Errno(13);
    /// The file is open, or changed while it was archived.
    pub const BUSY: Errno = Errno(16);
    /// A copytool of this client is registered already.
    pub const EXIST: Errno = Errno(17);
    /// The argument makes no sense.
    pub const INVAL: Errno = Errno(22);
    /// A number is too large.
    pub const RANGE: Errno = Errno(34);
    /// The connection to the agent is gone.
    pub const PIPE: Errno = Errno(32);
    /// It would wait for itself.
    pub const DEADLK: Errno = Errno(35);
    /// What was asked for is not supported.
    pub const NOSYS: Errno = Errno(38);
    /// The file's data is in the archive only.
    pub const NODATA: Errno = Errno(61);
    /// Not what the protocol says.
    pub const PROTO: Errno = Errno(71);
    /// No metadata target is there.
    pub const NOTCONN: Errno = Errno(107);
    /// It is so already.
    pub const ALREADY: Errno = Errno(114);
    /// The request was cancelled.
    pub const CANCELED: Errno = Errno(125);

    /// The number as an ioctl's caller sees it: negative.
    pub fn negative(self) -> i32 {
        -i32::from(self.0)
    }

    /// The symbol, where this model uses the number.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Errno::PERM => "EPERM",
            Errno::NOENT => "ENOENT",
            Errno::IO => "EIO",
            Errno::NXIO => "ENXIO",
            Errno::TOO_BIG => "E2BIG",
            Errno::AGAIN => "EAGAIN",
            Errno::ACCES => "EACCES",
            Errno::BUSY => "EBUSY",
            Errno::EXIST => "EEXIST",
            Errno::INVAL => "EINVAL",
            Errno::PIPE => "EPIPE",
            Errno::RANGE => "ERANGE",
            Errno::DEADLK => "EDEADLK",
            Errno::NOSYS => "ENOSYS",
            Errno::NODATA => "ENODATA",
            Errno::PROTO => "EPROTO",
            Errno::NOTCONN => "ENOTCONN",
            Errno::ALREADY => "EALREADY",
            Errno::CANCELED => "ECANCELED",
            _ => return None,
        })
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}
