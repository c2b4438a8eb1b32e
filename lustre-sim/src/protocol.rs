//! What processes say to the server of an embedded Lustre: one request, one answer, over a unix socket.
//!
//! A request is a fixed header, a body and up to four descriptors. Most requests are ioctls: `op` is the ioctl's number,
//! the first descriptor the one the ioctl was made on, the body the argument's bytes in their kernel layout. The rest are
//! operations of the embedded Lustre's own, numbered from `1 << 32`. Nothing here allocates on the calling side except
//! [`call_vec`], so that a copytool may unregister from a signal handler.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// Version of this protocol; both ends must have the same.
pub const VERSION: u32 = 1;
/// First word of every message.
pub const MAGIC: u32 = 0x4d49_534c;
/// The socket, relative to the root of the embedded file system.
pub const SOCKET: &str = ".lustre/lustre-sim.sock";
/// The name of the file system, a file relative to its root.
pub const FSNAME_FILE: &str = ".lustre/fsname";
/// Most bytes in the body of a request.
pub const MAX_REQUEST: usize = 1 << 20;
/// Most bytes in the body of an answer.
pub const MAX_REPLY: usize = 256 << 20;
/// Most descriptors with a request.
pub const MAX_FDS: usize = 4;
/// Environment variable with the number of the client node this process belongs to; agents of different nodes are
/// different agents even on one mount. Needed only where mounts are symbolic links.
pub const CLIENT_VARIABLE: &str = "LUSTRE_SIM_CLIENT";

/// A command as JSON: [`crate::control::Command`].
pub const OP_CONTROL: u64 = 1 << 32;
/// Tells the server of a volatile file (first descriptor); the body is the MDT's index as `i32`, -1 for the parent's.
/// The answer's body is its FID.
pub const OP_VOLATILE: u64 = (1 << 32) + 1;
/// The uuid of the client mount of the first descriptor.
pub const OP_CLIENT_UUID: u64 = (1 << 32) + 2;
/// The layout (`lov_user_md`) of the file behind the first descriptor.
pub const OP_GET_LAYOUT: u64 = (1 << 32) + 3;
/// Sets the layout of the file behind the first descriptor.
pub const OP_SET_LAYOUT: u64 = (1 << 32) + 4;
/// Attributes by name in `.lustre/fid` (the argument of `IOC_MDC_GETFILEINFO_V2`): the body is the FID.
pub const OP_GETATTR: u64 = (1 << 32) + 5;

const REQUEST_HEAD: usize = 32;
const REPLY_HEAD: usize = 16;

/// A request as the server reads it.
#[derive(Debug)]
pub struct Request {
    /// An ioctl's number, or one of the `OP_` constants.
    pub op: u64,
    /// The process that asks.
    pub pid: u32,
    /// Number of the client node, 0 when it is to be told from the mount.
    pub client: u32,
    /// The argument.
    pub body: Vec<u8>,
    /// Descriptors, the one of the ioctl first.
    pub fds: Vec<OwnedFd>,
}

/// Connects to the server whose root directory is `root` (bytes of a path, without a NUL).
pub fn connect(root: &[u8]) -> io::Result<OwnedFd> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mut name = [0u8; 108];
    let long = root.len() + 1 + SOCKET.len() >= name.len();
    if long {
        // The address of a socket is short: go through a descriptor of the directory.
        let mut path = [0u8; 4200];
        let end = path.len() - 1;
        if root.len() >= end {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        path[..root.len()].copy_from_slice(root);
        let dir = std::ffi::CStr::from_bytes_until_nul(&path).map_err(|_| io::ErrorKind::InvalidInput)?;
        let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let len = proc_fd(dir.as_fd(), &mut name);
        return finish_connect(socket, &mut name, len);
    }
    name[..root.len()].copy_from_slice(root);
    finish_connect(socket, &mut name, root.len())
}

