//! The oracle at the end of a run: what must be true once nothing goes wrong any more.

use std::fmt::Write as _;

use lustre_sim::mdt::{Action, LedgerEntry, RecordStatus};

use super::scenario::SECOND;
use super::users::UserFile;
use super::world::World;

impl World {
    /// Whether everything has come to its end.
    pub(super) fn finished(&self) -> bool {
        // The last things that calm brings are a minute away.
        self.now > self.scenario.busy + 90 * SECOND
            && self.fs.ledger().all(|entry| entry.status.is_final() || self.only_times_out(entry))
            && self.users.iter().all(|file| self.is_content(file))
            && self
                .movers
                .iter()
                .all(|m| m.attempts.is_empty() && m.shim.as_ref().is_some_and(|s| s.unacknowledged() == 0))
            && self.daemon.as_ref().is_some_and(|daemon| {
                let counters = daemon.core.counters();
                counters.pending == [0; 3] && counters.running == [0; 3] && counters.pending_cancel == 0
            })
    }

    /// Whether a user wants nothing more of a file, or can have nothing.
    fn is_content(&self, file: &UserFile) -> bool {
        let released = file.fid.and_then(|fid| self.fs.file(fid)).is_some_and(|f| f.released());
        if file.reading { self.hangs_in_lustre(file) } else { file.retired || !released }
    }

    /// Whether nobody but its MDT can end a request, when its time is over: an archive or a remove that was running when
    /// the MDT restarted, or a cancel whose victim is gone. Nothing else happens until then, so there is nothing to wait for.
    fn only_times_out(&self, entry: &LedgerEntry) -> bool {
        let mdt = self.fs.mdts().get(entry.mdt as usize);
        entry.status == RecordStatus::Started
            && mdt.is_some_and(|mdt| mdt.is_up() && mdt.running().all(|r| r.record.cookie != entry.cookie))
    }

    /// Whether a reader hangs because Lustre gave up a cancelled restore: it keeps the layout locked until its coordinator
    /// is shut down, as the model says.
    fn hangs_in_lustre(&self, file: &UserFile) -> bool {
        file.fid.is_some_and(|fid| {
            self.fs.ledger().any(|entry| {
                entry.fid == fid && entry.action == Action::Restore && entry.status == RecordStatus::Canceled
            })
        })
    }

    /// What is not finished, for the report of a failure.
    pub(super) fn outstanding(&self) -> String {
        let mut text = String::new();
        for entry in self.fs.ledger().filter(|entry| !entry.status.is_final()) {
            let _ = writeln!(
                text,
                "MDT{} {:?} {} cookie {:#x}: {:?}, sent {} times",
                entry.mdt,
                entry.action,
                entry.fid,
                entry.cookie,
                entry.status,
                entry.sent.len()
            );
        }
        for file in self.users.iter().filter(|file| file.reading) {
            let _ = writeln!(text, "the reader of {:?} is blocked", file.fid);
        }
        for (number, mover) in self.movers.iter().enumerate() {
            for attempt in mover.attempts.values() {
                let _ = writeln!(text, "mover{number} works on {}", attempt.item.key());
            }
        }
        if let Some(daemon) = &self.daemon {
            let _ = writeln!(text, "daemon: {:?}", daemon.core.counters());
        }
        text
    }

    /// Whether nobody could end a restore well any more, nor know why.
    fn is_bound_unknown(&self, entry: &LedgerEntry) -> bool {
        self.bound_unknown.contains(&crate::hsm::RequestKey { cookie: entry.cookie, fid: entry.fid })
    }

    /// Judges the run by the MDTs' ledger and by what is in the files.
    pub(super) fn judge(&mut self) -> Result<(), String> {
        for entry in self.fs.ledger() {
            self.report.requests += 1;
            let forgotten = self.forgotten.contains(&(entry.mdt, entry.cookie));
            let status = if self.only_times_out(entry) { RecordStatus::Canceled } else { entry.status };
            match status {
                RecordStatus::Succeed => self.report.succeeded += 1,
                RecordStatus::Failed => self.report.failed += 1,
                RecordStatus::Canceled => {
                    let by_user = self.fs.ledger().any(|e| {
                        e.action == Action::Cancel && e.mdt == entry.mdt && e.cookie == entry.cookie
                    });
                    if forgotten {
                        self.report.forgotten_by_mdt += 1;
                        self.report.requested_again += u64::from(self.judge_forgotten(entry)?);
                    } else if by_user || entry.action == Action::Cancel || self.is_bound_unknown(entry) {
                        self.report.cancelled += 1;
                    } else {
                        return Err(format!(
                            "MDT{} {:?} {} cookie {:#x} timed out: nobody worked on it for an hour",
                            entry.mdt, entry.action, entry.fid, entry.cookie
                        ));
                    }
                }
                status => return Err(format!("{} has not ended: {status:?}", entry.fid)),
            }
            self.judge_silence(entry)?;
            if entry.accepted_ends > entry.started.max(1) {
                return Err(format!("{} cookie {:#x} was ended more than once", entry.fid, entry.cookie));
            }
        }
        self.report.unaided += u64::from(self.unaided());
        self.report.hung_in_lustre +=
            self.users.iter().filter(|f| f.reading && self.hangs_in_lustre(f)).count() as u64;
        for file in self.users.iter().filter(|file| !file.retired && !file.reading) {
            if let Some(fid) = file.fid.filter(|fid| self.fs.file(*fid).is_some_and(|f| f.released())) {
                return Err(format!("{fid} is still released although its user wanted to read it"));
            }
        }
        Ok(())
    }
}
