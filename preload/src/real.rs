//! The functions of the real liblustreapi behind ours.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use lustreapi_sys::abi::{
    hsm_action_item, hsm_action_list, hsm_copyaction_private, hsm_copytool_private, hsm_extent,
};

/// A copytool, as copytools hold it.
pub type Ct = hsm_copytool_private;
/// An action, as copytools hold it.
pub type Hcp = hsm_copyaction_private;

/// `llapi_hsm_copytool_unregister`.
pub type Unregister = unsafe extern "C" fn(*mut *mut Ct) -> c_int;
/// `llapi_hsm_copytool_get_fd`.
pub type GetFd = unsafe extern "C" fn(*mut Ct) -> c_int;
/// `llapi_hsm_copytool_recv`.
pub type Recv = unsafe extern "C" fn(*mut Ct, *mut *mut hsm_action_list, *mut c_int) -> c_int;
/// `llapi_hsm_action_begin`.
pub type Begin =
    unsafe extern "C" fn(*mut *mut Hcp, *const Ct, *const hsm_action_item, c_int, c_int, bool) -> c_int;
/// `llapi_hsm_action_progress`.
pub type Progress = unsafe extern "C" fn(*mut Hcp, *const hsm_extent, u64, c_int) -> c_int;
/// `llapi_hsm_action_end`.
pub type End = unsafe extern "C" fn(*mut *mut Hcp, *const hsm_extent, c_int, c_int) -> c_int;
/// `llapi_search_fsname`.
pub type SearchFsname = unsafe extern "C" fn(*const c_char, *mut c_char) -> c_int;

/// A symbol of the next library, looked up once.
struct Symbol {
    name: &'static CStr,
    address: AtomicPtr<c_void>,
}

impl Symbol {
    const fn new(name: &'static CStr) -> Self {
        Self { name, address: AtomicPtr::new(std::ptr::null_mut()) }
    }

    fn get(&self) -> Option<*mut c_void> {
        let known = self.address.load(Ordering::Acquire);
        if !known.is_null() {
            return Some(known);
        }
        // SAFETY: the name is a NUL-terminated string; dlsym may be called at any time outside of signal handlers.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        if found.is_null() {
            return None;
        }
        self.address.store(found, Ordering::Release);
        Some(found)
    }
}

macro_rules! real {
    ($(#[$doc:meta] $function:ident: $type:ty = $symbol:literal;)+) => {$(
        #[$doc]
        pub fn $function() -> Option<$type> {
            static SYMBOL: Symbol = Symbol::new($symbol);
            // SAFETY: the symbol is the function of this name in liblustreapi, whose prototype has been the same since
            // Lustre 2.10.
            SYMBOL.get().map(|address| unsafe { std::mem::transmute::<*mut c_void, $type>(address) })
        }
    )+};
}

real! {
    /// The real unregister.
    unregister: Unregister = c"llapi_hsm_copytool_unregister";
    /// The real get_fd.
    get_fd: GetFd = c"llapi_hsm_copytool_get_fd";
    /// The real recv.
    recv: Recv = c"llapi_hsm_copytool_recv";
    /// The real begin.
    begin: Begin = c"llapi_hsm_action_begin";
    /// The real progress.
    progress: Progress = c"llapi_hsm_action_progress";
    /// The real end.
    end: End = c"llapi_hsm_action_end";
    /// The name of the file system mounted at a path.
    search_fsname: SearchFsname = c"llapi_search_fsname";
}
