//! From when redis does not have everything until it has.
//!
//! What it lacks is in the spill. A server that comes back as we left it gets the spill's changes in order. One that lost
//! something, or was never to be relied on, is written anew: the spill gets a snapshot of all requests, which is put
//! together in keys beside the real ones and takes their place in one transaction.

use std::time::{Duration, Instant};

use redis::RedisError;

use super::batch::Batch;
use super::link::{Connecting, Server};
use super::meta::{self, Meta};
use super::names::Hash;
use super::replay::Plan;
use super::spill::SpillFile;
use super::store::RedisStore;
use super::transaction::Transaction;
use crate::hsm::effect::StoreOp;
use crate::store::{Snapshot, StoreError};

/// Time between attempts to connect.
const RETRY: Duration = Duration::from_secs(1);
/// How soon an attempt that is under way is looked at again.
const LOOK: Duration = Duration::from_millis(20);
/// How often somebody else who writes is looked at again, and a snapshot tried again that could not be written.
const LATER: Duration = Duration::from_secs(10);
/// How often the log says that it still is so.
const COMPLAIN: Duration = Duration::from_secs(60);
/// Bytes that are replayed before new changes have their turn.
const STEP_BYTES: usize = 1 << 20;
/// A spill that has grown to this, and to three times what its last snapshot was, is replaced by a snapshot.
const COMPACT_BYTES: u64 = 256 << 20;

/// Whether redis, or the spill, is to be written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anew {
    /// Redis is as we left it, as far as we know.
    No,
    /// A snapshot is needed, from then on.
    Due(Instant),
    /// The one with this number is asked for.
    Wanted(u64),
    /// It is being written to the spill, from this file on.
    Running(u64, u32),
    /// The spill begins with it.
    Done,
}

/// How far redis is behind.
#[derive(Debug)]
pub struct Behind {
    reason: String,
    complained: Instant,
    connecting: Option<Connecting>,
    next_try: Instant,
    anew: Anew,
    /// Whether the server was found fit to be written to since the last connection was made.
    checked: bool,
    replay: Option<Replay>,
    replayed: u64,
    /// Bytes of the spill after its last snapshot.
    snapshot_bytes: u64,
}

impl Behind {
    pub(super) fn wants_snapshot(&self) -> Option<u64> {
        match self.anew {
            Anew::Wanted(number) => Some(number),
            _ => None,
        }
    }

    /// The spill cannot be relied on, but the coordinator knows everything.
    fn spill_is_bad(&mut self, wait: Duration) -> Option<Duration> {
        self.anew = Anew::Due(Instant::now() + wait);
        self.replay = None;
        Some(wait.max(LOOK))
    }

    pub(super) fn trouble(&self, server: &Server) -> String {
        format!("{server} does not have all requests: {}", self.reason)
    }
}

/// How far the spill has been replayed.
#[derive(Debug)]
struct Replay {
    /// The file being read, as it was.
    number: u32,
    file: SpillFile,
    next: usize,
}

impl RedisStore {
    /// From now on changes go to the spill. `lost` says that redis is there, but not what it was.
    pub(super) fn fall_behind(&mut self, reason: &str, lost: bool) {
        tracing::error!(
            "{}: {reason}; changes are kept in {} until it has everything",
            self.server,
            self.spill.path().display()
        );
        let now = Instant::now();
        if !lost {
            self.link = None;
        }
        self.behind = Some(Behind {
            reason: reason.to_owned(),
            complained: now,
            connecting: None,
            next_try: now,
            anew: if lost { Anew::Due(now) } else { Anew::No },
            checked: lost && self.stranger.is_none(),
            replay: None,
            replayed: 0,
            snapshot_bytes: 0,
        });
    }

    /// As [`RedisStore::fall_behind`], with a spill that an earlier run left and that redis does not take.
    pub(super) fn fall_behind_from_the_start(&mut self, reason: &str, plan: Plan) {
        self.fall_behind(reason, false);
        if let Some(behind) = &mut self.behind {
            behind.anew = match plan {
                Plan::Anew(_) => Anew::Done,
                Plan::Changes => Anew::No,
                _ => Anew::Due(Instant::now()),
            };
        }
    }

    /// Does the next step; returns how long it can wait with the one after it.
    pub(super) fn catch_up(&mut self, now: Instant) -> Duration {
        let Some(mut behind) = self.behind.take() else { return Duration::ZERO };
        if now >= behind.complained + COMPLAIN {
            behind.complained = now;
            let bytes = self.spill.bytes();
            tracing::warn!("{}: {bytes} bytes wait for it", behind.trouble(&self.server));
        }
        match self.step(&mut behind, now) {
            Ok(None) => {
                tracing::warn!(
                    "{} has all requests again ({} changes replayed)",
                    self.server,
                    behind.replayed
                );
                Duration::ZERO
            }
            Ok(Some(wait)) => {
                self.behind = Some(behind);
                wait
            }
            Err(error) => {
                let error = error.to_string();
                if error != behind.reason {
                    tracing::warn!("{}: {error}", self.server);
                    behind.reason = error;
                }
                self.link = None;
                self.places.take_back();
                (behind.checked, behind.replay) = (false, None);
                behind.next_try = now + RETRY;
                self.behind = Some(behind);
                RETRY
            }
        }
    }

