//! What operations of the coordinator change in the hashes.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use super::commands::{Commands, Name};
use super::names::Hash as Table;
use super::values::{self, Place};
use crate::hsm::effect::StoreOp;
use crate::hsm::{ActionItem, RequestKey};

/// Where requests are that are not in the usual place, and assignments of which C could not read the mover.
///
/// It is changed as transactions are put together. What redis does not confirm is put together again: from where it was then.
#[derive(Debug, Default)]
pub struct Places {
    unusual: FxHashMap<RequestKey, Place>,
    own: u64,
    odd_movers: FxHashSet<RequestKey>,
    /// What is not confirmed, as it was before, oldest first.
    before: VecDeque<Before>,
    /// How much of it was confirmed, ever.
    confirmed: u64,
}

/// How something was.
#[derive(Debug)]
enum Before {
    Place(RequestKey, Option<Place>),
    OddMover(RequestKey, bool),
}

impl Places {
    /// Where a request is.
    pub fn of(&self, key: &RequestKey) -> Place {
        let unusual = if self.unusual.is_empty() { None } else { self.unusual.get(key) };
        unusual.copied().unwrap_or(Place::usual(key))
    }

    /// Notes where a request is from now on; returns where it was.
    pub fn set(&mut self, key: RequestKey, place: Place) -> Place {
        let old = self.change(key, (place != Place::usual(&key)).then_some(place));
        old.unwrap_or(Place::usual(&key))
    }

    fn change(&mut self, key: RequestKey, place: Option<Place>) -> Option<Place> {
        if place.is_none() && self.unusual.is_empty() {
            return None;
        }
        let old = self.replace(key, place);
        if old != place {
            self.before.push_back(Before::Place(key, old));
        }
        old
    }

    fn replace(&mut self, key: RequestKey, place: Option<Place>) -> Option<Place> {
        let old = match place {
            Some(place) => self.unusual.insert(key, place),
            None => self.unusual.remove(&key),
        };
        self.own -= u64::from(old == Some(Place::Own));
        self.own += u64::from(place == Some(Place::Own));
        old
    }

    /// Notes that the mover of a request is kept apart.
    pub fn set_odd_mover(&mut self, key: RequestKey) {
        if self.odd_movers.insert(key) {
            self.before.push_back(Before::OddMover(key, false));
        }
    }

    /// Notes that it is not any more. Returns whether it was.
    fn forget_odd_mover(&mut self, key: &RequestKey) -> bool {
        let was = !self.odd_movers.is_empty() && self.odd_movers.remove(key);
        if was {
            self.before.push_back(Before::OddMover(*key, true));
        }
        was
    }

    /// A moment, for [`Places::confirm`].
    pub fn now(&self) -> u64 {
        self.confirmed + self.before.len() as u64
    }

    /// What was noted until that moment is so in redis.
    pub fn confirm(&mut self, until: u64) {
        let count = until.saturating_sub(self.confirmed).min(self.before.len() as u64);
        self.before.drain(..count as usize);
        self.confirmed += count;
    }

    /// What was not confirmed may not be so: back to what was.
    pub fn take_back(&mut self) {
        while let Some(before) = self.before.pop_back() {
            match before {
                Before::Place(key, place) => drop(self.replace(key, place)),
                Before::OddMover(key, true) => drop(self.odd_movers.insert(key)),
                Before::OddMover(key, false) => drop(self.odd_movers.remove(&key)),
            }
        }
    }

    /// How many requests C would not see.
    pub fn own(&self) -> u64 {
        self.own
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self { confirmed: self.now(), ..Self::default() };
    }
}

fn name_of(place: Place, key: &RequestKey) -> Name {
    let (cookie, fid) = place.field_of(key);
    Name::Request(cookie, fid)
}

/// What a transaction does to the hashes.
#[derive(Debug)]
pub struct Batch {
    commands: Commands,
}

