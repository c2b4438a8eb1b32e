//! The messages that come over and over, exactly as the C library and our programs write them. Whatever differs by a byte is
//! left to the reader of all JSON.

use lustreapi_sys::Fid;

use super::plain::Text;
use super::quick_queue;
use super::value::Number;
use crate::hsm::event::{Done, Message, Recv};

/// Reads a `done`, a `recv` or a `queue`, if it is written as usual.
pub(super) fn message(object: &[u8]) -> Option<Message> {
    match front(object) {
        Some((message, length)) => (length == object.len()).then_some(message),
        None => quick_queue::message(object),
    }
}

/// Reads a `done` or a `recv` at the front of a stream, if all of it is there and written as usual. Returns its length too.
pub(super) fn front(bytes: &[u8]) -> Option<(Message, usize)> {
    let mut text = Text::new(bytes);
    text.literal("{\"command\": \"")?;
    let message = match text.first()? {
        b'd' => done(&mut text)?,
        b'r' => recv(&mut text)?,
        _ => return None,
    };
    Some((message, bytes.len() - text.len()))
}

fn done(text: &mut Text<'_>) -> Option<Message> {
    text.literal("done\", \"hai_cookie\": ")?;
    let cookie = Number::Signed(text.int()?).wide()?;
    text.literal(", \"hai_dfid\": {\"f_seq\": ")?;
    let seq = Number::Signed(text.int()?).wide()?;
    text.literal(", \"f_oid\": ")?;
    let oid = Number::Signed(text.int()?).narrow()?;
    text.literal(", \"f_ver\": ")?;
    let ver = Number::Signed(text.int()?).narrow()?;
    text.literal("}, \"status\": ")?;
    let status = i32::try_from(text.int()?).ok()?;
    text.literal("}")?;
    Some(Message::Done(Done { cookie, dfid: Fid::new(seq, oid, ver), status }))
}

fn recv(text: &mut Text<'_>) -> Option<Message> {
    // Negative is no limit; one beyond 32 bits is for the other reader.
    let limit = |value: i64| if value < 0 { Some(None) } else { u32::try_from(value).ok().map(Some) };
    text.literal("recv\", \"max_archive\": ")?;
    let max_archive = limit(text.int()?)?;
    text.literal(", \"max_restore\": ")?;
    let max_restore = limit(text.int()?)?;
    text.literal(", \"max_remove\": ")?;
    let max_remove = limit(text.int()?)?;
    text.literal(", \"max_bytes\": ")?;
    let max_bytes = Number::Signed(text.int()?).wide()?;
    text.literal("}")?;
    Some(Message::Recv(Recv { max_archive, max_restore, max_remove, max_bytes }))
}

#[cfg(test)]
mod tests {
    use super::super::client::{write_done, write_recv};
    use super::super::decoder::{DecodeError, Decoder, Limits};
    use super::super::request::{next_known, parse_any};
    use super::*;

    fn done_text(cookie: &str, seq: &str, oid: &str, ver: &str, status: &str) -> String {
        format!(
            "{{\"command\": \"done\", \"hai_cookie\": {cookie}, \"hai_dfid\": {{\"f_seq\": {seq}, \"f_oid\": {oid}, \
             \"f_ver\": {ver}}}, \"status\": {status}}}"
        )
    }

    fn recv_text(numbers: [&str; 4]) -> String {
        let [archive, restore, remove, bytes] = numbers;
        format!(
            "{{\"command\": \"recv\", \"max_archive\": {archive}, \"max_restore\": {restore}, \"max_remove\": {remove}, \
             \"max_bytes\": {bytes}}}"
        )
    }

    #[test]
    fn what_our_library_sends_is_read_here() {
        let mut out = Vec::new();
        write_done(0x617d_23ef, Fid::new(0x2_0000_5223, 0xffff_1cce, 0), -5, &mut out);
        assert!(message(&out).is_some(), "{}", String::from_utf8_lossy(&out));
        out.clear();
        write_recv(-1, 16, 0, 1 << 20, &mut out);
        assert!(message(&out).is_some(), "{}", String::from_utf8_lossy(&out));
    }

