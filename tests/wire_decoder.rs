//! The decoder takes any stream apart the same way, however it is cut, and never holds more than it must.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use coordinatool::wire::{DecodeError, Decoder, Limits, decoder::Found};
use proptest::prelude::*;

/// All objects of a stream pushed in pieces that end at `cuts`, and how it ended.
fn objects(stream: &[u8], cuts: &[usize], limits: Limits) -> (Vec<Vec<u8>>, Result<usize, DecodeError>) {
    let mut decoder = Decoder::new(limits);
    let mut out = Vec::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([stream.len()]) {
        let end = end.clamp(start, stream.len());
        decoder.push(&stream[start..end]);
        start = end;
        loop {
            match decoder.next_object() {
                Ok(Some(object)) => out.push(object.to_vec()),
                Ok(None) => break,
                Err(error) => return (out, Err(error)),
            }
        }
    }
    (out, Ok(decoder.pending_bytes()))
}

/// C: "half an object; one space; a trailing newline; a top-level `3`: all other clients hang while connected". Here each
/// of them is either nothing or an error, at once.
#[test]
fn streams_end_as_the_table_says() {
    let unexpected = |byte, at| DecodeError::Unexpected { found: Found(byte), at };
    let not_object = |byte, at| DecodeError::NotAnObject { found: Found(byte), at };
    let limits = Limits { message_bytes: 40, depth: 4 };
    let long = format!("{{}}{{\"a\": \"{}", "x".repeat(60));
    let cases: [(&str, usize, Result<usize, DecodeError>); 27] = [
        ("", 0, Ok(0)),
        (" ", 0, Ok(0)),
        ("{}", 1, Ok(0)),
        ("{}\n", 1, Ok(0)),
        ("{}{}", 2, Ok(0)),
        (" {} \r\n\t{\"a\":1} ", 2, Ok(0)),
        ("{\"command\": \"sta", 0, Ok(16)),
        ("{} {\"command\": ", 1, Ok(12)),
        (r#"{"}":"{\"}"}"#, 1, Ok(0)),
        (r#"{"\\":"\\"}"#, 1, Ok(0)),
        (r#"{"a":[[{}]]}"#, 1, Ok(0)),
        ("3", 0, Err(not_object(b'3', 0))),
        ("{}3", 1, Err(not_object(b'3', 2))),
        ("[{}]", 0, Err(not_object(b'[', 0))),
        ("\"a\"", 0, Err(not_object(b'"', 0))),
        ("{},{}", 1, Err(not_object(b',', 2))),
        ("\0{}", 0, Err(not_object(0, 0))),
        ("{]", 0, Err(unexpected(b']', 1))),
        ("{\"a\":[}", 0, Err(unexpected(b'}', 6))),
        ("{a", 0, Err(unexpected(b'a', 1))),
        ("{\"a\":nope", 0, Err(unexpected(b'o', 6))),
        ("{3", 0, Err(unexpected(b'3', 1))),
        ("{ {", 0, Err(unexpected(b'{', 2))),
        ("{\"a\":\u{e9}", 0, Err(unexpected(0xc3, 5))),
        ("{\"a\":[[[[", 0, Err(DecodeError::TooDeep { limit: 4, at: 8 })),
        (&long, 1, Err(DecodeError::TooLong { limit: 40, at: 42 })),
        ("{\"a\": \"0123456789012345678901234567890\"}", 1, Ok(0)),
    ];
    for (stream, count, end) in cases {
        let bytes = stream.as_bytes();
        let every: Vec<usize> = (1..bytes.len()).collect();
        for cuts in [&[][..], &every] {
            let (got, got_end) = objects(bytes, cuts, limits);
            assert_eq!((got.len(), got_end), (count, end), "{stream}");
        }
    }
}

#[test]
fn errors_say_what_and_where_and_stay() {
    let mut decoder = Decoder::new(Limits::default());
    decoder.push(b"{} nonsense");
    assert!(decoder.next_object().unwrap().is_some());
    let error = decoder.next_object().unwrap_err();
    assert_eq!(error.to_string(), "expected a JSON object at byte 3, found `n`");
    decoder.push(b"{}");
    assert_eq!(decoder.next_object(), Err(error));
    let error = objects(b"{\"a\":\x07", &[], Limits::default()).1.unwrap_err();
    assert_eq!(error.to_string(), "no JSON: unexpected byte 0x07 at byte 5");
}

/// C allocates 1 MiB for each message; a big one here leaves nothing behind.
#[test]
fn memory_goes_back_after_a_big_message() {
    let mut decoder = Decoder::new(Limits { message_bytes: 16 << 20, depth: 8 });
    let big = format!("{{\"a\": \"{}\"}}", "x".repeat(8 << 20));
    for piece in big.as_bytes().chunks(64 << 10) {
        decoder.push(piece);
    }
    assert_eq!(decoder.next_object().unwrap().map(<[u8]>::len), Some(big.len()));
    decoder.push(b"{}");
    assert!(decoder.next_object().unwrap().is_some());
    assert!(decoder.capacity() <= 64 << 10, "{}", decoder.capacity());
}

/// An endless message takes no more memory than the limit and a read, doubled by the growth of the buffer.
#[test]
fn an_endless_message_is_cut_off() {
    let mut decoder = Decoder::new(Limits { message_bytes: 1 << 20, depth: 8 });
    decoder.push(b"{\"a\":[1");
    let piece = b",1".repeat(32 << 10);
    let mut pushed = 0;
    let error = loop {
        decoder.push(&piece);
        pushed += piece.len();
        match decoder.next_object() {
            Ok(object) => assert!(object.is_none()),
            Err(error) => break error,
        }
        assert!(decoder.capacity() <= 2 * ((1 << 20) + piece.len()));
    };
    assert!(pushed <= (1 << 20) + piece.len());
    assert!(matches!(error, DecodeError::TooLong { .. }), "{error}");
    assert_eq!(decoder.capacity(), 0);
}

/// JSON objects as text, with strings full of brackets, quotes and escapes.
fn object() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("-1.5e-3".to_owned()),
        "[{}\\[\\]\"\\\\a-c\u{e9} ]{0,12}".prop_map(|s| serde_json::to_string(&s).unwrap()),
    ];
    let value = leaf.prop_recursive(3, 24, 4, |inner| {
        let key = "[a-c{}\"]{1,3}".prop_map(|s| serde_json::to_string(&s).unwrap());
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(", "))),
            prop::collection::vec((key, inner), 0..4).prop_map(|m| {
                let members: Vec<String> = m.into_iter().map(|(k, v)| format!("{k}: {v}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    value.prop_map(|value| if value.starts_with('{') { value } else { format!("{{\"v\":{value} }}") })
}

/// Pieces of objects, good ones and others, together as long as several blocks of 64 bytes.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => Just("{\"hai_cookie\": 123456, \"hai_fid\": {\"f_seq\": 8589935617, \"f_oid\": 1}, \"hai_gid\": "),
        8 => Just("\"a text with {brackets] in it\", "),
        8 => prop::sample::select(vec!["{", "}", "[", "]", "\"", "{\"", "}}", "1", ", ", ": ", " "]),
        1 => prop::sample::select(vec!["\\", "\\\"", "true", "x", "/", "\n", "\u{e9}", "\u{0}", "{ ", "{,"]),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// What follows a brace may stand in the next block.
#[test]
fn a_brace_at_any_place_is_followed_by_a_quote_or_its_end() {
    for pad in 0..130 {
        for next in ["1", ",", "{", "[", "]", "}, ", "\"x\": 1}, ", " 1", " }, ", " \"x\": 1}, "] {
            let stream =
                format!("{{\"p\": \"{}\", \"v\": {{{next}\"w\": \"{}\"}}", "a".repeat(pad), "b".repeat(130));
            let cuts: Vec<usize> = (1..stream.len()).collect();
            let whole = objects(stream.as_bytes(), &[], Limits::default());
            assert_eq!(whole.1.is_ok(), next.ends_with(", "), "{stream}");
            assert_eq!(objects(stream.as_bytes(), &cuts, Limits::default()), whole, "{stream}");
        }
    }
}

proptest! {
    /// Single bytes are looked at one by one, many at once in blocks.
    #[test]
    fn blocks_and_bytes_say_the_same(
        stream in pieces(),
        message_bytes in 100usize..1000,
        depth in 2usize..10,
    ) {
        let limits = Limits { message_bytes, depth };
        let cuts: Vec<usize> = (1..stream.len()).collect();
        let whole = objects(stream.as_bytes(), &[], limits);
        prop_assert_eq!(objects(stream.as_bytes(), &cuts, limits), whole);
    }

    #[test]
    fn any_split_gives_the_same_objects(
        objects_in in prop::collection::vec((object(), "[ \t\r\n]{0,2}"), 0..6),
        cuts in prop::collection::vec(0usize..400, 0..20),
    ) {
        let stream: String = objects_in.iter().flat_map(|(object, space)| [&**object, &**space]).collect();
        let mut cuts = cuts;
        cuts.sort_unstable();
        let (got, end) = objects(stream.as_bytes(), &cuts, Limits::default());
        let want: Vec<&[u8]> = objects_in.iter().map(|(object, _)| object.as_bytes()).collect();
        prop_assert_eq!(got, want);
        prop_assert_eq!(end, Ok(0));
    }

    #[test]
    fn garbage_ends_the_same_way_however_it_is_cut(
        stream in "[{}\\[\\]\"\\\\:, a1\n]{0,60}",
        cuts in prop::collection::vec(0usize..60, 0..10),
    ) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let limits = Limits { message_bytes: 20, depth: 3 };
        let whole = objects(stream.as_bytes(), &[], limits);
        prop_assert_eq!(objects(stream.as_bytes(), &cuts, limits), whole);
    }
}
