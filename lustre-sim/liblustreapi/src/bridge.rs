//! From a descriptor to the server of the embedded Lustre it belongs to.

use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;

use lustre_sim::protocol;

/// Room for a path and the socket's name behind it.
const ROOM: usize = libc::PATH_MAX as usize + 64;

/// The root directory of the embedded Lustre that a descriptor is in.
pub struct Root {
    bytes: [u8; ROOM],
    len: usize,
}

impl Root {
    /// The path of the root, without a NUL.
    pub fn path(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Walks up from where the descriptor was opened. A file that was unlinked, as a volatile one, still shows where it
    /// was. Allocates nothing.
    pub fn of_fd(fd: c_int) -> Option<Self> {
        if fd < 0 {
            return None;
        }
        let mut link = [0u8; 32];
        // SAFETY: only used to print the number; nothing is closed or read through it.
        let len = protocol::proc_fd(unsafe { BorrowedFd::borrow_raw(fd) }, &mut link);
        debug_assert!(len < link.len());
        let mut root = Self { bytes: [0; ROOM], len: 0 };
        // SAFETY: `link` is NUL-terminated, the buffer has PATH_MAX bytes of room.
        let n = unsafe {
            libc::readlink(link.as_ptr().cast(), root.bytes.as_mut_ptr().cast(), libc::PATH_MAX as usize)
        };
        root.len = usize::try_from(n).ok()?;
        root.find()
    }

    /// The same from a path, which need not exist itself.
    pub fn of_path(path: &std::path::Path) -> Option<Self> {
        let found = protocol::root_of(path)?;
        let found = protocol::path_bytes(&found);
        let mut root = Self { bytes: [0; ROOM], len: found.len() };
        root.bytes.get_mut(..found.len())?.copy_from_slice(found);
        Some(root)
    }

    fn find(mut self) -> Option<Self> {
        if self.bytes[0] != b'/' {
            return None;
        }
        loop {
            let socket = protocol::SOCKET.as_bytes();
            self.bytes[self.len] = b'/';
            self.bytes[self.len + 1..][..socket.len()].copy_from_slice(socket);
            self.bytes[self.len + 1 + socket.len()] = 0;
            // SAFETY: the bytes end with a NUL.
            if unsafe { libc::access(self.bytes.as_ptr().cast(), libc::F_OK) } == 0 {
                return Some(self);
            }
            let cut = self.path().iter().rposition(|b| *b == b'/')?;
            if cut == 0 {
                return None;
            }
            self.len = cut;
        }
    }

    /// Asks the server. The result is not negative, or a negative errno; an unreachable server is `-ENOTCONN`, as a client
    /// without an MDT.
    pub fn call(&self, op: u64, body: &[u8], fds: &[c_int], out: &mut [u8]) -> (c_int, usize) {
        let mut borrowed = [None; protocol::MAX_FDS];
        for (slot, fd) in borrowed.iter_mut().zip(fds) {
            // SAFETY: the descriptors are the caller's and stay open during the call.
            *slot = (*fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(*fd) });
        }
        let mut list = [None; protocol::MAX_FDS];
        for (slot, fd) in list.iter_mut().zip(borrowed.into_iter().flatten()) {
            *slot = Some(fd);
        }
        let result = match list {
            [None, ..] => protocol::call(self.path(), op, client(), body, &[], out),
            [Some(a), None, ..] => protocol::call(self.path(), op, client(), body, &[a], out),
            [Some(a), Some(b), ..] => protocol::call(self.path(), op, client(), body, &[a, b], out),
        };
        result.unwrap_or((-libc::ENOTCONN, 0))
    }
}

/// The client node's number, read without allocating.
fn client() -> u32 {
    // SAFETY: the name is a C string; the value is read at once.
    let value = unsafe { libc::getenv(c"LUSTRE_SIM_CLIENT".as_ptr()) };
    if value.is_null() {
        return 0;
    }
    // SAFETY: getenv returned a C string.
    u32::try_from(unsafe { libc::atoi(value) }).unwrap_or(0)
}

/// Sets `errno`.
pub fn set_errno(value: c_int) {
    // SAFETY: the location is this thread's own.
    unsafe { *libc::__errno_location() = value }
}

/// This thread's `errno`.
pub fn errno() -> c_int {
    // SAFETY: the location is this thread's own.
    unsafe { *libc::__errno_location() }
}

/// The ioctl this library makes itself: the interposed one.
///
/// # Safety
/// `arg` must be what the request takes.
pub unsafe fn lustre_ioctl<T>(fd: c_int, request: u64, arg: *mut T) -> c_int {
    // SAFETY: passed on from the caller.
    let rc = unsafe { crate::interpose::ioctl(fd, request, arg.cast::<c_void>()) };
    if rc < 0 { -errno() } else { rc }
}
