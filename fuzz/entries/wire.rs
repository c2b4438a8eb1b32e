//! The codec of the mover protocol.

use coordinatool::hsm::effect::WorkList;
use coordinatool::hsm::event::Message;
use coordinatool::wire::client::{QueueWriter, write_done, write_ehlo, write_lease, write_unheard};
use coordinatool::wire::{
    Accept, Decoder, ItemStyle, Limits, ServerMessage, layout, parse_item, parse_message, parse_reply,
    write_item, write_work,
};

type Outcome = (Vec<Vec<u8>>, Option<String>, usize);

fn decode(stream: &[u8], piece: usize, limits: Limits) -> Outcome {
    let mut decoder = Decoder::new(limits);
    let mut objects = Vec::new();
    for piece in stream.chunks(piece) {
        decoder.push(piece);
        loop {
            match decoder.next_object() {
                Ok(Some(object)) => {
                    assert!(object.len() <= limits.message_bytes);
                    objects.push(object.to_vec());
                }
                Ok(None) => break,
                Err(error) => return (objects, Some(error.to_string()), 0),
            }
        }
    }
    (objects, None, decoder.pending_bytes())
}

/// The first byte is the size of the pieces, the rest the stream.
pub fn decoder(data: &[u8]) {
    let Some((piece, stream)) = data.split_first() else { return };
    for limits in [Limits::default(), Limits { message_bytes: 64, depth: 3 }] {
        let whole = decode(stream, stream.len().max(1), limits);
        assert_eq!(decode(stream, usize::from(*piece).max(1), limits), whole);
        for object in &whole.0 {
            // Any JSON that serde_json takes has passed as one object.
            let _ = parse_message(object);
            let _ = parse_reply(object);
        }
    }
    // What a JSON reader takes as an object, the decoder must hand out whole.
    if let Ok(value) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(stream) {
        let text = serde_json::to_vec(&value).unwrap();
        assert_eq!(decode(&text, 7, Limits::default()).0, [text]);
    }
}

/// A message that is understood says the same when it is written again.
pub fn message(data: &[u8]) {
    let mut bad = 0;
    let parsed = coordinatool::wire::parse_message_with(data, |_, _, error| {
        assert!(!error.to_string().is_empty());
        bad += 1;
    });
    let Ok(message) = parsed else { return };
    let mut out = Vec::new();
    let again = match message {
        Message::Ehlo(mut ehlo) => {
            write_ehlo(&ehlo, &mut out);
            // Empty ones are not written.
            ehlo.fsname = ehlo.fsname.filter(|name| !name.is_empty());
            ehlo.hai_list = ehlo.hai_list.filter(|list| !list.is_empty());
            Message::Ehlo(ehlo)
        }
        Message::Done(done) => {
            write_done(done.cookie, done.dfid, done.status, &mut out);
            Message::Done(done)
        }
        Message::Unheard(done) => {
            write_unheard(done.cookie, done.dfid, done.status, &mut out);
            Message::Unheard(done)
        }
        Message::Queue(mut queue) => {
            assert!(queue.bad_items <= bad);
            queue.fsname = queue.fsname.filter(|name| !name.is_empty());
            let mut writer = QueueWriter::begin(queue.fsname.as_deref(), &mut out);
            queue.items.iter().flatten().for_each(|item| writer.item(item, &mut out));
            writer.end(&mut out);
            queue.items.get_or_insert_default();
            queue.bad_items = 0;
            Message::Queue(queue)
        }
        Message::Lease { serial } => {
            write_lease(serial, &mut out);
            Message::Lease { serial }
        }
        _ => return,
    };
    assert_eq!(parse_message(&out).unwrap(), again, "{}", String::from_utf8_lossy(&out));
    assert_eq!(decode(&out, 5, Limits::default()).0.len(), 1);
}

/// An answer with work that is understood says the same when it is written again.
pub fn reply(data: &[u8]) {
    let Ok(reply) = parse_reply(data) else { return };
    if let ServerMessage::Recv(Ok(list)) = reply {
        if list.fsname.is_empty() {
            return;
        }
        let work = WorkList {
            archive_id: list.archive_id,
            flags: list.flags,
            items: list.items.clone(),
            binary_data: true,
        };
        let mut out = Vec::new();
        write_work(&work, &list.fsname, &mut out);
        // An archive id that C's 32 bits hold as a negative number is the only one that may not come back as it was.
        assert_eq!(parse_reply(&out).unwrap(), ServerMessage::Recv(Ok(list)));
    }
}

/// An item that is understood says the same in each style, and its layouts differ in white space only.
pub fn item(data: &[u8]) {
    let Ok(Ok(item)) = parse_item(data, Accept::Anything) else { return };
    let mut compact = Vec::new();
    write_item(&item, ItemStyle { spaced: false, binary_data: true }, &mut compact);
    let mut spaced = Vec::new();
    write_item(&item, ItemStyle::WIRE_EXACT, &mut spaced);
    for text in [&compact, &spaced] {
        assert_eq!(parse_item(text, Accept::Anything).unwrap().unwrap(), item);
    }
    let mut indented = Vec::new();
    layout::indented(&spaced, &mut indented);
    for text in [&spaced, &indented] {
        let mut again = Vec::new();
        layout::compact(text, &mut again);
        assert_eq!(again, compact);
    }
}
