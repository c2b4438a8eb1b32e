//! Small helpers that copytools import.

use std::ffi::{c_char, c_int};

/// Reads a size like `4`, `1.5M` or `64kB` into `*size`, and its unit into `*units` (the default unit if it has none).
///
/// With `bytes_spec`, `b` means bytes, otherwise blocks of 512. `-EINVAL` for anything else.
///
/// # Safety
/// As for the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_parse_size(
    text: *const c_char,
    size: *mut u64,
    units: *mut u64,
    bytes_spec: c_int,
) -> c_int {
    if text.is_null() || size.is_null() || units.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: the caller vouches for the pointers; reads stop at the string's NUL.
    unsafe {
        if *text as u8 == b'-' {
            return -libc::EINVAL;
        }
        if *units == 0 {
            *units = 1;
        }
        let mut end: *mut c_char = std::ptr::null_mut();
        let whole = libc::strtoull(text, &mut end, 0);
        let (mut part, mut scale) = (0u64, 1u64);
        if *end as u8 == b'.' {
            let start = end.add(1);
            part = libc::strtoull(start, &mut end, 10);
            let digits = u32::try_from(end.offset_from(start)).unwrap_or(0);
            let Some(s) = 10u64.checked_pow(digits) else { return -libc::EINVAL };
            scale = s;
        }
        if *end != 0 {
            let shift = match (*end as u8).to_ascii_lowercase() {
                b'b' if bytes_spec != 0 => 0,
                b'b' => 9,
                b'c' => 0,
                b'k' => 10,
                b'm' => 20,
                b'g' => 30,
                b't' => 40,
                b'p' => 50,
                b'e' => 60,
                _ => return -libc::EINVAL,
            };
            if shift > 0 && whole >> (64 - shift) != 0 {
                return -libc::EINVAL;
            }
            *units = 1 << shift;
            if !matches!((*end.add(1) as u8).to_ascii_lowercase(), 0 | b'i' | b'b') {
                return -libc::EINVAL;
            }
        }
        let Some(bytes) = whole.checked_mul(*units) else { return -libc::EINVAL };
        let fraction = u128::from(part) * u128::from(*units) / u128::from(scale);
        let Some(bytes) = u64::try_from(fraction).ok().and_then(|f| bytes.checked_add(f)) else {
            return -libc::EINVAL;
        };
        *size = bytes;
    }
    0
}

fn seconds_between(start: libc::timespec, end: libc::timespec) -> f64 {
    (end.tv_sec - start.tv_sec) as f64 + (end.tv_nsec - start.tv_nsec) as f64 / 1e9
}

/// Sleeps until `written` bytes since `start` are no more than `bandwidth` bytes a second (0: no limit).
///
/// # Safety
/// `now` and `start` must be readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_bandwidth_throttle(
    now: *const libc::timespec,
    start: *const libc::timespec,
    bandwidth: u64,
    written: u64,
) {
    if bandwidth == 0 {
        return;
    }
    // SAFETY: the caller vouches for the pointers.
    let elapsed = unsafe { seconds_between(*start, *now) };
    let ahead = written as f64 / bandwidth as f64 - elapsed;
    if ahead > 0.0 && ahead.is_finite() {
        std::thread::sleep(std::time::Duration::from_secs_f64(ahead));
    }
}

/// Prints how far a copy is, at most every `interval` seconds and at its end. Nothing for an empty file.
///
/// # Safety
/// The times must be readable, `last_print` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_stats_log(
    now: *const libc::timespec,
    start: *const libc::timespec,
    last_print: *mut libc::timespec,
    interval: c_int,
    read_bytes: u64,
    write_bytes: u64,
    offset: u64,
    file_size: u64,
) {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        if file_size == 0 || (seconds_between(*last_print, *now) < f64::from(interval) && offset != file_size)
        {
            return;
        }
        let elapsed = seconds_between(*start, *now).max(1e-6);
        *last_print = *now;
        let mib = |bytes: u64| bytes as f64 / elapsed / 1048576.0;
        println!(
            "- {{ seconds: {}, rmbps: {:.2}, wmbps: {:.2}, copied: {}, size: {}, pct: {}% }}",
            elapsed as u64,
            mib(read_bytes),
            mib(write_bytes),
            offset >> 20,
            file_size >> 20,
            u128::from(offset) * 100 / u128::from(file_size)
        );
    }
}

/// Removes one newline at the end and returns it, else 0.
///
/// # Safety
/// `text` must be NULL or a writable C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_chomp_string(text: *mut c_char) -> c_int {
    if text.is_null() {
        return 0;
    }
    // SAFETY: the caller vouches for the string.
    unsafe {
        let len = libc::strlen(text);
        if len == 0 || *text.add(len - 1) as u8 != b'\n' {
            return 0;
        }
        *text.add(len - 1) = 0;
    }
    c_int::from(b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    #[test]
    fn sizes_are_read_with_their_units() {
        type Case = (&'static str, c_int, Option<(u64, u64)>);
        let cases: [Case; 14] = [
            ("0", 0, Some((0, 1))),
            ("4096", 0, Some((4096, 1))),
            ("0x10", 0, Some((16, 1))),
            ("3b", 0, Some((1536, 512))),
            ("3b", 1, Some((3, 1))),
            ("64k", 0, Some((65536, 1024))),
            ("64kB", 0, Some((65536, 1024))),
            ("1.5M", 0, Some((3 << 19, 1 << 20))),
            ("2GiB", 0, Some((2 << 30, 1 << 30))),
            ("15E", 0, Some((15 << 60, 1 << 60))),
            ("16E", 0, None),
            ("-1", 0, None),
            ("5x", 0, None),
            ("5kx", 0, None),
        ];
        for (text, spec, want) in cases {
            let c = CString::new(text).unwrap();
            let (mut size, mut units) = (0, 0);
            // SAFETY: a C string and two locals.
            let rc = unsafe { llapi_parse_size(c.as_ptr(), &mut size, &mut units, spec) };
            assert_eq!((rc == 0).then_some((size, units)), want, "{text}");
            assert!(rc == 0 || rc == -libc::EINVAL, "{text}");
        }
    }

    #[test]
    fn one_newline_is_chomped() {
        for (text, rc, left) in [("", 0, ""), ("a", 0, "a"), ("a\n", 10, "a"), ("a\n\n", 10, "a\n")] {
            let mut bytes = CString::new(text).unwrap().into_bytes_with_nul();
            // SAFETY: a writable C string.
            let got = unsafe { llapi_chomp_string(bytes.as_mut_ptr().cast()) };
            let after = std::ffi::CStr::from_bytes_until_nul(&bytes).unwrap().to_str().unwrap().to_owned();
            assert_eq!((got, after.as_str()), (rc, left), "{text:?}");
        }
    }
}
