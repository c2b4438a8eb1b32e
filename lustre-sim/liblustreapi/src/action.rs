//! Begin, progress and end of an action.

use std::ffi::{CStr, CString, OsStr, c_int};
use std::mem::zeroed;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use lustreapi_sys::Fid;
use lustreapi_sys::abi::{
    CP_PRIV_MAGIC, HSMA_ARCHIVE, HSMA_REMOVE, HSMA_RESTORE, hsm_action_item, hsm_copyaction_private,
    hsm_copytool_private, hsm_extent, hsm_progress, lu_fid,
};
use lustreapi_sys::ioctl::{FUTIMES_3, HSM_COPY_END, HSM_COPY_START, HSM_PROGRESS};

use crate::bridge::{Root, errno, lustre_ioctl};
use crate::events::{self, Stage};
use crate::{files, messages};

/// How the library opens a file by its FID: a released file is not restored by that.
const BY_FID: c_int = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOATIME;

unsafe fn open_by_fid(ct: &hsm_copytool_private, fid: lu_fid) -> Result<c_int, c_int> {
    let name = CString::new(Fid::from(fid).file_name()).map_err(|_| -libc::EINVAL)?;
    // SAFETY: the name is a C string, the descriptor the handle's.
    let mut fd = unsafe { libc::openat(ct.open_by_fid_fd, name.as_ptr(), BY_FID) };
    if fd < 0 && errno() == libc::EPERM {
        // O_NOATIME is for the owner and root only.
        // SAFETY: as above.
        fd = unsafe { libc::openat(ct.open_by_fid_fd, name.as_ptr(), BY_FID & !libc::O_NOATIME) };
    }
    if fd < 0 { Err(-errno()) } else { Ok(fd) }
}

unsafe fn close(fd: c_int) {
    if fd >= 0 {
        // SAFETY: the descriptor is the action's own.
        unsafe { libc::close(fd) };
    }
}

/// Attributes from the MDT, by FID.
unsafe fn getattr(ct: &hsm_copytool_private, fid: lu_fid) -> Result<libc::statx, c_int> {
    let root = Root::of_fd(ct.open_by_fid_fd).ok_or(-libc::ENOTTY)?;
    let mut out = [0u8; size_of::<libc::statx>()];
    let fid: [u8; 16] = fid_bytes(fid);
    let (rc, len) = root.call(lustre_sim::protocol::OP_GETATTR, &fid, &[ct.open_by_fid_fd], &mut out);
    if rc < 0 {
        return Err(rc);
    }
    if len != out.len() {
        return Err(-libc::EPROTO);
    }
    // SAFETY: statx is plain data and the server sent exactly its bytes.
    Ok(unsafe { out.as_ptr().cast::<libc::statx>().read_unaligned() })
}

/// The bytes of a FID as they are in memory.
pub fn fid_bytes(fid: lu_fid) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&{ fid.f_seq }.to_ne_bytes());
    out[8..12].copy_from_slice(&{ fid.f_oid }.to_ne_bytes());
    out[12..].copy_from_slice(&{ fid.f_ver }.to_ne_bytes());
    out
}

/// Creates the volatile file of a restore, next to the file where that can be told.
unsafe fn create_volatile(hcp: &mut hsm_copyaction_private, mdt: c_int, flags: c_int) -> Result<(), c_int> {
    // SAFETY: the handle outlives its actions; its mount point is a C string.
    let (ct, mnt) = unsafe { (&*hcp.ct_priv, CStr::from_ptr((*hcp.ct_priv).mnt)) };
    let mnt = PathBuf::from(OsStr::from_bytes(mnt.to_bytes()));
    let fid = hcp.copy.hc_hai.hai_fid;
    let parent = match files::fid_to_path(ct.mnt_fd, fid) {
        Ok(path) => mnt.join(Path::new(OsStr::from_bytes(&path)).parent().unwrap_or(Path::new(""))),
        Err(rc) => {
            messages::error(rc, &format!("cannot get parent path to restore {}", Fid::from(fid)));
            mnt
        }
    };
    let flags = flags & !(libc::O_CREAT | libc::O_EXCL);
    let (fd, dfid) = files::create_volatile(&parent, mdt, flags, 0o600, Some(hcp.source_fd))?;
    // SAFETY: statx was filled by getattr, the descriptor is ours.
    unsafe {
        let attributes = ptr::addr_of!(hcp.statx).cast::<libc::statx>().read_unaligned();
        if libc::fchown(fd, attributes.stx_uid, attributes.stx_gid) < 0 {
            let rc = -errno();
            libc::close(fd);
            return Err(rc);
        }
        hcp.copy.hc_hai.hai_dfid = dfid;
    }
    hcp.data_fd = fd;
    Ok(())
}

