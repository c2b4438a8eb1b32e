//! What happens to the redis server of a run.
//!
//! All of it has a random stream of its own.

use std::time::Duration;

use super::daemon::Daemon;
use super::redis::{Left, Loss, Redis};
use super::scenario::{SECOND, Scenario};
use super::world::{Task, World};
use crate::hsm::RequestKey;
use crate::sim::rng::Rng;

/// Draws this part of a run.
pub(super) fn draw(seed: u64, scenario: &mut Scenario) {
    let mut rng = Rng::stream(seed, "outages");
    scenario.redis = scenario.store && rng.one_in(3);
    if scenario.redis {
        // Longer than movers take to come back.
        scenario.config.settle = Duration::from_secs(12);
    }
}

impl World {
    /// The server, wherever it is.
    fn redis(&mut self) -> Option<&mut Redis> {
        match (&mut self.daemon, &mut self.redis) {
            (Some(daemon), _) => daemon.redis(),
            (None, redis) => redis.as_deref_mut(),
        }
    }

    /// What a daemon leaves behind.
    pub(super) fn keep(&mut self, left: Option<Left>) {
        match left {
            Some(Left::Disk(disk)) => self.disk = disk,
            Some(Left::Redis(redis)) => self.redis = Some(redis),
            None => {}
        }
    }

    /// A mover got a request. If the server's disk has the request and not that it was given out, this may be the moment in
    /// which its host loses its power.
    pub(super) fn lose_host_after(&mut self, key: RequestKey) {
        if self.lose_host_soon && self.redis().is_some_and(|redis| redis.has_only_request(&key)) {
            self.lose_host_soon = false;
            let delay = self.outage_rng.below(SECOND / 2);
            self.after(delay, Task::LoseHost);
        }
    }

    /// The host of both the daemon and the server loses its power: what the server had not synced is gone, and nobody is left
    /// who could write it again.
    pub(super) fn lose_host(&mut self) -> Result<(), String> {
        if self.calm {
            return Ok(());
        }
        let Some(redis) = self.redis().filter(|redis| !redis.is_down()) else { return Ok(()) };
        redis.stop();
        let running = self.daemon.as_ref().is_some_and(|d| d.core.counters().running.iter().any(|n| *n > 0));
        self.report.hosts_lost += u64::from(running);
        self.note(format_args!("redis: down, with its host"));
        let delay = self.outage_rng.below(3 * SECOND);
        self.after(delay, Task::RedisBack { loss: Loss::Unsynced });
        self.end_daemon(false)
    }

    /// The server goes away, and comes back in some state.
    pub(super) fn lose_redis(&mut self) -> Result<(), String> {
        if self.outage_rng.one_in(3) {
            self.lose_host_soon = true;
            return Ok(());
        }
        let loss = *self
            .outage_rng
            .pick(&[Loss::Nothing, Loss::Nothing, Loss::Unsynced, Loss::Older, Loss::Everything])
            .unwrap_or(&Loss::Nothing);
        let minutes = self.outage_rng.one_in(4);
        let delay = self.outage_rng.below(if minutes { 180 * SECOND } else { 5 * SECOND });
        let Some(redis) = self.redis().filter(|redis| !redis.is_down()) else { return Ok(()) };
        redis.stop();
        let work = self.daemon.as_ref().is_some_and(|daemon| daemon.stored() > 0);
        self.report.redis_away += u64::from(work);
        self.note(format_args!("redis: down"));
        self.after(delay, Task::RedisBack { loss });
        Ok(())
    }

    /// The server is back.
    pub(super) fn redis_back(&mut self, loss: Loss) {
        let work = self.daemon.as_ref().is_some_and(|daemon| daemon.stored() > 0);
        let Some(redis) = self.redis().filter(|redis| redis.is_down()) else { return };
        redis.come_back(loss);
        match loss {
            Loss::Nothing => {}
            Loss::Everything => self.report.redis_emptied += u64::from(work),
            Loss::Unsynced | Loss::Older => self.report.redis_older += u64::from(work),
        }
        self.note(format_args!("redis: back, {loss:?} lost"));
    }

    /// The store is looked after.
    pub(super) fn tend_redis(&mut self) -> Result<(), String> {
        if let Some(redis) = self.redis() {
            redis.sync_disk();
        }
        if self.outage_rng.one_in(20)
            && let Some(redis) = self.redis()
        {
            redis.make_copy();
        }
        let behind = match &mut self.daemon {
            Some(daemon) => daemon.tend()?,
            None => false,
        };
        let delay = if behind { SECOND / 5 } else { 2 * SECOND };
        self.after(delay, Task::Tend);
        Ok(())
    }

    /// Counts a daemon that is gone while its server did not have everything.
    pub(super) fn redis_gone_with_work(&mut self, daemon: &mut Daemon) {
        self.report.behind_at_end += u64::from(daemon.redis().is_some_and(|redis| redis.is_behind()));
    }

    /// Server and daemon were gone at the same time: what both forgot nobody knows.
    pub(super) fn forget_with_redis(&mut self) {
        self.report.redis_lost += 1;
        self.note(format_args!("redis: what it had lost is lost"));
        let keys = std::mem::take(&mut self.promised.keys);
        self.given_up.extend(keys);
        let known: Vec<_> =
            self.fs.ledger().filter(|e| !e.status.is_final()).map(|e| (e.cookie, e.fid)).collect();
        self.given_up.extend(known.into_iter().map(|(cookie, fid)| RequestKey { cookie, fid }));
        self.amnesia = self.boots;
    }
}
