//! What clients do with files.

use lustreapi_sys::Fid;
use lustreapi_sys::abi::{
    HS_ARCHIVED, HS_DIRTY, HS_EXISTS, HS_LOST, HS_NOARCHIVE, HS_NORELEASE, HS_PCCRO, HS_PCCRW, HS_RELEASED,
    HSM_REQ_BLOCKING,
};

use super::fs::{SEQUENCES_PER_MDT, first_sequence};
use super::machine::Blocked;
use super::{
    Action, Answer, CallId, ClientId, Cred, Effect, Errno, Extent, File, HsmState, LogIndex, Mdt, NewFile,
    Record, RecordStatus, StateSet, Time, UserRequest,
};

/// Flags that a file's owner may set and clear.
const USER_FLAGS: u32 = HS_NORELEASE | HS_NOARCHIVE | HS_DIRTY;
/// All flags there are.
const ALL_FLAGS: u32 = USER_FLAGS | HS_EXISTS | HS_LOST | HS_RELEASED | HS_ARCHIVED | HS_PCCRW | HS_PCCRO;

impl Mdt {
    /// EEXIST for a FID in use, EINVAL for one of another MDT.
    pub(super) fn create(&mut self, client: ClientId, new: &NewFile) -> Result<Fid, Errno> {
        let base = first_sequence(self.config.index);
        let fid = match new.fid {
            Some(fid) if !(base..base + SEQUENCES_PER_MDT).contains(&fid.seq) || fid.oid == 0 => {
                return Err(Errno::INVAL);
            }
            Some(fid) if self.files.contains_key(&fid) => return Err(Errno::EXIST),
            Some(fid) => fid,
            None => loop {
                let fid = self.fids.next(base, client);
                if !self.files.contains_key(&fid) {
                    break fid;
                }
            },
        };
        self.version += 1;
        let file = File {
            uid: new.uid,
            gid: new.gid,
            hsm: HsmState::default(),
            archived_version: 0,
            data_version: self.version,
            linked: !new.volatile,
            volatile: new.volatile,
            opens: if new.volatile { vec![client] } else { Vec::new() },
        };
        self.files.insert(fid, file);
        Ok(fid)
    }

    pub(super) fn open(&mut self, client: ClientId, fid: Fid) -> Result<(), Errno> {
        self.find_mut(fid)?.opens.push(client);
        Ok(())
    }