/// Begins an action. With `is_error` nothing is opened or sent, only the handle for an end is made.
///
/// Works with any handle of the right shape, registered or not. On error nothing is left and `*phcp` is untouched.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_action_begin(
    phcp: *mut *mut hsm_copyaction_private,
    ct: *const hsm_copytool_private,
    hai: *const hsm_action_item,
    restore_mdt_index: c_int,
    restore_open_flags: c_int,
    is_error: bool,
) -> c_int {
    if phcp.is_null() || ct.is_null() || hai.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: all fields of the structure may be zero; the pointers are the caller's.
    unsafe {
        let hcp = libc::calloc(1, size_of::<hsm_copyaction_private>()).cast::<hsm_copyaction_private>();
        if hcp.is_null() {
            return -libc::ENOMEM;
        }
        let action = &mut *hcp;
        action.source_fd = -1;
        action.data_fd = -1;
        action.ct_priv = ct;
        action.copy.hc_hai = hai.read_unaligned();
        action.copy.hc_hai.hai_len = size_of::<hsm_action_item>() as u32;
        if !is_error {
            if let Err(rc) = begin(action, restore_mdt_index, restore_open_flags) {
                close(action.source_fd);
                close(action.data_fd);
                libc::free(hcp.cast());
                return rc;
            }
            events::progress(action, Stage::Start, 0, 0);
        }
        action.magic = CP_PRIV_MAGIC;
        *phcp = hcp;
    }
    0
}

unsafe fn begin(action: &mut hsm_copyaction_private, mdt: c_int, flags: c_int) -> Result<(), c_int> {
    // SAFETY: the handle is the caller's and outlives the action.
    unsafe {
        let ct = &*action.ct_priv;
        let item = action.copy.hc_hai;
        match item.hai_action {
            HSMA_ARCHIVE => action.source_fd = open_by_fid(ct, item.hai_dfid)?,
            HSMA_RESTORE => {
                let attributes = getattr(ct, item.hai_fid)?;
                ptr::addr_of_mut!(action.statx).cast::<libc::statx>().write_unaligned(attributes);
                action.source_fd = open_by_fid(ct, item.hai_dfid)?;
                let created = create_volatile(action, mdt, flags);
                close(action.source_fd);
                action.source_fd = -1;
                created?;
            }
            HSMA_REMOVE => {
                return match open_by_fid(ct, item.hai_fid) {
                    Ok(fd) => {
                        action.source_fd = fd;
                        Ok(())
                    }
                    // The file may be gone: that is what removes are for.
                    Err(rc) if rc == -libc::ENOENT => Ok(()),
                    Err(rc) => Err(rc),
                };
            }
            _ => {}
        }
        match lustre_ioctl(ct.mnt_fd, HSM_COPY_START, &mut action.copy) {
            rc if rc < 0 => Err(rc),
            _ => Ok(()),
        }
    }
}

