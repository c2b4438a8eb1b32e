//! Values: requests as C keeps them, and which of them C can read.

use lustreapi_sys::Fid;

use super::{names, quick};
use crate::hsm::{ActionItem, RequestKey};
use crate::wire::item::{Accept, ItemStyle, parse_item, write_item};

/// Where a request is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Among C's, under its cookie and this data FID.
    Shared(Fid),
    /// Apart, under its own identity.
    Own,
}

impl Place {
    /// Where C would look for most requests, and we for all of which nothing else is noted.
    pub fn usual(key: &RequestKey) -> Self {
        Self::Shared(key.fid)
    }

    /// The cookie and the FID in the field of a request that is kept here.
    pub fn field_of(self, key: &RequestKey) -> (u64, Fid) {
        match self {
            Self::Shared(dfid) => (key.cookie, dfid),
            Self::Own => (key.cookie, key.fid),
        }
    }

    /// The field of a request that is kept here.
    pub fn field(self, key: &RequestKey) -> String {
        let (cookie, fid) = self.field_of(key);
        names::field(cookie, fid)
    }
}

/// Where this request is to be kept.
///
/// C 0.4 does not start when a request has no archive id (`hai did not contain archive_id`), and its JSON strings hold
/// UTF-8 only. Every number fits: it reads negative ones as unsigned.
pub fn place_of(item: &ActionItem) -> Place {
    // Most data is ASCII, which is found out faster.
    let text = item.data.is_ascii() || std::str::from_utf8(&item.data).is_ok();
    let readable = item.archive_id != 0 && text;
    // The field that looks like no request's, [`names::CANARY`], stands for something else.
    let canary = item.cookie == u64::MAX && item.dfid == Fid::new(u64::MAX, u32::MAX, u32::MAX);
    if readable && !canary { Place::Shared(item.dfid) } else { Place::Own }
}

/// The text of a request: compact, and with its exact data where that is no text.
pub fn item_text(item: &ActionItem) -> Vec<u8> {
    let mut text = Vec::with_capacity(384 + item.data.len() + item.extra.len());
    write_item_text(item, &mut text);
    text
}

/// Appends the text of a request.
pub fn write_item_text(item: &ActionItem, text: &mut Vec<u8>) {
    write_item(item, ItemStyle { binary_data: true, ..ItemStyle::STORED }, text);
}

/// Whether C reads the id of a mover as we wrote it: it ends strings at a NUL.
pub fn mover_is_readable(mover: &str) -> bool {
    !mover.contains('\0')
}

/// Reads a request and checks that it stands where it belongs.
///
/// # Errors
/// Says what is wrong with it.
pub fn read_item(own: bool, field: &[u8], text: &[u8]) -> Result<ActionItem, String> {
    let item = match quick::item(text) {
        Some(item) => item,
        None => match parse_item(text, Accept::Requests) {
            Ok(Ok(item)) => item,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(error) => return Err(format!("not JSON: {error}")),
        },
    };
    let fid = if own { item.fid } else { item.dfid };
    if field != names::field_bytes(item.cookie, fid) {
        return Err(format!("it belongs under {}", names::field(item.cookie, fid)));
    }
    Ok(item)
}

/// Reads the id of a mover.
///
/// # Errors
/// Says what is wrong with it.
pub fn read_mover(text: &[u8]) -> Result<&str, String> {
    const MOST: usize = 1024;
    match std::str::from_utf8(text) {
        Ok("") => Err("the id of a mover is empty".to_owned()),
        Ok(id) if id.len() > MOST => Err(format!("the id of a mover has {} bytes", id.len())),
        Ok(id) => Ok(id),
        Err(_) => Err("the id of a mover is not UTF-8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hsm::Action;

    /// Written by C 0.4, from a real redis.
    const FIELD: &str = "000000006b00d66600000002000004020000000600000000";
    const TEXT: &str = concat!(
        r#"{"hai_action":22,"hai_fid":{"f_seq":8589935618,"f_oid":6,"f_ver":0},"#,
        r#""hai_dfid":{"f_seq":8589935618,"f_oid":6,"f_ver":0},"hai_extent_offset":0,"hai_extent_length":-1,"#,
        r#""hai_cookie":1795216998,"hai_gid":0,"hal_archive_id":1,"hal_flags":0,"hai_data":"","#,
        r#""timestamp":1795217070090059667}"#
    );

    fn remove() -> ActionItem {
        let fid = Fid::new(0x2_0000_0402, 6, 0);
        ActionItem {
            action: Action::Remove,
            fid,
            dfid: fid,
            extent_offset: 0,
            extent_length: u64::MAX,
            cookie: 0x6b00_d666,
            gid: 0,
            archive_id: 1,
            flags: 0,
            data: [].into(),
            timestamp: 1_795_217_070_090_059_667,
            extra: "".into(),
        }
    }

    #[test]
    fn what_c_wrote_is_read_and_written_back_byte_by_byte() {
        let item = read_item(false, FIELD.as_bytes(), TEXT.as_bytes()).unwrap();
        assert_eq!(item, remove());
        assert_eq!(String::from_utf8(item_text(&item)).unwrap(), TEXT);
        let place = place_of(&item);
        assert_eq!((place, place.field(&item.key())), (Place::Shared(item.fid), FIELD.to_owned()));
    }

    #[test]
    fn what_c_cannot_read_is_kept_apart_and_comes_back_exactly() {
        let volatile = Fid::new(0x2_0000_0500, 1, 0);
        let canary = Fid::new(u64::MAX, u32::MAX, u32::MAX);
        assert_eq!(names::field(u64::MAX, canary), names::CANARY);
        let cases = [
            (ActionItem { cookie: u64::MAX, dfid: canary, ..remove() }, Place::Own),
            (ActionItem { archive_id: 0, ..remove() }, Place::Own),
            (ActionItem { data: b"\xff\0tag".as_slice().into(), ..remove() }, Place::Own),
            (ActionItem { data: b"x\0y".as_slice().into(), ..remove() }, Place::Shared(remove().fid)),
            (ActionItem { dfid: volatile, ..remove() }, Place::Shared(volatile)),
            (ActionItem { cookie: u64::MAX, gid: u64::MAX, flags: u64::MAX, ..remove() }, {
                Place::Shared(remove().fid)
            }),
            (ActionItem { extra: r#""x":[1,"y"]"#.into(), ..remove() }, Place::Shared(remove().fid)),
        ];
        for (item, place) in cases {
            assert_eq!(place_of(&item), place, "{item:?}");
            let (field, text) = (place.field(&item.key()), item_text(&item));
            let back = read_item(place == Place::Own, field.as_bytes(), &text);
            assert_eq!(back.as_ref(), Ok(&item), "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            (FIELD, "", "not JSON"),
            (FIELD, "[]", "not an object"),
            (FIELD, r#"{"hai_action":22}"#, "`hai_fid` is missing"),
            ("1", TEXT, FIELD),
        ];
        for (field, text, want) in cases {
            let error = read_item(false, field.as_bytes(), text.as_bytes()).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
        assert_eq!(read_mover(b"mover1"), Ok("mover1"));
        for bad in [&b""[..], b"\xff", &[b'x'; 1025]] {
            assert!(read_mover(bad).is_err());
        }
    }
}
