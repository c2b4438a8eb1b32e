//! Habits of copytools and of the C version's library, and what processes suffer.
//!
//! All of it has a random stream of its own.

use lustre_sim::mdt::{self, mdt_index_of};
use lustreapi_sys::Fid;

use super::mover::Mover;
use super::scenario::{SECOND, Scenario};
use super::world::{Task, World};
use crate::hsm::RequestKey;
use crate::sim::network::LinkId;
use crate::sim::rng::Rng;

/// What the C version's library would have sent: it offers no lease, and cuts cookies in `done` to 32 bits, with their sign.
pub(super) fn as_c(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in serde_json::Deserializer::from_slice(bytes).into_iter::<serde_json::Value>() {
        let Ok(mut message) = message else { return bytes.to_vec() };
        match message["command"].as_str() {
            Some("ehlo") => drop(message.as_object_mut().and_then(|object| object.remove("coordinatool"))),
            Some("done") => {
                let cookie = message["hai_cookie"].as_i64().unwrap_or_default();
                message["hai_cookie"] = i64::from(cookie as i32).into();
            }
            _ => {}
        }
        out.extend_from_slice(message.to_string().as_bytes());
    }
    out
}

/// Which movers take MDTs for one another.
pub(super) fn draw(seed: u64, scenario: &mut Scenario) {
    let mut rng = Rng::stream(seed, "strays");
    for mover in &mut scenario.movers {
        mover.strays = rng.one_in(6) && scenario.mdts > 1;
    }
}

impl World {
    /// On which MDT a copytool makes the volatile file of a restore. Where that is not the file's, the end goes to an MDT that
    /// knows nothing of the request (its FID is the volatile file's), and the right one hears nothing. Where that MDT has, or
    /// is going to have, a request with the same cookie it takes it for that one's end: nobody could prevent that but the
    /// copytool, so these are left out.
    pub(super) fn volatile_mdt(&mut self, mover: usize, key: RequestKey) -> u32 {
        let right = mdt_index_of(key.fid).unwrap_or(0);
        let wrong = (right + 1) % self.scenario.mdts;
        let strays = self.movers.get(mover).is_some_and(|m| m.plan.strays);
        if self.calm || !strays || !self.habit_rng.one_in(4) {
            return right;
        }
        let mut there = self.fs.ledger().filter(|e| e.mdt == wrong && e.action != mdt::Action::Cancel);
        // What was cancelled stays in its memory until it is ended.
        let mut has = self
            .fs
            .mdts()
            .get(wrong as usize)
            .is_some_and(|mdt| mdt.running().any(|running| running.record.cookie == key.cookie));
        let mut passed = false;
        for entry in &mut there {
            passed |= entry.cookie > key.cookie && !entry.status.is_final();
            has |= entry.cookie == key.cookie && !entry.status.is_final();
        }
        if has || !passed {
            return right;
        }
        self.report.strayed += 1;
        wrong
    }

    /// Whether an archive cannot read its file now: its data is in the archive only, so that reading it waits for a restore.
    pub(super) fn blocks_archive(&mut self, fid: Fid) -> bool {
        let blocked = self.fs.file(fid).is_some_and(|file| file.released());
        self.report.blocked_archives += u64::from(blocked);
        blocked
    }

    /// The file can be read, or never will be.
    pub(super) fn readable(&mut self, mover: usize, number: u64, errno: i32) -> Result<(), String> {
        if let Some(attempt) = self.movers.get_mut(mover).and_then(|m| m.attempts.get_mut(&number)) {
            attempt.readable = true;
            attempt.error = errno;
        }
        self.plan_step(mover, number);
        Ok(())
    }

    /// For how long the next step of a copy hangs: a drive, a server of the archive.
    pub(super) fn hangs(&mut self, mover: usize) -> u64 {
        let hangs = self.movers.get(mover).is_some_and(|m| m.plan.hangs);
        if self.calm || !hangs || !self.habit_rng.one_in(20) {
            return 0;
        }
        self.report.hung += 1;
        self.habit_rng.between(60, 300) * SECOND
    }