fn finish_connect(socket: OwnedFd, name: &mut [u8; 108], len: usize) -> io::Result<OwnedFd> {
    name[len] = b'/';
    name[len + 1..len + 1 + SOCKET.len()].copy_from_slice(SOCKET.as_bytes());
    let path = std::ffi::CStr::from_bytes_until_nul(&name[..]).map_err(|_| io::ErrorKind::InvalidInput)?;
    let address = SocketAddrUnix::new(path)?;
    retry(|| rustix::net::connect(&socket, &address))?;
    Ok(socket)
}

/// Writes `/proc/self/fd/N` into `out` and returns its length.
pub fn proc_fd(fd: BorrowedFd<'_>, out: &mut [u8]) -> usize {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    let room = out.len();
    let mut rest = &mut *out;
    // A path of that form has at most 25 bytes; every caller has more room.
    let _ = write!(rest, "/proc/self/fd/{}", fd.as_raw_fd());
    room - rest.len()
}

fn retry<T>(mut f: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match f() {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

fn send_all(socket: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = retry(|| rustix::net::send(socket, bytes, SendFlags::NOSIGNAL))?;
        bytes = &bytes[n..];
    }
    Ok(())
}

fn recv_all(socket: BorrowedFd<'_>, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let (n, _) = retry(|| rustix::net::recv(socket, &mut *bytes, RecvFlags::empty()))?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[n..];
    }
    Ok(())
}

