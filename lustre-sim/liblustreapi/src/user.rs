//! What users ask of HSM: requests, states, imports.

use std::ffi::{c_char, c_int, c_ulonglong, c_void};

use lustreapi_sys::abi::{
    HSS_ARCHIVE_ID, HSS_CLEARMASK, HSS_SETMASK, hsm_current_action, hsm_state_set, hsm_user_import,
    hsm_user_item, hsm_user_request, hsm_user_state, lu_fid,
};
use lustreapi_sys::ioctl::{HSM_ACTION, HSM_IMPORT, HSM_REQUEST, HSM_STATE_GET, HSM_STATE_SET};

use crate::bridge::lustre_ioctl;
use crate::files::{self, path, with_open};
use crate::{messages, mounts};

/// A request with room for items and data, to be freed with `free`. NULL when there is no memory.
#[unsafe(no_mangle)]
pub extern "C" fn llapi_hsm_user_request_alloc(itemcount: c_int, data_len: c_int) -> *mut hsm_user_request {
    let (Ok(items), Ok(data)) = (usize::try_from(itemcount), usize::try_from(data_len)) else {
        return std::ptr::null_mut();
    };
    let len = size_of::<hsm_user_request>() + items * size_of::<hsm_user_item>() + data;
    // SAFETY: plain allocation.
    unsafe { libc::calloc(1, len).cast() }
}

/// Submits a request on the file system that holds `name`.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_request(name: *const c_char, request: *const hsm_user_request) -> c_int {
    let mut fd = -1;
    // SAFETY: the caller vouches for the pointers; the request is only read.
    unsafe {
        let rc = mounts::llapi_root_path_open(name, &mut fd);
        if rc < 0 {
            return rc;
        }
        let rc = lustre_ioctl(fd, HSM_REQUEST, request.cast_mut());
        libc::close(fd);
        rc
    }
}

/// HSM state of the file behind a descriptor.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_state_get_fd(fd: c_int, state: *mut hsm_user_state) -> c_int {
    // SAFETY: the caller vouches for the pointer.
    unsafe { lustre_ioctl(fd, HSM_STATE_GET, state) }
}

/// HSM state of a path.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_state_get(name: *const c_char, state: *mut hsm_user_state) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        with_open(path(name), libc::O_RDONLY | libc::O_NONBLOCK, |fd| llapi_hsm_state_get_fd(fd, state))
    }
}

/// Sets and clears HSM flags, and the archive id unless it is 0.
#[unsafe(no_mangle)]
pub extern "C" fn llapi_hsm_state_set_fd(fd: c_int, setmask: u64, clearmask: u64, archive_id: u32) -> c_int {
    let id_valid = if archive_id > 0 { HSS_ARCHIVE_ID } else { 0 };
    let mut set = hsm_state_set {
        hss_valid: HSS_SETMASK | HSS_CLEARMASK | id_valid,
        hss_archive_id: archive_id,
        hss_setmask: setmask,
        hss_clearmask: clearmask,
    };
    // SAFETY: the ioctl's own structure.
    unsafe { lustre_ioctl(fd, HSM_STATE_SET, &mut set) }
}

/// [`llapi_hsm_state_set_fd`] of a path.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_state_set(
    name: *const c_char,
    setmask: u64,
    clearmask: u64,
    archive_id: u32,
) -> c_int {
    // SAFETY: the caller vouches for the string.
    let name = unsafe { path(name) };
    with_open(name, libc::O_WRONLY | libc::O_NONBLOCK, |fd| {
        llapi_hsm_state_set_fd(fd, setmask, clearmask, archive_id)
    })
}

/// What is being done to a file.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_current_action(
    name: *const c_char,
    action: *mut hsm_current_action,
) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        with_open(path(name), libc::O_RDONLY | libc::O_NONBLOCK, |fd| lustre_ioctl(fd, HSM_ACTION, action))
    }
}

/// Makes a released file of what an archive holds. Stripe parameters have no meaning here.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_import(
    dst: *const c_char,
    archive: c_int,
    st: *const libc::stat,
    _stripe_size: c_ulonglong,
    _stripe_offset: c_int,
    _stripe_count: c_int,
    _stripe_pattern: c_int,
    _pool_name: *mut c_char,
    newfid: *mut lu_fid,
) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        let st = &*st;
        let fd = files::open(path(dst), libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY, st.st_mode & 0o7777);
        if fd < 0 {
            messages::error(fd, &format!("cannot create '{}' for import", path(dst).display()));
            return fd;
        }
        let mut rc = files::llapi_fd2fid(fd, newfid);
        if rc == 0 {
            let mut import = hsm_user_import {
                hui_size: st.st_size as u64,
                hui_atime: st.st_atime as u64,
                hui_mtime: st.st_mtime as u64,
                hui_atime_ns: st.st_atime_nsec as u32,
                hui_mtime_ns: st.st_mtime_nsec as u32,
                hui_uid: st.st_uid,
                hui_gid: st.st_gid,
                hui_mode: st.st_mode,
                hui_archive_id: archive as u32,
            };
            rc = lustre_ioctl(fd, HSM_IMPORT, &mut import);
        }
        libc::close(fd);
        if rc < 0 {
            messages::error(rc, &format!("cannot import '{}'", path(dst).display()));
            libc::unlink(dst);
        }
        rc
    }
}

/// Tells the MDT the data version that the archive holds.
#[unsafe(no_mangle)]
pub extern "C" fn llapi_hsm_data_version_set(fd: c_int, data_version: u64) -> c_int {
    let mut argument = [data_version, 0];
    // SAFETY: 16 bytes, as the ioctl takes.
    unsafe {
        lustre_ioctl(
            fd,
            lustre_sim::protocol::ioctl::DATA_VERSION_SET,
            argument.as_mut_ptr().cast::<c_void>(),
        )
    }
}
