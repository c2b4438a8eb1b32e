//! Exports the variadic message functions, which are written in C (`csrc/messages.c`).
//!
//! A symbol of a C object is not exported from a Rust library, and a variadic function cannot be written in stable Rust:
//! each exported name is a bare jump that leaves all argument registers and the stack as they are.

use std::ffi::{CString, c_char, c_int, c_void};

unsafe extern "C" {
    fn lustre_sim_c_error();
    fn lustre_sim_c_printf();
    fn lustre_sim_c_log_error();
    fn lustre_sim_c_message(level: c_int, err: c_int, text: *const c_char);
    fn lustre_sim_c_set_error_callback(callback: *const c_void) -> *const c_void;
    fn lustre_sim_c_set_info_callback(callback: *const c_void) -> *const c_void;
    fn lustre_sim_c_set_level(level: c_int);
    fn lustre_sim_c_get_level() -> c_int;
    fn lustre_sim_c_set_command(name: *const c_char);
}

/// `LLAPI_MSG_ERROR`.
pub const ERROR: c_int = 2;
/// `LLAPI_MSG_NO_ERRNO`: a level without an errno in the message.
pub const NO_ERRNO: c_int = 0x10;

macro_rules! jump {
    ($(#[$doc:meta])* $name:ident => $target:ident) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As for the C function of that name: the arguments must fit the format.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name() {
            #[cfg(target_arch = "x86_64")]
            core::arch::naked_asm!("jmp {}", sym $target);
            #[cfg(target_arch = "aarch64")]
            core::arch::naked_asm!("b {}", sym $target);
        }
    };
}

jump! {
    /// `void llapi_error(level, err, format, ...)`.
    llapi_error => lustre_sim_c_error
}
jump! {
    /// `void llapi_printf(level, format, ...)`.
    llapi_printf => lustre_sim_c_printf
}
jump! {
    /// `void llapi_hsm_log_error(level, err, format, va_list)`: a message as an event.
    llapi_hsm_log_error => lustre_sim_c_log_error
}

/// Reports an error of the library as [`llapi_error`] would.
pub fn error(err: c_int, text: &str) {
    message(ERROR, err, text);
}

/// Reports an error without an errno.
pub fn error_text(text: &str) {
    message(ERROR | NO_ERRNO, 0, text);
}

fn message(level: c_int, err: c_int, text: &str) {
    if let Ok(text) = CString::new(text) {
        // SAFETY: `text` is a C string that outlives the call.
        unsafe { lustre_sim_c_message(level, err, text.as_ptr()) }
    }
}

/// Replaces the error callback, NULL for the default; returns the one before.
///
/// # Safety
/// `callback` must be NULL or an `llapi_log_callback_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_error_callback_set(callback: *const c_void) -> *const c_void {
    // SAFETY: the caller vouches for the callback.
    unsafe { lustre_sim_c_set_error_callback(callback) }
}

/// Replaces the information callback, NULL for the default; returns the one before.
///
/// # Safety
/// `callback` must be NULL or an `llapi_log_callback_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_info_callback_set(callback: *const c_void) -> *const c_void {
    // SAFETY: the caller vouches for the callback.
    unsafe { lustre_sim_c_set_info_callback(callback) }
}

/// Sets the highest level that is printed, 0 to 6.
#[unsafe(no_mangle)]
pub extern "C" fn llapi_msg_set_level(level: c_int) {
    // SAFETY: stores an integer.
    unsafe { lustre_sim_c_set_level(level) }
}

/// The highest level that is printed.
#[unsafe(no_mangle)]
pub extern "C" fn llapi_msg_get_level() -> c_int {
    // SAFETY: reads an integer.
    unsafe { lustre_sim_c_get_level() }
}

/// Sets the command's name in messages.
///
/// # Safety
/// `name` must be NULL or a string that lives until it is replaced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_set_command_name(name: *const c_char) {
    // SAFETY: the caller vouches for the string.
    unsafe { lustre_sim_c_set_command(name) }
}

/// Forgets the command's name.
#[unsafe(no_mangle)]
pub extern "C" fn llapi_clear_command_name() {
    // SAFETY: NULL is allowed.
    unsafe { lustre_sim_c_set_command(std::ptr::null()) }
}
