//! Functions of the C library that behave differently on Lustre: `ioctl` and the extended attribute `lustre.lov`.
//!
//! A copytool that links liblustreapi finds them here before libc's, and so does a program started with this library
//! preloaded. On anything that is not in an embedded Lustre they are the plain system calls.

use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};

use lustre_sim::protocol;
use lustreapi_sys::ioctl as num;

use crate::bridge::{Root, set_errno};

/// Most path bytes that `FID2PATH` may ask for.
const MAX_PATH: usize = libc::PATH_MAX as usize;
const MAX_ARGUMENT: usize = 4 * 1024 + 64;
/// The longest `HSM_REQUEST` that is passed on; the server says `E2BIG` long before.
const MAX_HSM_REQUEST: usize = 64 * 1024;

/// How an ioctl's argument travels.
enum Argument {
    /// So many bytes to the server.
    In(usize),
    /// So many bytes from the server.
    Out(usize),
    /// Both ways.
    Both(usize),
}

/// # Safety
/// `arg` must be what the request takes.
unsafe fn argument(request: u64, arg: *const u8) -> Option<Argument> {
    // SAFETY: the caller vouches for `arg`; a 4-byte word is read at an offset inside the structure.
    let word = |at: usize| unsafe { arg.add(at).cast::<u32>().read_unaligned() as usize };
    Some(match request {
        num::HSM_STATE_GET => Argument::Out(32),
        num::HSM_STATE_SET => Argument::In(24),
        num::HSM_CT_START => {
            const DATANR: usize = 2;
            let ids = if word(20) & DATANR != 0 { word(16).min(1025) } else { 0 };
            Argument::In(24 + 4 * ids)
        }
        num::HSM_COPY_START => Argument::Both(88),
        num::HSM_COPY_END => Argument::Both(88),
        num::HSM_PROGRESS => Argument::In(48),
        num::HSM_REQUEST => {
            let len = word(16).saturating_mul(32).saturating_add(word(20)).saturating_add(24);
            Argument::In(len.min(MAX_HSM_REQUEST))
        }
        num::HSM_ACTION => Argument::Out(24),
        num::HSM_IMPORT => Argument::Both(48),
        num::FID2PATH => Argument::Both(32 + word(28).min(MAX_PATH)),
        num::FID2MDTIDX => Argument::In(16),
        num::FUTIMES_3 => Argument::In(48),
        protocol::ioctl::PATH2FID => Argument::Out(16),
        protocol::ioctl::GETMDNAME => Argument::Out(128),
        protocol::ioctl::GET_MDTIDX => Argument::Out(4),
        protocol::ioctl::DATA_VERSION => Argument::Both(16),
        protocol::ioctl::DATA_VERSION_SET => Argument::In(16),
        _ => return None,
    })
}

unsafe fn real_ioctl(fd: c_int, request: c_ulong, arg: *mut c_void) -> c_int {
    // SAFETY: the caller's own ioctl, passed on unchanged.
    unsafe { libc::syscall(libc::SYS_ioctl, fd, request, arg) as c_int }
}

/// `ioctl` with Lustre's requests served by the embedded Lustre.
///
/// # Safety
/// As for ioctl(2): `arg` must be what the request takes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, arg: *mut c_void) -> c_int {
    // The C library passes the request as unsigned long; some callers sign-extend it.
    let number = u64::from(request as u32);
    if (number >> 8) & 0xff != u64::from(b'f') || arg.is_null() {
        // SAFETY: passed on unchanged.
        return unsafe { real_ioctl(fd, request, arg) };
    }
    // SAFETY: the caller vouches for `arg`.
    let Some(shape) = (unsafe { argument(number, arg.cast()) }) else {
        // SAFETY: passed on unchanged.
        return unsafe { real_ioctl(fd, request, arg) };
    };
    let Some(root) = Root::of_fd(fd) else {
        // SAFETY: passed on unchanged.
        return unsafe { real_ioctl(fd, request, arg) };
    };
    let (send, receive) = match shape {
        Argument::In(n) => (n, 0),
        Argument::Out(n) => (0, n),
        Argument::Both(n) => (n, n),
    };
    // SAFETY: the argument has at least this many bytes, as computed from its own counts.
    let body = unsafe { std::slice::from_raw_parts(arg.cast::<u8>(), send) };
    let pipe = if number == num::HSM_CT_START && !stops(body) { word(body, 0) as c_int } else { -1 };
    let mut out = [0u8; MAX_ARGUMENT];
    let (rc, len) = root.call(number, body, &[fd, pipe], &mut out);
    if rc < 0 {
        set_errno(-rc);
        return -1;
    }
    if len > 0 && len <= receive {
        // SAFETY: the argument has `receive` bytes.
        unsafe { std::ptr::copy_nonoverlapping(out.as_ptr(), arg.cast::<u8>(), len) };
    }
    rc
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// Whether a `lustre_kernelcomm` unregisters.
fn stops(body: &[u8]) -> bool {
    word(body, 20) & lustreapi_sys::abi::LK_FLG_STOP != 0
}

/// Whether an attribute's name is that of the layout.
///
/// # Safety
/// `name` must be a C string.
unsafe fn is_layout(name: *const c_char) -> bool {
    // SAFETY: the caller vouches for the string.
    !name.is_null() && unsafe { CStr::from_ptr(name) } == c"lustre.lov"
}

/// `fgetxattr` that knows `lustre.lov`.
///
/// # Safety
/// As for fgetxattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fgetxattr(fd: c_int, name: *const c_char, value: *mut c_void, size: usize) -> isize {
    // SAFETY: the caller vouches for the name.
    if unsafe { is_layout(name) }
        && let Some(root) = Root::of_fd(fd)
    {
        let mut out = [0u8; MAX_ARGUMENT];
        let (rc, len) = root.call(protocol::OP_GET_LAYOUT, &[], &[fd], &mut out);
        if rc < 0 {
            set_errno(-rc);
            return -1;
        }
        if size != 0 {
            if size < len {
                set_errno(libc::ERANGE);
                return -1;
            }
            // SAFETY: `value` has `size` bytes.
            unsafe { std::ptr::copy_nonoverlapping(out.as_ptr(), value.cast::<u8>(), len) };
        }
        return len as isize;
    }
    // SAFETY: passed on unchanged.
    unsafe { libc::syscall(libc::SYS_fgetxattr, fd, name, value, size) as isize }
}

/// `fsetxattr` that knows `lustre.lov`.
///
/// # Safety
/// As for fsetxattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsetxattr(
    fd: c_int,
    name: *const c_char,
    value: *const c_void,
    size: usize,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller vouches for the name.
    if unsafe { is_layout(name) }
        && let Some(root) = Root::of_fd(fd)
    {
        // SAFETY: `value` has `size` bytes.
        let body = unsafe { std::slice::from_raw_parts(value.cast::<u8>(), size.min(65536)) };
        let (rc, _) = root.call(protocol::OP_SET_LAYOUT, body, &[fd], &mut []);
        if rc < 0 {
            set_errno(-rc);
            return -1;
        }
        return 0;
    }
    // SAFETY: passed on unchanged.
    unsafe { libc::syscall(libc::SYS_fsetxattr, fd, name, value, size, flags) as c_int }
}
