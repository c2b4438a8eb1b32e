//! What the answers of an MDT mean for a request that is about to be sent.
//!
//! A request that waited in user space may have lost its sense meanwhile, and two of these do harm: a REMOVE of a file that
//! was released since destroys the only copy (Lustre looks at the file's state only when it sends the REMOVE, and a release
//! does not look at requests: mdt_coordinator.c, mdt_open.c), and a second ARCHIVE of a file that is archived already
//! overwrites or doubles its copy in the back end, or fails and leaves a released file dirty, so that it cannot be restored.

use lustreapi_sys::abi::{HS_ARCHIVED, HS_DIRTY, HS_LOST, HSM_FORCE_ACTION};

use super::cancel::{ECANCELED, ENOENT, ENOSYS};
use super::lustre_call::FileState;
use super::requests::Kind;

/// With this a REMOVE of a released file is ended. The MDT takes it as any failure; ECANCELED would count as a success
/// (Lustre `hsm_cdt_request_completed`).
pub(super) const EBUSY: i32 = 16;
/// With this a second ARCHIVE is ended: the only error of an ARCHIVE that does not mark an archived file dirty (Lustre
/// `hsm_cdt_request_completed`, since LU-19829; before that none does).
pub(super) const EALREADY: i32 = 114;

/// What must be asked before a request may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Questions {
    /// Does the MDT still know it?
    pub(super) alive: bool,
    /// What state is the file in?
    pub(super) state: bool,
}

impl Questions {
    pub(super) fn any(self) -> bool {
        self.alive || self.state
    }
}

/// What matters of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) kind: Kind,
    pub(super) archive_id: u32,
    /// `hal_flags`.
    pub(super) flags: u64,
    /// It has ended here before and was delivered again.
    pub(super) ended_before: bool,
    /// An archive of the same file may have stopped while this one waited.
    pub(super) may_be_archived: bool,
    /// A REMOVE of a copy that is known to be gone.
    pub(super) removed: bool,
    /// An ARCHIVE of a file that the MDT is about to be told an error of.
    pub(super) must_wait: bool,
}

impl Subject {
    /// What must be known before it may be sent.
    pub(super) fn questions(&self) -> Questions {
        let state = match self.kind {
            Kind::Remove => true,
            Kind::Archive => self.may_be_archived || self.must_wait,
            Kind::Restore => self.ended_before,
        };
        Questions { alive: self.kind == Kind::Remove || self.ended_before, state }
    }

    /// What follows from the answers; what was not asked is `None`.
    pub(super) fn judge(&self, alive: Option<i32>, state: Option<Result<FileState, i32>>) -> Verdict {
        match alive {
            // ENOSYS: there is nobody who could be asked.
            None | Some(0 | ENOSYS) => {}
            // Too late: it is done, and the MDT must know that.
            Some(ECANCELED) if self.removed => {}
            Some(ECANCELED) => return Verdict::End(ECANCELED),
            Some(ENOENT) if !self.ended_before => return Verdict::Forgotten,
            Some(ENOENT) => {
                return match state {
                    // While its MDT restarts it does not know the restores that it is going to deliver again.
                    Some(Ok(state)) if self.kind == Kind::Restore && state.is_released() => {
                        Verdict::Forgotten
                    }
                    Some(Err(errno)) if self.kind == Kind::Restore && errno != ENOENT => Verdict::Later,
                    _ => Verdict::Ended,
                };
            }
            Some(_) => return Verdict::Later,
        }
        if self.must_wait {
            return Verdict::Later;
        }
        match (self.kind, state) {
            (_, None | Some(Err(ENOSYS))) => Verdict::Send,
            // Gone: only its copy is left, and a mover can say best what that means for the others.
            (Kind::Remove, Some(Ok(state))) if self.removed && !state.is_released() => Verdict::Removed,
            (Kind::Remove, Some(Err(ENOENT))) if self.removed => Verdict::Removed,
            (_, Some(Err(ENOENT))) => Verdict::Send,
            (Kind::Remove, Some(Ok(state))) if state.is_released() => Verdict::End(EBUSY),
            (Kind::Archive, Some(Ok(state))) if self.is_archived(state) => Verdict::End(EALREADY),
            (_, Some(Ok(_))) => Verdict::Send,
            (Kind::Restore, Some(Err(_))) => Verdict::Send,
            (_, Some(Err(_))) => Verdict::Later,
        }
    }

