//! Requests as the MDT or an administrator hands them in.

use std::fmt;

use lustreapi_sys::hal::{ActionList, Item};
use lustreapi_sys::{Fid, abi};

/// What is to be done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Action {
    /// Copy the file's data to the back end.
    Archive = abi::HSMA_ARCHIVE,
    /// Bring a released file's data back.
    Restore = abi::HSMA_RESTORE,
    /// Remove the copy in the back end.
    Remove = abi::HSMA_REMOVE,
    /// Stop another request: the one with the same cookie and FID.
    Cancel = abi::HSMA_CANCEL,
}

impl Action {
    /// The action of a `HSMA_*` number.
    pub fn from_hsma(number: u32) -> Option<Self> {
        match number {
            abi::HSMA_ARCHIVE => Some(Self::Archive),
            abi::HSMA_RESTORE => Some(Self::Restore),
            abi::HSMA_REMOVE => Some(Self::Remove),
            abi::HSMA_CANCEL => Some(Self::Cancel),
            _ => None,
        }
    }

    /// The `HSMA_*` number.
    pub fn hsma(self) -> u32 {
        self as u32
    }

    /// Lustre's name, as printed in `actions`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Archive => "ARCHIVE",
            Self::Restore => "RESTORE",
            Self::Remove => "REMOVE",
            Self::Cancel => "CANCEL",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What identifies a request: cookies are unique for one MDT only, and two MDTs started in the same second with empty
/// logs do hand out the same ones (seen on Lustre 2.17).
///
/// The FID is always the file's own (`hai_fid`). The data FID changes when a restore begins, so it is an alias at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey {
    /// `hai_cookie`.
    pub cookie: u64,
    /// `hai_fid`.
    pub fid: Fid,
}

impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (cookie {:#x})", self.fid, self.cookie)
    }
}

/// One request, with all that a mover must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionItem {
    /// What to do.
    pub action: Action,
    /// The file.
    pub fid: Fid,
    /// The file whose data is read or written; equals `fid` at first delivery.
    pub dfid: Fid,
    /// First byte.
    pub extent_offset: u64,
    /// Bytes, `u64::MAX` for all.
    pub extent_length: u64,
    /// The MDT's cookie.
    pub cookie: u64,
    /// Group lock id.
    pub gid: u64,
    /// Archive id; 0 when the MDT does not know it (`REMOVE` of an unlinked file).
    pub archive_id: u32,
    /// `hal_flags` of the list it came in.
    pub flags: u64,
    /// What the user passed with the request: any bytes.
    pub data: Box<[u8]>,
    /// When we first saw it, in nanoseconds since the epoch, strictly increasing; 0 until admitted.
    pub timestamp: i64,
    /// Members of the JSON item that we do not know, as they stood: `"key":value` separated by commas, or empty. They are
    /// kept and echoed to movers, as C does.
    pub extra: Box<str>,
}

impl ActionItem {
    /// A request for a whole file, as an MDT first delivers it: without data, not admitted yet.
    pub fn new(action: Action, fid: Fid, cookie: u64, archive_id: u32) -> Self {
        Self {
            action,
            fid,
            dfid: fid,
            extent_offset: 0,
            extent_length: u64::MAX,
            cookie,
            gid: 0,
            archive_id,
            flags: 0,
            data: Box::default(),
            timestamp: 0,
            extra: Box::default(),
        }
    }

    /// A request from a list of the MDT; `None` for an action that is not known.
    pub fn from_list(list: &ActionList<'_>, item: &Item<'_>) -> Option<Self> {
        Some(Self {
            action: Action::from_hsma(item.action)?,
            fid: item.fid,
            dfid: item.dfid,
            extent_offset: item.extent_offset,
            extent_length: item.extent_length,
            cookie: item.cookie,
            gid: item.gid,
            archive_id: list.archive_id,
            flags: list.flags,
            data: item.data.into(),
            timestamp: 0,
            extra: "".into(),
        })
    }

    /// The identity of the request.
    pub fn key(&self) -> RequestKey {
        RequestKey { cookie: self.cookie, fid: self.fid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_round_trip() {
        for action in [Action::Archive, Action::Restore, Action::Remove, Action::Cancel] {
            assert_eq!(Action::from_hsma(action.hsma()), Some(action));
        }
        assert_eq!(Action::from_hsma(10), None);
    }
}
