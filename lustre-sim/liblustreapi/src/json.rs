//! The JSON lists of liblustreapi: items are put in front, and written as one line.

use std::ffi::{CStr, c_char, c_double, c_int, c_void};
use std::fmt::Write;

const INTEGER: u32 = 1;
const BIGNUM: u32 = 2;
const REAL: u32 = 3;
const STRING: u32 = 4;

/// `struct llapi_json_item`'s value.
#[repr(C)]
#[derive(Clone, Copy)]
union Value {
    integer: c_int,
    big: u64,
    real: c_double,
    string: *mut c_char,
}

/// `struct llapi_json_item`.
#[repr(C)]
pub struct Item {
    key: *mut c_char,
    kind: u32,
    value: Value,
    next: *mut Item,
}

/// `struct llapi_json_item_list`.
#[repr(C)]
pub struct List {
    count: c_int,
    first: *mut Item,
}

/// Makes an empty list.
///
/// # Safety
/// `list` must be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_json_init_list(list: *mut *mut List) -> c_int {
    // SAFETY: plain allocation; zero is an empty list.
    unsafe {
        let new = libc::calloc(1, size_of::<List>()).cast::<List>();
        if new.is_null() {
            return -libc::ENOMEM;
        }
        *list = new;
    }
    0
}

/// Frees a list and sets it to NULL.
///
/// # Safety
/// `list` must point to a list of [`llapi_json_init_list`], or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_json_destroy_list(list: *mut *mut List) -> c_int {
    // SAFETY: items and strings are from malloc.
    unsafe {
        if list.is_null() || (*list).is_null() {
            return -libc::EINVAL;
        }
        let mut item = (**list).first;
        while !item.is_null() {
            let next = (*item).next;
            libc::free((*item).key.cast());
            if (*item).kind == STRING {
                libc::free((*item).value.string.cast());
            }
            libc::free(item.cast());
            item = next;
        }
        libc::free((*list).cast());
        *list = std::ptr::null_mut();
    }
    0
}

/// Adds an item; key and string are copied. `-EINVAL` for an unknown type or nothing to add.
///
/// # Safety
/// `value` must point to what `kind` says (a string for a string).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_json_add_item(
    list: *mut *mut List,
    key: *const c_char,
    kind: u32,
    value: *const c_void,
) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        if list.is_null() || (*list).is_null() || key.is_null() || value.is_null() {
            return -libc::EINVAL;
        }
        let value = match kind {
            INTEGER => Value { integer: value.cast::<c_int>().read_unaligned() },
            BIGNUM => Value { big: value.cast::<u64>().read_unaligned() },
            REAL => Value { real: value.cast::<c_double>().read_unaligned() },
            STRING => Value { string: libc::strdup(value.cast()) },
            _ => return -libc::EINVAL,
        };
        let item = libc::calloc(1, size_of::<Item>()).cast::<Item>();
        if item.is_null() {
            return -libc::ENOMEM;
        }
        item.write(Item { key: libc::strdup(key), kind, value, next: (**list).first });
        (**list).first = item;
        (**list).count += 1;
    }
    0
}

/// Writes a list as one line.
///
/// # Safety
/// `list` must point to a list, `stream` must be open for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_json_write_list(list: *mut *mut List, stream: *mut libc::FILE) -> c_int {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        if list.is_null() || (*list).is_null() {
            return -libc::EINVAL;
        }
        let mut members = Vec::new();
        let mut item = (**list).first;
        while !item.is_null() {
            let key = CStr::from_ptr((*item).key).to_string_lossy();
            let value = match (*item).kind {
                INTEGER => (*item).value.integer.to_string(),
                BIGNUM => (*item).value.big.to_string(),
                REAL => format!("{:.6}", (*item).value.real),
                _ => quoted(&CStr::from_ptr((*item).value.string).to_string_lossy()),
            };
            members.push((key.into_owned(), value));
            item = (*item).next;
        }
        let line = object(&members);
        if libc::fwrite(line.as_ptr().cast(), 1, line.len(), stream) != line.len() {
            return -libc::EIO;
        }
    }
    0
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A line with an object of already encoded values.
pub fn object(members: &[(String, String)]) -> String {
    let members: Vec<String> = members.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
    format!("{{{}}}\n", members.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_written_last_item_first_on_one_line() {
        let mut list = std::ptr::null_mut();
        let (number, big, real) = (-5 as c_int, u64::MAX, 1.5f64);
        let mut buffer = [0u8; 256];
        // SAFETY: the list is made here; values have the types that are named; the stream writes into the buffer.
        unsafe {
            assert_eq!(llapi_json_init_list(&mut list), 0);
            let mut add = |key: &CStr, kind, value: *const c_void| {
                llapi_json_add_item(&mut list, key.as_ptr(), kind, value)
            };
            assert_eq!(add(c"i", INTEGER, (&raw const number).cast()), 0);
            assert_eq!(add(c"b", BIGNUM, (&raw const big).cast()), 0);
            assert_eq!(add(c"r", REAL, (&raw const real).cast()), 0);
            assert_eq!(add(c"s", STRING, c"a\"\\\n\x01".as_ptr().cast()), 0);
            assert_eq!(add(c"x", 9, c"".as_ptr().cast()), -libc::EINVAL);
            let stream = libc::fmemopen(buffer.as_mut_ptr().cast(), buffer.len(), c"w".as_ptr());
            assert_eq!(llapi_json_write_list(&mut list, stream), 0);
            libc::fclose(stream);
            assert_eq!(llapi_json_destroy_list(&mut list), 0);
            assert!(list.is_null());
        }
        let line = CStr::from_bytes_until_nul(&buffer).unwrap().to_str().unwrap();
        let want =
            "{\"s\": \"a\\\"\\\\\\n\\u0001\", \"r\": 1.500000, \"b\": 18446744073709551615, \"i\": -5}\n";
        assert_eq!(line, want);
    }
}