    fn step(&mut self, behind: &mut Behind, now: Instant) -> Result<Option<Duration>, RedisError> {
        let full = COMPACT_BYTES.max(3 * behind.snapshot_bytes);
        if behind.replay.is_none()
            && matches!(behind.anew, Anew::No | Anew::Done)
            && self.spill.bytes() > full
        {
            behind.anew = Anew::Due(now);
        }
        match behind.anew {
            Anew::Due(at) if now >= at => {
                self.snapshots += 1;
                behind.anew = Anew::Wanted(self.snapshots);
                return Ok(Some(RETRY));
            }
            // The parts come when the coordinator has time for them.
            Anew::Wanted(_) | Anew::Running(..) => return Ok(Some(RETRY)),
            Anew::Due(_) | Anew::No | Anew::Done => {}
        }
        if self.link.is_none() {
            return self.connect_again(behind, now).map(Some);
        }
        if !behind.checked {
            return self.look_at_server(behind, now).map(Some);
        }
        if matches!(behind.anew, Anew::Due(_)) {
            return Ok(Some(RETRY));
        }
        self.replay(behind)
    }

    fn connect_again(&mut self, behind: &mut Behind, now: Instant) -> Result<Duration, RedisError> {
        let Some(connecting) = &behind.connecting else {
            if now < behind.next_try {
                return Ok(behind.next_try - now);
            }
            behind.connecting = Some(self.server.connect_beside()?);
            return Ok(LOOK);
        };
        let Some(result) = connecting.poll() else { return Ok(LOOK) };
        behind.connecting = None;
        self.link = Some(result?);
        behind.checked = false;
        Ok(Duration::ZERO)
    }

    /// Finds out whether the server is as we left it.
    fn look_at_server(&mut self, behind: &mut Behind, now: Instant) -> Result<Duration, RedisError> {
        let Some(link) = &mut self.link else { return Ok(RETRY) };
        let found = Meta::read(link, &self.names)?;
        self.stranger = self.stranger.or(found.stamp.filter(|stamp| stamp.is_strange_to(self.confirmed)));
        let refused = match (found.check(&self.server, &self.names, &self.fsname), self.stranger) {
            (Err(error), _) => Some(error.to_string()),
            (Ok(()), Some(stamp)) => Some(format!(
                "another coordinatool uses the keys `{}_...` since we did (its run is {stamp}, ours {}): nothing more is \
                 written there; stop one of the two, and start this one again if it is the one to stay",
                self.names.namespace(),
                self.confirmed
            )),
            (Ok(()), None) => None,
        };
        if let Some(reason) = refused {
            if reason != behind.reason {
                tracing::error!("{}: {reason}", self.server);
                behind.reason = reason;
            }
            self.link = None;
            behind.next_try = now + LATER;
            return Ok(LATER);
        }
        behind.checked = true;
        if behind.anew == Anew::No && !self.spill_head().follows(found.stamp_of_all()) {
            behind.reason = "it came back without what it had confirmed, and is written anew".to_owned();
            tracing::error!("{}: {}", self.server, behind.reason);
            behind.anew = Anew::Due(now);
        }
        Ok(Duration::ZERO)
    }

    /// Replays a part of the spill. `None` when that was all.
    fn replay(&mut self, behind: &mut Behind) -> Result<Option<Duration>, RedisError> {
        let anew = behind.anew == Anew::Done;
        let Some(first) = self.spill.files().first().copied() else {
            self.finish(anew)?;
            return Ok(None);
        };
        let mut replay = match behind.replay.take() {
            Some(replay) => replay,
            None => {
                if anew {
                    self.begin_anew()?;
                }
                match self.read_spill(first) {
                    Ok(file) => Replay { number: first, file, next: 0 },
                    Err(wait) => return Ok(behind.spill_is_bad(wait)),
                }
            }
        };
        let mut batch = self.batch(anew);
        loop {
            if replay.next < replay.file.len() {
                if let Some(op) = replay.file.op(replay.next) {
                    batch.add(&op, &mut self.places);
                    behind.replayed += 1;
                }
                replay.next += 1;
                if batch.bytes() >= STEP_BYTES {
                    break;
                }
                continue;
            }
            // What was appended since it was read.
            let grown = match self.read_spill(replay.number) {
                Ok(file) => file,
                Err(wait) => return Ok(behind.spill_is_bad(wait)),
            };
            if grown.len() > replay.next {
                replay.file = grown;
                continue;
            }
            let next = self.spill.files().into_iter().find(|number| *number > replay.number);
            let Some(next) = next else {
                self.write(&mut batch)?;
                self.finish(anew)?;
                return Ok(None);
            };
            replay = match self.read_spill(next) {
                Ok(file) => Replay { number: next, file, next: 0 },
                Err(wait) => return Ok(behind.spill_is_bad(wait)),
            };
        }
        self.write(&mut batch)?;
        behind.replay = Some(replay);
        Ok(Some(Duration::ZERO))
    }

