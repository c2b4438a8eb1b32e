//! What is found at start.

use std::collections::HashMap;

use redis::RedisError;

use super::link::{Link, Socket, once_loaded, takes_nothing};
use super::meta::{self, Meta, Stamp};
use super::names::{CANARY, Hash, parse_field};
use super::replay::Earlier;
use super::requests::Requests;
use super::scan::Scanner;
use super::store::RedisStore;
use super::values::{self, Place};
use crate::hsm::{ActionItem, RequestKey, SETTLING};
use crate::store::{Recovery, StoreError};

/// Fields that are taken out of a hash at a time.
const SCAN: usize = 2000;
/// Bad values that are logged one by one.
const LOGGED: u64 = 100;

/// Where hashes are read from.
struct Source<'a> {
    link: &'a mut Link,
    scanner: Scanner<Socket>,
    recovery: &'a mut Recovery,
}

impl RedisStore {
    /// Reads everything and takes the namespace over. `found` is told with each request whether all of them are suspect.
    pub(super) fn recover_all(
        &mut self,
        found: &mut dyn FnMut(ActionItem, Option<String>, bool),
    ) -> Result<Recovery, StoreError> {
        let Some(mut link) = self.link.take() else {
            return Err(self.error("cannot be read", not_connected()));
        };
        let read = |error| self.server.error("cannot be read", error);
        let meta = once_loaded(|| Meta::read(&mut link, &self.names)).map_err(read)?;
        meta.check(&self.server, &self.names, &self.fsname)?;
        let process = meta::process(&mut link).map_err(read)?;
        self.link = Some(link);
        let mut recovery = Recovery::default();
        let earlier = self.replay_earlier(&meta, &mut recovery)?;
        if let Earlier::Refused(refused) = earlier {
            self.start_beside(&refused, &mut recovery, &mut |item, mover| found(item, mover, true))?;
            return Ok(recovery);
        }
        let spilled = if let Earlier::Written(generation) = earlier { Some(generation) } else { None };
        let Some(mut link) = self.link.take() else {
            return Err(self.error("cannot be read", not_connected()));
        };
        recovery.suspect = !meta.is_clean(process.as_deref()) || spilled.is_some();
        let handed = self.hand_out(&mut link, true, &mut recovery, found);
        handed.map_err(|error| self.error("cannot be read", error))?;
        self.link = Some(link);
        self.take_over(&meta, spilled)?;
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

    /// Notes in redis that the namespace is ours from now on. A server that takes nothing is caught up with later.
    fn take_over(&mut self, meta: &Meta, spilled: Option<u64>) -> Result<(), StoreError> {
        let generation = meta.stamp.map_or(0, |stamp| stamp.generation).max(spilled.unwrap_or(0)) + 1;
        let stamp = Stamp { generation, sequence: 0, ..self.confirmed };
        let mut pipe = redis::pipe();
        pipe.atomic();
        meta::read_stamp(&self.names, &mut pipe);
        meta::write_all(&self.names, &self.fsname, stamp, &mut pipe);
        match self.linked().and_then(|link| link.send(&pipe)) {
            Ok(found) => {
                (self.confirmed, self.attempted) = (stamp, 0);
                // A daemon that was killed can have left a transaction on its way.
                if meta::stamp_read(found) != meta.stamp {
                    self.fall_behind("it was written to while it was read, and is written anew", true);
                }
            }
            Err(error) if takes_nothing(&error) => {
                // We go on as the run before, which is what redis says.
                self.confirmed = meta.stamp.unwrap_or(self.confirmed);
                self.attempted = self.confirmed.sequence;
                self.fall_behind(&error.to_string(), meta.stamp.is_none());
            }
            Err(error) => return Err(self.error("cannot be written", error)),
        }
        Ok(())
    }

    /// Gives all requests that redis holds, in order, with each whether they are suspect. Assignments of others are dropped if
    /// they are `ours_alone`: if nothing is known beside redis.
    pub(super) fn hand_out(
        &mut self,
        link: &mut Link,
        ours_alone: bool,
        recovery: &mut Recovery,
        found: &mut dyn FnMut(ActionItem, Option<String>, bool),
    ) -> Result<(), RedisError> {
        let mut from = Source { link, scanner: self.server.scanner()?, recovery };
        let mut movers = self.read_assigned(&mut from, Hash::Assigned)?;
        let mut own = self.read_assigned(&mut from, Hash::OwnAssigned)?;
        let requests = self.read_all_requests(&mut from)?;
        self.read_notes(&mut from)?;
        recovery.suspect |= self.notes.contains_key(SETTLING);
        // Of two transactions redis can have refused the first, which took a request away from where it was, and taken the
        // second, which put it elsewhere.
        let suspect = recovery.suspect;
        let mut stale = Vec::new();
        let mut last = None;
        for item in requests.in_order() {
            let key = item.key();
            let place = values::place_of(&item);
            // A scan may give the same field twice.
            if last.replace(key) == Some(key) {
                if place != self.places.of(&key) {
                    stale.push((key, place));
                }
                continue;
            }
            let before = self.places.set(key, place);
            if place != before && suspect {
                stale.push((key, before));
            }
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
            found(item, mover, recovery.suspect);
        }
        self.places.confirm(self.places.now());
        if !ours_alone {
            return Ok(());
        }
        self.drop_stale(link, &stale)?;
        self.drop_orphans(link, Hash::Assigned, movers)?;
        self.drop_orphans(link, Hash::OwnAssigned, own)
    }

    /// Takes requests away from where they are not, or not any more.
    fn drop_stale(&self, link: &mut Link, stale: &[(RequestKey, Place)]) -> Result<(), RedisError> {
        for part in stale.chunks(SCAN) {
            let mut pipe = redis::pipe();
            for (key, place) in part {
                let (requests, assigned) = match place {
                    Place::Shared(_) => (Hash::Requests, Hash::Assigned),
                    Place::Own => (Hash::OwnRequests, Hash::OwnAssigned),
                };
                pipe.cmd("HDEL").arg(self.names.hash(requests)).arg(place.field(key));
                // Movers that C could not read are kept where requests are that it could not.
                if matches!(place, Place::Shared(_)) {
                    pipe.cmd("HDEL").arg(self.names.hash(assigned)).arg(place.field(key));
                }
            }
            match link.send(&pipe) {
                // They are dropped at the next start.
                Err(error) if takes_nothing(&error) => return Ok(()),
                result => drop(result?),
            }
        }
        Ok(())
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
            match link.ask::<()>(&command) {
                // They are dropped at the next start.
                Err(error) if takes_nothing(&error) => return Ok(()),
                result => result?,
            }
        }
        Ok(())
    }