impl Batch {
    /// Nothing, to hashes with these keys.
    pub fn new(key: impl Fn(Table) -> String) -> Self {
        Self { commands: Commands::new(key) }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// About how many bytes it has.
    pub fn bytes(&self) -> usize {
        self.commands.bytes()
    }

    fn set(&mut self, hash: Table, name: Name, value: &[u8]) {
        self.commands.set(hash, name, |out| out.extend_from_slice(value));
    }

    fn drop(&mut self, hash: Table, name: Name) {
        self.commands.remove(hash, name);
    }

    /// Adds an operation.
    pub fn add(&mut self, op: &StoreOp, places: &mut Places) {
        match op {
            StoreOp::Put(item) => self.put(item, places),
            StoreOp::Assign { key, mover } => self.assign(key, mover, places),
            StoreOp::Unassign { key } => {
                let (_, assigned, name) = hashes(places.of(key), key);
                self.drop(assigned, name);
                self.forget_odd_mover(key, places);
            }
            StoreOp::Remove { key } => {
                let (requests, assigned, name) = hashes(places.of(key), key);
                self.drop(requests, name.clone());
                self.drop(assigned, name);
                self.forget_odd_mover(key, places);
                places.change(*key, None);
            }
            StoreOp::Note { name, value } => {
                let name = Name::Note(name.as_str().into());
                match value {
                    Some(value) => self.set(Table::Notes, name, value.as_bytes()),
                    None => self.drop(Table::Notes, name),
                }
            }
        }
    }

    fn put(&mut self, item: &ActionItem, places: &mut Places) {
        let key = item.key();
        let place = values::place_of(item);
        let old = places.set(key, place);
        if old != place {
            let (requests, assigned, name) = hashes(old, &key);
            self.drop(requests, name.clone());
            self.drop(assigned, name);
        }
        let (requests, _, name) = hashes(place, &key);
        self.commands.set(requests, name, |out| values::write_item_text(item, out));
    }

    fn assign(&mut self, key: &RequestKey, mover: &str, places: &mut Places) {
        let (_, assigned, name) = hashes(places.of(key), key);
        if assigned == Table::Assigned && !values::mover_is_readable(mover) {
            self.drop(assigned, name);
            self.set(Table::OwnAssigned, name_of(Place::Own, key), mover.as_bytes());
            places.set_odd_mover(*key);
            return;
        }
        self.forget_odd_mover(key, places);
        self.set(assigned, name, mover.as_bytes());
    }

    fn forget_odd_mover(&mut self, key: &RequestKey, places: &mut Places) {
        if places.forget_odd_mover(key) {
            self.drop(Table::OwnAssigned, name_of(Place::Own, key));
        }
    }

    /// Appends the commands as they are sent, and forgets them. Returns how many they are.
    pub fn take(&mut self, out: &mut Vec<u8>) -> usize {
        self.commands.take(out)
    }
}

/// The hashes of requests and of assignments for a place, and the field in both.
fn hashes(place: Place, key: &RequestKey) -> (Table, Table, Name) {
    let name = name_of(place, key);
    match place {
        Place::Shared(_) => (Table::Requests, Table::Assigned, name),
        Place::Own => (Table::OwnRequests, Table::OwnAssigned, name),
    }
}

#[cfg(test)]
mod tests {
    use lustreapi_sys::Fid;

    use super::super::names::Names;
    use super::*;
    use crate::hsm::Action;

    fn item(cookie: u64, archive_id: u32) -> ActionItem {
        let fid = Fid::new(0x2_0000_0401, cookie as u32, 0);
        ActionItem { timestamp: 1, ..ActionItem::new(Action::Remove, fid, cookie, archive_id) }
    }

    fn put(cookie: u64) -> StoreOp {
        StoreOp::Put(item(cookie, 1))
    }

    fn assign(cookie: u64, mover: &str) -> StoreOp {
        StoreOp::Assign { key: item(cookie, 1).key(), mover: mover.into() }
    }

    fn unassign(cookie: u64) -> StoreOp {
        StoreOp::Unassign { key: item(cookie, 1).key() }
    }

    fn remove(cookie: u64) -> StoreOp {
        StoreOp::Remove { key: item(cookie, 1).key() }
    }

