//! What an MDT or a file system is made with.

use super::Params;

/// One MDT.
#[derive(Debug, Clone)]
pub struct MdtConfig {
    /// Name of the file system, at most 8 characters.
    pub fsname: String,
    /// Index of the MDT. Its FIDs' sequences begin at 0x200000400 + index * 0x40000000.
    pub index: u32,
    /// Parameters at start.
    pub params: Params,
    /// Which Lustre it behaves like.
    pub behaviour: Behaviour,
}

impl Default for MdtConfig {
    fn default() -> Self {
        Self {
            fsname: "testfs0".to_owned(),
            index: 0,
            params: Params::default(),
            behaviour: Behaviour::default(),
        }
    }
}

/// A file system of several MDTs.
#[derive(Debug, Clone)]
pub struct FsConfig {
    /// Name of the file system, at most 8 characters.
    pub fsname: String,
    /// How many MDTs, at least 1.
    pub mdts: u32,
    /// Parameters of all of them at start.
    pub params: Params,
    /// Which Lustre it behaves like.
    pub behaviour: Behaviour,
}

impl Default for FsConfig {
    fn default() -> Self {
        Self {
            fsname: "testfs0".to_owned(),
            mdts: 2,
            params: Params::default(),
            behaviour: Behaviour::default(),
        }
    }
}

/// Where versions of Lustre differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// A CANCEL of a request that never started marks its record CANCELED when it is sent (up to 2.16). Since 2.17 only the
    /// CANCEL itself is sent.
    pub cancel_marks_waiting: bool,
    /// A reader's restore carries `HSM_REQ_BLOCKING` (since 2.17).
    pub blocking_flag: bool,
    /// A list carries the flags of its last item (since 2.17), otherwise of its first.
    pub list_flags_of_last: bool,
    /// An ARCHIVE that fails marks a file DIRTY that is archived and clean (since 2.17).
    pub failed_archive_dirties: bool,
}

impl Behaviour {
    /// Lustre 2.17 and later.
    pub const V2_17: Behaviour = Behaviour {
        cancel_marks_waiting: false,
        blocking_flag: true,
        list_flags_of_last: true,
        failed_archive_dirties: true,
    };
    /// Lustre 2.12 to 2.16, as far as it differs here.
    pub const V2_16: Behaviour = Behaviour {
        cancel_marks_waiting: true,
        blocking_flag: false,
        list_flags_of_last: false,
        failed_archive_dirties: false,
    };
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour::V2_17
    }
}
