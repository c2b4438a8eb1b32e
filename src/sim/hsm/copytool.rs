//! What movers do in the world: their connections, and copies step by step.

use lustre_sim::mdt::{self, Call, CopyEnd, CopyStart, Extent, NewFile, Progress};
use lustreapi_sys::Fid;
use lustreapi_sys::abi::HP_FLAG_COMPLETED;
use lustreapi_sys::hal::ActionList;

use super::habits::as_c;
use super::mover::Attempt;
use super::scenario::CancelHabit;
use super::world::{Owner, Task, Then, World};
use crate::hsm::{Action, ActionItem};
use crate::shim::{Effect, End as EndOf, Event};
use crate::sim::network::End;

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const EBUSY: i32 = 16;
const ENOSYS: i32 = 38;
const ECANCELED: i32 = 125;

/// The end of an action as `llapi_hsm_action_end` sends it.
pub(super) fn end_of(item: &ActionItem, fid: Fid, errno: i32, data_version: u64) -> CopyEnd {
    CopyEnd {
        action: mdt_action(item.action),
        fid,
        cookie: item.cookie,
        extent: Extent { offset: item.extent_offset, length: item.extent_length },
        flags: HP_FLAG_COMPLETED,
        errval: u16::try_from(errno).unwrap_or(u16::MAX),
        data_version,
    }
}

pub(super) fn mdt_action(action: Action) -> mdt::Action {
    match action {
        Action::Archive => mdt::Action::Archive,
        Action::Restore => mdt::Action::Restore,
        Action::Remove => mdt::Action::Remove,
        Action::Cancel => mdt::Action::Cancel,
    }
}

impl World {
    pub(super) fn start_mover(&mut self, mover: usize) -> Result<(), String> {
        let client = self.mount("mover");
        let Some(state) = self.movers.get_mut(mover) else { return Ok(()) };
        if state.shim.is_some() {
            self.unmount(client);
            return Ok(());
        }
        state.start(client, "testfs0");
        self.note(format_args!("mover{mover}: started"));
        self.shim(mover, Event::WorkWanted)
    }

    pub(super) fn crash_mover(&mut self, mover: usize) -> Result<(), String> {
        let Some(state) = self.movers.get_mut(mover).filter(|m| m.shim.is_some()) else { return Ok(()) };
        self.report.mover_crash_busy += u64::from(!state.attempts.is_empty());
        let links: Vec<_> = state.links.values().copied().collect();
        let client = state.client;
        let children = self.leave_children(mover);
        if let Some(state) = self.movers.get_mut(mover) {
            state.crash();
        }
        self.note(format_args!("mover{mover}: crashed"));
        for link in links {
            // Sometimes the whole node is gone, and nobody tells the daemon for a while.
            let half_open = self.rng.one_in(4);
            let delay = if half_open { self.rng.below(30_000_000_000) } else { self.rng.below(1_000_000) };
            self.net.cut(self.now, link, 0, delay);
        }
        if !children {
            self.unmount(client);
        }
        self.settle()?;
        let delay = self.rng.below(20_000_000_000);
        self.after(delay, Task::MoverStart { mover });
        Ok(())
    }

    /// Gives an event to a mover's machine and carries out what follows.
    pub(super) fn shim(&mut self, mover: usize, event: Event<'_>) -> Result<(), String> {
        let mut effects = Vec::new();
        let now = self.clock().mono;
        {
            let Some(shim) = self.movers.get_mut(mover).and_then(|m| m.shim.as_mut()) else { return Ok(()) };
            shim.handle(now, event, &mut effects);
        }
        for effect in effects {
            self.shim_effect(mover, effect)?;
        }
        // The copytool sits in recv: it takes what there is and asks for more.
        while let Some(list) = self.movers.get_mut(mover).and_then(|m| m.shim.as_mut()?.take_list(now)) {
            self.begin_list(mover, &list)?;
            self.shim(mover, Event::WorkWanted)?;
        }
        Ok(())
    }

