//! Registration of a copytool and reception of its action lists.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use lustreapi_sys::abi::{
    CT_PRIV_MAGIC, HAL_MAXSIZE, HMT_ACTION_LIST, KUC_GRP_HSM, KUC_MAGIC, KUC_MSG_SHUTDOWN,
    KUC_TRANSPORT_GENERIC, KUC_TRANSPORT_HSM, LK_FLG_DATANR, LK_FLG_STOP, LK_NOFD,
    LL_HSM_MAX_ARCHIVES_PER_AGENT, hsm_action_list, hsm_copytool_private, kuc_hdr, lustre_kernelcomm,
};
use lustreapi_sys::ioctl::HSM_CT_START;

use crate::bridge::{errno, lustre_ioctl};
use crate::{events, messages};

const HEADER: usize = size_of::<kuc_hdr>();

/// Where the archive ids begin in the block behind `hsm_copytool_private.kuc`.
unsafe fn ids(kuc: *mut lustre_kernelcomm) -> *mut u32 {
    // SAFETY: the block was allocated with room for the ids behind the structure.
    unsafe { kuc.add(1).cast::<u32>() }
}

/// Whether `ct` is a handle of [`llapi_hsm_copytool_register`].
unsafe fn is_registered(ct: *const hsm_copytool_private) -> bool {
    // SAFETY: the caller gives NULL or a handle; any handle begins with its magic.
    !ct.is_null() && unsafe { (*ct).magic } as u32 == CT_PRIV_MAGIC
}

unsafe fn close(fd: c_int) {
    if fd >= 0 {
        // SAFETY: the descriptor is the handle's own.
        unsafe { libc::close(fd) };
    }
}

/// Everything that belongs to a handle is one mapping, so that it can be let go in a signal handler, where `free` may not be
/// called: the handle, its archive ids, the mount point's name, the buffer for messages.
struct Parts {
    ids: usize,
    mnt: usize,
    buffer: usize,
    len: usize,
}

impl Parts {
    fn of(ids: usize, mnt: &CStr) -> Self {
        let kuc = size_of::<hsm_copytool_private>();
        let name = kuc + size_of::<lustre_kernelcomm>() + 4 * ids;
        let buffer = (name + mnt.to_bytes_with_nul().len()).next_multiple_of(align_of::<kuc_hdr>());
        Self { ids: kuc, mnt: name, buffer, len: buffer + HAL_MAXSIZE + HEADER }
    }

    /// Maps a zeroed handle whose pointers are in place, or NULL.
    unsafe fn map(&self, mnt: &CStr) -> *mut hsm_copytool_private {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping; all parts lie within it.
        unsafe {
            let base = libc::mmap(ptr::null_mut(), self.len, protection, flags, -1, 0);
            if base == libc::MAP_FAILED {
                return ptr::null_mut();
            }
            let base = base.cast::<u8>();
            let name = base.add(self.mnt).cast::<c_char>();
            ptr::copy_nonoverlapping(mnt.as_ptr(), name, mnt.to_bytes_with_nul().len());
            let ct = base.cast::<hsm_copytool_private>();
            ct.write(hsm_copytool_private {
                magic: CT_PRIV_MAGIC as c_int,
                mnt: name,
                kuch: base.add(self.buffer).cast(),
                mnt_fd: -1,
                open_by_fid_fd: -1,
                kuc: base.add(self.ids).cast(),
            });
            ct
        }
    }
}

/// Closes a handle's descriptors and unmaps it.
unsafe fn dispose(ct: *mut hsm_copytool_private) {
    // SAFETY: mapped by `Parts::map`; the buffer is its last part.
    unsafe {
        close((*ct).open_by_fid_fd);
        close((*ct).mnt_fd);
        let end = (*ct).kuch.cast::<u8>().add(HAL_MAXSIZE + HEADER);
        let len = usize::try_from(end.offset_from(ct.cast::<u8>())).unwrap_or(0);
        (*ct).magic = 0;
        libc::munmap(ct.cast(), len);
    }
}

/// Closes both ends of the pipe.
unsafe fn close_pipe(kuc: *mut lustre_kernelcomm) {
    // SAFETY: the block is the handle's own.
    unsafe {
        for end in [ptr::addr_of_mut!((*kuc).lk_wfd), ptr::addr_of_mut!((*kuc).lk_rfd)] {
            let fd = end.read_unaligned();
            if fd != LK_NOFD {
                libc::close(fd as c_int);
            }
            end.write_unaligned(LK_NOFD);
        }
    }
}

