//! Action lists of the pipe as requests.

use lustreapi_sys::hal::{ActionList, HalError};

use crate::hsm::ActionItem;

/// The requests of a list. What cannot be read is logged and left out; everything else is kept.
pub fn read(bytes: &[u8], fsname: &str) -> Vec<ActionItem> {
    let mut cut;
    let list = match ActionList::parse(bytes) {
        Ok(list) => list,
        Err(error) => {
            tracing::error!(
                "Could not read an action list of {} bytes: {error}: {}",
                bytes.len(),
                hex(bytes)
            );
            let good = match error {
                HalError::ShortItem { index, .. } | HalError::BadItemLength { index, .. } => index,
                HalError::ShortHeader(_) | HalError::BadVersion(_) => return Vec::new(),
            };
            // Where the next item begins is unknown, but those before the bad one are fine.
            cut = bytes.to_vec();
            let Some(count) = cut.get_mut(4..8) else { return Vec::new() };
            count.copy_from_slice(&good.to_ne_bytes());
            match ActionList::parse(&cut) {
                Ok(list) => list,
                Err(_) => return Vec::new(),
            }
        }
    };
    if list.fsname != fsname.as_bytes() {
        tracing::error!(
            "Got unexpected fsname from lustre: expected {fsname} got {}. Accepting anyway.",
            list.fsname.escape_ascii()
        );
    }
    let mut items = Vec::with_capacity(list.items.len());
    for item in &list.items {
        match ActionItem::from_list(&list, item) {
            Some(item) => items.push(item),
            None => tracing::error!(
                "skipping action {} on {} (cookie {:#x}), which is none that we know",
                item.action,
                item.fid,
                item.cookie
            ),
        }
    }
    items
}

/// The first bytes, for the log.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for byte in bytes.iter().take(256) {
        let _ = write!(text, "{byte:02x}");
    }
    if bytes.len() > 256 {
        text.push_str("..");
    }
    text
}

#[cfg(test)]
mod tests {
    use lustreapi_sys::Fid;
    use lustreapi_sys::abi::{HSMA_ARCHIVE, HSMA_RESTORE};
    use lustreapi_sys::hal::{Item, ItemLength, ListBuilder};

    use super::*;

    fn item(action: u32, oid: u32, data: &[u8]) -> Item<'_> {
        let fid = Fid::new(0x2_0000_0401, oid, 0);
        Item {
            action,
            fid,
            dfid: fid,
            extent_offset: 0,
            extent_length: u64::MAX,
            cookie: u64::from(oid),
            gid: 0,
            data,
        }
    }

    fn list(items: &[Item<'_>]) -> Vec<u8> {
        let mut builder = ListBuilder::new(b"testfs0", 2, 4, ItemLength::Exact);
        items.iter().for_each(|item| builder.push(item));
        builder.finish()
    }

    fn oids(bytes: &[u8]) -> Vec<u32> {
        read(bytes, "testfs0").iter().map(|item| item.fid.oid).collect()
    }

    #[test]
    fn items_carry_the_flags_and_archive_id_of_their_list() {
        // C drops data that is not UTF-8 with ENOMEM.
        let items = read(&list(&[item(HSMA_RESTORE, 7, b"\xff\xfe")]), "testfs0");
        assert_eq!((items[0].archive_id, items[0].flags), (2, 4));
        assert_eq!(&*items[0].data, b"\xff\xfe");
        assert_eq!(items[0].timestamp, 0);
    }

    /// C aborts on another list version, and its library loses a list whose item it cannot read.
    #[test]
    fn what_is_bad_costs_nothing_else() {
        let good = list(&[item(HSMA_ARCHIVE, 1, b"tag=a"), item(99, 2, b""), item(HSMA_ARCHIVE, 3, b"")]);
        assert_eq!(oids(&good), [1, 3]);
        // The last item is cut off, or its length is wild.
        assert_eq!(oids(&good[..good.len() - 1]), [1]);
        let mut wild = good.clone();
        let third = good.len() - 72;
        wild[third..third + 4].copy_from_slice(&7u32.to_ne_bytes());
        assert_eq!(oids(&wild), [1]);
        let mut version = good.clone();
        version[0] = 9;
        assert_eq!(oids(&version), [0; 0]);
        assert_eq!(oids(b""), [0; 0]);
        assert_eq!(read(&good, "other").len(), 2);
    }
}
