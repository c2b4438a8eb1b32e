//! What a run did: proof that the faults hit something.

use std::fmt;

/// Makes the report of fields, each with the name of its row and whether a zero over many seeds means that the simulator does
/// not do its job.
macro_rules! report {
    ($($(#[$doc:meta])* $field:ident: $name:literal, $must:literal;)*) => {
        /// Counts of one run, or of many.
        #[derive(Debug, Clone, Default)]
        pub struct Report {
            /// Hash of everything that happened, in order.
            pub fingerprint: u64,
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Report {
            fn rows(&self) -> Vec<(&'static str, u64, bool)> {
                vec![$(($name, self.$field, $must),)*]
            }

            /// Adds the counts of another run.
            pub fn add(&mut self, other: &Report) {
                self.fingerprint ^= other.fingerprint.rotate_left((self.requests % 64) as u32);
                $(self.$field += other.$field;)*
            }
        }
    };
}

report! {
    /// Events handled by all machines.
    events: "events", true;
    /// Virtual seconds.
    seconds: "virtual seconds", true;
    /// Requests that the MDTs logged.
    requests: "requests", true;
    /// Of these, ended well.
    succeeded: "  succeeded", true;
    /// Of these, ended by an error.
    failed: "  failed", true;
    /// Of these, cancelled.
    cancelled: "  cancelled", true;
    /// Of these, forgotten by a restarted MDT and never ended by a mover: what the MDT itself gives up.
    forgotten_by_mdt: "  forgotten by a restarted MDT", true;
    /// Readers that Lustre leaves hanging after a cancelled restore.
    hung_in_lustre: "readers hung by a cancelled restore", false;
    /// Readers that were blocked and got their data.
    readers: "readers served", true;
    /// Crashes of the daemon while requests were queued.
    crash_with_queued: "daemon crashes with queued requests", true;
    /// Crashes of the daemon while requests were running.
    crash_with_running: "daemon crashes with running requests", true;
    /// Crashes of the daemon while changes waited for the disk.
    crash_with_unsynced: "daemon crashes with unsynced changes", true;
    /// Clean stops of the daemon while requests were queued or running.
    stop_with_work: "clean stops with work", true;
    /// Frames that died in the pipe with the daemon.
    frames_lost: "frames lost in the pipe", true;
    /// Crashes of movers while they ran something.
    mover_crash_busy: "mover crashes with work", true;
    /// Movers that came back and claimed work.
    claims: "claims after a reconnect", true;
    /// Connections cut while a mover held work.
    cut_busy: "connections cut with work", true;
    /// Leases that lapsed while work ran.
    lease_lapsed: "leases lapsed with work", true;
    /// Attempts stopped without telling the MDT.
    fenced: "attempts fenced", true;
    /// Lists that the MDT delivered twice.
    delivered_twice: "lists delivered twice", true;
    /// Restarts of an MDT while it had requests in memory.
    mdt_restart_busy: "MDT restarts with requests", true;
    /// Cancels asked for.
    cancels: "cancels", true;
    /// Files changed while they were being archived.
    changed_while_archived: "files changed while archived", true;
    /// Requests queued by the operator from `active_requests`.
    requeued: "requests queued by the operator", true;
    /// Statuses read.
    statuses: "statuses read", true;
    /// REMOVEs that the daemon refused because their file was released since.
    refused_removes: "removes refused for a release", true;
    /// Files released in the moment in which their copy was removed.
    lost_to_releases: "files lost to a release in the remove", false;
    /// Files whose data Lustre locked away after a failed archive.
    locked_by_lustre: "files locked by a failed archive", false;
    /// ARCHIVEs that the daemon did not repeat.
    needless_archives: "archives not repeated", true;
    /// Restores that the daemon ended because they were bound to a mover that was gone.
    unbound: "bound restores requested again", true;
    /// Requests that the daemon dropped because they came again after their end.
    late_deliveries: "late deliveries dropped", true;
    /// Orders of operators.
    orders: "orders of operators", true;
    /// Requests that operators cancelled.
    cancelled_by_operator: "requests cancelled by operators", true;
    /// Failed requests that operators wanted tried again or forgotten.
    letters: "failed requests ordered back or away", true;
    /// Copies that failed for their mover's sake.
    sick: "copies failed by a sick mover", true;
    /// Failed requests that the daemon had the MDT take again.
    retried: "failed requests taken again", true;
    /// Movers put into quarantine.
    quarantines: "movers put into quarantine", true;
    /// Requests set aside for a limit.
    limited: "requests set aside for a limit", true;
    /// Times that the daemon compared with what the MDTs list.
    compared: "comparisons with the MDTs", true;
    /// Requests that were adopted from a list.
    adopted: "requests adopted from a list", true;
    /// Requests that a restarted MDT had forgotten and that were requested again.
    requested_again: "forgotten requests requested again", true;
    /// REMOVEs that the daemon ended with success because a mover had removed the copy before.
    removes_told: "removes ended without a mover", true;
    /// Requests whose queueing was acknowledged to an operator.
    acknowledged: "requests acknowledged to operators", true;
    /// Requests that somebody had seen and that were there after a crash or a stop of the daemon.
    kept_over_crashes: "seen requests kept over restarts", true;
    /// Pieces of messages that arrived late on a broken connection.
    late_pieces: "pieces that came late on a broken link", true;
    /// Questions that an MDT answered late.
    slow_answers: "slow answers of an MDT", true;
    /// Movers that were stopped for a while with work, as by SIGSTOP.
    paused: "movers paused with work", true;
    /// Movers that were stopped when they had asked for their lease, until it was over.
    paused_at_renewal: "movers stopped at a renewal", true;
    /// Movers that were stopped with work of an MDT while it came up again.
    paused_over_restart: "movers stopped over an MDT's start", true;
    /// Runs in which nobody made up for what the daemon might have lost.
    unaided: "runs without help", true;
    /// Copies whose copytool died and that went on in a child.
    orphans: "copies that went on without a copytool", true;
    /// Their ends that an MDT took and that no daemon heard of.
    orphan_ends: "  ended at the MDT", true;
    /// Copies that hung for minutes.
    hung: "copies that hung for minutes", true;
    /// Restores that a copytool worked on at the wrong MDT.
    strayed: "restores at the wrong MDT", true;
    /// Archives that were blocked reading a released file.
    blocked_archives: "archives blocked by a released file", true;
    /// Ends that movers of the C version never reported.
    ends_unsaid: "ends that a C mover did not report", true;
    /// Jumps of the daemon's wall clock.
    clock_jumps: "jumps of the wall clock", true;
    /// Requests that nobody had seen yet and that a crash found not durable.
    lost_unseen: "crashes that lost what nobody had seen", true;
    /// Ends of its own that the MDTs had not taken when the daemon was gone: the next one gives them.
    ends_left: "ends left to the next daemon", true;
    /// Of the calls for ends, those that died with the daemon before their MDT had them.
    ends_died: "  of which no MDT heard", true;
    /// Restores that a question about an earlier request of the same cookie had bound.
    bound_by_reuse: "restores bound by a cookie used again", false;
    /// Outages of redis while it held requests.
    redis_away: "outages of redis with requests", true;
    /// Times that redis came back older, with requests.
    redis_older: "redis servers that came back older", true;
    /// Times that redis came back empty, with requests.
    redis_emptied: "redis servers that came back empty", true;
    /// Daemons that were gone before redis had everything.
    behind_at_end: "daemons gone before redis had all", true;
    /// Hosts of daemon and redis that lost their power with running requests.
    hosts_lost: "hosts of redis and daemon lost", true;
    /// Times that redis and the daemon had both lost something.
    redis_lost: "daemons that found redis robbed", true;
    /// Files whose owners were looked up.
    looked_up: "files looked up for their owners", true;
    /// Requests whose tapes a locator named.
    located: "requests located on tapes", true;
    /// Questions that the locator could not answer.
    locator_failures: "failures of the locator", true;
}

impl Report {
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