    /// A mover is stopped for a while; its connections stand, and its kernel answers for it.
    pub(super) fn pause_mover(&mut self) {
        let mover = self.habit_rng.below(self.movers.len() as u64) as usize;
        let time = self.habit_rng.between(1, 120) * SECOND;
        self.stop_mover(mover, time);
    }

    /// Stops a mover for this long.
    fn stop_mover(&mut self, mover: usize, time: u64) {
        let now = self.now;
        let Some(state) = self.movers.get_mut(mover).filter(|m| m.shim.is_some()) else { return };
        // Nobody can take anything from a mover without a lease: while it may come back it is not to lose its work.
        let until = now + if state.plan.c { time.min(10 * SECOND) } else { time };
        state.paused_until = until;
        self.report.paused += u64::from(!state.attempts.is_empty());
        self.note(format_args!("mover{mover}: stopped until {}", until / SECOND));
    }

    /// An MDT is about to be up again: what ends it refuses then are told only after it has sent again what it still wants.
    pub(super) fn stop_movers_of(&mut self, mdt: u32) {
        let of_mdt = |fid| mdt_index_of(fid) == Some(mdt);
        for mover in 0..self.movers.len() {
            let busy = |m: &Mover| m.attempts.values().any(|a| of_mdt(a.item.fid));
            if self.movers.get(mover).is_some_and(busy) {
                let time = self.habit_rng.between(3 * SECOND, 15 * SECOND);
                self.report.paused_over_restart += 1;
                self.stop_mover(mover, time);
            }
        }
    }

    /// A mover has sent something. If that asks for a lease, this may be the moment in which it is stopped, to find the answer
    /// when the lease is long over; its connection breaks meanwhile.
    pub(super) fn stop_at_renewal(&mut self, mover: usize, link: LinkId, bytes: &[u8]) {
        let asks = bytes.windows(7).any(|word| word == b"\"lease\"");
        let busy = |m: &Mover| m.attempts.values().any(|a| a.begun && !a.dead);
        if self.calm || !self.stop_at_renewal || !asks || !self.movers.get(mover).is_some_and(busy) {
            return;
        }
        self.stop_at_renewal = false;
        self.report.paused_at_renewal += 1;
        let config = &self.scenario.config;
        let lease = config.lease.max(config.client_grace).as_nanos() as u64;
        let time = lease + self.habit_rng.between(SECOND, 10 * SECOND);
        let cut = self.habit_rng.between(SECOND / 2, SECOND);
        self.after(cut, Task::Cut { link });
        self.stop_mover(mover, time);
    }

    /// Whether the end of an action is lost with the connection: the C version's library forgets it then.
    pub(super) fn end_is_lost(&mut self, mover: usize) -> bool {
        let lost = self
            .movers
            .get(mover)
            .is_some_and(|m| m.plan.c && !m.shim.as_ref().is_some_and(|shim| shim.is_ready()));
        self.report.ends_unsaid += u64::from(lost);
        lost
    }

    /// Somebody sets the clock of the daemon's host.
    pub(super) fn set_clock(&mut self) {
        const DAY: i64 = 86_400_000_000_000;
        let most = if self.habit_rng.one_in(2) { DAY } else { 60_000_000_000 };
        let offset = self.habit_rng.below(2 * most as u64) as i64 - most;
        self.wall_offset = offset;
        self.report.clock_jumps += 1;
        self.note(format_args!("daemon: the clock is {} s off", offset / 1_000_000_000));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_cuts_cookies_and_knows_no_leases() {
        let sent = concat!(
            r#"{"command": "ehlo", "id": "m", "coordinatool": {"lease": true}}"#,
            r#"{"command": "done", "hai_cookie": 2200000001, "status": 0}"#,
            r#"{"command": "done", "hai_cookie": 7, "status": 0}"#,
        );
        let seen = String::from_utf8(as_c(sent.as_bytes())).unwrap();
        let want = concat!(
            r#"{"command":"ehlo","id":"m"}"#,
            r#"{"command":"done","hai_cookie":-2094967295,"status":0}"#,
            r#"{"command":"done","hai_cookie":7,"status":0}"#,
        );
        assert_eq!(seen, want);
    }
}
