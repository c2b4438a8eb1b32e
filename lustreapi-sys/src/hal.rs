//! Action lists: what the MDT hands to a copytool.
//!
//! A list is a header, the file system's name padded to 8 bytes, and items, each starting at a multiple of 8. `hai_len` is
//! exact in the kernel's lists (72 + length of the data); the gap up to the next item is zero.

use crate::Fid;
use crate::abi::{HAL_VERSION, hsm_action_item, hsm_action_list};

/// Bytes of a list's header, before the name.
pub const LIST_HEADER: usize = size_of::<hsm_action_list>();
/// Bytes of an item, before its data.
pub const ITEM_HEADER: usize = size_of::<hsm_action_item>();

const fn align8(n: usize) -> usize {
    n.next_multiple_of(8)
}

/// One item of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// `HSMA_*`.
    pub action: u32,
    /// The file.
    pub fid: Fid,
    /// The file whose data is read or written: `fid` at first, the volatile file once a restore has begun.
    pub dfid: Fid,
    /// First byte.
    pub extent_offset: u64,
    /// Bytes, `u64::MAX` for all.
    pub extent_length: u64,
    /// The request's cookie, unique for its MDT only.
    pub cookie: u64,
    /// Group lock id.
    pub gid: u64,
    /// What the user passed along; exactly `hai_len - 72` bytes.
    pub data: &'a [u8],
}

/// A parsed list, borrowing from its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionList<'a> {
    /// `HSM_FORCE_ACTION` and the like, for all items.
    pub flags: u64,
    /// Archive id of all items; 0 where the MDT does not know it (`REMOVE` of an unlinked file).
    pub archive_id: u32,
    /// Name of the file system.
    pub fsname: &'a [u8],
    /// The items, in order.
    pub items: Vec<Item<'a>>,
}

/// Why bytes are not an action list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HalError {
    /// The list ends within its header or name.
    #[error("action list of {0} bytes ends within its header")]
    ShortHeader(usize),
    /// Another version than [`HAL_VERSION`].
    #[error("action list of version {0}, only {HAL_VERSION} is known")]
    BadVersion(u32),
    /// An item does not fit into the list.
    #[error("item {index} of {count} at byte {offset} does not fit into the list of {len} bytes")]
    ShortItem {
        /// Which item.
        index: u32,
        /// `hal_count`.
        count: u32,
        /// Where it starts.
        offset: usize,
        /// Length of the list.
        len: usize,
    },
    /// `hai_len` is smaller than the fixed part of an item.
    #[error("item {index} of the action list claims {len} bytes, fewer than an item has")]
    BadItemLength {
        /// Which item.
        index: u32,
        /// Its `hai_len`.
        len: u32,
    },
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_ne_bytes)
}

fn fid_at(bytes: &[u8], at: usize) -> Option<Fid> {
    Some(Fid::new(u64_at(bytes, at)?, u32_at(bytes, at + 8)?, u32_at(bytes, at + 12)?))
}

impl<'a> ActionList<'a> {
    /// Reads a list. Everything is checked against the length of `bytes`; nothing is taken on trust.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HalError> {
        let short = || HalError::ShortHeader(bytes.len());
        let version = u32_at(bytes, 0).ok_or_else(short)?;
        let count = u32_at(bytes, 4).ok_or_else(short)?;
        let flags = u64_at(bytes, 16).ok_or_else(short)?;
        let archive_id = u32_at(bytes, 24).ok_or_else(short)?;
        let tail = bytes.get(LIST_HEADER..).ok_or_else(short)?;
        if version != HAL_VERSION {
            return Err(HalError::BadVersion(version));
        }
        let name_len = tail.iter().position(|b| *b == 0).ok_or_else(short)?;
        let fsname = &tail[..name_len];
        let mut offset = LIST_HEADER + align8(name_len + 1);
        let mut items = Vec::new();
        for index in 0..count {
            let (item, len) = Self::item(bytes, offset, index, count)?;
            items.push(item);
            offset += align8(len);
        }
        Ok(Self { flags, archive_id, fsname, items })
    }

    fn item(bytes: &'a [u8], at: usize, index: u32, count: u32) -> Result<(Item<'a>, usize), HalError> {
        let short = || HalError::ShortItem { index, count, offset: at, len: bytes.len() };
        let hai_len = u32_at(bytes, at).ok_or_else(short)?;
        let len = hai_len as usize;
        if len < ITEM_HEADER {
            return Err(HalError::BadItemLength { index, len: hai_len });
        }
        let body = at.checked_add(len).and_then(|end| bytes.get(at..end)).ok_or_else(short)?;
        let field32 = |offset| u32_at(body, offset).ok_or_else(short);
        let field64 = |offset| u64_at(body, offset).ok_or_else(short);
        let item = Item {
            action: field32(4)?,
            fid: fid_at(body, 8).ok_or_else(short)?,
            dfid: fid_at(body, 24).ok_or_else(short)?,
            extent_offset: field64(40)?,
            extent_length: field64(48)?,
            cookie: field64(56)?,
            gid: field64(64)?,
            data: &body[ITEM_HEADER..],
        };
        Ok((item, len))
    }
}

/// How `hai_len` counts the data, which copytools disagree about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ItemLength {
    /// 72 + length of the data, as the kernel does. lemur needs it.
    #[default]
    Exact,
    /// Rounded up to 8 with at least one NUL after the data, as lhsmtool_cmd needs it.
    Padded,
}

/// Writes an action list as the kernel or the C shim would.
#[derive(Debug, Clone)]
pub struct ListBuilder {
    bytes: Vec<u8>,
    count: u32,
    length: ItemLength,
}

