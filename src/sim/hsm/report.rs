//! What a run did: proof that the faults hit something.

use std::fmt;

/// Counts of one run, or of many.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Hash of everything that happened, in order.
    pub fingerprint: u64,
    /// Events handled by all machines.
    pub events: u64,
    /// Virtual seconds.
    pub seconds: u64,
    /// Requests that the MDTs logged.
    pub requests: u64,
    /// Of these, ended well.
    pub succeeded: u64,
    /// Of these, ended by an error.
    pub failed: u64,
    /// Of these, cancelled.
    pub cancelled: u64,
    /// Of these, forgotten by a restarted MDT and never ended by a mover: what the MDT itself gives up.
    pub forgotten_by_mdt: u64,
    /// Readers that Lustre leaves hanging after a cancelled restore.
    pub hung_in_lustre: u64,
    /// Readers that were blocked and got their data.
    pub readers: u64,
    /// Crashes of the daemon while requests were queued.
    pub crash_with_queued: u64,
    /// Crashes of the daemon while requests were running.
    pub crash_with_running: u64,
    /// Crashes of the daemon while changes waited for the disk.
    pub crash_with_unsynced: u64,
    /// Clean stops of the daemon while requests were queued or running.
    pub stop_with_work: u64,
    /// Frames that died in the pipe with the daemon.
    pub frames_lost: u64,
    /// Crashes of movers while they ran something.
    pub mover_crash_busy: u64,
    /// Movers that came back and claimed work.
    pub claims: u64,
    /// Connections cut while a mover held work.
    pub cut_busy: u64,
    /// Leases that lapsed while work ran.
    pub lease_lapsed: u64,
    /// Attempts stopped without telling the MDT.
    pub fenced: u64,
    /// Lists that the MDT delivered twice.
    pub delivered_twice: u64,
    /// Restarts of an MDT while it had requests in memory.
    pub mdt_restart_busy: u64,
    /// Cancels asked for.
    pub cancels: u64,
    /// Files changed while they were being archived.
    pub changed_while_archived: u64,
    /// Requests queued by the operator from `active_requests`.
    pub requeued: u64,
    /// Statuses read.
    pub statuses: u64,
    /// REMOVEs that the daemon refused because their file was released since.
    pub refused_removes: u64,
    /// Files released in the moment in which their copy was removed.
    pub lost_to_releases: u64,
    /// Files whose data Lustre locked away after a failed archive.
    pub locked_by_lustre: u64,
    /// ARCHIVEs that the daemon did not repeat.
    pub needless_archives: u64,
    /// Restores that the daemon ended because they were bound to a mover that was gone.
    pub unbound: u64,
    /// Requests that the daemon dropped because they came again after their end.
    pub late_deliveries: u64,
    /// Orders of operators.
    pub orders: u64,
    /// Requests that operators cancelled.
    pub cancelled_by_operator: u64,
    /// Failed requests that operators wanted tried again or forgotten.
    pub letters: u64,
    /// Copies that failed for their mover's sake.
    pub sick: u64,
    /// Failed requests that the daemon had the MDT take again.
    pub retried: u64,
    /// Movers put into quarantine.
    pub quarantines: u64,
    /// Requests set aside for a limit.
    pub limited: u64,
    /// Times that the daemon compared with what the MDTs list.
    pub compared: u64,
    /// Requests that were adopted from a list.
    pub adopted: u64,
    /// Requests that a restarted MDT had forgotten and that were requested again.
    pub requested_again: u64,
    /// REMOVEs that the daemon ended with success because a mover had removed the copy before.
    pub removes_told: u64,
}

