//! Layouts, as far as copytools look at them: one plain component, from or to a `lov_user_md`.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::path::Path;
use std::ptr;

use lustreapi_sys::Fid;
use lustreapi_sys::abi::lu_fid;

use crate::bridge::{errno, set_errno};
use crate::files::{self, path};
use crate::interpose;

const MAGIC_V1: u32 = 0x0bd1_0bd0;
const MAGIC_V3: u32 = 0x0bd3_0bd0;
/// `LOV_PATTERN_F_RELEASED`.
const RELEASED: u32 = 0x8000_0000;
/// Values that mean "the file system's default" (`LLAPI_LAYOUT_DEFAULT`).
const DEFAULT: u64 = 0x1 << 56;
const POOL_ROOM: usize = 16;
const HEAD_V1: usize = 32;
const HEAD_V3: usize = HEAD_V1 + POOL_ROOM;

/// `struct llapi_layout`, which callers see only as a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    stripe_count: u64,
    stripe_size: u64,
    pattern: u64,
    pool: Vec<u8>,
    /// Index of the OST of each object.
    osts: Vec<u32>,
}

impl Layout {
    fn new() -> Self {
        Self {
            stripe_count: DEFAULT,
            stripe_size: DEFAULT,
            pattern: DEFAULT,
            pool: Vec::new(),
            osts: Vec::new(),
        }
    }

    /// Reads a `lov_user_md` of version 1 or 3.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let magic = word(0)?;
        let head = match magic {
            MAGIC_V1 => HEAD_V1,
            MAGIC_V3 => HEAD_V3,
            _ => return None,
        };
        let count = u16::from_ne_bytes(bytes.get(28..30)?.try_into().ok()?);
        let pool = if magic == MAGIC_V3 { bytes.get(HEAD_V1..HEAD_V3)? } else { &[] };
        let pool = &pool[..pool.iter().position(|b| *b == 0).unwrap_or(pool.len())];
        let objects = bytes.get(head..)?.chunks_exact(24);
        let osts = objects.map(|o| u32::from_ne_bytes([o[20], o[21], o[22], o[23]])).collect();
        Some(Self {
            stripe_count: u64::from(count),
            stripe_size: u64::from(word(24)?),
            pattern: u64::from(word(4)? & !RELEASED),
            pool: pool.to_vec(),
            osts,
        })
    }

    /// Writes a `lov_user_md` without objects.
    fn encode(&self) -> Vec<u8> {
        let or = |value: u64, default: u32| if value >= DEFAULT { default } else { value as u32 };
        let mut out = Vec::with_capacity(HEAD_V3);
        out.extend_from_slice(&if self.pool.is_empty() { MAGIC_V1 } else { MAGIC_V3 }.to_ne_bytes());
        out.extend_from_slice(&or(self.pattern, 1).to_ne_bytes());
        out.extend_from_slice(&[0; 16]);
        out.extend_from_slice(&or(self.stripe_size, 0).to_ne_bytes());
        out.extend_from_slice(&(or(self.stripe_count, 0) as u16).to_ne_bytes());
        out.extend_from_slice(&u16::MAX.to_ne_bytes());
        if !self.pool.is_empty() {
            out.extend_from_slice(&self.pool);
            out.resize(HEAD_V3, 0);
        }
        out
    }

    fn boxed(self) -> *mut Layout {
        Box::into_raw(Box::new(self))
    }
}

fn fail<T>(error: c_int) -> *mut T {
    set_errno(error);
    ptr::null_mut()
}

