//! What the kernel knows about who has a file open.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Whether no other open file description of this file exists. `fd` must be open for reading and writing.
///
/// A file system without leases gives no answer: then nobody is assumed to have it open.
pub fn is_sole_opener(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: F_SETLEASE takes an integer.
    let rc = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
    if rc == 0 {
        // SAFETY: as above.
        unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
        return true;
    }
    std::io::Error::last_os_error().raw_os_error() != Some(libc::EAGAIN)
}

fn byte(kind: libc::c_int, number: u32) -> libc::flock {
    // SAFETY: plain data, for which zero is valid; OFD locks want l_pid to be 0.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    lock.l_start = i64::from(number);
    lock.l_len = 1;
    lock
}

/// Marks an open file description, which lasts until its last descriptor in any process is closed: a registered copytool's
/// mount root. Works because a lock of an open file description (`F_OFD_SETLK`) goes with it.
pub fn mark(fd: BorrowedFd<'_>, number: u32) -> std::io::Result<()> {
    let lock = byte(libc::F_RDLCK, number);
    // SAFETY: F_OFD_SETLK takes a flock.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Takes the mark away again.
pub fn unmark(fd: BorrowedFd<'_>, number: u32) {
    let lock = byte(libc::F_UNLCK, number);
    // SAFETY: F_OFD_SETLK takes a flock.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
}

/// Whether a description with this mark is still open. `fd` is another description of the same directory.
pub fn is_marked(fd: BorrowedFd<'_>, number: u32) -> bool {
    let mut lock = byte(libc::F_WRLCK, number);
    // SAFETY: F_OFD_GETLK fills a flock.
    let rc = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    rc != 0 || i32::from(lock.l_type) != libc::F_UNLCK
}

/// The kernel's `struct statx` as bytes.
pub fn bytes_of_statx(statx: &rustix::fs::Statx) -> &[u8] {
    // SAFETY: the structure is plain data of integers, without padding that was not filled by the kernel.
    unsafe {
        std::slice::from_raw_parts(std::ptr::from_ref(statx).cast::<u8>(), size_of::<rustix::fs::Statx>())
    }
}

/// Ignores SIGIO, which the kernel sends when a lease that [`is_sole_opener`] briefly holds is broken.
pub fn ignore_sigio() {
    // SAFETY: sets a disposition; no handler runs.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
}