    /// Whether there is nothing left to archive. The data of a released file is not even there, and the error that its
    /// archive would end with leaves it dirty and released, which no restore can undo.
    fn is_archived(&self, file: FileState) -> bool {
        file.is_released()
            || file.states & (HS_ARCHIVED | HS_DIRTY | HS_LOST) == HS_ARCHIVED
                && file.archive_id == self.archive_id
                && self.flags & HSM_FORCE_ACTION == 0
    }
}

/// What is to be done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Give it to a mover.
    Send,
    /// Ask again.
    Later,
    /// There is nothing left to remove: end it at the MDT with success.
    Removed,
    /// End it at the MDT with this error.
    End(i32),
    /// It had ended before: drop it, the MDT does not wait for it.
    Ended,
    /// The MDT has forgotten it: it may be asked for again, but this one must not be sent.
    Forgotten,
}

#[cfg(test)]
mod tests {
    use lustreapi_sys::abi::{HS_EXISTS, HS_RELEASED};

    use super::*;

    fn subject(kind: Kind) -> Subject {
        Subject {
            kind,
            archive_id: 1,
            flags: 0,
            ended_before: false,
            may_be_archived: false,
            removed: false,
            must_wait: false,
        }
    }

    fn file(states: u32) -> Option<Result<FileState, i32>> {
        Some(Ok(FileState { states: states | HS_EXISTS, archive_id: 1 }))
    }

    #[test]
    fn what_is_asked() {
        let asked = |subject: Subject| {
            let questions = subject.questions();
            (questions.alive, questions.state)
        };
        let after = |kind| Subject { may_be_archived: true, ..subject(kind) };
        let before = |kind| Subject { ended_before: true, ..subject(kind) };
        for (subject, expected) in [
            (subject(Kind::Remove), (true, true)),
            (subject(Kind::Archive), (false, false)),
            (subject(Kind::Restore), (false, false)),
            (after(Kind::Archive), (false, true)),
            (after(Kind::Restore), (false, false)),
            (Subject { flags: HSM_FORCE_ACTION, ..after(Kind::Archive) }, (false, true)),
            (Subject { flags: HSM_FORCE_ACTION, ..subject(Kind::Remove) }, (true, true)),
            (before(Kind::Archive), (true, false)),
            (before(Kind::Restore), (true, true)),
            (before(Kind::Remove), (true, true)),
        ] {
            assert_eq!(asked(subject), expected, "{subject:?}");
        }
    }

    #[test]
    fn a_remove_is_sent_only_when_the_mdt_knows_it_and_the_file_is_not_released() {
        let clean = file(HS_ARCHIVED);
        let released = file(HS_ARCHIVED | HS_RELEASED);
        for (alive, state, expected) in [
            (0, clean, Verdict::Send),
            (0, file(0), Verdict::Send),
            (0, file(HS_ARCHIVED | HS_DIRTY), Verdict::Send),
            (0, Some(Err(ENOENT)), Verdict::Send),
            (0, released, Verdict::End(EBUSY)),
            (0, file(HS_ARCHIVED | HS_RELEASED | HS_LOST), Verdict::End(EBUSY)),
            (0, Some(Err(5)), Verdict::Later),
            (0, Some(Err(11)), Verdict::Later),
            (0, Some(Err(107)), Verdict::Later),
            (ECANCELED, clean, Verdict::End(ECANCELED)),
            (ECANCELED, released, Verdict::End(ECANCELED)),
            (ENOENT, clean, Verdict::Forgotten),
            (ENOENT, released, Verdict::Forgotten),
            (11, clean, Verdict::Later),
            (107, clean, Verdict::Later),
            (1, clean, Verdict::Later),
            (ENOSYS, Some(Err(ENOSYS)), Verdict::Send),
            (ENOSYS, released, Verdict::End(EBUSY)),
        ] {
            assert_eq!(subject(Kind::Remove).judge(Some(alive), state), expected, "{alive} {state:?}");
        }
    }