    /// Reads a file of the spill; says when to go on if that is not possible.
    fn read_spill(&self, number: u32) -> Result<SpillFile, Duration> {
        match self.spill.read(number) {
            Ok(file) if file.damaged.is_empty() => Ok(file),
            Ok(_) => {
                self.spill.set_aside(number);
                Err(Duration::ZERO)
            }
            Err(error) => {
                tracing::error!("{}", self.spill_error(error));
                Err(LATER)
            }
        }
    }

    /// Empties the keys that a snapshot is put together in.
    fn begin_anew(&mut self) -> Result<(), RedisError> {
        self.places.clear();
        let mut unlink = redis::cmd("UNLINK");
        for hash in Hash::ALL {
            unlink.arg(self.names.hash_in_the_making(hash));
        }
        self.linked()?.ask(&unlink)
    }

    pub(super) fn write(&mut self, batch: &mut Batch) -> Result<(), RedisError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut transaction = Transaction::default();
        transaction.begin();
        transaction.add_batch(batch);
        transaction.end();
        self.linked()?.transact(&transaction)?;
        Ok(())
    }

    /// Everything is in redis: says so there, and forgets the spill.
    fn finish(&mut self, anew: bool) -> Result<(), RedisError> {
        let stamp = self.confirmed.at(self.attempted + 1);
        let mut pipe = redis::pipe();
        pipe.atomic();
        if anew {
            let mut exist = redis::pipe();
            for hash in Hash::ALL {
                exist.cmd("EXISTS").arg(self.names.hash_in_the_making(hash));
            }
            let exist = self.linked()?.send(&exist)?;
            for (hash, exists) in Hash::ALL.into_iter().zip(exist) {
                let exists: bool = redis::from_redis_value(exists)?;
                let (new, old) = (self.names.hash_in_the_making(hash), self.names.hash(hash));
                if exists {
                    pipe.cmd("RENAME").arg(new).arg(old);
                } else {
                    pipe.cmd("UNLINK").arg(old);
                }
            }
            meta::write_all(&self.names, &self.fsname, stamp, &mut pipe);
            self.linked()?.send(&pipe)?;
        } else {
            meta::read_stamp_of_all(&self.names, &mut pipe);
            meta::write_stamp(&self.names, stamp, &mut pipe);
            let before = meta::stamp_of_all_read(self.linked()?.send(&pipe)?);
            if !self.spill_head().follows(before) {
                // Our stamp must not stand there as if nothing had happened.
                let mut forget = redis::cmd("DEL");
                forget.arg(self.names.meta());
                self.linked()?.ask::<()>(&forget)?;
                return Err(std::io::Error::other(
                    "it lost what it had while it was being brought up to date",
                )
                .into());
            }
        }
        self.attempted += 1;
        self.confirmed = stamp;
        self.places.confirm(self.places.now());
        if !self.spill.clear() {
            tracing::warn!("cannot sync {}", self.spill.path().display());
        }
        Ok(())
    }

    pub(super) fn linked(&mut self) -> Result<&mut super::link::Link, RedisError> {
        self.link.as_mut().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected).into())
    }

    /// A part of the snapshot that was asked for.
    pub(super) fn take_snapshot(&mut self, part: &Snapshot) -> Result<(), StoreError> {
        let Some(mut behind) = self.behind.take() else { return Ok(()) };
        let taken = self.write_snapshot(&mut behind, part);
        if taken.is_err() {
            behind.anew = Anew::Due(Instant::now() + LATER);
        }
        self.behind = Some(behind);
        taken.map_err(|error| self.spill_error(error))
    }

    fn write_snapshot(&mut self, behind: &mut Behind, part: &Snapshot) -> std::io::Result<()> {
        let begun = match behind.anew {
            Anew::Wanted(number) if number == part.number => {
                let head = self.spill_head();
                self.spill.begin(&head, true)?;
                let begun = self.spill.current().unwrap_or_default();
                behind.anew = Anew::Running(number, begun);
                begun
            }
            Anew::Running(number, begun) if number == part.number => begun,
            // Of one that was given up.
            _ => return Ok(()),
        };
        let mut ops = Vec::with_capacity(2 * part.requests.len());
        for (item, mover) in &part.requests {
            ops.push(StoreOp::Put(item.clone()));
            if let Some(mover) = mover {
                ops.push(StoreOp::Assign { key: item.key(), mover: mover.clone() });
            }
        }
        if part.last {
            let note = |(name, value): (&String, &String)| StoreOp::Note {
                name: name.clone(),
                value: Some(value.clone()),
            };
            ops.extend(self.notes.iter().map(note));
        }
        self.spill.append(&ops)?;
        if part.last {
            self.spill.end_snapshot(begun)?;
            behind.anew = Anew::Done;
            behind.replay = None;
            behind.snapshot_bytes = self.spill.bytes();
        }
        Ok(())
    }
}
