//! `libphobos_store`, loaded at run time, and all that is unsafe about it.
//!
//! The functions are those of `phobos_store.h`: `phobos_init` without arguments, and `phobos_locate` with the signature of
//! phobos 1.95, or of phobos 3 with the name of a copy.

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::ptr::{null, null_mut};

use libloading::Library;

type Init = unsafe extern "C" fn() -> c_int;
type Locate = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    c_int,
    *const c_char,
    *mut *mut c_char,
    *mut c_int,
) -> c_int;
type LocateCopy = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    c_int,
    *const c_char,
    *const c_char,
    *mut *mut c_char,
    *mut c_int,
) -> c_int;

/// A loaded and initialised library. It is never unloaded: it may have threads.
pub(super) struct Phobos {
    library: std::mem::ManuallyDrop<Library>,
    copies: bool,
}

impl Phobos {
    /// Loads and initialises it. `copies` says which signature its `phobos_locate` has.
    pub(super) fn load(name: &str, copies: bool) -> Result<Self, String> {
        // SAFETY: the administrator names the library; its constructors run as those of any library that is linked.
        let library = unsafe { Library::new(name) }.map_err(|error| error.to_string())?;
        let library = std::mem::ManuallyDrop::new(library);
        // SAFETY: the symbol has this type in phobos_store.h; it is called once, before anything else, on one thread.
        // Versions before 3 may lack it.
        let init = unsafe { library.get::<Init>(b"phobos_init\0") };
        match init {
            Ok(init) => {
                // SAFETY: as above; it takes nothing.
                let result = unsafe { init() };
                if result != 0 {
                    let error = io::Error::from_raw_os_error(result.saturating_neg());
                    return Err(format!("phobos_init of {name}: {error}"));
                }
            }
            Err(error) if copies => return Err(error.to_string()),
            Err(_) => {}
        }
        let phobos = Self { library, copies };
        // Now rather than at the first request.
        phobos.has_locate()?;
        Ok(phobos)
    }

    fn has_locate(&self) -> Result<(), String> {
        // SAFETY: only looked up, not called.
        let found = unsafe { self.library.get::<Locate>(b"phobos_locate\0") };
        found.map(|_| ()).map_err(|error| error.to_string())
    }

    /// The host that can best read this object. `focus` is the one preferred among equals.
    pub(super) fn locate(&self, oid: &str, focus: Option<&str>) -> io::Result<Option<String>> {
        let oid = CString::new(oid)?;
        let focus = focus.map(CString::new).transpose()?;
        let focus = focus.as_ref().map_or(null(), |focus| focus.as_ptr());
        let mut host: *mut c_char = null_mut();
        let mut locks: c_int = 0;
        // SAFETY: the symbol has the type that the administrator's choice of `copies` says (phobos_store.h); all pointers
        // are NULL or point to what lives until the call has returned; the library has been initialised.
        let result = unsafe {
            if self.copies {
                let locate = self.library.get::<LocateCopy>(b"phobos_locate\0").map_err(io::Error::other)?;
                locate(oid.as_ptr(), null(), 0, focus, null(), &raw mut host, &raw mut locks)
            } else {
                let locate = self.library.get::<Locate>(b"phobos_locate\0").map_err(io::Error::other)?;
                locate(oid.as_ptr(), null(), 0, focus, &raw mut host, &raw mut locks)
            }
        };
        let name = (!host.is_null()).then(|| {
            // SAFETY: it is NUL-terminated and ours; the library allocated it with malloc.
            let name = unsafe { CStr::from_ptr(host) }.to_string_lossy().into_owned();
            // SAFETY: as above; nothing refers to it any more.
            unsafe { libc::free(host.cast()) };
            name
        });
        match result {
            0 => Ok(name.filter(|name| !name.is_empty())),
            error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        }
    }
}
