//! The HSM part of a file, and which actions it allows.

use lustreapi_sys::Fid;
use lustreapi_sys::abi::{
    HS_ARCHIVED, HS_DIRTY, HS_EXISTS, HS_LOST, HS_NOARCHIVE, HS_NORELEASE, HS_RELEASED, HSM_FORCE_ACTION,
};

use super::{Action, ClientId, HsmState};

/// A file as the MDT knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Flags and archive id.
    pub hsm: HsmState,
    /// Data version of the archived copy (`mh_arch_ver`). A release compares it with the file's.
    pub archived_version: u64,
    /// Data version of the data in Lustre; 0 while there is none.
    pub data_version: u64,
    /// Whether the file has a name.
    pub linked: bool,
    /// Whether it is volatile: without a name from the start.
    pub volatile: bool,
    /// Who has it open, once per open.
    pub opens: Vec<ClientId>,
}

impl File {
    /// Whether any of these flags is set.
    pub fn has(&self, flags: u32) -> bool {
        self.hsm.flags & flags != 0
    }

    /// Whether the data is only in the archive.
    pub fn released(&self) -> bool {
        self.has(HS_RELEASED)
    }

    /// Whether release is allowed: archived and clean, not forbidden, not lost (mdt_open.c, `mdt_hsm_release_allow`).
    pub(super) fn may_release(&self) -> bool {
        self.has(HS_ARCHIVED) && !self.has(HS_DIRTY | HS_NORELEASE | HS_LOST)
    }

    /// Whether an action would change anything (mdt_hsm_cdt_client.c, `hsm_action_is_needed`).
    pub(super) fn needs(&self, action: Action, request_flags: u64) -> bool {
        if request_flags & HSM_FORCE_ACTION != 0 {
            return true;
        }
        match action {
            Action::Archive => self.has(HS_DIRTY) || !self.has(HS_ARCHIVED),
            // A dirty file is refused later, with an error.
            Action::Restore => self.has(HS_RELEASED | HS_DIRTY),
            Action::Remove => self.has(HS_ARCHIVED | HS_EXISTS),
            Action::Cancel => true,
        }
    }

    /// Whether an action is possible in the file's state (mdt_coordinator.c, `mdt_hsm_is_action_compat`).
    pub(super) fn allows(&self, action: Action, archive_id: u32) -> bool {
        match action {
            Action::Archive => {
                let other = self.has(HS_EXISTS) && archive_id != 0 && archive_id != self.hsm.archive_id;
                !self.has(HS_NOARCHIVE) && (self.has(HS_DIRTY) || !self.has(HS_ARCHIVED)) && !other
            }
            Action::Restore => {
                self.has(HS_RELEASED) && self.has(HS_ARCHIVED) && !self.has(HS_DIRTY | HS_LOST)
            }
            Action::Remove => !self.has(HS_RELEASED) && self.has(HS_ARCHIVED | HS_EXISTS),
            Action::Cancel => true,
        }
    }

    /// Notes that data was written: a copy that exists is out of date (`mdt_add_dirty_flag`).
    pub(super) fn mark_dirty(&mut self) {
        if self.has(HS_EXISTS) && !self.has(HS_DIRTY | HS_RELEASED) {
            self.hsm.flags |= HS_DIRTY;
        }
    }
}

/// Gives out the FIDs of an MDT: each client has a sequence of its own, as in Lustre.
#[derive(Debug, Clone, Default)]
pub(super) struct FidAllocator {
    sequences: std::collections::BTreeMap<ClientId, (u64, u32)>,
    given: u64,
}

impl FidAllocator {
    /// The next FID of a client on the MDT whose sequences begin at `base`.
    pub fn next(&mut self, base: u64, client: ClientId) -> Fid {
        /// Objects of one sequence (`LUSTRE_DATA_SEQ_MAX_WIDTH`).
        const WIDTH: u32 = 0x20000;
        let given = &mut self.given;
        let mut fresh = || {
            *given += 1;
            // The first two sequences belong to the servers themselves.
            (base + 1 + *given, 0)
        };
        let place = self.sequences.entry(client).or_insert_with(&mut fresh);
        if place.1 == WIDTH {
            *place = fresh();
        }
        place.1 += 1;
        Fid::new(place.0, place.1, 0)
    }
}
