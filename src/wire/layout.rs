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

    #[test]
    fn what_is_no_json_does_no_harm() {
        for json in ["", "\"", "\"\\", "}}}]]", "{[", "\"a\\"] {
            for layout in [compact, spaced, indented] {
                with(layout, json);
            }
        }
    }
}
