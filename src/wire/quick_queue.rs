//! `queue` exactly as `coordinatool-client` writes it: most of what the daemon reads. Whatever differs by a byte, and every
//! message with a request that is not taken, is left to the reader of all JSON.

use lustreapi_sys::Fid;

use super::plain::Text;
use super::request::NAME_BYTES;
use super::value::Number;
use crate::hsm::event::{Message, Queue};
use crate::hsm::{Action, ActionItem};

/// No item is shorter.
const LEAST_ITEM: usize = 256;

/// Reads a `queue`, if it is written as usual.
pub(super) fn message(object: &[u8]) -> Option<Message> {
    let mut text = Text::new(object);
    let (mut command, mut fsname, mut items) = (false, None, None);
    text.literal("{")?;
    loop {
        // Of a member that comes twice the last counts: the other reader knows which that is.
        if text.literal("\"hsm_action_items\": [").is_some() {
            if items.replace(list(&mut text)?).is_some() {
                return None;
            }
        } else if text.literal("\"fsname\": ").is_some() {
            let name = text.string().filter(|name| name.len() <= NAME_BYTES)?;
            if fsname.replace(name.to_owned()).is_some() {
                return None;
            }
        } else {
            text.literal("\"command\": \"queue\"")?;
            command = true;
        }
        if text.literal(", ").is_none() {
            break;
        }
    }
    text.last("}")?;
    command.then_some(Message::Queue(Queue { fsname, items, bad_items: 0 }))
}

/// The items of a list that has been opened, and its end.
fn list(text: &mut Text<'_>) -> Option<Vec<ActionItem>> {
    let mut items = Vec::with_capacity(text.len() / LEAST_ITEM);
    if text.literal("]").is_some() {
        return Some(items);
    }
    loop {
        items.push(item(text)?);
        if text.literal(", ").is_none() {
            break;
        }
    }
    text.literal("]")?;
    Some(items)
}

fn fid(text: &mut Text<'_>) -> Option<Fid> {
    let seq = text.number("{\"f_seq\": ")?.wide()?;
    let oid = text.number(", \"f_oid\": ")?.narrow()?;
    let ver = text.number(", \"f_ver\": ")?.narrow()?;
    text.literal("}")?;
    Some(Fid::new(seq, oid, ver))
}

fn item(text: &mut Text<'_>) -> Option<ActionItem> {
    let action = Action::from_hsma(text.number("{\"hai_action\": ")?.narrow()?)?;
    text.literal(", \"hai_fid\": ")?;
    let file = fid(text)?;
    text.literal(", \"hai_dfid\": ")?;
    let dfid = fid(text)?;
    let extent_offset = text.number(", \"hai_extent_offset\": ")?.wide()?;
    let extent_length = text.number(", \"hai_extent_length\": ")?.wide()?;
    let cookie = text.number(", \"hai_cookie\": ")?.wide()?;
    let gid = text.number(", \"hai_gid\": ")?.wide()?;
    // Some add what belongs to the whole list at the end.
    let before = text.data();
    let archive_id = u32::try_from(text.number(", \"hal_archive_id\": ")?.signed()?).ok()?;
    let flags = text.number(", \"hal_flags\": ")?.wide()?;
    let data = before.or_else(|| text.data())?;
    text.literal("}")?;
    if action == Action::Cancel || archive_id == 0 {
        return None;
    }
    Some(ActionItem {
        action,
        fid: file,
        dfid,
        extent_offset,
        extent_length,
        cookie,
        gid,
        archive_id,
        flags,
        data: data.as_bytes().into(),
        timestamp: 0,
        extra: Box::default(),
    })
}

impl<'a> Text<'a> {
    fn number(&mut self, before: &str) -> Option<Number> {
        self.literal(before)?;
        self.int().map(Number::Signed)
    }

    fn data(&mut self) -> Option<&'a str> {
        self.literal(", \"hai_data\": ")?;
        self.string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::QueueWriter;
    use super::super::request::parse_any;
    use super::*;

    fn item_with(data: &[u8]) -> ActionItem {
        ActionItem {
            action: Action::Restore,
            fid: Fid::new(0x2_0000_5223, 0xffff_1cce, 0),
            dfid: Fid::new(0x2_0000_5223, 4, 1),
            extent_offset: 7,
            extent_length: u64::MAX,
            cookie: 0x617d_23ef,
            gid: 9,
            archive_id: 2,
            flags: 1,
            data: data.into(),
            timestamp: 0,
            extra: "".into(),
        }
    }

