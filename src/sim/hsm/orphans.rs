//! Copytools that fork: when one dies, its children go on until the lease lapses that it had, and nobody tells the daemon of
//! the ends that the MDT takes from them.
//!
//! A new process of the same name may be there long before that, and claims nothing: the daemon then gives the work to
//! others. What two do at the same time is not held against anybody; what comes of it is.

use lustre_sim::mdt::{self, Call, ClientId, Extent, Progress};

use super::copytool::end_of;
use super::mover::Attempt;
use super::world::{Task, Then, World};
use crate::hsm::{Action, Mono};
use crate::sim::rng::Rng;

const EBUSY: i32 = 16;

/// A child whose parent is dead.
#[derive(Debug)]
pub(super) struct Orphan {
    client: ClientId,
    attempt: Attempt,
    /// Until when its lease holds, in nanoseconds.
    until: u64,
    /// Longest time of one of its steps, in nanoseconds.
    step: u64,
    progress: bool,
}

/// Which movers fork.
pub(super) fn draw(seed: u64, movers: &mut [super::scenario::MoverPlan]) {
    let mut rng = Rng::stream(seed, "forks");
    for mover in movers {
        // Children of the C version's library have no lease that would stop them.
        mover.forks = rng.one_in(3) && !mover.c;
    }
}

impl World {
    /// A mover's process has died. Returns whether children of it go on.
    pub(super) fn leave_children(&mut self, mover: usize) -> bool {
        let now = self.clock().mono;
        let Some(state) = self.movers.get(mover).filter(|state| state.plan.forks) else { return false };
        let lease = state.shim.as_ref().and_then(|shim| shim.lease_until());
        let Some(Mono(until)) = lease.filter(|until| *until > now) else { return false };
        let (client, step, progress) = (state.client, state.plan.step, state.plan.progress);
        let begun = state.attempts.values().filter(|a| a.begun && !a.dead && !a.cancel_acked);
        let begun: Vec<Attempt> = begun.cloned().collect();
        let any = !begun.is_empty();
        for attempt in begun {
            self.report.orphans += 1;
            self.last_orphan += 1;
            let number = self.last_orphan;
            self.note(format_args!("mover{mover}: a child goes on with {}", attempt.item.key()));
            self.orphans.insert(number, Orphan { client, attempt, until, step, progress });
            self.orphan_later(number);
        }
        any
    }

    fn orphan_later(&mut self, number: u64) {
        let Some(orphan) = self.orphans.get(&number) else { return };
        let delay = 1 + self.habit_rng.below(orphan.step);
        self.after(delay, Task::Orphan { number });
    }

    /// A child without a parent goes on.
    pub(super) fn orphan_step(&mut self, number: u64) -> Result<(), String> {
        let now = self.now;
        let Some(orphan) = self.orphans.get_mut(&number) else { return Ok(()) };
        let item = orphan.attempt.item.clone();
        let (client, volatile) = (orphan.client, orphan.attempt.volatile);
        let restores_nowhere = item.action == Action::Restore && volatile.is_none();
        if now < orphan.until && !restores_nowhere && orphan.attempt.error == 0 && orphan.attempt.steps > 1 {
            orphan.attempt.steps -= 1;
            if orphan.progress && item.action != Action::Remove {
                let extent = Extent { offset: orphan.attempt.steps * 10, length: 10 };
                let report = Progress { extent, ..Progress::keepalive(item.fid, item.cookie) };
                self.call(client, Call::Progress(report), Then::Nobody);
            }
            self.orphan_later(number);
            return Ok(());
        }
        let Some(Orphan { mut attempt, until, .. }) = self.orphans.remove(&number) else { return Ok(()) };
        // Who cannot read its file stays there until somebody kills it.
        let blocked = item.action == Action::Archive && self.blocks_archive(item.fid);
        if now < until && !restores_nowhere && !blocked {
            if attempt.error == 0 {
                attempt.error = self.copy(&attempt)?;
            }
            let fid = volatile.filter(|_| attempt.error == 0).unwrap_or(item.fid);
            let end = end_of(&item, fid, attempt.error, attempt.data_version);
            self.note(format_args!("a child ends {} with {}", item.key(), attempt.error));
            let failed = attempt.error != 0;
            self.call(client, Call::CopyEnd(end), Then::OrphanEnded { key: item.key(), failed });
        }
        if let Some(fid) = volatile {
            // After the end, which takes at most as long.
            self.after(
                super::scenario::SECOND,
                Task::Call { client, call: Call::Close { fid }, then: Then::Nobody },
            );
        }
        Ok(())
    }

    /// The MDT has answered the end of a child without a parent.
    pub(super) fn orphan_ended(
        &mut self,
        key: crate::hsm::RequestKey,
        failed: bool,
        result: &Result<mdt::Answer, mdt::Errno>,
    ) {
        let errno = result.as_ref().err().map_or(0, |errno| i32::from(errno.0));
        self.report.orphan_ends += u64::from(errno == 0);
        if failed || errno == EBUSY {
            self.given_up.insert(key);
        }
    }
}