    fn read_assigned(
        &mut self,
        from: &mut Source<'_>,
        hash: Hash,
    ) -> Result<HashMap<String, String>, RedisError> {
        let mut movers = HashMap::new();
        self.scan(from, hash, |field, value| {
            if field == CANARY.as_bytes() {
                return Ok(());
            }
            match (parse_field(field), std::str::from_utf8(field)) {
                (Some(_), Ok(name)) => {
                    movers.insert(name.to_owned(), values::read_mover(value)?.to_owned());
                    Ok(())
                }
                _ => Err("the field is not a cookie and a FID".to_owned()),
            }
        })?;
        Ok(movers)
    }

    fn read_requests(
        &mut self,
        from: &mut Source<'_>,
        hash: Hash,
        requests: &mut Requests,
    ) -> Result<(), RedisError> {
        let mut count = redis::cmd("HLEN");
        requests.expect(from.link.ask(count.arg(self.names.hash(hash)))?);
        self.scan(from, hash, |field, value| {
            let item = values::read_item(hash == Hash::OwnRequests, field, value)?;
            // Something that an earlier version wrote apart, or C could not have written: it would not be found again.
            if (values::place_of(&item) == Place::Own) != (hash == Hash::OwnRequests) {
                return Err("it belongs into the other hash".to_owned());
            }
            requests.push(item);
            Ok(())
        })
    }

    /// All requests, wherever they are.
    fn read_all_requests(&mut self, from: &mut Source<'_>) -> Result<Requests, RedisError> {
        let mut requests = Requests::default();
        self.read_requests(from, Hash::Requests, &mut requests)?;
        self.read_requests(from, Hash::OwnRequests, &mut requests)?;
        Ok(requests)
    }

    /// Finds the requests that are not in the usual place: changes of an earlier run do not say where they are.
    pub(super) fn learn_places(&mut self, recovery: &mut Recovery) -> Result<(), RedisError> {
        let Some(mut link) = self.link.take() else { return Err(not_connected()) };
        let mut from = Source { link: &mut link, scanner: self.server.scanner()?, recovery };
        let requests = self.read_all_requests(&mut from)?;
        let kept_apart = self.read_assigned(&mut from, Hash::OwnAssigned)?;
        for item in requests.in_order() {
            let (key, place) = (item.key(), values::place_of(&item));
            self.places.set(key, place);
            if !kept_apart.is_empty()
                && place != Place::Own
                && kept_apart.contains_key(&Place::Own.field(&key))
            {
                self.places.set_odd_mover(key);
            }
        }
        self.link = Some(link);
        Ok(())
    }

    fn read_notes(&mut self, from: &mut Source<'_>) -> Result<(), RedisError> {
        let mut notes = Vec::new();
        self.scan(from, Hash::Notes, |field, value| {
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
        from: &mut Source<'_>,
        hash: Hash,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), String>,
    ) -> Result<(), RedisError> {
        let key = self.names.hash(hash);
        let mut bad = Vec::new();
        let mut moved = Ok(());
        let Source { link, scanner, recovery } = from;
        scanner.scan(&key, |field, value| {
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
        match link.send(&pipe) {
            // They stay where they are, and are found again.
            Err(error) if takes_nothing(&error) => tracing::error!("{}: {error}", self.server),
            result => drop(result?),
        }
        Ok(())
    }
}

pub(super) fn not_connected() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::NotConnected).into()
}