    fn shim_effect(&mut self, mover: usize, effect: Effect) -> Result<(), String> {
        let Some(state) = self.movers.get_mut(mover) else { return Ok(()) };
        let life = state.life;
        match effect {
            Effect::Resolve => self.after(1_000_000, Task::Resolved { mover, life }),
            Effect::Connect { conn, .. } => {
                let delay = self.rng.below(10_000_000);
                self.after(delay, Task::Connecting { mover, life, conn });
            }
            Effect::Send { conn, bytes } => {
                if let Some(link) = state.links.get(&conn).copied() {
                    let bytes = if state.plan.c { as_c(&bytes) } else { bytes };
                    self.net.send(self.now, link, End::Peer, &bytes);
                    self.stop_at_renewal(mover, link, &bytes);
                }
            }
            Effect::Close { conn } => {
                if let Some(link) = state.links.remove(&conn) {
                    self.net.close(self.now, link, End::Peer);
                }
            }
            Effect::Refused { key } => {
                for attempt in state.attempts.values_mut().filter(|a| a.item.key() == key) {
                    attempt.dead = true;
                }
            }
            Effect::Revived { .. } => {}
            Effect::Probe { key } => {
                let gone = self.fs.file(key.fid).is_none();
                return self.shim(mover, Event::Probed { key, gone });
            }
            Effect::EndAtLustre { item, errno } => {
                let client = state.client;
                let end = end_of(&item, item.fid, errno, 0);
                self.call(client, Call::CopyEnd(end), Then::Nobody);
            }
            Effect::Log { level, text } => {
                if self.trace {
                    println!("{:>14} mover{mover} {level:?}: {text}", "");
                }
            }
        }
        Ok(())
    }

    pub(super) fn connecting(&mut self, mover: usize, life: u64, conn: u64) -> Result<(), String> {
        if !self.lives(mover, life) {
            return Ok(());
        }
        if self.daemon.is_none() {
            return self.shim(mover, Event::Disconnected { conn, reason: "connection refused" });
        }
        let link = self.net.connect();
        self.link_owner.insert(link, Owner::Mover { mover, life, conn });
        self.link_boot.insert(link, self.boots);
        let clock = self.clock();
        if let Some(daemon) = &mut self.daemon {
            daemon.accept(clock, link, format!("mover{mover}:{}", link.0))?;
        }
        if let Some(state) = self.movers.get_mut(mover) {
            state.links.insert(conn, link);
            if !state.attempts.is_empty() {
                self.report.claims += 1;
            }
        }
        self.note(format_args!("mover{mover}: connected as {link:?}"));
        self.shim(mover, Event::Connected { conn })
    }

