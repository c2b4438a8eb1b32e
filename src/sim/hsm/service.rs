//! The daemon as a service in the world: it starts, registers, stops, crashes, and comes back.

use lustre_sim::mdt::{self, Call};

use super::copytool::mdt_action;
use super::daemon::{Daemon, Wish};
use super::redis::{Keeper, Redis};
use super::scenario::SECOND;
use super::world::{DAEMON, Task, Then, World};
use crate::hsm::{Action, FileState, LustreAnswer, LustreCall};
use crate::sim::network::{End, LinkId};
use crate::store::embedded::EmbeddedStore;
use crate::store::journal::JournalOptions;
use crate::store::memory_disk::Crash;

const ENOSYS: i32 = 38;
const EALREADY: i32 = 114;
const ECANCELED: i32 = 125;

/// What the daemon asks, as the MDTs understand it.
fn mdt_call(call: &LustreCall) -> Call {
    match call {
        LustreCall::KeepAlive { key, .. } => Call::Progress(mdt::Progress::keepalive(key.fid, key.cookie)),
        LustreCall::State { key, .. } => Call::StateGet { fid: key.fid },
        LustreCall::Request { item, .. } => {
            let extent = mdt::Extent { offset: item.extent_offset, length: item.extent_length };
            Call::Request(mdt::UserRequest {
                action: mdt_action(item.action),
                archive_id: item.archive_id,
                flags: item.flags,
                items: vec![(item.fid, extent)],
                data: item.data.to_vec(),
            })
        }
    }
}

/// What the MDTs say, as the daemon understands it.
pub(super) fn answer_of(call: &LustreCall, result: Result<mdt::Answer, mdt::Errno>) -> LustreAnswer {
    match (call, result) {
        (call, Err(errno)) => call.answer(i32::from(errno.0)),
        (LustreCall::State { key, number }, Ok(mdt::Answer::State(state))) => {
            let state = FileState { states: state.flags, archive_id: state.archive_id };
            LustreAnswer::State { key: *key, number: *number, state: Ok(state) }
        }
        (call, Ok(_)) => call.answer(0),
    }
}

impl World {
    pub(super) fn daemon_wish(&mut self, wish: Wish) -> Result<(), String> {
        match wish {
            Wish::Send(link, bytes) => self.net.send(self.now, link, End::Daemon, &bytes),
            Wish::Close(link) => {
                self.net.close(self.now, link, End::Daemon);
                let clock = self.clock();
                if let Some(daemon) = &mut self.daemon {
                    daemon.gone(clock, link)?;
                }
            }
            Wish::Probe(link) => {
                if let Some(boot) = self.daemon.as_ref().map(|d| d.boot) {
                    let delay = self.rng.below(3 * SECOND);
                    self.after(delay, Task::Probed { boot, link });
                }
            }
            Wish::EndAtLustre(item, errno) => {
                let Some(boot) = self.daemon.as_ref().map(|d| d.boot) else { return Ok(()) };
                self.may_end(&item, errno)?;
                // Cancelled by whomever; EALREADY where an error would harm the file, ENOSYS where the MDT would take a cancel
                // that it knows nothing of for a success.
                let refused = item.action == Action::Remove && self.released_at.contains_key(&item.fid);
                if matches!(errno, ECANCELED | EALREADY | ENOSYS) || refused {
                    self.given_up.insert(item.key());
                }
                let end = super::copytool::end_of(&item, item.fid, errno, 0);
                let mut delay = self.rng.below(2_000_000);
                if self.now < self.slow_until {
                    delay += self.habit_rng.below(40 * SECOND);
                }
                let then = Then::DaemonEnd { boot, key: item.key() };
                self.after(delay, Task::Call { client: DAEMON, call: Call::CopyEnd(end), then });
            }
            Wish::AskLustre(call) => {
                let Some(boot) = self.daemon.as_ref().map(|d| d.boot) else { return Ok(()) };
                self.call(DAEMON, mdt_call(&call), Then::DaemonAsk { boot, call });
            }
            Wish::LookUp(keys, wanted) => {
                let Some(boot) = self.daemon.as_ref().map(|d| d.boot) else { return Ok(()) };
                self.look_up(boot, keys, wanted);
            }
            Wish::Locate(sought) => {
                let Some(boot) = self.daemon.as_ref().map(|d| d.boot) else { return Ok(()) };
                self.locate(boot, sought);
            }
            Wish::Answer(reply) => self.order_answered(&reply),
            Wish::Terminate => return Err("the daemon terminates without having been asked to".to_owned()),
        }
        Ok(())
    }