/// Registers a copytool on the mount point `mnt` for `archive_count` archive ids (0 or an id of 0: all).
///
/// Returns 0 or `-EINVAL` (no list, a negative id), `-EEXIST` (this mount has an agent), or what opening the mount and the
/// coordinators said.
///
/// # Safety
/// As for the C function: `archives` has `archive_count` entries, `mnt` is a string, `handle` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_copytool_register(
    handle: *mut *mut hsm_copytool_private,
    mnt: *const c_char,
    archive_count: c_int,
    archives: *const c_int,
    rfd_flags: c_int,
) -> c_int {
    if archive_count > 0 && archives.is_null() {
        messages::error_text("NULL archive numbers");
        return -libc::EINVAL;
    }
    let wanted = match usize::try_from(archive_count) {
        Ok(0) | Err(_) => &[][..],
        // SAFETY: the caller vouches for the list.
        Ok(n) => unsafe { std::slice::from_raw_parts(archives, n) },
    };
    let wanted = if wanted.contains(&0) { &[][..] } else { wanted };
    if handle.is_null() || mnt.is_null() || wanted.len() > LL_HSM_MAX_ARCHIVES_PER_AGENT {
        return -libc::EINVAL;
    }
    // SAFETY: the caller vouches for the string; the handle is disposed of on every error.
    unsafe {
        let mnt = CStr::from_ptr(mnt);
        let ct = Parts::of(wanted.len(), mnt).map(mnt);
        if ct.is_null() {
            return -libc::ENOMEM;
        }
        let rc = register(&mut *ct, wanted, rfd_flags);
        if rc < 0 {
            dispose(ct);
            return rc;
        }
        *handle = ct;
    }
    0
}

unsafe fn register(ct: &mut hsm_copytool_private, wanted: &[c_int], rfd_flags: c_int) -> c_int {
    // SAFETY: strings are NUL-terminated, `kuc` has room for the ids.
    unsafe {
        ct.mnt_fd = libc::open(ct.mnt, libc::O_RDONLY);
        if ct.mnt_fd < 0 {
            return -errno();
        }
        ct.open_by_fid_fd = libc::openat(ct.mnt_fd, c".lustre/fid".as_ptr(), libc::O_RDONLY);
        if ct.open_by_fid_fd < 0 {
            return -errno();
        }
        let mut ends = [0 as c_int; 2];
        if libc::pipe(ends.as_mut_ptr()) < 0 {
            return -errno();
        }
        ct.kuc.write_unaligned(lustre_kernelcomm {
            lk_wfd: ends[1] as u32,
            lk_rfd: ends[0] as u32,
            lk_uid: libc::getpid() as u32,
            lk_group: KUC_GRP_HSM,
            lk_data_count: wanted.len() as u32,
            lk_flags: LK_FLG_DATANR,
        });
        if libc::fcntl(ends[0], libc::F_SETFL, rfd_flags) < 0 {
            let rc = -errno();
            close_pipe(ct.kuc);
            return rc;
        }
        for (i, id) in wanted.iter().enumerate() {
            let Ok(id) = u32::try_from(*id) else {
                messages::error_text(&format!("{id} requested when archive id >= 0 is supported"));
                close_pipe(ct.kuc);
                return -libc::EINVAL;
            };
            ids(ct.kuc).add(i).write_unaligned(id);
        }
        let rc = lustre_ioctl(ct.mnt_fd, HSM_CT_START, ct.kuc);
        if rc < 0 {
            let mnt = CStr::from_ptr(ct.mnt).to_string_lossy();
            messages::error(rc, &format!("cannot start copytool on '{mnt}'"));
            close_pipe(ct.kuc);
            return rc;
        }
        events::registration(ct, true);
        // Only the server's copy keeps the write end open.
        libc::close(ends[1]);
        (*ct.kuc).lk_wfd = LK_NOFD;
    }
    0
}

/// Ends a registration. The read end is closed first, so that a server that waits for room in the pipe is set free.
///
/// # Safety
/// `handle` must be NULL or point to NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_copytool_unregister(handle: *mut *mut hsm_copytool_private) -> c_int {
    // SAFETY: the caller vouches for the handle.
    unsafe {
        if handle.is_null() || !is_registered(*handle) {
            return -libc::EINVAL;
        }
        let ct = *handle;
        close_pipe((*ct).kuc);
        (*(*ct).kuc).lk_flags = LK_FLG_STOP;
        lustre_ioctl((*ct).mnt_fd, HSM_CT_START, (*ct).kuc);
        events::registration(&*ct, false);
        dispose(ct);
        *handle = ptr::null_mut();
    }
    0
}