fn send_request(
    socket: BorrowedFd<'_>,
    op: u64,
    client: u32,
    body: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    if body.len() > MAX_REQUEST || fds.len() > MAX_FDS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut head = [0u8; REQUEST_HEAD];
    head[0..4].copy_from_slice(&MAGIC.to_ne_bytes());
    head[4..8].copy_from_slice(&VERSION.to_ne_bytes());
    head[8..16].copy_from_slice(&op.to_ne_bytes());
    head[16..20].copy_from_slice(&(rustix::process::getpid().as_raw_nonzero().get() as u32).to_ne_bytes());
    head[20..24].copy_from_slice(&client.to_ne_bytes());
    head[24..28].copy_from_slice(&(body.len() as u32).to_ne_bytes());
    head[28..32].copy_from_slice(&(fds.len() as u32).to_ne_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let slices = [io::IoSlice::new(&head)];
    let n = retry(|| rustix::net::sendmsg(socket, &slices, &mut control, SendFlags::NOSIGNAL))?;
    send_all(socket, &head[n..])?;
    send_all(socket, body)
}

fn recv_reply_head(socket: BorrowedFd<'_>) -> io::Result<(i32, usize)> {
    let mut head = [0u8; REPLY_HEAD];
    recv_all(socket, &mut head)?;
    let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if word(0) != MAGIC || word(4) != VERSION {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let len = word(12) as usize;
    if len > MAX_REPLY {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    Ok((word(8) as i32, len))
}

/// Makes one request and reads the answer's body into `out`.
///
/// Returns the result (not negative, or a negative errno) and the length of the body. A body longer than `out` is an
/// error. Does not allocate.
pub fn call(
    root: &[u8],
    op: u64,
    client: u32,
    body: &[u8],
    fds: &[BorrowedFd<'_>],
    out: &mut [u8],
) -> io::Result<(i32, usize)> {
    let socket = connect(root)?;
    send_request(socket.as_fd(), op, client, body, fds)?;
    let (rc, len) = recv_reply_head(socket.as_fd())?;
    let out = out.get_mut(..len).ok_or(io::ErrorKind::InvalidData)?;
    recv_all(socket.as_fd(), out)?;
    Ok((rc, len))
}

/// [`call`] for answers of any length.
pub fn call_vec(
    root: &[u8],
    op: u64,
    client: u32,
    body: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<(i32, Vec<u8>)> {
    let socket = connect(root)?;
    send_request(socket.as_fd(), op, client, body, fds)?;
    let (rc, len) = recv_reply_head(socket.as_fd())?;
    let mut out = vec![0; len];
    recv_all(socket.as_fd(), &mut out)?;
    Ok((rc, out))
}

/// Reads the next request of a connection, or `None` at its end.
pub fn read_request(socket: BorrowedFd<'_>) -> io::Result<Option<Request>> {
    let mut head = [0u8; REQUEST_HEAD];
    let mut fds = Vec::new();
    let mut have = 0;
    while have < head.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let result = {
            let mut slices = [io::IoSliceMut::new(&mut head[have..])];
            retry(|| rustix::net::recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC))?
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if result.bytes == 0 {
            return if have == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        have += result.bytes;
    }
    let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let len = word(24) as usize;
    if word(0) != MAGIC || word(4) != VERSION || len > MAX_REQUEST || word(28) as usize != fds.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not a request of this version of the embedded Lustre",
        ));
    }
    let mut body = vec![0; len];
    recv_all(socket, &mut body)?;
    let op = u64::from(word(8)) | (u64::from(word(12)) << 32);
    Ok(Some(Request { op, pid: word(16), client: word(20), body, fds }))
}

/// Writes an answer: a result that is not negative or a negative errno, and a body.
pub fn write_reply(socket: BorrowedFd<'_>, rc: i32, body: &[u8]) -> io::Result<()> {
    let mut head = [0u8; REPLY_HEAD];
    head[0..4].copy_from_slice(&MAGIC.to_ne_bytes());
    head[4..8].copy_from_slice(&VERSION.to_ne_bytes());
    head[8..12].copy_from_slice(&rc.to_ne_bytes());
    head[12..16].copy_from_slice(&(body.len() as u32).to_ne_bytes());
    send_all(socket, &head)?;
    send_all(socket, body)
}

/// The number in [`CLIENT_VARIABLE`], or 0.
pub fn client_from_environment() -> u32 {
    std::env::var(CLIENT_VARIABLE).ok().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// Finds the root of the embedded file system that holds `path`, which need not exist: the nearest directory above with a
/// socket in it. `None` when there is none.
pub fn root_of(path: &Path) -> Option<PathBuf> {
    let mut start = path.to_path_buf();
    if !start.is_absolute() {
        start = std::env::current_dir().ok()?.join(start);
    }
    while !start.exists() {
        start = start.parent()?.to_path_buf();
    }
    let mut real = start.canonicalize().ok()?;
    loop {
        if real.join(SOCKET).exists() {
            return Some(real);
        }
        if !real.pop() {
            return None;
        }
    }
}

/// The bytes of a path for [`call`].
pub fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// Numbers of further ioctls that the embedded Lustre serves (Lustre `lustre_user.h`, `lustre_ioctl.h`).
pub mod ioctl {
    const fn ioc(direction: u64, number: u64, size: u64) -> u64 {
        (direction << 30) | (size << 16) | ((b'f' as u64) << 8) | number
    }
    /// `LL_IOC_PATH2FID`: the FID of the file behind the descriptor, a `struct lu_fid`.
    pub const PATH2FID: u64 = ioc(2, 173, 8);
    /// `OBD_IOC_GETMDNAME`: 128 bytes with the name of the client's metadata device, `FSNAME-clilmv-...`.
    pub const GETMDNAME: u64 = ioc(2, 131, 128);
    /// `LL_IOC_GET_MDTIDX`: the MDT's index of the file behind the descriptor, an `int`.
    pub const GET_MDTIDX: u64 = ioc(2, 175, 4);
    /// `LL_IOC_DATA_VERSION`: `struct ioc_data_version`, two 64-bit words: version, flags.
    pub const DATA_VERSION: u64 = ioc(2, 218, 16);
    /// `LL_IOC_HSM_DATA_VERSION`: sets the data version of the last archive.
    pub const DATA_VERSION_SET: u64 = ioc(1, 254, 16);
}
