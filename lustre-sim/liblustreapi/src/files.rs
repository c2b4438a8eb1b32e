//! Files by path, descriptor and FID.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_uint, c_ulong};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use lustre_sim::protocol;
use lustreapi_sys::Fid;
use lustreapi_sys::abi::lu_fid;
use lustreapi_sys::ioctl::{FID2MDTIDX, FID2PATH};

use crate::action::fid_bytes;
use crate::bridge::{Root, errno, lustre_ioctl};
use crate::{messages, mounts};

/// The start of a volatile file's name.
pub const VOLATILE: &str = ".\x0c\x13\x14\x12:VOLATILE";
const PATH_ROOM: usize = libc::PATH_MAX as usize;

/// A path as Rust has it.
///
/// # Safety
/// `path` must be a C string.
pub unsafe fn path<'a>(path: *const c_char) -> &'a Path {
    // SAFETY: the caller vouches for the string.
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()))
}

/// A descriptor of `path`, or a negative errno.
pub fn open(path: &Path, flags: c_int, mode: c_uint) -> c_int {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return -libc::EINVAL };
    // SAFETY: a C string.
    let fd = unsafe { libc::open(path.as_ptr(), flags, mode) };
    if fd < 0 { -errno() } else { fd }
}

/// Calls `f` with a descriptor of `path`.
pub fn with_open(path: &Path, flags: c_int, f: impl FnOnce(c_int) -> c_int) -> c_int {
    let fd = open(path, flags, 0);
    if fd < 0 {
        return fd;
    }
    let rc = f(fd);
    // SAFETY: opened above.
    unsafe { libc::close(fd) };
    rc
}

/// The argument of `FID2PATH`: head, then the path.
fn fid2path_ioctl(
    fd: c_int,
    fid: lu_fid,
    recno: i64,
    linkno: u32,
    room: usize,
) -> Result<(i64, u32, Vec<u8>), c_int> {
    let mut argument = vec![0u8; 32 + room];
    argument[..16].copy_from_slice(&fid_bytes(fid));
    argument[16..24].copy_from_slice(&recno.to_ne_bytes());
    argument[24..28].copy_from_slice(&linkno.to_ne_bytes());
    argument[28..32].copy_from_slice(&(room as u32).to_ne_bytes());
    // SAFETY: the argument has the room its head says.
    let rc = unsafe { lustre_ioctl(fd, FID2PATH, argument.as_mut_ptr()) };
    if rc < 0 {
        return Err(rc);
    }
    let mut word = [0; 8];
    word.copy_from_slice(&argument[16..24]);
    let linkno = u32::from_ne_bytes([argument[24], argument[25], argument[26], argument[27]]);
    let path = &argument[32..];
    let end = path.iter().position(|b| *b == 0).unwrap_or(path.len());
    Ok((i64::from_ne_bytes(word), linkno, path[..end].to_vec()))
}

/// The first path of a file, relative to the root.
pub fn fid_to_path(fd: c_int, fid: lu_fid) -> Result<Vec<u8>, c_int> {
    fid2path_ioctl(fd, fid, -1, 0, PATH_ROOM).map(|(_, _, path)| path)
}

/// Writes a path of `fid` relative to the root into `buffer`.
///
/// # Safety
/// As for the C function: `buffer` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_fid2path_at(
    mnt_fd: c_int,
    fid: *const lu_fid,
    buffer: *mut c_char,
    size: c_int,
    recno: *mut i64,
    linkno: *mut c_int,
) -> c_int {
    let Ok(room) = usize::try_from(size) else { return -libc::EINVAL };
    if fid.is_null() || buffer.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        let first = if recno.is_null() { -1 } else { recno.read() };
        let link = if linkno.is_null() { 0 } else { linkno.read() as u32 };
        match fid2path_ioctl(mnt_fd, fid.read_unaligned(), first, link, room.min(PATH_ROOM)) {
            Err(rc) => rc,
            Ok((first, link, path)) => {
                let path = if path.is_empty() { &b"/"[..] } else { &path };
                if path.len() + 1 > room {
                    return -libc::EOVERFLOW;
                }
                std::ptr::copy_nonoverlapping(path.as_ptr().cast(), buffer, path.len());
                *buffer.add(path.len()) = 0;
                if !recno.is_null() {
                    recno.write(first);
                }
                if !linkno.is_null() {
                    linkno.write(link as c_int);
                }
                0
            }
        }
    }
}

