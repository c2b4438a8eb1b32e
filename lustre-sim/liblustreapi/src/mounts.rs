//! Mount points and file system names.

use std::ffi::{OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use lustre_sim::protocol;

use crate::bridge::Root;
use crate::files::{self, path};
use crate::messages;

/// Copies `bytes` and a NUL to `out`, which has `room` bytes.
unsafe fn put(out: *mut c_char, room: usize, bytes: &[u8]) -> c_int {
    if bytes.len() + 1 > room {
        return -libc::EOVERFLOW;
    }
    // SAFETY: the caller vouches for the room.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len());
        *out.add(bytes.len()) = 0;
    }
    0
}

fn root_dir(root: &Root) -> &Path {
    Path::new(OsStr::from_bytes(root.path()))
}

fn fsname(root: &Root) -> Result<Vec<u8>, c_int> {
    let name = std::fs::read(root_dir(root).join(protocol::FSNAME_FILE))
        .map_err(|e| -e.raw_os_error().unwrap_or(libc::EIO))?;
    Ok(name.trim_ascii().to_vec())
}

/// The file system's name of a path; `fsname` has 9 bytes.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_search_fsname(pathname: *const c_char, name: *mut c_char) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe { search_fsname(path(pathname), name, lustreapi_sys::abi::LUSTRE_MAXFSNAME + 1) }
}

unsafe fn search_fsname(pathname: &Path, name: *mut c_char, room: usize) -> c_int {
    let found = Root::of_path(pathname).ok_or(-libc::ENODEV).and_then(|root| fsname(&root));
    match found {
        // SAFETY: the caller vouches for the room.
        Ok(found) => unsafe { put(name, room, &found) },
        Err(rc) => {
            messages::error(rc, &format!("'{}' is not on a Lustre filesystem", pathname.display()));
            rc
        }
    }
}

/// The file system's name of a path, with the buffer's length.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_get_fsname(pathname: *const c_char, name: *mut c_char, room: usize) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe { search_fsname(path(pathname), name, room) }
}

/// The mount point and file system name of a path. With an `index` of 0 or more: the mount of that number, of which only
/// the first is known.
///
/// # Safety
/// As for the C function: `mntdir` has `PATH_MAX` bytes, `name` 9.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_search_mounts(
    pathname: *const c_char,
    index: c_int,
    mntdir: *mut c_char,
    name: *mut c_char,
) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        if pathname.is_null() || *pathname == 0 || index > 0 {
            return -libc::ENOENT;
        }
        let Some(root) = Root::of_path(path(pathname)) else { return -libc::ENODEV };
        if !mntdir.is_null() {
            let rc = put(mntdir, libc::PATH_MAX as usize, root.path());
            if rc < 0 {
                return rc;
            }
        }
        match fsname(&root) {
            Ok(found) if !name.is_null() => put(name, lustreapi_sys::abi::LUSTRE_MAXFSNAME + 1, &found),
            Ok(_) => 0,
            Err(rc) => rc,
        }
    }
}

/// A descriptor of the root of the file system that holds a path.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_root_path_open(device: *const c_char, out: *mut c_int) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        let Some(root) = Root::of_path(path(device)) else { return -libc::ENODEV };
        let fd = files::open(root_dir(&root), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC, 0);
        if fd < 0 {
            return fd;
        }
        out.write(fd);
        0
    }
}

/// Whether a mount table's type is Lustre's.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_is_lustre_mnttype(kind: *const c_char) -> c_int {
    // SAFETY: the caller vouches for the string.
    let kind = unsafe { std::ffi::CStr::from_ptr(kind) };
    c_int::from(kind == c"lustre" || kind == c"lustre_tgt")
}

/// Whether a mount table's entry (`struct mntent`) is Lustre: here, whether an embedded one is mounted there.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_is_lustre_mnt(entry: *const c_void) -> c_int {
    // mnt_fsname, mnt_dir, mnt_type come first.
    // SAFETY: the caller gives a struct mntent, which begins with these three strings.
    unsafe {
        let [source, dir, kind] = entry.cast::<[*const c_char; 3]>().read();
        let real = llapi_is_lustre_mnttype(kind) != 0
            && std::ffi::CStr::from_ptr(source).to_bytes().windows(2).any(|w| w == b":/");
        c_int::from(real || path(dir).join(protocol::SOCKET).exists())
    }
}

/// The uuid under which a mount point's copytool appears in `hsm.agents`.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_get_agent_uuid(
    name: *const c_char,
    buffer: *mut c_char,
    room: usize,
) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        match agent_uuid(path(name)) {
            Ok(uuid) => put(buffer, room, uuid.as_bytes()),
            Err(rc) => rc,
        }
    }
}

/// [`llapi_get_agent_uuid`] for Rust.
pub fn agent_uuid(name: &Path) -> Result<String, c_int> {
    let root = Root::of_path(name).ok_or(-libc::ENODEV)?;
    let mut out = [0u8; 64];
    let mut len = 0;
    let rc = files::with_open(name, libc::O_RDONLY, |fd| {
        let (rc, n) = root.call(protocol::OP_CLIENT_UUID, &[], &[fd], &mut out);
        len = n;
        rc
    });
    if rc < 0 { Err(rc) } else { Ok(String::from_utf8_lossy(&out[..len]).into_owned()) }
}
