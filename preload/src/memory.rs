//! The allocator: where there is no memory, it waits for some.
//!
//! Rust ends the process when an allocation fails. The process is a copytool in the middle of its copies, and memory that is
//! short now (a limit of a control group, other threads' buffers) is often there a moment later.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long to wait between attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// How many attempts: a minute in all.
const ATTEMPTS: u32 = 1200;

/// The C library's allocator, with patience.
pub struct Patient;

#[global_allocator]
static ALLOCATOR: Patient = Patient;

static SAID: AtomicBool = AtomicBool::new(false);

/// Says it once, without allocating.
fn say() {
    if !SAID.swap(true, Ordering::Relaxed) {
        const LINE: &[u8] = b"coordinatool_client: WARN: there is no memory: waiting for some\n";
        // SAFETY: the pointer and length are those of a static string. Nothing can be done about an error.
        unsafe { libc::write(libc::STDERR_FILENO, LINE.as_ptr().cast(), LINE.len()) };
    }
}

/// Calls until there is something, or for a minute.
fn insist(mut allocate: impl FnMut() -> *mut u8) -> *mut u8 {
    let mut found = allocate();
    for _ in 0..ATTEMPTS {
        if !found.is_null() {
            break;
        }
        say();
        std::thread::sleep(PAUSE);
        found = allocate();
    }
    found
}

// SAFETY: everything is the system's allocator's doing; it is only called again when it gave nothing.
unsafe impl GlobalAlloc for Patient {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that the system's allocator wants.
        insist(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        insist(|| unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; what could not be made larger is still there.
        insist(|| unsafe { System.realloc(old, layout, size) })
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_comes_late_is_taken() {
        let mut attempts = 0;
        let mut byte = 0u8;
        let place = std::ptr::from_mut(&mut byte);
        let found = insist(|| {
            attempts += 1;
            if attempts < 3 { std::ptr::null_mut() } else { place }
        });
        assert_eq!((attempts, found), (3, place));
    }
}
