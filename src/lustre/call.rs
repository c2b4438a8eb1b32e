//! One call on an MDT, made by a thread that may wait for it.

use std::io;
use std::os::fd::AsFd;

use lustreapi_sys::Fid;
use lustreapi_sys::abi::{
    HP_FLAG_COMPLETED, HSM_FORCE_ACTION, HSM_GHOST_COPY, HUA_ARCHIVE, HUA_CANCEL, HUA_REMOVE, HUA_RESTORE,
    hsm_action_item, hsm_copy, hsm_extent, hsm_progress,
};
use lustreapi_sys::request::UserRequest;

use super::link::FromLustre;
use super::mount::Mount;
use super::sys;
use crate::hsm::{Action, ActionItem, FileState, LustreAnswer, LustreCall, RequestKey};

/// Flags that a user may give. `HSM_REQ_BLOCKING` is the kernel's own, for a reader that waits for just that restore.
const USER_FLAGS: u64 = HSM_FORCE_ACTION | HSM_GHOST_COPY;

/// Something that is asked of an MDT.
#[derive(Debug)]
pub(super) enum Call {
    /// To end a request with a positive errno.
    End(Box<ActionItem>, i32),
    /// Anything else.
    Ask(LustreCall),
}

/// What calls are to one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ends free places at the MDT and are few.
    End,
    /// Keepalives come in thousands and can wait for a while.
    KeepAlive,
    /// States and requests open files and take locks on the MDT.
    Question,
}

impl Call {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::End(..) => Kind::End,
            Self::Ask(LustreCall::KeepAlive { .. }) => Kind::KeepAlive,
            Self::Ask(LustreCall::State { .. } | LustreCall::Request { .. }) => Kind::Question,
        }
    }

    /// The file's own FID: it decides which MDT gets the call.
    pub(super) fn fid(&self) -> Fid {
        match self {
            Self::End(item, _) => item.fid,
            Self::Ask(call) => call.fid(),
        }
    }

    /// What to tell when the call was not even made.
    pub(super) fn failed(&self, errno: i32) -> FromLustre {
        match self {
            Self::End(item, _) => FromLustre::Ended { key: item.key(), errno },
            Self::Ask(call) => FromLustre::Answered(call.answer(errno)),
        }
    }

    /// Makes the call, which waits while the MDT is away, and says what to tell.
    pub(super) fn make(&self, mount: &Mount) -> FromLustre {
        match self {
            Self::End(item, with) => {
                let key = item.key();
                tracing::debug!(%key, errno = with, "ending at lustre");
                let errno = errno_of(sys::copy_end(mount.root(), &mut end_of(item, *with)));
                if errno != 0 {
                    let error = io::Error::from_raw_os_error(errno);
                    tracing::info!(%key, "hsm_action_end failed: {error}");
                }
                FromLustre::Ended { key, errno }
            }
            Self::Ask(LustreCall::KeepAlive { key, number }) => {
                let errno = errno_of(sys::progress(mount.root(), &mut keepalive_of(*key)));
                FromLustre::Answered(LustreAnswer::KeptAlive { key: *key, number: *number, errno })
            }
            Self::Ask(LustreCall::State { key, number }) => {
                let state = state_of(key.fid, mount).map_err(|error| errno_of(Err(error)));
                FromLustre::Answered(LustreAnswer::State { key: *key, number: *number, state })
            }
            Self::Ask(LustreCall::Request { item, number }) => {
                let errno = match request_of(item) {
                    Some(mut request) => errno_of(sys::request(mount.root(), &mut request)),
                    None => libc::E2BIG,
                };
                FromLustre::Answered(LustreAnswer::Requested { key: item.key(), number: *number, errno })
            }
        }
    }
}

/// 0 or a positive errno.
fn errno_of(result: io::Result<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().filter(|errno| *errno > 0).unwrap_or(libc::EIO),
    }
}