/// [`llapi_fid2path_at`] with the mount as a path (or file system name) and the FID as text.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_fid2path(
    device: *const c_char,
    fidstr: *const c_char,
    buffer: *mut c_char,
    size: c_int,
    recno: *mut i64,
    linkno: *mut c_int,
) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        if device.is_null() || *device == 0 {
            return -libc::EINVAL;
        }
        let mut fid = lu_fid::default();
        let rc = llapi_fid_parse(fidstr, &mut fid, std::ptr::null_mut());
        if rc < 0 {
            messages::error_text("bad FID, should be [seq:oid:ver]");
            return rc;
        }
        let mut fd = -1;
        let rc = mounts::llapi_root_path_open(device, &mut fd);
        if rc < 0 {
            return rc;
        }
        let rc = llapi_fid2path_at(fd, &fid, buffer, size, recno, linkno);
        libc::close(fd);
        rc
    }
}

/// The FID of the file behind a descriptor.
///
/// # Safety
/// `fid` must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_fd2fid(fd: c_int, fid: *mut lu_fid) -> c_int {
    if fid.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: 16 bytes, as the ioctl fills.
    unsafe {
        fid.write_unaligned(lu_fid::default());
        lustre_ioctl(fd, protocol::ioctl::PATH2FID, fid)
    }
}

/// The FID of a path.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_path2fid(name: *const c_char, fid: *mut lu_fid) -> c_int {
    // SAFETY: the caller vouches for both.
    unsafe {
        with_open(path(name), libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOFOLLOW, |fd| {
            llapi_fd2fid(fd, fid)
        })
    }
}

/// Opens a file by its FID; `lustre_fd` is anything in the file system.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_open_by_fid_at(lustre_fd: c_int, fid: *const lu_fid, flags: c_int) -> c_int {
    if fid.is_null() {
        set_and(-libc::EINVAL)
    } else if let Some(root) = Root::of_fd(lustre_fd) {
        // SAFETY: the caller vouches for the FID.
        let name = Fid::from(unsafe { fid.read_unaligned() }).file_name();
        let path = Path::new(OsStr::from_bytes(root.path())).join(".lustre/fid").join(name);
        set_and(open(&path, flags, 0))
    } else {
        set_and(-libc::ENOTTY)
    }
}

/// [`llapi_open_by_fid_at`] with a path in the file system.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_open_by_fid(dir: *const c_char, fid: *const lu_fid, flags: c_int) -> c_int {
    // SAFETY: the caller vouches for both.
    unsafe { with_open(path(dir), libc::O_RDONLY, |fd| llapi_open_by_fid_at(fd, fid, flags)) }
}

fn set_and(rc: c_int) -> c_int {
    if rc < 0 {
        crate::bridge::set_errno(-rc);
    }
    rc
}

/// The index of the MDT that holds a FID, also stored in `*mdt_index`.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_get_mdt_index_by_fid(
    fd: c_int,
    fid: *const lu_fid,
    mdt_index: *mut c_int,
) -> c_int {
    if fid.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        let mut copy = fid.read_unaligned();
        let rc = lustre_ioctl(fd, FID2MDTIDX, &mut copy);
        if rc >= 0 && !mdt_index.is_null() {
            mdt_index.write(rc);
        }
        rc
    }
}