    fn queue(fsname: Option<&str>, data: &[&[u8]]) -> String {
        let mut out = Vec::new();
        let mut writer = QueueWriter::begin(fsname, &mut out);
        for data in data {
            writer.item(&item_with(data), &mut out);
        }
        writer.end(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// What is read here is what the other reader makes of it. Returns whether it was read here.
    fn same(text: &str) -> bool {
        let found = message(text.as_bytes());
        let quick = found.is_some();
        if quick {
            assert_eq!(found, parse_any(text.as_bytes(), |_, _, _| ()).ok(), "{text}");
        }
        quick
    }

    #[test]
    fn what_our_client_sends_is_read_here() {
        let all: [&[&[u8]]; 4] = [&[], &[b""], &[b"tag=n0"], &[b"a, b]}", "\u{e9}\u{1f600}".as_bytes()]];
        for data in all {
            for fsname in [None, Some("testfs0")] {
                assert!(same(&queue(fsname, data)));
            }
        }
        let usual = queue(None, &[b"tag=n0"]);
        let last = usual
            .replace(", \"hai_data\": \"tag=n0\"", "")
            .replace("9, \"hal", "9, \"hai_data\": \"t\", \"hal");
        assert!(last != usual && same(&last));
        let first =
            usual.replace(", \"command\": \"queue\"", "").replace("{\"hsm", "{\"command\": \"queue\", \"hsm");
        assert!(first != usual && same(&first));
    }

    /// Numbers and strings that readers could take for different things, in each place where there is one.
    #[test]
    fn both_readers_say_the_same() {
        const VALUES: &[&str] = &[
            "0",
            "-0",
            "00",
            "01",
            "-1",
            "1",
            "20",
            "21",
            "22",
            "23",
            "24",
            "2147483648",
            "-2147483649",
            "4294967295",
            "4294967296",
            "999999999999999999",
            "1000000000000000000",
            "9223372036854775808",
            "18446744073709551615",
            "1.0",
            "1e3",
            "",
            "-",
            "+1",
            " 1",
            "1 ",
            "null",
            "true",
            "[]",
            "{}",
            "\"1\"",
            "\"\"",
            "\"a\\u0000\"",
            "\"\\n\"",
            "\"\n\"",
            "\"\u{7f}\u{80}\"",
            "\"queue\"",
            "\"recv\"",
            "\"",
            "]",
            "}",
            "1, \"hai_gid\": 2",
            "1, \"x\": 2",
            "\"queue\", \"command\": \"recv\"",
            "[], \"hsm_action_items\": []",
            "[\"command\": \"queue\"",
        ];
        let usual = queue(Some("testfs0"), &[b"one", b"two"]);
        let (mut quick, mut all) = (0, 0);
        for (at, _) in usual.match_indices("\": ") {
            let value = at + 3;
            let len = usual[value..].find([',', '}']).unwrap();
            for new in VALUES {
                all += 1;
                quick += usize::from(same(&format!("{}{new}{}", &usual[..value], &usual[value + len..])));
            }
        }
        assert!(quick > 200 && all > 2 * quick, "{quick} of {all}");
    }

    #[test]
    fn anything_else_is_left_to_the_other_reader() {
        let usual = queue(Some("testfs0"), &[b"one", b"two"]);
        let long = "n".repeat(NAME_BYTES + 1);
        let others = [
            usual.replace(": ", ":"),
            usual.replace(", \"command\": \"queue\"", ""),
            usual.replace("\"queue\"", "\"status\""),
            usual.replace("\"hal_archive_id\": 2", "\"hal_archive_id\": 0"),
            usual.replace("\"hai_action\": 21", "\"hai_action\": 23"),
            usual.replace("\"one\"", "\"one\", \"hai_data_b64\": \"AA==\""),
            usual.replace("\"one\"", "\"one\", \"timestamp\": 5"),
            usual.replace("testfs0", &long),
            format!("{usual} "),
            usual[..usual.len() - 1].to_owned(),
        ];
        for text in others {
            assert!(text != usual && message(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_cut_message_is_none() {
        let usual = queue(Some("testfs0"), &[b"one", b"two"]);
        for cut in 0..usual.len() {
            assert_eq!(message(&usual.as_bytes()[..cut]), None, "{cut}");
        }
    }
}