fn end_of(item: &ActionItem, errno: i32) -> hsm_copy {
    hsm_copy {
        hc_data_version: 0,
        hc_flags: HP_FLAG_COMPLETED,
        hc_errval: u16::try_from(errno).unwrap_or(libc::EIO as u16),
        padding: 0,
        hc_hai: hsm_action_item {
            hai_len: size_of::<hsm_action_item>() as u32,
            hai_action: item.action.hsma(),
            hai_fid: item.fid.into(),
            hai_dfid: item.dfid.into(),
            hai_extent: hsm_extent { offset: item.extent_offset, length: item.extent_length },
            hai_cookie: item.cookie,
            hai_gid: item.gid,
        },
    }
}

/// Under the file's own FID, which leads to the right MDT and binds no restore; of no bytes, which leaves those that the
/// mover reported alone (Lustre mdt_coordinator.c, `mdt_hsm_update_request_state`).
fn keepalive_of(key: RequestKey) -> hsm_progress {
    hsm_progress {
        hp_fid: key.fid.into(),
        hp_cookie: key.cookie,
        hp_extent: hsm_extent { offset: 0, length: 0 },
        hp_flags: 0,
        hp_errval: 0,
        padding: 0,
    }
}

fn state_of(fid: Fid, mount: &Mount) -> io::Result<FileState> {
    let file = mount.open_file(fid)?;
    let state = sys::state_get(file.as_fd())?;
    Ok(FileState { states: state.hus_states, archive_id: state.hus_archive_id })
}

/// `None` if it is longer than a Lustre takes.
fn request_of(item: &ActionItem) -> Option<Vec<u8>> {
    let action = match item.action {
        Action::Archive => HUA_ARCHIVE,
        Action::Restore => HUA_RESTORE,
        Action::Remove => HUA_REMOVE,
        Action::Cancel => HUA_CANCEL,
    };
    let files = [(item.fid, item.extent_offset, item.extent_length)];
    let flags = item.flags & USER_FLAGS;
    UserRequest { action, archive_id: item.archive_id, flags, files: &files, data: &item.data }.bytes()
}

#[cfg(test)]
mod tests {
    use lustreapi_sys::abi::HSM_REQ_BLOCKING;
    use lustreapi_sys::request::MAX_LEN;

    use super::*;

    fn item(data: &[u8]) -> ActionItem {
        let fid = Fid::new(0x2_0000_0401, 1, 0);
        ActionItem {
            dfid: Fid { oid: 2, ..fid },
            flags: HSM_FORCE_ACTION | HSM_REQ_BLOCKING,
            data: data.into(),
            ..ActionItem::new(Action::Remove, fid, 5, 3)
        }
    }

    #[test]
    fn a_keepalive_neither_binds_a_restore_nor_reports_anything() {
        let progress = keepalive_of(item(b"").key());
        assert_eq!(Fid::from(progress.hp_fid), Fid::new(0x2_0000_0401, 1, 0));
        assert_eq!((progress.hp_cookie, progress.hp_flags, progress.hp_errval), (5, 0, 0));
        let extent = progress.hp_extent;
        assert_eq!(extent, hsm_extent { offset: 0, length: 0 });
    }

    #[test]
    fn a_request_carries_all_but_what_only_the_kernel_may_say() {
        let bytes = request_of(&item(b"tag=a")).unwrap();
        assert_eq!(bytes[0..4], HUA_REMOVE.to_ne_bytes());
        assert_eq!(bytes[4..8], 3u32.to_ne_bytes());
        assert_eq!(bytes[8..16], HSM_FORCE_ACTION.to_ne_bytes());
        assert!(bytes.ends_with(b"tag=a"));
        assert_eq!(request_of(&item(&[0; MAX_LEN])), None);
    }

    #[test]
    fn errors_that_do_not_fit_become_eio() {
        assert_eq!({ end_of(&item(b""), libc::ECANCELED).hc_errval }, libc::ECANCELED as u16);
        assert_eq!({ end_of(&item(b""), 70_000).hc_errval }, libc::EIO as u16);
        assert_eq!(errno_of(Err(io::ErrorKind::Other.into())), libc::EIO);
    }
}