/// Ends an action with the errno `errval` (0: success), frees the handle and sets it to NULL.
///
/// Returns what the MDT answered. `-EINVAL` for a bad handle, which is not freed.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_action_end(
    phcp: *mut *mut hsm_copyaction_private,
    extent: *const hsm_extent,
    hp_flags: c_int,
    errval: c_int,
) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        if phcp.is_null() || (*phcp).is_null() || extent.is_null() || (**phcp).magic != CP_PRIV_MAGIC {
            return -libc::EINVAL;
        }
        let action = &mut **phcp;
        let kind = action.copy.hc_hai.hai_action;
        let mut errval = errval;
        if kind == HSMA_RESTORE && errval == 0 {
            errval = finish_volatile(action);
        }
        if kind == HSMA_ARCHIVE || kind == HSMA_RESTORE {
            action.copy.hc_hai.hai_fid = action.copy.hc_hai.hai_dfid;
        }
        action.copy.hc_flags = hp_flags as u16;
        action.copy.hc_errval = errval.unsigned_abs() as u16;
        action.copy.hc_hai.hai_extent = extent.read_unaligned();
        let rc = lustre_ioctl((*action.ct_priv).mnt_fd, HSM_COPY_END, &mut action.copy);
        if rc == 0 {
            events::progress(action, Stage::Finish, 0, 0);
        }
        close(action.source_fd);
        close(action.data_fd);
        action.magic = 0;
        libc::free((*phcp).cast());
        *phcp = ptr::null_mut();
        rc
    }
}

/// Writes the volatile out and gives it the times of the file. Returns 0 or a negative errno.
unsafe fn finish_volatile(action: &hsm_copyaction_private) -> c_int {
    // SAFETY: the descriptor is the action's; statx is plain data.
    unsafe {
        if libc::fsync(action.data_fd) < 0 {
            return -errno();
        }
        let attributes = ptr::addr_of!(action.statx).cast::<libc::statx>().read_unaligned();
        let mut times = [0u64; 6];
        let stamps = [attributes.stx_atime, attributes.stx_mtime, attributes.stx_ctime];
        for (pair, stamp) in times.chunks_exact_mut(2).zip(stamps) {
            pair.copy_from_slice(&[stamp.tv_sec as u64, u64::from(stamp.tv_nsec)]);
        }
        lustre_ioctl(action.data_fd, FUTIMES_3, &mut times)
    }
}

/// Reports that `extent` was copied. `-ECANCELED` when the request was cancelled, `-ENOENT` when the MDT does not know it.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_action_progress(
    hcp: *const hsm_copyaction_private,
    extent: *const hsm_extent,
    total: u64,
    hp_flags: c_int,
) -> c_int {
    // SAFETY: the caller vouches for the pointers; a progress is plain data.
    unsafe {
        if hcp.is_null() || extent.is_null() || (*hcp).magic != CP_PRIV_MAGIC {
            return -libc::EINVAL;
        }
        let mut progress: hsm_progress = zeroed();
        progress.hp_cookie = (*hcp).copy.hc_hai.hai_cookie;
        progress.hp_flags = hp_flags as u16;
        progress.hp_fid = (*hcp).copy.hc_hai.hai_dfid;
        progress.hp_extent = extent.read_unaligned();
        let rc = lustre_ioctl((*(*hcp).ct_priv).mnt_fd, HSM_PROGRESS, &mut progress);
        events::progress(&*hcp, Stage::Running, total, progress.hp_extent.length);
        rc
    }
}

/// The FID whose data is copied: of an archive the file, of a restore the volatile file.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_action_get_dfid(
    hcp: *const hsm_copyaction_private,
    fid: *mut lu_fid,
) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        if hcp.is_null() || fid.is_null() || (*hcp).magic != CP_PRIV_MAGIC {
            return -libc::EINVAL;
        }
        match (*hcp).copy.hc_hai.hai_action {
            HSMA_ARCHIVE | HSMA_RESTORE => {
                fid.write_unaligned((*hcp).copy.hc_hai.hai_dfid);
                0
            }
            _ => -libc::EINVAL,
        }
    }
}

/// A new descriptor of the file to read (archive) or to write (restore); the caller closes it.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_action_get_fd(hcp: *const hsm_copyaction_private) -> c_int {
    // SAFETY: the caller vouches for the pointer.
    unsafe {
        if hcp.is_null() || (*hcp).magic != CP_PRIV_MAGIC {
            return -libc::EINVAL;
        }
        let fd = match (*hcp).copy.hc_hai.hai_action {
            HSMA_ARCHIVE => (*hcp).source_fd,
            HSMA_RESTORE => (*hcp).data_fd,
            _ => return -libc::EINVAL,
        };
        let copy = libc::dup(fd);
        if copy < 0 { -errno() } else { copy }
    }
}
