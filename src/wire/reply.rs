//! What the daemon answers: the bytes of the C server, which leaves out zeros and empty strings in replies, never in items.

use lustreapi_sys::abi::HAL_VERSION;

use super::EXTENSION_VERSION;
use super::item::{ItemStyle, write_fid, write_item};
use super::text::ObjectWriter;
use crate::hsm::effect::{EhloReply, Reply, WorkList};

/// Appends a reply. Nothing separates it from the next one.
pub fn write_reply(reply: &Reply, out: &mut Vec<u8>) {
    if *reply == Reply::Done {
        // By far the most.
        return out.extend_from_slice(b"{\"command\": \"done\"}");
    }
    let mut object = ObjectWriter::new(out, true);
    match reply {
        Reply::Ehlo(ehlo) => {
            object.string("command", b"ehlo");
            write_extensions(ehlo, &mut object);
        }
        Reply::Done => {
            object.string("command", b"done");
        }
        Reply::Queue { enqueued, skipped, status, error } => {
            object
                .string("command", b"queue")
                .int_or_nothing("status", i64::from(*status))
                .string_or_nothing("error", error.as_bytes())
                .int_or_nothing("enqueued", *enqueued as i64)
                .int_or_nothing("skipped", *skipped as i64);
        }
        Reply::Lock => {
            object.string("command", b"lock");
        }
        Reply::Lease { serial, lease_ms } => {
            object.string("command", b"lease").wide("serial", *serial).wide("lease_ms", *lease_ms);
        }
        Reply::Error { command, status, error } => {
            object
                .string("command", command.as_bytes())
                .int_or_nothing("status", i64::from(*status))
                .string_or_nothing("error", error.as_bytes());
        }
    }
    object.end();
}

/// A C peer gets neither a lease nor refusals, hence no member that it does not know.
fn write_extensions(ehlo: &EhloReply, object: &mut ObjectWriter<'_>) {
    if *ehlo == EhloReply::default() {
        return;
    }
    let mut ours = ObjectWriter::new(object.key("coordinatool"), true);
    ours.int("version", EXTENSION_VERSION).wide("lease_ms", ehlo.lease_ms);
    if !ehlo.refused.is_empty() {
        let out = ours.key("refused");
        for (i, key) in ehlo.refused.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b"[" } else { b", " });
            let mut refused = ObjectWriter::new(out, true);
            write_fid(key.fid, true, refused.wide("hai_cookie", key.cookie).key("hai_fid"));
            refused.end();
        }
        out.push(b']');
    }
    ours.end();
}

/// Appends the answer to a `recv`.
pub fn write_work(list: &WorkList, fsname: &str, out: &mut Vec<u8>) {
    // Most items take less.
    out.reserve(128 + list.items.iter().map(|item| 400 + item.data.len() + item.extra.len()).sum::<usize>());
    let style = if list.binary_data { ItemStyle::WIRE_EXACT } else { ItemStyle::WIRE };
    let mut reply = ObjectWriter::new(out, true);
    let mut hal = ObjectWriter::new(reply.key("hsm_action_list"), true);
    hal.int("hal_version", i64::from(HAL_VERSION))
        .int_or_nothing("hal_archive_id", i64::from(list.archive_id))
        .int_or_nothing("hal_flags", list.flags as i64)
        .string_or_nothing("hal_fsname", fsname.as_bytes());
    let items = hal.key("list");
    items.push(b'[');
    for (i, item) in list.items.iter().enumerate() {
        if i > 0 {
            items.extend_from_slice(b", ");
        }
        write_item(item, style, items);
    }
    items.push(b']');
    hal.end();
    reply.string("command", b"recv").end();
}