/// The descriptor to poll for action lists, or `-EINVAL`.
///
/// # Safety
/// `ct` must be NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_copytool_get_fd(ct: *const hsm_copytool_private) -> c_int {
    // SAFETY: the caller vouches for the handle.
    unsafe { if is_registered(ct) { (*(*ct).kuc).lk_rfd as c_int } else { -libc::EINVAL } }
}

/// Reads exactly `len` bytes. `-EAGAIN` only when nothing was read, `-EPIPE` at the end of the pipe.
unsafe fn read_full(fd: c_int, buffer: *mut u8, len: usize, started: bool) -> c_int {
    let mut have = 0;
    while have < len {
        // SAFETY: the buffer has `len` bytes.
        let n = unsafe { libc::read(fd, buffer.add(have).cast(), len - have) };
        if n > 0 {
            have += n as usize;
        } else if n == 0 {
            return -libc::EPIPE;
        } else {
            match errno() {
                libc::EINTR => {}
                libc::EAGAIN if have > 0 || started => {
                    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
                    // SAFETY: one pollfd.
                    if unsafe { libc::poll(&mut poll, 1, -1) } < 0 && errno() != libc::EINTR {
                        return -errno();
                    }
                }
                error => return -error,
            }
        }
    }
    0
}

/// Waits for the next action list; its buffer is valid until the next call.
///
/// Lists of archive ids that were not registered are skipped. Returns 0, `-ESHUTDOWN` (the client is being unmounted),
/// `-EAGAIN` (non-blocking and nothing there), `-EPROTO`, `-EMSGSIZE` or `-EPIPE`.
///
/// # Safety
/// `ct` must be NULL or a handle, and no other thread may receive on it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_copytool_recv(
    ct: *mut hsm_copytool_private,
    hal: *mut *mut hsm_action_list,
    msgsize: *mut c_int,
) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        if !is_registered(ct) || hal.is_null() || msgsize.is_null() {
            return -libc::EINVAL;
        }
        match receive(&*ct) {
            Ok(len) => {
                *hal = (*ct).kuch.add(1).cast();
                *msgsize = len as c_int;
                0
            }
            Err(rc) => {
                *hal = ptr::null_mut();
                *msgsize = 0;
                rc
            }
        }
    }
}

unsafe fn receive(ct: &hsm_copytool_private) -> Result<usize, c_int> {
    // SAFETY: `kuch` has HAL_MAXSIZE bytes behind its header, `kuc` its ids behind its structure.
    unsafe {
        let fd = (*ct.kuc).lk_rfd as c_int;
        let buffer = ct.kuch.cast::<u8>();
        loop {
            ptr::write_bytes(buffer, 0, HAL_MAXSIZE + HEADER);
            let rc = read_full(fd, buffer, HEADER, false);
            if rc < 0 {
                return Err(rc);
            }
            let head = ct.kuch.read();
            let len = usize::from(head.kuc_msglen);
            if head.kuc_magic != KUC_MAGIC {
                messages::error_text(&format!("bad message magic {:#x}, not {KUC_MAGIC:#x}", head.kuc_magic));
                return Err(-libc::EPROTO);
            }
            if len < HEADER {
                return Err(-libc::EPROTO);
            }
            let rc = read_full(fd, buffer.add(HEADER), len - HEADER, true);
            if rc < 0 {
                return Err(rc);
            }
            match (head.kuc_transport, head.kuc_msgtype) {
                (KUC_TRANSPORT_GENERIC, KUC_MSG_SHUTDOWN) => return Err(-libc::ESHUTDOWN),
                (KUC_TRANSPORT_HSM, HMT_ACTION_LIST) => {}
                (KUC_TRANSPORT_HSM | KUC_TRANSPORT_GENERIC, other) => {
                    messages::error_text(&format!("unknown HSM message type {}:{other}", head.kuc_transport));
                    return Err(-libc::EPROTO);
                }
                _ => continue,
            }
            if len < HEADER + size_of::<hsm_action_list>() {
                messages::error_text(&format!("short HSM message of {len} bytes"));
                return Err(-libc::EPROTO);
            }
            let archive = buffer.add(HEADER).cast::<hsm_action_list>().read_unaligned().hal_archive_id;
            let count = (*ct.kuc).lk_data_count as usize;
            if count == 0 || (0..count).any(|i| ids(ct.kuc).add(i).read_unaligned() == archive) {
                return Ok(len - HEADER);
            }
        }
    }
}