    /// The commands as words, values cut to a few letters and fields to their cookie.
    fn commands(ops: &[StoreOp], places: &mut Places) -> Vec<String> {
        let names = Names::new("n");
        let mut batch = Batch::new(|hash| names.hash(hash));
        for op in ops {
            batch.add(op, places);
        }
        let mut bytes = Vec::new();
        assert_eq!(batch.is_empty(), ops.is_empty());
        let count = batch.take(&mut bytes);
        assert!(batch.is_empty() && batch.take(&mut Vec::new()) == 0);
        let word = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).replace('\0', "_");
            match text.len() {
                48 => {
                    let moved = if text[16..32].ends_with('9') { "moved" } else { "" };
                    format!("{}{moved}", text[..16].trim_start_matches('0'))
                }
                _ if text.starts_with("{") => "JSON".to_owned(),
                _ => text,
            }
        };
        let mut commands = Vec::new();
        let mut rest = &bytes[..];
        let head = |kind: u8, rest: &mut &[u8]| {
            let end = rest.iter().position(|byte| *byte == b'\r').unwrap();
            assert_eq!((rest[0], &rest[end..end + 2]), (kind, &b"\r\n"[..]));
            let number: usize = std::str::from_utf8(&rest[1..end]).unwrap().parse().unwrap();
            *rest = &rest[end + 2..];
            number
        };
        while !rest.is_empty() {
            let words = head(b'*', &mut rest);
            let mut line = Vec::new();
            for _ in 0..words {
                let len = head(b'$', &mut rest);
                line.push(word(&rest[..len]));
                assert_eq!(rest[len..len + 2], *b"\r\n");
                rest = &rest[len + 2..];
            }
            commands.push(line.join(" "));
        }
        assert_eq!(commands.len(), count);
        commands
    }

    #[test]
    fn the_last_change_of_each_field_is_one_of_few_commands() {
        let mut places = Places::default();
        let ops = [put(1), put(2), assign(1, "m"), assign(2, "m"), unassign(2), remove(3), put(4), remove(4)];
        let want = [
            "HSET n_requests 1 JSON 2 JSON 4 JSON",
            "HDEL n_requests 3 4",
            "HSET n_assigned 1 m 2 m",
            "HDEL n_assigned 2 3 4",
        ];
        assert_eq!(commands(&ops, &mut places), want);
        let again =
            [assign(1, "m"), unassign(1), unassign(2), assign(2, "a"), assign(1, "b"), remove(1), put(1)];
        let want = [
            "HSET n_assigned 1 m",
            "HDEL n_assigned 1 2",
            "HDEL n_requests 1",
            "HSET n_assigned 2 a 1 b",
            "HDEL n_assigned 1",
            "HSET n_requests 1 JSON",
        ];
        assert_eq!(commands(&again, &mut places), want);
        let note =
            |value: Option<&str>| StoreOp::Note { name: "a/b".into(), value: value.map(str::to_owned) };
        assert_eq!(commands(&[note(Some("x"))], &mut places), ["HSET n_rs_notes a/b x"]);
        assert_eq!(commands(&[note(None)], &mut places), ["HDEL n_rs_notes a/b"]);
        let again = ["HDEL n_rs_notes a/b", "HSET n_rs_notes a/b x"];
        assert_eq!(commands(&[note(None), note(Some("x"))], &mut places), again);
        assert!(places.unusual.is_empty());
    }

    #[test]
    fn what_c_cannot_read_goes_where_c_does_not_look() {
        let mut places = Places::default();
        let odd = StoreOp::Put(item(5, 0));
        assert_eq!(commands(&[odd], &mut places)[0], "HDEL n_requests 5", "an earlier one that C could read");
        assert_eq!(places.own(), 1);
        assert_eq!(commands(&[assign(5, "m")], &mut places), ["HSET n_rs_assigned 5 m"]);
        assert_eq!(commands(&[unassign(5)], &mut places), ["HDEL n_rs_assigned 5"]);
        let gone = ["HDEL n_rs_requests 5", "HDEL n_rs_assigned 5"];
        assert_eq!(commands(&[remove(5)], &mut places), gone);
        assert_eq!((places.own(), places.unusual.len()), (0, 0));
    }

    #[test]
    fn a_mover_that_c_would_misread_is_kept_apart() {
        let mut places = Places::default();
        let want = ["HDEL n_assigned 1", "HSET n_rs_assigned 1 m_1"];
        assert_eq!(commands(&[put(1)], &mut places).len(), 1);
        assert_eq!(commands(&[assign(1, "m\x001")], &mut places), want);
        assert_eq!(commands(&[assign(1, "m")], &mut places), ["HSET n_assigned 1 m", "HDEL n_rs_assigned 1"]);
        let want = ["HDEL n_assigned 1 1", "HSET n_rs_assigned 1 m_1", "HDEL n_rs_assigned 1"];
        assert_eq!(commands(&[assign(1, "m\x001"), unassign(1)], &mut places), want);
        assert!(places.odd_movers.is_empty());
    }

    #[test]
    fn a_moved_data_fid_is_found_again() {
        let mut places = Places::default();
        let moved = ActionItem { dfid: Fid::new(9, 9, 9), ..item(1, 1) };
        // Not where C would look for it: an earlier one may be there.
        let want = ["HSET n_requests 1moved JSON", "HDEL n_requests 1", "HDEL n_assigned 1"];
        assert_eq!(commands(&[StoreOp::Put(moved)], &mut places), want);
        assert_eq!(commands(&[remove(1)], &mut places), ["HDEL n_requests 1moved", "HDEL n_assigned 1moved"]);
        assert_eq!(commands(&[remove(1)], &mut places), ["HDEL n_requests 1", "HDEL n_assigned 1"]);
    }

    #[test]
    fn what_redis_did_not_confirm_is_put_together_again_from_where_it_was() {
        let mut places = Places::default();
        let moved = || StoreOp::Put(ActionItem { dfid: Fid::new(9, 9, 9), ..item(1, 1) });
        commands(&[moved(), put(2), StoreOp::Put(item(3, 0)), assign(2, "m\x001")], &mut places);
        places.confirm(places.now());
        let ops = [remove(1), StoreOp::Put(item(2, 0)), remove(3), put(3), moved(), unassign(2)];
        let first = commands(&ops, &mut places);
        places.take_back();
        assert_eq!(places.own(), 1);
        assert_eq!(commands(&ops, &mut places), first);
        places.take_back();
        // What is confirmed is not taken back.
        let gone = ["HDEL n_requests 1moved", "HDEL n_assigned 1moved"];
        assert_eq!(commands(&ops[..1], &mut places), gone);
        places.confirm(places.now());
        commands(&ops[1..], &mut places);
        places.take_back();
        assert_eq!(commands(&[remove(1)], &mut places), ["HDEL n_requests 1", "HDEL n_assigned 1"]);
        let gone = ["HDEL n_requests 2", "HDEL n_assigned 2", "HDEL n_rs_assigned 2"];
        assert_eq!(commands(&[remove(2)], &mut places), gone);
    }
}
