//! Lines of `key value`.
//!
//! Blank lines and lines that begin with `#` are skipped; keys may be indented and lines may end in CRLF (C 0.4 loses the
//! value of an indented line). There are no comments behind a value and no quotes: the value is the rest of the line
//! without the white space around it.

/// One line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Counted from 1.
    pub number: usize,
    /// What it says.
    pub kind: LineKind<'a>,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineKind<'a> {
    /// A key and its value, which is not empty.
    Pair {
        /// As written; compare with [`super::keys::find`].
        key: &'a str,
        /// The rest of the line.
        value: &'a str,
    },
    /// A key alone.
    Bare {
        /// As written.
        key: &'a str,
    },
    /// Bytes that are not UTF-8.
    NotText,
}

const SPACES: &[char] = &[' ', '\t', '\n', '\r', '\x0b', '\x0c'];

/// The lines of a file that say something, in order.
pub fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    // A mark that some editors put in front.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    text.split(|byte| *byte == b'\n').enumerate().filter_map(|(index, bytes)| {
        let number = index + 1;
        let Ok(line) = std::str::from_utf8(bytes) else {
            let comment = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'#');
            return (!comment).then_some(Line { number, kind: LineKind::NotText });
        };
        let line = line.trim_matches(SPACES);
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let kind = match line.split_once(SPACES) {
            Some((key, value)) => LineKind::Pair { key, value: value.trim_start_matches(SPACES) },
            None => LineKind::Bare { key: line },
        };
        Some(Line { number, kind })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair<'a>(number: usize, key: &'a str, value: &'a str) -> Line<'a> {
        Line { number, kind: LineKind::Pair { key, value } }
    }

    /// C 0.4 fails on indented lines: their value is read from before the key.
    #[test]
    fn indented_lines_crlf_and_a_missing_last_newline_are_read() {
        let text = b"\xef\xbb\xbfhost a\r\n\r\n  # no\n\t port\t 5124  \n\nArchive_On_Hosts tag=n0  m0 m1\nbare\n\xff x\n#\xff\nlast 1";
        let got: Vec<_> = lines(text).collect();
        let want = [
            pair(1, "host", "a"),
            pair(4, "port", "5124"),
            pair(6, "Archive_On_Hosts", "tag=n0  m0 m1"),
            Line { number: 7, kind: LineKind::Bare { key: "bare" } },
            Line { number: 8, kind: LineKind::NotText },
            pair(10, "last", "1"),
        ];
        assert_eq!(got, want);
        assert_eq!(lines(b"").count(), 0);
    }
}