fn get_fd(fd: c_int) -> *mut Layout {
    let mut buffer = [0u8; 4096];
    // SAFETY: the buffer has the given size.
    let n =
        unsafe { interpose::fgetxattr(fd, c"lustre.lov".as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    match usize::try_from(n) {
        Ok(n) => Layout::parse(&buffer[..n]).map_or_else(|| fail(libc::EINVAL), Layout::boxed),
        Err(_) => ptr::null_mut(),
    }
}

fn get_path(file: &Path) -> *mut Layout {
    let mut found = ptr::null_mut();
    let rc = files::with_open(file, libc::O_RDONLY | libc::O_NONBLOCK, |fd| {
        found = get_fd(fd);
        if found.is_null() { -errno() } else { 0 }
    });
    if rc < 0 { fail(-rc) } else { found }
}

/// A new layout with default values.
#[unsafe(no_mangle)]
pub extern "C" fn llapi_layout_alloc() -> *mut Layout {
    Layout::new().boxed()
}

/// Frees a layout.
///
/// # Safety
/// `layout` must be NULL or from this library, and is gone afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_layout_free(layout: *mut Layout) {
    if !layout.is_null() {
        // SAFETY: made by Box::into_raw.
        drop(unsafe { Box::from_raw(layout) });
    }
}

/// The layout of an open file; NULL and errno on error.
#[unsafe(no_mangle)]
pub extern "C" fn llapi_layout_get_by_fd(fd: c_int, _flags: c_uint) -> *mut Layout {
    get_fd(fd)
}

/// The layout of a path; NULL and errno on error.
///
/// # Safety
/// `name` must be a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_layout_get_by_path(name: *const c_char, _flags: c_uint) -> *mut Layout {
    // SAFETY: the caller vouches for the string.
    get_path(unsafe { path(name) })
}

/// The layout of a FID in the file system of a path; NULL and errno on error.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_layout_get_by_fid(
    name: *const c_char,
    fid: *const lu_fid,
    _flags: c_uint,
) -> *mut Layout {
    // SAFETY: the caller vouches for the pointers.
    let (name, fid) = unsafe { (path(name), Fid::from(fid.read_unaligned())) };
    match lustre_sim::protocol::root_of(name) {
        Some(root) => get_path(&root.join(".lustre/fid").join(fid.file_name())),
        None => fail(libc::ENOTTY),
    }
}

/// The layout that an attribute's bytes describe; NULL and errno on error.
///
/// # Safety
/// `bytes` must have `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_layout_get_by_xattr(
    bytes: *const u8,
    size: isize,
    _flags: c_uint,
) -> *mut Layout {
    let Ok(size) = usize::try_from(size) else { return fail(libc::EINVAL) };
    // SAFETY: the caller vouches for the bytes.
    let bytes = unsafe { std::slice::from_raw_parts(bytes, size) };
    Layout::parse(bytes).map_or_else(|| fail(libc::EINVAL), Layout::boxed)
}

macro_rules! accessors {
    ($($get:ident, $set:ident, $field:ident;)*) => {$(
        /// Reads a property: 0, or -1 and errno.
        ///
        /// # Safety
        /// Both pointers must be valid.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $get(layout: *const Layout, value: *mut u64) -> c_int {
            if layout.is_null() || value.is_null() {
                set_errno(libc::EINVAL);
                return -1;
            }
            // SAFETY: the caller vouches for both.
            unsafe { value.write((*layout).$field) };
            0
        }

        /// Changes a property: 0, or -1 and errno.
        ///
        /// # Safety
        /// `layout` must be valid.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $set(layout: *mut Layout, value: u64) -> c_int {
            if layout.is_null() {
                set_errno(libc::EINVAL);
                return -1;
            }
            // SAFETY: the caller vouches for it.
            unsafe { (*layout).$field = value };
            0
        }
    )*};
}

accessors! {
    llapi_layout_stripe_count_get, llapi_layout_stripe_count_set, stripe_count;
    llapi_layout_stripe_size_get, llapi_layout_stripe_size_set, stripe_size;
    llapi_layout_pattern_get, llapi_layout_pattern_set, pattern;
}

/// The OST of an object: 0, or -1 and errno.
///
/// # Safety
/// Both pointers must be valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_layout_ost_index_get(
    layout: *const Layout,
    stripe: u64,
    index: *mut u64,
) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    let found = unsafe { layout.as_ref() }.and_then(|l| l.osts.get(usize::try_from(stripe).ok()?).copied());
    match found {
        Some(ost) if !index.is_null() => {
            // SAFETY: as above.
            unsafe { index.write(u64::from(ost)) };
            0
        }
        _ => {
            set_errno(libc::EINVAL);
            -1
        }
    }
}

