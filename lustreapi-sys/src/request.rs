//! Users' requests: the argument of `HSM_REQUEST`.

use crate::Fid;
use crate::abi::{hsm_request, hsm_user_item};

/// Longest request, in bytes, that a Lustre takes, and one more: `MDS_MAXREQSIZE / 3` (llite/dir.c); from there on the
/// answer is E2BIG.
pub const MAX_LEN: usize = 5 * 1024 / 3;

/// A request for one file or for several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserRequest<'a> {
    /// `HUA_*`.
    pub action: u32,
    /// 0 for the file's own archive or the default one.
    pub archive_id: u32,
    /// `HSM_FORCE_ACTION` and the like.
    pub flags: u64,
    /// Files, each with offset and length of what is meant.
    pub files: &'a [(Fid, u64, u64)],
    /// For the copytool.
    pub data: &'a [u8],
}

impl UserRequest<'_> {
    /// As the kernel reads it, or `None` if it is longer than a Lustre takes.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let len = size_of::<hsm_request>()
            .checked_add(self.files.len().checked_mul(size_of::<hsm_user_item>())?)?
            .checked_add(self.data.len())?;
        if len >= MAX_LEN {
            return None;
        }
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&self.action.to_ne_bytes());
        bytes.extend_from_slice(&self.archive_id.to_ne_bytes());
        bytes.extend_from_slice(&self.flags.to_ne_bytes());
        bytes.extend_from_slice(&(self.files.len() as u32).to_ne_bytes());
        bytes.extend_from_slice(&(self.data.len() as u32).to_ne_bytes());
        for (fid, offset, length) in self.files {
            bytes.extend_from_slice(&fid.seq.to_ne_bytes());
            bytes.extend_from_slice(&fid.oid.to_ne_bytes());
            bytes.extend_from_slice(&fid.ver.to_ne_bytes());
            bytes.extend_from_slice(&offset.to_ne_bytes());
            bytes.extend_from_slice(&length.to_ne_bytes());
        }
        bytes.extend_from_slice(self.data);
        Some(bytes)
    }
}

/// How many bytes the kernel reads by the counts in the head. `None` if the head is not whole.
pub fn len_by_head(bytes: &[u8]) -> Option<usize> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    let items = word(16)?.checked_mul(size_of::<hsm_user_item>())?;
    word(20)?.checked_add(items)?.checked_add(size_of::<hsm_request>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{EXTENT_EOF, HSM_FORCE_ACTION, HUA_ARCHIVE};

    #[test]
    fn fields_are_where_the_kernel_reads_them() {
        let fid = Fid::new(0x2_0000_0401, 0x1d, 0);
        let files = [(fid, 0, EXTENT_EOF), (Fid { oid: 0x1e, ..fid }, 7, 8)];
        let request = UserRequest {
            action: HUA_ARCHIVE,
            archive_id: 2,
            flags: HSM_FORCE_ACTION,
            files: &files,
            data: b"tag=a",
        };
        let bytes = request.bytes().unwrap();
        assert_eq!(bytes.len(), 24 + 2 * 32 + 5);
        assert_eq!(len_by_head(&bytes), Some(bytes.len()));
        let long = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(4), long(8), word(16), word(20)), (10, 2, 1, 2, 5));
        assert_eq!((long(24), word(32), word(36), long(40), long(48)), (fid.seq, 0x1d, 0, 0, u64::MAX));
        assert_eq!((word(64), long(72), long(80)), (0x1e, 7, 8));
        assert_eq!(&bytes[88..], b"tag=a");
        assert_eq!(len_by_head(&bytes[..23]), None);
    }

    #[test]
    fn what_lustre_would_refuse_is_not_built() {
        let files = [(Fid::new(0x2_0000_0401, 1, 0), 0, EXTENT_EOF)];
        let data = [0; MAX_LEN];
        let request = |len: usize| UserRequest {
            action: HUA_ARCHIVE,
            archive_id: 0,
            flags: 0,
            files: &files,
            data: &data[..len],
        };
        assert_eq!(request(MAX_LEN - 57).bytes().map(|bytes| bytes.len()), Some(MAX_LEN - 1));
        assert_eq!(request(MAX_LEN - 56).bytes(), None);
    }
}