/// The index of the MDT that holds the file behind a descriptor.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_file_fget_mdtidx(fd: c_int, mdt_index: *mut c_int) -> c_int {
    if mdt_index.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: the caller vouches for the pointer.
    unsafe { lustre_ioctl(fd, protocol::ioctl::GET_MDTIDX, mdt_index) }
}

/// Reads `[seq:oid:ver]` with or without brackets; numbers as `strtoull` reads them. `*end` is what follows.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_fid_parse(
    text: *const c_char,
    fid: *mut lu_fid,
    end: *mut *mut c_char,
) -> c_int {
    if text.is_null() || fid.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: every read stops at the string's NUL.
    unsafe {
        let mut at = text;
        while (*at as u8).is_ascii_whitespace() {
            at = at.add(1);
        }
        let bracket = *at as u8 == b'[';
        while *at as u8 == b'[' {
            at = at.add(1);
        }
        let mut rc = 0;
        let mut parts = [0u64; 3];
        for (i, part) in parts.iter_mut().enumerate() {
            let mut next: *mut c_char = std::ptr::null_mut();
            crate::bridge::set_errno(0);
            *part = libc::strtoull(at, &mut next, 0);
            let last = i == 2;
            if std::ptr::eq(next, at) || (!last && *next as u8 != b':') {
                return -libc::EINVAL;
            }
            if errno() == libc::ERANGE || *part > [u64::MAX - 1, u64::from(u32::MAX), u64::from(u32::MAX)][i]
            {
                rc = -libc::ERANGE;
            }
            at = if last { next } else { next.add(1) };
        }
        if bracket {
            while *at as u8 == b']' {
                at = at.add(1);
            }
        }
        if !end.is_null() {
            *end = at.cast_mut();
        }
        if rc == 0 {
            fid.write_unaligned(lu_fid { f_seq: parts[0], f_oid: parts[1] as u32, f_ver: parts[2] as u32 });
        }
        rc
    }
}

/// A hash of a FID in `shift` bits (any spread will do: callers use it for buckets).
///
/// # Safety
/// `fid` must be readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_fid_hash(fid: *const lu_fid, shift: c_uint) -> c_ulong {
    // SAFETY: the caller vouches for the FID.
    let fid = Fid::from(unsafe { fid.read_unaligned() });
    let mixed =
        (fid.seq ^ (u64::from(fid.oid) << 7) ^ u64::from(fid.ver)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    if shift == 0 || shift >= 64 { mixed } else { mixed >> (64 - shift) }
}

/// Creates a file without a name on the MDT `mdt` (-1: its parent's) and returns its descriptor and FID.
///
/// `source` is put into the name, as Lustre since 2.16 does on a restore.
pub fn create_volatile(
    dir: &Path,
    mdt: c_int,
    flags: c_int,
    mode: c_uint,
    source: Option<c_int>,
) -> Result<(c_int, lu_fid), c_int> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let access =
        if flags & libc::O_ACCMODE == libc::O_RDONLY { libc::O_RDWR } else { flags & libc::O_ACCMODE };
    let flags = (flags & !libc::O_ACCMODE) | access | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    loop {
        // Two processes may draw the same number: then the file exists and the next is tried.
        let number = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9) ^ std::process::id();
        let index = if mdt < 0 { String::new() } else { format!("{mdt:04X}") };
        let source = source.map(|fd| format!(":fd={fd:02}")).unwrap_or_default();
        let path = dir.join(format!("{VOLATILE}:{index}:{number:04X}{source}"));
        let fd = open(&path, flags, mode);
        if fd == -libc::EEXIST {
            continue;
        }
        if fd < 0 {
            return Err(fd);
        }
        // The server gives it a FID while it still has a name.
        let mut out = [0; 16];
        let (rc, _) = match Root::of_fd(fd) {
            Some(root) => root.call(protocol::OP_VOLATILE, &mdt.to_ne_bytes(), &[fd], &mut out),
            None => (-libc::ENOTTY, 0),
        };
        if let Ok(path) = CString::new(path.as_os_str().as_bytes()) {
            // SAFETY: a C string.
            unsafe { libc::unlink(path.as_ptr()) };
        }
        if rc < 0 {
            // SAFETY: opened above.
            unsafe { libc::close(fd) };
            return Err(rc);
        }
        let word = |at: usize| u32::from_ne_bytes([out[at], out[at + 1], out[at + 2], out[at + 3]]);
        let f_seq = u64::from(word(0)) | (u64::from(word(4)) << 32);
        return Ok((fd, lu_fid { f_seq, f_oid: word(8), f_ver: word(12) }));
    }
}