    /// EINVAL if the client does not have it open.
    pub(super) fn close(
        &mut self,
        now: Time,
        client: ClientId,
        fid: Fid,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Errno> {
        let file = self.find_mut(fid)?;
        let at = file.opens.iter().position(|opener| *opener == client).ok_or(Errno::INVAL)?;
        file.opens.swap_remove(at);
        self.destroy_if_unused(now, fid, effects);
        Ok(())
    }

    /// Closes whatever a client has open.
    pub(super) fn close_all(&mut self, now: Time, client: ClientId, effects: &mut Vec<Effect>) {
        let opened: Vec<Fid> =
            self.files.iter().filter(|(_, file)| file.opens.contains(&client)).map(|(fid, _)| *fid).collect();
        for fid in opened {
            if let Some(file) = self.files.get_mut(&fid) {
                file.opens.retain(|opener| *opener != client);
            }
            self.destroy_if_unused(now, fid, effects);
        }
    }

    pub(super) fn unlink(&mut self, now: Time, fid: Fid, effects: &mut Vec<Effect>) -> Result<(), Errno> {
        self.find_mut(fid)?.linked = false;
        self.destroy_if_unused(now, fid, effects);
        Ok(())
    }

    /// Destroys a file without a name that nobody has open, and asks for the removal of its copy if that is wanted
    /// (`mdt_handle_last_unlink`): logged even while the coordinator is stopped, and found by housekeeping.
    fn destroy_if_unused(&mut self, now: Time, fid: Fid, effects: &mut Vec<Effect>) {
        let Some(file) = self.files.get(&fid).filter(|file| !file.linked && file.opens.is_empty()) else {
            return;
        };
        if self.params.remove_archive_on_last_unlink && !file.volatile && file.has(HS_EXISTS) {
            let archive_id = self.archive_of(file);
            self.record_add(
                now,
                Record {
                    index: LogIndex::default(),
                    entry: 0,
                    action: Action::Remove,
                    fid,
                    dfid: Fid::default(),
                    cookie: 0,
                    archive_id,
                    flags: 0,
                    extent: Extent::WHOLE,
                    data: [].into(),
                    status: RecordStatus::Waiting,
                    changed: now.wall,
                },
            );
        }
        self.files.remove(&fid);
        effects.push(Effect::Destroyed { fid });
        // Who reads without having opened would wait for ever.
        self.answer_blocked(fid, Err(Errno::NOENT), effects);
    }

    /// Reads or writes data. `None`: a restore has to end first (`ll_layout_restore`).
    pub(super) fn access(
        &mut self,
        now: Time,
        id: CallId,
        client: ClientId,
        cred: Cred,
        fid: Fid,
    ) -> Option<Result<Answer, Errno>> {
        match self.find(fid) {
            Err(errno) => return Some(Err(errno)),
            Ok(file) if !file.released() => return Some(Ok(Answer::Done)),
            Ok(_) => {}
        }
        let flags = if self.config.behaviour.blocking_flag { HSM_REQ_BLOCKING } else { 0 };
        let request = UserRequest { flags, ..UserRequest::new(Action::Restore, [fid], &[]) };
        if let Err(errno) = self.request(now, &cred, request) {
            return Some(Err(errno));
        }
        if !self.restores.contains(&fid) {
            return Some(Err(Errno::NODATA));
        }
        self.blocked.push(Blocked { id, client, cred, fid });
        None
    }

    pub(super) fn write(&mut self, fid: Fid, version: Option<u64>) -> Result<u64, Errno> {
        self.version += 1;
        let next = version.unwrap_or(self.version);
        self.version = self.version.max(next);
        let file = self.find_mut(fid)?;
        if file.released() {
            return Err(Errno::NODATA);
        }
        file.data_version = next;
        file.mark_dirty();
        Ok(next)
    }

    /// `ll_hsm_release`, `mdt_hsm_release`: EACCES for others than the owner, EBUSY while open, EPERM if the state does not
    /// allow it or the data is not what was archived. Running requests are not looked at.
    pub(super) fn release(&mut self, cred: &Cred, fid: Fid, effects: &mut Vec<Effect>) -> Result<(), Errno> {
        let file = self.find_mut(fid)?;
        if !cred.admin && cred.uid != file.uid {
            return Err(Errno::ACCES);
        }
        if !file.opens.is_empty() {
            return Err(Errno::BUSY);
        }
        if !file.may_release() {
            return Err(Errno::PERM);
        }
        if file.released() {
            return Ok(());
        }
        if file.data_version != file.archived_version {
            return Err(Errno::PERM);
        }
        file.hsm.flags |= HS_RELEASED;
        file.data_version = 0;
        effects.push(Effect::DropData { fid });
        Ok(())
    }

    /// `mdt_hsm_state_set`: EINVAL for unknown or contradictory flags, EPERM for those of others than users.
    pub(super) fn state_set(&mut self, cred: &Cred, fid: Fid, change: StateSet) -> Result<(), Errno> {
        let file = self.find_mut(fid)?;
        let mask = change.set | change.clear;
        if mask & !u64::from(ALL_FLAGS) != 0 {
            return Err(Errno::INVAL);
        }
        if mask & !u64::from(USER_FLAGS) != 0 && !cred.admin {
            return Err(Errno::PERM);
        }
        // The mask fits: it was checked against all flags.
        let mut hsm = file.hsm;
        hsm.flags = (hsm.flags | change.set as u32) & !(change.clear as u32);
        let has = |flag: u32| hsm.flags & flag != 0;
        if let Some(archive_id) = change.archive_id {
            if !has(HS_EXISTS) {
                // Lustre leaves everything as it was and reports success.
                return Ok(());
            }
            hsm.archive_id = archive_id;
        }
        let contradiction = has(HS_DIRTY) && !has(HS_EXISTS)
            || has(HS_RELEASED) && (has(HS_DIRTY) || !has(HS_ARCHIVED))
            || has(HS_LOST) && !has(HS_ARCHIVED);
        if contradiction {
            return Err(Errno::INVAL);
        }
        if !cred.admin && cred.uid != file.uid {
            return Err(Errno::PERM);
        }
        file.hsm = hsm;
        Ok(())
    }

    /// `ll_hsm_import`: sets the flags, then the attributes.
    pub(super) fn import(
        &mut self,
        cred: &Cred,
        fid: Fid,
        archive_id: u32,
        (uid, gid): (u32, u32),
        effects: &mut Vec<Effect>,
    ) -> Result<(), Errno> {
        let set = u64::from(HS_ARCHIVED | HS_EXISTS | HS_RELEASED);
        self.state_set(cred, fid, StateSet { set, clear: 0, archive_id: Some(archive_id) })?;
        let file = self.find_mut(fid)?;
        file.uid = uid;
        file.gid = gid;
        file.data_version = 0;
        effects.push(Effect::DropData { fid });
        Ok(())
    }

    pub(super) fn set_archived_version(&mut self, fid: Fid, version: u64) -> Result<(), Errno> {
        let file = self.find_mut(fid)?;
        if version == 0 {
            return Err(Errno::INVAL);
        }
        file.archived_version = version;
        Ok(())
    }
}
