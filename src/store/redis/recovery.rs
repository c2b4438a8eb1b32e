//! What is found at start.

use std::collections::HashMap;

use lustreapi_sys::Fid;
use redis::RedisError;

use super::batch::Batch;
use super::link::{Link, once_loaded};
use super::meta::{self, Meta, Stamp};
use super::names::{CANARY, Hash, parse_field};
use super::spill::SpillFile;
use super::store::{BATCH_BYTES, RedisStore};
use super::values::{self, Place};
use crate::hsm::effect::StoreOp;
use crate::hsm::{Action, ActionItem, RequestKey};
use crate::store::{Recovery, StoreError};

/// Fields that are taken out of a hash at a time.
const SCAN: usize = 2000;
/// Bad values that are logged one by one.
const LOGGED: u64 = 100;

impl RedisStore {
    /// Reads everything and takes the namespace over.
    pub(super) fn recover_all(
        &mut self,
        found: &mut dyn FnMut(ActionItem, Option<String>),
    ) -> Result<Recovery, StoreError> {
        let Some(mut link) = self.link.take() else {
            return Err(self.error("cannot be read", not_connected()));
        };
        let read = |error| self.server.error("cannot be read", error);
        let meta = once_loaded(|| Meta::read(&mut link, &self.names)).map_err(read)?;
        meta.check(&self.server, &self.names, &self.fsname)?;
        self.link = Some(link);
        let mut recovery = Recovery::default();
        let spilled = self.replay_earlier(&meta, &mut recovery)?;
        let generation = meta.stamp.map_or(0, |stamp| stamp.generation).max(spilled.unwrap_or(0)) + 1;
        self.confirmed = Stamp { generation, sequence: 0, ..self.confirmed };
        self.attempted = 0;

        let Some(mut link) = self.link.take() else {
            return Err(self.error("cannot be read", not_connected()));
        };
        recovery.suspect = !meta.is_clean() || spilled.is_some();
        let handed = self.hand_out(&mut link, &mut recovery, found);
        handed.map_err(|error| self.error("cannot be read", error))?;
        let mut pipe = redis::pipe();
        pipe.atomic();
        meta::write_all(&self.names, &self.fsname, self.confirmed, &mut pipe);
        link.send(&pipe).map_err(|error| self.error("cannot be written", error))?;
        self.link = Some(link);
        let store = format!("{} ({}_...)", self.server, self.names.namespace());
        tracing::info!(store, requests = recovery.requests, suspect = recovery.suspect, "redis read");
        if self.places.own() > 0 {
            tracing::warn!(
                "{store}: {} requests are of kinds that the C version cannot read; it would not see them",
                self.places.own()
            );
        }
        Ok(recovery)
    }

    fn hand_out(
        &mut self,
        link: &mut Link,
        recovery: &mut Recovery,
        found: &mut dyn FnMut(ActionItem, Option<String>),
    ) -> Result<(), RedisError> {
        let mut movers = self.read_assigned(link, Hash::Assigned, recovery)?;
        let own = self.read_assigned(link, Hash::OwnAssigned, recovery)?;
        let mut items = self.read_requests(link, Hash::Requests, recovery)?;
        items.extend(self.read_requests(link, Hash::OwnRequests, recovery)?);
        self.read_notes(link)?;
        let mut own = own;
        let mut last = None;
        for at in in_order(&items) {
            let item = std::mem::replace(&mut items[at as usize], nothing());
            let key = item.key();
            // A scan may give the same field twice.
            if last.replace(key) == Some(key) {
                continue;
            }
            let place = values::place_of(&item);
            self.places.set(key, place);
            // Most starts find few assignments: no names are put together in vain.
            let taken = |movers: &mut HashMap<String, String>, place: Place| {
                if movers.is_empty() { None } else { movers.remove(&place.field(&key)) }
            };
            let kept_apart = taken(&mut own, Place::Own);
            if kept_apart.is_some() && place != Place::Own {
                self.places.set_odd_mover(key);
            }
            let mover = match place {
                Place::Shared(_) => taken(&mut movers, place).or(kept_apart),
                Place::Own => kept_apart,
            };
            recovery.requests += 1;
            found(item, mover);
        }
        self.drop_orphans(link, Hash::Assigned, movers)?;
        self.drop_orphans(link, Hash::OwnAssigned, own)
    }

    /// Assignments of requests that are not there: as in C 0.4, they are removed.
    fn drop_orphans(
        &self,
        link: &mut Link,
        hash: Hash,
        orphans: HashMap<String, String>,
    ) -> Result<(), RedisError> {
        let orphans: Vec<_> = orphans.into_iter().collect();
        for part in orphans.chunks(SCAN) {
            let mut command = redis::cmd("HDEL");
            command.arg(self.names.hash(hash));
            for (field, mover) in part {
                tracing::info!(field, mover, "assignment without a request: removed");
                command.arg(field);
            }
            link.ask::<()>(&command)?;
        }
        Ok(())
    }