impl ListBuilder {
    /// An empty list.
    pub fn new(fsname: &[u8], archive_id: u32, flags: u64, length: ItemLength) -> Self {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend_from_slice(&HAL_VERSION.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&0u64.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&archive_id.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(fsname);
        bytes.resize(LIST_HEADER + align8(fsname.len() + 1), 0);
        Self { bytes, count: 0, length }
    }

    /// Bytes that an item with `data_len` bytes of data adds to a list.
    pub fn item_size(data_len: usize, length: ItemLength) -> usize {
        align8(Self::hai_len(data_len, length))
    }

    fn hai_len(data_len: usize, length: ItemLength) -> usize {
        match length {
            ItemLength::Exact => ITEM_HEADER + data_len,
            ItemLength::Padded if data_len == 0 => ITEM_HEADER,
            ItemLength::Padded => align8(ITEM_HEADER + data_len + 1),
        }
    }

    /// Adds an item.
    pub fn push(&mut self, item: &Item<'_>) {
        let hai_len = Self::hai_len(item.data.len(), self.length);
        let start = self.bytes.len();
        let out = &mut self.bytes;
        out.extend_from_slice(&(hai_len as u32).to_ne_bytes());
        out.extend_from_slice(&item.action.to_ne_bytes());
        for fid in [item.fid, item.dfid] {
            out.extend_from_slice(&fid.seq.to_ne_bytes());
            out.extend_from_slice(&fid.oid.to_ne_bytes());
            out.extend_from_slice(&fid.ver.to_ne_bytes());
        }
        for word in [item.extent_offset, item.extent_length, item.cookie, item.gid] {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        out.extend_from_slice(item.data);
        out.resize(start + align8(hai_len), 0);
        self.count += 1;
        let count = self.count.to_ne_bytes();
        self.bytes[4..8].copy_from_slice(&count);
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no item was added yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The finished list.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{HSMA_ARCHIVE, HSMA_REMOVE};

    fn item(data: &[u8]) -> Item<'_> {
        let fid = Fid::new(0x2_0000_0402, 0x1d, 0);
        Item {
            action: HSMA_ARCHIVE,
            fid,
            dfid: fid,
            extent_offset: 0,
            extent_length: u64::MAX,
            cookie: 0x6b00_d4d5,
            gid: 0,
            data,
        }
    }

    /// The list that a real Lustre 2.17 handed to lhsmtool_posix: two archives with `--data tag=foo`.
    const REAL: &[u8] = b"\x01\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0testfs0\0\
        \x4f\0\0\0\x14\0\0\0\x02\x04\0\0\x02\0\0\0\x1d\0\0\0\0\0\0\0\x02\x04\0\0\x02\0\0\0\x1d\0\0\0\0\0\0\0\
        \0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xd5\xd4\0\x6b\0\0\0\0\0\0\0\0\0\0\0\0tag=foo\0\
        \x4f\0\0\0\x14\0\0\0\x02\x04\0\0\x02\0\0\0\x1e\0\0\0\0\0\0\0\x02\x04\0\0\x02\0\0\0\x1e\0\0\0\0\0\0\0\
        \0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xd6\xd4\0\x6b\0\0\0\0\0\0\0\0\0\0\0\0tag=foo\0";

    #[test]
    fn a_real_list_parses_and_is_rebuilt_byte_for_byte() {
        let list = ActionList::parse(REAL).unwrap();
        assert_eq!((list.fsname, list.archive_id, list.flags), (&b"testfs0"[..], 1, 0));
        assert_eq!(list.items.len(), 2);
        assert_eq!(list.items[0], item(b"tag=foo"));
        assert_eq!(list.items[1].fid, Fid::new(0x2_0000_0402, 0x1e, 0));
        let mut builder = ListBuilder::new(b"testfs0", 1, 0, ItemLength::Exact);
        list.items.iter().for_each(|i| builder.push(i));
        assert_eq!(builder.finish(), REAL);
    }

    #[test]
    fn lengths_are_exact_or_padded_with_a_nul() {
        let cases = [(0, 72, 72), (1, 73, 80), (7, 79, 80), (8, 80, 88), (10, 82, 88)];
        for (data, exact, padded) in cases {
            assert_eq!(ListBuilder::hai_len(data, ItemLength::Exact), exact);
            assert_eq!(ListBuilder::hai_len(data, ItemLength::Padded), padded);
        }
    }

    #[test]
    fn eight_character_names_take_sixteen_bytes() {
        let mut builder = ListBuilder::new(b"testfs01", 0, 1, ItemLength::Exact);
        builder.push(&Item { action: HSMA_REMOVE, ..item(b"") });
        let bytes = builder.finish();
        assert_eq!(bytes.len(), 48 + 72);
        let list = ActionList::parse(&bytes).unwrap();
        assert_eq!((list.fsname, list.archive_id, list.flags), (&b"testfs01"[..], 0, 1));
    }

    #[test]
    fn a_list_cut_anywhere_is_an_error() {
        for cut in 0..REAL.len() - 1 {
            assert!(ActionList::parse(&REAL[..cut]).is_err(), "cut at {cut}");
        }
        let mut wild = REAL.to_vec();
        wild[40..44].copy_from_slice(&71u32.to_ne_bytes());
        assert_eq!(ActionList::parse(&wild), Err(HalError::BadItemLength { index: 0, len: 71 }));
        wild[40..44].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(matches!(ActionList::parse(&wild), Err(HalError::ShortItem { index: 0, .. })));
        wild[0] = 2;
        assert_eq!(ActionList::parse(&wild), Err(HalError::BadVersion(2)));
    }
}
