//! Users' requests (mdt_hsm.c, mdt_hsm_cdt_client.c, mdt_hsm_cdt_actions.c).

use std::collections::BTreeSet;
use std::sync::Arc;

use lustreapi_sys::Fid;

use super::ledger::Ending;
use super::{
    Action, CdtState, Cred, CurrentAction, Errno, Extent, File, LogIndex, Mdt, Record, RecordStatus, Time,
    UserRequest, mdt_index_of,
};

/// One file of a request on its way into the log.
struct Wanted {
    fid: Fid,
    extent: Extent,
    /// What a cancel cancels, 0 if nothing was found.
    cookie: u64,
}

impl Mdt {
    /// `MDS_HSM_REQUEST` (`mdt_hsm_request`). EAGAIN while the coordinator is stopped, ENOENT for a missing file, EPERM
    /// where a mask or the file's state forbids it, EPROTO for a restore of a part, ENODATA for a restore that was taken
    /// up under NonBlockingRestore. Items before the one that failed stay requested.
    pub(super) fn request(&mut self, now: Time, cred: &Cred, request: UserRequest) -> Result<(), Errno> {
        if request.items.is_empty() {
            return Ok(());
        }
        if self.state == CdtState::Stopped {
            return Err(Errno::AGAIN);
        }
        let mut seen = BTreeSet::new();
        let unique = request.items.iter().filter(|(fid, _)| seen.insert(*fid));
        let mut wanted: Vec<Wanted> =
            unique.map(|(fid, extent)| Wanted { fid: *fid, extent: *extent, cookie: 0 }).collect();
        if wanted.iter().any(|item| mdt_index_of(item.fid).is_none() || item.fid.oid == 0) {
            return Err(Errno::INVAL);
        }
        let mut archive_id = request.archive_id;
        if request.action == Action::Cancel {
            archive_id = self.find_victims(&mut wanted, archive_id);
        }
        let data: Arc<[u8]> = request.data.as_slice().into();
        let result = self.record_all(now, cred, &request, archive_id, &data, &wanted);
        if matches!(result, Ok(()) | Err(Errno::NODATA)) {
            self.thread.event = true;
        }
        result
    }

    /// Gives cancels the cookie of the last request of their file that waits or runs, and returns the archive id of the
    /// first victim if none was given (`hsm_find_compatible_cb`).
    fn find_victims(&self, wanted: &mut [Wanted], mut archive_id: u32) -> u32 {
        for record in self.log.iter().filter(|r| !r.status.is_final() && r.action != Action::Cancel) {
            for item in wanted.iter_mut().filter(|item| item.fid == record.fid) {
                item.cookie = record.cookie;
                if archive_id == 0 {
                    archive_id = record.archive_id;
                }
            }
        }
        archive_id
    }

    /// `mdt_hsm_register_hal`.
    fn record_all(
        &mut self,
        now: Time,
        cred: &Cred,
        request: &UserRequest,
        list_archive_id: u32,
        data: &Arc<[u8]>,
        wanted: &[Wanted],
    ) -> Result<(), Errno> {
        let action = request.action;
        for item in wanted {
            if action == Action::Cancel && item.cookie == 0 {
                continue;
            }
            let mut archive_id = list_archive_id;
            match self.files.get(&item.fid) {
                // The copy of a file that is gone may still be removed, by administrators.
                None if cred.admin && matches!(action, Action::Remove | Action::Cancel) => {}
                None => return Err(Errno::NOENT),
                Some(file) => {
                    self.permission(cred, file, action)?;
                    if action != Action::Cancel {
                        if !file.needs(action, request.flags) {
                            continue;
                        }
                        if !file.allows(action, archive_id) {
                            return Err(Errno::PERM);
                        }
                        if archive_id == 0 {
                            archive_id = self.archive_of(file);
                        }
                    }
                    if action == Action::Restore {
                        if item.extent.offset != 0 {
                            return Err(Errno::PROTO);
                        }
                        if !self.restores.insert(item.fid) {
                            continue;
                        }
                    }
                }
            }
            self.record_add(
                now,
                Record {
                    index: LogIndex::default(),
                    entry: 0,
                    action,
                    fid: item.fid,
                    dfid: item.fid,
                    cookie: item.cookie,
                    archive_id,
                    flags: request.flags,
                    extent: item.extent,
                    data: Arc::clone(data),
                    status: RecordStatus::Waiting,
                    changed: now.wall,
                },
            );
        }
        if action == Action::Restore && self.params.policy.non_blocking_restore {
            return Err(Errno::NODATA);
        }
        Ok(())
    }

