//! Where the records of each request are: the memory that the journal needs for each.
//!
//! What is known of a request lies in chunks, so that none of it is moved when there is more, and is found by a sharded hash
//! index of numbers. Few requests are with a mover at a time, so assignments are beside that.

use rustc_hash::FxHashMap;

use crate::hsm::RequestKey;
use crate::hsm::index::{Index, Near};

/// Where a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Location {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) payload: u32,
}

impl Location {
    /// Nowhere: no payload is as long.
    const NONE: Self = Self { segment: 0, offset: 0, payload: u32::MAX };
}

/// What is known of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Number of its admission: requests are handed out in this order.
    pub(super) sequence: u64,
    /// `None` only while reading, where an assignment may stand before a record that was moved behind it.
    pub(super) put: Option<Location>,
    pub(super) assign: Option<Location>,
}

/// The same as it is kept.
#[derive(Debug, Clone, Copy)]
struct Kept {
    key: RequestKey,
    sequence: u64,
    put: Location,
}

const CHUNK: usize = 4096;

/// All requests that are stored.
#[derive(Debug)]
pub(super) struct Requests {
    index: Index,
    chunks: Vec<Vec<Kept>>,
    /// Numbers below the highest that are not in use.
    free: Vec<u32>,
    /// How many numbers were given out.
    used: u32,
    assigned: FxHashMap<u32, Location>,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self {
            index: Index::new(),
            chunks: Vec::new(),
            free: Vec::new(),
            used: 0,
            assigned: FxHashMap::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.used as usize - self.free.len()
    }

    pub(super) fn contains(&self, key: &RequestKey) -> bool {
        self.number(key).is_some()
    }

    pub(super) fn get(&self, key: &RequestKey) -> Option<Entry> {
        let number = self.number(key)?;
        Some(self.entry(number, self.assigned.get(&number).copied()))
    }

    /// Notes where a request's record is, and of which admission. Returns where it was.
    pub(super) fn set_put(&mut self, key: RequestKey, sequence: u64, put: Location) -> Option<Location> {
        let number = self.number(&key).unwrap_or_else(|| self.add(key));
        let kept = self.at_mut(number);
        kept.sequence = sequence;
        let old = std::mem::replace(&mut kept.put, put);
        (old != Location::NONE).then_some(old)
    }

    /// Makes a request known of which only the assignment was found so far. Returns whether it was not known.
    pub(super) fn add_unknown(&mut self, key: RequestKey) -> bool {
        let new = !self.contains(&key);
        if new {
            self.add(key);
        }
        new
    }

    /// Notes where the assignment of a request is, if it has one. Returns where it was, `None` for a request that is not
    /// known.
    pub(super) fn set_assign(
        &mut self,
        key: &RequestKey,
        assign: Option<Location>,
    ) -> Option<Option<Location>> {
        let number = self.number(key)?;
        Some(match assign {
            Some(location) => self.assigned.insert(number, location),
            None => self.assigned.remove(&number),
        })
    }

    pub(super) fn remove(&mut self, key: &RequestKey) -> Option<Entry> {
        let number = self.number(key)?;
        let assign = self.assigned.remove(&number);
        self.index.remove(key.near(), number);
        self.free.push(number);
        Some(self.entry(number, assign))
    }

    fn entry(&self, number: u32, assign: Option<Location>) -> Entry {
        let kept = self.at(number);
        let put = (kept.put != Location::NONE).then_some(kept.put);
        Entry { sequence: kept.sequence, put, assign }
    }

    fn number(&self, key: &RequestKey) -> Option<u32> {
        self.index.find(key.near(), |number| self.at(number).key == *key)
    }

    fn at(&self, number: u32) -> &Kept {
        &self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    fn at_mut(&mut self, number: u32) -> &mut Kept {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    fn add(&mut self, key: RequestKey) -> u32 {
        let kept = Kept { key, sequence: 0, put: Location::NONE };
        let number = match self.free.pop() {
            Some(number) => {
                *self.at_mut(number) = kept;
                number
            }
            None => {
                let number = self.used;
                assert!(number < u32::MAX, "more than 4 billion requests");
                if (number as usize).is_multiple_of(CHUNK) {
                    self.chunks.push(Vec::with_capacity(CHUNK));
                }
                if let Some(chunk) = self.chunks.last_mut() {
                    chunk.push(kept);
                }
                self.used += 1;
                number
            }
        };
        self.index.insert(key.near(), number);
        number
    }
}

#[cfg(test)]
mod tests {
    use lustreapi_sys::Fid;

    use super::*;

    fn key(number: u32) -> RequestKey {
        RequestKey { cookie: 100 + u64::from(number), fid: Fid::new(0x2_0000_0401, number, 0) }
    }

    fn location(offset: u32) -> Location {
        Location { segment: 3, offset, payload: 128 }
    }

    #[test]
    fn what_is_removed_is_gone_and_its_room_is_used_again() {
        let mut requests = Requests::new();
        for number in 0..10_000 {
            assert_eq!(requests.set_put(key(number), u64::from(number), location(number * 8)), None);
        }
        for number in (0..10_000).step_by(2) {
            assert_eq!(requests.set_assign(&key(number), Some(location(7))), Some(None));
            let entry = Entry {
                sequence: u64::from(number),
                put: Some(location(number * 8)),
                assign: Some(location(7)),
            };
            assert_eq!(requests.remove(&key(number)), Some(entry));
            assert_eq!(requests.remove(&key(number)), None);
        }
        assert_eq!(requests.len(), 5_000);
        for number in 20_000..25_000 {
            requests.set_put(key(number), 1, location(8));
        }
        assert_eq!((requests.len(), requests.used), (10_000, 10_000));
        for number in 0..10_000 {
            let want = (number % 2 == 1).then_some(u64::from(number));
            assert_eq!(requests.get(&key(number)).map(|entry| entry.sequence), want);
        }
        // Nothing is left of the assignment of whoever had the place before.
        assert_eq!(requests.get(&key(20_000)).map(|entry| entry.assign), Some(None));
    }

    #[test]
    fn an_assignment_may_come_first_and_each_note_replaces_the_last() {
        let mut requests = Requests::new();
        assert_eq!(requests.set_assign(&key(1), Some(location(8))), None);
        assert_eq!(requests.get(&key(1)), None);
        assert!(requests.add_unknown(key(1)) && !requests.add_unknown(key(1)));
        assert_eq!(requests.set_assign(&key(1), Some(location(16))), Some(None));
        let assign = Some(location(16));
        assert_eq!(requests.get(&key(1)), Some(Entry { sequence: 0, put: None, assign }));
        assert_eq!(requests.set_put(key(1), 5, location(24)), None);
        assert_eq!(requests.set_put(key(1), 6, location(32)), Some(location(24)));
        assert_eq!(requests.get(&key(1)), Some(Entry { sequence: 6, put: Some(location(32)), assign }));
        assert_eq!(requests.set_assign(&key(1), None), Some(assign));
        assert_eq!(requests.set_assign(&key(1), None), Some(None));
    }
}