    fn read_assigned(
        &mut self,
        link: &mut Link,
        hash: Hash,
        recovery: &mut Recovery,
    ) -> Result<HashMap<String, String>, RedisError> {
        let mut movers = HashMap::new();
        self.scan(link, hash, recovery, |field, value| {
            if field == CANARY.as_bytes() {
                return Ok(());
            }
            let name = || std::str::from_utf8(field).map(str::to_owned);
            match (parse_field(field), name()) {
                (Some(_), Ok(name)) => {
                    movers.insert(name, values::read_mover(value)?.to_owned());
                    Ok(())
                }
                _ => Err("the field is not a cookie and a FID".to_owned()),
            }
        })?;
        Ok(movers)
    }

    fn read_requests(
        &mut self,
        link: &mut Link,
        hash: Hash,
        recovery: &mut Recovery,
    ) -> Result<Vec<ActionItem>, RedisError> {
        let mut items = Vec::new();
        self.scan(link, hash, recovery, |field, value| {
            let item = values::read_item(hash == Hash::OwnRequests, field, value)?;
            // Something that an earlier version wrote apart, or C could not have written: it would not be found again.
            if (values::place_of(&item) == Place::Own) != (hash == Hash::OwnRequests) {
                return Err("it belongs into the other hash".to_owned());
            }
            items.push(item);
            Ok(())
        })?;
        Ok(items)
    }

    fn read_notes(&mut self, link: &mut Link) -> Result<(), RedisError> {
        let mut notes = Vec::new();
        self.scan(link, Hash::Notes, &mut Recovery::default(), |field, value| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string());
            notes.push((text(field)?, text(value)?));
            Ok(())
        })?;
        self.notes.extend(notes);
        Ok(())
    }

    /// Walks over a hash. What `take` refuses is moved where neither version looks, so that both can start.
    fn scan(
        &mut self,
        link: &mut Link,
        hash: Hash,
        recovery: &mut Recovery,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), String>,
    ) -> Result<(), RedisError> {
        let key = self.names.hash(hash);
        let mut bad = Vec::new();
        let mut moved = Ok(());
        self.server.scanner()?.scan(&key, |field, value| {
            let (true, Err(reason)) = (moved.is_ok(), take(field, value)) else { return };
            bad.push((field.to_vec(), value.to_vec(), reason));
            if bad.len() >= SCAN {
                moved = self.set_aside(link, &key, std::mem::take(&mut bad), recovery);
            }
        })?;
        moved?;
        if bad.is_empty() { Ok(()) } else { self.set_aside(link, &key, bad, recovery) }
    }

    fn set_aside(
        &mut self,
        link: &mut Link,
        key: &str,
        bad: Vec<(Vec<u8>, Vec<u8>, String)>,
        recovery: &mut Recovery,
    ) -> Result<(), RedisError> {
        let quarantine = self.names.quarantine();
        let mut pipe = redis::pipe();
        pipe.atomic();
        for (field, value, reason) in &bad {
            let mut name = format!("{key}:").into_bytes();
            name.extend_from_slice(field);
            pipe.cmd("HSET").arg(&quarantine).arg(&name).arg(value);
            pipe.cmd("HDEL").arg(key).arg(field);
            self.quarantined += 1;
            if self.quarantined <= LOGGED {
                let field: String = String::from_utf8_lossy(field).chars().take(64).collect();
                recovery.quarantined.push(format!(
                    "`{key}`, field `{}`: {reason}; moved to `{quarantine}`",
                    field.escape_debug()
                ));
            }
        }
        if self.quarantined > LOGGED {
            tracing::error!("{}: {} values set aside in `{quarantine}`", self.server, self.quarantined);
        }
        link.send(&pipe)?;
        Ok(())
    }

    /// Gives redis what an earlier run could not. Returns the generation of that run, if there was anything.
    fn replay_earlier(&mut self, meta: &Meta, recovery: &mut Recovery) -> Result<Option<u64>, StoreError> {
        let numbers = self.spill.files();
        let mut files = Vec::new();
        let mut about = None;
        for number in &numbers {
            let file = self.spill.read(*number).map_err(|error| self.spill_error(error))?;
            if !file.damaged.is_empty() {
                self.spill.set_aside(*number);
            }
            about = file.about.clone().or(about);
            files.push((file.snapshot, file.snapshot_end));
        }
        let Some(about) = about else {
            if !numbers.is_empty() {
                self.spill.clear();
            }
            return Ok(None);
        };
        if about.namespace != self.names.namespace() || about.fsname != self.fsname {
            return Err(StoreError::Incompatible {
                store: self.server.to_string(),
                reason: format!(
                    "{} has changes for the keys `{}_...` of the file system `{}`: start with these settings once, or \
                     move it away",
                    self.spill.path().display(),
                    about.namespace,
                    about.fsname
                ),
            });
        }
        // The last snapshot that is complete.
        let end = files.iter().rposition(|(_, end)| *end);
        let begin = end.and_then(|end| files[..=end].iter().rposition(|(begin, _)| *begin));
        let plan = match (begin, meta.stamp) {
            // Redis went on without us after all.
            (_, Some(stamp))
                if stamp.at(0) == about.confirmed.at(0) && stamp.sequence > about.attempted + 1 =>
            {
                tracing::warn!("{} holds nothing that redis does not have", self.spill.path().display());
                Plan::Nothing
            }
            (_, Some(stamp)) if stamp.generation > about.confirmed.generation => Plan::Merge,
            (Some(begin), _) => Plan::Anew(begin),
            (None, stamp) if about.follows(stamp) => Plan::Changes,
            (None, _) => Plan::Incomplete,
        };
        if matches!(plan, Plan::Merge | Plan::Incomplete) {
            tracing::error!(
                "{}: not what it was when {} was written: what is there is merged with what it holds",
                self.server,
                self.spill.path().display()
            );
        }
        self.replay_files(&numbers, plan, recovery)?;
        if !self.spill.clear() {
            tracing::warn!("cannot sync {}", self.spill.path().display());
        }
        Ok(Some(about.confirmed.generation))
    }

    fn replay_files(
        &mut self,
        numbers: &[u32],
        plan: Plan,
        recovery: &mut Recovery,
    ) -> Result<(), StoreError> {
        if plan == Plan::Nothing {
            return Ok(());
        }
        let write = |this: &Self, error| this.error("changes of an earlier run cannot be written", error);
        let skip = if let Plan::Anew(begin) = plan { begin } else { 0 };
        let mut count = 0_u64;
        match plan {
            Plan::Anew(_) => self.unlink_all(),
            _ => self.learn_places(recovery),
        }
        .map_err(|error| write(self, error))?;
        for number in &numbers[skip..] {
            let file = self.spill.read(*number).map_err(|error| self.spill_error(error))?;
            count += self.replay_file(&file, plan).map_err(|error| write(self, error))?;
        }
        self.places.clear();
        tracing::warn!("{}: {count} changes of an earlier run written", self.server);
        Ok(())
    }

    fn replay_file(&mut self, file: &SpillFile, plan: Plan) -> Result<u64, RedisError> {
        let mut batch = Batch::default();
        let mut count = 0;
        for frame in 0..file.len() {
            let Some(op) = file.op(frame) else { continue };
            // Somebody else knows better who runs what.
            if plan == Plan::Merge && matches!(op, StoreOp::Assign { .. } | StoreOp::Unassign { .. }) {
                continue;
            }
            batch.add(&op, &mut self.places);
            count += 1;
            if batch.bytes() >= BATCH_BYTES {
                self.write(&std::mem::take(&mut batch), false)?;
            }
        }
        self.write(&batch, false)?;
        Ok(count)
    }

    fn unlink_all(&mut self) -> Result<(), RedisError> {
        let mut unlink = redis::cmd("UNLINK");
        for hash in Hash::ALL {
            unlink.arg(self.names.hash(hash));
        }
        match &mut self.link {
            Some(link) => link.ask(&unlink),
            None => Err(not_connected()),
        }
    }

    /// Finds the requests that are not in the usual place: changes of an earlier run do not say where they are.
    fn learn_places(&mut self, recovery: &mut Recovery) -> Result<(), RedisError> {
        let Some(mut link) = self.link.take() else { return Err(not_connected()) };
        let mut places: Vec<(RequestKey, Place)> = Vec::new();
        for hash in [Hash::Requests, Hash::OwnRequests] {
            for item in self.read_requests(&mut link, hash, recovery)? {
                places.push((item.key(), values::place_of(&item)));
            }
        }
        for (key, place) in places {
            self.places.set(key, place);
        }
        self.link = Some(link);
        Ok(())
    }
}

