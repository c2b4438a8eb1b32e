//! Users: they write files, archive, release, read and remove them, and change their minds.

use lustre_sim::mdt::{Action, Call, NewFile, UserRequest};
use lustreapi_sys::Fid;
use lustreapi_sys::abi::{HS_ARCHIVED, HS_DIRTY, HS_RELEASED};

use super::scenario::{SECOND, Scenario};
use super::world::{Task, Then, USERS, World};

/// One file that a user works on.
#[derive(Debug, Clone, Default)]
pub struct UserFile {
    /// The file, once it exists.
    pub fid: Option<Fid>,
    /// A read waits for a restore.
    pub reading: bool,
    /// The copy was asked to be removed: the user does nothing more with this file.
    pub retired: bool,
}

impl World {
    /// A user does the next thing to a file.
    pub(super) fn user(&mut self, number: usize) {
        if !self.calm {
            let delay = self.rng.below(10 * SECOND);
            self.after(delay, Task::User { file: number });
        }
        let Some(file) = self.users.get(number).cloned() else { return };
        let Some(fid) = file.fid.filter(|_| !file.retired) else {
            if self.calm {
                return;
            }
            let mdt = self.rng.below(u64::from(self.scenario.mdts)) as u32;
            self.call(USERS, Call::Create { mdt, file: NewFile::default() }, Then::Created { file: number });
            return;
        };
        if file.reading {
            return;
        }
        let Some(state) = self.fs.file(fid) else { return };
        let (archived, dirty, released) =
            (state.has(HS_ARCHIVED), state.has(HS_DIRTY), state.has(HS_RELEASED));
        let pending = self.fs.ledger().any(|e| e.fid == fid && !e.status.is_final());
        let archiving = self
            .fs
            .ledger()
            .any(|e| e.fid == fid && !e.status.is_final() && e.action == Action::Archive && e.started > 0);
        let data = Scenario::data(&mut self.rng);
        let archive_id = self.rng.between(1, 2) as u32;
        let request = |action| {
            let mut request = UserRequest::new(action, [fid], data);
            request.archive_id = if action == Action::Archive { archive_id } else { 0 };
            Call::Request(request)
        };
        if self.calm {
            // Only what is needed to see that every file can still be read.
            if released {
                self.read(number, fid);
            }
            return;
        }
        match (pending, self.rng.below(8)) {
            (true, 0) => {
                self.report.cancels += 1;
                self.call(USERS, request(Action::Cancel), Then::Nobody);
            }
            (true, 1) if !released => {
                self.report.changed_while_archived += u64::from(archiving);
                self.call(USERS, Call::Write { fid, version: None }, Then::Wrote { fid });
            }
            (true, 2) if !released => self.call(USERS, request(Action::Archive), Then::Nobody),
            (true, 3) if released => self.read(number, fid),
            (true, 4 | 5) if archived && !dirty && !released => {
                self.call(USERS, Call::Release { fid }, Then::Nobody);
            }
            (true, _) => {}
            (false, 0 | 1) if !released => {
                self.call(USERS, Call::Write { fid, version: None }, Then::Wrote { fid });
            }
            (false, 2) if archived && !released => {
                // Some go on with the file, and may release it while the remove still waits.
                let retired = self.rng.one_in(2);
                if let Some(file) = self.users.get_mut(number) {
                    file.retired = retired;
                }
                self.call(USERS, request(Action::Remove), Then::Nobody);
            }
            (false, 3) if self.rng.one_in(4) => {
                if let Some(file) = self.users.get_mut(number) {
                    file.retired = true;
                }
                if !released {
                    self.call(USERS, request(Action::Archive), Then::Nobody);
                }
                self.call(USERS, Call::Unlink { fid }, Then::Nobody);
            }
            (false, 4) if released => self.call(USERS, request(Action::Restore), Then::Nobody),
            (false, _) if released => self.read(number, fid),
            (false, _) if archived && !dirty => self.call(USERS, Call::Release { fid }, Then::Nobody),
            (false, _) => self.call(USERS, request(Action::Archive), Then::Nobody),
        }
    }

    fn read(&mut self, number: usize, fid: Fid) {
        if let Some(file) = self.users.get_mut(number) {
            file.reading = true;
        }
        self.call(USERS, Call::Access { fid }, Then::Read { file: number, fid });
    }

    pub(super) fn created(&mut self, number: usize, fid: Fid) {
        if let Some(file) = self.users.get_mut(number) {
            *file = UserFile { fid: Some(fid), reading: false, retired: false };
        }
    }

    /// A blocked read was answered.
    pub(super) fn has_read(&mut self, number: usize, fid: Fid, errno: i32) -> Result<(), String> {
        if let Some(file) = self.users.get_mut(number).filter(|f| f.fid == Some(fid)) {
            file.reading = false;
        }
        if errno == 0 {
            self.report.readers += 1;
        } else if self.calm {
            // The restore was cancelled or forgotten: the user tries again.
            self.after(SECOND, Task::User { file: number });
        }
        Ok(())
    }
}
