//! Requests exactly as C and we write them into redis, read. Whatever differs by a byte is left to the reader of all JSON.

use lustreapi_sys::Fid;

use crate::hsm::{Action, ActionItem};
use crate::wire::plain::Text;

/// As C packs 32 bits.
fn narrow(text: &mut Text<'_>) -> Option<u32> {
    i32::try_from(text.int()?).ok().map(|value| value as u32)
}

fn fid_of(text: &mut Text<'_>) -> Option<Fid> {
    text.literal("{\"f_seq\":")?;
    let seq = text.int()? as u64;
    text.literal(",\"f_oid\":")?;
    let oid = narrow(text)?;
    text.literal(",\"f_ver\":")?;
    let ver = narrow(text)?;
    text.literal("}")?;
    Some(Fid::new(seq, oid, ver))
}

/// Reads a request that is written as usual.
pub(super) fn item(all: &[u8]) -> Option<ActionItem> {
    let mut text = Text::new(all);
    text.literal("{\"hai_action\":")?;
    let action = Action::from_hsma(narrow(&mut text)?).filter(|action| *action != Action::Cancel)?;
    text.literal(",\"hai_fid\":")?;
    let begin = all.len() - text.len();
    let fid = fid_of(&mut text)?;
    let end = all.len() - text.len();
    text.literal(",\"hai_dfid\":")?;
    // Most are the same again.
    let again = all.len() - text.len();
    let dfid = if all[again..].starts_with(&all[begin..end]) {
        text = Text::new(&all[again + end - begin..]);
        fid
    } else {
        fid_of(&mut text)?
    };
    text.literal(",\"hai_extent_offset\":")?;
    let extent_offset = text.int()? as u64;
    text.literal(",\"hai_extent_length\":")?;
    let extent_length = text.int()? as u64;
    text.literal(",\"hai_cookie\":")?;
    let cookie = text.int()? as u64;
    text.literal(",\"hai_gid\":")?;
    let gid = text.int()? as u64;
    text.literal(",\"hal_archive_id\":")?;
    let archive_id = u32::try_from(text.int()?).ok().filter(|&id| id != 0)?;
    text.literal(",\"hal_flags\":")?;
    let flags = text.int()? as u64;
    text.literal(",\"hai_data\":")?;
    let data = text.string()?.as_bytes().into();
    text.literal(",\"timestamp\":")?;
    // The other reader takes what no clock shows for none.
    let timestamp = text.int().filter(|timestamp| *timestamp >= 0)?;
    text.last("}")?;
    Some(ActionItem {
        action,
        fid,
        dfid,
        extent_offset,
        extent_length,
        cookie,
        gid,
        archive_id,
        flags,
        data,
        timestamp,
        extra: "".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::item::{Accept, parse_item};

    const TEXT: &str = concat!(
        r#"{"hai_action":22,"hai_fid":{"f_seq":8589935618,"f_oid":6,"f_ver":0},"#,
        r#""hai_dfid":{"f_seq":8589935618,"f_oid":6,"f_ver":0},"hai_extent_offset":0,"hai_extent_length":-1,"#,
        r#""hai_cookie":1795216998,"hai_gid":0,"hal_archive_id":1,"hal_flags":0,"hai_data":"tag=x","#,
        r#""timestamp":1795217070090059667}"#
    );

    fn slow(text: &[u8]) -> Option<ActionItem> {
        parse_item(text, Accept::Requests).ok()?.ok()
    }

    #[test]
    fn what_c_wrote_is_read_here() {
        assert!(item(TEXT.as_bytes()).is_some());
        assert_eq!(item(TEXT.as_bytes()), slow(TEXT.as_bytes()));
    }

    /// Values that readers could take for different things, in place of each number and of the string.
    #[test]
    fn both_readers_say_the_same() {
        let values: [&[u8]; 36] = [
            b"0",
            b"-0",
            b"00",
            b"01",
            b"-1",
            b"1",
            b"7",
            b"20",
            b"21",
            b"22",
            b"23",
            b"2147483647",
            b"2147483648",
            b"-2147483648",
            b"-2147483649",
            b"4294967295",
            b"4294967296",
            b"999999999999999999",
            b"1000000000000000000",
            b"9223372036854775807",
            b"9223372036854775808",
            b"-9223372036854775808",
            b"18446744073709551615",
            b"18446744073709551616",
            b"1.0",
            b"1e3",
            b"",
            b"-",
            b"+1",
            b" 1",
            b"1 ",
            b"\"1\"",
            b"null",
            b"\"a\\\"b\"",
            b"\"\x01\"",
            b"\"\xff\"",
        ];
        let mut places = Vec::new();
        let mut at = 0;
        while let Some(found) = TEXT[at..].find("\":") {
            let from = at + found + 2;
            let len = TEXT[from..].find([',', '}']).unwrap();
            if !TEXT[from..].starts_with('{') {
                places.push(from..from + len);
            }
            at = from;
        }
        assert_eq!(places.len(), 15);
        let mut quick = 0;
        for place in places {
            for value in values.iter().chain(&[&b"\"\xc3\xa9 t\""[..], b"\"\""]) {
                let text = [&TEXT.as_bytes()[..place.start], value, &TEXT.as_bytes()[place.end..]].concat();
                if let Some(found) = item(&text) {
                    quick += 1;
                    assert_eq!(Some(found), slow(&text), "{}", String::from_utf8_lossy(&text));
                }
            }
        }
        assert!(quick > 100, "{quick}");
    }

    #[test]
    fn anything_else_is_left_to_the_other_reader() {
        for end in 0..TEXT.len() {
            assert_eq!(item(&TEXT.as_bytes()[..end]), None);
        }
        let others = [
            TEXT.replace(",\"timestamp\":1795217070090059667", ""),
            TEXT.replace("\"hai_gid\":0", "\"hai_gid\":0,\"more\":1"),
            TEXT.replace(":0", ": 0"),
            format!("{TEXT} "),
        ];
        for text in others {
            assert_eq!(item(text.as_bytes()), None, "{text}");
        }
    }
}