    /// The archive of a file that has one, or the default.
    pub(super) fn archive_of(&self, file: &File) -> u32 {
        if file.hsm.archive_id != 0 { file.hsm.archive_id } else { self.params.default_archive_id }
    }

    /// `hsm_action_permission`.
    fn permission(&self, cred: &Cred, file: &File, action: Action) -> Result<(), Errno> {
        if cred.admin {
            return Ok(());
        }
        let mask = if cred.uid == file.uid {
            self.params.user_request_mask
        } else if cred.gids.contains(&file.gid) {
            self.params.group_request_mask
        } else {
            self.params.other_request_mask
        };
        if mask & (1 << action.hsma()) != 0 { Ok(()) } else { Err(Errno::PERM) }
    }

    /// Logs a request as WAITING; all but cancels get the next cookie (`mdt_agent_record_add`).
    pub(super) fn record_add(&mut self, now: Time, record: Record) {
        if self.last_cookie == 0 {
            let last = self.log.iter().rev().find(|record| record.action != Action::Cancel);
            self.last_cookie = last.map_or_else(|| first_cookie(now), |record| record.cookie);
        }
        let cookie = if record.action == Action::Cancel {
            record.cookie
        } else {
            self.last_cookie += 1;
            self.last_cookie
        };
        let status = RecordStatus::Waiting;
        let mut record =
            Record { cookie, status, changed: now.wall, entry: self.ledger.entries.len(), ..record };
        record.index = self.log.append(record.clone());
        self.ledger.logged(self.config.index, now, &record);
    }

    /// Writes a record's status.
    pub(super) fn set_status(&mut self, now: Time, index: LogIndex, status: RecordStatus, ending: Ending) {
        if let Some(record) = self.log.get_mut(index) {
            record.status = status;
            record.changed = now.wall;
            self.ledger.status(record.entry, now, status, ending);
        }
    }

    /// Writes a record as memory has it, a bound data FID included (`mdt_hsm_agent_modify_record`). False if the log has
    /// it no more.
    pub(super) fn write_record(&mut self, now: Time, copy: &Record, ending: Ending) -> bool {
        let Some(record) = self.log.get_mut(copy.index) else { return false };
        record.status = copy.status;
        record.dfid = copy.dfid;
        record.changed = now.wall;
        self.ledger.status(record.entry, now, copy.status, ending);
        true
    }

    /// `mdt_hsm_get_action`: the first record of the file that waits or runs.
    pub(super) fn current_action(&self, fid: Fid) -> CurrentAction {
        let wanted = |record: &&Record| {
            record.fid == fid && !record.status.is_final() && record.action != Action::Cancel
        };
        let Some(record) = self.log.iter().find(wanted) else {
            return CurrentAction { action: None, running: false, location: Extent::NONE };
        };
        let running = record.status == RecordStatus::Started;
        let mut location = record.extent;
        let moved = if running { self.running.get(record.cookie) } else { None };
        if let Some(moved) = moved {
            location.length = moved.progress.total();
        }
        CurrentAction { action: Some(record.action), running, location }
    }
}

/// What the first cookie follows when the log holds none.
pub(super) fn first_cookie(now: Time) -> u64 {
    u64::try_from(now.wall).unwrap_or(0).max(1)
}
