//! The functions of liblustreapi that a copytool needs, and safe handles around them.

use std::ffi::{CString, c_char, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use lustreapi_sys::Fid;
use lustreapi_sys::abi::{
    hsm_action_item, hsm_action_list, hsm_copyaction_private, hsm_copytool_private, hsm_extent, lu_fid,
};

unsafe extern "C" {
    fn llapi_hsm_copytool_register(
        handle: *mut *mut hsm_copytool_private,
        mnt: *const c_char,
        count: c_int,
        archives: *const c_int,
        flags: c_int,
    ) -> c_int;
    fn llapi_hsm_copytool_unregister(handle: *mut *mut hsm_copytool_private) -> c_int;
    fn llapi_hsm_copytool_get_fd(handle: *mut hsm_copytool_private) -> c_int;
    fn llapi_hsm_copytool_recv(
        handle: *mut hsm_copytool_private,
        list: *mut *mut hsm_action_list,
        size: *mut c_int,
    ) -> c_int;
    fn llapi_hsm_action_begin(
        action: *mut *mut hsm_copyaction_private,
        handle: *const hsm_copytool_private,
        item: *const hsm_action_item,
        mdt: c_int,
        flags: c_int,
        is_error: bool,
    ) -> c_int;
    fn llapi_hsm_action_end(
        action: *mut *mut hsm_copyaction_private,
        extent: *const hsm_extent,
        flags: c_int,
        errval: c_int,
    ) -> c_int;
    fn llapi_hsm_action_progress(
        action: *const hsm_copyaction_private,
        extent: *const hsm_extent,
        total: u64,
        flags: c_int,
    ) -> c_int;
    fn llapi_hsm_action_get_fd(action: *const hsm_copyaction_private) -> c_int;
    fn llapi_hsm_action_get_dfid(action: *const hsm_copyaction_private, fid: *mut lu_fid) -> c_int;
    fn llapi_get_mdt_index_by_fid(fd: c_int, fid: *const lu_fid, index: *mut c_int) -> c_int;
    fn llapi_search_fsname(path: *const c_char, name: *mut c_char) -> c_int;
    fn llapi_msg_set_level(level: c_int);
}

fn check(rc: c_int) -> io::Result<c_int> {
    if rc < 0 { Err(io::Error::from_raw_os_error(-rc)) } else { Ok(rc) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The registered handle, also for the signal handler.
static REGISTERED: AtomicPtr<hsm_copytool_private> = AtomicPtr::new(ptr::null_mut());

/// A registered copytool. Threads may begin actions on it; one receives.
#[derive(Debug, Clone, Copy)]
pub struct Copytool(*mut hsm_copytool_private);

// SAFETY: the library's action functions only read the handle; `recv` is called from one thread.
unsafe impl Send for Copytool {}
// SAFETY: as above.
unsafe impl Sync for Copytool {}

impl Copytool {
    /// Registers, and remembers the handle for [`unregister_and_exit`].
    pub fn register(mnt: &Path, archives: &[c_int], nonblock: bool) -> io::Result<Self> {
        let mnt = c_path(mnt)?;
        let mut handle = ptr::null_mut();
        let flags = if nonblock { libc::O_NONBLOCK } else { 0 };
        // SAFETY: the list has as many entries as is said.
        check(unsafe {
            llapi_hsm_copytool_register(
                &mut handle,
                mnt.as_ptr(),
                archives.len() as c_int,
                archives.as_ptr(),
                flags,
            )
        })?;
        REGISTERED.store(handle, Ordering::Release);
        Ok(Self(handle))
    }

    /// The descriptor to poll.
    pub fn fd(&self) -> io::Result<c_int> {
        // SAFETY: the handle is registered.
        check(unsafe { llapi_hsm_copytool_get_fd(self.0) })
    }

    /// The next list, copied. Only one thread may call this.
    pub fn recv(&self) -> io::Result<Vec<u8>> {
        let (mut list, mut size) = (ptr::null_mut(), 0);
        // SAFETY: the handle is registered; the list has `size` bytes until the next call.
        unsafe {
            check(llapi_hsm_copytool_recv(self.0, &mut list, &mut size))?;
            Ok(std::slice::from_raw_parts(list.cast::<u8>(), size as usize).to_vec())
        }
    }

    /// Begins an action. `item` is at least the fixed part of an item.
    pub fn begin(&self, item: &[u8], mdt: c_int, flags: c_int, is_error: bool) -> io::Result<Action> {
        assert!(item.len() >= size_of::<hsm_action_item>(), "an item is shorter than its header");
        let mut action = ptr::null_mut();
        // SAFETY: checked above; the structure is packed and may be anywhere.
        check(unsafe {
            llapi_hsm_action_begin(&mut action, self.0, item.as_ptr().cast(), mdt, flags, is_error)
        })?;
        Ok(Action(action))
    }
}

/// Unregisters and ends the process: what copytools do in their signal handlers.
pub extern "C" fn unregister_and_exit(_signal: c_int) {
    let mut handle = REGISTERED.swap(ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: the handle is registered or NULL, both of which the library takes; _exit runs no destructors.
    unsafe {
        if !handle.is_null() {
            llapi_hsm_copytool_unregister(&mut handle);
        }
        libc::_exit(1);
    }
}

/// Unregisters.
pub fn unregister() {
    let mut handle = REGISTERED.swap(ptr::null_mut(), Ordering::AcqRel);
    if !handle.is_null() {
        // SAFETY: the handle is registered.
        unsafe { llapi_hsm_copytool_unregister(&mut handle) };
    }
}

/// An action in progress. Must be ended.
#[derive(Debug)]
pub struct Action(*mut hsm_copyaction_private);

// SAFETY: the library does not tie an action to a thread.
unsafe impl Send for Action {}

impl Action {
    /// Reports bytes copied.
    pub fn progress(&self, offset: u64, length: u64, total: u64) -> io::Result<()> {
        let extent = hsm_extent { offset, length };
        // SAFETY: the action has begun and not ended.
        check(unsafe { llapi_hsm_action_progress(self.0, &extent, total, 0) }).map(drop)
    }

    /// A descriptor of the file to read or write.
    pub fn fd(&self) -> io::Result<OwnedFd> {
        // SAFETY: the action has begun; the descriptor returned is the caller's.
        unsafe { check(llapi_hsm_action_get_fd(self.0)).map(|fd| OwnedFd::from_raw_fd(fd)) }
    }

    /// The FID whose data is copied.
    pub fn dfid(&self) -> io::Result<Fid> {
        let mut fid = MaybeUninit::<lu_fid>::zeroed();
        // SAFETY: the action has begun; zero is a valid FID structure.
        unsafe {
            check(llapi_hsm_action_get_dfid(self.0, fid.as_mut_ptr()))?;
            Ok(fid.assume_init().into())
        }
    }

    /// Ends the action with an errno, 0 for success.
    pub fn end(mut self, offset: u64, length: u64, flags: c_int, errno: c_int) -> io::Result<()> {
        let extent = hsm_extent { offset, length };
        // SAFETY: the action has begun; the library frees it.
        check(unsafe { llapi_hsm_action_end(&mut self.0, &extent, flags, errno) }).map(drop)
    }
}

/// The MDT of a FID.
pub fn mdt_index(root: c_int, fid: Fid) -> io::Result<c_int> {
    let mut index = 0;
    // SAFETY: both pointers are to locals.
    check(unsafe { llapi_get_mdt_index_by_fid(root, &fid.into(), &mut index) })?;
    Ok(index)
}

/// The file system's name.
pub fn fsname(mnt: &Path) -> io::Result<String> {
    let mnt = c_path(mnt)?;
    let mut name = [0u8; 256];
    // SAFETY: more room than any name needs.
    check(unsafe { llapi_search_fsname(mnt.as_ptr(), name.as_mut_ptr().cast()) })?;
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

/// Sets which messages of the library are printed.
pub fn set_level(level: c_int) {
    // SAFETY: stores an integer.
    unsafe { llapi_msg_set_level(level) }
}
