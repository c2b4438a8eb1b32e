//! The store itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::RedisError;

use super::batch::{Batch, Places};
use super::catch_up::Behind;
use super::durability::Durability;
use super::in_flight::{InFlight, OPERATIONS};
use super::link::{Link, Server};
use super::meta::{self, Stamp};
use super::names::Names;
use super::spill::{Spill, SpillHead};
use super::transaction::Transaction;
use crate::hsm::effect::StoreOp;
use crate::hsm::{ActionItem, RequestKey};
use crate::store::segments::is_full;
use crate::store::{Health, PART, Recovered, Recovery, Snapshot, Store, StoreError, UnderWay, record};

/// Bytes of one transaction; a single request may be longer.
pub(super) const BATCH_BYTES: usize = 1 << 20;

/// How often redis is looked at while there is nothing to store.
const WATCH: Duration = Duration::from_secs(2);

/// What can be chosen.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the server is.
    pub server: Server,
    /// First word of all keys.
    pub namespace: String,
    /// Name of the file system.
    pub fsname: String,
    /// A random number for this run.
    pub run: u64,
}

/// The store in a redis server.
#[derive(Debug)]
pub struct RedisStore {
    pub(super) server: Server,
    pub(super) names: Names,
    pub(super) fsname: String,
    pub(super) link: Option<Link>,
    /// The last commit that redis confirmed.
    pub(super) confirmed: Stamp,
    /// The last one that it was sent.
    pub(super) attempted: u64,
    /// Appended, not durable.
    pub(super) pending: Vec<Arc<Vec<StoreOp>>>,
    pub(super) pending_ops: usize,
    pub(super) in_flight: InFlight,
    /// Memory for what is put together.
    making: Option<(Batch, Transaction)>,
    /// Where requests are in redis.
    pub(super) places: Places,
    /// All notes, for snapshots.
    pub(super) notes: BTreeMap<String, String>,
    pub(super) spill: Spill,
    /// Set while redis does not have everything.
    pub(super) behind: Option<Behind>,
    pub(super) snapshots: u64,
    pub(super) quarantined: u64,
    pub(super) durability: Durability,
    /// When redis was last looked at.
    pub(super) watched: Option<Instant>,
    /// Another daemon that uses our keys since we did. Only a new start ends that.
    pub(super) stranger: Option<Stamp>,
}

/// What a commit found in redis.
pub(super) enum Found {
    /// What the one before left.
    Intact,
    /// Something older, or nothing.
    Other,
    /// The stamp of another daemon that began later.
    Stranger,
}

impl Found {
    pub(super) fn as_reason(&self) -> &'static str {
        match self {
            Self::Intact => "it is as it was",
            Self::Other => "it lost what it had, and is written anew",
            Self::Stranger => "somebody else has written to it",
        }
    }
}

impl RedisStore {
    /// Connects to the server and opens the directory for what it cannot take.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses us; the inner error tells. Otherwise when the directory cannot be used.
    pub fn open(options: Options, spill: &Path) -> Result<Result<Self, RedisError>, StoreError> {
        let link = match options.server.connect() {
            Ok(link) => link,
            Err(error) => return Ok(Err(error)),
        };
        let store = || format!("spill directory {} of {}", spill.display(), options.server);
        let spill = Spill::open(spill, options.run).map_err(|source| {
            let (store, context) = (store(), "cannot be opened".to_owned());
            if is_full(&source) {
                StoreError::Full { store, source }
            } else {
                StoreError::Io { store, context, source }
            }
        })?;
        Ok(Ok(Self {
            names: Names::new(&options.namespace),
            fsname: options.fsname,
            link: Some(link),
            confirmed: Stamp { generation: 0, run: options.run, sequence: 0 },
            attempted: 0,
            pending: Vec::new(),
            pending_ops: 0,
            in_flight: InFlight::default(),
            making: None,
            places: Places::default(),
            notes: BTreeMap::new(),
            spill,
            behind: None,
            snapshots: 0,
            quarantined: 0,
            durability: Durability::default(),
            watched: None,
            stranger: None,
            server: options.server,
        }))
    }

    pub(super) fn error(&self, context: &str, error: RedisError) -> StoreError {
        self.server.error(context, error)
    }

    pub(super) fn spill_error(&self, source: std::io::Error) -> StoreError {
        let store = format!("spill of {} in {}", self.server, self.spill.path().display());
        if is_full(&source) {
            StoreError::Full { store, source }
        } else {
            StoreError::Io { store, context: "cannot be written".to_owned(), source }
        }
    }

