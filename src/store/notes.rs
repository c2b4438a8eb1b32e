//! Notes as records: small facts of the coordinator that are not requests and must survive a restart.
//!
//! A note is kept as a request that no MDT can make: its FID has the sequence of all ones. So journals and backlogs treat
//! it as they treat requests, and nothing of their layout changes.

use std::hash::Hasher;

use lustreapi_sys::Fid;
use rustc_hash::FxHasher;

use crate::hsm::effect::StoreOp;
use crate::hsm::{Action, ActionItem, RequestKey};

/// FID sequence that Lustre never gives out.
const SEQUENCE: u64 = u64::MAX;

/// The key under which a note of this name is kept.
pub fn key(name: &str) -> RequestKey {
    let hash = |salt: u64| {
        let mut hasher = FxHasher::default();
        hasher.write_u64(salt);
        hasher.write(name.as_bytes());
        hasher.finish()
    };
    let second = hash(0x9e37_79b9_7f4a_7c15);
    let fid = Fid::new(SEQUENCE, (second >> 32) as u32, second as u32);
    RequestKey { cookie: hash(1), fid }
}

/// The note as a record.
pub fn to_op(name: &str, value: Option<&str>) -> StoreOp {
    let key = key(name);
    match value {
        None => StoreOp::Remove { key },
        Some(value) => StoreOp::Put(ActionItem {
            data: value.as_bytes().into(),
            timestamp: 1,
            extra: name.into(),
            ..ActionItem::new(Action::Archive, key.fid, key.cookie, 0)
        }),
    }
}

/// Name and value, if the record is a note; the record itself, if it is a request.
pub fn from_item(item: ActionItem) -> Result<(String, String), ActionItem> {
    if item.fid.seq != SEQUENCE {
        return Err(item);
    }
    let value = String::from_utf8_lossy(&item.data).into_owned();
    Ok((item.extra.into(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_and_requests_are_left_alone() {
        let StoreOp::Put(item) = to_op("drain/mover0", Some("since=1")) else { panic!("a note is put") };
        assert_eq!(item.key(), key("drain/mover0"));
        let mut request = item.clone();
        request.fid = Fid::new(0x2_0000_0401, 1, 0);
        assert_eq!(from_item(item), Ok(("drain/mover0".into(), "since=1".into())));
        assert_eq!(from_item(request.clone()), Err(request));
        assert_eq!(to_op("a", None), StoreOp::Remove { key: key("a") });
        assert_ne!(key("a"), key("b"));
    }
}