    /// The copytool got a list: a thread for each item.
    fn begin_list(&mut self, mover: usize, bytes: &[u8]) -> Result<(), String> {
        let list =
            ActionList::parse(bytes).map_err(|error| format!("mover{mover} got a bad list: {error}"))?;
        for item in &list.items {
            let Some(item) = ActionItem::from_list(&list, item) else { continue };
            self.note(format_args!("mover{mover}: gets {} {}", item.action, item.key()));
            self.is_durable(&item)?;
            self.lose_host_after(item.key());
            let since = self.known_since();
            let Some(state) = self.movers.get_mut(mover) else { return Ok(()) };
            if item.action == Action::Cancel {
                self.cancel(mover, item);
                continue;
            }
            if !state.plan.archives.is_empty() && !state.plan.archives.contains(&item.archive_id) {
                return Err(format!("mover{mover} got {} of archive {}", item.key(), item.archive_id));
            }
            state.last_attempt += 1;
            let number = state.last_attempt;
            let steps = 1 + self.rng.below(state.plan.steps);
            // lhsmtool_posix returns without begin and end only where it looks for the MDT of a restore.
            let silent = item.action == Action::Restore
                && state.plan.silent_on_missing
                && self.fs.file(item.fid).is_none();
            let attempt = Attempt {
                item,
                dead: false,
                begun: false,
                boot: state.heard,
                cancel_acked: false,
                cannot_cancel: false,
                steps,
                volatile: None,
                data_version: 0,
                error: 0,
                readable: false,
            };
            let action = attempt.item.action;
            state.attempts.insert(number, attempt);
            let limit = match action {
                Action::Archive => state.plan.limits[0],
                Action::Restore => state.plan.limits[1],
                _ => state.plan.limits[2],
            };
            let holding = state.holding(action, since);
            if limit.is_some_and(|limit| holding > limit as usize) {
                return Err(format!("mover{mover} has {holding} x {action}, more than its limit {limit:?}"));
            }
            if silent {
                // lhsmtool_posix: the MDT index cannot be looked up, so the thread returns without begin and end.
                state.attempts.remove(&number);
                self.note(format_args!("mover{mover}: drops it without a word"));
                continue;
            }
            let life = state.life;
            let delay = self.rng.below(5_000_000);
            self.after(delay, Task::Step { mover, life, attempt: number });
        }
        Ok(())
    }

    /// A thread of the copytool goes on: begin, copy, end.
    pub(super) fn step(&mut self, mover: usize, number: u64) -> Result<(), String> {
        let now = self.clock().mono;
        let Some(state) = self.movers.get(mover) else { return Ok(()) };
        let Some(attempt) = state.attempts.get(&number).cloned() else { return Ok(()) };
        let (life, client) = (state.life, state.client);
        let may_go_on = state.may_go_on(now, &attempt);
        if !may_go_on {
            self.report.lease_lapsed += u64::from(!attempt.dead && !state.lease_holds(now));
            return self.abandon(mover, number);
        }
        self.one_mover_goes_on(mover, &attempt)?;
        if attempt.error != 0 {
            return self.end(mover, number);
        }
        let item = &attempt.item;
        if !attempt.begun {
            // What a stopped mover read late may be of a daemon whose successor knew nothing of it.
            if attempt.boot >= self.known_since() {
                self.one_mover_begins(mover, item)?;
                self.not_bound(mover, item)?;
            }
            if let Some(attempt) = self.movers.get_mut(mover).and_then(|m| m.attempts.get_mut(&number)) {
                attempt.begun = true;
            }
            self.shim(mover, Event::Begun { key: item.key() })?;
            match item.action {
                Action::Archive => {
                    let start = CopyStart {
                        action: mdt::Action::Archive,
                        fid: item.fid,
                        cookie: item.cookie,
                        extent: Extent { offset: item.extent_offset, length: item.extent_length },
                    };
                    self.call(client, Call::CopyStart(start), Then::Begun { mover, life, attempt: number });
                }
                Action::Restore => {
                    let file = NewFile { volatile: true, ..NewFile::default() };
                    let create = Call::Create { mdt: self.volatile_mdt(mover, item.key()), file };
                    self.call(client, create, Then::Volatile { mover, life, attempt: number });
                }
                Action::Remove | Action::Cancel => self.plan_step(mover, number),
            }
            return Ok(());
        }
        if attempt.steps > 1 {
            let (progress, c) = (state.plan.progress, state.plan.c);
            if let Some(attempt) = self.movers.get_mut(mover).and_then(|m| m.attempts.get_mut(&number)) {
                attempt.steps -= 1;
            }
            if progress && item.action != Action::Remove {
                // Ours reports a restore under the file's own FID, so that it is not bound to this mover.
                let fid = attempt.volatile.filter(|_| c).unwrap_or(item.fid);
                let report = Progress {
                    fid,
                    cookie: item.cookie,
                    extent: Extent { offset: attempt.steps * 10, length: 10 },
                    flags: 0,
                    errval: 0,
                    data_version: 0,
                };
                self.call(client, Call::Progress(report), Then::Progress { mover, life, attempt: number });
            } else {
                self.plan_step(mover, number);
            }
            return Ok(());
        }
        if item.action == Action::Archive && !attempt.readable && self.blocks_archive(item.fid) {
            let read = Call::Access { fid: item.fid };
            self.call(client, read, Then::Readable { mover, life, attempt: number });
            return Ok(());
        }
        let error = if self.copy_fails(mover) { EIO } else { self.copy(&attempt)? };
        if let Some(attempt) = self.movers.get_mut(mover).and_then(|m| m.attempts.get_mut(&number)) {
            attempt.error = error;
        }
        self.end(mover, number)
    }

