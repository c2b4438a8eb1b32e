//! The oracle for rules that save data: what may be given to movers, and what movers may do to the back end.

use lustre_sim::mdt::{LedgerEntry, mdt_index_of};
use lustreapi_sys::Fid;
use lustreapi_sys::abi::HS_DIRTY;

use super::scenario::SECOND;
use super::world::{Then, World};
use crate::hsm::{Action, ActionItem, Counters};

/// How old the daemon's knowledge of a file may be when it gives out a REMOVE, in nanoseconds: as documented.
const FRESH: u64 = 10 * SECOND;

impl World {
    /// What a life of the daemon came to.
    pub(super) fn count(&mut self, counters: &Counters) {
        self.report.refused_removes += counters.refused_removes;
        self.report.needless_archives += counters.needless_archives;
        self.report.late_deliveries += counters.late_deliveries;
        self.report.unbound += counters.unbound;
        self.report.retried += counters.retried;
        self.report.quarantines += counters.quarantines;
        self.report.limited += counters.limited;
    }

    /// The daemon has decided to give a request to a mover.
    pub(super) fn given(&mut self, item: &ActionItem) -> Result<(), String> {
        self.given_at.insert(item.key(), self.now);
        self.not_ended(item)?;
        if item.action == Action::Remove
            && let Some(since) = self.released_since(item.fid)
            && since + FRESH < self.now
        {
            let seconds = (self.now - since) / SECOND;
            return Err(format!(
                "REMOVE {} is given out, and the file was released {seconds} s ago",
                item.key()
            ));
        }
        Ok(())
    }

    /// What movers have ended and the MDT has taken must not be begun again; a restore would only be in vain.
    fn not_ended(&self, item: &ActionItem) -> Result<(), String> {
        let told = self.daemon.as_ref().is_some_and(|d| d.done.contains(&(item.cookie, item.fid)));
        if !told || item.action == Action::Restore {
            return Ok(());
        }
        let action = super::copytool::mdt_action(item.action);
        // The last one: an MDT that starts with an empty log may use a cookie again. What the MDT ended by itself, as it had
        // taken a cancel, is not known here before the cancel comes.
        let same = |e: &&LedgerEntry| e.fid == item.fid && e.cookie == item.cookie && e.action == action;
        let last = self.fs.ledger().filter(same).last();
        if last.is_some_and(|entry| entry.status.is_final() && entry.accepted_ends > 0) {
            return Err(format!("{} {} is given out after its end", item.action, item.key()));
        }
        Ok(())
    }

    fn released_since(&self, fid: Fid) -> Option<u64> {
        let released = self.fs.file(fid).is_some_and(|file| file.released());
        self.released_at.get(&fid).copied().filter(|_| released)
    }

    /// A mover removes the copy of a file. A release between the daemon's question and this moment cannot be kept out by
    /// anybody but Lustre, which does not look at requests when it releases.
    pub(super) fn removing(&mut self, item: &ActionItem) -> Result<(), String> {
        if let Some(since) = self.released_since(item.fid) {
            let given = self.given_at.get(&item.key()).copied().unwrap_or(0);
            if since + FRESH < given {
                return Err(format!("REMOVE {} destroys the only copy", item.key()));
            }
            self.lost_to_a_release(item.fid);
        }
        self.removed.insert(item.fid);
        Ok(())
    }

    /// The daemon ends a request: with success only a REMOVE that a mover has carried out.
    pub(super) fn may_end(&mut self, item: &ActionItem, errno: i32) -> Result<(), String> {
        if errno != 0 {
            return Ok(());
        }
        self.report.removes_told += 1;
        if item.action != Action::Remove {
            return Err(format!("the daemon ends {} {} with success", item.action, item.key()));
        }
        if self.backend.contains_key(&item.fid) {
            return Err(format!("the daemon ends REMOVE {} with success, and its copy is there", item.key()));
        }
        Ok(())
    }

    /// The MDT has answered an end: the error of an ARCHIVE makes an archived file dirty, and one that is released as well
    /// cannot be restored any more. Movers may do that, the daemon must not.
    pub(super) fn look_at_end(&mut self, then: &Then) -> Result<(), String> {
        let (fid, by_daemon) = match then {
            Then::DaemonEnd { key, .. } => (key.fid, true),
            Then::Ended { mover, attempt, .. } => {
                let attempt = self.movers.get(*mover).and_then(|m| m.attempts.get(attempt));
                let Some(attempt) = attempt else { return Ok(()) };
                (attempt.item.fid, false)
            }
            Then::CancelEnded { item, .. } => (item.fid, false),
            Then::OrphanEnded { key, .. } => (key.fid, false),
            _ => return Ok(()),
        };
        let Some(file) = self.fs.file(fid) else { return Ok(()) };
        if !file.has(HS_DIRTY) || !file.released() || !self.locked.insert(fid) {
            return Ok(());
        }
        if by_daemon {
            return Err(format!("the daemon's end made {fid} dirty, which is released"));
        }
        self.report.locked_by_lustre += 1;
        for file in self.users.iter_mut().filter(|file| file.fid == Some(fid)) {
            file.retired = true;
        }
        Ok(())
    }

    /// A restore that is bound to another mover's volatile file can never be ended well.
    ///
    /// An MDT that restarts may use cookies again. A question about the request that had the cookie before binds a restore
    /// that has it now to the wrong file, before the MDT looks whether that is its file at all: nobody can know.
    pub(super) fn not_bound(&mut self, mover: usize, item: &ActionItem) -> Result<(), String> {
        if item.action != Action::Restore {
            return Ok(());
        }
        let mdt = mdt_index_of(item.fid).and_then(|index| self.fs.mdts().get(index as usize));
        let record = mdt.and_then(|mdt| mdt.running().find(|r| r.record.cookie == item.cookie));
        match record {
            Some(running)
                if self.fs.ledger().any(|e| {
                    e.cookie == item.cookie && e.fid != item.fid && e.fid == running.record.dfid
                }) =>
            {
                self.report.bound_by_reuse += 1;
                Ok(())
            }
            // The daemon has forgotten that another had it, who knows no leases, and `actions` does not show data FIDs.
            Some(running)
                if running.record.dfid != item.fid
                    && (self.scenario.redis && self.given_up.contains(&item.key())
                        || !self.scenario.store && self.boots > 1) =>
            {
                self.bound_unknown.insert(item.key());
                Ok(())
            }
            Some(running) if running.record.dfid != item.fid => {
                Err(format!("mover{mover} begins RESTORE {}, which is bound to another mover", item.key()))
            }
            _ => Ok(()),
        }
    }

    /// A user released a file in the very moment in which its copy was removed: nobody can read it any more.
    pub(super) fn lost_to_a_release(&mut self, fid: Fid) {
        self.note(format_args!("{fid} is lost: it was released while its copy was removed"));
        self.report.lost_to_releases += 1;
        for file in self.users.iter_mut().filter(|file| file.fid == Some(fid)) {
            file.retired = true;
        }
    }
}