/// The pool's name: 0, or -1 and errno.
///
/// # Safety
/// `out` must have `room` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_layout_pool_name_get(
    layout: *const Layout,
    out: *mut c_char,
    room: usize,
) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        match layout.as_ref() {
            Some(layout) if !out.is_null() && layout.pool.len() < room => {
                ptr::copy_nonoverlapping(layout.pool.as_ptr().cast(), out, layout.pool.len());
                *out.add(layout.pool.len()) = 0;
                0
            }
            _ => {
                set_errno(libc::EINVAL);
                -1
            }
        }
    }
}

/// Sets the pool's name, at most 15 characters: 0, or -1 and errno.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_layout_pool_name_set(layout: *mut Layout, name: *const c_char) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        let name = if name.is_null() { &[][..] } else { CStr::from_ptr(name).to_bytes() };
        match layout.as_mut() {
            Some(layout) if name.len() < POOL_ROOM => {
                layout.pool = name.to_vec();
                0
            }
            _ => {
                set_errno(libc::EINVAL);
                -1
            }
        }
    }
}

fn set_fd(fd: c_int, layout: &Layout) -> c_int {
    let bytes = layout.encode();
    // SAFETY: the buffer has the given size.
    unsafe { interpose::fsetxattr(fd, c"lustre.lov".as_ptr(), bytes.as_ptr().cast(), bytes.len(), 0) }
}

/// Sets the layout of an open file: 0, or -1 and errno.
///
/// # Safety
/// `layout` must be valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_layout_set_by_fd(fd: c_int, layout: *const Layout) -> c_int {
    // SAFETY: the caller vouches for the layout.
    match unsafe { layout.as_ref() } {
        Some(layout) => set_fd(fd, layout),
        None => {
            set_errno(libc::EINVAL);
            -1
        }
    }
}

/// Opens a file; a new one gets the layout. The descriptor, or -1 and errno.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_layout_file_open(
    name: *const c_char,
    flags: c_int,
    mode: c_uint,
    layout: *const Layout,
) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        let new = flags & libc::O_CREAT != 0 && libc::access(name, libc::F_OK) != 0;
        let fd = libc::open(name, flags, mode);
        if let Some(layout) = layout.as_ref()
            && fd >= 0
            && new
            && set_fd(fd, layout) < 0
        {
            let error = errno();
            libc::close(fd);
            set_errno(error);
            return -1;
        }
        fd
    }
}

/// [`llapi_layout_file_open`] of a file that must not exist.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_layout_file_create(
    name: *const c_char,
    flags: c_int,
    mode: c_uint,
    layout: *const Layout,
) -> c_int {
    // SAFETY: passed on.
    unsafe { llapi_layout_file_open(name, flags | libc::O_CREAT | libc::O_EXCL, mode, layout) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a real lhsmtool_posix saved in a `.lov` file.
    const REAL: [u8; 56] = [
        0xd0, 0x0b, 0xd1, 0x0b, 1, 0, 0, 0, 0x1d, 0, 0, 0, 0, 0, 0, 0, 2, 4, 0, 0, 2, 0, 0, 0, 0, 0, 0x40, 0,
        1, 0, 0xff, 0xff, 1, 4, 0, 0x80, 2, 0, 0, 0, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn reads_a_real_layout_and_writes_it_without_objects() {
        let layout = Layout::parse(&REAL).unwrap();
        assert_eq!((layout.stripe_count, layout.stripe_size, layout.pattern), (1, 4 << 20, 1));
        assert_eq!(layout.osts, [0]);
        let written = layout.encode();
        assert_eq!(Layout::parse(&written).unwrap(), Layout { osts: vec![], ..layout.clone() });
        let pooled = Layout { pool: b"flash".to_vec(), ..layout };
        assert_eq!(Layout::parse(&pooled.encode()).unwrap().pool, b"flash");
        for cut in 0..HEAD_V1 {
            assert_eq!(Layout::parse(&REAL[..cut]), None, "cut at {cut}");
        }
    }
}