    /// The last step of a copy, where data really moves.
    pub(super) fn copy(&mut self, attempt: &Attempt) -> Result<i32, String> {
        let fid = attempt.item.fid;
        Ok(match attempt.item.action {
            Action::Archive => match self.contents.get(&fid).copied() {
                Some(content) => {
                    self.backend.insert(fid, content);
                    self.removed.remove(&fid);
                    0
                }
                None => EIO,
            },
            Action::Restore => match (self.backend.get(&fid).copied(), attempt.volatile) {
                (Some(content), Some(volatile)) => {
                    self.contents.insert(volatile, content);
                    0
                }
                _ => ENOENT,
            },
            Action::Remove => {
                self.removing(&attempt.item)?;
                if self.backend.remove(&fid).is_some() { 0 } else { ENOENT }
            }
            Action::Cancel => 0,
        })
    }

    pub(super) fn plan_step(&mut self, mover: usize, attempt: u64) {
        let hangs = self.hangs(mover);
        let Some(state) = self.movers.get(mover) else { return };
        let (life, longest) = (state.life, state.plan.step);
        let delay = 1 + self.rng.below(longest) + hangs;
        self.after(delay, Task::Step { mover, life, attempt });
    }

    pub(super) fn begun(
        &mut self,
        mover: usize,
        number: u64,
        errno: i32,
        version: u64,
    ) -> Result<(), String> {
        if let Some(attempt) = self.movers.get_mut(mover).and_then(|m| m.attempts.get_mut(&number)) {
            attempt.data_version = version;
            attempt.error = errno;
        }
        self.plan_step(mover, number);
        Ok(())
    }

    pub(super) fn volatile(&mut self, mover: usize, number: u64, fid: Option<Fid>) -> Result<(), String> {
        let Some(state) = self.movers.get_mut(mover) else { return Ok(()) };
        let (life, client) = (state.life, state.client);
        let Some(attempt) = state.attempts.get_mut(&number) else { return Ok(()) };
        attempt.volatile = fid;
        if fid.is_none() {
            attempt.error = ENOENT;
            self.plan_step(mover, number);
            return Ok(());
        }
        let start = CopyStart {
            action: mdt::Action::Restore,
            fid: attempt.item.fid,
            cookie: attempt.item.cookie,
            extent: Extent { offset: attempt.item.extent_offset, length: attempt.item.extent_length },
        };
        self.call(client, Call::CopyStart(start), Then::Begun { mover, life, attempt: number });
        Ok(())
    }

    pub(super) fn progressed(&mut self, mover: usize, number: u64, errno: i32) -> Result<(), String> {
        if let Some(attempt) = self.movers.get_mut(mover).and_then(|m| m.attempts.get_mut(&number)) {
            attempt.error = errno;
        }
        self.plan_step(mover, number);
        Ok(())
    }

    /// The copytool ends an action.
    fn end(&mut self, mover: usize, number: u64) -> Result<(), String> {
        let Some(state) = self.movers.get(mover) else { return Ok(()) };
        let Some(attempt) = state.attempts.get(&number) else { return Ok(()) };
        let fid = attempt.volatile.filter(|_| attempt.error == 0).unwrap_or(attempt.item.fid);
        let end = end_of(&attempt.item, fid, attempt.error, attempt.data_version);
        let then = Then::Ended { mover, life: state.life, attempt: number };
        self.call(state.client, Call::CopyEnd(end), then);
        Ok(())
    }