    pub(super) fn start_daemon(&mut self) -> Result<(), String> {
        if self.daemon.is_some() {
            return Ok(());
        }
        if self.redis.as_ref().is_some_and(|redis| redis.is_down()) {
            // It can neither read nor write what it is to remember.
            self.after(SECOND, Task::DaemonStart);
            return Ok(());
        }
        self.boots += 1;
        let clock = self.clock();
        // Small segments, so that the journal turns over and compacts.
        let options = JournalOptions { segment_bytes: 16 << 10, seed: self.seed ^ self.boots };
        let store = match self.redis.take() {
            Some(redis) => Some(Keeper::Redis(redis)),
            None if self.scenario.store => {
                Some(Keeper::Embedded(Box::new(EmbeddedStore::on(std::mem::take(&mut self.disk), options))))
            }
            None => None,
        };
        let mut daemon = Daemon::start(self.boots, &self.scenario.config, self.seed, clock, store)?;
        if daemon.redis().is_some_and(Redis::take_lost) {
            self.forget_with_redis();
        }
        self.judge_recovery(&daemon)?;
        self.began(daemon.keys());
        self.daemon = Some(daemon);
        self.sync_planned = false;
        let boots = self.boots;
        self.note(format_args!("daemon: started for the {boots}. time"));
        self.register(boots);
        if self.boots > 1 && !self.unaided() {
            // What died between the pipe and the store, or with a daemon without a store, the operator queues again.
            let delay = self.rng.between(1, 5) * SECOND;
            let task = self.catch_up();
            self.after(delay, task);
        }
        Ok(())
    }

    pub(super) fn register(&mut self, boot: u64) {
        if self.daemon.as_ref().is_some_and(|d| d.boot == boot) {
            self.call(DAEMON, Call::Register { archives: Vec::new() }, Then::Registered { boot });
        }
    }

    /// The daemon's process is gone: cleanly, or not.
    pub(super) fn end_daemon(&mut self, cleanly: bool) -> Result<(), String> {
        let Some(mut daemon) = self.daemon.take() else { return Ok(()) };
        self.no_longer_promised(std::mem::take(&mut daemon.ended));
        if !cleanly {
            self.forget_unseen(&daemon);
        }
        if !self.scenario.store {
            self.promised.keys.clear();
        }
        self.redis_gone_with_work(&mut daemon);
        let counters = daemon.core.counters();
        self.count(&counters);
        self.report.ends_left += counters.ending * u64::from(self.scenario.store);
        let queued = counters.pending.iter().any(|n| *n > 0);
        let running = counters.running.iter().any(|n| *n > 0);
        for attempt in self.movers.iter_mut().flat_map(|m| m.attempts.values_mut()) {
            attempt.cancel_acked |= attempt.cannot_cancel;
        }
        let clock = self.clock();
        if cleanly {
            self.report.stop_with_work += u64::from(queued || running);
            let left = daemon.stop(clock)?;
            self.keep(left);
        } else {
            self.report.crash_with_queued += u64::from(queued);
            self.report.crash_with_running += u64::from(running);
            self.report.crash_with_unsynced += u64::from(daemon.unsynced());
            let left = daemon.leave();
            self.keep(left);
            let seed = self.rng.next_u64();
            let how = match self.rng.below(3) {
                0 => Crash::Process,
                1 => Crash::Nothing,
                _ => Crash::Torn(seed),
            };
            self.disk.crash(how);
        }
        self.note(format_args!("daemon: {}", if cleanly { "stopped" } else { "crashed" }));
        let links: Vec<LinkId> = self.link_owner.keys().copied().collect();
        for link in links {
            let delay = self.rng.below(SECOND);
            self.net.cut(self.now, link, delay, 0);
        }
        self.call(DAEMON, Call::Unregister, Then::Nobody);
        let delay = self.rng.between(SECOND / 100, 8 * SECOND);
        self.after(delay, Task::DaemonStart);
        Ok(())
    }
}
