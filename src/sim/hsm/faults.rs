//! What goes wrong, and when it stops.

use lustre_sim::mdt::FsEvent;

use super::operator::Errand;
use super::redis::Loss;
use super::scenario::SECOND;
use super::world::{Owner, Task, World};
use crate::hsm::event::Lock;

impl World {
    /// Something goes wrong.
    pub(super) fn fault(&mut self) -> Result<(), String> {
        if self.calm {
            return Ok(());
        }
        let delay = 1 + self.rng.below(2 * self.scenario.fault_every);
        self.after(delay, Task::Fault);
        match self.rng.below(20) {
            10 => self.pause_mover(),
            16 | 17 => self.lose_redis()?,
            18 | 19 => self.stop_at_renewal = true,
            11 => self.set_clock(),
            12 => self.crash_unsynced = true,
            13 => self.slow_until = self.now + self.habit_rng.between(5, 60) * SECOND,
            // Somebody has it in cron.
            14 | 15 if self.scenario.watch.unaided => self.after(0, Task::Operator(Errand::Status)),
            14 => self.after(0, Task::Operator(Errand::Requeue)),
            15 => {
                // Just when what was queued is acknowledged.
                self.crash_unsynced = true;
                self.after(0, Task::Operator(Errand::Requeue));
            }
            0 => self.end_daemon(false)?,
            1 => self.end_daemon(true)?,
            2 | 3 => {
                let mover = self.rng.below(self.movers.len() as u64) as usize;
                self.crash_mover(mover)?;
            }
            4 | 5 => self.cut_link(),
            6 => self.restart_mdt(),
            7 => self.deliver_twice = true,
            8 => {
                self.after(0, Task::Operator(Errand::Lock(Lock::Locked)));
                let delay = self.rng.below(30 * SECOND);
                self.after(delay, Task::Operator(Errand::Lock(Lock::Unlocked)));
            }
            _ => self.after(0, Task::Operator(Errand::Status)),
        }
        Ok(())
    }

    fn cut_link(&mut self) {
        let links: Vec<_> = self
            .movers
            .iter()
            .enumerate()
            .flat_map(|(n, m)| m.links.values().map(move |link| (n, *link)))
            .collect();
        let Some((mover, link)) = self.rng.pick(&links).copied() else { return };
        self.report.cut_busy += u64::from(self.movers.get(mover).is_some_and(|m| !m.attempts.is_empty()));
        // One side may not notice for a long time.
        let c = self.movers.get(mover).is_some_and(|m| m.plan.c);
        let notice = |rng: &mut crate::sim::rng::Rng| {
            if !c && rng.one_in(3) { rng.below(120 * SECOND) } else { rng.below(SECOND) }
        };
        let (peer, daemon) = (notice(&mut self.rng), notice(&mut self.rng));
        self.note(format_args!("the connection {link:?} of mover{mover} is cut"));
        self.report.late_pieces += self.net.cut(self.now, link, peer, daemon);
    }

    fn restart_mdt(&mut self) {
        let mdt = self.rng.below(u64::from(self.scenario.mdts)) as u32;
        let Some(state) = self.fs.mdts().get(mdt as usize).filter(|m| m.is_up()) else { return };
        let memory: Vec<(u32, u64)> = state.running().map(|r| (mdt, r.record.cookie)).collect();
        self.report.mdt_restart_busy += u64::from(!memory.is_empty());
        self.forgotten.extend(memory);
        self.note(format_args!("MDT{mdt} goes down"));
        self.mdt_event(FsEvent::StopMdt(mdt));
        let delay = self.rng.between(SECOND, 30 * SECOND);
        if self.habit_rng.one_in(2) {
            self.after(delay - SECOND / 1000, Task::StopMovers { mdt });
        }
        self.after(delay, Task::MdtStart { mdt });
    }

    /// From now on nothing goes wrong any more: everything must come to an end.
    pub(super) fn calm_down(&mut self) -> Result<(), String> {
        self.note(format_args!("calm"));
        self.calm = true;
        self.redis_back(Loss::Nothing);
        self.crash_unsynced = false;
        self.stop_at_renewal = false;
        self.lose_host_soon = false;
        self.slow_until = 0;
        self.movers.iter_mut().for_each(|mover| mover.paused_until = 0);
        self.after(0, Task::DaemonStart);
        for mover in 0..self.movers.len() {
            self.after(0, Task::MoverStart { mover });
        }
        if self.scenario.watch.long_lock {
            self.after(5 * SECOND, Task::Operator(Errand::Lock(Lock::Locked)));
        }
        self.after(self.unlock_after(), Task::Operator(Errand::Lock(Lock::Unlocked)));
        if !self.unaided() {
            self.after(45 * SECOND, self.catch_up());
        }
        self.after(50 * SECOND, Task::Orders);
        self.after(SECOND, Task::Space);
        for file in 0..self.users.len() {
            self.after(60 * SECOND, Task::User { file });
        }
        // Movers without leases are silent when all is done.
        self.after(91 * SECOND, Task::Operator(Errand::Status));
        // Half-open connections of the past are noticed by keepalive.
        let links: Vec<_> = self.link_owner.iter().map(|(link, owner)| (*link, *owner)).collect();
        for (link, owner) in links {
            let stale = match owner {
                Owner::Mover { mover, life, .. } => !self.lives(mover, life),
                Owner::Operator => false,
            };
            if stale {
                self.net.cut(self.now, link, SECOND, SECOND);
            }
        }
        Ok(())
    }
}