    pub(super) fn ended(&mut self, mover: usize, number: u64, errno: i32) -> Result<(), String> {
        let Some(state) = self.movers.get_mut(mover) else { return Ok(()) };
        let client = state.client;
        let Some(attempt) = state.attempts.remove(&number) else { return Ok(()) };
        if let Some(volatile) = attempt.volatile {
            self.call(client, Call::Close { fid: volatile }, Then::Nobody);
        }
        if attempt.dead {
            // Refused while the end was under way: what the MDT said is no business of the daemon's any more.
            return Ok(());
        }
        let status = if attempt.error != 0 { attempt.error } else { errno };
        self.note(format_args!("mover{mover}: ended {} with {status}", attempt.item.key()));
        let (key, dfid) = (attempt.item.key(), attempt.item.dfid);
        if self.end_is_lost(mover) {
            return self.shim(mover, Event::Abandoned { key });
        }
        if (attempt.error != 0 || errno == EBUSY) && attempt.item.action != Action::Restore {
            // It was tried and failed, or the file had changed: that the MDT forgot it is no reason to try again.
            self.given_up.insert(key);
        }
        // C movers cannot say it.
        let c = self.movers.get(mover).is_some_and(|mover| mover.plan.c);
        let refused = attempt.error == 0 && status != 0;
        let unheard = refused && !c;
        if refused && c {
            self.unsaid.insert(key);
        }
        self.shim(mover, Event::Ended(EndOf { key, dfid, status, unheard, cancel: false }))
    }

    /// An attempt that lost its right to go on: descriptors are freed, the MDT hears nothing of it.
    fn abandon(&mut self, mover: usize, number: u64) -> Result<(), String> {
        let Some(state) = self.movers.get_mut(mover) else { return Ok(()) };
        let client = state.client;
        let Some(attempt) = state.attempts.remove(&number) else { return Ok(()) };
        self.report.fenced += 1;
        self.note(format_args!("mover{mover}: abandons {}", attempt.item.key()));
        if let Some(volatile) = attempt.volatile {
            self.call(client, Call::Close { fid: volatile }, Then::Nobody);
        }
        if attempt.dead {
            return Ok(());
        }
        self.shim(mover, Event::Abandoned { key: attempt.item.key() })
    }

    fn cancel(&mut self, mover: usize, item: ActionItem) {
        self.given_up.insert(item.key());
        let Some(state) = self.movers.get_mut(mover) else { return };
        let errno = match state.plan.cancels {
            CancelHabit::Ignore => return,
            CancelHabit::Acknowledge => ECANCELED,
            CancelHabit::Unsupported => ENOSYS,
        };
        for attempt in state.attempts.values_mut().filter(|a| a.item.key() == item.key()) {
            attempt.cancel_acked = errno == ECANCELED;
            attempt.cannot_cancel = errno == ENOSYS;
        }
        let (life, client) = (state.life, state.client);
        let end = end_of(&item, item.fid, errno, 0);
        self.call(client, Call::CopyEnd(end), Then::CancelEnded { mover, life, item: Box::new(item) });
    }

    pub(super) fn cancel_ended(
        &mut self,
        mover: usize,
        item: &ActionItem,
        _errno: i32,
    ) -> Result<(), String> {
        let status = match self.movers.get(mover).map(|m| m.plan.cancels) {
            Some(CancelHabit::Acknowledge) => ECANCELED,
            _ => ENOSYS,
        };
        self.shim(
            mover,
            Event::Ended(EndOf { key: item.key(), dfid: item.dfid, status, unheard: false, cancel: true }),
        )
    }
}
