//! White space of JSON texts: removed for stores, as jansson writes it on the wire, indented for people.

/// Bytes outside of strings that are followed by something, with the state that says so.
struct Tokens<'a> {
    rest: &'a [u8],
}

/// A string with its quotes, or one other byte that is no white space.
enum Token<'a> {
    Text(&'a [u8]),
    Byte(u8),
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let (first, rest) = self.rest.split_first()?;
            match first {
                b' ' | b'\t' | b'\n' | b'\r' => self.rest = rest,
                b'"' => {
                    let (text, rest) = self.rest.split_at(string_end(self.rest));
                    self.rest = rest;
                    return Some(Token::Text(text));
                }
                byte => {
                    self.rest = rest;
                    return Some(Token::Byte(*byte));
                }
            }
        }
    }
}

/// Length of the string that `bytes` starts with, quotes included; all of `bytes` when it does not end.
fn string_end(bytes: &[u8]) -> usize {
    let mut i = 1;
    while let Some(skip) = bytes.get(i..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        i += skip;
        if bytes[i] == b'"' {
            return i + 1;
        }
        i += 2;
    }
    bytes.len()
}

/// Whether jansson, with the flags of the C programs, reads a JSON value that serde_json took as a raw one: it refuses
/// numbers out of range, halves of surrogate pairs, and NUL in keys.
pub(super) fn readable_by_c(json: &str) -> bool {
    if serde_json::from_str::<serde_json::Value>(json).is_err() {
        return false;
    }
    let mut number = String::new();
    let mut after_nul_string = false;
    for token in (Tokens { rest: json.as_bytes() }) {
        match token {
            Token::Byte(byte @ (b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) => number.push(byte.into()),
            Token::Byte(b':') if after_nul_string => return false,
            Token::Byte(_) => {}
            Token::Text(text) => {
                after_nul_string = serde_json::from_slice::<String>(text).is_ok_and(|t| t.contains('\0'));
                continue;
            }
        }
        after_nul_string = false;
        let ended = !matches!(token, Token::Byte(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        if ended && !integer_fits(&std::mem::take(&mut number)) {
            return false;
        }
    }
    integer_fits(&number)
}

/// Whether digits are no integer beyond 64 bits. (`e` alone comes from `true` and the like.)
fn integer_fits(digits: &str) -> bool {
    let integer = digits.bytes().any(|b| b.is_ascii_digit()) && !digits.contains(['.', 'e', 'E']);
    !integer || digits.parse::<i64>().is_ok()
}

/// Appends a JSON text without white space.
pub fn compact(json: &[u8], out: &mut Vec<u8>) {
    for token in (Tokens { rest: json }) {
        match token {
            Token::Text(text) => out.extend_from_slice(text),
            Token::Byte(byte) => out.push(byte),
        }
    }
}

/// Appends a JSON text with one space after each `,` and `:`, as jansson does with no flags.
pub fn spaced(json: &[u8], out: &mut Vec<u8>) {
    for token in (Tokens { rest: json }) {
        match token {
            Token::Text(text) => out.extend_from_slice(text),
            Token::Byte(byte @ (b',' | b':')) => out.extend_from_slice(&[byte, b' ']),
            Token::Byte(byte) => out.push(byte),
        }
    }
}

/// Appends a JSON text indented by two spaces per level, as jansson does with `JSON_INDENT(2)`, which is how
/// `coordinatool-client` shows replies. No newline at the end.
pub fn indented(json: &[u8], out: &mut Vec<u8>) {
    let mut depth = 0usize;
    // An opening bracket is followed by a line of its own only if it is not closed at once.
    let mut opened = false;
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    for token in (Tokens { rest: json }) {
        let closing = matches!(token, Token::Byte(b'}' | b']'));
        if std::mem::take(&mut opened) && !closing {
            line(out, depth);
        } else if closing {
            depth = depth.saturating_sub(1);
            if !matches!(out.last(), Some(b'{' | b'[')) {
                line(out, depth);
            }
        }
        match token {
            Token::Text(text) => out.extend_from_slice(text),
            Token::Byte(byte @ (b'{' | b'[')) => {
                out.push(byte);
                depth += 1;
                opened = true;
            }
            Token::Byte(b',') => {
                out.push(b',');
                line(out, depth);
            }
            Token::Byte(b':') => out.extend_from_slice(b": "),
            Token::Byte(byte) => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(layout: fn(&[u8], &mut Vec<u8>), json: &str) -> String {
        let mut out = Vec::new();
        layout(json.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn white_space_changes_and_strings_do_not() {
        let json = "{ \"a , : b\\\" c\" :[1 ,2,\n{}] , \"d\\\\\":-1.5e3,\"e\":[ ]}";
        assert_eq!(with(compact, json), r#"{"a , : b\" c":[1,2,{}],"d\\":-1.5e3,"e":[]}"#);
        assert_eq!(with(spaced, json), r#"{"a , : b\" c": [1, 2, {}], "d\\": -1.5e3, "e": []}"#);
        let indented_json = with(indented, json);
        let want =
            "{\n  \"a , : b\\\" c\": [\n    1,\n    2,\n    {}\n  ],\n  \"d\\\\\": -1.5e3,\n  \"e\": []\n}";
        assert_eq!(indented_json, want);
        for text in [with(spaced, json), indented_json] {
            assert_eq!(with(compact, &text), with(compact, json));
        }
    }

    /// Checked against jansson 2.14.
    #[test]
    fn values_that_jansson_refuses_are_known() {
        let good = [
            "1",
            "-9223372036854775808",
            "[1,true,false,null,1e3,0.5]",
            r#"{"a":"\u0000"}"#,
            r#"{"u0000":1}"#,
            "1E300",
            r#""\ud83d\ude00""#,
        ];
        let bad = [
            "9223372036854775808",
            "[1,99999999999999999999]",
            "1E400",
            r#""\ud800""#,
            r#"{"a\u0000":1}"#,
            "{\"a\":[18446744073709551615]}",
        ];
        for (values, readable) in [(&good[..], true), (&bad, false)] {
            for value in values {
                assert_eq!(readable_by_c(value), readable, "{value}");
            }
        }
    }

    #[test]
    fn what_is_no_json_does_no_harm() {
        for json in ["", "\"", "\"\\", "}}}]]", "{[", "\"a\\"] {
            for layout in [compact, spaced, indented] {
                with(layout, json);
            }
        }
    }
}