    /// What files of the spill begin with now.
    pub(super) fn spill_head(&self) -> SpillHead {
        SpillHead {
            confirmed: self.confirmed,
            attempted: self.attempted,
            namespace: self.names.namespace().to_owned(),
            fsname: self.fsname.clone(),
        }
    }

    /// What a transaction does, to the hashes or to those that are to take their place.
    pub(super) fn batch(&self, anew: bool) -> Batch {
        Batch::new(|hash| if anew { self.names.hash_in_the_making(hash) } else { self.names.hash(hash) })
    }

    /// Sends operations in transactions. What they find is answered later.
    fn send(&mut self, ops: &[Arc<Vec<StoreOp>>]) -> Result<(), RedisError> {
        let (mut batch, mut transaction) =
            self.making.take().unwrap_or_else(|| (self.batch(false), Transaction::default()));
        let mut rest = ops.iter().flat_map(|ops| ops.iter()).peekable();
        while rest.peek().is_some() {
            while batch.bytes() < BATCH_BYTES
                && let Some(op) = rest.next()
            {
                batch.add(op, &mut self.places);
            }
            self.attempted += 1;
            let stamp = self.confirmed.at(self.attempted);
            let (mut before, mut after) = (redis::pipe(), redis::pipe());
            meta::read_stamp(&self.names, &mut before);
            meta::write_stamp(&self.names, stamp, &mut after);
            transaction.begin();
            transaction.add_pipe(&before);
            transaction.add_batch(&mut batch);
            transaction.add_pipe(&after);
            transaction.end();
            self.in_flight.add(stamp, self.places.now(), transaction.commands());
            self.linked()?.begin(&transaction)?;
        }
        self.making = Some((batch, transaction));
        Ok(())
    }

    /// Whether it is time to look at redis, once nothing is on its way.
    pub(super) fn watch_is_due(&self) -> bool {
        self.watched.is_none_or(|at| at.elapsed() >= WATCH)
    }

    /// Looks now and then whether redis is still what it was, also when there is nothing to store.
    fn watch(&mut self, now: Instant) -> Result<Found, RedisError> {
        if self.watched.is_some_and(|at| now < at + WATCH) {
            return Ok(Found::Intact);
        }
        self.watched = Some(now);
        let mut pipe = redis::pipe();
        meta::read_stamp(&self.names, &mut pipe);
        let found = meta::stamp_read(self.linked()?.send(&pipe)?);
        if found != Some(self.confirmed) {
            self.stranger = found.filter(|found| found.is_strange_to(self.confirmed));
            return Ok(if self.stranger.is_some() { Found::Stranger } else { Found::Other });
        }
        if let Some(link) = &mut self.link {
            self.durability.check(now, &self.server, link)?;
        }
        Ok(Found::Intact)
    }

    pub(super) fn remember_note(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.notes.insert(name.to_owned(), value.to_owned()),
            None => self.notes.remove(name),
        };
    }

    pub(super) fn sync_to_spill(&mut self, ops: &[Arc<Vec<StoreOp>>]) -> Result<(), StoreError> {
        if ops.is_empty() {
            return Ok(());
        }
        if self.spill.current().is_none() {
            let head = self.spill_head();
            self.spill.begin(&head, false).map_err(|error| self.spill_error(error))?;
        }
        self.spill.append(ops.iter().flat_map(|ops| ops.iter())).map_err(|error| self.spill_error(error))
    }
}

impl Store for RedisStore {
    fn recover(&mut self, found: &mut dyn FnMut(ActionItem, Option<String>)) -> Result<Recovery, StoreError> {
        self.recover_all(&mut |item, mover, _| found(item, mover))
    }

    fn recover_in_parts(
        &mut self,
        take: &mut dyn FnMut(Vec<Recovered>, bool) -> bool,
    ) -> Result<Recovery, StoreError> {
        let mut part = Vec::with_capacity(PART);
        let mut wanted = true;
        let recovery = self.recover_all(&mut |item, mover, suspect| {
            part.push((item, mover));
            if part.len() == PART {
                let part = std::mem::replace(&mut part, Vec::with_capacity(PART));
                wanted = wanted && take(part, suspect);
            }
        })?;
        if wanted && !part.is_empty() {
            take(part, recovery.suspect);
        }
        Ok(recovery)
    }