    /// Numbers that readers could take for different things, in each place of each message.
    #[test]
    fn both_readers_say_the_same() {
        let numbers = [
            "0",
            "-0",
            "00",
            "01",
            "-1",
            "1",
            "7",
            "-5",
            "2147483647",
            "2147483648",
            "-2147483648",
            "-2147483649",
            "4294967295",
            "4294967296",
            "999999999999999999",
            "1000000000000000000",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "1.0",
            "1e3",
            "",
            "-",
            "+1",
            " 1",
            "1 ",
            "\"1\"",
            "null",
        ];
        let mut quick = 0;
        let mut check = |text: String| {
            if let Some(found) = message(text.as_bytes()) {
                quick += 1;
                assert_eq!(Some(found), parse_any(text.as_bytes(), |_, _, _| ()).ok(), "{text}");
            }
        };
        for number in numbers {
            check(done_text(number, "1", "1", "1", "0"));
            check(done_text("1", number, "1", "1", "0"));
            check(done_text("1", "1", number, "1", "0"));
            check(done_text("1", "1", "1", number, "0"));
            check(done_text("1", "1", "1", "1", number));
            for place in 0..4 {
                let mut all = ["1"; 4];
                all[place] = number;
                check(recv_text(all));
            }
        }
        assert!(quick > 50, "{quick}");
    }

    /// What a decoder finds in a stream that comes in two parts.
    fn found(stream: &[u8], cut: usize, limits: Limits, known: bool) -> (Vec<Message>, Option<DecodeError>) {
        let (mut decoder, mut messages) = (Decoder::new(limits), Vec::new());
        for part in [&stream[..cut], &stream[cut..]] {
            decoder.push(part);
            loop {
                if known && let Some(message) = next_known(&mut decoder) {
                    messages.push(message);
                    continue;
                }
                match decoder.next_object() {
                    Ok(Some(object)) => messages.extend(parse_any(object, |_, _, _| ()).ok()),
                    Ok(None) => break,
                    Err(error) => return (messages, Some(error)),
                }
            }
        }
        (messages, None)
    }

    #[test]
    fn what_is_known_at_the_front_of_a_stream_is_what_stands_there() {
        let done = done_text("7", "8589935617", "1", "0", "0");
        let recv = recv_text(["-1", "16", "0", "1048576"]);
        let status = "{\"command\": \"status\"}";
        let streams = [
            format!("{done}{recv}{done}{done}"),
            format!(" {done}\n{recv} {status}{done}"),
            format!("{recv}{done}x{done}"),
            format!("{done}}}{recv}"),
            format!("{}{done}", done.replace("\"status\": 0", "\"status\": 0, \"goes_on\": 1")),
        ];
        let all = Limits::default();
        let limits = [all, Limits { depth: 1, ..all }, Limits { message_bytes: recv.len(), ..all }];
        for (stream, limits) in streams.iter().flat_map(|stream| limits.map(|limits| (stream, limits))) {
            let want = found(stream.as_bytes(), 0, limits, false);
            for cut in 0..=stream.len() {
                assert_eq!(
                    found(stream.as_bytes(), cut, limits, true),
                    want,
                    "{stream} cut at {cut}, {limits:?}"
                );
            }
        }
    }

    #[test]
    fn anything_else_is_left_to_the_other_reader() {
        let done = done_text("1", "1", "1", "1", "0");
        let recv = recv_text(["1"; 4]);
        let others = [
            done.replace("\"status\": 0", "\"status\": 0, \"goes_on\": 1"),
            done.replace(", \"status\": 0", ""),
            done.replace(": ", ":"),
            done.replace("done", "recv"),
            recv.replace("recv", "done"),
            recv.replace("max_bytes", "max_byte"),
            recv.replace("\"max_bytes\": 1", "\"max_bytes\": 1, \"more\": 1"),
            format!("{done} "),
            "{\"command\": \"".to_owned(),
            "{\"command\": \"d".to_owned(),
            "{}".to_owned(),
            String::new(),
        ];
        for text in others {
            assert_eq!(message(text.as_bytes()), None, "{text}");
        }
    }
}