impl Report {
    fn rows(&self) -> [(&'static str, u64, bool); 42] {
        // Name, count, and whether a zero over many seeds means that the simulator does not do its job.
        [
            ("events", self.events, true),
            ("virtual seconds", self.seconds, true),
            ("requests", self.requests, true),
            ("  succeeded", self.succeeded, true),
            ("  failed", self.failed, true),
            ("  cancelled", self.cancelled, true),
            ("  forgotten by a restarted MDT", self.forgotten_by_mdt, true),
            ("readers hung by a cancelled restore", self.hung_in_lustre, false),
            ("readers served", self.readers, true),
            ("daemon crashes with queued requests", self.crash_with_queued, true),
            ("daemon crashes with running requests", self.crash_with_running, true),
            ("daemon crashes with unsynced changes", self.crash_with_unsynced, true),
            ("clean stops with work", self.stop_with_work, true),
            ("frames lost in the pipe", self.frames_lost, true),
            ("mover crashes with work", self.mover_crash_busy, true),
            ("claims after a reconnect", self.claims, true),
            ("connections cut with work", self.cut_busy, true),
            ("leases lapsed with work", self.lease_lapsed, true),
            ("attempts fenced", self.fenced, true),
            ("lists delivered twice", self.delivered_twice, true),
            ("MDT restarts with requests", self.mdt_restart_busy, true),
            ("cancels", self.cancels, true),
            ("files changed while archived", self.changed_while_archived, true),
            ("requests queued by the operator", self.requeued, true),
            ("statuses read", self.statuses, true),
            ("removes refused for a release", self.refused_removes, true),
            ("files lost to a release in the remove", self.lost_to_releases, false),
            ("files locked by a failed archive", self.locked_by_lustre, false),
            ("archives not repeated", self.needless_archives, true),
            ("bound restores requested again", self.unbound, true),
            ("late deliveries dropped", self.late_deliveries, true),
            ("orders of operators", self.orders, true),
            ("requests cancelled by operators", self.cancelled_by_operator, true),
            ("failed requests ordered back or away", self.letters, true),
            ("copies failed by a sick mover", self.sick, true),
            ("failed requests taken again", self.retried, true),
            ("movers put into quarantine", self.quarantines, true),
            ("requests set aside for a limit", self.limited, true),
            ("comparisons with the MDTs", self.compared, true),
            ("requests adopted from a list", self.adopted, true),
            ("forgotten requests requested again", self.requested_again, true),
            ("removes ended without a mover", self.removes_told, true),
        ]
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Report) {
        let Report {
            fingerprint,
            events,
            seconds,
            requests,
            succeeded,
            failed,
            cancelled,
            forgotten_by_mdt,
            hung_in_lustre,
            readers,
            crash_with_queued,
            crash_with_running,
            crash_with_unsynced,
            stop_with_work,
            frames_lost,
            mover_crash_busy,
            claims,
            cut_busy,
            lease_lapsed,
            fenced,
            delivered_twice,
            mdt_restart_busy,
            cancels,
            changed_while_archived,
            requeued,
            statuses,
            refused_removes,
            lost_to_releases,
            locked_by_lustre,
            needless_archives,
            late_deliveries,
            unbound,
            orders,
            cancelled_by_operator,
            letters,
            sick,
            retried,
            quarantines,
            limited,
            compared,
            adopted,
            requested_again,
            removes_told,
        } = other;
        self.fingerprint ^= fingerprint.rotate_left((self.requests % 64) as u32);
        self.events += events;
        self.seconds += seconds;
        self.requests += requests;
        self.succeeded += succeeded;
        self.failed += failed;
        self.cancelled += cancelled;
        self.forgotten_by_mdt += forgotten_by_mdt;
        self.hung_in_lustre += hung_in_lustre;
        self.readers += readers;
        self.crash_with_queued += crash_with_queued;
        self.crash_with_running += crash_with_running;
        self.crash_with_unsynced += crash_with_unsynced;
        self.stop_with_work += stop_with_work;
        self.frames_lost += frames_lost;
        self.mover_crash_busy += mover_crash_busy;
        self.claims += claims;
        self.cut_busy += cut_busy;
        self.lease_lapsed += lease_lapsed;
        self.fenced += fenced;
        self.delivered_twice += delivered_twice;
        self.mdt_restart_busy += mdt_restart_busy;
        self.cancels += cancels;
        self.changed_while_archived += changed_while_archived;
        self.requeued += requeued;
        self.statuses += statuses;
        self.refused_removes += refused_removes;
        self.lost_to_releases += lost_to_releases;
        self.locked_by_lustre += locked_by_lustre;
        self.needless_archives += needless_archives;
        self.unbound += unbound;
        self.late_deliveries += late_deliveries;
        self.orders += orders;
        self.cancelled_by_operator += cancelled_by_operator;
        self.letters += letters;
        self.sick += sick;
        self.retried += retried;
        self.quarantines += quarantines;
        self.limited += limited;
        self.compared += compared;
        self.adopted += adopted;
        self.requested_again += requested_again;
        self.removes_told += removes_told;
    }

    /// Rows that stayed at zero although many runs should have moved them.
    pub fn faults_without_effect(&self) -> Vec<&'static str> {
        self.rows()
            .into_iter()
            .filter(|(_, n, must)| *must && *n == 0)
            .map(|(name, ..)| name.trim())
            .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count, _) in self.rows() {
            writeln!(f, "{name:<40}{count:>14}")?;
        }
        writeln!(f, "{:<40}{:>#14x}", "fingerprint", self.fingerprint)
    }
}