    fn append(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        self.append_shared(&Arc::new(ops.to_vec()))
    }

    fn append_shared(&mut self, ops: &Arc<Vec<StoreOp>>) -> Result<(), StoreError> {
        for op in ops.iter() {
            let (bytes, key) = match op {
                StoreOp::Put(item) => (record::payload_len(op), item.key()),
                _ => continue,
            };
            if bytes > record::MAX_PAYLOAD {
                let reason = format!("its {bytes} bytes are too many");
                return Err(StoreError::Unstorable { store: self.describe(), key, reason });
            }
        }
        for op in ops.iter() {
            if let StoreOp::Note { name, value } = op {
                self.remember_note(name, value.as_deref());
            }
        }
        if !ops.is_empty() {
            self.pending_ops += ops.len();
            self.pending.push(Arc::clone(ops));
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.begin_sync()?;
        while !self.in_flight.is_empty() {
            self.take_answers(true)?;
        }
        Ok(())
    }

    fn begin_sync(&mut self) -> Result<usize, StoreError> {
        let ops = std::mem::take(&mut self.pending);
        self.pending_ops = 0;
        if self.behind.is_some() {
            self.sync_to_spill(&ops)?;
            return Ok(1);
        }
        if ops.is_empty() && self.in_flight.is_empty() {
            return Ok(1);
        }
        self.in_flight.begin(ops.clone());
        let begun = self.in_flight.begun();
        match self.send(&ops) {
            Ok(()) => Ok(0),
            Err(error) => self.give_up(&error.to_string()).map(|()| begun),
        }
    }

    fn wants_sync(&self, more: bool) -> bool {
        // Few operations wait for others while there is something on its way.
        let few = self.pending_ops < OPERATIONS;
        let waits = more || !self.in_flight.is_empty() || self.gathers().is_some();
        !(few && waits) && self.may_send()
    }

    fn under_way(&self) -> Option<UnderWay<'_>> {
        self.waits_for()
    }

    fn go_on(&mut self) -> Result<usize, StoreError> {
        self.take_answers(false)
    }

    fn has_room(&mut self) -> bool {
        self.behind.is_none() || self.spill.has_room()
    }

    fn may_hold(&self, _key: &RequestKey) -> bool {
        true
    }

    fn take_notes(&mut self) -> Vec<(String, String)> {
        self.notes.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn tend(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.behind.is_some() {
            return Some(self.catch_up(now));
        }
        if !self.in_flight.is_empty() {
            return Some(WATCH);
        }
        match self.watch(now) {
            Ok(Found::Intact) => {
                Some(self.watched.map_or(WATCH, |at| (at + WATCH).saturating_duration_since(now)))
            }
            Ok(found) => {
                self.fall_behind(found.as_reason(), true);
                Some(Duration::ZERO)
            }
            Err(error) => {
                self.fall_behind(&error.to_string(), false);
                Some(Duration::ZERO)
            }
        }
    }

    fn wants_snapshot(&self) -> Option<u64> {
        self.behind.as_ref().and_then(Behind::wants_snapshot)
    }

    fn snapshot(&mut self, part: &Snapshot) -> Result<(), StoreError> {
        self.take_snapshot(part)
    }

    fn health(&self) -> Health {
        Health {
            trouble: self.behind.as_ref().map(|behind| behind.trouble(&self.server)),
            spilled_bytes: self.spill.bytes(),
            not_for_c: self.places.own(),
            quarantined: self.quarantined,
            warnings: self.durability.warnings().to_vec(),
        }
    }

    fn close(&mut self) -> Result<(), StoreError> {
        if self.behind.is_some() {
            tracing::warn!(
                "{} does not have everything: {} keeps the rest until the next start",
                self.server,
                self.spill.path().display()
            );
            return Ok(());
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        let mut note = || {
            let process = meta::process(link)?;
            let mut pipe = redis::pipe();
            pipe.atomic();
            meta::write_clean(&self.names, self.confirmed, process.as_deref(), &mut pipe);
            link.send(&pipe)
        };
        if let Err(error) = note() {
            // All is there; the next run holds requests back for a moment that it would not have to.
            tracing::warn!("{}: a clean stop cannot be noted: {error}", self.server);
        }
        Ok(())
    }

    fn describe(&self) -> String {
        format!("{} (keys `{}_...`)", self.server, self.names.namespace())
    }
}
