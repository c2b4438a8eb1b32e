//! Progress and ends that copytools report (`mdt_hsm_update_request_state`, `hsm_cdt_request_completed`).

use lustreapi_sys::Fid;
use lustreapi_sys::abi::{
    HP_FLAG_COMPLETED, HP_FLAG_RETRY, HS_ARCHIVED, HS_DIRTY, HS_EXISTS, HS_LOST, HS_RELEASED,
};

use super::ledger::Ending;
use super::{
    Action, Answer, CdtState, ClientId, Cred, Effect, Errno, Mdt, Progress, Record, RecordStatus, Stray, Time,
};

impl Mdt {
    /// `MDS_HSM_PROGRESS`. EPERM without privileges; EAGAIN while the coordinator is stopped; ENOENT for a cookie that is
    /// not in memory; EINVAL for a foreign FID, for an error without an end, or for a range beyond what offsets can say;
    /// ECANCELED for progress on a cancelled request.
    pub(super) fn progress(
        &mut self,
        now: Time,
        client: ClientId,
        cred: &Cred,
        report: Progress,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Errno> {
        let result = self.update_request(now, client, cred, report, effects);
        match result {
            Err(Refused(refused)) if report.flags & HP_FLAG_COMPLETED != 0 => {
                let Progress { fid, cookie, errval, .. } = report;
                self.ledger.strays.push(Stray { at: now, by: client, cookie, fid, errval, refused });
            }
            _ => {}
        }
        result.unwrap_or_else(|Refused(errno)| Err(errno))
    }

    /// The inner result is what an accepted report is answered.
    fn update_request(
        &mut self,
        now: Time,
        client: ClientId,
        cred: &Cred,
        report: Progress,
        effects: &mut Vec<Effect>,
    ) -> Result<Result<(), Errno>, Refused> {
        if !cred.admin {
            return Err(Refused(Errno::PERM));
        }
        if self.state == CdtState::Stopped {
            return Err(Refused(Errno::AGAIN));
        }
        let completed = report.flags & HP_FLAG_COMPLETED != 0;
        let Some(running) = self.running.get_mut(report.cookie) else { return Err(Refused(Errno::NOENT)) };
        running.record.changed = now.wall;
        let action = running.record.action;
        if action != Action::Remove
            && report.errval == 0
            && report.extent.length != 0
            && !running.progress.add(report.extent)
        {
            return Err(Refused(Errno::INVAL));
        }
        let counted = if completed { self.agents.get_mut(running.client) } else { None };
        if let Some(agent) = counted {
            agent.current -= 1;
            if report.errval == 0 {
                agent.ok += 1;
            } else {
                agent.errors += 1;
            }
        }
        let record = &mut running.record;
        if action == Action::Restore && record.fid == record.dfid {
            record.dfid = report.fid;
        }
        if matches!(action, Action::Restore | Action::Archive)
            && report.fid != record.fid
            && report.fid != record.dfid
        {
            return Err(Refused(Errno::INVAL));
        }
        if report.errval != 0 && !completed {
            return Err(Refused(Errno::INVAL));
        }
        let canceled = running.cancel.is_some();
        self.ledger.reported(running.record.entry, now, client, completed);
        if completed {
            return Ok(self.complete(now, client, report, effects));
        }
        Ok(if canceled { Err(Errno::CANCELED) } else { Ok(()) })
    }

    /// Ends a request in memory. Returns what the copytool is told, which may be an error although the end counts.
    fn complete(
        &mut self,
        now: Time,
        client: ClientId,
        report: Progress,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Errno> {
        let Some(running) = self.running.get(report.cookie) else { return Err(Errno::NOENT) };
        let original = running.record.clone();
        let bytes = running.progress.total();
        // The end of a cancelled request is the end of its cancel: the request's own record is CANCELED already.
        let mut record = running.cancel.clone().unwrap_or_else(|| original.clone());
        let Completed { status, errval, result } = self.apply(report, &original, effects);
        let mut result = result;
        if !record.status.is_final() {
            record.status = status;
            let errno = (errval != 0).then_some(Errno(errval));
            if !self.write_record(now, &record, Ending { errno, by: Some(client), bytes }) {
                result = result.and(Err(Errno::NOENT));
            }
        }
        self.forget_running(report.cookie);
        self.thread.event = true;
        result
    }

    /// What the end of a request does to its file, and which status it gives.
    fn apply(&mut self, report: Progress, request: &Record, effects: &mut Vec<Effect>) -> Completed {
        let policy = self.params.policy;
        let fid = request.fid;
        let mut errval = report.errval;
        let mut result = Ok(());
        let exists = self.files.contains_key(&fid);
        let mut status = RecordStatus::Succeed;
        if errval != 0 {
            status = match Errno(errval) {
                // A copytool that does not know cancels answers so; it cannot be told from another error.
                Errno::NOSYS => {
                    errval = Errno::CANCELED.0;
                    RecordStatus::Failed
                }
                Errno::CANCELED => RecordStatus::Succeed,
                _ if policy.no_retry_action || report.flags & HP_FLAG_RETRY == 0 || !exists => {
                    RecordStatus::Failed
                }
                _ => RecordStatus::Waiting,
            };
            let dirties = self.config.behaviour.failed_archive_dirties
                && request.action == Action::Archive
                && Errno(errval) != Errno::ALREADY;
            match self.files.get_mut(&fid) {
                Some(file) if dirties && file.has(HS_ARCHIVED) => file.hsm.flags |= HS_DIRTY,
                _ => {}
            }
        } else if let Some(file) = self.files.get_mut(&fid) {
            match request.action {
                Action::Archive => {
                    file.archived_version = report.data_version;
                    file.hsm.flags |= HS_ARCHIVED;
                    file.hsm.flags &= !(HS_LOST | HS_DIRTY);
                }
                Action::Restore => file.archived_version = report.data_version,
                Action::Remove => file.hsm.flags &= !(HS_ARCHIVED | HS_EXISTS | HS_LOST),
                Action::Cancel => {}
            }
        }
        if request.action == Action::Restore {
            if errval == 0 && exists {
                result = self.swap_layouts(fid, request.dfid, effects);
                if let Err(errno) = result {
                    if policy.no_retry_action {
                        status = RecordStatus::Failed;
                    }
                    errval = errno.0;
                }
            }
            // A restore that will be tried again keeps its lock: readers go on waiting.
            if status != RecordStatus::Waiting {
                self.end_restore(fid, effects);
            }
        }
        Completed { status, errval, result }
    }

    /// Gives the file the volatile file's data (`hsm_swap_layouts`). ENOENT if that was closed.
    fn swap_layouts(&mut self, fid: Fid, volatile: Fid, effects: &mut Vec<Effect>) -> Result<(), Errno> {
        if fid == volatile {
            // Nobody ever named a volatile file. A real MDT would wait for its own layout lock for ever.
            return Err(Errno::DEADLK);
        }
        let version = {
            let source = self.find_mut(volatile)?;
            std::mem::take(&mut source.data_version)
        };
        let file = self.find_mut(fid)?;
        file.hsm.flags &= !(HS_RELEASED | HS_DIRTY);
        file.data_version = version;
        effects.push(Effect::SwapLayouts { fid, volatile });
        Ok(())
    }

    /// Gives the layout lock back: readers look again (`cdt_restore_handle_del`).
    pub(super) fn end_restore(&mut self, fid: Fid, effects: &mut Vec<Effect>) {
        if !self.restores.remove(&fid) {
            return;
        }
        let released = self.files.get(&fid).is_none_or(|file| file.released());
        let result = if released { Err(Errno::NODATA) } else { Ok(Answer::Done) };
        self.answer_blocked(fid, result, effects);
    }

    /// Answers all who wait for a file.
    pub(super) fn answer_blocked(
        &mut self,
        fid: Fid,
        result: Result<Answer, Errno>,
        effects: &mut Vec<Effect>,
    ) {
        self.blocked.retain(|blocked| {
            if blocked.fid == fid {
                let (id, client, result) = (blocked.id, blocked.client, result.clone());
                effects.push(Effect::Reply { id, client, result });
            }
            blocked.fid != fid
        });
    }
}

/// A report that changed nothing but the time of the last progress, and possibly counters.
struct Refused(Errno);

struct Completed {
    status: RecordStatus,
    /// The report's error, or the MDT's own.
    errval: u16,
    /// What the copytool is told.
    result: Result<(), Errno>,
}
