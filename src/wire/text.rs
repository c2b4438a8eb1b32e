//! Strings and integers as jansson writes them, which is what the C programs put on the wire.

use std::borrow::Cow;

/// Appends `bytes` as a JSON string. Bytes that are not UTF-8 become U+FFFD.
///
/// As jansson 2.14 does by default: `"`, `\` and what is below 0x20 are escaped, with short forms where JSON has them and
/// upper-case hexadecimal digits elsewhere; everything else goes out as it is.
pub fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    // Most have nothing that needs a closer look.
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        out.push(b'"');
        out.extend_from_slice(bytes);
        return out.push(b'"');
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    };
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut start = 0;
    for (i, byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..0x20 => b'u',
            _ => continue,
        };
        out.extend_from_slice(&bytes[start..i]);
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            let digit = |nibble: u8| DIGITS[usize::from(nibble & 15)];
            out.extend_from_slice(&[b'0', b'0', digit(byte >> 4), digit(*byte)]);
        }
        start = i + 1;
    }
    out.extend_from_slice(&bytes[start..]);
    out.push(b'"');
}

/// Appends an integer in decimal.
pub fn push_int(out: &mut Vec<u8>, value: i64) {
    if let digit @ 0..=9 = value {
        return out.push(b'0' + digit as u8);
    }
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends members to an object, with C's separators or with none.
#[derive(Debug)]
pub struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    spaced: bool,
    empty: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Opens an object: `spaced` writes `", "` and `": "` as on the wire, otherwise `","` and `":"` as in stores.
    pub fn new(out: &'a mut Vec<u8>, spaced: bool) -> Self {
        out.push(b'{');
        Self { out, spaced, empty: true }
    }

    /// Goes on with an object that has members already.
    pub fn inside(out: &'a mut Vec<u8>, spaced: bool) -> Self {
        Self { out, spaced, empty: false }
    }

    /// Starts a member and returns where its value goes.
    pub fn key(&mut self, key: &str) -> &mut Vec<u8> {
        self.separate();
        // All keys of ours need no escape.
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(if self.spaced { b"\": " } else { b"\":" });
        self.out
    }

    /// Appends a separator unless nothing was written yet.
    pub fn separate(&mut self) -> &mut Vec<u8> {
        if !self.empty {
            self.out.extend_from_slice(if self.spaced { b", " } else { b"," });
        }
        self.empty = false;
        self.out
    }

    /// A string member.
    pub fn string(&mut self, key: &str, value: &[u8]) -> &mut Self {
        push_string(self.key(key), value);
        self
    }

    /// An integer member.
    pub fn int(&mut self, key: &str, value: i64) -> &mut Self {
        push_int(self.key(key), value);
        self
    }

    /// A u64 as C packs it: as a signed integer.
    pub fn wide(&mut self, key: &str, value: u64) -> &mut Self {
        self.int(key, value as i64)
    }

    /// A string member that is left out when empty.
    pub fn string_or_nothing(&mut self, key: &str, value: &[u8]) -> &mut Self {
        if value.is_empty() { self } else { self.string(key, value) }
    }

    /// An integer member that is left out when zero.
    pub fn int_or_nothing(&mut self, key: &str, value: i64) -> &mut Self {
        if value == 0 { self } else { self.int(key, value) }
    }

    /// Closes the object.
    pub fn end(&mut self) {
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_jansson_does() {
        let cases: [(&[u8], &str); 8] = [
            (b"", r#""""#),
            (b"tag=n0,cr=job1", r#""tag=n0,cr=job1""#),
            (b"x\0y", r#""x\u0000y""#),
            (b"\"\\/", r#""\"\\/""#),
            (b"\x08\x0c\n\r\t", r#""\b\f\n\r\t""#),
            (b"\x01\x1f\x7f", "\"\\u0001\\u001F\x7f\""),
            ("\u{e9}\u{1f600}\u{2028}".as_bytes(), "\"\u{e9}\u{1f600}\u{2028}\""),
            (b"a\xff\xfeb", "\"a\u{fffd}\u{fffd}b\""),
        ];
        for (bytes, want) in cases {
            let mut out = Vec::new();
            push_string(&mut out, bytes);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }

    #[test]
    fn integers_print_in_decimal() {
        for value in
            [0, 1, -1, 9, 10, 99, 100, 101, 909, 1000, -1000, 12_345, i64::MAX, i64::MIN, -2147483647]
        {
            let mut out = Vec::new();
            push_int(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
