//! A descriptor of ours in a process that is not ours.
//!
//! Copytools close descriptors that they did not open: all of them when they become daemons, or the one of get_fd. The
//! number then means something else, and what we would write to it goes into a file of the copytool's.

use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// A descriptor, and what it was opened as. -1 when there is none.
#[derive(Debug)]
pub struct Descriptor {
    fd: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

/// Device and inode of an open descriptor.
fn identity(fd: i32) -> Option<(u64, u64)> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: there is room for what fstat writes; any number may be asked about.
    if unsafe { libc::fstat(fd, stat.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: fstat succeeded, so it is filled.
    let stat = unsafe { stat.assume_init() };
    Some((stat.st_dev, stat.st_ino))
}

impl Descriptor {
    /// None yet.
    pub const fn none() -> Self {
        Self { fd: AtomicI32::new(-1), device: AtomicU64::new(0), inode: AtomicU64::new(0) }
    }

    /// Takes over a descriptor that was just opened, in place of the one before, which is not closed.
    pub fn set(&self, fd: i32) {
        self.fd.store(-1, Ordering::Release);
        let (device, inode) = identity(fd).unwrap_or_default();
        self.device.store(device, Ordering::Release);
        self.inode.store(inode, Ordering::Release);
        self.fd.store(fd, Ordering::Release);
    }

    /// Takes over what a system call returned.
    pub fn keep(&self, result: i32) -> io::Result<i32> {
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        self.set(result);
        Ok(result)
    }

    /// The number; -1 when there is none.
    pub fn get(&self) -> i32 {
        self.fd.load(Ordering::Acquire)
    }

    /// Device and inode.
    pub fn opened_as(&self) -> (u64, u64) {
        (self.device.load(Ordering::Acquire), self.inode.load(Ordering::Acquire))
    }

    /// Whether the number still stands for what was opened. An eventfd, a timer and an epoll cannot be told apart by this:
    /// all have the same inode.
    pub fn is_ours(&self) -> bool {
        let fd = self.get();
        fd >= 0 && identity(fd) == Some(self.opened_as())
    }

    /// Whether it is what the kernel calls `anon_inode:[kind]`. As near to [`Self::is_ours`] as one can get for those.
    pub fn is_still(&self, kind: &str) -> bool {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", self.get()));
        link.is_ok_and(|link| link.as_os_str() == format!("anon_inode:[{kind}]").as_str())
    }

    /// Forgets it without closing: it is somebody else's by now, or it may be.
    pub fn forget(&self) {
        self.fd.store(-1, Ordering::Release);
    }

    /// Closes it, once, unless the number is somebody else's by now. Safe in signal handlers.
    pub fn close(&self) {
        let ours = self.is_ours();
        let fd = self.fd.swap(-1, Ordering::AcqRel);
        if ours && fd >= 0 {
            // SAFETY: it was opened by us and nobody has closed it since.
            unsafe { libc::close(fd) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd as _;

    #[test]
    fn a_number_that_means_something_else_is_left_alone() {
        let mut ends = [0; 2];
        // SAFETY: there is room for two descriptors.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        let ours = Descriptor::none();
        assert!(!ours.is_ours());
        ours.set(ends[0]);
        assert!(ours.is_ours());
        let file = tempfile::tempfile().unwrap().into_raw_fd();
        // SAFETY: both are open and belong to this test.
        unsafe { libc::dup2(file, ends[0]) };
        assert!(!ours.is_ours());
        ours.close();
        assert_eq!(ours.get(), -1);
        assert!(identity(ends[0]).is_some(), "it is not ours to close");
        ours.set(ends[1]);
        ours.close();
        assert!(identity(ends[1]).is_none());
        for fd in [file, ends[0]] {
            // SAFETY: both are open and belong to this test.
            unsafe { libc::close(fd) };
        }
    }
}