/// Creates a volatile file in `directory`.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_create_volatile_idx(
    directory: *const c_char,
    mdt: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller vouches for the string.
    create_volatile(unsafe { path(directory) }, mdt, flags, 0o600, None).map_or_else(|rc| rc, |(fd, _)| fd)
}

/// Creates a volatile file with a mode; stripe parameters have no meaning here.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_create_volatile_param(
    directory: *const c_char,
    mdt: c_int,
    flags: c_int,
    mode: c_uint,
    _stripe: *const std::ffi::c_void,
) -> c_int {
    // SAFETY: the caller vouches for the string.
    create_volatile(unsafe { path(directory) }, mdt, flags, mode, None).map_or_else(|rc| rc, |(fd, _)| fd)
}

/// The data version of a file: it changes when its content changes.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_get_data_version(fd: c_int, version: *mut u64, flags: u64) -> c_int {
    if version.is_null() {
        return -libc::EINVAL;
    }
    // idv_version, idv_layout_version and idv_flags.
    let mut argument = [0u64, flags << 32];
    // SAFETY: 16 bytes, as the ioctl takes; the caller vouches for `version`.
    unsafe {
        let rc = lustre_ioctl(fd, protocol::ioctl::DATA_VERSION, &mut argument);
        if rc == 0 {
            version.write(argument[0]);
        }
        rc
    }
}

/// Flushes a file.
#[unsafe(no_mangle)]
pub extern "C" fn llapi_fsync(fd: c_int) -> c_int {
    // SAFETY: the descriptor is the caller's.
    if unsafe { libc::fsync(fd) } < 0 { -errno() } else { 0 }
}

/// Flushes a file's pages of all clients: here there is one.
#[unsafe(no_mangle)]
pub extern "C" fn llapi_file_flush(fd: c_int) -> c_int {
    llapi_fsync(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fids_are_read_and_what_follows_is_found() {
        let cases = [
            ("[0x200000402:0x1:0x0]", 0, Some((0x2_0000_0402, 1, 0)), ""),
            ("  0x200000402:0x80000001:0x0 rest", 0, Some((0x2_0000_0402, 0x8000_0001, 0)), " rest"),
            ("[0x200000402:0x1:0x0] [0x1:0x2:0x3]", 0, Some((0x2_0000_0402, 1, 0)), " [0x1:0x2:0x3]"),
            ("1:2:3", 0, Some((1, 2, 3)), ""),
            ("[0x1:0x100000000:0x0]", -libc::ERANGE, None, ""),
            ("[0x1:0x2]", -libc::EINVAL, None, ""),
            ("nothing", -libc::EINVAL, None, ""),
            ("", -libc::EINVAL, None, ""),
        ];
        for (text, want_rc, want, rest) in cases {
            let c = CString::new(text).unwrap();
            let mut fid = lu_fid::default();
            let mut end = std::ptr::null_mut();
            // SAFETY: a C string and two locals.
            let rc = unsafe { llapi_fid_parse(c.as_ptr(), &mut fid, &mut end) };
            assert_eq!(rc, want_rc, "{text}");
            if let Some((seq, oid, ver)) = want {
                assert_eq!(Fid::from(fid), Fid::new(seq, oid, ver), "{text}");
                // SAFETY: within the string above.
                assert_eq!(unsafe { CStr::from_ptr(end) }.to_str().unwrap(), rest, "{text}");
            }
        }
    }
}