/// Where the requests are, in the order in which they came. C gives all requests of one list the same timestamp; their
/// cookies rise.
fn in_order(items: &[ActionItem]) -> Vec<u32> {
    let key = |at: u32| {
        let item = &items[at as usize];
        (item.fid, item.dfid)
    };
    // Short keys are sorted much faster than requests.
    let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
    let mut order: Vec<(i64, u64, u32)> =
        items.iter().zip(0..count).map(|(item, at)| (item.timestamp, item.cookie, at)).collect();
    order.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| key(a.2).cmp(&key(b.2))));
    order.into_iter().map(|(_, _, at)| at).collect()
}

/// What stands where a request was taken away.
fn nothing() -> ActionItem {
    ActionItem {
        action: Action::Archive,
        fid: Fid::default(),
        dfid: Fid::default(),
        extent_offset: 0,
        extent_length: 0,
        cookie: 0,
        gid: 0,
        archive_id: 0,
        flags: 0,
        data: Box::default(),
        timestamp: 0,
        extra: Box::default(),
    }
}

/// What becomes of an earlier run's changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// Redis has them.
    Nothing,
    /// Redis lacks just these.
    Changes,
    /// They begin, at this file, with all that there is: redis is emptied first.
    Anew(usize),
    /// Redis is older than they are: the best that can be done.
    Incomplete,
    /// Another run has written since.
    Merge,
}

fn not_connected() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::NotConnected).into()
}