    #[test]
    fn a_remove_whose_copy_is_gone_is_ended_with_success() {
        let removed = Subject { removed: true, ..subject(Kind::Remove) };
        for (alive, state, expected) in [
            (0, file(HS_ARCHIVED), Verdict::Removed),
            (0, file(HS_ARCHIVED | HS_DIRTY), Verdict::Removed),
            (0, Some(Err(ENOENT)), Verdict::Removed),
            // Lost: nobody may say that this is as it should be.
            (0, file(HS_ARCHIVED | HS_RELEASED), Verdict::End(EBUSY)),
            (0, Some(Err(11)), Verdict::Later),
            (11, file(HS_ARCHIVED), Verdict::Later),
            (ENOENT, file(HS_ARCHIVED), Verdict::Forgotten),
            (ECANCELED, file(HS_ARCHIVED), Verdict::Removed),
        ] {
            assert_eq!(removed.judge(Some(alive), state), expected, "{alive} {state:?}");
        }
    }

    #[test]
    fn an_archive_waits_while_an_error_is_owed_for_its_file() {
        let archive = Subject { must_wait: true, ..subject(Kind::Archive) };
        assert!(archive.questions().any());
        for (alive, state) in [(None, file(0)), (Some(0), file(HS_ARCHIVED)), (None, None)] {
            assert_eq!(archive.judge(alive, state), Verdict::Later);
        }
        assert_eq!(archive.judge(Some(ENOENT), file(0)), Verdict::Forgotten);
    }

    #[test]
    fn a_second_archive_is_sent_only_when_there_is_something_to_archive() {
        let archive = Subject { may_be_archived: true, ..subject(Kind::Archive) };
        let other = Subject { archive_id: 2, ..archive };
        let forced = Subject { flags: HSM_FORCE_ACTION, ..archive };
        for (archive, state, expected) in [
            (archive, file(HS_ARCHIVED), Verdict::End(EALREADY)),
            (archive, file(HS_ARCHIVED | HS_RELEASED), Verdict::End(EALREADY)),
            (archive, file(HS_ARCHIVED | HS_DIRTY), Verdict::Send),
            (archive, file(HS_ARCHIVED | HS_LOST), Verdict::Send),
            (archive, file(0), Verdict::Send),
            (archive, Some(Err(ENOENT)), Verdict::Send),
            (archive, Some(Err(11)), Verdict::Later),
            (other, file(HS_ARCHIVED), Verdict::Send),
            (forced, file(HS_ARCHIVED), Verdict::Send),
            (forced, file(HS_ARCHIVED | HS_RELEASED), Verdict::End(EALREADY)),
            (other, file(HS_ARCHIVED | HS_RELEASED), Verdict::End(EALREADY)),
        ] {
            assert_eq!(archive.judge(None, state), expected, "{archive:?} {state:?}");
        }
    }

    #[test]
    fn what_ended_before_is_sent_only_when_the_mdt_wants_it() {
        let before = |kind| Subject { ended_before: true, ..subject(kind) };
        let released = file(HS_ARCHIVED | HS_RELEASED);
        for (kind, alive, state, expected) in [
            (Kind::Archive, 0, None, Verdict::Send),
            (Kind::Archive, ENOENT, None, Verdict::Ended),
            (Kind::Archive, 11, None, Verdict::Later),
            (Kind::Remove, ENOENT, file(HS_ARCHIVED), Verdict::Ended),
            (Kind::Remove, 0, file(HS_ARCHIVED), Verdict::Send),
            (Kind::Restore, 0, released, Verdict::Send),
            (Kind::Restore, 0, Some(Err(11)), Verdict::Send),
            (Kind::Restore, ENOENT, released, Verdict::Forgotten),
            (Kind::Restore, ENOENT, Some(Err(11)), Verdict::Later),
            (Kind::Restore, ENOENT, Some(Err(ENOENT)), Verdict::Ended),
            (Kind::Restore, ENOENT, file(HS_ARCHIVED), Verdict::Ended),
        ] {
            assert_eq!(before(kind).judge(Some(alive), state), expected, "{kind:?} {alive} {state:?}");
        }
    }
}
